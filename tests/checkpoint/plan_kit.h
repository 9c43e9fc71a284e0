/* A repair planner under test: five nodes that can be set as a test likes, checkpoints by number,
 * and the planner of one node at a time. */
#ifndef SHL_TESTS_CHECKPOINT_PLAN_KIT_H
#define SHL_TESTS_CHECKPOINT_PLAN_KIT_H

#include "checkpoint/replica_plan.h"
#include "tests/checkpoint/helper.h"

#define NODES   5u
#define NOBODY  99u
#define ENTRIES 100u

struct world {
    struct ckpt_plan *plan;
    struct ckpt_plan_config config;
    struct ckpt_plan_actions acts;
    struct ckpt_plan_node nodes[NODES];
    struct ckpt_plan_entry entries[ENTRIES];
    struct shl_node_id holders[ENTRIES][NODES];
    uint32_t entry_count;
    bool settled;
    struct ckpt_plan_budget budget;
    uint64_t now_ms;
};

struct shl_node_id pk_node_id(uint32_t number);
struct ckpt_id pk_manifest(uint32_t number);

int pk_setup(void **state);
int pk_teardown(void **state);

/* A new planner, of node @self. */
void pk_begin(struct world *w, uint32_t self);
/* Entry number @at, held by the nodes whose bits are in @held. */
void pk_entry(struct world *w, uint32_t at, uint32_t copies, uint32_t owner, uint32_t held);
void pk_life(struct world *w, uint32_t node, enum ckpt_plan_life state); /* since now */
int pk_try_view(struct world *w);
void pk_view(struct world *w, uint64_t elapsed_ms);
void pk_ended(struct world *w, uint32_t at, bool ok);

uint32_t pk_count(const struct world *w, enum ckpt_plan_action_type type);
/* Who would be told to fetch something: a new planner for every node in turn; NOBODY, or the
 * only one. */
uint32_t pk_fetcher(struct world *w);

#endif /* SHL_TESTS_CHECKPOINT_PLAN_KIT_H */
