#include "node/mesh/mesh_private.h"

int mesh_outbox_push(struct mesh_peer *peer, struct mesh_out *out)
{
    struct node_mesh *mesh = peer->mesh;

    if (peer->control_bytes + out->cost > NODE_MESH_CONTROL_QUEUE_MAX) {
        mesh->stats.dropped++;
        mesh_out_free(out);
        return SHL_ELIMIT;
    }
    peer->control_bytes += out->cost;
    mesh->stats.control_queue_bytes += out->cost;
    shl_list_push_back(&peer->control, &out->link);
    mesh_peer_mark_flush(peer);
    return 0;
}

static void pop(struct mesh_peer *peer, struct mesh_out *out)
{
    peer->control_bytes -= out->cost;
    peer->mesh->stats.control_queue_bytes -= out->cost;
    mesh_out_free(out);
}

void mesh_outbox_clear(struct mesh_peer *peer)
{
    struct shl_list *first;

    while ((first = shl_list_first(&peer->control))) {
        peer->mesh->stats.dropped++;
        pop(peer, shl_container_of(first, struct mesh_out, link));
    }
}

static void flush_control(struct mesh_peer *peer)
{
    struct mesh_tx *tx = &peer->tx[MESH_CONTROL];
    struct shl_list *first;

    while (tx->state == MESH_TX_UP && !tx->is_blocked && (first = shl_list_first(&peer->control))) {
        struct mesh_out *out = shl_container_of(first, struct mesh_out, link);

        if (mesh_socket_send(tx->socket, &out->msg) < 0) {
            tx->is_blocked = true; /* until POLLOUT */
            break;
        }
        peer->mesh->stats.messages_out++;
        peer->mesh->stats.bytes_out += out->cost - MESH_MESSAGE_COST;
        pop(peer, out);
    }
}

void mesh_flush(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->flush))) {
        struct mesh_peer *peer = shl_container_of(first, struct mesh_peer, flush);

        shl_list_remove(&peer->flush);
        flush_control(peer);
        mesh_streams_flush(peer);
    }
    if (mesh->waiting_count > 0) {
        mesh_streams_room(mesh);
    }
}
