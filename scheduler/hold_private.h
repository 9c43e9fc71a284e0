/* Inside of the holding core. See scheduler/hold.h. */
#ifndef SHL_SCHEDULER_HOLD_PRIVATE_H
#define SHL_SCHEDULER_HOLD_PRIVATE_H

#include "scheduler/hold.h"

#define HOLD_SETTLE_ACTIONS 6u /* at most that many of one sandbox in one settle */

struct hold_row { /* of the log, as far as it is known here */
    bool there;
    bool stone;
    bool claimable;
    bool released;
    bool believed; /* from an outcome: the log is not applied up to it yet */
    struct shl_node_id owner;
    uint64_t epoch;
    uint64_t at; /* index up to which this is known */
};

struct hold_order { /* the one under way, or the last one */
    uint32_t kind;  /* 0: none yet */
    bool open;
    bool claimable;
    uint64_t token;
    uint64_t again_ms; /* the same order not before */
};

struct held {
    struct sched_hold_facts facts; /* epoch, claimable, copy: as saved */
    struct hold_row row;
    struct hold_order order;
    bool saving;
    uint64_t saving_epoch;
    bool saving_claimable;
    /* No release of this epoch can be on its way: a wake may use it. Forgotten by a restart,
     * then a wake needs a new one. */
    uint64_t fresh;
    bool waking; /* WAKE without an answer so far */
    uint64_t wake_until_ms;
    bool deleting;
    uint64_t delete_until_ms;
    bool orphan;  /* no FACTS, but a row of this node */
    bool ending;  /* LET_GO or DELETED was told; an orphan: nothing is left to do */
    bool adopted; /* it runs since before this process: paused or not, nobody knows */
    bool paused;  /* as told */
    uint64_t deadline_ms;
    bool dirty;
    uint64_t due_ms;
};

struct sched_hold {
    struct sched_hold_config config;
    struct held **held; /* by sandbox */
    uint32_t count, cap;
    uint64_t next_token;
    bool caught_up;
    bool member; /* this node, as far as the log is applied */
    bool was_member;
    uint64_t lease_until_ms;
    struct sched_hold_actions *actions; /* of the step under way */
};

/* Everything that is to be done about one sandbox now, from what is known of it. There is room
 * for HOLD_SETTLE_ACTIONS. */
void hold_settle(struct sched_hold *hold, struct held *h, uint64_t now_ms);
/* An answer to the wake or the deletion that waits, if one does. */
void hold_refuse(struct sched_hold *hold, struct held *h, const struct shl_err *err);
/* The lease, less the margin, covers this moment, and the log is known up to its renewal. */
bool hold_is_leased(const struct sched_hold *hold, uint64_t now_ms);
bool hold_owns(const struct sched_hold *hold, const struct held *h);
const char *hold_reason(const struct sched_hold *hold, const struct held *h, uint64_t now_ms);

#endif /* SHL_SCHEDULER_HOLD_PRIVATE_H */
