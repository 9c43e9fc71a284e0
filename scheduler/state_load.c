/* Reading a snapshot: the bytes come from a peer or from disk and are not believed. The
 * new state is built aside and handed out only when all of it was there and adds up. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "scheduler/snapshot.h"
#include "scheduler/state_private.h"

struct sched_load {
    struct sched_state *state;
    struct shl_buf waiting; /* part of a piece */
    uint32_t piece;         /* number of the next one */
    uint32_t table;         /* of the last rows */
    uint64_t digest;
    bool ended;
};

struct sched_load *sched_load_new(const struct sched_state_config *config)
{
    struct sched_load *load = calloc(1, sizeof(*load));

    if (!load) {
        return NULL;
    }
    load->state = sched_state_new(config);
    if (!load->state) {
        free(load);
        return NULL;
    }
    shl_buf_init(&load->waiting, SCHED_PIECE_MAX);
    return load;
}

void sched_load_free(struct sched_load *load)
{
    if (load) {
        sched_state_free(load->state);
        shl_buf_release(&load->waiting);
        free(load);
    }
}

static int corrupt(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_ECORRUPT, "the snapshot of the cluster's state is damaged: %s",
                       what);
}

static int read_head(struct sched_load *load, const msgpack_object *map, struct shl_err *err)
{
    struct sched_state *state = load->state;
    struct shl_bytes cluster;
    uint64_t lease;

    if (shl_mp_get_uint(map, "index", UINT64_MAX, &state->index) < 0 ||
        shl_mp_get_uint(map, "term", UINT64_MAX, &state->term) < 0 ||
        shl_mp_get_uint(map, "time", SCHED_TIME_MAX_MS, &state->time_ms) < 0 ||
        shl_mp_get_bin(map, "cluster", &cluster) < 0 || cluster.len != sizeof(state->cluster) ||
        shl_mp_get_uint(map, "feat", UINT64_MAX, &state->features) < 0 ||
        shl_mp_get_uint(map, "lease", SCHED_LEASE_MAX_MS, &lease) < 0 ||
        (lease != 0 && lease < SCHED_LEASE_MIN_MS)) {
        return corrupt(err, "its head is not valid");
    }
    memcpy(state->cluster, cluster.base, cluster.len);
    state->lease_ms = (uint32_t)lease;
    return 0;
}

/* What the state derives from its rows. */
static int account_row(struct sched_load *load, const struct sched_row *row, struct shl_err *err)
{
    struct sched_state *state = load->state;
    const struct sched_name *name = (const struct sched_name *)row;
    const struct sched_kv *kv = (const struct sched_kv *)row;

    if (load->table == SCHED_TABLE_NAMES && name->expires_at_ms != 0) {
        state->name_expiry_floor_ms = SHL_MIN(state->name_expiry_floor_ms, name->expires_at_ms);
    }
    if (load->table == SCHED_TABLE_KV) {
        state->kv_bytes += kv->value.len;
        if (state->kv_bytes > SCHED_KV_BYTES_MAX) {
            return corrupt(err, "its settings are over their limit");
        }
    }
    return 0;
}

/* Rows come in order, so each goes to the end. */
static int add_row(struct sched_load *load, struct sched_row *row, struct shl_err *err)
{
    struct sched_table *table = &load->state->tables[load->table];

    if (table->count > 0 && sched_fields_compare(&table->type->fields, table->type->keys,
                                                 table->rows[table->count - 1], row) >= 0) {
        return corrupt(err, "its rows are out of order");
    }
    if (sched_table_is_full(table)) {
        return corrupt(err, "it has more rows than are allowed");
    }
    if (sched_table_grow(table) < 0) {
        return -ENOMEM;
    }
    return account_row(load, row, err);
}

static int read_row(struct sched_load *load, const msgpack_object *map, struct shl_err *err)
{
    struct sched_table *table = &load->state->tables[load->table];
    struct sched_row *row = sched_table_row_new(table);
    int rc;

    if (!row) {
        return -ENOMEM;
    }
    rc = sched_fields_read(map, &table->type->fields, row, err);
    if (rc < 0) {
        free(row); /* its blobs are borrowed still */
        return shl_err_wrap(err, SHL_ECORRUPT, "the snapshot of the cluster's state is damaged: %s",
                            table->type->what);
    }
    rc = sched_fields_own(&table->type->fields, row);
    if (rc == 0) {
        rc = add_row(load, row, err);
    }
    if (rc < 0) {
        sched_table_row_free(table, row);
        return rc;
    }
    sched_table_insert(table, row);
    return 0;
}

static int read_rows(struct sched_load *load, const msgpack_object *map, struct shl_err *err)
{
    const msgpack_object *rows = shl_mp_find(map, "rows");
    uint64_t table;
    uint32_t i;
    int rc = 0;

    if (shl_mp_get_uint(map, "table", SCHED_TABLE_COUNT - 1, &table) < 0 || !rows ||
        rows->type != MSGPACK_OBJECT_ARRAY || table < load->table) {
        return corrupt(err, "a piece is neither rows nor the end");
    }
    load->table = (uint32_t)table;
    for (i = 0; rc == 0 && i < rows->via.array.size; i++) {
        rc = read_row(load, &rows->via.array.ptr[i], err);
    }
    return rc;
}

static int read_map(struct sched_load *load, const msgpack_object *map, struct shl_err *err)
{
    uint64_t version, number;
    bool end;

    if (shl_mp_get_uint(map, "v", UINT32_MAX, &version) < 0) {
        return corrupt(err, "a piece has no version");
    }
    if (version != SCHED_STATE_VERSION) {
        return shl_err_set(err, SHL_EVERSION,
                           "the snapshot of the cluster's state has format %llu, this version of "
                           "shoald knows %d",
                           (unsigned long long)version, SCHED_STATE_VERSION);
    }
    if (load->ended || shl_mp_get_uint(map, "n", UINT32_MAX, &number) < 0 ||
        number != load->piece) {
        return corrupt(err, "a piece is missing or there twice");
    }
    load->piece++;
    if (number == 0) {
        return read_head(load, map, err);
    }
    if (shl_mp_get_bool(map, "end", &end) < 0) {
        return read_rows(load, map, err);
    }
    if (shl_mp_get_uint(map, "digest", UINT64_MAX, &load->digest) < 0) {
        return corrupt(err, "its end has no digest");
    }
    load->ended = true;
    return 0;
}

static int read_piece(struct sched_load *load, struct shl_bytes bytes, struct shl_err *err)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, bytes);

    if (rc == -ENOMEM) {
        return shl_err_set(err, rc, "no memory for the snapshot of the cluster's state");
    }
    if (rc < 0) {
        return corrupt(err, "a piece is not valid msgpack");
    }
    rc = read_map(load, doc.root, err);
    shl_mp_release(&doc);
    return rc;
}

/* Bytes of the piece at the front with its head; 0 when even the head is not there yet. */
static int piece_size(struct shl_bytes bytes, size_t *ret)
{
    uint32_t len;

    *ret = 0;
    if (bytes.len < SCHED_PIECE_HEAD_BYTES) {
        return 0;
    }
    len = shl_get_le32(bytes.base);
    if (len == 0 || len > SCHED_PIECE_MAX - SCHED_PIECE_HEAD_BYTES) {
        return SHL_ECORRUPT;
    }
    *ret = len + SCHED_PIECE_HEAD_BYTES;
    return 0;
}

/* Take whole pieces from the front of @bytes. Returns how many bytes, or an error. */
static ssize_t take_pieces(struct sched_load *load, struct shl_bytes bytes, struct shl_err *err)
{
    size_t taken = 0, size;
    int rc;

    for (;;) {
        struct shl_bytes rest = shl_bytes_of(bytes.base + taken, bytes.len - taken);

        if (piece_size(rest, &size) < 0) {
            return corrupt(err, "a piece has an impossible length");
        }
        if (size == 0 || size > rest.len) {
            return (ssize_t)taken;
        }
        rc = read_piece(
            load, shl_bytes_of(rest.base + SCHED_PIECE_HEAD_BYTES, size - SCHED_PIECE_HEAD_BYTES),
            err);
        if (rc < 0) {
            return rc;
        }
        taken += size;
    }
}

/* Complete the piece that waits. Returns how many bytes of @bytes it took, or an error. */
static ssize_t fill_waiting(struct sched_load *load, struct shl_bytes bytes, struct shl_err *err)
{
    size_t size, want, got = shl_buf_len(&load->waiting);
    ssize_t taken;
    int rc;

    if (piece_size(shl_buf_bytes(&load->waiting), &size) < 0) {
        return corrupt(err, "a piece has an impossible length");
    }
    want = SHL_MIN((size ? size : SCHED_PIECE_HEAD_BYTES) - got, bytes.len);
    rc = shl_buf_append(&load->waiting, bytes.base, want);
    if (rc < 0) {
        return rc;
    }
    taken = take_pieces(load, shl_buf_bytes(&load->waiting), err);
    if (taken < 0) {
        return taken;
    }
    shl_buf_consume(&load->waiting, (size_t)taken);
    return (ssize_t)want;
}

int sched_load_feed(struct sched_load *load, struct shl_bytes bytes, struct shl_err *err)
{
    ssize_t taken;

    while (bytes.len > 0 && shl_buf_len(&load->waiting) > 0) {
        taken = fill_waiting(load, bytes, err);
        if (taken < 0) {
            return (int)taken;
        }
        bytes = shl_bytes_of(bytes.base + taken, bytes.len - (size_t)taken);
    }
    if (bytes.len == 0) {
        return 0;
    }
    taken = take_pieces(load, bytes, err);
    if (taken < 0) {
        return (int)taken;
    }
    return shl_buf_append(&load->waiting, bytes.base + taken, bytes.len - (size_t)taken);
}

int sched_load_end(struct sched_load *load,
                   uint64_t index,
                   uint64_t term,
                   struct sched_state **ret_state,
                   struct shl_err *err)
{
    bool lossy = (load->state->mutations & SCHED_MUT_TOMBSTONE_LOST) != 0;

    if (!load->ended || shl_buf_len(&load->waiting) > 0) {
        return corrupt(err, "it is not complete");
    }
    if (load->digest != sched_state_digest(load->state) && !lossy) {
        return corrupt(err, "its digest is wrong");
    }
    if (load->state->index > index || load->state->term > term) {
        return corrupt(err, "it is of a later place in the log than it was sent for");
    }
    *ret_state = shl_steal_ptr(&load->state);
    return 0;
}
