/* Records in order of (key, node), and of key within a node: the indexes and the queries on
 * them. Marks of unset keys are in the indexes, queries step over them. */
#include <string.h>

#include "gossip/core.h"

/* ---- order ---- */

struct key_node {
    const char *key;
    const struct shl_node_id *node;
};

static struct gossip_entry *entry_by_key(const struct gossip_tree_node *node)
{
    return shl_container_of(node, struct gossip_entry, by_key);
}

static struct gossip_entry *entry_by_node_key(const struct gossip_tree_node *node)
{
    return shl_container_of(node, struct gossip_entry, by_node_key);
}

/* A key without a node comes before all entries of that key. */
static int compare_key(const void *key, const struct gossip_tree_node *node)
{
    const struct key_node *wanted = key;
    const struct gossip_entry *entry = entry_by_key(node);
    int order = strcmp(wanted->key, entry->pub.key);

    if (order != 0) {
        return order;
    }
    return wanted->node ? shl_node_id_compare(wanted->node, &entry->pub.node) : -1;
}

static int compare_node_key(const void *key, const struct gossip_tree_node *node)
{
    return strcmp(key, entry_by_node_key(node)->pub.key);
}

struct gossip_entry *gossip_entry_find(const struct gossip *g,
                                       const struct gossip_peer *peer,
                                       const char *key)
{
    struct gossip_tree_node *node =
        gossip_tree_lower_bound(&peer->records.by_key, key, compare_node_key);

    (void)g;
    if (!node || strcmp(entry_by_node_key(node)->pub.key, key) != 0) {
        return NULL;
    }
    return entry_by_node_key(node);
}

void gossip_entry_link(struct gossip *g, struct gossip_entry *entry)
{
    struct key_node place = {entry->pub.key, &entry->pub.node};

    gossip_tree_insert(&g->by_key, &entry->by_key, (uint32_t)gossip_random(g), &place, compare_key);
    gossip_tree_insert(&entry->owner->records.by_key, &entry->by_node_key,
                       (uint32_t)gossip_random(g), entry->pub.key, compare_node_key);
}

void gossip_entry_unlink(struct gossip *g, struct gossip_entry *entry)
{
    gossip_tree_remove(&g->by_key, &entry->by_key);
    gossip_tree_remove(&entry->owner->records.by_key, &entry->by_node_key);
}

/* ---- queries ---- */

static const struct gossip_record *first_set_by_key(const struct gossip_tree_node *node)
{
    while (node && entry_by_key(node)->unset) {
        node = gossip_tree_next(node);
    }
    return node ? &entry_by_key(node)->pub : NULL;
}

static const struct gossip_record *first_set_by_node_key(const struct gossip_tree_node *node)
{
    while (node && entry_by_node_key(node)->unset) {
        node = gossip_tree_next(node);
    }
    return node ? &entry_by_node_key(node)->pub : NULL;
}

static const struct gossip_record *if_key(const struct gossip_record *record, const char *key)
{
    return record && strcmp(record->key, key) == 0 ? record : NULL;
}

static const struct gossip_record *if_prefix(const struct gossip_record *record, const char *prefix)
{
    return record && strncmp(record->key, prefix, strlen(prefix)) == 0 ? record : NULL;
}

const struct gossip_record *gossip_record_get(const struct gossip *g,
                                              const struct shl_node_id *node,
                                              const char *key)
{
    const struct gossip_peer *peer = gossip_peer_find(g, node);
    const struct gossip_entry *entry = peer ? gossip_entry_find(g, peer, key) : NULL;

    return entry && !entry->unset ? &entry->pub : NULL;
}

const struct gossip_record *gossip_prefix_first(const struct gossip *g, const char *prefix)
{
    struct key_node wanted = {prefix, NULL};

    return if_prefix(first_set_by_key(gossip_tree_lower_bound(&g->by_key, &wanted, compare_key)),
                     prefix);
}

const struct gossip_record *gossip_prefix_next(const struct gossip_record *record,
                                               const char *prefix)
{
    const struct gossip_entry *entry = gossip_entry_of(record);

    return if_prefix(first_set_by_key(gossip_tree_next(&entry->by_key)), prefix);
}

const struct gossip_record *gossip_key_first(const struct gossip *g, const char *key)
{
    struct key_node wanted = {key, NULL};

    return if_key(first_set_by_key(gossip_tree_lower_bound(&g->by_key, &wanted, compare_key)), key);
}

const struct gossip_record *gossip_key_next(const struct gossip_record *record)
{
    const struct gossip_entry *entry = gossip_entry_of(record);

    return if_key(first_set_by_key(gossip_tree_next(&entry->by_key)), record->key);
}

const struct gossip_record *gossip_node_first(const struct gossip *g,
                                              const struct shl_node_id *node,
                                              const char *prefix)
{
    const struct gossip_peer *peer = gossip_peer_find(g, node);

    if (!peer) {
        return NULL;
    }
    return if_prefix(first_set_by_node_key(
                         gossip_tree_lower_bound(&peer->records.by_key, prefix, compare_node_key)),
                     prefix);
}

const struct gossip_record *gossip_node_next(const struct gossip_record *record, const char *prefix)
{
    const struct gossip_entry *entry = gossip_entry_of(record);

    return if_prefix(first_set_by_node_key(gossip_tree_next(&entry->by_node_key)), prefix);
}

uint32_t gossip_record_count(const struct gossip *g, const struct shl_node_id *node)
{
    const struct gossip_peer *peer = gossip_peer_find(g, node);

    return peer ? peer->records.count : 0;
}
