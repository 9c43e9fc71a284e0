#include "node/api/agent_lines.h"

#include <errno.h>

#include "node/api/params.h"

struct dump {
    struct shl_buf *out;
    int rc;
};

/* jansson's callback: -1 ends the dump. */
static int append_dump(const char *text, size_t len, void *arg)
{
    struct dump *dump = arg;

    dump->rc = shl_buf_append(dump->out, text, len);
    return dump->rc < 0 ? -1 : 0;
}

/* @line is taken. */
static int append_line(struct shl_buf *out, json_t *line, struct shl_err *err)
{
    struct dump dump = {.out = out};
    int rc = line ? json_dump_callback(line, append_dump, &dump, JSON_COMPACT) : -1;

    json_decref(line);
    if (rc == 0) {
        rc = dump.rc = shl_buf_append_str(out, "\n");
    }
    if (rc == 0) {
        return 0;
    }
    return dump.rc == SHL_ELIMIT
               ? shl_err_set(err, SHL_ELIMIT, "the input of the agent may take %zu bytes",
                             out->max_bytes)
               : shl_err_set(err, -ENOMEM, "no memory for the input of the agent");
}

static json_t *make_line(const char *type)
{
    return json_pack("{s:s}", "type", type);
}

static int copy_texts(const json_t *body, json_t *line, struct shl_err *err)
{
    static const char *const names[] = {"model", "systemPrompt", "permissionMode", "cwd", "resume"};
    const json_t *tools;
    int rc;

    for (size_t i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        const char *text;

        rc = node_params_str(body, names[i], &text, err);
        if (rc > 0 && *text != '\0' && json_object_set_new(line, names[i], json_string(text)) < 0) {
            return shl_err_set(err, -ENOMEM, "no memory for the request");
        }
        if (rc < 0) {
            return rc;
        }
    }
    rc = node_params_strings(body, "allowedTools", &tools, err);
    if (rc > 0 && json_object_set(line, "allowedTools", (json_t *)tools) < 0) {
        return shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    return rc < 0 ? rc : 0;
}

static int copy_turns(const json_t *body, json_t *line, struct shl_err *err)
{
    int64_t turns;
    int rc = node_params_int(body, "maxTurns", 1, INT32_MAX, &turns, err);

    if (rc > 0 && json_object_set_new(line, "maxTurns", json_integer(turns)) < 0) {
        return shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    return rc < 0 ? rc : 0;
}

/* What is inside a server is the business of the agent's SDK. */
static int copy_servers(const json_t *body, json_t *line, struct shl_err *err)
{
    json_t *servers = json_object_get(body, "mcpServers");
    const char *name;
    json_t *server;

    if (!servers || json_is_null(servers)) {
        return 0;
    }
    if (!json_is_object(servers)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "mcpServers must be an object of servers by their names");
    }
    json_object_foreach(servers, name, server)
    {
        if (!json_is_object(server)) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "mcpServers: '%.64s' must be an object like {\"command\": ...}",
                               name);
        }
    }
    return json_object_set(line, "mcpServers", servers) < 0
               ? shl_err_set(err, -ENOMEM, "no memory for the request")
               : 0;
}

/* How many fields were set, or an error. */
static int append_configure(const json_t *body, struct shl_buf *out, struct shl_err *err)
{
    json_t *line = make_line("configure");
    size_t count;
    int rc = line ? copy_texts(body, line, err) : shl_err_set(err, -ENOMEM, "no memory");

    if (rc == 0) {
        rc = copy_turns(body, line, err);
    }
    if (rc == 0) {
        rc = copy_servers(body, line, err);
    }
    count = rc == 0 ? json_object_size(line) - 1 : 0;
    if (count == 0) {
        json_decref(line);
        return rc;
    }
    rc = append_line(out, line, err);
    return rc < 0 ? rc : (int)SHL_MIN(count, (size_t)INT32_MAX);
}

/* 1 when there was one. */
static int append_prompt(const json_t *body,
                         const char *name,
                         bool with_resume,
                         struct shl_buf *out,
                         struct shl_err *err)
{
    const char *text = NULL;
    const char *resume = NULL;
    json_t *line;
    int rc = node_params_str(body, name, &text, err);

    if (rc >= 0 && with_resume) {
        rc = node_params_str(body, "resume", &resume, err);
    }
    if (rc < 0 || !text || *text == '\0') {
        return SHL_MIN(rc, 0);
    }
    line = json_pack("{s:s, s:s, s:s*}", "type", "prompt", "text", text, "resume",
                     resume && *resume != '\0' ? resume : NULL);
    rc = append_line(out, line, err);
    return rc < 0 ? rc : 1;
}

int node_agent_lines_start(struct shl_bytes body, struct shl_buf *out, struct shl_err *err)
{
    json_t *json = NULL;
    int rc = node_params_parse(body, &json, err);

    if (rc == 0) {
        rc = append_configure(json, out, err);
    }
    if (rc >= 0) {
        rc = append_prompt(json, "prompt", false, out, err);
    }
    json_decref(json);
    return SHL_MIN(rc, 0);
}

int node_agent_lines_prompt(struct shl_bytes body, struct shl_buf *out, struct shl_err *err)
{
    json_t *json = NULL;
    int rc = node_params_parse(body, &json, err);

    if (rc == 0) {
        rc = append_prompt(json, "text", true, out, err);
        if (rc == 0) {
            rc = shl_err_set(err, SHL_EINVALIDARG, "text is required: what the agent is to do");
        }
    }
    json_decref(json);
    return SHL_MIN(rc, 0);
}

int node_agent_lines_configure(struct shl_bytes body, struct shl_buf *out, struct shl_err *err)
{
    json_t *json = NULL;
    int rc = node_params_parse(body, &json, err);

    if (rc == 0) {
        rc = append_configure(json, out, err);
        if (rc == 0) {
            rc = shl_err_set(err, SHL_EINVALIDARG,
                             "nothing to configure: set model, systemPrompt, allowedTools, "
                             "permissionMode, maxTurns, cwd, mcpServers or resume");
        }
    }
    json_decref(json);
    return SHL_MIN(rc, 0);
}

int node_agent_lines_interrupt(struct shl_buf *out, struct shl_err *err)
{
    return append_line(out, make_line("interrupt"), err);
}
