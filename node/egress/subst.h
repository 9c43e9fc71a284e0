/* Sealed tokens in a stream of bytes replaced by what they stand for.
 *
 * Pure. A token is "osb_sealed_" and 32 lower-case hexadecimal digits, wherever it stands. It
 * may be cut anywhere between two pieces: the end of a piece that could be the beginning of a
 * token is held back, at most EGRESS_TOKEN_BYTES - 1 bytes, until the next piece or the end.
 */
#ifndef SHL_NODE_EGRESS_SUBST_H
#define SHL_NODE_EGRESS_SUBST_H

#include "base/buf.h"

#define EGRESS_TOKEN_PREFIX "osb_sealed_"
#define EGRESS_TOKEN_DIGITS 32
#define EGRESS_TOKEN_BYTES  (sizeof(EGRESS_TOKEN_PREFIX) - 1 + EGRESS_TOKEN_DIGITS)

/* The value of @token (EGRESS_TOKEN_BYTES of it), base NULL when it stays as it is. Borrowed
 * until the next call. */
typedef struct shl_bytes (*egress_subst_lookup)(void *arg, const char *token);

/* Owned by the caller, no heap. */
struct egress_subst {
    uint8_t held[EGRESS_TOKEN_BYTES];
    size_t held_len;
    uint64_t replaced; /* tokens, so far */
};

void egress_subst_init(struct egress_subst *subst);

/* Append @bytes with tokens replaced to @out, and stop early once @out holds @enough bytes.
 * *ret_used says how many of @bytes are done with; it is all of them unless stopped. 0,
 * SHL_ELIMIT (a value does not fit in @out), -ENOMEM; then @out is to be thrown away. */
SHL_MUST_CHECK int egress_subst_feed(struct egress_subst *subst,
                                     struct shl_bytes bytes,
                                     size_t enough,
                                     struct shl_buf *out,
                                     egress_subst_lookup lookup,
                                     void *arg,
                                     size_t *ret_used);
/* Nothing follows: append what is held back. */
SHL_MUST_CHECK int egress_subst_end(struct egress_subst *subst, struct shl_buf *out);

#endif /* SHL_NODE_EGRESS_SUBST_H */
