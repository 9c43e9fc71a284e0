#include "node/sandbox/text.h"

#include <stdbool.h>
#include <string.h>

/* Bytes of the character at @at, 0 when it is not well-formed UTF-8. */
static size_t utf8_len(const uint8_t *at, size_t left)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t point;
    size_t len, i;

    if (at[0] < 0x80) {
        return 1;
    }
    len = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || len > left) {
        return 0;
    }
    point = at[0] & (0x7fu >> len);
    for (i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
        point = point << 6 | (at[i] & 0x3fu);
    }
    if (point < smallest[len] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) {
        return 0;
    }
    return len;
}

static bool is_control(const uint8_t *at, size_t len)
{
    /* C0 and DEL, and C1 in its two-byte form */
    return (len == 1 && (at[0] < 0x20 || at[0] == 0x7f)) ||
           (len == 2 && at[0] == 0xc2 && at[1] < 0xa0);
}

void node_text_clean(char *dst, size_t size, struct shl_bytes text)
{
    size_t used = 0;
    size_t i = 0;

    while (i < text.len) {
        size_t len = utf8_len(text.base + i, text.len - i);
        bool plain = len > 0 && !is_control(text.base + i, len);
        size_t out_len = plain ? len : 1;

        if (used + out_len >= size) {
            break;
        }
        if (plain) {
            memcpy(dst + used, text.base + i, len);
        } else {
            dst[used] = len > 0 ? ' ' : '?';
        }
        used += out_len;
        i += len > 0 ? len : 1;
    }
    dst[used] = '\0';
}

void node_text_last_line(char *dst, size_t size, struct shl_bytes text)
{
    size_t end = text.len;
    size_t start;

    while (end > 0 && text.base[end - 1] <= ' ') {
        end--;
    }
    start = end;
    while (start > 0 && text.base[start - 1] != '\n') {
        start--;
    }
    while (start < end && text.base[start] <= ' ') {
        start++;
    }
    node_text_clean(dst, size, shl_bytes_of(text.base + start, end - start));
}
