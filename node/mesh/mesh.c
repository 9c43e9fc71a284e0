#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "node/mesh/mesh_private.h"

#define DIAL_MIN_MS      100
#define DIAL_MAX_MS      5000
#define IDENTITY_HOLD_MS 15000
#define BULK_THREADS_MAX 4
#define SOCKETS_MAX      8192

/*- The turn. Once before the loop sleeps and once after it woke up; while anything is left
 * to do, an idle handle keeps it from sleeping. */

static void on_idle(uv_idle_t *idle)
{
    (void)idle;
}

void mesh_wake_turn(struct node_mesh *mesh)
{
    if (!mesh->is_shut) {
        (void)uv_idle_start(&mesh->idle, on_idle);
    }
}

static void tell_changed(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->changed))) {
        mesh_peer_tell(shl_container_of(first, struct mesh_peer, changed));
    }
}

static void shut(struct node_mesh *mesh);

static bool has_work(const struct node_mesh *mesh)
{
    return !shl_list_empty(&mesh->dirty) || !shl_list_empty(&mesh->flush) ||
           !shl_list_empty(&mesh->changed) || !shl_list_empty(&mesh->failed) ||
           !shl_list_empty(&mesh->wakes) || !shl_list_empty(&mesh->ended) ||
           !shl_list_empty(&mesh->dead_peers);
}

static void deliver(struct node_mesh *mesh)
{
    mesh_streams_deliver(mesh);
    mesh_calls_deliver(mesh);
    tell_changed(mesh);
    mesh_peers_bury(mesh);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct node_mesh *mesh = prepare->data;

    if (!mesh->is_closing) {
        deliver(mesh);
        mesh_flush(mesh);
        mesh_sockets_turn(mesh);
        mesh_flush(mesh);
    }
    if (mesh->is_closing) {
        shut(mesh);
    } else if (!has_work(mesh)) {
        (void)uv_idle_stop(&mesh->idle);
    }
}

static void on_check(uv_check_t *check)
{
    struct node_mesh *mesh = check->data;

    if (!mesh->is_closing) {
        mesh_sockets_turn(mesh);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct node_mesh *mesh = timer->data;

    mesh->wake_at_ms = UINT64_MAX;
    if (mesh->is_closing) {
        return;
    }
    mesh_calls_tick(mesh);
    mesh_streams_tick(mesh);
    mesh_links_tick(mesh);
    mesh_joins_tick(mesh); /* last: it may call users */
}

void mesh_wake_at(struct node_mesh *mesh, uint64_t at_ms)
{
    uint64_t now = mesh_now(mesh);

    if (at_ms < mesh->wake_at_ms && !mesh->is_shut) {
        mesh->wake_at_ms = at_ms;
        (void)uv_timer_start(&mesh->timer, on_timer, at_ms > now ? at_ms - now : 0, 0);
    }
}

/*- Opening. */

void mesh_hello_fields(const struct node_mesh *mesh,
                       enum mesh_channel channel,
                       struct mesh_message *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->hello.id = mesh->keys.id;
    ret->hello.min = mesh->version_min;
    ret->hello.max = mesh->version_max;
    ret->hello.boot = mesh->keys.boot;
    ret->hello.nonce = mesh->nonce;
    ret->hello.channel = channel;
    ret->hello.addr = mesh->self;
}

static struct node_mesh *new_mesh(uv_loop_t *loop, const struct node_mesh_config *config)
{
    struct node_mesh *mesh = calloc(1, sizeof(*mesh));

    if (!mesh) {
        return NULL;
    }
    mesh->loop = loop;
    mesh->keys = *config->keys;
    memcpy(mesh->cluster, config->cluster, sizeof(mesh->cluster));
    shl_random_bytes(&mesh->nonce, sizeof(mesh->nonce));
    mesh->version_min = config->version_max ? config->version_min : NODE_MESH_VERSION_MIN;
    mesh->version_max = config->version_max ? config->version_max : NODE_MESH_VERSION_MAX;
    mesh->dial_min_ms = config->dial_min_ms ? config->dial_min_ms : DIAL_MIN_MS;
    mesh->dial_max_ms = config->dial_max_ms ? config->dial_max_ms : DIAL_MAX_MS;
    mesh->identity_hold_ms = config->identity_hold_ms ? config->identity_hold_ms : IDENTITY_HOLD_MS;
    if (config->self) {
        mesh->self = *config->self;
    }
    mesh->user = config->user;
    mesh->arg = config->arg;
    mesh->log = config->log;
    mesh->wake_at_ms = UINT64_MAX;
    shl_list_init(&mesh->dirty);
    shl_list_init(&mesh->strays);
    shl_list_init(&mesh->dead_peers);
    shl_list_init(&mesh->changed);
    shl_list_init(&mesh->flush);
    shl_list_init(&mesh->failed);
    shl_list_init(&mesh->joins);
    mesh_streams_init(mesh);
    if (mesh_pool_init(&mesh->pool) < 0) {
        free(mesh);
        return NULL;
    }
    return mesh;
}

static int open_context(struct node_mesh *mesh, uint32_t bulk_threads, struct shl_err *err)
{
    uint32_t threads = 1 + SHL_MIN(SHL_MAX(bulk_threads, 1u), (uint32_t)BULK_THREADS_MAX);

    mesh->ctx = zmq_ctx_new();
    if (!mesh->ctx || zmq_ctx_set(mesh->ctx, ZMQ_IO_THREADS, (int)threads) != 0 ||
        zmq_ctx_set(mesh->ctx, ZMQ_MAX_SOCKETS, SOCKETS_MAX) != 0) {
        return shl_err_sys(err, zmq_errno(), "ZeroMQ does not start");
    }
    return 0;
}

static void open_handles(struct node_mesh *mesh)
{
    (void)uv_prepare_init(mesh->loop, &mesh->prepare);
    (void)uv_check_init(mesh->loop, &mesh->check);
    (void)uv_idle_init(mesh->loop, &mesh->idle);
    (void)uv_timer_init(mesh->loop, &mesh->timer);
    mesh->prepare.data = mesh->check.data = mesh->idle.data = mesh->timer.data = mesh;
    mesh->handles += 4;
    (void)uv_prepare_start(&mesh->prepare, on_prepare);
    (void)uv_check_start(&mesh->check, on_check);
}

static int check_config(const struct node_mesh_config *config, struct shl_err *err)
{
    if (!zmq_has("curve")) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "this libzmq was built without CURVE: install "
                           "one with it");
    }
    if (sodium_init() < 0) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "libsodium does not start");
    }
    if (strlen(config->bind_host) >= NODE_MESH_HOST_SIZE) {
        return shl_err_set(err, SHL_EINVALIDARG, "'%s' is not an IP address to listen on",
                           config->bind_host);
    }
    return 0;
}

int node_mesh_open(uv_loop_t *loop,
                   const struct node_mesh_config *config,
                   struct node_mesh **ret,
                   struct shl_err *err)
{
    struct node_mesh *mesh;
    int rc = check_config(config, err);

    if (rc < 0) {
        return rc;
    }
    mesh = new_mesh(loop, config);
    if (!mesh) {
        return shl_err_set(err, -ENOMEM, "no memory for the mesh");
    }
    open_handles(mesh);
    rc = open_context(mesh, config->bulk_threads, err);
    /* Authentication before anything that could be connected to. */
    if (rc == 0) {
        rc = mesh_zap_open(mesh, err);
    }
    if (rc == 0) {
        rc = mesh_inbox_open(mesh, MESH_CONTROL, config->bind_host, config->control_port, err);
    }
    if (rc == 0) {
        rc = mesh_inbox_open(mesh, MESH_BULK, config->bind_host, config->bulk_port, err);
    }
    if (rc < 0) {
        node_mesh_close(mesh, 0, NULL, NULL);
        return rc;
    }
    *ret = mesh;
    return 0;
}

/*- Closing: users hear of it, sockets and handles go, then ZeroMQ's threads (which may
 * linger, so on the pool), then the memory. */

static void on_term_done(uv_work_t *work, int status)
{
    struct node_mesh *mesh = work->data;
    void (*closed)(void *arg) = mesh->closed;
    void *arg = mesh->closed_arg;

    (void)status;
    node_mesh_keys_release(&mesh->keys);
    mesh_pool_release(&mesh->pool);
    free(mesh);
    if (closed) {
        closed(arg);
    }
}

static void term(uv_work_t *work)
{
    struct node_mesh *mesh = work->data;

    if (mesh->ctx) {
        while (zmq_ctx_term(mesh->ctx) != 0 && zmq_errno() == EINTR) {
        }
    }
}

void mesh_handle_closed(struct node_mesh *mesh)
{
    assert(mesh->handles > 0);
    mesh->handles--;
    if (mesh->is_shut && mesh->handles == 0) {
        mesh->term.data = mesh;
        if (uv_queue_work(mesh->loop, &mesh->term, term, on_term_done) != 0) {
            abort(); /* only wrong arguments make it fail */
        }
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    mesh_handle_closed(handle->data);
}

static void shut(struct node_mesh *mesh)
{
    int linger = (int)mesh->linger_ms;

    if (mesh->is_shut) {
        return;
    }
    if (linger > 0) {
        mesh_flush(mesh);
    }
    while (mesh->peer_count > 0) {
        struct mesh_peer *peer = mesh->peers[mesh->peer_count - 1];
        int i;

        for (i = 0; i < MESH_CHANNELS; i++) {
            mesh_socket_close_monitored(peer->tx[i].socket, peer->tx[i].monitor, linger);
            peer->tx[i].monitor = peer->tx[i].socket = NULL;
            peer->rx[i].is_open = false;
        }
        mesh_peer_remove(peer, "this node is going down");
    }
    mesh_joins_close(mesh);
    deliver(mesh);
    mesh->is_shut = true;
    mesh_calls_close(mesh);
    mesh_socket_close(mesh->router[MESH_CONTROL], linger);
    mesh_socket_close(mesh->router[MESH_BULK], linger);
    mesh_socket_close(mesh->zap, 0);
    uv_close((uv_handle_t *)&mesh->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&mesh->check, on_handle_closed);
    uv_close((uv_handle_t *)&mesh->idle, on_handle_closed);
    uv_close((uv_handle_t *)&mesh->timer, on_handle_closed);
}

void node_mesh_close(struct node_mesh *mesh,
                     uint32_t linger_ms,
                     void (*closed)(void *arg),
                     void *arg)
{
    assert(!mesh->is_closing);
    mesh->is_closing = true;
    mesh->linger_ms = linger_ms;
    mesh->closed = closed;
    mesh->closed_arg = arg;
    mesh_wake_turn(mesh);
}

/*- Small things. */

const struct shl_node_id *node_mesh_id(const struct node_mesh *mesh)
{
    return &mesh->keys.id;
}

uint16_t node_mesh_control_port(const struct node_mesh *mesh)
{
    return mesh->port[MESH_CONTROL];
}

uint16_t node_mesh_bulk_port(const struct node_mesh *mesh)
{
    return mesh->port[MESH_BULK];
}

void node_mesh_set_cluster(struct node_mesh *mesh, const uint8_t cluster[NODE_CLUSTER_BYTES])
{
    uint32_t i;

    if (memcmp(mesh->cluster, cluster, NODE_CLUSTER_BYTES) == 0) {
        return;
    }
    memcpy(mesh->cluster, cluster, NODE_CLUSTER_BYTES);
    for (i = 0; i < mesh->peer_count; i++) {
        struct mesh_peer *peer = mesh->peers[i];
        int channel;

        for (channel = MESH_CHANNELS - 1; channel >= 0; channel--) {
            mesh_peer_end_rx(peer, (enum mesh_channel)channel, NODE_MESH_REFUSED_CLUSTER);
            if (peer->tx[channel].state >= MESH_TX_DIALING) {
                mesh_link_lost(&peer->tx[channel], false, "this node went to another cluster");
            }
            mesh_link_dial_now(&peer->tx[channel]);
        }
    }
    mesh_wake_at(mesh, mesh_now(mesh));
}

/*- Figures. */

static void fill_peer(const struct mesh_peer *peer, struct node_mesh_peer_stats *ret)
{
    memset(ret, 0, sizeof(*ret));
    ret->id = peer->id;
    if (peer->addr_count > 0) {
        ret->addr = *mesh_peer_addr(peer);
    }
    ret->is_up = peer->is_up[MESH_CONTROL];
    ret->is_bulk_up = peer->is_up[MESH_BULK];
    ret->boot = peer->boot;
    ret->version = peer->version;
    ret->attempts = peer->tx[MESH_CONTROL].attempts;
    ret->streams = peer->stream_count;
    ret->calls_out = peer->rpc_count;
    ret->calls_in = peer->call_count;
    ret->control_queue_bytes = peer->control_bytes;
    ret->send_queue_bytes = peer->send_bytes;
    ret->receive_queue_bytes = peer->receive_bytes;
    (void)snprintf(ret->trouble, sizeof(ret->trouble), "%s", peer->trouble);
}

uint32_t node_mesh_peers(const struct node_mesh *mesh,
                         struct node_mesh_peer_stats *ret,
                         uint32_t max)
{
    uint32_t count = SHL_MIN(mesh->peer_count, max);
    uint32_t i;

    for (i = 0; i < count; i++) {
        fill_peer(mesh->peers[i], &ret[i]);
    }
    return count;
}

void node_mesh_stats(const struct node_mesh *mesh, struct node_mesh_stats *ret)
{
    uint32_t i;

    *ret = mesh->stats;
    ret->peers = mesh->peer_count;
    ret->streams = mesh->stream_count;
    for (i = 0; i < mesh->peer_count; i++) {
        ret->links_up += mesh->peers[i]->is_up[MESH_CONTROL];
        ret->calls_out += mesh->peers[i]->rpc_count;
        ret->calls_in += mesh->peers[i]->call_count;
    }
}
