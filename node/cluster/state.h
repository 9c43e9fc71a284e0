/* The replicated state as this version of shoald may read it: nothing is skipped that a newer one
 * would carry out, so that two nodes never go on with different states. Pure but for memory. */
#ifndef SHL_NODE_CLUSTER_STATE_H
#define SHL_NODE_CLUSTER_STATE_H

#include "base/buf.h"
#include "base/err.h"
#include "scheduler/raft.h"
#include "scheduler/state.h"

/* The whole stream of a snapshot. 0 and *ret, which is the caller's; SHL_EVERSION, also when the
 * cluster uses features that are not known here; else as sched_load_feed and sched_load_end. */
SHL_MUST_CHECK int cluster_state_load(struct shl_bytes stream,
                                      uint64_t index,
                                      uint64_t term,
                                      struct sched_state **ret,
                                      struct shl_err *err);

/* Appends that stream. 0, SHL_ELIMIT (of @buf), -ENOMEM. */
SHL_MUST_CHECK int cluster_state_save(const struct sched_state *state, struct shl_buf *buf);

/* An entry that is a command. 0 with its outcome; SHL_EVERSION: it is of a newer version, and
 * nothing was done, or uses features that are not known here; else as sched_state_apply. */
SHL_MUST_CHECK int cluster_state_apply(struct sched_state *state,
                                       const struct sched_raft_entry *entry,
                                       struct sched_result *ret,
                                       struct shl_err *err);

#endif /* SHL_NODE_CLUSTER_STATE_H */
