/* Node leases: until when a node may run what others could start.
 *
 * A node renews through the log. It counts from the moment it SENT the request whose
 * commitment it was told of, and a little less than the lease; the leader counts from the
 * moment it APPLIED the renewal, or was elected, and a little more. Both use monotonic
 * clocks whose rates differ from true time by at most SCHED_CLOCK_RATE_PERMILLE, so the
 * node's lease has ended before the leader says so, whatever the delays and clock steps:
 *
 *      node    sent |-----------0.9 lease-----------| pauses, valid no more
 *      leader        applied |----------------1.1 lease----------------| lapsed
 *
 * A new leader knows no deadlines and waits a full lease from its election. Pure.
 */
#ifndef SHL_SCHEDULER_LEASES_H
#define SHL_SCHEDULER_LEASES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/node_id.h"
#include "scheduler/limits.h"

#define SCHED_CLOCK_RATE_PERMILLE 100u /* clocks run at 0.9 to 1.1 of true time */
#define SCHED_LEASE_ASKED_MAX     8u   /* requests of a node without an answer */

/*- Leader's side. Volatile; nothing is believed while it does not lead. */

struct sched_lease_deadline {
    struct shl_node_id node;
    uint64_t at_ms;
};

struct sched_leases {
    uint32_t lease_ms;
    uint32_t mutations;
    bool leading;
    uint64_t term;
    uint64_t floor_ms;                                      /* nothing has lapsed before this */
    struct sched_lease_deadline deadlines[SCHED_NODES_MAX]; /* by node; renewed in this term */
    uint32_t count;
};

void sched_leases_init(struct sched_leases *l, uint32_t lease_ms, uint32_t mutations);
/* This node leads from now on, in @term. */
void sched_leases_elected(struct sched_leases *l, uint64_t term, uint64_t now_ms);
void sched_leases_deposed(struct sched_leases *l);
/* A renewal of @node was applied; of whatever term, that only makes it later. 0, or
 * SHL_ELIMIT when the table is full: then everything counts as just renewed. */
int sched_leases_renewed(struct sched_leases *l, const struct shl_node_id *node, uint64_t now_ms);
/* Has every lease that @node could hold ended for certain? Never true unless leading. */
bool sched_leases_lapsed(const struct sched_leases *l,
                         const struct shl_node_id *node,
                         uint64_t now_ms);
/* When it will have; UINT64_MAX unless leading. */
uint64_t sched_leases_lapses_at(const struct sched_leases *l, const struct shl_node_id *node);
/* Drop what has lapsed and needs no memory any more. */
void sched_leases_trim(struct sched_leases *l, uint64_t now_ms);

/*- Node's side. */

struct sched_lease_asked {
    uint64_t seq;
    uint64_t sent_ms;
};

struct sched_lease {
    uint32_t lease_ms;
    uint32_t mutations;
    uint64_t next_seq;
    uint64_t valid_until_ms; /* 0: none yet */
    uint64_t renewed_ms;     /* sent time of the request that it stems from */
    struct sched_lease_asked asked[SCHED_LEASE_ASKED_MAX]; /* ascending */
    uint32_t asked_count;
};

/* A restarted daemon has no lease until it has renewed. */
void sched_lease_init(struct sched_lease *l, uint32_t lease_ms, uint32_t mutations);
/* When to ask (again): a third of a lease after the last success, then each tenth. */
uint64_t sched_lease_ask_at(const struct sched_lease *l);
/* A request is sent now; the number travels with it (boot and seq of SCHED_LEASE_RENEW). */
uint64_t sched_lease_sent(struct sched_lease *l, uint64_t now_ms);
/* The leader says that the renewal @seq is committed. Unknown numbers change nothing. */
void sched_lease_granted(struct sched_lease *l, uint64_t seq, uint64_t now_ms);
bool sched_lease_valid(const struct sched_lease *l, uint64_t now_ms);
/* Pause what others may start at this time: @margin_ms before the end, for the pausing. */
uint64_t sched_lease_pause_at(const struct sched_lease *l, uint64_t margin_ms);

#endif /* SHL_SCHEDULER_LEASES_H */
