/* What the files of the fake manager share. */
#ifndef SHL_TESTS_NODE_API_FAKE_PRIVATE_H
#define SHL_TESTS_NODE_API_FAKE_PRIVATE_H

#include "base/list.h"
#include "tests/node/api/fake.h"

struct fake_runtime {
    unsigned touches;
    int holds;
    unsigned refs;
    unsigned wakes;
    struct shl_list waiters;
    struct node_agent_link *asleep; /* the agent while it is hibernated */
    void *building;                 /* of a builder, fake_checkpoints.c */
};

struct node_manager {
    uv_loop_t *loop;
    struct shl_list sandboxes;
    struct shl_list checkpoints;
    struct fake_manager_knobs knobs;
    const struct node_patch_source *patches;
    void *patches_arg;
    const struct node_manager_network *network;
    void *network_arg;
};

struct fake_runtime *fake_runtime_of(const struct node_sandbox *sandbox);
void fake_copy_list(struct node_kv_list *dst, const struct node_kv_list *src);

/* @fire comes after @delay_ms. */
void fake_later(struct node_manager *manager,
                uint64_t delay_ms,
                void (*fire)(void *arg),
                void *arg);

/* A sandbox that is CREATING, and runs after a moment. */
struct node_sandbox *fake_sandbox_start(struct node_manager *manager,
                                        const struct node_sandbox_spec *spec,
                                        int code,
                                        const char *msg,
                                        node_create_cb cb,
                                        void *arg);

/* By way of @via (without an agent) to @goal, or back to where it was when @code < 0.
 * @cb may be NULL. */
void fake_sandbox_change(struct node_sandbox *sandbox,
                         enum node_sandbox_state via,
                         enum node_sandbox_state goal,
                         int code,
                         const char *msg,
                         node_sandbox_cb cb,
                         void *arg);

void fake_checkpoints_free(struct node_manager *manager);

#endif /* SHL_TESTS_NODE_API_FAKE_PRIVATE_H */
