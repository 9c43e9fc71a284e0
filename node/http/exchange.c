#include "node/http/exchange.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/http/json_text.h"
#include "node/http/status.h"
#include "node/http/transport.h"

static const char *const method_names[] = {
    [NODE_METHOD_GET] = "GET",         [NODE_METHOD_HEAD] = "HEAD",
    [NODE_METHOD_POST] = "POST",       [NODE_METHOD_PUT] = "PUT",
    [NODE_METHOD_PATCH] = "PATCH",     [NODE_METHOD_DELETE] = "DELETE",
    [NODE_METHOD_OPTIONS] = "OPTIONS", [NODE_METHOD_OTHER] = "OTHER",
};

const char *node_method_name(enum node_method method)
{
    return method_names[method];
}

static enum node_method method_parse(const char *text)
{
    for (int i = 0; i < NODE_METHOD_OTHER; i++) {
        if (strcmp(text, method_names[i]) == 0) {
            return (enum node_method)i;
        }
    }
    return NODE_METHOD_OTHER;
}

/* A caller's own X-Request-Id is kept when it is harmless in a header and a log. */
static void choose_request_id(struct node_exchange *x)
{
    const char *given = node_exchange_header(x, "X-Request-Id");
    size_t len = given ? strspn(given, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789._-")
                       : 0;

    if (len > 0 && len < NODE_REQUEST_ID_SIZE && given[len] == '\0') {
        memcpy(x->request_id, given, len + 1);
    } else {
        shl_id_make(x->request_id, sizeof(x->request_id), "req-", 16);
    }
}

int node_exchange_init(struct node_exchange *x,
                       const struct node_exchange_ops *ops,
                       uv_loop_t *loop,
                       const char *method,
                       const char *target)
{
    int rc;

    *x = (struct node_exchange){.ops = ops, .loop = loop, .target = target};
    x->method = method_parse(method);
    x->body_mode = NODE_BODY_BUFFERED;
    x->body_max = NODE_EXCHANGE_JSON_MAX;
    x->pad_after_ms = NODE_EXCHANGE_PAD_AFTER_MS;
    x->pad_every_ms = NODE_EXCHANGE_PAD_EVERY_MS;
    shl_buf_init(&x->body, NODE_EXCHANGE_JSON_MAX);
    choose_request_id(x);
    rc = node_url_parse(&x->url, target);
    x->target_code = rc;
    return rc;
}

void node_exchange_begin(struct node_exchange *x)
{
    if (x->is_replied) {
        return;
    }
    x->body.max_bytes = x->body_max;
    if (x->body_length > 0 && (uint64_t)x->body_length > x->body_max) {
        node_exchange_failf(x, SHL_ELIMIT, "the request body is larger than %zu bytes",
                            x->body_max);
    } else if (x->body_mode != NODE_BODY_BUFFERED) {
        x->handle(x->arg);
    }
}

size_t node_exchange_body_data(struct node_exchange *x, struct shl_bytes data)
{
    size_t taken = data.len;

    if (x->is_replied && !node_exchange_is_upgraded(x)) {
        return data.len; /* nobody wants it any more */
    }
    if (x->body_mode == NODE_BODY_SOCKET) {
        return node_exchange_is_upgraded(x) && x->sink ? x->sink->data(x->sink_arg, data) : 0;
    }
    if (x->body_seen + data.len > x->body_max) {
        node_exchange_failf(x, SHL_ELIMIT, "the request body is larger than %zu bytes",
                            x->body_max);
        return data.len;
    }
    if (x->body_mode == NODE_BODY_BUFFERED) {
        int rc = shl_buf_append(&x->body, data.base, data.len);

        if (rc < 0) {
            node_exchange_fail(x, rc, NULL);
        }
    } else {
        taken = x->sink ? x->sink->data(x->sink_arg, data) : 0;
    }
    x->body_seen += taken;
    return taken;
}

void node_exchange_body_end(struct node_exchange *x)
{
    x->is_body_done = true;
    if (x->is_replied && !node_exchange_is_upgraded(x)) {
        return;
    }
    if (x->body_mode == NODE_BODY_BUFFERED) {
        x->handle(x->arg);
    } else if (x->sink) {
        x->sink->end(x->sink_arg);
    }
}

ssize_t node_exchange_read(struct node_exchange *x, uint8_t *dst, size_t cap)
{
    return x->source->read(x->source_arg, dst, cap);
}

void node_exchange_close(struct node_exchange *x, bool is_complete)
{
    if (x->has_source && x->source->release) {
        x->source->release(x->source_arg);
    }
    x->has_source = false;
    node_pad_close(x);
    if (x->on_close) {
        x->on_close(x->arg, is_complete);
    }
    shl_buf_release(&x->body);
    node_url_release(&x->url);
}

const char *node_exchange_header(struct node_exchange *x, const char *name)
{
    return x->ops->header(x, name);
}

bool node_exchange_is_upgraded(const struct node_exchange *x)
{
    return x->is_replied && x->status == NODE_STATUS_UPGRADED;
}

void node_exchange_upgrade(struct node_exchange *x,
                           const struct node_reply_header *headers,
                           size_t header_count,
                           const struct node_source_ops *source,
                           void *source_arg)
{
    struct node_reply reply = {.status = NODE_STATUS_UPGRADED,
                               .header_count = header_count,
                               .source = source,
                               .source_arg = source_arg,
                               .length = -1};

    assert(x->is_replied || (x->is_upgrade && x->body_mode == NODE_BODY_SOCKET));
    assert(header_count <= NODE_EXCHANGE_HEADERS_MAX);
    for (size_t i = 0; i < header_count; i++) {
        reply.headers[i] = headers[i];
    }
    node_exchange_reply(x, &reply);
}

void node_exchange_each_header(struct node_exchange *x, node_header_fn each, void *arg)
{
    x->ops->each_header(x, each, arg);
}

void node_exchange_wake(struct node_exchange *x)
{
    x->ops->wake(x);
}

void node_exchange_set_sink(struct node_exchange *x, const struct node_sink_ops *sink, void *arg)
{
    x->sink = sink;
    x->sink_arg = arg;
}

void node_exchange_resume_body(struct node_exchange *x)
{
    x->ops->resume_body(x);
}

static void drop_reply(struct node_reply *reply)
{
    free(reply->heap);
    if (reply->source && reply->source->release) {
        reply->source->release(reply->source_arg);
    }
}

void node_exchange_reply(struct node_exchange *x, struct node_reply *reply)
{
    if (x->is_replied) {
        drop_reply(reply);
        return;
    }
    x->is_replied = true;
    shl_buf_release(&x->body);
    if (node_pad_take_reply(x, reply)) {
        return;
    }
    x->status = reply->status;
    if (reply->source) {
        x->has_source = true;
        x->source = reply->source;
        x->source_arg = reply->source_arg;
    }
    x->ops->reply(x, reply);
}

void node_exchange_reply_empty(struct node_exchange *x, int status)
{
    struct node_reply reply = {.status = status};

    node_exchange_reply(x, &reply);
}

void node_exchange_reply_heap(struct node_exchange *x,
                              int status,
                              const char *content_type,
                              void *heap,
                              size_t len)
{
    struct node_reply reply = {
        .status = status, .content_type = content_type, .heap = heap, .heap_len = len};

    node_exchange_reply(x, &reply);
}

/* The envelope: {"error": sentence, "code": name, ...}. */
static int write_envelope(struct shl_buf *text, int code, const char *msg, const char *members)
{
    const char *name = node_http_error_code(code);
    int rc = shl_buf_append_str(text, "{\"error\":");

    if (rc == 0) {
        rc = node_json_append_str(text, msg && *msg ? msg : shl_err_text(code));
    }
    if (rc == 0 && name) {
        rc = shl_buf_printf(text, ",\"code\":\"%s\"", name);
    }
    if (rc == 0 && members) {
        rc = shl_buf_append_str(text, members);
    }
    return rc < 0 ? rc : shl_buf_append_str(text, "}");
}

void node_exchange_fail_more(struct node_exchange *x,
                             int code,
                             const char *msg,
                             const struct node_reply_header *header,
                             const char *members)
{
    struct node_reply reply = {.status = node_http_status(code),
                               .content_type = "application/json"};
    unsigned retry_after_s = node_http_retry_after_s(code);
    char seconds[16];
    struct shl_buf text;

    shl_buf_init(&text, NODE_EXCHANGE_ENVELOPE_MAX);
    if (write_envelope(&text, code, msg, members) < 0) {
        shl_buf_release(&text);
        node_exchange_reply_empty(x, reply.status); /* no memory even for the sentence */
        return;
    }
    if (retry_after_s > 0) {
        (void)snprintf(seconds, sizeof(seconds), "%u", retry_after_s);
        reply.headers[reply.header_count++] = (struct node_reply_header){"Retry-After", seconds};
    }
    if (header) {
        reply.headers[reply.header_count++] = *header;
    }
    assert(text.start == 0); /* nothing was consumed */
    reply.heap_len = shl_buf_len(&text);
    reply.heap = text.heap;
    node_exchange_reply(x, &reply);
}

void node_exchange_fail(struct node_exchange *x, int code, const char *msg)
{
    node_exchange_fail_more(x, code, msg, NULL, NULL);
}

void node_exchange_fail_target(struct node_exchange *x)
{
    node_exchange_fail(x, x->target_code == -ENOMEM ? -ENOMEM : SHL_EINVALIDARG,
                       x->target_code == SHL_ELIMIT
                           ? "the path or the query has too many parts"
                           : "the path or the query is not valid: check the percent-encoding");
}

void node_exchange_failf(struct node_exchange *x, int code, const char *fmt, ...)
{
    char msg[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, args);
    va_end(args);
    node_exchange_fail(x, code, msg);
}

void node_exchange_refuse(struct node_exchange *x, enum node_refusal why, int code, const char *msg)
{
    if (!x->is_replied) {
        x->refusal = why;
    }
    node_exchange_fail(x, code, msg);
}
