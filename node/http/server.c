#include "node/http/server.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "base/io.h"
#include "base/list.h"
#include "node/http/listener.h"
#include "node/http/transport.h"

struct node_http {
    struct node_http_config config; /* defaults filled in; listen is not kept */
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    struct node_listener listener;
    uv_poll_t poll;   /* the library's epoll descriptor */
    uv_timer_t timer; /* the library's next time-out */
    uv_timer_t sweep; /* deadlines of connections */
    struct shl_list connections;
    struct shl_list requests;
    struct node_http_stats stats;
    uint32_t open_handles;
    bool is_closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* A connection the library has. */
struct connection {
    struct shl_list link;
    int fd;
    uint64_t deadline_ms; /* 0: none, a request is being served */
};

/* One request on it. Freed when the library is through with both request and response. */
struct request {
    struct shl_list link;
    struct node_http *http;
    struct MHD_Connection *mhd;
    struct node_exchange x;
    struct MHD_Response *response; /* made, not queued yet */
    char *target;
    unsigned refs; /* request, and a response that reads from it */
    uint64_t started_ms;
    int64_t discarded_bytes;
    bool is_begun;
    bool is_suspended;
    bool is_closed;
    bool expects_continue;
};

static void unref(struct request *r)
{
    if (--r->refs == 0) {
        free(r->target);
        free(r);
    }
}

static void suspend(struct request *r)
{
    assert(!r->is_suspended);
    r->is_suspended = true;
    MHD_suspend_connection(r->mhd);
}

static void on_timer(uv_timer_t *timer);

/* The library takes a resumed connection up in its next turn, which it does not ask for
 * by itself when nobody polls for it. */
static void resume(struct request *r)
{
    if (r->is_suspended) {
        r->is_suspended = false;
        MHD_resume_connection(r->mhd);
        if (!r->http->is_closing) {
            (void)uv_timer_start(&r->http->timer, on_timer, 0, 0);
        }
    }
}

/* Exchange operations */

static struct request *request_of(struct node_exchange *x)
{
    return shl_container_of(x, struct request, x);
}

static const char *op_header(struct node_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(request_of(x)->mhd, MHD_HEADER_KIND, name);
}

static void op_wake(struct node_exchange *x)
{
    resume(request_of(x));
}

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct request *r = cls;
    ssize_t n;

    (void)pos;
    if (r->is_closed || r->http->is_closing) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    n = node_exchange_read(&r->x, (uint8_t *)buf, max);
    if (n > 0) {
        return n;
    }
    if (n == 0) {
        suspend(r);
        return 0;
    }
    return n == NODE_SOURCE_END ? MHD_CONTENT_READER_END_OF_STREAM
                                : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void on_response_freed(void *cls)
{
    unref(cls);
}

static struct MHD_Response *make_response(struct request *r, struct node_reply *reply)
{
    struct MHD_Response *response;

    if (reply->source && reply->length != 0) {
        response = MHD_create_response_from_callback(
            reply->length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)reply->length, NODE_HTTP_BLOCK_BYTES,
            on_read, r, on_response_freed);
        if (response) {
            r->refs++;
        }
        return response;
    }
    response = MHD_create_response_from_buffer(reply->heap_len, reply->heap, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(reply->heap);
    }
    return response;
}

static void op_reply(struct node_exchange *x, struct node_reply *reply)
{
    struct request *r = request_of(x);
    struct MHD_Response *response = make_response(r, reply);

    resume(r);
    if (!response) {
        return; /* without memory the connection is dropped at the next turn */
    }
    if (reply->content_type) {
        (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
    }
    (void)MHD_add_response_header(response, "X-Request-Id", x->request_id);
    (void)MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
    (void)MHD_add_response_header(response, "Access-Control-Expose-Headers", "X-Request-Id");
    for (size_t i = 0; i < reply->header_count; i++) {
        (void)MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
    }
    r->response = response;
}

static const struct node_exchange_ops exchange_ops = {.header = op_header,
                                                      .reply = op_reply,
                                                      .wake = op_wake,
                                                      .resume_body = op_wake};

/* Requests */

static struct connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static void set_deadline(struct request *r, uint32_t in_ms)
{
    struct connection *connection = connection_of(r->mhd);

    if (connection) {
        connection->deadline_ms = in_ms > 0 ? shl_monotonic_ms() + in_ms : 0;
    }
}

static enum MHD_Result queue_response(struct request *r)
{
    struct MHD_Response *response = r->response;
    enum MHD_Result result;

    if (!response) {
        return MHD_NO;
    }
    set_deadline(r, 0);
    r->response = NULL;
    result = MHD_queue_response(r->mhd, (unsigned)r->x.status, response);
    MHD_destroy_response(response); /* the library holds its own reference */
    return result;
}

static int64_t declared_length(struct request *r)
{
    const char *length = op_header(&r->x, "Content-Length");

    if (op_header(&r->x, "Transfer-Encoding")) {
        return -1;
    }
    return length ? (int64_t)strtoull(length, NULL, 10) : 0;
}

/* The head is complete. */
static enum MHD_Result begin(struct request *r, const char *method)
{
    struct node_http *http = r->http;
    struct node_exchange *x = &r->x;
    int rc = node_exchange_init(x, &exchange_ops, http->loop, method, r->target);
    const char *expect = op_header(x, "Expect");

    r->is_begun = true;
    x->pad_after_ms = http->config.pad_after_ms;
    x->pad_every_ms = http->config.pad_every_ms;
    x->body_length = declared_length(r);
    r->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    if (rc < 0) {
        node_exchange_fail(x, rc == -ENOMEM ? rc : SHL_EINVALIDARG,
                           rc == SHL_ELIMIT ? "the path or the query has too many parts"
                                            : "the path or the query is not valid: check the "
                                              "percent-encoding");
    } else {
        http->config.app.on_head(http->config.app.arg, x);
        node_exchange_begin(x);
    }
    set_deadline(
        r, x->body_mode == NODE_BODY_BUFFERED || x->is_replied ? http->config.body_timeout_ms : 0);
    /* A refused body need not come at all when the client waits for leave to send it, and
     * is not worth reading when it is huge. */
    if (x->is_replied && x->body_length != 0 &&
        (r->expects_continue || x->body_length > NODE_HTTP_DISCARD_MAX)) {
        return queue_response(r);
    }
    return MHD_YES;
}

/* Returns how many of @len bytes were taken, or -1 to cut the connection. */
static ssize_t take_body(struct request *r, const char *data, size_t len)
{
    bool was_replied = r->x.is_replied;
    size_t taken = node_exchange_body_data(&r->x, shl_bytes_of(data, len));

    if (was_replied) {
        r->discarded_bytes += (int64_t)len;
        if (r->discarded_bytes > NODE_HTTP_DISCARD_MAX) {
            return -1;
        }
    }
    if (r->x.is_replied && !r->x.is_padded) {
        return (ssize_t)len;
    }
    if (taken < len && !r->is_suspended) {
        suspend(r);
    }
    return (ssize_t)taken;
}

static enum MHD_Result on_access(void *cls,
                                 struct MHD_Connection *mhd,
                                 const char *url,
                                 const char *method,
                                 const char *version,
                                 const char *data,
                                 size_t *len,
                                 void **con_cls)
{
    struct node_http *http = cls;
    struct request *r = *con_cls;

    (void)mhd;
    (void)url;
    (void)version;
    if (!r || !r->target || http->is_closing) {
        return MHD_NO;
    }
    if (!r->is_begun) {
        return begin(r, method);
    }
    if (*len > 0) {
        ssize_t taken = take_body(r, data, *len);

        if (taken < 0) {
            return MHD_NO;
        }
        *len -= (size_t)taken;
        return MHD_YES;
    }
    if (!r->x.is_body_done) {
        set_deadline(r, 0);
        node_exchange_body_end(&r->x);
    }
    if (r->x.is_replied || r->x.is_padded) {
        return queue_response(r);
    }
    suspend(r);
    return MHD_YES;
}

/* Called with the raw target, before the library takes it apart. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    struct node_http *http = cls;
    struct request *r = calloc(1, sizeof(*r));

    if (r) {
        r->http = http;
        r->mhd = mhd;
        r->refs = 1;
        r->started_ms = shl_monotonic_ms();
        r->target = strdup(target);
        shl_list_push_back(&http->requests, &r->link);
        http->stats.in_flight++;
    }
    return r;
}

static void log_request(struct request *r, bool is_complete)
{
    SHL_LOG(r->http->config.log, SHL_LOG_DEBUG, "http_request",
            SHL_S("method", node_method_name(r->x.method)), SHL_S("path", r->x.url.path),
            SHL_I("status", r->x.status), SHL_B("complete", is_complete),
            SHL_I("duration_ms", shl_monotonic_ms() - r->started_ms),
            SHL_S("request_id", r->x.request_id));
}

static void on_completed(void *cls,
                         struct MHD_Connection *mhd,
                         void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct node_http *http = cls;
    struct request *r = *con_cls;
    bool is_complete = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;

    (void)mhd;
    if (!r) {
        return;
    }
    *con_cls = NULL;
    set_deadline(r, http->config.idle_timeout_ms);
    shl_list_remove(&r->link);
    http->stats.in_flight--;
    if (r->is_begun) {
        http->stats.requests[is_complete ? (unsigned)r->x.status / 100 % 6 : 0]++;
        log_request(r, is_complete);
        node_exchange_close(&r->x, is_complete);
    }
    r->is_closed = true;
    if (r->response) {
        MHD_destroy_response(r->response);
        r->response = NULL;
    }
    unref(r);
}

/* Connections */

static void on_connection_event(void *cls,
                                struct MHD_Connection *mhd,
                                void **context,
                                enum MHD_ConnectionNotificationCode code)
{
    struct node_http *http = cls;
    struct connection *connection = *context;

    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        http->stats.connections--;
        if (connection) {
            shl_list_remove(&connection->link);
            free(connection);
        }
        *context = NULL;
        return;
    }
    http->stats.connections++;
    connection = calloc(1, sizeof(*connection));
    if (connection) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

        connection->fd = info ? info->connect_fd : -1;
        connection->deadline_ms = shl_monotonic_ms() + http->config.head_timeout_ms;
        shl_list_push_back(&http->connections, &connection->link);
    }
    *context = connection;
}

/* The library has a time-out for silence only; a byte now and then would keep a
 * connection for ever. Shutting the socket down makes it notice. */
static void on_sweep(uv_timer_t *timer)
{
    struct node_http *http = timer->data;
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &http->connections) {
        struct connection *connection = shl_container_of(it, struct connection, link);

        if (connection->deadline_ms > 0 && now_ms >= connection->deadline_ms) {
            connection->deadline_ms = 0;
            (void)shutdown(connection->fd, SHUT_RDWR);
        }
    }
    if (shl_list_empty(&http->connections)) {
        (void)uv_timer_stop(timer);
    }
}

/* Let the library do what can be done now and learn when it wants to be called next. */
static void drive(struct node_http *http)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    (void)MHD_run(http->daemon);
    if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES) {
        (void)uv_timer_start(&http->timer, on_timer, wait_ms, 0);
    } else {
        (void)uv_timer_stop(&http->timer);
    }
}

static void on_timer(uv_timer_t *timer)
{
    drive(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    drive(poll->data);
}

static bool adopt(void *arg, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct node_http *http = arg;

    if (MHD_add_connection(http->daemon, fd, addr, len) != MHD_YES) {
        /* The library has closed it. */
        SHL_LOG(http->config.log, SHL_LOG_WARN, "http_connection_refused",
                SHL_S("error", strerror(errno)));
        return true;
    }
    if (!uv_is_active((uv_handle_t *)&http->sweep)) {
        (void)uv_timer_start(&http->sweep, on_sweep, 1000, 1000);
    }
    (void)uv_timer_start(&http->timer, on_timer, 0, 0);
    return true;
}

static bool has_room(void *arg)
{
    struct node_http *http = arg;

    return http->stats.connections + http->listener.waiting_count <= http->config.connections_max;
}

/* Opening and closing */

/* Targets are taken apart by node_url_parse: the library must leave them alone. */
static size_t no_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct node_http *http)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_access, http, MHD_OPTION_CONNECTION_LIMIT, http->config.connections_max + 16,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)NODE_HTTP_MEMORY_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(http->config.idle_timeout_ms + 999) / 1000,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, http,
        MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        http, MHD_OPTION_NOTIFY_CONNECTION, on_connection_event, http, MHD_OPTION_END);
}

static int open_daemon(struct node_http *http, struct shl_err *err)
{
    const union MHD_DaemonInfo *info;
    int rc;

    http->daemon = start_daemon(http);
    info = http->daemon ? MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    rc = info ? uv_poll_init(http->loop, &http->poll, info->epoll_fd) : -ENOMEM;
    if (rc < 0 && http->daemon) {
        MHD_stop_daemon(http->daemon);
    }
    http->poll.data = http;
    return rc < 0 ? shl_err_sys(err, -rc, "the HTTP library did not start") : 0;
}

static void on_failed_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value > 0 ? value : fallback;
}

static void fill_defaults(struct node_http_config *config)
{
    config->listen = NULL;
    config->connections_max = or_default(config->connections_max, NODE_HTTP_CONNECTIONS_MAX);
    config->head_timeout_ms = or_default(config->head_timeout_ms, NODE_HTTP_HEAD_TIMEOUT_MS);
    config->body_timeout_ms = or_default(config->body_timeout_ms, NODE_HTTP_BODY_TIMEOUT_MS);
    config->idle_timeout_ms = or_default(config->idle_timeout_ms, NODE_HTTP_IDLE_TIMEOUT_MS);
    config->pad_after_ms = or_default(config->pad_after_ms, NODE_EXCHANGE_PAD_AFTER_MS);
    config->pad_every_ms = or_default(config->pad_every_ms, NODE_EXCHANGE_PAD_EVERY_MS);
}

int node_http_open(uv_loop_t *loop,
                   const struct node_http_config *config,
                   struct node_http **ret_http,
                   struct shl_err *err)
{
    struct node_http *http = calloc(1, sizeof(*http));
    int rc;

    if (!http) {
        return shl_err_set(err, -ENOMEM, "no memory for the HTTP server");
    }
    http->loop = loop;
    http->config = *config;
    fill_defaults(&http->config);
    shl_list_init(&http->connections);
    shl_list_init(&http->requests);
    http->listener.head_timeout_ms = http->config.head_timeout_ms;
    http->listener.log = config->log;
    http->listener.adopt = adopt;
    http->listener.has_room = has_room;
    http->listener.arg = http;

    rc = open_daemon(http, err);
    if (rc < 0) {
        free(http);
        return rc;
    }
    rc = node_listener_open(&http->listener, loop, config->listen, err);
    if (rc < 0) {
        uv_close((uv_handle_t *)&http->poll, on_failed_poll_closed);
        MHD_stop_daemon(http->daemon);
        return rc;
    }
    /* Starting a poll that could be initialised does not fail on Linux. */
    (void)uv_poll_start(&http->poll, UV_READABLE, on_poll);
    (void)uv_timer_init(loop, &http->timer);
    (void)uv_timer_init(loop, &http->sweep);
    http->timer.data = http;
    http->sweep.data = http;
    *ret_http = http;
    return 0;
}

uint16_t node_http_port(const struct node_http *http)
{
    return http->listener.port;
}

void node_http_stats(const struct node_http *http, struct node_http_stats *ret)
{
    *ret = http->stats;
    ret->refused = http->listener.refused_count;
}

static void on_handle_closed(struct node_http *http)
{
    if (--http->open_handles == 0) {
        http->close_cb(http->close_arg);
        free(http);
    }
}

static void on_uv_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void on_listener_closed(void *arg)
{
    on_handle_closed(arg);
}

/* Ends every request. The library may not be stopped while one is suspended, so they
 * are resumed into on_access and on_read, which refuse when closing. */
static void drop_requests(struct node_http *http)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &http->requests) {
        resume(shl_container_of(it, struct request, link));
    }
    (void)MHD_run(http->daemon);
    MHD_stop_daemon(http->daemon);
    http->daemon = NULL;
}

void node_http_close(struct node_http *http, void (*cb)(void *arg), void *arg)
{
    assert(!http->is_closing);
    http->is_closing = true;
    http->close_cb = cb;
    http->close_arg = arg;
    http->open_handles = 4;
    node_listener_close(&http->listener, on_listener_closed);
    (void)uv_poll_stop(&http->poll);
    drop_requests(http);
    uv_close((uv_handle_t *)&http->poll, on_uv_closed);
    uv_close((uv_handle_t *)&http->timer, on_uv_closed);
    uv_close((uv_handle_t *)&http->sweep, on_uv_closed);
}
