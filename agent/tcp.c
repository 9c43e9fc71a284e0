#include "agent/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/server.h"

#define DEVICE "eth0"

/* Places: 0 is 127.0.0.1, 1 is ::1, 2 the address of the guest. */
enum {
    PLACE_V4,
    PLACE_V6,
    PLACE_OWN,
};

/* ---- dialling -------------------------------------------------------------------- */

static int own_address(struct in_addr *ret)
{
    struct ifreq req = {.ifr_name = DEVICE};
    struct sockaddr_in in;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 || ioctl(fd, SIOCGIFADDR, &req) < 0 ? -errno : 0;

    if (fd >= 0) {
        (void)close(fd);
    }
    memcpy(&in, &req.ifr_addr, sizeof(in));
    *ret = in.sin_addr;
    return rc;
}

static int dial(struct agent_server *server, unsigned place, uint16_t port)
{
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    int fd, rc;

    if (place == PLACE_OWN) {
        /* As a normal process, in tests, the machine is not ours. */
        rc = server->guest.is_init ? own_address(&v4.sin_addr) : -EADDRNOTAVAIL;
        if (rc < 0) {
            return rc;
        }
    }
    fd = socket(place == PLACE_V6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                0);
    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    rc = place == PLACE_V6 ? connect(fd, (struct sockaddr *)&v6, sizeof(v6))
                           : connect(fd, (struct sockaddr *)&v4, sizeof(v4));
    if (rc < 0 && errno != EINPROGRESS) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd;
}

void agent_tcps_init(struct agent_tcps *tcps)
{
    *tcps = (struct agent_tcps){.dial = dial};
    shl_list_init(&tcps->all);
}

/* ---- ending ---------------------------------------------------------------------- */

static void close_socket(struct agent_tcp *tcp)
{
    agent_watch_remove(&tcp->server->loop, &tcp->watch);
    if (tcp->fd >= 0) {
        (void)close(tcp->fd);
        tcp->fd = -1;
    }
}

static void free_tcp(struct agent_tcp *tcp)
{
    close_socket(tcp);
    agent_timer_stop(&tcp->timer);
    shl_list_remove(&tcp->node);
    tcp->server->tcps.count--;
    shl_buf_release(&tcp->out);
    free(tcp);
}

static void finish(struct agent_tcp *tcp, int code, const char *msg)
{
    struct agent_stream *stream = tcp->stream;

    free_tcp(tcp);
    agent_stream_finish(stream, code, msg);
}

static void on_drop(void *arg)
{
    free_tcp(arg);
}

/* ---- bytes ----------------------------------------------------------------------- */

/* False when that ended it. */
static bool check_end(struct agent_tcp *tcp)
{
    if (tcp->read_ended && tcp->write_ended) {
        finish(tcp, 0, NULL);
        return false;
    }
    return true;
}

/* The server takes nothing any more. What it has sent before may still be read, so only this
 * direction ends; what the node sends is taken and dropped. */
static void end_writing(struct agent_tcp *tcp)
{
    size_t len = shl_buf_len(&tcp->out);

    tcp->write_ended = true;
    shl_buf_clear(&tcp->out);
    if (len > 0) {
        agent_stream_consumed(tcp->stream, len);
    }
}

static void flush(struct agent_tcp *tcp)
{
    while (!tcp->write_ended && shl_buf_len(&tcp->out) > 0) {
        ssize_t n = send(tcp->fd, shl_buf_data(&tcp->out), shl_buf_len(&tcp->out), MSG_NOSIGNAL);

        if (n > 0) {
            shl_buf_consume(&tcp->out, (size_t)n);
            agent_stream_consumed(tcp->stream, (size_t)n);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            end_writing(tcp);
        }
    }
    if (!tcp->write_ended && tcp->eof_asked) {
        (void)shutdown(tcp->fd, SHUT_WR);
        tcp->write_ended = true;
    }
}

/* Once per turn in which the stream has credit. */
static void on_writable(void *arg)
{
    struct agent_tcp *tcp = arg;
    uint8_t block[AGENT_PAYLOAD_MAX];
    ssize_t n = recv(tcp->fd, block, agent_stream_room(tcp->stream), 0);

    if (n > 0) {
        agent_stream_send(tcp->stream, AGENT_CHANNEL_RAW, shl_bytes_of(block, (size_t)n));
    } else if (n == 0) {
        tcp->read_ended = true;
        tcp->readable = false;
        agent_stream_eof(tcp->stream);
        (void)check_end(tcp);
        return;
    } else if (errno == EAGAIN) {
        tcp->readable = false;
        return;
    } else if (errno != EINTR) {
        finish(tcp, -errno, "the server in the sandbox broke the connection");
        return;
    }
    agent_stream_want_write(tcp->stream);
}

static void on_data(void *arg, struct shl_bytes data)
{
    struct agent_tcp *tcp = arg;
    int rc;

    if (tcp->write_ended) {
        agent_stream_consumed(tcp->stream, data.len);
        return;
    }
    rc = tcp->eof_asked ? SHL_EPROTO : shl_buf_append(&tcp->out, data.base, data.len);
    if (rc < 0) {
        finish(tcp, rc, NULL);
        return;
    }
    if (tcp->connected) {
        flush(tcp);
        (void)check_end(tcp);
    }
}

static void on_eof(void *arg)
{
    struct agent_tcp *tcp = arg;

    tcp->eof_asked = true;
    if (tcp->connected) {
        flush(tcp);
        (void)check_end(tcp);
    }
}

static const struct agent_stream_ops tcp_ops = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_drop = on_drop,
};

/* ---- connecting ------------------------------------------------------------------ */

/* Which failure to tell when nothing was found: that nothing listens, unless one place knows
 * better. */
static void note_failure(struct agent_tcp *tcp, int error)
{
    bool is_absent = error == -ECONNREFUSED || error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT ||
                     error == -ENODEV || error == -ENETUNREACH || error == -EHOSTUNREACH;

    if (tcp->error == 0 || (tcp->error == -ECONNREFUSED && !is_absent)) {
        tcp->error = is_absent ? -ECONNREFUSED : error;
    }
}

static void give_up(struct agent_tcp *tcp)
{
    struct shl_err err = {0};
    int code = tcp->error;

    if (code == -ECONNREFUSED) {
        (void)shl_err_set(&err, code, "nothing listens on port %u in the sandbox", tcp->port);
    } else if (code == -ETIMEDOUT) {
        (void)shl_err_set(&err, code, "the server on port %u in the sandbox accepts no connection",
                          tcp->port);
    } else {
        (void)shl_err_set(&err, code, "port %u in the sandbox: %s", tcp->port, shl_err_text(code));
    }
    finish(tcp, code, err.msg);
}

static void on_event(void *arg, uint32_t events);

/* The next place, until one is under way. */
static void try_places(struct agent_tcp *tcp)
{
    for (; tcp->place < tcp->place_end; tcp->place++) {
        int fd = tcp->server->tcps.dial(tcp->server, tcp->place, tcp->port);
        int rc = fd;

        if (fd >= 0) {
            tcp->fd = fd;
            rc = agent_watch_add(&tcp->server->loop, &tcp->watch, fd,
                                 EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
            if (rc == 0) {
                agent_timer_start(&tcp->server->loop, &tcp->timer, AGENT_TCP_CONNECT_MS);
                return;
            }
            close_socket(tcp);
        }
        note_failure(tcp, rc);
    }
    give_up(tcp);
}

static void try_next(struct agent_tcp *tcp, int error)
{
    note_failure(tcp, error);
    close_socket(tcp);
    tcp->place++;
    try_places(tcp);
}

static void on_timeout(void *arg)
{
    try_next(arg, -ETIMEDOUT);
}

static void on_connected(struct agent_tcp *tcp)
{
    struct agent_reply reply;

    tcp->connected = true;
    agent_timer_stop(&tcp->timer);
    agent_reply_head(&reply, tcp->stream);
    agent_reply_end(&reply);
}

static void on_event(void *arg, uint32_t events)
{
    struct agent_tcp *tcp = arg;

    if (!tcp->connected) {
        int error = 0;
        socklen_t len = sizeof(error);

        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
            return;
        }
        if (getsockopt(tcp->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error != 0) {
            try_next(tcp, error != 0 ? -error : -errno);
            return;
        }
        on_connected(tcp);
    }
    flush(tcp);
    if (!check_end(tcp)) {
        return;
    }
    if ((events & ~(uint32_t)EPOLLOUT) != 0 && !tcp->read_ended && !tcp->readable) {
        tcp->readable = true;
        agent_stream_want_write(tcp->stream);
    }
}

/* ---- the operation --------------------------------------------------------------- */

static int decode(const msgpack_object *request, struct agent_tcp *tcp, struct shl_err *err)
{
    uint64_t port = 0;
    char host[64] = "localhost";
    int rc = shl_mp_get_uint(request, "port", UINT16_MAX, &port);

    if (rc < 0 || port == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "port must be a number from 1 to 65535");
    }
    rc = shl_mp_get_cpy(request, "host", host, sizeof(host));
    tcp->port = (uint16_t)port;
    tcp->place = PLACE_V4;
    tcp->place_end = AGENT_TCP_PLACES;
    if (rc == SHL_ENOTFOUND || (rc == 0 && strcmp(host, "localhost") == 0)) {
        return 0;
    }
    if (rc == 0 && strcmp(host, "127.0.0.1") == 0) {
        tcp->place_end = PLACE_V6;
        return 0;
    }
    if (rc == 0 && strcmp(host, "::1") == 0) {
        tcp->place = PLACE_V6;
        tcp->place_end = PLACE_OWN;
        return 0;
    }
    return shl_err_set(err, SHL_EINVALIDARG,
                       "host must be localhost, 127.0.0.1 or ::1: only servers of the sandbox "
                       "itself can be reached");
}

void agent_op_tcp_connect(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request)
{
    struct shl_err err = {0};
    struct agent_tcp *tcp;

    if (server->tcps.count >= AGENT_TCP_MAX) {
        agent_stream_finish(stream, SHL_EQUOTA, "too many connections into this sandbox are open");
        return;
    }
    tcp = calloc(1, sizeof(*tcp));
    if (!tcp) {
        agent_stream_finish(stream, -ENOMEM, NULL);
        return;
    }
    if (decode(request, tcp, &err) < 0) {
        free(tcp);
        agent_stream_finish(stream, err.code, err.msg);
        return;
    }
    tcp->server = server;
    tcp->stream = stream;
    tcp->fd = -1;
    tcp->watch = (struct agent_watch){.fd = -1, .fn = on_event, .arg = tcp};
    agent_timer_init(&tcp->timer, on_timeout, tcp);
    shl_buf_init(&tcp->out, AGENT_WINDOW_BYTES);
    shl_list_push_back(&server->tcps.all, &tcp->node);
    server->tcps.count++;
    agent_stream_bind(stream, &tcp_ops, tcp);
    try_places(tcp);
}
