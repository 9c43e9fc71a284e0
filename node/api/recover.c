#include "node/api/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/sandbox_json.h"
#include "node/api/server_private.h"

/* What is known of a lost one */

static bool add_record(void *arg, const struct node_record *record)
{
    json_t *json = arg;
    char started_at[NODE_TIME_TEXT_SIZE];
    int rc;

    node_time_text(started_at, record->created_at_ms);
    rc = json_object_set_new(json, "templateID",
                             json_string(record->template_name ? record->template_name : ""));
    rc |= json_object_set_new(json, "startedAt", json_string(started_at));
    rc |= json_object_set_new(json, "cpuCount", json_integer(record->cpus));
    rc |= json_object_set_new(json, "memoryMB", json_integer(record->memory_mb));
    rc |= json_object_set_new(json, "diskMB", json_integer(record->disk_mb));
    rc |= json_object_set_new(json, "timeout", json_integer(record->timeout_s));
    (void)rc; /* a field that is missing is better than no answer */
    return false;
}

void node_recover_show_lost(struct node_call *call, const char *reason)
{
    struct node_router *router = call->server->router;
    json_t *json = json_pack("{s:s, s:s, s:s, s:{}}", "sandboxID", call->id, "status", "error",
                             "reason", reason, "metadata");

    if (json && router->ops->record) {
        router->ops->record(router, call->caller.org, call->id, add_record, json);
    }
    node_call_reply_json(call, 200, json);
}

/* POST /sandboxes/:id/recover */

static json_t *from_json(const struct node_recovery *outcome)
{
    char created_at[NODE_TIME_TEXT_SIZE];

    node_time_text(created_at, shl_realtime_ms() - outcome->age_s * 1000);
    return json_pack("{s:s, s:s, s:s, s:I}", "checkpointId", outcome->checkpoint, "kind",
                     outcome->is_named ? "checkpoint" : "save", "createdAt", created_at,
                     "ageSeconds", (json_int_t)outcome->age_s);
}

static void on_recovered(void *arg, const struct node_recovery *outcome)
{
    struct node_call *call = arg;
    const struct node_sandbox *sandbox;
    json_t *json;

    if (!node_call_is_open(call)) {
        node_call_unref(call);
        return;
    }
    sandbox = node_manager_find(call->server->manager, node_call_org(call), call->id);
    if (outcome->code < 0) {
        node_call_fail(call, outcome->code, outcome->msg);
    } else if (!sandbox) {
        node_call_fail(call, SHL_EUNAVAILABLE, "the sandbox went on to another node, try again");
    } else {
        json = node_sandbox_json(call, sandbox);
        if (json && json_object_set_new(json, "recoveredFrom", from_json(outcome)) < 0) {
            json_decref(json);
            json = NULL;
        }
        node_call_reply_json(call, 200, json);
    }
    node_call_unref(call);
}

void node_handle_sandbox_recover(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_recovery outcome;
    struct shl_err err = {0};

    if (!router->ops->recover) {
        node_call_fail(call, -ENOSYS, "a single node keeps no copies to recover a sandbox from");
        return;
    }
    if (node_server_may_wake(call->server, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    (void)node_call_ref(call);
    if (router->ops->recover(router, node_call_org(call), call->id, &outcome, on_recovered, call) >
        0) {
        on_recovered(call, &outcome);
    }
}
