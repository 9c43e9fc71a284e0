/* One request that came through the mesh:
 *
 *   accept -> on_head -> body data ... -> reply set -> pump: frame, body ... -> finish -> closed
 *
 * Handlers call in from anywhere, so what they want is only noted (the request becomes due)
 * and carried out by the pump, from a timer of 0 ms or when the stream is writable. The pump
 * alone writes to the stream.
 */
#include "node/http/remote.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/list.h"
#include "node/http/server.h"
#include "node/http/transport.h"
#include "node/http/wire.h"

struct node_remote {
    struct node_remote_config config; /* defaults filled in */
    char *node_name;
    uv_loop_t *loop;
    uv_timer_t due_timer;
    uv_timer_t sweep;
    struct shl_list requests;
    struct shl_list due;
    struct node_remote_stats stats;
    unsigned open_handles;
    bool is_closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

struct request {
    struct shl_list link;
    struct shl_list due_link;
    struct node_remote *remote;
    struct node_stream *stream;
    struct node_wire_request head;
    struct node_exchange x;
    uint64_t started_ms;
    uint64_t deadline_ms; /* 0 none */
    uint64_t body_bytes;  /* that came */
    uint64_t dropped_bytes;
    /* of the reply */
    struct shl_buf out; /* not taken by the stream yet */
    uint8_t *heap;
    size_t heap_len;
    size_t heap_at;
    bool has_source;
    int64_t left; /* of the promised length; -1 none was promised */
    bool is_replying;
    bool is_stalled;  /* out waits until the stream is writable */
    bool is_read;     /* the whole body of the reply is in out, or sent */
    bool is_finished; /* nothing more will be written */
    bool is_cut;      /* by us; closed is to come */
};

static struct request *request_of(struct node_exchange *x)
{
    return shl_container_of(x, struct request, x);
}

static void cut(struct request *r, int code, const char *msg)
{
    if (!r->is_cut) {
        r->is_cut = true;
        node_stream_abort(r->stream, code, msg);
    }
}

static void on_due(uv_timer_t *timer);

static void make_due(struct request *r)
{
    struct node_remote *remote = r->remote;

    if (shl_list_empty(&r->due_link)) {
        if (shl_list_empty(&remote->due)) {
            (void)uv_timer_start(&remote->due_timer, on_due, 0, 0);
        }
        shl_list_push_back(&remote->due, &r->due_link);
    }
}

/* Exchange operations */

static const char *op_header(struct node_exchange *x, const char *name)
{
    return node_wire_header(&request_of(x)->head, name);
}

static void op_each_header(struct node_exchange *x, node_header_fn each, void *arg)
{
    const struct node_wire_request *head = &request_of(x)->head;

    for (size_t i = 0; i < head->header_count; i++) {
        if (!each(arg, head->headers[i].name, head->headers[i].value)) {
            return;
        }
    }
}

static bool writes_reply(struct request *r, const struct node_reply *reply, int64_t length)
{
    struct node_wire_frame frame = {.kind = NODE_WIRE_REPLY,
                                    .status = reply->status,
                                    .length = length,
                                    .refusal = r->x.refusal,
                                    .content_type = reply->content_type,
                                    .node_name = r->remote->node_name,
                                    .header_count = reply->header_count};

    memcpy(frame.headers, reply->headers, sizeof(frame.headers));
    return node_wire_write_frame(&frame, &r->out) == 0;
}

static void op_reply(struct node_exchange *x, struct node_reply *reply)
{
    struct request *r = request_of(x);

    r->heap = reply->heap;
    r->heap_len = reply->heap_len;
    r->has_source = reply->source != NULL;
    r->left = reply->source ? reply->length : (int64_t)reply->heap_len;
    r->is_replying = true;
    r->is_read = !node_wire_has_body(x->method, reply->status) || r->left == 0;
    r->deadline_ms = 0;
    if (!writes_reply(r, reply, r->left)) {
        cut(r, -ENOMEM, "no memory for the reply");
    }
    make_due(r);
}

static void op_wake(struct node_exchange *x)
{
    make_due(request_of(x));
}

static void op_resume_body(struct node_exchange *x)
{
    struct request *r = request_of(x);

    if (!r->is_cut) {
        node_stream_resume(r->stream);
    }
}

static const struct node_exchange_ops exchange_ops = {.header = op_header,
                                                      .each_header = op_each_header,
                                                      .reply = op_reply,
                                                      .wake = op_wake,
                                                      .resume_body = op_resume_body};

/* The pump */

/* False when the stream takes no more for now. */
static bool write_out(struct request *r)
{
    struct shl_bytes bytes = shl_buf_bytes(&r->out);

    if (bytes.len > 0) {
        shl_buf_consume(&r->out, node_stream_write(r->stream, bytes));
    }
    r->is_stalled = shl_buf_len(&r->out) > 0;
    return !r->is_stalled;
}

/* The next bytes of the reply into out. False when there are none now, or never. */
static bool read_source(struct request *r)
{
    size_t cap = NODE_STREAM_PIECE_MAX;
    uint8_t *space = NULL;
    ssize_t n;

    if (r->left >= 0) {
        cap = SHL_MIN(cap, (size_t)r->left);
    }
    if (shl_buf_reserve(&r->out, cap, &space) < 0) {
        cut(r, -ENOMEM, "no memory for the reply");
        return false;
    }
    n = node_exchange_read(&r->x, space, cap);
    if (n > 0) {
        assert((size_t)n <= cap);
        shl_buf_commit(&r->out, (size_t)n);
        r->left -= r->left >= 0 ? n : 0;
        r->is_read = r->left == 0;
        return true;
    }
    if (n == NODE_SOURCE_END && r->left < 0) {
        r->is_read = true;
    } else if (n < 0) {
        cut(r, n == NODE_SOURCE_END ? -EIO : (int)n, "the reply broke off");
    }
    return false;
}

static bool read_heap(struct request *r)
{
    size_t len = SHL_MIN(r->heap_len - r->heap_at, (size_t)NODE_STREAM_PIECE_MAX);

    if (shl_buf_append(&r->out, r->heap + r->heap_at, len) < 0) {
        cut(r, -ENOMEM, "no memory for the reply");
        return false;
    }
    r->heap_at += len;
    r->is_read = r->heap_at == r->heap_len;
    return true;
}

static void pump(struct request *r)
{
    bool has_more = true;

    if (r->is_cut || r->is_finished || (r->is_stalled && !write_out(r))) {
        return;
    }
    while (has_more) {
        has_more = r->is_replying && !r->is_read && (r->has_source ? read_source(r) : read_heap(r));
        if (r->is_cut || !write_out(r)) {
            return; /* goes on when the stream is writable */
        }
    }
    if (r->is_replying && r->is_read) {
        r->is_finished = true;
        r->deadline_ms = shl_monotonic_ms() + NODE_REMOTE_LINGER_MS;
        node_stream_finish(r->stream);
    }
}

static void on_due(uv_timer_t *timer)
{
    struct node_remote *remote = timer->data;
    struct shl_list due;

    /* Who becomes due meanwhile has its turn next time. */
    shl_list_init(&due);
    while (!shl_list_empty(&remote->due)) {
        struct shl_list *first = shl_list_first(&remote->due);

        shl_list_remove(first);
        shl_list_push_back(&due, first);
    }
    while (!shl_list_empty(&due)) {
        struct request *r = shl_container_of(shl_list_first(&due), struct request, due_link);

        shl_list_remove(&r->due_link);
        pump(r);
    }
}

/* Stream callbacks */

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct request *r = arg;
    bool was_replied = r->x.is_replied && !node_exchange_is_upgraded(&r->x);
    size_t taken;

    if (r->is_cut) {
        return data.len;
    }
    if (r->x.body_length >= 0 &&
        data.len >
            (uint64_t)r->x.body_length - SHL_MIN(r->body_bytes, (uint64_t)r->x.body_length)) {
        cut(r, SHL_EPROTO, "the request body is longer than announced");
        return data.len;
    }
    taken = node_exchange_body_data(&r->x, data);
    r->body_bytes += taken;
    r->dropped_bytes += was_replied ? taken : 0;
    if (r->dropped_bytes > NODE_REMOTE_DISCARD_MAX) {
        cut(r, SHL_ELIMIT, "the request was answered long ago");
    }
    return taken;
}

static void on_end(void *arg)
{
    struct request *r = arg;

    if (r->is_cut) {
        return;
    }
    /* Who has the whole reply may end early: nobody wants the rest. */
    if (!r->x.is_replied && r->x.body_length >= 0 && r->body_bytes < (uint64_t)r->x.body_length) {
        cut(r, SHL_EPROTO, "the request body is shorter than announced");
        return;
    }
    if (!r->is_finished) {
        r->deadline_ms = 0;
    }
    node_exchange_body_end(&r->x);
}

static void on_writable(void *arg)
{
    pump(arg);
}

static void maybe_closed(struct node_remote *remote);

static void on_closed(void *arg, int code, const char *msg)
{
    struct request *r = arg;
    struct node_remote *remote = r->remote;
    bool is_complete = r->is_finished && code == 0;

    (void)msg; /* the entry node tells its client */
    shl_list_remove(&r->link);
    shl_list_remove(&r->due_link);
    remote->stats.in_flight--;
    remote->stats.requests[is_complete ? (unsigned)r->x.status / 100 % 6 : 0]++;
    SHL_LOG(remote->config.log, SHL_LOG_DEBUG, "remote_request",
            SHL_S("method", node_method_name(r->x.method)), SHL_S("path", r->x.url.path),
            SHL_S("via", r->head.via), SHL_I("status", r->x.status), SHL_B("complete", is_complete),
            SHL_I("duration_ms", shl_monotonic_ms() - r->started_ms),
            SHL_S("request_id", r->x.request_id));
    node_exchange_close(&r->x, is_complete);
    shl_buf_release(&r->out);
    free(r->heap);
    node_wire_request_release(&r->head);
    free(r);
    maybe_closed(remote);
}

static const struct node_stream_user stream_user = {.data = on_data,
                                                    .end = on_end,
                                                    .writable = on_writable,
                                                    .closed = on_closed};

/* Accepting */

static uint32_t count_of(struct node_remote *remote, const struct shl_node_id *peer)
{
    struct shl_list *it;
    uint32_t count = 0;

    SHL_LIST_FOREACH(it, &remote->requests) {
        struct request *r = shl_container_of(it, struct request, link);

        count += shl_node_id_equal(&r->stream->peer, peer);
    }
    return count;
}

static int check_room(struct node_remote *remote,
                      const struct node_stream *stream,
                      struct shl_err *err)
{
    if (remote->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node is shutting down");
    }
    if (remote->stats.in_flight >= remote->config.requests_max ||
        count_of(remote, &stream->peer) >= remote->config.peer_requests_max) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "node %s serves as many requests of other nodes as it may, try again",
                           remote->node_name);
    }
    return 0;
}

/* Ask the application, and let the body come when it stays. */
static void begin(struct request *r, int parsed)
{
    struct node_exchange *x = &r->x;
    struct node_remote *remote = r->remote;
    const struct node_wire_frame go = {.kind = NODE_WIRE_GO};

    if (parsed == -ENOMEM || (parsed < 0 && !remote->config.app.takes_any_target)) {
        node_exchange_fail_target(x);
        return;
    }
    r->deadline_ms = shl_monotonic_ms() + remote->config.body_timeout_ms;
    remote->config.app.on_head(remote->config.app.arg, x);
    node_exchange_begin(x);
    if (x->body_mode != NODE_BODY_BUFFERED) {
        r->deadline_ms = 0;
    }
    /* Of a WebSocket the reply is the word. */
    if (r->head.holds_body && x->body_mode != NODE_BODY_SOCKET && !x->is_replied) {
        if (node_wire_write_frame(&go, &r->out) < 0) {
            node_exchange_fail(x, -ENOMEM, NULL);
        }
        make_due(r);
    }
}

int node_remote_accept(void *arg,
                       struct node_stream *stream,
                       struct shl_bytes head,
                       struct shl_err *err)
{
    struct node_remote *remote = arg;
    struct request *r;
    int rc = check_room(remote, stream, err);

    if (rc < 0) {
        remote->stats.refused++;
        return rc;
    }
    r = calloc(1, sizeof(*r));
    rc = r ? node_wire_read_request(head, &r->head, err)
           : shl_err_set(err, -ENOMEM, "no memory for a request");
    if (rc < 0) {
        remote->stats.refused++;
        free(r);
        return rc;
    }
    r->remote = remote;
    r->stream = stream;
    r->started_ms = shl_monotonic_ms();
    shl_list_init(&r->due_link);
    shl_list_push_back(&remote->requests, &r->link);
    /* A go, the reply's frame and a piece of its body. */
    shl_buf_init(&r->out,
                 2 * (NODE_WIRE_FRAME_MAX + NODE_WIRE_LENGTH_BYTES) + NODE_STREAM_PIECE_MAX);
    remote->stats.in_flight++;
    node_stream_set_user(stream, &stream_user, r);
    rc = node_exchange_init(&r->x, &exchange_ops, remote->loop, r->head.method, r->head.target);
    r->x.body_length = r->head.body_length;
    r->x.is_upgrade = node_wire_is_upgrade(&r->head);
    r->x.hops = r->head.hops;
    r->x.origin = r->head.origin;
    r->x.pad_after_ms = remote->config.pad_after_ms;
    r->x.pad_every_ms = remote->config.pad_every_ms;
    begin(r, rc);
    return 0;
}

/* Deadlines */

static void on_sweep(uv_timer_t *timer)
{
    struct node_remote *remote = timer->data;
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &remote->requests) {
        struct request *r = shl_container_of(it, struct request, link);

        if (r->deadline_ms == 0 || now_ms < r->deadline_ms) {
            continue;
        }
        r->deadline_ms = 0;
        if (r->is_finished) {
            cut(r, -ETIMEDOUT, "the request was answered long ago");
        } else if (!r->x.is_replied) {
            node_exchange_fail(&r->x, -ETIME, "the request body did not arrive in time");
        }
    }
}

/* Opening and closing */

static uint32_t or_default(uint32_t value, uint32_t other)
{
    return value > 0 ? value : other;
}

int node_remote_open(uv_loop_t *loop,
                     const struct node_remote_config *config,
                     struct node_remote **ret_remote,
                     struct shl_err *err)
{
    struct node_remote *remote = calloc(1, sizeof(*remote));
    char *name = strdup(config->node_name);

    if (!remote || !name) {
        free(remote);
        free(name);
        return shl_err_set(err, -ENOMEM, "no memory for requests of other nodes");
    }
    remote->config = *config;
    remote->config.requests_max = or_default(config->requests_max, NODE_REMOTE_REQUESTS_MAX);
    remote->config.peer_requests_max =
        or_default(config->peer_requests_max, NODE_REMOTE_PEER_REQUESTS_MAX);
    remote->config.body_timeout_ms = or_default(config->body_timeout_ms, NODE_HTTP_BODY_TIMEOUT_MS);
    remote->config.pad_after_ms = or_default(config->pad_after_ms, NODE_EXCHANGE_PAD_AFTER_MS);
    remote->config.pad_every_ms = or_default(config->pad_every_ms, NODE_EXCHANGE_PAD_EVERY_MS);
    remote->node_name = name;
    remote->loop = loop;
    shl_list_init(&remote->requests);
    shl_list_init(&remote->due);
    (void)uv_timer_init(loop, &remote->due_timer);
    remote->due_timer.data = remote;

    (void)uv_timer_init(loop, &remote->sweep);
    remote->sweep.data = remote;
    (void)uv_timer_start(&remote->sweep, on_sweep, NODE_REMOTE_SWEEP_MS, NODE_REMOTE_SWEEP_MS);
    remote->open_handles = 2;
    *ret_remote = remote;
    return 0;
}

void node_remote_stats(const struct node_remote *remote, struct node_remote_stats *ret)
{
    *ret = remote->stats;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct node_remote *remote = handle->data;
    void (*cb)(void *) = remote->close_cb;
    void *arg = remote->close_arg;

    if (--remote->open_handles > 0) {
        return;
    }
    free(remote->node_name);
    free(remote);
    cb(arg);
}

static void maybe_closed(struct node_remote *remote)
{
    if (remote->is_closing && shl_list_empty(&remote->requests) &&
        !uv_is_closing((uv_handle_t *)&remote->due_timer)) {
        uv_close((uv_handle_t *)&remote->due_timer, on_handle_closed);
        uv_close((uv_handle_t *)&remote->sweep, on_handle_closed);
    }
}

void node_remote_close(struct node_remote *remote, void (*cb)(void *arg), void *arg)
{
    struct shl_list *it;

    remote->is_closing = true;
    remote->close_cb = cb;
    remote->close_arg = arg;
    SHL_LIST_FOREACH(it, &remote->requests) {
        cut(shl_container_of(it, struct request, link), SHL_EUNAVAILABLE,
            "the node is shutting down");
    }
    maybe_closed(remote);
}
