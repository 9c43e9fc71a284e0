#include "node/api/spec.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "node/api/params.h"
#include "node/api/preview_token.h"
#include "node/sandbox/portable.h"

static bool is_given(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(body, name);

    return value && !json_is_null(value);
}

/* Names become file names, so they are as narrow as names of snapshots. */
static bool is_template_name(const char *name)
{
    size_t len = strnlen(name, NODE_TEMPLATE_MAX);

    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])) {
            return false;
        }
    }
    return len > 0 && len < NODE_TEMPLATE_MAX && name[0] != '.';
}

static int parse_template(const json_t *body, struct node_sandbox_spec *spec, struct shl_err *err)
{
    static const char *const aliases[] = {"", "base", "default", "ubuntu"};
    const char *name = NODE_TEMPLATE_BASE;
    int rc = node_params_str(body, "templateID", &name, err);

    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < SHL_ARRAY_SIZE(aliases); i++) {
        if (strcmp(name, aliases[i]) == 0) {
            name = NODE_TEMPLATE_BASE;
        }
    }
    if (!is_template_name(name)) {
        return shl_err_set(err, SHL_ENOTFOUND, "template not found: %.128s", name);
    }
    memcpy(spec->template_name, name, strlen(name) + 1);
    return 0;
}

static int parse_sizes(const json_t *body,
                       uint32_t memory_default_mb,
                       struct node_sandbox_spec *spec,
                       struct shl_err *err)
{
    struct {
        const char *name;
        int64_t min;
        int64_t max;
        int64_t value;
        uint32_t *field;
    } sizes[] = {
        {"cpuCount", 1, NODE_CPUS_MAX, 1, &spec->cpus},
        {"memoryMB", NODE_MEMORY_MIN_MB, NODE_MEMORY_MAX_MB, memory_default_mb, &spec->memory_mb},
        {"diskMB", NODE_DISK_MIN_MB, NODE_DISK_MAX_MB, NODE_DISK_MIN_MB, &spec->disk_mb},
        {"timeout", 0, NODE_TIMEOUT_MAX_S, NODE_TIMEOUT_DEFAULT_S, &spec->timeout_s},
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        int rc =
            node_params_int(body, sizes[i].name, sizes[i].min, sizes[i].max, &sizes[i].value, err);

        if (rc < 0) {
            return rc;
        }
        *sizes[i].field = (uint32_t)sizes[i].value;
    }
    return 0;
}

/* Fields of later releases. Ignoring them would give the caller less than was asked
 * for, in part less safety. */
static int refuse_later(const json_t *body, struct shl_err *err)
{
    bool network = true;
    int rc = node_params_bool(body, "networkEnabled", &network, err);

    if (rc < 0) {
        return rc;
    }
    if (is_given(body, "image") && is_given(body, "snapshot")) {
        return shl_err_set(err, SHL_EINVALIDARG, "image and snapshot exclude each other");
    }
    if (json_array_size(json_object_get(body, "webhooks")) > 0) {
        return shl_err_set(err, -ENOSYS, "webhooks are not available yet");
    }
    if (!network) {
        return shl_err_set(err, -ENOSYS, "sandboxes without a network are not available yet");
    }
    return 0;
}

/* What becomes of it when its node is lost while it runs. */
static int parse_loss(const json_t *body, struct node_sandbox_spec *spec, struct shl_err *err)
{
    const char *text = "error";
    int64_t autosave_s = 0;
    int rc = node_params_str(body, "onNodeLoss", &text, err);

    if (rc >= 0 && strcmp(text, "error") != 0 && strcmp(text, "restore") != 0) {
        rc = shl_err_set(err, SHL_EINVALIDARG,
                         "onNodeLoss must be \"error\" or \"restore\", not \"%.32s\"", text);
    }
    if (rc >= 0) {
        rc = node_params_int(body, "autosaveInterval", NODE_AUTOSAVE_MIN_S, NODE_AUTOSAVE_MAX_S,
                             &autosave_s, err);
    }
    if (rc < 0) {
        return rc;
    }
    spec->on_node_loss = text[0] == 'r' ? NODE_ON_LOSS_RESTORE : NODE_ON_LOSS_ERROR;
    if (autosave_s > 0 && spec->on_node_loss != NODE_ON_LOSS_RESTORE) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "autosaveInterval needs onNodeLoss \"restore\": nothing else is made of "
                           "what is saved");
    }
    spec->autosave_s = (uint32_t)autosave_s;
    return 0;
}

/* The gate of its preview hosts. Who makes the sandbox asks for the token itself. */
static int parse_preview_auth(const json_t *body,
                              struct node_sandbox_spec *spec,
                              struct shl_err *err)
{
    char token[NODE_PREVIEW_TOKEN_SIZE] = "";
    int rc = node_preview_token_parse(body, token, err);

    if (rc > 0) {
        node_preview_token_set(&spec->previews, token);
    }
    sodium_memzero(token, sizeof(token));
    return rc;
}

int node_spec_parse(const json_t *body,
                    uint32_t memory_default_mb,
                    struct node_sandbox_spec *ret_spec,
                    struct shl_err *err)
{
    struct node_sandbox_spec spec = {.org = ""};
    int rc = parse_sizes(body, memory_default_mb, &spec, err);

    if (rc >= 0) {
        rc = refuse_later(body, err);
    }
    if (rc >= 0) {
        rc = parse_template(body, &spec, err);
    }
    if (rc >= 0) {
        rc = parse_loss(body, &spec, err);
    }
    if (rc >= 0) {
        rc = parse_preview_auth(body, &spec, err);
    }
    if (rc >= 0) {
        rc = node_params_map(body, "envs", true, &spec.envs, err);
    }
    if (rc >= 0) {
        rc = node_params_map(body, "metadata", false, &spec.metadata, err);
    }
    if (rc < 0) {
        node_spec_release(&spec);
        return rc;
    }
    *ret_spec = spec;
    return 0;
}

void node_spec_release(struct node_sandbox_spec *spec)
{
    node_kv_release(&spec->envs);
    node_kv_release(&spec->metadata);
    node_secret_use_release(&spec->secrets);
    node_kv_release(&spec->image_envs);
}
