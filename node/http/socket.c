/* A connection that became a WebSocket: bytes both ways between the socket and an exchange.
 *
 *   upgraded -> pump: socket -> sink, source -> socket -> both ended, or lost -> given back
 *
 * The library keeps the descriptor, and the request until it is told that we are through; the
 * loop polls the descriptor for us. At most one block in each direction is held here. When
 * the source has ended the client has NODE_HTTP_SOCKET_LINGER_MS to end, too. A client whose
 * machine acknowledges nothing for NODE_HTTP_SOCKET_SILENT_MS is lost; it may read as slowly
 * as it likes.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/io.h"
#include "node/http/server_private.h"

#define ROUNDS_MAX 8 /* blocks per turn, so that others have theirs */

struct node_http_socket {
    struct shl_list link;
    struct shl_list due_link;
    struct node_http *http;
    struct node_http_request *request; /* until it is given back */
    struct MHD_UpgradeResponseHandle *urh;
    uv_poll_t poll;
    int fd;
    struct shl_buf in;   /* bytes that the sink did not take yet */
    struct shl_buf out;  /* bytes that the client did not take yet */
    bool is_held;        /* the sink takes nothing for now */
    bool is_full;        /* the client takes nothing for now */
    bool is_in_ended;    /* the client's direction, and the sink knows it */
    bool is_source_over; /* all its bytes are in out */
    bool is_out_ended;   /* and all of them are out */
    uint64_t end_at_ms;  /* then it is given back whatever the client does; 0: not yet */
};

static void on_poll_closed(uv_handle_t *handle)
{
    struct node_http_socket *s = handle->data;
    struct node_http *http = s->http;

    shl_buf_release(&s->in);
    shl_buf_release(&s->out);
    free(s);
    node_http_handle_closed(http);
}

/* The library closes the descriptor and completes the request in its next turn. */
static void give_back(struct node_http_socket *s, bool is_complete)
{
    struct node_http_request *r = s->request;

    s->request = NULL;
    r->socket = NULL;
    r->is_socket_complete = is_complete;
    shl_list_remove(&s->link);
    shl_list_remove(&s->due_link);
    (void)uv_poll_stop(&s->poll);
    uv_close((uv_handle_t *)&s->poll, on_poll_closed);
    (void)MHD_upgrade_action(s->urh, MHD_UPGRADE_ACTION_CLOSE);
    node_http_drive_soon(s->http);
}

/* Offer what is here. False when the sink is full. */
static bool offer(struct node_http_socket *s)
{
    struct shl_bytes bytes = shl_buf_bytes(&s->in);

    if (bytes.len > 0) {
        shl_buf_consume(&s->in, node_exchange_body_data(&s->request->x, bytes));
    }
    s->is_held = shl_buf_len(&s->in) > 0;
    return !s->is_held;
}

/* Client to sink. Returns 1 when there may be more, 0 when there is nothing now, or -1 when
 * the client is lost. */
static int take(struct node_http_socket *s)
{
    uint8_t *space = NULL;
    ssize_t n;

    if (s->is_in_ended || s->is_held || !offer(s) ||
        shl_buf_reserve(&s->in, NODE_HTTP_BLOCK_BYTES, &space) < 0) {
        return 0;
    }
    n = recv(s->fd, space, NODE_HTTP_BLOCK_BYTES, MSG_DONTWAIT);
    if (n > 0) {
        shl_buf_commit(&s->in, (size_t)n);
        return offer(s);
    }
    if (n == 0) {
        s->is_in_ended = true;
        node_exchange_body_end(&s->request->x);
        return 0;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* The next bytes of the source into out. As take. */
static int fill(struct node_http_socket *s)
{
    uint8_t *space = NULL;
    ssize_t n;

    if (s->is_source_over) {
        return 0;
    }
    if (shl_buf_reserve(&s->out, NODE_HTTP_BLOCK_BYTES, &space) < 0) {
        return -1;
    }
    n = node_exchange_read(&s->request->x, space, NODE_HTTP_BLOCK_BYTES);
    if (n > 0) {
        shl_buf_commit(&s->out, (size_t)n);
        return 1;
    }
    s->is_source_over = n == NODE_SOURCE_END;
    return n == 0 || s->is_source_over ? 0 : -1;
}

/* Source to client. As take. */
static int give(struct node_http_socket *s)
{
    ssize_t n;

    if (s->is_out_ended || (shl_buf_len(&s->out) == 0 && fill(s) < 0)) {
        return s->is_out_ended ? 0 : -1;
    }
    if (shl_buf_len(&s->out) == 0) {
        if (s->is_source_over) {
            s->is_out_ended = true;
            (void)shutdown(s->fd, SHUT_WR);
            s->end_at_ms = shl_monotonic_ms() + NODE_HTTP_SOCKET_LINGER_MS;
        }
        return 0;
    }
    n = send(s->fd, shl_buf_data(&s->out), shl_buf_len(&s->out), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
        shl_buf_consume(&s->out, (size_t)n);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        return -1;
    }
    s->is_full = shl_buf_len(&s->out) > 0;
    return !s->is_full;
}

static void make_due(struct node_http_socket *s)
{
    if (shl_list_empty(&s->due_link)) {
        shl_list_push_back(&s->http->due, &s->due_link);
        node_http_drive_soon(s->http);
    }
}

static void on_event(uv_poll_t *poll, int status, int events);

/* Wait for what can make us go on. */
static void wait_for_events(struct node_http_socket *s)
{
    int events = (s->is_held || s->is_in_ended ? 0 : UV_READABLE) | (s->is_full ? UV_WRITABLE : 0);

    if (events != 0) {
        (void)uv_poll_start(&s->poll, events, on_event);
    } else {
        (void)uv_poll_stop(&s->poll);
    }
}

static void pump(struct node_http_socket *s)
{
    int in = 1;
    int out = 1;

    for (unsigned i = 0; i < ROUNDS_MAX && in + out > 0; i++) {
        in = take(s);
        out = give(s);
        if (in < 0 || out < 0) {
            give_back(s, false);
            return;
        }
    }
    if (s->is_in_ended && s->is_out_ended) {
        give_back(s, true);
        return;
    }
    if (in + out > 0) {
        make_due(s);
    }
    wait_for_events(s);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct node_http_socket *s = poll->data;

    (void)status;
    if (events & UV_WRITABLE) {
        s->is_full = false;
    }
    pump(s);
}

/* What the server calls */

void node_http_socket_wake(struct node_http_socket *s)
{
    make_due(s);
}

void node_http_socket_resume(struct node_http_socket *s)
{
    s->is_held = false;
    make_due(s);
}

void node_http_run_sockets(struct node_http *http)
{
    struct shl_list due;

    /* Who becomes due meanwhile has its turn next time. */
    shl_list_init(&due);
    while (!shl_list_empty(&http->due)) {
        struct shl_list *first = shl_list_first(&http->due);

        shl_list_remove(first);
        shl_list_push_back(&due, first);
    }
    while (!shl_list_empty(&due)) {
        struct node_http_socket *s =
            shl_container_of(shl_list_first(&due), struct node_http_socket, due_link);

        shl_list_remove(&s->due_link);
        pump(s);
    }
}

void node_http_drop_sockets(struct node_http *http)
{
    while (!shl_list_empty(&http->sockets)) {
        give_back(shl_container_of(shl_list_first(&http->sockets), struct node_http_socket, link),
                  false);
    }
}

/* Has the connection ended without an end that could be read? Also one that is not polled, since
 * nothing is taken from it and nothing sent. */
static bool is_lost(const struct node_http_socket *s)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    if (getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        return false;
    }
    return (info.tcpi_state == TCP_CLOSE && !s->is_out_ended) ||
           /* The kernel would go on sending for a quarter of an hour. */
           (info.tcpi_unacked > 0 && info.tcpi_last_ack_recv >= NODE_HTTP_SOCKET_SILENT_MS);
}

void node_http_sweep_sockets(struct node_http *http)
{
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &http->sockets) {
        struct node_http_socket *s = shl_container_of(it, struct node_http_socket, link);

        if (s->end_at_ms > 0 && now_ms >= s->end_at_ms) {
            give_back(s, true);
        } else if (is_lost(s)) {
            give_back(s, false);
        }
    }
}

static void set_options(int fd)
{
    const int on = 1;
    const int idle_s = 60;
    const int interval_s = 20;

    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
}

void node_http_on_upgraded(void *cls,
                           struct MHD_Connection *mhd,
                           void *con_cls,
                           const char *extra,
                           size_t extra_len,
                           MHD_socket fd,
                           struct MHD_UpgradeResponseHandle *urh)
{
    struct node_http_request *r = cls;
    struct node_http *http = r->http;
    struct node_http_socket *s = calloc(1, sizeof(*s));
    int rc = s ? uv_poll_init(http->loop, &s->poll, fd) : -ENOMEM;

    (void)mhd;
    (void)con_cls;
    if (rc < 0) {
        free(s);
        (void)MHD_upgrade_action(urh, MHD_UPGRADE_ACTION_CLOSE);
        node_http_drive_soon(http);
        return;
    }
    s->poll.data = s;
    http->open_handles++;
    s->http = http;
    s->request = r;
    s->urh = urh;
    s->fd = fd;
    r->socket = s;
    set_options(fd);
    shl_list_init(&s->due_link);
    shl_list_push_back(&http->sockets, &s->link);
    shl_buf_init(&s->in, (size_t)NODE_HTTP_MEMORY_BYTES + NODE_HTTP_BLOCK_BYTES);
    shl_buf_init(&s->out, NODE_HTTP_BLOCK_BYTES);
    if (shl_buf_append(&s->in, extra, extra_len) < 0) {
        give_back(s, false);
        return;
    }
    make_due(s);
}
