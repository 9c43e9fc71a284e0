/* A backup becomes a new cluster of one node, in an empty folder. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "node/cluster/backup.h"
#include "node/cluster/offline_private.h"

static int read_backup(struct offline *o, struct cluster_backup *head, struct shl_err *err)
{
    struct shl_buf file;
    int rc;

    shl_buf_init(&file, CLUSTER_BACKUP_MAX);
    rc = shl_read_file(o->job->file, &file);
    if (rc < 0) {
        rc = rc == SHL_ELIMIT ? shl_err_set(err, rc, "%s is larger than any backup", o->job->file)
                              : shl_err_sys(err, -rc, "cannot read %s", o->job->file);
    } else {
        rc = cluster_backup_read(shl_buf_bytes(&file), head, &o->c->state, err);
    }
    sodium_memzero(shl_buf_data(&file), shl_buf_len(&file));
    shl_buf_release(&file);
    return rc;
}

static int drop_rows(struct offline *o, struct shl_err *err)
{
    int rc = 0;

    while (rc == 0 && sched_state_count(o->c->state, SCHED_TABLE_OWNERS) > 0) {
        const struct sched_owner *row = sched_state_at(o->c->state, SCHED_TABLE_OWNERS, 0);
        struct sched_command command = {.kind = SCHED_OWNER_DELETE};

        memcpy(command.u.owner.sandbox, row->sandbox, sizeof(row->sandbox));
        memcpy(command.u.owner.org, row->org, sizeof(row->org));
        command.u.owner.owner = row->owner;
        command.u.owner.epoch = row->epoch;
        rc = offline_apply(o, &command, err);
    }
    while (rc == 0 && sched_state_count(o->c->state, SCHED_TABLE_CHECKPOINTS) > 0) {
        const struct sched_checkpoint *row =
            sched_state_at(o->c->state, SCHED_TABLE_CHECKPOINTS, 0);
        struct sched_command command = {.kind = SCHED_CHECKPOINT_DELETE};

        memcpy(command.u.checkpoint_delete.id, row->id, sizeof(row->id));
        rc = offline_apply(o, &command, err);
    }
    return rc;
}

/* A node becomes a member as any other does. */
static int join(struct offline *o,
                const uint8_t key[NODE_KEY_BYTES],
                const char *name,
                struct shl_err *err)
{
    struct sched_command token = {.kind = SCHED_TOKEN_CREATE};
    struct sched_command command = {.kind = SCHED_NODE_JOIN};
    struct sched_node_spec *spec = &command.u.node_join.node;
    int rc;

    shl_random_bytes(token.u.token_create.token, sizeof(token.u.token_create.token));
    shl_random_bytes(token.u.token_create.secret_hash, sizeof(token.u.token_create.secret_hash));
    token.u.token_create.ttl_ms = 1000;
    (void)snprintf(token.u.token_create.by, sizeof(token.u.token_create.by), "%s", o->by);
    memcpy(command.u.node_join.token, token.u.token_create.token,
           sizeof(command.u.node_join.token));
    memcpy(command.u.node_join.secret_hash, token.u.token_create.secret_hash,
           sizeof(command.u.node_join.secret_hash));
    node_mesh_keys_id(key, &spec->id);
    memcpy(spec->key, key, sizeof(spec->key));
    (void)snprintf(spec->name, sizeof(spec->name), "%s", name);
    rc = offline_apply(o, &token, err);
    return rc < 0 ? rc : offline_apply(o, &command, err);
}

/* A cluster is never without a node, and the new one may have the name of an old one: in between
 * there is one that has never been. */
static int replace_nodes(struct offline *o, struct shl_err *err)
{
    struct node_mesh_keys between;
    int rc;

    node_mesh_keys_make(&between);
    rc = join(o, between.public_key, "restored-from-a-backup", err);
    if (rc == 0) {
        rc = offline_remove_others(o, &between.id, NULL, err);
    }
    if (rc == 0) {
        rc = join(o, o->c->keys.public_key, o->c->name, err);
    }
    if (rc == 0) {
        rc = offline_remove_others(o, &o->c->keys.id, NULL, err);
    }
    node_mesh_keys_release(&between);
    return rc;
}

static void print_backup(const struct offline *o, const struct cluster_backup *head, const char *id)
{
    const struct sched_state *s = o->c->state;
    char at[OFFLINE_TEXT_MAX];

    offline_time_text(at, head->at_ms);
    (void)printf("backup of cluster %s, by node %s, entry %llu of %s\n", id, head->by,
                 (unsigned long long)head->index, at);
    (void)printf("comes back: %zu API keys, %zu names, %zu stored values, the key of sandbox "
                 "tokens\n",
                 sched_state_count(s, SCHED_TABLE_KEYS), sched_state_count(s, SCHED_TABLE_NAMES),
                 sched_state_count(s, SCHED_TABLE_KV));
    (void)printf("does not: values of secret stores, which are sealed for the old nodes; %zu nodes "
                 "(they are removed for good), and %zu sandboxes and %zu checkpoints, whose data "
                 "were on them\n",
                 sched_state_count(s, SCHED_TABLE_NODES), sched_state_count(s, SCHED_TABLE_OWNERS),
                 sched_state_count(s, SCHED_TABLE_CHECKPOINTS));
}

static int restore(struct offline *o, struct shl_err *err)
{
    char id[2 * NODE_CLUSTER_BYTES + 1], dir[OFFLINE_PATH_MAX];
    struct cluster_backup head;
    int rc = read_backup(o, &head, err);

    if (rc < 0) {
        return rc;
    }
    shl_hex_encode(id, head.cluster, sizeof(head.cluster));
    print_backup(o, &head, id);
    rc = offline_confirm(o, id, err);
    if (rc < 0) {
        return rc;
    }
    o->last = head.index;
    o->new_term = head.term + OFFLINE_TERM_STEP;
    (void)snprintf(dir, sizeof(dir), "%s/mesh", o->job->data_dir);
    rc = node_mesh_keys_open(dir, &o->c->keys, err);
    if (rc == 0) {
        rc = drop_rows(o, err);
    }
    if (rc == 0) {
        rc = replace_nodes(o, err);
    }
    if (rc == 0) {
        (void)snprintf(dir, sizeof(dir), "%s/mesh/log", o->job->data_dir);
        rc = node_raft_log_open(dir, &o->log, err);
    }
    if (rc == 0) {
        struct node_raft_stored stored;

        rc = node_raft_log_load(o->log, &stored, err);
        if (rc >= 0) {
            node_raft_stored_release(&stored);
            rc = offline_write_log(o, err);
        }
    }
    if (rc == 0) {
        rc = cluster_identity_save(o->c, head.cluster, err);
    }
    if (rc == 0) {
        rc = cluster_join_take_shared(o->c, err);
    }
    if (rc == 0) {
        rc = cluster_standing_save(o->c, CLUSTER_STANDING_MEMBER, err);
    }
    if (rc == 0) {
        (void)printf("done: start shoald on %s, and add machines with `shoal token create`.\n",
                     o->job->data_dir);
    }
    return rc;
}

int cluster_offline_restore(const struct cluster_offline *job, struct shl_err *err)
{
    struct offline o;
    int rc = offline_begin(&o, job, "shoald --restore-cluster", err);

    if (rc == 0) {
        rc = restore(&o, err);
    }
    offline_end(&o);
    return rc;
}
