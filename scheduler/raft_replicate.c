/* The leader's side of the log: who has what, what to send, what is committed.
 *
 * Peer states: PROBE sends one message and waits, REPLICATE sends ahead up to the inflight
 * limit, SNAPSHOT waits for a snapshot to arrive. Every message carries the entry in front
 * of what was sent last, so a lost one shows at the next heartbeat as a rejection, and the
 * peer is probed again. Nothing is resent by timer alone.
 */
#include <errno.h>
#include <stdlib.h>

#include "scheduler/raft_internal.h"

struct sched_raft_peer *sched_raft_peer_find(struct sched_raft *r, const struct shl_node_id *id)
{
    uint32_t low = 0, high = r->peer_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = shl_node_id_compare(&r->peers[mid].member.id, id);

        if (order == 0) {
            return &r->peers[mid];
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

void sched_raft_peers_clear(struct sched_raft *r)
{
    uint32_t i;

    for (i = 0; i < r->peer_count; i++) {
        sched_raft_snapshot_unref(r->peers[i].snapshot);
    }
    free(r->peers);
    r->peers = NULL;
    r->peer_count = 0;
}

static struct sched_raft_peer new_peer(const struct sched_raft *r)
{
    return (struct sched_raft_peer){
        .state = SCHED_RAFT_PEER_PROBE,
        .next = sched_raft_last(r) + 1,
        .heard_at_ms = r->now_ms, /* grace: silence counts from here */
    };
}

int sched_raft_peers_rebuild(struct sched_raft *r)
{
    const struct sched_raft_membership *m = &sched_raft_era(r)->membership;
    struct sched_raft_peer *peers = calloc(m->count + 1, sizeof(*peers));
    uint32_t i, count = 0;

    if (!peers) {
        r->error = -ENOMEM;
        return -ENOMEM;
    }
    for (i = 0; i < m->count; i++) {
        struct sched_raft_peer *old;

        if (shl_node_id_equal(&m->members[i].id, &r->self)) {
            continue;
        }
        old = sched_raft_peer_find(r, &m->members[i].id);
        if (old) {
            peers[count] = *old;
            old->snapshot = NULL; /* moved */
        } else {
            peers[count] = new_peer(r);
        }
        peers[count++].member = m->members[i];
    }
    sched_raft_peers_clear(r);
    r->peers = peers;
    r->peer_count = count;
    return 0;
}

/* The highest value that a quorum of voters has reached. @own is this node's. */
static uint64_t quorum_value(const struct sched_raft *r,
                             uint64_t own,
                             uint64_t (*value)(const struct sched_raft_peer *peer))
{
    uint64_t sorted[SCHED_RAFT_VOTERS_MAX]; /* descending */
    uint32_t i, at, count = 0;

    for (i = 0; i <= r->peer_count; i++) {
        bool self = i == r->peer_count;
        uint64_t v;

        if (self ? !sched_raft_is_voter(r) : r->peers[i].member.standing != SCHED_RAFT_VOTER) {
            continue;
        }
        v = self ? own : value(&r->peers[i]);
        assert(count < SCHED_RAFT_VOTERS_MAX);
        for (at = count++; at > 0 && sorted[at - 1] < v; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = v;
    }
    return count == 0 ? 0 : sorted[count / 2];
}

static uint64_t match_of(const struct sched_raft_peer *peer)
{
    return peer->match;
}

static uint64_t round_of(const struct sched_raft_peer *peer)
{
    return peer->round;
}

static uint64_t heard_of(const struct sched_raft_peer *peer)
{
    return peer->heard_at_ms;
}

bool sched_raft_quorum_heard(const struct sched_raft *r)
{
    return r->now_ms - quorum_value(r, r->now_ms, heard_of) <= r->election_max_ms;
}

uint64_t sched_raft_quorum_round(const struct sched_raft *r)
{
    return quorum_value(r, r->round, round_of);
}

/* Only entries of this term are committed by counting; older ones follow (figure 8). */
void sched_raft_finish_commit(struct sched_raft *r)
{
    uint64_t index;

    if (r->role != SCHED_RAFT_LEADER) {
        return;
    }
    index = quorum_value(r, r->store.stable, match_of);
    if (index <= r->commit || (sched_raft_log_term(&r->log, index) != r->term &&
                               !sched_raft_mutated(r, SCHED_RAFT_MUT_COMMIT_OLD_TERM))) {
        return;
    }
    while (r->commit < index) {
        r->commit++;
        r->uncommitted_bytes -= sched_raft_entry_bytes(sched_raft_log_at(&r->log, r->commit));
    }
    r->send_owed = true;
    sched_raft_era_committed(r);
}

/*- Sending. */

void sched_raft_peer_probe(struct sched_raft_peer *peer, uint64_t next)
{
    peer->state = SCHED_RAFT_PEER_PROBE;
    peer->next = SHL_MAX(next, peer->match + 1);
    peer->inflight_count = 0;
    peer->probe_sent = false;
    sched_raft_snapshot_unref(peer->snapshot);
    peer->snapshot = NULL;
}

static uint32_t count_entries(const struct sched_raft *r, uint64_t next)
{
    uint64_t last = sched_raft_last(r), bytes = 0;
    uint32_t count = 0;

    while (next + count <= last && count < r->limits.msg_entries) {
        bytes += sched_raft_log_at(&r->log, next + count)->data.len;
        if (count > 0 && bytes > r->limits.msg_bytes) {
            break;
        }
        count++;
    }
    return count;
}

/* Returns how many entries went. */
static uint32_t send_append(struct sched_raft *r, struct sched_raft_peer *peer, bool with_entries)
{
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_APPEND, .term = r->term};

    if (peer->next - 1 < r->log.base_index) {
        sched_raft_snapshot_start(r, peer);
        return 0;
    }
    msg.u.append.prev_index = peer->next - 1;
    msg.u.append.prev_term = sched_raft_log_term(&r->log, peer->next - 1);
    msg.u.append.commit = r->commit;
    msg.u.append.round = r->round;
    msg.u.append.count = with_entries ? count_entries(r, peer->next) : 0;
    msg.u.append.entries = sched_raft_log_at(&r->log, peer->next);
    sched_raft_send(r, &peer->member.id, &msg);
    peer->commit_sent = r->commit;
    peer->round_sent = r->round;
    return msg.u.append.count;
}

static void send_pipelined(struct sched_raft *r, struct sched_raft_peer *peer)
{
    uint32_t slot, sent;

    while (peer->next <= sched_raft_last(r) && peer->inflight_count < r->limits.inflight) {
        sent = send_append(r, peer, true);
        if (sent == 0) {
            return; /* needs a snapshot */
        }
        peer->next += sent;
        slot = (peer->inflight_head + peer->inflight_count++) % SCHED_RAFT_INFLIGHT_MAX;
        peer->inflight[slot] = peer->next - 1;
    }
}

/* Entries only when the peer was heard of lately: a dead one is not fed the same batch
 * with every heartbeat. */
static void send_probe(struct sched_raft *r, struct sched_raft_peer *peer)
{
    bool lately = r->now_ms - peer->heard_at_ms <= r->election_max_ms;

    peer->probe_sent = true;
    (void)send_append(r, peer, lately);
}

static bool must_tell(const struct sched_raft *r, const struct sched_raft_peer *peer)
{
    if (peer->round_sent < r->round && peer->member.standing == SCHED_RAFT_VOTER) {
        return true;
    }
    /* Nothing under way will carry the new commit index. */
    return peer->commit_sent < r->commit && peer->state == SCHED_RAFT_PEER_REPLICATE &&
           peer->inflight_count == 0;
}

static void send_to(struct sched_raft *r, struct sched_raft_peer *peer)
{
    if (peer->state == SCHED_RAFT_PEER_REPLICATE) {
        send_pipelined(r, peer);
    } else if (peer->state == SCHED_RAFT_PEER_PROBE && !peer->probe_sent) {
        send_probe(r, peer);
    }
    if (!must_tell(r, peer)) {
        return;
    }
    if (peer->state == SCHED_RAFT_PEER_SNAPSHOT) {
        sched_raft_snapshot_send(r, peer, true);
    } else {
        (void)send_append(r, peer, false);
    }
}

void sched_raft_finish_sends(struct sched_raft *r)
{
    uint32_t i;

    if (r->role != SCHED_RAFT_LEADER || !r->send_owed) {
        return;
    }
    r->send_owed = false;
    for (i = 0; i < r->peer_count; i++) {
        send_to(r, &r->peers[i]);
    }
}

void sched_raft_heartbeat(struct sched_raft *r)
{
    uint32_t i;

    r->heartbeat_at_ms = r->now_ms + r->heartbeat_ms;
    for (i = 0; i < r->peer_count; i++) {
        struct sched_raft_peer *peer = &r->peers[i];

        switch (peer->state) {
        case SCHED_RAFT_PEER_PROBE:
            send_probe(r, peer);
            break;
        case SCHED_RAFT_PEER_REPLICATE:
            (void)send_append(r, peer, false);
            break;
        case SCHED_RAFT_PEER_SNAPSHOT:
            sched_raft_snapshot_heartbeat(r, peer);
            break;
        }
    }
    sched_raft_transfer_progress(r);
}

void sched_raft_peer_link(struct sched_raft *r, const struct shl_node_id *id)
{
    struct sched_raft_peer *peer =
        r->role == SCHED_RAFT_LEADER ? sched_raft_peer_find(r, id) : NULL;

    /* Whatever was under way is gone with the link. A snapshot goes on where it was. */
    if (peer && peer->state == SCHED_RAFT_PEER_SNAPSHOT) {
        sched_raft_snapshot_send(r, peer, true);
    } else if (peer) {
        sched_raft_peer_probe(peer, peer->match > 0 ? peer->match + 1 : peer->next);
        peer->link_round = ++r->round; /* so that answers to what was asked before are known */
        r->send_owed = true;
    }
}

/*- Answers. */

void sched_raft_peer_round(struct sched_raft *r, struct sched_raft_peer *peer, uint64_t round)
{
    peer->heard_at_ms = r->now_ms;
    if (round > r->round) {
        r->refused_messages++; /* never asked */
        return;
    }
    if (round > peer->round) {
        peer->round = round;
        sched_raft_round_answered(r);
    }
}

void sched_raft_peer_matched(struct sched_raft *r, struct sched_raft_peer *peer, uint64_t match)
{
    if (match > sched_raft_last(r)) {
        r->refused_messages++;
        if (r->mutations == 0) {
            return;
        }
        match = sched_raft_last(r);
    }
    peer->match = SHL_MAX(peer->match, match);
    peer->next = SHL_MAX(peer->next, peer->match + 1);
    while (peer->inflight_count > 0 && peer->inflight[peer->inflight_head] <= peer->match) {
        peer->inflight_head = (peer->inflight_head + 1) % SCHED_RAFT_INFLIGHT_MAX;
        peer->inflight_count--;
    }
    if (peer->state == SCHED_RAFT_PEER_SNAPSHOT) {
        if (peer->match < peer->snapshot->meta.index) {
            return;
        }
        sched_raft_peer_probe(peer, peer->match + 1);
    }
    peer->state = SCHED_RAFT_PEER_REPLICATE;
    sched_raft_transfer_progress(r);
}

/* Step back to where the logs may agree; whole terms are skipped on both sides. */
static void rejected(struct sched_raft *r,
                     struct sched_raft_peer *peer,
                     const struct sched_raft_msg *msg)
{
    uint64_t hint = msg->u.append_answer.hint_index;
    bool stale;

    if (hint >= SHL_MAX(msg->u.append_answer.index, 1)) {
        r->refused_messages++;
        return;
    }
    switch (peer->state) {
    case SCHED_RAFT_PEER_SNAPSHOT:
        stale = true;
        break;
    case SCHED_RAFT_PEER_PROBE:
        stale = msg->u.append_answer.index != peer->next - 1 ||
                (msg->u.append_answer.index <= peer->match &&
                 (peer->link_round == 0 || msg->u.append_answer.round < peer->link_round));
        break;
    case SCHED_RAFT_PEER_REPLICATE:
        stale = msg->u.append_answer.index <= peer->match;
        break;
    default:
        stale = true;
    }
    if (stale) {
        return;
    }
    if (hint > r->log.base_index) {
        hint = sched_raft_log_find(&r->log, hint, msg->u.append_answer.hint_term);
    }
    if (peer->match > hint && msg->u.append_answer.round <= peer->match_round) {
        /* Said before it had stored that: links that were made anew may deliver the older after
         * the newer. If not, the next round shows it. */
        r->round += msg->u.append_answer.round == r->round;
        r->send_owed = true;
        return;
    }
    if (peer->match > hint) {
        /* It denies what it had stored: an older disk was put back. What was committed with its
         * help stays so; until it has everything again it counts for nothing new. */
        peer->match = hint;
        r->peers_forgot++;
    }
    sched_raft_peer_probe(peer, hint + 1);
}

void sched_raft_recv_append_answer(struct sched_raft *r,
                                   const struct shl_node_id *from,
                                   const struct sched_raft_msg *msg)
{
    struct sched_raft_peer *peer;

    if (msg->term > r->term) {
        if (sched_raft_membership_find(&sched_raft_era(r)->membership, from)) {
            sched_raft_become_follower(r, msg->term, NULL);
        }
        return;
    }
    if (r->role != SCHED_RAFT_LEADER ||
        (msg->term < r->term && !sched_raft_mutated(r, SCHED_RAFT_MUT_OLD_TERM_ANSWERS))) {
        return;
    }
    peer = sched_raft_peer_find(r, from);
    if (!peer) {
        return;
    }
    sched_raft_peer_round(r, peer, msg->u.append_answer.round);
    if (msg->u.append_answer.rejected) {
        rejected(r, peer, msg);
    } else {
        if (msg->u.append_answer.index >= peer->match && msg->u.append_answer.round <= r->round) {
            peer->match_round = SHL_MAX(peer->match_round, msg->u.append_answer.round);
        }
        sched_raft_peer_matched(r, peer, msg->u.append_answer.index);
    }
    r->send_owed = true;
}
