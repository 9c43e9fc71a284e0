#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/doc.h"
#include "client/error.h"

#define NODE_PATH_MAX (CLIENT_ID_MAX_BYTES + 64)

static const struct client_field cluster_fields[] = {
    {"mode", CLIENT_TEXT, true},
    {"clusterId", CLIENT_TEXT, false},
    {"self", CLIENT_TEXT, false},
    {"scheduler", CLIENT_OBJECT, true},
};

static const struct client_kind cluster_kind = {
    .noun = "cluster",
    .fields = cluster_fields,
    .field_count = SHL_ARRAY_SIZE(cluster_fields),
};

static const struct client_field node_fields[] = {
    {"name", CLIENT_TEXT, true},      {"state", CLIENT_TEXT, true},
    {"id", CLIENT_TEXT, false},       {"mark", CLIENT_TEXT, false},
    {"role", CLIENT_TEXT, false},     {"url", CLIENT_TEXT, false},
    {"version", CLIENT_TEXT, false},  {"scheduler", CLIENT_BOOL, false},
    {"witness", CLIENT_BOOL, false},  {"flapping", CLIENT_BOOL, false},
    {"sandboxes", CLIENT_INT, false}, {"hibernated", CLIENT_INT, false},
    {"memoryMB", CLIENT_INT, false},  {"memoryCommittedMB", CLIENT_INT, false},
};

static const struct client_kind node_kind = {
    .noun = "node",
    .fields = node_fields,
    .field_count = SHL_ARRAY_SIZE(node_fields),
};

static const struct client_field token_fields[] = {
    {"token", CLIENT_TEXT, true},
    {"expiresAt", CLIENT_TEXT, false},
};

static const struct client_kind token_kind = {
    .noun = "join token",
    .fields = token_fields,
    .field_count = SHL_ARRAY_SIZE(token_fields),
};

/* Two views of one answer. */
struct shoal_cluster {
    struct client_doc *doc;
    struct client_doc *nodes;
};

int shoal_cluster_get(struct shoal_client *client,
                      struct shoal_cluster **ret_cluster,
                      struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    struct shoal_cluster *cluster;
    int rc = client_call(
        client, &(struct client_request){.method = "GET", .path = "/cluster", .repeatable = true},
        &answer, err);

    if (rc < 0) {
        return rc;
    }
    cluster = calloc(1, sizeof(*cluster));
    if (!cluster) {
        return client_error_set(err, -ENOMEM, "out of memory");
    }
    rc = client_doc_parse(&answer, &cluster_kind, &cluster->doc, err);
    if (rc == 0) {
        rc = client_doc_parse_list(&answer, &node_kind, "nodes", &cluster->nodes, err);
    }
    if (rc < 0) {
        shoal_cluster_free(cluster);
        return rc;
    }
    *ret_cluster = cluster;
    return 0;
}

int shoal_cluster_backup(struct shoal_client *client,
                         shoal_sink_cb sink,
                         void *arg,
                         struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};

    client_error_clear(err);
    return client_call(client,
                       &(struct client_request){.method = "GET",
                                                .path = "/cluster/backup",
                                                .repeatable = true,
                                                .sink = sink,
                                                .sink_arg = arg},
                       &answer, err);
}

void shoal_cluster_free(struct shoal_cluster *cluster)
{
    if (cluster) {
        client_doc_free(cluster->doc);
        client_doc_free(cluster->nodes);
        free(cluster);
    }
}

static const json_t *scheduler(const struct shoal_cluster *cluster, const char *name)
{
    return json_object_get(json_object_get(cluster->doc->json, "scheduler"), name);
}

static int64_t scheduler_int(const struct shoal_cluster *cluster, const char *name)
{
    const json_t *value = scheduler(cluster, name);

    return json_is_integer(value) ? json_integer_value(value) : -1;
}

const char *shoal_cluster_id(const struct shoal_cluster *cluster)
{
    return client_doc_text(cluster->doc, "clusterId");
}

const char *shoal_cluster_mode(const struct shoal_cluster *cluster)
{
    return client_doc_text(cluster->doc, "mode");
}

const char *shoal_cluster_self(const struct shoal_cluster *cluster)
{
    return client_doc_text(cluster->doc, "self");
}

const char *shoal_cluster_leader(const struct shoal_cluster *cluster)
{
    return json_string_value(scheduler(cluster, "leader"));
}

bool shoal_cluster_has_quorum(const struct shoal_cluster *cluster)
{
    return json_is_true(scheduler(cluster, "hasQuorum"));
}

int64_t shoal_cluster_term(const struct shoal_cluster *cluster)
{
    return scheduler_int(cluster, "term");
}

int64_t shoal_cluster_commit_index(const struct shoal_cluster *cluster)
{
    return scheduler_int(cluster, "commitIndex");
}

int64_t shoal_cluster_applied_index(const struct shoal_cluster *cluster)
{
    return scheduler_int(cluster, "appliedIndex");
}

const char *shoal_cluster_digest(const struct shoal_cluster *cluster)
{
    return json_string_value(scheduler(cluster, "digest"));
}

size_t shoal_cluster_node_count(const struct shoal_cluster *cluster)
{
    return cluster->nodes->count;
}

const struct shoal_node *shoal_cluster_node_at(const struct shoal_cluster *cluster, size_t index)
{
    return (const struct shoal_node *)client_doc_at(cluster->nodes, index);
}

const char *shoal_cluster_json(struct shoal_cluster *cluster)
{
    return client_doc_json(cluster->doc);
}

const char *shoal_cluster_nodes_json(struct shoal_cluster *cluster)
{
    return client_doc_json(cluster->nodes);
}

const char *shoal_node_name(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "name");
}

const char *shoal_node_id(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "id");
}

const char *shoal_node_state(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "state");
}

const char *shoal_node_mark(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "mark");
}

const char *shoal_node_role(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "role");
}

const char *shoal_node_url(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "url");
}

const char *shoal_node_version(const struct shoal_node *node)
{
    return client_doc_text(CLIENT_DOC_CONST(node), "version");
}

bool shoal_node_is_scheduler(const struct shoal_node *node)
{
    return client_doc_bool(CLIENT_DOC_CONST(node), "scheduler");
}

bool shoal_node_is_witness(const struct shoal_node *node)
{
    return client_doc_bool(CLIENT_DOC_CONST(node), "witness");
}

bool shoal_node_is_flapping(const struct shoal_node *node)
{
    return client_doc_bool(CLIENT_DOC_CONST(node), "flapping");
}

int64_t shoal_node_sandboxes(const struct shoal_node *node)
{
    return client_doc_int(CLIENT_DOC_CONST(node), "sandboxes");
}

int64_t shoal_node_hibernated(const struct shoal_node *node)
{
    return client_doc_int(CLIENT_DOC_CONST(node), "hibernated");
}

int64_t shoal_node_memory_mb(const struct shoal_node *node)
{
    return client_doc_int(CLIENT_DOC_CONST(node), "memoryMB");
}

int64_t shoal_node_memory_committed_mb(const struct shoal_node *node)
{
    return client_doc_int(CLIENT_DOC_CONST(node), "memoryCommittedMB");
}

/* Orders */

/* Names of nodes may be host names. */
static int check_node(const char *node, struct shoal_error *err)
{
    size_t len = strlen(node);

    client_error_clear(err);
    if (len == 0 || len > CLIENT_ID_MAX_BYTES || node[0] == '.' ||
        strspn(node, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != len) {
        return client_error_set(err, SHOAL_EINVALIDARG, "\"%.80s\" is not the name of a node",
                                node);
    }
    return 0;
}

static int order(struct shoal_client *client,
                 const char *method,
                 const char *node,
                 const char *verb,
                 struct shoal_error *err)
{
    SHL_CLEANUP(client_answer_release) struct client_answer answer = {.status = 0};
    char path[NODE_PATH_MAX];
    int rc = check_node(node, err);

    if (rc < 0) {
        return rc;
    }
    (void)snprintf(path, sizeof(path), "/nodes/%s%s", node, verb);
    return client_call(client,
                       &(struct client_request){.method = method, .path = path, .repeatable = true},
                       &answer, err);
}

int shoal_node_drain(struct shoal_client *client, const char *node, struct shoal_error *err)
{
    return order(client, "POST", node, "/drain", err);
}

int shoal_node_evict(struct shoal_client *client, const char *node, struct shoal_error *err)
{
    return order(client, "POST", node, "/evict", err);
}

int shoal_node_cordon(struct shoal_client *client, const char *node, struct shoal_error *err)
{
    return order(client, "POST", node, "/cordon", err);
}

int shoal_node_uncordon(struct shoal_client *client, const char *node, struct shoal_error *err)
{
    return order(client, "POST", node, "/uncordon", err);
}

int shoal_node_remove(struct shoal_client *client, const char *node, struct shoal_error *err)
{
    return order(client, "DELETE", node, "", err);
}

int shoal_join_token_create(struct shoal_client *client,
                            int ttl_s,
                            struct shoal_join_token **ret_token,
                            struct shoal_error *err)
{
    char body[64] = "{}";
    struct client_doc *doc;
    int rc;

    if (ttl_s > 0) {
        (void)snprintf(body, sizeof(body), "{\"ttl\":%d}", ttl_s);
    }
    rc = client_fetch(client,
                      &(struct client_request){.method = "POST",
                                               .path = "/join-tokens",
                                               .json = body,
                                               .json_bytes = strlen(body)},
                      &token_kind, &doc, err);
    if (rc == 0) {
        *ret_token = (struct shoal_join_token *)doc;
    }
    return rc;
}

void shoal_join_token_free(struct shoal_join_token *token)
{
    client_doc_free(CLIENT_DOC(token));
}

const char *shoal_join_token_text(const struct shoal_join_token *token)
{
    return client_doc_text(CLIENT_DOC_CONST(token), "token");
}

const char *shoal_join_token_expires_at(const struct shoal_join_token *token)
{
    return client_doc_text(CLIENT_DOC_CONST(token), "expiresAt");
}

const char *shoal_join_token_json(struct shoal_join_token *token)
{
    return client_doc_json(CLIENT_DOC(token));
}
