/* Looking at a core from outside. */
#include "scheduler/raft_internal.h"

static void peer_status(const struct sched_raft_peer *peer, struct sched_raft_peer_status *ret)
{
    *ret = (struct sched_raft_peer_status){
        .member = peer->member,
        .state = peer->state,
        .match = peer->match,
        .next = peer->next,
        .heard_at_ms = peer->heard_at_ms,
        .snapshot_sent_bytes = peer->snapshot ? peer->snapshot_offset : 0,
        .snapshot_bytes = peer->snapshot ? shl_buf_len(&peer->snapshot->data) : 0,
    };
}

void sched_raft_status(const struct sched_raft *r, struct sched_raft_status *ret_status)
{
    const struct sched_raft_era *era = sched_raft_era(r);
    uint32_t i;

    *ret_status = (struct sched_raft_status){
        .role = r->role,
        .term = r->term,
        .vote = r->vote,
        .leader = r->leader,
        .commit = r->commit,
        .applied = r->applied,
        .last_index = sched_raft_last(r),
        .last_term = sched_raft_log_last_term(&r->log),
        .stable_index = r->store.stable,
        .first_index = r->log.base_index + 1,
        .snapshot_index = r->snapshot ? r->snapshot->meta.index : 0,
        .log_bytes = r->log.bytes,
        .membership_index = era->index,
        .membership_committed = era->index <= r->commit,
        .refused_messages = r->refused_messages,
        .peers_forgot = r->peers_forgot,
        .peer_count = r->peer_count,
    };
    for (i = 0; i < r->peer_count; i++) {
        peer_status(&r->peers[i], &ret_status->peers[i]);
    }
}

enum sched_raft_role sched_raft_role(const struct sched_raft *r)
{
    return r->role;
}

uint64_t sched_raft_term(const struct sched_raft *r)
{
    return r->term;
}

uint64_t sched_raft_commit(const struct sched_raft *r)
{
    return r->commit;
}

uint64_t sched_raft_applied(const struct sched_raft *r)
{
    return r->applied;
}

uint64_t sched_raft_last_index(const struct sched_raft *r)
{
    return sched_raft_last(r);
}

struct shl_node_id sched_raft_leader(const struct sched_raft *r)
{
    return r->leader;
}

const struct sched_raft_membership *sched_raft_membership(const struct sched_raft *r)
{
    return &sched_raft_era(r)->membership;
}

const struct sched_raft_entry *sched_raft_entry_at(const struct sched_raft *r, uint64_t index)
{
    return sched_raft_log_at(&r->log, index);
}
