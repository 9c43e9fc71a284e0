/* PUT files: the request body into a file of the guest.
 *
 * Body bytes go straight to the agent's stream; what it does not take stays with the
 * connection, which stops reading. The agent may answer early with an error; the rest of
 * the body is then read and dropped by the HTTP layer.
 */
#include <errno.h>
#include <stdlib.h>

#include "node/api/agent_request.h"
#include "node/api/handlers.h"

struct writing {
    struct node_call *call;
    struct node_agent_stream *stream; /* NULL when ended */
};

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct writing *w = arg;

    return w->stream ? node_agent_write(w->stream, AGENT_CHANNEL_RAW, data) : data.len;
}

static void sink_end(void *arg)
{
    struct writing *w = arg;

    if (w->stream) {
        node_agent_eof(w->stream);
    }
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static void on_writable(void *arg)
{
    struct writing *w = arg;

    if (node_call_is_open(w->call)) {
        node_exchange_resume_body(w->call->x);
    }
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct writing *w = arg;

    (void)response;
    w->stream = NULL;
    if (code < 0) {
        node_call_fail(w->call, node_guest_code(code), msg);
    } else if (node_call_is_open(w->call) && !w->call->x->is_body_done) {
        /* Success before the end of the body is not for the guest to say. */
        node_call_fail(w->call, SHL_EGUEST, "the guest stopped reading before the end");
    } else {
        node_call_reply_empty(w->call, 204);
    }
    w->call->on_gone = NULL;
    node_call_unref(w->call);
    free(w);
}

static const struct node_agent_stream_ops stream_ops = {.on_writable = on_writable,
                                                        .on_end = on_end};

/* The client left in the middle, or the body was refused as too large. */
static void on_gone(void *arg)
{
    struct writing *w = arg;

    if (w->stream) {
        node_agent_cancel(w->stream);
    }
}

static void write_ready(void *arg)
{
    struct node_call *call = arg;
    struct node_agent_request request;
    struct shl_err err = {0};
    struct writing *w;

    w = calloc(1, sizeof(*w));
    if (!w) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    w->call = node_call_ref(call);
    node_agent_request_init(&request, "file.write");
    shl_mp_kv_str(&request.w, "path", node_url_query(&call->x->url, "path"));
    if (node_agent_request_send(&request, call, &stream_ops, w, &w->stream, &err) < 0) {
        node_call_fail_err(call, &err);
        node_call_unref(call);
        free(w);
        return;
    }
    call->on_gone = on_gone;
    call->gone_arg = w;
    node_exchange_set_sink(call->x, &sink_ops, w);
    if (call->x->is_body_done) { /* an empty one, while the sandbox was woken */
        sink_end(w);
    } else {
        node_exchange_resume_body(call->x); /* what came meanwhile */
    }
}

/* The body waits in the connection until the sandbox runs. */
void node_handle_file_write(struct node_call *call)
{
    if (node_call_path(call, NULL)) {
        node_call_enter(call, write_ready, NULL, call);
    }
}
