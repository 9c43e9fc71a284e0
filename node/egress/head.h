/* Heads of HTTP/1.1 requests and responses as a proxy reads them.
 *
 * Pure, hostile input. Strict where programs disagree about where a message ends, because that
 * is how requests are smuggled: two lengths, a length together with chunks, folded lines, bare
 * line feeds, blanks before a colon. Spans point into the bytes given; nothing is copied.
 */
#ifndef SHL_NODE_EGRESS_HEAD_H
#define SHL_NODE_EGRESS_HEAD_H

#include <stdbool.h>

#include "base/buf.h"

#define EGRESS_HEAD_MAX         (64u * 1024)
#define EGRESS_HEAD_FIELDS_MAX  128
#define EGRESS_HEAD_METHOD_MAX  32
#define EGRESS_BODY_LENGTH_MAX  (UINT64_MAX / 16)
#define EGRESS_HEAD_LEADING_MAX 4 /* empty lines in front of a request, which are passed over */

enum egress_head_result {
    EGRESS_HEAD_MORE,
    EGRESS_HEAD_OK,
    EGRESS_HEAD_BAD,       /* 400, or 502 of a server's */
    EGRESS_HEAD_TOO_LARGE, /* 431 */
};

struct egress_field {
    struct shl_bytes name;
    struct shl_bytes value; /* without blanks around it */
};

/* How the body is delimited by what the head says. */
enum egress_framing {
    EGRESS_FRAMING_NONE,   /* neither length nor chunks: a request has no body, a response
                              ends with its connection */
    EGRESS_FRAMING_LENGTH, /* .length bytes */
    EGRESS_FRAMING_CHUNKED,
};

struct egress_head {
    size_t bytes;            /* of the head with its empty line (and empty lines in front) */
    struct shl_bytes method; /* requests */
    struct shl_bytes target; /* requests */
    int status;              /* responses: 100..999 */
    struct shl_bytes line;   /* first line without its end */
    int minor;               /* HTTP/1.minor: 0 or 1 */
    enum egress_framing framing;
    uint64_t length;
    bool expects_continue;
    bool wants_upgrade;            /* Upgrade with Connection: upgrade */
    struct shl_bytes host;         /* base NULL without the field */
    struct shl_bytes content_type; /* base NULL without the field */
    bool is_encoded;               /* Content-Encoding other than identity */
    struct egress_field fields[EGRESS_HEAD_FIELDS_MAX];
    size_t field_count;
};

enum egress_head_result egress_head_request(struct shl_bytes bytes, struct egress_head *ret);
enum egress_head_result egress_head_response(struct shl_bytes bytes, struct egress_head *ret);

/* Whether @field has this name, whatever its case. */
bool egress_field_is(const struct egress_field *field, const char *name);
bool egress_bytes_equal_nocase(struct shl_bytes bytes, const char *text);

#endif /* SHL_NODE_EGRESS_HEAD_H */
