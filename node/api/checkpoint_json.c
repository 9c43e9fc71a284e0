#include "node/api/checkpoint_json.h"

#include "node/api/checkpoint_spec.h"
#include "node/api/durability.h"
#include "node/api/routes.h"
#include "node/api/server_private.h"

struct node_checkpoint *node_call_find_checkpoint(struct node_call *call)
{
    struct node_checkpoint *checkpoint;

    if (!node_is_uuid(call->cid)) {
        node_call_failf(call, SHL_EINVALIDARG, "\"%.64s\" is not the id of a checkpoint: a UUID",
                        call->cid);
        return NULL;
    }
    checkpoint = node_checkpoint_find(call->server->manager, call->caller.org, call->cid);
    if (!checkpoint && call->route->where == NODE_ROUTE_CHECKPOINT) {
        node_exchange_refuse(call->x, NODE_REFUSAL_NOT_HERE, SHL_ENOTFOUND, "checkpoint not found");
    } else if (!checkpoint) {
        node_call_fail(call, SHL_ENOTFOUND, "checkpoint not found");
    }
    return checkpoint;
}

static json_t *time_json(int64_t at_ms)
{
    char text[NODE_TIME_TEXT_SIZE];

    node_time_text(text, at_ms);
    return json_string(text);
}

static json_t *metadata_json(const struct node_kv_list *list)
{
    json_t *map = json_object();
    int rc = 0;

    for (size_t i = 0; map && i < list->count; i++) {
        rc |= json_object_set_new(map, list->items[i].key, json_string(list->items[i].value));
    }
    if (rc != 0) {
        json_decref(map);
        return NULL;
    }
    return map;
}

/* Values may be secrets. */
static json_t *keys_json(const struct node_kv_list *list)
{
    json_t *keys = json_array();
    int rc = 0;

    for (size_t i = 0; keys && i < list->count; i++) {
        rc |= json_array_append_new(keys, json_string(list->items[i].key));
    }
    if (rc != 0) {
        json_decref(keys);
        return NULL;
    }
    return keys;
}

static json_t *config_json(const struct node_sandbox_spec *spec)
{
    json_t *json = json_object();
    int rc = json_object_set_new(json, "templateID", json_string(spec->template_name));

    rc |= json_object_set_new(json, "cpuCount", json_integer(spec->cpus));
    rc |= json_object_set_new(json, "memoryMB", json_integer(spec->memory_mb));
    rc |= json_object_set_new(json, "diskMB", json_integer(spec->disk_mb));
    rc |= json_object_set_new(json, "timeout", json_integer(spec->timeout_s));
    rc |= json_object_set_new(json, "envKeys", keys_json(&spec->envs));
    rc |= json_object_set_new(json, "metadata", metadata_json(&spec->metadata));
    if (rc != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *node_checkpoint_json(const struct node_call *call, const struct node_checkpoint *checkpoint)
{
    bool is_ready = checkpoint->status == NODE_CHECKPOINT_READY;
    const char *key = is_ready ? checkpoint->manifest : "";
    json_t *json = json_object();
    /* Setting a NULL value fails. */
    int rc = json_object_set_new(json, "id", json_string(checkpoint->id));

    rc |= json_object_set_new(json, "sandboxId", json_string(checkpoint->sandbox_id));
    rc |= json_object_set_new(json, "orgId", json_string(checkpoint->spec.org));
    rc |= json_object_set_new(json, "name", json_string(checkpoint->name));
    rc |= json_object_set_new(json, "kind",
                              json_string(checkpoint->disk_only ? "disk_only" : "full"));
    rc |= json_object_set_new(json, "status", json_string(node_checkpoint_status(checkpoint)));
    rc |= json_object_set_new(json, "sandboxConfig", config_json(&checkpoint->spec));
    rc |= json_object_set_new(json, "sizeBytes",
                              json_integer((json_int_t)(is_ready ? checkpoint->size_bytes : 0)));
    rc |= json_object_set_new(json, "rootfsS3Key", json_string(key));
    rc |= json_object_set_new(json, "workspaceS3Key", json_string(key));
    rc |= json_object_set_new(json, "isPublic", json_false());
    rc |= json_object_set_new(json, "createdAt", time_json(checkpoint->created_at_ms));
    if (is_ready) {
        rc |= json_object_set_new(json, "durability",
                                  node_durability_json(call, true, true, checkpoint->id));
    }
    if (checkpoint->status == NODE_CHECKPOINT_FAILED) {
        rc |= json_object_set_new(json, "errorMsg", json_string(checkpoint->error));
        rc |= json_object_set_new(json, "failedAt", time_json(checkpoint->failed_at_ms));
    }
    if (rc != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
