#include "node/api/sandbox_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/durability.h"
#include "node/api/server_private.h"
#include "node/sandbox/portable.h"

static json_t *time_json(int64_t at_ms)
{
    char text[NODE_TIME_TEXT_SIZE];

    node_time_text(text, at_ms);
    return json_string(text);
}

static json_t *map_json(const struct node_kv_list *list)
{
    json_t *map = json_object();

    for (size_t i = 0; map && i < list->count; i++) {
        if (json_object_set_new(map, list->items[i].key, json_string(list->items[i].value)) < 0) {
            json_decref(map);
            return NULL;
        }
    }
    return map;
}

static json_t *token_json(const struct node_server *server, const struct node_sandbox *sandbox)
{
    struct node_token token;
    char *text;
    json_t *json;

    memcpy(token.org, sandbox->spec.org, sizeof(token.org));
    memcpy(token.sandbox_id, sandbox->id, sizeof(token.sandbox_id));
    text = node_token_make(&server->token_key, &token, shl_realtime_ms() / 1000);
    json = text ? json_string(text) : NULL;
    free(text);
    return json;
}

static bool is_living(const struct node_sandbox *sandbox)
{
    return strcmp(node_sandbox_status(sandbox), "running") == 0;
}

json_t *node_sandbox_json(const struct node_call *call, const struct node_sandbox *sandbox)
{
    const struct node_server *server = call->server;
    const struct node_sandbox_spec *spec = &sandbox->spec;
    char url[NODE_ORIGIN_SIZE + 8];
    char domain[NODE_ORIGIN_SIZE];
    json_t *json = json_object();
    int rc;

    node_server_domain(call, domain);
    node_server_origin(call, url);
    (void)strncat(url, "/api", sizeof(url) - strlen(url) - 1);

    /* Setting a NULL value fails, and the failure is looked at once. */
    rc = json_object_set_new(json, "sandboxID", json_string(sandbox->id));
    rc |= json_object_set_new(json, "status", json_string(node_sandbox_status(sandbox)));
    rc |= json_object_set_new(json, "templateID", json_string(spec->template_name));
    rc |= json_object_set_new(json, "template", json_string(spec->template_name));
    rc |= json_object_set_new(json, "token", token_json(server, sandbox));
    rc |= json_object_set_new(json, "connectURL", json_string(url));
    rc |= json_object_set_new(json, "sandboxDomain", json_string(domain));
    rc |= json_object_set_new(json, "region", json_string(server->region));
    if (is_living(sandbox)) { /* the others are on no worker */
        rc |= json_object_set_new(json, "workerID", json_string(server->worker_id));
    }
    rc |= json_object_set_new(json, "startedAt", time_json(sandbox->created_at_ms));
    if (sandbox->end_at_ms > 0 && is_living(sandbox)) {
        rc |= json_object_set_new(json, "endAt", time_json(sandbox->end_at_ms));
    } else if (sandbox->ended_at_ms > 0) {
        rc |= json_object_set_new(json, "endAt", time_json(sandbox->ended_at_ms));
    }
    rc |= json_object_set_new(json, "cpuCount", json_integer(spec->cpus));
    rc |= json_object_set_new(json, "memoryMB", json_integer(spec->memory_mb));
    rc |= json_object_set_new(json, "diskMB", json_integer(spec->disk_mb));
    rc |= json_object_set_new(json, "timeout", json_integer(spec->timeout_s));
    rc |= json_object_set_new(json, "metadata", map_json(&spec->metadata));
    rc |= json_object_set_new(json, "tags", json_object());
    rc |= json_object_set_new(json, "tagsLastUpdatedAt", json_null());
    if (sandbox->from_checkpoint[0] != '\0') {
        rc |= json_object_set_new(json, "fromCheckpointId", json_string(sandbox->from_checkpoint));
    }
    rc |= json_object_set_new(json, "onNodeLoss",
                              json_string(spec->on_node_loss == NODE_ON_LOSS_RESTORE ? "restore"
                                                                                     : "error"));
    if (spec->on_node_loss == NODE_ON_LOSS_RESTORE) {
        rc |= json_object_set_new(json, "autosaveInterval",
                                  json_integer(spec->autosave_s > 0 ? spec->autosave_s
                                                                    : NODE_AUTOSAVE_DEFAULT_S));
    }
    if (sandbox->state == NODE_SANDBOX_HIBERNATED || spec->on_node_loss == NODE_ON_LOSS_RESTORE) {
        rc |= json_object_set_new(json, "durability",
                                  node_durability_json(call, false,
                                                       sandbox->state == NODE_SANDBOX_HIBERNATED,
                                                       sandbox->id));
    }
    if (spec->patch_error[0] != '\0') {
        rc |= json_object_set_new(json, "patchError", json_string(spec->patch_error));
    }
    if (sandbox->cold_woken) {
        rc |= json_object_set_new(json, "coldWoken", json_true());
    }
    if (sandbox->reason[0] != '\0') {
        rc |= json_object_set_new(json, "reason", json_string(sandbox->reason));
    }
    if (rc != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
