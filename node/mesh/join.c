#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/mesh/mesh_private.h"

/* One question to a node that need not know us: connect, ask, hear, gone. */
struct mesh_join {
    struct shl_list link;
    struct node_mesh *mesh;
    struct mesh_socket *socket, *monitor;
    struct shl_buf request; /* a whole message; it holds a secret */
    uint64_t deadline_ms;
    bool is_asked;
    node_mesh_on_reply on_reply;
    void *arg;
};

/*- The node that is asked. */

void node_mesh_set_join(struct node_mesh *mesh, node_mesh_on_join on_join, void *arg)
{
    mesh->on_join = on_join;
    mesh->join_arg = arg;
}

void mesh_on_join(struct node_mesh *mesh,
                  const uint8_t key[NODE_KEY_BYTES],
                  struct shl_bytes routing,
                  const struct mesh_message *msg)
{
    struct shl_node_id id;
    struct node_mesh_call *call;
    uint64_t version = SHL_MIN(msg->hello.max, (uint64_t)mesh->version_max);
    char detail[96];

    node_mesh_keys_id(key, &id);
    if (!mesh->on_join) {
        mesh_refuse(mesh, MESH_CONTROL, &id, routing, NODE_MESH_REFUSED_FORBIDDEN,
                    "nobody may join right now: the token was used or is too old");
    } else if (memcmp(msg->cluster, mesh->cluster, NODE_CLUSTER_BYTES) != 0) {
        mesh_refuse(mesh, MESH_CONTROL, &id, routing, NODE_MESH_REFUSED_CLUSTER, NULL);
    } else if (version < msg->hello.min || version < mesh->version_min) {
        (void)snprintf(detail, sizeof(detail), "it speaks %llu to %llu, this node %u to %u",
                       (unsigned long long)msg->hello.min, (unsigned long long)msg->hello.max,
                       mesh->version_min, mesh->version_max);
        mesh_refuse(mesh, MESH_CONTROL, &id, routing, NODE_MESH_REFUSED_VERSION, detail);
    } else if (msg->body.len > NODE_MESH_JOIN_MAX) {
        mesh_refuse(mesh, MESH_CONTROL, &id, routing, NODE_MESH_REFUSED_OVERSIZED, NULL);
    } else if ((call = mesh_call_new_guest(mesh, routing))) {
        mesh->on_join(mesh->join_arg, call, key, msg->body);
    }
}

/*- The node that asks. */

static void end_join(struct mesh_join *join, int code, const char *msg, struct shl_bytes body)
{
    struct node_mesh *mesh = join->mesh;
    node_mesh_on_reply on_reply = join->on_reply;
    void *arg = join->arg;

    shl_list_remove(&join->link);
    mesh->join_count--;
    mesh_socket_close_monitored(join->socket, join->monitor, 0);
    shl_buf_wipe(&join->request);
    free(join);
    on_reply(arg, code, msg, body);
}

static void fail_join(struct mesh_join *join, int code, const char *msg)
{
    end_join(join, code, msg, shl_bytes_of(NULL, 0));
}

static void on_answer(struct mesh_join *join, zmq_msg_t *raw)
{
    struct mesh_message msg;
    struct shl_bytes bytes = shl_bytes_of(zmq_msg_data(raw), zmq_msg_size(raw));

    if (mesh_message_parse(&msg, bytes) < 0) {
        fail_join(join, SHL_EPROTO, "the seed answered with something that cannot be understood");
        return;
    }
    if (msg.type == MESH_JOINED) {
        const char *text = msg.text[0] ? msg.text : shl_err_text((int)msg.code);

        end_join(join, (int)msg.code, msg.code < 0 ? text : NULL, msg.body);
    } else if (msg.type == MESH_REFUSE) {
        enum node_mesh_refusal why = mesh_refusal_parse(msg.kind);

        if (why < NODE_MESH_REFUSAL_COUNT) {
            join->mesh->stats.refused_by[why]++;
        }
        fail_join(join, SHL_EFORBIDDEN, msg.text[0] ? msg.text : "the seed refused this node");
    } else {
        join->mesh->stats.unknown++;
    }
    mesh_message_release(&msg);
}

static bool on_dealer(struct mesh_socket *socket)
{
    while (!socket->is_closing) {
        zmq_msg_t raw;

        (void)zmq_msg_init(&raw);
        if (zmq_msg_recv(&raw, socket->zmq, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(&raw);
            break;
        }
        on_answer(socket->owner, &raw);
        (void)zmq_msg_close(&raw);
    }
    return false;
}

/* A copy, so that ours can be wiped; that of ZeroMQ lives until it was encrypted. */
static bool send_request(struct mesh_join *join)
{
    join->is_asked = true;
    return zmq_send(join->socket->zmq, shl_buf_data(&join->request), shl_buf_len(&join->request),
                    ZMQ_DONTWAIT) >= 0;
}

static bool on_monitor(struct mesh_socket *monitor)
{
    struct mesh_join *join = monitor->owner;
    uint16_t event;
    uint32_t value;

    while (!monitor->is_closing && mesh_socket_event(monitor, &event, &value) == 0) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            if (!send_request(join)) {
                fail_join(join, SHL_EUNAVAILABLE, "the request to join could not be sent");
            }
            mesh_socket_mark(join->socket);
        } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
            fail_join(join, SHL_EAUTH,
                      "the seed lets nobody join right now: the token was used or is too old");
        } else {
            (void)on_dealer(join->socket); /* a last word may have come before the end */
            if (monitor->is_closing) {
                return false;
            }
            if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL ||
                event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
                fail_join(join, SHL_EAUTH, "the seed is not the node that made the token");
            } else {
                fail_join(join, SHL_EUNAVAILABLE,
                          join->is_asked ? "the connection to the seed was lost"
                                         : "the seed cannot be reached");
            }
        }
    }
    return false;
}

int node_mesh_join(struct node_mesh *mesh,
                   const uint8_t cluster[NODE_CLUSTER_BYTES],
                   const struct node_mesh_addr *seed,
                   const uint8_t server_key[NODE_KEY_BYTES],
                   struct shl_bytes request,
                   uint32_t timeout_ms,
                   node_mesh_on_reply on_reply,
                   void *arg,
                   struct shl_err *err)
{
    struct mesh_envelope env = {mesh->version_max, cluster};
    struct mesh_join *join;
    int rc;

    assert(timeout_ms > 0 && timeout_ms <= NODE_MESH_TIMEOUT_MAX);
    if (mesh->is_closing || !node_mesh_addr_is_valid(seed)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the address of the seed is not valid");
    }
    if (mesh->join_count >= NODE_MESH_JOINS_MAX || request.len > NODE_MESH_JOIN_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "too many requests to join, or too large a one");
    }
    join = calloc(1, sizeof(*join));
    if (!join) {
        return shl_err_set(err, -ENOMEM, "no memory for a request to join");
    }
    join->mesh = mesh;
    join->on_reply = on_reply;
    join->arg = arg;
    join->deadline_ms = mesh_now(mesh) + timeout_ms;
    shl_buf_init(&join->request, request.len + MESH_OVERHEAD_MAX);
    rc = mesh_write_join(&join->request, &env, mesh->version_min, mesh->version_max, request);
    if (rc == 0) {
        rc = mesh_dial(mesh, MESH_CONTROL, seed->host, seed->control_port, server_key, on_dealer,
                       on_monitor, join, &join->socket, &join->monitor);
    }
    if (rc < 0) {
        shl_buf_release(&join->request);
        free(join);
        return shl_err_set(err, rc, "the seed cannot be dialled: %s", zmq_strerror(-rc));
    }
    shl_list_push_back(&mesh->joins, &join->link);
    mesh->join_count++;
    mesh_wake_at(mesh, join->deadline_ms);
    return 0;
}

void mesh_joins_tick(struct node_mesh *mesh)
{
    uint64_t now = mesh_now(mesh);
    struct shl_list late = SHL_LIST_INIT(late);
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &mesh->joins) {
        struct mesh_join *join = shl_container_of(it, struct mesh_join, link);

        if (join->deadline_ms > now) {
            mesh_wake_at(mesh, join->deadline_ms);
        } else {
            shl_list_remove(it);
            shl_list_push_back(&late, it);
        }
    }
    while ((it = shl_list_first(&late))) {
        struct mesh_join *join = shl_container_of(it, struct mesh_join, link);

        fail_join(join, -ETIMEDOUT,
                  join->is_asked ? "the seed did not answer in time"
                                 : "the seed did not complete the handshake in time: is it the "
                                   "node that made the token?");
    }
}

void mesh_joins_close(struct node_mesh *mesh)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mesh->joins))) {
        fail_join(shl_container_of(first, struct mesh_join, link), SHL_EUNAVAILABLE,
                  "this node is going down");
    }
}
