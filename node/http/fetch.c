#include "node/http/fetch.h"

#include <errno.h>
#include <stdlib.h>

#include "node/http/wire.h"
#include "node/mesh/stream.h"

struct node_fetch {
    struct node_stream *stream;
    void (*cb)(void *arg, int status, struct shl_bytes body);
    void *arg;
    struct shl_buf in;
    size_t body_max;
    int status; /* 0 until the head is there */
    int64_t length;
    int result; /* why it was cut from here, 0 */
};

static void cut(struct node_fetch *fetch, int code, const char *msg)
{
    if (fetch->result == 0) {
        fetch->result = code;
        node_stream_abort(fetch->stream, code, msg);
    }
}

static void take_head(struct node_fetch *fetch)
{
    struct node_wire_frame frame;
    int len = node_wire_read_frame(shl_buf_bytes(&fetch->in), &frame, NULL);

    if (len < 0) {
        cut(fetch, len, "the head of the reply is not valid");
    }
    if (len <= 0) {
        return;
    }
    shl_buf_consume(&fetch->in, (size_t)len);
    if (frame.kind == NODE_WIRE_REPLY) {
        fetch->status = frame.status;
        fetch->length = frame.length;
    } else {
        cut(fetch, SHL_EPROTO, "no body was announced");
    }
    node_wire_frame_release(&frame);
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct node_fetch *fetch = arg;
    int rc;

    if (fetch->result < 0) {
        return data.len;
    }
    rc = shl_buf_append(&fetch->in, data.base, data.len);
    if (rc < 0) {
        cut(fetch, rc, "the answer is larger than it may be");
        return data.len;
    }
    if (fetch->status == 0) {
        take_head(fetch);
    }
    if (fetch->status != 0 && shl_buf_len(&fetch->in) > fetch->body_max) {
        cut(fetch, SHL_ELIMIT, "the answer is larger than it may be");
    }
    return data.len;
}

static void on_end(void *arg)
{
    struct node_fetch *fetch = arg;

    if (fetch->status == 0 ||
        (fetch->length >= 0 && (uint64_t)fetch->length != shl_buf_len(&fetch->in))) {
        cut(fetch, SHL_EPROTO, "the reply is not complete");
    }
}

static void on_writable(void *arg)
{
    (void)arg; /* nothing is written */
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct node_fetch *fetch = arg;

    (void)msg;
    if (code == 0 && fetch->result == 0 && fetch->status == 0) {
        code = SHL_EPROTO;
    }
    if (fetch->cb) {
        code = fetch->result < 0 ? fetch->result : code;
        fetch->cb(fetch->arg, code < 0 ? code : fetch->status, shl_buf_bytes(&fetch->in));
    }
    shl_buf_release(&fetch->in);
    free(fetch);
}

static const struct node_stream_user stream_user = {.data = on_data,
                                                    .end = on_end,
                                                    .writable = on_writable,
                                                    .closed = on_closed};

int node_fetch_start(struct node_exchange *x,
                     const struct node_fetch_config *config,
                     struct node_fetch **ret_fetch)
{
    struct node_fetch *fetch = calloc(1, sizeof(*fetch));
    struct node_wire_request request;
    struct shl_buf head;
    int rc;

    if (!fetch) {
        return -ENOMEM;
    }
    fetch->cb = config->cb;
    fetch->arg = config->arg;
    fetch->body_max = config->body_max;
    shl_buf_init(&fetch->in, config->body_max + NODE_WIRE_FRAME_MAX + NODE_WIRE_LENGTH_BYTES);
    node_wire_request_of(x, &request);
    request.origin = config->origin;
    request.via = config->via;
    request.body_length = 0;
    shl_buf_init(&head, NODE_STREAM_HEAD_MAX);
    rc = node_wire_write_request(&request, &head);
    if (rc == 0) {
        rc = config->opener->open(config->opener, config->node, NODE_WIRE_KIND,
                                  shl_buf_bytes(&head), &stream_user, fetch, &fetch->stream, NULL);
    }
    shl_buf_release(&head);
    if (rc < 0) {
        free(fetch);
        return rc;
    }
    node_stream_finish(fetch->stream);
    *ret_fetch = fetch;
    return 0;
}

void node_fetch_cancel(struct node_fetch *fetch)
{
    fetch->cb = NULL;
    cut(fetch, -ECANCELED, "nobody waits for it any more");
}
