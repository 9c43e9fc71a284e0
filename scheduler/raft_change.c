/* Membership (dissertation 4.1 to 4.3): one member changes at a time, a new membership is
 * used as soon as it is in the log, and none may follow before it is committed. With single
 * changes any two majorities of neighbouring memberships overlap. A leader starts none
 * before an entry of its own term is committed, else two leaders could build on different
 * uncommitted memberships. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "scheduler/raft_internal.h"

#define ERAS_MIN 4u

const struct sched_raft_era *sched_raft_era_at(const struct sched_raft *r, uint64_t index)
{
    uint32_t at = r->era_count;

    while (at > 1 && r->eras[at - 1].index > index) {
        at--;
    }
    return &r->eras[at - 1];
}

const struct sched_raft_era *sched_raft_era(const struct sched_raft *r)
{
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_MEMBERSHIP_LATE)) {
        const struct sched_raft_era *era = sched_raft_era_at(r, r->commit);

        /* The founding one holds from the start. */
        return era->membership.count == 0 && r->era_count > 1 ? &r->eras[1] : era;
    }
    return &r->eras[r->era_count - 1];
}

int sched_raft_era_push(struct sched_raft *r,
                        uint64_t index,
                        const struct sched_raft_membership *membership)
{
    if (r->era_count == r->era_capacity) {
        uint32_t capacity = SHL_MAX(r->era_capacity * 2, ERAS_MIN);
        struct sched_raft_era *grown = reallocarray(r->eras, capacity, sizeof(*grown));

        if (!grown) {
            return -ENOMEM;
        }
        r->eras = grown;
        r->era_capacity = capacity;
    }
    r->eras[r->era_count].index = index;
    r->eras[r->era_count].membership = *membership;
    r->era_count++;
    return 0;
}

void sched_raft_era_truncate(struct sched_raft *r, uint64_t from)
{
    while (r->era_count > 1 && r->eras[r->era_count - 1].index >= from) {
        r->era_count--;
    }
}

/* Keep the one that holds at @base and all later ones. */
void sched_raft_era_compact(struct sched_raft *r, uint64_t base)
{
    uint32_t drop = 0;

    while (drop + 1 < r->era_count && r->eras[drop + 1].index <= base) {
        drop++;
    }
    if (drop > 0) {
        r->era_count -= drop;
        memmove(r->eras, r->eras + drop, r->era_count * sizeof(*r->eras));
    }
}

const struct sched_raft_member *sched_raft_self(const struct sched_raft *r)
{
    return sched_raft_membership_find(&sched_raft_era(r)->membership, &r->self);
}

bool sched_raft_is_voter(const struct sched_raft *r)
{
    const struct sched_raft_member *self = sched_raft_self(r);

    return self && self->standing == SCHED_RAFT_VOTER;
}

/* A voter that a membership takes out must still stand until that membership is known to be
 * committed: it may be the only one whose log suffices (dissertation 4.2.2). Its own vote
 * does not count then. */
bool sched_raft_may_stand(const struct sched_raft *r)
{
    uint32_t at = r->era_count;

    while (at-- > 0) {
        const struct sched_raft_member *self =
            sched_raft_membership_find(&r->eras[at].membership, &r->self);

        if (self && self->standing == SCHED_RAFT_VOTER) {
            return true;
        }
        if (r->eras[at].index <= r->commit) {
            return false;
        }
    }
    return false;
}

uint32_t sched_raft_quorum(const struct sched_raft *r)
{
    return sched_raft_membership_voters(&sched_raft_era(r)->membership) / 2 + 1;
}

/* The commit index moved. */
void sched_raft_era_committed(struct sched_raft *r)
{
    if (r->role != SCHED_RAFT_LEADER) {
        return;
    }
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_MEMBERSHIP_LATE)) {
        (void)sched_raft_peers_rebuild(r);
    }
    r->removed = sched_raft_era(r)->index <= r->commit && !sched_raft_is_voter(r);
}

/*- Changes. */

/* Near the end of the log, and heard of just now: one that died must not become a voter. */
static bool caught_up(struct sched_raft *r, const struct shl_node_id *id)
{
    const struct sched_raft_peer *peer = sched_raft_peer_find(r, id);

    return peer && peer->match + r->limits.promote_lag >= sched_raft_last(r) &&
           r->now_ms - peer->heard_at_ms < r->election_min_ms;
}

static enum sched_raft_reason refusal(const struct sched_raft *r)
{
    if (r->role == SCHED_RAFT_FAILED) {
        return SCHED_RAFT_STOPPED;
    }
    if (r->role != SCHED_RAFT_LEADER) {
        return SCHED_RAFT_NOT_LEADER;
    }
    if (r->transfer.active) {
        return SCHED_RAFT_TRANSFERRING;
    }
    if (sched_raft_mutated(r, SCHED_RAFT_MUT_MEMBERSHIP_LATE)) {
        return SCHED_RAFT_DONE;
    }
    return sched_raft_era(r)->index > r->commit || r->commit < r->term_start ? SCHED_RAFT_BUSY
                                                                             : SCHED_RAFT_DONE;
}

/* A witness alone can hold the log but no sandbox: the last full voter stays. */
static bool is_last_voter(const struct sched_raft_membership *m, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < m->count; i++) {
        if (m->members[i].standing == SCHED_RAFT_VOTER && !m->members[i].witness &&
            !shl_node_id_equal(&m->members[i].id, id)) {
            return false;
        }
    }
    return true;
}

/* Carry out @event on @m, a copy of the membership in use. */
static enum sched_raft_reason change_membership(struct sched_raft *r,
                                                const struct sched_raft_event *event,
                                                struct sched_raft_membership *m)
{
    struct sched_raft_member member = {.id = event->u.change.id, .standing = SCHED_RAFT_LEARNER};
    const struct sched_raft_member *old = sched_raft_membership_find(m, &member.id);

    if (event->u.change.op == SCHED_RAFT_ADD_LEARNER) {
        member.witness = event->u.change.witness;
        if (old || shl_node_id_is_none(&member.id)) {
            return old ? SCHED_RAFT_EXISTS : SCHED_RAFT_NO_MEMBER;
        }
        return sched_raft_membership_set(m, &member) < 0 ? SCHED_RAFT_MEMBER_LIMIT
                                                         : SCHED_RAFT_DONE;
    }
    if (!old) {
        return SCHED_RAFT_NO_MEMBER;
    }
    member = *old;
    switch (event->u.change.op) {
    case SCHED_RAFT_ADD_LEARNER:
        break; /* done above */
    case SCHED_RAFT_PROMOTE:
        if (old->standing == SCHED_RAFT_VOTER) {
            return SCHED_RAFT_EXISTS;
        }
        if (sched_raft_membership_voters(m) == SCHED_RAFT_VOTERS_MAX) {
            return SCHED_RAFT_MEMBER_LIMIT;
        }
        if (!caught_up(r, &member.id)) {
            return SCHED_RAFT_NOT_CAUGHT_UP;
        }
        member.standing = SCHED_RAFT_VOTER;
        break;
    case SCHED_RAFT_DEMOTE:
        if (old->standing == SCHED_RAFT_LEARNER) {
            return SCHED_RAFT_EXISTS;
        }
        if (is_last_voter(m, &member.id)) {
            return SCHED_RAFT_LAST_VOTER;
        }
        member.standing = SCHED_RAFT_LEARNER;
        break;
    case SCHED_RAFT_REMOVE:
        if (old->standing == SCHED_RAFT_VOTER && is_last_voter(m, &member.id)) {
            return SCHED_RAFT_LAST_VOTER;
        }
        sched_raft_membership_remove(m, &member.id);
        return SCHED_RAFT_DONE;
    }
    return sched_raft_membership_set(m, &member) < 0 ? SCHED_RAFT_MEMBER_LIMIT : SCHED_RAFT_DONE;
}

static void append_membership(struct sched_raft *r,
                              const struct sched_raft_membership *m,
                              const uint64_t *tag)
{
    struct shl_buf bytes;

    shl_buf_init(&bytes, SCHED_RAFT_COMMAND_BYTES_MAX);
    if (sched_raft_membership_encode(m, &bytes) < 0) {
        r->error = -ENOMEM;
    } else {
        sched_raft_append_own(r, SCHED_RAFT_MEMBERSHIP, shl_buf_bytes(&bytes), tag);
    }
    shl_buf_release(&bytes);
}

void sched_raft_change(struct sched_raft *r, const struct sched_raft_event *event)
{
    struct sched_raft_membership m = r->eras[r->era_count - 1].membership;
    enum sched_raft_reason reason = refusal(r);

    if (reason == SCHED_RAFT_DONE) {
        reason = change_membership(r, event, &m);
    }
    if (reason == SCHED_RAFT_DONE) {
        append_membership(r, &m, &event->u.change.tag);
    } else {
        sched_raft_emit_result(r, event->u.change.tag, reason, 0);
    }
}

/* The founding nodes all write the same first entry, of term 1; the first leader has
 * term 2 or later. A node alone stands at once. */
void sched_raft_bootstrap(struct sched_raft *r, const struct sched_raft_membership *membership)
{
    sched_raft_become_follower(r, 1, NULL);
    append_membership(r, membership, NULL);
    if (r->error == 0 && sched_raft_quorum(r) == 1 && sched_raft_is_voter(r)) {
        r->election_at_ms = r->now_ms;
    } else {
        sched_raft_restart_election_timer(r);
    }
}
