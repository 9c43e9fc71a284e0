#include "node/api/server.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "base/io.h"
#include "node/api/cold.h"
#include "node/api/images.h"
#include "node/api/patches.h"
#include "node/api/preview.h"
#include "node/api/preview_gate.h"
#include "node/api/router_local.h"
#include "node/api/routes.h"
#include "node/api/routing.h"
#include "node/api/server_private.h"
#include "node/api/signed.h"

static void server_free(struct node_server *server)
{
    node_cold_drop_all(server);
    node_router_local_free(server->own_router);
    free(server->domain);
    free(server->public_url);
    free(server->region);
    free(server->worker_id);
    free(server->images);
    sodium_memzero(&server->token_key, sizeof(server->token_key));
    free(server);
}

void node_server_ref(struct node_server *server)
{
    server->refs++;
}

void node_server_unref(struct node_server *server)
{
    if (--server->refs == 0) {
        server_free(server);
    }
}

/* What may stand in a Host header; everything else would end up in URLs we hand out. */
static bool is_host_text(const char *text)
{
    size_t len = strnlen(text, 256);

    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr(".:-_[]", text[i])) {
            return false;
        }
    }
    return len > 0 && len < 256;
}

void node_server_origin(const struct node_call *call, char dst[NODE_ORIGIN_SIZE])
{
    const char *host = node_exchange_header(call->x, "X-Forwarded-Host");
    const char *proto = node_exchange_header(call->x, "X-Forwarded-Proto");

    if (call->x->origin) {
        (void)snprintf(dst, NODE_ORIGIN_SIZE, "%s", call->x->origin);
        return;
    }
    if (call->server->public_url) {
        (void)snprintf(dst, NODE_ORIGIN_SIZE, "%s", call->server->public_url);
        return;
    }
    if (!host || !is_host_text(host)) {
        host = node_exchange_header(call->x, "Host");
    }
    (void)snprintf(dst, NODE_ORIGIN_SIZE, "%s://%s",
                   proto && strcmp(proto, "https") == 0 ? "https" : "http",
                   host && is_host_text(host) ? host : "localhost");
}

void node_server_domain(const struct node_call *call, char dst[NODE_ORIGIN_SIZE])
{
    const struct node_server *server = call->server;
    char origin[NODE_ORIGIN_SIZE];
    const char *port;

    node_server_origin(call, origin);
    port = strrchr(origin, ':');
    if (server->has_domain || !port || !isdigit((unsigned char)port[1]) || strchr(port, ']')) {
        port = "";
    }
    (void)snprintf(dst, NODE_ORIGIN_SIZE, "%.200s%.8s", server->domain, port);
}

static void run_handler(void *arg)
{
    node_routing_start(arg);
}

static size_t ids_size(const char *id)
{
    return id ? strlen(id) + 1 : 0;
}

static char *keep_id(char *to, const char **id)
{
    size_t size = ids_size(*id);

    if (size > 0) {
        memcpy(to, *id, size);
        *id = to;
    }
    return to + size;
}

/* They are in the request's target, which goes now; what is under way may still ask for them. */
static void keep_ids(struct node_call *call)
{
    char *to = malloc(ids_size(call->id) + ids_size(call->sid) + ids_size(call->cid) + 1);

    call->ids = to;
    if (!to) { /* "" is nobody's */
        call->id = call->id ? "" : NULL;
        call->sid = call->sid ? "" : NULL;
        call->cid = call->cid ? "" : NULL;
        return;
    }
    to = keep_id(to, &call->id);
    to = keep_id(to, &call->sid);
    (void)keep_id(to, &call->cid);
}

static void on_exchange_closed(void *arg, bool is_complete)
{
    struct node_call *call = arg;

    (void)is_complete;
    if (call->refs > 1) {
        keep_ids(call);
    }
    call->x = NULL;
    shl_list_remove(&call->link);
    if (call->on_gone) {
        call->on_gone(call->gone_arg);
    }
    node_call_unref(call);
}

static void reply_preflight(struct node_exchange *x)
{
    struct node_reply reply = {
        .status = 204,
        .headers = {{"Access-Control-Allow-Methods",
                     "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
                    {"Access-Control-Allow-Headers",
                     "Content-Type, X-API-Key, Authorization, X-OSB-Async-Wake, Idempotency-Key"},
                    {"Access-Control-Max-Age", "86400"}},
        .header_count = 3};

    node_exchange_reply(x, &reply);
}

static void reply_no_route(struct node_exchange *x, const struct node_route_match *match)
{
    const struct node_reply_header allow = {"Allow", match->allow};

    if (match->is_path_known) {
        node_exchange_fail_more(x, SHL_EMETHOD, NULL, &allow, NULL);
    } else {
        node_exchange_failf(x, SHL_ENOTFOUND, "no such route: %s %s", node_method_name(x->method),
                            x->url.path);
    }
}

static int authenticate(struct node_server *server,
                        struct node_exchange *x,
                        const struct node_route_match *match,
                        struct node_caller *caller,
                        struct shl_err *err)
{
    unsigned flags = match->route->flags;
    struct node_credentials credentials;
    int rc;

    if (flags & NODE_ROUTE_OPEN) {
        *caller = (struct node_caller){.is_admin = false};
        return 0;
    }
    if (flags & NODE_ROUTE_SIGNED) {
        *caller = (struct node_caller){.is_anyone = true};
        return node_signed_check(&server->token_key,
                                 x->method == NODE_METHOD_PUT ? NODE_SIGNED_UPLOAD
                                                              : NODE_SIGNED_DOWNLOAD,
                                 match->id, &x->url, shl_realtime_ms() / 1000, err);
    }
    node_credentials_of(x, &credentials);
    if ((flags & NODE_ROUTE_ADMIN) && !credentials.key_slot) {
        credentials.key_slot = node_url_query(&x->url, "key");
    }
    rc = node_auth_check(&server->auth, &credentials, flags & NODE_ROUTE_TOKEN ? match->id : NULL,
                         shl_realtime_ms(), caller, err);
    if (rc == 0 && (flags & NODE_ROUTE_ADMIN) && !caller->is_admin) {
        return shl_err_set(err, SHL_EFORBIDDEN, "this needs an API key with the admin flag");
    }
    return rc;
}

static void begin_call(struct node_server *server,
                       struct node_exchange *x,
                       const struct node_route_match *match,
                       const struct node_caller *caller)
{
    struct node_call *call = calloc(1, sizeof(*call));

    if (!call) {
        node_exchange_fail(x, -ENOMEM, NULL);
        return;
    }
    node_server_ref(server);
    call->server = server;
    call->x = x;
    call->route = match->route;
    call->caller = *caller;
    call->refs = 1; /* dropped in on_exchange_closed */
    call->id = match->id;
    call->sid = match->sid;
    call->cid = match->cid;
    shl_list_push_back(&server->calls, &call->link);
    x->handle = run_handler;
    x->on_close = on_exchange_closed;
    x->arg = call;
    if (match->route->flags & NODE_ROUTE_STREAM) {
        x->body_mode = NODE_BODY_STREAMED;
        x->body_max = NODE_SERVER_UPLOAD_MAX;
    }
    if ((match->route->flags & NODE_ROUTE_SOCKET) && x->is_upgrade) {
        x->body_mode = NODE_BODY_SOCKET;
    }
    if (match->route->flags & NODE_ROUTE_LARGE) {
        x->body_max = IMAGE_BODY_MAX;
    }
}

static void begin_preview(struct node_server *server,
                          struct node_exchange *x,
                          const struct node_preview_host *host)
{
    const struct node_route_match match = {.route = &node_preview_route};
    const struct node_caller caller = {.is_anyone = true};
    struct node_call *call;

    begin_call(server, x, &match, &caller);
    if (x->is_replied) {
        return;
    }
    call = x->arg;
    memcpy(call->preview_id, host->id, sizeof(call->preview_id));
    call->id = call->preview_id;
    call->preview_port = host->port;
    x->body_mode = x->is_upgrade ? NODE_BODY_SOCKET : NODE_BODY_STREAMED;
    x->body_max = SIZE_MAX;
}

static void on_head(void *arg, struct node_exchange *x)
{
    struct node_server *server = arg;
    struct node_preview_host host;
    struct node_route_match match;
    struct node_caller caller;
    struct shl_err err = {0};
    enum node_host_kind kind = node_preview_match(server, x, &host);
    int rc;

    if (kind == NODE_HOST_PREVIEW) {
        begin_preview(server, x, &host);
    }
    if (kind != NODE_HOST_API) {
        return;
    }
    if (x->target_code < 0) {
        node_exchange_fail_target(x);
        return;
    }
    if (x->method == NODE_METHOD_OPTIONS) {
        reply_preflight(x);
        return;
    }
    node_route_find(node_routes, x->method, &x->url, &match);
    if (!match.route) {
        reply_no_route(x, &match);
        return;
    }
    rc = authenticate(server, x, &match, &caller, &err);
    if (rc < 0) {
        /* What passed it on knows the credentials; this node may be behind. */
        node_exchange_refuse(x, rc == SHL_EAUTH ? NODE_REFUSAL_NOT_KNOWN : NODE_REFUSAL_NONE, rc,
                             err.msg);
        return;
    }
    begin_call(server, x, &match, &caller);
}

static int copy_texts(struct node_server *server, const struct node_server_config *config)
{
    char host[64] = "node";

    (void)gethostname(host, sizeof(host) - 1);
    server->has_domain = config->domain && *config->domain != '\0';
    server->domain = strdup(server->has_domain ? config->domain : "localhost");
    server->region = strdup(config->region ? config->region : "local");
    server->worker_id = strdup(config->worker_id ? config->worker_id : host);
    if (config->public_url && *config->public_url != '\0') {
        size_t len = strlen(config->public_url);

        while (len > 0 && config->public_url[len - 1] == '/') {
            len--;
        }
        server->public_url = strndup(config->public_url, len);
    }
    return server->domain && server->region && server->worker_id ? 0 : -ENOMEM;
}

static int open_router(struct node_server *server,
                       const struct node_server_config *config,
                       struct shl_err *err)
{
    int rc = 0;

    server->router = config->router;
    if (!server->router) {
        rc = node_router_local_new(server->store, &server->own_router, err);
        server->router = server->own_router;
    }
    return rc;
}

static int open_remote(struct node_server *server,
                       const struct node_server_config *config,
                       struct shl_err *err)
{
    const struct node_remote_config remote = {
        .node_name = server->worker_id,
        .pad_after_ms = config->pad_after_ms,
        .app = {.on_head = on_head, .takes_any_target = true, .arg = server},
        .log = config->log};

    return node_remote_open(server->loop, &remote, &server->remote, err);
}

static void ignore_closed(void *arg)
{
    (void)arg;
}

static int server_open(struct node_server *server,
                       const struct node_server_config *config,
                       struct shl_err *err)
{
    struct node_http_config http;
    int rc;

    if (sodium_init() < 0) {
        return shl_err_set(err, -EIO, "libsodium did not start");
    }
    if (config->region && strlen(config->region) >= NODE_EGRESS_REGION_SIZE) {
        return shl_err_set(err, SHL_EINVALIDARG, "the name of the region exceeds %d bytes",
                           NODE_EGRESS_REGION_SIZE - 1);
    }
    if (copy_texts(server, config) < 0) {
        return shl_err_set(err, -ENOMEM, "no memory for the API server");
    }
    rc = open_router(server, config, err);
    if (rc == 0) {
        rc = node_token_key_load(server->store, &server->token_key, err);
    }
    if (rc < 0) {
        return rc;
    }
    http = (struct node_http_config){
        .listen = config->listen,
        .node_name = server->worker_id,
        .connections_max = config->connections_max,
        .pad_after_ms = config->pad_after_ms,
        .app = {.on_head = on_head, .takes_any_target = true, .arg = server},
        .log = config->log};
    rc = config->router ? open_remote(server, config, err) : 0;
    if (rc < 0) {
        return rc;
    }
    rc = node_http_open(server->loop, &http, &server->http, err);
    if (rc == 0) {
        server->images = node_images_new(server);
        node_patches_open(server);
        assert(server->images); /* a few bytes, at the start of a daemon */
        node_secret_push_open(server, &config->egress);
    }
    if (rc < 0 && server->remote) {
        node_remote_close(server->remote, ignore_closed, NULL);
    }
    return rc;
}

/* Bodies hold secret values, and jansson leaves copies of them where it grew a buffer. */
static void wipe_free(void *memory)
{
    if (memory) {
        sodium_memzero(memory, malloc_usable_size(memory));
        free(memory);
    }
}

int node_server_open(uv_loop_t *loop,
                     struct node_store *store,
                     struct node_manager *manager,
                     const struct node_server_config *config,
                     struct node_server **ret_server,
                     struct shl_err *err)
{
    struct node_server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server) {
        return shl_err_set(err, -ENOMEM, "no memory for the API server");
    }
    json_set_alloc_funcs(malloc, wipe_free);
    server->loop = loop;
    server->store = store;
    server->manager = manager;
    server->log = config->log;
    server->egress = config->egress;
    server->more_metrics = config->more_metrics;
    server->more_metrics_arg = config->more_metrics_arg;
    server->refs = 1;
    server->started_at_ms = shl_realtime_ms();
    server->auth = (struct node_auth){.store = store, .token_key = &server->token_key};
    server->memory_default_mb =
        config->memory_default_mb > 0 ? config->memory_default_mb : NODE_SERVER_MEMORY_DEFAULT_MB;
    shl_list_init(&server->calls);
    shl_list_init(&server->colds);
    shl_list_init(&server->onces);
    shl_list_init(&server->patch_waiters);
    shl_list_init(&server->figures);
    rc = server_open(server, config, err);
    if (rc < 0) {
        server_free(server);
        return rc;
    }
    *ret_server = server;
    return 0;
}

struct node_remote *node_server_remote(struct node_server *server)
{
    return server->remote;
}

uint16_t node_server_port(const struct node_server *server)
{
    return node_http_port(server->http);
}

static void on_part_closed(void *arg)
{
    struct node_server *server = arg;
    void (*cb)(void *) = server->close_cb;
    void *cb_arg = server->close_arg;

    if (--server->closing > 0) {
        return;
    }
    node_server_unref(server);
    cb(cb_arg);
}

static void on_push_closed(uv_handle_t *timer)
{
    on_part_closed(shl_container_of(timer->data, struct node_server, secrets));
}

void node_server_close(struct node_server *server, void (*cb)(void *arg), void *arg)
{
    server->close_cb = cb;
    server->close_arg = arg;
    server->closing = (server->remote ? 3 : 2) + (server->secrets.is_open ? 1 : 0);
    node_secret_push_close(server, on_push_closed);
    node_patches_close(server);
    node_images_close(server->images, on_part_closed, server);
    if (server->remote) {
        node_remote_close(server->remote, on_part_closed, server);
    }
    node_http_close(server->http, on_part_closed, server);
}
