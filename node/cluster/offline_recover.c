/* The majority of the voters is lost for good: this node goes on as the only one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "node/cluster/offline_private.h"
#include "node/cluster/state.h"

struct recovery {
    struct offline o;
    struct sched_raft_membership membership;
    uint64_t term;                     /* the highest that is stored */
    uint64_t seen_ms[SCHED_NODES_MAX]; /* row by row: its newest renewal in the log; 0 none */
};

/*- What is stored. */

static void note_seen(struct recovery *r, struct shl_bytes data)
{
    struct sched_command command;
    size_t i;

    if (sched_command_decode(&command, data, NULL) < 0 || command.kind != SCHED_LEASE_RENEW) {
        return;
    }
    for (i = 0; i < sched_state_count(r->o.c->state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *node = sched_state_at(r->o.c->state, SCHED_TABLE_NODES, i);

        if (shl_node_id_equal(&node->spec.id, &command.u.lease_renew.node)) {
            r->seen_ms[i] = command.at_ms;
        }
    }
}

/* All that is stored counts: what the majority had acknowledged is among it as far as this node
 * ever got it. */
static int replay(struct recovery *r, const struct node_raft_stored *stored, struct shl_err *err)
{
    struct sched_result result;
    uint64_t i;
    int rc;

    for (i = 0; i < stored->entry_count; i++) {
        const struct sched_raft_entry *entry = &stored->entries[i];

        r->term = SHL_MAX(r->term, entry->term);
        if (entry->index <= r->o.last) {
            continue;
        }
        r->o.last = entry->index;
        if (entry->type == SCHED_RAFT_COMMAND) {
            rc = cluster_state_apply(r->o.c->state, entry, &result, err);
            if (rc < 0) {
                return rc;
            }
        } else {
            sched_state_skip(r->o.c->state, entry->index, entry->term);
        }
        if (entry->type == SCHED_RAFT_MEMBERSHIP &&
            sched_raft_membership_decode(entry->data, &r->membership) < 0) {
            return shl_err_set(err, SHL_ECORRUPT, "an entry of the log is damaged");
        }
    }
    for (i = 0; i < stored->entry_count; i++) {
        if (stored->entries[i].type == SCHED_RAFT_COMMAND) {
            note_seen(r, stored->entries[i].data);
        }
    }
    return 0;
}

static int load_snapshot(struct recovery *r,
                         const struct node_raft_stored *stored,
                         struct shl_err *err)
{
    const struct sched_state_config config = {0};
    struct cluster *c = r->o.c;

    if (stored->snapshot.index == 0) {
        c->state = sched_state_new(&config);
        return c->state ? 0 : shl_err_sys(err, ENOMEM, "cannot read the log");
    }
    r->membership = stored->snapshot.membership;
    r->o.last = stored->snapshot.index;
    return cluster_state_load(shl_buf_bytes(&stored->snapshot_data), stored->snapshot.index,
                              stored->snapshot.term, &c->state, err);
}

static int read_log(struct recovery *r, struct shl_err *err)
{
    struct node_raft_stored stored;
    char dir[OFFLINE_PATH_MAX];
    int rc;

    (void)snprintf(dir, sizeof(dir), "%s/mesh/log", r->o.job->data_dir);
    if (access(dir, F_OK) < 0) {
        return shl_err_set(err, SHL_ENOTFOUND, "%s has no log: nothing is here to go on from", dir);
    }
    rc = node_raft_log_open(dir, &r->o.log, err);
    if (rc < 0) {
        return rc;
    }
    rc = node_raft_log_load(r->o.log, &stored, err);
    if (rc < 0) {
        return rc;
    }
    r->term = stored.term;
    rc = load_snapshot(r, &stored, err);
    if (rc == 0) {
        rc = replay(r, &stored, err);
    }
    node_raft_stored_release(&stored);
    if (rc == 0 && !sched_state_has_cluster(r->o.c->state)) {
        rc = shl_err_set(err, SHL_ENOTFOUND, "the log of this node has no cluster yet");
    }
    return rc;
}

/*- What is lost. */

static bool is_kept(const struct recovery *r, const struct sched_node *node)
{
    return shl_node_id_equal(&node->spec.id, &r->o.c->keys.id) ||
           offline_is_named(r->o.job->with, node->spec.name);
}

static void print_node(const struct recovery *r, size_t at)
{
    const struct sched_node *node = sched_state_at(r->o.c->state, SCHED_TABLE_NODES, at);
    const struct sched_raft_member *member =
        sched_raft_membership_find(&r->membership, &node->spec.id);
    char seen[OFFLINE_TEXT_MAX];

    offline_time_text(seen, r->seen_ms[at]);
    (void)printf("  %-20s %-8s %-10s last renewed its lease %s%s\n", node->spec.name,
                 member && member->standing == SCHED_RAFT_VOTER ? "voter" : "standby",
                 is_kept(r, node) ? "stays" : "IS REMOVED",
                 r->seen_ms[at] ? seen : "before the stored log begins",
                 shl_node_id_equal(&node->spec.id, &r->o.c->keys.id) ? "  (this node)" : "");
}

static bool is_lost_node(const struct recovery *r, const struct shl_node_id *id)
{
    const struct sched_node *node = sched_state_node(r->o.c->state, id);

    return !node || !is_kept(r, node);
}

static void print_losses(const struct recovery *r)
{
    unsigned released = 0, restored = 0, recovered = 0, gone = 0;
    size_t i;
    uint32_t k;

    for (i = 0; i < sched_state_count(r->o.c->state, SCHED_TABLE_OWNERS); i++) {
        const struct sched_owner *row = sched_state_at(r->o.c->state, SCHED_TABLE_OWNERS, i);

        if (is_lost_node(r, &row->owner)) {
            released += row->released;
            restored += !row->released && row->claimable;
            recovered += !row->released && !row->claimable;
        }
    }
    for (i = 0; i < sched_state_count(r->o.c->state, SCHED_TABLE_CHECKPOINTS); i++) {
        const struct sched_checkpoint *row =
            sched_state_at(r->o.c->state, SCHED_TABLE_CHECKPOINTS, i);
        bool kept = false;

        for (k = 0; k < row->holder_count; k++) {
            kept |= !is_lost_node(r, &row->holders[k]);
        }
        gone += !kept;
    }
    (void)printf(
        "\nWhat is lost with the nodes that are removed:\n"
        "  - every order that the cluster acknowledged after entry %llu, if there was one\n"
        "  - sandboxes that have no copy elsewhere\n"
        "  - %u checkpoints and saves that only they had\n"
        "What comes back here: %u hibernated sandboxes with their next call, %u by "
        "themselves (onNodeLoss: restore), %u with `shoal recover`\n"
        "The removed nodes are refused should they come back; what they ran there must "
        "not run any more.\n",
        (unsigned long long)r->o.last, gone, released, restored, recovered);
}

static int print_evidence(const struct recovery *r, const char *id, struct shl_err *err)
{
    uint32_t voters = sched_raft_membership_voters(&r->membership), there = 0, i;
    char at[OFFLINE_TEXT_MAX];
    size_t n;

    offline_time_text(at, sched_state_time_ms(r->o.c->state));
    (void)printf("cluster %s, seen by the stopped node %s\n", id, r->o.c->name);
    (void)printf("log: term %llu, entries up to %llu, the last one of %s\nnodes:\n",
                 (unsigned long long)r->term, (unsigned long long)r->o.last, at);
    for (n = 0; n < sched_state_count(r->o.c->state, SCHED_TABLE_NODES); n++) {
        print_node(r, n);
    }
    for (i = 0; i < r->membership.count; i++) {
        const struct sched_raft_member *member = &r->membership.members[i];

        there += member->standing == SCHED_RAFT_VOTER && !is_lost_node(r, &member->id);
    }
    (void)printf("voters: %u, of which %u stay\n", voters, there);
    if (there > voters / 2) {
        return shl_err_set(err, SHL_EBADSTATE,
                           "%u of %u voters are said to be there: that is a majority. Start them, "
                           "and remove the others with `shoal node rm`",
                           there, voters);
    }
    print_losses(r);
    return 0;
}

static int check_with(const struct recovery *r, struct shl_err *err)
{
    const char *list = r->o.job->with;

    while (list && *list) {
        size_t part = strcspn(list, ",");
        char name[SCHED_NODE_NAME_SIZE];

        (void)snprintf(name, sizeof(name), "%.*s", (int)part, list);
        if (!sched_state_node_by_name(r->o.c->state, name)) {
            return shl_err_set(err, SHL_EINVALIDARG, "the cluster has no node named \"%s\"", name);
        }
        list += part + (list[part] == ',');
    }
    return 0;
}

static int recover(struct recovery *r, struct shl_err *err)
{
    const struct sched_node *self = sched_state_node(r->o.c->state, &r->o.c->keys.id);
    char id[2 * NODE_CLUSTER_BYTES + 1];
    int rc;

    shl_hex_encode(id, r->o.c->id, sizeof(r->o.c->id));
    if (!self) {
        return shl_err_set(err, SHL_EFORBIDDEN, "this node is no member of the cluster any more");
    }
    r->o.c->is_witness = self->spec.role == SCHED_ROLE_WITNESS;
    rc = check_with(r, err);
    if (rc == 0) {
        rc = print_evidence(r, id, err);
    }
    if (rc == 0) {
        rc = offline_confirm(&r->o, id, err);
    }
    r->o.new_term = r->term + OFFLINE_TERM_STEP;
    if (rc == 0) {
        rc = offline_remove_others(&r->o, &r->o.c->keys.id, r->o.job->with, err);
    }
    if (rc == 0) {
        rc = offline_write_log(&r->o, err);
    }
    if (rc == 0) {
        (void)printf("done: term %llu, entry %llu. Start shoald; add machines with `shoal token "
                     "create`.\n",
                     (unsigned long long)r->o.new_term, (unsigned long long)r->o.last);
    }
    return rc;
}

int cluster_offline_recover(const struct cluster_offline *job, struct shl_err *err)
{
    struct recovery r = {.term = 0};
    struct offline *o = &r.o;
    char dir[OFFLINE_PATH_MAX];
    int rc = offline_begin(o, job, "shoald --recover-cluster", err);

    if (rc == 0) {
        (void)snprintf(dir, sizeof(dir), "%s/mesh", job->data_dir);
        rc = access(dir, F_OK) == 0
                 ? node_mesh_keys_open(dir, &o->c->keys, err)
                 : shl_err_set(err, SHL_ENOTFOUND, "%s is the data folder of no node",
                               job->data_dir);
    }
    if (rc == 0) {
        rc = cluster_identity_load(o->c, err);
    }
    if (rc == 0 && !o->c->has_id) {
        rc = shl_err_set(err, SHL_ENOTFOUND, "the node of %s is in no cluster", job->data_dir);
    }
    if (rc == 0) {
        rc = read_log(&r, err);
    }
    if (rc == 0) {
        rc = recover(&r, err);
    }
    offline_end(o);
    return rc;
}
