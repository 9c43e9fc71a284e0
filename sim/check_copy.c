/* Copies of points, and the chunks that they are made of: 10 to 15, 23. See sim/check.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/world.h"

typedef unsigned long long ull;

/* How long a fault may have been before what another node had said of its copy: answers that are
 * older do not count (confirm_ms, on slow clocks, and a message on its way). */
#define EXCUSED_US (4 * (uint64_t)SIM_SECOND)

/*- Chunks. */

void sim_check_chunk_put(struct sim_node *node, uint64_t key, uint64_t data)
{
    if (sim_chunk_key(data) != key) {
        sim_check_fail(node->world, 12, "n%u stores bytes as chunk %llx that have another hash",
                       node->index, (ull)key);
    }
}

void sim_check_asked(struct sim_node *node, uint64_t key)
{
    node->world->check.asked++;
    if (sim_store_has(node, key)) {
        sim_check_fail(node->world, 23, "n%u asks for chunk %llx, which it has", node->index,
                       (ull)key);
    }
}

void sim_check_published(struct sim_node *node, const struct sim_manifest *m)
{
    if (!sim_store_is_whole(node, m, false)) {
        sim_check_fail(node->world, 11, "n%u publishes %llx.%llu.%llu without all of its chunks",
                       node->index, (ull)m->point.sandbox, (ull)m->point.epoch,
                       (ull)m->point.count);
    }
}

/* Also of manifests that are on their way: their chunks are pinned. */
void sim_check_store(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->store.manifest_count; i++) {
        const struct sim_manifest *m = &node->store.manifests[i];

        if (!m->damaged && !sim_store_is_whole(node, m, false)) {
            sim_check_fail(node->world, 13, "n%u has swept chunks of %llx.%llu.%llu", node->index,
                           (ull)m->point.sandbox, (ull)m->point.epoch, (ull)m->point.count);
        }
    }
}

/*- Copies. */

/* What a fault has taken counts for so long as nobody could know of it. */
static bool counts(const struct sim_node *node, const struct sim_point_id *point, uint64_t since_us)
{
    const struct sim_manifest *m = sim_store_find(node, point);

    if (!m || !m->durable || m->leaving || (node->gone && node->gone_us < since_us)) {
        return false;
    }
    return m->damaged ? m->damaged_us >= since_us : sim_store_is_whole(node, m, false);
}

static uint32_t count_copies(const struct sim_world *world,
                             const struct sim_point_id *point,
                             uint32_t except,
                             uint64_t since_us)
{
    uint32_t copies = 0;

    for (uint32_t i = 0; i < world->node_count; i++) {
        copies += i != except && counts(&world->nodes[i], point, since_us);
    }
    return copies;
}

/* Some node knows already that its row is gone: then nothing is promised of it. */
static bool is_deleted(const struct sim_world *world, const char *id)
{
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (world->nodes[i].up &&
            sched_state_tombstone(world->nodes[i].state, SCHED_TOMBSTONE_CHECKPOINT, id)) {
            return true;
        }
    }
    return false;
}

void sim_check_trimmed(struct sim_node *node, const struct sim_manifest *m)
{
    struct sim_world *world = node->world;
    const struct sched_checkpoint *row = sim_copy_row(node->state, &m->point);
    uint64_t since_us = world->now_us > EXCUSED_US ? world->now_us - EXCUSED_US : 0;
    uint32_t others = count_copies(world, &m->point, node->index, since_us);

    if (row && others < row->wanted && !is_deleted(world, row->id)) {
        sim_check_fail(world, 10, "n%u drops %llx.%llu.%llu, of which %u copies are left, not %u",
                       node->index, (ull)m->point.sandbox, (ull)m->point.epoch, (ull)m->point.count,
                       others, row->wanted);
    }
}

/* Copies of the point, or of a later one of its sandbox, also on disks that were lost since: what
 * they had is told of by the log until then. */
static uint32_t count_had(const struct sim_world *world,
                          const struct sim_point_id *point,
                          bool or_later)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_store *store = &world->nodes[i].store;

        for (uint32_t k = 0; k < store->manifest_count; k++) {
            const struct sim_point_id *id = &store->manifests[k].point;
            uint32_t copies = 0;

            if (id->sandbox != point->sandbox || id->count < point->count ||
                (!or_later && sim_point_compare(id, point) != 0)) {
                continue;
            }
            for (uint32_t n = 0; n < world->node_count; n++) {
                const struct sim_manifest *m = sim_store_find(&world->nodes[n], id);

                copies += m && m->durable;
            }
            best = SHL_MAX(best, copies);
        }
    }
    return best;
}

/* A node tells what the log says up to where it has applied it. When the log says later that the
 * row goes, then because a later point has its place: nobody goes on from before that, and it
 * counts in its stead. */
void sim_check_acked(struct sim_node *node, const struct sim_point_id *point, uint32_t wanted)
{
    struct sim_world *world = node->world;
    const struct sim_known *known = sim_check_known(&world->check, point->sandbox);
    uint32_t copies = 0;
    char id[SCHED_ID_SIZE];

    sim_copy_text(id, point);
    copies = count_had(world, point, is_deleted(world, id));
    if (copies < wanted) {
        sim_check_fail(world, 10,
                       "n%u tells that %llx.%llu.%llu is durable, %u nodes have it, not %u",
                       node->index, (ull)point->sandbox, (ull)point->epoch, (ull)point->count,
                       copies, wanted);
    }
    if (known->from_epoch > point->epoch && known->from_count < point->count) {
        sim_check_fail(world, 10,
                       "n%u tells that %llx.%llu.%llu is durable, but epoch %llu began from %llu",
                       node->index, (ull)point->sandbox, (ull)point->epoch, (ull)point->count,
                       (ull)known->from_epoch, (ull)known->from_count);
    }
}

void sim_check_applying(struct sim_node *node, const struct sched_command *command)
{
    if (command->kind == SCHED_CHECKPOINT_DELETE) {
        const struct sched_checkpoint *row =
            sched_state_checkpoint(node->state, command->u.checkpoint_delete.id);

        node->world->check.going = row ? SHL_MIN(row->holder_count, row->wanted) : 0;
    }
}

/* The row of what was promised is still there: the one that goes is none that it relied on. */
static bool is_listed(const struct sched_state *state, const char *sandbox, uint64_t count)
{
    for (size_t i = 0; i < sched_state_count(state, SCHED_TABLE_CHECKPOINTS); i++) {
        const struct sched_checkpoint *row = sched_state_at(state, SCHED_TABLE_CHECKPOINTS, i);

        if (strcmp(row->sandbox, sandbox) == 0 &&
            strtoull(row->id + strlen(sandbox) + 6, NULL, 16) == count) {
            return true;
        }
    }
    return false;
}

/* What was promised, or anything later, has as many copies in points that stay as the one that
 * goes. */
void sim_check_deleted(struct sim_node *node, const char *id)
{
    struct sim_world *world = node->world;
    char text[SCHED_ID_SIZE];
    const struct sim_known *known = NULL;
    uint64_t sandbox = sim_sandbox_parse(id);
    struct sim_point_id point = {.sandbox = sandbox};
    uint32_t best = 0, had = 0;

    sim_sandbox_text(text, sandbox);
    known = sim_check_known(&world->check, sandbox);
    if (known->durable == 0 || known->kill_us ||
        sched_state_tombstone(node->state, SCHED_TOMBSTONE_SANDBOX, text) ||
        is_listed(node->state, text, known->durable)) {
        return;
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_store *store = &world->nodes[i].store;

        for (uint32_t k = 0; k < store->manifest_count; k++) {
            const struct sim_manifest *m = &store->manifests[k];

            if (m->point.sandbox == sandbox && m->point.count >= known->durable &&
                sim_copy_row(node->state, &m->point)) {
                best = SHL_MAX(best, count_copies(world, &m->point, UINT32_MAX, 0));
            }
        }
    }
    point.epoch = strtoull(id + strlen(text) + 1, NULL, 16);
    point.count = strtoull(id + strlen(text) + 6, NULL, 16);
    had = point.count < known->durable ? 0 : count_copies(world, &point, UINT32_MAX, world->now_us);
    had = SHL_MIN(had, world->check.going);
    if (world->lost_voters) { /* a disk is gone, and maybe one of the promised copies with it */
        had = SHL_MIN(had, 1u);
    }
    if (best < SHL_MIN(had, world->tuning.copies)) {
        sim_check_fail(world, 10,
                       "%s goes, of which there are %u copies, and of sandbox %llx none from %llu "
                       "on has more than %u",
                       id, had, (ull)sandbox, (ull)known->durable, best);
    }
}

/*- Repair. */

/* Copies of nodes that may still come back are none that are lost. */
void sim_check_planned(struct sim_node *node, const struct sim_point_id *point, bool is_repair)
{
    struct sim_world *world = node->world;
    const struct sched_checkpoint *row = sim_copy_row(node->state, point);
    uint64_t now_ms = sim_node_now_ms(node);
    uint32_t copies = 0;

    world->check.repairs += is_repair;
    for (uint32_t i = 0; row && i < row->holder_count; i++) {
        const struct gossip_member *member = gossip_member_find(node->gossip, &row->holders[i]);
        const struct sched_node *holder = sched_state_node(node->state, &row->holders[i]);

        if (holder && !holder->draining.on && member && member->life != GOSSIP_REMOVED &&
            member->life != GOSSIP_UNHEARD &&
            !(member->life == GOSSIP_DEAD && now_ms - member->since_ms >= world->tuning.grace_ms)) {
            copies += !shl_node_id_equal(&row->holders[i], &node->id);
        }
    }
    if (row && is_repair && copies >= row->wanted) {
        sim_check_fail(world, 10, "n%u repairs %llx.%llu.%llu, of which %u copies may be there",
                       node->index, (ull)point->sandbox, (ull)point->epoch, (ull)point->count,
                       copies);
    }
}

/*- Faults are placed so that what was promised has a good copy left: the rest is for R - 1 losses. */

bool sim_check_has_other(const struct sim_world *world,
                         uint32_t slot,
                         uint64_t sandbox,
                         uint64_t epoch,
                         uint64_t count)
{
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *node = &world->nodes[i];
        bool is_lost = node->gone || (world->lost_voters >> i & 1); /* or is being removed */

        for (uint32_t k = 0; i != slot && !is_lost && k < node->store.manifest_count; k++) {
            const struct sim_manifest *m = &node->store.manifests[k];

            if (m->point.sandbox == sandbox && m->durable && !m->leaving &&
                (epoch == 0 ? m->point.count >= count
                            : m->point.epoch == epoch && m->point.count == count) &&
                sim_store_is_whole(node, m, true)) {
                return true;
            }
        }
    }
    return false;
}

bool sim_check_may_lose(const struct sim_world *world, uint32_t slot)
{
    for (size_t i = 0; i < world->check.known_count; i++) {
        const struct sim_known *known = &world->check.known[i];

        if (known->durable > 0 && known->kill_us == 0 &&
            !sim_check_has_other(world, slot, known->id, 0, known->durable)) {
            return false;
        }
    }
    return true;
}

bool sim_check_may_rot(const struct sim_world *world, uint32_t slot, uint64_t key)
{
    const struct sim_node *node = &world->nodes[slot];

    for (uint32_t i = 0; i < node->store.manifest_count; i++) {
        const struct sim_manifest *m = &node->store.manifests[i];

        if (sim_manifest_names(m, key) &&
            !sim_check_has_other(world, slot, m->point.sandbox, m->point.epoch, m->point.count)) {
            return false;
        }
    }
    return true;
}
