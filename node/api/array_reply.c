#include "node/api/array_reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_FROM_BYTES (128u * 1024) /* raw; waiting beyond this would stall the guest */
#define RAW_MAX           (AGENT_WINDOW_BYTES + AGENT_PAYLOAD_MAX)
#define TEXT_WHOLE_BYTES  (256u * 1024)      /* JSON up to here is one reply */
#define TEXT_LOW_BYTES    (32u * 1024)       /* streaming: below, more items are converted */
#define TEXT_MAX          (4u * 1024 * 1024) /* either, and the longest item on top */

struct array {
    struct node_call *call;
    struct node_agent_stream *stream; /* NULL when ended */
    node_array_convert convert;
    void *arg;
    void (*free_arg)(void *arg);
    unsigned refs; /* the stream, and the source of a streamed reply */
    struct shl_buf raw;
    struct shl_buf text;
    bool has_items;
    bool is_streaming;
    bool is_finished; /* "]" is written */
    int code;         /* of the stream's end, or our own */
};

static void array_unref(struct array *array)
{
    if (--array->refs > 0) {
        return;
    }
    if (array->free_arg) {
        array->free_arg(array->arg);
    }
    array->call->on_gone = NULL;
    shl_buf_release(&array->raw);
    shl_buf_release(&array->text);
    node_call_unref(array->call);
    free(array);
}

/* 1 when an item was converted, 0 when none is complete, or a negative code. */
static int convert_one(struct array *array)
{
    struct shl_mp_doc doc;
    size_t used = 0;
    int rc;

    if (shl_buf_len(&array->raw) == 0 ||
        shl_mp_parse_first(&doc, shl_buf_bytes(&array->raw), &used) < 0) {
        return 0; /* cut or broken: the end of the stream tells which */
    }
    rc = shl_buf_append_str(&array->text, array->has_items ? "," : "[");
    if (rc == 0) {
        rc = array->convert(array->arg, doc.root, &array->text);
    }
    shl_mp_release(&doc);
    shl_buf_consume(&array->raw, used);
    if (array->stream) {
        node_agent_consumed(array->stream, used);
    }
    array->has_items = true;
    return rc < 0 ? rc : 1;
}

/* Convert until there is enough text or nothing left. 0 or a negative code. */
static int fill(struct array *array, size_t enough)
{
    int rc = 1;

    while (rc > 0 && shl_buf_len(&array->text) < enough) {
        rc = convert_one(array);
    }
    if (rc != 0) {
        return rc < 0 ? rc : 0;
    }
    if (shl_buf_len(&array->raw) >= RAW_MAX - AGENT_PAYLOAD_MAX) {
        return SHL_EGUEST; /* one item as large as the window is no item */
    }
    if (array->stream || array->is_finished) {
        return 0;
    }
    if (array->code < 0 || shl_buf_len(&array->raw) > 0) {
        return array->code < 0 ? array->code : SHL_EGUEST;
    }
    array->is_finished = true;
    return shl_buf_append_str(&array->text, array->has_items ? "]" : "[]");
}

static ssize_t array_read(void *arg, uint8_t *dst, size_t cap)
{
    struct array *array = arg;
    int rc = fill(array, TEXT_LOW_BYTES);
    size_t len = SHL_MIN(cap, shl_buf_len(&array->text));

    if (rc < 0) {
        return rc;
    }
    if (len == 0) {
        return array->is_finished ? NODE_SOURCE_END : 0;
    }
    memcpy(dst, shl_buf_data(&array->text), len);
    shl_buf_consume(&array->text, len);
    return (ssize_t)len;
}

static void array_release(void *arg)
{
    struct array *array = arg;

    array->call->on_gone = NULL; /* it would cancel once more */
    if (array->stream) {
        node_agent_cancel(array->stream);
    }
    array_unref(array);
}

static const struct node_source_ops array_ops = {.read = array_read, .release = array_release};

static void start_streaming(struct array *array)
{
    struct node_reply reply = {.status = 200,
                               .content_type = "application/json",
                               .source = &array_ops,
                               .source_arg = array,
                               .length = -1};

    array->is_streaming = true;
    array->refs++;
    node_exchange_reply(array->call->x, &reply);
}

static void on_data(void *arg, enum agent_channel channel, struct shl_bytes data)
{
    struct array *array = arg;

    (void)channel;
    if (!node_call_is_open(array->call) || array->code < 0) {
        node_agent_consumed(array->stream, data.len);
        return;
    }
    if (shl_buf_append(&array->raw, data.base, data.len) < 0) {
        array->code = SHL_EGUEST;
        node_agent_cancel(array->stream);
    } else if (array->is_streaming) {
        node_exchange_wake(array->call->x);
    } else if (shl_buf_len(&array->raw) >= STREAM_FROM_BYTES) {
        start_streaming(array);
    }
}

/* The stream has ended before the reply began. */
static void reply_ended(struct array *array, const char *msg)
{
    int rc = array->code < 0 ? array->code : fill(array, TEXT_WHOLE_BYTES);

    if (rc < 0) {
        node_call_fail(array->call, node_guest_code(rc), array->code < 0 ? msg : NULL);
    } else if (array->is_finished) {
        node_call_reply_buf(array->call, 200, "application/json", &array->text);
    } else {
        start_streaming(array);
    }
}

static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct array *array = arg;

    (void)response;
    array->stream = NULL;
    array->code = array->code < 0 ? array->code : code;
    if (node_call_is_open(array->call)) {
        if (array->is_streaming) {
            node_exchange_wake(array->call->x);
        } else {
            reply_ended(array, msg);
        }
    }
    array_unref(array);
}

static const struct node_agent_stream_ops stream_ops = {.on_data = on_data, .on_end = on_end};

static void on_gone(void *arg)
{
    struct array *array = arg;

    if (array->stream) {
        node_agent_cancel(array->stream);
    }
}

void node_array_reply(struct node_agent_request *request,
                      struct node_call *call,
                      node_array_convert convert,
                      void *arg,
                      void (*free_arg)(void *arg))
{
    struct array *array = calloc(1, sizeof(*array));
    struct shl_err err = {0};
    int rc;

    if (!array) {
        shl_buf_release(&request->buf);
        if (free_arg) {
            free_arg(arg);
        }
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    array->call = node_call_ref(call);
    array->convert = convert;
    array->arg = arg;
    array->free_arg = free_arg;
    array->refs = 1;
    shl_buf_init(&array->raw, RAW_MAX);
    shl_buf_init(&array->text, TEXT_MAX);
    call->on_gone = on_gone;
    call->gone_arg = array;
    rc = node_agent_request_send(request, call, &stream_ops, array, &array->stream, &err);
    if (rc < 0) {
        node_call_fail_err(call, &err);
        array_unref(array);
    }
}
