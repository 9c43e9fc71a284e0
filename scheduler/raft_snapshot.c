/* Snapshots: taken here, sent in pieces, received and installed.
 *
 * Sending: the leader offers the piece at the offset the peer acknowledged; the answer says
 * which offset is wanted next. A heartbeat asks with an empty piece, so lost pieces and a
 * restarted receiver are noticed and the transfer goes on where it was. A newer snapshot
 * does not disturb one that is arriving.
 * Receiving: pieces of one snapshot of one leader are gathered in order, others are answered
 * with what is wanted. When it is complete, either the log holds its last entry already and
 * only the commit index moves, or it replaces log and state: storage first, then the state
 * machine (SNAPSHOT_INSTALL); nothing is applied in between.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "scheduler/raft_internal.h"

struct sched_raft_snapshot *sched_raft_snapshot_new(const struct sched_raft_snapshot_meta *meta,
                                                    struct shl_buf *data)
{
    struct sched_raft_snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot) {
        snapshot->refs = 1;
        snapshot->meta = *meta;
        snapshot->data = *data;
        shl_buf_init(data, data->max_bytes);
    }
    return snapshot;
}

struct sched_raft_snapshot *sched_raft_snapshot_ref(struct sched_raft_snapshot *snapshot)
{
    snapshot->refs++;
    return snapshot;
}

void sched_raft_snapshot_unref(struct sched_raft_snapshot *snapshot)
{
    if (snapshot && --snapshot->refs == 0) {
        shl_buf_release(&snapshot->data);
        free(snapshot);
    }
}

void sched_raft_want_snapshot(struct sched_raft *r)
{
    struct sched_raft_action *item;

    if (r->applied <= r->wanted_at) {
        return; /* asked already, or there is one */
    }
    r->wanted_at = r->applied;
    r->applied_bytes = 0;
    item = sched_raft_emit(r, SCHED_RAFT_ACT_SNAPSHOT_WANTED);
    if (item) {
        item->u.wanted.index = r->applied;
    }
}

/* What comes behind a snapshot that is being sent is needed when it has arrived; without it the
 * next snapshot would have to be sent, and on a slow link so for ever. */
static uint64_t keep_above(const struct sched_raft *r, uint64_t index)
{
    uint32_t i;

    for (i = 0; r->role == SCHED_RAFT_LEADER && i < r->peer_count; i++) {
        const struct sched_raft_peer *peer = &r->peers[i];

        if (peer->state == SCHED_RAFT_PEER_SNAPSHOT) {
            index = SHL_MIN(index, peer->snapshot->meta.index);
        }
    }
    return index;
}

/* Entries in front of the snapshot stay for slow peers, but not more than half the room. */
static void compact(struct sched_raft *r, uint64_t index)
{
    uint64_t base = r->log.base_index;

    if (index > base + r->limits.trailing_entries) {
        base = SHL_MAX(base, keep_above(r, index - r->limits.trailing_entries));
        sched_raft_log_compact(&r->log, base);
    }
    while (r->log.base_index < index && r->log.bytes > r->limits.log_bytes / 2) {
        sched_raft_log_compact(&r->log, r->log.base_index + 1);
    }
    sched_raft_era_compact(r, index);
}

int sched_raft_snapshot_taken(struct sched_raft *r, uint64_t index, struct shl_buf *data)
{
    struct sched_raft_snapshot_meta meta = {.index = index};
    struct sched_raft_snapshot *snapshot;
    const struct sched_raft_era *era;

    if (index == 0 || index > r->applied || shl_buf_len(data) > r->limits.snapshot_bytes) {
        return SHL_EINVALIDARG;
    }
    if (r->snapshot && r->snapshot->meta.index >= index) {
        shl_buf_release(data); /* overtaken by one from the leader */
        return 0;
    }
    era = sched_raft_era_at(r, index);
    meta.term = sched_raft_log_term(&r->log, index);
    meta.membership_index = era->index;
    meta.membership = era->membership;
    snapshot = sched_raft_snapshot_new(&meta, data);
    if (!snapshot) {
        r->error = -ENOMEM;
        return 0;
    }
    sched_raft_snapshot_unref(r->snapshot);
    r->snapshot = snapshot;
    r->store.snapshot = SCHED_RAFT_SNAPSHOT_SAVE;
    r->wanted_at = SHL_MAX(r->wanted_at, index);
    compact(r, index);
    return 0;
}

/*- Sending. */

void sched_raft_snapshot_start(struct sched_raft *r, struct sched_raft_peer *peer)
{
    assert(r->snapshot);
    assert(r->snapshot->meta.index >= r->log.base_index);
    sched_raft_snapshot_unref(peer->snapshot);
    peer->state = SCHED_RAFT_PEER_SNAPSHOT;
    peer->snapshot = sched_raft_snapshot_ref(r->snapshot);
    peer->snapshot_offset = 0;
    peer->inflight_count = 0;
    peer->probe_sent = false;
    sched_raft_snapshot_send(r, peer, true);
}

/* The piece at the acknowledged offset; an empty one only asks. */
void sched_raft_snapshot_send(struct sched_raft *r, struct sched_raft_peer *peer, bool ask)
{
    const struct sched_raft_snapshot *snapshot = peer->snapshot;
    struct shl_bytes data = shl_buf_bytes(&snapshot->data);
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_SNAPSHOT, .term = r->term};
    uint64_t offset = peer->snapshot_offset;

    msg.u.snapshot.index = snapshot->meta.index;
    msg.u.snapshot.snapshot_term = snapshot->meta.term;
    msg.u.snapshot.offset = offset;
    msg.u.snapshot.total = data.len;
    msg.u.snapshot.round = r->round;
    msg.u.snapshot.membership_index = snapshot->meta.membership_index;
    msg.u.snapshot.membership = offset == 0 ? &snapshot->meta.membership : NULL;
    if (!ask) {
        msg.u.snapshot.data =
            shl_bytes_of(data.base + offset,
                         SHL_MIN(r->limits.chunk_bytes, (size_t)(data.len - offset)));
        peer->snapshot_sent_at_ms = r->now_ms;
    }
    peer->round_sent = r->round;
    sched_raft_send(r, &peer->member.id, &msg);
}

/* Nothing of it has arrived, or nobody is there to go on with it: then the newest one is as
 * good, and an old one is not kept for a peer that may never return. */
void sched_raft_snapshot_heartbeat(struct sched_raft *r, struct sched_raft_peer *peer)
{
    bool silent = r->now_ms - peer->heard_at_ms > r->election_max_ms;

    if (peer->snapshot != r->snapshot && (peer->snapshot_offset == 0 || silent)) {
        sched_raft_snapshot_start(r, peer);
    } else {
        sched_raft_snapshot_send(r, peer, true);
    }
}

void sched_raft_recv_snapshot_answer(struct sched_raft *r,
                                     const struct shl_node_id *from,
                                     const struct sched_raft_msg *msg)
{
    uint64_t offset = msg->u.snapshot_answer.offset;
    struct sched_raft_peer *peer =
        r->role == SCHED_RAFT_LEADER && msg->term == r->term ? sched_raft_peer_find(r, from) : NULL;

    if (!peer) {
        return; /* a higher term comes as an answer to append */
    }
    sched_raft_peer_round(r, peer, msg->u.snapshot_answer.round);
    r->send_owed = true;
    if (msg->u.snapshot_answer.match > 0) {
        sched_raft_peer_matched(r, peer, msg->u.snapshot_answer.match);
    }
    if (peer->state != SCHED_RAFT_PEER_SNAPSHOT ||
        msg->u.snapshot_answer.index != peer->snapshot->meta.index) {
        return;
    }
    if (offset > shl_buf_len(&peer->snapshot->data)) {
        r->refused_messages++;
        return;
    }
    /* A doubled answer must not start a second stream of pieces. */
    if (offset == peer->snapshot_offset && peer->snapshot_sent_at_ms > 0 &&
        r->now_ms - peer->snapshot_sent_at_ms < r->heartbeat_ms) {
        return;
    }
    peer->snapshot_offset = offset;
    if (offset < shl_buf_len(&peer->snapshot->data)) {
        sched_raft_snapshot_send(r, peer, false);
    }
}

/*- Receiving. */

void sched_raft_incoming_clear(struct sched_raft *r)
{
    if (r->incoming.active) {
        shl_buf_release(&r->incoming.data);
        r->incoming.active = false;
    }
}

static void answer(struct sched_raft *r,
                   const struct sched_raft_msg *msg,
                   uint64_t offset,
                   uint64_t match)
{
    struct sched_raft_msg out = {.kind = SCHED_RAFT_MSG_SNAPSHOT_ANSWER, .term = r->term};

    if (!sched_raft_term_durable(r)) {
        return; /* asked again with the next heartbeat */
    }
    out.u.snapshot_answer.index = msg->u.snapshot.index;
    out.u.snapshot_answer.offset = offset;
    out.u.snapshot_answer.match = match;
    out.u.snapshot_answer.round = r->round_seen;
    sched_raft_send(r, &r->leader, &out);
}

/* The log holds the snapshot's last entry: all in front of it is committed, nothing needs
 * to be replaced. */
static bool log_has(struct sched_raft *r, const struct sched_raft_msg *msg)
{
    uint64_t index = msg->u.snapshot.index;

    if (index > r->commit) {
        if (index > sched_raft_last(r) ||
            sched_raft_log_term(&r->log, index) != msg->u.snapshot.snapshot_term) {
            return false;
        }
        r->verified = SHL_MAX(r->verified, index);
        r->commit = index;
        sched_raft_era_committed(r);
    }
    r->verified = SHL_MAX(r->verified, r->commit);
    return true;
}

static bool is_same(const struct sched_raft *r, const struct sched_raft_msg *msg)
{
    const struct sched_raft_incoming *in = &r->incoming;

    return in->active && in->term == msg->term && shl_node_id_equal(&in->from, &r->leader) &&
           in->meta.index == msg->u.snapshot.index &&
           in->meta.term == msg->u.snapshot.snapshot_term && in->total == msg->u.snapshot.total;
}

static void begin(struct sched_raft *r, const struct sched_raft_msg *msg)
{
    struct sched_raft_incoming *in = &r->incoming;

    sched_raft_incoming_clear(r);
    in->active = true;
    in->from = r->leader;
    in->term = msg->term;
    in->total = msg->u.snapshot.total;
    in->meta.index = msg->u.snapshot.index;
    in->meta.term = msg->u.snapshot.snapshot_term;
    in->meta.membership_index = msg->u.snapshot.membership_index;
    in->meta.membership = *msg->u.snapshot.membership;
    shl_buf_init(&in->data, r->limits.snapshot_bytes);
}

/* Entries that were committed and are skipped by the snapshot were proposed here: done. */
static void answer_skipped(struct sched_raft *r)
{
    uint64_t index;

    for (index = r->applied + 1; index <= sched_raft_last(r); index++) {
        struct sched_raft_entry *entry = sched_raft_log_at(&r->log, index);

        if (entry && entry->has_tag) {
            entry->has_tag = false;
            sched_raft_emit_result(r, entry->tag, SCHED_RAFT_DONE, index);
        }
    }
}

static void replace_log(struct sched_raft *r, const struct sched_raft_snapshot_meta *meta)
{
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_INSTALL_KEEPS_LOG) &&
        sched_raft_last(r) > meta->index) {
        sched_raft_log_compact(&r->log, meta->index);
        r->log.base_term = meta->term;
        r->eras[0].index = meta->membership_index;
        r->eras[0].membership = meta->membership;
        r->era_count = 1;
        r->verified = sched_raft_last(r);
        return;
    }
    sched_raft_log_reset(&r->log, meta->index, meta->term);
    r->era_count = 0; /* there is room for one: there always was one */
    (void)sched_raft_era_push(r, meta->membership_index, &meta->membership);
    r->verified = meta->index;
}

static void install(struct sched_raft *r)
{
    struct sched_raft_incoming *in = &r->incoming;
    struct sched_raft_snapshot *snapshot = sched_raft_snapshot_new(&in->meta, &in->data);
    struct sched_raft_store *s = &r->store;

    sched_raft_incoming_clear(r);
    if (!snapshot) {
        r->error = -ENOMEM;
        return;
    }
    sched_raft_snapshot_unref(r->snapshot);
    r->snapshot = snapshot;
    answer_skipped(r);
    replace_log(r, &snapshot->meta);
    r->commit = snapshot->meta.index;
    s->snapshot = SCHED_RAFT_SNAPSHOT_INSTALL;
    s->install_waits = true;
    s->truncate_from = 0;
    s->written = snapshot->meta.index;
    s->stable = r->applied; /* of the new log nothing beyond this is durable yet */
    s->in_flight_last = 0;
}

void sched_raft_recv_snapshot(struct sched_raft *r,
                              const struct shl_node_id *from,
                              const struct sched_raft_msg *msg)
{
    struct shl_bytes data = msg->u.snapshot.data;
    struct sched_raft_incoming *in = &r->incoming;
    int rc;

    if (!sched_raft_accept_leader(r, from, msg)) {
        return;
    }
    r->round_seen = SHL_MAX(r->round_seen, msg->u.snapshot.round);
    if (r->store.install_waits) {
        /* One at a time. The leader learns from the append answer when this one is done. */
        answer(r, msg, msg->u.snapshot.total, 0);
        return;
    }
    if (log_has(r, msg)) {
        sched_raft_incoming_clear(r);
        answer(r, msg, msg->u.snapshot.total, SHL_MIN(r->verified, r->store.stable));
        return;
    }
    if (msg->u.snapshot.total > r->limits.snapshot_bytes) {
        r->refused_messages++;
        return;
    }
    if (!is_same(r, msg)) {
        if (msg->u.snapshot.offset > 0) {
            answer(r, msg, 0, 0);
            return;
        }
        begin(r, msg);
    }
    if (msg->u.snapshot.offset == shl_buf_len(&in->data)) {
        rc = shl_buf_append(&in->data, data.base, data.len);
        if (rc < 0) {
            r->error = rc;
            return;
        }
    }
    answer(r, msg, shl_buf_len(&in->data), 0);
    if (shl_buf_len(&in->data) == in->total) {
        install(r);
    }
}

/* Durable: now the state machine gets it. */
void sched_raft_snapshot_installed(struct sched_raft *r)
{
    const struct sched_raft_snapshot_meta *meta = &r->snapshot->meta;
    struct sched_raft_action *item;

    r->store.in_flight_install = false;
    r->store.install_waits = false;
    r->store.stable = SHL_MAX(r->store.stable, meta->index);
    r->applied = meta->index;
    r->applied_bytes = 0;
    r->wanted_at = meta->index;
    item = sched_raft_emit(r, SCHED_RAFT_ACT_SNAPSHOT_INSTALL);
    if (item) {
        item->u.install.meta = meta;
        item->u.install.data = shl_buf_bytes(&r->snapshot->data);
    }
    item = sched_raft_emit(r, SCHED_RAFT_ACT_MEMBERSHIP_APPLIED);
    if (item) {
        item->u.membership.index = meta->membership_index;
        item->u.membership.membership = &meta->membership;
    }
}
