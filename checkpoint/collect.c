/* Collection: mark what is in use, sweep the rest, rewrite segments that got empty.
 *
 *   1. Mark. From here on every pin that is let go adds its chunk to the marks, so what
 *      a session puts or finds and publishes meanwhile is kept. Marks come from the
 *      published manifests and from readers' pins.
 *   2. Sweep the index: an entry that is neither marked nor in memory (pinned, pending) is
 *      removed; the check and the removal are one step under the lock a put looks up with.
 *   3. Segments with little in use: their records are copied to the end of the log,
 *      synced and indexed; then the files are removed. A crash leaves two copies at most.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "checkpoint/internal.h"

struct collection {
    struct ckpt_store *store;
    struct ckpt_collect_stats *stats;
    struct shl_err *err;
    struct ckpt_idset marks;
    struct ckpt_item *items; /* of the batch being looked at */
    struct ckpt_item *manifests;
    size_t manifest_count;
    uint8_t *body; /* of a record being moved */
    uint64_t moved_bytes;
};

/* Calls @each for all entries of @kind, in batches. */
static int for_batches(struct collection *collection,
                       enum ckpt_kind kind,
                       int (*each)(struct collection *collection, int count))
{
    struct ckpt_id cursor;
    bool first = true;
    int count, rc = 0;

    do {
        count = ckpt_index_list(collection->store->index, kind, first ? NULL : &cursor,
                                collection->items, CKPT_LIST_BATCH, collection->err);
        if (count > 0) {
            cursor = collection->items[count - 1].id;
            first = false;
        }
        rc = count < 0 ? count : each(collection, count);
    } while (rc == 0 && count == CKPT_LIST_BATCH);
    return rc;
}

/*- 1. Mark. */

static int list_manifests(struct collection *collection, int count)
{
    struct ckpt_item *grown =
        realloc(collection->manifests,
                (collection->manifest_count + (size_t)count + 1) * sizeof(*grown));

    if (!grown) {
        return shl_err_sys(collection->err, ENOMEM, "cannot list the manifests");
    }
    collection->manifests = grown;
    memcpy(grown + collection->manifest_count, collection->items, (size_t)count * sizeof(*grown));
    collection->manifest_count += (size_t)count;
    return 0;
}

/* The chunks readers hold, and from now on all that is let go. */
static int begin_marking(struct collection *collection)
{
    struct ckpt_store *store = collection->store;
    struct shl_list *it;
    int rc = 0;
    size_t i;

    (void)pthread_mutex_lock(&store->lock);
    store->marking = &collection->marks;
    store->marking_failed = false;
    SHL_LIST_FOREACH(it, &store->pins) {
        const struct ckpt_pin *pin = shl_container_of(it, struct ckpt_pin, link);

        for (i = 0; rc == 0 && i < pin->count; i++) {
            rc = ckpt_idset_add(&collection->marks, pin->prefixes[i]);
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return rc < 0 ? shl_err_sys(collection->err, -rc, "cannot mark what is in use") : 0;
}

static bool mark_one(void *arg, const struct ckpt_id *id)
{
    struct collection *collection = arg;
    struct ckpt_store *store = collection->store;
    bool ok;

    (void)pthread_mutex_lock(&store->lock);
    ok = ckpt_idset_add(&collection->marks, ckpt_id_prefix(id)) == 0;
    store->marking_failed |= !ok;
    (void)pthread_mutex_unlock(&store->lock);
    return ok;
}

static int mark_manifest(struct collection *collection, const struct ckpt_item *item)
{
    struct ckpt_manifest manifest;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_load(collection->store, &item->id, &item->place, &buf, collection->err);
    if (rc == 0) {
        rc = ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), collection->err);
    }
    shl_buf_release(&buf);
    if (rc == SHL_ECORRUPT) {
        /* Whatever is swept now could be what it names. */
        return shl_err_wrap(collection->err, rc,
                            "nothing can be collected until a damaged checkpoint is deleted or "
                            "written again");
    }
    if (rc < 0) {
        return rc;
    }
    (void)ckpt_manifest_ids(&manifest, mark_one, collection);
    ckpt_manifest_release(&manifest);
    return 0;
}

static int mark(struct collection *collection)
{
    struct ckpt_store *store = collection->store;
    size_t i;
    int rc;

    (void)pthread_mutex_lock(&store->gate);
    rc = begin_marking(collection);
    if (rc == 0) {
        rc = for_batches(collection, CKPT_KIND_MANIFEST, list_manifests);
    }
    (void)pthread_mutex_unlock(&store->gate);
    ckpt_step(store, "marking");
    for (i = 0; rc == 0 && i < collection->manifest_count; i++) {
        rc = mark_manifest(collection, &collection->manifests[i]);
    }
    return rc;
}

/*- 2. Sweep. */

/* What an entry that stays uses of its segment. Lock held. */
static void count_live(struct ckpt_store *store, const struct ckpt_place *place)
{
    struct ckpt_segment *segment = ckpt_segment_find(store, place->segment);

    if (segment) {
        segment->live += ckpt_record_bytes(place->stored_bytes);
    }
}

static bool stays(struct collection *collection, const struct ckpt_item *item)
{
    const struct ckpt_slot *slot;

    if (ckpt_idset_has(&collection->marks, &item->id)) {
        return true;
    }
    slot = ckpt_table_find(&collection->store->table, &item->id);
    collection->stats->kept_by_pins += slot && slot->pins > 0;
    return slot != NULL;
}

static int sweep_batch(struct collection *collection, int count)
{
    struct ckpt_store *store = collection->store;
    struct ckpt_batch *batch = ckpt_batch_new();
    uint64_t swept = 0, damaged = 0;
    int i, rc = 0;

    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < count; i++) {
        const struct ckpt_item *item = &collection->items[i];

        if (stays(collection, item)) {
            collection->stats->live_chunks++;
            count_live(store, &item->place);
        } else {
            ckpt_batch_delete(batch, CKPT_KIND_CHUNK, &item->id);
            damaged += item->place.damaged;
            swept++;
        }
    }
    if (store->marking_failed) {
        rc = shl_err_sys(collection->err, ENOMEM, "cannot mark what is in use");
    } else if (swept > 0) {
        rc = ckpt_index_write(store->index, batch, false, collection->err);
    }
    if (rc == 0) {
        store->chunk_count -= swept;
        store->damaged_count -= damaged;
        collection->stats->swept_chunks += swept;
    }
    (void)pthread_mutex_unlock(&store->lock);
    ckpt_batch_free(batch);
    ckpt_step(store, "swept");
    return rc;
}

static int count_manifests(struct collection *collection, int count)
{
    struct ckpt_store *store = collection->store;
    int i;

    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < count; i++) {
        count_live(store, &collection->items[i].place);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return 0;
}

static int sweep(struct collection *collection)
{
    struct ckpt_store *store = collection->store;
    size_t i;
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < store->segment_count; i++) {
        store->segments[i]->live = 0;
        store->segments[i]->victim = false;
    }
    (void)pthread_mutex_unlock(&store->lock);
    rc = for_batches(collection, CKPT_KIND_CHUNK, sweep_batch);
    return rc < 0 ? rc : for_batches(collection, CKPT_KIND_MANIFEST, count_manifests);
}

/*- 3. Rewrite. */

static bool is_victim(struct ckpt_store *store, const struct ckpt_place *place)
{
    const struct ckpt_segment *segment = ckpt_segment_find(store, place->segment);

    return segment && segment->victim;
}

/* Choose segments; the one that takes appends is closed first if it is among them. What
 * is pending is flushed afterwards, so that the index names all that they hold. */
static int choose(struct collection *collection, bool *ret_any)
{
    struct ckpt_store *store = collection->store;
    size_t i;

    *ret_any = false;
    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < store->segment_count; i++) {
        struct ckpt_segment *segment = store->segments[i];
        uint64_t used = segment->bytes - SHL_MIN(segment->bytes, CKPT_SEGMENT_HEADER_BYTES);

        if (segment == store->active && used == 0) {
            continue;
        }
        segment->victim = segment->live * 100 < used * CKPT_LIVE_PERCENT || used == 0;
        *ret_any |= segment->victim;
        if (segment->victim && segment == store->active) {
            ckpt_segment_retire(store);
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return *ret_any ? ckpt_flush(store, collection->err) : 0;
}

/* A record that cannot be read has no place any more; its id stays known as damaged. */
static void lose(struct ckpt_store *store, struct ckpt_slot *slot)
{
    store->damaged_count += !slot->place.damaged;
    slot->place.damaged = true;
    slot->place.segment = 0;
    slot->place.offset = 0;
    ckpt_table_set_pending(&store->table, slot, true);
}

static int move_chunk(struct collection *collection, const struct ckpt_item *item)
{
    struct ckpt_store *store = collection->store;
    struct ckpt_record record = {
        .type = CKPT_RECORD_CHUNK,
        .codec = item->place.codec,
        .raw_bytes = item->place.raw_bytes,
        .stored_bytes = item->place.stored_bytes,
        .id = item->id,
    };
    uint8_t *raw = collection->body + ckpt_record_bytes(CKPT_CHUNK_BYTES);
    struct ckpt_slot *slot;
    int rc, read_rc;

    read_rc = ckpt_place_read_stored(store, &item->id, &item->place,
                                     collection->body + CKPT_RECORD_HEADER_BYTES, raw, NULL);
    if (read_rc < 0 && read_rc != SHL_ECORRUPT) {
        return shl_err_set(collection->err, read_rc, "cannot move a chunk");
    }
    record.body_sum =
        ckpt_body_sum(collection->body + CKPT_RECORD_HEADER_BYTES, record.stored_bytes);
    (void)pthread_mutex_lock(&store->lock);
    rc = ckpt_slot_get(store, &item->id, &slot, collection->err);
    if (rc == 0) {
        if (!ckpt_place_same(&slot->place, &item->place)) {
            ckpt_table_drop(&store->table, slot); /* stored anew meanwhile */
        } else if (read_rc < 0) {
            lose(store, slot);
        } else {
            rc = ckpt_append(store, &record, collection->body, &slot->place, collection->err);
            if (rc == 0) {
                ckpt_table_set_pending(&store->table, slot, true);
                collection->moved_bytes += ckpt_record_bytes(record.stored_bytes);
            }
            ckpt_table_drop(&store->table, slot);
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

static int move_chunks(struct collection *collection, int count)
{
    struct ckpt_store *store = collection->store;
    bool victim, many;
    int i, rc = 0;

    for (i = 0; rc == 0 && i < count; i++) {
        (void)pthread_mutex_lock(&store->lock);
        victim = is_victim(store, &collection->items[i].place);
        many = store->table.pending_count >= CKPT_PENDING_MAX;
        (void)pthread_mutex_unlock(&store->lock);
        if (victim) {
            rc = move_chunk(collection, &collection->items[i]);
            ckpt_step(store, "moved");
        }
        if (rc == 0 && many) {
            rc = ckpt_flush(store, collection->err);
        }
    }
    return rc;
}

static int move_manifest(struct collection *collection, const struct ckpt_id *id)
{
    struct ckpt_store *store = collection->store;
    struct ckpt_place place;
    struct shl_buf buf;
    bool victim;
    int rc = ckpt_index_get(store->index, CKPT_KIND_MANIFEST, id, &place, collection->err);

    if (rc < 0) {
        return rc == SHL_ENOTFOUND ? 0 : rc; /* deleted meanwhile */
    }
    (void)pthread_mutex_lock(&store->lock);
    victim = is_victim(store, &place);
    (void)pthread_mutex_unlock(&store->lock);
    if (!victim) {
        return 0;
    }
    rc = ckpt_flush_locked(store, collection->err);
    if (rc < 0) {
        return rc;
    }
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_load(store, id, &place, &buf, collection->err);
    if (rc == 0) {
        rc = ckpt_manifest_publish(store, id, shl_buf_bytes(&buf), &place, collection->err);
        collection->moved_bytes += rc == 0 ? ckpt_record_bytes((uint32_t)shl_buf_len(&buf)) : 0;
    }
    shl_buf_release(&buf);
    return rc;
}

static int move_manifests(struct collection *collection, int count)
{
    struct ckpt_store *store = collection->store;
    int i, rc = 0;

    for (i = 0; rc == 0 && i < count; i++) {
        (void)pthread_mutex_lock(&store->flush_lock);
        rc = move_manifest(collection, &collection->items[i].id);
        (void)pthread_mutex_unlock(&store->flush_lock);
    }
    return rc;
}

/* Remove the victims; with @empty_only those of which nothing had to be moved. */
static int remove_victims(struct collection *collection, bool empty_only)
{
    struct ckpt_store *store = collection->store;
    size_t i;
    int rc = 0;

    (void)pthread_mutex_lock(&store->lock);
    for (i = store->segment_count; rc == 0 && i-- > 0;) {
        struct ckpt_segment *segment = store->segments[i];
        uint64_t bytes = segment->bytes;

        if (!segment->victim || (empty_only && segment->live > 0)) {
            continue;
        }
        rc = ckpt_segment_remove(store, segment, collection->err);
        collection->stats->freed_bytes += rc == 0 ? bytes : 0;
        ckpt_step(store, "segment-removed");
    }
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

static int rewrite(struct collection *collection)
{
    struct ckpt_store *store = collection->store;
    uint64_t poison_count = ckpt_poison_count(store);
    bool any;
    int rc = choose(collection, &any);

    if (rc < 0 || !any) {
        return rc;
    }
    rc = for_batches(collection, CKPT_KIND_CHUNK, move_chunks);
    if (rc == 0) {
        rc = for_batches(collection, CKPT_KIND_MANIFEST, move_manifests);
    }
    if (rc == 0) {
        rc = ckpt_flush(store, collection->err);
    }
    if (rc == 0 && ckpt_poison_count(store) != poison_count) {
        rc = shl_err_sys(collection->err, EIO,
                         "cannot move what is in use"); /* copies may be lost */
    }
    if (rc == 0) {
        ckpt_step(store, "moves-flushed");
        rc = remove_victims(collection, false);
    }
    return rc;
}

/*- All of it. */

static int run(struct collection *collection)
{
    struct ckpt_store *store = collection->store;
    uint32_t sealed_before;
    size_t i;
    int rc;

    /* Everything written before now is in the index when the sweep looks. */
    (void)pthread_mutex_lock(&store->lock);
    sealed_before = store->active ? store->active->number : store->next_number;
    (void)pthread_mutex_unlock(&store->lock);
    rc = ckpt_flush(store, collection->err);
    if (rc == 0) {
        rc = mark(collection);
    }
    if (rc == 0) {
        rc = sweep(collection);
    }
    if (rc < 0) {
        return rc;
    }
    /* Segments that were full before and have nothing left: their space first, it may be
     * what the rest needs. The flush makes the removals from the index durable before. */
    rc = ckpt_flush(store, collection->err);
    if (rc < 0) {
        return rc;
    }
    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < store->segment_count; i++) {
        struct ckpt_segment *segment = store->segments[i];

        segment->victim = segment->number < sealed_before && segment->live == 0;
    }
    (void)pthread_mutex_unlock(&store->lock);
    rc = remove_victims(collection, true);
    return rc < 0 ? rc : rewrite(collection);
}

int ckpt_store_collect(struct ckpt_store *store,
                       struct ckpt_collect_stats *ret,
                       struct shl_err *err)
{
    struct collection collection = {.store = store, .stats = ret, .err = err};
    int rc;

    *ret = (struct ckpt_collect_stats){0};
    collection.items = malloc(CKPT_LIST_BATCH * sizeof(*collection.items));
    collection.body = malloc(ckpt_record_bytes(CKPT_CHUNK_BYTES) + CKPT_CHUNK_BYTES);
    if (!collection.items || !collection.body) {
        rc = shl_err_sys(err, ENOMEM, "cannot collect garbage");
    } else {
        (void)pthread_mutex_lock(&store->collect_lock);
        ckpt_reserve_drop(store);
        rc = run(&collection);
        (void)pthread_mutex_lock(&store->lock);
        store->marking = NULL;
        (void)pthread_mutex_unlock(&store->lock);
        ckpt_reserve_make(store);
        (void)pthread_mutex_unlock(&store->collect_lock);
    }
    ret->freed_bytes -= SHL_MIN(ret->freed_bytes, collection.moved_bytes);
    ckpt_idset_release(&collection.marks);
    free(collection.items);
    free(collection.body);
    free(collection.manifests);
    return rc;
}
