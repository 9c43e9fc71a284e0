#include "gossip/tree.h"

#include <assert.h>
#include <stddef.h>

/* The place where the parent (or the tree) points at @node. */
static struct gossip_tree_node **link_of(struct gossip_tree *tree, struct gossip_tree_node *node)
{
    if (!node->parent) {
        return &tree->root;
    }
    return node->parent->left == node ? &node->parent->left : &node->parent->right;
}

/* @node goes where its parent is, the parent becomes its child. */
static void rotate_up(struct gossip_tree *tree, struct gossip_tree_node *node)
{
    struct gossip_tree_node *parent = node->parent;
    struct gossip_tree_node *moved;

    *link_of(tree, parent) = node;
    node->parent = parent->parent;
    if (parent->left == node) {
        moved = node->right;
        parent->left = moved;
        node->right = parent;
    } else {
        moved = node->left;
        parent->right = moved;
        node->left = parent;
    }
    if (moved) {
        moved->parent = parent;
    }
    parent->parent = node;
}

void gossip_tree_insert(struct gossip_tree *tree,
                        struct gossip_tree_node *node,
                        uint32_t priority,
                        const void *key,
                        gossip_tree_compare compare)
{
    struct gossip_tree_node **link = &tree->root;
    struct gossip_tree_node *parent = NULL;

    while (*link) {
        int order = compare(key, *link);

        assert(order != 0);
        parent = *link;
        link = order < 0 ? &parent->left : &parent->right;
    }
    *node = (struct gossip_tree_node){.parent = parent, .priority = priority};
    *link = node;
    while (node->parent && node->parent->priority < node->priority) {
        rotate_up(tree, node);
    }
}

void gossip_tree_remove(struct gossip_tree *tree, struct gossip_tree_node *node)
{
    struct gossip_tree_node *child;

    while (node->left && node->right) {
        rotate_up(tree, node->left->priority > node->right->priority ? node->left : node->right);
    }
    child = node->left ? node->left : node->right;
    *link_of(tree, node) = child;
    if (child) {
        child->parent = node->parent;
    }
    *node = (struct gossip_tree_node){0};
}

struct gossip_tree_node *gossip_tree_lower_bound(const struct gossip_tree *tree,
                                                 const void *key,
                                                 gossip_tree_compare compare)
{
    struct gossip_tree_node *at = tree->root;
    struct gossip_tree_node *best = NULL;

    while (at) {
        if (compare(key, at) <= 0) {
            best = at;
            at = at->left;
        } else {
            at = at->right;
        }
    }
    return best;
}

struct gossip_tree_node *gossip_tree_next(const struct gossip_tree_node *node)
{
    struct gossip_tree_node *at = node->right;

    if (at) {
        while (at->left) {
            at = at->left;
        }
        return at;
    }
    at = node->parent;
    while (at && at->right == node) {
        node = at;
        at = at->parent;
    }
    return at;
}
