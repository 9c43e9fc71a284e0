/* Sessions: one checkpoint being written. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/internal.h"

int ckpt_session_begin(struct ckpt_store *store,
                       struct ckpt_session **ret_session,
                       struct shl_err *err)
{
    struct ckpt_session *session = calloc(1, sizeof(*session));

    if (session) {
        session->store = store;
        session->writer = ckpt_codec_writer_new(store->zstd_level);
        session->buffer = malloc(ckpt_record_bytes(CKPT_CHUNK_BYTES));
    }
    if (!session || !session->writer || !session->buffer) {
        if (session) {
            ckpt_codec_writer_free(session->writer);
            free(session->buffer);
        }
        free(session);
        return shl_err_sys(err, ENOMEM, "cannot begin to write a checkpoint");
    }
    (void)pthread_mutex_lock(&store->lock);
    store->session_count++;
    (void)pthread_mutex_unlock(&store->lock);
    *ret_session = session;
    return 0;
}

/* Room for one more pin, before anything is done that needs it. */
static int reserve_pin(struct ckpt_session *session)
{
    size_t cap = session->cap ? session->cap * 2 : CKPT_SESSION_GROWTH;
    struct ckpt_slot **slots;

    if (session->count < session->cap) {
        return 0;
    }
    slots = realloc(session->slots, cap * sizeof(*slots));
    if (!slots) {
        return -ENOMEM;
    }
    session->slots = slots;
    session->cap = cap;
    return 0;
}

static bool usable(const struct ckpt_store *store, const struct ckpt_slot *slot)
{
    return !slot->place.damaged && ckpt_segment_find(store, slot->place.segment) != NULL;
}

/* Look @id up and pin it, as one step. SHL_ENOTFOUND also when it is damaged. Lock held. */
static int pin_found(struct ckpt_session *session, const struct ckpt_id *id, struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    struct ckpt_slot *slot;
    int rc = ckpt_slot_get(store, id, &slot, err);

    if (rc < 0) {
        return rc;
    }
    if (!usable(store, slot)) {
        ckpt_table_drop(&store->table, slot);
        return SHL_ENOTFOUND;
    }
    slot->pins++;
    session->slots[session->count++] = slot;
    return 0;
}

/* Append the record in the session's buffer and pin it. Lock held. */
static int pin_new(struct ckpt_session *session,
                   const struct ckpt_record *record,
                   struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    struct ckpt_slot *slot;
    int rc = ckpt_slot_get(store, &record->id, &slot, err);

    if (rc == SHL_ENOTFOUND) {
        slot = ckpt_table_add(&store->table, &record->id);
        rc = slot ? 0 : shl_err_sys(err, ENOMEM, "cannot store a chunk");
    }
    if (rc < 0) {
        return rc;
    }
    slot->pins++; /* before the first byte is written */
    rc = ckpt_append(store, record, session->buffer, &slot->place, err);
    if (rc < 0) {
        slot->pins--;
        ckpt_table_drop(&store->table, slot);
        return rc;
    }
    ckpt_table_set_pending(&store->table, slot, false); /* to the end of the list */
    ckpt_table_set_pending(&store->table, slot, true);
    session->slots[session->count++] = slot;
    session->stats.new_chunks++;
    session->stats.new_bytes += ckpt_record_bytes(record->stored_bytes);
    return 0;
}

/* A chunk as it goes into the session's buffer. */
struct content {
    struct shl_bytes raw;               /* to be packed, or: */
    const struct ckpt_arrival *arrival; /* as it came */
};

static void fill_buffer(struct ckpt_session *session,
                        const struct content *content,
                        struct ckpt_record *record)
{
    uint8_t *body = session->buffer + CKPT_RECORD_HEADER_BYTES;
    const struct ckpt_arrival *arrival = content->arrival;

    if (!arrival) {
        ckpt_codec_encode(session->writer, content->raw.base, content->raw.len, body, record);
        return;
    }
    memcpy(body, arrival->bytes, arrival->stored_bytes);
    record->codec = arrival->is_packed ? CKPT_CODEC_ZSTD : CKPT_CODEC_RAW;
    record->raw_bytes = arrival->raw_bytes;
    record->stored_bytes = arrival->stored_bytes;
    record->body_sum = arrival->sum;
}

static int put_chunk(struct ckpt_session *session,
                     const struct content *content,
                     const struct ckpt_id *id,
                     struct shl_err *err)
{
    struct ckpt_record record = {.type = CKPT_RECORD_CHUNK, .id = *id};
    struct ckpt_store *store = session->store;
    bool was_damaged, many;
    int rc;

    (void)pthread_mutex_lock(&store->lock);
    rc = pin_found(session, id, err);
    (void)pthread_mutex_unlock(&store->lock);
    if (rc != SHL_ENOTFOUND) {
        return rc;
    }
    fill_buffer(session, content, &record);
    (void)pthread_mutex_lock(&store->lock);
    rc = pin_found(session, id, err); /* another session may have been faster */
    if (rc == SHL_ENOTFOUND) {
        struct ckpt_slot *old = ckpt_table_find(&store->table, id);
        struct ckpt_place place;

        was_damaged = old ? old->place.damaged
                          : ckpt_index_get(store->index, CKPT_KIND_CHUNK, id, &place, NULL) == 0 &&
                                place.damaged;
        rc = pin_new(session, &record, err);
        store->damaged_count -= rc == 0 && was_damaged;
    }
    many = store->table.pending_count >= CKPT_PENDING_MAX;
    (void)pthread_mutex_unlock(&store->lock);
    return rc == 0 && many ? ckpt_flush(store, err) : rc;
}

/* @content has bytes other than zeros. */
static int put_content(struct ckpt_session *session,
                       const struct content *content,
                       const struct ckpt_id *id,
                       struct shl_err *err)
{
    int rc = reserve_pin(session);

    if (rc < 0) {
        (void)shl_err_sys(err, -rc, "cannot hold another chunk");
    } else {
        rc = put_chunk(session, content, id, err);
    }
    session->failed = rc;
    return rc;
}

static void count_put(struct ckpt_session *session, size_t len)
{
    session->stats.chunks++;
    session->stats.raw_bytes += len;
}

int ckpt_session_put(struct ckpt_session *session,
                     const void *data,
                     size_t len,
                     struct ckpt_id *ret_id,
                     struct shl_err *err)
{
    struct content content = {.raw = shl_bytes_of(data, len)};

    if (len == 0 || len > CKPT_CHUNK_BYTES) {
        return shl_err_set(err, SHL_EINVALIDARG, "a chunk has 1 to %u bytes, not %zu",
                           CKPT_CHUNK_BYTES, len);
    }
    if (session->failed) {
        return shl_err_set(err, session->failed, "writing this checkpoint has failed before");
    }
    count_put(session, len);
    if (ckpt_is_zeros(data, len)) {
        memset(ret_id, 0, sizeof(*ret_id));
        return 0;
    }
    ckpt_id_of(ret_id, data, len);
    return put_content(session, &content, ret_id, err);
}

int ckpt_session_put_checked(struct ckpt_session *session,
                             const struct ckpt_arrival *arrival,
                             struct shl_err *err)
{
    const struct content content = {.arrival = arrival};

    assert(arrival->is_sound);
    if (session->failed) {
        return shl_err_set(err, session->failed, "writing this checkpoint has failed before");
    }
    count_put(session, arrival->raw_bytes);
    return put_content(session, &content, &arrival->id, err);
}

int ckpt_session_pin(struct ckpt_session *session, const struct ckpt_id *id, struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    int rc = reserve_pin(session);

    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot hold another chunk");
    }
    if (ckpt_id_is_zero(id)) {
        return 0;
    }
    (void)pthread_mutex_lock(&store->lock);
    rc = pin_found(session, id, err);
    (void)pthread_mutex_unlock(&store->lock);
    return rc == SHL_ENOTFOUND ? shl_err_set(err, rc, "the checkpoint store has no such chunk")
                               : rc;
}

void ckpt_session_stats(const struct ckpt_session *session, struct ckpt_session_stats *ret)
{
    *ret = session->stats;
}

static void session_end(struct ckpt_session *session)
{
    struct ckpt_store *store = session->store;
    size_t i;

    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < session->count; i++) {
        ckpt_slot_unpin(store, session->slots[i]);
    }
    store->session_count--;
    (void)pthread_mutex_unlock(&store->lock);
    ckpt_codec_writer_free(session->writer);
    free(session->buffer);
    free(session->slots);
    free(session);
}

void ckpt_session_abort(struct ckpt_session *session)
{
    if (session) {
        session_end(session);
    }
}

/*- Committing. */

struct hold {
    struct ckpt_session *session;
    struct shl_err *err;
    int rc;
};

static bool hold_one(void *arg, const struct ckpt_id *id)
{
    struct hold *hold = arg;

    hold->rc = ckpt_session_pin(hold->session, id, hold->err);
    return hold->rc == 0;
}

/* Pin every chunk of the manifest: it is complete, and stays so until it is published. */
static int hold_chunks(struct ckpt_session *session, struct shl_bytes bytes, struct shl_err *err)
{
    struct hold hold = {.session = session, .err = err};
    struct ckpt_manifest manifest;
    int rc = ckpt_manifest_decode(&manifest, bytes, err);

    if (rc < 0) {
        return rc;
    }
    (void)ckpt_manifest_ids(&manifest, hold_one, &hold);
    ckpt_manifest_release(&manifest);
    if (hold.rc == SHL_ENOTFOUND) {
        return shl_err_set(err, hold.rc, "the manifest names a chunk that is not in the store");
    }
    return hold.rc;
}

/* A chunk that was found damaged after it was pinned would make the manifest useless. */
static int check_sound(struct ckpt_session *session, struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    bool sound = true;
    size_t i;

    (void)pthread_mutex_lock(&store->lock);
    for (i = 0; i < session->count && sound; i++) {
        sound = usable(store, session->slots[i]);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return sound ? 0
                 : shl_err_set(err, SHL_ECORRUPT,
                               "a chunk that was in the store turned out damaged: write the "
                               "checkpoint again, that replaces it");
}

/* The manifest is there already: nothing to do, unless its record is damaged. */
static int publish_again(struct ckpt_store *store,
                         const struct ckpt_id *id,
                         struct shl_bytes manifest,
                         const struct ckpt_place *place,
                         struct shl_err *err)
{
    struct ckpt_record record;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_load(store, id, place, &buf, NULL);
    shl_buf_release(&buf);
    if (rc == 0 && ckpt_manifest_header(store, place, &record, NULL) == 0 &&
        record.type == CKPT_RECORD_MANIFEST) {
        return 0;
    }
    return ckpt_manifest_publish(store, id, manifest, place, err);
}

static int publish_locked(struct ckpt_session *session,
                          struct shl_bytes manifest,
                          const struct ckpt_id *id,
                          struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    struct ckpt_place place;
    uint64_t count;
    int rc = ckpt_flush_locked(store, err);

    if (rc == 0) {
        rc = check_sound(session, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = ckpt_index_get(store->index, CKPT_KIND_MANIFEST, id, &place, err);
    if (rc == 0) {
        return publish_again(store, id, manifest, &place, err);
    }
    if (rc != SHL_ENOTFOUND) {
        return rc;
    }
    (void)pthread_mutex_lock(&store->lock);
    count = store->manifest_count;
    (void)pthread_mutex_unlock(&store->lock);
    if (count >= CKPT_MANIFESTS_MAX) {
        return shl_err_set(err, SHL_EQUOTA, "the checkpoint store holds %u checkpoints already",
                           CKPT_MANIFESTS_MAX);
    }
    rc = ckpt_manifest_publish(store, id, manifest, NULL, err);
    if (rc == 0) {
        (void)pthread_mutex_lock(&store->lock);
        store->manifest_count++;
        (void)pthread_mutex_unlock(&store->lock);
    }
    return rc;
}

int ckpt_session_commit(struct ckpt_session *session,
                        struct shl_bytes manifest,
                        struct ckpt_id *ret_id,
                        struct shl_err *err)
{
    struct ckpt_store *store = session->store;
    struct ckpt_id id;
    int rc;

    if (session->failed) {
        return shl_err_set(err, session->failed, "writing this checkpoint has failed before");
    }
    if (manifest.len == 0 || manifest.len > CKPT_MANIFEST_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "a manifest has 1 to %u bytes, not %zu",
                           CKPT_MANIFEST_MAX, manifest.len);
    }
    ckpt_id_of(&id, manifest.base, manifest.len);
    rc = hold_chunks(session, manifest, err);
    if (rc == 0) {
        /* Most of the waiting for the disk, while others may still publish. */
        rc = ckpt_sync_segments(store, err);
    }
    if (rc == 0) {
        ckpt_step(store, "chunks-synced");
        (void)pthread_mutex_lock(&store->flush_lock);
        rc = publish_locked(session, manifest, &id, err);
        (void)pthread_mutex_unlock(&store->flush_lock);
    }
    if (rc < 0) {
        session->failed = rc;
        return rc;
    }
    *ret_id = id;
    session_end(session);
    return 0;
}
