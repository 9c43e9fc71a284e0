#include "checkpoint/segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/sum.h"

#define RECORD_MAGIC  0x31524853u /* "SHR1" */
#define HEADER_SUMMED 56u
#define WINDOW_BYTES  65536u /* of a search for the next record */

static const char segment_magic[8] = {'S', 'H', 'L', 'S', 'E', 'G', '\r', '\n'};

uint64_t ckpt_record_bytes(uint32_t stored_bytes)
{
    uint64_t bytes = (uint64_t)CKPT_RECORD_HEADER_BYTES + stored_bytes;

    return (bytes + CKPT_RECORD_ALIGN - 1) / CKPT_RECORD_ALIGN * CKPT_RECORD_ALIGN;
}

uint64_t ckpt_body_sum(const void *body, size_t len)
{
    return shl_sum(SHL_SUM_START, body, len);
}

void ckpt_record_format(uint8_t raw[CKPT_RECORD_HEADER_BYTES],
                        const struct ckpt_record *record,
                        uint64_t salt)
{
    memset(raw, 0, CKPT_RECORD_HEADER_BYTES);
    shl_put_le32(raw, RECORD_MAGIC);
    raw[4] = (uint8_t)record->type;
    raw[5] = (uint8_t)record->codec;
    shl_put_le32(raw + 8, record->raw_bytes);
    shl_put_le32(raw + 12, record->stored_bytes);
    memcpy(raw + 16, record->id.bytes, CKPT_ID_BYTES);
    shl_put_le64(raw + 48, record->body_sum);
    shl_put_le64(raw + HEADER_SUMMED, shl_sum(SHL_SUM_START ^ salt, raw, HEADER_SUMMED));
}

int ckpt_record_parse(struct ckpt_record *ret,
                      const uint8_t raw[CKPT_RECORD_HEADER_BYTES],
                      uint64_t salt)
{
    uint32_t raw_max;
    uint8_t type = raw[4], codec = raw[5];

    if (shl_get_le32(raw) != RECORD_MAGIC ||
        shl_get_le64(raw + HEADER_SUMMED) != shl_sum(SHL_SUM_START ^ salt, raw, HEADER_SUMMED)) {
        return SHL_ECORRUPT;
    }
    if (type < CKPT_RECORD_CHUNK || type > CKPT_RECORD_DEAD || codec > CKPT_CODEC_ZSTD) {
        return SHL_ECORRUPT;
    }
    ret->type = (enum ckpt_record_type)type;
    ret->codec = (enum ckpt_codec)codec;
    ret->raw_bytes = shl_get_le32(raw + 8);
    ret->stored_bytes = shl_get_le32(raw + 12);
    memcpy(ret->id.bytes, raw + 16, CKPT_ID_BYTES);
    ret->body_sum = shl_get_le64(raw + 48);
    raw_max = ret->type == CKPT_RECORD_CHUNK ? CKPT_CHUNK_BYTES : CKPT_MANIFEST_MAX;
    if (ret->raw_bytes == 0 || ret->raw_bytes > raw_max || ret->stored_bytes == 0 ||
        ret->stored_bytes > ret->raw_bytes ||
        (ret->codec == CKPT_CODEC_RAW && ret->stored_bytes != ret->raw_bytes)) {
        return SHL_ECORRUPT;
    }
    return 0;
}

void ckpt_segment_header_format(uint8_t raw[CKPT_SEGMENT_HEADER_BYTES],
                                uint32_t number,
                                uint64_t salt)
{
    memset(raw, 0, CKPT_SEGMENT_HEADER_BYTES);
    memcpy(raw, segment_magic, sizeof(segment_magic));
    shl_put_le32(raw + 8, CKPT_SEGMENT_VERSION);
    shl_put_le32(raw + 12, number);
    shl_put_le64(raw + 16, salt);
    shl_put_le64(raw + HEADER_SUMMED, shl_sum(SHL_SUM_START, raw, HEADER_SUMMED));
}

int ckpt_segment_header_parse(const uint8_t raw[CKPT_SEGMENT_HEADER_BYTES],
                              uint32_t *ret_number,
                              uint64_t *ret_salt)
{
    if (memcmp(raw, segment_magic, sizeof(segment_magic)) != 0 ||
        shl_get_le64(raw + HEADER_SUMMED) != shl_sum(SHL_SUM_START, raw, HEADER_SUMMED)) {
        return SHL_ECORRUPT;
    }
    if (shl_get_le32(raw + 8) != CKPT_SEGMENT_VERSION) {
        return SHL_EVERSION;
    }
    *ret_number = shl_get_le32(raw + 12);
    *ret_salt = shl_get_le64(raw + 16);
    return 0;
}

/* The record at @offset, if there is one that ends inside the file. 0 or SHL_ECORRUPT. */
static int check_at(const struct ckpt_scan *scan,
                    uint64_t offset,
                    const uint8_t raw[CKPT_RECORD_HEADER_BYTES],
                    struct ckpt_record *ret)
{
    int rc = ckpt_record_parse(ret, raw, scan->salt);

    if (rc == 0 && ckpt_record_bytes(ret->stored_bytes) > scan->file_bytes - offset) {
        rc = SHL_ECORRUPT;
    }
    return rc;
}

/* Find the next record at or behind @from; *ret_offset is file_bytes when there is none. */
static int find_next(const struct ckpt_scan *scan,
                     uint8_t *window,
                     uint64_t from,
                     uint64_t *ret_offset)
{
    struct ckpt_record record;
    uint64_t at = from;
    size_t i, len;
    int rc;

    while (at < scan->file_bytes && scan->file_bytes - at >= CKPT_RECORD_HEADER_BYTES) {
        len = (size_t)SHL_MIN((uint64_t)WINDOW_BYTES, scan->file_bytes - at);
        len -= len % CKPT_RECORD_ALIGN;
        rc = shl_pread_full(scan->fd, window, len, at);
        if (rc < 0) {
            return rc;
        }
        for (i = 0; i < len; i += CKPT_RECORD_ALIGN) {
            if (check_at(scan, at + i, window + i, &record) == 0) {
                *ret_offset = at + i;
                return 0;
            }
        }
        at += len;
    }
    *ret_offset = scan->file_bytes;
    return 0;
}

/* Read the body and hand the record over. */
static int visit(struct ckpt_scan *scan, const struct ckpt_record *record, uint64_t offset)
{
    uint8_t *body = malloc(record->stored_bytes);
    bool sound;
    int rc;

    if (!body) {
        return -ENOMEM;
    }
    rc = shl_pread_full(scan->fd, body, record->stored_bytes, offset + CKPT_RECORD_HEADER_BYTES);
    if (rc == 0) {
        sound = ckpt_body_sum(body, record->stored_bytes) == record->body_sum;
        rc = scan->each(scan->arg, record, offset, sound ? body : NULL);
    }
    free(body);
    return rc;
}

int ckpt_segment_scan(struct ckpt_scan *scan)
{
    uint8_t raw[CKPT_RECORD_HEADER_BYTES];
    uint8_t *window = NULL;
    struct ckpt_record record;
    uint64_t at = scan->from, next;
    int rc = 0;

    assert(scan->from % CKPT_RECORD_ALIGN == 0);
    scan->end = at;
    scan->damage = 0;
    while (rc == 0 && at < scan->file_bytes && scan->file_bytes - at >= sizeof(raw)) {
        rc = shl_pread_full(scan->fd, raw, sizeof(raw), at);
        if (rc < 0) {
            break;
        }
        if (check_at(scan, at, raw, &record) == 0) {
            rc = visit(scan, &record, at);
            at += ckpt_record_bytes(record.stored_bytes);
            scan->end = at;
            continue;
        }
        window = window ? window : malloc(WINDOW_BYTES);
        rc = window ? find_next(scan, window, at + CKPT_RECORD_ALIGN, &next) : -ENOMEM;
        if (rc < 0 || next == scan->file_bytes) {
            break;
        }
        scan->damage += next - at;
        at = next;
    }
    free(window);
    return rc;
}
