/* Who votes: the next single change of the Raft membership, or none.
 *
 * Goal: 1 voter of 1 node, 2 of 2 (both disks hold what was acknowledged), 3 of 3 or 4,
 * 5 of 5 or more; in different failure domains; stable nodes; present voters
 * before newcomers that are no better; of newcomers a witness first. A voter that is dead for
 * longer than dead_ms is replaced by a standby, or dropped when the cluster bears more losses
 * without it. No step leaves fewer live voters than a majority of the result. Nodes that are no
 * voters are standbys (learners); removed nodes leave the membership.
 *
 * Pure: called by the leader now and then with what it sees; the caller carries the change
 * out and calls again when it is committed.
 */
#ifndef SHL_SCHEDULER_VOTERS_H
#define SHL_SCHEDULER_VOTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/node_id.h"
#include "scheduler/limits.h"

enum sched_voters_op { /* 1 to 4 as enum sched_raft_change_op */
    SCHED_VOTERS_NONE = 0,
    SCHED_VOTERS_ADD_LEARNER = 1,
    SCHED_VOTERS_PROMOTE = 2,
    SCHED_VOTERS_DEMOTE = 3,
    SCHED_VOTERS_REMOVE = 4,
    SCHED_VOTERS_TRANSFER = 5, /* lead over to this node first: the leader itself must go */
};

struct sched_voters_node {
    struct shl_node_id id;
    bool member; /* in the replicated state; false: removed, only Raft still knows it */
    bool alive;
    uint64_t alive_ms; /* alive without a break for this long; 0 while dead */
    uint64_t dead_ms;  /* dead for this long; 0 while alive */
    bool flapping;
    bool draining;
    uint32_t role;      /* enum sched_role */
    const char *domain; /* borrowed; "" or NULL: a domain of its own */
    bool in_raft;       /* voter or learner */
    bool voter;
    bool caught_up; /* learner: its log is near the leader's */
};

struct sched_voters_config {
    uint32_t voters_max;  /* 5 */
    uint32_t members_max; /* voters and learners that Raft takes: 64; others read through */
    uint64_t stable_ms;   /* alive this long before it may become a voter: 30 s */
    uint64_t grow_ms;     /* the same while there are fewer than 3 voters: 5 s */
    uint64_t dead_ms;     /* dead this long before it is replaced: 30 s */
    uint64_t interval_ms; /* between two changes of voters: 5 s */
    uint32_t mutations;
};

struct sched_voters_input {
    const struct sched_voters_node *nodes; /* any order, ids unique; up to SCHED_NODES_MAX */
    uint32_t count;
    struct shl_node_id leader; /* this node */
    bool change_under_way;     /* a membership entry is not committed yet */
    uint64_t since_change_ms;  /* since the last change of voters; UINT64_MAX: none yet */
};

struct sched_voters_change {
    enum sched_voters_op op;
    struct shl_node_id node;
    bool witness;    /* with ADD_LEARNER */
    const char *why; /* static sentence, "" with NONE */
};

void sched_voters_config_init(struct sched_voters_config *config);
struct sched_voters_change sched_voters_next(const struct sched_voters_config *config,
                                             const struct sched_voters_input *input);

/* How many voters @count nodes should have. */
uint32_t sched_voters_wanted(uint32_t count, uint32_t voters_max);

#endif /* SHL_SCHEDULER_VOTERS_H */
