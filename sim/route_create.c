/* A create: a place, the claim on its idempotency key, the admission, the record. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim/route_task.h"
#include "sim/world.h"

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
    sim_task_encode(task, &command);
    if (!done) {
        remember_value(task, shl_buf_bytes(&value));
    }
    shl_buf_release(&value);
    task->hint = 0;
    sim_task_ask_leader(node, task);
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
void sim_task_place_here(struct sim_node *node, struct sim_task *task)
{
    int rc =
        sim_sched_place(node, task->memory_mb, task->excluded, &task->target, &task->reservation);

    task->placer = node->index;
    task->degraded = true;
    if (rc < 0) {
        sim_task_finish(node, task, rc);
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
            sim_task_ask_again(node, task, rpc->hint);
        } else {
            sim_task_place_here(node, task);
        }
        return;
    }
    if (rpc->code < 0) {
        sim_task_finish(node, task, rpc->code);
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

    sim_route_tell(node, task->placer, SIM_RPC_PLACED, n, (struct shl_bytes){0});
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
        sim_task_op(node, task)->sandbox = sim_sandbox_parse(found.sandbox);
        sim_task_op(node, task)->owner = (uint32_t)slot;
        sim_task_finish(node, task, 0);
        return;
    case SCHED_CREATE_CONFLICT:
        sim_task_finish(node, task, SHL_ECONFLICT);
        return;
    case SCHED_CREATE_TAKEOVER:
        remember_value(task, shl_bytes_of(out->value, out->value_len));
        task->step = CREATE_PLACE;
        sim_task_ask_leader(node, task);
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
        sim_task_ask_again(node, task, rpc->hint);
    } else if (rpc->code == SIM_CODE_UNKNOWN) {
        sim_task_ask_again(node, task, 0);
    } else {
        sim_task_finish(node, task, SHL_EUNAVAILABLE);
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
            sim_task_place_here(node, task);
        } else {
            sim_task_ask_leader(node, task);
        }
        return;
    }
    if (rpc->code < 0) {
        sim_task_finish(node, task, rpc->code);
        return;
    }
    sim_task_op(node, task)->sandbox = task->sandbox;
    sim_task_op(node, task)->owner = task->target;
    if (task->idem == 0) {
        sim_task_finish(node, task, 0);
        return;
    }
    task->step = CREATE_DONE;
    write_key(node, task, SCHED_NAME_SET, true);
}

void sim_task_create_answer(struct sim_node *node,
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
            sim_task_finish(node, task, 0);
        } else if (rpc->code == SHL_ECONFLICT) {
            sim_task_finish(node, task, SIM_CODE_UNKNOWN); /* somebody else goes on with the key */
        } else {
            sim_task_ask_again(node, task, rpc->hint);
        }
        return;
    }
}
