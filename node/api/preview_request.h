/* The head of a request as the server in a sandbox gets it. */
#ifndef SHL_NODE_API_PREVIEW_REQUEST_H
#define SHL_NODE_API_PREVIEW_REQUEST_H

#include "base/buf.h"
#include "node/http/exchange.h"
#include "node/sandbox/preview.h"

/* Append it to @out: the headers of @x but those of its connection, and what carried the token of
 * @set; a body of unknown length (x->body_length < 0, no WebSocket) is announced in chunks. 0,
 * -E2BIG, SHL_EINVALIDARG with a sentence, or -ENOMEM. */
SHL_MUST_CHECK int node_preview_write_head(struct node_exchange *x,
                                           const struct node_previews *set,
                                           const char *target,
                                           struct shl_buf *out,
                                           struct shl_err *err);

#endif /* SHL_NODE_API_PREVIEW_REQUEST_H */
