#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

/* Bytes of streams. Sending: a write becomes frames that wait in the stream, never more than
 * the peer gave credit for; streams with frames take turns, a frame at a time, whenever the
 * pipe has room. Receiving: what the reader does not take stays in the ZeroMQ message it
 * came in, never more than was granted. */

/* A message that was not taken whole. */
struct piece {
    struct shl_list link;
    zmq_msg_t msg;
    struct shl_bytes left;
};

void mesh_stream_mark_ready(struct mesh_stream *s)
{
    if (shl_list_empty(&s->ready)) {
        shl_list_push_back(&s->peer->ready, &s->ready);
    }
    mesh_peer_mark_flush(s->peer);
}

void mesh_stream_mark_wake(struct mesh_stream *s)
{
    if (shl_list_empty(&s->wake)) {
        shl_list_push_back(&s->mesh->wakes, &s->wake);
        mesh_wake_turn(s->mesh);
    }
}

static void count_frame(struct mesh_stream *s, ptrdiff_t cost)
{
    s->frame_bytes += cost;
    s->peer->send_bytes += cost;
    s->mesh->stats.send_queue_bytes += cost;
}

void mesh_stream_queue(struct mesh_stream *s, struct mesh_out *out)
{
    shl_list_push_back(&s->frames, &out->link);
    count_frame(s, (ptrdiff_t)out->cost);
    mesh_stream_mark_ready(s);
}

static void pop_frame(struct mesh_stream *s, struct mesh_out *out)
{
    count_frame(s, -(ptrdiff_t)out->cost);
    mesh_out_free(out);
}

static void count_piece(struct mesh_stream *s, ptrdiff_t bytes)
{
    s->piece_bytes += bytes;
    s->peer->receive_bytes += bytes;
    s->mesh->stats.receive_queue_bytes += bytes;
}

static void pop_piece(struct piece *piece)
{
    shl_list_remove(&piece->link);
    (void)zmq_msg_close(&piece->msg);
    free(piece);
}

void mesh_stream_drop(struct mesh_stream *s)
{
    struct shl_list *first;

    while ((first = shl_list_first(&s->frames))) {
        pop_frame(s, shl_container_of(first, struct mesh_out, link));
    }
    while ((first = shl_list_first(&s->pieces))) {
        pop_piece(shl_container_of(first, struct piece, link));
    }
    count_piece(s, -(ptrdiff_t)s->piece_bytes);
}

/*- Writing. */

/* Room in the queues of peer and node; a little is as good as none. */
static size_t queue_room(const struct mesh_stream *s)
{
    size_t peer = s->peer->send_bytes, all = s->mesh->stats.send_queue_bytes;

    if (peer >= NODE_MESH_SEND_QUEUE_MAX || all >= NODE_MESH_SEND_GLOBAL_MAX) {
        return 0;
    }
    return SHL_MIN(NODE_MESH_SEND_QUEUE_MAX - peer, NODE_MESH_SEND_GLOBAL_MAX - all);
}

static bool queue_frame(struct mesh_stream *s, struct shl_bytes bytes)
{
    struct mesh_envelope env = mesh_peer_envelope(s->peer);
    struct mesh_pool *pool = &s->mesh->pool;
    mesh_free_fn give_back;
    struct mesh_out *out;
    struct shl_buf buf;

    give_back = mesh_pool_buf(pool, &buf, bytes.len + MESH_OVERHEAD_MAX);
    if (mesh_write_data(&buf, &env, s->id, s->opened, bytes) < 0) {
        shl_buf_release(&buf);
        return false;
    }
    out = mesh_out_new(&buf, bytes.len, give_back, pool);
    if (out) {
        mesh_stream_queue(s, out);
    }
    return out != NULL;
}

/* Small writes cost more than their bytes, so the queues count that, and a stream may not
 * hold more than a window of it either. */
static size_t room_of(const struct mesh_stream *s)
{
    size_t room = SHL_MIN((size_t)s->credit_left, queue_room(s));

    return s->frame_bytes > 2 * (size_t)NODE_STREAM_WINDOW ? 0 : room;
}

/* For the queues; without credit the peer's next message wakes it. */
static void wait_for_room(struct mesh_stream *s)
{
    if (s->credit_left > 0 && shl_list_empty(&s->waiting)) {
        shl_list_push_back(&s->peer->waiting, &s->waiting);
        s->mesh->waiting_count++;
        mesh_wake_turn(s->mesh);
    }
}

size_t mesh_stream_write(struct node_stream *base, struct shl_bytes data)
{
    struct mesh_stream *s = shl_container_of(base, struct mesh_stream, base);
    size_t taken = 0;

    assert(!s->is_finished);
    while (s->peer && taken < data.len) {
        size_t len = SHL_MIN(SHL_MIN(data.len - taken, room_of(s)), (size_t)MESH_FRAME_BYTES_MAX);

        if (len == 0 || !queue_frame(s, shl_bytes_of(data.base + taken, len))) {
            break;
        }
        s->credit_left -= len;
        taken += len;
    }
    if (s->peer && taken < data.len) {
        s->wants_writable = true;
        wait_for_room(s);
    }
    return taken;
}

static bool queue_part(struct mesh_stream *s,
                       struct shl_bytes bytes,
                       node_stream_release release,
                       void *arg)
{
    struct mesh_envelope env = mesh_peer_envelope(s->peer);
    struct mesh_out *out;
    struct shl_buf buf;

    shl_buf_init(&buf, MESH_OVERHEAD_MAX);
    if (mesh_write_part(&buf, &env, s->id, s->opened, bytes.len) < 0) {
        shl_buf_release(&buf);
        return false;
    }
    out = mesh_out_new(&buf, 0, NULL, NULL);
    if (!out) {
        return false;
    }
    if (mesh_out_give(out, bytes, release, arg) < 0) {
        mesh_out_free(out);
        return false;
    }
    mesh_stream_queue(s, out);
    return true;
}

size_t mesh_stream_give(struct node_stream *base,
                        struct shl_bytes data,
                        node_stream_release release,
                        void *arg)
{
    struct mesh_stream *s = shl_container_of(base, struct mesh_stream, base);
    size_t taken;

    assert(!s->is_finished);
    /* Of little, a second part costs more than a copy. */
    if (s->peer && s->peer->version >= MESH_VERSION_PARTS && data.len >= MESH_POOL_FROM &&
        data.len <= MESH_FRAME_BYTES_MAX && data.len <= room_of(s) &&
        queue_part(s, data, release, arg)) {
        s->credit_left -= data.len;
        return data.len;
    }
    taken = mesh_stream_write(base, data);
    if (taken == data.len) {
        release((void *)(uintptr_t)data.base, arg);
    }
    return taken;
}

static bool has_room(const struct mesh_stream *s)
{
    return s->peer->send_bytes < NODE_MESH_SEND_QUEUE_MAX / 2 &&
           s->mesh->stats.send_queue_bytes < NODE_MESH_SEND_GLOBAL_MAX / 2 &&
           s->frame_bytes <= NODE_STREAM_WINDOW;
}

void mesh_streams_room(struct node_mesh *mesh)
{
    uint32_t i;

    for (i = 0; i < mesh->peer_count; i++) {
        struct shl_list *it, *tmp;

        SHL_LIST_FOREACH_SAFE(it, tmp, &mesh->peers[i]->waiting) {
            struct mesh_stream *s = shl_container_of(it, struct mesh_stream, waiting);

            if (has_room(s)) {
                shl_list_remove(&s->waiting);
                mesh->waiting_count--;
                mesh_stream_mark_wake(s);
            }
        }
    }
}

void mesh_stream_finish(struct node_stream *base)
{
    struct mesh_stream *s = shl_container_of(base, struct mesh_stream, base);

    assert(!s->is_finished);
    s->is_finished = true;
    s->wants_writable = false;
    if (s->peer) {
        mesh_stream_mark_ready(s);
    }
}

/*- Sending what waits. */

/* False when the pipe is full. @rc is that of writing @buf. */
static bool send_small(struct mesh_tx *tx, struct shl_buf *buf, int rc)
{
    zmq_msg_t msg;

    if (rc < 0 || mesh_msg_of(&msg, buf) < 0) {
        shl_buf_release(buf);
        return false;
    }
    if (mesh_socket_send(tx->socket, &msg) < 0) {
        (void)zmq_msg_close(&msg);
        return false;
    }
    return true;
}

static bool flush_cuts(struct mesh_peer *peer)
{
    struct mesh_envelope env = mesh_peer_envelope(peer);
    struct shl_list *first;

    while ((first = shl_list_first(&peer->cuts))) {
        struct mesh_cut *cut = shl_container_of(first, struct mesh_cut, link);
        struct shl_buf buf;

        shl_buf_init(&buf, MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
        if (!send_small(&peer->tx[MESH_BULK], &buf,
                        mesh_write_cut(&buf, &env, cut->id, cut->opened, cut->code, cut->msg))) {
            return false;
        }
        shl_list_remove(&cut->link);
        peer->cut_count--;
        free(cut);
    }
    return true;
}

/* What the reader has room for again, when that is worth a message. A stream that moves
 * data gets the whole window if the budgets allow. */
static uint64_t due_credit(struct mesh_stream *s)
{
    struct mesh_peer *peer = s->peer;
    uint64_t wish = NODE_STREAM_WINDOW - s->granted;
    uint64_t under_way = s->expected + s->piece_bytes;

    if (s->has_end || under_way > s->granted / 2) {
        return 0;
    }
    if (wish > 0 && peer->granted_bytes + wish <= NODE_MESH_RECEIVE_QUEUE_MAX &&
        s->mesh->stats.receive_granted_bytes + wish <= NODE_MESH_RECEIVE_GLOBAL_MAX) {
        s->granted += wish;
        peer->granted_bytes += wish;
        s->mesh->stats.receive_granted_bytes += wish;
    }
    return s->granted - under_way;
}

static bool flush_credits(struct mesh_peer *peer)
{
    struct mesh_envelope env = mesh_peer_envelope(peer);
    struct shl_list *first;

    while ((first = shl_list_first(&peer->credits))) {
        struct mesh_stream *s = shl_container_of(first, struct mesh_stream, credit);
        uint64_t more = due_credit(s);
        struct shl_buf buf;

        if (more > 0) {
            shl_buf_init(&buf, MESH_OVERHEAD_MAX);
            if (!send_small(&peer->tx[MESH_BULK], &buf,
                            mesh_write_credit(&buf, &env, s->id, s->opened, more))) {
                return false;
            }
            s->expected += more;
        }
        shl_list_remove(&s->credit);
    }
    return true;
}

/* Both directions are through. */
static void check_complete(struct mesh_stream *s)
{
    if (s->is_end_sent && s->told_end) {
        mesh_stream_end(s, 0, NULL);
    }
}

static bool flush_end(struct mesh_stream *s)
{
    struct mesh_envelope env = mesh_peer_envelope(s->peer);
    struct shl_buf buf;

    shl_buf_init(&buf, MESH_OVERHEAD_MAX);
    if (!send_small(&s->peer->tx[MESH_BULK], &buf, mesh_write_end(&buf, &env, s->id, s->opened))) {
        return false;
    }
    s->is_end_sent = true;
    check_complete(s);
    return true;
}

static bool flush_frame(struct mesh_stream *s)
{
    struct mesh_out *out = shl_container_of(shl_list_first(&s->frames), struct mesh_out, link);

    if (mesh_socket_send_out(s->peer->tx[MESH_BULK].socket, out) < 0) {
        return false;
    }
    s->is_open_sent = true; /* the first frame of one we opened */
    s->mesh->stats.stream_bytes_out += out->payload;
    pop_frame(s, out);
    return true;
}

/* One message of the stream whose turn it is; then the next one's turn. */
static bool flush_stream(struct mesh_stream *s)
{
    struct mesh_peer *peer = s->peer;
    bool is_frame = !shl_list_empty(&s->frames);
    bool is_end = !is_frame && s->is_finished && !s->is_end_sent;

    if ((is_frame && !flush_frame(s)) || (is_end && !flush_end(s))) {
        return false;
    }
    if (!s->peer) {
        return true; /* that was its end */
    }
    shl_list_remove(&s->ready);
    if (!shl_list_empty(&s->frames) || (s->is_finished && !s->is_end_sent)) {
        shl_list_push_back(&peer->ready, &s->ready);
    }
    return true;
}

void mesh_streams_flush(struct mesh_peer *peer)
{
    struct mesh_tx *tx = &peer->tx[MESH_BULK];
    /* Only when both halves are there: before, the peer could not answer and would say so. */
    bool is_open = peer->is_up[MESH_BULK] && !tx->is_blocked;
    struct shl_list *first;

    if (!is_open) {
        return;
    }
    is_open = flush_cuts(peer) && flush_credits(peer);
    while (is_open && (first = shl_list_first(&peer->ready))) {
        is_open = flush_stream(shl_container_of(first, struct mesh_stream, ready));
    }
    tx->is_blocked = !is_open;
}

/*- Receiving. */

static void mark_credit(struct mesh_stream *s)
{
    if (s->expected + s->piece_bytes <= s->granted / 2 && shl_list_empty(&s->credit)) {
        shl_list_push_back(&s->peer->credits, &s->credit);
        mesh_peer_mark_flush(s->peer);
    }
}

/* Offers @bytes and moves it past what was taken. */
static void offer(struct mesh_stream *s, struct shl_bytes *bytes)
{
    while (s->peer && !s->is_paused && bytes->len > 0) {
        size_t len = SHL_MIN(bytes->len, (size_t)NODE_STREAM_PIECE_MAX);
        size_t taken = s->base.user->data(s->base.arg, shl_bytes_of(bytes->base, len));

        assert(taken <= len);
        bytes->base += taken;
        bytes->len -= taken;
        s->is_paused = s->is_paused || taken < len;
    }
}

void mesh_stream_receive(struct mesh_stream *s, struct shl_bytes bytes, zmq_msg_t *raw)
{
    struct piece *piece;
    size_t at;

    if (shl_list_empty(&s->pieces)) {
        offer(s, &bytes);
    }
    if (!s->peer) {
        return;
    }
    if (bytes.len > 0) {
        piece = malloc(sizeof(*piece));
        if (!piece) {
            node_stream_abort(&s->base, -ENOMEM, NULL);
            return;
        }
        /* A small message carries its bytes in itself, so they move with it. */
        at = (size_t)(bytes.base - (const uint8_t *)zmq_msg_data(raw));
        (void)zmq_msg_init(&piece->msg);
        (void)zmq_msg_move(&piece->msg, raw);
        piece->left = shl_bytes_of((const uint8_t *)zmq_msg_data(&piece->msg) + at, bytes.len);
        shl_list_push_back(&s->pieces, &piece->link);
        count_piece(s, (ptrdiff_t)bytes.len);
    }
    mark_credit(s);
}

static void offer_pieces(struct mesh_stream *s)
{
    struct shl_list *first;

    while (s->peer && !s->is_paused && (first = shl_list_first(&s->pieces))) {
        struct piece *piece = shl_container_of(first, struct piece, link);
        size_t before = piece->left.len;

        /* Out of the list: the reader may abort, and still look at the bytes. */
        shl_list_remove(first);
        offer(s, &piece->left);
        if (s->peer) {
            count_piece(s, -(ptrdiff_t)(before - piece->left.len));
            if (piece->left.len > 0) {
                shl_list_push_front(&s->pieces, first);
                break;
            }
        }
        pop_piece(piece);
    }
    if (s->peer) {
        mark_credit(s);
    }
}

void mesh_stream_resume(struct node_stream *base)
{
    struct mesh_stream *s = shl_container_of(base, struct mesh_stream, base);

    s->is_paused = false;
    if (s->peer) {
        mesh_stream_mark_wake(s);
    }
}

void mesh_stream_wake(struct mesh_stream *s)
{
    offer_pieces(s);
    if (s->peer && s->has_end && !s->told_end && shl_list_empty(&s->pieces)) {
        s->told_end = true;
        if (s->base.user->end) {
            s->base.user->end(s->base.arg);
        }
        if (s->peer) {
            check_complete(s);
        }
    }
    if (!s->peer || !s->wants_writable) {
        return;
    }
    if (room_of(s) == 0) {
        wait_for_room(s);
    } else if (shl_list_empty(&s->waiting)) {
        s->wants_writable = false;
        if (s->base.user->writable) {
            s->base.user->writable(s->base.arg);
        }
    }
}
