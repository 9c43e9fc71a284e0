/* Known bugs that the simulator can switch back on, to prove that it would find them.
 * A bit mask in the configuration of each part; zero in production, and every replica
 * of one cluster must have the same. */
#ifndef SHL_SCHEDULER_MUTATE_H
#define SHL_SCHEDULER_MUTATE_H

enum sched_mutation {
    SCHED_MUT_NAME_OVERWRITE = 1u << 0,      /* state: a claim replaces what is there */
    SCHED_MUT_TOKEN_REUSED = 1u << 1,        /* state: a used token admits another node */
    SCHED_MUT_REMOVED_READMIT = 1u << 2,     /* state: a removed key may join again */
    SCHED_MUT_EPOCH_UNCHECKED = 1u << 3,     /* state: a claim does not look at the epoch */
    SCHED_MUT_TOMBSTONE_LOST = 1u << 4,      /* state: snapshots leave tombstones out */
    SCHED_MUT_DRAIN_IGNORED = 1u << 5,       /* place: draining and cordoned nodes fit */
    SCHED_MUT_RESERVE_UNCOUNTED = 1u << 6,   /* place: reservations take no capacity */
    SCHED_MUT_IDEMPOTENCY_IGNORED = 1u << 7, /* idempotency: every create is fresh */
    SCHED_MUT_LEASE_UNWAITED = 1u << 8,      /* leases: a new leader does not wait */
    SCHED_MUT_LEASE_FROM_ACK = 1u << 9,      /* leases: a node counts from the answer */
    SCHED_MUT_VOTERS_UNSAFE = 1u << 10,      /* voters: takes live voters away, unchecked */
    SCHED_MUT_CLAIM_BELIEVED = 1u << 11,     /* claim: what the proposer says of the lease counts */
    SCHED_MUT_HOLD_NO_PAUSE = 1u << 12,      /* hold: runs on without a lease */
    SCHED_MUT_HOLD_NO_DEADLINE = 1u << 13,   /* hold: the VMM is told no deadline */
    SCHED_MUT_HOLD_UNREGISTERED = 1u << 14,  /* hold: wakes what is released without a claim */
    SCHED_MUT_HOLD_UNSAVED = 1u << 15,       /* hold: orders before its record says so durably */
    SCHED_MUT_HOLD_SAME_EPOCH = 1u << 16,    /* hold: a row of its own is enough to wake */
    SCHED_MUT_HOLD_STALE_LOG = 1u << 17,     /* hold: a restarted one believes its record */
    SCHED_MUT_HOLD_STONE_IGNORED = 1u << 18, /* hold: tombstones are not looked at */
    SCHED_MUT_HOLD_KEEPS_STALE = 1u << 19,   /* hold: a higher epoch does not end a sandbox */
    SCHED_MUT_PROMISE_LOST = 1u << 20,       /* state: a removed holder has never been one */
};

#endif /* SHL_SCHEDULER_MUTATE_H */
