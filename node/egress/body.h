/* Where the body of an HTTP/1.1 message ends, as it streams past.
 *
 * Pure. Fed with any pieces; says of each piece which part of it is payload. Chunk extensions
 * are dropped, trailers are passed over.
 */
#ifndef SHL_NODE_EGRESS_BODY_H
#define SHL_NODE_EGRESS_BODY_H

#include <stdbool.h>

#include "base/buf.h"

#define EGRESS_CHUNK_LINE_MAX (4u * 1024)  /* size and extensions */
#define EGRESS_TRAILERS_MAX   (16u * 1024) /* all trailers together */

enum egress_body_kind {
    EGRESS_BODY_NONE,
    EGRESS_BODY_LENGTH,
    EGRESS_BODY_CHUNKED,
    EGRESS_BODY_UNTIL_CLOSE,
};

enum egress_body_state {
    EGRESS_BODY_PAYLOAD, /* .left bytes of it follow (of this chunk) */
    EGRESS_BODY_SIZE,    /* in the line with a chunk's size */
    EGRESS_BODY_AFTER,   /* CR LF behind a chunk */
    EGRESS_BODY_TRAILER,
    EGRESS_BODY_DONE,
};

/* Owned by the caller, no heap. */
struct egress_body {
    enum egress_body_kind kind;
    enum egress_body_state state;
    uint64_t left;
    uint32_t line_bytes;    /* of the line or the trailers being read */
    uint32_t digits;        /* of the chunk size */
    bool in_extension;      /* behind the digits */
    uint8_t last;           /* byte before, for CR LF */
    uint32_t trailer_bytes; /* of this trailer line, without CR LF */
};

void egress_body_init(struct egress_body *body, enum egress_body_kind kind, uint64_t length);

/* Take a prefix of @bytes: *ret_used bytes are done with, of which the last ones may be payload
 * (*ret_payload, possibly empty). Call again while bytes are left and the body is not done.
 * 0 or SHL_EPROTO. */
SHL_MUST_CHECK int egress_body_take(struct egress_body *body,
                                    struct shl_bytes bytes,
                                    size_t *ret_used,
                                    struct shl_bytes *ret_payload);

static inline bool egress_body_is_done(const struct egress_body *body)
{
    return body->state == EGRESS_BODY_DONE;
}

#endif /* SHL_NODE_EGRESS_BODY_H */
