/* Reservations: room on a node that was promised and does not show yet in what the node
 * says about itself. They keep a herd of creates from landing on one node.
 *
 *   sched_reserve -> promised --commit--> waits for the node's own figures --> gone
 *                        |  \--release--> gone
 *                        \--deadline----> gone
 *
 * Committed ones count on until the node's gossiped state is as new as the one that
 * includes the sandbox (view version), so nothing is missing in between; at the latest
 * until their deadline, which should be longer than gossip takes. Volatile: lives with the leader
 * (or with an entry node that places without one). Pure; times are monotonic milliseconds of the
 * owner.
 */
#ifndef SHL_SCHEDULER_RESERVE_H
#define SHL_SCHEDULER_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/node_id.h"
#include "scheduler/limits.h"

/* Amounts of what a node has or a sandbox takes. */
struct sched_amount {
    uint64_t cpus;
    uint64_t memory_mb;
    uint64_t disk_mb;
    uint64_t sandboxes;
};

struct sched_reservation {
    uint64_t id; /* ascending, never reused */
    struct shl_node_id node;
    struct sched_amount amount;
    uint64_t deadline_ms;
    bool committed;
    uint64_t version; /* committed: of the node's state that includes it */
};

struct sched_reserved_node {
    struct shl_node_id node;
    struct sched_amount sum;
    uint32_t count;
    uint64_t seen_at; /* lowest version of a committed one, UINT64_MAX none; may be too low */
};

struct sched_reserves {
    struct sched_reservation *items; /* heap, by id */
    uint32_t count;
    uint64_t wake_at_ms; /* no deadline is earlier */
    uint64_t next_id;
    struct sched_reserved_node nodes[SCHED_NODES_MAX]; /* by node, those with a count */
    uint32_t node_count;
};

/* 0 or -ENOMEM: all memory is taken here. */
SHL_MUST_CHECK int sched_reserves_init(struct sched_reserves *r);
void sched_reserves_release(struct sched_reserves *r);
void sched_reserves_clear(struct sched_reserves *r);

/* Sum over the open reservations of @node. */
struct sched_amount sched_reserves_sum(const struct sched_reserves *r,
                                       const struct shl_node_id *node);

/* Take @amount on @node until @deadline_ms. Whether it fits is the caller's decision
 * (scheduler/place.h). Returns 0 and the id, SHL_ELIMIT when the table is full. */
SHL_MUST_CHECK int sched_reserve(struct sched_reserves *r,
                                 const struct shl_node_id *node,
                                 const struct sched_amount *amount,
                                 uint64_t deadline_ms,
                                 uint64_t *ret_id);
/* The node accepted: keep counting until its state is at @version, or @deadline_ms.
 * 0, SHL_ENOTFOUND when it had expired (then the node's own figures are all there is). */
int sched_reserve_commit(struct sched_reserves *r,
                         uint64_t id,
                         uint64_t version,
                         uint64_t deadline_ms);
/* The node refused or nothing came of it. 0 or SHL_ENOTFOUND. */
int sched_reserve_release(struct sched_reserves *r, uint64_t id);
/* The node's own figures of @version are in the views from now on. Returns how many went. */
uint32_t sched_reserves_seen(struct sched_reserves *r,
                             const struct shl_node_id *node,
                             uint64_t version);
/* Drop those whose deadline is at or before @now_ms. Returns how many went. */
uint32_t sched_reserves_expire(struct sched_reserves *r, uint64_t now_ms);
/* Expire again then: no deadline is earlier. UINT64_MAX when there is none. */
uint64_t sched_reserves_wake_at(const struct sched_reserves *r);

#endif /* SHL_SCHEDULER_RESERVE_H */
