#include "checkpoint/codec.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

struct ckpt_codec_writer {
    ZSTD_CCtx *context;
    int level;
};

struct ckpt_codec_writer *ckpt_codec_writer_new(int level)
{
    struct ckpt_codec_writer *writer = calloc(1, sizeof(*writer));

    if (!writer) {
        return NULL;
    }
    writer->level = level;
    writer->context = ZSTD_createCCtx();
    if (!writer->context) {
        free(writer);
        return NULL;
    }
    return writer;
}

void ckpt_codec_writer_free(struct ckpt_codec_writer *writer)
{
    if (writer) {
        (void)ZSTD_freeCCtx(writer->context);
        free(writer);
    }
}

void ckpt_codec_encode(struct ckpt_codec_writer *writer,
                       const void *data,
                       size_t len,
                       uint8_t *dst,
                       struct ckpt_record *record)
{
    /* One byte less than the input: what does not fit is not worth it. */
    size_t put = ZSTD_compressCCtx(writer->context, dst, len - 1, data, len, writer->level);

    record->raw_bytes = (uint32_t)len;
    if (ZSTD_isError(put) || put == 0) {
        memcpy(dst, data, len);
        put = len;
        record->codec = CKPT_CODEC_RAW;
    } else {
        record->codec = CKPT_CODEC_ZSTD;
    }
    record->stored_bytes = (uint32_t)put;
    record->body_sum = ckpt_body_sum(dst, put);
}

int ckpt_codec_decode(const struct ckpt_record *record, const uint8_t *body, uint8_t *dst)
{
    struct ckpt_id id;
    size_t got = record->stored_bytes;

    if (record->codec == CKPT_CODEC_ZSTD) {
        got = ZSTD_decompress(dst, record->raw_bytes, body, record->stored_bytes);
    } else if (record->stored_bytes == record->raw_bytes) {
        memcpy(dst, body, record->raw_bytes);
    }
    if (ZSTD_isError(got) || got != record->raw_bytes) {
        return SHL_ECORRUPT;
    }
    ckpt_id_of(&id, dst, record->raw_bytes);
    return ckpt_id_equal(&id, &record->id) ? 0 : SHL_ECORRUPT;
}

struct ckpt_codec_reader {
    ZSTD_DCtx *context;
};

struct ckpt_codec_reader *ckpt_codec_reader_new(void)
{
    struct ckpt_codec_reader *reader = calloc(1, sizeof(*reader));

    if (!reader) {
        return NULL;
    }
    reader->context = ZSTD_createDCtx();
    if (!reader->context) {
        free(reader);
        return NULL;
    }
    return reader;
}

void ckpt_codec_reader_free(struct ckpt_codec_reader *reader)
{
    if (reader) {
        (void)ZSTD_freeDCtx(reader->context);
        free(reader);
    }
}

int ckpt_codec_unpack(struct ckpt_codec_reader *reader, struct shl_bytes packed, uint8_t *dst)
{
    unsigned long long raw;
    size_t got;

    /* No skippable frame, and none of the formats before 1.0, which the library may know as well.
     */
    if (packed.len < sizeof(uint32_t) || packed.len >= CKPT_CHUNK_BYTES ||
        shl_get_le32(packed.base) != ZSTD_MAGICNUMBER) {
        return SHL_EPROTO;
    }
    raw = ZSTD_getFrameContentSize(packed.base, packed.len);
    if (raw == ZSTD_CONTENTSIZE_UNKNOWN || raw == ZSTD_CONTENTSIZE_ERROR ||
        raw > CKPT_CHUNK_BYTES || raw <= packed.len ||
        ZSTD_findFrameCompressedSize(packed.base, packed.len) != packed.len) {
        return SHL_EPROTO;
    }
    got = ZSTD_decompressDCtx(reader->context, dst, (size_t)raw, packed.base, packed.len);
    return ZSTD_isError(got) || got != raw ? SHL_EPROTO : (int)got;
}
