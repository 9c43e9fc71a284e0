/* From an id to its bytes: slots, places, reading, damage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/internal.h"

int ckpt_slot_get(struct ckpt_store *store,
                  const struct ckpt_id *id,
                  struct ckpt_slot **ret_slot,
                  struct shl_err *err)
{
    struct ckpt_slot *slot = ckpt_table_find(&store->table, id);
    struct ckpt_place place;
    int rc;

    if (slot) {
        *ret_slot = slot;
        return 0;
    }
    rc = ckpt_index_get(store->index, CKPT_KIND_CHUNK, id, &place, err);
    if (rc < 0) {
        return rc;
    }
    slot = ckpt_table_add(&store->table, id);
    if (!slot) {
        return shl_err_sys(err, ENOMEM, "cannot look a chunk up");
    }
    slot->place = place;
    slot->indexed = true;
    *ret_slot = slot;
    return 0;
}

void ckpt_slot_unpin(struct ckpt_store *store, struct ckpt_slot *slot)
{
    slot->pins--;
    /* Used since a collection began to mark: it must not sweep what it did not see. */
    if (store->marking && ckpt_idset_add(store->marking, ckpt_id_prefix(&slot->id)) < 0) {
        store->marking_failed = true;
    }
    ckpt_table_drop(&store->table, slot);
}

/* One call for both; what it does not get is left to the caller, who reads again. */
static int read_both(const struct ckpt_segment *segment,
                     const struct ckpt_place *place,
                     uint8_t *body,
                     uint8_t header[CKPT_RECORD_HEADER_BYTES])
{
    const struct iovec parts[] = {{header, CKPT_RECORD_HEADER_BYTES}, {body, place->stored_bytes}};
    ssize_t got = preadv(segment->fd, parts, 2, (off_t)place->offset);

    return got == (ssize_t)CKPT_RECORD_HEADER_BYTES + (ssize_t)place->stored_bytes ? 0 : -ENODATA;
}

/* The stored form of what is at @place. With @ret_record the header of the record, too;
 * without it is not read: the index says the same, and the id proves the content. */
static int read_body(struct ckpt_store *store,
                     const struct ckpt_place *place,
                     uint8_t *body,
                     struct ckpt_record *ret_record,
                     struct shl_err *err)
{
    uint8_t header[CKPT_RECORD_HEADER_BYTES];
    struct ckpt_segment *segment;
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    rc = ckpt_segment_ref(store, place->segment, &segment, err);
    (void)pthread_mutex_unlock(&store->lock);
    if (rc < 0) {
        return rc;
    }
    if (ret_record) {
        rc = read_both(segment, place, body, header);
        rc = rc == 0 ? ckpt_record_parse(ret_record, header, segment->salt) : rc;
    } else {
        rc = shl_pread_full(segment->fd, body, place->stored_bytes,
                            place->offset + CKPT_RECORD_HEADER_BYTES);
    }
    (void)pthread_mutex_lock(&store->lock);
    ckpt_segment_unref(store, segment);
    (void)pthread_mutex_unlock(&store->lock);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot read segment %08x of the checkpoint store",
                           place->segment);
    }
    return 0;
}

int ckpt_place_read_stored(struct ckpt_store *store,
                           const struct ckpt_id *id,
                           const struct ckpt_place *place,
                           uint8_t *body,
                           uint8_t *dst,
                           struct shl_err *err)
{
    struct ckpt_record record = {
        .codec = place->codec,
        .raw_bytes = place->raw_bytes,
        .stored_bytes = place->stored_bytes,
        .id = *id,
    };
    int rc;

    rc = read_body(store, place, body, NULL, err);
    if (rc == -ENODATA || rc == -EIO || rc == SHL_ENOTFOUND) {
        rc = SHL_ECORRUPT;
    }
    if (rc == 0) {
        rc = ckpt_codec_decode(&record, body, dst);
    }
    if (rc == SHL_ECORRUPT) {
        return shl_err_set(err, rc, "the checkpoint store in %s is damaged in segment %08x at %llu",
                           store->dir, place->segment, (unsigned long long)place->offset);
    }
    return rc;
}

/* The record is the one the index means, and its body is what was written. */
static bool is_intact(const struct ckpt_record *record,
                      const struct ckpt_id *id,
                      const struct ckpt_place *place,
                      const uint8_t *body)
{
    return record->type == CKPT_RECORD_CHUNK && record->codec == place->codec &&
           record->raw_bytes == place->raw_bytes && record->stored_bytes == place->stored_bytes &&
           ckpt_id_equal(&record->id, id) &&
           ckpt_body_sum(body, place->stored_bytes) == record->body_sum;
}

/* The stored form of a chunk into @body: the checksum is looked at, which is a tenth of the work
 * of unpacking and hashing. When it is wrong, only the header may be damaged. */
static int read_summed(struct ckpt_store *store,
                       const struct ckpt_id *id,
                       const struct ckpt_place *place,
                       uint8_t *body,
                       struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *raw = NULL;
    struct ckpt_record record;

    if (read_body(store, place, body, &record, NULL) == 0 && is_intact(&record, id, place, body)) {
        return 0;
    }
    raw = malloc((size_t)place->raw_bytes + 1);
    if (!raw) {
        return shl_err_sys(err, ENOMEM, "cannot read from the checkpoint store");
    }
    return ckpt_place_read_stored(store, id, place, body, raw, err);
}

int ckpt_place_read(struct ckpt_store *store,
                    const struct ckpt_id *id,
                    const struct ckpt_place *place,
                    uint8_t *dst,
                    struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *body = malloc((size_t)place->stored_bytes + 1);

    if (!body) {
        return shl_err_sys(err, ENOMEM, "cannot read from the checkpoint store");
    }
    return ckpt_place_read_stored(store, id, place, body, dst, err);
}

void ckpt_place_damaged(struct ckpt_store *store,
                        const struct ckpt_id *id,
                        const struct ckpt_place *place)
{
    struct ckpt_batch *batch;
    struct ckpt_slot *slot;

    (void)pthread_mutex_lock(&store->lock);
    if (ckpt_slot_get(store, id, &slot, NULL) == 0) {
        if (ckpt_place_same(&slot->place, place) && !slot->place.damaged) {
            slot->place.damaged = true;
            store->damaged_count++;
            if (!slot->pending) { /* else the next flush writes it */
                batch = ckpt_batch_new();
                ckpt_batch_put(batch, CKPT_KIND_CHUNK, id, &slot->place);
                if (ckpt_index_write(store->index, batch, false, NULL) < 0) {
                    SHL_LOG(ckpt_log(store), SHL_LOG_WARN, "checkpoint_damage_not_recorded",
                            SHL_I("segment", place->segment));
                }
                ckpt_batch_free(batch);
            }
        }
        ckpt_table_drop(&store->table, slot);
    }
    (void)pthread_mutex_unlock(&store->lock);
}

static int place_of(struct ckpt_store *store,
                    const struct ckpt_id *id,
                    struct ckpt_place *ret,
                    struct shl_err *err)
{
    struct ckpt_slot *slot;
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    rc = ckpt_slot_get(store, id, &slot, err);
    if (rc == 0) {
        *ret = slot->place;
        ckpt_table_drop(&store->table, slot);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return rc == SHL_ENOTFOUND ? shl_err_set(err, rc, "the checkpoint store has no such chunk")
                               : rc;
}

/* How the bytes of a place are read. */
struct reading {
    uint8_t *dst;
    size_t size;
    bool is_stored; /* the stored form is wanted */
};

static int read_place(struct ckpt_store *store,
                      const struct ckpt_id *id,
                      const struct ckpt_place *place,
                      const struct reading *reading,
                      struct shl_err *err)
{
    if (place->raw_bytes > reading->size) {
        return shl_err_set(err, SHL_ELIMIT, "a chunk of %u bytes does not fit into %zu",
                           place->raw_bytes, reading->size);
    }
    if (place->segment == 0) {
        return SHL_ECORRUPT;
    }
    return reading->is_stored ? read_summed(store, id, place, reading->dst, err)
                              : ckpt_place_read(store, id, place, reading->dst, err);
}

/* Where it was found in *ret_place. */
static int read_chunk(struct ckpt_store *store,
                      const struct ckpt_id *id,
                      const struct reading *reading,
                      struct ckpt_place *ret_place,
                      struct shl_err *err)
{
    struct ckpt_place place, before = {0};
    int rc;

    for (;;) {
        rc = place_of(store, id, &place, err);
        if (rc < 0) {
            return rc;
        }
        if (ckpt_place_same(&place, &before)) {
            ckpt_place_damaged(store, id, &place);
            return shl_err_set(err, SHL_ECORRUPT,
                               "a chunk of the checkpoint store in %s is damaged (segment %08x at "
                               "%llu)",
                               store->dir, place.segment, (unsigned long long)place.offset);
        }
        rc = read_place(store, id, &place, reading, err);
        if (rc != SHL_ECORRUPT) {
            *ret_place = place;
            return rc;
        }
        if (place.segment == 0) { /* a collection found nothing to keep of it */
            return shl_err_set(err, rc, "a chunk of the checkpoint store in %s was lost",
                               store->dir);
        }
        before = place; /* a collection may have moved it meanwhile: look again */
    }
}

int ckpt_chunk_read(struct ckpt_store *store,
                    const struct ckpt_id *id,
                    void *dst,
                    size_t size,
                    struct shl_err *err)
{
    const struct reading reading = {.dst = dst, .size = size};
    struct ckpt_place place;
    int rc = read_chunk(store, id, &reading, &place, err);

    return rc < 0 ? rc : (int)place.raw_bytes;
}

int ckpt_chunk_read_stored(struct ckpt_store *store,
                           const struct ckpt_id *id,
                           uint8_t *dst,
                           struct ckpt_stored *ret,
                           struct shl_err *err)
{
    const struct reading reading = {.dst = dst, .size = CKPT_CHUNK_BYTES, .is_stored = true};
    struct ckpt_place place;
    int rc = read_chunk(store, id, &reading, &place, err);

    if (rc == 0) {
        *ret = (struct ckpt_stored){.bytes = place.stored_bytes,
                                    .raw_bytes = place.raw_bytes,
                                    .is_packed = place.codec == CKPT_CODEC_ZSTD};
    }
    return rc;
}
