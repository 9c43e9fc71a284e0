#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/id.h"
#include "base/io.h"
#include "base/sum.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/machine.h"
#include "node/sandbox/sandbox.h"

/* ---- the table ------------------------------------------------------------------- */

static unsigned hash_of(const char *id)
{
    return shl_hash_text(id) % SANDBOX_HASH_SIZE;
}

struct sandbox *sandbox_new(struct node_manager *manager)
{
    struct sandbox *sandbox = calloc(1, sizeof(*sandbox));
    int i;

    if (!sandbox) {
        return NULL;
    }
    sandbox->pub.manager = manager;
    sandbox->pub.runtime = sandbox;
    shl_list_init(&sandbox->pub.link);
    shl_list_init(&sandbox->queue_node);
    shl_list_init(&sandbox->snapshots);
    shl_list_init(&sandbox->waiters);
    shl_list_init(&sandbox->wakers);
    shl_list_init(&sandbox->sleepers);
    shl_list_init(&sandbox->reboots);
    node_stack_fds_init(&sandbox->stack_fds);
    for (i = 0; i < SANDBOX_FD_COUNT; i++) {
        sandbox->fds[i] = -1;
    }
    return sandbox;
}

void sandbox_free(struct sandbox *sandbox)
{
    assert(!sandbox->alive);
    sandbox_spec_release(&sandbox->pub.spec);
    free(sandbox);
}

void manager_insert(struct node_manager *manager, struct sandbox *sandbox)
{
    unsigned at = hash_of(sandbox->pub.id);

    shl_list_push_front(&manager->sandboxes, &sandbox->pub.link);
    sandbox->hash_next = manager->hash[at];
    manager->hash[at] = sandbox;
}

static void manager_forget(struct node_manager *manager, struct sandbox *sandbox)
{
    struct sandbox **at = &manager->hash[hash_of(sandbox->pub.id)];

    while (*at != sandbox) {
        at = &(*at)->hash_next;
    }
    *at = sandbox->hash_next;
    manager_tell_sandbox(sandbox, true);
    shl_list_remove(&sandbox->pub.link);
    sandbox_free(sandbox);
}

/* ---- the watcher ----------------------------------------------------------------- */

void manager_tell_sandbox(const struct sandbox *sandbox, bool is_gone)
{
    const struct node_manager *manager = sandbox->pub.manager;

    if (manager->watch && !sandbox->hidden) {
        manager->watch->sandbox(manager->watch_arg, &sandbox->pub, is_gone);
    }
}

void manager_tell_checkpoint(struct node_manager *manager,
                             const struct node_checkpoint *checkpoint,
                             bool is_gone)
{
    if (manager->watch) {
        manager->watch->checkpoint(manager->watch_arg, checkpoint, is_gone);
    }
}

void node_manager_set_watch(struct node_manager *manager,
                            const struct node_manager_watch *watch,
                            void *arg)
{
    struct shl_list *node;

    manager->watch = watch;
    manager->watch_arg = arg;
    if (!watch) {
        return;
    }
    for (node = manager->sandboxes.next; node != &manager->sandboxes; node = node->next) {
        manager_tell_sandbox(sandbox_of(shl_container_of(node, struct node_sandbox, link)), false);
    }
    checkpoints_tell(manager);
}

struct sandbox *manager_lookup(struct node_manager *manager, const char *id)
{
    struct sandbox *sandbox = manager->hash[hash_of(id)];

    while (sandbox && strcmp(sandbox->pub.id, id) != 0) {
        sandbox = sandbox->hash_next;
    }
    return sandbox;
}

struct node_sandbox *node_manager_find(struct node_manager *manager,
                                       const char *org,
                                       const char *id)
{
    struct sandbox *sandbox = manager_lookup(manager, id);

    return sandbox && (!org || strcmp(sandbox->pub.spec.org, org) == 0) ? &sandbox->pub : NULL;
}

void node_manager_each(struct node_manager *manager,
                       const char *org,
                       bool (*each)(void *arg, struct node_sandbox *sandbox),
                       void *arg)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        if ((!org || strcmp(sandbox->spec.org, org) == 0) && !each(arg, sandbox)) {
            return;
        }
    }
}

void node_sandbox_ref(struct node_sandbox *pub)
{
    sandbox_of(pub)->refs++;
}

void node_sandbox_unref(struct node_sandbox *pub)
{
    assert(sandbox_of(pub)->refs > 0);
    sandbox_of(pub)->refs--;
}

struct node_net *node_manager_net(struct node_manager *manager)
{
    return manager->net;
}

static void trusted_release(struct node_manager *manager)
{
    size_t i;

    for (i = 0; i < manager->trusted_count; i++) {
        free(manager->trusted[i].pem);
    }
    free(manager->trusted);
    manager->trusted = NULL;
    manager->trusted_count = 0;
}

void node_manager_set_trusted(struct node_manager *manager, struct node_trusted *list, size_t count)
{
    trusted_release(manager);
    manager->trusted = list;
    manager->trusted_count = count;
    boot_on_trust(manager);
}

void node_manager_expect_trusted(struct node_manager *manager)
{
    manager->trusted_expected = true;
}

void node_manager_count(struct node_manager *manager, struct node_manager_counts *ret)
{
    struct shl_list *it;

    *ret = (struct node_manager_counts){
        .memory_total_mb = manager->memory_total_mb,
        .memory_usable_mb = manager->memory_usable_mb,
        .memory_committed_mb = manager->memory_committed_mb,
        .cpus_committed = manager->cpus_committed,
        .sandboxes_max = manager->sandboxes_max,
        .cpus_total = manager->cpus,
        .hibernations = manager->hibernations,
        .wakes_warm = manager->wakes_warm,
        .wakes_cold = manager->wakes_cold,
        .warm_templates = warm_count(manager),
    };
    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        const struct node_sandbox *sandbox = shl_container_of(it, struct node_sandbox, link);

        ret->running += sandbox->state == NODE_SANDBOX_RUNNING ||
                        sandbox->state == NODE_SANDBOX_HIBERNATING ||
                        sandbox->state == NODE_SANDBOX_WAKING;
        ret->hibernated += sandbox->state == NODE_SANDBOX_HIBERNATED;
        ret->creating += sandbox->state == NODE_SANDBOX_CREATING;
        ret->errors += sandbox->state == NODE_SANDBOX_ERROR;
    }
    checkpoints_count(manager, ret);
}

/* ---- kill ------------------------------------------------------------------------ */

void node_manager_kill(struct node_manager *manager,
                       struct node_sandbox *pub,
                       node_kill_cb cb,
                       void *arg)
{
    struct sandbox *sandbox = sandbox_of(pub);

    if (!sandbox->alive) {
        saves_on_ended(sandbox, false);
        answer_later(manager, cb, arg, 0, "");
    } else if (waiter_add(&sandbox->waiters, cb, arg) < 0) {
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory to kill a sandbox");
    } else {
        sandbox_end(sandbox, NODE_SANDBOX_STOPPED, SHL_EGONE, "killed");
    }
}

/* ---- housekeeping ---------------------------------------------------------------- */

static bool drop_record(struct node_manager *manager, struct sandbox *sandbox)
{
    struct shl_err err = {0};

    if (node_store_delete(manager->store, SANDBOX_KIND, sandbox->pub.id, &err) < 0) {
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "record_not_dropped",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", err.msg));
        return false;
    }
    saves_on_ended(sandbox, false);
    manager->ended--;
    manager_forget(manager, sandbox);
    return true;
}

void manager_drop_moved(struct node_manager *manager)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (sandbox->moved && !sandbox->alive && sandbox->refs == 0) {
            manager->ended--;
            manager_forget(manager, sandbox); /* its record went before */
        }
    }
}

/* From the oldest on: ended long ago, or more ended ones than are kept. */
static void on_housekeeping(uv_timer_t *timer)
{
    struct node_manager *manager = timer->data;
    int64_t now_ms = shl_realtime_ms();
    struct shl_list *it, *before;

    checkpoints_housekeeping(manager);
    warm_housekeeping(manager);
    manager_drop_moved(manager);
    for (it = manager->sandboxes.prev; it != &manager->sandboxes; it = before) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        before = it->prev;
        if (sandbox->alive) {
            if (sandbox->run) {
                files_bound_log(sandbox);
            }
        } else if (sandbox->refs == 0 &&
                   (manager->ended > SANDBOX_ENDED_MAX ||
                    now_ms - sandbox->pub.ended_at_ms >= manager->ended_keep_ms) &&
                   !drop_record(manager, sandbox)) {
            return;
        }
    }
}

/* ---- opening --------------------------------------------------------------------- */

static void manager_free(struct node_manager *manager)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        sandbox_free(shl_container_of(it, struct sandbox, pub.link));
    }
    node_net_close(manager->net);
    trusted_release(manager);
    checkpoints_free(manager);
    warm_free(manager);
    layers_free(manager);
    free(manager->data_dir);
    free(manager->run_dir);
    free(manager->vmm_path);
    free(manager);
}

/* Absolute, so that a VMM with another working directory finds it, and without a slash
 * at the end, so that it can be compared. */
static char *copy_path(const char *path)
{
    char *copy = realpath(path, NULL);

    return copy ? copy : strdup(path);
}

static int make_folders(const struct node_manager_config *config, struct shl_err *err)
{
    int rc = shl_mkdir_all(config->data_dir, 0700);

    if (rc < 0) {
        return shl_err_sys(err, -rc, "cannot create the data folder %s", config->data_dir);
    }
    rc = shl_mkdir_all(config->run_dir, 0700);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot create the run folder %s", config->run_dir) : 0;
}

static int check_paths(const struct node_manager *manager, struct shl_err *err)
{
    size_t socket_max = sizeof(((struct sockaddr_un *)0)->sun_path);
    size_t longest = strlen("/sb-12345678/" VMM_CONTROL_SOCKET) + 1;

    if (strlen(manager->run_dir) + longest > socket_max) {
        return shl_err_set(err, -ENAMETOOLONG,
                           "the run folder %s is too long for Unix sockets: at most %zu bytes",
                           manager->run_dir, socket_max - longest);
    }
    if (strlen(manager->data_dir) > SANDBOX_PATH_MAX - NODE_TEMPLATE_MAX - 64) {
        return shl_err_set(err, -ENAMETOOLONG, "the path of the data folder is too long");
    }
    return 0;
}

static int copy_config(struct node_manager *manager,
                       const struct node_manager_config *config,
                       struct shl_err *err)
{
    bool slow = machine_is_emulated();
    uint32_t reserve_mb;

    manager->log = config->log ? *config->log : (struct shl_log){.fd = -1};
    manager->log.subsystem = "sandbox";
    manager->data_dir = copy_path(config->data_dir);
    manager->run_dir = copy_path(config->run_dir);
    manager->vmm_path = copy_path(config->vmm_path);
    if (!manager->data_dir || !manager->run_dir || !manager->vmm_path) {
        return shl_err_sys(err, ENOMEM, "cannot start the sandbox manager");
    }
    manager->cpus = machine_cpus();
    manager->memory_total_mb =
        config->memory_total_mb ? config->memory_total_mb : machine_memory_mb();
    reserve_mb = SHL_MAX(manager->memory_total_mb / SANDBOX_RESERVE_SHARE, SANDBOX_RESERVE_MIN_MB);
    reserve_mb = SHL_MIN(reserve_mb, manager->memory_total_mb);
    manager->memory_usable_mb =
        config->memory_usable_mb ? config->memory_usable_mb : manager->memory_total_mb - reserve_mb;
    manager->sandboxes_max = config->sandboxes_max;
    manager->boots_max = config->boots_max ? config->boots_max : manager->cpus;
    manager->boot_ms = config->boot_ms ? config->boot_ms
                       : slow          ? SANDBOX_BOOT_EMULATED_MS
                                       : SANDBOX_BOOT_MS;
    manager->silent_ms = config->silent_ms ? config->silent_ms
                         : slow            ? SANDBOX_SILENT_EMULATED_MS
                                           : SANDBOX_SILENT_MS;
    manager->stop_ms = config->stop_ms ? config->stop_ms : SANDBOX_STOP_MS;
    manager->ended_keep_ms = config->ended_keep_ms ? config->ended_keep_ms : NODE_ENDED_KEEP_MS;
    machine_boot_id(manager->machine_boot_id, sizeof(manager->machine_boot_id));
    return check_paths(manager, err);
}

/* Of the folder in which the node's VMs run: no two nodes of a machine share it. */
static void name_cgroups(struct node_manager *manager)
{
    (void)snprintf(manager->cgroups.suffix, sizeof(manager->cgroups.suffix), "-%08x",
                   shl_hash_text(manager->run_dir));
}

static void open_cgroups(struct node_manager *manager, const char *root)
{
    struct shl_err err = {0};

    if (node_cgroups_init(&manager->cgroups, root, &err) < 0) {
        SHL_LOG(&manager->log, SHL_LOG_WARN, "no_cgroups", SHL_S("reason", err.msg),
                SHL_S("effect", "CPU and memory of VMMs are not limited"));
    }
    name_cgroups(manager);
}

static void start_timers(struct node_manager *manager, uint32_t housekeeping_ms)
{
    uint32_t every_ms = housekeeping_ms ? housekeeping_ms : SANDBOX_HOUSEKEEPING_MS;

    (void)uv_timer_init(manager->loop, &manager->housekeeping);
    (void)uv_timer_init(manager->loop, &manager->defer);
    manager->housekeeping.data = manager;
    manager->defer.data = manager;
    manager->handles = 2;
    (void)uv_timer_start(&manager->housekeeping, on_housekeeping, every_ms, every_ms);
}

static int prepare(struct node_manager *manager,
                   const struct node_manager_config *config,
                   struct shl_err *err)
{
    int rc = make_folders(config, err);

    if (rc == 0) {
        rc = copy_config(manager, config, err);
    }
    if (rc == 0 && !config->without_sandboxes) {
        rc = machine_check_kvm(config->kvm_path ? config->kvm_path : "/dev/kvm", err);
    }
    if (rc == 0 && !config->without_sandboxes) {
        rc = files_check(manager, err);
    }
    if (rc == 0) {
        rc = layers_open(manager, err);
    }
    if (rc == 0) {
        /* before records of sandboxes are judged: what they give back may be a checkpoint's too */
        rc = checkpoints_load(manager, err);
    }
    if (rc == 0) {
        open_cgroups(manager, config->cgroup_root);
        rc = adopt_load(manager, config, err);
    }
    return rc;
}

int node_manager_open(uv_loop_t *loop,
                      struct node_store *store,
                      const struct node_manager_config *config,
                      struct node_manager **ret_manager,
                      struct shl_err *err)
{
    struct node_manager *manager = calloc(1, sizeof(*manager));
    int rc;

    if (!manager) {
        return shl_err_sys(err, ENOMEM, "cannot start the sandbox manager");
    }
    manager->loop = loop;
    manager->store = store;
    shl_list_init(&manager->sandboxes);
    shl_list_init(&manager->boot_queue);
    shl_list_init(&manager->deferred);
    shl_list_init(&manager->warms);
    manager->warm_wanted = config->warm && !config->without_sandboxes;
    manager->without_sandboxes = config->without_sandboxes;
    rc = prepare(manager, config, err);
    if (rc < 0) {
        manager_free(manager);
        return rc;
    }
    start_timers(manager, config->housekeeping_ms);
    /* all records have their references now */
    warm_open(manager);
    layers_sweep(manager);
    checkpoints_resume(manager);
    adopt_resume(manager);
    warm_pump(manager);
    *ret_manager = manager;
    return 0;
}

/* ---- closing --------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct node_manager *manager = handle->data;
    void (*cb)(void *arg) = manager->close_cb;
    void *arg = manager->close_arg;

    if (--manager->handles > 0) {
        return;
    }
    manager_free(manager);
    if (cb) {
        cb(arg);
    }
}

void manager_on_finished(struct node_manager *manager)
{
    if (!manager->closing || manager->closed || manager->alive > 0 || manager->jobs > 0) {
        return;
    }
    manager->closed = true;
    answer_deferred(manager);
    uv_close((uv_handle_t *)&manager->housekeeping, on_timer_closed);
    uv_close((uv_handle_t *)&manager->defer, on_timer_closed);
}

void manager_job_ended(struct node_manager *manager)
{
    assert(manager->jobs > 0);
    manager->jobs--;
    manager_on_finished(manager);
}

void node_manager_close(struct node_manager *manager, void (*cb)(void *arg), void *arg)
{
    struct shl_list *it, *next;

    assert(!manager->closing);
    manager->closing = true;
    manager->close_cb = cb;
    manager->close_arg = arg;
    checkpoints_close(manager);
    warm_close(manager);
    SHL_LIST_FOREACH_SAFE(it, next, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (sandbox->alive) {
            sandbox_let_go(sandbox);
        }
    }
    manager_on_finished(manager);
}
