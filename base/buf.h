/* Byte ranges: shl_bytes borrows, shl_buf owns.
 *
 * A shl_buf grows up to the limit given at init and refuses with SHL_ELIMIT
 * beyond it, so every buffer in the tree has a named maximum. Bytes are taken
 * from the front with shl_buf_consume without moving the rest each time.
 */
#ifndef SHL_BASE_BUF_H
#define SHL_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"

struct shl_bytes {
    const uint8_t *base;
    size_t len;
};

struct shl_buf {
    uint8_t *heap;
    size_t start; /* offset of the first unread byte */
    size_t end;   /* offset behind the last byte */
    size_t cap;
    size_t max_bytes; /* end - start never exceeds this */
};

/* No allocation happens before the first byte is stored. */
void shl_buf_init(struct shl_buf *buf, size_t max_bytes);
void shl_buf_release(struct shl_buf *buf);
/* The same for what must not stay in memory: secrets. Growing leaves copies behind, so reserve
 * room for all of it first where that matters. */
void shl_buf_wipe(struct shl_buf *buf);
void shl_buf_clear(struct shl_buf *buf); /* keeps the memory */

static inline size_t shl_buf_len(const struct shl_buf *buf)
{
    return buf->end - buf->start;
}

static inline uint8_t *shl_buf_data(const struct shl_buf *buf)
{
    return buf->heap ? buf->heap + buf->start : NULL;
}

static inline struct shl_bytes shl_buf_bytes(const struct shl_buf *buf)
{
    return (struct shl_bytes){shl_buf_data(buf), shl_buf_len(buf)};
}

/* Room for @len more bytes; *ret_space points at it until the next call.
 * Returns 0, SHL_ELIMIT or -ENOMEM; on failure nothing changes. */
SHL_MUST_CHECK int shl_buf_reserve(struct shl_buf *buf, size_t len, uint8_t **ret_space);
void shl_buf_commit(struct shl_buf *buf, size_t len);

SHL_MUST_CHECK int shl_buf_append(struct shl_buf *buf, const void *data, size_t len);
SHL_MUST_CHECK int shl_buf_append_str(struct shl_buf *buf, const char *text);
SHL_MUST_CHECK int shl_buf_printf(struct shl_buf *buf, const char *fmt, ...) SHL_PRINTF(2, 3);

/* Drop @len bytes from the front; @len must not exceed the length. */
void shl_buf_consume(struct shl_buf *buf, size_t len);

/* Bytes copied into one heap string with a terminator, NULL without memory.
 * The caller frees. Embedded zero bytes are kept. */
char *shl_bytes_dup_str(struct shl_bytes bytes);

static inline struct shl_bytes shl_bytes_of(const void *base, size_t len)
{
    return (struct shl_bytes){base, len};
}

/* Little-endian fields of wire formats; the pointers need no alignment. */
static inline uint16_t shl_get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t shl_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t shl_get_le64(const uint8_t *p)
{
    return (uint64_t)shl_get_le32(p) | (uint64_t)shl_get_le32(p + 4) << 32;
}
static inline void shl_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void shl_put_le32(uint8_t *p, uint32_t v)
{
    shl_put_le16(p, (uint16_t)v);
    shl_put_le16(p + 2, (uint16_t)(v >> 16));
}
static inline void shl_put_le64(uint8_t *p, uint64_t v)
{
    shl_put_le32(p, (uint32_t)v);
    shl_put_le32(p + 4, (uint32_t)(v >> 32));
}

#endif /* SHL_BASE_BUF_H */
