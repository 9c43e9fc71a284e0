/* Inside of the API server, for the files of node/api. */
#ifndef SHL_NODE_API_SERVER_PRIVATE_H
#define SHL_NODE_API_SERVER_PRIVATE_H

#include "node/api/auth.h"
#include "node/api/call.h"
#include "node/api/once.h"
#include "node/api/router.h"
#include "node/api/secret_push.h"
#include "node/api/server.h"
#include "node/api/token.h"
#include "node/http/remote.h"
#include "node/http/server.h"

/* Bytes of command output held for replies, over all requests. A request over it gets
 * 503; one alone may take 2 * AGENT_KEEP_DEFAULT_BYTES. */
#define NODE_SERVER_OUTPUT_MAX (512ll * 1024 * 1024)

/* Body of a file upload. */
#define NODE_SERVER_UPLOAD_MAX (2ull * 1024 * 1024 * 1024)

struct node_images;

struct node_server {
    uv_loop_t *loop;
    struct node_store *store;
    struct node_manager *manager;
    struct node_http *http;
    struct node_remote *remote; /* NULL without other nodes */
    struct node_router *router;
    struct node_router *own_router; /* of a node on its own, else NULL */
    const struct shl_log *log;
    struct node_egress_sink egress;
    int (*more_metrics)(void *arg, struct shl_buf *out);
    void *more_metrics_arg;
    struct node_token_key token_key;
    struct node_auth auth;
    char *domain;     /* may have a port */
    bool has_domain;  /* it was given */
    char *public_url; /* NULL: from the request */
    char *region;
    char *worker_id;
    uint32_t memory_default_mb;
    int64_t started_at_ms;
    struct shl_list calls;
    struct shl_list colds; /* node/api/cold.h */
    unsigned cold_count;
    struct shl_list onces; /* node/api/once.h */
    uint32_t once_count;   /* records in the store */
    uint32_t once_waiting;
    int64_t once_swept_at_ms;
    struct node_once_refusal once_refused[NODE_ONCE_REFUSED_MAX];
    size_t once_refused_next;
    uint64_t forwarded;
    struct node_secret_push secrets;
    struct shl_list patch_waiters; /* node/api/patches.c: boots that wait for the rows */
    bool is_patch_asked;
    struct shl_list figures;    /* node/api/guest_figures.h */
    struct node_images *images; /* node/api/images.h */
    unsigned closing;           /* parts that are still open */
    unsigned refs;              /* owner and calls: a stream of a guest may end after the close */
    int64_t output_bytes;
    void (*close_cb)(void *arg);
    void *close_arg;
};

void node_server_ref(struct node_server *server);
void node_server_unref(struct node_server *server);

/* "http://host:port" the client reached this node at, or the node that passed the request
 * on: the configured one, or what the request says (X-Forwarded-Proto, X-Forwarded-Host, Host). */
#define NODE_ORIGIN_SIZE 300
void node_server_origin(const struct node_call *call, char dst[NODE_ORIGIN_SIZE]);

/* Base of preview host names as clients are told, with the port they need. */
void node_server_domain(const struct node_call *call, char dst[NODE_ORIGIN_SIZE]);

#endif /* SHL_NODE_API_SERVER_PRIVATE_H */
