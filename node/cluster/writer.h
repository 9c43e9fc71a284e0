/* The thread that writes the cluster's log: one request at a time, in order.
 *
 * A thread of its own, because a sync on the shared pool would wait behind minutes of
 * hashing and a leader that cannot store in time loses its office. The loop gives a batch,
 * done() comes on the loop when it is durable.
 */
#ifndef SHL_NODE_CLUSTER_WRITER_H
#define SHL_NODE_CLUSTER_WRITER_H

#include <stdint.h>

#include <uv.h>

#include "base/err.h"
#include "node/store/raft_log.h"

struct cluster_writer;

SHL_MUST_CHECK int cluster_writer_open(
    uv_loop_t *loop,
    struct node_raft_log *log,
    void (*done)(void *arg, uint64_t seq, int code, const char *msg),
    void *arg,
    struct cluster_writer **ret_writer,
    struct shl_err *err);
/* Takes @batch. At most one is under way: give the next one after done. */
void cluster_writer_give(struct cluster_writer *writer,
                         struct node_raft_batch *batch,
                         uint64_t seq);
/* Waits for what is under way (a sync), tells nobody, ends the thread; @cb on the loop. */
void cluster_writer_close(struct cluster_writer *writer, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_CLUSTER_WRITER_H */
