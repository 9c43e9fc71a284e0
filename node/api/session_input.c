#include "node/api/session_input.h"

#include <errno.h>
#include <stdlib.h>

#include "node/api/agent_request.h"

struct input {
    struct node_call *call;
    struct node_agent_stream *stream;
    struct shl_buf bytes; /* not sent yet */
    bool is_sent;
    bool is_unwanted; /* the client has left */
    void (*done)(void *arg, int code, const char *msg);
    void *arg;
};

static void finish(struct input *input, int code, const char *msg)
{
    if (node_call_is_open(input->call)) {
        input->call->on_gone = NULL;
    }
    input->done(input->arg, code, msg);
    shl_buf_release(&input->bytes);
    node_call_unref(input->call);
    free(input);
}

/* All goes out even if nobody waits any more: half of it would be for nothing. */
static void send_bytes(struct input *input)
{
    size_t len = shl_buf_len(&input->bytes);
    size_t taken =
        len > 0 ? node_agent_write(input->stream, AGENT_CHANNEL_RAW, shl_buf_bytes(&input->bytes))
                : 0;

    shl_buf_consume(&input->bytes, taken);
    if (taken < len || input->is_sent) {
        return;
    }
    input->is_sent = true;
    node_agent_eof(input->stream);
    if (input->is_unwanted) {
        node_agent_cancel(input->stream);
    }
}

static void on_writable(void *arg)
{
    send_bytes(arg);
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct input *input = arg;

    (void)response;
    finish(input, code < 0 && !input->is_unwanted ? node_guest_code(code) : code, msg);
}

static const struct node_agent_stream_ops stream_ops = {.on_writable = on_writable,
                                                        .on_end = on_end};

static void on_gone(void *arg)
{
    struct input *input = arg;

    input->is_unwanted = true;
    if (input->is_sent) {
        node_agent_cancel(input->stream);
    }
}

void node_session_input_send(struct node_call *call,
                             const char *session,
                             const char *only,
                             struct shl_buf *bytes,
                             void (*done)(void *arg, int code, const char *msg),
                             void *arg)
{
    struct node_agent_request request;
    struct input *input = calloc(1, sizeof(*input));
    struct shl_err err = {0};

    if (!input) {
        shl_buf_release(bytes);
        done(arg, -ENOMEM, shl_err_text(-ENOMEM));
        return;
    }
    input->call = node_call_ref(call);
    input->bytes = *bytes;
    shl_buf_init(bytes, 0);
    input->done = done;
    input->arg = arg;
    node_agent_request_init(&request, "exec.input");
    shl_mp_kv_str(&request.w, "session", session);
    if (only) {
        shl_mp_kv_str(&request.w, "only", only);
    }
    if (node_agent_request_send(&request, call, &stream_ops, input, &input->stream, &err) < 0) {
        finish(input, err.code, err.msg);
        return;
    }
    if (node_call_is_open(call)) {
        call->on_gone = on_gone;
        call->gone_arg = input;
    } else {
        input->is_unwanted = true;
    }
    send_bytes(input);
}
