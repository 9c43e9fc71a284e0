#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/portable.h"
#include "node/sandbox/sandbox.h"

#define ID_TRIES 100

/* ---- key-value lists ------------------------------------------------------------- */

void node_kv_release(struct node_kv_list *list)
{
    size_t i;

    for (i = 0; i < list->count; i++) {
        free(list->items[i].key);
        free(list->items[i].value);
    }
    free(list->items);
    *list = (struct node_kv_list){0};
}

static size_t kv_bytes(const struct node_kv_list *list)
{
    size_t bytes = 0;
    size_t i;

    for (i = 0; i < list->count; i++) {
        bytes += strlen(list->items[i].key) + strlen(list->items[i].value);
    }
    return bytes;
}

static struct node_kv *kv_find(struct node_kv_list *list, const char *key)
{
    size_t i;

    for (i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].key, key) == 0) {
            return &list->items[i];
        }
    }
    return NULL;
}

static int kv_append(struct node_kv_list *list, const char *key, char *value)
{
    struct node_kv *items;
    char *copy;

    if (list->count >= NODE_KV_MAX) {
        return SHL_ELIMIT;
    }
    items = realloc(list->items, (list->count + 1) * sizeof(*items));
    if (!items) {
        return -ENOMEM;
    }
    list->items = items;
    copy = strdup(key);
    if (!copy) {
        return -ENOMEM;
    }
    items[list->count++] = (struct node_kv){copy, value};
    return 0;
}

int node_kv_set(struct node_kv_list *list, const char *key, const char *value)
{
    struct node_kv *old = kv_find(list, key);
    size_t freed = old ? strlen(key) + strlen(old->value) : 0;
    char *copy;
    int rc;

    if (kv_bytes(list) - freed + strlen(key) + strlen(value) > NODE_KV_BYTES_MAX) {
        return SHL_ELIMIT;
    }
    copy = strdup(value);
    if (!copy) {
        return -ENOMEM;
    }
    if (old) {
        free(old->value);
        old->value = copy;
        return 0;
    }
    rc = kv_append(list, key, copy);
    if (rc < 0) {
        free(copy);
    }
    return rc;
}

/* ---- specification --------------------------------------------------------------- */

void sandbox_spec_release(struct node_sandbox_spec *spec)
{
    node_kv_release(&spec->envs);
    node_kv_release(&spec->metadata);
    node_secret_use_release(&spec->secrets);
    node_previews_release(&spec->previews);
    node_kv_release(&spec->image_envs);
}

static int kv_copy(struct node_kv_list *dst, const struct node_kv_list *src)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < src->count && rc == 0; i++) {
        rc = node_kv_set(dst, src->items[i].key, src->items[i].value);
    }
    return rc;
}

int sandbox_spec_copy(struct node_sandbox_spec *dst, const struct node_sandbox_spec *src)
{
    int rc;

    *dst = *src;
    dst->envs = (struct node_kv_list){0};
    dst->metadata = (struct node_kv_list){0};
    memset(&dst->secrets, 0, sizeof(dst->secrets));
    dst->image_envs = (struct node_kv_list){0};
    rc = node_previews_copy(&dst->previews, &src->previews);
    if (rc == 0) {
        rc = kv_copy(&dst->envs, &src->envs);
    }
    if (rc == 0) {
        rc = node_secret_use_copy(&dst->secrets, &src->secrets, true);
    }
    if (rc == 0) {
        rc = kv_copy(&dst->metadata, &src->metadata);
    }
    if (rc == 0) {
        rc = kv_copy(&dst->image_envs, &src->image_envs);
    }
    if (rc < 0) {
        sandbox_spec_release(dst);
    }
    return rc;
}

int sandbox_spec_check(const struct node_sandbox_spec *spec, struct shl_err *err)
{
    size_t i;

    if (!memchr(spec->org, '\0', sizeof(spec->org)) ||
        !memchr(spec->template_name, '\0', sizeof(spec->template_name))) {
        return shl_err_set(err, SHL_EINVALIDARG, "the organisation or template name is too long");
    }
    if (spec->cpus < 1 || spec->cpus > NODE_CPUS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "cpus must be 1 to %d", NODE_CPUS_MAX);
    }
    if (spec->memory_mb < NODE_MEMORY_MIN_MB || spec->memory_mb > NODE_MEMORY_MAX_MB) {
        return shl_err_set(err, SHL_EINVALIDARG, "memory must be %d to %d MB", NODE_MEMORY_MIN_MB,
                           NODE_MEMORY_MAX_MB);
    }
    if (spec->disk_mb < NODE_DISK_MIN_MB || spec->disk_mb > NODE_DISK_MAX_MB) {
        return shl_err_set(err, SHL_EINVALIDARG, "disk must be %d to %d MB", NODE_DISK_MIN_MB,
                           NODE_DISK_MAX_MB);
    }
    if (spec->autosave_s > 0 &&
        (spec->autosave_s < NODE_AUTOSAVE_MIN_S || spec->autosave_s > NODE_AUTOSAVE_MAX_S)) {
        return shl_err_set(err, SHL_EINVALIDARG, "autosave must be %d to %d s", NODE_AUTOSAVE_MIN_S,
                           NODE_AUTOSAVE_MAX_S);
    }
    for (i = 0; i < spec->envs.count; i++) {
        const char *key = spec->envs.items[i].key;

        if (!key[0] || strchr(key, '=')) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "'%.64s' is not a name of an environment variable", key);
        }
    }
    return 0;
}

static int check_template(const struct node_manager *manager,
                          const struct node_sandbox_spec *spec,
                          const struct node_stack *stack,
                          struct shl_err *err)
{
    uint64_t bytes;
    int rc = files_base(manager, stack->base, &bytes) == 0
                 ? 0
                 : files_template(manager, spec->template_name, &bytes, err);

    if (rc == 0 && bytes > (uint64_t)spec->disk_mb << 20) {
        return shl_err_set(err, SHL_EINVALIDARG, "the template %s needs a disk of at least %llu MB",
                           spec->template_name,
                           (unsigned long long)((bytes + (1 << 20) - 1) >> 20));
    }
    return rc;
}

/* ---- admission ------------------------------------------------------------------- */

int sandbox_admit(const struct node_manager *manager,
                  const struct node_sandbox_spec *spec,
                  struct shl_err *err)
{
    uint32_t used_mb = manager->memory_committed_mb;

    if (manager->closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node is shutting down, try another");
    }
    if (manager->without_sandboxes) {
        return shl_err_set(err, SHL_ENOCAPACITY, "this node runs no sandboxes");
    }
    if (manager->living >= manager->sandboxes_max) {
        return shl_err_set(err, SHL_EQUOTA,
                           "this node runs %u sandboxes, its limit: kill or hibernate one, or "
                           "raise --sandboxes-max",
                           manager->living);
    }
    if (used_mb + spec->memory_mb > manager->memory_usable_mb) {
        uint32_t left_mb =
            manager->memory_usable_mb > used_mb ? manager->memory_usable_mb - used_mb : 0;

        return shl_err_set(err, SHL_ENOCAPACITY,
                           "%u MB of memory are asked for and %u MB are free on this node: ask "
                           "for less or kill a sandbox",
                           spec->memory_mb, left_mb);
    }
    return 0;
}

static int choose_id(struct node_manager *manager, char id[NODE_SANDBOX_ID_SIZE])
{
    int tries;

    for (tries = 0; tries < ID_TRIES; tries++) {
        shl_id_make(id, NODE_SANDBOX_ID_SIZE, "sb-", 8);
        if (!manager_lookup(manager, id)) {
            return 0;
        }
    }
    return SHL_ECONFLICT;
}

static int fill(struct sandbox *sandbox,
                const struct node_sandbox_spec *spec,
                const char *from,
                struct shl_err *err)
{
    struct node_manager *manager = sandbox->pub.manager;
    int rc = sandbox_spec_copy(&sandbox->pub.spec, spec);

    if (rc == 0) {
        rc = choose_id(manager, sandbox->pub.id);
    }
    if (rc < 0) {
        return shl_err_set(err, rc, "cannot create a sandbox: %s", shl_err_text(rc));
    }
    sandbox->pub.state = NODE_SANDBOX_CREATING;
    sandbox->durable = NODE_SANDBOX_CREATING;
    sandbox->pub.created_at_ms = shl_realtime_ms();
    (void)snprintf(sandbox->pub.from_checkpoint, sizeof(sandbox->pub.from_checkpoint), "%s", from);
    (void)snprintf(sandbox->machine_boot_id, sizeof(sandbox->machine_boot_id), "%s",
                   manager->machine_boot_id);
    if (manager->net) {
        rc = node_net_take_slot(manager->net, &sandbox->slot);
        if (rc < 0) {
            return shl_err_set(err, rc, "the address pool of this node is used up");
        }
        sandbox->has_slot = true;
    }
    /* durable before anything of it exists, so that a later daemon can clean up */
    return sandbox_save(sandbox, err);
}

static int start(struct node_manager *manager,
                 const struct node_sandbox_spec *spec,
                 const struct node_stack *stack,
                 const char *from,
                 bool hidden,
                 struct sandbox **ret_sandbox,
                 struct shl_err *err)
{
    struct sandbox *sandbox = sandbox_new(manager);
    int rc;

    if (!sandbox) {
        return shl_err_sys(err, ENOMEM, "cannot create a sandbox");
    }
    sandbox->hidden = hidden;
    sandbox->builder = hidden && spec->is_build;
    sandbox->stack = *stack;
    rc = fill(sandbox, spec, from, err);
    if (rc < 0) {
        if (sandbox->has_slot) {
            node_net_give_slot(manager->net, sandbox->slot);
        }
        sandbox_free(sandbox);
        return rc;
    }
    node_stack_ref(manager, stack);
    sandbox_begin_life(sandbox);
    run_begin(sandbox, stack);
    layers_new(manager, &sandbox->overlay);
    *ret_sandbox = sandbox;
    return 0;
}

int sandbox_create_hidden(struct node_manager *manager,
                          const struct node_sandbox_spec *spec,
                          const struct node_stack *stack,
                          node_create_cb cb,
                          void *arg,
                          struct sandbox **ret_sandbox,
                          struct shl_err *err)
{
    int rc = sandbox_admit(manager, spec, err);

    if (rc == 0) {
        rc = start(manager, spec, stack, "", true, ret_sandbox, err);
    }
    if (rc == 0) {
        (*ret_sandbox)->create_cb = cb;
        (*ret_sandbox)->create_arg = arg;
        boot_enqueue(*ret_sandbox);
    }
    return rc;
}

int sandbox_create_from(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        const struct node_stack *stack,
                        const char *from,
                        node_create_cb cb,
                        void *arg,
                        struct shl_err *err)
{
    struct sandbox *sandbox;
    int rc = sandbox_spec_check(spec, err);

    if (rc == 0) {
        rc = check_template(manager, spec, stack, err);
    }
    if (rc == 0) {
        rc = sandbox_admit(manager, spec, err);
    }
    if (rc == 0) {
        rc = start(manager, spec, stack, from, false, &sandbox, err);
    }
    if (rc < 0) {
        return rc;
    }
    sandbox->create_cb = cb;
    sandbox->create_arg = arg;
    manager_insert(manager, sandbox);
    boot_enqueue(sandbox);
    return 0;
}

int node_manager_create(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        node_create_cb cb,
                        void *arg,
                        struct shl_err *err)
{
    struct node_stack stack;

    warm_stack(manager, spec->template_name, &stack);
    return sandbox_create_from(manager, spec, &stack, "", cb, arg, err);
}
