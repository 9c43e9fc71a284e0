/* Requests that other nodes pass on: streams of kind NODE_WIRE_KIND become exchanges.
 *
 * The other transport of exchanges beside node/http/server.h; handlers cannot tell them
 * apart. The reply is read from its source only as fast as the stream takes it, and body
 * bytes that a handler does not take stay with the stream, so a slow side anywhere slows the
 * other one down. Per exchange at most a frame and a piece of the reply are held here.
 *
 * Reply complete: end of the stream's direction. A source that fails, or ends before the
 * length it promised: the stream is cut, so that nobody takes the part for the whole. Cut by
 * the other side, or lost: the handler's client has left.
 *
 * Loop thread. Nothing is written to a stream inside node_remote_accept.
 */
#ifndef SHL_NODE_HTTP_REMOTE_H
#define SHL_NODE_HTTP_REMOTE_H

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "node/http/exchange.h"
#include "node/mesh/stream.h"

struct node_remote;

#define NODE_REMOTE_REQUESTS_MAX      1024 /* at once */
#define NODE_REMOTE_PEER_REQUESTS_MAX 512  /* of one peer */
#define NODE_REMOTE_SWEEP_MS          1000
#define NODE_REMOTE_LINGER_MS         15000 /* from the end of the reply to that of the stream */
/* Body bytes that still come when the reply is out are dropped, up to this. */
#define NODE_REMOTE_DISCARD_MAX (4ull * NODE_STREAM_WINDOW)

/* 0 takes the default. */
struct node_remote_config {
    const char *node_name; /* copied; says who served */
    uint32_t requests_max;
    uint32_t peer_requests_max;
    uint32_t body_timeout_ms; /* whole of a buffered body, default NODE_HTTP_BODY_TIMEOUT_MS */
    uint32_t pad_after_ms;
    uint32_t pad_every_ms;
    struct node_exchange_app app;
    const struct shl_log *log; /* borrowed, may be NULL */
};

struct node_remote_stats {
    uint64_t requests[6]; /* as in node_http_stats */
    uint64_t refused;     /* heads that were not valid, or too many */
    uint32_t in_flight;
};

/* 0 or -ENOMEM. */
SHL_MUST_CHECK int node_remote_open(uv_loop_t *loop,
                                    const struct node_remote_config *config,
                                    struct node_remote **ret_remote,
                                    struct shl_err *err);

/* A node_stream_accept; @arg is the struct node_remote. */
SHL_MUST_CHECK int node_remote_accept(void *arg,
                                      struct node_stream *stream,
                                      struct shl_bytes head,
                                      struct shl_err *err);

void node_remote_stats(const struct node_remote *remote, struct node_remote_stats *ret);

/* Cuts every stream and takes no more; @cb once, later, when all have closed (what carries
 * them must still be there). */
void node_remote_close(struct node_remote *remote, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_HTTP_REMOTE_H */
