/* A run from its beginning to running: for a create, a wake, a reboot.
 *
 * Happy path:
 *  1. boot_enqueue, boot_pump: at most boots_max at a time; the time limit starts when it
 *     is this one's turn.
 *  2. run_prepare (thread pool): folders, descriptors, cgroup. -> on_prepared
 *  3. start_vmm: TAP and rules, then the process. run_join puts it into its cgroup.
 *  4. on_joined -> control connection -> on_control_ready -> op start or restore with descriptors.
 *  5. on_started: the descriptors are the VMM's now; the agent link opens.
 *  6. boot_on_agent: the guest answered HELLO; op setup, for a guest with secrets once there are
 *     certificates for it (boot_on_trust). -> on_setup_end
 *  7. The record is saved as running, whoever waits is answered.
 *
 * What can go wrong: any step fails, the VMM ends (watch.c), the limit passes (on_limit),
 * somebody kills it. All of it is run_fail or sandbox_end, which give back whatever exists;
 * each step here returns at once when that has begun. Until 7 a wake has changed nothing:
 * the sandbox is hibernated again, on its former layers.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define SETUP_MAX    AGENT_REQUEST_MAX
#define VMM_UID_BASE 0x70000000u /* above what systemd gives to containers */
#define USER_SIZE    16

static void fail(struct sandbox *sandbox, int code, const char *what, const char *msg)
{
    run_fail(sandbox, NODE_SANDBOX_ERROR, code, "%s: %s", what, msg);
}

/* ---- 7. running ------------------------------------------------------------------ */

/* What a run has below it: what it began with, or the same with layers merged meanwhile. Its
 * state is used up: whoever ran on from it once must never be restored from it again. */
static struct node_stack stack_of_run(const struct sandbox *sandbox)
{
    struct node_stack stack = sandbox->switch_to ? sandbox->start : sandbox->stack;

    (void)snprintf(stack.base, sizeof(stack.base), "%s", sandbox->start.base);
    stack.state = (struct node_layer_id){""};
    if (!sandbox->restored) {
        stack.mem_count = 0;
        stack.warm_mem = false;
    }
    return stack;
}

/* From the moment this is on disk the saved state is history; before, the run is. */
static int record_running(struct sandbox *sandbox, struct shl_err *err)
{
    struct node_stack before = sandbox->stack;
    struct node_stack now = stack_of_run(sandbox);
    enum node_sandbox_state durable = sandbox->durable;
    bool cold_woken = sandbox->pub.cold_woken;
    uint64_t saved_bytes = sandbox->pub.saved_bytes;
    bool imported = sandbox->imported;
    int rc;

    sandbox->stack = now;
    sandbox->durable = NODE_SANDBOX_RUNNING;
    sandbox->pub.saved_bytes = 0;
    sandbox->imported = false;
    sandbox->pub.cold_woken = sandbox->cold && (sandbox->pub.state == NODE_SANDBOX_WAKING ||
                                                sandbox->pub.from_checkpoint[0]);
    rc = sandbox_save(sandbox, err);
    sandbox->stack = before;
    if (rc < 0) {
        sandbox->durable = durable;
        sandbox->pub.saved_bytes = saved_bytes;
        sandbox->imported = imported;
        sandbox->pub.cold_woken = cold_woken;
        return rc;
    }
    sandbox_set_stack(sandbox, &now);
    sandbox->layers_due = now.disk_count != sandbox->start.disk_count;
    node_stack_unref(sandbox->pub.manager, &sandbox->start);
    sandbox->start = (struct node_stack){0};
    return 0;
}

static void tell(struct sandbox *sandbox)
{
    node_create_cb cb = sandbox->create_cb;

    sandbox->create_cb = NULL;
    node_sandbox_ref(&sandbox->pub);
    if (cb) {
        cb(sandbox->create_arg, 0, "", &sandbox->pub);
    }
    reboot_answer(sandbox, 0, "");
    if (sandbox->paused) {
        pause_apply(sandbox);
        node_sandbox_unref(&sandbox->pub);
        return;
    }
    waiters_answer(&sandbox->wakers, 0, "");
    if (!shl_list_empty(&sandbox->sleepers) && sandbox->pub.state == NODE_SANDBOX_RUNNING) {
        hibernate_begin(sandbox);
    }
    node_sandbox_unref(&sandbox->pub);
}

static int64_t ms_since(uint64_t us)
{
    return (int64_t)((shl_monotonic_us() - us) / 1000);
}

/* The log tells how long ago it began, the process was there, its guest ran, the agent
 * answered. */
void boot_become_running(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    bool woken = sandbox->pub.state == NODE_SANDBOX_WAKING;
    struct shl_err err = {0};

    sandbox->pub.spec.patched = sandbox->run_patched;
    (void)memcpy(sandbox->pub.spec.patch_error, sandbox->run_patch_error,
                 sizeof(sandbox->run_patch_error));
    if (record_running(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the sandbox could not be recorded", err.msg);
        return;
    }
    sandbox_set_state(sandbox, NODE_SANDBOX_RUNNING, "");
    (void)uv_timer_stop(&sandbox->timer);
    sandbox->pub.agent = sandbox->link;
    sandbox->booting = false;
    manager->booting--;
    if (woken && !sandbox->rebooting) {
        manager->wakes_warm += sandbox->restored;
        manager->wakes_cold += !sandbox->restored;
    }
    sandbox->rebooting = false;
    SHL_LOG(&manager->log, SHL_LOG_INFO, "sandbox_ready", SHL_S("sandbox", sandbox->pub.id),
            SHL_S("how", woken ? "wake" : "create"),
            SHL_S("from", sandbox->restored ? "memory" : "boot"),
            SHL_I("ms", ms_since(sandbox->began_us)),
            SHL_I("vmm_ms", ms_since(sandbox->spawned_us)),
            SHL_I("guest_ms", ms_since(sandbox->started_us)),
            SHL_I("setup_ms", ms_since(sandbox->hello_us)));
    idle_start(sandbox);
    boot_pump(manager);
    merge_consider(sandbox);
    tell(sandbox);
}

/* ---- 6. the guest answers -------------------------------------------------------- */

static void on_setup_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct sandbox *sandbox = arg;

    (void)response;
    sandbox->setup = NULL;
    if (sandbox->ending) {
        return;
    }
    if (code == SHL_EUNAVAILABLE) {
        return; /* the link broke; it is asked again when it is back */
    }
    if (code < 0) {
        fail(sandbox, code, "the guest could not be set up", msg);
        return;
    }
    if (!patches_begin(sandbox)) {
        boot_become_running(sandbox);
    }
}

/* A daemon that has just started may not know the authority of the egress gateways yet. A guest
 * without its certificate would have secrets that it can send nowhere. One that is woken has it
 * on its disk. */
static bool lacks_trust(const struct sandbox *sandbox)
{
    const struct node_manager *manager = sandbox->pub.manager;

    return manager->trusted_expected && manager->trusted_count == 0 &&
           sandbox->pub.state == NODE_SANDBOX_CREATING && sandbox->pub.spec.secrets.store_count > 0;
}

void boot_on_agent(struct sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_setup_end};
    struct shl_buf buf;
    int rc;

    if (sandbox->setup || sandbox->patch || sandbox->patches_due) {
        return;
    }
    sandbox->hello_us = shl_monotonic_us();
    sandbox->trust_due = lacks_trust(sandbox);
    if (sandbox->trust_due) {
        return;
    }
    shl_buf_init(&buf, SETUP_MAX);
    rc = setup_encode(sandbox, &buf);
    if (rc == 0) {
        rc = node_agent_open_kept(sandbox->link, shl_buf_bytes(&buf), &ops, sandbox,
                                  &sandbox->setup);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        fail(sandbox, rc, "the guest could not be set up", shl_err_text(rc));
    }
}

void boot_on_trust(struct node_manager *manager)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (sandbox->trust_due && sandbox->booting && !sandbox->ending) {
            boot_on_agent(sandbox);
        }
    }
}

/* ---- 4. and 5. the VMM starts ---------------------------------------------------- */

static void on_started(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;
    int rc;

    (void)reply;
    sandbox->start_pending = false;
    if (sandbox->ending) {
        return;
    }
    sandbox_close_fds(sandbox);
    sandbox->started_us = shl_monotonic_us();
    if (code == SHL_EUNAVAILABLE) {
        if (sandbox->exited) {
            watch_judge_exit(sandbox, "the VMM ended before it started the guest");
        }
        return; /* otherwise the process or on_lost tells why */
    }
    if (code < 0) {
        fail(sandbox, code,
             sandbox->restored ? "the guest could not be restored"
                               : "the VMM could not start the guest",
             msg);
        return;
    }
    rc = watch_open_agent(sandbox);
    if (rc < 0) {
        fail(sandbox, rc, "the guest agent cannot be reached", shl_err_text(rc));
        return;
    }
    deadline_apply(sandbox); /* a later one than it was started with */
}

/* Called by watch.c each time the control connection is up. */
void boot_on_control(struct sandbox *sandbox)
{
    int rc;

    if (sandbox->link || sandbox->start_pending || sandbox->stack_fds.base < 0) {
        return;
    }
    rc = start_send(sandbox, on_started);
    if (rc < 0) {
        fail(sandbox, rc, "the VMM could not be told to start", shl_err_text(rc));
        return;
    }
    sandbox->start_pending = true;
}

/* ---- 3. the process -------------------------------------------------------------- */

static void run_join(struct sandbox *sandbox)
{
    sandbox->job_rc = node_cgroup_join(&sandbox->pub.manager->cgroups, sandbox->pub.id,
                                       sandbox->vmm_id.pid, &sandbox->job_err);
}

static void on_joined(struct sandbox *sandbox)
{
    int rc;

    if (sandbox->job_rc < 0) {
        fail(sandbox, sandbox->job_rc, "the VMM could not be limited", sandbox->job_err.msg);
        return;
    }
    rc = watch_open_control(sandbox);
    if (rc < 0) {
        fail(sandbox, rc, "the VMM cannot be reached", shl_err_text(rc));
    }
}

static int attach_network(struct sandbox *sandbox, struct shl_err *err)
{
    struct node_manager *manager = sandbox->pub.manager;
    int rc;

    if (!sandbox->has_slot) {
        return 0;
    }
    guest_attach(sandbox);
    rc = node_net_attach(manager->net, sandbox->pub.id, sandbox->slot,
                         &sandbox->fds[SANDBOX_FD_TAP], err);
    sandbox->attached = rc == 0;
    return rc;
}

/* A user of its own for every VMM, named after the guest's address, which is unique on
 * this machine. Only root can hand that out. */
static bool choose_user(const struct sandbox *sandbox, char text[USER_SIZE])
{
    uint32_t address;

    if (!sandbox->has_slot || geteuid() != 0) {
        return false;
    }
    address = node_net_guest(sandbox->pub.manager->net, sandbox->slot);
    (void)snprintf(text, USER_SIZE, "%u", VMM_UID_BASE + (address & 0x0fffffff));
    return true;
}

static int spawn_vmm(struct sandbox *sandbox, struct shl_err *err)
{
    static char dir_flag[] = "--dir", uid_flag[] = "--uid", gid_flag[] = "--gid";
    char dir[SANDBOX_PATH_MAX];
    char user[USER_SIZE];
    char *args[] = {
        sandbox->pub.manager->vmm_path, dir_flag, dir, uid_flag, user, gid_flag, user, NULL};
    int rc;

    if (!choose_user(sandbox, user)) {
        args[3] = NULL;
    }
    files_run_path(sandbox, dir, "");
    rc = node_process_spawn(sandbox->pub.manager->loop, args, sandbox->fds[SANDBOX_FD_LOG],
                            watch_on_exit, sandbox, &sandbox->process, err);
    if (rc == 0) {
        sandbox->handles++;
        sandbox->vmm_id = *node_process_id(sandbox->process);
        sandbox->spawned_us = shl_monotonic_us();
    }
    return rc;
}

static void start_vmm(struct sandbox *sandbox)
{
    struct shl_err err = {0};

    if (attach_network(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the network of the sandbox could not be set up", err.msg);
    } else if (spawn_vmm(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the VMM could not be started", err.msg);
    } else {
        sandbox_work(sandbox, run_join, on_joined);
    }
}

/* ---- 2. files -------------------------------------------------------------------- */

static void run_prepare(struct sandbox *sandbox)
{
    const struct node_sandbox_spec *spec = &sandbox->pub.spec;
    const struct node_cgroup_limits limits = {
        .cpu_percent = spec->cpus * 100u + SANDBOX_CPU_EXTRA_PERCENT,
        .memory_bytes = (uint64_t)(spec->memory_mb + SANDBOX_OVERHEAD_MB) << 20,
        .pids = SANDBOX_PIDS_MAX,
    };

    sandbox->job_rc = files_prepare(sandbox, &sandbox->job_err);
    if (sandbox->job_rc == 0) {
        sandbox->job_rc = node_cgroup_create(&sandbox->pub.manager->cgroups, sandbox->pub.id,
                                             &limits, &sandbox->job_err);
    }
}

static void on_prepared(struct sandbox *sandbox)
{
    if (sandbox->job_rc < 0) {
        fail(sandbox, sandbox->job_rc, "the sandbox could not be prepared", sandbox->job_err.msg);
        return;
    }
    if (!sandbox->start.base[0]) {
        (void)memcpy(sandbox->start.base, sandbox->found_base, sizeof(sandbox->start.base));
        layers_ref(sandbox->pub.manager, sandbox->start.base);
    }
    start_vmm(sandbox);
}

/* ---- 1. the queue ---------------------------------------------------------------- */

static void on_limit(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;
    char line[NODE_REASON_MAX / 2];

    if (sandbox->trust_due) {
        run_fail(
            sandbox, NODE_SANDBOX_ERROR, SHL_EUNAVAILABLE,
            "this node did not get the authority of its egress gateway from the cluster within "
            "%u s: a sandbox with secrets needs it",
            sandbox->pub.manager->boot_ms / 1000);
        return;
    }
    files_last_line(sandbox, FILES_CONSOLE, line, sizeof(line));
    run_fail(sandbox, NODE_SANDBOX_ERROR, -ETIMEDOUT,
             "the guest did not become ready within %u s%s%s%s",
             sandbox->pub.manager->boot_ms / 1000, line[0] ? "; last line of its console: '" : "",
             line, line[0] ? "'" : "");
}

void boot_extend(struct sandbox *sandbox, uint64_t ms)
{
    (void)uv_timer_start(&sandbox->timer, on_limit, sandbox->pub.manager->boot_ms + ms, 0);
}

static void boot_begin(struct sandbox *sandbox)
{
    sandbox->booting = true;
    sandbox->pub.manager->booting++;
    (void)uv_timer_start(&sandbox->timer, on_limit, sandbox->pub.manager->boot_ms, 0);
    patches_ask(sandbox);
    sandbox_work(sandbox, run_prepare, on_prepared);
}

/* Users first: a template that is being made warm waits behind them. */
void boot_enqueue(struct sandbox *sandbox)
{
    struct shl_list *queue = &sandbox->pub.manager->boot_queue;
    struct shl_list *at = queue;

    if (!sandbox->hidden && !shl_list_empty(queue) &&
        shl_container_of(queue->prev, struct sandbox, queue_node)->hidden) {
        at = queue->prev;
    }
    sandbox->queued = true;
    shl_list_insert_before(at, &sandbox->queue_node);
    boot_pump(sandbox->pub.manager);
}

void boot_pump(struct node_manager *manager)
{
    struct shl_list *node;

    while (!manager->closing && manager->booting < manager->boots_max &&
           (node = shl_list_first(&manager->boot_queue))) {
        struct sandbox *sandbox = shl_container_of(node, struct sandbox, queue_node);

        shl_list_remove(node);
        sandbox->queued = false;
        boot_begin(sandbox);
    }
    warm_pump(manager);
}
