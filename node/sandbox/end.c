/* The end of a sandbox, whatever the cause: everything it has is given back, once.
 *
 * Happy path:
 *  1. sandbox_end: the first reason counts; the state changes and is recorded.
 *  2. end_advance, called again by everything it waits for:
 *     a. a job on the thread pool finishes;
 *     b. the VMM ends: op stop, SIGKILL after stop_ms;
 *     c. links, process handle and timers close;
 *     d. run_remove (thread pool): folders and cgroup.
 *  3. finish: network, memory and boot slot are given back, the last state is recorded,
 *     and whoever waits is told.
 *
 * What can go wrong: the VMM ignores stop (SIGKILL), the record cannot be written or a
 * folder not removed (logged; a restarted daemon cleans up), the daemon goes away in the
 * middle (adopt.c goes on where this stopped).
 *
 * sandbox_let_go is the same without b and d: the daemon leaves, the VM stays.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

/* ---- jobs and handles ------------------------------------------------------------ */

static void on_work(uv_work_t *work)
{
    struct sandbox *sandbox = work->data;

    sandbox->job_run(sandbox);
}

static void on_work_done(uv_work_t *work, int status)
{
    struct sandbox *sandbox = work->data;

    (void)status; /* jobs are never cancelled */
    sandbox->working = false;
    if (!sandbox->ending || sandbox->closed) {
        sandbox->job_done(sandbox);
    } else {
        end_advance(sandbox);
    }
}

void sandbox_work(struct sandbox *sandbox,
                  void (*run)(struct sandbox *sandbox),
                  void (*done)(struct sandbox *sandbox))
{
    int rc SHL_UNUSED;

    assert(!sandbox->working);
    sandbox->working = true;
    sandbox->job_run = run;
    sandbox->job_done = done;
    sandbox->job_rc = 0;
    sandbox->job_err = (struct shl_err){0};
    sandbox->work.data = sandbox;
    rc = uv_queue_work(sandbox->pub.manager->loop, &sandbox->work, on_work, on_work_done);
    assert(rc == 0);
}

void sandbox_handle_closed(void *arg)
{
    struct sandbox *sandbox = arg;

    assert(sandbox->handles > 0);
    sandbox->handles--;
    end_advance(sandbox);
}

static void on_timer_closed(uv_handle_t *handle)
{
    sandbox_handle_closed(handle->data);
}

void sandbox_close_fds(struct sandbox *sandbox)
{
    int i;

    for (i = 0; i < SANDBOX_FD_COUNT; i++) {
        if (sandbox->fds[i] >= 0) {
            (void)close(sandbox->fds[i]);
            sandbox->fds[i] = -1;
        }
    }
}

void sandbox_begin_life(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;

    assert(!sandbox->alive);
    sandbox->alive = true;
    (void)uv_timer_init(manager->loop, &sandbox->timer);
    (void)uv_timer_init(manager->loop, &sandbox->idle);
    sandbox->timer.data = sandbox;
    sandbox->idle.data = sandbox;
    sandbox->handles = 2;
    manager->living++;
    manager->memory_committed_mb += sandbox->pub.spec.memory_mb;
}

/* ---- 3. everything is gone ------------------------------------------------------- */

static void save_or_log(struct sandbox *sandbox)
{
    struct shl_err err = {0};

    if (sandbox_save(sandbox, &err) < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_ERROR, "record_not_saved",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", err.msg));
    }
}

static void give_back(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    struct shl_err err = {0};

    if (sandbox->attached && !sandbox->letting_go) {
        sandbox->attached = false;
        if (node_net_detach(manager->net, sandbox->pub.id, sandbox->slot, &err) < 0) {
            SHL_LOG(&manager->log, SHL_LOG_WARN, "network_rule_left",
                    SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", err.msg));
        }
    }
    if (sandbox->has_slot && !sandbox->letting_go) {
        node_net_give_slot(manager->net, sandbox->slot);
        sandbox->has_slot = false;
    }
    if (sandbox->booting) {
        sandbox->booting = false;
        manager->booting--;
    }
    manager->memory_committed_mb -= sandbox->pub.spec.memory_mb;
    manager->living--;
    sandbox->alive = false;
}

static void answer(struct sandbox *sandbox)
{
    node_create_cb create_cb = sandbox->create_cb;
    struct shl_list *node;

    sandbox->create_cb = NULL;
    if (create_cb) {
        create_cb(sandbox->create_arg, sandbox->end_code, sandbox->end_reason, &sandbox->pub);
    }
    while ((node = shl_list_first(&sandbox->waiters))) {
        struct sandbox_waiter *waiter = shl_container_of(node, struct sandbox_waiter, node);

        shl_list_remove(node);
        waiter->cb(waiter->arg, sandbox->letting_go ? sandbox->end_code : 0,
                   sandbox->letting_go ? sandbox->end_reason : "");
        free(waiter);
    }
}

static void finish(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;

    give_back(sandbox);
    if (!sandbox->letting_go) {
        if (sandbox->end_state == NODE_SANDBOX_STOPPED) {
            sandbox_set_state(sandbox, NODE_SANDBOX_STOPPED, sandbox->end_reason);
        }
        save_or_log(sandbox);
        manager->ended++;
    }
    answer(sandbox);
    boot_pump(manager);
    manager_on_finished(manager);
}

/* ---- 2. step by step ------------------------------------------------------------- */

static void run_remove(struct sandbox *sandbox)
{
    const struct node_manager *manager = sandbox->pub.manager;
    struct shl_err *err = &sandbox->job_err;
    int rc = node_cgroup_remove(&manager->cgroups, sandbox->pub.id, err);

    sandbox->job_rc = files_remove(manager, sandbox->pub.id, rc < 0 ? NULL : err);
    sandbox->job_rc = rc < 0 ? rc : sandbox->job_rc;
}

static void on_removed(struct sandbox *sandbox)
{
    if (sandbox->job_rc < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_ERROR, "sandbox_leftovers",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", sandbox->job_err.msg));
    }
    finish(sandbox);
}

static void on_stop_limit(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;

    (void)node_process_signal(sandbox->process, SIGKILL);
}

static void on_stop_reply(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    (void)arg; /* the end of the process is what counts */
    (void)code;
    (void)msg;
    (void)reply;
}

static void add_no_grace(void *arg, struct shl_mp_writer *w)
{
    (void)arg;
    shl_mp_kv_uint(w, "grace_ms", 0);
}

static void stop_vmm(struct sandbox *sandbox)
{
    if (sandbox->stop_sent) {
        return;
    }
    sandbox->stop_sent = true;
    if (sandbox->control && node_vmm_link_request(sandbox->control, "stop", add_no_grace, NULL, 0,
                                                  on_stop_reply, sandbox) == 0) {
        (void)uv_timer_start(&sandbox->timer, on_stop_limit, sandbox->pub.manager->stop_ms, 0);
        return;
    }
    (void)node_process_signal(sandbox->process, SIGKILL);
}

static void close_handles(struct sandbox *sandbox)
{
    sandbox->closed = true;
    if (sandbox->control) {
        node_vmm_link_close(sandbox->control, sandbox_handle_closed, sandbox);
        sandbox->control = NULL;
    }
    if (sandbox->process) {
        node_process_close(sandbox->process, sandbox_handle_closed, sandbox);
        sandbox->process = NULL;
    }
    uv_close((uv_handle_t *)&sandbox->timer, on_timer_closed);
    uv_close((uv_handle_t *)&sandbox->idle, on_timer_closed);
    sandbox_close_fds(sandbox);
}

void end_advance(struct sandbox *sandbox)
{
    assert(sandbox->ending);
    if (sandbox->working) {
        return;
    }
    if (sandbox->process && !sandbox->exited && !sandbox->letting_go) {
        stop_vmm(sandbox);
        return;
    }
    if (!sandbox->closed) {
        close_handles(sandbox);
        return;
    }
    if (sandbox->handles > 0) {
        return;
    }
    if (!sandbox->removed && !sandbox->letting_go) {
        sandbox->removed = true;
        sandbox_work(sandbox, run_remove, on_removed);
        return;
    }
    finish(sandbox);
}

/* ---- 1. the beginning of the end ------------------------------------------------- */

static void begin_end(struct sandbox *sandbox, int link_code)
{
    sandbox->ending = true;
    if (sandbox->queued) {
        sandbox->queued = false;
        shl_list_remove(&sandbox->queue_node);
    }
    (void)uv_timer_stop(&sandbox->timer);
    (void)uv_timer_stop(&sandbox->idle);
    sandbox->pub.agent = NULL;
    if (sandbox->link) {
        /* at once, so that requests in flight hear it before the VMM is gone */
        node_agent_link_close(sandbox->link, link_code, sandbox->end_reason, sandbox_handle_closed,
                              sandbox);
        sandbox->link = NULL;
    }
}

void sandbox_end(struct sandbox *sandbox,
                 enum node_sandbox_state state,
                 int code,
                 const char *fmt,
                 ...)
{
    va_list args;

    assert(state == NODE_SANDBOX_STOPPED || state == NODE_SANDBOX_ERROR);
    assert(code < 0);
    if (sandbox->ending) {
        return;
    }
    sandbox->end_state = state;
    sandbox->end_code = code;
    va_start(args, fmt);
    (void)vsnprintf(sandbox->end_reason, sizeof(sandbox->end_reason), fmt, args);
    va_end(args);
    sandbox_set_state(sandbox,
                      state == NODE_SANDBOX_ERROR ? NODE_SANDBOX_ERROR : NODE_SANDBOX_STOPPING,
                      sandbox->end_reason);
    save_or_log(sandbox);
    begin_end(sandbox, SHL_EGONE);
    end_advance(sandbox);
}

void sandbox_let_go(struct sandbox *sandbox)
{
    if (sandbox->ending) {
        return; /* the end goes on; it is bounded by stop_ms */
    }
    sandbox->letting_go = true;
    sandbox->end_code = SHL_EUNAVAILABLE;
    (void)snprintf(sandbox->end_reason, sizeof(sandbox->end_reason),
                   "the node daemon is being stopped");
    if (sandbox->process && sandbox->pub.state == NODE_SANDBOX_CREATING) {
        /* never usable: the next daemon would only throw it away */
        (void)node_process_signal(sandbox->process, SIGKILL);
    }
    begin_end(sandbox, SHL_EUNAVAILABLE);
    end_advance(sandbox);
}
