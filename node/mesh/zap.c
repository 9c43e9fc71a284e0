#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "node/mesh/mesh_private.h"

/* ZeroMQ asks here for every connection before it delivers anything of it (RFC 27). The
 * socket is bound before any other of the context: without a handler every key is let in.
 * Requests: version, request id, domain, address, routing id, mechanism, key. */

#define ZAP_PART_MAX 256

struct zap_request {
    uint8_t id[ZAP_PART_MAX];
    size_t id_len;
    char domain[16];
    char mechanism[16];
    uint8_t key[NODE_KEY_BYTES];
    bool has_key;
};

struct mesh_guest *mesh_guest_find(struct node_mesh *mesh, const uint8_t key[NODE_KEY_BYTES])
{
    uint64_t now = mesh_now(mesh);
    size_t i;

    for (i = 0; i < MESH_GUESTS_MAX; i++) {
        if (mesh->guests[i].until_ms > now &&
            memcmp(mesh->guests[i].key, key, NODE_KEY_BYTES) == 0) {
            return &mesh->guests[i];
        }
    }
    return NULL;
}

/* A place for this key, kept for a while; false when all are taken. */
static bool admit_guest(struct node_mesh *mesh, const uint8_t key[NODE_KEY_BYTES])
{
    uint64_t now = mesh_now(mesh);
    size_t i;

    if (mesh_guest_find(mesh, key)) {
        return true;
    }
    for (i = 0; i < MESH_GUESTS_MAX; i++) {
        if (mesh->guests[i].until_ms <= now) {
            mesh->guests[i].until_ms = now + MESH_GUEST_MS;
            mesh->guests[i].messages = 0;
            memcpy(mesh->guests[i].key, key, NODE_KEY_BYTES);
            return true;
        }
    }
    return false;
}

/* Token bucket in milliseconds: each connection costs 1000 / MESH_ADMIT_PER_S of them. */
static bool admit_member(struct mesh_peer *peer)
{
    const uint64_t cost = 1000 / MESH_ADMIT_PER_S;
    uint64_t now = mesh_now(peer->mesh);
    uint64_t tokens = peer->admit_tokens_ms + (now - peer->admit_at_ms);

    peer->admit_at_ms = now;
    peer->admit_tokens_ms = SHL_MIN(tokens, cost * MESH_ADMIT_BURST);
    if (peer->admit_tokens_ms < cost) {
        return false;
    }
    peer->admit_tokens_ms -= cost;
    return true;
}

/* Decides; @user gets the user id. */
static bool admit(struct node_mesh *mesh,
                  const struct zap_request *request,
                  char *user,
                  size_t size)
{
    struct shl_node_id id;
    struct mesh_peer *peer;
    char hex[2 * NODE_KEY_BYTES + 1];
    bool is_control = strcmp(request->domain, "control") == 0;
    struct shl_bytes nowhere = {NULL, 0};

    if (!request->has_key || strcmp(request->mechanism, "CURVE") != 0) {
        return false;
    }
    node_mesh_keys_id(request->key, &id);
    peer = mesh_peer_find(mesh, &id);
    if (peer && memcmp(peer->key, request->key, NODE_KEY_BYTES) == 0) {
        if (!admit_member(peer)) {
            mesh_refuse(mesh, MESH_CONTROL, &id, nowhere, NODE_MESH_REFUSED_RATE, NULL);
            return false;
        }
        shl_hex_encode(hex, id.bytes, sizeof(id.bytes));
        (void)snprintf(user, size, "%s%s", MESH_USER_NODE, hex);
        return true;
    }
    if (is_control && mesh->on_join && shl_node_id_compare(&id, &mesh->keys.id) != 0) {
        if (!admit_guest(mesh, request->key)) {
            mesh_refuse(mesh, MESH_CONTROL, &id, nowhere, NODE_MESH_REFUSED_RATE,
                        "others are joining right now");
            return false;
        }
        shl_hex_encode(hex, request->key, NODE_KEY_BYTES);
        (void)snprintf(user, size, "%s%s", MESH_USER_GUEST, hex);
        return true;
    }
    mesh_refuse(mesh, MESH_CONTROL, &id, nowhere, NODE_MESH_REFUSED_KEY, NULL);
    return false;
}

static void take_part(struct zap_request *request, size_t index, const void *data, size_t len)
{
    if (index == 1 && len <= sizeof(request->id)) {
        memcpy(request->id, data, len);
        request->id_len = len;
    } else if (index == 2 && len < sizeof(request->domain)) {
        memcpy(request->domain, data, len);
    } else if (index == 5 && len < sizeof(request->mechanism)) {
        memcpy(request->mechanism, data, len);
    } else if (index == 6 && len == NODE_KEY_BYTES) {
        memcpy(request->key, data, len);
        request->has_key = true;
    }
}

/* One request of the engine, from a thread of this process. */
static bool receive(struct mesh_socket *zap, struct zap_request *request)
{
    zmq_msg_t part;
    size_t index = 0;
    int more = 1;

    memset(request, 0, sizeof(*request));
    while (more) {
        (void)zmq_msg_init(&part);
        if (zmq_msg_recv(&part, zap->zmq, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(&part);
            return false;
        }
        take_part(request, index++, zmq_msg_data(&part), zmq_msg_size(&part));
        more = zmq_msg_more(&part);
        (void)zmq_msg_close(&part);
    }
    return true;
}

static void answer(struct mesh_socket *zap,
                   const struct zap_request *request,
                   bool is_admitted,
                   const char *user)
{
    const char *status = is_admitted ? "200" : "400";
    const char *text = is_admitted ? "" : "refused";
    const struct shl_bytes parts[] = {
        shl_bytes_of("1.0", 3),           shl_bytes_of(request->id, request->id_len),
        shl_bytes_of(status, 3),          shl_bytes_of(text, strlen(text)),
        shl_bytes_of(user, strlen(user)), shl_bytes_of("", 0),
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(parts); i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < SHL_ARRAY_SIZE(parts) ? ZMQ_SNDMORE : 0);

        if (zmq_send(zap->zmq, parts[i].base, parts[i].len, flags) < 0) {
            return; /* the connection is gone */
        }
    }
}

static bool on_zap(struct mesh_socket *zap)
{
    struct zap_request request;
    int left = MESH_TURN_MESSAGES;

    while (left-- > 0) {
        char user[sizeof(MESH_USER_GUEST) + 2 * NODE_KEY_BYTES] = "";
        bool is_admitted;

        if (!receive(zap, &request)) {
            return false;
        }
        is_admitted = admit(zap->mesh, &request, user, sizeof(user));
        answer(zap, &request, is_admitted, is_admitted ? user : "");
    }
    return true;
}

int mesh_zap_open(struct node_mesh *mesh, struct shl_err *err)
{
    int rc = mesh_socket_new(mesh, ZMQ_REP, on_zap, mesh, &mesh->zap);

    if (rc == 0 && zmq_bind(mesh->zap->zmq, "inproc://zeromq.zap.01") != 0) {
        rc = -zmq_errno();
    }
    if (rc == 0) {
        rc = mesh_socket_watch(mesh->zap);
    }
    if (rc < 0) {
        return shl_err_set(err, rc, "authentication of the mesh cannot be set up: %s",
                           zmq_strerror(-rc));
    }
    return 0;
}
