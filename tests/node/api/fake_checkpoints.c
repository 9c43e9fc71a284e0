#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/io.h"
#include "tests/node/api/fake_private.h"

const char *node_checkpoint_status(const struct node_checkpoint *checkpoint)
{
    static const char *const names[] = {"processing", "ready", "failed"};

    return names[checkpoint->status];
}

struct node_checkpoint *fake_checkpoint_last(struct node_manager *manager)
{
    struct shl_list *first = shl_list_first(&manager->checkpoints);

    return first ? shl_container_of(first, struct node_checkpoint, link) : NULL;
}

static void checkpoint_free(struct node_checkpoint *checkpoint)
{
    shl_list_remove(&checkpoint->link);
    node_kv_release(&checkpoint->spec.envs);
    node_kv_release(&checkpoint->spec.metadata);
    free(checkpoint);
}

void fake_checkpoints_free(struct node_manager *manager)
{
    while (!shl_list_empty(&manager->checkpoints)) {
        checkpoint_free(fake_checkpoint_last(manager));
    }
}

/* By id: it may be deleted meanwhile. */
struct making {
    struct node_manager *manager;
    char id[NODE_CHECKPOINT_ID_SIZE];
};

static void on_made(void *arg)
{
    struct making *making = arg;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &making->manager->checkpoints) {
        struct node_checkpoint *checkpoint = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(checkpoint->id, making->id) != 0) {
            continue;
        }
        if (making->manager->knobs.makes_fail) {
            checkpoint->status = NODE_CHECKPOINT_FAILED;
            checkpoint->failed_at_ms = shl_realtime_ms();
            (void)snprintf(checkpoint->error, sizeof(checkpoint->error), "the disk is full");
        } else {
            checkpoint->status = NODE_CHECKPOINT_READY;
            checkpoint->size_bytes = 4096;
            (void)snprintf(checkpoint->manifest, sizeof(checkpoint->manifest), "%064d", 7);
        }
    }
    free(making);
}

static int check_name(struct node_manager *manager,
                      struct node_sandbox *sandbox,
                      const struct node_checkpoint_spec *spec,
                      struct shl_err *err)
{
    uint32_t limit = spec->disk_only ? NODE_CHECKPOINTS_DISK_MAX : NODE_CHECKPOINTS_FULL_MAX;
    uint32_t keep = spec->keep_max > 0 ? spec->keep_max : limit;
    struct node_checkpoint *oldest = NULL;
    uint32_t count = 0;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints) {
        struct node_checkpoint *other = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(other->sandbox_id, sandbox->id) != 0) {
            continue;
        }
        if (strcmp(other->name, spec->name) == 0) {
            return shl_err_set(err, SHL_ECONFLICT, "a checkpoint \"%s\" already exists",
                               spec->name);
        }
        if (other->disk_only == spec->disk_only) {
            oldest = other;
            count++;
        }
    }
    if (count < keep) {
        return 0;
    }
    if (spec->keep_max == 0) {
        return shl_err_set(err, SHL_ELIMIT, "the maximum of %u checkpoints is reached", limit);
    }
    checkpoint_free(oldest);
    return 0;
}

int node_checkpoint_create(struct node_manager *manager,
                           struct node_sandbox *sandbox,
                           const struct node_checkpoint_spec *spec,
                           struct node_checkpoint **ret_checkpoint,
                           struct shl_err *err)
{
    struct node_checkpoint *checkpoint;
    struct making *making;
    int rc;

    if (sandbox->state != NODE_SANDBOX_RUNNING) {
        return shl_err_set(err, SHL_EBADSTATE, "sandbox is not running");
    }
    rc = check_name(manager, sandbox, spec, err);
    if (rc < 0) {
        return rc;
    }
    checkpoint = calloc(1, sizeof(*checkpoint));
    shl_uuid_make(checkpoint->id);
    memcpy(checkpoint->sandbox_id, sandbox->id, sizeof(sandbox->id));
    memcpy(checkpoint->name, spec->name, sizeof(spec->name));
    checkpoint->disk_only = spec->disk_only;
    checkpoint->spec = sandbox->spec;
    fake_copy_list(&checkpoint->spec.envs, &sandbox->spec.envs);
    fake_copy_list(&checkpoint->spec.metadata, &sandbox->spec.metadata);
    checkpoint->created_at_ms = shl_realtime_ms();
    checkpoint->manager = manager;
    shl_list_push_front(&manager->checkpoints, &checkpoint->link);
    if (!manager->knobs.stays_processing) {
        making = calloc(1, sizeof(*making));
        making->manager = manager;
        memcpy(making->id, checkpoint->id, sizeof(making->id));
        fake_later(manager, 2, on_made, making);
    }
    *ret_checkpoint = checkpoint;
    return 0;
}

struct node_checkpoint *node_checkpoint_find(struct node_manager *manager,
                                             const char *org,
                                             const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints) {
        struct node_checkpoint *checkpoint = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(checkpoint->id, id) == 0 && strcmp(checkpoint->spec.org, org) == 0) {
            return checkpoint;
        }
    }
    return NULL;
}

void node_checkpoint_each(struct node_manager *manager,
                          const char *org,
                          const char *sandbox_id,
                          bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                          void *arg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->checkpoints) {
        struct node_checkpoint *checkpoint = shl_container_of(it, struct node_checkpoint, link);

        if (strcmp(checkpoint->sandbox_id, sandbox_id) == 0 &&
            strcmp(checkpoint->spec.org, org) == 0 && !each(arg, checkpoint)) {
            return;
        }
    }
}

int node_checkpoint_delete(struct node_manager *manager,
                           struct node_checkpoint *checkpoint,
                           struct shl_err *err)
{
    if (manager->knobs.delete_code < 0) {
        return shl_err_set(err, manager->knobs.delete_code, "it cannot be deleted");
    }
    checkpoint_free(checkpoint);
    return 0;
}

void node_manager_restore(struct node_manager *manager,
                          struct node_sandbox *sandbox,
                          struct node_checkpoint *checkpoint,
                          node_sandbox_cb cb,
                          void *arg)
{
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    fake_sandbox_change(sandbox, NODE_SANDBOX_WAKING, NODE_SANDBOX_RUNNING,
                        manager->knobs.restore_code, manager->knobs.change_msg, cb, arg);
}

int node_manager_fork(struct node_manager *manager,
                      struct node_checkpoint *checkpoint,
                      const struct node_fork_spec *fork,
                      node_create_cb cb,
                      void *arg,
                      struct shl_err *err)
{
    struct node_sandbox_spec spec = checkpoint->spec;
    bool fails = ++manager->knobs.forks >= manager->knobs.fork_fails_from;
    struct node_sandbox *sandbox;

    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        return shl_err_set(err, SHL_EBADSTATE, "checkpoint not ready");
    }
    if (fails && manager->knobs.fork_refuse_code < 0) {
        return shl_err_set(err, manager->knobs.fork_refuse_code, "no room for one more");
    }
    spec.timeout_s = fork->timeout_s;
    spec.memory_mb = SHL_MAX(spec.memory_mb, fork->memory_mb);
    spec.cpus = SHL_MAX(spec.cpus, fork->cpus);
    spec.disk_mb = SHL_MAX(spec.disk_mb, fork->disk_mb);
    sandbox = fake_sandbox_start(manager, &spec, fails ? manager->knobs.fork_code : 0,
                                 "the fork did not start", cb, arg);
    for (size_t i = 0; i < fork->envs.count; i++) {
        assert_int_equal(node_kv_set(&sandbox->spec.envs, fork->envs.items[i].key,
                                     fork->envs.items[i].value),
                         0);
    }
    for (size_t i = 0; i < fork->metadata.count; i++) {
        assert_int_equal(node_kv_set(&sandbox->spec.metadata, fork->metadata.items[i].key,
                                     fork->metadata.items[i].value),
                         0);
    }
    memcpy(sandbox->from_checkpoint, checkpoint->id, sizeof(sandbox->from_checkpoint));
    return 0;
}
