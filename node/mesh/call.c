#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

struct node_mesh_rpc {
    struct shl_list link;   /* in peer->rpcs, or in mesh->failed */
    struct mesh_peer *peer; /* NULL in mesh->failed */
    uint64_t id;
    uint64_t deadline_ms;
    node_mesh_on_reply on_reply;
    void *arg;
    int code;
    const char *msg; /* static */
};

struct node_mesh_call {
    struct shl_list link;   /* in peer->calls, or in mesh->strays */
    struct node_mesh *mesh; /* NULL once it closed */
    struct mesh_peer *peer; /* NULL when the link is lost, and for guests */
    uint64_t id;
    uint64_t deadline_ms;
    uint8_t routing[MESH_ROUTING_MAX]; /* of a join, else empty */
    size_t routing_len;
};

/*- Handlers. */

const struct mesh_handler *mesh_handler_find(const struct mesh_handlers *handlers, const char *name)
{
    uint32_t i;

    for (i = 0; i < handlers->count; i++) {
        if (strcmp(handlers->list[i].name, name) == 0) {
            return &handlers->list[i];
        }
    }
    return NULL;
}

struct mesh_handler *mesh_handler_add(struct mesh_handlers *handlers, const char *name, void *arg)
{
    struct mesh_handler *handler;

    assert(mesh_kind_is_valid(name));
    assert(!mesh_handler_find(handlers, name));
    assert(handlers->count < NODE_MESH_KINDS_MAX);
    handler = &handlers->list[handlers->count++];
    handler->name = name;
    handler->arg = arg;
    return handler;
}

void node_mesh_on(struct node_mesh *mesh,
                  const char *kind,
                  uint32_t body_max,
                  node_mesh_on_message on_message,
                  void *arg)
{
    struct mesh_handler *handler = mesh_handler_add(&mesh->kinds, kind, arg);

    assert(body_max <= NODE_MESH_BODY_MAX);
    handler->body_max = body_max;
    handler->on_message = on_message;
}

void node_mesh_serve(struct node_mesh *mesh,
                     const char *method,
                     uint32_t body_max,
                     node_mesh_on_call on_call,
                     void *arg)
{
    struct mesh_handler *handler = mesh_handler_add(&mesh->methods, method, arg);

    assert(body_max <= NODE_MESH_BODY_MAX);
    handler->body_max = body_max;
    handler->on_call = on_call;
}

/*- One-way messages. */

static int push(struct mesh_peer *peer, struct shl_buf *buf, int rc)
{
    struct mesh_out *out;

    if (rc < 0) {
        shl_buf_release(buf);
        return rc;
    }
    out = mesh_out_new(buf, 0, NULL, NULL);
    return out ? mesh_outbox_push(peer, out) : -ENOMEM;
}

int node_mesh_send(struct node_mesh *mesh,
                   const struct shl_node_id *to,
                   const char *kind,
                   struct shl_bytes body)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, to);
    const struct mesh_handler *handler = mesh_handler_find(&mesh->kinds, kind);
    struct mesh_envelope env;
    struct shl_buf buf;

    assert(mesh_kind_is_valid(kind));
    if (mesh->is_closing || !peer || !peer->is_up[MESH_CONTROL]) {
        return SHL_EUNAVAILABLE;
    }
    if (body.len > (handler ? handler->body_max : NODE_MESH_BODY_MAX)) {
        return SHL_ELIMIT; /* the peer would refuse it, and the link with it */
    }
    env = mesh_peer_envelope(peer);
    shl_buf_init(&buf, body.len + MESH_OVERHEAD_MAX);
    return push(peer, &buf, mesh_write_one_way(&buf, &env, kind, body));
}

void mesh_on_one_way(struct mesh_peer *peer, const struct mesh_message *msg)
{
    struct node_mesh *mesh = peer->mesh;
    const struct mesh_handler *handler = mesh_handler_find(&mesh->kinds, msg->kind);
    char detail[96];

    if (!handler) {
        mesh->stats.unknown++;
    } else if (msg->body.len > handler->body_max) {
        (void)snprintf(detail, sizeof(detail), "%zu bytes of kind %s, at most %u", msg->body.len,
                       handler->name, handler->body_max);
        mesh_refuse_session(peer, MESH_CONTROL, NODE_MESH_REFUSED_OVERSIZED, detail);
    } else {
        handler->on_message(handler->arg, &peer->id, msg->body);
    }
}

/*- Asking. */

static void forget_rpc(struct node_mesh_rpc *rpc)
{
    shl_list_remove(&rpc->link);
    if (rpc->peer) {
        rpc->peer->rpc_count--;
    }
    free(rpc);
}

/* Told in the next turn: the caller may be inside a function of the mesh. */
static void fail_rpc(struct node_mesh_rpc *rpc, int code, const char *msg)
{
    struct node_mesh *mesh = rpc->peer->mesh;

    mesh->stats.calls_failed++;
    shl_list_remove(&rpc->link);
    rpc->peer->rpc_count--;
    rpc->peer = NULL;
    rpc->code = code;
    rpc->msg = msg;
    shl_list_push_back(&mesh->failed, &rpc->link);
    mesh_wake_turn(mesh);
}

void mesh_calls_deliver(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->failed))) {
        struct node_mesh_rpc *rpc = shl_container_of(first, struct node_mesh_rpc, link);
        struct node_mesh_rpc copy = *rpc;
        struct shl_bytes nothing = {NULL, 0};

        forget_rpc(rpc);
        copy.on_reply(copy.arg, copy.code, copy.msg, nothing);
    }
}

static int queue_ask(struct mesh_peer *peer,
                     uint64_t id,
                     const char *method,
                     uint32_t timeout_ms,
                     struct shl_bytes body)
{
    struct mesh_envelope env = mesh_peer_envelope(peer);
    struct shl_buf buf;

    shl_buf_init(&buf, body.len + MESH_OVERHEAD_MAX);
    return push(peer, &buf, mesh_write_ask(&buf, &env, id, method, timeout_ms, body));
}

int node_mesh_ask(struct node_mesh *mesh,
                  const struct shl_node_id *to,
                  const char *method,
                  struct shl_bytes body,
                  uint32_t timeout_ms,
                  node_mesh_on_reply on_reply,
                  void *arg,
                  struct node_mesh_rpc **ret_rpc,
                  struct shl_err *err)
{
    struct mesh_peer *peer = mesh_peer_find(mesh, to);
    struct node_mesh_rpc *rpc;
    int rc;

    assert(mesh_kind_is_valid(method));
    assert(timeout_ms > 0 && timeout_ms <= NODE_MESH_TIMEOUT_MAX);
    if (mesh->is_closing || !peer || !peer->is_up[MESH_CONTROL]) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "there is no link to that node right now%s%s",
                           peer && peer->trouble[0] ? ": " : "", peer ? peer->trouble : "");
    }
    if (body.len > NODE_MESH_BODY_MAX || peer->rpc_count >= NODE_MESH_CALLS_PEER) {
        return shl_err_set(err, SHL_ELIMIT, "too many requests, or too large a one, to one node");
    }
    rpc = calloc(1, sizeof(*rpc));
    if (!rpc) {
        return shl_err_set(err, -ENOMEM, "no memory for a request to another node");
    }
    rpc->id = ++mesh->serial;
    rc = queue_ask(peer, rpc->id, method, timeout_ms, body);
    if (rc < 0) {
        free(rpc);
        return shl_err_set(err, rc, "too much is waiting to be sent to that node");
    }
    rpc->peer = peer;
    rpc->deadline_ms = mesh_now(mesh) + timeout_ms;
    rpc->on_reply = on_reply;
    rpc->arg = arg;
    shl_list_push_back(&peer->rpcs, &rpc->link);
    peer->rpc_count++;
    mesh_wake_at(mesh, rpc->deadline_ms);
    if (ret_rpc) {
        *ret_rpc = rpc;
    }
    return 0;
}

void node_mesh_ask_cancel(struct node_mesh_rpc *rpc)
{
    forget_rpc(rpc);
}

void mesh_on_reply(struct mesh_peer *peer, const struct mesh_message *msg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &peer->rpcs) {
        struct node_mesh_rpc *rpc = shl_container_of(it, struct node_mesh_rpc, link);

        if (rpc->id == msg->id) {
            struct node_mesh_rpc copy = *rpc;
            const char *text = msg->text[0] ? msg->text : shl_err_text((int)msg->code);

            forget_rpc(rpc);
            copy.on_reply(copy.arg, (int)msg->code, msg->code < 0 ? text : NULL, msg->body);
            return;
        }
    }
    peer->mesh->stats.calls_late++;
}

static void expire(struct mesh_peer *peer, uint64_t now)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &peer->rpcs) {
        struct node_mesh_rpc *rpc = shl_container_of(it, struct node_mesh_rpc, link);

        if (rpc->deadline_ms <= now) {
            fail_rpc(rpc, -ETIMEDOUT, "the other node did not answer in time");
        } else {
            mesh_wake_at(peer->mesh, rpc->deadline_ms);
        }
    }
}

void mesh_calls_tick(struct node_mesh *mesh)
{
    uint64_t now = mesh_now(mesh);
    uint32_t i;

    for (i = 0; i < mesh->peer_count; i++) {
        expire(mesh->peers[i], now);
    }
}

/*- Answering. */

static struct node_mesh_call *new_call(struct node_mesh *mesh, struct shl_list *list)
{
    struct node_mesh_call *call = calloc(1, sizeof(*call));

    if (call) {
        call->mesh = mesh;
        shl_list_push_back(list, &call->link);
    }
    return call;
}

struct node_mesh_call *mesh_call_new_guest(struct node_mesh *mesh, struct shl_bytes routing)
{
    struct node_mesh_call *call = new_call(mesh, &mesh->strays);

    if (call) {
        assert(routing.len <= sizeof(call->routing));
        memcpy(call->routing, routing.base, routing.len);
        call->routing_len = routing.len;
        call->deadline_ms = mesh_now(mesh) + MESH_GUEST_MS;
    }
    return call;
}

static int queue_reply(struct mesh_peer *peer,
                       uint64_t id,
                       int code,
                       const char *msg,
                       struct shl_bytes body)
{
    struct mesh_envelope env = mesh_peer_envelope(peer);
    struct shl_buf buf;

    if (!mesh_peer_is_near(peer, MESH_CONTROL)) {
        peer->mesh->stats.dropped++;
        return SHL_EUNAVAILABLE;
    }
    if (body.len > NODE_MESH_BODY_MAX) {
        code = SHL_ELIMIT;
        msg = "the answer is too large for one message";
        body = shl_bytes_of(NULL, 0);
    }
    shl_buf_init(&buf, body.len + MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
    return push(peer, &buf, mesh_write_reply(&buf, &env, id, code, msg, body));
}

static void answer_guest(const struct node_mesh_call *call,
                         int code,
                         const char *msg,
                         struct shl_bytes body)
{
    struct node_mesh *mesh = call->mesh;
    struct mesh_envelope env = {mesh->version_min, mesh->cluster};
    struct shl_buf buf;

    if (mesh->is_shut) {
        return;
    }
    if (body.len > NODE_MESH_JOIN_MAX) {
        code = SHL_ELIMIT;
        msg = "the answer is too large for one message";
        body = shl_bytes_of(NULL, 0);
    }
    shl_buf_init(&buf, body.len + MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
    if (mesh_write_joined(&buf, &env, code, msg, body) == 0) {
        mesh_inbox_answer(mesh, MESH_CONTROL, shl_bytes_of(call->routing, call->routing_len), &buf);
    }
    shl_buf_release(&buf);
}

void node_mesh_reply(struct node_mesh_call *call, int code, const char *msg, struct shl_bytes body)
{
    assert(code <= 0);
    if (call->peer) {
        (void)queue_reply(call->peer, call->id, code, msg, body);
        call->peer->call_count--;
    } else if (call->mesh && call->routing_len > 0) {
        answer_guest(call, code, msg, body);
    } else if (call->mesh) {
        call->mesh->stats.dropped++;
    }
    shl_list_remove(&call->link);
    free(call);
}

uint64_t node_mesh_call_left_ms(const struct node_mesh_call *call)
{
    uint64_t now;

    if (!call->mesh || (!call->peer && call->routing_len == 0)) {
        return 0;
    }
    now = mesh_now(call->mesh);
    return call->deadline_ms > now ? call->deadline_ms - now : 0;
}

void mesh_on_ask(struct mesh_peer *peer, const struct mesh_message *msg)
{
    struct node_mesh *mesh = peer->mesh;
    const struct mesh_handler *handler = mesh_handler_find(&mesh->methods, msg->kind);
    struct shl_bytes nothing = {NULL, 0};
    struct node_mesh_call *call;

    if (!handler) {
        mesh->stats.unknown++;
        (void)queue_reply(peer, msg->id, SHL_ENOTFOUND, "this node has no such method", nothing);
    } else if (msg->body.len > handler->body_max) {
        mesh->stats.refused[NODE_MESH_REFUSED_OVERSIZED]++;
        (void)queue_reply(peer, msg->id, SHL_ELIMIT, "the request is larger than this method takes",
                          nothing);
    } else if (peer->call_count >= NODE_MESH_CALLS_PEER || !(call = new_call(mesh, &peer->calls))) {
        (void)queue_reply(peer, msg->id, SHL_ELIMIT,
                          "too many requests of one node are being answered", nothing);
    } else {
        call->peer = peer;
        call->id = msg->id;
        call->deadline_ms = mesh_now(mesh) + SHL_MIN(msg->number, (uint64_t)NODE_MESH_TIMEOUT_MAX);
        peer->call_count++;
        handler->on_call(handler->arg, call, &peer->id, msg->body);
    }
}

/*- Endings. */

void mesh_calls_reset(struct mesh_peer *peer)
{
    struct shl_list *first;

    while ((first = shl_list_first(&peer->rpcs))) {
        fail_rpc(shl_container_of(first, struct node_mesh_rpc, link), SHL_EUNAVAILABLE,
                 "the link to the other node was lost; it may have carried out the request");
    }
    while ((first = shl_list_first(&peer->calls))) {
        struct node_mesh_call *call = shl_container_of(first, struct node_mesh_call, link);

        call->peer = NULL;
        shl_list_remove(&call->link);
        shl_list_push_back(&peer->mesh->strays, &call->link);
    }
    peer->call_count = 0;
}

void mesh_calls_close(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->strays))) {
        struct node_mesh_call *call = shl_container_of(first, struct node_mesh_call, link);

        call->mesh = NULL;
        shl_list_remove(&call->link);
    }
}
