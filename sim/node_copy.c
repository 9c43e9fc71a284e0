/* Durable points of sandboxes: on which node, and in the catalogue of the log. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define SPACE_COPY 7 /* disk keys: by sandbox */
#define COPY_MS    1000

struct sim_copy *sim_copy_find(const struct sim_node *node, uint64_t id)
{
    for (uint32_t i = 0; i < node->copy_count; i++) {
        if (node->copies[i].id == id) {
            return &node->copies[i];
        }
    }
    return NULL;
}

static struct sim_copy *add(struct sim_node *node, const struct sim_copy *copy)
{
    if (node->copy_count == node->copy_cap) {
        node->copy_cap = node->copy_cap ? node->copy_cap * 2 : 16;
        node->copies = realloc(node->copies, node->copy_cap * sizeof(*node->copies));
        assert(node->copies);
    }
    node->copies[node->copy_count] = *copy;
    return &node->copies[node->copy_count++];
}

void sim_copy_load(struct sim_node *node)
{
    size_t i = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_COPY, 0));
    size_t end = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_COPY + 1, 0));

    node->copy_count = 0;
    for (; i < end; i++) {
        struct sim_copy copy;

        memcpy(&copy, node->disk.map.items[i].data, sizeof(copy));
        (void)add(node, &copy);
    }
}

bool sim_copy_put(struct sim_node *node, const struct sim_copy *copy)
{
    struct sim_copy *have = sim_copy_find(node, copy->id);

    if (have &&
        (have->epoch > copy->epoch || (have->epoch == copy->epoch && have->count >= copy->count))) {
        return true;
    }
    if (have) {
        *have = *copy;
    } else {
        (void)add(node, copy);
    }
    sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_COPY, copy->id), copy, sizeof(*copy));
    return true;
}

/*- The catalogue: "sandbox.epoch.count", so that the newest one is the last of its sandbox. */

static void point_text(char dst[SCHED_ID_SIZE], uint64_t id, uint64_t epoch, uint64_t count)
{
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, id);
    snprintf(dst, SCHED_ID_SIZE, "%.18s.%04x.%08x", text, (unsigned)epoch & 0xffff,
             (unsigned)count);
}

void sim_copy_newest(const struct sched_state *state, uint64_t id, struct sim_point *ret)
{
    size_t low = 0, high = sched_state_count(state, SCHED_TABLE_CHECKPOINTS);
    char text[SCHED_ID_SIZE];
    size_t len = 0;
    const struct sched_checkpoint *row = NULL;
    unsigned epoch = 0, count = 0;

    *ret = (struct sim_point){0};
    sim_sandbox_text(text, id);
    len = strlen(text);
    text[len] = '/'; /* behind every '.' */
    text[len + 1] = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        row = sched_state_at(state, SCHED_TABLE_CHECKPOINTS, middle);
        if (strcmp(row->id, text) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    text[len] = 0;
    if (low == 0) {
        return;
    }
    row = sched_state_at(state, SCHED_TABLE_CHECKPOINTS, low - 1);
    if (strcmp(row->sandbox, text) != 0 || sscanf(row->id + len, ".%x.%x", &epoch, &count) != 2) {
        return;
    }
    ret->there = true;
    ret->epoch = epoch;
    ret->count = count;
    for (uint32_t i = 0; i < row->holder_count; i++) {
        ret->holders[ret->holder_count++] = row->holders[i].bytes[15];
    }
}

/*- To another node. */

static int pick_peer(struct sim_node *node)
{
    uint32_t first = (uint32_t)sim_rng_below(&node->rng, node->world->node_count);

    for (uint32_t i = 0; i < node->world->node_count; i++) {
        uint32_t slot = (first + i) % node->world->node_count;
        const struct shl_node_id *id = &node->world->nodes[slot].id;
        const struct gossip_member *member = gossip_member_find(node->gossip, id);
        const struct sched_node *row = sched_state_node(node->state, id);

        if (slot != node->index && member && member->life == GOSSIP_ALIVE && row &&
            row->spec.role != SCHED_ROLE_WITNESS) {
            return (int)slot;
        }
    }
    return -1;
}

void sim_copy_push(struct sim_node *node, struct sim_sandbox *sandbox, uint64_t count)
{
    uint64_t n[5] = {sandbox->id, sandbox->count_epoch, count, sandbox->memory_mb,
                     sandbox->restore};
    int peer = pick_peer(node);
    struct sim_task *task = NULL;

    if (peer < 0 || !node->joined) {
        return;
    }
    task = sim_route_task_new(node, SIM_TASK_PUSH, COPY_MS);
    if (!task) {
        return;
    }
    task->sandbox = sandbox->id;
    task->key = sandbox->count_epoch;
    task->idem = count;
    task->target = (uint32_t)peer;
    task->step = 0;
    sim_route_ask(node, task, (uint32_t)peer, SIM_RPC_COPY, n, (struct shl_bytes){0}, COPY_MS);
}

bool sim_copy_fetch(struct sim_node *node,
                    uint64_t id,
                    const struct sim_point *point,
                    uint32_t turn)
{
    uint64_t n[5] = {id, point->epoch, point->count, 0, 0};

    for (uint32_t i = 0; i < point->holder_count; i++) {
        uint32_t slot = point->holders[(turn + i) % point->holder_count];
        const struct gossip_member *member =
            gossip_member_find(node->gossip, &node->world->nodes[slot].id);
        struct sim_task *task = NULL;

        if (slot == node->index || !member || member->life != GOSSIP_ALIVE) {
            continue;
        }
        task = sim_route_task_new(node, SIM_TASK_FETCH, COPY_MS);
        if (!task) {
            return false;
        }
        task->sandbox = id;
        sim_route_ask(node, task, slot, SIM_RPC_FETCH, n, (struct shl_bytes){0}, 150);
        return true;
    }
    return false;
}

void sim_copy_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc)
{
    struct sim_copy copy = {.id = rpc->n[0],
                            .epoch = rpc->n[1],
                            .count = rpc->n[2],
                            .memory_mb = (uint32_t)rpc->n[3],
                            .restore = rpc->n[4] != 0};
    const struct sim_sandbox *record = sim_sandbox_find(node, copy.id);
    const struct sim_copy *have = sim_copy_find(node, copy.id);
    uint64_t n[5] = {0};
    int code = SHL_ENOTFOUND;

    if (rpc->kind == SIM_RPC_COPY) {
        (void)sim_copy_put(node, &copy);
        (void)sim_node_sync(
            node, (struct sim_sync){.kind = SIM_SYNC_COPY, .req = rpc->req, .peer = from});
        return;
    }
    if (have &&
        (have->epoch > copy.epoch || (have->epoch == copy.epoch && have->count >= copy.count))) {
        code = 0;
        copy = *have;
    } else if (record && record->count_epoch == copy.epoch && record->count >= copy.count) {
        code = 0;
        copy.count = record->count;
        copy.memory_mb = record->memory_mb;
        copy.restore = record->restore;
    }
    n[0] = copy.epoch;
    n[1] = copy.count;
    n[2] = copy.memory_mb;
    n[3] = copy.restore;
    sim_route_reply(node, from, rpc->req, code, 0, n, (struct shl_bytes){0});
}

static void list(struct sim_node *node, struct sim_task *task)
{
    struct sched_command command = {.kind = SCHED_CHECKPOINT_PUT};
    struct sched_cmd_checkpoint *c = &command.u.checkpoint;

    struct sim_point newest;

    task->step = 1;
    sim_copy_newest(node->state, task->sandbox, &newest);
    if (newest.there && newest.epoch == task->key && newest.count == task->idem) {
        struct sched_command holder = {.kind = SCHED_CHECKPOINT_HOLDER};

        /* It is listed, but a holder was lost: repair. */
        point_text(holder.u.checkpoint_holder.id, task->sandbox, task->key, task->idem);
        holder.u.checkpoint_holder.node = node->world->nodes[task->target].id;
        holder.u.checkpoint_holder.held = true;
        sim_task_encode(task, &holder);
        sim_task_ask_leader(node, task);
        return;
    }
    point_text(c->id, task->sandbox, task->key, task->idem);
    snprintf(c->org, sizeof(c->org), ORG);
    sim_sandbox_text(c->sandbox, task->sandbox);
    c->kind = SCHED_CHECKPOINT_HIBERNATION;
    memset(c->manifest, 1, sizeof(c->manifest));
    c->bytes = 1;
    c->wanted = 2;
    c->holder_count = 2;
    c->holders[0] = node->id;
    c->holders[1] = node->world->nodes[task->target].id;
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
}

void sim_copy_answer(struct sim_node *node,
                     struct sim_task *task,
                     uint32_t from,
                     const struct sim_rpc *rpc)
{
    struct sim_outcome out = {0};
    uint64_t id = task->sandbox, epoch = task->key, count = task->idem;

    (void)from;
    if (task->kind == SIM_TASK_FETCH) {
        struct sim_copy copy = {.id = id,
                                .epoch = rpc->n[0],
                                .count = rpc->n[1],
                                .memory_mb = (uint32_t)rpc->n[2],
                                .restore = rpc->n[3] != 0};
        int code = rpc->code;

        sim_task_finish(node, task, 0);
        if (code == 0) {
            (void)sim_copy_put(node, &copy);
        }
        sim_hold_fetched(node, id, code);
        return;
    }
    if (task->step == 0 && rpc->code == 0) {
        list(node, task);
        return;
    }
    if (task->step == 1 && rpc->code == SHL_EUNAVAILABLE) {
        sim_task_ask_again(node, task, rpc->hint);
        return;
    }
    memcpy(&out, rpc->bytes, SHL_MIN(rpc->len, sizeof(out)));
    sim_task_finish(node, task, 0);
    if (rpc->code == 0) {
        sim_hold_catalogued(node, id, epoch, count, out.index);
    }
}
