/* From hibernated to running, and who waits for that.
 *
 * Happy path:
 *  0. wake_ask: when other nodes may have it, too, the gate says whether it may run here.
 *  1. wake_begin: memory, place and address are admitted; a run begins (boot.c does the
 *     rest) on the layers of the record and a new overlay.
 *  2. boot.c saves the record as running and answers all who wait.
 *
 * What can go wrong:
 *  - the gate refuses: still hibernated, the callers are told;
 *  - no capacity: still hibernated, the callers are told;
 *  - the memory cannot be restored here (another CPU, version, damaged): one boot from
 *    the disk instead, cold_woken tells;
 *  - anything else in between: the run and its overlay are thrown away, it is hibernated
 *    as before, the callers are told why;
 *  - restore in place (reboot.c) fails: it wakes from its own layers again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

static bool is_plain_create(const struct sandbox *sandbox)
{
    return sandbox->pub.state == NODE_SANDBOX_CREATING && !sandbox->pub.from_checkpoint[0];
}

bool wake_is_useless(const struct sandbox *sandbox, int code)
{
    /* a hidden one is restored to see whether that works */
    return sandbox->restored && (!sandbox->hidden || sandbox->builder) &&
           (code == SHL_EVERSION || code == SHL_ECORRUPT || code == SHL_EINCOMPATIBLE ||
            (code == -ENOENT && is_plain_create(sandbox)));
}

/* Nobody can wait any longer for this wake. */
static void refuse(struct sandbox *sandbox, int code, const char *msg)
{
    node_sandbox_ref(&sandbox->pub);
    reboot_answer(sandbox, code, msg);
    waiters_answer(&sandbox->wakers, code, msg);
    if (sandbox->pub.state == NODE_SANDBOX_HIBERNATED) {
        waiters_answer(&sandbox->sleepers, 0, "");
    }
    node_sandbox_unref(&sandbox->pub);
}

/* The address it had, if it can be: what its programs have open goes on then, or ends at once.
 * Under another one they would wait for answers that never come. */
static int take_slot(struct sandbox *sandbox)
{
    struct node_net *net = sandbox->pub.manager->net;

    if (sandbox->had_slot && node_net_take_slot_again(net, sandbox->slot) == 0) {
        return 0;
    }
    return node_net_take_slot(net, &sandbox->slot);
}

static int admit(struct sandbox *sandbox, struct shl_err *err)
{
    struct node_manager *manager = sandbox->pub.manager;
    int rc = sandbox_admit(manager, &sandbox->pub.spec, err);

    if (rc == 0 && manager->net) {
        rc = take_slot(sandbox);
        sandbox->has_slot = rc == 0;
        if (rc < 0) {
            (void)shl_err_set(err, rc, "the address pool of this node is used up");
        }
    }
    return rc;
}

static void begin_run(struct sandbox *sandbox)
{
    struct node_stack start = sandbox->switch_to ? *sandbox->switch_to : sandbox->stack;

    if (sandbox->cold) {
        start.state.hex[0] = '\0';
    }
    (void)snprintf(sandbox->machine_boot_id, sizeof(sandbox->machine_boot_id), "%s",
                   sandbox->pub.manager->machine_boot_id);
    run_begin(sandbox, &start);
    layers_new(sandbox->pub.manager, &sandbox->overlay);
    boot_enqueue(sandbox);
}

void wake_begin(struct sandbox *sandbox)
{
    struct shl_err err = {0};

    sandbox->cold = false;
    if (admit(sandbox, &err) < 0) {
        sandbox->rebooting = false;
        switch_drop(sandbox);
        refuse(sandbox, err.code, err.msg);
        return;
    }
    sandbox_set_state(sandbox, NODE_SANDBOX_WAKING, "");
    begin_run(sandbox);
}

/* ---- the gate -------------------------------------------------------------------- */

/* Lives until it is answered; the sandbox may be gone before that. */
struct gate_call {
    struct sandbox *sandbox; /* NULL: not interested any more */
};

void gate_forget(struct sandbox *sandbox)
{
    if (sandbox->gate_call) {
        sandbox->gate_call->sandbox = NULL;
        sandbox->gate_call = NULL;
    }
}

static void on_gate(void *arg, int code, const char *msg)
{
    struct gate_call *call = arg;
    struct sandbox *sandbox = call->sandbox;

    free(call);
    if (!sandbox) {
        return;
    }
    sandbox->gate_call = NULL;
    if (sandbox->pub.state != NODE_SANDBOX_HIBERNATED || sandbox->over || sandbox->letting_go) {
        return; /* who waited heard it, or will */
    }
    if (code < 0) {
        SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "wake_refused",
                SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", msg));
        switch_drop(sandbox);
        refuse(sandbox, code, msg);
        return;
    }
    wake_begin(sandbox);
}

/* Nothing of it is anywhere else: nobody else can run it. */
static bool is_ours_alone(const struct sandbox *sandbox)
{
    return !sandbox->imported && !saves_any_ready(sandbox);
}

void wake_ask(struct sandbox *sandbox)
{
    struct node_manager *manager = sandbox->pub.manager;

    if (sandbox->gate_call) {
        return; /* they share the answer */
    }
    deadline_forget(sandbox); /* whoever allows this run says its own */
    if (!manager->gate || is_ours_alone(sandbox)) {
        wake_begin(sandbox);
        return;
    }
    sandbox->gate_call = calloc(1, sizeof(*sandbox->gate_call));
    if (!sandbox->gate_call) {
        switch_drop(sandbox);
        refuse(sandbox, -ENOMEM, "there is not enough memory to wake a sandbox");
        return;
    }
    sandbox->gate_call->sandbox = sandbox;
    manager->gate(manager->gate_arg, &sandbox->pub, on_gate, sandbox->gate_call);
}

void node_manager_set_gate(struct node_manager *manager, node_gate gate, void *arg)
{
    manager->gate = gate;
    manager->gate_arg = arg;
}

static void on_wake(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;

    if (sandbox->pub.state == NODE_SANDBOX_HIBERNATED) {
        wake_ask(sandbox);
    }
}

void wake_later(struct sandbox *sandbox)
{
    (void)uv_timer_start(&sandbox->op_timer, on_wake, 0, 0);
}

/* ---- failures -------------------------------------------------------------------- */

/* The same again without the memory; the address and the place are taken anew. */
static void try_cold(struct sandbox *sandbox)
{
    struct shl_err err = {0};

    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "memory_not_restored",
            SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", sandbox->run_reason),
            SHL_S("effect", "it boots from its disk"));
    if (is_plain_create(sandbox)) {
        const struct node_stack nothing = {0};

        warm_is_bad(sandbox->pub.manager, sandbox->stack.warm);
        sandbox_set_stack(sandbox, &nothing);
    }
    if (admit(sandbox, &err) == 0) {
        sandbox->cold = true;
        begin_run(sandbox);
    } else if (sandbox->pub.state == NODE_SANDBOX_CREATING) {
        sandbox_end(sandbox, NODE_SANDBOX_ERROR, err.code, "%s", err.msg);
    } else {
        sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATED, "");
        refuse(sandbox, err.code, err.msg);
    }
}

/* Restore in place did not work: back to its own layers, and then the reason is told. */
static void switch_back(struct sandbox *sandbox)
{
    sandbox->switch_code = sandbox->run_code;
    (void)snprintf(sandbox->switch_msg, sizeof(sandbox->switch_msg), "%s", sandbox->run_reason);
    switch_drop(sandbox);
    sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATED, "");
    wake_begin(sandbox);
}

void wake_failed(struct sandbox *sandbox)
{
    bool useless = wake_is_useless(sandbox, sandbox->run_code);

    if (useless && !sandbox->cold) {
        try_cold(sandbox);
        return;
    }
    SHL_LOG(&sandbox->pub.manager->log, SHL_LOG_WARN, "not_woken",
            SHL_S("sandbox", sandbox->pub.id), SHL_S("reason", sandbox->run_reason));
    sandbox->cold = false;
    sandbox->rebooting = false;
    if (sandbox->switch_to) {
        switch_back(sandbox);
        return;
    }
    sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATED, "");
    refuse(sandbox, sandbox->run_code, sandbox->run_reason);
}

/* ---- callers --------------------------------------------------------------------- */

void node_manager_wake(struct node_manager *manager,
                       struct node_sandbox *pub,
                       const uint32_t *timeout_s,
                       node_sandbox_cb cb,
                       void *arg)
{
    struct sandbox *sandbox = sandbox_of(pub);

    if (!sandbox->alive || sandbox->over || sandbox->letting_go) {
        answer_later(manager, cb, arg, SHL_EBADSTATE, "sandbox is not running");
        return;
    }
    if (timeout_s) {
        int rc = node_sandbox_set_timeout(pub, *timeout_s);

        if (rc < 0) {
            answer_later(manager, cb, arg, rc, "the timeout could not be recorded");
            return;
        }
    }
    if (pub->state == NODE_SANDBOX_RUNNING && !sandbox->paused) {
        node_sandbox_touch(pub);
        answer_later(manager, cb, arg, 0, "");
        return;
    }
    if (waiter_add(&sandbox->wakers, cb, arg) < 0) {
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory to wake a sandbox");
        return;
    }
    if (pub->state == NODE_SANDBOX_HIBERNATED) {
        wake_later(sandbox);
    }
}

int node_sandbox_need(struct node_sandbox *pub, node_sandbox_cb cb, void *arg, struct shl_err *err)
{
    struct sandbox *sandbox = sandbox_of(pub);
    int rc;

    if (!sandbox->alive || sandbox->over) {
        return shl_err_set(err, SHL_EGONE, "the sandbox has ended: %s", pub->reason);
    }
    if (sandbox->letting_go || pub->manager->closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node daemon is being stopped");
    }
    if (pub->state == NODE_SANDBOX_RUNNING && pub->agent && !sandbox->paused) {
        return 1;
    }
    rc = waiter_add(&sandbox->wakers, cb, arg);
    if (rc < 0) {
        return shl_err_set(err, rc, "there is not enough memory");
    }
    if (pub->state == NODE_SANDBOX_HIBERNATED) {
        wake_later(sandbox);
    }
    return 0;
}
