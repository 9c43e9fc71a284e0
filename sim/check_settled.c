/* In the end: R copies again, in as many failure domains as there are, and nothing left over: 10,
 * 11, 12, 14, 26. See sim/check.h. */
#include <stdio.h>
#include <string.h>

#include "sim/check.h"
#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/world.h"

typedef unsigned long long ull;

static bool wait_for(struct sim_world *world, const struct sim_point_id *point, const char *what)
{
    snprintf(world->check.waiting, sizeof(world->check.waiting), "%llx.%llu.%llu: %s",
             (ull)point->sandbox, (ull)point->epoch, (ull)point->count, what);
    return false;
}

/*- What is lost. Faults take at most R - 1 copies of what was promised; of the rest they may take all,
 * or leave one that has rotted: that stays as it is, and whoever is to have a copy asks for it now
 * and then. */

/* Neither @asker has it, nor a node that has the point. */
static bool is_chunk_gone(const struct sim_node *asker,
                          const struct sim_point_id *point,
                          uint64_t key)
{
    for (uint32_t i = 0; i < asker->world->node_count; i++) {
        const struct sim_node *node = &asker->world->nodes[i];
        bool asked = node == asker || (!node->gone && sim_store_find(node, point));
        const struct sim_chunk *chunk = asked ? sim_store_chunk(node, key) : NULL;

        if (chunk && sim_chunk_key(chunk->data) == key) {
            return false;
        }
    }
    return true;
}

static bool is_lost(const struct sim_node *asker, const struct sim_point_id *point)
{
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        if (is_chunk_gone(asker, point, sim_chunk_key(sim_point_chunk(point, i)))) {
            return true;
        }
    }
    return false;
}

/* What was told to be durable, or something later, is whole on some disk. */
static bool is_promise_kept(struct sim_world *world, const struct sim_known *known)
{
    const struct sim_point_id point = {known->id, 0, known->durable};

    return known->durable == 0 || known->kill_us ||
           sim_check_has_other(world, UINT32_MAX, known->id, 0, known->durable) ||
           wait_for(world, &point, "was told to be durable, and is lost");
}

static bool takes_copies(const struct sim_node *node, const struct sim_node *viewer)
{
    const struct sched_node *row = sched_state_node(viewer->state, &node->id);

    return row && node->up && !node->gone && row->spec.role != SCHED_ROLE_WITNESS &&
           !row->draining.on;
}

static uint32_t domain_of(const struct sim_world *world, uint32_t slot)
{
    for (uint32_t i = 0; i < slot; i++) {
        if (world->nodes[slot].domain[0] &&
            strcmp(world->nodes[i].domain, world->nodes[slot].domain) == 0) {
            return i;
        }
    }
    return slot;
}

struct tally {
    uint32_t nodes, copies;
    uint64_t domains, used; /* sets */
};

static void take_tally(const struct sim_world *world,
                       const struct sim_node *viewer,
                       const struct sim_point_id *point,
                       struct tally *t)
{
    *t = (struct tally){0};
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *node = &world->nodes[i];
        const struct sim_manifest *m = sim_store_find(node, point);
        bool holds = m && m->durable && !m->leaving;

        if (!takes_copies(node, viewer)) {
            continue;
        }
        t->nodes++;
        t->domains |= UINT64_C(1) << domain_of(world, i);
        if (holds && sim_store_is_whole(node, m, true)) {
            t->copies++;
            t->used |= UINT64_C(1) << domain_of(world, i);
        }
    }
}

static void row_point(const struct sched_checkpoint *row, struct sim_point_id *ret)
{
    struct ckpt_id manifest;

    memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
    sim_point_of_manifest(&manifest, ret);
}

static bool is_row_settled(struct sim_world *world,
                           const struct sim_node *viewer,
                           const struct sched_checkpoint *row)
{
    struct sim_point_id point;
    struct tally t;
    uint32_t domains = 0;

    row_point(row, &point);
    take_tally(world, viewer, &point, &t);
    if (is_lost(viewer, &point)) {
        return true; /* none of it was promised: is_promise_kept */
    }
    if (t.copies < SHL_MIN(row->wanted, t.nodes)) {
        return wait_for(world, &point, "has too few copies");
    }
    domains = (uint32_t)__builtin_popcountll(t.domains);
    if ((uint32_t)__builtin_popcountll(t.used) < SHL_MIN(SHL_MIN(row->wanted, t.nodes), domains)) {
        return wait_for(world, &point, "has its copies in too few failure domains");
    }
    return true;
}

/* A sandbox that can be brought back from nothing; its leader asks some node each second. */
static bool waits_for_lost(const struct sim_node *node, const struct sim_sandbox *sandbox)
{
    struct sim_point point, newest;

    sim_copy_choose(node, sandbox->id, NULL, &point, &newest);
    return sandbox->status == SIM_SANDBOX_MOVED && point.there && is_lost(node, &point.id);
}

/* What waits for an answer: orders, and those who asked for a sandbox. */
static bool is_asking(const struct sim_node *node)
{
    for (uint32_t i = 0; i < node->task_count; i++) {
        if (node->tasks[i].used && node->tasks[i].kind != SIM_TASK_LEASE) {
            return true;
        }
    }
    for (uint32_t i = 0; i < node->sandbox_count; i++) {
        const struct sim_sandbox *sandbox = &node->sandboxes[i];

        if (sandbox->kill.there || (sandbox->wake.there && !waits_for_lost(node, sandbox))) {
            return true;
        }
    }
    return false;
}

/* By a point that is here, or one that comes in parts and never as a whole. */
static bool is_needed(const struct sim_node *node, uint64_t key)
{
    for (uint32_t i = 0; i < node->store.manifest_count; i++) {
        if (sim_manifest_names(&node->store.manifests[i], key)) {
            return true;
        }
    }
    for (size_t i = 0; i < sched_state_count(node->state, SCHED_TABLE_CHECKPOINTS); i++) {
        struct sim_point_id point;

        row_point(sched_state_at(node->state, SCHED_TABLE_CHECKPOINTS, i), &point);
        for (uint32_t k = 0; k < SIM_POINT_CHUNKS; k++) {
            if (sim_chunk_key(sim_point_chunk(&point, k)) == key && is_lost(node, &point)) {
                return true;
            }
        }
    }
    return false;
}

static bool is_node_settled(struct sim_world *world, const struct sim_node *node)
{
    const struct sim_store *store = &node->store;

    if (is_asking(node)) {
        snprintf(world->check.waiting, sizeof(world->check.waiting),
                 "n%u: something waits for an answer, without end", node->index);
        return false;
    }

    if (!sim_replica_is_idle(node, is_lost)) {
        snprintf(world->check.waiting, sizeof(world->check.waiting),
                 "n%u: fetches or drops copies, without end", node->index);
        return false;
    }
    for (uint32_t i = 0; i < store->manifest_count; i++) {
        const struct sim_manifest *m = &store->manifests[i];
        const struct sched_checkpoint *row = sim_copy_row(node->state, &m->point);

        if (row && sched_state_tombstone(node->state, SCHED_TOMBSTONE_SANDBOX, row->sandbox)) {
            return wait_for(world, &m->point, "is of a sandbox that was deleted");
        }
        if (row && !sim_store_is_whole(node, m, true) && !is_lost(node, &m->point)) {
            return wait_for(world, &m->point, "has rotted, and is not mended");
        }
        if (!row && !sim_sandbox_find(node, m->point.sandbox)) {
            return wait_for(world, &m->point, "is kept, and nobody needs it");
        }
    }
    for (uint32_t i = 0; i < store->chunk_count; i++) {
        if (!is_needed(node, store->chunks[i].key)) {
            snprintf(world->check.waiting, sizeof(world->check.waiting),
                     "n%u: chunk %llx is kept, and nothing names it", node->index,
                     (ull)store->chunks[i].key);
            return false;
        }
    }
    return true;
}

bool sim_check_settled(struct sim_world *world)
{
    const struct sim_node *viewer = NULL;

    for (size_t i = 0; i < world->check.known_count; i++) {
        if (!is_promise_kept(world, &world->check.known[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *node = &world->nodes[i];

        if (!node->up || node->gone || node->copy_of) {
            continue;
        }
        if (!is_node_settled(world, node)) {
            return false;
        }
        viewer = viewer ? viewer : node;
    }
    for (size_t i = 0; viewer && i < sched_state_count(viewer->state, SCHED_TABLE_CHECKPOINTS);
         i++) {
        if (!is_row_settled(world, viewer,
                            sched_state_at(viewer->state, SCHED_TABLE_CHECKPOINTS, i))) {
            return false;
        }
    }
    return true;
}
