/* What the replicated state means for this node: whom it links to, which API keys it takes,
 * with which key sandbox tokens are signed. The local store is a copy, so that requests are
 * answered with no cluster in reach. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/api/keys.h"
#include "node/cluster/cluster_private.h"

/* ---- nodes ----------------------------------------------------------------------- */

static void copy_text(char *dst, size_t size, const char *src)
{
    (void)snprintf(dst, size, "%.*s", (int)size - 1, src);
}

static void info_of(const struct sched_node *row, struct gossip_info *info)
{
    memset(info, 0, sizeof(*info));
    info->id = row->spec.id;
    memcpy(info->key, row->spec.key, GOSSIP_KEY_BYTES);
    copy_text(info->name, sizeof(info->name), row->spec.name);
    copy_text(info->control, sizeof(info->control), row->spec.control);
    copy_text(info->bulk, sizeof(info->bulk), row->spec.bulk);
    copy_text(info->domain, sizeof(info->domain), row->spec.domain);
    info->flags = row->spec.role == SCHED_ROLE_WITNESS ? GOSSIP_FLAG_WITNESS : 0;
    info->proto_min = NODE_MESH_VERSION_MIN;
    info->proto_max = NODE_MESH_VERSION_MAX;
}

static void admit_nodes(struct cluster *c)
{
    size_t count = sched_state_count(c->state, SCHED_TABLE_NODES), i;
    struct gossip_info *infos = count ? calloc(count, sizeof(*infos)) : NULL;
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT};

    for (i = 0; infos && i < count; i++) {
        const struct sched_node *row = sched_state_at(c->state, SCHED_TABLE_NODES, i);

        if (!shl_node_id_equal(&row->spec.id, &c->keys.id)) {
            info_of(row, &infos[event.admit.info_count++]);
        }
    }
    event.admit.infos = infos;
    if (event.admit.info_count > 0) {
        cluster_members_feed(c, &event);
    }
    free(infos);
}

static void forget_node(struct cluster *c, const struct shl_node_id *id)
{
    struct gossip_event event = {.type = GOSSIP_EV_REMOVED, .removed = *id};

    if (shl_node_id_equal(id, &c->keys.id)) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "removed_from_cluster",
                SHL_S("effect", "this node was removed for good: stop it, and let it join anew "
                                "with an empty data folder if it shall come back"));
        return;
    }
    cluster_members_feed(c, &event);
    node_mesh_remove_peer(c->mesh, id);
}

static void forget_nodes(struct cluster *c)
{
    size_t i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_REMOVED); i++) {
        const struct sched_removed *row = sched_state_at(c->state, SCHED_TABLE_REMOVED, i);

        forget_node(c, &row->id);
    }
}

/* ---- API keys -------------------------------------------------------------------- */

static void take_key(struct cluster *c, const struct sched_key *row)
{
    struct node_key_info info = {
        .admin = row->admin,
        .created_at_ms = (int64_t)row->created_at_ms,
        .expires_at_ms = (int64_t)row->expires_at_ms,
    };
    char hash[2 * SCHED_HASH_BYTES + 1];
    struct shl_err err = {0};

    shl_hex_encode(hash, row->hash, SCHED_HASH_BYTES);
    (void)snprintf(info.org, sizeof(info.org), "%s", row->org);
    (void)snprintf(info.display, sizeof(info.display), "%.*s", (int)sizeof(info.display) - 1,
                   row->label);
    if (row->revoked_at_ms != 0) {
        if (node_keys_drop(c->store, hash, &err) < 0) {
            SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "key_not_dropped", SHL_S("error", err.msg));
        }
    } else if (node_keys_import(c->store, hash, &info, &err) < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "key_not_kept", SHL_S("error", err.msg));
    }
}

static void take_keys(struct cluster *c)
{
    size_t i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_KEYS); i++) {
        take_key(c, sched_state_at(c->state, SCHED_TABLE_KEYS, i));
    }
}

/* ---- all ------------------------------------------------------------------------- */

void cluster_apply_effects(struct cluster *c, uint32_t kind, const struct sched_command *command)
{
    const struct sched_key *key;

    switch (kind) {
    case SCHED_CLUSTER_INIT:
    case SCHED_NODE_JOIN:
    case SCHED_NODE_UPDATE:
        admit_nodes(c);
        break;
    case SCHED_NODE_REMOVE:
        forget_node(c, &command->u.node_remove.node);
        break;
    case SCHED_KEY_PUT:
        key = sched_state_key(c->state, command->u.key_put.hash);
        if (key) {
            take_key(c, key);
        }
        break;
    case SCHED_KEY_REVOKE:
        key = sched_state_key(c->state, command->u.key_revoke.hash);
        if (key) {
            take_key(c, key);
        }
        break;
    case SCHED_LEASE_RENEW:
        if (sched_leases_renewed(&c->leases, &command->u.lease_renew.node, cluster_now_ms()) < 0) {
            SHL_LOG(&c->log_sink, SHL_LOG_WARN, "leases_full", SHL_I("max", SCHED_NODES_MAX));
        }
        break;
    default:
        break;
    }
    if (c->is_joining || !c->is_settled) {
        cluster_join_settled(c);
    }
    if (kind == SCHED_TOKEN_CREATE || kind == SCHED_TOKEN_REVOKE || kind == SCHED_NODE_JOIN ||
        kind == SCHED_EXPIRE) {
        cluster_join_watch(c);
    }
}

void cluster_apply_all(struct cluster *c)
{
    admit_nodes(c);
    forget_nodes(c);
    take_keys(c);
    cluster_join_watch(c);
    if (c->is_joining || !c->is_settled) {
        cluster_join_settled(c);
    }
}
