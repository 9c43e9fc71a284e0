/* Request targets: percent decoding, path segments, query parameters.
 *
 * Pure. Decoded text never holds a zero byte: "%00" is refused, because every string
 * behind this is terminated by one. Bytes that are not UTF-8 pass (file names may be
 * any bytes).
 */
#ifndef SHL_NODE_HTTP_URL_H
#define SHL_NODE_HTTP_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/buf.h"

#define NODE_URL_MAX         (16 * 1024) /* raw request target */
#define NODE_URL_SEGMENTS    12          /* the longest route has six */
#define NODE_URL_QUERY_PAIRS 32

/* In-place percent decoding of @len bytes; with @plus, '+' is a space. Returns the new
 * length (terminated), or -EINVAL for a broken escape or an encoded zero byte. */
SHL_MUST_CHECK int node_url_decode(char *text, size_t len, bool plus);

/* Append @text to @out with everything but letters, digits and "-._~/" percent-encoded. 0,
 * SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_url_encode(const char *text, struct shl_buf *out);

struct node_url_pair {
    const char *name;
    const char *value; /* "" for a name without '=' */
};

/* A parsed target. Owns one heap copy that everything points into. */
struct node_url {
    char *heap;
    const char *path; /* raw, for the log: without the query, which may hold keys */
    const char *segments[NODE_URL_SEGMENTS];
    size_t segment_count; /* empty segments are dropped: "//a/" is "a" */
    struct node_url_pair query[NODE_URL_QUERY_PAIRS];
    size_t query_count;
};

/* @target is "/path?query", "http://host/path?query" or "*". 0, -EINVAL (not a target,
 * bad escape), SHL_ELIMIT (too long, too many segments or parameters), -ENOMEM. On
 * failure nothing needs a release. */
SHL_MUST_CHECK int node_url_parse(struct node_url *url, const char *target);
void node_url_release(struct node_url *url);

/* First parameter of that name, or NULL. */
const char *node_url_query(const struct node_url *url, const char *name);

#endif /* SHL_NODE_HTTP_URL_H */
