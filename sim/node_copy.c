/* Durable points of sandboxes in the catalogue of the log: finding them, listing the own ones. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route_task.h"
#include "sim/world.h"

#define LIST_MS 1000

/*- "sandbox.epoch.count", so that the newest one is the last of its sandbox. */

void sim_copy_text(char dst[SCHED_ID_SIZE], const struct sim_point_id *point)
{
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, point->sandbox);
    snprintf(dst, SCHED_ID_SIZE, "%.18s.%04x.%08x", text, (unsigned)point->epoch & 0xffff,
             (unsigned)point->count);
}

const struct sched_checkpoint *sim_copy_row(const struct sched_state *state,
                                            const struct sim_point_id *point)
{
    char text[SCHED_ID_SIZE];

    sim_copy_text(text, point);
    return sched_state_checkpoint(state, text);
}

/* Rows of the sandbox that are before the returned one; they end at the first of another. */
static size_t seek_end(const struct sched_state *state, const char *sandbox)
{
    size_t low = 0, high = sched_state_count(state, SCHED_TABLE_CHECKPOINTS);
    char text[SCHED_ID_SIZE + 2];

    snprintf(text, sizeof(text), "%s/", sandbox); /* behind every '.' */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct sched_checkpoint *row = sched_state_at(state, SCHED_TABLE_CHECKPOINTS, middle);

        if (strcmp(row->id, text) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void fill(const struct sched_checkpoint *row, struct sim_point *ret)
{
    struct ckpt_id manifest;

    memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
    *ret = (struct sim_point){.there = true};
    sim_point_of_manifest(&manifest, &ret->id);
    for (uint32_t i = 0; i < row->holder_count; i++) {
        ret->holders[ret->holder_count++] = row->holders[i].bytes[15];
    }
}

static bool has_live(const struct sim_node *node, const struct sched_checkpoint *row)
{
    for (uint32_t i = 0; i < row->holder_count; i++) {
        const struct gossip_member *member = gossip_member_find(node->gossip, &row->holders[i]);

        if (member && (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT)) {
            return true;
        }
    }
    return false;
}

void sim_copy_newest(const struct sched_state *state, uint64_t id, struct sim_point *ret)
{
    char text[SCHED_ID_SIZE];
    size_t end = 0;

    *ret = (struct sim_point){0};
    sim_sandbox_text(text, id);
    end = seek_end(state, text);
    if (end > 0) {
        const struct sched_checkpoint *row =
            sched_state_at(state, SCHED_TABLE_CHECKPOINTS, end - 1);

        if (strcmp(row->sandbox, text) == 0) {
            fill(row, ret);
        }
    }
}

/* As cluster_sandbox_reachable: one that ran goes on from the newest state that a node has which
 * lives; what may have been promised is waited for, as is the state of one that was hibernated. */
void sim_copy_choose(const struct sim_node *node,
                     uint64_t id,
                     const struct sim_point_id *vain,
                     struct sim_point *ret,
                     struct sim_point *ret_newest)
{
    bool skips = node->world->mutate.sim & SIM_MUT_COPY_SKIPPED;
    const struct sched_owner *owner = NULL;
    char text[SCHED_ID_SIZE];
    bool ran = false;

    sim_copy_newest(node->state, id, ret_newest);
    *ret = *ret_newest;
    sim_sandbox_text(text, id);
    owner = sched_state_owner(node->state, text);
    ran = owner && !owner->released && owner->claimable;
    for (size_t end = seek_end(node->state, text); end > 0; end--) {
        const struct sched_checkpoint *row =
            sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, end - 1);
        bool promised = sched_checkpoint_is_promised(row) && !skips;
        bool waits =
            promised || (!ran && row->holder_count > 0 && sched_checkpoint_had(row) > 1 && !skips);
        struct sim_point point;

        if (strcmp(row->sandbox, text) != 0) {
            return;
        }
        fill(row, &point);
        if ((waits || has_live(node, row)) &&
            (promised || !vain || sim_point_compare(&point.id, vain) < 0)) {
            *ret = point;
            return;
        }
    }
}

/* As in node/cluster/take.c: what was passed over then still may be, unless it has got a second
 * copy before the claim: its owner may have promised it. So may what it listed since, if it is
 * lost with it. */
bool sim_copy_awaited(const struct sim_node *node,
                      const struct sim_sandbox *sandbox,
                      struct sim_point *ret)
{
    const struct sim_point_id taken = {sandbox->id, sandbox->count_epoch, sandbox->count};
    const struct sim_point_id skipped = {sandbox->id, sandbox->skip_epoch, sandbox->skip_count};
    bool skips = node->world->mutate.sim & SIM_MUT_COPY_SKIPPED;
    char text[SCHED_ID_SIZE];

    sim_sandbox_text(text, sandbox->id);
    for (size_t end = seek_end(node->state, text); end > 0; end--) {
        const struct sched_checkpoint *row =
            sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, end - 1);

        if (strcmp(row->sandbox, text) != 0) {
            return false;
        }
        fill(row, ret);
        if (sim_point_compare(&ret->id, &taken) <= 0) {
            return false;
        }
        if ((sched_checkpoint_is_promised(row) && !skips) ||
            (has_live(node, row) && sim_point_compare(&ret->id, &skipped) > 0)) {
            return true;
        }
    }
    return false;
}

/*- Listing: this node has it; the places that the planners name do the rest. */

static uint32_t wanted_copies(const struct sim_node *node)
{
    size_t count = sched_state_count(node->state, SCHED_TABLE_NODES);
    uint32_t room = 0;

    for (size_t i = 0; i < count; i++) {
        const struct sched_node *row = sched_state_at(node->state, SCHED_TABLE_NODES, i);

        room += row->spec.role != SCHED_ROLE_WITNESS;
    }
    return SHL_MAX(SHL_MIN(room, node->world->tuning.copies), 1u);
}

void sim_copy_list(struct sim_node *node, const struct sim_sandbox *sandbox)
{
    const struct sim_point_id point = {sandbox->id, sandbox->count_epoch, sandbox->count};
    struct sched_command command = {.kind = SCHED_CHECKPOINT_PUT};
    struct sched_cmd_checkpoint *c = &command.u.checkpoint;
    struct ckpt_id manifest;
    struct sim_task *task = NULL;

    if (!node->joined || sim_copy_row(node->state, &point)) {
        return;
    }
    task = sim_route_task_new(node, SIM_TASK_ROW, LIST_MS);
    if (!task) {
        return;
    }
    task->sandbox = point.sandbox;
    task->key = point.epoch;
    task->idem = point.count;
    sim_copy_text(c->id, &point);
    snprintf(c->org, sizeof(c->org), ORG);
    sim_sandbox_text(c->sandbox, point.sandbox);
    c->kind = SCHED_CHECKPOINT_HIBERNATION;
    sim_point_manifest(&point, &manifest);
    memcpy(c->manifest, manifest.bytes, sizeof(c->manifest));
    c->bytes = (uint64_t)SIM_POINT_CHUNKS * CKPT_CHUNK_BYTES;
    c->wanted = wanted_copies(node);
    c->holder_count = 1;
    c->holders[0] = node->id;
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
}

/*- Bringing one here. */

bool sim_copy_fetch(struct sim_node *node, const struct sim_point *point)
{
    struct sim_job *job = NULL;

    const struct sim_manifest *m = sim_store_find(node, &point->id);

    if (!node->replica || (m && m->leaving)) {
        return false;
    }
    if (!m && sim_fetch_holder(node, &point->id, 0) < 0) {
        return false;
    }
    job = sim_job_want(node, &point->id, CKPT_FETCH_RESUME);
    if (job) {
        job->wanted = true;
    }
    return job != NULL;
}

/*- Orders to the log. */

bool sim_copy_is_ordered(const struct sim_node *node, const struct sim_point_id *point)
{
    for (uint32_t i = 0; i < node->task_count; i++) {
        const struct sim_task *task = &node->tasks[i];

        if (task->used && task->kind == SIM_TASK_ROW && task->sandbox == point->sandbox &&
            task->key == point->epoch && task->idem == point->count) {
            return true;
        }
    }
    return false;
}

bool sim_copy_order(struct sim_node *node,
                    const struct sim_point_id *point,
                    uint32_t kind,
                    bool held,
                    bool trims)
{
    struct sched_command command = {.kind = kind};
    struct sim_task *task = NULL;

    if (sim_copy_is_ordered(node, point)) {
        return false;
    }
    task = sim_route_task_new(node, SIM_TASK_ROW, LIST_MS);
    if (!task) {
        return false;
    }
    task->sandbox = point->sandbox;
    task->key = point->epoch;
    task->idem = point->count;
    task->wish = trims;
    if (kind == SCHED_CHECKPOINT_HOLDER) {
        sim_copy_text(command.u.checkpoint_holder.id, point);
        command.u.checkpoint_holder.node = node->id;
        command.u.checkpoint_holder.held = held;
    } else {
        sim_copy_text(command.u.checkpoint_delete.id, point);
    }
    sim_task_encode(task, &command);
    sim_task_ask_leader(node, task);
    return true;
}

void sim_copy_answer(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc)
{
    const struct sim_point_id point = {task->sandbox, task->key, task->idem};
    bool trims = task->wish != 0;

    if (rpc->code == SHL_EUNAVAILABLE) {
        sim_task_ask_again(node, task, rpc->hint);
        return;
    }
    sim_task_finish(node, task, 0);
    if (trims) {
        sim_replica_left(node, &point, rpc->code);
    }
}

void sim_copy_give_up(struct sim_node *node, struct sim_task *task)
{
    const struct sim_point_id point = {task->sandbox, task->key, task->idem};
    bool trims = task->wish != 0;

    sim_task_finish(node, task, 0);
    if (trims) {
        sim_replica_left(node, &point, SHL_EUNAVAILABLE);
    }
}
