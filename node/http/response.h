/* HTTP/1 replies of servers in guests, taken apart as they come.
 *
 * Pure, and made for hostile input: heads have a limit, what two readers could understand
 * differently (two lengths, a length and chunks, folded lines, unknown encodings) is refused.
 * Interim replies (1xx but 101) are skipped. Bytes are fed in any pieces; body bytes are
 * borrowed from what was fed.
 */
#ifndef SHL_NODE_HTTP_RESPONSE_H
#define SHL_NODE_HTTP_RESPONSE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/http/exchange.h"

#define NODE_RESPONSE_HEAD_MAX    (32u * 1024)
#define NODE_RESPONSE_LINE_MAX    256u  /* size of a chunk with its extensions */
#define NODE_RESPONSE_TRAILER_MAX 8192u /* dropped, but read */
#define NODE_RESPONSE_INTERIM_MAX 8u

enum node_response_event {
    NODE_RESPONSE_MORE, /* everything fed was used, more is needed */
    NODE_RESPONSE_HEAD, /* status, headers and length are there */
    NODE_RESPONSE_BODY, /* a piece of the body */
    NODE_RESPONSE_END,  /* complete; nothing after it is looked at */
};

enum node_response_state {
    NODE_RESPONSE_IN_HEAD,
    NODE_RESPONSE_IN_LENGTH, /* body of a known length */
    NODE_RESPONSE_IN_REST,   /* body up to the end of the connection */
    NODE_RESPONSE_IN_SIZE,   /* line with the size of a chunk */
    NODE_RESPONSE_IN_CHUNK,
    NODE_RESPONSE_IN_CHUNK_END, /* line end after it */
    NODE_RESPONSE_IN_TRAILER,
    NODE_RESPONSE_OVER,
};

struct node_response {
    enum node_response_state state;
    bool is_to_head; /* the request was HEAD: no body */
    bool is_to_upgrade;
    unsigned interim_count;
    struct shl_buf head; /* what of it has come; then what the headers point into */
    struct shl_buf line; /* of a chunk size, or count of a trailer */
    uint64_t left;       /* of the length or chunk */
    size_t trailer_bytes;
    bool is_line_empty; /* of a trailer */

    /* With NODE_RESPONSE_HEAD; valid until the release. */
    int status;
    int64_t length;                                              /* of the body, -1 not known */
    const char *content_type;                                    /* NULL without */
    struct node_reply_header headers[NODE_EXCHANGE_HEADERS_MAX]; /* end to end, without type */
    size_t header_count;
};

/* @is_to_upgrade: 101 is an answer. */
void node_response_init(struct node_response *r, bool is_to_head, bool is_to_upgrade);
void node_response_release(struct node_response *r);

/* One step with @bytes. @ret_used of them are dealt with (also the body, which is part of
 * them). An event, or SHL_EGUEST with a sentence (no further calls then), or -ENOMEM. */
SHL_MUST_CHECK int node_response_feed(struct node_response *r,
                                      struct shl_bytes bytes,
                                      size_t *ret_used,
                                      struct shl_bytes *ret_body,
                                      struct shl_err *err);

/* The connection has ended: NODE_RESPONSE_END, or SHL_EGUEST when something is missing. */
SHL_MUST_CHECK int node_response_eof(struct node_response *r, struct shl_err *err);

/* A token of HTTP; what may stand in a value: no control characters. */
bool node_header_is_name(const char *text, size_t len);
bool node_header_is_value(const char *text);
/* Is @name in the list of a Connection header (NULL: no)? */
bool node_header_is_listed(const char *list, const char *name);
/* Headers of a connection, not of a message: never passed on. */
bool node_header_is_hop(const char *name);

#endif /* SHL_NODE_HTTP_RESPONSE_H */
