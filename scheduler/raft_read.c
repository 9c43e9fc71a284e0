/* Linearizable reads without a log write (dissertation 6.4, ReadIndex).
 *
 * A read is ready when a quorum has answered a round that began after it, which proves that
 * this node still led then, and when everything committed by then is applied. Rounds are
 * numbers in every message to a peer; one is open at a time, and reads that arrive meanwhile
 * share the next one. The first entry of the term has to be committed too: before that a
 * new leader does not know how far the old one had come.
 */
#include <errno.h>
#include <stdlib.h>

#include "scheduler/raft_internal.h"

#define READS_MIN 16u

static struct sched_raft_read *push_read(struct sched_raft *r)
{
    if (r->read_count == r->read_capacity) {
        uint32_t capacity = SHL_MAX(r->read_capacity * 2, READS_MIN);
        struct sched_raft_read *grown = reallocarray(r->reads, capacity, sizeof(*grown));

        if (!grown) {
            r->error = -ENOMEM;
            return NULL;
        }
        r->reads = grown;
        r->read_capacity = capacity;
    }
    return &r->reads[r->read_count++];
}

void sched_raft_read(struct sched_raft *r, uint64_t tag)
{
    struct sched_raft_read *read;

    if (r->role != SCHED_RAFT_LEADER) {
        sched_raft_emit_read_failed(
            r, tag, r->role == SCHED_RAFT_FAILED ? SCHED_RAFT_STOPPED : SCHED_RAFT_NOT_LEADER);
        return;
    }
    if (r->read_count >= r->limits.reads) {
        sched_raft_emit_read_failed(r, tag, SCHED_RAFT_BUSY);
        return;
    }
    read = push_read(r);
    if (!read) {
        return;
    }
    read->tag = tag;
    read->index = SHL_MAX(r->commit, r->term_start);
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_READ_WITHOUT_QUORUM)) {
        read->round = 0;
        return;
    }
    read->round = r->round + 1;
    sched_raft_round_answered(r);
}

/* Take note of answers; open the next round when none is open and a read waits for it. */
void sched_raft_round_answered(struct sched_raft *r)
{
    for (;;) {
        r->round_acked = SHL_MAX(r->round_acked, sched_raft_quorum_round(r));
        if (r->round_acked < r->round || r->read_count == 0 ||
            r->reads[r->read_count - 1].round <= r->round) {
            return;
        }
        r->round++;
        r->send_owed = true;
    }
}

void sched_raft_finish_reads(struct sched_raft *r)
{
    uint32_t i, done = 0;

    while (done < r->read_count && r->reads[done].round <= r->round_acked &&
           r->reads[done].index <= r->applied) {
        struct sched_raft_action *item = sched_raft_emit(r, SCHED_RAFT_ACT_READ_READY);

        if (item) {
            item->u.read.tag = r->reads[done].tag;
            item->u.read.index = r->reads[done].index;
            item->u.read.reason = SCHED_RAFT_DONE;
            item->u.read.leader = r->leader;
        }
        done++;
    }
    if (done > 0) {
        for (i = done; i < r->read_count; i++) {
            r->reads[i - done] = r->reads[i];
        }
        r->read_count -= done;
    }
}

void sched_raft_reads_fail(struct sched_raft *r, enum sched_raft_reason reason)
{
    uint32_t i;

    for (i = 0; i < r->read_count; i++) {
        sched_raft_emit_read_failed(r, r->reads[i].tag, reason);
    }
    r->read_count = 0;
}
