/* What goes to storage, and what is known to be there.
 *
 * One request is under way at a time; whatever changes meanwhile goes into the next one, so
 * a slow disk makes larger batches and no queue. Memory runs ahead of storage: log and term
 * change at once, `written` follows when a request is handed out and `stable` when it is
 * done. A truncation pulls both back, also for the request under way: its entries are
 * durable soon, but not in the log any more.
 */
#include <errno.h>

#include "scheduler/raft_internal.h"

/* Of one request; more goes into the next. */
#define REQUEST_BYTES_MAX (4u * 1024 * 1024)

void sched_raft_hard_changed(struct sched_raft *r)
{
    r->store.hard_dirty = true;
}

/* Entries of type MEMBERSHIP have been decoded once by the caller to check them. */
void sched_raft_append(struct sched_raft *r, const struct sched_raft_entry *entry)
{
    struct sched_raft_membership *membership = &r->room.membership;

    if (sched_raft_log_append(&r->log, entry) < 0) {
        r->error = -ENOMEM;
        return;
    }
    if (entry->type == SCHED_RAFT_MEMBERSHIP &&
        sched_raft_membership_decode(entry->data, membership) == 0 &&
        sched_raft_era_push(r, entry->index, membership) < 0) {
        r->error = -ENOMEM;
    }
}

void sched_raft_append_own(struct sched_raft *r,
                           enum sched_raft_entry_type type,
                           struct shl_bytes data,
                           const uint64_t *tag)
{
    struct sched_raft_entry entry = {
        .index = sched_raft_last(r) + 1,
        .term = r->term,
        .type = (uint8_t)type,
        .has_tag = tag != NULL,
        .tag = tag ? *tag : 0,
        .data = data,
    };

    sched_raft_append(r, &entry);
    if (r->role != SCHED_RAFT_LEADER) {
        return; /* bootstrap */
    }
    r->uncommitted_bytes += sched_raft_entry_bytes(&entry);
    r->send_owed = true;
    if (type == SCHED_RAFT_MEMBERSHIP && !sched_raft_mutated(r, SCHED_RAFT_MUT_MEMBERSHIP_LATE)) {
        (void)sched_raft_peers_rebuild(r);
    }
}

void sched_raft_truncate(struct sched_raft *r, uint64_t from)
{
    struct sched_raft_store *s = &r->store;

    assert(from > r->commit);
    sched_raft_log_truncate(&r->log, from);
    if (!sched_raft_mutated(r, SCHED_RAFT_MUT_TRUNCATE_KEEPS_MEMBERSHIP)) {
        sched_raft_era_truncate(r, from);
    }
    if (s->written >= from) {
        s->written = from - 1;
        s->truncate_from = s->truncate_from ? SHL_MIN(s->truncate_from, from) : from;
    }
    s->stable = SHL_MIN(s->stable, from - 1);
    s->in_flight_last = SHL_MIN(s->in_flight_last, from - 1);
    r->verified = SHL_MIN(r->verified, from - 1);
    r->acknowledged = SHL_MIN(r->acknowledged, from - 1);
}

/* The request under way is durable. */
void sched_raft_persisted(struct sched_raft *r)
{
    struct sched_raft_store *s = &r->store;

    s->in_flight = false;
    if (s->in_flight_hard) {
        s->durable_term = s->in_flight_term;
        s->durable_vote = s->in_flight_vote;
    }
    s->stable = SHL_MAX(s->stable, s->in_flight_last);
    if (s->in_flight_install) {
        sched_raft_snapshot_installed(r);
    }
    r->send_owed = true; /* the leader's own copy may complete a quorum */
}

/* Entries behind `written` that fit into one request. */
static uint32_t count_entries(const struct sched_raft *r)
{
    uint64_t index = r->store.written + 1, bytes = 0;
    uint32_t count = 0;

    while (index <= sched_raft_last(r) && bytes < REQUEST_BYTES_MAX) {
        bytes += sched_raft_entry_bytes(sched_raft_log_at(&r->log, index));
        index++;
        count++;
    }
    return count;
}

static void fill_snapshot(struct sched_raft *r, struct sched_raft_persist *p)
{
    p->snapshot = r->store.snapshot;
    if (p->snapshot != SCHED_RAFT_SNAPSHOT_NONE) {
        p->meta = &r->snapshot->meta;
        p->snapshot_data = shl_buf_bytes(&r->snapshot->data);
    }
    if (p->snapshot == SCHED_RAFT_SNAPSHOT_SAVE) {
        /* The base itself is kept as well: a restart needs its term. */
        p->log_first = SHL_MAX(r->log.base_index, 1);
    }
    r->store.in_flight_install = p->snapshot == SCHED_RAFT_SNAPSHOT_INSTALL;
    r->store.snapshot = SCHED_RAFT_SNAPSHOT_NONE;
}

void sched_raft_finish_persist(struct sched_raft *r)
{
    struct sched_raft_store *s = &r->store;
    struct sched_raft_persist *p;
    struct sched_raft_action *item;

    if (s->in_flight || (!s->hard_dirty && s->snapshot == SCHED_RAFT_SNAPSHOT_NONE &&
                         s->truncate_from == 0 && s->written == sched_raft_last(r))) {
        return;
    }
    item = sched_raft_emit(r, SCHED_RAFT_ACT_PERSIST);
    if (!item) {
        return;
    }
    p = &item->u.persist;
    *p = (struct sched_raft_persist){
        .seq = ++s->last_seq,
        .has_hard_state = s->hard_dirty,
        .term = r->term,
        .vote = r->vote,
        .truncate_from = s->truncate_from,
        .entries = sched_raft_log_at(&r->log, s->written + 1),
        .entry_count = count_entries(r),
    };
    fill_snapshot(r, p);
    s->in_flight = true;
    s->in_flight_hard = s->hard_dirty;
    s->in_flight_term = r->term;
    s->in_flight_vote = r->vote;
    s->written += p->entry_count;
    s->in_flight_last = s->written;
    s->hard_dirty = false;
    s->truncate_from = 0;
}
