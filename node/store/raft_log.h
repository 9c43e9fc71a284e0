/* What the Raft core stores, on LevelDB: hard state, log entries, one snapshot.
 *
 * Keys: "h" hard state; "e" + index (8 bytes, big endian) an entry; "m" the snapshot's
 * meta; "s" + piece number (4 bytes, big endian) its bytes. Values are msgpack with a
 * version, entries term (8 bytes, little endian), type (1 byte), data.
 *
 * A request becomes one write batch, made on the loop thread (it copies what it needs) and
 * written with a sync on any one thread at a time: all of it is there after a crash or
 * nothing. Damage is refused with a sentence; a node must not vote from a log that forgot.
 */
#ifndef SHL_NODE_STORE_RAFT_LOG_H
#define SHL_NODE_STORE_RAFT_LOG_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "scheduler/raft.h"

struct node_raft_log;
struct node_raft_batch;

/* What was stored; release when the core has its copy. */
struct node_raft_stored {
    uint64_t term;
    struct shl_node_id vote;
    struct sched_raft_snapshot_meta snapshot; /* index 0: none */
    struct shl_buf snapshot_data;
    struct sched_raft_entry *entries; /* heap, contiguous; data points into bytes */
    uint64_t entry_count;
    struct shl_buf bytes;
};

SHL_MUST_CHECK int node_raft_log_open(const char *dir,
                                      struct node_raft_log **ret_log,
                                      struct shl_err *err);
/* No batch may be under way. NULL is fine. */
void node_raft_log_close(struct node_raft_log *log);

/* Once, before the first batch. Returns 1 when something was stored, 0 when nothing ever
 * was, SHL_ECORRUPT, SHL_EVERSION, SHL_ELIMIT. */
SHL_MUST_CHECK int node_raft_log_load(struct node_raft_log *log,
                                      struct node_raft_stored *ret,
                                      struct shl_err *err);
void node_raft_stored_release(struct node_raft_stored *stored);

/* Loop thread. NULL without memory, or when the meta cannot be encoded. */
struct node_raft_batch *node_raft_log_prepare(struct node_raft_log *log,
                                              const struct sched_raft_persist *persist);
/* Any thread, one at a time, in the order of prepare. Durable when it returns 0. Frees @batch. */
SHL_MUST_CHECK int node_raft_log_write(struct node_raft_log *log,
                                       struct node_raft_batch *batch,
                                       struct shl_err *err);

#endif /* SHL_NODE_STORE_RAFT_LOG_H */
