#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/mesh/mesh_private.h"

/* ZMQ_FD is edge-triggered, and any call on the socket may swallow the edge. So nothing is
 * done in the poll callback but to mark the socket; marked sockets are asked for their real
 * events after polling and before sleeping, and every send marks its socket again. */

#define MONITORED                                                            \
    (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |  \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | \
     ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED)

uint64_t mesh_now(const struct node_mesh *mesh)
{
    return uv_now(mesh->loop);
}

void mesh_socket_mark(struct mesh_socket *socket)
{
    if (!socket->is_closing && shl_list_empty(&socket->dirty)) {
        shl_list_push_back(&socket->mesh->dirty, &socket->dirty);
        mesh_wake_turn(socket->mesh);
    }
}

int mesh_socket_new(struct node_mesh *mesh,
                    int type,
                    mesh_ready_fn ready,
                    void *owner,
                    struct mesh_socket **ret)
{
    struct mesh_socket *socket = calloc(1, sizeof(*socket));

    if (!socket) {
        return -ENOMEM;
    }
    socket->mesh = mesh;
    socket->ready = ready;
    socket->owner = owner;
    shl_list_init(&socket->dirty);
    socket->zmq = zmq_socket(mesh->ctx, type);
    if (!socket->zmq) {
        free(socket);
        return -zmq_errno();
    }
    mesh_socket_set(socket, ZMQ_LINGER, 0);
    *ret = socket;
    return 0;
}

void mesh_socket_set(struct mesh_socket *socket, int option, int value)
{
    int64_t wide = value;
    int rc;

    if (option == ZMQ_MAXMSGSIZE) {
        rc = zmq_setsockopt(socket->zmq, option, &wide, sizeof(wide));
    } else {
        rc = zmq_setsockopt(socket->zmq, option, &value, sizeof(value));
    }
    assert(rc == 0); /* fixed options with fixed values */
    (void)rc;
}

void mesh_socket_curve(struct mesh_socket *socket, const uint8_t server_key[NODE_KEY_BYTES])
{
    const struct node_mesh_keys *keys = &socket->mesh->keys;

    if (zmq_setsockopt(socket->zmq, ZMQ_CURVE_SERVERKEY, server_key, NODE_KEY_BYTES) != 0 ||
        zmq_setsockopt(socket->zmq, ZMQ_CURVE_PUBLICKEY, keys->public_key, NODE_KEY_BYTES) != 0 ||
        zmq_setsockopt(socket->zmq, ZMQ_CURVE_SECRETKEY, keys->secret_key, NODE_KEY_BYTES) != 0) {
        abort(); /* a link without CURVE must not come to be */
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    mesh_socket_mark(poll->data);
}

int mesh_socket_watch(struct mesh_socket *socket)
{
    size_t size = sizeof(int);
    int fd, rc;

    if (zmq_getsockopt(socket->zmq, ZMQ_FD, &fd, &size) != 0) {
        return -zmq_errno();
    }
    rc = uv_poll_init(socket->mesh->loop, &socket->poll, fd);
    if (rc < 0) {
        return rc;
    }
    socket->poll.data = socket;
    socket->mesh->handles++;
    rc = uv_poll_start(&socket->poll, UV_READABLE, on_poll);
    assert(rc == 0);
    /* The first edge may be gone already. */
    mesh_socket_mark(socket);
    return 0;
}

int mesh_socket_monitor(struct mesh_socket *socket,
                        mesh_ready_fn ready,
                        struct mesh_socket **ret_monitor)
{
    struct mesh_socket *monitor;
    char name[48];
    int rc;

    (void)snprintf(name, sizeof(name), "inproc://monitor-%llu",
                   (unsigned long long)++socket->mesh->serial);
    if (zmq_socket_monitor(socket->zmq, name, MONITORED) != 0) {
        return -zmq_errno();
    }
    rc = mesh_socket_new(socket->mesh, ZMQ_PAIR, ready, socket->owner, &monitor);
    if (rc < 0) {
        return rc;
    }
    if (zmq_connect(monitor->zmq, name) != 0) {
        rc = -zmq_errno();
    } else {
        rc = mesh_socket_watch(monitor);
    }
    if (rc < 0) {
        (void)zmq_close(monitor->zmq);
        free(monitor);
        return rc;
    }
    *ret_monitor = monitor;
    return 0;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct mesh_socket *socket = handle->data;
    struct node_mesh *mesh = socket->mesh;

    free(socket);
    mesh_handle_closed(mesh);
}

void mesh_socket_close(struct mesh_socket *socket, int linger_ms)
{
    if (!socket || socket->is_closing) {
        return;
    }
    socket->is_closing = true;
    shl_list_remove(&socket->dirty);
    mesh_socket_set(socket, ZMQ_LINGER, linger_ms);
    if (socket->poll.data) {
        /* Before zmq_close, which closes the descriptor on another thread. */
        uv_close((uv_handle_t *)&socket->poll, on_poll_closed);
    }
    (void)zmq_close(socket->zmq);
    socket->zmq = NULL;
    if (!socket->poll.data) {
        free(socket);
    }
}

void mesh_socket_close_monitored(struct mesh_socket *socket,
                                 struct mesh_socket *monitor,
                                 int linger_ms)
{
    if (socket) {
        /* First: an event without a reader would block ZeroMQ's thread, with a lock held that
         * closing needs. */
        (void)zmq_socket_monitor(socket->zmq, NULL, 0);
        mesh_socket_close(socket, linger_ms);
    }
    mesh_socket_close(monitor, 0);
}

int mesh_socket_event(struct mesh_socket *monitor, uint16_t *ret_event, uint32_t *ret_value)
{
    zmq_msg_t part;
    int rc, more = 1;
    bool is_first = true, is_event = false;

    while (more) {
        (void)zmq_msg_init(&part);
        rc = zmq_msg_recv(&part, monitor->zmq, ZMQ_DONTWAIT);
        if (rc < 0) {
            (void)zmq_msg_close(&part);
            return -EAGAIN;
        }
        if (is_first && rc == 6) {
            memcpy(ret_event, zmq_msg_data(&part), 2);
            memcpy(ret_value, (const uint8_t *)zmq_msg_data(&part) + 2, 4);
            is_event = true;
        }
        is_first = false;
        more = zmq_msg_more(&part);
        (void)zmq_msg_close(&part);
    }
    return is_event ? 0 : -EAGAIN;
}

uint32_t mesh_bytes_max(enum mesh_channel channel)
{
    return channel == MESH_CONTROL ? NODE_MESH_BODY_MAX + MESH_OVERHEAD_MAX + MESH_TEXT_MAX
                                   : MESH_FRAME_BYTES_MAX + MESH_OVERHEAD_MAX;
}

/* What both kinds of sockets need; no ZMQ heartbeats, ever: with a receive mark they abort
 * the process when a stalled peer dies (libzmq 4.3.4). */
void mesh_socket_tune(struct mesh_socket *socket, enum mesh_channel channel)
{
    int hwm = channel == MESH_CONTROL ? MESH_CONTROL_HWM : MESH_BULK_HWM;

    mesh_socket_set(socket, ZMQ_SNDHWM, hwm);
    mesh_socket_set(socket, ZMQ_RCVHWM, hwm);
    mesh_socket_set(socket, ZMQ_MAXMSGSIZE, (int)(mesh_bytes_max(channel) + MESH_SLACK_BYTES));
    mesh_socket_set(socket, ZMQ_TCP_KEEPALIVE, 1);
    mesh_socket_set(socket, ZMQ_TCP_KEEPALIVE_IDLE, 15);
    mesh_socket_set(socket, ZMQ_TCP_KEEPALIVE_INTVL, 5);
    mesh_socket_set(socket, ZMQ_TCP_KEEPALIVE_CNT, 3);
    mesh_socket_set(socket, ZMQ_TCP_MAXRT, 20000);
    mesh_socket_set(socket, ZMQ_HANDSHAKE_IVL, MESH_ATTEMPT_MS);
    /* Threads of their own: pings do not wait while bulk data is encrypted. */
    if (channel == MESH_CONTROL) {
        uint64_t first = 1;

        (void)zmq_setsockopt(socket->zmq, ZMQ_AFFINITY, &first, sizeof(first));
    } else {
        uint64_t others = 0x1e;

        (void)zmq_setsockopt(socket->zmq, ZMQ_AFFINITY, &others, sizeof(others));
    }
}

static void set_routing(struct mesh_socket *socket)
{
    uint8_t routing[MESH_ROUTING_BYTES];

    routing[0] = 'n'; /* not zero: those are ZeroMQ's own */
    memcpy(routing + 1, socket->mesh->keys.id.bytes, SHL_NODE_ID_BYTES);
    shl_random_bytes(routing + 1 + SHL_NODE_ID_BYTES, 8);
    (void)zmq_setsockopt(socket->zmq, ZMQ_ROUTING_ID, routing, sizeof(routing));
}

int mesh_endpoint(char *dst, size_t size, const char *host, uint16_t port)
{
    bool is_v6 = strchr(host, ':') != NULL;
    int len =
        snprintf(dst, size, "tcp://%s%s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);

    return len < 0 || (size_t)len >= size ? -ENAMETOOLONG : 0;
}

static int start_dial(struct mesh_socket *socket,
                      enum mesh_channel channel,
                      const char *endpoint,
                      const uint8_t server_key[NODE_KEY_BYTES],
                      mesh_ready_fn on_monitor,
                      struct mesh_socket **ret_monitor)
{
    int rc;

    mesh_socket_tune(socket, channel);
    mesh_socket_curve(socket, server_key);
    set_routing(socket);
    mesh_socket_set(socket, ZMQ_RECONNECT_IVL, -1); /* one socket is one connection */
    mesh_socket_set(socket, ZMQ_CONNECT_TIMEOUT, MESH_ATTEMPT_MS);
    mesh_socket_set(socket, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
    rc = mesh_socket_monitor(socket, on_monitor, ret_monitor);
    if (rc == 0 && zmq_connect(socket->zmq, endpoint) != 0) {
        rc = -zmq_errno();
    }
    return rc < 0 ? rc : mesh_socket_watch(socket);
}

int mesh_dial(struct node_mesh *mesh,
              enum mesh_channel channel,
              const char *host,
              uint16_t port,
              const uint8_t server_key[NODE_KEY_BYTES],
              mesh_ready_fn ready,
              mesh_ready_fn on_monitor,
              void *owner,
              struct mesh_socket **ret_socket,
              struct mesh_socket **ret_monitor)
{
    struct mesh_socket *socket;
    char endpoint[NODE_MESH_HOST_SIZE + 24];
    int rc = mesh_endpoint(endpoint, sizeof(endpoint), host, port);

    if (rc == 0) {
        rc = mesh_socket_new(mesh, ZMQ_DEALER, ready, owner, &socket);
    }
    if (rc < 0) {
        return rc;
    }
    mesh->stats.dials++;
    *ret_monitor = NULL;
    rc = start_dial(socket, channel, endpoint, server_key, on_monitor, ret_monitor);
    if (rc < 0) {
        mesh_socket_close_monitored(socket, *ret_monitor, 0);
        *ret_monitor = NULL;
        return rc;
    }
    *ret_socket = socket;
    return 0;
}

static void free_heap(void *data, void *hint)
{
    (void)data;
    free(hint);
}

static int msg_of(zmq_msg_t *msg, struct shl_buf *buf, mesh_free_fn give_back, void *hint)
{
    if (zmq_msg_init_data(msg, shl_buf_data(buf), shl_buf_len(buf), give_back, hint) != 0) {
        shl_buf_release(buf);
        return -ENOMEM;
    }
    *buf = (struct shl_buf){0};
    return 0;
}

int mesh_msg_of(zmq_msg_t *msg, struct shl_buf *buf)
{
    return msg_of(msg, buf, free_heap, buf->heap);
}

int mesh_socket_send(struct mesh_socket *socket, zmq_msg_t *msg)
{
    int rc = zmq_msg_send(msg, socket->zmq, ZMQ_DONTWAIT);

    if (rc < 0) {
        rc = -zmq_errno();
    }
    mesh_socket_mark(socket);
    return rc < 0 ? rc : 0;
}

int mesh_socket_send_out(struct mesh_socket *socket, struct mesh_out *out)
{
    int rc;

    if (!out->has_body) {
        return mesh_socket_send(socket, &out->msg);
    }
    rc = zmq_msg_send(&out->msg, socket->zmq, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    rc = rc < 0 ? -zmq_errno() : 0;
    if (rc == 0) {
        /* A pipe that took the first part takes the second; unless its connection is gone, then
         * nothing of both arrives, and the stream is about to hear of it. */
        (void)zmq_msg_send(&out->body, socket->zmq, ZMQ_DONTWAIT);
    }
    mesh_socket_mark(socket);
    return rc;
}

int mesh_out_give(struct mesh_out *out, struct shl_bytes body, mesh_free_fn give_back, void *hint)
{
    if (zmq_msg_init_data(&out->body, (void *)(uintptr_t)body.base, body.len, give_back, hint) !=
        0) {
        return -ENOMEM;
    }
    out->has_body = true;
    out->payload = body.len;
    out->cost += body.len;
    return 0;
}

struct mesh_out *mesh_out_new(struct shl_buf *buf,
                              size_t payload,
                              mesh_free_fn give_back,
                              void *hint)
{
    struct mesh_out *out = malloc(sizeof(*out));

    if (!out) {
        shl_buf_release(buf);
        return NULL;
    }
    shl_list_init(&out->link);
    out->has_body = false;
    out->payload = payload;
    out->cost = shl_buf_len(buf) + MESH_MESSAGE_COST;
    if (!give_back) {
        give_back = free_heap;
        hint = buf->heap;
    }
    if (msg_of(&out->msg, buf, give_back, hint) < 0) {
        free(out);
        return NULL;
    }
    return out;
}

void mesh_out_free(struct mesh_out *out)
{
    shl_list_remove(&out->link);
    (void)zmq_msg_close(&out->msg);
    if (out->has_body) {
        (void)zmq_msg_close(&out->body);
    }
    free(out);
}

int mesh_socket_events(struct mesh_socket *socket)
{
    size_t size = sizeof(int);
    int events = 0;

    return zmq_getsockopt(socket->zmq, ZMQ_EVENTS, &events, &size) == 0 ? events : 0;
}

void mesh_sockets_turn(struct node_mesh *mesh)
{
    struct shl_list marked = SHL_LIST_INIT(marked);
    struct shl_list *first;

    /* Take the list: what is marked meanwhile has its turn next time around. */
    if (!shl_list_empty(&mesh->dirty)) {
        shl_list_push_back(&mesh->dirty, &marked);
        shl_list_remove(&mesh->dirty);
        shl_list_init(&mesh->dirty);
    }
    while ((first = shl_list_first(&marked)) && !mesh->is_closing) {
        struct mesh_socket *socket = shl_container_of(first, struct mesh_socket, dirty);

        shl_list_remove(&socket->dirty);
        if (socket->ready(socket)) {
            mesh_socket_mark(socket);
        }
    }
    /* Closing: what is left goes back, so that closing the sockets finds a sane list. */
    while ((first = shl_list_first(&marked))) {
        shl_list_remove(first);
        shl_list_push_back(&mesh->dirty, first);
    }
}
