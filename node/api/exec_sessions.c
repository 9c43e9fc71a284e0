/* Sessions that run on by themselves: start, list, kill; the latter two also of agents alone.
 * attach.c has the clients. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/agent_lines.h"
#include "node/api/agent_request.h"
#include "node/api/array_reply.h"
#include "node/api/exec_spec.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/http/json_text.h"

#define SESSION_DIGITS 12
#define SIGNAL_DEFAULT 9
#define SIGNAL_MAX     64

/* Start */

struct start {
    struct node_call *call;
    struct node_exec_spec spec;
    char session[AGENT_SESSION_ID_MAX + 1];
};

static void start_free(struct start *start)
{
    node_exec_spec_release(&start->spec);
    node_call_unref(start->call);
    free(start);
}

static void reply_started(struct start *start, const msgpack_object *response)
{
    json_t *args = start->spec.args ? json_incref((json_t *)start->spec.args) : json_array();
    char text[NODE_TIME_TEXT_SIZE];
    int64_t started_at_ms = shl_realtime_ms();
    int64_t told_ms;

    if (shl_mp_get_int(response, "started_at_ms", &told_ms) == 0) {
        started_at_ms = told_ms;
    }
    node_time_text(text, started_at_ms);
    node_call_reply_json(start->call, 201,
                         json_pack("{s:s, s:s, s:s, s:o, s:b, s:s, s:i}", "sessionID",
                                   start->session, "sandboxID", start->call->sandbox->id, "command",
                                   start->spec.cmd, "args", args, "running", 1, "startedAt", text,
                                   "attachedClients", 0));
}

static void on_start_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct start *start = arg;

    if (code < 0) {
        node_call_fail(start->call, code == SHL_ELIMIT ? SHL_EQUOTA : node_guest_code(code), msg);
    } else if (node_call_is_open(start->call)) {
        reply_started(start, response);
    }
    start_free(start);
}

static const struct node_agent_stream_ops start_ops = {.on_end = on_start_end};

static void start_ready(void *arg)
{
    struct start *start = arg;
    struct node_agent_request request;
    struct node_agent_stream *stream = NULL;
    struct shl_err err = {0};

    shl_id_make(start->session, sizeof(start->session), "", SESSION_DIGITS);
    node_exec_spec_write(&start->spec, start->session, true, &request);
    if (node_agent_request_send(&request, start->call, &start_ops, start, &stream, &err) < 0) {
        node_call_fail_err(start->call, &err);
        start_free(start);
    }
}

static void start_refused(void *arg, int code, const char *msg)
{
    struct start *start = arg;

    node_call_refuse(start->call, code, msg);
    start_free(start);
}

void node_handle_exec_start(struct node_call *call)
{
    struct shl_err err = {0};
    struct start *start;

    if (!node_call_find_sandbox(call)) {
        return;
    }
    start = calloc(1, sizeof(*start));
    if (!start) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    start->call = node_call_ref(call);
    if (node_exec_spec_parse(shl_buf_bytes(&call->x->body), 0, &start->spec, &err) < 0) {
        node_call_fail_err(call, &err);
        start_free(start);
        return;
    }
    node_call_enter(call, start_ready, start_refused, start);
}

/* List */

static int append_field(struct shl_buf *out, const char *name, struct shl_bytes text)
{
    int rc = shl_buf_printf(out, "\"%s\":", name);

    return rc < 0 ? rc : node_json_append(out, text);
}

static int append_args(struct shl_buf *out, const msgpack_object *args)
{
    int rc = shl_buf_append_str(out, ",\"args\":[");

    for (uint32_t i = 0; rc == 0 && args && i < args->via.array.size; i++) {
        const msgpack_object *item = &args->via.array.ptr[i];

        if (item->type != MSGPACK_OBJECT_STR) {
            return SHL_EGUEST;
        }
        rc = i > 0 ? shl_buf_append_str(out, ",") : 0;
        if (rc == 0) {
            rc = node_json_append(out, shl_bytes_of(item->via.str.ptr, item->via.str.size));
        }
    }
    return rc < 0 ? rc : shl_buf_append_str(out, "]");
}

struct session {
    struct shl_bytes id;
    struct shl_bytes cmd;
    const msgpack_object *args;
    bool running;
    int64_t exit_code;
    int64_t started_at_ms;
    uint64_t attached;
};

static int read_session(const msgpack_object *item, struct session *session)
{
    int rc = shl_mp_get_str(item, "session", &session->id);

    if (rc == 0) {
        rc = shl_mp_get_str(item, "cmd", &session->cmd);
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(item, "running", &session->running);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(item, "started_at_ms", &session->started_at_ms);
    }
    if (rc == 0 && !session->running) {
        rc = shl_mp_get_int(item, "exit_code", &session->exit_code);
    }
    if (rc < 0) {
        return SHL_EGUEST;
    }
    session->args = shl_mp_find(item, "args");
    if (session->args && session->args->type != MSGPACK_OBJECT_ARRAY) {
        return SHL_EGUEST;
    }
    if (shl_mp_get_uint(item, "attached", UINT32_MAX, &session->attached) < 0) {
        session->attached = 0;
    }
    return 0;
}

static int convert_session(void *arg, const msgpack_object *item, struct shl_buf *out)
{
    struct node_call *call = arg;
    struct session session = {.exit_code = 0};
    char started[NODE_TIME_TEXT_SIZE];
    int rc = read_session(item, &session);

    if (rc == 0) {
        rc = shl_buf_append_str(out, "{");
    }
    if (rc == 0) {
        rc = append_field(out, "sessionID", session.id);
    }
    if (rc == 0) {
        rc = shl_buf_printf(out, ",\"sandboxID\":\"%s\",", call->sandbox->id);
    }
    if (rc == 0) {
        rc = append_field(out, "command", session.cmd);
    }
    if (rc == 0) {
        rc = append_args(out, session.args);
    }
    if (rc == 0 && !session.running) {
        rc = shl_buf_printf(out, ",\"exitCode\":%lld", (long long)session.exit_code);
    }
    if (rc < 0) {
        return rc;
    }
    node_time_text(started, session.started_at_ms);
    return shl_buf_printf(out, ",\"running\":%s,\"startedAt\":\"%s\",\"attachedClients\":%llu}",
                          session.running ? "true" : "false", started,
                          (unsigned long long)session.attached);
}

static void list(struct node_call *call, const char *only)
{
    struct node_agent_request request;

    node_agent_request_init(&request, "exec.list");
    if (only) {
        shl_mp_kv_str(&request.w, "only", only);
    }
    node_array_reply(&request, call, convert_session, call, NULL);
}

static void list_ready(void *arg)
{
    list(arg, NULL);
}

static void agent_list_ready(void *arg)
{
    list(arg, NODE_AGENT_WRAPPER);
}

void node_handle_exec_list(struct node_call *call)
{
    node_call_enter(call, list_ready, NULL, call);
}

void node_handle_agent_list(struct node_call *call)
{
    node_call_enter(call, agent_list_ready, NULL, call);
}

/* Kill */

static int parse_signal(struct node_call *call, int64_t *ret_signal, struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_params_int(body, "signal", 1, SIGNAL_MAX, ret_signal, err);
        json_decref(body);
    }
    return rc;
}

/* @json is taken: the answer, 204 without. */
static void send_kill(struct node_call *call, const char *only, json_t *json)
{
    struct node_agent_request request;
    struct shl_err err = {0};
    int64_t signal = SIGNAL_DEFAULT;

    if (parse_signal(call, &signal, &err) < 0) {
        json_decref(json);
        node_call_fail_err(call, &err);
        return;
    }
    node_agent_request_init(&request, "exec.kill");
    shl_mp_kv_str(&request.w, "session", call->sid);
    shl_mp_kv_int(&request.w, "signal", signal);
    if (only) {
        shl_mp_kv_str(&request.w, "only", only);
    }
    node_agent_request_simple(&request, call, json);
}

static void kill_ready(void *arg)
{
    send_kill(arg, NULL, json_pack("{s:s}", "status", "ok"));
}

static void agent_kill_ready(void *arg)
{
    send_kill(arg, NODE_AGENT_WRAPPER, NULL);
}

static void kill_session(struct node_call *call, void (*ready)(void *arg))
{
    struct shl_err err = {0};
    int64_t signal = SIGNAL_DEFAULT;

    if (!node_call_find_sandbox(call) || !node_call_check_session(call)) {
        return;
    }
    if (parse_signal(call, &signal, &err) < 0) { /* before anything is woken for it */
        node_call_fail_err(call, &err);
        return;
    }
    node_call_enter(call, ready, NULL, call);
}

void node_handle_exec_kill(struct node_call *call)
{
    kill_session(call, kill_ready);
}

void node_handle_agent_kill(struct node_call *call)
{
    kill_session(call, agent_kill_ready);
}
