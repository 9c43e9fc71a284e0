#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/mesh/mesh_private.h"

/* What a connection proved about its other end. */
struct sender {
    bool is_guest;
    struct shl_node_id id;
    uint8_t key[NODE_KEY_BYTES]; /* of a guest */
    uint8_t routing[MESH_ROUTING_MAX];
    size_t routing_len;
};

/* A message behind its routing id. */
struct received {
    zmq_msg_t head, body; /* the first two parts; empty when there is none */
    uint32_t count;       /* of all parts */
};

static struct shl_bytes routing_of(const struct sender *from)
{
    return shl_bytes_of(from->routing, from->routing_len);
}

void mesh_inbox_answer(struct node_mesh *mesh,
                       enum mesh_channel channel,
                       struct shl_bytes routing,
                       struct shl_buf *buf)
{
    struct mesh_socket *router = mesh->router[channel];
    zmq_msg_t msg;

    if (mesh_msg_of(&msg, buf) < 0) {
        mesh->stats.dropped++;
        return;
    }
    /* ROUTER_MANDATORY: a full or lost connection is an error here, not silence. */
    if (zmq_send(router->zmq, routing.base, routing.len, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0 ||
        zmq_msg_send(&msg, router->zmq, ZMQ_DONTWAIT) < 0) {
        mesh->stats.dropped++;
        (void)zmq_msg_close(&msg);
    }
    mesh_socket_mark(router);
}

static bool parse_user(const char *user, struct sender *from)
{
    static const size_t node_len = sizeof(MESH_USER_NODE) - 1;
    static const size_t guest_len = sizeof(MESH_USER_GUEST) - 1;

    if (!user) {
        return false;
    }
    if (strncmp(user, MESH_USER_NODE, node_len) == 0) {
        return shl_node_id_parse(user + node_len, &from->id) == 0;
    }
    if (strncmp(user, MESH_USER_GUEST, guest_len) == 0 &&
        shl_hex_decode(from->key, NODE_KEY_BYTES, user + guest_len) == 0) {
        from->is_guest = true;
        node_mesh_keys_id(from->key, &from->id);
        return true;
    }
    return false;
}

static void on_guest(struct node_mesh *mesh,
                     const struct sender *from,
                     const struct mesh_message *msg)
{
    struct mesh_guest *guest = mesh_guest_find(mesh, from->key);

    if (!guest || guest->messages >= MESH_GUEST_MESSAGES) {
        mesh->stats.refused[NODE_MESH_REFUSED_RATE]++; /* without an answer: it had enough */
        return;
    }
    guest->messages++;
    if (!msg) {
        mesh_refuse(mesh, MESH_CONTROL, &from->id, routing_of(from), NODE_MESH_REFUSED_GARBAGE,
                    NULL);
    } else if (msg->type != MESH_JOIN) {
        mesh_refuse(mesh, MESH_CONTROL, &from->id, routing_of(from), NODE_MESH_REFUSED_FORBIDDEN,
                    msg->type == MESH_HELLO ? "its key is not a member's" : NULL);
    } else {
        mesh_on_join(mesh, from->key, routing_of(from), msg);
    }
}

/*- Hello. */

static void send_welcome(struct mesh_peer *peer, enum mesh_channel channel)
{
    struct mesh_envelope env = mesh_peer_envelope(peer);
    struct mesh_rx *rx = &peer->rx[channel];
    struct mesh_message fields;
    struct shl_buf buf;

    mesh_hello_fields(peer->mesh, channel, &fields);
    fields.hello.max = peer->version;
    shl_buf_init(&buf, MESH_OVERHEAD_MAX);
    if (mesh_write_welcome(&buf, &env, &fields) == 0) {
        mesh_inbox_answer(peer->mesh, channel, shl_bytes_of(rx->routing, rx->routing_len), &buf);
    }
    shl_buf_release(&buf);
}

static void accept_hello(struct mesh_peer *peer,
                         enum mesh_channel channel,
                         const struct sender *from,
                         const struct node_mesh_addr *addr)
{
    struct mesh_rx *rx = &peer->rx[channel];

    if (rx->is_open) { /* it lost its connection, and with it what was under way */
        mesh_peer_reset(peer, channel, "the node connected again");
    }
    rx->is_open = true;
    memcpy(rx->routing, from->routing, from->routing_len);
    rx->routing_len = from->routing_len;
    send_welcome(peer, channel);
    mesh_peer_told(peer, addr);
    mesh_peer_check(peer, channel);
    mesh_link_dial_now(&peer->tx[channel]); /* it lives: no use in waiting */
}

static void on_hello(struct mesh_peer *peer,
                     enum mesh_channel channel,
                     const struct sender *from,
                     const struct mesh_message *msg)
{
    struct node_mesh *mesh = peer->mesh;
    char detail[96];
    uint64_t version = SHL_MIN(msg->hello.max, (uint64_t)mesh->version_max);

    if (!shl_node_id_equal(&msg->hello.id, &peer->id)) {
        char claimed[SHL_NODE_ID_TEXT_SIZE];

        shl_node_id_format(claimed, &msg->hello.id);
        (void)snprintf(detail, sizeof(detail), "it says it is %s", claimed);
        mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_CLAIM, detail);
    } else if (msg->hello.channel != (uint64_t)channel) {
        mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_GARBAGE,
                    "its control and bulk ports are exchanged");
    } else if (version < msg->hello.min || version < mesh->version_min) {
        (void)snprintf(detail, sizeof(detail), "it speaks %llu to %llu, this node %u to %u",
                       (unsigned long long)msg->hello.min, (unsigned long long)msg->hello.max,
                       mesh->version_min, mesh->version_max);
        mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_VERSION, detail);
    } else if (!mesh_peer_identify(peer, msg->hello.boot, msg->hello.nonce)) {
        (void)snprintf(detail, sizeof(detail),
                       "start %llu of it is connected, this is start %llu; stop one of them",
                       (unsigned long long)peer->boot, (unsigned long long)msg->hello.boot);
        mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_IDENTITY, detail);
    } else {
        peer->version = (uint32_t)version;
        accept_hello(peer, channel, from, &msg->hello.addr);
    }
}

/*- Everything else, on a session that is open. */

static bool is_for_channel(enum mesh_type type, enum mesh_channel channel)
{
    switch (type) {
    case MESH_ONE_WAY:
    case MESH_ASK:
    case MESH_REPLY:
        return channel == MESH_CONTROL;
    case MESH_OPEN:
    case MESH_DATA:
    case MESH_PART:
    case MESH_CREDIT:
    case MESH_END:
    case MESH_CUT:
        return channel == MESH_BULK;
    case MESH_HELLO:
    case MESH_WELCOME:
    case MESH_REFUSE:
    case MESH_JOIN:
    case MESH_JOINED:
        return false;
    case MESH_UNKNOWN:
        return true;
    }
    return false;
}

static void dispatch(struct mesh_peer *peer,
                     enum mesh_channel channel,
                     const struct mesh_message *msg,
                     zmq_msg_t *raw)
{
    if (!is_for_channel(msg->type, channel)) {
        mesh_refuse_session(peer, channel, NODE_MESH_REFUSED_GARBAGE,
                            "a message of a kind that does not belong on this connection");
        return;
    }
    switch (msg->type) {
    case MESH_ONE_WAY:
        mesh_on_one_way(peer, msg);
        break;
    case MESH_ASK:
        mesh_on_ask(peer, msg);
        break;
    case MESH_REPLY:
        mesh_on_reply(peer, msg);
        break;
    case MESH_OPEN:
    case MESH_DATA:
    case MESH_PART:
    case MESH_CREDIT:
    case MESH_END:
    case MESH_CUT:
        mesh_on_stream(peer, msg, raw);
        break;
    case MESH_UNKNOWN:
    case MESH_HELLO:
    case MESH_WELCOME:
    case MESH_REFUSE:
    case MESH_JOIN:
    case MESH_JOINED:
        peer->mesh->stats.unknown++;
        break;
    }
}

static void on_member(struct mesh_peer *peer,
                      enum mesh_channel channel,
                      const struct sender *from,
                      const struct mesh_message *msg,
                      zmq_msg_t *raw)
{
    struct node_mesh *mesh = peer->mesh;
    struct mesh_rx *rx = &peer->rx[channel];
    bool is_session = rx->is_open && rx->routing_len == from->routing_len &&
                      memcmp(rx->routing, from->routing, from->routing_len) == 0;

    if (rx->is_open && !is_session && msg->type != MESH_HELLO && msg->type != MESH_JOIN) {
        mesh->stats.stale++; /* of a connection that was replaced */
    } else if (memcmp(msg->cluster, mesh->cluster, NODE_CLUSTER_BYTES) != 0 &&
               msg->type != MESH_JOIN) {
        if (is_session) {
            mesh_refuse_session(peer, channel, NODE_MESH_REFUSED_CLUSTER, NULL);
        } else {
            mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_CLUSTER,
                        NULL);
        }
    } else if (msg->type == MESH_HELLO) {
        on_hello(peer, channel, from, msg);
    } else if (msg->type == MESH_JOIN && channel == MESH_CONTROL) {
        mesh_on_join(mesh, peer->key, routing_of(from), msg);
    } else if (!is_session) {
        mesh_refuse(mesh, channel, &peer->id, routing_of(from), NODE_MESH_REFUSED_HELLO, NULL);
    } else if (msg->version < mesh->version_min || msg->version > mesh->version_max) {
        mesh_refuse_session(peer, channel, NODE_MESH_REFUSED_VERSION, NULL);
    } else {
        peer->heard_at_ms = mesh_now(mesh);
        mesh_peer_tell(peer);
        if (!mesh->is_closing && !peer->is_removed) {
            dispatch(peer, channel, msg, raw);
        }
    }
}

/* A message that cannot be read, too large or in several parts. */
static void on_bad(struct node_mesh *mesh,
                   enum mesh_channel channel,
                   const struct sender *from,
                   enum node_mesh_refusal why)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, &from->id);
    struct mesh_rx *rx = peer ? &peer->rx[channel] : NULL;

    if (rx && rx->is_open && rx->routing_len == from->routing_len &&
        memcmp(rx->routing, from->routing, from->routing_len) == 0) {
        mesh_refuse_session(peer, channel, why, NULL);
    } else {
        mesh_refuse(mesh, channel, &from->id, routing_of(from), why, NULL);
    }
}

/* A .part has its bytes in the second part of the message; all others have one. */
static int read_message(struct mesh_message *msg,
                        enum mesh_channel channel,
                        struct shl_bytes bytes,
                        struct received *parts)
{
    bool is_part;

    if (parts->count > 2 || mesh_message_parse(msg, bytes) < 0) {
        return SHL_EPROTO;
    }
    is_part = msg->type == MESH_PART && channel == MESH_BULK &&
              msg->version >= MESH_VERSION_PARTS && msg->number == zmq_msg_size(&parts->body);
    if (parts->count == 2 ? !is_part : msg->type == MESH_PART) {
        mesh_message_release(msg);
        return SHL_EPROTO;
    }
    if (is_part) {
        msg->body = shl_bytes_of(zmq_msg_data(&parts->body), zmq_msg_size(&parts->body));
    }
    return 0;
}

static void on_message(struct node_mesh *mesh,
                       enum mesh_channel channel,
                       const struct sender *from,
                       struct received *parts)
{
    zmq_msg_t *raw = &parts->head;
    bool is_multipart = parts->count != 1;
    struct shl_bytes bytes = shl_bytes_of(zmq_msg_data(raw), zmq_msg_size(raw));
    struct mesh_peer *peer = from->is_guest ? NULL : mesh_peer_find(mesh, &from->id);
    struct mesh_message msg;
    bool is_large = bytes.len > mesh_bytes_max(channel) ||
                    (parts->count > 1 && zmq_msg_size(&parts->body) > MESH_FRAME_BYTES_MAX);

    if (channel == MESH_CONTROL) {
        mesh->stats.messages_in++;
        mesh->stats.bytes_in += bytes.len;
    }
    if (from->is_guest) {
        is_large = is_large || bytes.len > NODE_MESH_JOIN_MAX + MESH_OVERHEAD_MAX;
        if (is_multipart || is_large || mesh_message_parse(&msg, bytes) < 0) {
            on_guest(mesh, from, NULL);
        } else {
            on_guest(mesh, from, &msg);
            mesh_message_release(&msg);
        }
        return;
    }
    if (!peer) { /* it was removed while it was connected */
        mesh_refuse(mesh, channel, &from->id, routing_of(from), NODE_MESH_REFUSED_KEY, NULL);
    } else if (is_large) {
        on_bad(mesh, channel, from, NODE_MESH_REFUSED_OVERSIZED);
    } else if (read_message(&msg, channel, bytes, parts) < 0) {
        on_bad(mesh, channel, from, NODE_MESH_REFUSED_GARBAGE);
    } else {
        on_member(peer, channel, from, &msg, msg.type == MESH_PART ? &parts->body : raw);
        mesh_message_release(&msg);
    }
}

/* The first part is the routing id, the others are our message; from the fourth on they are read
 * and dropped. Returns the bytes received, or -1 when there is nothing. */
static int64_t receive(struct mesh_socket *router, enum mesh_channel channel)
{
    struct node_mesh *mesh = router->mesh;
    struct received parts = {.count = 0};
    struct sender from = {0};
    zmq_msg_t part;
    int64_t bytes = 0;
    int more = 1;
    bool is_whole = false, is_first = true;

    (void)zmq_msg_init(&parts.head);
    (void)zmq_msg_init(&parts.body);
    while (more) {
        (void)zmq_msg_init(&part);
        if (zmq_msg_recv(&part, router->zmq, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(&part);
            bytes = -1;
            break;
        }
        bytes += (int64_t)zmq_msg_size(&part);
        more = zmq_msg_more(&part);
        if (is_first) {
            is_first = false;
            if (zmq_msg_size(&part) <= sizeof(from.routing)) {
                from.routing_len = zmq_msg_size(&part);
                memcpy(from.routing, zmq_msg_data(&part), from.routing_len);
            }
        } else if (++parts.count == 1 && from.routing_len > 0) {
            is_whole = parse_user(zmq_msg_gets(&part, "User-Id"), &from);
            (void)zmq_msg_move(&parts.head, &part);
        } else if (parts.count == 2) {
            (void)zmq_msg_move(&parts.body, &part);
        }
        (void)zmq_msg_close(&part);
    }
    if (bytes >= 0 && is_whole) {
        on_message(mesh, channel, &from, &parts);
    } else if (bytes >= 0) {
        mesh->stats.refused[NODE_MESH_REFUSED_GARBAGE]++;
    }
    (void)zmq_msg_close(&parts.head);
    (void)zmq_msg_close(&parts.body);
    return bytes;
}

static bool on_router(struct mesh_socket *router)
{
    struct node_mesh *mesh = router->mesh;
    enum mesh_channel channel = router == mesh->router[MESH_BULK] ? MESH_BULK : MESH_CONTROL;
    int left = MESH_TURN_MESSAGES;
    int64_t bytes_left = MESH_TURN_BYTES;

    while (left-- > 0 && bytes_left > 0) {
        int64_t got = receive(router, channel);

        if (got < 0) {
            return false;
        }
        bytes_left -= got;
        if (mesh->is_closing) {
            return false;
        }
    }
    return true;
}

static int bind_router(struct mesh_socket *router,
                       enum mesh_channel channel,
                       const char *host,
                       uint16_t port)
{
    struct node_mesh *mesh = router->mesh;
    const char *domain = channel == MESH_CONTROL ? "control" : "bulk";
    char endpoint[NODE_MESH_HOST_SIZE + 24];
    size_t size = sizeof(endpoint);
    int rc;

    mesh_socket_tune(router, channel);
    mesh_socket_set(router, ZMQ_ROUTER_MANDATORY, 1);
    mesh_socket_set(router, ZMQ_ROUTER_HANDOVER, 1);
    mesh_socket_set(router, ZMQ_CURVE_SERVER, 1);
    mesh_socket_set(router, ZMQ_IPV6, strchr(host, ':') != NULL);
    if (zmq_setsockopt(router->zmq, ZMQ_CURVE_SECRETKEY, mesh->keys.secret_key, NODE_KEY_BYTES) !=
            0 ||
        zmq_setsockopt(router->zmq, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) != 0) {
        return -zmq_errno();
    }
    rc = mesh_endpoint(endpoint, sizeof(endpoint), host, port);
    if (rc < 0) {
        return rc;
    }
    if (zmq_bind(router->zmq, endpoint) != 0 ||
        zmq_getsockopt(router->zmq, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) {
        return -zmq_errno();
    }
    mesh->port[channel] = (uint16_t)strtoul(strrchr(endpoint, ':') + 1, NULL, 10);
    return mesh_socket_watch(router);
}

int mesh_inbox_open(struct node_mesh *mesh,
                    enum mesh_channel channel,
                    const char *host,
                    uint16_t port,
                    struct shl_err *err)
{
    int rc = mesh_socket_new(mesh, ZMQ_ROUTER, on_router, mesh, &mesh->router[channel]);

    if (rc == 0) {
        rc = bind_router(mesh->router[channel], channel, host, port);
    }
    if (rc < 0) {
        return shl_err_set(err, rc, "the mesh cannot listen on %s port %u: %s", host, port,
                           zmq_strerror(-rc));
    }
    return 0;
}
