/* Role, term, vote and known leader: changed here and nowhere else.
 *
 *   follower --timeout--> pre-candidate --quorum would vote--> candidate --quorum--> leader
 *       ^____________________|__________higher term, or a leader of this term____|______|
 *
 * A leader also steps down when it has not heard from a quorum for an election timeout, and
 * when a committed membership gives it no vote. FAILED is final.
 */
#include "scheduler/raft_internal.h"

static const struct shl_node_id no_node;

/* xorshift64*; the state is never zero. */
static uint64_t next_random(struct sched_raft *r)
{
    r->random ^= r->random >> 12;
    r->random ^= r->random << 25;
    r->random ^= r->random >> 27;
    return r->random * 0x2545f4914f6cdd1dull;
}

/* Drawn anew each time: two nodes with close timeouts must not meet again and again. */
void sched_raft_restart_election_timer(struct sched_raft *r)
{
    const struct sched_raft_member *self = sched_raft_self(r);
    uint32_t span = r->election_max_ms - r->election_min_ms;
    uint64_t wait_ms = r->election_min_ms + next_random(r) % span;

    if (self && self->witness) {
        wait_ms += span; /* full voters first */
    }
    r->election_at_ms = r->now_ms + wait_ms;
    r->stand_owed = false;
}

/* What belongs to one leader of one term, on the follower's side. */
static void forget_leader_state(struct sched_raft *r)
{
    r->verified = 0;
    r->acknowledged = 0;
    r->round_seen = 0;
    r->append_answer_owed = false;
    sched_raft_incoming_clear(r);
}

static void set_term(struct sched_raft *r, uint64_t term)
{
    assert(term > r->term);
    r->term = term;
    r->vote = no_node;
    r->leader = no_node;
    r->vote_answer_owed = false;
    forget_leader_state(r);
    sched_raft_hard_changed(r);
}

static void leave_leader(struct sched_raft *r, enum sched_raft_reason transfer_outcome)
{
    sched_raft_transfer_end(r, transfer_outcome);
    sched_raft_drop_tags(r, r->commit); /* the others are applied here and answered then */
    sched_raft_reads_fail(r, SCHED_RAFT_NOT_LEADER);
    sched_raft_peers_clear(r);
    r->removed = false;
    r->send_owed = false;
}

static void leave_role(struct sched_raft *r, enum sched_raft_reason transfer_outcome)
{
    if (r->role == SCHED_RAFT_LEADER) {
        r->leader = no_node; /* before the results that name it */
        leave_leader(r, transfer_outcome);
    }
    r->votes = 0;
    r->forced = false;
    r->vote_requests_owed = false;
}

void sched_raft_become_follower(struct sched_raft *r,
                                uint64_t term,
                                const struct shl_node_id *leader)
{
    bool was_leader = r->role == SCHED_RAFT_LEADER;

    assert(r->role != SCHED_RAFT_FAILED);
    /* A higher term means that somebody else took over: what a transfer was for. */
    leave_role(r, term > r->term ? SCHED_RAFT_DONE : SCHED_RAFT_LOST);
    r->role = SCHED_RAFT_FOLLOWER;
    if (term > r->term) {
        set_term(r, term);
    }
    if (leader) {
        r->leader = *leader;
    }
    if (was_leader) {
        sched_raft_restart_election_timer(r);
    }
}

void sched_raft_become_pre_candidate(struct sched_raft *r)
{
    assert(r->role == SCHED_RAFT_FOLLOWER || r->role == SCHED_RAFT_PRE_CANDIDATE ||
           r->role == SCHED_RAFT_CANDIDATE);
    leave_role(r, SCHED_RAFT_LOST);
    r->role = SCHED_RAFT_PRE_CANDIDATE;
    sched_raft_forget_leader(r);
    sched_raft_restart_election_timer(r);
}

void sched_raft_become_candidate(struct sched_raft *r)
{
    assert(r->role != SCHED_RAFT_LEADER);
    assert(r->role != SCHED_RAFT_FAILED);
    leave_role(r, SCHED_RAFT_LOST);
    r->role = SCHED_RAFT_CANDIDATE;
    set_term(r, r->term + 1);
    r->vote = r->self;
    r->vote_requests_owed = true;
    sched_raft_restart_election_timer(r);
}

void sched_raft_become_leader(struct sched_raft *r)
{
    uint64_t index;

    assert(r->role == SCHED_RAFT_CANDIDATE);
    leave_role(r, SCHED_RAFT_LOST);
    r->role = SCHED_RAFT_LEADER;
    r->leader = r->self;
    r->term_start = sched_raft_last(r) + 1;
    r->round = 0;
    r->round_acked = 0;
    r->uncommitted_bytes = 0;
    for (index = r->commit + 1; index < r->term_start; index++) {
        r->uncommitted_bytes += sched_raft_entry_bytes(sched_raft_log_at(&r->log, index));
    }
    r->heartbeat_at_ms = r->now_ms + r->heartbeat_ms;
    if (sched_raft_peers_rebuild(r) < 0) {
        return; /* r->error is set */
    }
    /* Entries of older terms can be committed only through one of this term. */
    sched_raft_append_own(r, SCHED_RAFT_NOOP, shl_bytes_of(NULL, 0), NULL);
}

void sched_raft_become_failed(struct sched_raft *r)
{
    leave_role(r, SCHED_RAFT_LOST);
    sched_raft_drop_tags(r, r->applied); /* nothing is applied any more */
    r->role = SCHED_RAFT_FAILED;
    r->leader = no_node;
    sched_raft_incoming_clear(r);
}

void sched_raft_give_vote(struct sched_raft *r, const struct shl_node_id *candidate)
{
    if (!shl_node_id_equal(&r->vote, candidate)) {
        r->vote = *candidate;
        sched_raft_hard_changed(r);
    }
    r->vote_answer_owed = true;
    sched_raft_restart_election_timer(r);
}

void sched_raft_forget_leader(struct sched_raft *r)
{
    r->leader = no_node;
    forget_leader_state(r);
}

void sched_raft_tell_role(struct sched_raft *r)
{
    struct sched_raft_action *item;

    if (r->told_role == r->role && r->told_term == r->term &&
        shl_node_id_equal(&r->told_leader, &r->leader)) {
        return;
    }
    r->told_role = r->role;
    r->told_term = r->term;
    r->told_leader = r->leader;
    item = sched_raft_emit(r, SCHED_RAFT_ACT_ROLE_CHANGED);
    if (item) {
        item->u.role.role = r->role;
        item->u.role.term = r->term;
        item->u.role.leader = r->leader;
    }
}
