/* Manifests: publishing, reading, deleting. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/internal.h"

/*- The record. */

/* Open the segment of @place, outside the lock. */
static int ref_segment(struct ckpt_store *store,
                       const struct ckpt_place *place,
                       struct ckpt_segment **ret,
                       struct shl_err *err)
{
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    rc = ckpt_segment_ref(store, place->segment, ret, err);
    (void)pthread_mutex_unlock(&store->lock);
    return rc;
}

static void unref_segment(struct ckpt_store *store, struct ckpt_segment *segment)
{
    (void)pthread_mutex_lock(&store->lock);
    ckpt_segment_unref(store, segment);
    (void)pthread_mutex_unlock(&store->lock);
}

static int read_header(const struct ckpt_segment *segment,
                       const struct ckpt_place *place,
                       struct ckpt_record *ret)
{
    uint8_t raw[CKPT_RECORD_HEADER_BYTES];
    int rc = shl_pread_full(segment->fd, raw, sizeof(raw), place->offset);

    if (rc == 0) {
        rc = ckpt_record_parse(ret, raw, segment->salt);
    }
    return rc == -ENODATA ? SHL_ECORRUPT : rc;
}

int ckpt_manifest_header(struct ckpt_store *store,
                         const struct ckpt_place *place,
                         struct ckpt_record *ret,
                         struct shl_err *err)
{
    struct ckpt_segment *segment;
    int rc = ref_segment(store, place, &segment, err);

    if (rc < 0) {
        return rc;
    }
    rc = read_header(segment, place, ret);
    unref_segment(store, segment);
    return rc < 0 ? shl_err_set(err, rc, "the record of a manifest in segment %08x is damaged",
                                place->segment)
                  : 0;
}

int ckpt_manifest_kill(struct ckpt_store *store,
                       const struct ckpt_id *id,
                       const struct ckpt_place *place,
                       struct shl_err *err)
{
    uint8_t raw[CKPT_RECORD_HEADER_BYTES];
    struct ckpt_record record;
    struct ckpt_segment *segment;
    int rc = ref_segment(store, place, &segment, err);

    if (rc == SHL_ENOTFOUND) { /* the segment is gone and the record with it */
        return 0;
    }
    if (rc < 0) {
        return rc;
    }
    rc = read_header(segment, place, &record);
    if (rc == SHL_ECORRUPT) {
        rc = 0; /* no scan takes this for a manifest either */
    } else if (rc == 0 && record.type == CKPT_RECORD_MANIFEST && ckpt_id_equal(&record.id, id)) {
        record.type = CKPT_RECORD_DEAD;
        ckpt_record_format(raw, &record, segment->salt);
        rc = shl_pwrite_full(segment->fd, raw, sizeof(raw), place->offset);
        if (rc == 0 && fdatasync(segment->fd) < 0) {
            rc = -errno;
        }
    }
    unref_segment(store, segment);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot mark a manifest as deleted") : 0;
}

int ckpt_manifest_load(struct ckpt_store *store,
                       const struct ckpt_id *id,
                       const struct ckpt_place *place,
                       struct shl_buf *buf,
                       struct shl_err *err)
{
    uint8_t *space;
    int rc = shl_buf_reserve(buf, place->raw_bytes, &space);

    if (rc < 0) {
        return shl_err_set(err, rc, "no room for a manifest of %u bytes", place->raw_bytes);
    }
    rc = ckpt_place_read(store, id, place, space, err);
    if (rc == 0) {
        shl_buf_commit(buf, place->raw_bytes);
    }
    return rc;
}

/*- Publishing. */

static int append(struct ckpt_store *store,
                  const struct ckpt_id *id,
                  struct shl_bytes manifest,
                  struct ckpt_place *ret_place,
                  struct shl_err *err)
{
    struct ckpt_codec_writer *writer = ckpt_codec_writer_new(store->zstd_level);
    uint8_t *buffer = malloc(ckpt_record_bytes((uint32_t)manifest.len));
    struct ckpt_record record = {.type = CKPT_RECORD_MANIFEST, .id = *id};
    int rc;

    if (!writer || !buffer) {
        rc = shl_err_sys(err, ENOMEM, "cannot publish a manifest");
    } else {
        ckpt_codec_encode(writer, manifest.base, manifest.len, buffer + CKPT_RECORD_HEADER_BYTES,
                          &record);
        (void)pthread_mutex_lock(&store->lock);
        rc = ckpt_append(store, &record, buffer, ret_place, err);
        (void)pthread_mutex_unlock(&store->lock);
    }
    ckpt_codec_writer_free(writer);
    free(buffer);
    return rc;
}

/* One entry of the index, synced. */
static int point_index(struct ckpt_store *store,
                       const struct ckpt_id *id,
                       const struct ckpt_place *place,
                       struct shl_err *err)
{
    struct ckpt_batch *batch = ckpt_batch_new();
    int rc;

    if (place) {
        ckpt_batch_put(batch, CKPT_KIND_MANIFEST, id, place);
    } else {
        ckpt_batch_delete(batch, CKPT_KIND_MANIFEST, id);
    }
    rc = ckpt_index_write(store->index, batch, true, err);
    ckpt_batch_free(batch);
    return rc;
}

int ckpt_manifest_publish(struct ckpt_store *store,
                          const struct ckpt_id *id,
                          struct shl_bytes manifest,
                          const struct ckpt_place *old,
                          struct shl_err *err)
{
    uint64_t poison_count = ckpt_poison_count(store);
    struct ckpt_place place;
    int rc = append(store, id, manifest, &place, err);

    if (rc < 0) {
        return rc;
    }
    ckpt_step(store, "manifest-appended");
    rc = ckpt_sync_segments(store, err);
    if (rc == 0 && ckpt_poison_count(store) != poison_count) {
        rc = shl_err_sys(err, EIO, "cannot sync the checkpoint store in %s", store->dir);
    }
    if (rc == 0) {
        ckpt_step(store, "manifest-synced");
        rc = point_index(store, id, &place, err);
    }
    if (rc == 0) {
        ckpt_step(store, "published");
        return 0;
    }
    if (!old) { /* nobody was told of it, so nobody must find it */
        if (ckpt_manifest_kill(store, id, &place, NULL) < 0 ||
            point_index(store, id, NULL, NULL) < 0) {
            SHL_LOG(ckpt_log(store), SHL_LOG_WARN, "checkpoint_manifest_left_behind",
                    SHL_I("segment", place.segment), SHL_I("offset", place.offset));
        }
    }
    return rc; /* of two copies either may be the one in the index now: both are sound */
}

/*- Reading. */

static bool add_prefix(void *arg, const struct ckpt_id *id)
{
    struct ckpt_pin *pin = arg;

    pin->prefixes[pin->count++] = ckpt_id_prefix(id);
    return true;
}

/* A pin that knows all chunks of @bytes. */
static int make_pin(struct ckpt_store *store,
                    struct shl_bytes bytes,
                    struct ckpt_pin **ret,
                    struct shl_err *err)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin;
    uint64_t count;
    int rc = ckpt_manifest_decode(&manifest, bytes, err);

    if (rc < 0) {
        return rc;
    }
    count = manifest.disk.count + manifest.memory.count + manifest.state.count;
    pin = calloc(1, sizeof(*pin));
    if (pin) {
        pin->prefixes = malloc((count + 1) * sizeof(*pin->prefixes));
    }
    if (!pin || !pin->prefixes) {
        free(pin);
        ckpt_manifest_release(&manifest);
        return shl_err_sys(err, ENOMEM, "cannot hold the chunks of a manifest");
    }
    pin->store = store;
    (void)ckpt_manifest_ids(&manifest, add_prefix, pin);
    ckpt_manifest_release(&manifest);
    *ret = pin;
    return 0;
}

/* From here on collections keep what the pin names. */
static void hold_pin(struct ckpt_store *store, struct ckpt_pin *pin)
{
    size_t i;

    (void)pthread_mutex_lock(&store->lock);
    shl_list_push_back(&store->pins, &pin->link);
    store->pin_count++;
    for (i = 0; store->marking && i < pin->count; i++) {
        if (ckpt_idset_add(store->marking, pin->prefixes[i]) < 0) {
            store->marking_failed = true;
        }
    }
    (void)pthread_mutex_unlock(&store->lock);
}

/* Where the manifest is, if it is published. */
static int find(struct ckpt_store *store,
                const struct ckpt_id *id,
                struct ckpt_place *ret,
                struct shl_err *err)
{
    int rc = ckpt_index_get(store->index, CKPT_KIND_MANIFEST, id, ret, err);

    return rc == SHL_ENOTFOUND ? shl_err_set(err, rc, "the checkpoint store has no such manifest")
                               : rc;
}

static int read_gated(struct ckpt_store *store,
                      const struct ckpt_id *id,
                      struct shl_buf *buf,
                      struct ckpt_pin **ret_pin,
                      struct shl_err *err)
{
    struct ckpt_place place, before = {0};
    size_t start = shl_buf_len(buf);
    struct shl_bytes bytes;
    int rc;

    do { /* again when a collection has moved it meanwhile */
        rc = find(store, id, &place, err);
        if (rc < 0 || ckpt_place_same(&place, &before)) {
            return rc < 0 ? rc : SHL_ECORRUPT;
        }
        before = place;
        rc = ckpt_manifest_load(store, id, &place, buf, err);
    } while (rc == SHL_ECORRUPT);
    if (rc < 0) {
        return rc;
    }
    bytes = shl_buf_bytes(buf);
    rc = make_pin(store, shl_bytes_of(bytes.base + start, bytes.len - start), ret_pin, err);
    if (rc == 0) {
        hold_pin(store, *ret_pin);
    }
    return rc;
}

int ckpt_manifest_read(struct ckpt_store *store,
                       const struct ckpt_id *id,
                       struct shl_buf *buf,
                       struct ckpt_pin **ret_pin,
                       struct shl_err *err)
{
    int rc;

    (void)pthread_mutex_lock(&store->gate);
    rc = read_gated(store, id, buf, ret_pin, err);
    (void)pthread_mutex_unlock(&store->gate);
    return rc;
}

void ckpt_pin_release(struct ckpt_pin *pin)
{
    struct ckpt_store *store;

    if (!pin) {
        return;
    }
    store = pin->store;
    (void)pthread_mutex_lock(&store->lock);
    shl_list_remove(&pin->link);
    store->pin_count--;
    (void)pthread_mutex_unlock(&store->lock);
    free(pin->prefixes);
    free(pin);
}

/*- Deleting. */

static int delete_gated(struct ckpt_store *store, const struct ckpt_id *id, struct shl_err *err)
{
    struct ckpt_place place;
    int rc = find(store, id, &place, err);

    if (rc < 0) {
        return rc;
    }
    rc = ckpt_manifest_kill(store, id, &place, err);
    if (rc < 0) {
        return rc;
    }
    ckpt_step(store, "delete-marked");
    rc = point_index(store, id, NULL, err);
    if (rc < 0) {
        return rc;
    }
    ckpt_step(store, "deleted");
    (void)pthread_mutex_lock(&store->lock);
    store->manifest_count--;
    (void)pthread_mutex_unlock(&store->lock);
    return 0;
}

int ckpt_manifest_delete(struct ckpt_store *store, const struct ckpt_id *id, struct shl_err *err)
{
    int rc;

    (void)pthread_mutex_lock(&store->gate);
    (void)pthread_mutex_lock(&store->flush_lock);
    rc = delete_gated(store, id, err);
    if (rc == -ENOSPC) { /* whoever deletes on a full disk must succeed */
        ckpt_reserve_drop(store);
        rc = delete_gated(store, id, err);
    }
    (void)pthread_mutex_unlock(&store->flush_lock);
    (void)pthread_mutex_unlock(&store->gate);
    return rc;
}

int ckpt_manifest_each(struct ckpt_store *store,
                       bool (*each)(void *arg, const struct ckpt_id *id),
                       void *arg,
                       struct shl_err *err)
{
    SHL_CLEANUP_FREE struct ckpt_item *items = malloc(CKPT_LIST_BATCH * sizeof(*items));
    struct ckpt_id cursor;
    bool first = true;
    int count, i;

    if (!items) {
        return shl_err_sys(err, ENOMEM, "cannot list the manifests");
    }
    do {
        count = ckpt_index_list(store->index, CKPT_KIND_MANIFEST, first ? NULL : &cursor, items,
                                CKPT_LIST_BATCH, err);
        for (i = 0; i < count; i++) {
            if (!each(arg, &items[i].id)) {
                return 0;
            }
        }
        if (count > 0) {
            cursor = items[count - 1].id;
            first = false;
        }
    } while (count == CKPT_LIST_BATCH);
    return count < 0 ? count : 0;
}
