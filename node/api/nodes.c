/* The nodes and their scheduler, for operators. */
#include "node/api/nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/router_local.h"
#include "node/api/server_private.h"

static const char *const state_texts[] = {[NODE_PEER_ALIVE] = "alive",
                                          [NODE_PEER_SUSPECT] = "suspect",
                                          [NODE_PEER_DEAD] = "dead",
                                          [NODE_PEER_LEFT] = "left"};

struct status {
    const struct node_cluster *cluster;
    json_t *nodes;
    json_t *voters;     /* names */
    const char *leader; /* name, NULL not known */
    char leader_name[NODE_NAME_SIZE];
    bool is_single;
};

static bool is_voter(const struct node_cluster *cluster, const struct shl_node_id *id)
{
    for (size_t i = 0; i < cluster->voter_count; i++) {
        if (shl_node_id_equal(&cluster->voters[i], id)) {
            return true;
        }
    }
    return false;
}

/* NULL (null in JSON) for "none". */
static json_t *id_json(const struct shl_node_id *id)
{
    char text[SHL_NODE_ID_TEXT_SIZE];

    if (shl_node_id_is_none(id)) {
        return json_null();
    }
    shl_node_id_format(text, id);
    return json_string(text);
}

static json_t *node_json(const struct status *status, const struct node_peer *peer)
{
    bool votes = status->is_single || is_voter(status->cluster, &peer->id);
    bool leads = status->is_single || (!shl_node_id_is_none(&peer->id) &&
                                       shl_node_id_equal(&peer->id, &status->cluster->leader));

    return json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:i, s:i, s:i, s:i, "
                     "s:i}",
                     "id", id_json(&peer->id), "name", peer->name, "region", peer->region, "url",
                     peer->url, "version", peer->version, "state", state_texts[peer->state], "mark",
                     node_mark_text(peer->mark), "role", votes ? "voter" : "standby", "scheduler",
                     leads, "witness", peer->is_witness, "flapping", peer->is_flapping, "sandboxes",
                     (int)peer->sandboxes, "hibernated", (int)peer->hibernated, "cpus",
                     (int)peer->cpus_total, "memoryMB", (int)peer->memory_total_mb,
                     "memoryCommittedMB", (int)peer->memory_committed_mb);
}

static bool add_node(void *arg, const struct node_peer *peer)
{
    struct status *status = arg;
    bool votes = status->is_single || is_voter(status->cluster, &peer->id);

    (void)json_array_append_new(status->nodes, node_json(status, peer));
    if (votes) {
        (void)json_array_append_new(status->voters, json_string(peer->name));
    }
    if (status->is_single || (!shl_node_id_is_none(&peer->id) &&
                              shl_node_id_equal(&peer->id, &status->cluster->leader))) {
        memcpy(status->leader_name, peer->name, sizeof(status->leader_name));
        status->leader = status->leader_name;
    }
    return true;
}

void node_handle_cluster(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_cluster cluster;
    struct status status = {.cluster = &cluster, .nodes = json_array(), .voters = json_array()};

    router->ops->cluster(router, &cluster);
    status.is_single = shl_node_id_is_none(&cluster.self);
    node_peers_each(call, add_node, &status);
    node_call_reply_json(
        call, 200,
        json_pack("{s:s?, s:s, s:s, s:{s:s?, s:b, s:I, s:I, s:I, s:s?, s:o}, s:o}", "clusterId",
                  cluster.id[0] != '\0' ? cluster.id : NULL, "mode",
                  status.is_single ? "single" : "mesh", "self", call->server->worker_id,
                  "scheduler", "leader", status.leader, "hasQuorum", (int)cluster.has_quorum,
                  "term", (json_int_t)cluster.term, "commitIndex", (json_int_t)cluster.commit_index,
                  "appliedIndex", (json_int_t)cluster.applied_index, "digest",
                  cluster.digest[0] != '\0' ? cluster.digest : NULL, "voters", status.voters,
                  "nodes", status.nodes));
}

#define BACKUP_MAX (512u << 20) /* more than the state's own limit */

void node_handle_cluster_backup(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_reply reply = {.status = 200, .content_type = "application/octet-stream"};
    struct shl_err err = {0};
    struct shl_buf out;

    if (!router->ops->backup) {
        node_call_fail(call, -ENOSYS, "this node is on its own: there is no cluster to back up");
        return;
    }
    shl_buf_init(&out, BACKUP_MAX);
    if (router->ops->backup(router, &out, &err) < 0) {
        node_call_fail_err(call, &err);
    } else {
        reply.heap_len = shl_buf_len(&out);
        reply.heap = malloc(reply.heap_len);
        if (reply.heap) {
            memcpy(reply.heap, shl_buf_data(&out), reply.heap_len);
            node_exchange_reply(call->x, &reply);
        } else {
            node_call_fail(call, -ENOMEM, "no memory for the backup");
        }
    }
    explicit_bzero(shl_buf_data(&out), shl_buf_len(&out));
    shl_buf_release(&out);
}

/* Marks */

void node_set_mark(struct node_call *call, enum node_mark mark, node_ordered_cb reply)
{
    struct node_router *router = call->server->router;
    struct node_ordering *ordering;
    struct node_target target;
    struct node_order outcome;

    if (!node_peer_of_path(call, &target)) {
        return;
    }
    ordering = node_ordering_new(call, &target, (int)mark, reply);
    if (ordering &&
        router->ops->set_mark(router, &target, mark, &outcome, node_ordering_done, ordering) > 0) {
        node_ordering_done(ordering, &outcome);
    }
}

static void reply_mark(struct node_call *call,
                       const struct node_target *target,
                       int value,
                       const struct node_order *outcome)
{
    (void)outcome;
    node_call_reply_json(call, 200,
                         json_pack("{s:o, s:s, s:s}", "id", id_json(&target->id), "name",
                                   target->name, "mark", node_mark_text((enum node_mark)value)));
}

void node_handle_node_drain(struct node_call *call)
{
    node_set_mark(call, NODE_MARK_DRAINING, reply_mark);
}

void node_handle_node_cordon(struct node_call *call)
{
    node_set_mark(call, NODE_MARK_CORDONED, reply_mark);
}

void node_handle_node_uncordon(struct node_call *call)
{
    node_set_mark(call, NODE_MARK_NONE, reply_mark);
}

/* Removing, joining */

static void reply_removed(struct node_call *call,
                          const struct node_target *target,
                          int value,
                          const struct node_order *outcome)
{
    (void)target;
    (void)value;
    (void)outcome;
    node_call_reply_empty(call, 204);
}

void node_order_node(struct node_call *call,
                     node_order_fn order,
                     const char *missing,
                     node_ordered_cb reply)
{
    struct node_ordering *ordering;
    struct node_target target;
    struct node_order outcome;

    if (!node_peer_of_path(call, &target)) {
        return;
    }
    if (!order) {
        node_call_fail(call, -ENOSYS, missing);
        return;
    }
    ordering = node_ordering_new(call, &target, 0, reply);
    if (ordering &&
        order(call->server->router, &target, &outcome, node_ordering_done, ordering) > 0) {
        node_ordering_done(ordering, &outcome);
    }
}

void node_handle_node_remove(struct node_call *call)
{
    node_order_node(call, call->server->router->ops->remove,
                    "this node is on its own: there is no cluster to leave", reply_removed);
}

static void reply_token(struct node_call *call,
                        const struct node_target *target,
                        int value,
                        const struct node_order *outcome)
{
    char expires_at[NODE_TIME_TEXT_SIZE];

    (void)target;
    (void)value;
    node_time_text(expires_at, outcome->expires_at_ms);
    node_call_reply_json(call, 201,
                         json_pack("{s:s, s:s}", "token", outcome->token, "expiresAt", expires_at));
}

static int parse_ttl(struct node_call *call, int64_t *ret_ttl_s, struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_params_int(body, "ttl", 1, NODE_JOIN_TTL_MAX_S, ret_ttl_s, err);
        json_decref(body);
    }
    return rc < 0 ? rc : 0;
}

void node_handle_join_token(struct node_call *call)
{
    struct node_router *router = call->server->router;
    int64_t ttl_s = NODE_JOIN_TTL_DEFAULT_S;
    struct node_ordering *ordering;
    struct node_order outcome;
    struct shl_err err = {0};

    if (parse_ttl(call, &ttl_s, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    if (!router->ops->join_token) {
        node_call_fail(call, -ENOSYS, "this node is on its own: it cannot let others join yet");
        return;
    }
    ordering = node_ordering_new(call, NULL, 0, reply_token);
    if (ordering && router->ops->join_token(router, (uint32_t)ttl_s, &outcome, node_ordering_done,
                                            ordering) > 0) {
        node_ordering_done(ordering, &outcome);
    }
}
