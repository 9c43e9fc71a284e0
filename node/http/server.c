#include "node/http/server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "node/http/server_private.h"

/* Connections */

static void on_connection_event(void *cls,
                                struct MHD_Connection *mhd,
                                void **context,
                                enum MHD_ConnectionNotificationCode code)
{
    struct node_http *http = cls;
    struct node_http_connection *connection = *context;

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
        struct node_http_connection *connection =
            shl_container_of(it, struct node_http_connection, link);

        if (connection->deadline_ms > 0 && now_ms >= connection->deadline_ms) {
            connection->deadline_ms = 0;
            (void)shutdown(connection->fd, SHUT_RDWR);
        }
    }
    node_http_sweep_sockets(http);
    node_http_sweep_lost(http);
    if (shl_list_empty(&http->connections)) {
        (void)uv_timer_stop(timer);
    }
}

static void on_timer(uv_timer_t *timer);

/* Let the library do what can be done now and learn when it wants to be called next. */
static void drive(struct node_http *http)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    node_http_run_sockets(http);
    (void)MHD_run(http->daemon);
    if (!shl_list_empty(&http->due)) {
        /* Not 0: libuv runs a timer that is due at once again before it looks at descriptors. */
        (void)uv_timer_start(&http->timer, on_timer, 1, 0);
    } else if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES) {
        (void)uv_timer_start(&http->timer, on_timer, wait_ms, 0);
    } else {
        (void)uv_timer_stop(&http->timer);
    }
}

static void on_timer(uv_timer_t *timer)
{
    drive(timer->data);
}

void node_http_drive_soon(struct node_http *http)
{
    if (!http->is_closing) {
        (void)uv_timer_start(&http->timer, on_timer, 0, 0);
    }
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
    node_http_drive_soon(http);
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
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0,
        NULL, NULL, node_http_on_access, http, MHD_OPTION_CONNECTION_LIMIT,
        http->config.connections_max + 16, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)NODE_HTTP_MEMORY_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(http->config.idle_timeout_ms + 999) / 1000, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, node_http_on_target, http, MHD_OPTION_UNESCAPE_CALLBACK,
        no_unescape, http, MHD_OPTION_NOTIFY_COMPLETED, node_http_on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection_event, http, MHD_OPTION_END);
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
    shl_list_init(&http->sockets);
    shl_list_init(&http->due);
    http->listener.head_timeout_ms = http->config.head_timeout_ms;
    http->listener.log = config->log;
    http->listener.node_name = config->node_name;
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
    http->open_handles = 4; /* listener, poll, timer, sweep; and those of sockets */
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

void node_http_handle_closed(struct node_http *http)
{
    if (--http->open_handles == 0) {
        http->close_cb(http->close_arg);
        free(http);
    }
}

static void on_uv_closed(uv_handle_t *handle)
{
    node_http_handle_closed(handle->data);
}

static void on_listener_closed(void *arg)
{
    node_http_handle_closed(arg);
}

/* Ends every request. The library may not be stopped while one is suspended, so they
 * are resumed into node_http_on_access and on_read, which refuse when closing. */
static void drop_requests(struct node_http *http)
{
    struct shl_list *it;

    node_http_drop_sockets(http);
    SHL_LIST_FOREACH(it, &http->requests) {
        node_http_request_resume(shl_container_of(it, struct node_http_request, link));
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
    node_listener_close(&http->listener, on_listener_closed);
    (void)uv_poll_stop(&http->poll);
    drop_requests(http);
    uv_close((uv_handle_t *)&http->poll, on_uv_closed);
    uv_close((uv_handle_t *)&http->timer, on_uv_closed);
    uv_close((uv_handle_t *)&http->sweep, on_uv_closed);
}
