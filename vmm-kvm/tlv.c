#include "vmm-kvm/tlv.h"

#include <string.h>

#include "base/sum.h"

#define AT_MAJOR    8u
#define AT_MINOR    10u
#define AT_COUNT    12u
#define AT_LENGTH   16u
#define AT_CHECKSUM 24u

static const uint8_t magic[8] = {'S', 'H', 'L', 'S', 'T', 'A', 'T', '\n'};

static uint64_t checksum_of(const uint8_t *file, size_t len)
{
    uint64_t hash = shl_sum(SHL_SUM_START, file, AT_CHECKSUM);

    return shl_sum(hash, file + VMM_TLV_HEADER_BYTES, len - VMM_TLV_HEADER_BYTES);
}

void vmm_tlv_begin(struct vmm_tlv_writer *writer, struct shl_buf *buf)
{
    static const uint8_t room[VMM_TLV_HEADER_BYTES];

    writer->buf = buf;
    writer->count = 0;
    writer->error = shl_buf_append(buf, room, sizeof(room));
}

void vmm_tlv_put(struct vmm_tlv_writer *writer,
                 uint16_t tag,
                 uint16_t index,
                 const void *data,
                 size_t len)
{
    uint8_t head[VMM_TLV_RECORD_BYTES];

    if (writer->error < 0) {
        return;
    }
    if (len > VMM_TLV_MAX_BYTES || writer->count == VMM_TLV_RECORDS_MAX) {
        writer->error = SHL_ELIMIT;
        return;
    }
    shl_put_le16(head, tag);
    shl_put_le16(head + 2, index);
    shl_put_le32(head + 4, (uint32_t)len);
    writer->error = shl_buf_append(writer->buf, head, sizeof(head));
    if (writer->error == 0 && len > 0) {
        writer->error = shl_buf_append(writer->buf, data, len);
    }
    writer->count++;
}

int vmm_tlv_finish(struct vmm_tlv_writer *writer)
{
    uint8_t *file = shl_buf_data(writer->buf);
    size_t len = shl_buf_len(writer->buf);

    if (writer->error < 0) {
        return writer->error;
    }
    memcpy(file, magic, sizeof(magic));
    shl_put_le16(file + AT_MAJOR, VMM_TLV_MAJOR);
    shl_put_le16(file + AT_MINOR, VMM_TLV_MINOR);
    shl_put_le32(file + AT_COUNT, writer->count);
    shl_put_le64(file + AT_LENGTH, len);
    shl_put_le64(file + AT_CHECKSUM, checksum_of(file, len));
    return 0;
}

static int corrupt(struct shl_err *err, const char *why)
{
    return shl_err_set(err, SHL_ECORRUPT, "the VM state file is damaged: %s", why);
}

int vmm_tlv_open(struct vmm_tlv_reader *reader, struct shl_bytes bytes, struct shl_err *err)
{
    const uint8_t *file = bytes.base;
    unsigned major, minor;

    if (bytes.len < VMM_TLV_HEADER_BYTES || memcmp(file, magic, sizeof(magic)) != 0) {
        return corrupt(err, "it does not start like one");
    }
    major = shl_get_le16(file + AT_MAJOR);
    minor = shl_get_le16(file + AT_MINOR);
    if (major != VMM_TLV_MAJOR) {
        return shl_err_set(err, SHL_EVERSION,
                           "the VM state has format version %u, this program reads version %u",
                           major, VMM_TLV_MAJOR);
    }
    if (shl_get_le64(file + AT_LENGTH) != bytes.len || bytes.len > VMM_TLV_MAX_BYTES) {
        return corrupt(err, "its length is not the one it was written with");
    }
    if (shl_get_le64(file + AT_CHECKSUM) != checksum_of(file, bytes.len)) {
        return corrupt(err, "its checksum does not match");
    }
    reader->count = shl_get_le32(file + AT_COUNT);
    if (reader->count > VMM_TLV_RECORDS_MAX) {
        return corrupt(err, "it has too many records");
    }
    reader->rest = shl_bytes_of(file + VMM_TLV_HEADER_BYTES, bytes.len - VMM_TLV_HEADER_BYTES);
    reader->newer = minor > VMM_TLV_MINOR;
    return 0;
}

int vmm_tlv_next(struct vmm_tlv_reader *reader, struct vmm_tlv_record *ret, struct shl_err *err)
{
    struct shl_bytes *rest = &reader->rest;
    uint32_t len;

    if (reader->count == 0) {
        return rest->len == 0 ? 0 : corrupt(err, "there is something behind the last record");
    }
    if (rest->len < VMM_TLV_RECORD_BYTES) {
        return corrupt(err, "a record is cut off");
    }
    len = shl_get_le32(rest->base + 4);
    if (len > rest->len - VMM_TLV_RECORD_BYTES) {
        return corrupt(err, "a record is longer than the file");
    }
    ret->tag = shl_get_le16(rest->base);
    ret->index = shl_get_le16(rest->base + 2);
    ret->bytes = shl_bytes_of(rest->base + VMM_TLV_RECORD_BYTES, len);
    rest->base += VMM_TLV_RECORD_BYTES + len;
    rest->len -= VMM_TLV_RECORD_BYTES + len;
    reader->count--;
    return 1;
}

int vmm_tlv_unknown(const struct vmm_tlv_reader *reader, uint16_t tag, struct shl_err *err)
{
    if (reader->newer) {
        return shl_err_set(err, SHL_EVERSION,
                           "the VM state was written by a newer version: this program does not "
                           "know its record %u",
                           tag);
    }
    return shl_err_set(err, SHL_ECORRUPT,
                       "the VM state file is damaged: there is no record of kind %u", tag);
}
