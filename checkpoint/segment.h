/* The segment file: where chunks and manifests are, one record after the other.
 *
 * File, all fields little-endian, everything aligned to 64 bytes:
 *   header, 64 bytes: magic "SHLSEG\r\n", u32 version, u32 number, u64 salt, 32 bytes of
 *     zeros, u64 sum of the 56 bytes before it
 *   records: 64 bytes of header, then stored_bytes of body, then zeros up to the next
 *     multiple of 64:
 *     0 u32 magic "SHR1"   4 u8 type   5 u8 codec   6 u16 zero   8 u32 raw_bytes
 *     12 u32 stored_bytes   16 32 bytes id   48 u64 sum of the body   56 u64 sum of the
 *     56 bytes before it, begun with the salt
 * A record is never changed but for the type of a deleted manifest, which is set in place
 * (a header lies in one disk sector, so this is all or nothing).
 *
 * The sums find torn writes and bit rot; the id proves the content. The salt is random
 * and secret, so that bytes of a guest inside a body cannot pass for a record when a scan
 * has to search for the next one behind a damaged place.
 *
 * The functions here know the format and one file; no locks, any thread.
 */
#ifndef SHL_CHECKPOINT_SEGMENT_H
#define SHL_CHECKPOINT_SEGMENT_H

#include "checkpoint/store.h"

#define CKPT_RECORD_ALIGN         64u
#define CKPT_RECORD_HEADER_BYTES  64u
#define CKPT_SEGMENT_HEADER_BYTES 64u
#define CKPT_SEGMENT_VERSION      1u

enum ckpt_record_type {
    CKPT_RECORD_CHUNK = 1,
    CKPT_RECORD_MANIFEST = 2,
    CKPT_RECORD_DEAD = 3, /* a manifest that was deleted */
};

enum ckpt_codec {
    CKPT_CODEC_RAW = 0,
    CKPT_CODEC_ZSTD = 1,
};

struct ckpt_record {
    enum ckpt_record_type type;
    enum ckpt_codec codec;
    uint32_t raw_bytes;
    uint32_t stored_bytes;
    struct ckpt_id id;
    uint64_t body_sum;
};

/* Whole size of a record with its header and padding. */
uint64_t ckpt_record_bytes(uint32_t stored_bytes);
uint64_t ckpt_body_sum(const void *body, size_t len);

void ckpt_record_format(uint8_t raw[CKPT_RECORD_HEADER_BYTES],
                        const struct ckpt_record *record,
                        uint64_t salt);
/* 0 or SHL_ECORRUPT. */
SHL_MUST_CHECK int ckpt_record_parse(struct ckpt_record *ret,
                                     const uint8_t raw[CKPT_RECORD_HEADER_BYTES],
                                     uint64_t salt);

void ckpt_segment_header_format(uint8_t raw[CKPT_SEGMENT_HEADER_BYTES],
                                uint32_t number,
                                uint64_t salt);
/* 0, SHL_EVERSION or SHL_ECORRUPT. */
SHL_MUST_CHECK int ckpt_segment_header_parse(const uint8_t raw[CKPT_SEGMENT_HEADER_BYTES],
                                             uint32_t *ret_number,
                                             uint64_t *ret_salt);

struct ckpt_scan {
    int fd;
    uint64_t salt;
    uint64_t from; /* offset of the first record */
    uint64_t file_bytes;
    /* A record whose header is sound; @body is NULL when the body is not what the header
     * says. Non-zero stops the scan and is returned. */
    int (*each)(void *arg, const struct ckpt_record *record, uint64_t offset, const uint8_t *body);
    void *arg;
    uint64_t end;    /* result: behind the last record; what follows is a torn tail */
    uint64_t damage; /* result: bytes between records that are no records */
};

/* 0, what @each returned, -errno or -ENOMEM. */
SHL_MUST_CHECK int ckpt_segment_scan(struct ckpt_scan *scan);

#endif /* SHL_CHECKPOINT_SEGMENT_H */
