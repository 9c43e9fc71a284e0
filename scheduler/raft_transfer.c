/* Leadership transfer (dissertation 3.10): stop taking proposals, bring the target up to
 * date, tell it to stand at once. It ends when a higher term appears, or after an election
 * timeout, and then this node goes on leading. */
#include "scheduler/raft_internal.h"

static bool heard_lately(const struct sched_raft *r, const struct sched_raft_peer *peer)
{
    return r->now_ms - peer->heard_at_ms <= r->election_min_ms;
}

/* The voter that is furthest; full voters first. */
static struct sched_raft_peer *best_peer(struct sched_raft *r)
{
    struct sched_raft_peer *best = NULL;
    uint32_t i;

    for (i = 0; i < r->peer_count; i++) {
        struct sched_raft_peer *peer = &r->peers[i];

        if (peer->member.standing != SCHED_RAFT_VOTER || !heard_lately(r, peer)) {
            continue;
        }
        if (!best || (best->member.witness && !peer->member.witness) ||
            (best->member.witness == peer->member.witness && peer->match > best->match)) {
            best = peer;
        }
    }
    return best;
}

static void send_timeout_now(struct sched_raft *r, const struct shl_node_id *to)
{
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_TIMEOUT_NOW, .term = r->term};

    sched_raft_send(r, to, &msg);
}

static enum sched_raft_reason refusal(struct sched_raft *r, const struct shl_node_id *target)
{
    const struct sched_raft_peer *peer;

    if (r->role == SCHED_RAFT_FAILED) {
        return SCHED_RAFT_STOPPED;
    }
    if (r->role != SCHED_RAFT_LEADER) {
        return SCHED_RAFT_NOT_LEADER;
    }
    if (r->transfer.active) {
        return SCHED_RAFT_BUSY;
    }
    if (shl_node_id_equal(target, &r->self)) {
        return SCHED_RAFT_EXISTS;
    }
    peer = sched_raft_peer_find(r, target);
    return peer && peer->member.standing == SCHED_RAFT_VOTER ? SCHED_RAFT_DONE
                                                             : SCHED_RAFT_NO_MEMBER;
}

void sched_raft_transfer(struct sched_raft *r, uint64_t tag, const struct shl_node_id *target)
{
    struct shl_node_id chosen = *target;
    struct sched_raft_peer *best = best_peer(r);
    enum sched_raft_reason reason;

    if (shl_node_id_is_none(target) && best) {
        chosen = best->member.id;
    }
    reason = refusal(r, &chosen);
    if (reason != SCHED_RAFT_DONE) {
        sched_raft_emit_result(r, tag, reason, 0);
        return;
    }
    r->transfer.active = true;
    r->transfer.tag = tag;
    r->transfer.target = chosen;
    r->transfer.deadline_ms = r->now_ms + r->election_max_ms;
    r->transfer.sent = false;
    sched_raft_transfer_progress(r);
}

/* Called when a peer has matched more. Sent once; at the deadline the caller may retry. */
void sched_raft_transfer_progress(struct sched_raft *r)
{
    const struct sched_raft_peer *peer;

    if (!r->transfer.active || r->transfer.sent) {
        return;
    }
    peer = sched_raft_peer_find(r, &r->transfer.target);
    if (peer && peer->match == sched_raft_last(r)) {
        r->transfer.sent = true;
        send_timeout_now(r, &r->transfer.target);
    }
}

void sched_raft_transfer_end(struct sched_raft *r, enum sched_raft_reason reason)
{
    if (r->transfer.active) {
        r->transfer.active = false;
        sched_raft_emit_result(r, r->transfer.tag, reason, 0);
    }
}

void sched_raft_nominate(struct sched_raft *r)
{
    const struct sched_raft_peer *best = best_peer(r);

    if (best) {
        send_timeout_now(r, &best->member.id);
    }
}

void sched_raft_recv_timeout_now(struct sched_raft *r,
                                 const struct shl_node_id *from,
                                 const struct sched_raft_msg *msg)
{
    if (msg->term == r->term && r->role == SCHED_RAFT_FOLLOWER &&
        shl_node_id_equal(from, &r->leader)) {
        sched_raft_campaign_forced(r);
    }
}
