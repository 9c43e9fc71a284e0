/* Is what a request asks for built already, or being built? By the rows of the log; and, until
 * the node that was chosen for a build has written its row, by what this node remembers of that
 * choice. So of many who ask at once for the same image only the first needs room for a builder. */
#include <stdio.h>
#include <string.h>

#include "node/cluster/cluster_private.h"
#include "node/image/row.h"

#define NOTED_MS 10000 /* from the choice of a node until its row is there, at most */

static const struct sched_node *node_of(const struct cluster *c, const char *name)
{
    size_t i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *node = sched_state_at(c->state, SCHED_TABLE_NODES, i);

        if (strcmp(node->spec.name, name) == 0) {
            return node;
        }
    }
    return NULL;
}

static bool is_there(const struct cluster *c, const struct shl_node_id *id)
{
    return shl_node_id_equal(id, &c->keys.id) || cluster_members_is_live(c, id);
}

struct finding {
    const struct cluster *c;
    struct shl_node_id *node;
    bool is_found;
};

/* Built; or being built, by a node that lives. */
static bool on_row(void *arg, const struct node_row *row)
{
    struct finding *finding = arg;
    const struct sched_node *node;
    struct image_row image;

    if (image_row_decode(row->value, &image) < 0) {
        return true;
    }
    node = node_of(finding->c, image.node);
    if (!image.is_layer &&
        (image.status == IMAGE_READY ||
         (image.status == IMAGE_BUILDING && node && is_there(finding->c, &node->spec.id)))) {
        finding->is_found = true;
        *finding->node = node ? node->spec.id : (struct shl_node_id){{0}};
    }
    image_row_release(&image);
    return !finding->is_found;
}

static struct cluster_build *noted(struct cluster *c, const char *key)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(c->builds); i++) {
        if (strcmp(c->builds[i].key, key) == 0) {
            return &c->builds[i];
        }
    }
    return NULL;
}

enum cluster_building cluster_build_find(struct cluster *c,
                                         const char *key,
                                         uint64_t now_ms,
                                         struct shl_node_id *ret_node)
{
    struct finding finding = {.c = c, .node = ret_node};
    const struct cluster_build *build;

    *ret_node = (struct shl_node_id){{0}};
    if (!key) {
        return CLUSTER_BUILD_NEW;
    }
    cluster_rows(c, key, on_row, &finding);
    if (finding.is_found) {
        return CLUSTER_BUILD_KNOWN;
    }
    build = noted(c, key);
    if (!build || build->until_ms <= now_ms || !is_there(c, &build->node)) {
        return CLUSTER_BUILD_NEW;
    }
    *ret_node = build->node;
    return CLUSTER_BUILD_CHOSEN;
}

void cluster_build_note(struct cluster *c,
                        const char *key,
                        uint64_t now_ms,
                        const struct shl_node_id *node)
{
    struct cluster_build *build = noted(c, key);
    size_t i;

    if (!build) { /* the one that ends first makes room */
        build = &c->builds[0];
        for (i = 1; i < SHL_ARRAY_SIZE(c->builds); i++) {
            build = c->builds[i].until_ms < build->until_ms ? &c->builds[i] : build;
        }
    }
    build->node = *node;
    build->until_ms = now_ms + cluster_patience_ms(c, NOTED_MS);
    (void)snprintf(build->key, sizeof(build->key), "%s", key);
}
