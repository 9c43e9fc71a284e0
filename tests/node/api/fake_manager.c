#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/io.h"
#include "tests/node/api/fake_private.h"

/* Something that comes later. */
struct later {
    uv_timer_t timer;
    void (*fire)(void *arg);
    void *arg;
};

/* Somebody who waits for a sandbox to be in a state. */
struct waiter {
    struct shl_list link;
    enum node_sandbox_state goal;
    node_sandbox_cb cb;
    void *arg;
};

struct change {
    struct node_sandbox *sandbox;
    enum node_sandbox_state before;
    enum node_sandbox_state via;
    enum node_sandbox_state goal;
    int code;
    const char *msg;
    node_sandbox_cb cb; /* of who asked for it; may be NULL */
    void *arg;
};

struct creation {
    struct node_sandbox *sandbox;
    node_create_cb cb;
    void *arg;
    int code;
    const char *msg;
};

struct killing {
    struct node_sandbox *sandbox;
    node_kill_cb cb;
    void *arg;
};

struct node_manager *fake_manager_new(uv_loop_t *loop)
{
    struct node_manager *manager = calloc(1, sizeof(*manager));

    manager->loop = loop;
    shl_list_init(&manager->sandboxes);
    shl_list_init(&manager->checkpoints);
    return manager;
}

struct fake_manager_knobs *fake_manager_knobs(struct node_manager *manager)
{
    return &manager->knobs;
}

struct fake_runtime *fake_runtime_of(const struct node_sandbox *sandbox)
{
    return sandbox->runtime;
}

void fake_copy_list(struct node_kv_list *dst, const struct node_kv_list *src)
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

int node_sandbox_set_previews(struct node_sandbox *sandbox,
                              const struct node_previews *previews,
                              struct shl_err *err)
{
    struct node_previews copy;

    if (sandbox->state == NODE_SANDBOX_STOPPED) {
        return shl_err_set(err, SHL_EGONE, "the sandbox has ended");
    }
    assert_int_equal(node_previews_copy(&copy, previews), 0);
    node_previews_release(&sandbox->spec.previews);
    sandbox->spec.previews = copy;
    return 0;
}

const char *node_sandbox_status(const struct node_sandbox *sandbox)
{
    switch (sandbox->state) {
    case NODE_SANDBOX_CREATING:
    case NODE_SANDBOX_RUNNING:
    case NODE_SANDBOX_HIBERNATING:
    case NODE_SANDBOX_WAKING:
        return "running";
    case NODE_SANDBOX_HIBERNATED:
        return "hibernated";
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

    later->fire(later->arg);
    uv_close((uv_handle_t *)timer, on_later_closed);
}

void fake_later(struct node_manager *manager, uint64_t delay_ms, void (*fire)(void *arg), void *arg)
{
    struct later *later = calloc(1, sizeof(*later));

    later->fire = fire;
    later->arg = arg;
    uv_timer_init(manager->loop, &later->timer);
    later->timer.data = later;
    uv_timer_start(&later->timer, on_later, delay_ms, 0);
}

/* Changes of state */

static bool is_ended(const struct node_sandbox *sandbox)
{
    return sandbox->state == NODE_SANDBOX_STOPPING || sandbox->state == NODE_SANDBOX_STOPPED ||
           sandbox->state == NODE_SANDBOX_ERROR;
}

static void add_waiter(struct node_sandbox *sandbox,
                       enum node_sandbox_state goal,
                       node_sandbox_cb cb,
                       void *arg)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));

    waiter->goal = goal;
    waiter->cb = cb;
    waiter->arg = arg;
    shl_list_push_back(&fake_runtime_of(sandbox)->waiters, &waiter->link);
}

static void begin_wake(struct node_sandbox *sandbox)
{
    const struct fake_manager_knobs *knobs = &sandbox->manager->knobs;

    fake_runtime_of(sandbox)->wakes++;
    fake_sandbox_change(sandbox, NODE_SANDBOX_WAKING, NODE_SANDBOX_RUNNING, knobs->wake_code,
                        knobs->change_msg, NULL, NULL);
}

/* Tell those whose waiting is over; @failed is the goal that was missed. */
static void tell(struct node_sandbox *sandbox,
                 enum node_sandbox_state failed,
                 int code,
                 const char *msg)
{
    struct shl_list told;
    struct shl_list *it;
    struct shl_list *next;

    shl_list_init(&told);
    SHL_LIST_FOREACH_SAFE(it, next, &fake_runtime_of(sandbox)->waiters) {
        struct waiter *waiter = shl_container_of(it, struct waiter, link);

        if (is_ended(sandbox) || waiter->goal == sandbox->state ||
            (code < 0 && waiter->goal == failed)) {
            shl_list_remove(it);
            shl_list_push_back(&told, it);
        }
    }
    while (!shl_list_empty(&told)) {
        struct waiter *waiter = shl_container_of(shl_list_first(&told), struct waiter, link);

        shl_list_remove(&waiter->link);
        if (is_ended(sandbox)) {
            waiter->cb(waiter->arg, SHL_EGONE, "the sandbox has stopped");
        } else if (waiter->goal == sandbox->state) {
            waiter->cb(waiter->arg, 0, "");
        } else {
            waiter->cb(waiter->arg, code, msg);
        }
        free(waiter);
    }
}

static void give_agent(struct node_sandbox *sandbox)
{
    struct fake_runtime *runtime = fake_runtime_of(sandbox);

    sandbox->agent = runtime->asleep ? runtime->asleep : fake_agent_new(sandbox->manager->loop);
    runtime->asleep = NULL;
}

/* Its sessions and files are there again after the wake. */
static void put_agent_to_sleep(struct node_sandbox *sandbox)
{
    struct node_agent_link *agent = sandbox->agent;

    sandbox->agent = NULL;
    fake_runtime_of(sandbox)->asleep = agent;
    fake_agent_break(agent);
}

static void on_changed(void *arg)
{
    struct change *change = arg;
    struct node_sandbox *sandbox = change->sandbox;

    if (sandbox->state == change->via) { /* not ended meanwhile */
        sandbox->state = change->code < 0 ? change->before : change->goal;
        sandbox->saved_bytes = sandbox->state == NODE_SANDBOX_HIBERNATED ? 123456 : 0;
        if (sandbox->state == NODE_SANDBOX_RUNNING) {
            give_agent(sandbox);
        }
    }
    if (change->cb && is_ended(sandbox)) {
        change->cb(change->arg, SHL_EGONE, "the sandbox has stopped");
    } else if (change->cb) {
        change->cb(change->arg, change->code, change->msg ? change->msg : "");
    }
    tell(sandbox, change->goal, change->code, change->msg ? change->msg : "");
    if (sandbox->state == NODE_SANDBOX_HIBERNATED &&
        !shl_list_empty(&fake_runtime_of(sandbox)->waiters)) {
        begin_wake(sandbox); /* they came while it was being hibernated */
    }
    node_sandbox_unref(sandbox);
    free(change);
}

void fake_sandbox_change(struct node_sandbox *sandbox,
                         enum node_sandbox_state via,
                         enum node_sandbox_state goal,
                         int code,
                         const char *msg,
                         node_sandbox_cb cb,
                         void *arg)
{
    struct change *change = calloc(1, sizeof(*change));
    unsigned wake_ms = sandbox->manager->knobs.wake_ms;

    *change = (struct change){.sandbox = sandbox,
                              .before = sandbox->state,
                              .via = via,
                              .goal = goal,
                              .code = code,
                              .msg = msg,
                              .cb = cb,
                              .arg = arg};
    node_sandbox_ref(sandbox);
    if (via == NODE_SANDBOX_HIBERNATING) {
        sandbox->state = via;
        put_agent_to_sleep(sandbox);
    }
    fake_manager_set_state(sandbox, via, "");
    fake_later(sandbox->manager, via == NODE_SANDBOX_WAKING && wake_ms > 0 ? wake_ms : 2,
               on_changed, change);
}

struct refusal {
    node_sandbox_cb cb;
    void *arg;
    int code;
    const char *msg;
};

static void on_refused(void *arg)
{
    struct refusal *refusal = arg;

    refusal->cb(refusal->arg, refusal->code, refusal->msg);
    free(refusal);
}

static void answer_later(struct node_manager *manager,
                         int code,
                         const char *msg,
                         node_sandbox_cb cb,
                         void *arg)
{
    struct refusal *refusal = calloc(1, sizeof(*refusal));

    *refusal = (struct refusal){.cb = cb, .arg = arg, .code = code, .msg = msg};
    fake_later(manager, 1, on_refused, refusal);
}

void node_manager_hibernate(struct node_manager *manager,
                            struct node_sandbox *sandbox,
                            node_sandbox_cb cb,
                            void *arg)
{
    if (sandbox->state == NODE_SANDBOX_HIBERNATED) {
        answer_later(manager, 0, "", cb, arg);
    } else if (sandbox->state == NODE_SANDBOX_HIBERNATING) {
        add_waiter(sandbox, NODE_SANDBOX_HIBERNATED, cb, arg);
    } else if (sandbox->state != NODE_SANDBOX_RUNNING) {
        answer_later(manager, SHL_EBADSTATE, "sandbox is not running", cb, arg);
    } else {
        fake_sandbox_change(sandbox, NODE_SANDBOX_HIBERNATING, NODE_SANDBOX_HIBERNATED,
                            manager->knobs.hibernate_code, manager->knobs.change_msg, cb, arg);
    }
}

void node_manager_wake(struct node_manager *manager,
                       struct node_sandbox *sandbox,
                       const uint32_t *timeout_s,
                       node_sandbox_cb cb,
                       void *arg)
{
    if (timeout_s) {
        assert_int_equal(node_sandbox_set_timeout(sandbox, *timeout_s), 0);
    }
    if (sandbox->state == NODE_SANDBOX_RUNNING) {
        answer_later(manager, 0, "", cb, arg);
        return;
    }
    add_waiter(sandbox, NODE_SANDBOX_RUNNING, cb, arg);
    if (sandbox->state == NODE_SANDBOX_HIBERNATED) {
        begin_wake(sandbox);
    }
}

int node_sandbox_need(struct node_sandbox *sandbox,
                      node_sandbox_cb cb,
                      void *arg,
                      struct shl_err *err)
{
    if (is_ended(sandbox)) {
        return shl_err_set(err, SHL_EGONE, "the sandbox has stopped");
    }
    if (sandbox->state == NODE_SANDBOX_RUNNING && sandbox->agent) {
        return 1;
    }
    add_waiter(sandbox, NODE_SANDBOX_RUNNING, cb, arg);
    if (sandbox->state == NODE_SANDBOX_HIBERNATED) {
        begin_wake(sandbox);
    }
    return 0;
}

void node_manager_reboot(struct node_manager *manager,
                         struct node_sandbox *sandbox,
                         bool hard,
                         node_sandbox_cb cb,
                         void *arg)
{
    (void)hard;
    if (sandbox->state != NODE_SANDBOX_RUNNING) {
        answer_later(manager, SHL_EBADSTATE, "sandbox is not running", cb, arg);
        return;
    }
    fake_sandbox_change(sandbox, NODE_SANDBOX_WAKING, NODE_SANDBOX_RUNNING,
                        manager->knobs.reboot_code, manager->knobs.change_msg, cb, arg);
}

/* Create and kill */

static void on_created(void *arg)
{
    struct creation *creation = arg;
    struct node_sandbox *sandbox = creation->sandbox;

    if (creation->code == 0) {
        sandbox->state = NODE_SANDBOX_RUNNING;
        sandbox->agent = fake_agent_new(sandbox->manager->loop);
    } else {
        fake_manager_set_state(sandbox, NODE_SANDBOX_ERROR, creation->msg);
    }
    creation->cb(creation->arg, creation->code, creation->msg, sandbox);
    tell(sandbox, NODE_SANDBOX_RUNNING, creation->code, creation->msg);
    node_sandbox_unref(sandbox);
    free(creation);
}

static uint32_t fake_address(const struct node_sandbox *sandbox)
{
    return (uint32_t)strtoul(sandbox->id + 3, NULL, 16);
}

struct node_sandbox *fake_sandbox_start(struct node_manager *manager,
                                        const struct node_sandbox_spec *spec,
                                        int code,
                                        const char *msg,
                                        node_create_cb cb,
                                        void *arg)
{
    struct node_sandbox *sandbox = calloc(1, sizeof(*sandbox));
    struct creation *creation = calloc(1, sizeof(*creation));

    sandbox->runtime = calloc(1, sizeof(struct fake_runtime));
    fake_runtime_of(sandbox)->refs = 1;
    shl_list_init(&fake_runtime_of(sandbox)->waiters);
    shl_id_make(sandbox->id, sizeof(sandbox->id), "sb-", 8);
    sandbox->spec = *spec;
    fake_copy_list(&sandbox->spec.envs, &spec->envs);
    fake_copy_list(&sandbox->spec.metadata, &spec->metadata);
    assert_int_equal(node_previews_copy(&sandbox->spec.previews, &spec->previews), 0);
    fake_copy_list(&sandbox->spec.image_envs, &spec->image_envs);
    assert_int_equal(node_secret_use_copy(&sandbox->spec.secrets, &spec->secrets, true), 0);
    if (manager->network) {
        manager->network->attach(manager->network_arg, sandbox, fake_address(sandbox));
    }
    sandbox->created_at_ms = shl_realtime_ms();
    sandbox->end_at_ms =
        spec->timeout_s > 0 ? sandbox->created_at_ms + (int64_t)spec->timeout_s * 1000 : 0;
    sandbox->manager = manager;
    shl_list_push_front(&manager->sandboxes, &sandbox->link);
    *creation = (struct creation){
        .sandbox = sandbox, .cb = cb, .arg = arg, .code = code, .msg = msg ? msg : ""};
    node_sandbox_ref(sandbox);
    fake_later(manager, 2, on_created, creation);
    return sandbox;
}

int node_manager_create(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        node_create_cb cb,
                        void *arg,
                        struct shl_err *err)
{
    if (manager->knobs.refuse_code < 0) {
        return shl_err_set(err, manager->knobs.refuse_code, "%s", manager->knobs.refuse_msg);
    }
    if (strcmp(spec->template_name, "base") != 0 && strcmp(spec->template_name, "minimal") != 0) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %s", spec->template_name);
    }
    (void)fake_sandbox_start(manager, spec, manager->knobs.create_code, manager->knobs.create_msg,
                             cb, arg);
    return 0;
}

struct node_sandbox *node_manager_find(struct node_manager *manager,
                                       const char *org,
                                       const char *id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        if (strcmp(sandbox->id, id) == 0 && (!org || strcmp(sandbox->spec.org, org) == 0) &&
            !sandbox->spec.is_build) {
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

        if (strcmp(sandbox->spec.org, org) == 0 && !sandbox->spec.is_build && !each(arg, sandbox)) {
            return;
        }
    }
}

static void on_killed(void *arg)
{
    struct killing *killing = arg;

    fake_manager_set_state(killing->sandbox, NODE_SANDBOX_STOPPED, "killed");
    killing->cb(killing->arg, 0, "");
    tell(killing->sandbox, NODE_SANDBOX_RUNNING, SHL_EGONE, "");
    node_sandbox_unref(killing->sandbox);
    free(killing);
}

void node_manager_kill(struct node_manager *manager,
                       struct node_sandbox *sandbox,
                       node_kill_cb cb,
                       void *arg)
{
    struct killing *killing = calloc(1, sizeof(*killing));

    *killing = (struct killing){.sandbox = sandbox, .cb = cb, .arg = arg};
    node_sandbox_ref(sandbox);
    fake_later(manager, 2, on_killed, killing);
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
    fake_runtime_of(sandbox)->touches++;
}

void node_sandbox_hold(struct node_sandbox *sandbox)
{
    fake_runtime_of(sandbox)->holds++;
}

void node_sandbox_release(struct node_sandbox *sandbox)
{
    assert_true(fake_runtime_of(sandbox)->holds > 0);
    fake_runtime_of(sandbox)->holds--;
}

void node_sandbox_ref(struct node_sandbox *sandbox)
{
    fake_runtime_of(sandbox)->refs++;
}

void node_sandbox_unref(struct node_sandbox *sandbox)
{
    if (--fake_runtime_of(sandbox)->refs > 0) {
        return;
    }
    assert_int_equal(fake_runtime_of(sandbox)->holds, 0);
    node_kv_release(&sandbox->spec.envs);
    node_kv_release(&sandbox->spec.metadata);
    node_previews_release(&sandbox->spec.previews);
    node_kv_release(&sandbox->spec.image_envs);
    node_secret_use_release(&sandbox->spec.secrets);
    free(sandbox->runtime);
    free(sandbox);
}

void node_manager_each_guest(struct node_manager *manager,
                             bool (*each)(void *arg, struct node_sandbox *sandbox, uint32_t guest),
                             void *arg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        if (!each(arg, sandbox, fake_address(sandbox))) {
            return;
        }
    }
}

void node_manager_set_network(struct node_manager *manager,
                              const struct node_manager_network *network,
                              void *arg)
{
    manager->network = network;
    manager->network_arg = arg;
}

void node_sandbox_net_bytes(const struct node_sandbox *sandbox, uint64_t *ret_in, uint64_t *ret_out)
{
    (void)sandbox;
    *ret_in = 11;
    *ret_out = 22;
}

int node_sandbox_set_allowlist(struct node_sandbox *sandbox, const struct node_host_list *allowlist)
{
    node_host_list_release(&sandbox->spec.secrets.allowlist);
    return node_host_list_copy(&sandbox->spec.secrets.allowlist, allowlist);
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
        ret->hibernated += sandbox->state == NODE_SANDBOX_HIBERNATED;
        ret->wakes_warm += fake_runtime_of(sandbox)->wakes;
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
        sandbox->ended_at_ms = is_ended(sandbox) ? shl_realtime_ms() : 0;
        fake_agent_free(agent);
    }
    agent = fake_runtime_of(sandbox)->asleep;
    if (is_ended(sandbox) && agent) {
        fake_runtime_of(sandbox)->asleep = NULL;
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
    return fake_runtime_of(sandbox)->touches;
}

int fake_sandbox_holds(const struct node_sandbox *sandbox)
{
    return fake_runtime_of(sandbox)->holds;
}

unsigned fake_sandbox_wakes(const struct node_sandbox *sandbox)
{
    return fake_runtime_of(sandbox)->wakes;
}

void fake_manager_free(struct node_manager *manager)
{
    struct shl_list *it;
    struct shl_list *next;

    fake_checkpoints_free(manager);
    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        fake_manager_set_state(sandbox, NODE_SANDBOX_STOPPED, "closing");
        tell(sandbox, NODE_SANDBOX_RUNNING, SHL_EGONE, ""); /* as the real one does */
        shl_list_remove(&sandbox->link);
        node_sandbox_unref(sandbox);
    }
    free(manager);
}
