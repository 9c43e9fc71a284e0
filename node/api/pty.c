/* Terminals: create, resize, end. attach.c has the clients. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/api/agent_request.h"
#include "node/api/handlers.h"
#include "node/api/params.h"

#define SESSION_DIGITS 12
#define LINGER_MS      (10u * 60 * 1000) /* without a client, then it hangs up */
#define RING_BYTES     (256u * 1024)     /* what a client that comes back sees again */

/* The shell of a login, whichever the image has. */
#define LOGIN_SHELL "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"

struct create {
    struct node_call *call;
    json_t *body;
    const char *shell; /* NULL: the default */
    const char *cmd;   /* instead of a shell; NULL none */
    const json_t *args;
    int64_t timeout_s; /* 0 none */
    const char *cwd;
    struct node_kv_list envs;
    int64_t cols;
    int64_t rows;
    char session[AGENT_SESSION_ID_MAX + 1];
};

static void create_free(struct create *create)
{
    node_kv_release(&create->envs);
    json_decref(create->body);
    node_call_unref(create->call);
    free(create);
}

static int parse_size(const json_t *body, int64_t *cols, int64_t *rows, struct shl_err *err)
{
    int rc = node_params_int(body, "cols", 1, UINT16_MAX, cols, err);

    return rc < 0 ? rc : node_params_int(body, "rows", 1, UINT16_MAX, rows, err);
}

/* What runs on it, when that is no shell. */
static int parse_command(struct create *create, struct shl_err *err)
{
    int rc = node_params_str(create->body, "cmd", &create->cmd, err);

    if (rc > 0 && *create->cmd == '\0') {
        create->cmd = NULL;
    }
    if (rc >= 0) {
        rc = node_params_strings(create->body, "args", &create->args, err);
    }
    if (rc >= 0 && json_array_size(create->args) == 0) {
        create->args = NULL;
    }
    if (rc >= 0) {
        rc = node_params_int(create->body, "timeout", 0, AGENT_EXEC_TIMEOUT_MAX_MS / 1000,
                             &create->timeout_s, err);
    }
    if (rc >= 0 && create->cmd && create->shell) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "shell and cmd both say what to run: give one of the two");
    }
    return rc;
}

static int parse_create(struct create *create, struct shl_err *err)
{
    int rc = node_params_parse(shl_buf_bytes(&create->call->x->body), &create->body, err);

    if (rc == 0) {
        rc = parse_size(create->body, &create->cols, &create->rows, err);
    }
    if (rc >= 0) {
        rc = node_params_str(create->body, "shell", &create->shell, err);
    }
    if (rc > 0 && *create->shell == '\0') {
        create->shell = NULL;
    }
    if (rc >= 0) {
        rc = node_params_str(create->body, "cwd", &create->cwd, err);
    }
    if (rc > 0 && *create->cwd == '\0') {
        create->cwd = NULL;
    }
    if (rc >= 0) {
        rc = parse_command(create, err);
    }
    return rc < 0 ? rc : node_params_map(create->body, "envs", true, &create->envs, err);
}

static void on_create_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct create *create = arg;

    (void)response;
    if (code < 0) {
        node_call_fail(create->call, code == SHL_ELIMIT ? SHL_EQUOTA : node_guest_code(code), msg);
    } else {
        node_call_reply_json(create->call, 201,
                             json_pack("{s:s, s:s}", "sessionID", create->session, "sandboxID",
                                       create->call->sandbox->id));
    }
    create_free(create);
}

static const struct node_agent_stream_ops create_ops = {.on_end = on_create_end};

static void write_command(const struct create *create, struct shl_mp_writer *w)
{
    size_t index;
    json_t *item;

    if (create->cmd) {
        shl_mp_kv_str(w, "cmd", create->cmd);
    } else {
        shl_mp_kv_str(w, "cmd", create->shell ? create->shell : LOGIN_SHELL);
    }
    if (create->cmd && create->args) {
        shl_mp_kv_array(w, "args");
        json_array_foreach((json_t *)create->args, index, item)
        {
            shl_mp_str(w, json_string_value(item));
        }
        shl_mp_end(w);
    } else if (create->shell) { /* a program, not words for a shell */
        shl_mp_kv_array(w, "args");
        shl_mp_str(w, "-i");
        shl_mp_end(w);
    }
}

static void write_request(const struct create *create, struct node_agent_request *request)
{
    struct shl_mp_writer *w = &request->w;
    char number[16];

    node_agent_request_init(request, "exec.start");
    shl_mp_kv_str(w, "session", create->session);
    write_command(create, w);
    if (create->cwd) {
        shl_mp_kv_str(w, "cwd", create->cwd);
    }
    shl_mp_kv_map(w, "envs");
    shl_mp_kv_str(w, "TERM", "xterm-256color");
    (void)snprintf(number, sizeof(number), "%d", (int)create->cols);
    shl_mp_kv_str(w, "COLUMNS", number);
    (void)snprintf(number, sizeof(number), "%d", (int)create->rows);
    shl_mp_kv_str(w, "LINES", number);
    for (size_t i = 0; i < create->envs.count; i++) {
        shl_mp_kv_str(w, create->envs.items[i].key, create->envs.items[i].value);
    }
    shl_mp_end(w);
    if (create->timeout_s > 0) {
        shl_mp_kv_uint(w, "timeout_ms", (uint64_t)create->timeout_s * 1000);
    }
    shl_mp_kv_bool(w, "tty", true);
    shl_mp_kv_uint(w, "cols", (uint64_t)create->cols);
    shl_mp_kv_uint(w, "rows", (uint64_t)create->rows);
    shl_mp_kv_uint(w, "ring_bytes", RING_BYTES);
    shl_mp_kv_uint(w, "linger_ms", LINGER_MS);
}

static void create_ready(void *arg)
{
    struct create *create = arg;
    struct node_agent_request request;
    struct node_agent_stream *stream = NULL;
    struct shl_err err = {0};

    shl_id_make(create->session, sizeof(create->session), "", SESSION_DIGITS);
    write_request(create, &request);
    if (node_agent_request_send(&request, create->call, &create_ops, create, &stream, &err) < 0) {
        node_call_fail_err(create->call, &err);
        create_free(create);
    }
}

static void create_refused(void *arg, int code, const char *msg)
{
    struct create *create = arg;

    node_call_refuse(create->call, code, msg);
    create_free(create);
}

void node_handle_pty_create(struct node_call *call)
{
    struct shl_err err = {0};
    struct create *create;

    if (!node_call_find_sandbox(call)) {
        return;
    }
    create = calloc(1, sizeof(*create));
    if (!create) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    create->call = node_call_ref(call);
    create->cols = 80;
    create->rows = 24;
    if (parse_create(create, &err) < 0) {
        node_call_fail_err(call, &err);
        create_free(create);
        return;
    }
    node_call_enter(call, create_ready, create_refused, create);
}

/* Resize and end */

/* Both are required. */
static int parse_resize(struct node_call *call, int64_t *cols, int64_t *rows, struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    *cols = 0;
    *rows = 0;
    if (rc == 0) {
        rc = parse_size(body, cols, rows, err);
        json_decref(body);
    }
    if (rc >= 0 && (*cols == 0 || *rows == 0)) {
        return shl_err_set(err, SHL_EINVALIDARG, "cols and rows are required");
    }
    return SHL_MIN(rc, 0);
}

static void resize_ready(void *arg)
{
    struct node_call *call = arg;
    struct node_agent_request request;
    struct shl_err err = {0};
    int64_t cols;
    int64_t rows;

    if (parse_resize(call, &cols, &rows, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    node_agent_request_init(&request, "exec.resize");
    shl_mp_kv_str(&request.w, "session", call->sid);
    shl_mp_kv_uint(&request.w, "cols", (uint64_t)cols);
    shl_mp_kv_uint(&request.w, "rows", (uint64_t)rows);
    node_agent_request_simple(&request, call, NULL);
}

void node_handle_pty_resize(struct node_call *call)
{
    struct shl_err err = {0};
    int64_t cols;
    int64_t rows;

    if (!node_call_find_sandbox(call) || !node_call_check_session(call)) {
        return;
    }
    if (parse_resize(call, &cols, &rows, &err) < 0) { /* before anything is woken for it */
        node_call_fail_err(call, &err);
        return;
    }
    node_call_enter(call, resize_ready, NULL, call);
}

static void kill_ready(void *arg)
{
    struct node_call *call = arg;
    struct node_agent_request request;

    node_agent_request_init(&request, "exec.end");
    shl_mp_kv_str(&request.w, "session", call->sid);
    node_agent_request_simple(&request, call, NULL);
}

void node_handle_pty_kill(struct node_call *call)
{
    if (!node_call_find_sandbox(call) || !node_call_check_session(call)) {
        return;
    }
    node_call_enter(call, kill_ready, NULL, call);
}
