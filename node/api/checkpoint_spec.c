#include "node/api/checkpoint_spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/params.h"
#include "node/api/spec.h"

#define UUID_LENGTH 36

bool node_is_uuid(const char *text)
{
    for (size_t i = 0; i < UUID_LENGTH; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (text[i] == '\0' || !strchr(is_dash ? "-" : "0123456789abcdef", text[i])) {
            return false;
        }
    }
    return text[UUID_LENGTH] == '\0';
}

/* Checkpoints */

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

static int parse_name(const json_t *body, struct node_checkpoint_spec *spec, struct shl_err *err)
{
    const char *name = "";
    int rc = node_params_str(body, "name", &name, err);
    size_t len;

    if (rc < 0) {
        return rc;
    }
    len = strlen(name);
    if (len == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "name is required");
    }
    if (len > NODE_CHECKPOINT_NAME_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "name is longer than the maximum of %d bytes",
                           NODE_CHECKPOINT_NAME_MAX);
    }
    if (has_control(name)) {
        return shl_err_set(err, SHL_EINVALIDARG, "name may not hold control characters");
    }
    memcpy(spec->name, name, len + 1);
    return 0;
}

static int parse_kind(const json_t *body, struct node_checkpoint_spec *spec, struct shl_err *err)
{
    const char *kind = "full";
    bool promote = false;
    int rc = node_params_str(body, "kind", &kind, err);

    if (rc >= 0) {
        rc = node_params_bool(body, "promoteToFull", &promote, err);
    }
    if (rc < 0) {
        return rc;
    }
    spec->disk_only = strcmp(kind, "disk_only") == 0;
    if (!spec->disk_only && strcmp(kind, "full") != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "kind must be full or disk_only");
    }
    if (promote) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           spec->disk_only
                               ? "promoteToFull is not available: make a checkpoint of kind full"
                               : "promoteToFull goes with kind disk_only alone");
    }
    return 0;
}

static int parse_retention(const json_t *body,
                           struct node_checkpoint_spec *spec,
                           struct shl_err *err)
{
    const json_t *policy = json_object_get(body, "retentionPolicy");
    int64_t limit = spec->disk_only ? NODE_CHECKPOINTS_DISK_MAX : NODE_CHECKPOINTS_FULL_MAX;
    const char *mode = NULL;
    int64_t keep = limit;
    int rc;

    if (!policy || json_is_null(policy)) {
        return 0;
    }
    if (!json_is_object(policy)) {
        return shl_err_set(err, SHL_EINVALIDARG, "retentionPolicy must be an object");
    }
    rc = node_params_str(policy, "mode", &mode, err);
    if (rc >= 0) {
        rc = node_params_int(policy, "maxCount", 1, limit, &keep, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (!mode || (strcmp(mode, "none") != 0 && strcmp(mode, "delete_oldest") != 0)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "retentionPolicy.mode must be none or delete_oldest");
    }
    if (strcmp(mode, "delete_oldest") == 0) {
        spec->keep_max = (uint32_t)keep;
    } else if (rc > 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "retentionPolicy.maxCount goes with the mode delete_oldest alone");
    }
    return 0;
}

int node_checkpoint_spec_parse(const json_t *body,
                               struct node_checkpoint_spec *ret_spec,
                               struct shl_err *err)
{
    struct node_checkpoint_spec spec = {.name = ""};
    int rc = parse_name(body, &spec, err);

    if (rc == 0) {
        rc = parse_kind(body, &spec, err);
    }
    if (rc == 0) {
        rc = parse_retention(body, &spec, err);
    }
    if (rc == 0) {
        *ret_spec = spec;
    }
    return rc;
}

/* Forks */

/* Memory and disk below those of the checkpoint are raised by the manager; memory over the
 * top is lowered here. */
static int parse_sizes(const json_t *body, struct node_fork_spec *spec, struct shl_err *err)
{
    int64_t timeout_s = NODE_TIMEOUT_DEFAULT_S;
    int64_t memory_mb = 0;
    int64_t cpus = 0;
    int64_t disk_mb = 0;
    int rc = node_params_int(body, "timeout", 0, NODE_TIMEOUT_MAX_S, &timeout_s, err);

    if (rc >= 0) {
        rc = node_params_int(body, "memoryMB", 0, INT32_MAX, &memory_mb, err);
    }
    if (rc >= 0) {
        rc = node_params_int(body, "cpuCount", 1, NODE_CPUS_MAX, &cpus, err);
    }
    if (rc >= 0) {
        rc = node_params_int(body, "diskMB", 0, NODE_DISK_MAX_MB, &disk_mb, err);
    }
    if (rc < 0) {
        return rc;
    }
    spec->timeout_s = (uint32_t)timeout_s;
    spec->memory_mb = (uint32_t)SHL_MIN(memory_mb, (int64_t)NODE_MEMORY_MAX_MB);
    spec->cpus = (uint32_t)cpus;
    spec->disk_mb = (uint32_t)disk_mb;
    return 0;
}

static int parse_count(const json_t *body, uint32_t *ret_count, struct shl_err *err)
{
    int64_t count = 0;
    int rc = node_params_int(body, "count", 1, NODE_FORK_COUNT_MAX, &count, err);

    *ret_count = (uint32_t)count;
    return rc;
}

int node_secret_store_parse(const json_t *body, char **ret_name, struct shl_err *err)
{
    const char *store = "";
    int rc = node_params_str(body, "secretStore", &store, err);

    if (rc > 0 && *store != '\0') {
        *ret_name = strdup(store);
        return *ret_name ? 1 : shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    return rc < 0 ? rc : 0;
}

int node_fork_spec_parse(const json_t *body,
                         struct node_fork_spec *ret_spec,
                         uint32_t *ret_count,
                         struct shl_err *err)
{
    struct node_fork_spec spec = {.timeout_s = 0};
    int rc = parse_sizes(body, &spec, err);

    if (rc >= 0) {
        rc = parse_count(body, ret_count, err);
    }
    if (rc >= 0) {
        rc = node_secret_store_parse(body, &spec.secret_store, err);
    }
    if (rc >= 0) {
        rc = node_params_map(body, "envs", true, &spec.envs, err);
    }
    if (rc >= 0) {
        rc = node_params_map(body, "metadata", false, &spec.metadata, err);
    }
    if (rc < 0) {
        node_fork_spec_release(&spec);
        return rc;
    }
    *ret_spec = spec;
    return 0;
}

void node_fork_spec_release(struct node_fork_spec *spec)
{
    free(spec->secret_store);
    spec->secret_store = NULL;
    node_kv_release(&spec->envs);
    node_kv_release(&spec->metadata);
}
