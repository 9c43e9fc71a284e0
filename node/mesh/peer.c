#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

/* Index of @id, or where it would be (then *ret_found is false). */
static uint32_t place_of(const struct node_mesh *mesh,
                         const struct shl_node_id *id,
                         bool *ret_found)
{
    uint32_t low = 0, high = mesh->peer_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = shl_node_id_compare(&mesh->peers[mid]->id, id);

        if (order == 0) {
            *ret_found = true;
            return mid;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *ret_found = false;
    return low;
}

struct mesh_peer *mesh_peer_find(const struct node_mesh *mesh, const struct shl_node_id *id)
{
    bool is_found;
    uint32_t at = place_of(mesh, id, &is_found);

    return is_found ? mesh->peers[at] : NULL;
}

struct mesh_envelope mesh_peer_envelope(const struct mesh_peer *peer)
{
    return (struct mesh_envelope){peer->version ? peer->version : peer->mesh->version_min,
                                  peer->mesh->cluster};
}

bool mesh_peer_is_near(const struct mesh_peer *peer, enum mesh_channel channel)
{
    const struct mesh_tx *tx = &peer->tx[channel];

    return peer->rx[channel].is_open && (tx->state == MESH_TX_HELLO || tx->state == MESH_TX_UP);
}

void mesh_peer_mark_flush(struct mesh_peer *peer)
{
    if (shl_list_empty(&peer->flush) && !peer->is_removed) {
        shl_list_push_back(&peer->mesh->flush, &peer->flush);
        mesh_wake_turn(peer->mesh);
    }
}

static void mark_changed(struct mesh_peer *peer)
{
    if (shl_list_empty(&peer->changed)) {
        shl_list_push_back(&peer->mesh->changed, &peer->changed);
        mesh_wake_turn(peer->mesh);
    }
}

void mesh_peer_tell(struct mesh_peer *peer)
{
    struct node_mesh *mesh = peer->mesh;
    const struct node_mesh_user *user = mesh->user;

    shl_list_remove(&peer->changed);
    if (peer->must_tell_down) {
        peer->must_tell_down = false;
        peer->told_up = false;
        mesh->stats.links_lost++;
        if (user && user->link_down) {
            user->link_down(mesh->arg, &peer->id, peer->trouble);
        }
    }
    /* The callback may have closed the mesh or removed the peer. */
    if (peer->is_up[MESH_CONTROL] && !peer->told_up && !peer->is_removed && !mesh->is_closing) {
        peer->told_up = true;
        peer->trouble[0] = 0;
        if (user && user->link_up) {
            user->link_up(mesh->arg, &peer->id, peer->boot, peer->version);
        }
    }
}

void mesh_peer_reset(struct mesh_peer *peer, enum mesh_channel channel, const char *reason)
{
    if (channel == MESH_CONTROL) {
        mesh_calls_reset(peer);
        mesh_outbox_clear(peer);
        if (peer->told_up && !peer->must_tell_down) {
            if (reason != peer->trouble) {
                (void)snprintf(peer->trouble, sizeof(peer->trouble), "%s", reason);
            }
            peer->must_tell_down = true;
            mark_changed(peer);
        }
    }
    mesh_streams_reset(peer, reason);
}

void mesh_peer_end_rx(struct mesh_peer *peer, enum mesh_channel channel, enum node_mesh_refusal why)
{
    struct mesh_rx *rx = &peer->rx[channel];

    if (rx->is_open) {
        rx->is_open = false;
        mesh_refuse(peer->mesh, channel, &peer->id, shl_bytes_of(rx->routing, rx->routing_len), why,
                    NULL);
    }
}

void mesh_peer_check(struct mesh_peer *peer, enum mesh_channel channel)
{
    bool is_up = peer->rx[channel].is_open && peer->tx[channel].state == MESH_TX_UP;

    if (is_up == peer->is_up[channel]) {
        return;
    }
    peer->is_up[channel] = is_up;
    if (is_up) {
        peer->tx[channel].attempts = 0;
        mesh_peer_mark_flush(peer);
    } else {
        mesh_peer_reset(peer, channel, peer->trouble[0] ? peer->trouble : "the link was lost");
    }
    if (channel == MESH_BULK) {
        peer->bulk_at_ms = 0;
        if (is_up) {
            peer->trouble[0] = 0;
        }
        return;
    }
    mark_changed(peer);
    mesh_link_want(&peer->tx[MESH_BULK], is_up);
    if (!is_up) {
        mesh_peer_end_rx(peer, MESH_BULK, NODE_MESH_REFUSED_RESET);
        mesh_peer_check(peer, MESH_BULK);
    }
}

/* Everything we have belongs to a process that is no more. Should it live after all, it says
 * hello again and is told what is wrong. */
static void take_over(struct mesh_peer *peer)
{
    int channel;

    peer->stream_last = 0;
    for (channel = 0; channel < MESH_CHANNELS; channel++) {
        mesh_peer_end_rx(peer, (enum mesh_channel)channel, NODE_MESH_REFUSED_RESET);
        if (peer->tx[channel].state >= MESH_TX_DIALING) {
            mesh_link_lost(&peer->tx[channel], false, "the node started again");
        }
    }
}

bool mesh_peer_identify(struct mesh_peer *peer, uint64_t boot, uint64_t nonce)
{
    struct node_mesh *mesh = peer->mesh;
    uint64_t now = mesh_now(mesh);

    if (peer->is_claimed && peer->nonce != nonce) {
        /* The counter of starts is durable, so a later start has a higher one. Else this is
         * a copy of the node's files, or its disk went back in time; then the one that was
         * here first stays for as long as it is heard of. */
        if (boot <= peer->boot) {
            if (now - peer->heard_at_ms < mesh->identity_hold_ms) {
                if (mesh->user && mesh->user->conflict) {
                    mesh->user->conflict(mesh->arg, &peer->id);
                }
                return false;
            }
            SHL_LOG(mesh->log, SHL_LOG_WARN, "mesh.boot_went_back", SHL_I("boot", boot),
                    SHL_I("last_boot", peer->boot));
        }
        take_over(peer);
    }
    peer->is_claimed = true;
    peer->boot = boot;
    peer->nonce = nonce;
    peer->heard_at_ms = now;
    return true;
}

/*- The table. */

static struct mesh_peer *new_peer(struct node_mesh *mesh,
                                  const struct shl_node_id *id,
                                  const uint8_t key[NODE_KEY_BYTES])
{
    struct mesh_peer *peer = calloc(1, sizeof(*peer));
    size_t i;

    if (!peer) {
        return NULL;
    }
    peer->mesh = mesh;
    peer->id = *id;
    memcpy(peer->key, key, NODE_KEY_BYTES);
    for (i = 0; i < MESH_CHANNELS; i++) {
        peer->tx[i].peer = peer;
        peer->tx[i].channel = (enum mesh_channel)i;
    }
    for (i = 0; i < MESH_STREAM_BUCKETS; i++) {
        shl_list_init(&peer->streams[i]);
    }
    shl_list_init(&peer->dead);
    shl_list_init(&peer->changed);
    shl_list_init(&peer->control);
    shl_list_init(&peer->flush);
    shl_list_init(&peer->rpcs);
    shl_list_init(&peer->calls);
    shl_list_init(&peer->ready);
    shl_list_init(&peer->credits);
    shl_list_init(&peer->waiting);
    shl_list_init(&peer->cuts);
    peer->admit_tokens_ms = UINT32_MAX; /* a full bucket */
    peer->admit_at_ms = mesh_now(mesh);
    return peer;
}

static int add_peer(struct node_mesh *mesh,
                    const struct shl_node_id *id,
                    const uint8_t key[NODE_KEY_BYTES],
                    struct mesh_peer **ret)
{
    bool is_found;
    uint32_t at = place_of(mesh, id, &is_found);

    if (!is_found) {
        struct mesh_peer *peer;

        if (mesh->peer_count == NODE_MESH_PEERS_MAX) {
            return SHL_ELIMIT;
        }
        peer = new_peer(mesh, id, key);
        if (!peer) {
            return -ENOMEM;
        }
        memmove(&mesh->peers[at + 1], &mesh->peers[at],
                (mesh->peer_count - at) * sizeof(mesh->peers[0]));
        mesh->peers[at] = peer;
        mesh->peer_count++;
    }
    *ret = mesh->peers[at];
    return 0;
}

const struct node_mesh_addr *mesh_peer_addr(const struct mesh_peer *peer)
{
    return peer->addr_at < peer->addr_count ? &peer->addrs[peer->addr_at] : &peer->told;
}

void mesh_peer_next_addr(struct mesh_peer *peer)
{
    uint32_t count = peer->addr_count + (peer->told.host[0] ? 1 : 0);

    peer->addr_at = count > 0 ? (peer->addr_at + 1) % count : 0;
}

/* The owner learns of a new address over a link, and a link needs both directions: without this
 * a node that came back at another address would not be found. Its key proves the hello, and who
 * answers there must prove the same key. */
void mesh_peer_told(struct mesh_peer *peer, const struct node_mesh_addr *addr)
{
    uint32_t i;

    for (i = 0; i < peer->addr_count; i++) {
        if (node_mesh_addr_equal(&peer->addrs[i], addr)) {
            return;
        }
    }
    if (!addr->host[0] || peer->addr_count == 0) {
        return;
    }
    peer->told = *addr;
    if (peer->tx[MESH_CONTROL].state != MESH_TX_UP) {
        peer->addr_at = peer->addr_count;
    }
}

static bool are_valid(const struct node_mesh_addr *addrs, uint32_t count)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        if (!node_mesh_addr_is_valid(&addrs[i])) {
            return false;
        }
    }
    return count <= NODE_MESH_ADDRS_MAX;
}

int node_mesh_set_peer(struct node_mesh *mesh,
                       const struct shl_node_id *id,
                       const uint8_t key[NODE_KEY_BYTES],
                       const struct node_mesh_addr *addrs,
                       uint32_t addr_count,
                       struct shl_err *err)
{
    struct shl_node_id proved;
    struct mesh_peer *peer;
    int rc;

    assert(!mesh->is_closing);
    node_mesh_keys_id(key, &proved);
    if (!shl_node_id_equal(&proved, id)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the node id does not belong to the key");
    }
    if (shl_node_id_equal(id, &mesh->keys.id)) {
        return shl_err_set(err, SHL_EINVALIDARG, "this is our own key");
    }
    if (!are_valid(addrs, addr_count)) {
        return shl_err_set(err, SHL_EINVALIDARG, "an address of the node is not valid");
    }
    rc = add_peer(mesh, id, key, &peer);
    if (rc < 0) {
        return shl_err_set(err, rc, "no room for another node (at most %d)", NODE_MESH_PEERS_MAX);
    }
    if (addr_count != peer->addr_count ||
        (addr_count > 0 && memcmp(peer->addrs, addrs, addr_count * sizeof(*addrs)) != 0)) {
        if (addr_count > 0) {
            memcpy(peer->addrs, addrs, addr_count * sizeof(*addrs));
        }
        peer->addr_count = addr_count;
        peer->addr_at = 0;
        peer->told.host[0] = 0;
        mesh_link_dial_now(&peer->tx[MESH_CONTROL]);
    }
    mesh_link_want(&peer->tx[MESH_CONTROL], addr_count > 0);
    return 0;
}

void mesh_peer_remove(struct mesh_peer *peer, const char *reason)
{
    struct node_mesh *mesh = peer->mesh;
    bool is_found;
    uint32_t at = place_of(mesh, &peer->id, &is_found);

    assert(is_found);
    mesh->peer_count--;
    memmove(&mesh->peers[at], &mesh->peers[at + 1],
            (mesh->peer_count - at) * sizeof(mesh->peers[0]));
    (void)snprintf(peer->trouble, sizeof(peer->trouble), "%s", reason);
    mesh_peer_end_rx(peer, MESH_BULK, NODE_MESH_REFUSED_KEY);
    mesh_peer_end_rx(peer, MESH_CONTROL, NODE_MESH_REFUSED_KEY);
    mesh_link_want(&peer->tx[MESH_BULK], false);
    mesh_link_want(&peer->tx[MESH_CONTROL], false);
    peer->is_up[MESH_CONTROL] = peer->is_up[MESH_BULK] = false;
    mesh_peer_reset(peer, MESH_CONTROL, reason);
    mesh_cuts_clear(peer);
    shl_list_remove(&peer->flush);
    peer->is_removed = true;
    shl_list_push_back(&mesh->dead_peers, &peer->dead);
    mesh_wake_turn(mesh);
}

void node_mesh_remove_peer(struct node_mesh *mesh, const struct shl_node_id *id)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, id);

    if (peer) {
        mesh_peer_remove(peer, "the node was removed from the members");
    }
}

void mesh_peers_bury(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->dead_peers))) {
        struct mesh_peer *peer = shl_container_of(first, struct mesh_peer, dead);

        shl_list_remove(&peer->dead);
        shl_list_remove(&peer->changed);
        assert(peer->stream_count == 0 && peer->rpc_count == 0 && peer->call_count == 0);
        free(peer);
    }
}

bool node_mesh_is_up(const struct node_mesh *mesh, const struct shl_node_id *id)
{
    const struct mesh_peer *peer = mesh_peer_find(mesh, id);

    return peer && peer->is_up[MESH_CONTROL];
}

void node_mesh_dial(struct node_mesh *mesh, const struct shl_node_id *id)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, id);

    if (peer) {
        mesh_link_dial_now(&peer->tx[MESH_CONTROL]);
        mesh_link_dial_now(&peer->tx[MESH_BULK]);
    }
}
