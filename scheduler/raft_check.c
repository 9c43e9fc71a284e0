/* What must hold between any two steps. A core that breaks one of these is wrong, whatever
 * its peers or its storage did. */
#include "scheduler/raft_internal.h"

static const char *check_log(const struct sched_raft *r)
{
    uint64_t index, bytes = 0, term = r->log.base_term;

    if ((r->log.base_index == 0) != (r->log.base_term == 0)) {
        return "only the beginning of the log has no term";
    }
    for (index = r->log.base_index + 1; index <= sched_raft_last(r); index++) {
        const struct sched_raft_entry *entry = sched_raft_log_at(&r->log, index);

        if (entry->index != index) {
            return "an entry is at the wrong place in the log";
        }
        if (entry->term < term && r->mutations == 0) {
            return "terms fall in the log";
        }
        term = entry->term;
        bytes += sched_raft_entry_bytes(entry);
    }
    if (term > r->term) {
        return "an entry is of a later term than this node";
    }
    return bytes == r->log.bytes ? NULL : "the size of the log is miscounted";
}

static const char *check_indices(const struct sched_raft *r)
{
    const struct sched_raft_store *s = &r->store;

    if (r->applied > r->commit) {
        return "applied is above commit";
    }
    if (r->commit > sched_raft_last(r)) {
        return "commit is above the log";
    }
    if (s->written > sched_raft_last(r) || s->stable > s->written) {
        return "storage is ahead of the log";
    }
    if (r->applied > s->stable) {
        return "applied is not durable";
    }
    if (!s->install_waits && r->applied < r->log.base_index) {
        return "entries were dropped before they were applied";
    }
    if (r->snapshot && r->snapshot->meta.index < r->log.base_index) {
        return "entries were dropped that no snapshot holds";
    }
    if (!r->snapshot && r->log.base_index > 0) {
        return "entries were dropped without a snapshot";
    }
    return NULL;
}

static const char *check_membership(const struct sched_raft_membership *m)
{
    uint32_t i;

    if (m->count > SCHED_RAFT_MEMBERS_MAX) {
        return "too many members";
    }
    for (i = 1; i < m->count; i++) {
        if (shl_node_id_compare(&m->members[i - 1].id, &m->members[i].id) >= 0) {
            return "members are not in order";
        }
    }
    return NULL;
}

/* Every membership entry in the log has its era, and every era but the first its entry. */
static const char *check_eras(const struct sched_raft *r)
{
    uint64_t index;
    uint32_t at = 1;

    if (r->era_count == 0) {
        return "there is no membership, not even an empty one";
    }
    for (index = SHL_MAX(r->eras[0].index, r->log.base_index) + 1; index <= sched_raft_last(r);
         index++) {
        if (sched_raft_log_at(&r->log, index)->type != SCHED_RAFT_MEMBERSHIP) {
            continue;
        }
        if (at == r->era_count || r->eras[at].index != index) {
            return "a membership entry is not in use";
        }
        at++;
    }
    if (at != r->era_count) {
        return "a membership is in use that is not in the log";
    }
    for (at = 0; at < r->era_count; at++) {
        const char *fault = check_membership(&r->eras[at].membership);

        if (fault) {
            return fault;
        }
    }
    return NULL;
}

static const char *check_peer(const struct sched_raft *r, const struct sched_raft_peer *peer)
{
    if (peer->match > sched_raft_last(r)) {
        return "a peer matches more than there is";
    }
    if (peer->next <= peer->match || peer->next > sched_raft_last(r) + 1) {
        return "the next entry for a peer is out of range";
    }
    if (peer->inflight_count > r->limits.inflight) {
        return "too much is under way to a peer";
    }
    if ((peer->state == SCHED_RAFT_PEER_SNAPSHOT) != (peer->snapshot != NULL)) {
        return "a snapshot is held for a peer that gets none";
    }
    return peer->round > r->round ? "a peer answered a round that was not asked" : NULL;
}

static const char *check_leader(const struct sched_raft *r)
{
    const struct sched_raft_membership *m = &sched_raft_era(r)->membership;
    uint32_t i, at = 0;

    if (!shl_node_id_equal(&r->leader, &r->self) || !shl_node_id_equal(&r->vote, &r->self)) {
        return "a leader does not follow itself";
    }
    if (r->store.durable_term != r->term) {
        return "a leader's term is not durable";
    }
    if (sched_raft_log_term(&r->log, r->term_start) != r->term &&
        r->term_start > r->log.base_index) {
        return "a leader has no entry of its term";
    }
    for (i = 0; i < m->count; i++) {
        const char *fault;

        if (shl_node_id_equal(&m->members[i].id, &r->self)) {
            continue;
        }
        if (at == r->peer_count || !shl_node_id_equal(&r->peers[at].member.id, &m->members[i].id)) {
            return "peers are not the members";
        }
        fault = check_peer(r, &r->peers[at++]);
        if (fault) {
            return fault;
        }
    }
    return at == r->peer_count ? NULL : "peers are not the members";
}

static const char *check_reads(const struct sched_raft *r)
{
    uint32_t i;

    if (r->read_count > r->limits.reads) {
        return "too many reads wait";
    }
    for (i = 0; i < r->read_count; i++) {
        if (r->reads[i].round > r->round + 1) {
            return "a read waits for a round that will not come";
        }
    }
    return NULL;
}

const char *sched_raft_check_quick(const struct sched_raft *r)
{
    const char *fault = check_indices(r);

    fault = fault ? fault : check_reads(r);
    if (fault || r->role == SCHED_RAFT_FAILED) {
        return fault;
    }
    if (r->store.durable_term > r->term) {
        return "a later term than this one is durable";
    }
    if (r->role == SCHED_RAFT_LEADER) {
        return check_leader(r);
    }
    if (r->peer_count > 0 || r->read_count > 0 || r->transfer.active) {
        return "a node that does not lead keeps a leader's state";
    }
    if (r->role == SCHED_RAFT_CANDIDATE && !shl_node_id_equal(&r->vote, &r->self)) {
        return "a candidate did not vote for itself";
    }
    if (r->role != SCHED_RAFT_FOLLOWER && !shl_node_id_is_none(&r->leader)) {
        return "a candidate follows a leader";
    }
    return NULL;
}

const char *sched_raft_check(const struct sched_raft *r)
{
    const char *fault = check_log(r);

    fault = fault ? fault : check_eras(r);
    return fault ? fault : sched_raft_check_quick(r);
}
