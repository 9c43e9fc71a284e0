/* One connection: a request comes, for /v1/limits the daemon is asked, the reply goes, and what
 * the other side still sends is dropped until it closes, so that the reply is not lost with it.
 * The daemon is asked once for all that wait in a guest. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "node/egress/gateway_private.h"

enum phase {
    PHASE_READ,
    PHASE_FIGURES, /* until they are there */
    PHASE_WRITE,
    PHASE_DROP,
    PHASE_CLOSED,
};

struct conn {
    struct shl_list all, of_guest;
    struct egress_metadata *metadata;
    struct egress_metadata_guest *owner; /* whose list it is in */
    struct egress_guest *guest;          /* NULL: nobody's */
    uv_poll_t poll;
    int fd;
    enum phase phase;
    uint64_t deadline_ms;
    struct egress_metadata_request request;
    size_t dropped_bytes;
    struct shl_buf in, out;
};

/* ---- the end --------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    struct egress_gateway *gateway = conn->metadata->gateway;

    (void)close(conn->fd);
    shl_buf_release(&conn->in);
    shl_buf_release(&conn->out);
    conn->metadata->count--;
    free(conn);
    egress_gateway_check_closed(gateway);
}

static void end_conn(struct conn *conn)
{
    if (conn->phase == PHASE_CLOSED) {
        return;
    }
    conn->phase = PHASE_CLOSED;
    shl_list_remove(&conn->all);
    shl_list_remove(&conn->of_guest);
    conn->owner->count--;
    uv_close((uv_handle_t *)&conn->poll, on_closed);
}

void egress_metadata_guest_init(struct egress_metadata_guest *guest)
{
    memset(guest, 0, sizeof(*guest));
    shl_list_init(&guest->conns);
}

void egress_metadata_drop(struct egress_metadata_guest *guest)
{
    while (!shl_list_empty(&guest->conns)) {
        end_conn(shl_container_of(shl_list_first(&guest->conns), struct conn, of_guest));
    }
    guest->asked_ms = 0;
}

/* ---- replies --------------------------------------------------------------------- */

static void on_event(uv_poll_t *poll, int status, int events);

/* Another direction, with a time of its own. */
static void go_on(struct conn *conn, enum phase phase, int events)
{
    conn->phase = phase;
    conn->deadline_ms = uv_now(conn->poll.loop) + EGRESS_METADATA_MS;
    if (events) {
        (void)uv_poll_start(&conn->poll, events, on_event);
    } else {
        (void)uv_poll_stop(&conn->poll);
    }
}

static void drop_input(struct conn *conn)
{
    uint8_t block[4096];
    ssize_t n = recv(conn->fd, block, sizeof(block), 0);

    conn->dropped_bytes += n > 0 ? (size_t)n : 0;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
        conn->dropped_bytes > EGRESS_METADATA_DROP_MAX) {
        end_conn(conn);
    }
}

static void write_reply(struct conn *conn)
{
    while (shl_buf_len(&conn->out) > 0) {
        ssize_t n = send(conn->fd, shl_buf_data(&conn->out), shl_buf_len(&conn->out), MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0 && errno != EINTR) {
            end_conn(conn);
            return;
        }
        shl_buf_consume(&conn->out, n > 0 ? (size_t)n : 0);
    }
    (void)shutdown(conn->fd, SHUT_WR);
    go_on(conn, PHASE_DROP, UV_READABLE);
}

static void reply(struct conn *conn, const struct node_egress_figures *figures)
{
    struct egress_metadata_caller caller = {.now_ms = shl_boottime_ms()};

    if (conn->guest) {
        caller.sandbox = conn->guest->id;
        caller.facts = &conn->guest->facts;
    }
    if (egress_metadata_reply(&conn->request, &caller, figures, &conn->out) < 0) {
        end_conn(conn);
        return;
    }
    go_on(conn, PHASE_WRITE, UV_WRITABLE);
    write_reply(conn);
}

static void refuse(struct conn *conn, int status, const char *reason)
{
    egress_metadata_refuse(&conn->request, status, reason);
    reply(conn, NULL);
}

/* ---- figures --------------------------------------------------------------------- */

static void want_figures(struct conn *conn)
{
    struct egress_metadata *metadata = conn->metadata;
    struct egress_guest *guest = conn->guest;
    uint64_t now_ms = uv_now(conn->poll.loop);

    if (!metadata->ask) {
        refuse(conn, 503, "the node cannot say that right now, ask again");
        return;
    }
    go_on(conn, PHASE_FIGURES, 0);
    if (guest->metadata.asked_ms == 0 || now_ms - guest->metadata.asked_ms > EGRESS_METADATA_MS) {
        guest->metadata.asked_ms = now_ms;
        metadata->ask(metadata->ask_arg, guest->address, guest->id);
    }
}

void egress_metadata_figures(struct egress_guest *guest, const struct node_egress_figures *figures)
{
    struct shl_list *it, *tmp;

    guest->metadata.asked_ms = 0;
    SHL_LIST_FOREACH_SAFE(it, tmp, &guest->metadata.conns) {
        struct conn *conn = shl_container_of(it, struct conn, of_guest);

        if (conn->phase != PHASE_FIGURES) {
            continue;
        }
        if (figures) {
            reply(conn, figures);
        } else {
            refuse(conn, 503, "the node cannot say that right now, ask again");
        }
    }
}

/* ---- requests -------------------------------------------------------------------- */

static void put_into(struct conn *conn, struct egress_guest *guest)
{
    conn->guest = guest;
    conn->owner = guest ? &guest->metadata : &conn->metadata->strangers;
    conn->owner->count++;
    shl_list_push_back(&conn->owner->conns, &conn->of_guest);
}

static void judge(struct conn *conn)
{
    if (conn->request.status == 200 && !conn->guest) {
        if (egress_gateway_knows_guests(conn->metadata->gateway)) {
            refuse(conn, 404, "this address is no sandbox's");
        } else {
            refuse(conn, 503, "the node has not said yet who you are, ask again");
        }
    } else if (conn->request.what == EGRESS_METADATA_LIMITS) {
        want_figures(conn);
    } else {
        reply(conn, NULL);
    }
}

static void read_request(struct conn *conn)
{
    size_t room = EGRESS_METADATA_HEAD_MAX - shl_buf_len(&conn->in);
    uint8_t *space;
    ssize_t n;

    if (shl_buf_reserve(&conn->in, room, &space) < 0) {
        end_conn(conn);
        return;
    }
    n = recv(conn->fd, space, room, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        end_conn(conn);
        return;
    }
    shl_buf_commit(&conn->in, (size_t)n);
    if (egress_metadata_parse(shl_buf_bytes(&conn->in), &conn->request)) {
        shl_buf_release(&conn->in);
        judge(conn);
    }
}

static void on_event(uv_poll_t *poll, int status, int events)
{
    struct conn *conn = poll->data;

    (void)events; /* an error shows with the next call */
    if (status < 0) {
        end_conn(conn);
        return;
    }
    switch (conn->phase) {
    case PHASE_READ:
        read_request(conn);
        break;
    case PHASE_WRITE:
        write_reply(conn);
        break;
    case PHASE_DROP:
        drop_input(conn);
        break;
    case PHASE_FIGURES:
    case PHASE_CLOSED:
        break;
    }
}

void egress_metadata_tick(struct egress_metadata *metadata, uint64_t now_ms)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &metadata->conns) {
        struct conn *conn = shl_container_of(it, struct conn, all);

        if (now_ms < conn->deadline_ms) {
            continue;
        }
        if (conn->phase == PHASE_FIGURES) {
            refuse(conn, 503, "the node did not say that in time, ask again");
        } else {
            end_conn(conn);
        }
    }
}

/* ---- connections ----------------------------------------------------------------- */

static void take_connection(struct egress_metadata *metadata,
                            int fd,
                            const struct sockaddr_in *from)
{
    struct egress_gateway *gateway = metadata->gateway;
    struct egress_guest *guest = egress_guest_find(gateway, ntohl(from->sin_addr.s_addr));
    const struct egress_metadata_guest *owner = guest ? &guest->metadata : &metadata->strangers;
    struct conn *conn = NULL;

    if (owner->count >= EGRESS_METADATA_GUEST_CONNS || metadata->count >= EGRESS_METADATA_CONNS) {
        gateway->counters.over_limit++;
    } else {
        conn = calloc(1, sizeof(*conn));
    }
    if (!conn || uv_poll_init(metadata->listener.loop, &conn->poll, fd) < 0) {
        free(conn);
        (void)close(fd);
        return;
    }
    conn->metadata = metadata;
    conn->fd = fd;
    conn->poll.data = conn;
    shl_buf_init(&conn->in, EGRESS_METADATA_HEAD_MAX);
    shl_buf_init(&conn->out, 2 * EGRESS_METADATA_REPLY_MAX);
    shl_list_push_back(&metadata->conns, &conn->all);
    put_into(conn, guest);
    metadata->count++;
    gateway->counters.metadata++;
    go_on(conn, PHASE_READ, UV_READABLE);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct egress_metadata *metadata = poll->data;
    int i;

    (void)status;
    (void)events;
    for (i = 0; i < EGRESS_ACCEPT_MAX; i++) {
        struct sockaddr_in from;
        int fd = egress_accept(metadata->listen_fd, &from);

        if (fd < 0) {
            break;
        }
        take_connection(metadata, fd, &from);
    }
}

int egress_metadata_open(struct egress_metadata *metadata,
                         struct egress_gateway *gateway,
                         uv_loop_t *loop,
                         int fd)
{
    int rc = uv_poll_init(loop, &metadata->listener, fd);

    if (rc < 0) {
        return rc;
    }
    metadata->gateway = gateway;
    metadata->listen_fd = fd;
    metadata->listener.data = metadata;
    (void)uv_poll_start(&metadata->listener, UV_READABLE, on_acceptable);
    return 0;
}

void egress_metadata_close(struct egress_metadata *metadata, uv_close_cb closed)
{
    egress_metadata_drop(&metadata->strangers);
    uv_close((uv_handle_t *)&metadata->listener, closed);
}
