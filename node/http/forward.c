/* States of a forward, seen from the reply:
 *
 *   WAITING ──head──> RELAYING ──end──> DONE
 *      │                 │ stream cut, or not what was promised
 *      │ cut, refused    └──────────> BROKEN (the source fails: the client is cut off)
 *      └──> OVER (the caller was told)
 *
 * It is freed when both sides have let go: the stream has closed, and the exchange has
 * closed (or was never replied to from here).
 */
#include "node/http/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/wire.h"
#include "node/mesh/stream.h"

enum state {
    WAITING,
    RELAYING,
    DONE,
    BROKEN,
    OVER,
};

struct node_forward {
    enum state state;
    struct node_exchange *x;    /* NULL when it has closed, or is the caller's again */
    struct node_stream *stream; /* NULL when it has closed */
    const struct node_forward_ops *ops;
    void *arg;
    char node_name[NODE_WIRE_TEXT_MAX];
    struct shl_buf in; /* frames, then body bytes the client has not taken */
    int64_t left;      /* bytes of the reply that are to come, -1 not known */
    bool is_source;    /* the exchange reads from here */
    bool is_paused;    /* the stream holds bytes back */
    /* the request's body */
    bool is_streamed;
    bool is_socket; /* the owner replied 101: bytes go both ways */
    bool may_send;
    bool is_body_touched; /* bytes of a streamed body are gone */
    size_t sent_bytes;    /* of a buffered one */
    bool is_finished;     /* our direction */
};

static void maybe_free(struct node_forward *f)
{
    if (!f->stream && !f->x && !f->is_source) {
        shl_buf_release(&f->in);
        free(f);
    }
}

static void finish(struct node_forward *f)
{
    if (f->stream && !f->is_finished) {
        f->is_finished = true;
        node_stream_finish(f->stream);
    }
}

static void cut_stream(struct node_forward *f, int code, const char *msg)
{
    if (f->stream) {
        f->is_finished = true;
        node_stream_abort(f->stream, code, msg);
    }
}

/* Body of the request */

static void send_buffered(struct node_forward *f)
{
    struct shl_bytes all = shl_buf_bytes(&f->x->body);

    while (f->sent_bytes < all.len) {
        size_t n = node_stream_write(f->stream, shl_bytes_of(all.base + f->sent_bytes,
                                                             all.len - f->sent_bytes));

        if (n == 0) {
            return; /* writable comes */
        }
        f->sent_bytes += n;
    }
    finish(f);
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct node_forward *f = arg;
    size_t taken;

    if (!f->stream || f->is_finished) {
        return data.len; /* nobody wants it any more */
    }
    if (!f->may_send) {
        return 0;
    }
    taken = node_stream_write(f->stream, data);
    f->is_body_touched |= taken > 0;
    return taken;
}

static void sink_end(void *arg)
{
    struct node_forward *f = arg;

    if (f->may_send) {
        finish(f);
    }
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static void on_go(struct node_forward *f)
{
    if (f->may_send || !f->x) {
        return;
    }
    f->may_send = true;
    if (f->x->is_body_done) {
        finish(f); /* an empty one */
    } else {
        node_exchange_resume_body(f->x);
    }
}

/* Source of the reply */

static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct node_forward *f = arg;
    size_t len = SHL_MIN(cap, shl_buf_len(&f->in));

    if (f->state == BROKEN) {
        return -ECONNRESET; /* what is here already is not worth passing on */
    }
    if (len > 0) {
        memcpy(dst, shl_buf_data(&f->in), len);
        shl_buf_consume(&f->in, len);
    }
    if (f->is_paused && f->stream && shl_buf_len(&f->in) <= NODE_FORWARD_BUFFER_BYTES / 2) {
        f->is_paused = false;
        node_stream_resume(f->stream);
    }
    return len == 0 && f->state == DONE ? NODE_SOURCE_END : (ssize_t)len;
}

static void source_release(void *arg)
{
    struct node_forward *f = arg;

    f->is_source = false;
    maybe_free(f);
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};

/* The forward ends without a reply; the exchange is the caller's again. */
static void give_back(struct node_forward *f)
{
    f->state = OVER;
    f->x->sink = NULL;
    f->x = NULL;
}

static void fail(struct node_forward *f, int code, bool is_untouched, const char *msg)
{
    struct node_forward_failure failure = {.is_untouched = is_untouched,
                                           .has_body = !f->is_body_touched};
    const struct node_forward_ops *ops = f->ops;
    void *arg = f->arg;

    if (f->state != WAITING || !f->x) {
        return;
    }
    (void)shl_err_set(&failure.err, code, "node %s, which serves this, %s: %s", f->node_name,
                      is_untouched ? "cannot be reached" : "did not answer",
                      msg && *msg ? msg : shl_err_text(code));
    give_back(f);
    ops->failed(arg, &failure);
}

/* A broken promise of the owner, or the loss of it. */
static void break_off(struct node_forward *f, int code, const char *msg)
{
    cut_stream(f, code, msg);
    if (f->state == WAITING) {
        fail(f, SHL_EUNAVAILABLE, false, msg);
    } else if (f->state == RELAYING) {
        f->state = BROKEN;
        if (f->x) {
            node_exchange_wake(f->x);
        }
    }
}

static void relay(struct node_forward *f, const struct node_wire_frame *frame)
{
    struct node_reply reply = {.status = frame->status,
                               .content_type = frame->content_type,
                               .header_count = frame->header_count,
                               .length = frame->length};

    memcpy(reply.headers, frame->headers, sizeof(reply.headers));
    if (!f->x->is_proxy && reply.header_count == NODE_EXCHANGE_HEADERS_MAX) {
        reply.header_count--; /* who served comes first */
    }
    if (!f->x->is_proxy) {
        reply.headers[reply.header_count++] =
            (struct node_reply_header){NODE_EXCHANGE_NODE_HEADER, frame->node_name};
    }
    if (frame->status == NODE_STATUS_UPGRADED &&
        (f->x->body_mode != NODE_BODY_SOCKET || frame->length != -1)) {
        break_off(f, SHL_EPROTO, "it made a WebSocket of what is none");
        return;
    }
    f->is_socket = frame->status == NODE_STATUS_UPGRADED;
    f->state = RELAYING;
    f->left = node_wire_has_body(f->x->method, frame->status) ? frame->length : 0;
    if (frame->length != 0 && (f->left != 0 || f->x->method == NODE_METHOD_HEAD)) {
        reply.source = &source_ops;
        reply.source_arg = f;
        f->is_source = true;
    }
    if (f->is_socket) {
        f->may_send = true; /* what the exchange has, it offers after the reply */
    } else {
        finish(f); /* the owner answered: it wants no more of the body */
    }
    node_exchange_reply(f->x, &reply);
}

static void on_reply(struct node_forward *f, const struct node_wire_frame *frame)
{
    if (frame->refusal != NODE_REFUSAL_NONE && f->ops->refused) {
        struct node_exchange *x = f->x;

        give_back(f); /* it may be forwarded again in there */
        if (f->ops->refused(f->arg, frame->refusal)) {
            cut_stream(f, -ECANCELED, "another node is asked");
            return;
        }
        f->x = x;
        f->state = WAITING;
    }
    relay(f, frame);
}

/* Stream callbacks */

static size_t take_frame_bytes(struct node_forward *f, struct shl_bytes data)
{
    size_t max = NODE_WIRE_LENGTH_BYTES + NODE_WIRE_FRAME_MAX;
    size_t have = shl_buf_len(&f->in);
    size_t len = SHL_MIN(data.len, max - SHL_MIN(max, have));

    if (shl_buf_append(&f->in, data.base, len) < 0) {
        break_off(f, -ENOMEM, "no memory for the reply");
        return data.len;
    }
    return len;
}

/* Frames that are complete in `in`; afterwards it holds an incomplete one, or body bytes. */
static void take_frames(struct node_forward *f)
{
    while (f->state == WAITING) {
        struct node_wire_frame frame;
        struct shl_err err = {0};
        int len = node_wire_read_frame(shl_buf_bytes(&f->in), &frame, &err);

        if (len < 0) {
            break_off(f, len, err.msg);
        }
        if (len <= 0) {
            return;
        }
        shl_buf_consume(&f->in, (size_t)len);
        if (frame.kind == NODE_WIRE_GO) {
            on_go(f);
        } else {
            on_reply(f, &frame);
        }
        node_wire_frame_release(&frame);
    }
}

/* @len bytes of the reply's body came; false when there are too many. */
static bool count_body(struct node_forward *f, size_t len)
{
    if (f->left >= 0 && len > (uint64_t)f->left) {
        break_off(f, SHL_EPROTO, "the reply is longer than announced");
        return false;
    }
    f->left -= f->left >= 0 ? (int64_t)len : 0;
    return true;
}

static size_t take_body(struct node_forward *f, struct shl_bytes data)
{
    size_t len = SHL_MIN(data.len, f->in.max_bytes - shl_buf_len(&f->in));

    if (!count_body(f, len)) {
        return data.len;
    }
    if (shl_buf_append(&f->in, data.base, len) < 0) {
        break_off(f, -ENOMEM, "no memory for the reply");
        return data.len;
    }
    f->is_paused = len < data.len;
    if (f->x && len > 0) {
        node_exchange_wake(f->x);
    }
    return len;
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct node_forward *f = arg;
    size_t taken = 0;

    while (taken < data.len && f->state == WAITING) {
        struct shl_bytes rest = shl_bytes_of(data.base + taken, data.len - taken);

        taken += take_frame_bytes(f, rest);
        take_frames(f);
        if (f->state == RELAYING && !count_body(f, shl_buf_len(&f->in))) {
            return data.len;
        }
    }
    if (f->state != RELAYING) {
        return data.len;
    }
    if (taken < data.len) {
        taken += take_body(f, shl_bytes_of(data.base + taken, data.len - taken));
    } else if (f->x && shl_buf_len(&f->in) > 0) {
        node_exchange_wake(f->x);
    }
    return taken;
}

static void on_end(void *arg)
{
    struct node_forward *f = arg;

    if (f->state == WAITING) {
        break_off(f, SHL_EPROTO, "it ended without an answer");
    } else if (f->state == RELAYING && f->left > 0) {
        break_off(f, SHL_EPROTO, "the reply is shorter than announced");
    } else if (f->state == RELAYING) {
        f->state = DONE;
        if (f->x) {
            node_exchange_wake(f->x);
        }
    }
}

static void on_writable(void *arg)
{
    struct node_forward *f = arg;

    if ((f->state != WAITING && !f->is_socket) || f->is_finished || !f->x) {
        return;
    }
    if (f->is_streamed) {
        node_exchange_resume_body(f->x);
    } else {
        send_buffered(f);
    }
}

/* Codes with which an owner turns a stream away that it did not look into. */
static bool is_turned_away(int code)
{
    return code == SHL_ENOTFOUND || code == SHL_EVERSION;
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct node_forward *f = arg;

    f->stream = NULL;
    if (code < 0 && f->state == WAITING) {
        fail(f, code == SHL_EVERSION ? code : SHL_EUNAVAILABLE, is_turned_away(code), msg);
    } else if (code < 0 && f->state == RELAYING) {
        break_off(f, code, msg);
    }
    maybe_free(f);
}

static const struct node_stream_user stream_user = {.data = on_data,
                                                    .end = on_end,
                                                    .writable = on_writable,
                                                    .closed = on_closed};

/* Beginning and end */

static int open_stream(struct node_forward *f,
                       const struct node_forward_config *config,
                       struct shl_err *err)
{
    struct node_wire_request request;
    struct shl_buf head;
    int rc;

    node_wire_request_of(f->x, &request);
    request.origin = config->origin;
    request.via = config->via;
    request.holds_body = f->is_streamed;
    if (!f->is_streamed) {
        request.body_length = (int64_t)shl_buf_len(&f->x->body);
    }
    shl_buf_init(&head, NODE_STREAM_HEAD_MAX);
    rc = node_wire_write_request(&request, &head);
    if (rc < 0) {
        (void)shl_err_set(err, rc, "the request head is too large to be passed on");
    } else {
        rc = config->opener->open(config->opener, config->node, NODE_WIRE_KIND,
                                  shl_buf_bytes(&head), &stream_user, f, &f->stream, err);
    }
    shl_buf_release(&head);
    return rc;
}

int node_forward_start(struct node_exchange *x,
                       const struct node_forward_config *config,
                       struct node_forward **ret_forward,
                       struct node_forward_failure *ret_failure)
{
    struct node_forward *f = calloc(1, sizeof(*f));
    struct shl_err err = {0};
    int rc;

    *ret_failure = (struct node_forward_failure){.is_untouched = true, .has_body = true};
    if (!f) {
        return shl_err_set(&ret_failure->err, -ENOMEM, "no memory to pass the request on");
    }
    f->x = x;
    f->ops = config->ops;
    f->arg = config->arg;
    f->is_streamed = x->body_mode != NODE_BODY_BUFFERED;
    (void)snprintf(f->node_name, sizeof(f->node_name), "%s", config->node_name);
    shl_buf_init(&f->in, NODE_FORWARD_BUFFER_BYTES);
    rc = open_stream(f, config, &err);
    if (rc < 0) {
        rc = rc == -ENOMEM || rc == SHL_ELIMIT ? rc : SHL_EUNAVAILABLE;
        (void)shl_err_set(&ret_failure->err, rc,
                          "node %s, which serves this, cannot be reached: %s", f->node_name,
                          err.msg[0] ? err.msg : shl_err_text(rc));
        free(f);
        return rc;
    }
    if (f->is_streamed) {
        node_exchange_set_sink(x, &sink_ops, f);
    } else {
        f->may_send = true;
        send_buffered(f);
    }
    *ret_forward = f;
    return 0;
}

void node_forward_gone(struct node_forward *f)
{
    f->x = NULL;
    if (f->state == WAITING) {
        f->state = OVER;
    }
    /* With the whole reply here the stream ends by itself. */
    if (f->state != DONE && !(f->state == RELAYING && f->left == 0)) {
        cut_stream(f, -ECANCELED, "the client has left");
    }
    if (f->state == DONE) {
        finish(f); /* the client's direction, which may still be open */
    }
    maybe_free(f);
}
