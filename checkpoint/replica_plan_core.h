/* The inside of the repair planner: replica_plan.c, replica_pass.c, replica_trim.c. */
#ifndef SHL_CHECKPOINT_REPLICA_PLAN_CORE_H
#define SHL_CHECKPOINT_REPLICA_PLAN_CORE_H

#include "checkpoint/replica_plan.h"

struct plan_fetch {
    struct ckpt_id manifest;
    enum ckpt_fetch_class class;
    uint32_t remaining;
    uint64_t bytes;
    bool seen; /* in the running pass */
};

/* A copy of this node that is to go. */
struct plan_trim {
    struct ckpt_id manifest;
    uint64_t token;
    uint64_t asked_at_ms;
    struct shl_node_id peers[CKPT_REPLICA_COPIES_MAX];
    uint32_t peer_count;
    uint32_t yes;     /* bit per peer */
    bool is_underway; /* TRIM was given out: only TRIMMED ends it */
    bool seen;        /* in the running pass: it is still too many */
};

struct plan_rest {
    struct ckpt_id manifest;
    uint64_t until_ms;
};

struct ckpt_plan {
    struct ckpt_plan_config config;
    uint64_t now_ms;
    bool is_draining;
    uint64_t next_token;
    struct plan_fetch fetches[CKPT_PLAN_FETCHES_MAX];
    uint32_t fetch_count;
    struct plan_trim trims[CKPT_PLAN_TRIMS_MAX];
    uint32_t trim_count;
    struct plan_rest resting[CKPT_PLAN_RESTING_MAX];
    uint32_t resting_count;
    struct ckpt_plan_actions *actions; /* of the running step */
};

/* replica_plan.c */
struct ckpt_plan_action *plan_act(struct ckpt_plan *plan,
                                  enum ckpt_plan_action_type type,
                                  const struct ckpt_id *manifest);
bool plan_rests(const struct ckpt_plan *plan, const struct ckpt_id *manifest);
void plan_rest(struct ckpt_plan *plan, const struct ckpt_id *manifest);
struct plan_fetch *plan_fetch_find(struct ckpt_plan *plan, const struct ckpt_id *manifest);

/* replica_pass.c */
SHL_MUST_CHECK int plan_view(struct ckpt_plan *plan, const struct ckpt_plan_event *event);

/* replica_trim.c */
/* A pass begins; finds copies of this node that are too many, with the @peer_count nodes that
 * are to keep theirs; ends. */
void plan_trims_begin(struct ckpt_plan *plan);
void plan_trim_wanted(struct ckpt_plan *plan,
                      const struct ckpt_id *manifest,
                      const struct shl_node_id *peers,
                      uint32_t peer_count);
void plan_trims_end(struct ckpt_plan *plan);
void plan_asked(struct ckpt_plan *plan, const struct ckpt_plan_event *event);
void plan_answered(struct ckpt_plan *plan, const struct ckpt_plan_event *event);
void plan_trimmed(struct ckpt_plan *plan, const struct ckpt_plan_event *event);

#endif /* SHL_CHECKPOINT_REPLICA_PLAN_CORE_H */
