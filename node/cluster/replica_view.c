/* What the planner sees: nodes from log and gossip, entries from the catalogue, and of this node
 * what its store has. Pure but for memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

/*- Nodes. */

/* GiB, rounded down to three bits: a small change of a disk moves no copies. */
uint32_t replica_view_weight(uint64_t disk_mb)
{
    uint64_t weight = SHL_MIN(disk_mb >> 10, (uint64_t)CKPT_REPLICA_WEIGHT_MAX), step = 1;

    while (weight / step >= 8) {
        step *= 2;
    }
    return weight == 0 ? 1 : (uint32_t)(weight / step * step);
}

static bool figures_of(const struct gossip *gossip,
                       const struct shl_node_id *id,
                       struct cluster_figures *ret)
{
    const struct gossip_record *record = gossip_record_get(gossip, id, CLUSTER_KEY_NODE);

    return record && cluster_wire_read_figures(record->value, ret) == 0;
}

bool replica_view_is_full(const struct cluster_figures *f)
{
    return f->disk_free_mb < REPLICA_DISK_FULL_MB ||
           f->disk_free_mb < f->disk_total_mb / REPLICA_DISK_FULL_SHARE;
}

/* One that said good-bye has announced a restart: one that goes for good is removed. One that was
 * never heard of since this node started has been dead since then, if it is. */
static void set_life(const struct replica_view_source *source,
                     const struct gossip_member *member,
                     struct ckpt_plan_node *node)
{
    node->since_ms = member ? member->since_ms : source->opened_at_ms;
    switch (member ? member->life : GOSSIP_UNHEARD) {
    case GOSSIP_ALIVE:
        node->life = CKPT_PLAN_ALIVE;
        node->flapping = !gossip_is_placeable(source->gossip, &node->id, source->now_ms);
        break;
    case GOSSIP_SUSPECT:
        node->life = CKPT_PLAN_SUSPECT;
        break;
    case GOSSIP_LEFT:
        node->planned = true;
        node->life = CKPT_PLAN_DEAD;
        break;
    case GOSSIP_UNHEARD:
        node->since_ms = source->opened_at_ms;
        node->life = source->now_ms - source->opened_at_ms < REPLICA_HEAR_MS ? CKPT_PLAN_SUSPECT
                                                                             : CKPT_PLAN_DEAD;
        break;
    case GOSSIP_DEAD:
    case GOSSIP_REMOVED:
        node->life = CKPT_PLAN_DEAD;
        break;
    }
}

static void add_node(const struct replica_view_source *source,
                     const struct sched_node *row,
                     struct replica_view *view)
{
    struct ckpt_plan_node *node = &view->nodes[view->node_count++];
    bool is_self = shl_node_id_equal(&row->spec.id, &source->self);
    const struct gossip_member *member = gossip_member_find(source->gossip, &row->spec.id);
    struct cluster_figures figures;

    memset(node, 0, sizeof(*node));
    node->id = row->spec.id;
    node->domain = row->spec.domain;
    node->draining = row->draining.on;
    set_life(source, member, node);
    if (is_self) {
        node->life = CKPT_PLAN_ALIVE; /* also while it is leaving */
        view->has_self = true;
    } else if (node->life == CKPT_PLAN_SUSPECT && (!member || member->life == GOSSIP_UNHEARD)) {
        view->is_heard = false;
    }
    if (row->spec.role == SCHED_ROLE_WITNESS) {
        return;
    }
    view->others += !is_self;
    if (figures_of(source->gossip, &node->id, &figures)) {
        node->weight = replica_view_weight(figures.disk_total_mb);
        node->full = replica_view_is_full(&figures);
    } else {
        node->weight = 1;
        view->is_measured &= node->life != CKPT_PLAN_ALIVE;
    }
}

static void add_nodes(const struct replica_view_source *source, struct replica_view *view)
{
    size_t count = sched_state_count(source->state, SCHED_TABLE_NODES), i;
    uint32_t live = 0;

    view->is_heard = view->is_measured = true;
    for (i = 0; i < count && i < CKPT_REPLICA_NODES_MAX; i++) {
        const struct sched_node *row = sched_state_at(source->state, SCHED_TABLE_NODES, i);
        const struct gossip_member *member;

        add_node(source, row, view);
        member = gossip_member_find(source->gossip, &row->spec.id);
        live += member && (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT);
    }
    view->is_majority = live * 2 > view->node_count;
}

/*- Entries. */

/* The log says who may run it; for others gossip says who has it. Without either the copy of the
 * first holder stays where it is. */
static struct shl_node_id owner_of(const struct replica_view_source *source,
                                   const struct sched_checkpoint *row)
{
    const struct sched_owner *owner = sched_state_owner(source->state, row->sandbox);
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    const struct gossip_record *record;
    struct shl_node_id none = {{0}};

    if (row->kind == SCHED_CHECKPOINT_ARTEFACT) {
        return none;
    }
    if (owner) {
        return owner->owner;
    }
    if (snprintf(key, sizeof(key), CLUSTER_KEY_SANDBOX "%s", row->sandbox) < (int)sizeof(key)) {
        record = gossip_key_first(source->gossip, key);
        if (record) {
            return record->node;
        }
    }
    return row->holder_count > 0 ? row->holders[0] : none;
}

static void add_holder(struct ckpt_plan_entry *entry,
                       struct shl_node_id *holders,
                       const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < entry->holder_count; i++) {
        if (shl_node_id_equal(&holders[i], node)) {
            return;
        }
    }
    holders[entry->holder_count++] = *node;
}

static void add_row(const struct replica_view_source *source,
                    const struct sched_checkpoint *row,
                    bool is_first,
                    struct ckpt_plan_entry *entry,
                    struct shl_node_id *holders)
{
    uint32_t i;

    if (is_first) {
        entry->owner = owner_of(source, row);
    }
    entry->bytes = SHL_MAX(entry->bytes, row->bytes);
    entry->copies = SHL_MIN(SHL_MAX(entry->copies, row->wanted), (uint32_t)CKPT_REPLICA_COPIES_MAX);
    for (i = 0; i < row->holder_count; i++) {
        if (!shl_node_id_equal(&row->holders[i], &source->self)) {
            add_holder(entry, holders, &row->holders[i]);
        }
    }
}

static void add_own(const struct replica_view_source *source,
                    struct ckpt_plan_entry *entry,
                    struct shl_node_id *holders)
{
    const struct replica_copy key = {.manifest = entry->manifest};
    const struct replica_copy *copy = sorted_find(source->copies, &key);

    if (copy && !copy->is_leaving) {
        add_holder(entry, holders, &source->self);
        if (copy->is_made) {
            entry->owner = source->self;
        }
    }
}

static int add_entries(const struct replica_view_source *source, struct replica_view *view)
{
    size_t count = source->by_manifest->count, room = 0, i = 0;
    struct shl_node_id *holders;

    for (i = 0; i < count; i++) {
        const struct catalogue_ref *ref = source->by_manifest->items[i];
        const struct sched_checkpoint *row = sched_state_checkpoint(source->state, ref->id);

        room += 1 + (row ? row->holder_count : 0);
    }
    view->entries = calloc(count + 1, sizeof(*view->entries));
    view->holders = holders = calloc(room + 1, sizeof(*holders));
    if (!view->entries || !holders) {
        return -ENOMEM;
    }
    for (i = 0; i < count;) {
        const struct catalogue_ref *ref = source->by_manifest->items[i];
        struct ckpt_plan_entry *entry = &view->entries[view->entry_count];
        bool is_first = true;

        entry->manifest = ref->manifest;
        do {
            const struct sched_checkpoint *row = sched_state_checkpoint(source->state, ref->id);

            if (row) {
                add_row(source, row, is_first, entry, holders);
                is_first = false;
            }
            ref = ++i < count ? source->by_manifest->items[i] : NULL;
        } while (ref && ckpt_id_equal(&ref->manifest, &entry->manifest));
        if (is_first) {
            memset(entry, 0, sizeof(*entry));
            continue; /* no row any more; heard of in a moment */
        }
        add_own(source, entry, holders);
        entry->holders = holders;
        holders += entry->holder_count;
        view->entry_count++;
    }
    return 0;
}

int replica_view_make(const struct replica_view_source *source, struct replica_view *ret)
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    add_nodes(source, ret);
    rc = add_entries(source, ret);
    if (rc < 0) {
        replica_view_release(ret);
    }
    return rc;
}

void replica_view_release(struct replica_view *view)
{
    free(view->entries);
    free(view->holders);
    view->entries = NULL;
    view->holders = NULL;
}
