#include "tests/node/http/ws_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

size_t ws_make_frame(uint8_t *dst, uint8_t first, const void *data, size_t len)
{
    static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
    size_t at = 2;

    dst[0] = first;
    if (len < 126) {
        dst[1] = (uint8_t)(0x80 | len);
    } else if (len < 65536) {
        dst[1] = 0x80 | 126;
        dst[2] = (uint8_t)(len >> 8);
        dst[3] = (uint8_t)len;
        at = 4;
    } else {
        dst[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++) {
            dst[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        }
        at = 10;
    }
    memcpy(dst + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < len; i++) {
        dst[at + i] = ((const uint8_t *)data)[i] ^ mask[i % 4];
    }
    return at + len;
}

void ws_send(struct client *client, uint8_t first, const void *data, size_t len)
{
    uint8_t *frame = malloc(len + 14);

    client_send(client, frame, ws_make_frame(frame, first, data, len));
    free(frame);
}

static size_t frame_size(struct client *client, size_t *ret_head)
{
    const uint8_t *p = shl_buf_data(&client->in);
    size_t have = shl_buf_len(&client->in);
    size_t len;

    if (have < 2) {
        return SIZE_MAX;
    }
    assert_int_equal(p[1] & 0x80, 0); /* a server does not mask */
    len = p[1];
    *ret_head = len < 126 ? 2 : len == 126 ? 4 : 10;
    if (have < *ret_head) {
        return SIZE_MAX;
    }
    if (len == 126) {
        len = (size_t)p[2] << 8 | p[3];
    } else if (len == 127) {
        len = 0;
        for (int i = 0; i < 8; i++) {
            len = len << 8 | p[2 + i];
        }
    }
    return *ret_head + len;
}

static bool has_frame(void *arg)
{
    struct client *client = arg;
    size_t head;

    return client->is_ended || shl_buf_len(&client->in) >= frame_size(client, &head);
}

bool ws_next(struct client *client, struct ws_frame *ret)
{
    size_t head = 0;
    size_t size;

    run_until(client->loop, has_frame, client);
    size = frame_size(client, &head);
    if (shl_buf_len(&client->in) < size) {
        return false;
    }
    ret->first = shl_buf_data(&client->in)[0];
    ret->len = size - head;
    ret->data = calloc(1, ret->len + 1);
    memcpy(ret->data, shl_buf_data(&client->in) + head, ret->len);
    shl_buf_consume(&client->in, size);
    return true;
}
