/* Tasks: their ends, whom they ask, proposals and reads, answers and time. */
#include "sim/route_task.h"

#include <assert.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/world.h"

/*- Ends. */

/* The client's record; what a call that it gave up writes goes nowhere. */
struct sim_op *sim_task_op(struct sim_node *node, const struct sim_task *task)
{
    struct sim_clients *clients = &node->world->clients;
    struct sim_op *op = &clients->ops[task->op];

    return op->state == SIM_OP_OPEN && op->attempt == task->attempt ? op : &clients->nowhere;
}

void sim_task_finish(struct sim_node *node, struct sim_task *task, int code)
{
    uint64_t op = task->op;
    uint32_t attempt = task->attempt;
    bool internal = task->kind == SIM_TASK_JOIN || task->kind == SIM_TASK_LEASE ||
                    task->kind == SIM_TASK_ORDER || task->kind == SIM_TASK_ROW;

    sim_route_task_free(node, task);
    if (!internal) {
        sim_client_answer(node->world, op, attempt, code);
    }
}

/*- Whom to ask. */

static int leader_of(const struct sim_node *node)
{
    struct shl_node_id leader = sched_raft_leader(node->raft);

    return shl_node_id_is_none(&leader) ? -1 : sim_world_find(node->world, &leader);
}

/* The leader as known here or as hinted, else somebody who may know. */
uint32_t sim_task_whom(struct sim_node *node, const struct sim_task *task)
{
    int leader = task->hint ? (int)task->hint - 1 : leader_of(node);
    uint32_t count = gossip_member_count(node->gossip);
    uint32_t alive = 0;

    if (leader >= 0) {
        return (uint32_t)leader;
    }
    for (uint32_t i = 0; i < count; i++) {
        alive += gossip_member_at(node->gossip, i)->life == GOSSIP_ALIVE;
    }
    if (alive > 1) {
        uint64_t pick = sim_rng_below(&node->rng, alive);

        for (uint32_t i = 0; i < count; i++) {
            const struct gossip_member *member = gossip_member_at(node->gossip, i);
            int slot = sim_world_find(node->world, &member->info.id);

            if (member->life == GOSSIP_ALIVE && pick-- == 0 && slot >= 0) {
                return (uint32_t)slot;
            }
        }
    }
    for (uint32_t i = 0; i < node->world->node_count; i++) {
        const struct sim_node *seed = &node->world->nodes[i];

        if (seed->present && !seed->gone && i != node->index) {
            return i;
        }
    }
    return node->index;
}

/*- Proposals. */

void sim_task_encode(struct sim_task *task, struct sched_command *command)
{
    command->at_ms = 1; /* the leader stamps it */
    shl_buf_clear(&task->command);
    if (sched_command_encode(command, &task->command, NULL) < 0) {
        assert(false);
    }
}

void sim_task_ask_leader(struct sim_node *node, struct sim_task *task)
{
    uint64_t n[5] = {0};

    if (task->kind == SIM_TASK_READ || (task->kind == SIM_TASK_CALL)) {
        n[0] = task->table;
        n[1] = task->key;
        sim_route_ask(node, task, sim_task_whom(node, task), SIM_RPC_READ, n, (struct shl_bytes){0},
                      PROPOSE_MS);
    } else if (task->kind == SIM_TASK_CREATE && task->step == CREATE_PLACE) {
        n[0] = task->memory_mb;
        n[1] = task->excluded;
        sim_route_ask(node, task, sim_task_whom(node, task), SIM_RPC_PLACE, n,
                      (struct shl_bytes){0}, ASK_MS);
    } else {
        sim_route_ask(node, task, sim_task_whom(node, task), SIM_RPC_PROPOSE, NULL,
                      shl_buf_bytes(&task->command), PROPOSE_MS);
    }
}

/* Not the leader, or none: wait a moment and ask where the hint says. */
void sim_task_ask_again(struct sim_node *node, struct sim_task *task, uint32_t hint)
{
    task->hint = hint != task->asked + 1 ? hint : 0;
    task->tries++;
    sim_route_pause(node, task, task->hint && task->tries < 4 ? 1 : 50);
}

/*- Everything that is one proposal or one read. */

static void on_proposed(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    struct sim_outcome out = {0};

    memcpy(&out, rpc->bytes, SHL_MIN(rpc->len, sizeof(out)));
    if (rpc->code == SHL_EUNAVAILABLE) {
        sim_task_ask_again(node, task, rpc->hint);
        return;
    }
    if (rpc->code == SIM_CODE_UNKNOWN && task->repeatable) {
        sim_task_ask_again(node, task, 0);
        return;
    }
    if (task->kind == SIM_TASK_LEASE && rpc->code == 0) {
        sim_sched_granted(node, task->lease_seq, out.index);
    } else if (task->kind == SIM_TASK_ORDER) {
        uint64_t token = task->lease_seq;

        sim_task_finish(node, task, 0);
        sim_hold_outcome(node, token, rpc->code, &out);
        return;
    } else if (task->kind == SIM_TASK_PROPOSE && rpc->code == 0) {
        /* A claim that was made before has the index of then; a release of nothing has none. */
        bool moot = sim_task_op(node, task)->kind == SIM_OP_NAME_CLAIM     ? out.existed
                    : sim_task_op(node, task)->kind == SIM_OP_NAME_RELEASE ? !out.existed
                                                                           : false;

        sim_task_op(node, task)->index = moot ? 0 : out.index;
    }
    if (task->kind == SIM_TASK_JOIN && rpc->code < 0) {
        SIM_TRACE(node->world, node->index, "may not join: %s", shl_err_name(rpc->code));
    }
    if (task->kind == SIM_TASK_JOIN && rpc->code == SHL_EAUTH) {
        node->stale_token = 0; /* the operator pastes the right one */
    }
    sim_task_finish(node, task, rpc->code);
}

static void on_read(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    if (rpc->code == SHL_EUNAVAILABLE) {
        sim_task_ask_again(node, task, rpc->hint);
        return;
    }
    if (rpc->code == 0) {
        sim_task_op(node, task)->value = rpc->n[1];
        sim_task_op(node, task)->index = rpc->n[0] ? rpc->n[2] : 0;
    }
    sim_task_finish(node, task, rpc->code);
}

void sim_task_answer(struct sim_node *node,
                     struct sim_task *task,
                     uint32_t from,
                     const struct sim_rpc *rpc)
{
    if (task->kind != SIM_TASK_CALL || task->step != CALL_EVERYBODY) {
        if (from != task->asked) {
            return;
        }
        task->req = 0; /* one answer each */
    }
    switch (task->kind) {
    case SIM_TASK_CREATE:
        sim_task_create_answer(node, task, from, rpc);
        return;
    case SIM_TASK_CALL:
        sim_task_call_answer(node, task, from, rpc);
        return;
    case SIM_TASK_READ:
        on_read(node, task, rpc);
        return;
    case SIM_TASK_WAKE:
        sim_task_op(node, task)->owner = from;
        sim_task_finish(node, task, rpc->code);
        return;
    case SIM_TASK_ROW:
        sim_copy_answer(node, task, rpc);
        return;
    case SIM_TASK_PROPOSE:
    case SIM_TASK_JOIN:
    case SIM_TASK_LEASE:
    case SIM_TASK_ORDER:
        on_proposed(node, task, rpc);
        return;
    }
}

/*- Time. */

/* What the node asked for itself, and did not get. */
static bool give_up(struct sim_node *node, struct sim_task *task)
{
    enum sim_task_kind kind = task->kind;
    uint64_t token = task->lease_seq;
    struct sim_outcome nothing = {0};

    if (kind == SIM_TASK_ROW) {
        sim_copy_give_up(node, task);
        return true;
    }
    if (kind != SIM_TASK_ORDER) {
        return false;
    }
    sim_task_finish(node, task, 0);
    sim_hold_outcome(node, token, SHL_EUNAVAILABLE, &nothing);
    return true;
}

static void silent(struct sim_node *node, struct sim_task *task)
{
    if (give_up(node, task)) {
        return;
    }
    if (task->kind == SIM_TASK_CREATE) {
        if (task->step == CREATE_PLACE) {
            sim_task_place_here(node, task);
        } else if (task->step == CREATE_ADMIT) {
            sim_task_finish(node, task, SIM_CODE_UNKNOWN);
        } else {
            sim_task_ask_again(node, task, 0);
        }
    } else if (task->kind == SIM_TASK_CALL && task->step == CALL_OWNER) {
        sim_task_finish(node, task, task->wish ? SIM_CODE_UNKNOWN : SHL_EUNAVAILABLE);
    } else if (task->kind == SIM_TASK_CALL && task->step == CALL_SCHEDULER) {
        sim_task_ask_everybody(node, task);
    } else if (task->kind == SIM_TASK_CALL) {
        task->who_silent = true;
        sim_task_end_search(node, task);
    } else if (task->repeatable || task->kind == SIM_TASK_READ) {
        sim_task_ask_again(node, task, 0);
    } else {
        sim_task_finish(node, task, SIM_CODE_UNKNOWN);
    }
}

void sim_task_timeout(struct sim_node *node, struct sim_task *task, uint64_t now_ms)
{
    if (now_ms >= task->end_ms) {
        bool told_nothing = task->pausing && !task->repeatable && task->kind != SIM_TASK_CREATE;

        if (give_up(node, task)) {
            return;
        }
        sim_task_finish(node, task, told_nothing ? SHL_EUNAVAILABLE : SIM_CODE_UNKNOWN);
        return;
    }
    if (task->pausing) {
        sim_task_ask_leader(node, task);
        return;
    }
    silent(node, task);
}
