#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define BUF_FIRST_BYTES 256

void shl_buf_init(struct shl_buf *buf, size_t max_bytes)
{
    *buf = (struct shl_buf){.max_bytes = max_bytes};
}

void shl_buf_release(struct shl_buf *buf)
{
    free(buf->heap);
    *buf = (struct shl_buf){.max_bytes = buf->max_bytes};
}

void shl_buf_wipe(struct shl_buf *buf)
{
    if (buf->heap) {
        explicit_bzero(buf->heap, buf->cap);
    }
    shl_buf_release(buf);
}

void shl_buf_clear(struct shl_buf *buf)
{
    buf->start = 0;
    buf->end = 0;
}

/* Move the live bytes to the front when that alone makes enough room. Moving only
 * when the dead space is at least as large as what moves keeps it amortised O(1). */
static void compact(struct shl_buf *buf)
{
    size_t len = shl_buf_len(buf);

    if (buf->start > 0 && (len == 0 || buf->start >= len)) {
        memmove(buf->heap, buf->heap + buf->start, len);
        buf->start = 0;
        buf->end = len;
    }
}

int shl_buf_reserve(struct shl_buf *buf, size_t len, uint8_t **ret_space)
{
    size_t used = shl_buf_len(buf);

    if (len > buf->max_bytes || used > buf->max_bytes - len) {
        return SHL_ELIMIT;
    }
    if (buf->cap - buf->end < len) {
        compact(buf);
    }
    if (buf->cap - buf->end < len) {
        size_t want = buf->cap ? buf->cap : BUF_FIRST_BYTES;
        uint8_t *grown;

        while (want < buf->end + len) {
            want *= 2;
        }
        grown = realloc(buf->heap, want);
        if (!grown) {
            return -ENOMEM;
        }
        buf->heap = grown;
        buf->cap = want;
    }
    *ret_space = buf->heap + buf->end;
    return 0;
}

void shl_buf_commit(struct shl_buf *buf, size_t len)
{
    assert(len <= buf->cap - buf->end);
    buf->end += len;
}

int shl_buf_append(struct shl_buf *buf, const void *data, size_t len)
{
    uint8_t *space;
    int rc;

    if (len == 0) {
        return 0;
    }
    rc = shl_buf_reserve(buf, len, &space);
    if (rc < 0) {
        return rc;
    }
    memcpy(space, data, len);
    shl_buf_commit(buf, len);
    return 0;
}

int shl_buf_append_str(struct shl_buf *buf, const char *text)
{
    return shl_buf_append(buf, text, strlen(text));
}

int shl_buf_printf(struct shl_buf *buf, const char *fmt, ...)
{
    va_list args;
    uint8_t *space;
    int len, rc;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0) {
        return -EINVAL;
    }
    rc = shl_buf_reserve(buf, (size_t)len + 1, &space);
    if (rc < 0) {
        return rc;
    }
    va_start(args, fmt);
    (void)vsnprintf((char *)space, (size_t)len + 1, fmt, args);
    va_end(args);
    shl_buf_commit(buf, (size_t)len);
    return 0;
}

void shl_buf_consume(struct shl_buf *buf, size_t len)
{
    assert(len <= shl_buf_len(buf));
    buf->start += len;
    if (buf->start == buf->end) {
        shl_buf_clear(buf);
    }
}

char *shl_bytes_dup_str(struct shl_bytes bytes)
{
    char *text = malloc(bytes.len + 1);

    if (text) {
        if (bytes.len) {
            memcpy(text, bytes.base, bytes.len);
        }
        text[bytes.len] = '\0';
    }
    return text;
}
