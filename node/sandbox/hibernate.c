/* From running to hibernated.
 *
 * Happy path:
 *  1. hibernate_begin: new calls wait from here on; those in flight get
 *     HIBERNATE_DRAIN_MS to end.
 *  2. The last snapshot: memory, state and disk are on disk, the VM stands still.
 *  3. The record is saved as hibernated: this is the moment it happens.
 *  4. The run ends (the calls that are still in flight hear it); whoever waited is told.
 *     Somebody waits for it to run again: it wakes at once.
 *
 * What can go wrong: 2 or 3 fails (full disk, silent guest): the VM goes on, those who
 * asked hear why, those who called meanwhile go on. On idle it is tried
 * again, rarer each time; a sandbox is never ended because it cannot be saved.
 * The VMM dies before 2 is done: the sandbox ends with an error. The daemon dies: before 3
 * the next one lets the VM go on, after 3 it removes what is left of it.
 */
#include <errno.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define HIBERNATE_DRAIN_MS 3000
#define RETRY_MIN_MS       60000
#define RETRY_MAX_SHIFT    6 /* 64 minutes */
#define HIBERNATED_MSG     "the sandbox was hibernated"

/* ---- 4. over --------------------------------------------------------------------- */

static void after_hibernate(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;

    sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATED, "");
    manager->hibernations++;
    node_sandbox_ref(&sandbox->pub);
    waiters_answer(&sandbox->sleepers, 0, "");
    saves_on_hibernated(sandbox);
    if (sandbox->switch_to || !shl_list_empty(&sandbox->wakers)) {
        wake_ask(sandbox);
    }
    merge_consider(sandbox);
    node_sandbox_unref(&sandbox->pub);
}

/* ---- failures -------------------------------------------------------------------- */

static void retry_later(struct sandbox *sandbox)
{
    uint32_t shift = SHL_MIN(sandbox->idle_failures, (uint32_t)RETRY_MAX_SHIFT);

    sandbox->idle_failures++;
    idle_start_after(sandbox, (uint64_t)RETRY_MIN_MS << shift);
}

static void hibernate_failed(struct sandbox *sandbox, int code, const char *msg)
{
    bool on_idle = shl_list_empty(&sandbox->sleepers) && !sandbox->switch_to;

    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "not_hibernated",
            SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg));
    sandbox_set_state(sandbox, NODE_SANDBOX_RUNNING, "");
    sandbox->pub.agent = sandbox->link;
    if (on_idle) {
        retry_later(sandbox);
    } else {
        idle_start(sandbox);
    }
    node_sandbox_ref(&sandbox->pub);
    waiters_answer(&sandbox->sleepers, code, msg);
    switch_drop(sandbox);
    reboot_answer(sandbox, code, msg);
    if (sandbox->paused) {
        pause_apply(sandbox); /* they wait for its end */
    } else {
        waiters_answer(&sandbox->wakers, 0, "");
        deadline_go_on(sandbox); /* it may have come meanwhile */
    }
    node_sandbox_unref(&sandbox->pub);
}

/* ---- 3. the record --------------------------------------------------------------- */

static int record_hibernated(struct sandbox *sandbox,
                             const struct node_stack *stack,
                             uint64_t bytes,
                             struct shl_err *err)
{
    struct node_stack before = sandbox->stack;
    int rc;

    sandbox->stack = *stack;
    sandbox->durable = NODE_SANDBOX_HIBERNATED;
    sandbox->pub.saved_bytes = bytes;
    rc = sandbox_save(sandbox, err);
    sandbox->stack = before;
    if (rc < 0) {
        sandbox->durable = NODE_SANDBOX_RUNNING;
        sandbox->pub.saved_bytes = 0;
        return rc;
    }
    sandbox_set_stack(sandbox, stack);
    return 0;
}

static void log_hibernated(const struct sandbox *sandbox,
                           const struct sandbox_snapshot_stats *stats)
{
    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_INFO, "sandbox_hibernated",
            SHL_S("sandbox", sandbox->pub.id),
            SHL_I("ms", (int64_t)((shl_monotonic_us() - sandbox->began_us) / 1000)),
            SHL_I("vmm_us", (int64_t)stats->pause_us), SHL_I("pages", (int64_t)stats->dirty_pages),
            SHL_I("mem_bytes", (int64_t)stats->mem_bytes),
            SHL_I("disk_bytes", (int64_t)stats->disk_bytes),
            SHL_I("state_bytes", (int64_t)stats->state_bytes));
}

static void on_snapshot(void *arg,
                        int code,
                        const char *msg,
                        const struct node_stack *stack,
                        const struct sandbox_snapshot_stats *stats)
{
    struct sandbox *sandbox = arg;
    struct shl_err err = {0};

    if (sandbox->ending || sandbox->over) {
        if (stack) {
            node_stack_unref(sandbox->pub.manager, stack);
        }
        return;
    }
    if (code < 0 && sandbox->exited) {
        watch_judge_exit(sandbox, "the VMM was killed");
        return;
    }
    if (code < 0) {
        hibernate_failed(sandbox, code, msg);
        return;
    }
    code = record_hibernated(sandbox, stack,
                             stats->mem_bytes + stats->state_bytes + stats->disk_bytes, &err);
    node_stack_unref(sandbox->pub.manager, stack);
    if (code < 0 && sandbox->exited) {
        watch_judge_exit(sandbox, "the VMM was killed");
    } else if (code < 0) {
        sandbox->resume_due = true;
        sandbox->thaw_due = true;
        hibernate_failed(sandbox, code, err.msg);
        go_on(sandbox);
    } else {
        sandbox->idle_failures = 0;
        log_hibernated(sandbox, stats);
        run_end(sandbox, after_hibernate, SHL_EUNAVAILABLE, HIBERNATED_MSG);
    }
}

/* ---- 1. and 2. ------------------------------------------------------------------- */

static void take_snapshot(struct sandbox *sandbox)
{
    int rc;

    (void)uv_timer_stop(&sandbox->idle);
    sandbox->draining = false;
    rc = sandbox_snapshot(sandbox, SANDBOX_SNAPSHOT_LAST, on_snapshot, sandbox);
    if (rc < 0) {
        hibernate_failed(sandbox, rc, shl_err_text(rc));
    }
}

static void on_drain_limit(uv_timer_t *timer)
{
    take_snapshot(timer->data);
}

void hibernate_on_release(struct sandbox *sandbox)
{
    if (sandbox->draining && sandbox->holds == 0) {
        /* from the loop: whoever released may be in the middle of something */
        (void)uv_timer_start(&sandbox->idle, on_drain_limit, 0, 0);
    }
}

void hibernate_begin(struct sandbox *sandbox)
{
    idle_stop(sandbox);
    sandbox->began_us = shl_monotonic_us();
    sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATING, "");
    sandbox->draining = true;
    (void)uv_timer_start(&sandbox->idle, on_drain_limit,
                         sandbox->holds > 0 ? HIBERNATE_DRAIN_MS : 0, 0);
}

void node_manager_hibernate(struct node_manager *manager,
                            struct node_sandbox *pub,
                            node_sandbox_cb cb,
                            void *arg)
{
    struct sandbox *sandbox = sandbox_of(pub);
    enum node_sandbox_state state = pub->state;

    if (state == NODE_SANDBOX_HIBERNATED) {
        answer_later(manager, cb, arg, 0, "");
    } else if (sandbox->over || sandbox->letting_go || manager->closing || !sandbox->alive) {
        answer_later(manager, cb, arg, SHL_EBADSTATE, "sandbox is not running");
    } else if (waiter_add(&sandbox->sleepers, cb, arg) < 0) {
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory to hibernate");
    } else if (state == NODE_SANDBOX_RUNNING && !sandbox->paused) {
        hibernate_begin(sandbox);
    } /* else: as soon as what is under way ends: tell() in boot.c, wake_failed, pause.c */
}
