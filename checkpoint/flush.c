/* Appended records to disk, then into the index, in this order. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/internal.h"

/* After a failed fsync nobody knows what of the segment is on disk: what was not indexed
 * yet is taken as lost, and the segment gets no more records. Lock held. */
static void poison(struct ckpt_store *store, struct ckpt_segment *segment)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &store->table.pending) {
        struct ckpt_slot *slot = shl_container_of(it, struct ckpt_slot, pending_link);
        struct ckpt_place before;

        if (slot->place.segment != segment->number) {
            continue;
        }
        /* A record that was being moved is still where it was. */
        if (slot->indexed &&
            ckpt_index_get(store->index, CKPT_KIND_CHUNK, &slot->id, &before, NULL) == 0 &&
            before.segment != segment->number) {
            slot->place = before;
        } else {
            slot->place.segment = 0; /* nowhere */
        }
        ckpt_table_set_pending(&store->table, slot, false);
        ckpt_table_drop(&store->table, slot);
    }
    store->poison_count++;
    segment->synced = segment->bytes;
    if (segment == store->active) {
        ckpt_segment_retire(store);
    }
}

int ckpt_sync_segments(struct ckpt_store *store, struct shl_err *err)
{
    struct ckpt_segment *segment;
    uint64_t target;
    size_t i = 0;
    int rc = 0;

    (void)pthread_mutex_lock(&store->lock);
    while (rc == 0 && i < store->segment_count) {
        uint32_t number = store->segments[i]->number;

        target = store->segments[i]->bytes;
        if (store->segments[i]->synced >= target) {
            i++;
            continue;
        }
        rc = ckpt_segment_ref(store, number, &segment, err);
        if (rc < 0) {
            break;
        }
        (void)pthread_mutex_unlock(&store->lock);
        rc = fdatasync(segment->fd) < 0 ? -errno : 0;
        (void)pthread_mutex_lock(&store->lock);
        if (rc < 0) {
            (void)shl_err_sys(err, -rc, "cannot sync the checkpoint store in %s", store->dir);
            poison(store, segment);
        } else {
            segment->synced = SHL_MAX(segment->synced, target);
        }
        ckpt_segment_unref(store, segment);
        for (i = 0; i < store->segment_count && store->segments[i]->number <= number; i++) {
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

uint64_t ckpt_poison_count(struct ckpt_store *store)
{
    uint64_t count;

    (void)pthread_mutex_lock(&store->lock);
    count = store->poison_count;
    (void)pthread_mutex_unlock(&store->lock);
    return count;
}

/* Copy of what is pending and up to where that is everything. Lock held. */
static int take_pending(struct ckpt_store *store,
                        struct ckpt_item **ret_items,
                        size_t *ret_count,
                        struct ckpt_position *ret_position)
{
    size_t count = 0;
    struct shl_list *it;
    struct ckpt_item *items = malloc((store->table.pending_count + 1) * sizeof(*items));

    if (!items) {
        return -ENOMEM;
    }
    SHL_LIST_FOREACH(it, &store->table.pending) {
        const struct ckpt_slot *slot = shl_container_of(it, struct ckpt_slot, pending_link);

        items[count++] = (struct ckpt_item){slot->id, slot->place};
    }
    *ret_position = store->active
                        ? (struct ckpt_position){store->active->number, store->active->bytes}
                        : (struct ckpt_position){store->next_number, 0};
    *ret_items = items;
    *ret_count = count;
    return 0;
}

/* What was written to the index is pending no more, unless it changed meanwhile. Lock held. */
static void settle(struct ckpt_store *store, const struct ckpt_item *items, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        struct ckpt_slot *slot = ckpt_table_find(&store->table, &items[i].id);

        if (!slot) {
            continue;
        }
        store->chunk_count += !slot->indexed;
        slot->indexed = true;
        if (slot->pending && ckpt_place_same(&slot->place, &items[i].place) &&
            slot->place.damaged == items[i].place.damaged) {
            ckpt_table_set_pending(&store->table, slot, false);
            ckpt_table_drop(&store->table, slot);
        }
    }
}

static int write_index(struct ckpt_store *store,
                       const struct ckpt_item *items,
                       size_t count,
                       const struct ckpt_position *position,
                       struct shl_err *err)
{
    struct ckpt_batch *batch = ckpt_batch_new();
    size_t i;
    int rc;

    for (i = 0; i < count; i++) {
        ckpt_batch_put(batch, CKPT_KIND_CHUNK, &items[i].id, &items[i].place);
    }
    ckpt_batch_position(batch, position);
    rc = ckpt_index_write(store->index, batch, true, err);
    ckpt_batch_free(batch);
    return rc;
}

int ckpt_flush_locked(struct ckpt_store *store, struct shl_err *err)
{
    struct ckpt_position position;
    struct ckpt_item *items = NULL;
    uint64_t poison_count;
    size_t count = 0;
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    poison_count = store->poison_count;
    rc = take_pending(store, &items, &count, &position);
    (void)pthread_mutex_unlock(&store->lock);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot flush the checkpoint store");
    }
    rc = ckpt_sync_segments(store, err);
    if (rc == 0 && ckpt_poison_count(store) != poison_count) {
        /* Another thread's fsync failed over what was to be indexed here. */
        rc = shl_err_sys(err, EIO, "cannot sync the checkpoint store in %s", store->dir);
    }
    if (rc == 0) {
        ckpt_step(store, "synced");
        rc = write_index(store, items, count, &position, err);
    }
    if (rc == 0) {
        ckpt_step(store, "indexed");
        (void)pthread_mutex_lock(&store->lock);
        settle(store, items, count);
        (void)pthread_mutex_unlock(&store->lock);
    }
    free(items);
    return rc;
}

int ckpt_flush(struct ckpt_store *store, struct shl_err *err)
{
    int rc;

    (void)pthread_mutex_lock(&store->flush_lock);
    rc = ckpt_flush_locked(store, err);
    (void)pthread_mutex_unlock(&store->flush_lock);
    return rc;
}
