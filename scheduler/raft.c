/* One step: dispatch the event, then carry on with what its outcome allows. */
#include "scheduler/raft.h"

#include <errno.h>

#include "base/err.h"
#include "scheduler/raft_internal.h"

static int on_recv(struct sched_raft *r, const struct sched_raft_event *event)
{
    const struct shl_node_id *from = &event->u.recv.from;
    struct sched_raft_msg msg;

    if (shl_node_id_equal(from, &r->self) || shl_node_id_is_none(from) ||
        sched_raft_msg_decode(event->u.recv.bytes, &r->room, &msg) < 0) {
        return SHL_EPROTO;
    }
    switch (msg.kind) {
    case SCHED_RAFT_MSG_VOTE:
        sched_raft_recv_vote(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        sched_raft_recv_vote_answer(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_APPEND:
        sched_raft_recv_append(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        sched_raft_recv_append_answer(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_SNAPSHOT:
        sched_raft_recv_snapshot(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        sched_raft_recv_snapshot_answer(r, from, &msg);
        break;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        sched_raft_recv_timeout_now(r, from, &msg);
        break;
    }
    return 0;
}

static void on_leader_tick(struct sched_raft *r)
{
    if (r->now_ms >= r->heartbeat_at_ms) {
        if (!sched_raft_quorum_heard(r)) {
            sched_raft_become_follower(r, r->term, NULL);
            return;
        }
        sched_raft_heartbeat(r);
    }
    if (r->transfer.active && r->now_ms >= r->transfer.deadline_ms) {
        sched_raft_transfer_end(r, SCHED_RAFT_TIMED_OUT);
    }
}

static void on_tick(struct sched_raft *r)
{
    if (r->role == SCHED_RAFT_LEADER) {
        on_leader_tick(r);
    } else if (r->now_ms >= r->election_at_ms) {
        sched_raft_election_timeout(r);
    }
}

static int on_persisted(struct sched_raft *r, const struct sched_raft_event *event)
{
    if (!r->store.in_flight || event->u.persisted.seq != r->store.last_seq) {
        return SHL_EINVALIDARG;
    }
    sched_raft_persisted(r);
    return 0;
}

static int on_bootstrap(struct sched_raft *r, const struct sched_raft_event *event)
{
    const struct sched_raft_membership *m = event->u.bootstrap.membership;
    uint32_t voters = sched_raft_membership_voters(m);

    if (voters == 0 || voters > SCHED_RAFT_VOTERS_MAX || m->count > SCHED_RAFT_MEMBERS_MAX) {
        return SHL_EINVALIDARG;
    }
    if (r->term > 0 || sched_raft_last(r) > 0) {
        return SHL_EBADSTATE;
    }
    sched_raft_bootstrap(r, m);
    return 0;
}

static int dispatch(struct sched_raft *r, const struct sched_raft_event *event)
{
    switch (event->type) {
    case SCHED_RAFT_TICK:
        on_tick(r);
        return 0;
    case SCHED_RAFT_RECV:
        return on_recv(r, event);
    case SCHED_RAFT_PERSISTED:
        return on_persisted(r, event);
    case SCHED_RAFT_PERSIST_FAILED:
        sched_raft_become_failed(r);
        return 0;
    case SCHED_RAFT_BOOTSTRAP:
        return on_bootstrap(r, event);
    case SCHED_RAFT_PROPOSE:
        sched_raft_propose(r, event->u.propose.tag, event->u.propose.command);
        return 0;
    case SCHED_RAFT_READ:
        sched_raft_read(r, event->u.read.tag);
        return 0;
    case SCHED_RAFT_CHANGE:
        sched_raft_change(r, event);
        return 0;
    case SCHED_RAFT_TRANSFER:
        sched_raft_transfer(r, event->u.transfer.tag, &event->u.transfer.target);
        return 0;
    case SCHED_RAFT_SNAPSHOT_TAKEN:
        return sched_raft_snapshot_taken(r, event->u.snapshot_taken.index,
                                         event->u.snapshot_taken.data);
    case SCHED_RAFT_PEER_LINK:
        sched_raft_peer_link(r, &event->u.link.peer);
        return 0;
    case SCHED_RAFT_CAMPAIGN:
        sched_raft_campaign(r);
        return 0;
    }
    return SHL_EINVALIDARG;
}

/* A failed core answers its own node's questions and nothing else. */
static void dispatch_failed(struct sched_raft *r, const struct sched_raft_event *event)
{
    if (event->type == SCHED_RAFT_PROPOSE) {
        sched_raft_propose(r, event->u.propose.tag, event->u.propose.command);
    } else if (event->type == SCHED_RAFT_READ) {
        sched_raft_read(r, event->u.read.tag);
    } else if (event->type == SCHED_RAFT_CHANGE) {
        sched_raft_change(r, event);
    } else if (event->type == SCHED_RAFT_TRANSFER) {
        sched_raft_transfer(r, event->u.transfer.tag, &event->u.transfer.target);
    }
}

/* See raft_internal.h: from here on the log does not change, except that a candidate whose
 * vote became durable may lead, which comes first. */
static void finish(struct sched_raft *r)
{
    sched_raft_finish_votes(r);
    sched_raft_finish_commit(r);
    if (r->role == SCHED_RAFT_LEADER && r->read_count > 0) {
        sched_raft_round_answered(r);
    }
    sched_raft_tell_role(r);
    sched_raft_finish_append_answer(r);
    sched_raft_finish_sends(r);
    if (r->role == SCHED_RAFT_LEADER && r->removed) {
        sched_raft_nominate(r);
        sched_raft_become_follower(r, r->term, NULL);
    }
    sched_raft_finish_persist(r);
    sched_raft_finish_apply(r);
    sched_raft_finish_reads(r);
    sched_raft_tell_role(r);
}

static uint64_t wake_at_ms(const struct sched_raft *r)
{
    uint64_t at = r->election_at_ms;

    if (r->role == SCHED_RAFT_FAILED) {
        return SCHED_RAFT_NEVER_MS;
    }
    if (r->role == SCHED_RAFT_LEADER) {
        at = r->heartbeat_at_ms;
        if (r->transfer.active) {
            at = SHL_MIN(at, r->transfer.deadline_ms);
        }
    }
    return sched_raft_can_apply(r) ? r->now_ms : at;
}

int sched_raft_step(struct sched_raft *r,
                    const struct sched_raft_event *event,
                    struct sched_raft_actions *actions)
{
    int rc = 0;

    sched_raft_actions_clear(actions);
    r->out = actions;
    r->now_ms = SHL_MAX(r->now_ms, event->now_ms);
    if (r->role == SCHED_RAFT_FAILED) {
        dispatch_failed(r, event);
    } else {
        rc = dispatch(r, event);
        if (rc == 0 && r->error == 0 && r->role != SCHED_RAFT_FAILED) {
            finish(r);
        }
    }
    if (r->error < 0) {
        rc = r->error;
        r->error = 0;
        if (r->role != SCHED_RAFT_FAILED) {
            sched_raft_become_failed(r);
        }
    }
    sched_raft_tell_role(r);
    sched_raft_actions_point(actions);
    actions->wake_at_ms = wake_at_ms(r);
    r->out = NULL;
    return rc;
}
