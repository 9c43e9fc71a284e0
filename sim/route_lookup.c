/* A call for a sandbox: its owner as known here, the scheduler, everybody. */
#include "sim/route_task.h"
#include "sim/world.h"

int sim_route_owner(const struct sim_node *node, uint64_t sandbox)
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

static void ask_owner(struct sim_node *node, struct sim_task *task, uint32_t owner)
{
    uint64_t n[5] = {task->sandbox, task->wish, 0, 0, 0};

    task->step = CALL_OWNER;
    if (owner != node->index) {
        task->hops++;
    }
    if (task->hops > SIM_HOPS_MAX) {
        sim_task_finish(node, task, SHL_EUNAVAILABLE); /* it moves while we look for it */
        return;
    }
    sim_route_ask(node, task, owner, SIM_RPC_CALL, n, (struct shl_bytes){0}, PROPOSE_MS);
}

static void ask_scheduler(struct sim_node *node, struct sim_task *task)
{
    if (task->table != 0) { /* asked already */
        sim_task_finish(node, task, SHL_EUNAVAILABLE);
        return;
    }
    task->step = CALL_SCHEDULER;
    task->table = SCHED_TABLE_OWNERS + 1;
    task->key = task->sandbox;
    sim_task_ask_leader(node, task);
}

void sim_task_end_search(struct sim_node *node, struct sim_task *task)
{
    sim_task_finish(node, task, task->who_silent ? SHL_EUNAVAILABLE : SHL_ENOTFOUND);
}

/* Every member that is not known to be gone for good. */
void sim_task_ask_everybody(struct sim_node *node, struct sim_task *task)
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
        sim_task_end_search(node, task);
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

void sim_task_call_begin(struct sim_node *node, struct sim_task *task)
{
    struct sim_sandbox *local = sim_sandbox_find(node, task->sandbox);
    int owner = -1;

    if (local && local->stored && local->status != SIM_SANDBOX_MOVED && !local->copy) {
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

void sim_task_call_answer(struct sim_node *node,
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
            sim_task_ask_everybody(node, task);
        } else {
            sim_task_op(node, task)->owner = from;
            sim_task_op(node, task)->hops = task->hops;
            sim_task_finish(node, task, rpc->code);
        }
    } else if (task->step == CALL_SCHEDULER) {
        if (rpc->code == SHL_EUNAVAILABLE && rpc->hint && task->tries < 3) {
            sim_task_ask_again(node, task, rpc->hint);
        } else if (rpc->code == 0 && rpc->n[0] && rpc->n[1] != node->index) {
            ask_owner(node, task, (uint32_t)rpc->n[1]);
        } else {
            sim_task_ask_everybody(node, task);
        }
    } else if (rpc->code == 0) {
        ask_owner(node, task, from);
    } else if (rpc->code == SHL_EGONE) {
        sim_task_finish(node, task, SHL_EGONE);
    } else {
        task->who_left &= ~(UINT64_C(1) << from);
        if (task->who_left == 0) {
            sim_task_end_search(node, task);
        }
    }
}
