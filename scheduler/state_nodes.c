/* Members of the cluster: joining, what they say about themselves, marks, leases, leaving
 * for good. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

struct sched_node *sched_node_find(const struct sched_state *state, const struct shl_node_id *id)
{
    struct sched_node probe;

    probe.spec.id = *id;
    return sched_table_find(&state->tables[SCHED_TABLE_NODES], &probe);
}

const struct sched_node *sched_state_node(const struct sched_state *state,
                                          const struct shl_node_id *id)
{
    return sched_node_find(state, id);
}

const struct sched_node *sched_state_node_by_key(const struct sched_state *state,
                                                 const uint8_t key[SCHED_KEY_BYTES])
{
    const struct sched_table *nodes = &state->tables[SCHED_TABLE_NODES];
    size_t i;

    for (i = 0; i < nodes->count; i++) {
        const struct sched_node *node = (const struct sched_node *)nodes->rows[i];

        if (memcmp(node->spec.key, key, SCHED_KEY_BYTES) == 0) {
            return node;
        }
    }
    return NULL;
}

const struct sched_node *sched_state_node_by_name(const struct sched_state *state, const char *name)
{
    const struct sched_table *nodes = &state->tables[SCHED_TABLE_NODES];
    size_t i;

    for (i = 0; i < nodes->count; i++) {
        const struct sched_node *node = (const struct sched_node *)nodes->rows[i];

        if (strcmp(node->spec.name, name) == 0) {
            return node;
        }
    }
    return NULL;
}

const struct sched_removed *sched_state_removed(const struct sched_state *state,
                                                const uint8_t key[SCHED_KEY_BYTES])
{
    struct sched_removed probe;

    memcpy(probe.key, key, SCHED_KEY_BYTES);
    return sched_table_find(&state->tables[SCHED_TABLE_REMOVED], &probe);
}

/*- Joining. */

static int check_removed(const struct sched_state *state,
                         const struct sched_node_spec *spec,
                         struct shl_err *err)
{
    const struct sched_removed *removed = sched_state_removed(state, spec->key);

    if (!removed || (state->mutations & SCHED_MUT_REMOVED_READMIT)) {
        return 0;
    }
    return shl_err_set(err, SHL_EFORBIDDEN,
                       "this node was removed from the cluster as \"%s\" and its key never comes "
                       "back: start it with an empty data folder and a new token",
                       removed->name);
}

static int check_identity(const struct sched_state *state,
                          const struct sched_node_spec *spec,
                          struct shl_err *err)
{
    const struct sched_node *other = sched_state_node(state, &spec->id);

    if (other) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the node id belongs to node \"%s\" with another key", other->spec.name);
    }
    other = sched_state_node_by_name(state, spec->name);
    if (other) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the name \"%s\" belongs to another node: choose another one (--name), "
                           "or remove that node first",
                           spec->name);
    }
    return 0;
}

static int check_features(const struct sched_state *state,
                          const struct sched_node_spec *spec,
                          struct shl_err *err)
{
    if (state->features & ~spec->features) {
        return shl_err_set(err, SHL_EVERSION,
                           "the cluster uses features that the version of node \"%s\" does not "
                           "know: upgrade it",
                           spec->name);
    }
    return 0;
}

static int check_token(const struct sched_state *state,
                       const struct sched_cmd_node_join *join,
                       uint64_t now_ms,
                       struct shl_err *err)
{
    const struct sched_token *token = sched_state_token(state, join->token);

    if (!token) {
        return shl_err_set(err, SHL_EAUTH,
                           "the join token is not known to this cluster: create one with "
                           "\"shoal token create\"");
    }
    if (memcmp(token->secret_hash, join->secret_hash, SCHED_HASH_BYTES) != 0) {
        return shl_err_set(err, SHL_EAUTH, "the secret of the join token is wrong");
    }
    if (token->revoked) {
        return shl_err_set(err, SHL_EAUTH, "the join token was revoked");
    }
    if (token->used && !(state->mutations & SCHED_MUT_TOKEN_REUSED)) {
        return shl_err_set(err, SHL_EAUTH,
                           "the join token was used by node \"%s\" already: each admits one node",
                           token->used_name);
    }
    if (token->expires_at_ms <= now_ms) {
        return shl_err_set(err, SHL_EAUTH, "the join token expired %llu s ago: create a new one",
                           (unsigned long long)((now_ms - token->expires_at_ms) / 1000));
    }
    return 0;
}

int sched_state_check_join(const struct sched_state *state,
                           const struct sched_cmd_node_join *join,
                           uint64_t now_ms,
                           struct shl_err *err)
{
    const struct sched_table *nodes = &state->tables[SCHED_TABLE_NODES];
    const struct sched_node *same;
    int rc = check_removed(state, &join->node, err);

    if (rc < 0) {
        return rc;
    }
    same = sched_state_node_by_key(state, join->node.key);
    if (same) { /* a repeated join: it is a member whatever became of its token */
        if (!shl_node_id_equal(&same->spec.id, &join->node.id)) {
            return shl_err_set(err, SHL_ECONFLICT, "the key belongs to node \"%s\" with another id",
                               same->spec.name);
        }
        return 0;
    }
    rc = check_token(state, join, now_ms, err);
    if (rc == 0) {
        rc = check_identity(state, &join->node, err);
    }
    if (rc == 0) {
        rc = check_features(state, &join->node, err);
    }
    if (rc == 0 && sched_table_is_full(nodes)) {
        rc = shl_err_set(err, SHL_ELIMIT,
                         "the cluster holds %u nodes, which is the limit: remove one that is gone",
                         nodes->rows_max);
    }
    return rc;
}

static int add_node(struct sched_apply *a, const struct sched_node_spec *spec)
{
    struct sched_table *nodes = &a->state->tables[SCHED_TABLE_NODES];
    struct sched_node *node = sched_table_row_new(nodes);

    if (!node || sched_table_grow(nodes) < 0) {
        sched_table_row_free(nodes, node);
        return -ENOMEM;
    }
    node->spec = *spec;
    node->joined_index = a->index;
    node->joined_at_ms = a->now_ms;
    sched_table_insert(nodes, node);
    return 0;
}

int sched_apply_cluster_init(struct sched_apply *a, const struct sched_cmd_cluster_init *c)
{
    struct sched_state *state = a->state;

    if (sched_state_has_cluster(state)) {
        if (memcmp(state->cluster, c->cluster, sizeof(state->cluster)) != 0) {
            return sched_refuse(a, SHL_ECONFLICT, "this is another cluster already");
        }
        a->result->existed = true;
        return 0;
    }
    if (c->node.role == SCHED_ROLE_WITNESS) {
        return sched_refuse(a, SHL_EINVALIDARG, "the first node of a cluster cannot be a witness");
    }
    if (add_node(a, &c->node) < 0) {
        return -ENOMEM;
    }
    memcpy(state->cluster, c->cluster, sizeof(state->cluster));
    state->lease_ms = c->lease_ms;
    return 0;
}

int sched_apply_node_join(struct sched_apply *a, const struct sched_cmd_node_join *c)
{
    struct sched_table *tokens = &a->state->tables[SCHED_TABLE_TOKENS];
    struct sched_token *token;
    struct sched_token probe;

    if (sched_state_check_join(a->state, c, a->now_ms, &a->result->err) < 0) {
        return 0;
    }
    if (sched_state_node_by_key(a->state, c->node.key)) {
        a->result->existed = true;
        return 0;
    }
    if (add_node(a, &c->node) < 0) {
        return -ENOMEM;
    }
    memcpy(probe.id, c->token, sizeof(probe.id));
    token = sched_table_find(tokens, &probe);
    token->used = true;
    token->used_at_ms = a->now_ms;
    memcpy(token->used_by, c->node.key, sizeof(token->used_by));
    memcpy(token->used_name, c->node.name, sizeof(token->used_name));
    sched_table_touch(tokens, token);
    return 0;
}

/*- Members. */

static int refuse_no_member(struct sched_apply *a, const struct shl_node_id *id)
{
    char text[SHL_NODE_ID_TEXT_SIZE];

    shl_node_id_format(text, id);
    return sched_refuse(a, SHL_ENOTFOUND, "node %s is not a member of the cluster", text);
}

int sched_apply_node_update(struct sched_apply *a, const struct sched_cmd_node_update *c)
{
    struct sched_node *node = sched_node_find(a->state, &c->node.id);

    if (!node) {
        return refuse_no_member(a, &c->node.id);
    }
    if (memcmp(node->spec.key, c->node.key, SCHED_KEY_BYTES) != 0) {
        return sched_refuse(a, SHL_ECONFLICT, "node \"%s\" has another key", node->spec.name);
    }
    if (strcmp(node->spec.name, c->node.name) != 0) {
        return sched_refuse(a, SHL_ECONFLICT, "node \"%s\" cannot change its name to \"%s\"",
                            node->spec.name, c->node.name);
    }
    if (check_features(a->state, &c->node, &a->result->err) < 0) {
        return 0;
    }
    node->spec = c->node;
    sched_table_touch(&a->state->tables[SCHED_TABLE_NODES], node);
    return 0;
}

static void set_mark(struct sched_apply *a, struct sched_mark *mark, bool on, const char *by)
{
    if (mark->on == on) { /* who and when of the first time stay */
        return;
    }
    memset(mark, 0, sizeof(*mark));
    if (on) {
        mark->on = true;
        mark->at_ms = a->now_ms;
        mark->index = a->index;
        memcpy(mark->by, by, sizeof(mark->by));
    }
}

int sched_apply_node_mark(struct sched_apply *a, const struct sched_cmd_node_mark *c)
{
    struct sched_node *node = sched_node_find(a->state, &c->node);

    if (!node) {
        return refuse_no_member(a, &c->node);
    }
    a->result->existed = node->cordoned.on == c->cordoned && node->draining.on == c->draining;
    set_mark(a, &node->cordoned, c->cordoned, c->by);
    set_mark(a, &node->draining, c->draining, c->by);
    sched_table_touch(&a->state->tables[SCHED_TABLE_NODES], node);
    return 0;
}

int sched_apply_lease_renew(struct sched_apply *a, const struct sched_cmd_lease_renew *c)
{
    struct sched_node *node = sched_node_find(a->state, &c->node);

    if (!node) {
        return refuse_no_member(a, &c->node);
    }
    if (c->term != a->term) {
        return sched_refuse(a, SHL_EBADSTATE, "the lease was asked of another leader: ask again");
    }
    node->lease_index = a->index;
    node->lease_term = a->term;
    node->lease_boot = c->boot;
    a->result->number = c->seq;
    sched_table_touch(&a->state->tables[SCHED_TABLE_NODES], node);
    return 0;
}

/*- Leaving for good. */

static bool may_remove(struct sched_apply *a,
                       const struct sched_node *node,
                       const struct sched_cmd_node_remove *c)
{
    const struct sched_state *state = a->state;

    if (state->tables[SCHED_TABLE_NODES].count == 1) {
        (void)sched_refuse(a, SHL_EBADSTATE, "the last node of a cluster cannot be removed");
        return false;
    }
    if (!node->draining.on && !c->force) {
        (void)sched_refuse(a, SHL_EBADSTATE,
                           "node \"%s\" is not drained: drain it first, or force the removal when "
                           "it is lost",
                           node->spec.name);
        return false;
    }
    if (sched_table_is_full(&state->tables[SCHED_TABLE_REMOVED])) {
        (void)sched_refuse_full(a, SCHED_TABLE_REMOVED, "no more can be removed for good");
        return false;
    }
    return true;
}

int sched_apply_node_remove(struct sched_apply *a, const struct sched_cmd_node_remove *c)
{
    struct sched_table *nodes = &a->state->tables[SCHED_TABLE_NODES];
    struct sched_table *removed = &a->state->tables[SCHED_TABLE_REMOVED];
    struct sched_node *node = sched_node_find(a->state, &c->node);
    struct sched_removed *stone;

    if (!node) {
        return refuse_no_member(a, &c->node);
    }
    if (!may_remove(a, node, c)) {
        return 0;
    }
    stone = sched_table_row_new(removed);
    if (!stone || sched_table_grow(removed) < 0) {
        sched_table_row_free(removed, stone);
        return -ENOMEM;
    }
    memcpy(stone->key, node->spec.key, sizeof(stone->key));
    memcpy(stone->name, node->spec.name, sizeof(stone->name));
    memcpy(stone->by, c->by, sizeof(stone->by));
    stone->id = node->spec.id;
    stone->index = a->index;
    stone->at_ms = a->now_ms;
    if (sched_state_removed(a->state, stone->key)) { /* only with SCHED_MUT_REMOVED_READMIT */
        sched_table_row_free(removed, stone);
    } else {
        sched_table_insert(removed, stone);
    }
    sched_table_remove(nodes, node);
    sched_checkpoints_forget_node(a, &c->node);
    a->result->existed = true;
    return 0;
}
