/* Elections (dissertation 3.4, 4.2.3, 9.6).
 *
 * 1. The timer fires: ask all voters whether they would vote (pre-vote); no term changes,
 *    so a node that cannot win disturbs nobody.
 * 2. A quorum would: next term, vote for this node, store both; only then ask for votes and
 *    count the own one.
 * 3. A quorum of votes: leader.
 * A voter that heard from a leader within the shortest election timeout answers neither
 * (stickiness), unless that leader itself asks or has asked for the election. That also
 * keeps removed members from disturbing.
 */
#include "scheduler/raft_internal.h"

static bool hard_durable(const struct sched_raft *r)
{
    return r->store.durable_term == r->term && shl_node_id_equal(&r->store.durable_vote, &r->vote);
}

bool sched_raft_term_durable(const struct sched_raft *r)
{
    return r->store.durable_term == r->term;
}

/* Note @id's vote. True when the votes are a quorum. */
static bool count_vote(struct sched_raft *r, const struct shl_node_id *id)
{
    const struct sched_raft_membership *m = &sched_raft_era(r)->membership;
    const struct sched_raft_member *member = sched_raft_membership_find(m, id);

    if (member && member->standing == SCHED_RAFT_VOTER) {
        r->votes |= 1ull << (member - m->members);
    }
    return (uint32_t)__builtin_popcountll(r->votes) >= sched_raft_quorum(r);
}

static void ask_voters(struct sched_raft *r, bool pre)
{
    const struct sched_raft_membership *m = &sched_raft_era(r)->membership;
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_VOTE, .term = r->term};
    uint32_t i;

    msg.u.vote.pre = pre;
    msg.u.vote.forced = r->forced;
    msg.u.vote.for_term = pre ? r->term + 1 : r->term;
    msg.u.vote.last_index = sched_raft_last(r);
    msg.u.vote.last_term = sched_raft_log_last_term(&r->log);
    for (i = 0; i < m->count; i++) {
        if (m->members[i].standing == SCHED_RAFT_VOTER &&
            !shl_node_id_equal(&m->members[i].id, &r->self)) {
            sched_raft_send(r, &m->members[i].id, &msg);
        }
    }
}

static bool can_stand(struct sched_raft *r)
{
    if (r->role == SCHED_RAFT_LEADER || !sched_raft_may_stand(r) ||
        r->term >= SCHED_RAFT_NUMBER_MAX) {
        return false;
    }
    if (!sched_raft_term_durable(r)) {
        r->stand_owed = true; /* as soon as storage is done */
        r->election_at_ms = SCHED_RAFT_NEVER_MS;
        return false;
    }
    return true;
}

void sched_raft_campaign(struct sched_raft *r)
{
    if (!can_stand(r)) {
        return;
    }
    sched_raft_become_pre_candidate(r);
    if (count_vote(r, &r->self)) {
        sched_raft_become_candidate(r); /* the only voter */
        return;
    }
    ask_voters(r, true);
}

void sched_raft_campaign_forced(struct sched_raft *r)
{
    if (can_stand(r)) {
        sched_raft_become_candidate(r);
        r->forced = true;
    }
}

void sched_raft_election_timeout(struct sched_raft *r)
{
    if (sched_raft_may_stand(r)) {
        sched_raft_campaign(r);
        return;
    }
    /* Learners, and nodes that wait to be taken in, only forget who leads. */
    sched_raft_forget_leader(r);
    r->election_at_ms = SCHED_RAFT_NEVER_MS;
}

static bool sticks_to_leader(const struct sched_raft *r, const struct shl_node_id *candidate)
{
    if (r->role == SCHED_RAFT_LEADER) {
        return true; /* without a quorum it would have stepped down */
    }
    return !shl_node_id_is_none(&r->leader) && !shl_node_id_equal(&r->leader, candidate) &&
           r->now_ms - r->leader_heard_at_ms < r->election_min_ms;
}

static bool log_is_enough(const struct sched_raft *r, const struct sched_raft_msg *msg)
{
    uint64_t last_term = sched_raft_log_last_term(&r->log);

    if (sched_raft_mutated(r, SCHED_RAFT_MUT_VOTE_ANY_LOG)) {
        return true;
    }
    return msg->u.vote.last_term > last_term ||
           (msg->u.vote.last_term == last_term && msg->u.vote.last_index >= sched_raft_last(r));
}

static void answer(struct sched_raft *r,
                   const struct shl_node_id *to,
                   const struct sched_raft_msg *msg,
                   bool granted)
{
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_VOTE_ANSWER, .term = r->term};

    if (!sched_raft_term_durable(r)) {
        return; /* no message with a term that a crash could take back */
    }
    out.u.vote_answer.pre = msg->u.vote.pre;
    out.u.vote_answer.for_term = msg->u.vote.for_term;
    out.u.vote_answer.granted = granted;
    sched_raft_send(r, to, &out);
}

static void answer_vote_owed(struct sched_raft *r)
{
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_VOTE_ANSWER, .term = r->term};

    r->vote_answer_owed = false;
    out.u.vote_answer.for_term = r->term;
    out.u.vote_answer.granted = true;
    sched_raft_send(r, &r->vote, &out);
}

static bool may_vote_for(const struct sched_raft *r, const struct shl_node_id *candidate)
{
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_VOTE_TWICE) && r->role == SCHED_RAFT_FOLLOWER) {
        return true;
    }
    if (!shl_node_id_is_none(&r->vote)) {
        return shl_node_id_equal(&r->vote, candidate);
    }
    return shl_node_id_is_none(&r->leader); /* this term has its leader already */
}

/* Asked by anyone: this node's idea of the membership may be older than the candidate's. */
void sched_raft_recv_vote(struct sched_raft *r,
                          const struct shl_node_id *from,
                          const struct sched_raft_msg *msg)
{
    if (!msg->u.vote.forced && sticks_to_leader(r, from)) {
        return;
    }
    if (msg->u.vote.pre) {
        answer(r, from, msg, msg->u.vote.for_term > r->term && log_is_enough(r, msg));
        return;
    }
    if (msg->term > r->term) {
        sched_raft_become_follower(r, msg->term, NULL);
    }
    if (msg->term == r->term && may_vote_for(r, from) && log_is_enough(r, msg)) {
        sched_raft_give_vote(r, from);
    } else {
        answer(r, from, msg, false);
    }
}

void sched_raft_recv_vote_answer(struct sched_raft *r,
                                 const struct shl_node_id *from,
                                 const struct sched_raft_msg *msg)
{
    if (!sched_raft_membership_find(&sched_raft_era(r)->membership, from)) {
        return;
    }
    if (msg->term > r->term) {
        sched_raft_become_follower(r, msg->term, NULL);
        return;
    }
    if (!msg->u.vote_answer.granted) {
        return;
    }
    if (r->role == SCHED_RAFT_PRE_CANDIDATE && msg->u.vote_answer.pre &&
        msg->u.vote_answer.for_term == r->term + 1) {
        if (count_vote(r, from)) {
            sched_raft_become_candidate(r);
        }
    } else if (r->role == SCHED_RAFT_CANDIDATE && !msg->u.vote_answer.pre &&
               msg->u.vote_answer.for_term == r->term && msg->term == r->term &&
               !r->vote_requests_owed) {
        if (count_vote(r, from)) {
            sched_raft_become_leader(r);
        }
    }
}

void sched_raft_finish_votes(struct sched_raft *r)
{
    if (r->stand_owed && sched_raft_term_durable(r)) {
        sched_raft_campaign(r);
    }
    if (r->vote_answer_owed &&
        (hard_durable(r) || sched_raft_mutated(r, SCHED_RAFT_MUT_VOTE_BEFORE_PERSIST))) {
        answer_vote_owed(r);
    }
    if (r->role == SCHED_RAFT_CANDIDATE && r->vote_requests_owed && hard_durable(r)) {
        r->vote_requests_owed = false;
        ask_voters(r, false);
        if (count_vote(r, &r->self)) {
            sched_raft_become_leader(r);
        }
    }
}
