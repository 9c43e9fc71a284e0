#include "node/replica/wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mp.h"

/*- The question. */

/* What both sides hold true of a question. */
static bool is_valid(const struct node_replica_ask *ask)
{
    uint32_t i, j;

    if (ask->count == 0 || ask->count > CKPT_FETCH_REQUEST_CHUNKS_MAX ||
        (ask->is_manifest && (ask->count != 1 || ask->may_pack))) {
        return false;
    }
    for (i = 0; i < ask->count; i++) {
        if (ckpt_id_is_zero(&ask->ids[i])) {
            return false;
        }
        for (j = 0; j < i; j++) {
            if (ckpt_id_equal(&ask->ids[i], &ask->ids[j])) {
                return false;
            }
        }
    }
    return true;
}

int node_replica_ask_write(struct shl_buf *buf, const struct node_replica_ask *ask)
{
    struct shl_mp_writer w;

    assert(is_valid(ask));
    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_bin(&w, ask->is_manifest ? "manifest" : "chunks", ask->ids,
                  ask->count * sizeof(ask->ids[0]));
    if (ask->may_pack) {
        shl_mp_kv_bool(&w, "packed", true);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int parse_map(struct node_replica_ask *ret, const msgpack_object *root)
{
    struct shl_bytes manifest, chunks, ids;
    int rc = shl_mp_get_bin(root, "manifest", &manifest);
    int other = shl_mp_get_bin(root, "chunks", &chunks);
    int packed = shl_mp_get_bool(root, "packed", &ret->may_pack);

    if ((rc == 0) == (other == 0) || (rc < 0 && rc != SHL_ENOTFOUND) ||
        (other < 0 && other != SHL_ENOTFOUND) || (packed < 0 && packed != SHL_ENOTFOUND)) {
        return SHL_EPROTO; /* one of them, and the other one not at all */
    }
    ids = rc == 0 ? manifest : chunks;
    if (ids.len % CKPT_ID_BYTES != 0 || ids.len > sizeof(ret->ids)) {
        return SHL_EPROTO;
    }
    ret->is_manifest = rc == 0;
    ret->count = (uint32_t)(ids.len / CKPT_ID_BYTES);
    if (ids.len > 0) {
        memcpy(ret->ids, ids.base, ids.len);
    }
    return is_valid(ret) ? 0 : SHL_EPROTO;
}

int node_replica_ask_parse(struct node_replica_ask *ret, struct shl_bytes head, struct shl_err *err)
{
    struct shl_mp_doc doc;
    int rc = head.len > NODE_REPLICA_HEAD_MAX ? SHL_EPROTO : shl_mp_parse(&doc, head);

    memset(ret, 0, sizeof(*ret));
    if (rc == 0) {
        rc = parse_map(ret, doc.root);
        shl_mp_release(&doc);
    }
    if (rc == -ENOMEM) {
        return shl_err_sys(err, ENOMEM, "cannot read a request for chunks");
    }
    return rc < 0 ? shl_err_set(err, SHL_EPROTO, "a request for chunks cannot be understood") : 0;
}

/*- The answer. */

void node_replica_record_write(uint8_t dst[NODE_REPLICA_RECORD_BYTES],
                               const struct node_replica_record *record)
{
    shl_put_le32(dst, record->index);
    shl_put_le32(dst + 4, record->outcome);
    shl_put_le32(dst + 8, record->length);
}

void node_replica_reader_init(struct node_replica_reader *reader,
                              const struct node_replica_ask *ask)
{
    memset(reader, 0, sizeof(*reader));
    reader->count = ask->count;
    reader->length_max = ask->is_manifest ? CKPT_MANIFEST_MAX : CKPT_CHUNK_BYTES;
    reader->may_pack = ask->may_pack;
}

/* How many bytes a record of that outcome may have; negative: there is no such outcome. */
static int64_t length_max(const struct node_replica_reader *reader, uint32_t outcome)
{
    switch (outcome) {
    case NODE_REPLICA_HERE:
        return reader->length_max;
    case NODE_REPLICA_LACKS:
        return 0;
    case NODE_REPLICA_PACKED:
        return reader->may_pack ? (int64_t)CKPT_CHUNK_BYTES - 1 : -1;
    default:
        return -1;
    }
}

static int parse_record(struct node_replica_reader *reader)
{
    uint32_t index = shl_get_le32(reader->head), outcome = shl_get_le32(reader->head + 4);
    uint32_t length = shl_get_le32(reader->head + 8);
    int64_t max = length_max(reader, outcome);

    if (index < reader->next || index >= reader->count || max < 0 || length > max ||
        (max > 0) != (length > 0)) {
        return SHL_EPROTO;
    }
    reader->record.index = index;
    reader->record.outcome = (enum node_replica_outcome)outcome;
    reader->record.length = reader->left = length;
    reader->next = index + 1;
    return 0;
}

/* The next bytes of the record that is under way. */
static void take_bytes(struct node_replica_reader *reader,
                       struct shl_bytes *piece,
                       struct node_replica_part *ret)
{
    size_t len = SHL_MIN(piece->len, (size_t)reader->left);

    ret->is_first = reader->left == reader->record.length;
    ret->record = reader->record;
    ret->bytes = shl_bytes_of(piece->base, len);
    reader->left -= (uint32_t)len;
    ret->is_last = reader->left == 0;
    piece->base += len;
    piece->len -= len;
}

int node_replica_read(struct node_replica_reader *reader,
                      struct shl_bytes *piece,
                      struct node_replica_part *ret)
{
    while (piece->len > 0) {
        size_t len = SHL_MIN(piece->len, (size_t)(NODE_REPLICA_RECORD_BYTES - reader->head_len));

        if (reader->left > 0) {
            take_bytes(reader, piece, ret);
            return 1;
        }
        memcpy(reader->head + reader->head_len, piece->base, len);
        reader->head_len += (uint32_t)len;
        piece->base += len;
        piece->len -= len;
        if (reader->head_len < NODE_REPLICA_RECORD_BYTES) {
            break;
        }
        reader->head_len = 0;
        if (parse_record(reader) < 0) {
            return SHL_EPROTO;
        }
        if (reader->left == 0) {
            *ret = (struct node_replica_part){.record = reader->record, .is_first = true};
            ret->is_last = true;
            return 1;
        }
    }
    return 0;
}

bool node_replica_may_end(const struct node_replica_reader *reader)
{
    return reader->left == 0 && reader->head_len == 0;
}
