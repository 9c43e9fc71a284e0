/* Layers that were written before they are needed: what a sandbox of another node comes back
 * with, when that node seems to be lost. They are in no record: a daemon that starts removes
 * them like all files that nobody names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/sandbox/import_job.h"
#include "node/sandbox/sandbox.h"

struct ready {
    struct shl_list link;
    char id[NODE_CHECKPOINT_ID_SIZE]; /* of the artefact */
    char manifest[NODE_MANIFEST_SIZE];
    struct node_stack stack; /* referenced */
    uint64_t bytes;
};

static struct ready *find(const struct checkpoints *set, const char *id)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &set->readies) {
        struct ready *ready = shl_container_of(it, struct ready, link);

        if (strcmp(ready->id, id) == 0) {
            return ready;
        }
    }
    return NULL;
}

static void remove_one(struct checkpoints *set, struct ready *ready)
{
    shl_list_remove(&ready->link);
    set->ready_count--;
    free(ready);
}

bool ready_has(const struct checkpoints *set, const char *id, const char *manifest)
{
    const struct ready *ready = find(set, id);

    return ready && strcmp(ready->manifest, manifest) == 0;
}

bool ready_take(struct checkpoints *set,
                const char *id,
                const char *manifest,
                struct node_stack *ret_stack,
                uint64_t *ret_bytes)
{
    struct ready *ready = find(set, id);

    if (!ready || strcmp(ready->manifest, manifest) != 0) {
        return false;
    }
    *ret_stack = ready->stack;
    *ret_bytes = ready->bytes;
    remove_one(set, ready);
    return true;
}

int ready_add(struct checkpoints *set,
              const char *id,
              const char *manifest,
              const struct node_stack *stack,
              uint64_t bytes,
              struct shl_err *err)
{
    struct ready *ready;

    node_import_unready(set->manager, id); /* of another manifest */
    if (set->ready_count >= NODE_READY_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "%d sandboxes are ready to go on here already",
                           NODE_READY_MAX);
    }
    ready = calloc(1, sizeof(*ready));
    if (!ready) {
        return shl_err_sys(err, ENOMEM, "cannot make a sandbox ready");
    }
    (void)snprintf(ready->id, sizeof(ready->id), "%s", id);
    (void)snprintf(ready->manifest, sizeof(ready->manifest), "%s", manifest);
    ready->stack = *stack;
    ready->bytes = bytes;
    node_stack_ref(set->manager, &ready->stack);
    shl_list_push_back(&set->readies, &ready->link);
    set->ready_count++;
    return 0;
}

void node_import_unready(struct node_manager *manager, const char *id)
{
    struct checkpoints *set = manager->checkpoints;
    struct ready *ready = find(set, id);

    if (ready) {
        node_stack_unref(manager, &ready->stack);
        remove_one(set, ready);
    }
}

void readies_free(struct checkpoints *set)
{
    struct shl_list *node;

    while ((node = shl_list_first(&set->readies))) { /* the next start removes their files */
        remove_one(set, shl_container_of(node, struct ready, link));
    }
}
