#include "base/mp_flat.h"

#include "base/err.h"

static void fail(struct shl_mp_cursor *c, int code)
{
    if (c->error == 0) {
        c->error = code;
    }
    c->at = c->end;
}

static uint64_t take_be(struct shl_mp_cursor *c, unsigned bytes)
{
    uint64_t value = 0;

    if ((size_t)(c->end - c->at) < bytes) {
        fail(c, SHL_EPROTO);
        return 0;
    }
    while (bytes-- > 0) {
        value = value << 8 | *c->at++;
    }
    return value;
}

/* 0xc1, which msgpack never uses, stands for "no more bytes". */
static uint8_t take_tag(struct shl_mp_cursor *c)
{
    if (c->at == c->end) {
        fail(c, SHL_EPROTO);
        return 0xc1;
    }
    return *c->at++;
}

uint32_t shl_mp_take_array(struct shl_mp_cursor *c)
{
    uint8_t tag = take_tag(c);
    uint64_t count;

    if ((tag & 0xf0) == 0x90) {
        count = tag & 0x0f;
    } else if (tag == 0xdc || tag == 0xdd) {
        count = take_be(c, tag == 0xdc ? 2 : 4);
    } else {
        fail(c, SHL_EPROTO);
        return 0;
    }
    if (count > (uint64_t)(c->end - c->at)) {
        fail(c, SHL_EPROTO);
        return 0;
    }
    return (uint32_t)count;
}

uint64_t shl_mp_take_uint(struct shl_mp_cursor *c, uint64_t max)
{
    uint8_t tag = take_tag(c);
    uint64_t value = tag;

    if (tag >= 0xcc && tag <= 0xcf) {
        value = take_be(c, 1u << (tag - 0xcc));
    } else if (tag >= 0x80) {
        fail(c, SHL_EPROTO);
        return 0;
    }
    if (value > max) {
        fail(c, SHL_EPROTO);
        return 0;
    }
    return value;
}

struct shl_bytes shl_mp_take_bin(struct shl_mp_cursor *c, size_t max)
{
    uint8_t tag = take_tag(c);
    struct shl_bytes bytes = {NULL, 0};
    uint64_t len;

    if (tag < 0xc4 || tag > 0xc6) {
        fail(c, SHL_EPROTO);
        return bytes;
    }
    len = take_be(c, 1u << (tag - 0xc4));
    if (len > (uint64_t)(c->end - c->at)) {
        fail(c, SHL_EPROTO);
    } else if (len > max) {
        fail(c, SHL_ELIMIT);
    } else {
        bytes = shl_bytes_of(c->at, (size_t)len);
        c->at += len;
    }
    return bytes;
}

void shl_mp_take_nil(struct shl_mp_cursor *c)
{
    if (take_tag(c) != 0xc0) {
        fail(c, SHL_EPROTO);
    }
}

/* Bytes that follow the tag itself, and values inside it. */
static void take_body(struct shl_mp_cursor *c, uint8_t tag, uint64_t *bytes, uint64_t *values)
{
    static const uint8_t number_bytes[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8}; /* 0xca..0xd3 */

    *bytes = 0;
    *values = 0;
    if (tag <= 0x7f || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
        return;
    }
    if (tag <= 0x8f) {
        *values = 2ull * (tag & 0x0f);
    } else if (tag <= 0x9f) {
        *values = tag & 0x0f;
    } else if (tag <= 0xbf) {
        *bytes = tag & 0x1f;
    } else if (tag >= 0xc4 && tag <= 0xc6) {
        *bytes = take_be(c, 1u << (tag - 0xc4));
    } else if (tag >= 0xca && tag <= 0xd3) {
        *bytes = number_bytes[tag - 0xca];
    } else if (tag >= 0xd9 && tag <= 0xdb) {
        *bytes = take_be(c, 1u << (tag - 0xd9));
    } else if (tag == 0xdc || tag == 0xdd) {
        *values = take_be(c, tag == 0xdc ? 2 : 4);
    } else if (tag == 0xde || tag == 0xdf) {
        *values = 2 * take_be(c, tag == 0xde ? 2 : 4);
    } else {
        fail(c, SHL_EPROTO); /* extension types are not part of our formats */
    }
}

void shl_mp_take_skip(struct shl_mp_cursor *c, uint32_t count)
{
    uint64_t left = count, bytes, values;

    while (left > 0 && c->error == 0) {
        take_body(c, take_tag(c), &bytes, &values);
        /* Every value needs a byte: more of them than bytes is a lie. */
        if (bytes > (uint64_t)(c->end - c->at) || values > (uint64_t)(c->end - c->at)) {
            fail(c, SHL_EPROTO);
            return;
        }
        c->at += bytes;
        left += values;
        left--;
    }
}
