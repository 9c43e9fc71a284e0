#include "node/store/raft_log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "node/store/db.h"

#define FORMAT_VERSION   1
#define SNAPSHOT_PIECE   (1024u * 1024)
#define META_MAX         (64u * 1024)
#define ENTRY_HEADER     9
#define ENTRY_KEY_SIZE   9
#define PIECE_KEY_SIZE   5
#define LOAD_ENTRIES_MAX (4u * 1024 * 1024)
#define LOAD_BYTES_MAX   (1024u * 1024 * 1024)
#define WHAT             "the cluster's log"

struct node_raft_log {
    struct node_db db;
    /* What the database holds once all prepared batches are written. */
    uint64_t first; /* of the entries; with last below it there are none */
    uint64_t last;
    uint32_t pieces; /* of the snapshot */
};

struct node_raft_batch {
    leveldb_writebatch_t *batch;
};

static void put_be64(uint8_t *p, uint64_t v)
{
    int i;

    for (i = 7; i >= 0; i--, v >>= 8) {
        p[i] = (uint8_t)v;
    }
}

static uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;
    int i;

    for (i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

static void entry_key(char key[ENTRY_KEY_SIZE], uint64_t index)
{
    key[0] = 'e';
    put_be64((uint8_t *)key + 1, index);
}

static void piece_key(char key[PIECE_KEY_SIZE], uint32_t piece)
{
    uint8_t wide[8];

    put_be64(wide, piece);
    key[0] = 's';
    memcpy(key + 1, wide + 4, 4);
}

int node_raft_log_open(const char *dir, struct node_raft_log **ret_log, struct shl_err *err)
{
    struct node_raft_log *log = calloc(1, sizeof(*log));
    int rc;

    if (!log) {
        return shl_err_sys(err, ENOMEM, "cannot open " WHAT " in %s", dir);
    }
    rc = node_db_open(&log->db, dir, WHAT, err);
    if (rc < 0) {
        free(log);
        return rc;
    }
    log->first = 1;
    *ret_log = log;
    return 0;
}

void node_raft_log_close(struct node_raft_log *log)
{
    if (log) {
        node_db_close(&log->db);
        free(log);
    }
}

/* ---- writing --------------------------------------------------------------------- */

static int put_hard_state(leveldb_writebatch_t *batch, const struct sched_raft_persist *persist)
{
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, META_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", FORMAT_VERSION);
    shl_mp_kv_uint(&w, "term", persist->term);
    shl_mp_kv_bin(&w, "vote", persist->vote.bytes, SHL_NODE_ID_BYTES);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        leveldb_writebatch_put(batch, "h", 1, (const char *)shl_buf_data(&buf), shl_buf_len(&buf));
    }
    shl_buf_release(&buf);
    return rc;
}

static int put_meta(leveldb_writebatch_t *batch,
                    const struct sched_raft_snapshot_meta *meta,
                    uint32_t pieces)
{
    struct shl_buf members, buf;
    struct shl_mp_writer w;
    int rc;

    shl_buf_init(&members, META_MAX);
    shl_buf_init(&buf, META_MAX);
    rc = sched_raft_membership_encode(&meta->membership, &members);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", FORMAT_VERSION);
    shl_mp_kv_uint(&w, "index", meta->index);
    shl_mp_kv_uint(&w, "term", meta->term);
    shl_mp_kv_uint(&w, "membership_index", meta->membership_index);
    shl_mp_kv_bin(&w, "membership", shl_buf_data(&members), shl_buf_len(&members));
    shl_mp_kv_uint(&w, "pieces", pieces);
    shl_mp_end(&w);
    if (rc == 0) {
        rc = shl_mp_done(&w);
    }
    if (rc == 0) {
        leveldb_writebatch_put(batch, "m", 1, (const char *)shl_buf_data(&buf), shl_buf_len(&buf));
    }
    shl_buf_release(&members);
    shl_buf_release(&buf);
    return rc;
}

/* Takes entries [from, to] out. */
static void drop_entries(leveldb_writebatch_t *batch, uint64_t from, uint64_t to)
{
    char key[ENTRY_KEY_SIZE];

    for (; from <= to; from++) {
        entry_key(key, from);
        leveldb_writebatch_delete(batch, key, sizeof(key));
    }
}

static int put_snapshot(struct node_raft_log *log,
                        leveldb_writebatch_t *batch,
                        const struct sched_raft_persist *persist)
{
    struct shl_bytes data = persist->snapshot_data;
    char key[PIECE_KEY_SIZE];
    uint32_t pieces = 0;
    uint64_t up_to;

    while (data.len > 0) {
        size_t len = SHL_MIN(data.len, (size_t)SNAPSHOT_PIECE);

        piece_key(key, pieces++);
        leveldb_writebatch_put(batch, key, sizeof(key), (const char *)data.base, len);
        data = shl_bytes_of(data.base + len, data.len - len);
    }
    for (; log->pieces > pieces; log->pieces--) {
        piece_key(key, log->pieces - 1);
        leveldb_writebatch_delete(batch, key, sizeof(key));
    }
    log->pieces = pieces;
    if (persist->snapshot == SCHED_RAFT_SNAPSHOT_INSTALL) {
        drop_entries(batch, log->first, log->last);
        log->first = persist->meta->index + 1;
        log->last = persist->meta->index;
    } else if (persist->log_first > log->first) {
        up_to = SHL_MIN(persist->log_first - 1, log->last);
        drop_entries(batch, log->first, up_to);
        log->first = SHL_MIN(persist->log_first, log->last + 1);
    }
    return put_meta(batch, persist->meta, pieces);
}

static int put_entry(struct node_raft_log *log,
                     leveldb_writebatch_t *batch,
                     const struct sched_raft_entry *entry,
                     struct shl_buf *buf)
{
    uint8_t header[ENTRY_HEADER];
    char key[ENTRY_KEY_SIZE];
    int rc;

    shl_buf_clear(buf);
    shl_put_le64(header, entry->term);
    header[8] = entry->type;
    rc = shl_buf_append(buf, header, sizeof(header));
    if (rc == 0) {
        rc = shl_buf_append(buf, entry->data.base, entry->data.len);
    }
    if (rc == 0) {
        entry_key(key, entry->index);
        leveldb_writebatch_put(batch, key, sizeof(key), (const char *)shl_buf_data(buf),
                               shl_buf_len(buf));
        if (log->last < log->first) {
            log->first = entry->index;
        }
        log->last = entry->index;
    }
    return rc;
}

static int fill(struct node_raft_log *log,
                leveldb_writebatch_t *batch,
                const struct sched_raft_persist *persist)
{
    struct shl_buf buf;
    uint32_t i;
    int rc = 0;

    if (persist->snapshot != SCHED_RAFT_SNAPSHOT_NONE) {
        rc = put_snapshot(log, batch, persist);
    }
    if (rc == 0 && persist->truncate_from > 0 && persist->truncate_from <= log->last) {
        uint64_t from = SHL_MAX(persist->truncate_from, log->first);

        drop_entries(batch, from, log->last);
        log->last = from - 1;
    }
    shl_buf_init(&buf, SCHED_RAFT_COMMAND_BYTES_MAX + META_MAX);
    for (i = 0; i < persist->entry_count && rc == 0; i++) {
        rc = put_entry(log, batch, &persist->entries[i], &buf);
    }
    shl_buf_release(&buf);
    if (rc == 0 && persist->has_hard_state) {
        rc = put_hard_state(batch, persist);
    }
    return rc;
}

struct node_raft_batch *node_raft_log_prepare(struct node_raft_log *log,
                                              const struct sched_raft_persist *persist)
{
    struct node_raft_batch *batch = calloc(1, sizeof(*batch));

    if (!batch) {
        return NULL;
    }
    batch->batch = leveldb_writebatch_create();
    if (fill(log, batch->batch, persist) < 0) {
        leveldb_writebatch_destroy(batch->batch);
        free(batch);
        return NULL;
    }
    return batch;
}

int node_raft_log_write(struct node_raft_log *log,
                        struct node_raft_batch *batch,
                        struct shl_err *err)
{
    char *message = NULL;

    leveldb_write(log->db.db, log->db.write, batch->batch, &message);
    leveldb_writebatch_destroy(batch->batch);
    free(batch);
    if (message) {
        return node_db_error(err, -EIO, "cannot write " WHAT " (is the disk full?)", message);
    }
    return 0;
}

/* ---- reading --------------------------------------------------------------------- */

static int damaged(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_ECORRUPT,
                       WHAT " on this disk is damaged (%s): remove this node from the cluster "
                            "(shoal node rm) and let it join anew with an empty data folder",
                       what);
}

static int check_version(const msgpack_object *map, struct shl_err *err)
{
    uint64_t version;

    if (shl_mp_get_uint(map, "v", UINT32_MAX, &version) < 0) {
        return damaged(err, "no version");
    }
    if (version > FORMAT_VERSION) {
        return shl_err_set(err, SHL_EVERSION,
                           WHAT " was written by a newer shoald (format %llu, this one knows %d): "
                                "start the newer version",
                           (unsigned long long)version, FORMAT_VERSION);
    }
    return 0;
}

/* 1 with the value in @buf, 0 when absent. */
static int get(struct node_raft_log *log,
               const char *key,
               size_t key_len,
               struct shl_buf *buf,
               struct shl_err *err)
{
    char *message = NULL;
    size_t len;
    char *value = leveldb_get(log->db.db, log->db.read, key, key_len, &len, &message);
    int rc;

    if (message) {
        return node_db_error(err, SHL_ECORRUPT, "cannot read " WHAT, message);
    }
    if (!value) {
        return 0;
    }
    rc = shl_buf_append(buf, value, len);
    leveldb_free(value);
    return rc < 0 ? shl_err_set(err, rc, WHAT " is larger than this program can read") : 1;
}

static int load_hard_state(struct node_raft_log *log,
                           struct node_raft_stored *ret,
                           struct shl_err *err)
{
    struct shl_mp_doc doc;
    struct shl_bytes vote;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, META_MAX);
    rc = get(log, "h", 1, &buf, err);
    if (rc == 1) {
        rc = shl_mp_parse(&doc, shl_buf_bytes(&buf));
        if (rc < 0) {
            rc = damaged(err, "term and vote");
        } else {
            rc = check_version(doc.root, err);
            if (rc == 0) {
                rc = 1;
                if (shl_mp_get_uint(doc.root, "term", UINT64_MAX, &ret->term) < 0 ||
                    shl_mp_get_bin(doc.root, "vote", &vote) < 0 || vote.len != SHL_NODE_ID_BYTES) {
                    rc = damaged(err, "term and vote");
                } else {
                    memcpy(ret->vote.bytes, vote.base, vote.len);
                }
            }
            shl_mp_release(&doc);
        }
    }
    shl_buf_release(&buf);
    return rc;
}

static int decode_meta(const msgpack_object *map,
                       struct sched_raft_snapshot_meta *meta,
                       uint64_t *ret_pieces,
                       struct shl_err *err)
{
    struct shl_bytes members;
    int rc = check_version(map, err);

    if (rc < 0) {
        return rc;
    }
    if (shl_mp_get_uint(map, "index", UINT64_MAX, &meta->index) < 0 ||
        shl_mp_get_uint(map, "term", UINT64_MAX, &meta->term) < 0 ||
        shl_mp_get_uint(map, "membership_index", UINT64_MAX, &meta->membership_index) < 0 ||
        shl_mp_get_uint(map, "pieces", SCHED_RAFT_SNAPSHOT_BYTES_MAX / SNAPSHOT_PIECE + 1,
                        ret_pieces) < 0 ||
        shl_mp_get_bin(map, "membership", &members) < 0 ||
        sched_raft_membership_decode(members, &meta->membership) < 0) {
        return damaged(err, "snapshot");
    }
    return 0;
}

static int load_snapshot(struct node_raft_log *log,
                         struct node_raft_stored *ret,
                         struct shl_err *err)
{
    char key[PIECE_KEY_SIZE];
    struct shl_mp_doc doc;
    uint64_t pieces = 0;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, META_MAX);
    rc = get(log, "m", 1, &buf, err);
    if (rc == 1) {
        if (shl_mp_parse(&doc, shl_buf_bytes(&buf)) < 0) {
            rc = damaged(err, "snapshot");
        } else {
            rc = decode_meta(doc.root, &ret->snapshot, &pieces, err);
            shl_mp_release(&doc);
        }
    }
    shl_buf_release(&buf);
    for (log->pieces = 0; rc == 0 && log->pieces < pieces; log->pieces++) {
        piece_key(key, log->pieces);
        rc = get(log, key, sizeof(key), &ret->snapshot_data, err);
        rc = rc == 0 ? damaged(err, "a piece of the snapshot is missing") : SHL_MIN(rc, 0);
    }
    return SHL_MIN(rc, 0);
}

static int take_entry(struct node_raft_log *log,
                      struct node_raft_stored *ret,
                      const uint8_t *key,
                      struct shl_bytes value,
                      uint64_t *capacity,
                      struct shl_err *err)
{
    struct sched_raft_entry *entry;
    uint64_t index = get_be64(key + 1);

    if (value.len < ENTRY_HEADER || (ret->entry_count > 0 && index != log->last + 1)) {
        return damaged(err, "an entry is missing");
    }
    if (ret->entry_count == *capacity) {
        uint64_t more = *capacity ? *capacity * 2 : 256;

        entry = more <= LOAD_ENTRIES_MAX ? realloc(ret->entries, more * sizeof(*entry)) : NULL;
        if (!entry) {
            return shl_err_sys(err, ENOMEM, "cannot read " WHAT);
        }
        ret->entries = entry;
        *capacity = more;
    }
    if (shl_buf_append(&ret->bytes, value.base + ENTRY_HEADER, value.len - ENTRY_HEADER) < 0) {
        return shl_err_sys(err, ENOMEM, "cannot read " WHAT);
    }
    entry = &ret->entries[ret->entry_count++];
    *entry = (struct sched_raft_entry){
        .index = index,
        .term = shl_get_le64(value.base),
        .type = value.base[8],
        .data = {.len = value.len - ENTRY_HEADER},
    };
    if (ret->entry_count == 1) {
        log->first = index;
    }
    log->last = index;
    return 0;
}

static int load_entries(struct node_raft_log *log,
                        struct node_raft_stored *ret,
                        struct shl_err *err)
{
    leveldb_iterator_t *it = leveldb_create_iterator(log->db.db, log->db.read);
    uint64_t capacity = 0, i;
    char *message = NULL;
    size_t at = 0;
    int rc = 0;

    log->last = ret->snapshot.index;
    log->first = log->last + 1;
    for (leveldb_iter_seek(it, "e", 1); rc == 0 && leveldb_iter_valid(it); leveldb_iter_next(it)) {
        size_t key_len, value_len;
        const uint8_t *key = (const uint8_t *)leveldb_iter_key(it, &key_len);
        const char *value = leveldb_iter_value(it, &value_len);

        if (key_len != ENTRY_KEY_SIZE || key[0] != 'e') {
            break;
        }
        rc = take_entry(log, ret, key, shl_bytes_of(value, value_len), &capacity, err);
    }
    leveldb_iter_get_error(it, &message);
    leveldb_iter_destroy(it);
    if (message) {
        return rc < 0 ? (leveldb_free(message), rc)
                      : node_db_error(err, SHL_ECORRUPT, "cannot read " WHAT, message);
    }
    for (i = 0; i < ret->entry_count; i++) { /* the buffer stands still now */
        ret->entries[i].data.base = shl_buf_data(&ret->bytes) + at;
        at += ret->entries[i].data.len;
    }
    return rc;
}

int node_raft_log_load(struct node_raft_log *log, struct node_raft_stored *ret, struct shl_err *err)
{
    int found, rc;

    memset(ret, 0, sizeof(*ret));
    shl_buf_init(&ret->snapshot_data, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    shl_buf_init(&ret->bytes, LOAD_BYTES_MAX);
    found = load_hard_state(log, ret, err);
    rc = SHL_MIN(found, 0);
    if (rc == 0) {
        rc = load_snapshot(log, ret, err);
    }
    if (rc == 0) {
        rc = load_entries(log, ret, err);
    }
    if (rc == 0 && found == 0 && (ret->snapshot.index > 0 || ret->entry_count > 0)) {
        rc = damaged(err, "term and vote are missing");
    }
    if (rc < 0) {
        node_raft_stored_release(ret);
        return rc;
    }
    return found;
}

void node_raft_stored_release(struct node_raft_stored *stored)
{
    shl_buf_release(&stored->snapshot_data);
    shl_buf_release(&stored->bytes);
    free(stored->entries);
    stored->entries = NULL;
    stored->entry_count = 0;
}
