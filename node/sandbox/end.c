/* The end of a run, and of a sandbox: everything it has is given back, once.
 *
 * Happy path:
 *  1. run_end (the sandbox lives on) or sandbox_end (it does not; the first reason counts,
 *     the state changes and is recorded).
 *  2. end_advance, called again by everything it waits for:
 *     a. a job on the thread pool finishes;
 *     b. the VMM ends: op stop, SIGKILL after stop_ms;
 *     c. links and process handle close, a snapshot under way is over;
 *     d. run_remove (thread pool): folder and cgroup;
 *     e. network, memory and boot slot are given back. The run is over: after_run goes on.
 *  3. When the sandbox ends: timers close, the last state is recorded, layers are
 *     given back, and whoever waits is told.
 *
 * What can go wrong: the VMM ignores stop (SIGKILL), the record cannot be written or a
 * folder not removed (logged; a restarted daemon cleans up), the daemon goes away in the
 * middle (adopt.c goes on where this stopped), a kill while a run ends that was to be
 * followed by another (it is not followed).
 *
 * sandbox_let_go is the same without b and d: the daemon leaves, the VM stays.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/layers.h"
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
    if (sandbox->removing || !(sandbox->ending || sandbox->over)) {
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
    if (sandbox->ending || sandbox->over) {
        end_advance(sandbox);
    }
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
    node_stack_close(&sandbox->stack_fds);
}

void sandbox_set_stack(struct sandbox *sandbox, const struct node_stack *stack)
{
    struct node_stack before = sandbox->stack;

    node_stack_ref(sandbox->pub.manager, stack);
    sandbox->stack = *stack;
    node_stack_unref(sandbox->pub.manager, &before);
}

static void drop_layer(struct sandbox *sandbox, struct node_layer_id *id)
{
    struct node_layer_id gone = *id;

    id->hex[0] = '\0';
    layers_unref(sandbox->pub.manager, gone.hex);
}

/* ---- beginnings ------------------------------------------------------------------ */

void sandbox_begin_life(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    uv_timer_t *timers[] = {&sandbox->timer, &sandbox->idle, &sandbox->op_timer,
                            &sandbox->go_timer};
    size_t i;

    assert(!sandbox->alive);
    sandbox->alive = true;
    for (i = 0; i < SHL_ARRAY_SIZE(timers); i++) {
        (void)uv_timer_init(manager->loop, timers[i]);
        timers[i]->data = sandbox;
    }
    manager->alive++;
}

void run_begin(struct sandbox *sandbox, const struct node_stack *start)
{
    struct node_manager *manager = sandbox->pub.manager;

    assert(sandbox->alive && !sandbox->run && !sandbox->ending);
    sandbox->run = true;
    sandbox->start = *start;
    node_stack_ref(manager, start);
    sandbox->restored = start->state.hex[0] != '\0';
    sandbox->start_pending = false;
    sandbox->trust_due = false;
    sandbox->exited = false;
    sandbox->stop_sent = false;
    sandbox->closed = false;
    sandbox->removing = false;
    sandbox->no_merge = false;
    patches_forget(sandbox);
    sandbox->patches_over = false;
    sandbox->run_patched = sandbox->pub.spec.patched;
    (void)memcpy(sandbox->run_patch_error, sandbox->pub.spec.patch_error,
                 sizeof(sandbox->run_patch_error));
    sandbox->layers_due = false;
    sandbox->tell_failed = false;
    sandbox->resume_due = false;
    sandbox->thaw_due = false;
    sandbox->shutting_down = false;
    sandbox->paused = sandbox->pause_due = sandbox->pausing = false;
    sandbox->deadline_telling = sandbox->deadline_unknown = sandbox->deadline_refused = false;
    sandbox->struck = false;
    sandbox->vmm_id = (struct node_process_id){0};
    sandbox->began_us = shl_monotonic_us();
    if (!sandbox->hidden || sandbox->builder) { /* none is refused because of a warm template */
        manager->living++;
        manager->memory_committed_mb += sandbox->pub.spec.memory_mb;
        manager->cpus_committed += sandbox->pub.spec.cpus;
    }
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

static void answer(struct sandbox *sandbox)
{
    node_create_cb create_cb = sandbox->create_cb;
    int code = sandbox->letting_go ? sandbox->end_code : 0;
    const char *reason = sandbox->end_reason;

    sandbox->create_cb = NULL;
    if (create_cb) {
        create_cb(sandbox->create_arg, sandbox->end_code, reason, &sandbox->pub);
    }
    waiters_answer(&sandbox->wakers, sandbox->end_code, reason);
    waiters_answer(&sandbox->sleepers, sandbox->end_code, reason);
    reboot_answer(sandbox, sandbox->end_code, reason);
    waiters_answer(&sandbox->waiters, code, sandbox->letting_go ? reason : "");
}

static void finish(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    const struct node_stack nothing = {0};

    sandbox->alive = false;
    manager->alive--;
    if (sandbox->letting_go) {
        switch_drop(sandbox);
    } else {
        saves_on_ended(sandbox, sandbox->moved);
        sandbox->durable = sandbox->end_state;
        if (sandbox->end_state == NODE_SANDBOX_STOPPED) {
            sandbox_set_state(sandbox, NODE_SANDBOX_STOPPED, sandbox->end_reason);
        }
        switch_drop(sandbox);
        sandbox_set_stack(sandbox, &nothing);
        sandbox->pub.saved_bytes = 0;
        save_or_log(sandbox);
        manager->ended += !sandbox->hidden;
    }
    gate_forget(sandbox);
    patches_forget(sandbox);
    answer(sandbox);
    boot_pump(manager);
    if (sandbox->hidden) {
        sandbox_free(sandbox);
    } else if (sandbox->moved && !sandbox->letting_go) {
        manager_drop_moved(manager);
    }
    manager_on_finished(manager);
}

/* ---- 2. step by step ------------------------------------------------------------- */

static void detach(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;
    struct shl_err err = {0};

    if (sandbox->attached) {
        sandbox->attached = false;
        if (node_net_detach(manager->net, sandbox->pub.id, sandbox->slot, &err) < 0) {
            SHL_LOG(&manager->log, SHL_LOG_WARN, "network_rule_left",
                    SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", err.msg));
        }
    }
    if (sandbox->has_slot) {
        guest_detach(sandbox);
        node_net_give_slot(manager->net, sandbox->slot);
        sandbox->has_slot = false;
        sandbox->had_slot = true;
    }
}

/* What a run that was let go writes stays named by its record, so only the counts go. */
static void give_back(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;

    if (!sandbox->letting_go) {
        detach(sandbox);
        drop_layer(sandbox, &sandbox->overlay);
        drop_layer(sandbox, &sandbox->next);
    }
    node_stack_unref(manager, &sandbox->start);
    sandbox->start = (struct node_stack){0};
    if (sandbox->booting) {
        sandbox->booting = false;
        manager->booting--;
    }
    if (!sandbox->hidden || sandbox->builder) {
        manager->memory_committed_mb -= sandbox->pub.spec.memory_mb;
        manager->cpus_committed -= sandbox->pub.spec.cpus;
        manager->living--;
    }
    sandbox->run = false;
}

static void run_remove(struct sandbox *sandbox)
{
    const struct node_manager *manager = sandbox->pub.manager;
    struct shl_err *err = &sandbox->job_err;
    int rc = node_cgroup_remove(&manager->cgroups, sandbox->pub.id, err);

    if (sandbox->over && sandbox->end_state == NODE_SANDBOX_ERROR) {
        remains_keep(sandbox);
    }
    sandbox->job_rc = files_remove(manager, sandbox->pub.id, rc < 0 ? NULL : err);
    sandbox->job_rc = rc < 0 ? rc : sandbox->job_rc;
}

static void on_removed(struct sandbox *sandbox)
{
    if (sandbox->job_rc < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_ERROR, "sandbox_leftovers",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", sandbox->job_err.msg));
    }
    give_back(sandbox);
    end_advance(sandbox);
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

static void close_run(struct sandbox *sandbox)
{
    sandbox->closed = true;
    (void)uv_timer_stop(&sandbox->timer);
    (void)uv_timer_stop(&sandbox->go_timer);
    if (sandbox->control) {
        node_vmm_link_close(sandbox->control, sandbox_handle_closed, sandbox);
        sandbox->control = NULL;
    }
    if (sandbox->process) {
        node_process_close(sandbox->process, sandbox_handle_closed, sandbox);
        sandbox->process = NULL;
    }
    sandbox_close_fds(sandbox);
}

static void close_timers(struct sandbox *sandbox)
{
    sandbox->timers_closed = true;
    sandbox->handles += 4;
    uv_close((uv_handle_t *)&sandbox->timer, on_timer_closed);
    uv_close((uv_handle_t *)&sandbox->idle, on_timer_closed);
    uv_close((uv_handle_t *)&sandbox->op_timer, on_timer_closed);
    uv_close((uv_handle_t *)&sandbox->go_timer, on_timer_closed);
}

/* True when the run is over; otherwise whatever it waits for comes back here. */
static bool advance_run(struct sandbox *sandbox)
{
    if (!sandbox->run) {
        return true;
    }
    if (sandbox->process && !sandbox->exited && !sandbox->letting_go) {
        stop_vmm(sandbox);
        return false;
    }
    if (!sandbox->closed) {
        close_run(sandbox);
    }
    if (sandbox->handles > 0) {
        return false;
    }
    if (sandbox->letting_go) {
        give_back(sandbox);
        return true;
    }
    if (!sandbox->removing) {
        sandbox->removing = true;
        sandbox_work(sandbox, run_remove, on_removed);
    }
    return false;
}

void end_advance(struct sandbox *sandbox)
{
    void (*after)(struct sandbox * sandbox) = sandbox->after_run;

    assert(sandbox->ending || sandbox->over);
    if (sandbox->working || !advance_run(sandbox)) {
        return;
    }
    if (!sandbox->over && !sandbox->letting_go) {
        sandbox->ending = false;
        sandbox->removing = false;
        sandbox->after_run = NULL;
        boot_pump(sandbox->pub.manager);
        after(sandbox);
    } else if (!sandbox->timers_closed) {
        close_timers(sandbox);
    } else if (sandbox->handles == 0) {
        finish(sandbox);
    }
}

/* ---- 1. the beginning of the end ------------------------------------------------- */

static void begin_end(struct sandbox *sandbox, int link_code, const char *msg)
{
    sandbox->ending = true;
    sandbox->draining = false;
    if (sandbox->queued) {
        sandbox->queued = false;
        shl_list_remove(&sandbox->queue_node);
    }
    if (!sandbox->stop_sent) {
        (void)uv_timer_stop(&sandbox->timer);
    }
    (void)uv_timer_stop(&sandbox->idle);
    (void)uv_timer_stop(&sandbox->op_timer);
    sandbox->pub.agent = NULL;
    snapshot_refuse_waiting(sandbox, link_code, msg);
    if (sandbox->link) {
        /* at once, so that requests in flight hear it before the VMM is gone */
        node_agent_link_close(sandbox->link, link_code, msg, sandbox_handle_closed, sandbox);
        sandbox->link = NULL;
    }
}

void run_end(struct sandbox *sandbox,
             void (*after)(struct sandbox *sandbox),
             int code,
             const char *msg)
{
    assert(sandbox->run && !sandbox->ending);
    sandbox->after_run = after;
    sandbox->run_code = code;
    (void)snprintf(sandbox->run_reason, sizeof(sandbox->run_reason), "%s", msg);
    begin_end(sandbox, code < 0 ? code : SHL_EUNAVAILABLE, sandbox->run_reason);
    end_advance(sandbox);
}

void run_fail(struct sandbox *sandbox,
              enum node_sandbox_state state,
              int code,
              const char *fmt,
              ...)
{
    char reason[NODE_REASON_MAX];
    va_list args;

    if (sandbox->ending || sandbox->over) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);
    if (sandbox->pub.state == NODE_SANDBOX_WAKING ||
        (sandbox->pub.state == NODE_SANDBOX_CREATING && wake_is_useless(sandbox, code))) {
        run_end(sandbox, wake_failed, code, reason);
    } else {
        sandbox_end(sandbox, state, code, "%s", reason);
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
    if (sandbox->over || sandbox->letting_go) {
        return;
    }
    sandbox->over = true;
    sandbox->end_state = state;
    sandbox->end_code = code;
    va_start(args, fmt);
    (void)vsnprintf(sandbox->end_reason, sizeof(sandbox->end_reason), fmt, args);
    va_end(args);
    sandbox->durable = state == NODE_SANDBOX_ERROR ? NODE_SANDBOX_ERROR : NODE_SANDBOX_STOPPING;
    sandbox_set_state(sandbox, sandbox->durable, sandbox->end_reason);
    save_or_log(sandbox);
    if (!sandbox->ending) {
        begin_end(sandbox, SHL_EGONE, sandbox->end_reason);
    }
    end_advance(sandbox);
}

/* What it has elsewhere is not touched: the records that would say so go first. */
static int forget(struct sandbox *sandbox, struct shl_err *err)
{
    int rc = node_store_delete(sandbox->pub.manager->store, SANDBOX_KIND, sandbox->pub.id, err);

    if (rc == 0) {
        sandbox->moved = true;
        saves_on_ended(sandbox, true);
    }
    return rc;
}

void node_sandbox_let_go(struct node_manager *manager,
                         struct node_sandbox *pub,
                         const char *reason,
                         node_kill_cb cb,
                         void *arg)
{
    struct sandbox *sandbox = sandbox_of(pub);
    struct shl_err err = {0};

    if (sandbox->letting_go || manager->closing) {
        answer_later(manager, cb, arg, SHL_EUNAVAILABLE, "the node daemon is being stopped");
    } else if (!sandbox->over && forget(sandbox, &err) < 0) {
        answer_later(manager, cb, arg, err.code, err.msg);
    } else if (!sandbox->alive) {
        answer_later(manager, cb, arg, 0, "");
        manager_drop_moved(manager);
    } else if (waiter_add(&sandbox->waiters, cb, arg) < 0) {
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory");
        sandbox_end(sandbox, NODE_SANDBOX_STOPPED, SHL_EGONE, "%s", reason);
    } else {
        SHL_LOG(&manager->log, SHL_LOG_WARN, "sandbox_let_go", SHL_S("sandbox", pub->id),
                SHL_S("reason", reason));
        if (sandbox->process) {
            (void)node_process_signal(sandbox->process, SIGKILL);
        }
        sandbox_end(sandbox, NODE_SANDBOX_STOPPED, SHL_EGONE, "%s", reason);
    }
}

void sandbox_let_go(struct sandbox *sandbox)
{
    if (sandbox->over) {
        return; /* the end goes on; it is bounded by stop_ms */
    }
    gate_forget(sandbox);
    patches_forget(sandbox);
    sandbox->letting_go = true;
    sandbox->end_code = SHL_EUNAVAILABLE;
    (void)snprintf(sandbox->end_reason, sizeof(sandbox->end_reason),
                   "the node daemon is being stopped");
    if (sandbox->process && sandbox->durable != NODE_SANDBOX_RUNNING) {
        /* not usable, or saved: the next daemon would only throw it away */
        (void)node_process_signal(sandbox->process, SIGKILL);
    }
    if (!sandbox->ending) {
        begin_end(sandbox, SHL_EUNAVAILABLE, sandbox->end_reason);
    }
    end_advance(sandbox);
}
