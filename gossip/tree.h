/* Ordered intrusive tree (treap). The order is the caller's; priorities come from the caller's
 * random stream, so that hostile keys cannot unbalance it and equal runs build equal trees.
 * Nodes are embedded in the caller's objects and never allocated or freed here. */
#ifndef SHL_GOSSIP_TREE_H
#define SHL_GOSSIP_TREE_H

#include <stdint.h>

struct gossip_tree_node {
    struct gossip_tree_node *left;
    struct gossip_tree_node *right;
    struct gossip_tree_node *parent;
    uint32_t priority;
};

struct gossip_tree {
    struct gossip_tree_node *root; /* NULL: empty */
};

/* <0, 0, >0: where @node lies relative to what @key describes (key - node). */
typedef int (*gossip_tree_compare)(const void *key, const struct gossip_tree_node *node);

/* @key describes @node and is not in the tree yet. */
void gossip_tree_insert(struct gossip_tree *tree,
                        struct gossip_tree_node *node,
                        uint32_t priority,
                        const void *key,
                        gossip_tree_compare compare);
void gossip_tree_remove(struct gossip_tree *tree, struct gossip_tree_node *node);

/* First node that is not before @key, or NULL. */
struct gossip_tree_node *gossip_tree_lower_bound(const struct gossip_tree *tree,
                                                 const void *key,
                                                 gossip_tree_compare compare);
struct gossip_tree_node *gossip_tree_next(const struct gossip_tree_node *node);

#endif /* SHL_GOSSIP_TREE_H */
