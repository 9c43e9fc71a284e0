#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/io.h"
#include "tests/node/api/fake.h"

struct runtime {
    unsigned touches;
    int holds;
    unsigned refs;
};

struct node_manager {
    uv_loop_t *loop;
    struct shl_list sandboxes;
    struct fake_manager_knobs knobs;
};

/* One callback that comes later. */
struct later {
    uv_timer_t timer;
    node_create_cb create_cb;
    node_kill_cb kill_cb;
    void *arg;
    int code;
    const char *msg;
    struct node_sandbox *sandbox;
};

struct node_manager *fake_manager_new(uv_loop_t *loop)
{
    struct node_manager *manager = calloc(1, sizeof(*manager));

    manager->loop = loop;
    shl_list_init(&manager->sandboxes);
    return manager;
}

struct fake_manager_knobs *fake_manager_knobs(struct node_manager *manager)
{
    return &manager->knobs;
}

static struct runtime *runtime_of(const struct node_sandbox *sandbox)
{
    return sandbox->runtime;
}

static void copy_list(struct node_kv_list *dst, const struct node_kv_list *src)
{
    memset(dst, 0, sizeof(*dst));
    for (size_t i = 0; i < src->count; i++) {
        assert_int_equal(node_kv_set(dst, src->items[i].key, src->items[i].value), 0);
    }
}

void node_kv_release(struct node_kv_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].key);
        free(list->items[i].value);
    }
    free(list->items);
    memset(list, 0, sizeof(*list));
}

int node_kv_set(struct node_kv_list *list, const char *key, const char *value)
{
    size_t bytes = strlen(key) + strlen(value);

    for (size_t i = 0; i < list->count; i++) {
        bytes += strlen(list->items[i].key) + strlen(list->items[i].value);
        if (strcmp(list->items[i].key, key) == 0) {
            free(list->items[i].value);
            list->items[i].value = strdup(value);
            return 0;
        }
    }
    if (list->count == NODE_KV_MAX || bytes > NODE_KV_BYTES_MAX) {
        return SHL_ELIMIT;
    }
    list->items = realloc(list->items, (list->count + 1) * sizeof(*list->items));
    list->items[list->count++] = (struct node_kv){strdup(key), strdup(value)};
    return 0;
}

const char *node_sandbox_status(const struct node_sandbox *sandbox)
{
    switch (sandbox->state) {
    case NODE_SANDBOX_CREATING:
    case NODE_SANDBOX_RUNNING:
        return "running";
    case NODE_SANDBOX_STOPPING:
    case NODE_SANDBOX_STOPPED:
        return "stopped";
    case NODE_SANDBOX_ERROR:
        break;
    }
    return "error";
}

static void on_later_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_later(uv_timer_t *timer)
{
    struct later *later = timer->data;

    if (later->create_cb) {
        if (later->code == 0) {
            later->sandbox->state = NODE_SANDBOX_RUNNING;
            later->sandbox->agent = fake_agent_new(timer->loop);
        } else {
            fake_manager_set_state(later->sandbox, NODE_SANDBOX_ERROR, later->msg);
        }
        later->create_cb(later->arg, later->code, later->msg, later->sandbox);
    } else {
        fake_manager_set_state(later->sandbox, NODE_SANDBOX_STOPPED, "killed");
        later->kill_cb(later->arg, 0, "");
    }
    node_sandbox_unref(later->sandbox);
    uv_close((uv_handle_t *)timer, on_later_closed);
}

static struct later *call_later(struct node_manager *manager,
                                struct node_sandbox *sandbox,
                                void *arg)
{
    struct later *later = calloc(1, sizeof(*later));

    later->arg = arg;
    later->sandbox = sandbox;
    node_sandbox_ref(sandbox);
    uv_timer_init(manager->loop, &later->timer);
    later->timer.data = later;
    uv_timer_start(&later->timer, on_later, 2, 0);
    return later;
}

int node_manager_create(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        node_create_cb cb,
                        void *arg,
                        struct shl_err *err)
{
    struct node_sandbox *sandbox;
    struct later *later;

    if (manager->knobs.refuse_code < 0) {
        return shl_err_set(err, manager->knobs.refuse_code, "%s", manager->knobs.refuse_msg);
    }
    if (strcmp(spec->template_name, "base") != 0 && strcmp(spec->template_name, "minimal") != 0) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %s", spec->template_name);
    }
    sandbox = calloc(1, sizeof(*sandbox));
    sandbox->runtime = calloc(1, sizeof(struct runtime));
    runtime_of(sandbox)->refs = 1;
    shl_id_make(sandbox->id, sizeof(sandbox->id), "sb-", 8);
    sandbox->spec = *spec;
    copy_list(&sandbox->spec.envs, &spec->envs);
    copy_list(&sandbox->spec.metadata, &spec->metadata);
    sandbox->created_at_ms = shl_realtime_ms();
    sandbox->end_at_ms =
        spec->timeout_s > 0 ? sandbox->created_at_ms + (int64_t)spec->timeout_s * 1000 : 0;
    sandbox->manager = manager;
    shl_list_push_front(&manager->sandboxes, &sandbox->link);
    later = call_later(manager, sandbox, arg);
    later->create_cb = cb;
    later->code = manager->knobs.create_code;
    later->msg = manager->knobs.create_msg ? manager->knobs.create_msg : "";
    return 0;
}

struct node_sandbox *node_manager_find(struct node_manager *manager,
                                       const char *org,
                                       const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        if (strcmp(sandbox->id, id) == 0 && strcmp(sandbox->spec.org, org) == 0) {
            return sandbox;
        }
    }
    return NULL;
}

void node_manager_each(struct node_manager *manager,
                       const char *org,
                       bool (*each)(void *arg, struct node_sandbox *sandbox),
                       void *arg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        if (strcmp(sandbox->spec.org, org) == 0 && !each(arg, sandbox)) {
            return;
        }
    }
}

void node_manager_kill(struct node_manager *manager,
                       struct node_sandbox *sandbox,
                       node_kill_cb cb,
                       void *arg)
{
    call_later(manager, sandbox, arg)->kill_cb = cb;
}

int node_sandbox_set_timeout(struct node_sandbox *sandbox, uint32_t timeout_s)
{
    if (sandbox->manager->knobs.timeout_code < 0) {
        return sandbox->manager->knobs.timeout_code;
    }
    sandbox->spec.timeout_s = timeout_s;
    sandbox->end_at_ms = timeout_s > 0 ? shl_realtime_ms() + (int64_t)timeout_s * 1000 : 0;
    return 0;
}

void node_sandbox_touch(struct node_sandbox *sandbox)
{
    runtime_of(sandbox)->touches++;
}

void node_sandbox_hold(struct node_sandbox *sandbox)
{
    runtime_of(sandbox)->holds++;
}

void node_sandbox_release(struct node_sandbox *sandbox)
{
    assert_true(runtime_of(sandbox)->holds > 0);
    runtime_of(sandbox)->holds--;
}

void node_sandbox_ref(struct node_sandbox *sandbox)
{
    runtime_of(sandbox)->refs++;
}

void node_sandbox_unref(struct node_sandbox *sandbox)
{
    if (--runtime_of(sandbox)->refs > 0) {
        return;
    }
    assert_int_equal(runtime_of(sandbox)->holds, 0);
    node_kv_release(&sandbox->spec.envs);
    node_kv_release(&sandbox->spec.metadata);
    free(sandbox->runtime);
    free(sandbox);
}

void node_manager_count(struct node_manager *manager, struct node_manager_counts *ret)
{
    struct shl_list *it;

    *ret = (struct node_manager_counts){.memory_total_mb = 8192, .cpus_total = 4};
    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        ret->running += sandbox->state == NODE_SANDBOX_RUNNING;
        ret->creating += sandbox->state == NODE_SANDBOX_CREATING;
        ret->errors += sandbox->state == NODE_SANDBOX_ERROR;
        if (sandbox->state == NODE_SANDBOX_RUNNING) {
            ret->memory_committed_mb += sandbox->spec.memory_mb;
        }
    }
}

void fake_manager_set_state(struct node_sandbox *sandbox,
                            enum node_sandbox_state state,
                            const char *reason)
{
    struct node_agent_link *agent = sandbox->agent;

    sandbox->state = state;
    (void)snprintf(sandbox->reason, sizeof(sandbox->reason), "%s", reason);
    if (state != NODE_SANDBOX_RUNNING && agent) {
        sandbox->agent = NULL;
        sandbox->ended_at_ms = shl_realtime_ms();
        fake_agent_free(agent);
    }
}

struct node_sandbox *fake_manager_last(struct node_manager *manager)
{
    struct shl_list *first = shl_list_first(&manager->sandboxes);

    return first ? shl_container_of(first, struct node_sandbox, link) : NULL;
}

unsigned fake_sandbox_touches(const struct node_sandbox *sandbox)
{
    return runtime_of(sandbox)->touches;
}

int fake_sandbox_holds(const struct node_sandbox *sandbox)
{
    return runtime_of(sandbox)->holds;
}

void fake_manager_free(struct node_manager *manager)
{
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        fake_manager_set_state(sandbox, NODE_SANDBOX_STOPPED, "closing");
        shl_list_remove(&sandbox->link);
        node_sandbox_unref(sandbox);
    }
    free(manager);
}
