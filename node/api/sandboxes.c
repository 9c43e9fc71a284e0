/* POST, GET and DELETE of a sandbox, and its idle time-out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "node/api/checkpoint_spec.h"
#include "node/api/handlers.h"
#include "node/api/image_request.h"
#include "node/api/once.h"
#include "node/api/params.h"
#include "node/api/preview_token.h"
#include "node/api/sandbox_json.h"
#include "node/api/secret_bind.h"
#include "node/api/server_private.h"
#include "node/api/spec.h"

/* Create */

static void on_created(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct node_call *call = arg;

    if (code < 0) {
        node_call_fail_create(call, code, msg);
    } else {
        char id[1][NODE_SANDBOX_ID_SIZE];

        memcpy(id[0], sandbox->id, sizeof(id[0]));
        node_once_made(call, (const char(*)[NODE_SANDBOX_ID_SIZE])id, 1, true);
        if (node_call_is_open(call)) {
            json_t *json = node_sandbox_json(call, sandbox);

            if (call->secret &&
                json_object_set_new(json, "previewAuthToken", json_string(call->secret)) < 0) {
                json_decref(json);
                json = NULL;
            }
            node_call_reply_json(call, 201, json);
        }
    }
    node_call_unref(call);
}

/* The token of its preview hosts, when one is asked for: kept for the reply. */
static int choose_token(struct node_call *call,
                        const json_t *body,
                        struct node_sandbox_spec *spec,
                        struct shl_err *err)
{
    char token[NODE_PREVIEW_TOKEN_SIZE] = "";
    int rc = node_preview_token_parse(body, token, err);

    if (rc > 0) {
        node_preview_token_set(&spec->previews, token);
        call->secret = strdup(token);
        rc = call->secret ? 0 : shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    sodium_memzero(token, sizeof(token));
    return rc;
}

static int bind_store(struct node_call *call,
                      const json_t *body,
                      struct node_sandbox_spec *spec,
                      struct shl_err *err)
{
    char *name = NULL;
    int rc = node_secret_store_parse(body, &name, err);

    if (rc > 0) {
        rc = node_secret_bind(call->server, call->caller.org, NULL, name, &spec->envs,
                              &spec->secrets, err);
    }
    free(name);
    return rc < 0 ? rc : 0;
}

static void create(struct node_call *call)
{
    struct node_sandbox_spec spec;
    struct shl_err err = {0};
    json_t *body = NULL;
    int rc;

    if (!node_call_may_start(call)) { /* its mark may have been set meanwhile */
        return;
    }
    rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, &err);
    if (rc == 0 && node_image_create(call, body)) {
        json_decref(body);
        return;
    }
    if (rc == 0) {
        rc = node_spec_parse(body, call->server->memory_default_mb, &spec, &err);
    }
    if (rc == 0) {
        rc = bind_store(call, body, &spec, &err);
        if (rc == 0) {
            rc = choose_token(call, body, &spec, &err);
        }
        if (rc < 0) {
            node_spec_release(&spec);
        }
    }
    json_decref(body);
    if (rc < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    memcpy(spec.org, call->caller.org, sizeof(spec.org));
    rc = node_manager_create(call->server->manager, &spec, on_created, node_call_ref(call), &err);
    node_spec_release(&spec);
    if (rc < 0) {
        node_call_fail_create(call, rc, err.msg);
        node_call_unref(call);
    }
}

void node_handle_sandbox_create(struct node_call *call)
{
    if (node_call_may_start(call)) {
        node_secret_bind_ready(call, false, create);
    }
}

/* Get */

void node_handle_sandbox_get(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);

    if (sandbox) {
        node_call_reply_json(call, 200, node_sandbox_json(call, sandbox));
    }
}

/* Kill */

static void on_killed(void *arg, int code, const char *msg)
{
    struct node_call *call = arg;

    if (code < 0) {
        node_call_fail(call, code, msg);
    } else {
        node_call_reply_empty(call, 204);
    }
    node_call_unref(call);
}

static void kill_it(struct node_call *call, struct node_sandbox *sandbox)
{
    node_manager_kill(call->server->manager, sandbox, on_killed, node_call_ref(call));
}

static void on_dropped(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;
    struct node_sandbox *sandbox = NULL;

    if (!node_call_is_open(call)) {
        /* who asked has left: the cluster may know it, so it has to go */
        sandbox = outcome->code == 0
                      ? node_manager_find(call->server->manager, call->caller.org, call->id)
                      : NULL;
    } else if (outcome->code < 0) {
        node_call_fail(call, outcome->code, outcome->msg);
    } else {
        sandbox = node_call_find_sandbox(call);
    }
    if (sandbox) {
        kill_it(call, sandbox);
    }
    node_call_unref(call);
}

void node_handle_sandbox_kill(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_router *router = call->server->router;
    struct node_order outcome;

    if (!sandbox) {
        return;
    }
    if (!router->ops->drop) {
        kill_it(call, sandbox);
        return;
    }
    (void)node_call_ref(call);
    if (router->ops->drop(router, sandbox, &outcome, on_dropped, call) > 0) {
        on_dropped(call, &outcome);
    }
}

/* Time-out */

static int parse_timeout(struct node_call *call, uint32_t *ret_timeout_s, struct shl_err *err)
{
    json_t *body = NULL;
    int64_t timeout_s = 0;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc < 0) {
        return rc;
    }
    rc = node_params_int(body, "timeout", 0, NODE_TIMEOUT_MAX_S, &timeout_s, err);
    json_decref(body);
    if (rc == 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "timeout is required: seconds without activity, 0 for never");
    }
    *ret_timeout_s = (uint32_t)timeout_s;
    return rc < 0 ? rc : 0;
}

void node_handle_sandbox_timeout(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct shl_err err = {0};
    uint32_t timeout_s = 0;
    int rc;

    if (!sandbox) {
        return;
    }
    rc = parse_timeout(call, &timeout_s, &err);
    if (rc < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    rc = node_sandbox_set_timeout(sandbox, timeout_s);
    if (rc < 0) {
        node_call_fail(call, rc, NULL);
    } else {
        node_call_reply_empty(call, 204);
    }
}
