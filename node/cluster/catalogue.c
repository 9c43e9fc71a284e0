/* The catalogue as this node looks things up in it, and what follows when a row goes. Noted from
 * inside the log's step, acted on in the next turn of the loop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/replicas_private.h"

#define SWEEP_MAX 1000 /* deleted ids looked at in one turn */

/*- Orders of the index. */

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct catalogue_ref *)a)->id, ((const struct catalogue_ref *)b)->id);
}

static int by_manifest(const void *a, const void *b)
{
    const struct catalogue_ref *left = a, *right = b;
    int order = memcmp(&left->manifest, &right->manifest, sizeof(left->manifest));

    return order ? order : by_id(a, b);
}

static int by_sandbox(const void *a, const void *b)
{
    int order = strcmp(((const struct catalogue_ref *)a)->sandbox,
                       ((const struct catalogue_ref *)b)->sandbox);

    return order ? order : by_id(a, b);
}

void catalogue_init(struct cluster_replicas *r)
{
    r->by_id.compare = by_id;
    r->deleted.compare = by_id;
    r->by_manifest.compare = by_manifest;
    r->by_sandbox.compare = by_sandbox;
}

static void free_all(struct sorted *set)
{
    size_t i;

    for (i = 0; i < set->count; i++) {
        free(set->items[i]);
    }
    sorted_release(set);
}

void catalogue_release(struct cluster_replicas *r)
{
    sorted_release(&r->by_manifest);
    sorted_release(&r->by_sandbox);
    free_all(&r->by_id);
    free_all(&r->deleted);
}

/*- Looking up. */

const struct catalogue_ref *catalogue_of_manifest(const struct cluster_replicas *r,
                                                  const struct ckpt_id *manifest)
{
    const struct catalogue_ref key = {.manifest = *manifest};
    size_t at = sorted_seek(&r->by_manifest, &key);
    const struct catalogue_ref *ref = at < r->by_manifest.count ? r->by_manifest.items[at] : NULL;

    return ref && ckpt_id_equal(&ref->manifest, manifest) ? ref : NULL;
}

const struct sched_checkpoint *catalogue_row(const struct cluster_replicas *r,
                                             const struct catalogue_ref *ref)
{
    return r->c->state ? sched_state_checkpoint(r->c->state, ref->id) : NULL;
}

bool catalogue_names(const struct sched_checkpoint *row, const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < row->holder_count; i++) {
        if (shl_node_id_equal(&row->holders[i], node)) {
            return true;
        }
    }
    return false;
}

/*- Rows come and go. */

static void note(struct cluster_replicas *r, const char *id, const char *sandbox)
{
    if (r->change_count < REPLICA_CHANGES_MAX) {
        (void)snprintf(r->changes[r->change_count][0], SCHED_ID_SIZE, "%s", id);
        (void)snprintf(r->changes[r->change_count][1], SCHED_ID_SIZE, "%s", sandbox);
    }
    if (r->change_count <= REPLICA_CHANGES_MAX) {
        r->change_count++;
    }
    replicas_soon(r);
}

static void note_anything(struct cluster_replicas *r)
{
    r->change_count = REPLICA_CHANGES_MAX + 1;
    replicas_soon(r);
}

static int add(struct cluster_replicas *r, const struct sched_checkpoint *row)
{
    struct catalogue_ref *ref = calloc(1, sizeof(*ref));

    if (!ref) {
        return -ENOMEM;
    }
    memcpy(ref->id, row->id, sizeof(ref->id));
    memcpy(ref->sandbox, row->sandbox, sizeof(ref->sandbox));
    memcpy(&ref->manifest, row->manifest, sizeof(ref->manifest));
    if (sorted_insert(&r->by_id, ref) < 0) {
        free(ref);
        return -ENOMEM;
    }
    if (sorted_insert(&r->by_manifest, ref) < 0 || sorted_insert(&r->by_sandbox, ref) < 0) {
        sorted_remove(&r->by_manifest, ref);
        sorted_remove(&r->by_id, ref);
        free(ref);
        return -ENOMEM;
    }
    return 0;
}

static void take_away(struct cluster_replicas *r, struct catalogue_ref *ref)
{
    sorted_remove(&r->by_id, ref);
    sorted_remove(&r->by_manifest, ref);
    sorted_remove(&r->by_sandbox, ref);
    note(r, ref->id, ref->sandbox);
    if (sorted_find(&r->deleted, ref) || sorted_insert(&r->deleted, ref) < 0) {
        free(ref); /* its copy is dropped after the next start */
    }
}

static struct catalogue_ref *find(const struct cluster_replicas *r, const char *id)
{
    struct catalogue_ref key;

    (void)snprintf(key.id, sizeof(key.id), "%s", id);
    return sorted_find(&r->by_id, &key);
}

static void on_put(struct cluster_replicas *r, const char *id)
{
    const struct sched_checkpoint *row = sched_state_checkpoint(r->c->state, id);

    if (row && !find(r, id) && add(r, row) < 0) {
        r->is_stale = true;
    }
    if (row) {
        note(r, id, row->sandbox);
    }
}

static void on_holder(struct cluster_replicas *r, const char *id)
{
    const struct catalogue_ref *ref = find(r, id);

    if (ref) {
        note(r, id, ref->sandbox);
    }
}

static void on_delete(struct cluster_replicas *r, const char *id)
{
    struct catalogue_ref *ref = find(r, id);

    if (ref) {
        take_away(r, ref);
    }
}

void catalogue_applied(struct cluster_replicas *r, const struct sched_command *command)
{
    switch (command->kind) {
    case SCHED_CHECKPOINT_PUT:
        on_put(r, command->u.checkpoint.id);
        break;
    case SCHED_CHECKPOINT_HOLDER:
        on_holder(r, command->u.checkpoint_holder.id);
        break;
    case SCHED_CHECKPOINT_WANTED:
        on_holder(r, command->u.checkpoint_wanted.id);
        break;
    case SCHED_CHECKPOINT_DELETE:
        on_delete(r, command->u.checkpoint_delete.id);
        break;
    case SCHED_NODE_JOIN:
    case SCHED_NODE_MARK:
    case SCHED_NODE_REMOVE:
    case SCHED_NODE_UPDATE:
        note_anything(r);
        break;
    case SCHED_OWNER_REGISTER:
    case SCHED_OWNER_CLAIM:
    case SCHED_OWNER_DELETE:
        replicas_survey(r);
        break;
    default:
        break;
    }
}

void catalogue_load(struct cluster_replicas *r)
{
    size_t count = sched_state_count(r->c->state, SCHED_TABLE_CHECKPOINTS), i;

    r->is_stale = false;
    for (i = r->by_id.count; i > 0; i--) {
        struct catalogue_ref *ref = r->by_id.items[i - 1];
        const struct sched_checkpoint *row = catalogue_row(r, ref);

        if (!row || memcmp(row->manifest, &ref->manifest, sizeof(ref->manifest)) != 0) {
            take_away(r, ref);
        }
    }
    for (i = 0; i < count; i++) {
        const struct sched_checkpoint *row =
            sched_state_at(r->c->state, SCHED_TABLE_CHECKPOINTS, i);

        if (!find(r, row->id) && add(r, row) < 0) {
            r->is_stale = true;
            break;
        }
    }
    note_anything(r);
}

/*- What follows. */

/* Deleted by somebody: this node's record and copy go. Before the store was looked through it may
 * have one that is not known. */
static void forget(struct cluster_replicas *r, const struct catalogue_ref *ref)
{
    const struct replica_copy *copy;

    node_artefact_forget(r->c->manager, ref->id);
    copy = replica_copy_find(r, &ref->manifest);
    if ((copy || !r->is_scanned) && !catalogue_of_manifest(r, &ref->manifest) &&
        !replica_is_fetching(r, &ref->manifest) && !catalogue_is_told(r, &ref->manifest)) {
        replica_copy_drop(r, &ref->manifest, false);
    }
}

/* What was deleted while this node was away. Its records know nothing of that. */
static void sweep(struct cluster_replicas *r)
{
    size_t count = sched_state_count(r->c->state, SCHED_TABLE_TOMBSTONES), looked = 0;

    for (; r->tombstones_seen < count && looked < SWEEP_MAX; r->tombstones_seen++, looked++) {
        const struct sched_tombstone *stone =
            sched_state_at(r->c->state, SCHED_TABLE_TOMBSTONES, r->tombstones_seen);
        char id[SCHED_ID_SIZE];

        if (stone->kind == SCHED_TOMBSTONE_CHECKPOINT) {
            memcpy(id, stone->id, sizeof(id));
            node_artefact_forget(r->c->manager, id);
        }
    }
    r->is_swept = r->tombstones_seen >= count;
    if (!r->is_swept) {
        replicas_soon(r);
    }
}

static void tell(struct cluster_replicas *r)
{
    uint32_t count = r->change_count, i;

    r->change_count = 0; /* what is changed from here on is told next time */
    if (!r->changed) {
        return;
    }
    if (count > REPLICA_CHANGES_MAX) {
        r->changed(r->changed_arg, NULL, NULL);
        return;
    }
    for (i = 0; i < count; i++) {
        char id[SCHED_ID_SIZE], sandbox[SCHED_ID_SIZE];

        memcpy(id, r->changes[i][0], sizeof(id));
        memcpy(sandbox, r->changes[i][1], sizeof(sandbox));
        r->changed(r->changed_arg, id, sandbox);
    }
}

void catalogue_settle(struct cluster_replicas *r)
{
    if (r->is_stale && r->c->state) {
        catalogue_load(r);
    }
    while (r->deleted.count > 0) {
        struct catalogue_ref *ref = r->deleted.items[r->deleted.count - 1];

        sorted_remove(&r->deleted, ref);
        if (!find(r, ref->id) && r->store) {
            forget(r, ref);
        }
        free(ref);
    }
    if (r->is_caught_up && !r->is_swept && r->store) {
        sweep(r);
    }
    if (r->change_count > 0) {
        replicas_survey(r);
        tell(r);
    }
}
