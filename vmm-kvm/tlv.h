/* The container of a VM state file: header, then records. Pure: bytes in, bytes out.
 *
 * All fields little-endian:
 *   0   magic "SHLSTAT\n", u16 major, u16 minor, u32 record count, u64 length of the whole
 *       file, u64 checksum of everything but itself (the 24 bytes before it, then the
 *       records)
 *   32  records: u16 tag, u16 index, u32 length, that many bytes
 *
 * A file of another major version, or of a newer minor one that has a record this
 * program does not know, is SHL_EVERSION. Cut off or altered: SHL_ECORRUPT. The checksum
 * finds accidents; every record is checked as if an attacker had written it all the same.
 */
#ifndef SHL_VMM_TLV_H
#define SHL_VMM_TLV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"

#define VMM_TLV_MAJOR        1u
#define VMM_TLV_MINOR        0u
#define VMM_TLV_HEADER_BYTES 32u
#define VMM_TLV_RECORD_BYTES 8u /* before its bytes */
#define VMM_TLV_MAX_BYTES    (1u << 20)
#define VMM_TLV_RECORDS_MAX  1024u

struct vmm_tlv_record {
    uint16_t tag;
    uint16_t index; /* of a CPU or device */
    struct shl_bytes bytes;
};

/* The first failure sticks; vmm_tlv_finish tells it. */
struct vmm_tlv_writer {
    struct shl_buf *buf; /* borrowed, empty at the start */
    uint32_t count;
    int error;
};

void vmm_tlv_begin(struct vmm_tlv_writer *writer, struct shl_buf *buf);
void vmm_tlv_put(struct vmm_tlv_writer *writer,
                 uint16_t tag,
                 uint16_t index,
                 const void *data,
                 size_t len);
SHL_MUST_CHECK int vmm_tlv_finish(struct vmm_tlv_writer *writer);

struct vmm_tlv_reader {
    struct shl_bytes rest;
    uint32_t count; /* records left */
    bool newer;     /* a newer minor version wrote it */
};

/* Check header and checksum. 0, SHL_ECORRUPT, SHL_EVERSION. @bytes is borrowed. */
SHL_MUST_CHECK int vmm_tlv_open(struct vmm_tlv_reader *reader,
                                struct shl_bytes bytes,
                                struct shl_err *err);

/* 1 and *ret, 0 at the end, SHL_ECORRUPT. */
SHL_MUST_CHECK int vmm_tlv_next(struct vmm_tlv_reader *reader,
                                struct vmm_tlv_record *ret,
                                struct shl_err *err);

/* What a reader returns for a tag it does not know. */
int vmm_tlv_unknown(const struct vmm_tlv_reader *reader, uint16_t tag, struct shl_err *err);

#endif /* SHL_VMM_TLV_H */
