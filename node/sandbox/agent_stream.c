/* Streams of an agent link.
 *
 * Happy path:
 *  1. node_agent_open keeps the request; link_queue_control sends it once the link is
 *     ready and there is room (node_agent_open tries at once).
 *  2. HEAD and DATA arrive in link_take_frame and go to the callbacks; the window
 *     shrinks with each DATA and grows again by node_agent_consumed, in batches.
 *  3. node_agent_write frames DATA straight into the queue of the link while there is
 *     credit and room; node_agent_eof follows in order.
 *  4. RESPONSE arrives: on_end, and the stream is gone.
 *
 * What can go wrong:
 *  - the agent sends beyond its window, twice HEAD, or for an id never used: SHL_EPROTO,
 *    and agent_link.c drops the connection;
 *  - it sends for a stream that ended: ignored, the agent may not know yet;
 *  - the connection is lost: streams the agent has seen end with SHL_EUNAVAILABLE, those
 *    that still wait go out on the next connection;
 *  - an agent that ignores CANCEL: the stream ends by itself after cancel_ms.
 * on_end never runs inside a call of the owner: ended streams wait for the defer timer.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/sandbox/agent_link_private.h"
#include "node/sandbox/text.h"

static struct node_agent_stream *stream_of(struct shl_list *node)
{
    return shl_container_of(node, struct node_agent_stream, node);
}

static void stream_free(struct node_agent_stream *stream)
{
    stream->link->waiting_bytes -= shl_buf_len(&stream->request);
    shl_buf_release(&stream->request);
    free(stream);
}

/* ---- ending ---------------------------------------------------------------------- */

static void on_defer(uv_timer_t *timer)
{
    link_deliver_ended(timer->data);
}

static void end_later(struct node_agent_stream *stream, int code, const char *msg)
{
    struct node_agent_link *link = stream->link;

    assert(!stream->over);
    stream->over = true;
    stream->end_code = code;
    (void)snprintf(stream->end_msg, sizeof(stream->end_msg), "%s", msg);
    shl_list_remove(&stream->node);
    shl_list_push_back(&link->ended, &stream->node);
    link->stream_count--;
    if (!link->closing) {
        (void)uv_timer_start(&link->defer, on_defer, 0, 0);
    }
}

void link_end_streams(struct node_agent_link *link, bool sent_only, int code, const char *msg)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &link->streams) {
        if (!sent_only || stream_of(it)->id != 0) {
            end_later(stream_of(it), code, msg);
        }
    }
}

void link_end_ignored_cancels(struct node_agent_link *link)
{
    uint64_t now_ms = shl_monotonic_ms();
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &link->streams) {
        struct node_agent_stream *stream = stream_of(it);

        if (stream->cancel_asked && now_ms - stream->cancel_at_ms >= link->config.cancel_ms) {
            end_later(stream, -ECANCELED, "cancelled; the guest agent did not confirm it");
        }
    }
}

void link_deliver_ended(struct node_agent_link *link)
{
    struct shl_list *node;

    while ((node = shl_list_first(&link->ended))) {
        struct node_agent_stream *stream = stream_of(node);

        shl_list_remove(node);
        stream->ops->on_end(stream->arg, stream->end_code, stream->end_msg, NULL);
        stream_free(stream);
    }
}

/* ---- frames out ------------------------------------------------------------------ */

static bool append(struct node_agent_stream *stream,
                   enum agent_frame_type type,
                   uint8_t channel,
                   struct shl_bytes payload)
{
    return agent_frame_write(&stream->link->out, type, channel, stream->id, payload) == 0;
}

static bool send_request(struct node_agent_stream *stream)
{
    struct node_agent_link *link = stream->link;

    stream->id = link->next_id;
    if (!append(stream, AGENT_FRAME_REQUEST, 0, shl_buf_bytes(&stream->request))) {
        stream->id = 0;
        return false;
    }
    link->next_id++;
    link->waiting_bytes -= shl_buf_len(&stream->request);
    shl_buf_release(&stream->request);
    return true;
}

/* False when the queue is full: the rest waits for the next write to finish. */
static bool queue_control_of(struct node_agent_stream *stream)
{
    if (stream->id == 0 && !send_request(stream)) {
        return false;
    }
    if (stream->owed >= LINK_CREDIT_BATCH_BYTES ||
        (stream->owed > 0 && stream->recv_window < LINK_CREDIT_BATCH_BYTES)) {
        uint8_t grant[4];

        shl_put_le32(grant, stream->owed);
        if (!append(stream, AGENT_FRAME_CREDIT, 0, shl_bytes_of(grant, sizeof(grant)))) {
            return false;
        }
        stream->recv_window += stream->owed;
        stream->owed = 0;
    }
    if (stream->eof_asked && !stream->eof_sent) {
        if (!append(stream, AGENT_FRAME_EOF, AGENT_CHANNEL_RAW, shl_bytes_of(NULL, 0))) {
            return false;
        }
        stream->eof_sent = true;
    }
    if (stream->cancel_asked && !stream->cancel_sent) {
        if (!append(stream, AGENT_FRAME_CANCEL, 0, shl_bytes_of(NULL, 0))) {
            return false;
        }
        stream->cancel_sent = true;
    }
    return true;
}

void link_queue_control(struct node_agent_link *link)
{
    struct shl_list *it;

    assert(link->phase == LINK_READY);
    SHL_LIST_FOREACH(it, &link->streams) {
        if (!queue_control_of(stream_of(it))) {
            return;
        }
    }
}

/* Payload bytes of one DATA frame that may be queued for @stream now. */
static size_t writable_bytes(const struct node_agent_stream *stream)
{
    const struct node_agent_link *link = stream->link;
    size_t queued = shl_buf_len(&link->out);
    size_t frame = AGENT_HEADER_BYTES + AGENT_TRAILER_BYTES;

    if (link->phase != LINK_READY || stream->id == 0 || queued + frame >= LINK_OUT_DATA_MAX) {
        return 0;
    }
    return SHL_MIN(SHL_MIN(stream->send_credit, AGENT_PAYLOAD_MAX),
                   LINK_OUT_DATA_MAX - queued - frame);
}

void link_offer_room(struct node_agent_link *link)
{
    uint32_t left;

    for (left = link->stream_count; left > 0 && link->phase == LINK_READY; left--) {
        struct node_agent_stream *stream;

        if (shl_list_empty(&link->streams)) {
            return;
        }
        stream = stream_of(link->streams.next);
        /* to the back: the one that fills the queue now is asked last next time */
        shl_list_remove(&stream->node);
        shl_list_push_back(&link->streams, &stream->node);
        if (stream->want_writable && !stream->cancel_asked && writable_bytes(stream) > 0) {
            stream->want_writable = false;
            stream->ops->on_writable(stream->arg);
        }
    }
}

/* ---- frames in ------------------------------------------------------------------- */

static int take_head(struct node_agent_stream *stream,
                     const struct agent_frame *frame,
                     const char **ret_fault)
{
    struct shl_mp_doc doc;

    if (stream->head_seen || stream->data_seen) {
        *ret_fault = "a second HEAD, or one after DATA";
        return SHL_EPROTO;
    }
    if (shl_mp_parse(&doc, frame->payload) < 0) {
        *ret_fault = "a HEAD that is not valid msgpack";
        return SHL_EPROTO;
    }
    stream->head_seen = true;
    if (stream->ops->on_head && !stream->cancel_asked) {
        stream->ops->on_head(stream->arg, doc.root);
    }
    shl_mp_release(&doc);
    return 0;
}

static int take_data(struct node_agent_stream *stream,
                     const struct agent_frame *frame,
                     const char **ret_fault)
{
    if (frame->payload.len > stream->recv_window) {
        *ret_fault = "DATA beyond its credit";
        return SHL_EPROTO;
    }
    stream->data_seen = true;
    stream->recv_window -= (uint32_t)frame->payload.len;
    if (frame->payload.len > 0 && stream->ops->on_data && !stream->cancel_asked) {
        stream->unconsumed += (uint32_t)frame->payload.len;
        stream->ops->on_data(stream->arg, (enum agent_channel)frame->channel, frame->payload);
    }
    return 0;
}

static int take_credit(struct node_agent_stream *stream,
                       const struct agent_frame *frame,
                       const char **ret_fault)
{
    uint32_t grant;

    if (frame->payload.len != sizeof(grant)) {
        *ret_fault = "a CREDIT of a wrong size";
        return SHL_EPROTO;
    }
    grant = shl_get_le32(frame->payload.base);
    stream->send_credit =
        (uint32_t)SHL_MIN((uint64_t)stream->send_credit + grant, (uint64_t)LINK_SEND_CREDIT_MAX);
    link_offer_room(stream->link);
    return 0;
}

static int take_response(struct node_agent_stream *stream,
                         const struct agent_frame *frame,
                         const char **ret_fault)
{
    struct node_agent_link *link = stream->link;
    char msg[SHL_ERR_TEXT_MAX] = "";
    struct shl_bytes text;
    struct shl_mp_doc doc;
    int64_t code;

    if (shl_mp_parse(&doc, frame->payload) < 0) {
        *ret_fault = "a RESPONSE that is not valid msgpack";
        return SHL_EPROTO;
    }
    if (shl_mp_get_int(doc.root, "code", &code) < 0 || code > 0 || code < INT32_MIN) {
        shl_mp_release(&doc);
        *ret_fault = "a RESPONSE without a valid code";
        return SHL_EPROTO;
    }
    if (shl_mp_get_str(doc.root, "msg", &text) == 0) {
        node_text_clean(msg, sizeof(msg), text);
    }
    if (!msg[0] && code < 0) {
        (void)snprintf(msg, sizeof(msg), "%s", shl_err_text((int)code));
    }
    shl_list_remove(&stream->node);
    link->stream_count--;
    stream->ops->on_end(stream->arg, (int)code, msg, doc.root);
    shl_mp_release(&doc);
    stream_free(stream);
    return 0;
}

static struct node_agent_stream *find_stream(struct node_agent_link *link, uint32_t id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &link->streams) {
        if (stream_of(it)->id == id) {
            return stream_of(it);
        }
    }
    return NULL;
}

int link_take_frame(struct node_agent_link *link,
                    const struct agent_frame *frame,
                    const char **ret_fault)
{
    struct node_agent_stream *stream;

    if (frame->type == AGENT_FRAME_HELLO || frame->type == AGENT_FRAME_REQUEST ||
        frame->type == AGENT_FRAME_CANCEL) {
        *ret_fault = "a frame that only a node sends";
        return SHL_EPROTO;
    }
    stream = find_stream(link, frame->stream);
    if (!stream) {
        if (frame->stream < link->next_id) {
            return 0;
        }
        *ret_fault = "a frame for a stream that was never opened";
        return SHL_EPROTO;
    }
    switch (frame->type) {
    case AGENT_FRAME_HEAD:
        return take_head(stream, frame, ret_fault);
    case AGENT_FRAME_DATA:
        return take_data(stream, frame, ret_fault);
    case AGENT_FRAME_CREDIT:
        return take_credit(stream, frame, ret_fault);
    case AGENT_FRAME_RESPONSE:
        return take_response(stream, frame, ret_fault);
    case AGENT_FRAME_EOF: /* for most RESPONSE follows and says all */
        if (stream->ops->on_eof && !stream->cancel_asked && !stream->eof_seen) {
            stream->eof_seen = true;
            stream->ops->on_eof(stream->arg);
        }
        return 0;
    case AGENT_FRAME_HELLO:
    case AGENT_FRAME_HELLO_ACK:
    case AGENT_FRAME_REQUEST:
    case AGENT_FRAME_CANCEL:
        break;
    }
    return 0;
}

/* ---- what the owners of streams call --------------------------------------------- */

static int open_stream(struct node_agent_link *link,
                       bool is_kept,
                       struct shl_bytes request,
                       const struct node_agent_stream_ops *ops,
                       void *arg,
                       struct node_agent_stream **ret_stream)
{
    size_t streams_max = AGENT_STREAMS_MAX - (is_kept ? 0 : NODE_AGENT_STREAMS_KEPT);
    struct node_agent_stream *stream;
    int rc;

    assert(ops->on_end);
    if (link->closing || link->phase == LINK_FAILED) {
        return SHL_EGONE;
    }
    if (link->stream_count >= streams_max || request.len > AGENT_REQUEST_MAX ||
        (!is_kept && link->waiting_bytes + request.len > LINK_WAITING_BYTES_MAX)) {
        return SHL_ELIMIT;
    }
    stream = calloc(1, sizeof(*stream));
    if (!stream) {
        return -ENOMEM;
    }
    shl_buf_init(&stream->request, AGENT_REQUEST_MAX);
    rc = shl_buf_append(&stream->request, request.base, request.len);
    if (rc < 0) {
        free(stream);
        return rc;
    }
    stream->link = link;
    stream->ops = ops;
    stream->arg = arg;
    stream->recv_window = AGENT_WINDOW_BYTES;
    stream->send_credit = AGENT_WINDOW_BYTES;
    shl_list_push_back(&link->streams, &stream->node);
    link->stream_count++;
    link->waiting_bytes += request.len;
    *ret_stream = stream;
    link_pump(link);
    return 0;
}

int node_agent_open(struct node_agent_link *link,
                    struct shl_bytes request,
                    const struct node_agent_stream_ops *ops,
                    void *arg,
                    struct node_agent_stream **ret_stream)
{
    return open_stream(link, false, request, ops, arg, ret_stream);
}

int node_agent_open_kept(struct node_agent_link *link,
                         struct shl_bytes request,
                         const struct node_agent_stream_ops *ops,
                         void *arg,
                         struct node_agent_stream **ret_stream)
{
    return open_stream(link, true, request, ops, arg, ret_stream);
}

size_t node_agent_write(struct node_agent_stream *stream,
                        enum agent_channel channel,
                        struct shl_bytes data)
{
    size_t taken = 0;

    if (stream->over || stream->cancel_asked) {
        return 0;
    }
    assert(!stream->eof_asked);
    while (taken < data.len) {
        size_t len = SHL_MIN(data.len - taken, writable_bytes(stream));

        if (len == 0 || !append(stream, AGENT_FRAME_DATA, (uint8_t)channel,
                                shl_bytes_of(data.base + taken, len))) {
            break;
        }
        stream->send_credit -= (uint32_t)len;
        taken += len;
    }
    if (taken < data.len) {
        assert(stream->ops->on_writable);
        stream->want_writable = true;
    }
    link_pump(stream->link);
    return taken;
}

void node_agent_eof(struct node_agent_stream *stream)
{
    stream->eof_asked = true;
    stream->want_writable = false;
    link_pump(stream->link);
}

void node_agent_consumed(struct node_agent_stream *stream, size_t len)
{
    if (stream->over || stream->cancel_asked) {
        return;
    }
    assert(len <= stream->unconsumed);
    stream->unconsumed -= (uint32_t)len;
    stream->owed += (uint32_t)len;
    link_pump(stream->link);
}

void node_agent_cancel(struct node_agent_stream *stream)
{
    if (stream->over || stream->cancel_asked) {
        return;
    }
    stream->cancel_asked = true;
    stream->cancel_at_ms = shl_monotonic_ms();
    if (stream->id == 0) {
        end_later(stream, -ECANCELED, "cancelled before it was sent to the guest");
        return;
    }
    link_pump(stream->link);
}
