/* Parts of membership that only the Raft core uses; the rest is in raft.h. */
#ifndef SHL_SCHEDULER_RAFT_MEMBERSHIP_H
#define SHL_SCHEDULER_RAFT_MEMBERSHIP_H

#include "scheduler/raft.h"

/* Nothing happens when @id is no member. */
void sched_raft_membership_remove(struct sched_raft_membership *m, const struct shl_node_id *id);

#endif /* SHL_SCHEDULER_RAFT_MEMBERSHIP_H */
