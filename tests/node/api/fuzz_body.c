/* JSON bodies: create, exec, kill, checkpoint, fork. What passes the checks is within the limits.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "agent/protocol.h"
#include "node/api/agent_lines.h"
#include "node/api/checkpoint_spec.h"
#include "node/api/exec_spec.h"
#include "node/api/params.h"
#include "node/api/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_create(const json_t *json)
{
    struct node_sandbox_spec spec;
    struct shl_err err = {0};
    int rc = node_spec_parse(json, 1024, &spec, &err);

    if (rc < 0) {
        assert(err.code == rc && err.msg[0] != '\0');
        return;
    }
    assert(spec.cpus >= 1 && spec.cpus <= NODE_CPUS_MAX);
    assert(spec.memory_mb >= NODE_MEMORY_MIN_MB && spec.memory_mb <= NODE_MEMORY_MAX_MB);
    assert(spec.disk_mb >= NODE_DISK_MIN_MB && spec.disk_mb <= NODE_DISK_MAX_MB);
    assert(spec.timeout_s <= NODE_TIMEOUT_MAX_S);
    assert(spec.template_name[0] != '\0' && spec.template_name[0] != '.');
    assert(strchr(spec.template_name, '/') == NULL);
    assert(spec.envs.count <= NODE_KV_MAX && spec.metadata.count <= NODE_KV_MAX);
    node_spec_release(&spec);
}

static void fuzz_exec(struct shl_bytes body)
{
    struct node_agent_request request;
    struct node_exec_spec spec;
    struct shl_err err = {0};
    int rc = node_exec_spec_parse(body, 60, &spec, &err);

    if (rc < 0) {
        assert(err.code == rc && err.msg[0] != '\0');
        return;
    }
    assert(spec.cmd[0] != '\0');
    assert(spec.timeout_s >= 1 && spec.timeout_s <= AGENT_EXEC_TIMEOUT_MAX_MS / 1000);
    node_exec_spec_write(&spec, "abcdef", true, &request);
    shl_mp_end(&request.w);
    if (shl_mp_done(&request.w) == 0) {
        struct shl_mp_doc doc;

        assert(shl_mp_parse(&doc, shl_buf_bytes(&request.buf)) == 0);
        shl_mp_release(&doc);
    }
    shl_buf_release(&request.buf);
    node_exec_spec_release(&spec);
}

/* Whatever comes in, what goes to the guest is whole lines of JSON objects with a type. */
static void check_lines(const struct shl_buf *out)
{
    const char *at = (const char *)shl_buf_data(out);
    size_t left = shl_buf_len(out);

    while (left > 0) {
        const char *stop = memchr(at, '\n', left);
        json_t *line = stop ? json_loadb(at, (size_t)(stop - at), 0, NULL) : NULL;

        assert(line && json_is_string(json_object_get(line, "type")));
        json_decref(line);
        left -= (size_t)(stop + 1 - at);
        at = stop + 1;
    }
}

static void fuzz_agent(struct shl_bytes body)
{
    int (*const makers[])(struct shl_bytes, struct shl_buf *, struct shl_err *) = {
        node_agent_lines_start, node_agent_lines_prompt, node_agent_lines_configure};

    for (size_t i = 0; i < SHL_ARRAY_SIZE(makers); i++) {
        struct shl_err err = {0};
        struct shl_buf out;
        int rc;

        shl_buf_init(&out, AGENT_INPUT_MAX);
        rc = makers[i](body, &out, &err);
        if (rc < 0) {
            assert(err.code == rc && err.msg[0] != '\0');
        } else {
            assert(rc == 0);
            check_lines(&out);
        }
        shl_buf_release(&out);
    }
}

static void fuzz_checkpoint(const json_t *json)
{
    struct node_checkpoint_spec spec;
    struct shl_err err = {0};
    int rc = node_checkpoint_spec_parse(json, &spec, &err);

    if (rc < 0) {
        assert(err.code == rc && err.msg[0] != '\0');
        return;
    }
    assert(spec.name[0] != '\0' && strnlen(spec.name, sizeof(spec.name)) < sizeof(spec.name));
    assert(spec.keep_max <=
           (uint32_t)(spec.disk_only ? NODE_CHECKPOINTS_DISK_MAX : NODE_CHECKPOINTS_FULL_MAX));
    (void)node_is_uuid(spec.name);
}

static void fuzz_fork(const json_t *json)
{
    struct node_fork_spec spec;
    struct shl_err err = {0};
    uint32_t count = 0;
    int rc = node_fork_spec_parse(json, &spec, &count, &err);

    if (rc < 0) {
        assert(err.code == rc && err.msg[0] != '\0');
        return;
    }
    assert(count <= NODE_FORK_COUNT_MAX && spec.cpus <= NODE_CPUS_MAX);
    assert(spec.memory_mb <= NODE_MEMORY_MAX_MB && spec.disk_mb <= NODE_DISK_MAX_MB);
    assert(spec.timeout_s <= NODE_TIMEOUT_MAX_S);
    assert(spec.envs.count <= NODE_KV_MAX && spec.metadata.count <= NODE_KV_MAX);
    node_fork_spec_release(&spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shl_bytes body = shl_bytes_of(data, size);
    struct shl_err err = {0};
    json_t *json = NULL;

    if (node_params_parse(body, &json, &err) == 0) {
        int64_t number = 9;

        assert(json_is_object(json));
        fuzz_create(json);
        fuzz_checkpoint(json);
        fuzz_fork(json);
        if (node_params_int(json, "signal", 1, 64, &number, &err) >= 0) {
            assert(number >= 1 && number <= 64);
        }
        json_decref(json);
    }
    fuzz_exec(body);
    fuzz_agent(body);
    return 0;
}
