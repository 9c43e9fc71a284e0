#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

/* Opening, accepting and ending of streams. Ids count up on each side for the life of the
 * process and are never used twice, so whatever comes late for an ended stream finds
 * nothing. A stream exists while the control channel is up; the loss of either channel ends
 * all of them. */

static struct shl_list *bucket_of(struct mesh_peer *peer, uint64_t id)
{
    return &peer->streams[id % MESH_STREAM_BUCKETS];
}

static struct mesh_stream *find_stream(struct mesh_peer *peer, uint64_t id, bool opened)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, bucket_of(peer, id)) {
        struct mesh_stream *s = shl_container_of(it, struct mesh_stream, bucket);

        if (s->id == id && s->opened == opened) {
            return s;
        }
    }
    return NULL;
}

static struct mesh_stream *new_stream(struct mesh_peer *peer, uint64_t id, bool opened)
{
    struct node_mesh *mesh = peer->mesh;
    struct mesh_stream *s = calloc(1, sizeof(*s));

    if (!s) {
        return NULL;
    }
    s->base.carrier = &mesh_stream_carrier;
    s->base.peer = peer->id;
    s->peer = peer;
    s->mesh = mesh;
    s->id = id;
    s->opened = opened;
    shl_list_init(&s->ready);
    shl_list_init(&s->credit);
    shl_list_init(&s->waiting);
    shl_list_init(&s->wake);
    shl_list_init(&s->frames);
    shl_list_init(&s->pieces);
    s->credit_left = MESH_STREAM_FIRST;
    s->granted = s->expected = MESH_STREAM_FIRST;
    shl_list_push_back(bucket_of(peer, id), &s->bucket);
    peer->granted_bytes += s->granted;
    mesh->stats.receive_granted_bytes += s->granted;
    peer->stream_count++;
    mesh->stream_count++;
    mesh->stats.streams_opened++;
    return s;
}

void mesh_stream_end(struct mesh_stream *s, int code, const char *msg)
{
    struct mesh_peer *peer = s->peer;
    struct node_mesh *mesh = s->mesh;

    if (!peer) {
        return;
    }
    mesh_stream_drop(s);
    shl_list_remove(&s->bucket);
    shl_list_remove(&s->ready);
    shl_list_remove(&s->credit);
    if (!shl_list_empty(&s->waiting)) {
        shl_list_remove(&s->waiting);
        mesh->waiting_count--;
    }
    peer->granted_bytes -= s->granted;
    mesh->stats.receive_granted_bytes -= s->granted;
    peer->stream_count--;
    mesh->stream_count--;
    if (code < 0) {
        mesh->stats.streams_cut++;
    }
    s->peer = NULL;
    s->code = code;
    (void)snprintf(s->msg, sizeof(s->msg), "%s", msg ? msg : shl_err_text(code));
    shl_list_remove(&s->wake);
    shl_list_push_back(&mesh->ended, &s->wake);
    mesh_wake_turn(mesh);
}

void mesh_streams_deliver(struct node_mesh *mesh)
{
    struct shl_list now = SHL_LIST_INIT(now);
    struct shl_list *first;

    /* Who is woken again meanwhile has to wait for the next turn. */
    if (!shl_list_empty(&mesh->wakes)) {
        shl_list_push_back(&mesh->wakes, &now);
        shl_list_remove(&mesh->wakes);
    }
    while ((first = shl_list_first(&now))) {
        struct mesh_stream *s = shl_container_of(first, struct mesh_stream, wake);

        shl_list_remove(&s->wake);
        if (!mesh->is_closing) {
            mesh_stream_wake(s);
        }
    }
    while ((first = shl_list_first(&mesh->ended))) {
        struct mesh_stream *s = shl_container_of(first, struct mesh_stream, wake);

        shl_list_remove(&s->wake);
        if (s->base.user && s->base.user->closed) {
            s->base.user->closed(s->base.arg, s->code, s->code < 0 ? s->msg : NULL);
        }
        free(s);
    }
}

/*- Cuts outlive their stream until they are sent. */

static void push_cut(struct mesh_peer *peer, uint64_t id, bool opened, int code, const char *msg)
{
    struct mesh_cut *cut;

    if (!mesh_peer_is_near(peer, MESH_BULK)) {
        return; /* the loss of the channel says the same */
    }
    if (peer->cut_count >= MESH_CUTS_MAX || !(cut = calloc(1, sizeof(*cut)))) {
        /* It opens faster than it hears that it may not. */
        mesh_refuse_session(peer, MESH_BULK, NODE_MESH_REFUSED_RATE,
                            "too many streams were refused without it listening");
        return;
    }
    cut->id = id;
    cut->opened = opened;
    cut->code = code;
    (void)snprintf(cut->msg, sizeof(cut->msg), "%s", msg ? msg : shl_err_text(code));
    shl_list_push_back(&peer->cuts, &cut->link);
    peer->cut_count++;
    mesh_peer_mark_flush(peer);
}

void mesh_cuts_clear(struct mesh_peer *peer)
{
    struct shl_list *first;

    while ((first = shl_list_first(&peer->cuts))) {
        shl_list_remove(first);
        free(shl_container_of(first, struct mesh_cut, link));
    }
    peer->cut_count = 0;
}

/* End it on both sides. */
static void cut_stream(struct mesh_stream *s, int code, const char *msg)
{
    struct mesh_peer *peer = s->peer;
    uint64_t id = s->id;
    bool opened = s->opened;
    bool is_known = s->is_open_sent || !opened;

    mesh_stream_end(s, code, msg);
    if (is_known) {
        push_cut(peer, id, opened, code, msg);
    }
}

static void stream_abort(struct node_stream *base, int code, const char *msg)
{
    struct mesh_stream *s = shl_container_of(base, struct mesh_stream, base);

    assert(code < 0);
    if (s->peer) {
        cut_stream(s, code, msg);
    }
}

void mesh_streams_reset(struct mesh_peer *peer, const char *reason)
{
    char msg[SHL_ERR_TEXT_MAX];
    size_t i;

    if (peer->stream_count > 0) {
        (void)snprintf(msg, sizeof(msg), "the link to the other node was lost: %.200s", reason);
        for (i = 0; i < MESH_STREAM_BUCKETS; i++) {
            struct shl_list *first;

            while ((first = shl_list_first(&peer->streams[i]))) {
                cut_stream(shl_container_of(first, struct mesh_stream, bucket), SHL_EUNAVAILABLE,
                           msg);
            }
        }
    }
    peer->bulk_at_ms = 0;
    if (!mesh_peer_is_near(peer, MESH_BULK)) {
        mesh_cuts_clear(peer);
    }
}

/*- Opening. */

static int check_open(const struct node_mesh *mesh,
                      const struct mesh_peer *peer,
                      struct shl_bytes head,
                      struct shl_err *err)
{
    if (mesh->is_closing || !peer || !peer->is_up[MESH_CONTROL]) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "there is no link to that node right now%s%s",
                           peer && peer->trouble[0] ? ": " : "", peer ? peer->trouble : "");
    }
    if (head.len > NODE_STREAM_HEAD_MAX) {
        return shl_err_set(err, SHL_ELIMIT,
                           "the head of a stream is too large (%zu bytes, at "
                           "most %u)",
                           head.len, NODE_STREAM_HEAD_MAX);
    }
    if (peer->stream_count >= NODE_MESH_STREAMS_PEER_MAX ||
        mesh->stream_count >= NODE_MESH_STREAMS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "too many streams between nodes are open");
    }
    return 0;
}

static int queue_open(struct mesh_stream *s, const char *kind, struct shl_bytes head)
{
    struct mesh_envelope env = mesh_peer_envelope(s->peer);
    struct shl_buf buf;
    struct mesh_out *out;

    shl_buf_init(&buf, head.len + MESH_OVERHEAD_MAX);
    if (mesh_write_open(&buf, &env, s->id, kind, head) < 0) {
        shl_buf_release(&buf);
        return -ENOMEM;
    }
    out = mesh_out_new(&buf, 0, NULL, NULL);
    if (!out) {
        return -ENOMEM;
    }
    mesh_stream_queue(s, out);
    return 0;
}

static int open_stream(struct node_stream_opener *opener,
                       const struct shl_node_id *to,
                       const char *kind,
                       struct shl_bytes head,
                       const struct node_stream_user *user,
                       void *arg,
                       struct node_stream **ret,
                       struct shl_err *err)
{
    struct node_mesh *mesh = shl_container_of(opener, struct node_mesh, opener);
    struct mesh_peer *peer = mesh_peer_find(mesh, to);
    struct mesh_stream *s;
    int rc = check_open(mesh, peer, head, err);

    assert(mesh_kind_is_valid(kind));
    if (rc < 0) {
        return rc;
    }
    s = new_stream(peer, ++mesh->serial, true);
    if (!s) {
        return shl_err_set(err, -ENOMEM, "no memory for a stream");
    }
    node_stream_set_user(&s->base, user, arg);
    rc = queue_open(s, kind, head);
    if (rc < 0) {
        mesh_stream_end(s, rc, NULL);
        shl_list_remove(&s->wake);
        free(s);
        return shl_err_set(err, rc, "no memory for a stream");
    }
    if (!peer->is_up[MESH_BULK] && peer->bulk_at_ms == 0) {
        peer->bulk_at_ms = mesh_now(mesh) + MESH_BULK_WAIT_MS;
        mesh_wake_at(mesh, peer->bulk_at_ms);
    }
    *ret = &s->base;
    return 0;
}

void mesh_streams_tick(struct node_mesh *mesh)
{
    uint64_t now = mesh_now(mesh);
    uint32_t i;

    for (i = 0; i < mesh->peer_count; i++) {
        struct mesh_peer *peer = mesh->peers[i];

        if (peer->bulk_at_ms != 0 && peer->bulk_at_ms <= now) {
            mesh_streams_reset(peer, "no connection for bulk data came about");
        } else if (peer->bulk_at_ms != 0) {
            mesh_wake_at(mesh, peer->bulk_at_ms);
        }
    }
}

struct node_stream_opener *node_mesh_opener(struct node_mesh *mesh)
{
    return &mesh->opener;
}

void node_mesh_accept(struct node_mesh *mesh,
                      const char *kind,
                      node_stream_accept accept,
                      void *arg)
{
    mesh_handler_add(&mesh->streams, kind, arg)->accept = accept;
}

void mesh_streams_init(struct node_mesh *mesh)
{
    mesh->opener.open = open_stream;
    shl_list_init(&mesh->wakes);
    shl_list_init(&mesh->ended);
}

/*- What the peer says. */

static void on_open(struct mesh_peer *peer, const struct mesh_message *msg)
{
    struct node_mesh *mesh = peer->mesh;
    const struct mesh_handler *handler = mesh_handler_find(&mesh->streams, msg->kind);
    struct shl_err err = {0};
    struct mesh_stream *s;
    int rc;

    if (msg->id <= peer->stream_last || msg->body.len > NODE_STREAM_HEAD_MAX) {
        mesh_refuse_session(peer, MESH_BULK,
                            msg->body.len > NODE_STREAM_HEAD_MAX ? NODE_MESH_REFUSED_OVERSIZED
                                                                 : NODE_MESH_REFUSED_GARBAGE,
                            "in the opening of a stream");
        return;
    }
    peer->stream_last = msg->id;
    if (!handler) {
        mesh->stats.unknown++;
        push_cut(peer, msg->id, false, SHL_ENOTFOUND, "this node has no such kind of stream");
        return;
    }
    if (peer->stream_count >= NODE_MESH_STREAMS_PEER_MAX ||
        mesh->stream_count >= NODE_MESH_STREAMS_MAX || !(s = new_stream(peer, msg->id, false))) {
        push_cut(peer, msg->id, false, SHL_ELIMIT, "too many streams between nodes are open");
        return;
    }
    rc = handler->accept(handler->arg, &s->base, msg->body, &err);
    if (rc < 0 && s->peer) {
        s->base.user = NULL; /* nobody took it, nobody is told */
        cut_stream(s, rc, err.code ? err.msg : NULL);
    }
    assert(rc < 0 || s->base.user);
}

static void on_data(struct mesh_stream *s, const struct mesh_message *msg, zmq_msg_t *raw)
{
    if (msg->body.len > s->expected || s->has_end) {
        mesh_refuse_session(s->peer, MESH_BULK, NODE_MESH_REFUSED_CREDIT, NULL);
        return;
    }
    s->expected -= msg->body.len;
    s->mesh->stats.stream_bytes_in += msg->body.len;
    mesh_stream_receive(s, msg->body, raw);
}

static void on_credit(struct mesh_stream *s, uint64_t more)
{
    /* No honest peer lets more than a window be under way. */
    if (more == 0 || s->credit_left + more > UINT32_MAX) {
        mesh_refuse_session(s->peer, MESH_BULK, NODE_MESH_REFUSED_CREDIT, "it grants too much");
        return;
    }
    s->credit_left += more;
    if (s->wants_writable) {
        mesh_stream_mark_wake(s);
    }
}

void mesh_on_stream(struct mesh_peer *peer, const struct mesh_message *msg, zmq_msg_t *raw)
{
    struct mesh_stream *s;

    if (!mesh_peer_is_near(peer, MESH_BULK) || !mesh_peer_is_near(peer, MESH_CONTROL)) {
        peer->mesh->stats.stale++;
        mesh_refuse_session(peer, MESH_BULK, NODE_MESH_REFUSED_RESET, NULL);
        return;
    }
    if (msg->type == MESH_OPEN) {
        on_open(peer, msg);
        return;
    }
    s = find_stream(peer, msg->id, !msg->opened);
    if (!s) {
        peer->mesh->stats.stale++;
    } else if (msg->type == MESH_DATA || msg->type == MESH_PART) {
        on_data(s, msg, raw);
    } else if (msg->type == MESH_CREDIT) {
        on_credit(s, msg->number);
    } else if (msg->type == MESH_END) {
        s->has_end = true;
        mesh_stream_mark_wake(s);
    } else {
        mesh_stream_end(s, msg->code < 0 ? (int)msg->code : SHL_EPROTO,
                        msg->text[0] ? msg->text : NULL);
    }
}

/*- The functions of stream.h. */

const struct node_stream_carrier mesh_stream_carrier = {
    .write = mesh_stream_write,
    .give = mesh_stream_give,
    .finish = mesh_stream_finish,
    .abort = stream_abort,
    .resume = mesh_stream_resume,
};
