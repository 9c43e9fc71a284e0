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
#include "node/cluster/owners.h"
#include "node/cluster/replicas.h"

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

        /* one without an address was made of a backup, and has not said it yet */
        if (!shl_node_id_equal(&row->spec.id, &c->keys.id) && row->spec.control[0]) {
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

/* The node that a stored entry is about, and whether it comes or goes. */
static bool is_about_node(const struct sched_raft_entry *entry,
                          struct sched_command *command,
                          const struct sched_node_spec **ret_spec,
                          const struct shl_node_id **ret_removed)
{
    *ret_spec = NULL;
    *ret_removed = NULL;
    if (entry->type != SCHED_RAFT_COMMAND || sched_command_decode(command, entry->data, NULL) < 0) {
        return false;
    }
    if (command->kind == SCHED_CLUSTER_INIT) {
        *ret_spec = &command->u.cluster_init.node;
    } else if (command->kind == SCHED_NODE_JOIN) {
        *ret_spec = &command->u.node_join.node;
    } else if (command->kind == SCHED_NODE_REMOVE) {
        *ret_removed = &command->u.node_remove.node;
    }
    return *ret_spec || *ret_removed;
}

/* After a restart the log is on disk, but only a leader can say how far it is committed, and
 * it can only say so over a link. So the members of entries that are stored are let in before:
 * an authenticated leader has sent them, and what they add is undone when it was not to be. */
void cluster_apply_hints(struct cluster *c)
{
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT};
    const struct sched_node_spec *spec;
    const struct shl_node_id *removed;
    struct sched_command command;
    uint64_t index = sched_raft_applied(c->log.raft);

    while (++index <= sched_raft_last_index(c->log.raft)) {
        const struct sched_raft_entry *entry = sched_raft_entry_at(c->log.raft, index);
        struct sched_node row = {0};
        struct gossip_info info;

        if (!entry || !is_about_node(entry, &command, &spec, &removed)) {
            continue;
        }
        if (removed && !shl_node_id_equal(removed, &c->keys.id)) {
            forget_node(c, removed);
        } else if (spec && !shl_node_id_equal(&spec->id, &c->keys.id)) {
            row.spec = *spec;
            info_of(&row, &info);
            event.admit.infos = &info;
            event.admit.info_count = 1;
            cluster_members_feed(c, &event);
        }
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

void cluster_apply_keys(struct cluster *c)
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
        cluster_owners_applied(c, NULL);
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
    case SCHED_OWNER_REGISTER:
    case SCHED_OWNER_RELEASE:
    case SCHED_OWNER_CLAIM:
    case SCHED_OWNER_DELETE:
        cluster_owners_applied(c, command->u.owner.sandbox);
        break;
    default:
        break;
    }
    cluster_own_applied(c);
    cluster_replicas_applied(c, command);
    cluster_keyring_applied(c, command);
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
    cluster_apply_keys(c);
    cluster_owners_applied(c, NULL);
    cluster_own_applied(c);
    cluster_replicas_loaded(c);
    cluster_keyring_applied(c, NULL);
    cluster_join_watch(c);
    if (c->is_joining || !c->is_settled) {
        cluster_join_settled(c);
    }
}
