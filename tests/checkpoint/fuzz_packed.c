/* Any bytes as a packed chunk of a peer: nothing is written outside of a chunk, and what is taken
 * is one that became smaller. The first byte says whether the head of a frame is put in front,
 * so that the fuzzer gets past it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Single segment, a size of two bytes: 256 more than the number. */
    static const uint8_t head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0xff};
    static struct ckpt_codec_reader *reader;
    uint8_t *packed, *raw;
    size_t len = 0;
    int got;

    if (size < 1 || size > CKPT_CHUNK_BYTES) {
        return 0;
    }
    packed = malloc(sizeof(head) + size);
    raw = malloc(CKPT_CHUNK_BYTES);
    reader = reader ? reader : ckpt_codec_reader_new(); /* one for all, as a daemon has it */
    assert(packed && raw && reader);
    if (data[0] & 1) {
        memcpy(packed, head, sizeof(head));
        len = sizeof(head);
    }
    memcpy(packed + len, data + 1, size - 1);
    len += size - 1;
    got = ckpt_codec_unpack(reader, shl_bytes_of(packed, len), raw);
    assert(got == SHL_EPROTO || (got > (int)len && got <= (int)CKPT_CHUNK_BYTES));
    free(packed);
    free(raw);
    return 0;
}
