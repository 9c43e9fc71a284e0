/* Any bytes as a question, and as an answer in pieces of any size: no crash, a question that
 * parses is written the same again, and an answer reads the same in one piece. */
#include <assert.h>
#include <string.h>

#include "node/replica/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ask(struct shl_bytes head)
{
    struct node_replica_ask ask, again;
    struct shl_buf buf;

    if (node_replica_ask_parse(&ask, head, NULL) < 0) {
        return;
    }
    shl_buf_init(&buf, NODE_REPLICA_HEAD_MAX);
    assert(node_replica_ask_write(&buf, &ask) == 0);
    assert(node_replica_ask_parse(&again, shl_buf_bytes(&buf), NULL) == 0);
    assert(memcmp(&ask, &again, sizeof(ask)) == 0);
    shl_buf_release(&buf);
}

struct sum {
    uint64_t bytes, records;
    int rc;
    bool may_end;
};

static struct sum read_in(struct shl_bytes bytes, const struct node_replica_ask *ask, size_t step)
{
    struct node_replica_reader reader;
    struct sum sum = {0};

    node_replica_reader_init(&reader, ask);
    while (sum.rc == 0 && bytes.len > 0) {
        struct shl_bytes piece = shl_bytes_of(bytes.base, SHL_MIN(step, bytes.len));
        struct node_replica_part part;

        bytes.base += piece.len;
        bytes.len -= piece.len;
        while ((sum.rc = node_replica_read(&reader, &piece, &part)) == 1) {
            assert(part.record.index < ask->count);
            assert(part.bytes.len <= part.record.length);
            assert(part.record.length <= (ask->is_manifest ? CKPT_MANIFEST_MAX : CKPT_CHUNK_BYTES));
            assert(part.record.outcome != NODE_REPLICA_PACKED ||
                   (ask->may_pack && part.record.length < CKPT_CHUNK_BYTES));
            sum.bytes += part.bytes.len;
            sum.records += part.is_last;
        }
    }
    sum.may_end = node_replica_may_end(&reader);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct node_replica_ask ask = {.count = 1};
    struct sum pieces, whole;

    if (size < 2) {
        return 0;
    }
    check_ask(shl_bytes_of(data, size));
    ask.is_manifest = data[0] & 1;
    ask.may_pack = !ask.is_manifest && data[1] & 0x80;
    ask.count = ask.is_manifest ? 1 : 1 + (data[0] >> 1) % CKPT_FETCH_REQUEST_CHUNKS_MAX;
    pieces = read_in(shl_bytes_of(data + 2, size - 2), &ask, 1 + (data[1] & 0x7f));
    whole = read_in(shl_bytes_of(data + 2, size - 2), &ask, size);
    assert(pieces.rc == whole.rc);
    assert(pieces.rc < 0 || (pieces.bytes == whole.bytes && pieces.records == whole.records &&
                             pieces.may_end == whole.may_end));
    return 0;
}
