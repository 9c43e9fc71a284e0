/* Any bytes as the records of a segment: the scan ends, records lie inside the file and
 * do not overlap, and one whose body is sound can be decoded or is refused. The salt is
 * part of the input, so that the fuzzer gets past the sums: byte 0 says how many places
 * of the input get the sums of a record written into them. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/attr.h"
#include "checkpoint/codec.h"

#define INPUT_MAX (64u * 1024)
#define SALT      0x1122334455667788ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct walk {
    uint64_t behind; /* end of the last record */
    uint64_t file_bytes;
};

static int each(void *arg, const struct ckpt_record *record, uint64_t offset, const uint8_t *body)
{
    struct walk *walk = arg;
    uint8_t *raw;

    assert(offset >= walk->behind);
    walk->behind = offset + ckpt_record_bytes(record->stored_bytes);
    assert(walk->behind <= walk->file_bytes);
    if (body) {
        raw = malloc(record->raw_bytes);
        assert(raw);
        (void)!ckpt_codec_decode(record, body, raw);
        free(raw);
    }
    return 0;
}

/* Make the bytes at @at a record with a right sum, keeping type, codec and lengths. */
static void seal(uint8_t *bytes, size_t size, size_t at)
{
    struct ckpt_record record = {
        .type = (enum ckpt_record_type)(bytes[at + 4] % 5),
        .codec = (enum ckpt_codec)(bytes[at + 5] % 3),
        .raw_bytes = shl_get_le32(bytes + at + 8),
        .stored_bytes = shl_get_le32(bytes + at + 12) % 5000,
    };
    size_t room = size - at - CKPT_RECORD_HEADER_BYTES;

    memcpy(record.id.bytes, bytes + at + 16, CKPT_ID_BYTES);
    record.body_sum = ckpt_body_sum(bytes + at + CKPT_RECORD_HEADER_BYTES,
                                    SHL_MIN(room, (size_t)record.stored_bytes));
    ckpt_record_format(bytes + at, &record, SALT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct ckpt_scan scan = {.salt = SALT, .from = 64, .each = each};
    struct walk walk = {.behind = 64};
    uint8_t *bytes;
    uint32_t number;
    uint64_t salt;
    size_t i, at;

    if (size < 200 || size > INPUT_MAX) {
        return 0;
    }
    bytes = malloc(size);
    assert(bytes);
    memcpy(bytes, data, size);
    (void)!ckpt_segment_header_parse(bytes, &number, &salt);
    for (i = 0; i < bytes[0] % 16u; i++) {
        at = 64 + (size_t)bytes[1 + i] * 64;
        if (at + 64 <= size) {
            seal(bytes, size, at);
        }
    }
    if (fd < 0) {
        fd = memfd_create("segment", MFD_CLOEXEC);
    }
    assert(ftruncate(fd, 0) == 0);
    assert(pwrite(fd, bytes, size, 0) == (ssize_t)size);
    scan.fd = fd;
    scan.file_bytes = walk.file_bytes = size;
    scan.arg = &walk;
    assert(ckpt_segment_scan(&scan) == 0);
    assert(scan.end <= size);
    assert(scan.end == walk.behind || (scan.end == 64 && walk.behind == 64));
    free(bytes);
    return 0;
}
