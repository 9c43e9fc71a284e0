/* Reboot and restore in place: one run ends, another begins, the sandbox is the same.
 *
 * Happy path of a reboot:
 *  1. The record says: hibernated, its disk is this, there is no memory. So whatever
 *     happens from here on, it can be woken.
 *  2. Soft: the agent shuts the guest down and the VMM ends. Hard: the VMM is stopped.
 *  3. after_reboot: a wake from the disk.
 * Restore in place: hibernate, then wake from the other stack (wake.c tries the own
 * one when that fails). One that is hibernated already starts with the second part.
 *
 * What can go wrong: the guest does not shut down in time (the VMM is stopped), 3 fails
 * (it stays hibernated, the caller is told).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define REQUEST_MAX   1024
#define REBOOTING_MSG "the sandbox is being rebooted"

void reboot_answer(struct sandbox *sandbox, int code, const char *msg)
{
    char text[NODE_REASON_MAX];

    if (sandbox->switch_code < 0) {
        code = sandbox->switch_code;
        (void)snprintf(text, sizeof(text), "%s", sandbox->switch_msg);
        sandbox->switch_code = 0;
        waiters_answer(&sandbox->reboots, code, text);
        return;
    }
    if (code == 0) {
        switch_drop(sandbox);
    }
    waiters_answer(&sandbox->reboots, code, msg);
}

void switch_drop(struct sandbox *sandbox)
{
    struct node_stack *stack = sandbox->switch_to;

    sandbox->switch_to = NULL;
    if (stack) {
        node_stack_unref(sandbox->pub.manager, stack);
        free(stack);
    }
}

/* ---- reboot ---------------------------------------------------------------------- */

static void after_reboot(struct sandbox *sandbox)
{
    sandbox_set_state(sandbox, NODE_SANDBOX_HIBERNATED, "");
    wake_begin(sandbox);
}

static void take_down(struct sandbox *sandbox)
{
    (void)uv_timer_stop(&sandbox->op_timer);
    sandbox->shutting_down = false;
    run_end(sandbox, after_reboot, SHL_EUNAVAILABLE, REBOOTING_MSG);
}

void reboot_on_exit(struct sandbox *sandbox)
{
    take_down(sandbox);
}

static void on_shutdown_limit(uv_timer_t *timer)
{
    take_down(timer->data);
}

static void on_shutdown(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct sandbox *sandbox = arg;

    (void)response;
    (void)msg;
    if (code < 0 && code != SHL_EUNAVAILABLE && sandbox->shutting_down && !sandbox->ending) {
        take_down(sandbox); /* the guest refuses; otherwise its VMM ends soon */
    }
}

static int send_shutdown(struct sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_shutdown};
    struct node_agent_stream *stream;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "shutdown");
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open_kept(sandbox->link, shl_buf_bytes(&buf), &ops, sandbox, &stream);
    }
    shl_buf_release(&buf);
    return rc;
}

/* What the run wrote becomes the top of what the next one starts from. */
static int record_disk(struct sandbox *sandbox, struct shl_err *err)
{
    struct node_stack before = sandbox->stack;
    struct node_stack after = before;
    int rc;

    after.disk[after.disk_count++] = sandbox->overlay;
    after.mem_count = 0;
    after.warm_mem = false;
    sandbox->stack = after;
    sandbox->durable = NODE_SANDBOX_HIBERNATED;
    rc = sandbox_save(sandbox, err);
    sandbox->stack = before;
    if (rc < 0) {
        sandbox->durable = NODE_SANDBOX_RUNNING;
        return rc;
    }
    sandbox_set_stack(sandbox, &after);
    return 0;
}

static void begin(struct sandbox *sandbox, bool hard)
{
    sandbox->rebooting = true;
    idle_stop(sandbox);
    sandbox_set_state(sandbox, NODE_SANDBOX_WAKING, "");
    sandbox->shutting_down = true;
    if (hard || send_shutdown(sandbox) < 0) {
        take_down(sandbox);
        return;
    }
    (void)uv_timer_start(&sandbox->op_timer, on_shutdown_limit, sandbox->pub.manager->silent_ms, 0);
}

void node_manager_reboot(struct node_manager *manager,
                         struct node_sandbox *pub,
                         bool hard,
                         node_sandbox_cb cb,
                         void *arg)
{
    struct sandbox *sandbox = sandbox_of(pub);
    struct shl_err err = {0};

    if (pub->state != NODE_SANDBOX_RUNNING || sandbox->ending) {
        answer_later(manager, cb, arg, SHL_EBADSTATE, "sandbox is not running");
        return;
    }
    if (sandbox->snapshot || sandbox->next.hex[0]) {
        answer_later(manager, cb, arg, SHL_EUNAVAILABLE,
                     "a checkpoint of the sandbox is being taken, try again");
        return;
    }
    if (sandbox->stack.disk_count >= VMM_DISK_LAYERS_MAX - 1) {
        answer_later(manager, cb, arg, SHL_EUNAVAILABLE,
                     "the disk of the sandbox is being tidied up, try again");
        merge_consider(sandbox);
        return;
    }
    if (waiter_add(&sandbox->reboots, cb, arg) < 0) {
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory");
        return;
    }
    if (record_disk(sandbox, &err) < 0) {
        waiters_answer_later(manager, &sandbox->reboots, err.code, err.msg);
        return;
    }
    begin(sandbox, hard);
}

/* ---- restore in place ------------------------------------------------------------ */

void sandbox_switch(struct sandbox *sandbox,
                    const struct node_stack *stack,
                    node_sandbox_cb cb,
                    void *arg)
{
    struct node_manager *manager = sandbox->pub.manager;
    enum node_sandbox_state state = sandbox->pub.state;

    if ((state != NODE_SANDBOX_RUNNING && state != NODE_SANDBOX_HIBERNATED) || sandbox->over ||
        sandbox->letting_go || sandbox->switch_to) {
        answer_later(manager, cb, arg, SHL_EBADSTATE, "sandbox is not running");
        return;
    }
    sandbox->switch_to = malloc(sizeof(*stack));
    if (!sandbox->switch_to || waiter_add(&sandbox->reboots, cb, arg) < 0) {
        free(sandbox->switch_to);
        sandbox->switch_to = NULL;
        answer_later(manager, cb, arg, -ENOMEM, "there is not enough memory");
        return;
    }
    *sandbox->switch_to = *stack;
    node_stack_ref(manager, stack);
    if (state == NODE_SANDBOX_RUNNING) {
        hibernate_begin(sandbox);
    } else {
        wake_later(sandbox);
    }
}
