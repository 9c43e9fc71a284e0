/* Opening a store: what the last process left.
 *
 *   1. find the segment files
 *   2. scan them from the position up to which they are indexed (from the beginning when
 *      the index is new): index what is sound, cut off a torn tail, sync
 *   3. check that the entries of the index lie inside segments, and that manifests are
 *      not marked as deleted
 *   4. go on appending to the last segment
 * A chunk that no manifest names is garbage for the next collection. A manifest record
 * stands for a published manifest: it is written after its chunks are on disk. Of
 * several records of one id the last one counts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/internal.h"

#define BATCH_RECORDS 1024u

struct recovery {
    struct ckpt_store *store;
    struct shl_err *err;
    struct ckpt_batch *batch; /* chunks found by the scan */
    unsigned batch_count;
    uint32_t segment; /* being scanned */
    bool rebuild;     /* the index was new */
    uint64_t chunks, manifests, cut_bytes, damage;
};

/*- 1. Files. */

/* Length and salt; a file too short for a header was being created. */
static int examine(struct ckpt_store *store, struct ckpt_segment *segment, struct shl_err *err)
{
    uint8_t raw[CKPT_SEGMENT_HEADER_BYTES];
    struct ckpt_segment *same;
    uint32_t number = 0;
    struct stat st;
    int rc = ckpt_segment_ref(store, segment->number, &same, err);

    if (rc < 0) {
        return rc;
    }
    rc = fstat(segment->fd, &st) < 0 ? -errno : 0;
    segment->bytes = segment->synced = rc == 0 ? (uint64_t)st.st_size : 0;
    if (rc == 0 && segment->bytes >= sizeof(raw)) {
        rc = shl_pread_full(segment->fd, raw, sizeof(raw), 0);
    }
    ckpt_segment_unref(store, segment);
    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot read segment %08x", segment->number);
    }
    if (segment->bytes < sizeof(raw)) {
        return ckpt_segment_remove(store, segment, err);
    }
    rc = ckpt_segment_header_parse(raw, &number, &segment->salt);
    if (rc == SHL_EVERSION) {
        return shl_err_set(err, rc,
                           "segment %08x of the checkpoint store was written by another "
                           "version of shoald",
                           segment->number);
    }
    if (rc < 0 || number != segment->number) {
        /* Without the salt no record can be recognised; the index still reaches them. */
        segment->salt = 0;
        SHL_LOG(ckpt_log(store), SHL_LOG_ERROR, "checkpoint_segment_header_damaged",
                SHL_I("segment", segment->number));
    }
    return 0;
}

static int find_segments(struct ckpt_store *store, struct shl_err *err)
{
    int fd = openat(store->segments_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    uint32_t number;
    size_t i;
    int rc = 0;

    if (!folder) {
        return shl_err_sys(err, errno, "cannot list the segments in %s", store->dir);
    }
    while (rc == 0 && (entry = readdir(folder))) {
        char *end;

        number = (uint32_t)strtoul(entry->d_name, &end, 16);
        if (strlen(entry->d_name) != 8 || *end || number == 0) {
            continue;
        }
        rc = ckpt_segment_add(store, number) ? 0 : shl_err_sys(err, ENOMEM, "cannot open segments");
        store->next_number = SHL_MAX(store->next_number, number + 1);
    }
    (void)closedir(folder);
    for (i = store->segment_count; rc == 0 && i-- > 0;) { /* may remove the one it looks at */
        rc = examine(store, store->segments[i], err);
    }
    return rc;
}

/*- 2. Scan. */

static int write_batch(struct recovery *recovery)
{
    int rc = ckpt_index_write(recovery->store->index, recovery->batch, false, recovery->err);

    ckpt_batch_free(recovery->batch);
    recovery->batch = ckpt_batch_new();
    recovery->batch_count = 0;
    return rc;
}

static int set_manifest(struct recovery *recovery,
                        const struct ckpt_id *id,
                        const struct ckpt_place *place)
{
    if (place) {
        ckpt_batch_put(recovery->batch, CKPT_KIND_MANIFEST, id, place);
    } else {
        ckpt_batch_delete(recovery->batch, CKPT_KIND_MANIFEST, id);
    }
    return write_batch(recovery);
}

static bool is_there(void *arg, const struct ckpt_id *id)
{
    struct recovery *recovery = arg;
    struct ckpt_place place;

    return ckpt_index_get(recovery->store->index, CKPT_KIND_CHUNK, id, &place, NULL) == 0;
}

/* Whether the manifest in a record can be read and all its chunks are known. */
static bool is_complete(struct recovery *recovery,
                        const struct ckpt_record *record,
                        const uint8_t *body)
{
    SHL_CLEANUP_FREE uint8_t *raw = malloc(record->raw_bytes);
    struct ckpt_manifest manifest;
    bool complete;

    if (!raw || ckpt_codec_decode(record, body, raw) < 0 ||
        ckpt_manifest_decode(&manifest, shl_bytes_of(raw, record->raw_bytes), NULL) < 0) {
        return false;
    }
    complete = ckpt_manifest_ids(&manifest, is_there, recovery);
    ckpt_manifest_release(&manifest);
    return complete;
}

static int recover_manifest(struct recovery *recovery,
                            const struct ckpt_record *record,
                            const struct ckpt_place *place,
                            const uint8_t *body)
{
    struct ckpt_store *store = recovery->store;
    struct ckpt_place before;
    bool known;
    int rc = write_batch(recovery); /* its chunks must be found */

    if (rc < 0) {
        return rc;
    }
    rc = ckpt_index_get(store->index, CKPT_KIND_MANIFEST, &record->id, &before, recovery->err);
    if (rc < 0 && rc != SHL_ENOTFOUND) {
        return rc;
    }
    known = rc == 0 && !ckpt_place_same(&before, place);
    if (record->type == CKPT_RECORD_DEAD) {
        rc = rc == 0 ? set_manifest(recovery, &record->id, NULL) : 0;
    } else if (is_complete(recovery, record, body) || recovery->rebuild) {
        /* What lacks chunks after a rebuild was damaged since it was published, and whoever
         * puts them again heals it. */
        recovery->manifests++;
        rc = set_manifest(recovery, &record->id, place);
    } else {
        SHL_LOG(ckpt_log(store), SHL_LOG_WARN, "checkpoint_manifest_incomplete",
                SHL_I("segment", place->segment), SHL_I("offset", place->offset));
        return ckpt_manifest_kill(store, &record->id, place, recovery->err);
    }
    if (rc == 0 && known) {
        rc = ckpt_manifest_kill(store, &record->id, &before, recovery->err);
    }
    return rc;
}

static int on_record(void *arg,
                     const struct ckpt_record *record,
                     uint64_t offset,
                     const uint8_t *body)
{
    struct recovery *recovery = arg;
    struct ckpt_place place = {
        .segment = recovery->segment,
        .offset = offset,
        .raw_bytes = record->raw_bytes,
        .stored_bytes = record->stored_bytes,
        .codec = record->codec,
    };

    if (!body) {
        recovery->damage += record->stored_bytes;
        return 0;
    }
    if (record->type != CKPT_RECORD_CHUNK) {
        return recover_manifest(recovery, record, &place, body);
    }
    recovery->chunks++;
    ckpt_batch_put(recovery->batch, CKPT_KIND_CHUNK, &record->id, &place);
    return ++recovery->batch_count >= BATCH_RECORDS ? write_batch(recovery) : 0;
}

static int scan_segment(struct recovery *recovery, struct ckpt_segment *segment, uint64_t from)
{
    struct ckpt_store *store = recovery->store;
    struct ckpt_scan scan = {.salt = segment->salt,
                             .from = from,
                             .file_bytes = segment->bytes,
                             .each = on_record,
                             .arg = recovery};
    struct ckpt_segment *same;
    int rc;

    if (segment->salt == 0 || from > segment->bytes) {
        return 0;
    }
    (void)pthread_mutex_lock(&store->lock);
    rc = ckpt_segment_ref(store, segment->number, &same, recovery->err);
    (void)pthread_mutex_unlock(&store->lock);
    if (rc < 0) {
        return rc;
    }
    recovery->segment = segment->number;
    scan.fd = segment->fd;
    rc = ckpt_segment_scan(&scan);
    recovery->damage += scan.damage;
    if (rc == 0 && scan.end < segment->bytes) {
        recovery->cut_bytes += segment->bytes - scan.end;
        rc = ftruncate(segment->fd, (off_t)scan.end) < 0 ? -errno : 0;
        segment->bytes = scan.end;
    }
    if (rc == 0 && fdatasync(segment->fd) < 0) {
        rc = -errno;
    }
    segment->synced = segment->bytes;
    (void)pthread_mutex_lock(&store->lock);
    ckpt_segment_unref(store, segment);
    (void)pthread_mutex_unlock(&store->lock);
    return rc < 0 ? shl_err_set(recovery->err, rc, "cannot recover segment %08x: %s",
                                segment->number, shl_err_text(rc))
                  : 0;
}

static int scan_all(struct recovery *recovery)
{
    struct ckpt_store *store = recovery->store;
    struct ckpt_position position;
    size_t i;
    int rc = ckpt_index_position(store->index, &position, recovery->err);

    if (rc < 0) {
        return rc;
    }
    recovery->rebuild = position.segment == 0;
    for (i = 0; rc == 0 && i < store->segment_count; i++) {
        struct ckpt_segment *segment = store->segments[i];
        uint64_t from = CKPT_SEGMENT_HEADER_BYTES;

        if (segment->number < position.segment) {
            continue;
        }
        if (segment->number == position.segment) {
            from = SHL_MAX(from, position.offset);
        }
        rc = scan_segment(recovery, segment, from);
    }
    /* A number is used once, also when the file with the highest one is gone. */
    store->next_number =
        SHL_MAX(store->next_number, position.segment + (position.offset > 0 ? 1u : 0u));
    return rc < 0 ? rc : write_batch(recovery);
}

/*- 3. Check the index. */

static bool inside_segment(const struct ckpt_store *store, const struct ckpt_place *place)
{
    const struct ckpt_segment *segment = ckpt_segment_find(store, place->segment);

    return segment && place->offset >= CKPT_SEGMENT_HEADER_BYTES &&
           place->offset <= segment->bytes &&
           ckpt_record_bytes(place->stored_bytes) <= segment->bytes - place->offset;
}

static bool chunk_stays(struct ckpt_store *store, const struct ckpt_item *item)
{
    bool lost = item->place.damaged && item->place.segment == 0;

    if (!lost && !inside_segment(store, &item->place)) {
        return false;
    }
    store->chunk_count++;
    store->damaged_count += item->place.damaged;
    return true;
}

static bool manifest_stays(struct ckpt_store *store, const struct ckpt_item *item)
{
    struct ckpt_record record;
    int rc;

    if (!inside_segment(store, &item->place)) {
        SHL_LOG(ckpt_log(store), SHL_LOG_ERROR, "checkpoint_manifest_lost",
                SHL_I("segment", item->place.segment), SHL_I("offset", item->place.offset));
        return false;
    }
    rc = ckpt_manifest_header(store, &item->place, &record, NULL);
    if (rc == 0 && record.type == CKPT_RECORD_DEAD && ckpt_id_equal(&record.id, &item->id)) {
        return false; /* the process ended in the middle of a deletion */
    }
    store->manifest_count++;
    return true;
}

static int check_kind(struct recovery *recovery,
                      enum ckpt_kind kind,
                      bool (*stays)(struct ckpt_store *store, const struct ckpt_item *item))
{
    SHL_CLEANUP_FREE struct ckpt_item *items = malloc(CKPT_LIST_BATCH * sizeof(*items));
    struct ckpt_id cursor;
    bool first = true;
    int count, i, rc = 0;

    if (!items) {
        return shl_err_sys(recovery->err, ENOMEM, "cannot check the index");
    }
    do {
        count = ckpt_index_list(recovery->store->index, kind, first ? NULL : &cursor, items,
                                CKPT_LIST_BATCH, recovery->err);
        for (i = 0; i < count; i++) {
            if (!stays(recovery->store, &items[i])) {
                ckpt_batch_delete(recovery->batch, kind, &items[i].id);
            }
        }
        rc = count < 0 ? count : write_batch(recovery);
        if (count > 0) {
            cursor = items[count - 1].id;
            first = false;
        }
    } while (rc == 0 && count == CKPT_LIST_BATCH);
    return rc;
}

/*- 4. */

static void resume_active(struct ckpt_store *store)
{
    struct ckpt_segment *last, *same;

    if (store->segment_count == 0) {
        return;
    }
    last = store->segments[store->segment_count - 1];
    (void)pthread_mutex_lock(&store->lock);
    if (last->salt != 0 && last->bytes % CKPT_RECORD_ALIGN == 0 &&
        last->bytes < store->segment_bytes && last->number + 1 == store->next_number &&
        ckpt_segment_ref(store, last->number, &same, NULL) == 0) {
        store->active = last;
    }
    (void)pthread_mutex_unlock(&store->lock);
}

int ckpt_recover(struct ckpt_store *store, struct shl_err *err)
{
    struct recovery recovery = {.store = store, .err = err, .batch = ckpt_batch_new()};
    int rc = find_segments(store, err);

    if (rc == 0) {
        rc = scan_all(&recovery);
    }
    if (rc == 0) {
        rc = check_kind(&recovery, CKPT_KIND_CHUNK, chunk_stays);
    }
    if (rc == 0) {
        rc = check_kind(&recovery, CKPT_KIND_MANIFEST, manifest_stays);
    }
    ckpt_batch_free(recovery.batch);
    if (rc < 0) {
        return rc;
    }
    resume_active(store);
    if (recovery.chunks || recovery.manifests || recovery.cut_bytes || recovery.damage) {
        SHL_LOG(ckpt_log(store), SHL_LOG_INFO, "checkpoint_store_recovered",
                SHL_I("chunks", recovery.chunks), SHL_I("manifests", recovery.manifests),
                SHL_I("cut_bytes", recovery.cut_bytes), SHL_I("damaged_bytes", recovery.damage));
    }
    return ckpt_flush(store, err); /* writes the position */
}
