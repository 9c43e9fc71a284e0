/* The head of a request as it goes on. Pure; part of request.c's work. */
#ifndef SHL_NODE_EGRESS_REWRITE_H
#define SHL_NODE_EGRESS_REWRITE_H

#include "base/buf.h"
#include "node/egress/head.h"
#include "node/egress/request.h"

enum egress_rewrite {
    EGRESS_REWRITE_KEEP,    /* framing as it was */
    EGRESS_REWRITE_COLLECT, /* without length, without Expect and without the empty line */
    EGRESS_REWRITE_CHUNKS,  /* chunked instead of a length */
};

/* Append to @out; tokens in values are replaced, counted in *replaced. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int egress_rewrite_head(const struct egress_head *head,
                                       const struct egress_request_rules *rules,
                                       enum egress_rewrite how,
                                       struct shl_buf *out,
                                       uint64_t *replaced);

#endif /* SHL_NODE_EGRESS_REWRITE_H */
