/* Parts of membership that only the Raft core uses; the rest is in raft.h. */
#ifndef SHL_SCHEDULER_RAFT_MEMBERSHIP_H
#define SHL_SCHEDULER_RAFT_MEMBERSHIP_H

#include "base/mp.h"
#include "scheduler/raft.h"

/* Nothing happens when @id is no member. */
void sched_raft_membership_remove(struct sched_raft_membership *m, const struct shl_node_id *id);

/* From a decoded value inside a larger document. 0 or SHL_EPROTO. */
SHL_MUST_CHECK int sched_raft_membership_from_object(const msgpack_object *obj,
                                                     struct sched_raft_membership *ret);

#endif /* SHL_SCHEDULER_RAFT_MEMBERSHIP_H */
