#include "node/http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/http/exchange.h"
#include "node/http/screen.h"
#include "node/http/status.h"

/* A connection that is not handed over yet. */
struct waiting {
    struct shl_list link;
    struct node_listener *listener;
    uv_poll_t poll;
    int fd;
    uint64_t deadline_ms;
    bool is_polling;   /* poll is initialised */
    bool is_lingering; /* answered; reading to the end */
    struct sockaddr_storage addr;
    socklen_t addr_len;
};

static void on_waiting_closed(uv_handle_t *handle)
{
    struct waiting *w = handle->data;
    struct node_listener *listener = w->listener;

    free(w);
    if (--listener->open_handles == 0) {
        listener->on_closed(listener->arg);
    }
}

/* Forget @w; its descriptor is closed unless it was handed on (fd < 0). */
static void waiting_end(struct waiting *w)
{
    shl_list_remove(&w->link);
    w->listener->waiting_count--;
    if (w->is_polling) {
        (void)uv_poll_stop(&w->poll); /* the descriptor may go from here on */
        uv_close((uv_handle_t *)&w->poll, on_waiting_closed);
    }
    if (w->fd >= 0) {
        (void)close(w->fd);
        w->fd = -1;
    }
    if (!w->is_polling) {
        free(w);
    }
}

static void on_waiting_readable(uv_poll_t *poll, int status, int events);

/* Wait until more than @seen bytes are there; the kernel counts, so nothing spins. */
static void wait_for_more(struct waiting *w, size_t seen)
{
    int low_water = (int)seen + 1;

    (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof(low_water));
    if (!w->is_polling) {
        if (uv_poll_init(w->listener->poll.loop, &w->poll, w->fd) < 0) {
            waiting_end(w);
            return;
        }
        w->poll.data = w;
        w->is_polling = true;
        w->listener->open_handles++;
    }
    if (uv_poll_start(&w->poll, UV_READABLE, on_waiting_readable) < 0) {
        waiting_end(w);
    }
}

/* Say why and read on for a moment, because closing with unread bytes resets. */
static void refuse(struct waiting *w, int status, const char *msg)
{
    const char *name = w->listener->node_name;
    char body[256];
    char text[1024];
    int body_len = snprintf(body, sizeof(body), "{\"error\":\"%s\"}", msg);
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n"
                       "Content-Length: %d\r\nConnection: close\r\n"
                       "Access-Control-Allow-Origin: *\r\n%s%s%s%s\r\n%s",
                       status, node_http_reason(status), body_len,
                       name ? NODE_EXCHANGE_NODE_HEADER ": " : "", name ? name : "",
                       name ? "\r\n" : "", status == 503 ? "Retry-After: 2\r\n" : "", body);

    w->listener->refused_count++;
    if (send(w->fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len ||
        shutdown(w->fd, SHUT_WR) < 0) {
        waiting_end(w);
        return;
    }
    w->is_lingering = true;
    w->deadline_ms = shl_monotonic_ms() + NODE_LISTENER_LINGER_MS;
    wait_for_more(w, 0);
}

static void hand_over(struct waiting *w)
{
    struct node_listener *listener = w->listener;
    int low_water = 1;

    (void)setsockopt(w->fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof(low_water));
    if (w->is_polling) {
        (void)uv_poll_stop(&w->poll);
    }
    if (listener->adopt(listener->arg, w->fd, (const struct sockaddr *)&w->addr, w->addr_len)) {
        w->fd = -1;
    }
    waiting_end(w);
}

/* Will no more bytes come? The low-water mark also wakes at the end of the stream. */
static bool has_ended(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state != TCP_ESTABLISHED;
}

static void look(struct waiting *w)
{
    uint8_t head[NODE_SCREEN_HEAD_MAX];
    bool is_last = has_ended(w->fd); /* asked first: bytes may come in between */
    ssize_t n = recv(w->fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
    struct node_screen_error why;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        waiting_end(w);
        return;
    }
    if (n < 0) {
        wait_for_more(w, 0);
        return;
    }
    switch (node_screen(shl_bytes_of(head, (size_t)n), &why)) {
    case NODE_SCREEN_MORE:
        if (is_last) {
            waiting_end(w);
        } else {
            wait_for_more(w, (size_t)n);
        }
        break;
    case NODE_SCREEN_OK:
        hand_over(w);
        break;
    case NODE_SCREEN_BAD:
        refuse(w, why.status, why.msg);
        break;
    }
}

static void discard(struct waiting *w)
{
    uint8_t waste[16 * 1024];
    ssize_t n = recv(w->fd, waste, sizeof(waste), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        waiting_end(w);
    }
}

static void on_waiting_readable(uv_poll_t *poll, int status, int events)
{
    struct waiting *w = poll->data;

    (void)events;
    if (status < 0) {
        waiting_end(w);
    } else if (w->is_lingering) {
        discard(w);
    } else {
        look(w);
    }
}

static void on_sweep(uv_timer_t *timer);

static void accept_one(struct node_listener *listener,
                       int fd,
                       const struct sockaddr_storage *addr,
                       socklen_t addr_len)
{
    struct waiting *w = calloc(1, sizeof(*w));
    int on = 1;

    if (!w) {
        (void)close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    w->listener = listener;
    w->fd = fd;
    w->addr = *addr;
    w->addr_len = addr_len;
    w->deadline_ms = shl_monotonic_ms() + listener->head_timeout_ms;
    shl_list_push_back(&listener->waiting, &w->link);
    if (listener->waiting_count++ == 0) {
        (void)uv_timer_start(&listener->sweep, on_sweep, NODE_LISTENER_SWEEP_MS,
                             NODE_LISTENER_SWEEP_MS);
    }
    if (listener->waiting_count > NODE_LISTENER_WAITING_MAX || !listener->has_room(listener->arg)) {
        refuse(w, 503, "the node has too many connections, try again");
    } else {
        look(w);
    }
}

/* Out of descriptors: the pending connection would wake the loop without end. */
static void pause_accepting(struct node_listener *listener, int errnum)
{
    SHL_LOG(listener->log, SHL_LOG_WARN, "http_accept_paused", SHL_S("error", strerror(errnum)));
    (void)uv_poll_stop(&listener->poll);
    listener->is_paused = true;
    (void)uv_timer_start(&listener->sweep, on_sweep, NODE_LISTENER_SWEEP_MS,
                         NODE_LISTENER_SWEEP_MS);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct node_listener *listener = poll->data;

    (void)events;
    for (int i = 0; status == 0 && i < NODE_LISTENER_ACCEPT_MAX; i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof(addr);
        int fd =
            accept4(listener->fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            accept_one(listener, fd, &addr, len);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            pause_accepting(listener, errno);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* ECONNABORTED and the like concern one connection: take the next */
    }
}

static void expire(struct waiting *w)
{
    uint8_t byte;

    /* Nothing at all came (a connection opened in advance): no one waits for words. */
    if (w->is_lingering || recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
        waiting_end(w);
    } else {
        refuse(w, 408, "the request head did not arrive in time");
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct node_listener *listener = timer->data;
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &listener->waiting) {
        struct waiting *w = shl_container_of(it, struct waiting, link);

        if (now_ms >= w->deadline_ms) {
            expire(w);
        }
    }
    if (listener->is_paused && uv_poll_start(&listener->poll, UV_READABLE, on_connection) == 0) {
        listener->is_paused = false;
    }
    if (listener->waiting_count == 0 && !listener->is_paused) {
        (void)uv_timer_stop(timer);
    }
}

static int parse_host(const char *host, int port, struct sockaddr_storage *addr)
{
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)addr;

    if (host[0] == '\0') {
        return uv_ip6_addr("::", port, six);
    }
    if (strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)addr) == 0) {
        return 0;
    }
    return uv_ip6_addr(host, port, six);
}

int node_listener_parse(const char *text, struct sockaddr_storage *ret_addr, struct shl_err *err)
{
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 16];
    size_t host_len = colon ? (size_t)(colon - text) : 0;
    const char *start = text;
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;

    if (!colon || colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535 ||
        host_len >= sizeof(host)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "%s is not a listen address: write ADDRESS:PORT, for example "
                           "127.0.0.1:8080 or [::1]:8080",
                           text);
    }
    if (host_len >= 2 && text[0] == '[' && colon[-1] == ']') {
        start++;
        host_len -= 2;
    }
    memcpy(host, start, host_len);
    host[host_len] = '\0';
    memset(ret_addr, 0, sizeof(*ret_addr));
    if (parse_host(host, (int)port, ret_addr) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "%s is not a listen address: %s is no IP address of a machine", text,
                           host);
    }
    return 0;
}

/* Bound and listening, or a negative errno. */
static int bind_socket(const struct sockaddr_storage *addr)
{
    SHL_CLEANUP_FD int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len =
        addr->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int on = 1;
    int off = 0;

    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (addr->ss_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (bind(fd, (const struct sockaddr *)addr, len) < 0 || listen(fd, NODE_LISTENER_BACKLOG) < 0) {
        return -errno;
    }
    return shl_steal_fd(&fd);
}

static int bind_address(const char *address, struct shl_err *err)
{
    struct sockaddr_storage addr;
    int fd = node_listener_parse(address, &addr, err);

    if (fd < 0) {
        return fd;
    }
    fd = bind_socket(&addr);
    if (fd == -EAFNOSUPPORT && address[0] == ':') { /* no IPv6 on this machine */
        (void)uv_ip4_addr("0.0.0.0", ntohs(((struct sockaddr_in6 *)&addr)->sin6_port),
                          (struct sockaddr_in *)&addr);
        fd = bind_socket(&addr);
    }
    if (fd == -EADDRINUSE) {
        return shl_err_set(err, fd,
                           "%s is in use: another program listens there (ss -ltnp shows which); "
                           "stop it or choose another port",
                           address);
    }
    if (fd < 0) {
        return shl_err_sys(err, -fd, "cannot listen on %s", address);
    }
    return fd;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);

    (void)getsockname(fd, (struct sockaddr *)&addr, &len);
    return ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
                                            : ((struct sockaddr_in *)&addr)->sin_port);
}

int node_listener_open(struct node_listener *listener,
                       uv_loop_t *loop,
                       const char *address,
                       struct shl_err *err)
{
    int rc;

    shl_list_init(&listener->waiting);
    listener->waiting_count = 0;
    listener->refused_count = 0;
    listener->is_paused = false;
    listener->is_closing = false;
    listener->fd = bind_address(address, err);
    if (listener->fd < 0) {
        return listener->fd;
    }
    rc = uv_poll_init(loop, &listener->poll, listener->fd);
    if (rc < 0) {
        (void)close(listener->fd);
        return shl_err_sys(err, -rc, "cannot watch the listening socket");
    }
    (void)uv_timer_init(loop, &listener->sweep);
    listener->open_handles = 2;
    listener->port = bound_port(listener->fd);
    listener->poll.data = listener;
    listener->sweep.data = listener;
    rc = uv_poll_start(&listener->poll, UV_READABLE, on_connection);
    listener->is_paused = rc < 0; /* never seen; the sweep would try again */
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct node_listener *listener = handle->data;

    if (--listener->open_handles == 0) {
        listener->on_closed(listener->arg);
    }
}

void node_listener_close(struct node_listener *listener, void (*on_closed)(void *arg))
{
    struct shl_list *it;
    struct shl_list *next;

    listener->is_closing = true;
    listener->on_closed = on_closed;
    SHL_LIST_FOREACH_SAFE(it, next, &listener->waiting) {
        waiting_end(shl_container_of(it, struct waiting, link));
    }
    (void)uv_poll_stop(&listener->poll);
    uv_close((uv_handle_t *)&listener->poll, on_handle_closed);
    uv_close((uv_handle_t *)&listener->sweep, on_handle_closed);
    (void)close(listener->fd);
    listener->fd = -1;
}
