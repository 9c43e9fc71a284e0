/* Questions between nodes: asking, answering, deadlines. What a task does with the answers
 * is in sim/route_task.c. */
#include "sim/route.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

static struct sim_msg *make_rpc(const struct sim_rpc *head, struct shl_bytes bytes)
{
    uint8_t stack[2048];
    struct sim_rpc *rpc = (struct sim_rpc *)(void *)stack;
    struct sim_msg *msg = NULL;
    size_t len = sizeof(*rpc) + bytes.len;

    if (len > sizeof(stack)) {
        rpc = malloc(len);
        assert(rpc);
    }
    *rpc = *head;
    rpc->len = (uint32_t)bytes.len;
    if (bytes.len) {
        memcpy(rpc->bytes, bytes.base, bytes.len);
    }
    msg = sim_msg_new(SIM_MSG_RPC, rpc->kind, rpc, len);
    msg->once = true;
    if ((uint8_t *)rpc != stack) {
        free(rpc);
    }
    return msg;
}

static void deliver(struct sim_node *node,
                    uint32_t to,
                    const struct sim_rpc *head,
                    struct shl_bytes bytes)
{
    struct sim_msg *msg = make_rpc(head, bytes);

    if (to == node->index) {
        sim_route_receive(node, to, (const struct sim_rpc *)(const void *)msg->data);
        sim_msg_unref(msg);
        return;
    }
    sim_node_send(node, to, msg);
}

void sim_route_reply(struct sim_node *node,
                     uint32_t peer,
                     uint64_t req,
                     int code,
                     uint32_t hint,
                     const uint64_t n[5],
                     struct shl_bytes bytes)
{
    struct sim_rpc head = {.kind = SIM_RPC_REPLY, .req = req, .code = code, .hint = hint};

    if (peer == SIM_NOBODY || node->dying) {
        return;
    }
    if (n) {
        memcpy(head.n, n, sizeof(head.n));
    }
    deliver(node, peer, &head, bytes);
}

void sim_route_ask(struct sim_node *node,
                   struct sim_task *task,
                   uint32_t to,
                   enum sim_rpc_kind kind,
                   const uint64_t n[5],
                   struct shl_bytes bytes,
                   uint32_t patience_ms)
{
    struct sim_rpc head = {.kind = kind, .hops = task->hops};

    head.req = task->req = ++node->next_req;
    if (n) {
        memcpy(head.n, n, sizeof(head.n));
    }
    task->asked = to;
    task->pausing = false;
    task->wait_ms = SHL_MIN(sim_node_now_ms(node) + patience_ms, task->end_ms);
    node->sched_wake_ms = SHL_MIN(node->sched_wake_ms, task->wait_ms);
    deliver(node, to, &head, bytes);
}

void sim_route_tell(struct sim_node *node,
                    uint32_t to,
                    enum sim_rpc_kind kind,
                    const uint64_t n[5],
                    struct shl_bytes bytes)
{
    struct sim_rpc head = {.kind = kind};

    memcpy(head.n, n, sizeof(head.n));
    deliver(node, to, &head, bytes);
}

void sim_route_who(struct sim_node *node, uint32_t to, uint64_t req, const uint64_t n[5])
{
    struct sim_rpc head = {.kind = SIM_RPC_WHO, .req = req};

    memcpy(head.n, n, sizeof(head.n));
    deliver(node, to, &head, (struct shl_bytes){0});
}

void sim_route_pause(struct sim_node *node, struct sim_task *task, uint32_t pause_ms)
{
    task->req = 0;
    task->pausing = true;
    task->wait_ms = SHL_MIN(sim_node_now_ms(node) + pause_ms, task->end_ms);
    node->sched_wake_ms = SHL_MIN(node->sched_wake_ms, task->wait_ms);
}

struct sim_task *sim_route_task_new(struct sim_node *node,
                                    enum sim_task_kind kind,
                                    uint32_t patience_ms)
{
    for (uint32_t i = 0; i < SIM_TASKS_MAX; i++) {
        struct sim_task *task = &node->tasks[i];

        if (!task->used) {
            *task = (struct sim_task){.used = true, .kind = kind};
            task->end_ms = sim_node_now_ms(node) + patience_ms;
            shl_buf_init(&task->command, SCHED_COMMAND_MAX);
            node->task_count = SHL_MAX(node->task_count, i + 1);
            return task;
        }
    }
    return NULL;
}

void sim_route_task_free(struct sim_node *node, struct sim_task *task)
{
    shl_buf_release(&task->command);
    task->used = false;
    while (node->task_count > 0 && !node->tasks[node->task_count - 1].used) {
        node->task_count--;
    }
}

/*- Questions of others. */

static uint32_t leader_hint(const struct sim_node *node)
{
    struct shl_node_id leader = sched_raft_leader(node->raft);

    return shl_node_id_is_none(&leader) ? 0 : (uint32_t)(sim_world_find(node->world, &leader) + 1);
}

static void on_place(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    uint64_t n[5] = {0};
    uint32_t target = 0;
    int rc = SHL_EUNAVAILABLE;

    if (node->ready) {
        rc = sim_sched_place(node, (uint32_t)rpc->n[0], rpc->n[1], &target, &n[1]);
    }
    n[0] = target;
    sim_route_reply(node, from, rpc->req, rc, leader_hint(node), n, (struct shl_bytes){0});
}

static void on_call(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    struct sim_sandbox *sandbox = sim_sandbox_find(node, rpc->n[0]);
    uint64_t n[5] = {0};

    if (rpc->hops > SIM_HOPS_MAX) {
        sim_check_fail(node->world, 22, "a call for a sandbox was forwarded %u times", rpc->hops);
    }
    if (!sandbox || !sandbox->stored) {
        sim_route_reply(node, from, rpc->req, SHL_ENOTFOUND, 0, NULL, (struct shl_bytes){0});
    } else if (sandbox->status == SIM_SANDBOX_MOVED || sandbox->copy) {
        int owner = sim_route_owner(node, sandbox->id);

        sim_route_reply(node, from, rpc->req, SHL_ENOTFOUND, (uint32_t)(owner + 1), NULL,
                        (struct shl_bytes){0});
    } else if (sandbox->status == SIM_SANDBOX_DELETED) {
        sim_route_reply(node, from, rpc->req, SHL_EGONE, 0, NULL, (struct shl_bytes){0});
    } else if (sandbox->epoch > 0 && !sched_lease_valid(&node->lease, sim_node_now_ms(node))) {
        /* Somebody else may own it by now, and nobody here would know. */
        sim_route_reply(node, from, rpc->req, SHL_EUNAVAILABLE, 0, NULL, (struct shl_bytes){0});
    } else if (rpc->n[1] == 0) {
        n[0] = sandbox->epoch;
        sim_route_reply(node, from, rpc->req, 0, node->index + 1, n, (struct shl_bytes){0});
    } else if (rpc->n[1] == 2) {
        sim_hold_hibernate(node, sandbox->id, from, rpc->req);
    } else {
        sim_hold_delete(node, sandbox->id, from, rpc->req);
    }
}

static void on_who(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    const struct sim_sandbox *sandbox = sim_sandbox_find(node, rpc->n[0]);
    int code = SHL_ENOTFOUND;

    if (sandbox && sandbox->stored && !sandbox->copy &&
        (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED)) {
        code = 0;
    } else if (sandbox && sandbox->status == SIM_SANDBOX_DELETED) {
        code = SHL_EGONE;
    }
    sim_route_reply(node, from, rpc->req, code, node->index + 1, NULL, (struct shl_bytes){0});
}

void sim_route_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    struct shl_bytes bytes = shl_bytes_of(rpc->bytes, rpc->len);

    switch ((enum sim_rpc_kind)rpc->kind) {
    case SIM_RPC_PROPOSE:
        sim_raft_propose(node, bytes, from, rpc->req);
        return;
    case SIM_RPC_READ:
        if (node->world->mutate.sim & SIM_MUT_READ_LOCAL) {
            uint64_t n[5] = {0};

            sim_read_row(node->state, (uint8_t)rpc->n[0], rpc->n[1], n);
            sim_route_reply(node, from, rpc->req, 0, 0, n, (struct shl_bytes){0});
            return;
        }
        sim_raft_read(node, (uint8_t)rpc->n[0], rpc->n[1], from, rpc->req);
        return;
    case SIM_RPC_PLACE:
        on_place(node, from, rpc);
        return;
    case SIM_RPC_ADMIT:
        sim_sandbox_admit(node, rpc, from);
        return;
    case SIM_RPC_PLACED:
        sim_sched_placed(node, (uint32_t)rpc->n[3], rpc->n[0], rpc->n[1] != 0, rpc->n[2]);
        return;
    case SIM_RPC_CALL:
        on_call(node, from, rpc);
        return;
    case SIM_RPC_WHO:
        on_who(node, from, rpc);
        return;
    case SIM_RPC_WAKE:
        sim_hold_wake(node, rpc->n[0], from, rpc->req);
        return;
    case SIM_RPC_RESTORE:
        sim_hold_wake(node, rpc->n[0], SIM_NOBODY, 0);
        return;
    case SIM_RPC_REPLY:
        for (uint32_t i = 0; i < node->task_count; i++) {
            if (node->tasks[i].used && node->tasks[i].req == rpc->req && !node->tasks[i].pausing) {
                sim_task_answer(node, &node->tasks[i], from, rpc);
                return;
            }
        }
        return;
    case SIM_RPC_MANIFEST:
    case SIM_RPC_MANIFEST_IS:
    case SIM_RPC_CHUNKS:
    case SIM_RPC_PIECES:
    case SIM_RPC_MAY_DROP:
    case SIM_RPC_MAY_DROP_IS:
        sim_replica_receive(node, from, rpc);
        return;
    }
}

/*- Deadlines. */

uint64_t sim_route_tick(struct sim_node *node)
{
    uint64_t now_ms = sim_node_now_ms(node);
    uint64_t next_ms = UINT64_MAX;

    for (uint32_t i = 0; i < node->task_count; i++) {
        struct sim_task *task = &node->tasks[i];

        if (task->used && task->wait_ms <= now_ms) {
            sim_task_timeout(node, task, now_ms);
        }
        if (task->used) {
            next_ms = SHL_MIN(next_ms, task->wait_ms);
        }
    }
    return next_ms;
}
