#include "sim/route_task.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim/world.h"

#define ASK_MS     400
#define PROPOSE_MS 1000
#define TASK_MS    2500
#define ORG        "org"

enum create_step {
    CREATE_PLACE,
    CREATE_CLAIM,
    CREATE_ADMIT,
    CREATE_DONE
};
enum call_step {
    CALL_OWNER,
    CALL_SCHEDULER,
    CALL_EVERYBODY
};

/*- Ends. */

/* The client's record; what a call that it gave up writes goes nowhere. */
static struct sim_op *op_of(struct sim_node *node, const struct sim_task *task)
{
    struct sim_clients *clients = &node->world->clients;
    struct sim_op *op = &clients->ops[task->op];

    return op->state == SIM_OP_OPEN && op->attempt == task->attempt ? op : &clients->nowhere;
}

static void finish(struct sim_node *node, struct sim_task *task, int code)
{
    uint64_t op = task->op;
    uint32_t attempt = task->attempt;
    bool internal = task->kind == SIM_TASK_JOIN || task->kind == SIM_TASK_LEASE ||
                    task->kind == SIM_TASK_REGISTER || task->kind == SIM_TASK_DELETE;

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
static uint32_t whom(struct sim_node *node, const struct sim_task *task)
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

int sim_route_owner(struct sim_node *node, uint64_t sandbox)
{
    char key[SCHED_ID_SIZE + 2] = "s/";
    const struct gossip_record *record = NULL;
    uint64_t best = 0;
    int owner = -1;

    sim_sandbox_text(key + 2, sandbox);
    for (record = gossip_key_first(node->gossip, key); record; record = gossip_key_next(record)) {
        uint64_t value[2] = {0};

        if (record->value.len == sizeof(value)) {
            memcpy(value, record->value.base, sizeof(value));
            if (value[0] > best) {
                best = value[0];
                owner = sim_world_find(node->world, &record->node);
            }
        }
    }
    return owner;
}

/*- Proposals. */

static void encode(struct sim_task *task, struct sched_command *command)
{
    command->at_ms = 1; /* the leader stamps it */
    shl_buf_clear(&task->command);
    if (sched_command_encode(command, &task->command, NULL) < 0) {
        assert(false);
    }
}

static void ask_leader(struct sim_node *node, struct sim_task *task)
{
    uint64_t n[5] = {0};

    if (task->kind == SIM_TASK_READ || (task->kind == SIM_TASK_CALL)) {
        n[0] = task->table;
        n[1] = task->key;
        sim_route_ask(node, task, whom(node, task), SIM_RPC_READ, n, (struct shl_bytes){0},
                      PROPOSE_MS);
    } else if (task->kind == SIM_TASK_CREATE && task->step == CREATE_PLACE) {
        n[0] = task->memory_mb;
        n[1] = task->excluded;
        sim_route_ask(node, task, whom(node, task), SIM_RPC_PLACE, n, (struct shl_bytes){0},
                      ASK_MS);
    } else {
        sim_route_ask(node, task, whom(node, task), SIM_RPC_PROPOSE, NULL,
                      shl_buf_bytes(&task->command), PROPOSE_MS);
    }
}

/* Not the leader, or none: wait a moment and ask where the hint says. */
static void ask_again(struct sim_node *node, struct sim_task *task, uint32_t hint)
{
    task->hint = hint != task->asked + 1 ? hint : 0;
    task->tries++;
    sim_route_pause(node, task, task->hint && task->tries < 4 ? 1 : 50);
}

/*- Create. */

static void name_command(struct sim_task *task, uint32_t kind, struct sched_command *command)
{
    struct sched_cmd_name *name = &command->u.name;

    *command = (struct sched_command){.kind = kind};
    name->kind = SCHED_NAME_IDEMPOTENCY;
    snprintf(name->org, sizeof(name->org), ORG);
    snprintf(name->name, sizeof(name->name), "key-%llu", (unsigned long long)task->idem);
    snprintf(name->owner, sizeof(name->owner), "key-%llu", (unsigned long long)task->idem);
    name->ttl_ms = SCHED_IDEMPOTENCY_TTL_MS;
}

static void hash_request(const struct sim_task *task, uint8_t hash[SCHED_HASH_BYTES])
{
    memset(hash, 0, SCHED_HASH_BYTES);
    memcpy(hash, &task->idem, sizeof(task->idem));
}

static void make_value(struct sim_node *node,
                       const struct sim_task *task,
                       bool done,
                       struct shl_buf *buf)
{
    struct sched_idempotency value = {.done = done};

    value.node = node->world->nodes[task->target].id;
    sim_sandbox_text(value.sandbox, task->sandbox);
    hash_request(task, value.request);
    shl_buf_init(buf, SCHED_VALUE_MAX);
    if (sched_idempotency_encode(&value, buf) < 0) {
        assert(false);
    }
}

static void remember_value(struct sim_task *task, struct shl_bytes value)
{
    assert(value.len <= sizeof(task->value));
    memcpy(task->value, value.base, value.len);
    task->value_len = (uint32_t)value.len;
}

/* Claim the key, or set it when it is this task's already. */
static void write_key(struct sim_node *node, struct sim_task *task, uint32_t kind, bool done)
{
    struct sched_command command;
    struct shl_buf value;

    name_command(task, kind, &command);
    make_value(node, task, done, &value);
    command.u.name.value = shl_buf_bytes(&value);
    if (kind == SCHED_NAME_SET) {
        command.u.name.expected = shl_bytes_of(task->value, task->value_len);
        command.u.name.has_expected = true;
    }
    encode(task, &command);
    if (!done) {
        remember_value(task, shl_buf_bytes(&value));
    }
    shl_buf_release(&value);
    task->hint = 0;
    ask_leader(node, task);
}

static void admit(struct sim_node *node, struct sim_task *task)
{
    uint64_t n[5] = {task->sandbox, task->idem, task->memory_mb, task->claimable, 0};

    task->step = CREATE_ADMIT;
    sim_route_ask(node, task, task->target, SIM_RPC_ADMIT, n, (struct shl_bytes){0}, PROPOSE_MS);
}

static void placed(struct sim_node *node, struct sim_task *task)
{
    if (task->idem == 0) {
        admit(node, task);
        return;
    }
    task->step = CREATE_CLAIM;
    write_key(node, task, task->value_len > 0 ? SCHED_NAME_SET : SCHED_NAME_CLAIM, false);
}

/* No scheduler: this node decides by what it sees itself. */
static void place_here(struct sim_node *node, struct sim_task *task)
{
    int rc =
        sim_sched_place(node, task->memory_mb, task->excluded, &task->target, &task->reservation);

    task->placer = node->index;
    task->degraded = true;
    if (rc < 0) {
        finish(node, task, rc);
        return;
    }
    placed(node, task);
}

static void on_placed(struct sim_node *node,
                      struct sim_task *task,
                      uint32_t from,
                      const struct sim_rpc *rpc)
{
    if (rpc->code == SHL_EUNAVAILABLE) {
        if (rpc->hint && task->tries < 3) {
            ask_again(node, task, rpc->hint);
        } else {
            place_here(node, task);
        }
        return;
    }
    if (rpc->code < 0) {
        finish(node, task, rpc->code);
        return;
    }
    task->target = (uint32_t)rpc->n[0];
    task->reservation = rpc->n[1];
    task->placer = from;
    placed(node, task);
}

static void tell_placer(struct sim_node *node,
                        struct sim_task *task,
                        bool accepted,
                        uint64_t version)
{
    uint64_t n[5] = {task->reservation, accepted, version, task->target, 0};

    sim_route_tell(node, task->placer, SIM_RPC_PLACED, n);
}

/* Somebody was here with this key before. */
static void on_taken(struct sim_node *node, struct sim_task *task, const struct sim_outcome *out)
{
    struct sched_idempotency found;
    uint8_t request[SCHED_HASH_BYTES];
    int slot = -1;
    bool node_removed = false;

    hash_request(task, request);
    if (sched_idempotency_decode(&found, shl_bytes_of(out->value, out->value_len)) < 0) {
        sim_check_fail(node->world, 22, "an idempotency key holds no valid value");
        return;
    }
    slot = sim_world_find(node->world, &found.node);
    /* A node that is missing here may have joined meanwhile: only a state that is as new as
     * the answer can say that it was removed. */
    node_removed = (sched_state_index(node->state) >= out->index ||
                    (node->world->mutate.sim & SIM_MUT_TAKEOVER_STALE)) &&
                   (slot < 0 || !sched_state_node(node->state, &found.node));
    switch (
        sched_idempotency_decide(false, &found, request, node_removed, node->world->mutate.sched)) {
    case SCHED_CREATE_FRESH:
        admit(node, task);
        return;
    case SCHED_CREATE_PENDING:
        task->sandbox = sim_sandbox_parse(found.sandbox);
        task->target = (uint32_t)slot;
        remember_value(task, shl_bytes_of(out->value, out->value_len));
        admit(node, task);
        return;
    case SCHED_CREATE_DONE:
        op_of(node, task)->sandbox = sim_sandbox_parse(found.sandbox);
        op_of(node, task)->owner = (uint32_t)slot;
        finish(node, task, 0);
        return;
    case SCHED_CREATE_CONFLICT:
        finish(node, task, SHL_ECONFLICT);
        return;
    case SCHED_CREATE_TAKEOVER:
        remember_value(task, shl_bytes_of(out->value, out->value_len));
        task->step = CREATE_PLACE;
        ask_leader(node, task);
        return;
    }
}

static void on_claimed(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    struct sim_outcome out = {0};

    memcpy(&out, rpc->bytes, SHL_MIN(rpc->len, sizeof(out)));
    if (rpc->code == 0) {
        admit(node, task);
    } else if (rpc->code == SHL_ECONFLICT) {
        on_taken(node, task, &out);
    } else if (rpc->code == SHL_EUNAVAILABLE) {
        ask_again(node, task, rpc->hint);
    } else if (rpc->code == SIM_CODE_UNKNOWN) {
        ask_again(node, task, 0);
    } else {
        finish(node, task, SHL_EUNAVAILABLE);
    }
}

static void on_admitted(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    if (task->reservation) {
        tell_placer(node, task, rpc->code == 0, rpc->n[1]);
    }
    if (rpc->code == SHL_ENOCAPACITY) {
        task->excluded |= UINT64_C(1) << task->target;
        task->step = CREATE_PLACE;
        task->hint = 0;
        if (task->degraded) {
            place_here(node, task);
        } else {
            ask_leader(node, task);
        }
        return;
    }
    if (rpc->code < 0) {
        finish(node, task, rpc->code);
        return;
    }
    op_of(node, task)->sandbox = task->sandbox;
    op_of(node, task)->owner = task->target;
    if (task->idem == 0) {
        finish(node, task, 0);
        return;
    }
    task->step = CREATE_DONE;
    write_key(node, task, SCHED_NAME_SET, true);
}

static void on_create(struct sim_node *node,
                      struct sim_task *task,
                      uint32_t from,
                      const struct sim_rpc *rpc)
{
    switch ((enum create_step)task->step) {
    case CREATE_PLACE:
        on_placed(node, task, from, rpc);
        return;
    case CREATE_CLAIM:
        on_claimed(node, task, rpc);
        return;
    case CREATE_ADMIT:
        on_admitted(node, task, rpc);
        return;
    case CREATE_DONE:
        if (rpc->code == 0) {
            finish(node, task, 0);
        } else if (rpc->code == SHL_ECONFLICT) {
            finish(node, task, SIM_CODE_UNKNOWN); /* somebody else goes on with the key */
        } else {
            ask_again(node, task, rpc->hint);
        }
        return;
    }
}

/*- Calls for a sandbox. */

static void ask_owner(struct sim_node *node, struct sim_task *task, uint32_t owner)
{
    uint64_t n[5] = {task->sandbox, task->kill, 0, 0, 0};

    task->step = CALL_OWNER;
    if (owner != node->index) {
        task->hops++;
    }
    if (task->hops > SIM_HOPS_MAX) {
        finish(node, task, SHL_EUNAVAILABLE); /* it moves while we look for it */
        return;
    }
    sim_route_ask(node, task, owner, SIM_RPC_CALL, n, (struct shl_bytes){0}, PROPOSE_MS);
}

static void ask_scheduler(struct sim_node *node, struct sim_task *task)
{
    if (task->table != 0) { /* asked already */
        finish(node, task, SHL_EUNAVAILABLE);
        return;
    }
    task->step = CALL_SCHEDULER;
    task->table = SCHED_TABLE_OWNERS + 1;
    task->key = task->sandbox;
    ask_leader(node, task);
}

static void end_search(struct sim_node *node, struct sim_task *task)
{
    finish(node, task, task->who_silent ? SHL_EUNAVAILABLE : SHL_ENOTFOUND);
}

/* Every member that is not known to be gone for good. */
static void ask_everybody(struct sim_node *node, struct sim_task *task)
{
    struct sim_world *world = node->world;
    uint64_t n[5] = {task->sandbox, 0, 0, 0, 0};
    uint32_t members = gossip_member_count(node->gossip);

    task->step = CALL_EVERYBODY;
    task->who_left = 0;
    for (uint32_t i = 0; i < members; i++) {
        const struct gossip_member *member = gossip_member_at(node->gossip, i);
        int slot = sim_world_find(world, &member->info.id);

        if (slot < 0 || (uint32_t)slot == node->index) {
            continue;
        }
        if (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT) {
            task->who_left |= UINT64_C(1) << slot;
        } else {
            task->who_silent = true;
        }
    }
    if (task->who_left == 0) {
        end_search(node, task);
        return;
    }
    task->req = ++node->next_req;
    task->pausing = false;
    task->wait_ms = SHL_MIN(sim_node_now_ms(node) + ASK_MS, task->end_ms);
    node->sched_wake_ms = SHL_MIN(node->sched_wake_ms, task->wait_ms);
    for (uint32_t slot = 0; slot < world->node_count; slot++) {
        if (task->who_left >> slot & 1) {
            sim_route_who(node, slot, task->req, n);
        }
    }
}

static void begin_call(struct sim_node *node, struct sim_task *task)
{
    struct sim_sandbox *local = sim_sandbox_find(node, task->sandbox);
    int owner = -1;

    if (local && local->stored && local->status != SIM_SANDBOX_MOVED) {
        ask_owner(node, task, node->index);
        return;
    }
    owner = sim_route_owner(node, task->sandbox);
    if (owner >= 0 && (uint32_t)owner != node->index) {
        ask_owner(node, task, (uint32_t)owner);
        return;
    }
    ask_scheduler(node, task);
}

static void on_call_answer(struct sim_node *node,
                           struct sim_task *task,
                           uint32_t from,
                           const struct sim_rpc *rpc)
{
    if (task->step == CALL_OWNER) {
        if (rpc->code == SHL_ENOTFOUND && rpc->hint && rpc->hint != from + 1) {
            ask_owner(node, task, rpc->hint - 1);
        } else if (rpc->code == SHL_ENOTFOUND && task->table == 0) {
            ask_scheduler(node, task);
        } else if (rpc->code == SHL_ENOTFOUND) {
            ask_everybody(node, task);
        } else {
            op_of(node, task)->owner = from;
            op_of(node, task)->hops = task->hops;
            finish(node, task, rpc->code);
        }
    } else if (task->step == CALL_SCHEDULER) {
        if (rpc->code == SHL_EUNAVAILABLE && rpc->hint && task->tries < 3) {
            ask_again(node, task, rpc->hint);
        } else if (rpc->code == 0 && rpc->n[0] && rpc->n[1] != node->index) {
            ask_owner(node, task, (uint32_t)rpc->n[1]);
        } else {
            ask_everybody(node, task);
        }
    } else if (rpc->code == 0) {
        ask_owner(node, task, from);
    } else if (rpc->code == SHL_EGONE) {
        finish(node, task, SHL_EGONE);
    } else {
        task->who_left &= ~(UINT64_C(1) << from);
        if (task->who_left == 0) {
            end_search(node, task);
        }
    }
}

/*- Everything that is one proposal or one read. */

static void on_proposed(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    struct sim_outcome out = {0};

    memcpy(&out, rpc->bytes, SHL_MIN(rpc->len, sizeof(out)));
    if (rpc->code == SHL_EUNAVAILABLE) {
        ask_again(node, task, rpc->hint);
        return;
    }
    if (rpc->code == SIM_CODE_UNKNOWN && task->repeatable) {
        ask_again(node, task, 0);
        return;
    }
    if (task->kind == SIM_TASK_LEASE && rpc->code == 0) {
        sim_sched_granted(node, task->lease_seq, out.index);
    } else if (task->kind == SIM_TASK_REGISTER && rpc->code == 0) {
        struct sim_sandbox *sandbox = sim_sandbox_find(node, task->sandbox);

        sandbox->registered = true;
    } else if (task->kind == SIM_TASK_DELETE) {
        struct sim_sandbox *sandbox = sim_sandbox_find(node, task->sandbox);

        if (rpc->code == 0 && sandbox->status != SIM_SANDBOX_MOVED) {
            sim_sandbox_kill(node, task->sandbox, task->peer, task->peer_req);
        } else {
            sim_route_reply(node, task->peer, task->peer_req,
                            rpc->code == 0 ? SHL_EUNAVAILABLE : rpc->code, 0, NULL,
                            (struct shl_bytes){0});
        }
    } else if (task->kind == SIM_TASK_PROPOSE && rpc->code == 0) {
        /* A claim that was made before has the index of then; a release of nothing has none. */
        bool moot = op_of(node, task)->kind == SIM_OP_NAME_CLAIM     ? out.existed
                    : op_of(node, task)->kind == SIM_OP_NAME_RELEASE ? !out.existed
                                                                     : false;

        op_of(node, task)->index = moot ? 0 : out.index;
    }
    if (task->kind == SIM_TASK_JOIN && rpc->code < 0) {
        SIM_TRACE(node->world, node->index, "may not join: %s", shl_err_name(rpc->code));
    }
    if (task->kind == SIM_TASK_JOIN && rpc->code == SHL_EAUTH) {
        node->stale_token = 0; /* the operator pastes the right one */
    }
    finish(node, task, rpc->code);
}

static void on_read(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    if (rpc->code == SHL_EUNAVAILABLE) {
        ask_again(node, task, rpc->hint);
        return;
    }
    if (rpc->code == 0) {
        op_of(node, task)->value = rpc->n[1];
        op_of(node, task)->index = rpc->n[0] ? rpc->n[2] : 0;
    }
    finish(node, task, rpc->code);
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
        on_create(node, task, from, rpc);
        return;
    case SIM_TASK_CALL:
        on_call_answer(node, task, from, rpc);
        return;
    case SIM_TASK_READ:
        on_read(node, task, rpc);
        return;
    case SIM_TASK_PROPOSE:
    case SIM_TASK_JOIN:
    case SIM_TASK_LEASE:
    case SIM_TASK_REGISTER:
    case SIM_TASK_DELETE:
        on_proposed(node, task, rpc);
        return;
    }
}

/*- Time. */

static void silent(struct sim_node *node, struct sim_task *task)
{
    if (task->kind == SIM_TASK_CREATE) {
        if (task->step == CREATE_PLACE) {
            place_here(node, task);
        } else if (task->step == CREATE_ADMIT) {
            finish(node, task, SIM_CODE_UNKNOWN);
        } else {
            ask_again(node, task, 0);
        }
    } else if (task->kind == SIM_TASK_CALL && task->step == CALL_OWNER) {
        finish(node, task, task->kill ? SIM_CODE_UNKNOWN : SHL_EUNAVAILABLE);
    } else if (task->kind == SIM_TASK_CALL && task->step == CALL_SCHEDULER) {
        ask_everybody(node, task);
    } else if (task->kind == SIM_TASK_CALL) {
        task->who_silent = true;
        end_search(node, task);
    } else if (task->repeatable || task->kind == SIM_TASK_READ) {
        ask_again(node, task, 0);
    } else {
        finish(node, task, SIM_CODE_UNKNOWN);
    }
}

void sim_task_timeout(struct sim_node *node, struct sim_task *task, uint64_t now_ms)
{
    if (now_ms >= task->end_ms) {
        bool told_nothing = task->pausing && !task->repeatable && task->kind != SIM_TASK_CREATE;

        if (task->kind == SIM_TASK_DELETE) {
            sim_route_reply(node, task->peer, task->peer_req, SIM_CODE_UNKNOWN, 0, NULL,
                            (struct shl_bytes){0});
        }
        finish(node, task, told_nothing ? SHL_EUNAVAILABLE : SIM_CODE_UNKNOWN);
        return;
    }
    if (task->pausing) {
        ask_leader(node, task);
        return;
    }
    silent(node, task);
}

/*- Beginnings. */

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
        return SIM_TASK_CALL;
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
    case SIM_OP_KINDS:
        break;
    }
    return SIM_TASK_PROPOSE;
}

void sim_route_call(struct sim_node *node, struct sim_op *op, uint32_t attempt)
{
    struct sim_task *task = sim_route_task_new(node, kind_of(op->kind), TASK_MS);
    struct sched_command command;

    if (!task) {
        sim_client_answer(node->world, op->number, attempt, SHL_EUNAVAILABLE);
        return;
    }
    task->op = op->number;
    task->attempt = attempt;
    task->key = op->key;
    task->sandbox = op->sandbox;
    task->kill = op->kind == SIM_OP_KILL;
    task->repeatable = op->kind != SIM_OP_KV_SET;
    switch (task->kind) {
    case SIM_TASK_CREATE:
        task->idem = op->key;
        task->memory_mb = op->memory_mb;
        task->claimable = op->claimable;
        task->sandbox = sim_rng_next(&node->rng) >> 8 | 1;
        ask_leader(node, task);
        return;
    case SIM_TASK_CALL:
        begin_call(node, task);
        return;
    case SIM_TASK_READ:
        task->table = op->kind == SIM_OP_KV_GET ? SCHED_TABLE_KV + 1 : SCHED_TABLE_NAMES + 1;
        ask_leader(node, task);
        return;
    case SIM_TASK_PROPOSE:
    case SIM_TASK_JOIN:
    case SIM_TASK_LEASE:
    case SIM_TASK_REGISTER:
    case SIM_TASK_DELETE:
        make_command(node, op, &command);
        encode(task, &command);
        ask_leader(node, task);
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
    encode(task, &command);
    ask_leader(node, task);
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
    encode(task, &command);
    ask_leader(node, task);
}

static void owner_command(const struct sim_node *node,
                          const struct sim_sandbox *sandbox,
                          struct sched_command *command)
{
    sim_sandbox_text(command->u.owner.sandbox, sandbox->id);
    snprintf(command->u.owner.org, sizeof(command->u.owner.org), ORG);
    command->u.owner.owner = node->id;
    command->u.owner.epoch = sandbox->epoch;
    command->u.owner.claimable = true;
}

void sim_route_register(struct sim_node *node, struct sim_sandbox *sandbox)
{
    struct sim_task *task = sim_route_task_new(node, SIM_TASK_REGISTER, PROPOSE_MS);
    struct sched_command command = {.kind = SCHED_OWNER_REGISTER};

    if (!task) {
        return;
    }
    sandbox->asked_ms = sim_node_now_ms(node);
    task->sandbox = sandbox->id;
    task->repeatable = true;
    owner_command(node, sandbox, &command);
    encode(task, &command);
    ask_leader(node, task);
}

void sim_route_delete(struct sim_node *node,
                      struct sim_sandbox *sandbox,
                      uint32_t peer,
                      uint64_t req)
{
    struct sim_task *task = sim_route_task_new(node, SIM_TASK_DELETE, 900);
    struct sched_command command = {.kind = SCHED_OWNER_DELETE};

    if (!task) {
        sim_route_reply(node, peer, req, SHL_EUNAVAILABLE, 0, NULL, (struct shl_bytes){0});
        return;
    }
    task->sandbox = sandbox->id;
    task->peer = peer;
    task->peer_req = req;
    task->repeatable = true;
    owner_command(node, sandbox, &command);
    encode(task, &command);
    ask_leader(node, task);
}
