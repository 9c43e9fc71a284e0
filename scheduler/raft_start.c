/* From a config, which carries what storage holds, to a core. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "scheduler/raft_internal.h"

void sched_raft_config_init(struct sched_raft_config *config)
{
    *config = (struct sched_raft_config){
        .heartbeat_ms = 50,
        .election_min_ms = 200,
        .election_max_ms = 400,
        .limits =
            {
                .msg_entries = 256,
                .msg_bytes = 64u * 1024,
                .inflight = 8,
                .chunk_bytes = SCHED_RAFT_CHUNK_BYTES_MAX,
                .log_bytes = 64u * 1024 * 1024,
                .uncommitted_bytes = 16u * 1024 * 1024,
                .snapshot_after_bytes = 8u * 1024 * 1024,
                .snapshot_after_entries = 16384,
                .trailing_entries = 2048,
                .snapshot_bytes = 64u * 1024 * 1024,
                .reads = 4096,
                .promote_lag = 64,
            },
    };
}

static bool limits_are_valid(const struct sched_raft_limits *l)
{
    return l->msg_entries >= 1 && l->msg_entries <= SCHED_RAFT_MSG_ENTRIES_MAX &&
           l->msg_bytes >= 1 && l->msg_bytes <= SCHED_RAFT_COMMAND_BYTES_MAX && l->inflight >= 1 &&
           l->inflight <= SCHED_RAFT_INFLIGHT_MAX && l->chunk_bytes >= 1 &&
           l->chunk_bytes <= SCHED_RAFT_CHUNK_BYTES_MAX && l->log_bytes >= 1 &&
           l->log_bytes <= UINT64_MAX / 4 && l->uncommitted_bytes >= 1 &&
           l->snapshot_after_bytes >= 1 && l->snapshot_after_entries >= 1 &&
           l->snapshot_bytes >= 1 && l->snapshot_bytes <= SCHED_RAFT_SNAPSHOT_BYTES_MAX &&
           l->reads >= 1 && l->promote_lag <= UINT64_MAX / 4;
}

static bool config_is_valid(const struct sched_raft_config *c)
{
    return !shl_node_id_is_none(&c->self) && c->heartbeat_ms >= 1 &&
           c->election_min_ms > c->heartbeat_ms && c->election_max_ms > c->election_min_ms &&
           limits_are_valid(&c->limits);
}

/* The last entry at or below the snapshot, which storage keeps, is the base: its term is
 * needed. Without one the snapshot itself is. */
static int load_entries(struct sched_raft *r, const struct sched_raft_config *c)
{
    uint64_t i = 0;

    sched_raft_log_reset(&r->log, c->snapshot.index, c->snapshot.term);
    if (c->entry_count > 0 && c->entries[0].index <= c->snapshot.index &&
        c->entries[0].index + c->entry_count > c->snapshot.index) {
        sched_raft_log_reset(&r->log, c->entries[0].index, c->entries[0].term);
        i = 1;
    }
    for (; i < c->entry_count; i++) {
        struct sched_raft_entry entry = c->entries[i];

        entry.has_tag = false;
        if (entry.index != sched_raft_last(r) + 1 || entry.term > c->term ||
            entry.term < SHL_MAX(sched_raft_log_last_term(&r->log), 1) ||
            entry.index > SCHED_RAFT_NUMBER_MAX) {
            return SHL_ECORRUPT;
        }
        if (entry.type == SCHED_RAFT_MEMBERSHIP && entry.index <= c->snapshot.index) {
            if (sched_raft_log_append(&r->log, &entry) < 0) {
                r->error = -ENOMEM; /* its membership is in the snapshot's or older */
            }
        } else {
            if (entry.type == SCHED_RAFT_MEMBERSHIP &&
                sched_raft_membership_decode(entry.data, &r->room.membership) < 0) {
                return SHL_ECORRUPT;
            }
            sched_raft_append(r, &entry);
        }
        if (r->error < 0) {
            return r->error;
        }
    }
    return c->snapshot.index > 0 &&
                   sched_raft_log_term(&r->log, c->snapshot.index) != c->snapshot.term
               ? SHL_ECORRUPT
               : 0;
}

static int load(struct sched_raft *r, const struct sched_raft_config *c)
{
    static const struct sched_raft_membership nobody;
    int rc;

    if ((c->snapshot.index == 0) != (c->snapshot.term == 0) || c->snapshot.term > c->term ||
        c->snapshot.index > SCHED_RAFT_NUMBER_MAX || c->term > SCHED_RAFT_NUMBER_MAX ||
        c->snapshot.membership_index > c->snapshot.index ||
        (c->snapshot.index > 0 && !c->snapshot_data)) {
        return SHL_ECORRUPT;
    }
    if (sched_raft_era_push(r, c->snapshot.membership_index,
                            c->snapshot.index > 0 ? &c->snapshot.membership : &nobody) < 0) {
        return -ENOMEM;
    }
    rc = load_entries(r, c);
    if (rc < 0) {
        return rc;
    }
    if (c->snapshot.index > 0) {
        r->snapshot = sched_raft_snapshot_new(&c->snapshot, c->snapshot_data);
        if (!r->snapshot) {
            return -ENOMEM;
        }
    }
    r->commit = c->snapshot.index;
    r->applied = c->snapshot.index;
    r->wanted_at = c->snapshot.index;
    r->store.written = sched_raft_last(r);
    r->store.stable = sched_raft_last(r);
    r->store.durable_term = c->term;
    r->store.durable_vote = c->vote;
    return 0;
}

static struct sched_raft *new_core(const struct sched_raft_config *c)
{
    struct sched_raft *r = calloc(1, sizeof(*r));

    if (!r) {
        return NULL;
    }
    r->self = c->self;
    r->heartbeat_ms = c->heartbeat_ms;
    r->election_min_ms = c->election_min_ms;
    r->election_max_ms = c->election_max_ms;
    r->limits = c->limits;
    r->mutations = c->mutations;
    r->role = SCHED_RAFT_FOLLOWER;
    r->told_role = SCHED_RAFT_FOLLOWER;
    r->term = c->term;
    r->told_term = c->term;
    r->vote = c->vote;
    r->now_ms = c->now_ms;
    /* Nodes with the same seed and different ids draw different timeouts. */
    r->random = c->seed ^ shl_get_le64(c->self.bytes) ^ 0x9e3779b97f4a7c15ull;
    r->random = (r->random ^ r->random >> 31) * 0xbf58476d1ce4e5b9ull;
    r->random = r->random ? r->random : 1;
    return r;
}

int sched_raft_new(const struct sched_raft_config *config, struct sched_raft **ret_raft)
{
    struct sched_raft *r;
    int rc;

    if (!config_is_valid(config)) {
        return SHL_EINVALIDARG;
    }
    r = new_core(config);
    if (!r) {
        return -ENOMEM;
    }
    rc = load(r, config);
    if (rc < 0) {
        sched_raft_free(r);
        return rc;
    }
    sched_raft_restart_election_timer(r);
    if (!sched_raft_may_stand(r)) {
        r->election_at_ms = SCHED_RAFT_NEVER_MS;
    } else if (sched_raft_quorum(r) == 1 && sched_raft_is_voter(r)) {
        r->election_at_ms = r->now_ms; /* nobody to wait for */
    }
    *ret_raft = r;
    return 0;
}

void sched_raft_free(struct sched_raft *r)
{
    if (!r) {
        return;
    }
    sched_raft_peers_clear(r);
    sched_raft_incoming_clear(r);
    sched_raft_log_release(&r->log);
    sched_raft_snapshot_unref(r->snapshot);
    free(r->eras);
    free(r->reads);
    free(r);
}
