/* The answer of another node in memory, asked on behalf of a client's request: the same
 * method, target and credentials, without a body. For answers that are put together from
 * several nodes (lists).
 *
 * Loop thread. The callback comes once, never from inside node_fetch_start, unless the fetch
 * is cancelled before.
 */
#ifndef SHL_NODE_HTTP_FETCH_H
#define SHL_NODE_HTTP_FETCH_H

#include "base/buf.h"
#include "base/node_id.h"
#include "node/http/exchange.h"

struct node_fetch;
struct node_stream_opener;

struct node_fetch_config {
    struct node_stream_opener *opener;
    const struct shl_node_id *node;
    const char *origin; /* as in node/http/forward.h */
    const char *via;
    size_t body_max; /* bytes of the answer; more is a failure */
    /* @status of the answer with its body, borrowed; or a negative code. */
    void (*cb)(void *arg, int status, struct shl_bytes body);
    void *arg;
};

/* 0, or a negative code when the node cannot be asked. */
SHL_MUST_CHECK int node_fetch_start(struct node_exchange *x,
                                    const struct node_fetch_config *config,
                                    struct node_fetch **ret_fetch);
/* Before the callback: it does not come. */
void node_fetch_cancel(struct node_fetch *fetch);

#endif /* SHL_NODE_HTTP_FETCH_H */
