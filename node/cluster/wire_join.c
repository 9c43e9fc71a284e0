/* Join requests and the answer to them (wire.h). */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/wire.h"
#include "node/cluster/wire_text.h"
#include "node/mesh/mesh.h"

#define JOIN_VERSION      1
#define WELCOME_NODES_MAX 100 /* fit into NODE_MESH_JOIN_MAX with the longest texts */

/*- The request. */

int cluster_wire_write_join(struct shl_buf *buf,
                            const struct node_join_token *token,
                            const struct sched_node_spec *self)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", JOIN_VERSION);
    shl_mp_kv_bin(&w, "token", token->id, NODE_JOIN_TOKEN_ID_BYTES);
    shl_mp_kv_bin(&w, "secret", token->secret, NODE_JOIN_TOKEN_SECRET_BYTES);
    shl_mp_kv_str(&w, "name", self->name);
    shl_mp_kv_str(&w, "control", self->control);
    shl_mp_kv_str(&w, "bulk", self->bulk);
    shl_mp_kv_str(&w, "api", self->api);
    shl_mp_kv_str(&w, "domain", self->domain);
    shl_mp_kv_uint(&w, "role", self->role);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_request(const msgpack_object *map,
                        const uint8_t key[NODE_KEY_BYTES],
                        struct sched_cmd_node_join *join)
{
    struct sched_node_spec *spec = &join->node;
    struct shl_bytes token, secret;
    uint64_t version, role;

    if (shl_mp_get_uint(map, "v", JOIN_VERSION, &version) < 0 ||
        shl_mp_get_bin(map, "token", &token) < 0 || token.len != NODE_JOIN_TOKEN_ID_BYTES ||
        shl_mp_get_bin(map, "secret", &secret) < 0 || secret.len != NODE_JOIN_TOKEN_SECRET_BYTES ||
        cluster_wire_text(map, "name", spec->name, GOSSIP_NAME_SIZE) < 0 ||
        cluster_wire_text(map, "control", spec->control, GOSSIP_ADDRESS_SIZE) < 0 ||
        cluster_wire_text(map, "bulk", spec->bulk, GOSSIP_ADDRESS_SIZE) < 0 ||
        cluster_wire_text(map, "api", spec->api, GOSSIP_ADDRESS_SIZE) < 0 ||
        cluster_wire_text(map, "domain", spec->domain, GOSSIP_DOMAIN_SIZE) < 0 ||
        shl_mp_get_uint(map, "role", SCHED_ROLE_WITNESS, &role) < 0) {
        return SHL_EPROTO;
    }
    spec->role = (uint32_t)role;
    memcpy(spec->key, key, SCHED_KEY_BYTES); /* what CURVE proved, not what is claimed */
    node_mesh_keys_id(key, &spec->id);
    memcpy(join->token, token.base, SCHED_TOKEN_ID_BYTES);
    node_join_token_hash(token.base, secret.base, join->secret_hash);
    return 0;
}

int cluster_wire_read_join(struct shl_bytes body,
                           const uint8_t key[NODE_KEY_BYTES],
                           struct sched_cmd_node_join *ret)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, body);

    memset(ret, 0, sizeof(*ret));
    if (rc == 0) {
        rc = read_request(doc.root, key, ret);
        shl_mp_release(&doc);
    }
    return rc;
}

/*- The answer. */

/* The log has room for a little more than gossip: a member with a text that is too long (which
 * admission refuses, an update may still bring) must not spoil the list for all. */
static void write_text(struct shl_mp_writer *w, const char *key, const char *text, size_t size)
{
    char cut[GOSSIP_ADDRESS_SIZE];

    assert(size <= sizeof(cut));
    (void)snprintf(cut, size, "%.*s", (int)size - 1, text);
    shl_mp_kv_str(w, key, cut);
}

static void write_node(struct shl_mp_writer *w, const struct sched_node_spec *spec)
{
    shl_mp_map(w);
    shl_mp_kv_bin(w, "id", spec->id.bytes, SHL_NODE_ID_BYTES);
    shl_mp_kv_bin(w, "key", spec->key, SCHED_KEY_BYTES);
    write_text(w, "name", spec->name, GOSSIP_NAME_SIZE);
    write_text(w, "control", spec->control, GOSSIP_ADDRESS_SIZE);
    write_text(w, "bulk", spec->bulk, GOSSIP_ADDRESS_SIZE);
    write_text(w, "domain", spec->domain, GOSSIP_DOMAIN_SIZE);
    shl_mp_kv_uint(w, "role", spec->role);
    shl_mp_end(w);
}

int cluster_wire_write_welcome(struct shl_buf *buf,
                               const uint8_t cluster[NODE_CLUSTER_BYTES],
                               const struct shl_node_id *self,
                               const struct sched_state *state)
{
    const struct sched_node *own = sched_state_node(state, self);
    size_t count = sched_state_count(state, SCHED_TABLE_NODES), written = 0, i;
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", JOIN_VERSION);
    shl_mp_kv_bin(&w, "cluster", cluster, NODE_CLUSTER_BYTES);
    shl_mp_kv_array(&w, "nodes");
    if (own) { /* it surely lives */
        write_node(&w, &own->spec);
        written++;
    }
    for (i = 0; i < count && written < WELCOME_NODES_MAX; i++) {
        const struct sched_node *row = sched_state_at(state, SCHED_TABLE_NODES, i);

        if (row != own) {
            write_node(&w, &row->spec);
            written++;
        }
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_node(const msgpack_object *map, struct gossip_info *info)
{
    struct shl_bytes id, key;
    uint64_t role;

    if (shl_mp_get_bin(map, "id", &id) < 0 || id.len != SHL_NODE_ID_BYTES ||
        shl_mp_get_bin(map, "key", &key) < 0 || key.len != GOSSIP_KEY_BYTES ||
        cluster_wire_text(map, "name", info->name, sizeof(info->name)) < 0 ||
        cluster_wire_text(map, "control", info->control, sizeof(info->control)) < 0 ||
        cluster_wire_text(map, "bulk", info->bulk, sizeof(info->bulk)) < 0 ||
        cluster_wire_text(map, "domain", info->domain, sizeof(info->domain)) < 0 ||
        shl_mp_get_uint(map, "role", SCHED_ROLE_WITNESS, &role) < 0) {
        return SHL_EPROTO;
    }
    memcpy(info->id.bytes, id.base, id.len);
    memcpy(info->key, key.base, key.len);
    info->flags = role == SCHED_ROLE_WITNESS ? GOSSIP_FLAG_WITNESS : 0;
    info->proto_min = NODE_MESH_VERSION_MIN;
    info->proto_max = NODE_MESH_VERSION_MAX;
    return 0;
}

int cluster_wire_read_welcome(struct shl_bytes body,
                              uint8_t ret_cluster[NODE_CLUSTER_BYTES],
                              struct gossip_info **ret_infos,
                              uint32_t *ret_count)
{
    const msgpack_object *nodes;
    struct gossip_info *infos = NULL;
    struct shl_mp_doc doc;
    struct shl_bytes id;
    uint32_t i;
    int rc = shl_mp_parse(&doc, body);

    if (rc < 0) {
        return rc;
    }
    nodes = shl_mp_find(doc.root, "nodes");
    if (!nodes || nodes->type != MSGPACK_OBJECT_ARRAY || nodes->via.array.size == 0 ||
        nodes->via.array.size > SCHED_NODES_MAX || shl_mp_get_bin(doc.root, "cluster", &id) < 0 ||
        id.len != NODE_CLUSTER_BYTES) {
        rc = SHL_EPROTO;
    } else {
        infos = calloc(nodes->via.array.size, sizeof(*infos));
        rc = infos ? 0 : -ENOMEM;
    }
    for (i = 0; rc == 0 && i < nodes->via.array.size; i++) {
        rc = read_node(&nodes->via.array.ptr[i], &infos[i]);
    }
    if (rc == 0) {
        memcpy(ret_cluster, id.base, id.len);
        *ret_infos = infos;
        *ret_count = i;
    } else {
        free(infos);
    }
    shl_mp_release(&doc);
    return rc;
}
