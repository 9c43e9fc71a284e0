/* How nodes ask each other for manifests and chunks of checkpoints: one stream of the mesh
 * per question.
 *
 * Kind NODE_REPLICA_KIND. Head, msgpack: {"manifest": id} or {"chunks": ids one after the
 * other, 32 bytes each, 1..CKPT_FETCH_REQUEST_CHUNKS_MAX, none zero, none twice; "packed": true
 * when the asking side can read NODE_REPLICA_PACKED}. The asking side sends no bytes.
 *
 * Answer: records in the order of the ids (a manifest is number 0), then the end:
 *     u32 index | u32 outcome | u32 length | bytes        little-endian
 * NODE_REPLICA_HERE carries 1..CKPT_CHUNK_BYTES bytes (manifest: ..CKPT_MANIFEST_MAX),
 * NODE_REPLICA_LACKS none. NODE_REPLICA_PACKED carries a chunk as the store of the peer has it,
 * one zstd frame of 1..CKPT_CHUNK_BYTES - 1 bytes that becomes more when unpacked
 * (checkpoint/codec.h). What has no record when the end comes, the peer does not have.
 * Whether the bytes are those of the id is for the reader to check.
 *
 * Versions: an older node does not say "packed" and is sent no such record; one that is asked
 * ignores the word, as every key it does not know, and answers with plain chunks.
 *
 * Pure, any thread. Everything parsed here is the peer's: SHL_EPROTO for what breaks a rule.
 */
#ifndef SHL_NODE_REPLICA_WIRE_H
#define SHL_NODE_REPLICA_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "checkpoint/fetch.h"
#include "checkpoint/store.h"

#define NODE_REPLICA_KIND         "replica.fetch"
#define NODE_REPLICA_RECORD_BYTES 12u /* before the bytes of a record */
#define NODE_REPLICA_HEAD_MAX     (CKPT_FETCH_REQUEST_CHUNKS_MAX * CKPT_ID_BYTES + 64u)

struct node_replica_ask {
    bool is_manifest; /* then count is 1 */
    bool may_pack;    /* of chunks: the answer may have packed ones */
    uint32_t count;
    struct ckpt_id ids[CKPT_FETCH_REQUEST_CHUNKS_MAX];
};

/* Asserts that @ask is one that parse would take. 0 or -ENOMEM. */
SHL_MUST_CHECK int node_replica_ask_write(struct shl_buf *buf, const struct node_replica_ask *ask);
SHL_MUST_CHECK int node_replica_ask_parse(struct node_replica_ask *ret,
                                          struct shl_bytes head,
                                          struct shl_err *err);

enum node_replica_outcome {
    NODE_REPLICA_HERE = 1,
    NODE_REPLICA_LACKS = 2,
    NODE_REPLICA_PACKED = 3,
};

struct node_replica_record {
    uint32_t index;
    enum node_replica_outcome outcome;
    uint32_t length;
};

void node_replica_record_write(uint8_t dst[NODE_REPLICA_RECORD_BYTES],
                               const struct node_replica_record *record);

/* The reading of one answer, in pieces of any size. Holds no memory. */
struct node_replica_reader {
    uint32_t count, length_max; /* what was asked */
    bool may_pack;
    uint32_t next; /* lowest index that may come */
    uint8_t head[NODE_REPLICA_RECORD_BYTES];
    uint32_t head_len;
    struct node_replica_record record; /* the one begun last */
    uint32_t left;                     /* of its bytes */
};

void node_replica_reader_init(struct node_replica_reader *reader,
                              const struct node_replica_ask *ask);

/* A part of a record: its bytes, or the whole of one without bytes. */
struct node_replica_part {
    struct node_replica_record record;
    struct shl_bytes bytes; /* borrowed from the piece */
    bool is_first, is_last;
};

/* Take from the front of @piece. 1: *ret is a part; 0: the piece is used up; SHL_EPROTO: the
 * answer is not valid, and nothing more can be read. */
SHL_MUST_CHECK int node_replica_read(struct node_replica_reader *reader,
                                     struct shl_bytes *piece,
                                     struct node_replica_part *ret);

/* The answer may end here: not in the middle of a record. */
bool node_replica_may_end(const struct node_replica_reader *reader);

#endif /* SHL_NODE_REPLICA_WIRE_H */
