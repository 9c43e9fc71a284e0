/* Patches: scripts that belong to a checkpoint and run in every sandbox that was forked from it.
 *
 * They run after setup, before anybody uses the sandbox: at the fork, and at each wake those that
 * have not run in it yet; in order, as root, each once. The first that fails holds back the
 * later ones until the next wake (or until it is deleted) and is told in spec.patch_error; the
 * sandbox runs all the same. Not at a reboot and not at a restore in place. That one ran is
 * recorded with the run that has its effect: a wake that fails leaves neither. Added or deleted
 * through whichever node before a fork or wake was asked for, that counts for it.
 */
#ifndef SHL_NODE_SANDBOX_PATCH_H
#define SHL_NODE_SANDBOX_PATCH_H

#include <stdbool.h>
#include <stdint.h>

#define NODE_PATCH_S          300 /* of one script */
#define NODE_PATCH_SCRIPT_MAX (28 * 1024)

struct node_manager;

typedef void (*node_patches_known_cb)(void *arg);

/* Who knows of patches. */
struct node_patch_source {
    /* Asked when a boot begins that may have patches: true when what any node was told before is
     * known here, or cannot be learned now. Else @cb follows, once, never from inside, also when
     * the source ends; the sandbox boots meanwhile. NULL: all is always known. */
    bool (*catch_up)(void *arg, node_patches_known_cb cb, void *cb_arg);
    /* The patch of @checkpoint that follows number @after: 1, and the script is the caller's to
     * free; 0: there is none; -ENOMEM. Called from inside other calls. */
    int (*next)(void *arg,
                const char *checkpoint,
                uint32_t after,
                uint32_t *ret_sequence,
                char **ret_script);
};

/* @source is borrowed until another one is set; NULL ends it. */
void node_manager_set_patches(struct node_manager *manager,
                              const struct node_patch_source *source,
                              void *arg);

#endif /* SHL_NODE_SANDBOX_PATCH_H */
