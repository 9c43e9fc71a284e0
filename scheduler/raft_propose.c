/* Proposals in, entries out to the state machine. */
#include "scheduler/raft_internal.h"

/* Of one step; the rest follows with the next TICK, which is asked for at once. */
#define APPLY_MAX 1024u

static enum sched_raft_reason refusal(const struct sched_raft *r, struct shl_bytes command)
{
    uint64_t bytes = command.len + SCHED_RAFT_ENTRY_OVERHEAD;

    if (r->role == SCHED_RAFT_FAILED) {
        return SCHED_RAFT_STOPPED;
    }
    if (r->role != SCHED_RAFT_LEADER) {
        return SCHED_RAFT_NOT_LEADER;
    }
    if (r->transfer.active) {
        return SCHED_RAFT_TRANSFERRING;
    }
    if (command.len > SCHED_RAFT_COMMAND_BYTES_MAX) {
        return SCHED_RAFT_TOO_LARGE;
    }
    if (r->log.bytes + bytes > r->limits.log_bytes ||
        r->uncommitted_bytes + bytes > r->limits.uncommitted_bytes) {
        return SCHED_RAFT_LOG_FULL;
    }
    return SCHED_RAFT_DONE;
}

void sched_raft_propose(struct sched_raft *r, uint64_t tag, struct shl_bytes command)
{
    enum sched_raft_reason reason = refusal(r, command);

    if (reason == SCHED_RAFT_DONE) {
        sched_raft_append_own(r, SCHED_RAFT_COMMAND, command, &tag);
        return;
    }
    if (reason == SCHED_RAFT_LOG_FULL) {
        sched_raft_want_snapshot(r);
    }
    sched_raft_emit_result(r, tag, reason, 0);
}

/* Whoever waits for an entry that is not committed hears that the outcome is open. */
void sched_raft_drop_tags(struct sched_raft *r, uint64_t above)
{
    uint64_t index;

    for (index = SHL_MAX(above, r->log.base_index) + 1; index <= sched_raft_last(r); index++) {
        struct sched_raft_entry *entry = sched_raft_log_at(&r->log, index);

        if (entry->has_tag) {
            entry->has_tag = false;
            sched_raft_emit_result(r, entry->tag, SCHED_RAFT_LOST, 0);
        }
    }
}

/* Only what is durable here is applied, and nothing while a snapshot is to replace it all. */
bool sched_raft_can_apply(const struct sched_raft *r)
{
    return !r->store.install_waits && r->role != SCHED_RAFT_FAILED &&
           r->applied < SHL_MIN(r->commit, r->store.stable);
}

static void apply(struct sched_raft *r, const struct sched_raft_entry *entry)
{
    struct sched_raft_action *item = sched_raft_emit(r, SCHED_RAFT_ACT_APPLY);

    if (item) {
        item->u.apply = entry;
    }
    r->applied = entry->index;
    r->applied_bytes += sched_raft_entry_bytes(entry);
    if (entry->type == SCHED_RAFT_MEMBERSHIP) {
        item = sched_raft_emit(r, SCHED_RAFT_ACT_MEMBERSHIP_APPLIED);
        if (item) {
            item->u.membership.index = entry->index;
            item->u.membership.membership = &sched_raft_era_at(r, entry->index)->membership;
        }
    }
    if (entry->has_tag) {
        sched_raft_emit_result(r, entry->tag, SCHED_RAFT_DONE, entry->index);
    }
}

void sched_raft_finish_apply(struct sched_raft *r)
{
    uint64_t entries = r->applied - r->wanted_at;
    uint32_t i;

    for (i = 0; i < APPLY_MAX && r->error == 0 && sched_raft_can_apply(r); i++) {
        apply(r, sched_raft_log_at(&r->log, r->applied + 1));
    }
    if (i > 0 && (r->applied_bytes >= r->limits.snapshot_after_bytes ||
                  entries + i >= r->limits.snapshot_after_entries)) {
        sched_raft_want_snapshot(r);
    }
}
