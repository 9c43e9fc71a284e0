/* GET files: the bytes of a file, as fast as the client takes them.
 *
 *   agent DATA -> buf (at most the window the agent was given) -> reply
 *
 * The agent gets credit back for what the reply has taken. The reply begins with HEAD
 * when the size is known; a size of 0 may be a lie (files under /proc), so then it waits
 * for the first bytes or the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/agent_request.h"
#include "node/api/handlers.h"

#define BUFFER_MAX        (AGENT_WINDOW_BYTES + AGENT_PAYLOAD_MAX)
#define STREAM_FROM_BYTES (64u * 1024) /* of a file of unknown size */

struct reading {
    struct node_call *call;
    struct node_agent_stream *stream; /* NULL when ended */
    unsigned refs;                    /* the stream, and the source of the reply */
    struct shl_buf buf;
    int64_t length; /* announced to the client, -1 unknown */
    int64_t sent;
    bool is_replying;
    int code; /* of the end, or our own */
};

static void reading_unref(struct reading *r)
{
    if (--r->refs == 0) {
        r->call->on_gone = NULL;
        shl_buf_release(&r->buf);
        node_call_unref(r->call);
        free(r);
    }
}

static ssize_t reading_read(void *arg, uint8_t *dst, size_t cap)
{
    struct reading *r = arg;
    size_t len = SHL_MIN(cap, shl_buf_len(&r->buf));

    if (r->length >= 0) { /* a file that grew meanwhile ends where it was announced to */
        len = SHL_MIN(len, (size_t)(r->length - r->sent));
    }
    if (len > 0) {
        memcpy(dst, shl_buf_data(&r->buf), len);
        shl_buf_consume(&r->buf, len);
        r->sent += (int64_t)len;
        if (r->stream) {
            node_agent_consumed(r->stream, len);
        }
        return (ssize_t)len;
    }
    if (r->sent == r->length) {
        return NODE_SOURCE_END;
    }
    if (r->stream) {
        return 0;
    }
    if (r->code < 0 || r->length >= 0) {
        return r->code < 0 ? r->code : -EIO; /* it shrank meanwhile */
    }
    return NODE_SOURCE_END;
}

static void reading_release(void *arg)
{
    struct reading *r = arg;

    r->call->on_gone = NULL; /* it would cancel once more */
    if (r->stream) {
        node_agent_cancel(r->stream);
    }
    reading_unref(r);
}

static const struct node_source_ops source_ops = {.read = reading_read, .release = reading_release};

static void start_reply(struct reading *r, int64_t length)
{
    struct node_reply reply = {.status = 200,
                               .content_type = "application/octet-stream",
                               .source = &source_ops,
                               .source_arg = r,
                               .length = length};

    r->is_replying = true;
    r->length = length;
    r->refs++;
    node_exchange_reply(r->call->x, &reply);
}

static void on_head(void *arg, const msgpack_object *head)
{
    struct reading *r = arg;
    uint64_t size = 0;

    if (node_call_is_open(r->call) && !r->is_replying &&
        shl_mp_get_uint(head, "size", INT64_MAX, &size) == 0 && size > 0) {
        start_reply(r, (int64_t)size);
    }
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct reading *r = arg;

    (void)channel;
    if (!node_call_is_open(r->call) || r->code < 0) {
        node_agent_consumed(r->stream, data.len);
        return;
    }
    if (shl_buf_append(&r->buf, data.base, data.len) < 0) {
        r->code = SHL_EGUEST;
        node_agent_cancel(r->stream);
    } else if (r->is_replying) {
        node_exchange_wake(r->call->x);
    } else if (shl_buf_len(&r->buf) >= STREAM_FROM_BYTES) {
        start_reply(r, -1);
    }
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct reading *r = arg;

    (void)response;
    r->stream = NULL;
    r->code = r->code < 0 ? r->code : code;
    if (!node_call_is_open(r->call)) {
        /* nobody to tell */
    } else if (r->is_replying) {
        node_exchange_wake(r->call->x);
    } else if (r->code < 0) {
        node_call_fail(r->call, node_guest_code(r->code), msg);
    } else {
        start_reply(r, (int64_t)shl_buf_len(&r->buf));
    }
    reading_unref(r);
}

static const struct node_agent_stream_ops stream_ops = {.on_head = on_head,
                                                        .on_data = on_data,
                                                        .on_end = on_end};

static void on_gone(void *arg)
{
    struct reading *r = arg;

    if (r->stream) {
        node_agent_cancel(r->stream);
    }
}

static void read_ready(void *arg)
{
    struct node_call *call = arg;
    struct node_agent_request request;
    struct shl_err err = {0};
    struct reading *r;

    r = calloc(1, sizeof(*r));
    if (!r) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    r->call = node_call_ref(call);
    r->refs = 1;
    r->length = -1;
    shl_buf_init(&r->buf, BUFFER_MAX);
    call->on_gone = on_gone;
    call->gone_arg = r;
    node_agent_request_init(&request, "file.read");
    shl_mp_kv_str(&request.w, "path", node_url_query(&call->x->url, "path"));
    if (node_agent_request_send(&request, call, &stream_ops, r, &r->stream, &err) < 0) {
        node_call_fail_err(call, &err);
        reading_unref(r);
    }
}

void node_handle_file_read(struct node_call *call)
{
    if (node_call_path(call, NULL)) {
        node_call_enter(call, read_ready, NULL, call);
    }
}
