#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/builder.h"
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
    node_kv_release(&checkpoint->spec.image_envs);
    node_secret_use_release(&checkpoint->spec.secrets);
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
    checkpoint->spec.previews = (struct node_previews){.count = 0};
    assert_int_equal(node_secret_use_copy(&checkpoint->spec.secrets, &sandbox->spec.secrets, false),
                     0);
    fake_copy_list(&checkpoint->spec.image_envs, &sandbox->spec.image_envs);
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

    manager->knobs.builders_at_fork = manager->knobs.builders_living;
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        return shl_err_set(err, SHL_EBADSTATE, "checkpoint not ready");
    }
    if (fails && manager->knobs.fork_refuse_code < 0) {
        return shl_err_set(err, manager->knobs.fork_refuse_code, "no room for one more");
    }
    if (fork->secrets) {
        spec.secrets = *fork->secrets; /* copied in fake_sandbox_start */
    }
    spec.timeout_s = fork->timeout_s;
    spec.memory_mb = SHL_MAX(spec.memory_mb, fork->memory_mb);
    spec.cpus = SHL_MAX(spec.cpus, fork->cpus);
    spec.disk_mb = SHL_MAX(spec.disk_mb, fork->disk_mb);
    sandbox = fake_sandbox_start(manager, &spec, fails ? manager->knobs.fork_code : 0,
                                 "the fork did not start", cb, arg);
    sandbox->spec.is_build = false;
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

/* Builders: sandboxes that node_manager_find does not know. */

struct building {
    struct node_manager *manager;
    const struct node_builder_ops *ops;
    void *arg;
    struct node_sandbox *sandbox;
};

static void on_builder(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct building *building = arg;

    if (code == 0) {
        fake_runtime_of(sandbox)->building = building;
        building->sandbox = sandbox;
        building->manager->knobs.builders++;
        building->manager->knobs.builders_living++;
    }
    building->ops->created(building->arg, code, msg, code == 0 ? sandbox : NULL);
    if (code < 0) {
        free(building);
    }
}

int node_builder_create(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        struct node_checkpoint *checkpoint,
                        const struct node_builder_ops *ops,
                        void *arg,
                        struct shl_err *err)
{
    struct building *building;
    struct node_sandbox_spec build = *spec;

    (void)checkpoint;
    if (manager->knobs.builder_refuse_code < 0) {
        return shl_err_set(err, manager->knobs.builder_refuse_code, "no room for a builder");
    }
    building = calloc(1, sizeof(*building));
    *building = (struct building){.manager = manager, .ops = ops, .arg = arg};
    build.is_build = true;
    (void)fake_sandbox_start(manager, &build, manager->knobs.create_code, manager->knobs.create_msg,
                             on_builder, building);
    return 0;
}

static void on_builder_ended(void *arg, int code, const char *msg)
{
    struct building *building = arg;

    (void)code;
    (void)msg;
    building->manager->knobs.builders_living--;
    building->ops->ended(building->arg, SHL_EGONE, "the build is over");
    free(building);
}

void node_builder_end(struct node_sandbox *sandbox)
{
    node_manager_kill(sandbox->manager, sandbox, on_builder_ended,
                      fake_runtime_of(sandbox)->building);
}

int node_builder_set_image(struct node_sandbox *sandbox,
                           const struct node_kv_list *envs,
                           const char *workdir)
{
    for (size_t i = 0; i < envs->count; i++) {
        assert_int_equal(
            node_kv_set(&sandbox->spec.image_envs, envs->items[i].key, envs->items[i].value), 0);
    }
    (void)snprintf(sandbox->spec.workdir, sizeof(sandbox->spec.workdir), "%s",
                   workdir ? workdir : "");
    return 0;
}

bool node_checkpoint_is_taken(const struct node_checkpoint *checkpoint)
{
    (void)checkpoint;
    return true;
}

int node_template_identity(struct node_manager *manager,
                           const char *name,
                           char ret[NODE_TEMPLATE_IDENTITY_SIZE],
                           struct shl_err *err)
{
    if (!node_manager_has_template(manager, name)) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %s", name);
    }
    (void)snprintf(ret, NODE_TEMPLATE_IDENTITY_SIZE, "%032u", manager->knobs.template_version);
    return 0;
}

bool node_manager_has_template(const struct node_manager *manager, const char *name)
{
    (void)manager;
    return strcmp(name, "base") == 0 || strcmp(name, "minimal") == 0;
}

void node_checkpoint_each_build(struct node_manager *manager,
                                bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                                void *arg)
{
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->checkpoints) {
        struct node_checkpoint *checkpoint = shl_container_of(it, struct node_checkpoint, link);

        if (checkpoint->spec.is_build && !each(arg, checkpoint)) {
            return;
        }
    }
}

/* Patches: asked for at each fork, not run. */
void node_manager_set_patches(struct node_manager *manager,
                              const struct node_patch_source *source,
                              void *arg)
{
    manager->patches = source;
    manager->patches_arg = arg;
}

int fake_manager_next_patch(struct node_manager *manager,
                            const char *checkpoint,
                            uint32_t after,
                            uint32_t *ret_sequence,
                            char **ret_script)
{
    return manager->patches->next(manager->patches_arg, checkpoint, after, ret_sequence,
                                  ret_script);
}

bool fake_manager_catch_up(struct node_manager *manager, node_patches_known_cb cb, void *arg)
{
    return manager->patches->catch_up(manager->patches_arg, cb, arg);
}
