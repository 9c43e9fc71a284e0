/* What tasks begin with: calls of clients, and what nodes do by themselves. */
#include <stdio.h>
#include <string.h>

#include "sim/route_task.h"
#include "sim/world.h"

static void mark_command(const struct sim_node *node,
                         const struct sim_op *op,
                         struct sched_command *command)
{
    const struct sim_node *target = &node->world->nodes[op->key];

    if (op->kind == SIM_OP_REMOVE) {
        command->kind = SCHED_NODE_REMOVE;
        command->u.node_remove.node = target->id;
        command->u.node_remove.force = true;
        snprintf(command->u.node_remove.by, sizeof(command->u.node_remove.by), "sim");
        return;
    }
    command->kind = SCHED_NODE_MARK;
    command->u.node_mark.node = target->id;
    command->u.node_mark.cordoned = op->kind == SIM_OP_CORDON;
    command->u.node_mark.draining = op->kind == SIM_OP_DRAIN;
    snprintf(command->u.node_mark.by, sizeof(command->u.node_mark.by), "sim");
}

static void make_command(const struct sim_node *node,
                         const struct sim_op *op,
                         struct sched_command *command)
{
    *command = (struct sched_command){0};
    if (op->kind == SIM_OP_KV_SET) {
        command->kind = SCHED_KV_SET;
        snprintf(command->u.kv.key, sizeof(command->u.kv.key), "k%llu",
                 (unsigned long long)op->key);
        command->u.kv.value = shl_bytes_of(&op->value, sizeof(op->value));
    } else if (op->kind == SIM_OP_NAME_CLAIM || op->kind == SIM_OP_NAME_RELEASE) {
        command->kind = op->kind == SIM_OP_NAME_CLAIM ? SCHED_NAME_CLAIM : SCHED_NAME_RELEASE;
        command->u.name.kind = SCHED_NAME_SNAPSHOT;
        snprintf(command->u.name.org, sizeof(command->u.name.org), ORG);
        snprintf(command->u.name.name, sizeof(command->u.name.name), "name%llu",
                 (unsigned long long)op->key);
        snprintf(command->u.name.owner, sizeof(command->u.name.owner), "op%llu",
                 (unsigned long long)op->value);
        command->u.name.value = shl_bytes_of(&op->value, sizeof(op->value));
    } else if (op->kind == SIM_OP_DELETE) {
        const struct sched_owner *row = NULL;

        command->kind = SCHED_OWNER_DELETE;
        sim_sandbox_text(command->u.owner.sandbox, op->sandbox);
        row = sched_state_owner(node->state, command->u.owner.sandbox);
        command->u.owner.owner = row ? row->owner : node->id;
        command->u.owner.epoch = row ? row->epoch : 0;
    } else {
        mark_command(node, op, command);
    }
}

void sim_read_row(const struct sched_state *state, uint8_t table, uint64_t key, uint64_t n[5])
{
    char text[SCHED_ID_SIZE];

    if (table == SCHED_TABLE_OWNERS + 1) {
        const struct sched_owner *row = NULL;

        sim_sandbox_text(text, key);
        row = sched_state_owner(state, text);
        n[0] = row != NULL;
        n[1] = row ? row->owner.bytes[15] : 0;
    } else if (table == SCHED_TABLE_KV + 1) {
        const struct sched_kv *row = NULL;

        snprintf(text, sizeof(text), "k%llu", (unsigned long long)key);
        row = sched_state_kv(state, text);
        n[0] = row != NULL;
        if (row) {
            memcpy(&n[1], row->value.base, sizeof(n[1]));
            n[2] = row->revision;
        }
    } else {
        const struct sched_name *row = NULL;

        snprintf(text, sizeof(text), "name%llu", (unsigned long long)key);
        row = sched_state_name(state, SCHED_NAME_SNAPSHOT, ORG, text);
        n[0] = row != NULL;
        if (row) {
            memcpy(&n[1], row->value.base, sizeof(n[1]));
            n[2] = row->index;
        }
    }
}

static enum sim_task_kind kind_of(enum sim_op_kind kind)
{
    switch (kind) {
    case SIM_OP_CREATE:
        return SIM_TASK_CREATE;
    case SIM_OP_GET:
    case SIM_OP_KILL:
    case SIM_OP_HIBERNATE:
        return SIM_TASK_CALL;
    case SIM_OP_WAKE:
        return SIM_TASK_WAKE;
    case SIM_OP_NAME_GET:
    case SIM_OP_KV_GET:
        return SIM_TASK_READ;
    case SIM_OP_NAME_CLAIM:
    case SIM_OP_NAME_RELEASE:
    case SIM_OP_KV_SET:
    case SIM_OP_CORDON:
    case SIM_OP_DRAIN:
    case SIM_OP_UNMARK:
    case SIM_OP_REMOVE:
    case SIM_OP_DELETE:
    case SIM_OP_KINDS:
        break;
    }
    return SIM_TASK_PROPOSE;
}

/* Where a wake goes, as in node/cluster/where.c: what is here is woken here; what the log gives to
 * a node that lives is that node's business, also when it has lost it; else this node claims it. */
static uint32_t wake_at(struct sim_node *node, uint64_t id)
{
    const struct sim_sandbox *local = sim_sandbox_find(node, id);
    const struct sched_owner *row = NULL;
    const struct gossip_member *member = NULL;
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, id);
    row = sched_state_owner(node->state, text);
    if ((local && local->status != SIM_SANDBOX_MOVED && !local->copy) || !row || row->released) {
        return node->index;
    }
    member = gossip_member_find(node->gossip, &row->owner);
    return member && (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT)
               ? (uint32_t)sim_world_find(node->world, &row->owner)
               : node->index;
}

void sim_route_call(struct sim_node *node, struct sim_op *op, uint32_t attempt)
{
    struct sim_task *task = sim_route_task_new(node, kind_of(op->kind), TASK_MS);
    struct sched_command command;

    if (op->kind == SIM_OP_DELETE) {
        char text[SCHED_ID_SIZE];

        /* By the log alone, through any node: of one that nobody holds just now. */
        sim_sandbox_text(text, op->sandbox);
        if (!sched_state_owner(node->state, text) ||
            !sched_state_owner(node->state, text)->released) {
            if (task) {
                sim_route_task_free(node, task);
            }
            sim_client_answer(node->world, op->number, attempt, SHL_EBADSTATE);
            return;
        }
    }
    if (!task) {
        sim_client_answer(node->world, op->number, attempt, SHL_EUNAVAILABLE);
        return;
    }
    task->op = op->number;
    task->attempt = attempt;
    task->key = op->key;
    task->sandbox = op->sandbox;
    task->wish = op->kind == SIM_OP_KILL ? 1 : op->kind == SIM_OP_HIBERNATE ? 2 : 0;
    task->repeatable = op->kind != SIM_OP_KV_SET;
    switch (task->kind) {
    case SIM_TASK_CREATE:
        task->idem = op->key;
        task->memory_mb = op->memory_mb;
        task->claimable = op->claimable;
        task->sandbox = sim_rng_next(&node->rng) >> 8 | 1;
        sim_task_ask_leader(node, task);
        return;
    case SIM_TASK_CALL:
        sim_task_call_begin(node, task);
        return;
    case SIM_TASK_WAKE: {
        uint64_t n[5] = {op->sandbox, 0, 0, 0, 0};
        /* Half of the others claim without asking, so that claims meet owners that live. */
        bool asks = op->probe || sim_rng_below(&node->rng, 2) == 0;

        sim_route_ask(node, task, asks ? wake_at(node, op->sandbox) : node->index, SIM_RPC_WAKE, n,
                      (struct shl_bytes){0}, TASK_MS);
        return;
    }
    case SIM_TASK_READ:
        task->table = op->kind == SIM_OP_KV_GET ? SCHED_TABLE_KV + 1 : SCHED_TABLE_NAMES + 1;
        sim_task_ask_leader(node, task);
        return;
    case SIM_TASK_PROPOSE:
    case SIM_TASK_JOIN:
    case SIM_TASK_LEASE:
    case SIM_TASK_ORDER:
    case SIM_TASK_ROW:
        make_command(node, op, &command);
        sim_task_encode(task, &command);
        sim_task_ask_leader(node, task);
        return;
    }
}

void sim_route_join(struct sim_node *node)
{
    struct sim_task *task = sim_route_task_new(node, SIM_TASK_JOIN, 350);
    struct sched_command command = {.kind = SCHED_NODE_JOIN};
    /* Token i + 1 is node i's; the second half is for nodes that come back after removal. */
    uint32_t token = node->stale_token
                         ? node->stale_token
                         : node->index + 1 + (node->removed ? node->world->node_count : 0);

    if (!task) {
        return;
    }
    command.u.node_join.token[0] = (uint8_t)token;
    memset(command.u.node_join.secret_hash, (int)token, sizeof(command.u.node_join.secret_hash));
    sim_sched_spec(node, &command.u.node_join.node);
    task->repeatable = true;
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
}

void sim_route_renew(struct sim_node *node)
{
    struct sim_task *task = sim_route_task_new(node, SIM_TASK_LEASE, PROPOSE_MS);
    struct sched_command command = {.kind = SCHED_LEASE_RENEW};

    if (!task) {
        return;
    }
    task->lease_seq = sched_lease_sent(&node->lease, sim_node_now_ms(node));
    command.u.lease_renew.node = node->id;
    command.u.lease_renew.boot = node->lease_boot;
    command.u.lease_renew.term = 1; /* the leader's business */
    command.u.lease_renew.seq = task->lease_seq;
    node->renew_sent = task->lease_seq;
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
}
