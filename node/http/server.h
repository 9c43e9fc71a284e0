/* HTTP/1.1 server of a node: libmicrohttpd driven by the libuv loop.
 *
 * The library runs without threads: its epoll descriptor is polled by the loop, its
 * time-outs are a timer. A request that waits (for a handler, for room in a sink, for
 * bytes of a source) is suspended and costs nothing. Bodies never pile up here: at most
 * one read buffer of a connection in each direction.
 *
 * Every reply carries X-Request-Id, X-Shoal-Node and the CORS headers; every error the JSON
 * envelope. Known gap: a later request on a kept-alive connection that is not HTTP gets the
 * library's own error page, since only first heads are screened.
 */
#ifndef SHL_NODE_HTTP_SERVER_H
#define SHL_NODE_HTTP_SERVER_H

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "node/http/exchange.h"

struct node_http;

#define NODE_HTTP_CONNECTIONS_MAX  1024
#define NODE_HTTP_MEMORY_BYTES     (128u * 1024) /* per connection: head and read buffer */
#define NODE_HTTP_BLOCK_BYTES      (32u * 1024)  /* write buffer of a streamed reply */
#define NODE_HTTP_HEAD_TIMEOUT_MS  15000         /* first byte to end of the head */
#define NODE_HTTP_BODY_TIMEOUT_MS  60000         /* whole of a buffered body */
#define NODE_HTTP_IDLE_TIMEOUT_MS  75000         /* no byte moved; kept-alive without request */
#define NODE_HTTP_SOCKET_LINGER_MS 5000          /* of a WebSocket, from our end to the client's */
/* The machine of a WebSocket's client acknowledges nothing: it is lost. Longer than the two
 * minutes between probes of a client that is there and does not read. */
#define NODE_HTTP_SOCKET_SILENT_MS 180000
/* A refused body is read to its end up to this, so that the client sees the reply. */
#define NODE_HTTP_DISCARD_MAX (256ll * 1024 * 1024)

struct node_http_config {
    const char *listen;
    const char *node_name;    /* borrowed; who says it served, NULL: nobody */
    uint32_t connections_max; /* 0: the defaults above */
    uint32_t head_timeout_ms;
    uint32_t body_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t pad_after_ms;
    uint32_t pad_every_ms;
    struct node_exchange_app app;
    const struct shl_log *log; /* borrowed, may be NULL */
};

struct node_http_stats {
    uint64_t requests[6]; /* [N] answered with status Nxx; [0] the client went away first */
    uint64_t refused;     /* heads answered before they became a request */
    uint32_t connections;
    uint32_t in_flight;
};

/* Fails with a sentence (SHL_EINVALIDARG, -EADDRINUSE, ...); the loop must run once more
 * afterwards to let go of a handle. */
SHL_MUST_CHECK int node_http_open(uv_loop_t *loop,
                                  const struct node_http_config *config,
                                  struct node_http **ret_http,
                                  struct shl_err *err);
uint16_t node_http_port(const struct node_http *http);
void node_http_stats(const struct node_http *http, struct node_http_stats *ret);

/* Drops every connection (each exchange gets on_close), then @cb once, later. */
void node_http_close(struct node_http *http, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_HTTP_SERVER_H */
