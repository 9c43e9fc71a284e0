/* The public HTTP API of a node: opening and closing it (all node/main.c needs).
 *
 * A server owns the listener, every connection, and the requests in flight; store,
 * manager and router are borrowed and must outlive it (close the server first). Everything runs
 * on the loop thread and nothing blocks it. What is served where: docs/api.md.
 */
#ifndef SHL_NODE_API_SERVER_H
#define SHL_NODE_API_SERVER_H

#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "node/egress/sink.h"

struct node_manager;
struct node_remote;
struct node_router;
struct node_server;
struct node_store;
struct shl_buf;

#define NODE_SERVER_MEMORY_DEFAULT_MB 1024

/* All strings are copied; NULL or 0 takes the default. */
struct node_server_config {
    const char *listen;         /* "ADDR:PORT", "[ADDR6]:PORT" or ":PORT"; port 0 picks one */
    const char *domain;         /* base of preview host names; NULL: localhost, at the port that
                                   the client reached the node at */
    const char *public_url;     /* origin without path, default: the Host of each request */
    const char *region;         /* default "local" */
    const char *worker_id;      /* name of this node, default the host name */
    uint32_t memory_default_mb; /* of a create that names none */
    uint32_t connections_max;   /* default NODE_HTTP_CONNECTIONS_MAX */
    uint32_t pad_after_ms;      /* a run that takes longer answers with spaces meanwhile */
    struct node_router *router; /* borrowed; NULL: a node on its own */
    const struct shl_log *log;  /* borrowed, may be NULL */
    /* What is told of sandboxes that run, and asked of them; .set NULL: nothing. */
    struct node_egress_sink egress;
    /* More lines for /metrics; may be NULL. */
    int (*more_metrics)(void *arg, struct shl_buf *out);
    void *more_metrics_arg;
};

/* Creates the token signing key at first start, binds and starts serving. Fails with a
 * sentence: SHL_EINVALIDARG (address), -EADDRINUSE, -EACCES, or an error of the store. */
SHL_MUST_CHECK int node_server_open(uv_loop_t *loop,
                                    struct node_store *store,
                                    struct node_manager *manager,
                                    const struct node_server_config *config,
                                    struct node_server **ret_server,
                                    struct shl_err *err);

/* What other nodes pass on to this one comes in here: node_remote_accept of it is the handler
 * for streams of kind NODE_WIRE_KIND (node/http/wire.h). NULL without a router. */
struct node_remote *node_server_remote(struct node_server *server);

/* The port that was bound. */
uint16_t node_server_port(const struct node_server *server);

/* Stop listening, drop connections and streams of other nodes (what carries them must still
 * be there); @cb once, later, when every handle is closed. Streams
 * of guests that are still ending keep a little memory until they have ended, which
 * closing the manager brings about. */
void node_server_close(struct node_server *server, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_API_SERVER_H */
