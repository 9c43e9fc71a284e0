#include "node/cluster/offline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "node/cluster/offline_private.h"
#include "node/cluster/state.h"

/*- Beginning and end. */

int offline_begin(struct offline *o,
                  const struct cluster_offline *job,
                  const char *by,
                  struct shl_err *err)
{
    *o = (struct offline){.job = job, .by = by, .c = calloc(1, sizeof(*o->c))};
    if (!o->c) {
        return shl_err_sys(err, ENOMEM, "cannot open the cluster");
    }
    o->c->store = job->store;
    o->c->log_sink = (struct shl_log){.fd = -1};
    o->c->data_dir = strdup(job->data_dir);
    (void)snprintf(o->c->name, sizeof(o->c->name), "%s", job->name);
    return o->c->data_dir ? 0 : shl_err_sys(err, ENOMEM, "cannot open the cluster");
}

void offline_end(struct offline *o)
{
    if (!o->c) {
        return;
    }
    node_raft_log_close(o->log);
    sched_state_free(o->c->state);
    node_mesh_keys_release(&o->c->keys);
    free(o->c->data_dir);
    free(o->c);
}

bool cluster_offline_is_empty(const char *data_dir)
{
    char path[OFFLINE_PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/db", data_dir);
    if (access(path, F_OK) == 0) {
        return false;
    }
    (void)snprintf(path, sizeof(path), "%s/mesh", data_dir);
    return access(path, F_OK) != 0;
}

/*- What people read and type. */

void offline_time_text(char text[OFFLINE_TEXT_MAX], uint64_t at_ms)
{
    time_t at = (time_t)(at_ms / 1000);
    struct tm tm;

    if (at_ms == 0 || !gmtime_r(&at, &tm) ||
        strftime(text, OFFLINE_TEXT_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0) {
        (void)snprintf(text, OFFLINE_TEXT_MAX, "-");
    }
}

int offline_confirm(const struct offline *o, const char *id, struct shl_err *err)
{
    char line[OFFLINE_TEXT_MAX * 2] = "";

    if (o->job->confirm) {
        (void)snprintf(line, sizeof(line), "%s", o->job->confirm);
    } else {
        (void)printf("\nTo do this, type the id of the cluster (%s): ", id);
        (void)fflush(stdout);
        if (!fgets(line, sizeof(line), stdin)) {
            line[0] = '\0';
        }
        line[strcspn(line, "\r\n")] = '\0';
        (void)putchar('\n');
    }
    if (strcmp(line, id) != 0) {
        return shl_err_set(err, SHL_EFORBIDDEN,
                           "not confirmed: that is not the id of the cluster, %s. Nothing was "
                           "changed",
                           id);
    }
    return 0;
}

/*- Writing it anew. */

int offline_apply(struct offline *o, struct sched_command *command, struct shl_err *err)
{
    struct sched_result result;
    struct shl_buf buf;
    int rc;

    command->at_ms = sched_state_time_ms(o->c->state);
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    rc = sched_command_encode(command, &buf, err);
    if (rc == 0) {
        rc = sched_state_apply(o->c->state, ++o->last, o->new_term, shl_buf_bytes(&buf), &result);
    }
    shl_buf_release(&buf);
    if (rc == 0 && result.err.code < 0) {
        *err = result.err;
        rc = err->code;
    }
    return rc;
}

bool offline_is_named(const char *names, const char *name)
{
    size_t len = strlen(name);

    while (names && *names) {
        size_t part = strcspn(names, ",");

        if (part == len && memcmp(names, name, len) == 0) {
            return true;
        }
        names += part + (names[part] == ',');
    }
    return false;
}

static int remove_node(struct offline *o, const struct shl_node_id *id, struct shl_err *err)
{
    struct sched_command command = {.kind = SCHED_NODE_REMOVE};

    command.u.node_remove.node = *id;
    command.u.node_remove.force = true;
    (void)snprintf(command.u.node_remove.by, sizeof(command.u.node_remove.by), "%s", o->by);
    return offline_apply(o, &command, err);
}

int offline_remove_others(struct offline *o,
                          const struct shl_node_id *kept,
                          const char *names,
                          struct shl_err *err)
{
    size_t i = 0;
    int rc = 0;

    while (rc == 0 && i < sched_state_count(o->c->state, SCHED_TABLE_NODES)) {
        const struct sched_node *node = sched_state_at(o->c->state, SCHED_TABLE_NODES, i);
        struct shl_node_id gone = node->spec.id;

        if (shl_node_id_equal(&gone, kept) || offline_is_named(names, node->spec.name)) {
            i++;
        } else {
            rc = remove_node(o, &gone, err);
        }
    }
    return rc;
}

int offline_write_log(struct offline *o, struct shl_err *err)
{
    struct sched_raft_snapshot_meta meta = {
        .index = o->last, .term = o->new_term, .membership_index = o->last};
    struct sched_raft_persist persist = {
        .seq = 1,
        .has_hard_state = true,
        .term = o->new_term,
        .snapshot = SCHED_RAFT_SNAPSHOT_INSTALL,
        .meta = &meta,
        .log_first = o->last + 1,
    };
    struct node_raft_batch *batch;
    struct shl_buf buf;
    int rc;

    meta.membership.count = 1;
    meta.membership.members[0] = (struct sched_raft_member){
        .id = o->c->keys.id, .standing = SCHED_RAFT_VOTER, .witness = o->c->is_witness};
    shl_buf_init(&buf, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    rc = cluster_state_save(o->c->state, &buf);
    if (rc < 0) {
        rc = shl_err_set(err, rc, "the state cannot be written: %s", shl_err_text(rc));
    } else {
        persist.snapshot_data = shl_buf_bytes(&buf);
        batch = node_raft_log_prepare(o->log, &persist);
        rc = batch ? node_raft_log_write(o->log, batch, err)
                   : shl_err_sys(err, ENOMEM, "cannot write the log");
    }
    sodium_memzero(shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
    return rc;
}
