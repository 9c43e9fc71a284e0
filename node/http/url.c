#include "node/http/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/id.h"

int node_url_encode(const char *text, struct shl_buf *out)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    int rc = 0;

    while (rc == 0 && *text != '\0') {
        size_t len = strspn(text, plain);

        if (len > 0) {
            rc = shl_buf_append(out, text, len);
            text += len;
        } else {
            rc = shl_buf_printf(out, "%%%02X", (unsigned char)*text++);
        }
    }
    return rc;
}

int node_url_decode(char *text, size_t len, bool plus)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = len - i > 2 ? shl_hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? shl_hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                return -EINVAL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        } else if (c == '\0') {
            return -EINVAL;
        }
        text[out++] = c;
    }
    text[out] = '\0';
    return (int)out;
}

/* Decodes the piece [start, end) of the heap copy; the byte at @end may be overwritten. */
static int decode_piece(char *start, char *end, bool plus)
{
    int n = node_url_decode(start, (size_t)(end - start), plus);

    return n < 0 ? n : 0;
}

static int split_path(struct node_url *url, char *path)
{
    char *cursor = path;

    while (*cursor != '\0') {
        char *end = strchrnul(cursor, '/');
        bool last = *end == '\0';

        if (end != cursor) {
            if (url->segment_count == NODE_URL_SEGMENTS) {
                return SHL_ELIMIT;
            }
            if (decode_piece(cursor, end, false) < 0) {
                return -EINVAL;
            }
            url->segments[url->segment_count++] = cursor;
        }
        if (last) {
            break;
        }
        cursor = end + 1;
    }
    return 0;
}

static int split_query(struct node_url *url, char *query)
{
    char *cursor = query;

    while (cursor && *cursor != '\0') {
        char *end = strchrnul(cursor, '&');
        char *next = *end == '\0' ? NULL : end + 1;

        if (end != cursor) {
            char *equals = memchr(cursor, '=', (size_t)(end - cursor));
            char *name_end = equals ? equals : end;
            char *value = equals ? equals + 1 : end;

            if (url->query_count == NODE_URL_QUERY_PAIRS) {
                return SHL_ELIMIT;
            }
            if (decode_piece(value, end, true) < 0 || decode_piece(cursor, name_end, true) < 0) {
                return -EINVAL;
            }
            url->query[url->query_count++] =
                (struct node_url_pair){cursor, equals ? equals + 1 : ""};
        }
        cursor = next;
    }
    return 0;
}

/* The path inside "http://host/path": proxies and strict clients send that form. */
static const char *skip_origin(const char *target)
{
    const char *rest;

    if (strncasecmp(target, "http://", 7) == 0) {
        rest = target + 7;
    } else if (strncasecmp(target, "https://", 8) == 0) {
        rest = target + 8;
    } else {
        return target;
    }
    rest += strcspn(rest, "/?");
    return rest;
}

int node_url_parse(struct node_url *url, const char *target)
{
    const char *from = skip_origin(target);
    size_t len = strnlen(from, NODE_URL_MAX + 1);
    char *path;
    char *query;
    int rc;

    *url = (struct node_url){0};
    if (len > NODE_URL_MAX) {
        return SHL_ELIMIT;
    }
    if (from == target && from[0] != '/' && strcmp(from, "*") != 0) {
        return -EINVAL;
    }
    /* Two copies in one block: the raw path for the log, and one that gets cut up. */
    url->heap = malloc(2 * (len + 1));
    if (!url->heap) {
        return -ENOMEM;
    }
    path = url->heap + len + 1;
    memcpy(url->heap, from, len + 1);
    memcpy(path, from, len + 1);
    url->heap[strcspn(url->heap, "?")] = '\0';
    url->path = url->heap;

    query = strchr(path, '?');
    if (query) {
        *query++ = '\0';
    }
    rc = split_path(url, path);
    if (rc == 0) {
        rc = split_query(url, query);
    }
    if (rc < 0) {
        node_url_release(url);
    }
    return rc;
}

void node_url_release(struct node_url *url)
{
    free(url->heap);
    *url = (struct node_url){0};
}

const char *node_url_query(const struct node_url *url, const char *name)
{
    for (size_t i = 0; i < url->query_count; i++) {
        if (strcmp(url->query[i].name, name) == 0) {
            return url->query[i].value;
        }
    }
    return NULL;
}
