#include "node/http/json_text.h"

#include <stdbool.h>
#include <string.h>

/* Length of the sequence at @p: positive for well-formed UTF-8, negative for the bytes
 * of a maximal ill-formed part (Unicode table 3-7). */
static int utf8_part(const uint8_t *p, size_t len)
{
    uint8_t lead = p[0];
    uint8_t low = 0x80;
    uint8_t high = 0xbf;
    int more;

    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return -1;
    }
    more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (lead == 0xe0) {
        low = 0xa0; /* overlong below */
    } else if (lead == 0xed) {
        high = 0x9f; /* surrogates above */
    } else if (lead == 0xf0) {
        low = 0x90;
    } else if (lead == 0xf4) {
        high = 0x8f; /* beyond U+10FFFF above */
    }
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= len || p[i] < low || p[i] > high) {
            return -i;
        }
        low = 0x80;
        high = 0xbf;
    }
    return more + 1;
}

/* The escape of an ASCII byte that needs one; returns its length, 0 when it needs none. */
static size_t escape_ascii(uint8_t c, char out[NODE_JSON_ESCAPE_MAX])
{
    static const char digits[] = "0123456789abcdef";
    char letter = 0;

    switch (c) {
    case '"':
    case '\\':
        letter = (char)c;
        break;
    case '\n':
        letter = 'n';
        break;
    case '\r':
        letter = 'r';
        break;
    case '\t':
        letter = 't';
        break;
    case '\b':
        letter = 'b';
        break;
    case '\f':
        letter = 'f';
        break;
    default:
        if (c >= 0x20) {
            return 0;
        }
        memcpy(out, "\\u00", 4);
        out[4] = digits[c >> 4];
        out[5] = digits[c & 15];
        return 6;
    }
    out[0] = '\\';
    out[1] = letter;
    return 2;
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

size_t node_json_escape(uint8_t *dst, size_t cap, struct shl_bytes src, size_t *ret_used)
{
    size_t used = 0;
    size_t out = 0;

    while (used < src.len) {
        const uint8_t *p = src.base + used;
        char escape[NODE_JSON_ESCAPE_MAX];
        size_t n;
        int part;

        if (is_plain(*p)) { /* the common case, without the machinery */
            if (out == cap) {
                break;
            }
            dst[out++] = *p;
            used++;
            continue;
        }
        part = utf8_part(p, src.len - used);
        n = part == 1 ? escape_ascii(*p, escape) : 0;
        if (n > 0) {
            p = (const uint8_t *)escape;
        } else if (part > 0) {
            n = (size_t)part;
        } else {
            p = (const uint8_t *)"\xef\xbf\xbd";
            n = 3;
        }
        if (n > cap - out) {
            break;
        }
        memcpy(dst + out, p, n);
        out += n;
        used += (size_t)(part > 0 ? part : -part);
    }
    *ret_used = used;
    return out;
}

int node_json_append(struct shl_buf *out, struct shl_bytes src)
{
    int rc = shl_buf_append(out, "\"", 1);

    while (rc == 0 && src.len > 0) {
        size_t room = SHL_MIN(src.len, (size_t)4096) + NODE_JSON_ESCAPE_MAX;
        uint8_t *space = NULL;

        rc = shl_buf_reserve(out, room, &space);
        if (rc == 0) {
            size_t used = 0;

            shl_buf_commit(out, node_json_escape(space, room, src, &used));
            src = shl_bytes_of(src.base + used, src.len - used);
        }
    }
    return rc < 0 ? rc : shl_buf_append(out, "\"", 1);
}

int node_json_append_str(struct shl_buf *out, const char *text)
{
    return node_json_append(out, shl_bytes_of(text, strlen(text)));
}
