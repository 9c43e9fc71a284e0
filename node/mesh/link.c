#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "node/mesh/mesh_private.h"

/*-
 *  IDLE ──> WAITING ──> DIALING ──> HELLO ──> UP
 *              ^           │          │        │   lost, refused, late
 *              └───────────┴──────────┴────────┘
 * Each attempt has a socket of its own: a refused handshake is never tried again by
 * ZeroMQ, and what waits in a lost connection must not reach the next one. */

static bool is_dialing(enum mesh_tx_state state)
{
    return state == MESH_TX_DIALING || state == MESH_TX_HELLO;
}

static void set_state(struct mesh_tx *tx, enum mesh_tx_state state, uint64_t at_ms)
{
    struct node_mesh *mesh = tx->peer->mesh;

    if (is_dialing(tx->state) && !is_dialing(state)) {
        assert(mesh->dial_count > 0);
        mesh->dial_count--;
        mesh_wake_at(mesh, mesh_now(mesh)); /* somebody else's turn */
    } else if (!is_dialing(tx->state) && is_dialing(state)) {
        mesh->dial_count++;
    }
    tx->state = state;
    tx->at_ms = at_ms;
    if (at_ms) {
        mesh_wake_at(mesh, at_ms);
    }
}

static void close_sockets(struct mesh_tx *tx)
{
    mesh_socket_close_monitored(tx->socket, tx->monitor, 0);
    tx->monitor = tx->socket = NULL;
    tx->is_blocked = false;
}

/* Doubling, with a random part, so that many nodes do not come back in step. */
static uint32_t next_pause(struct mesh_tx *tx, bool was_refused)
{
    struct node_mesh *mesh = tx->peer->mesh;
    uint32_t pause = tx->backoff_ms ? tx->backoff_ms * 2 : mesh->dial_min_ms;
    uint32_t random;

    if (was_refused) {
        pause = SHL_MAX(pause, (uint32_t)MESH_REFUSED_MIN_MS);
    }
    pause = SHL_MIN(pause, mesh->dial_max_ms);
    tx->backoff_ms = pause;
    shl_random_bytes(&random, sizeof(random));
    return pause - random % (pause / 2 + 1);
}

void mesh_link_lost(struct mesh_tx *tx, bool was_refused, const char *reason)
{
    struct mesh_peer *peer = tx->peer;
    struct node_mesh *mesh = peer->mesh;
    uint64_t now = mesh_now(mesh);
    bool was_up = tx->state == MESH_TX_UP;

    (void)snprintf(peer->trouble, sizeof(peer->trouble), "%s", reason);
    close_sockets(tx);
    if (was_up && now - tx->up_at_ms >= mesh->dial_max_ms) {
        tx->backoff_ms = 0; /* it was stable: be quick */
    }
    if (!was_up) {
        mesh->stats.dials_failed++;
        if (tx->channel == MESH_CONTROL) {
            mesh_peer_next_addr(peer);
        }
    }
    set_state(tx, MESH_TX_WAITING, now + next_pause(tx, was_refused));
    if (was_up && !was_refused) {
        /* The other side may not have noticed: its half is of no use without ours. */
        mesh_peer_end_rx(peer, tx->channel, NODE_MESH_REFUSED_RESET);
    }
    mesh_peer_check(peer, tx->channel);
    mesh_peer_reset(peer, tx->channel, reason);
}

void mesh_link_want(struct mesh_tx *tx, bool want)
{
    if (want && tx->state == MESH_TX_IDLE) {
        tx->backoff_ms = 0;
        set_state(tx, MESH_TX_WAITING, mesh_now(tx->peer->mesh));
    } else if (!want && tx->state != MESH_TX_IDLE) {
        close_sockets(tx);
        set_state(tx, MESH_TX_IDLE, 0);
        mesh_peer_check(tx->peer, tx->channel);
    }
}

void mesh_link_dial_now(struct mesh_tx *tx)
{
    if (tx->state == MESH_TX_WAITING) {
        set_state(tx, MESH_TX_WAITING, mesh_now(tx->peer->mesh));
    }
}

/*- What the other side says on our connection. */

static void on_welcome(struct mesh_tx *tx, const struct mesh_message *msg)
{
    struct mesh_peer *peer = tx->peer;
    struct node_mesh *mesh = peer->mesh;

    if (tx->state != MESH_TX_HELLO) {
        return;
    }
    if (memcmp(msg->cluster, mesh->cluster, NODE_CLUSTER_BYTES) != 0 ||
        !shl_node_id_equal(&msg->hello.id, &peer->id) || msg->hello.max < mesh->version_min ||
        msg->hello.max > mesh->version_max) {
        mesh_link_lost(tx, true, "its welcome is not for this node");
        return;
    }
    if (!mesh_peer_identify(peer, msg->hello.boot, msg->hello.nonce)) {
        struct shl_bytes nowhere = {NULL, 0};

        mesh_refuse(mesh, tx->channel, &peer->id, nowhere, NODE_MESH_REFUSED_IDENTITY,
                    "another process answers at its address than the one that is connected");
        mesh_link_lost(tx, true, node_mesh_refusal_sentence(NODE_MESH_REFUSED_IDENTITY));
        return;
    }
    if (tx->state != MESH_TX_HELLO) {
        return; /* a new process of the peer: everything begins again */
    }
    peer->version = (uint32_t)msg->hello.max;
    tx->up_at_ms = mesh_now(mesh);
    set_state(tx, MESH_TX_UP, 0);
    mesh_peer_check(peer, tx->channel);
    mesh_peer_mark_flush(peer);
}

static void on_refuse(struct mesh_tx *tx, const struct mesh_message *msg)
{
    enum node_mesh_refusal why = mesh_refusal_parse(msg->kind);
    bool is_ours = why == NODE_MESH_REFUSED_RESET || why == NODE_MESH_REFUSED_HELLO;
    struct mesh_peer *peer = tx->peer;
    char reason[SHL_ERR_TEXT_MAX];

    (void)snprintf(reason, sizeof(reason), is_ours ? "%s" : "it refused this node: %.200s",
                   is_ours ? node_mesh_refusal_sentence(why) : msg->text);
    mesh_link_lost(tx, true, reason);
    mesh_refused_by(peer, why, msg->text);
}

static void on_message(struct mesh_tx *tx, zmq_msg_t *raw)
{
    struct mesh_message msg;
    struct shl_bytes bytes = shl_bytes_of(zmq_msg_data(raw), zmq_msg_size(raw));

    if (mesh_message_parse(&msg, bytes) < 0) {
        struct shl_bytes nowhere = {NULL, 0};

        mesh_refuse(tx->peer->mesh, tx->channel, &tx->peer->id, nowhere, NODE_MESH_REFUSED_GARBAGE,
                    "in an answer");
        mesh_link_lost(tx, true, "it answered with something that cannot be understood");
        return;
    }
    if (msg.type == MESH_WELCOME) {
        on_welcome(tx, &msg);
    } else if (msg.type == MESH_REFUSE) {
        on_refuse(tx, &msg);
    } else {
        tx->peer->mesh->stats.unknown++;
    }
    mesh_message_release(&msg);
}

/* Answers are few; all of them are read. */
static bool on_dealer(struct mesh_socket *socket)
{
    struct mesh_tx *tx = socket->owner;
    int left = MESH_TURN_MESSAGES;
    int events;

    while (left-- > 0 && !socket->is_closing && !socket->mesh->is_closing) {
        zmq_msg_t raw;

        (void)zmq_msg_init(&raw);
        if (zmq_msg_recv(&raw, socket->zmq, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(&raw);
            break;
        }
        on_message(tx, &raw);
        (void)zmq_msg_close(&raw);
    }
    if (socket->is_closing) {
        return false;
    }
    /* Last: receiving may swallow the news that there is room again. */
    events = mesh_socket_events(socket);
    if (tx->is_blocked && (events & ZMQ_POLLOUT)) {
        tx->is_blocked = false;
        mesh_peer_mark_flush(tx->peer);
    }
    return (events & ZMQ_POLLIN) != 0;
}

static void send_hello(struct mesh_tx *tx)
{
    struct node_mesh *mesh = tx->peer->mesh;
    struct mesh_envelope env = {mesh->version_max, mesh->cluster};
    struct mesh_message fields;
    struct shl_buf buf;
    zmq_msg_t msg;

    set_state(tx, MESH_TX_HELLO, tx->at_ms);
    mesh_hello_fields(mesh, tx->channel, &fields);
    shl_buf_init(&buf, MESH_OVERHEAD_MAX);
    if (mesh_write_hello(&buf, &env, &fields) == 0 && mesh_msg_of(&msg, &buf) == 0) {
        if (mesh_socket_send(tx->socket, &msg) < 0) {
            (void)zmq_msg_close(&msg); /* the attempt ends with its time */
        }
    }
    shl_buf_release(&buf);
}

static bool on_monitor(struct mesh_socket *monitor)
{
    struct mesh_tx *tx = monitor->owner;
    uint16_t event;
    uint32_t value;

    while (!monitor->is_closing && mesh_socket_event(monitor, &event, &value) == 0) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            if (tx->state == MESH_TX_DIALING) {
                send_hello(tx);
            }
        } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
            struct mesh_peer *peer = tx->peer;

            mesh_link_lost(tx, true, "it does not accept this node's key (yet)");
            mesh_refused_by(peer, NODE_MESH_REFUSED_KEY, "the handshake was refused");
        } else {
            /* A last word may have come before the end. */
            (void)on_dealer(tx->socket);
            if (!monitor->is_closing) {
                mesh_link_lost(tx, false,
                               tx->state == MESH_TX_DIALING ? "no connection to the node"
                                                            : "the connection was lost");
            }
        }
    }
    return false;
}

/*- Time. */

static void start_attempt(struct mesh_tx *tx)
{
    struct mesh_peer *peer = tx->peer;
    struct node_mesh *mesh = peer->mesh;
    const struct node_mesh_addr *addr = mesh_peer_addr(peer);
    uint16_t port = tx->channel == MESH_CONTROL ? addr->control_port : addr->bulk_port;
    int rc;

    tx->attempts++;
    set_state(tx, MESH_TX_DIALING, mesh_now(mesh) + MESH_ATTEMPT_MS);
    rc = mesh_dial(mesh, tx->channel, addr->host, port, peer->key, on_dealer, on_monitor, tx,
                   &tx->socket, &tx->monitor);
    if (rc < 0) {
        mesh_link_lost(tx, false, zmq_strerror(-rc));
    }
}

/* The attempt that is due for longest. */
static struct mesh_tx *find_due(struct node_mesh *mesh, uint64_t now)
{
    struct mesh_tx *best = NULL;
    uint32_t i;
    int channel;

    for (i = 0; i < mesh->peer_count; i++) {
        for (channel = 0; channel < MESH_CHANNELS; channel++) {
            struct mesh_tx *tx = &mesh->peers[i]->tx[channel];

            if (tx->state == MESH_TX_WAITING && tx->at_ms <= now &&
                mesh->peers[i]->addr_count > 0 && (!best || tx->at_ms < best->at_ms)) {
                best = tx;
            }
        }
    }
    return best;
}

static void check_deadlines(struct node_mesh *mesh, uint64_t now)
{
    uint32_t i;
    int channel;

    for (i = 0; i < mesh->peer_count; i++) {
        for (channel = 0; channel < MESH_CHANNELS; channel++) {
            struct mesh_tx *tx = &mesh->peers[i]->tx[channel];

            if (is_dialing(tx->state) && tx->at_ms <= now) {
                mesh_link_lost(tx, false,
                               tx->state == MESH_TX_HELLO ? "it did not answer the hello"
                                                          : "no connection to the node in time");
            }
            if (tx->at_ms > now && (is_dialing(tx->state) || tx->state == MESH_TX_WAITING)) {
                mesh_wake_at(mesh, tx->at_ms);
            }
        }
    }
}

void mesh_links_tick(struct node_mesh *mesh)
{
    uint64_t now = mesh_now(mesh);
    struct mesh_tx *tx;

    check_deadlines(mesh, now);
    if (sodium_is_zero(mesh->cluster, sizeof(mesh->cluster))) {
        return; /* in no cluster yet */
    }
    while (mesh->dial_count < MESH_DIALS_MAX && (tx = find_due(mesh, now))) {
        start_attempt(tx);
    }
}
