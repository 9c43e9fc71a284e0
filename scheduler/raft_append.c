/* The follower's side of the log (dissertation 3.5).
 *
 * An append is taken when the entry in front of it matches. What it then shows to match is
 * `verified`; what of that is durable is acknowledged, now or after PERSISTED. Heartbeats
 * are answered at once with what is durable, so that a slow disk does not look like a dead
 * node. Entries up to the commit index are never touched, whatever a message says.
 */
#include "base/err.h"
#include "scheduler/raft_internal.h"

/* To a leader of an older term: that it is over. */
static void tell_term(struct sched_raft *r, const struct shl_node_id *to)
{
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER, .term = r->term};

    out.u.append_answer.rejected = true;
    if (sched_raft_term_durable(r)) {
        sched_raft_send(r, to, &out);
    }
}

bool sched_raft_accept_leader(struct sched_raft *r,
                              const struct shl_node_id *from,
                              const struct sched_raft_msg *msg)
{
    if (msg->term < r->term) {
        tell_term(r, from);
        return false;
    }
    if (msg->term == r->term) {
        /* One leader per term: this cannot come from a correct peer. */
        if (r->role == SCHED_RAFT_LEADER ||
            (!shl_node_id_is_none(&r->leader) && !shl_node_id_equal(&r->leader, from))) {
            r->refused_messages++;
            return false;
        }
    }
    if (msg->term > r->term || r->role != SCHED_RAFT_FOLLOWER || shl_node_id_is_none(&r->leader)) {
        sched_raft_become_follower(r, msg->term, from);
    }
    r->leader_heard_at_ms = r->now_ms;
    sched_raft_restart_election_timer(r);
    return true;
}

/* The logs part at or before @prev: tell where they may still be one. */
static void reject(struct sched_raft *r, const struct sched_raft_msg *msg)
{
    uint64_t hint =
        sched_raft_log_find(&r->log, msg->u.append.prev_index - 1, msg->u.append.prev_term);
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER, .term = r->term};

    if (!sched_raft_term_durable(r)) {
        return;
    }
    hint = SHL_MAX(hint, r->commit);
    out.u.append_answer.rejected = true;
    out.u.append_answer.index = msg->u.append.prev_index;
    out.u.append_answer.hint_index = hint;
    out.u.append_answer.hint_term = sched_raft_log_term(&r->log, hint);
    out.u.append_answer.round = msg->u.append.round;
    sched_raft_send(r, &r->leader, &out);
}

/* The part of an append that is above the commit index. */
struct news {
    uint64_t prev_index;
    uint64_t prev_term;
    const struct sched_raft_entry *entries;
    uint32_t count;
};

/* What is committed here is the same at every leader: skip it. False: the message says
 * otherwise. */
static bool skip_committed(const struct sched_raft *r,
                           const struct sched_raft_msg *msg,
                           struct news *ret)
{
    uint32_t skip;

    *ret = (struct news){msg->u.append.prev_index, msg->u.append.prev_term, msg->u.append.entries,
                         msg->u.append.count};
    if (ret->prev_index >= r->commit) {
        return true;
    }
    skip = (uint32_t)SHL_MIN(r->commit - ret->prev_index, ret->count);
    if (ret->prev_index + skip == r->commit &&
        ret->entries[skip - 1].term != sched_raft_log_term(&r->log, r->commit)) {
        return false;
    }
    ret->prev_index = r->commit;
    ret->prev_term = sched_raft_log_term(&r->log, r->commit);
    ret->entries += skip;
    ret->count -= skip;
    return true;
}

static bool memberships_decode(struct sched_raft *r, const struct news *news)
{
    uint32_t i;

    for (i = 0; i < news->count; i++) {
        if (news->entries[i].type == SCHED_RAFT_MEMBERSHIP &&
            sched_raft_membership_decode(news->entries[i].data, &r->room.membership) < 0) {
            return false;
        }
    }
    return true;
}

/* Keep what is there and matches, replace from the first conflict on. Returns up to which
 * index the log then matches the message. */
static uint64_t merge(struct sched_raft *r, const struct news *news)
{
    uint32_t i;

    for (i = 0; i < news->count; i++) {
        const struct sched_raft_entry *entry = &news->entries[i];
        uint64_t index = news->prev_index + 1 + i;

        if (index <= sched_raft_last(r)) {
            if (sched_raft_log_term(&r->log, index) == entry->term ||
                sched_raft_mutated(r, SCHED_RAFT_MUT_KEEP_CONFLICT)) {
                continue;
            }
            sched_raft_truncate(r, index);
        }
        /* Twice the leader's limit: this node may take its snapshots later. */
        if (r->log.bytes + sched_raft_entry_bytes(entry) > 2 * r->limits.log_bytes) {
            sched_raft_want_snapshot(r);
            return index - 1;
        }
        sched_raft_append(r, entry);
        if (r->error < 0) {
            return index - 1;
        }
    }
    return news->prev_index + news->count;
}

static void take_commit(struct sched_raft *r, uint64_t leader_commit)
{
    uint64_t limit = r->verified;

    if (sched_raft_mutated(r, SCHED_RAFT_MUT_COMMIT_UNCLAMPED)) {
        limit = sched_raft_last(r);
    }
    if (SHL_MIN(leader_commit, limit) > r->commit) {
        r->commit = SHL_MIN(leader_commit, limit);
        sched_raft_era_committed(r);
    }
}

void sched_raft_recv_append(struct sched_raft *r,
                            const struct shl_node_id *from,
                            const struct sched_raft_msg *msg)
{
    struct news news;

    if (!sched_raft_accept_leader(r, from, msg)) {
        return;
    }
    if (!skip_committed(r, msg, &news) || !memberships_decode(r, &news)) {
        r->refused_messages++;
        return;
    }
    r->round_seen = SHL_MAX(r->round_seen, msg->u.append.round);
    if (news.prev_index > sched_raft_last(r) ||
        sched_raft_log_term(&r->log, news.prev_index) != news.prev_term) {
        reject(r, msg);
        return;
    }
    r->verified = SHL_MAX(r->verified, merge(r, &news));
    take_commit(r, msg->u.append.commit);
    r->append_answer_owed = true;
}

static void acknowledge(struct sched_raft *r, uint64_t index)
{
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER, .term = r->term};

    out.u.append_answer.index = index;
    out.u.append_answer.round = r->round_seen;
    sched_raft_send(r, &r->leader, &out);
    r->append_answer_owed = false;
    r->acknowledged = index;
}

/* Acknowledge what is both checked and durable: when asked, or when it became more. */
void sched_raft_finish_append_answer(struct sched_raft *r)
{
    uint64_t index = SHL_MIN(r->verified, r->store.stable);

    if (sched_raft_mutated(r, SCHED_RAFT_MUT_MATCH_LAST_INDEX)) {
        index = r->store.stable;
    }
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_ACK_BEFORE_PERSIST)) {
        index = r->verified;
    }
    if (r->role == SCHED_RAFT_FOLLOWER && !shl_node_id_is_none(&r->leader) &&
        sched_raft_term_durable(r) && (r->append_answer_owed || index > r->acknowledged)) {
        acknowledge(r, index);
    }
}
