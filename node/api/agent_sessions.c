/* Agents: sessions whose program is the wrapper of the agent's SDK. They are exec sessions in
 * every respect (list, attach, kill, hibernation); what is theirs is the lines that they are sent.
 *
 *   start: exec.start of the wrapper -> its first lines by exec.input -> 201
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/protocol.h"
#include "base/id.h"
#include "base/io.h"
#include "node/api/agent_lines.h"
#include "node/api/agent_request.h"
#include "node/api/handlers.h"
#include "node/api/session_input.h"

#define SESSION_DIGITS 12

/* Start */

struct start {
    struct node_call *call;
    struct shl_buf lines;
    char session[AGENT_SESSION_ID_MAX + 1];
    int64_t started_at_ms;
};

static void start_free(struct start *start)
{
    shl_buf_release(&start->lines);
    node_call_unref(start->call);
    free(start);
}

static void reply_started(struct start *start, bool is_running)
{
    char text[NODE_TIME_TEXT_SIZE];

    node_time_text(text, start->started_at_ms);
    node_call_reply_json(start->call, 201,
                         json_pack("{s:s, s:s, s:s, s:[], s:b, s:s, s:i}", "sessionID",
                                   start->session, "sandboxID", start->call->sandbox->id, "command",
                                   NODE_AGENT_WRAPPER, "args", "running", is_running, "startedAt",
                                   text, "attachedClients", 0));
}

/* One that has ended already says why in its output, as without a key. */
static void on_lines_sent(void *arg, int code, const char *msg)
{
    struct start *start = arg;

    if (code == 0 || code == SHL_EBADSTATE) {
        reply_started(start, code == 0);
    } else {
        node_call_fail(start->call, code, msg);
    }
    start_free(start);
}

static void on_start_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct start *start = arg;

    if (code == SHL_ENOTFOUND) {
        node_call_fail(start->call, SHL_EBADSTATE,
                       "this sandbox has no program " NODE_AGENT_WRAPPER
                       ": create it from the template base, or from an image on top of it");
    } else if (code < 0) {
        node_call_fail(start->call, code == SHL_ELIMIT ? SHL_EQUOTA : node_guest_code(code), msg);
    } else {
        if (shl_mp_get_int(response, "started_at_ms", &start->started_at_ms) < 0) {
            start->started_at_ms = shl_realtime_ms();
        }
        if (shl_buf_len(&start->lines) > 0) {
            node_session_input_send(start->call, start->session, NODE_AGENT_WRAPPER, &start->lines,
                                    on_lines_sent, start);
            return;
        }
        reply_started(start, true);
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
    node_agent_request_init(&request, "exec.start");
    shl_mp_kv_str(&request.w, "session", start->session);
    shl_mp_kv_str(&request.w, "cmd", NODE_AGENT_WRAPPER);
    shl_mp_kv_bool(&request.w, "program", true);
    shl_mp_kv_bool(&request.w, "pipe_stdin", true);
    shl_mp_kv_uint(&request.w, "ring_bytes", NODE_AGENT_RING_BYTES);
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

void node_handle_agent_start(struct node_call *call)
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
    shl_buf_init(&start->lines, AGENT_INPUT_MAX);
    if (node_agent_lines_start(shl_buf_bytes(&call->x->body), &start->lines, &err) < 0) {
        node_call_fail_err(call, &err);
        start_free(start);
        return;
    }
    node_call_enter(call, start_ready, start_refused, start);
}

/* Lines for one that runs */

struct lines {
    struct node_call *call;
    struct shl_buf text;
    char session[AGENT_SESSION_ID_MAX + 1];
};

static void lines_free(struct lines *lines)
{
    shl_buf_release(&lines->text);
    node_call_unref(lines->call);
    free(lines);
}

static void on_sent(void *arg, int code, const char *msg)
{
    struct lines *lines = arg;

    if (code == 0) {
        node_call_reply_empty(lines->call, 204);
    } else if (code == SHL_EBADSTATE) {
        node_call_fail(lines->call, code,
                       "this agent session has ended: start another one; with resume it goes on "
                       "with the same conversation");
    } else if (code == SHL_ENOTFOUND) {
        node_call_fail(lines->call, code, "agent session not found");
    } else {
        node_call_fail(lines->call, code, msg);
    }
    lines_free(lines);
}

static void lines_ready(void *arg)
{
    struct lines *lines = arg;

    node_session_input_send(lines->call, lines->session, NODE_AGENT_WRAPPER, &lines->text, on_sent,
                            lines);
}

static void lines_refused(void *arg, int code, const char *msg)
{
    struct lines *lines = arg;

    node_call_refuse(lines->call, code, msg);
    lines_free(lines);
}

typedef int (*make_lines)(struct shl_bytes body, struct shl_buf *out, struct shl_err *err);

static void send_lines(struct node_call *call, make_lines make)
{
    struct shl_err err = {0};
    struct lines *lines;

    if (!node_call_find_sandbox(call) || !node_call_check_session(call)) {
        return;
    }
    lines = calloc(1, sizeof(*lines));
    if (!lines) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    lines->call = node_call_ref(call);
    memcpy(lines->session, call->sid, strlen(call->sid) + 1);
    shl_buf_init(&lines->text, AGENT_INPUT_MAX);
    if (make(shl_buf_bytes(&call->x->body), &lines->text, &err) < 0) { /* before a wake */
        node_call_fail_err(call, &err);
        lines_free(lines);
        return;
    }
    node_call_enter(call, lines_ready, lines_refused, lines);
}

static int make_interrupt(struct shl_bytes body, struct shl_buf *out, struct shl_err *err)
{
    (void)body;
    return node_agent_lines_interrupt(out, err);
}

void node_handle_agent_prompt(struct node_call *call)
{
    send_lines(call, node_agent_lines_prompt);
}

void node_handle_agent_configure(struct node_call *call)
{
    send_lines(call, node_agent_lines_configure);
}

void node_handle_agent_interrupt(struct node_call *call)
{
    send_lines(call, make_interrupt);
}
