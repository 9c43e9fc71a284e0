#include "base/id.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void shl_random_bytes(void *dst, size_t len)
{
    uint8_t *at = dst;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);

        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            abort(); /* the kernel has no randomness: nothing can go on safely */
        }
        at += got;
        len -= (size_t)got;
    }
}

void shl_hex_encode(char *dst, const uint8_t *src, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < len; i++) {
        dst[2 * i] = digits[src[i] >> 4];
        dst[2 * i + 1] = digits[src[i] & 15];
    }
    dst[2 * len] = '\0';
}

int shl_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

int shl_hex_decode(uint8_t *dst, size_t len, const char *text)
{
    size_t i;

    if (strlen(text) != 2 * len) {
        return -EINVAL;
    }
    for (i = 0; i < len; i++) {
        int high = shl_hex_digit(text[2 * i]);
        int low = shl_hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        dst[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

void shl_id_make(char *dst, size_t size, const char *prefix, size_t digits)
{
    uint8_t random[32];
    size_t prefix_len = strlen(prefix);

    assert(digits % 2 == 0);
    assert(digits / 2 <= sizeof(random));
    assert(prefix_len + digits < size);
    shl_random_bytes(random, digits / 2);
    memcpy(dst, prefix, prefix_len);
    shl_hex_encode(dst + prefix_len, random, digits / 2);
}

void shl_uuid_make(char dst[SHL_UUID_SIZE])
{
    uint8_t r[16];

    shl_random_bytes(r, sizeof(r));
    r[6] = (uint8_t)((r[6] & 0x0f) | 0x40); /* version 4 */
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80); /* RFC 9562 variant */
    (void)snprintf(dst, SHL_UUID_SIZE,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0],
                   r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13],
                   r[14], r[15]);
}
