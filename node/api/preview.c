/* One request of a preview host, on the node that has the sandbox.
 *
 *   gate (token) -> wake -> connect (again while nothing listens) -> head and body to the server
 *   -> head of its answer -> reply, whose source takes the body apart as the client reads
 *
 * One connection into the sandbox per request, "Connection: close": a server cannot mix answers
 * up. Bodies are under credit in both directions. The answer is given when the whole request body
 * is out, because the HTTP server cannot answer before; a server that ends, or reads no further,
 * is answered for at once and the rest of the body dropped.
 *
 * What can go wrong: nothing listens (502, for browsers a page that tries again), no answer in time
 * (504), an answer that is none (502), broken off later (the client's connection is cut), the
 * sandbox leaves (503), the client leaves (the connection into the sandbox is closed).
 *
 * A WebSocket is the same up to the answer; after 101 the bytes go both ways as they are.
 */
#include "node/api/preview.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/agent_request.h"
#include "node/api/preview_gate.h"
#include "node/api/preview_request.h"
#include "node/api/routes.h"
#include "node/api/server_private.h"
#include "node/http/response.h"

#define IN_MAX    (AGENT_WINDOW_BYTES + AGENT_PAYLOAD_MAX)
#define HEAD_MAX  (64 * 1024) /* of the request as it is sent */
#define PIECE_MAX (32 * 1024) /* of a body sent in chunks */
#define OUT_MAX   (HEAD_MAX + PIECE_MAX + 64)
#define RETRIES   5 /* 0.1, 0.2, 0.4, 0.8 and 1.6 s apart */
#define RETRY_MS  100
#define WATCH_MS  1000 /* how often the limits on time are looked at */

struct preview {
    struct node_call *call;
    struct node_agent_stream *stream; /* NULL when ended */
    unsigned refs;                    /* owner, stream, source, timer callbacks */
    bool has_owner;                   /* it is not answered yet, and the client is there */
    uv_timer_t timer;                 /* the next try, then the limits */
    unsigned tries;
    char *target; /* heap; without the token */
    struct shl_buf out;
    struct shl_buf in;
    struct node_response response;
    bool is_chunked; /* the request body, as it is sent */
    bool is_connected;
    bool is_body_ended;
    bool has_head;    /* of the answer */
    bool is_in_ended; /* the server has sent all */
    bool is_replied;
    int code; /* how the stream ended */
    uint64_t body_bytes, body_bytes_seen;
    uint32_t waited_ms, stalled_ms;
};

static void on_timer_closed(uv_handle_t *handle)
{
    struct preview *p = handle->data;

    free(p);
}

static void unref(struct preview *p)
{
    if (--p->refs > 0) {
        return;
    }
    node_response_release(&p->response);
    shl_buf_release(&p->out);
    shl_buf_release(&p->in);
    free(p->target);
    node_call_unref(p->call);
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}

/* It is answered, or the client has left. */
static void drop_owner(struct preview *p)
{
    if (p->has_owner) {
        p->has_owner = false;
        p->call->on_gone = NULL;
        (void)uv_timer_stop(&p->timer);
        unref(p);
    }
}

static void cancel_stream(struct preview *p)
{
    if (p->stream) {
        node_agent_cancel(p->stream);
    }
}

static void fail(struct preview *p, int code, const char *msg)
{
    if (p->has_owner) {
        node_call_fail(p->call, code, msg);
        cancel_stream(p);
        drop_owner(p);
    }
}

/* ---- the request ----------------------------------------------------------------- */

static bool flush(struct preview *p)
{
    while (p->stream && shl_buf_len(&p->out) > 0) {
        size_t n = node_agent_write(p->stream, AGENT_CHANNEL_RAW, shl_buf_bytes(&p->out));

        if (n == 0) {
            return false;
        }
        shl_buf_consume(&p->out, n);
    }
    return true;
}

static void finish_body(struct preview *p)
{
    if (p->is_chunked && shl_buf_append_str(&p->out, "0\r\n\r\n") < 0) {
        fail(p, -ENOMEM, NULL);
        return;
    }
    if (flush(p) && p->stream && node_exchange_is_upgraded(p->call->x)) {
        node_agent_eof(p->stream);
    }
}

static size_t send_chunk(struct preview *p, struct shl_bytes data)
{
    size_t len = SHL_MIN(data.len, (size_t)PIECE_MAX);

    if (shl_buf_printf(&p->out, "%zx\r\n", len) < 0 ||
        shl_buf_append(&p->out, data.base, len) < 0 || shl_buf_append_str(&p->out, "\r\n") < 0) {
        return 0;
    }
    (void)flush(p);
    return len;
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct preview *p = arg;
    size_t taken = 0;

    if (!p->stream || (p->is_in_ended && !node_exchange_is_upgraded(p->call->x))) {
        return data.len; /* the server wants no more of it */
    }
    while (taken < data.len && flush(p)) {
        struct shl_bytes rest = shl_bytes_of(data.base + taken, data.len - taken);
        size_t n = p->is_chunked ? send_chunk(p, rest)
                                 : node_agent_write(p->stream, AGENT_CHANNEL_RAW, rest);

        taken += n;
        if (n == 0) {
            break;
        }
    }
    p->body_bytes += taken;
    return taken;
}

static void maybe_reply(struct preview *p);

static void sink_end(void *arg)
{
    struct preview *p = arg;

    p->is_body_ended = true;
    finish_body(p);
    maybe_reply(p);
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static void on_writable(void *arg)
{
    struct preview *p = arg;

    if (!flush(p) || !node_call_is_open(p->call)) {
        return;
    }
    if (!p->is_body_ended) {
        node_exchange_resume_body(p->call->x);
    } else if (p->stream && node_exchange_is_upgraded(p->call->x)) {
        node_agent_eof(p->stream);
    }
}

/* ---- the answer ------------------------------------------------------------------ */

/* What the client gets of the body. */
static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct preview *p = arg;
    struct shl_err err;

    for (;;) {
        struct shl_bytes all = shl_buf_bytes(&p->in);
        struct shl_bytes body;
        size_t used = 0;
        int rc;

        if (all.len == 0 && (p->is_in_ended || !p->stream)) {
            rc = p->code < 0 && p->response.state != NODE_RESPONSE_OVER
                     ? p->code
                     : node_response_eof(&p->response, &err);
        } else {
            rc = node_response_feed(&p->response, shl_bytes_of(all.base, SHL_MIN(all.len, cap)),
                                    &used, &body, &err);
        }
        if (used > 0) {
            if (rc == NODE_RESPONSE_BODY) {
                memcpy(dst, body.base, body.len);
            }
            shl_buf_consume(&p->in, used);
            if (p->stream) {
                node_agent_consumed(p->stream, used);
            }
        }
        if (rc == NODE_RESPONSE_BODY && used > 0) {
            return (ssize_t)used;
        }
        if (rc == NODE_RESPONSE_END) {
            return NODE_SOURCE_END;
        }
        if (rc < 0) {
            return -EIO;
        }
        if (used == 0) {
            return 0;
        }
    }
}

static void source_release(void *arg)
{
    struct preview *p = arg;

    cancel_stream(p);
    unref(p);
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};

static void reply(struct preview *p)
{
    struct node_response *r = &p->response;
    struct node_exchange *x = p->call->x;
    struct node_reply reply = {.status = r->status,
                               .content_type = r->content_type,
                               .header_count = r->header_count,
                               .length = r->length,
                               .source = &source_ops,
                               .source_arg = p};

    memcpy(reply.headers, r->headers, r->header_count * sizeof(reply.headers[0]));
    p->is_replied = true;
    p->refs++; /* of the source */
    if (r->status == NODE_STATUS_UPGRADED) {
        node_exchange_upgrade(x, r->headers, r->header_count, &source_ops, p);
    } else if (r->length == 0) {
        reply.source = NULL;
        node_exchange_reply(x, &reply);
        source_release(p);
    } else {
        node_exchange_reply(x, &reply);
    }
    drop_owner(p); /* from here on the source ends it */
}

static void maybe_reply(struct preview *p)
{
    if (!p->has_owner || !p->has_head || p->is_replied) {
        return;
    }
    if (p->is_body_ended || p->call->x->is_body_done || p->call->x->is_upgrade || p->is_in_ended ||
        !p->stream || p->stalled_ms >= NODE_PREVIEW_STALL_MS) {
        reply(p);
    }
}

/* Up to the head; the body waits for the client. */
static void take_head(struct preview *p)
{
    struct shl_err err = {0};
    int rc = NODE_RESPONSE_MORE;

    while (!p->has_head && rc == NODE_RESPONSE_MORE && shl_buf_len(&p->in) > 0) {
        struct shl_bytes body;
        size_t used;

        rc = node_response_feed(&p->response, shl_buf_bytes(&p->in), &used, &body, &err);
        if (rc >= 0) {
            shl_buf_consume(&p->in, used);
            if (p->stream) {
                node_agent_consumed(p->stream, used);
            }
        }
        p->has_head = rc == NODE_RESPONSE_HEAD;
    }
    if (rc >= 0 && !p->has_head && (p->is_in_ended || !p->stream)) {
        rc = node_response_eof(&p->response, &err);
    }
    if (rc < 0) {
        fail(p, rc, err.msg);
    } else {
        maybe_reply(p);
    }
}

static void go_on(struct preview *p)
{
    if (p->is_replied) {
        if (node_call_is_open(p->call)) {
            node_exchange_wake(p->call->x);
        }
    } else if (p->has_owner) {
        take_head(p);
    }
}

/* ---- the connection into the sandbox --------------------------------------------- */

static void connect_server(struct preview *p);

/* The limits on time, once it is connected. */
static void on_watch(uv_timer_t *timer)
{
    struct preview *p = timer->data;

    p->refs++; /* an answer may be the end of it */
    p->waited_ms += WATCH_MS;
    p->stalled_ms = p->body_bytes == p->body_bytes_seen ? p->stalled_ms + WATCH_MS : 0;
    if (p->stalled_ms == 0) { /* a long upload is no reason to give up */
        p->waited_ms = 0;
    }
    p->body_bytes_seen = p->body_bytes;
    maybe_reply(p);
    if (p->has_owner && !p->has_head && p->waited_ms >= NODE_PREVIEW_HEAD_TIMEOUT_MS) {
        fail(p, -ETIMEDOUT, "the server in the sandbox did not answer in time");
    }
    unref(p);
}

static void on_head(void *arg, const msgpack_object *head)
{
    struct preview *p = arg;
    struct shl_err err = {0};

    (void)head;
    if (!p->has_owner || p->is_connected) {
        return;
    }
    p->is_connected = true;
    p->is_chunked = p->call->x->body_length < 0 && !p->call->x->is_upgrade;
    if (node_preview_write_head(p->call->x, &p->call->sandbox->spec.previews, p->target, &p->out,
                                &err) < 0) {
        fail(p, err.code < 0 ? err.code : -ENOMEM, err.msg);
        return;
    }
    (void)flush(p);
    (void)uv_timer_start(&p->timer, on_watch, WATCH_MS, WATCH_MS);
    node_exchange_set_sink(p->call->x, &sink_ops, p);
    if (p->call->x->is_body_done) { /* none, or an empty one */
        sink_end(p);
    } else {
        node_exchange_resume_body(p->call->x);
    }
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct preview *p = arg;

    (void)channel;
    if ((!p->has_owner && !p->is_replied) || !p->is_connected || p->is_in_ended) {
        node_agent_consumed(p->stream, data.len);
        return;
    }
    if (shl_buf_append(&p->in, data.base, data.len) < 0) {
        p->code = SHL_EGUEST;
        p->is_in_ended = true;
        node_agent_cancel(p->stream);
    }
    go_on(p);
}

static void on_eof(void *arg)
{
    struct preview *p = arg;

    p->is_in_ended = true;
    go_on(p);
}

static void on_retry(uv_timer_t *timer)
{
    connect_server(timer->data);
}

static void on_not_connected(struct preview *p, int code, const char *msg)
{
    if (code == -ECONNREFUSED && p->tries <= RETRIES) {
        (void)uv_timer_start(&p->timer, on_retry, (uint64_t)RETRY_MS << (p->tries - 1), 0);
        return;
    }
    if (code == -ECONNREFUSED && node_preview_wants_html(p->call->x)) {
        node_preview_reply_waiting(p->call);
        drop_owner(p);
    } else if (code == SHL_EQUOTA || code == SHL_EUNAVAILABLE || code == SHL_EGONE) {
        fail(p, code == SHL_EQUOTA ? SHL_EUNAVAILABLE : code, msg);
    } else {
        fail(p, code == -ETIMEDOUT ? -ETIMEDOUT : SHL_EGUEST, msg);
    }
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct preview *p = arg;

    (void)response;
    p->stream = NULL;
    p->code = p->code < 0 ? p->code : code;
    if (!p->has_owner && !p->is_replied) {
        /* nobody to tell */
    } else if (!p->is_connected) {
        on_not_connected(p, code < 0 ? code : SHL_EGUEST, msg);
    } else if (code < 0 && !p->is_replied && !p->has_head) {
        fail(p, code == SHL_EUNAVAILABLE || code == SHL_EGONE ? code : SHL_EGUEST, msg);
    } else {
        go_on(p);
    }
    unref(p);
}

static const struct node_agent_stream_ops stream_ops = {.on_head = on_head,
                                                        .on_data = on_data,
                                                        .on_eof = on_eof,
                                                        .on_writable = on_writable,
                                                        .on_end = on_end};

static void connect_server(struct preview *p)
{
    struct node_agent_request request;
    struct shl_err err = {0};

    p->tries++;
    node_agent_request_init(&request, "tcp.connect");
    shl_mp_kv_uint(&request.w, "port", p->call->preview_port);
    p->refs++;
    if (node_agent_request_send(&request, p->call, &stream_ops, p, &p->stream, &err) < 0) {
        fail(p, err.code, err.msg);
        unref(p);
    }
}

/* ---- the call -------------------------------------------------------------------- */

static void on_gone(void *arg)
{
    struct preview *p = arg;

    cancel_stream(p);
    drop_owner(p);
}

static void on_ready(void *arg)
{
    struct preview *p = arg;

    connect_server(p);
    unref(p);
}

static void on_refused(void *arg, int code, const char *msg)
{
    struct preview *p = arg;

    if (code == -EINPROGRESS) {
        node_call_fail_waking(p->call);
        drop_owner(p);
    } else {
        fail(p, code, msg);
    }
    unref(p);
}

static struct preview *preview_new(struct node_call *call, char *target)
{
    struct preview *p = calloc(1, sizeof(*p));

    if (!p) {
        return NULL;
    }
    (void)uv_timer_init(call->server->loop, &p->timer);
    p->timer.data = p;
    p->call = node_call_ref(call);
    p->refs = 1;
    p->has_owner = true;
    p->target = target;
    shl_buf_init(&p->out, OUT_MAX);
    shl_buf_init(&p->in, IN_MAX);
    node_response_init(&p->response, call->x->method == NODE_METHOD_HEAD, call->x->is_upgrade);
    call->on_gone = on_gone;
    call->gone_arg = p;
    return p;
}

static void handle(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct shl_err err = {0};
    struct preview *p;
    char *target;

    if (!sandbox) {
        return;
    }
    if (node_call_is_ended(sandbox, &err)) {
        node_call_fail_err(call, &err);
        return;
    }
    node_call_set_sandbox(call, sandbox);
    target = node_preview_pass_gate(call);
    if (!target) {
        return;
    }
    p = preview_new(call, target);
    if (!p) {
        free(target);
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    p->refs++; /* until ready or refused */
    node_call_enter(call, on_ready, on_refused, p);
}

const struct node_route node_preview_route = {NODE_METHOD_OTHER, "preview", NODE_ROUTE_SANDBOX,
                                              NODE_ROUTE_OPEN | NODE_ROUTE_STREAM, handle};
