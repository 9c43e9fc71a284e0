/* Hibernate, wake, reboot and power-cycle. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/sandbox_json.h"
#include "node/api/server_private.h"
#include "node/api/spec.h"

/* A call that waits for the manager; it keeps the sandbox. */
struct change {
    struct node_call *call;
    struct node_sandbox *sandbox;
};

static struct change *change_new(struct node_call *call, struct node_sandbox *sandbox)
{
    struct change *change = calloc(1, sizeof(*change));

    if (!change) {
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    change->call = node_call_ref(call);
    change->sandbox = sandbox;
    node_sandbox_ref(sandbox);
    return change;
}

static void change_free(struct change *change)
{
    node_sandbox_unref(change->sandbox);
    node_call_unref(change->call);
    free(change);
}

/* These ask for a sandbox that has not ended: 400, unlike exec and files. */
static struct node_sandbox *find_living(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct shl_err err = {0};

    if (sandbox && node_call_is_ended(sandbox, &err)) {
        node_call_failf(call, SHL_EBADSTATE, "sandbox is not running: %s", err.msg);
        return NULL;
    }
    return sandbox;
}

/* Hibernate */

static json_t *hibernated_json(const struct node_sandbox *sandbox)
{
    char key[NODE_SANDBOX_ID_SIZE + 16];

    (void)snprintf(key, sizeof(key), "hibernation/%s", sandbox->id);
    return json_pack("{s:s, s:s, s:s, s:s, s:I}", "sandboxID", sandbox->id, "sandboxId",
                     sandbox->id, "status", "hibernated", "hibernationKey", key, "sizeBytes",
                     (json_int_t)sandbox->saved_bytes);
}

static void on_hibernated(void *arg, int code, const char *msg)
{
    struct change *change = arg;

    if (code < 0) {
        node_call_fail(change->call, code, msg);
    } else {
        node_call_reply_json(change->call, 200, hibernated_json(change->sandbox));
    }
    change_free(change);
}

void node_handle_sandbox_hibernate(struct node_call *call)
{
    struct node_sandbox *sandbox = find_living(call);
    struct change *change = sandbox ? change_new(call, sandbox) : NULL;

    if (change) {
        node_manager_hibernate(call->server->manager, sandbox, on_hibernated, change);
    }
}

/* Wake */

static void on_woken(void *arg, int code, const char *msg)
{
    struct change *change = arg;

    if (code < 0) {
        node_call_fail(change->call, code, msg);
    } else if (node_call_is_open(change->call)) {
        node_call_reply_json(change->call, 200, node_sandbox_json(change->call, change->sandbox));
    }
    change_free(change);
}

/* 1 with a new time-out, 0 without, or a negative code. */
static int parse_wake(struct node_call *call, uint32_t *ret_timeout_s, struct shl_err *err)
{
    json_t *body = NULL;
    int64_t timeout_s = 0;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_params_int(body, "timeout", 0, NODE_TIMEOUT_MAX_S, &timeout_s, err);
        json_decref(body);
    }
    *ret_timeout_s = (uint32_t)timeout_s;
    return rc;
}

void node_handle_sandbox_wake(struct node_call *call)
{
    struct node_sandbox *sandbox = find_living(call);
    struct shl_err err = {0};
    uint32_t timeout_s = 0;
    struct change *change;
    int rc;

    if (!sandbox) {
        return;
    }
    rc = parse_wake(call, &timeout_s, &err);
    if (rc < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    if (sandbox->state == NODE_SANDBOX_HIBERNATED && node_server_may_wake(call->server, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    change = change_new(call, sandbox);
    if (change) {
        node_manager_wake(call->server->manager, sandbox, rc > 0 ? &timeout_s : NULL, on_woken,
                          change);
    }
}

/* Reboot and power-cycle */

static void on_rebooted(void *arg, int code, const char *msg)
{
    struct change *change = arg;

    if (code < 0) {
        node_call_fail(change->call, code, msg);
    } else {
        node_call_reply_empty(change->call, 204);
    }
    change_free(change);
}

static void reboot(struct node_call *call, bool hard)
{
    struct node_sandbox *sandbox = find_living(call);
    struct shl_err err = {0};
    struct change *change;

    if (sandbox && sandbox->state == NODE_SANDBOX_HIBERNATED &&
        node_server_may_wake(call->server, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    change = sandbox ? change_new(call, sandbox) : NULL;
    if (change) {
        node_manager_reboot(call->server->manager, sandbox, hard, on_rebooted, change);
    }
}

void node_handle_sandbox_reboot(struct node_call *call)
{
    reboot(call, false);
}

void node_handle_sandbox_power_cycle(struct node_call *call)
{
    reboot(call, true);
}
