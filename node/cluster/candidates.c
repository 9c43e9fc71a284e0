/* Nodes that could have a sandbox or checkpoint that is on none of the nodes that said so:
 * those that hold its data first, then those that would have to copy them, each with the most
 * free memory first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/cluster_private.h"

struct candidate {
    struct shl_node_id id;
    bool is_holder;
    uint32_t free_mb;
};

struct candidates {
    struct candidate items[SCHED_NODES_MAX];
    uint32_t count;
};

static bool holds(const struct sched_checkpoint *row, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; row && i < row->holder_count; i++) {
        if (shl_node_id_equal(&row->holders[i], id)) {
            return true;
        }
    }
    return false;
}

static bool is_usable(const struct cluster *c,
                      const struct sched_node *node,
                      struct cluster_figures *figures)
{
    return !node->draining.on && !node->cordoned.on && node->spec.role != SCHED_ROLE_WITNESS &&
           (shl_node_id_equal(&node->spec.id, &c->keys.id) ||
            cluster_members_is_live(c, &node->spec.id)) &&
           cluster_figures_get(c, &node->spec.id, figures) == 0 && figures->sandboxes_max > 0;
}

static int compare(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;

    if (x->is_holder != y->is_holder) {
        return x->is_holder ? -1 : 1;
    }
    if (x->free_mb != y->free_mb) {
        return x->free_mb > y->free_mb ? -1 : 1;
    }
    return shl_node_id_compare(&x->id, &y->id);
}

static void collect(const struct cluster *c,
                    const struct sched_checkpoint *row,
                    const struct shl_node_id *but,
                    struct candidates *ret)
{
    size_t i;

    ret->count = 0;
    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *node = sched_state_at(c->state, SCHED_TABLE_NODES, i);
        struct cluster_figures figures;

        if ((!but || !shl_node_id_equal(&node->spec.id, but)) && is_usable(c, node, &figures)) {
            ret->items[ret->count++] = (struct candidate){
                .id = node->spec.id,
                .is_holder = holds(row, &node->spec.id),
                .free_mb = figures.memory_usable_mb -
                           SHL_MIN(figures.memory_committed_mb, figures.memory_usable_mb),
            };
        }
    }
    qsort(ret->items, ret->count, sizeof(ret->items[0]), compare);
}

static bool is_named(const struct node_answer *answer, const struct shl_node_id *id)
{
    size_t i;

    for (i = 0; i < answer->target_count; i++) {
        if (shl_node_id_equal(&answer->targets[i].id, id)) {
            return true;
        }
    }
    return false;
}

void cluster_candidates(const struct cluster *c,
                        const struct sched_checkpoint *row,
                        const struct shl_node_id *but,
                        struct node_answer *ret)
{
    struct candidates *found = c->gossip ? calloc(1, sizeof(*found)) : NULL;
    uint32_t i;

    if (!found) {
        return;
    }
    collect(c, row, but, found);
    for (i = 0; i < found->count && ret->target_count < NODE_TARGETS_MAX; i++) {
        if (!is_named(ret, &found->items[i].id)) {
            cluster_add_target(c, ret, &found->items[i].id);
        }
    }
    free(found);
}
