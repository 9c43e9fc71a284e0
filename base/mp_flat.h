/* msgpack for small messages that are written and read very often: no allocation, values
 * in order. What mp.h reads and writes, these read and write as well; use mp.h where there
 * are maps or where speed is no question.
 *
 * Writing: shl_mp_put_* store one value at @p and return the place behind it. The caller has
 * made room first (SHL_MP_UINT_MAX per number, SHL_MP_HEAD_MAX + length per byte string).
 *
 * Reading: a cursor over distrusted bytes. The first failure sticks in cursor.error and all
 * later calls return zeros, so that a message reads as a list of fields; check the error
 * before any of them is used. Byte strings are borrowed from the input.
 */
#ifndef SHL_BASE_MP_FLAT_H
#define SHL_BASE_MP_FLAT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

#define SHL_MP_UINT_MAX 9 /* bytes of one number */
#define SHL_MP_HEAD_MAX 5 /* bytes in front of a byte string or an array */

static inline uint8_t *shl_mp_put_be(uint8_t *p, uint64_t value, unsigned bytes)
{
    while (bytes-- > 0) {
        *p++ = (uint8_t)(value >> (8 * bytes));
    }
    return p;
}

static inline uint8_t *shl_mp_put_uint(uint8_t *p, uint64_t value)
{
    if (value < 0x80) {
        *p++ = (uint8_t)value;
        return p;
    }
    if (value <= 0xff) {
        *p++ = 0xcc;
        return shl_mp_put_be(p, value, 1);
    }
    if (value <= 0xffff) {
        *p++ = 0xcd;
        return shl_mp_put_be(p, value, 2);
    }
    if (value <= 0xffffffff) {
        *p++ = 0xce;
        return shl_mp_put_be(p, value, 4);
    }
    *p++ = 0xcf;
    return shl_mp_put_be(p, value, 8);
}

static inline uint8_t *shl_mp_put_nil(uint8_t *p)
{
    *p++ = 0xc0;
    return p;
}

static inline uint8_t *shl_mp_put_array(uint8_t *p, uint32_t count)
{
    if (count < 16) {
        *p++ = (uint8_t)(0x90 | count);
        return p;
    }
    *p++ = 0xdd;
    return shl_mp_put_be(p, count, 4);
}

static inline uint8_t *shl_mp_put_bin(uint8_t *p, const void *data, uint32_t len)
{
    if (len <= 0xff) {
        *p++ = 0xc4;
        p = shl_mp_put_be(p, len, 1);
    } else {
        *p++ = 0xc6;
        p = shl_mp_put_be(p, len, 4);
    }
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p + len;
}

struct shl_mp_cursor {
    const uint8_t *at;
    const uint8_t *end;
    int error; /* SHL_EPROTO or SHL_ELIMIT; 0 while fine */
};

static inline struct shl_mp_cursor shl_mp_cursor_of(struct shl_bytes bytes)
{
    return (struct shl_mp_cursor){bytes.base, bytes.base + bytes.len, 0};
}

/* Number of elements that follow. Each needs at least a byte, which is checked. */
uint32_t shl_mp_take_array(struct shl_mp_cursor *c);
/* SHL_EPROTO when it is above @max. */
uint64_t shl_mp_take_uint(struct shl_mp_cursor *c, uint64_t max);
/* SHL_ELIMIT when it is longer than @max. */
struct shl_bytes shl_mp_take_bin(struct shl_mp_cursor *c, size_t max);
void shl_mp_take_nil(struct shl_mp_cursor *c);
/* Step over @count values of any kind, whatever they contain. */
void shl_mp_take_skip(struct shl_mp_cursor *c, uint32_t count);

#endif /* SHL_BASE_MP_FLAT_H */
