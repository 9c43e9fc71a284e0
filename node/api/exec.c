/* Commands that run to their end: exec/run, exec/run-async and its result.
 *
 * All three are: start a session (not for a result), then ask exec.result of it, which
 * the agent answers when the program has ended or the wait is over. They differ in how
 * long they wait and in what they say then. The session belongs to the agent: when the
 * client or the link goes away, the command runs on to its time-out.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/agent_request.h"
#include "node/api/cold.h"
#include "node/api/exec_spec.h"
#include "node/api/handlers.h"
#include "node/api/output.h"
#include "node/api/server_private.h"
#include "node/http/json_text.h"

#define FAST_WAIT_MS   400  /* run-async answers with the result when it is there by then */
#define POLL_WAIT_MS   500  /* a result may be waited for this long */
#define RUN_GRACE_MS   5000 /* on top of the command's own time-out */
#define RUN_TRIES_MAX  8    /* results asked for again after a lost link */
#define SESSION_DIGITS 12

enum exec_mode {
    EXEC_RUN,
    EXEC_ASYNC,
    EXEC_POLL,
};

struct exec {
    struct node_call *call;
    enum exec_mode mode;
    char session[AGENT_SESSION_ID_MAX + 1];
    struct node_agent_stream *stream; /* the result under way, NULL between */
    int64_t started_at_ms;
    uint64_t wait_ms;     /* of the next result request */
    uint64_t deadline_ms; /* monotonic; of run: when to stop asking */
    unsigned tries;
    struct node_output output;
    bool has_head;
    bool running;
    struct node_output_facts facts;
    int fault;                         /* why we cancelled the stream ourselves, 0 otherwise */
    struct node_agent_request request; /* exec.start until it is sent */
    struct node_cold_hold *hold;       /* of a poll that waits for a wake */
};

static void ask_result(struct exec *exec);

static void exec_free(struct exec *exec)
{
    node_output_release(&exec->output);
    shl_buf_release(&exec->request.buf);
    exec->call->on_gone = NULL;
    node_call_unref(exec->call);
    free(exec);
}

/* Replies */

/* Once padding went out there is no status any more; clients then look for exitCode. */
static void reply_failed_result(struct exec *exec, const char *msg)
{
    struct shl_buf text;
    int rc;

    shl_buf_init(&text, 16 * 1024);
    rc = shl_buf_printf(&text, "{%s\"exitCode\":-1,\"stdout\":\"\",\"stderr\":",
                        exec->mode == EXEC_POLL ? "\"running\":false," : "");
    if (rc == 0) {
        rc = node_json_append_str(&text, msg);
    }
    if (rc == 0) {
        rc = shl_buf_append_str(&text, ",\"error\":");
    }
    if (rc == 0) {
        rc = node_json_append_str(&text, msg);
    }
    if (rc == 0) {
        rc = shl_buf_append_str(&text, "}");
    }
    if (rc < 0) {
        shl_buf_release(&text);
        node_call_fail(exec->call, rc, NULL);
        return;
    }
    node_call_reply_buf(exec->call, 200, "application/json", &text);
}

static void reply_waking(struct exec *exec)
{
    node_call_reply_json(exec->call, 200,
                         json_pack("{s:b, s:b, s:s, s:s}", "running", 1, "waking", 1, "stdout", "",
                                   "stderr", ""));
}

static bool may_come_back(const struct exec *exec, int code)
{
    const struct node_sandbox *sandbox = exec->call->sandbox;

    return code == SHL_EUNAVAILABLE || code == -ENOMEM ||
           (code == SHL_EGONE && sandbox && !node_call_is_ended(sandbox, NULL));
}

static void fail(struct exec *exec, int code, const char *msg)
{
    struct node_call *call = exec->call;

    if (!node_call_is_open(call)) {
        return;
    }
    if (!msg || *msg == '\0') {
        msg = shl_err_text(code);
    }
    if (exec->mode == EXEC_POLL && may_come_back(exec, code)) {
        reply_waking(exec); /* a poll that fails loses the result */
    } else if (exec->mode == EXEC_POLL && code == SHL_ENOTFOUND) {
        node_call_fail(call, code, "exec session not found");
    } else if ((exec->mode == EXEC_POLL && code != SHL_EGONE) || call->x->is_padded) {
        reply_failed_result(exec, msg);
    } else {
        node_call_fail(call, code, msg);
    }
}

static void reply_running(struct exec *exec)
{
    char text[NODE_TIME_TEXT_SIZE];

    if (exec->mode == EXEC_POLL) {
        node_call_reply_json(exec->call, 200,
                             json_pack("{s:b, s:s, s:s}", "running", 1, "stdout", "", "stderr",
                                       ""));
        return;
    }
    node_time_text(text, exec->started_at_ms);
    node_call_reply_json(exec->call, 202,
                         json_pack("{s:s, s:b, s:s}", "execId", exec->session, "running", 1,
                                   "startedAt", text));
}

static void reply_result(struct exec *exec)
{
    if (exec->mode == EXEC_ASYNC && exec->facts.truncated) {
        reply_running(exec); /* so that the flag is seen, in the result */
        return;
    }
    exec->facts.with_running = exec->mode == EXEC_POLL;
    node_output_reply(&exec->output, exec->call, &exec->facts);
}

/* Result */

static int read_head(struct exec *exec, const msgpack_object *head)
{
    bool truncated = false;
    int64_t exit_code = -1;
    int rc = shl_mp_get_bool(head, "running", &exec->running);

    if (rc < 0) {
        return SHL_EGUEST;
    }
    rc = shl_mp_get_int(head, "exit_code", &exit_code);
    if (rc < 0 && !(exec->running && rc == SHL_ENOTFOUND)) {
        return SHL_EGUEST;
    }
    exec->facts.exit_code = exit_code;
    exec->facts.truncated = shl_mp_get_bool(head, "truncated", &truncated) == 0 && truncated;
    exec->has_head = true;
    return 0;
}

static void give_up(struct exec *exec, int fault)
{
    if (exec->fault == 0) {
        exec->fault = fault;
        node_agent_cancel(exec->stream);
    }
}

static void on_result_head(void *arg, const msgpack_object *head)
{
    struct exec *exec = arg;
    int rc = read_head(exec, head);

    if (rc < 0) {
        give_up(exec, rc);
    }
}

static void on_result_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct exec *exec = arg;

    node_agent_consumed(exec->stream, data.len);
    if (exec->fault == 0 && node_call_is_open(exec->call)) {
        int rc = node_output_add(&exec->output, channel, data);

        if (rc < 0) {
            give_up(exec, rc);
        }
    }
}

static bool may_ask_again(const struct exec *exec)
{
    return exec->mode == EXEC_RUN && node_call_is_open(exec->call) &&
           exec->call->sandbox->state == NODE_SANDBOX_RUNNING &&
           shl_monotonic_ms() < exec->deadline_ms;
}

static bool is_hibernated(const struct exec *exec)
{
    const struct node_sandbox *sandbox = exec->call->sandbox;

    return sandbox->state == NODE_SANDBOX_HIBERNATING || sandbox->state == NODE_SANDBOX_HIBERNATED;
}

static void on_result_failed(struct exec *exec, int code, const char *msg)
{
    /* A link that broke comes back, and the session is still there. */
    if (code == SHL_EUNAVAILABLE && exec->fault == 0 && ++exec->tries < RUN_TRIES_MAX &&
        may_ask_again(exec)) {
        ask_result(exec);
        return;
    }
    if (exec->mode == EXEC_RUN && exec->fault == 0 && is_hibernated(exec)) {
        fail(exec, SHL_EUNAVAILABLE,
             "the sandbox was hibernated while the command ran: it goes on after the next wake");
    } else if (exec->fault == SHL_EUNAVAILABLE) {
        fail(exec, exec->fault, "the node holds too much command output, try again");
    } else if (exec->fault < 0) {
        fail(exec, exec->fault, NULL);
    } else {
        fail(exec, node_guest_code(code), msg);
    }
    exec_free(exec);
}

static void on_result_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct exec *exec = arg;

    (void)response;
    exec->stream = NULL;
    if (code < 0 || exec->fault < 0 || !exec->has_head) {
        on_result_failed(exec, code < 0 ? code : SHL_EGUEST, code < 0 ? msg : NULL);
    } else if (!exec->running) {
        reply_result(exec);
        exec_free(exec);
    } else if (exec->mode == EXEC_RUN && may_ask_again(exec)) {
        ask_result(exec);
    } else if (exec->mode == EXEC_RUN) {
        fail(exec, -ETIMEDOUT, "the command did not end after its time-out");
        exec_free(exec);
    } else {
        reply_running(exec);
        exec_free(exec);
    }
}

static const struct node_agent_stream_ops result_ops = {.on_head = on_result_head,
                                                        .on_data = on_result_data,
                                                        .on_end = on_result_end};

/* The client left: nobody wants the result, the command runs on. */
static void on_gone(void *arg)
{
    struct exec *exec = arg;

    if (exec->stream) {
        node_agent_cancel(exec->stream);
    } else if (exec->hold) {
        node_cold_unhold(exec->hold);
        exec_free(exec);
    }
}

static void ask_result(struct exec *exec)
{
    struct node_agent_request request;
    struct shl_err err = {0};
    int rc;

    exec->has_head = false;
    shl_buf_clear(&exec->output.out);
    shl_buf_clear(&exec->output.err);
    node_agent_request_init(&request, "exec.result");
    shl_mp_kv_str(&request.w, "session", exec->session);
    shl_mp_kv_uint(&request.w, "wait_ms", exec->wait_ms);
    rc = node_agent_request_send(&request, exec->call, &result_ops, exec, &exec->stream, &err);
    if (rc < 0) {
        fail(exec, rc, err.msg);
        exec_free(exec);
    }
}

/* Start */

static void on_start_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct exec *exec = arg;
    int64_t started_at_ms;

    if (code < 0) {
        fail(exec, code == SHL_ELIMIT ? SHL_EQUOTA : node_guest_code(code), msg);
        exec_free(exec);
        return;
    }
    if (!node_call_is_open(exec->call)) {
        exec_free(exec);
        return;
    }
    exec->started_at_ms = shl_mp_get_int(response, "started_at_ms", &started_at_ms) == 0
                              ? started_at_ms
                              : shl_realtime_ms();
    ask_result(exec);
}

static const struct node_agent_stream_ops start_ops = {.on_end = on_start_end};

static struct exec *exec_new(struct node_call *call, enum exec_mode mode, uint64_t wait_ms)
{
    struct exec *exec = calloc(1, sizeof(*exec));

    if (!exec) {
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    exec->call = node_call_ref(call);
    exec->mode = mode;
    exec->wait_ms = wait_ms;
    node_output_init(&exec->output, call->server);
    shl_buf_init(&exec->request.buf, AGENT_REQUEST_MAX);
    call->on_gone = on_gone;
    call->gone_arg = exec;
    return exec;
}

static void send_start(void *arg)
{
    struct exec *exec = arg;
    struct node_agent_stream *stream = NULL; /* runs to its end whatever happens */
    struct shl_err err = {0};
    int rc = node_agent_request_send(&exec->request, exec->call, &start_ops, exec, &stream, &err);

    exec->deadline_ms = shl_monotonic_ms() + exec->wait_ms;
    if (rc < 0) {
        fail(exec, rc, err.msg);
        exec_free(exec);
    }
}

static void on_refused(void *arg, int code, const char *msg)
{
    struct exec *exec = arg;

    if (code == -EINPROGRESS && !exec->call->x->is_padded) {
        node_call_fail_waking(exec->call);
    } else {
        fail(exec, code, msg);
    }
    exec_free(exec);
}

static void run(struct exec *exec)
{
    if (node_exchange_pad(exec->call->x) < 0) {
        /* It works without, only not for clients that are impatient. */
        SHL_LOG(exec->call->server->log, SHL_LOG_WARN, "exec_unpadded",
                SHL_S("sandbox", exec->call->id));
    }
    node_call_enter(exec->call, send_start, on_refused, exec);
}

/* A sandbox that does not run wakes in the background, the client polls. */
static void run_async(struct exec *exec, struct node_sandbox *sandbox)
{
    struct node_call *call = exec->call;
    struct shl_err err = {0};
    int rc = node_agent_request_finish(&exec->request, &err);

    if (rc == 0 && node_call_is_ended(sandbox, &err)) {
        rc = SHL_EGONE;
    }
    if (rc == 0) {
        rc = node_cold_begin(call->server, sandbox, exec->session, &exec->request, &err);
    }
    if (rc > 0) {
        node_call_hold(call, sandbox);
        send_start(exec);
        return;
    }
    if (rc < 0) {
        fail(exec, rc, err.msg);
    } else {
        exec->started_at_ms = shl_realtime_ms();
        reply_running(exec);
    }
    exec_free(exec);
}

static void start(struct node_call *call, enum exec_mode mode)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_exec_spec spec;
    struct shl_err err = {0};
    struct exec *exec;

    if (!sandbox) {
        return;
    }
    if (node_exec_spec_parse(shl_buf_bytes(&call->x->body), NODE_EXEC_TIMEOUT_DEFAULT_S, &spec,
                             &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    exec =
        exec_new(call, mode,
                 mode == EXEC_RUN ? (uint64_t)spec.timeout_s * 1000 + RUN_GRACE_MS : FAST_WAIT_MS);
    if (exec) {
        shl_id_make(exec->session, sizeof(exec->session), "", SESSION_DIGITS);
        node_exec_spec_write(&spec, exec->session, false, &exec->request);
        if (mode == EXEC_RUN) {
            run(exec);
        } else {
            run_async(exec, sandbox);
        }
    }
    node_exec_spec_release(&spec);
}

void node_handle_exec_run(struct node_call *call)
{
    start(call, EXEC_RUN);
}

void node_handle_exec_run_async(struct node_call *call)
{
    start(call, EXEC_ASYNC);
}

static void answer_poll(struct exec *exec, bool may_hold);

static void on_hold_end(void *arg, bool is_over)
{
    struct exec *exec = arg;

    exec->hold = NULL;
    if (is_over) {
        answer_poll(exec, false);
    } else {
        reply_waking(exec);
        exec_free(exec);
    }
}

/* A wake is often over before the client would ask again. */
static void poll_waiting(struct exec *exec, struct node_cold *cold, bool may_hold)
{
    if (may_hold && cold) {
        exec->hold = node_cold_hold(cold, exec->wait_ms, on_hold_end, exec);
    }
    if (!exec->hold) {
        reply_waking(exec);
        exec_free(exec);
    }
}

static void poll_failed(struct exec *exec, struct node_cold *cold)
{
    reply_failed_result(exec, cold->error);
    if (!cold->is_start) { /* the next poll tries to wake it again */
        node_cold_drop(cold);
    }
    exec_free(exec);
}

/* The command, or the whole sandbox, may be waiting for a wake. */
static void answer_poll(struct exec *exec, bool may_hold)
{
    struct node_call *call = exec->call;
    struct node_sandbox *sandbox = call->sandbox;
    struct node_cold *cold = node_cold_find(call->server, sandbox->id, exec->session);
    struct shl_err err = {0};
    int rc;

    if (cold) {
        if (cold->has_failed) {
            poll_failed(exec, cold);
        } else {
            poll_waiting(exec, cold, may_hold);
        }
        return;
    }
    rc = node_call_is_ended(sandbox, &err)
             ? SHL_EGONE
             : node_cold_begin(call->server, sandbox, exec->session, NULL, &err);
    if (rc > 0) {
        node_call_hold(call, sandbox);
        ask_result(exec);
    } else if (rc == 0) {
        poll_waiting(exec, node_cold_find(call->server, sandbox->id, exec->session), may_hold);
    } else {
        fail(exec, rc, err.msg);
        exec_free(exec);
    }
}

void node_handle_exec_result(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct exec *exec;

    if (!sandbox || !node_call_check_session(call)) {
        return;
    }
    exec = exec_new(call, EXEC_POLL, POLL_WAIT_MS);
    if (!exec) {
        return;
    }
    memcpy(exec->session, call->sid, strlen(call->sid) + 1);
    node_call_set_sandbox(call, sandbox);
    answer_poll(exec, true);
}
