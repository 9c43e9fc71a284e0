#include "node/egress/subst.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

#define PREFIX_BYTES (sizeof(EGRESS_TOKEN_PREFIX) - 1)

void egress_subst_init(struct egress_subst *subst)
{
    subst->held_len = 0;
    subst->replaced = 0;
}

static bool fits(size_t at, uint8_t c)
{
    if (at < PREFIX_BYTES) {
        return c == (uint8_t)EGRESS_TOKEN_PREFIX[at];
    }
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* How many bytes at @bytes could begin a token: all of a token, or up to the end of @bytes. */
static size_t match_length(struct shl_bytes bytes)
{
    size_t i;

    for (i = 0; i < bytes.len && i < EGRESS_TOKEN_BYTES; i++) {
        if (!fits(i, bytes.base[i])) {
            return 0;
        }
    }
    return i;
}

/* Distance to the next place where a token may begin, or the length of @bytes. */
static size_t find_start(struct shl_bytes bytes)
{
    const uint8_t *at = bytes.base, *end = bytes.base + bytes.len;

    while (at < end && (at = memchr(at, EGRESS_TOKEN_PREFIX[0], (size_t)(end - at)))) {
        if (match_length(shl_bytes_of(at, (size_t)(end - at))) > 0) {
            return (size_t)(at - bytes.base);
        }
        at++;
    }
    return bytes.len;
}

static int put_token(struct egress_subst *subst,
                     const uint8_t *token,
                     struct shl_buf *out,
                     egress_subst_lookup lookup,
                     void *arg)
{
    char text[EGRESS_TOKEN_BYTES + 1];
    struct shl_bytes value;

    memcpy(text, token, EGRESS_TOKEN_BYTES);
    text[EGRESS_TOKEN_BYTES] = '\0';
    value = lookup(arg, text);
    if (!value.base) {
        return shl_buf_append(out, token, EGRESS_TOKEN_BYTES);
    }
    subst->replaced++;
    return shl_buf_append(out, value.base, value.len);
}

/* The bytes held back together with the first of @bytes: one byte at a time, because it ends
 * as a token or as none within a few. Returns bytes of @bytes used, or an error. */
static int feed_held(struct egress_subst *subst,
                     struct shl_bytes bytes,
                     struct shl_buf *out,
                     egress_subst_lookup lookup,
                     void *arg,
                     size_t *ret_used)
{
    size_t used = 0;
    int rc = 0;

    while (rc == 0 && subst->held_len > 0 && used < bytes.len) {
        if (fits(subst->held_len, bytes.base[used])) {
            subst->held[subst->held_len++] = bytes.base[used++];
            if (subst->held_len == EGRESS_TOKEN_BYTES) {
                subst->held_len = 0;
                rc = put_token(subst, subst->held, out, lookup, arg);
            }
        } else {
            /* no token; but a later one of the held bytes may begin one */
            struct shl_bytes rest = shl_bytes_of(subst->held + 1, subst->held_len - 1);
            size_t start = find_start(rest);

            rc = shl_buf_append(out, subst->held, 1 + start);
            subst->held_len -= 1 + start;
            memmove(subst->held, subst->held + 1 + start, subst->held_len);
        }
    }
    *ret_used = used;
    return rc;
}

int egress_subst_feed(struct egress_subst *subst,
                      struct shl_bytes bytes,
                      size_t enough,
                      struct shl_buf *out,
                      egress_subst_lookup lookup,
                      void *arg,
                      size_t *ret_used)
{
    size_t at = 0;
    int rc = feed_held(subst, bytes, out, lookup, arg, &at);

    while (rc == 0 && at < bytes.len && shl_buf_len(out) < enough) {
        struct shl_bytes rest = shl_bytes_of(bytes.base + at, bytes.len - at);
        size_t start = find_start(rest), len;

        rc = start > 0 ? shl_buf_append(out, rest.base, start) : 0;
        at += start;
        len = match_length(shl_bytes_of(rest.base + start, rest.len - start));
        if (rc < 0 || len == 0) {
            continue;
        }
        if (len == EGRESS_TOKEN_BYTES) {
            rc = put_token(subst, rest.base + start, out, lookup, arg);
        } else {
            memcpy(subst->held, rest.base + start, len);
            subst->held_len = len;
        }
        at += len;
    }
    *ret_used = at;
    return rc;
}

int egress_subst_end(struct egress_subst *subst, struct shl_buf *out)
{
    int rc = subst->held_len > 0 ? shl_buf_append(out, subst->held, subst->held_len) : 0;

    subst->held_len = 0;
    return rc;
}
