#include "node/api/exec_spec.h"

#include "node/api/params.h"

static int parse_fields(struct node_exec_spec *spec,
                        uint32_t timeout_default_s,
                        struct shl_err *err)
{
    int64_t timeout_s = 0;
    int64_t linger_s = 0;
    int rc = node_params_str(spec->body, "cmd", &spec->cmd, err);

    if (rc < 0) {
        return rc;
    }
    if (rc == 0 || *spec->cmd == '\0') {
        return shl_err_set(err, SHL_EINVALIDARG, "cmd is required");
    }
    rc = node_params_strings(spec->body, "args", &spec->args, err);
    if (rc > 0 && json_array_size(spec->args) == 0) {
        spec->args = NULL;
    }
    if (rc >= 0) {
        rc = node_params_str(spec->body, "cwd", &spec->cwd, err);
    }
    if (rc > 0 && *spec->cwd == '\0') {
        spec->cwd = NULL;
    }
    if (rc >= 0) {
        rc = node_params_int(spec->body, "timeout", 0, AGENT_EXEC_TIMEOUT_MAX_MS / 1000, &timeout_s,
                             err);
    }
    spec->timeout_s = timeout_s > 0 ? (uint32_t)timeout_s : timeout_default_s;
    if (rc >= 0) {
        rc = node_params_int(spec->body, "maxRunAfterDisconnect", 0, INT32_MAX, &linger_s, err);
    }
    spec->linger_s = (uint32_t)linger_s;
    if (rc >= 0) {
        rc = node_params_map(spec->body, "envs", true, &spec->envs, err);
    }
    return rc;
}

int node_exec_spec_parse(struct shl_bytes body,
                         uint32_t timeout_default_s,
                         struct node_exec_spec *ret_spec,
                         struct shl_err *err)
{
    struct node_exec_spec spec = {.body = NULL};
    int rc = node_params_parse(body, &spec.body, err);

    if (rc == 0) {
        rc = parse_fields(&spec, timeout_default_s, err);
    }
    if (rc < 0) {
        node_exec_spec_release(&spec);
        return rc;
    }
    *ret_spec = spec;
    return 0;
}

void node_exec_spec_release(struct node_exec_spec *spec)
{
    node_kv_release(&spec->envs);
    json_decref(spec->body);
    spec->body = NULL;
}

void node_exec_spec_write(const struct node_exec_spec *spec,
                          const char *session,
                          bool pipe_stdin,
                          struct node_agent_request *request)
{
    struct shl_mp_writer *w = &request->w;
    size_t index;
    json_t *item;

    node_agent_request_init(request, "exec.start");
    shl_mp_kv_str(w, "session", session);
    shl_mp_kv_str(w, "cmd", spec->cmd);
    if (spec->args) {
        shl_mp_kv_array(w, "args");
        json_array_foreach((json_t *)spec->args, index, item)
        {
            shl_mp_str(w, json_string_value(item));
        }
        shl_mp_end(w);
    }
    if (spec->envs.count > 0) {
        shl_mp_kv_map(w, "envs");
        for (size_t i = 0; i < spec->envs.count; i++) {
            shl_mp_kv_str(w, spec->envs.items[i].key, spec->envs.items[i].value);
        }
        shl_mp_end(w);
    }
    if (spec->cwd) {
        shl_mp_kv_str(w, "cwd", spec->cwd);
    }
    if (spec->timeout_s > 0) {
        shl_mp_kv_uint(w, "timeout_ms", (uint64_t)spec->timeout_s * 1000);
    }
    if (pipe_stdin) {
        shl_mp_kv_bool(w, "pipe_stdin", true);
        shl_mp_kv_uint(w, "ring_bytes", AGENT_RING_DEFAULT_BYTES);
        if (spec->linger_s > 0) {
            shl_mp_kv_uint(w, "linger_ms", (uint64_t)spec->linger_s * 1000);
        }
    }
}
