/* Compression of records: zstd when that makes them smaller, as they are otherwise. */
#ifndef SHL_CHECKPOINT_CODEC_H
#define SHL_CHECKPOINT_CODEC_H

#include "checkpoint/segment.h"

struct ckpt_codec_writer; /* a compression context; one thread at a time */

struct ckpt_codec_writer *ckpt_codec_writer_new(int level); /* NULL: no memory */
void ckpt_codec_writer_free(struct ckpt_codec_writer *writer);

/* Put @len bytes of @data into @dst (at least @len bytes) in the smaller form; fills
 * codec, raw_bytes, stored_bytes and body_sum of @record. */
void ckpt_codec_encode(struct ckpt_codec_writer *writer,
                       const void *data,
                       size_t len,
                       uint8_t *dst,
                       struct ckpt_record *record);

/* The raw bytes of a record's body into @dst of exactly raw_bytes. 0 or SHL_ECORRUPT
 * (also when they are not what the id says). */
SHL_MUST_CHECK int ckpt_codec_decode(const struct ckpt_record *record,
                                     const uint8_t *body,
                                     uint8_t *dst);

struct ckpt_codec_reader; /* an unpacking context; one thread at a time */

struct ckpt_codec_reader *ckpt_codec_reader_new(void); /* NULL: no memory */
void ckpt_codec_reader_free(struct ckpt_codec_reader *reader);

/* The raw bytes of @packed, which a peer sent, into @dst of CKPT_CHUNK_BYTES. Returns how many; or
 * SHL_EPROTO for anything but one zstd frame that says its size, 1..CKPT_CHUNK_BYTES, is smaller
 * than that and fills it: all of this but the last is known before a byte is unpacked. */
SHL_MUST_CHECK int ckpt_codec_unpack(struct ckpt_codec_reader *reader,
                                     struct shl_bytes packed,
                                     uint8_t *dst);

#endif /* SHL_CHECKPOINT_CODEC_H */
