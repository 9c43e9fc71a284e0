#include "agent/mux.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define CREDIT_STEP_BYTES (AGENT_WINDOW_BYTES / 4)
#define CREDIT_MAX        0x7fffffffu

void agent_mux_init(struct agent_mux *mux,
                    void (*on_request)(void *, struct agent_stream *, const msgpack_object *),
                    void *arg)
{
    *mux = (struct agent_mux){.on_request = on_request, .arg = arg};
    shl_list_init(&mux->streams);
    shl_list_init(&mux->ready);
    shl_buf_init(&mux->out, AGENT_MUX_OUT_MAX);
}

void agent_mux_release(struct agent_mux *mux)
{
    agent_mux_drop_all(mux);
    shl_buf_release(&mux->out);
}

static void send_frame(struct agent_stream *stream,
                       enum agent_frame_type type,
                       uint8_t channel,
                       struct shl_bytes payload)
{
    struct agent_mux *mux = stream->mux;
    int rc = agent_frame_write(&mux->out, type, channel, stream->id, payload);

    if (rc < 0 && mux->error == 0) {
        mux->error = rc;
    }
}

static void free_stream(struct agent_stream *stream)
{
    shl_list_remove(&stream->node);
    shl_list_remove(&stream->ready);
    stream->mux->stream_count--;
    free(stream);
}

static void drop_stream(struct agent_stream *stream)
{
    if (stream->ops && stream->ops->on_drop) {
        stream->ops->on_drop(stream->op);
    }
    free_stream(stream);
}

void agent_mux_drop_all(struct agent_mux *mux)
{
    struct shl_list *first;

    while ((first = shl_list_first(&mux->streams)) != NULL) {
        drop_stream(shl_container_of(first, struct agent_stream, node));
    }
    shl_buf_clear(&mux->out);
    mux->error = 0;
}

static struct agent_stream *find_stream(struct agent_mux *mux, uint32_t id)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &mux->streams) {
        struct agent_stream *stream = shl_container_of(it, struct agent_stream, node);

        if (stream->id == id) {
            return stream;
        }
    }
    return NULL;
}

static int open_stream(struct agent_mux *mux, const struct agent_frame *frame)
{
    struct agent_stream *stream;
    struct shl_mp_doc doc;
    int rc;

    if (find_stream(mux, frame->stream)) {
        return SHL_EPROTO;
    }
    stream = calloc(1, sizeof(*stream));
    if (!stream) {
        return -ENOMEM;
    }
    stream->mux = mux;
    stream->id = frame->stream;
    stream->send_credit = AGENT_WINDOW_BYTES;
    stream->recv_credit = AGENT_WINDOW_BYTES;
    shl_list_init(&stream->ready);
    shl_list_push_back(&mux->streams, &stream->node);
    mux->stream_count++;
    if (mux->stream_count > AGENT_STREAMS_MAX) {
        agent_stream_finish(stream, SHL_EQUOTA, "too many requests are open in this sandbox");
        return mux->error;
    }
    rc = shl_mp_parse(&doc, frame->payload);
    if (rc < 0) {
        agent_stream_finish(stream, rc, "the request is not valid msgpack");
        return mux->error;
    }
    mux->on_request(mux->arg, stream, doc.root);
    shl_mp_release(&doc);
    return mux->error;
}

static int take_data(struct agent_stream *stream, struct shl_bytes data)
{
    if (data.len > stream->recv_credit) {
        return SHL_EPROTO;
    }
    stream->recv_credit -= (uint32_t)data.len;
    if (stream->ops && stream->ops->on_data && data.len > 0) {
        stream->ops->on_data(stream->op, data);
    }
    return 0;
}

static void mark_ready(struct agent_stream *stream)
{
    if (stream->wants_write && stream->send_credit > 0 && shl_list_empty(&stream->ready)) {
        shl_list_push_back(&stream->mux->ready, &stream->ready);
    }
}

static int take_credit(struct agent_stream *stream, struct shl_bytes payload)
{
    uint32_t more;

    if (payload.len != sizeof(more)) {
        return SHL_EPROTO;
    }
    more = shl_get_le32(payload.base);
    if (more > CREDIT_MAX - stream->send_credit) {
        return SHL_EPROTO;
    }
    stream->send_credit += more;
    mark_ready(stream);
    return 0;
}

int agent_mux_frame(struct agent_mux *mux, const struct agent_frame *frame)
{
    struct agent_stream *stream;
    int rc = 0;

    if (frame->type == AGENT_FRAME_REQUEST) {
        return open_stream(mux, frame);
    }
    stream = find_stream(mux, frame->stream);
    if (!stream) {
        return 0; /* it has ended: frames were under way */
    }
    switch (frame->type) {
    case AGENT_FRAME_DATA:
        rc = take_data(stream, frame->payload);
        break;
    case AGENT_FRAME_EOF:
        if (stream->ops && stream->ops->on_eof) {
            stream->ops->on_eof(stream->op);
        }
        break;
    case AGENT_FRAME_CREDIT:
        rc = take_credit(stream, frame->payload);
        break;
    case AGENT_FRAME_CANCEL:
        if (stream->ops && stream->ops->on_drop) {
            stream->ops->on_drop(stream->op);
        }
        agent_stream_finish(stream, -ECANCELED, NULL);
        break;
    case AGENT_FRAME_HELLO:
    case AGENT_FRAME_HELLO_ACK:
    case AGENT_FRAME_REQUEST:
    case AGENT_FRAME_HEAD:
    case AGENT_FRAME_RESPONSE:
        rc = SHL_EPROTO; /* only an agent sends these */
        break;
    }
    return rc < 0 ? rc : mux->error;
}

void agent_mux_pump(struct agent_mux *mux)
{
    while (!mux->error && shl_buf_len(&mux->out) < AGENT_MUX_SOFT_BYTES) {
        struct shl_list *first = shl_list_first(&mux->ready);
        struct agent_stream *stream;

        if (!first) {
            return;
        }
        stream = shl_container_of(first, struct agent_stream, ready);
        shl_list_remove(&stream->ready);
        stream->wants_write = false;
        stream->ops->on_writable(stream->op);
    }
}

void agent_stream_bind(struct agent_stream *stream, const struct agent_stream_ops *ops, void *op)
{
    stream->ops = ops;
    stream->op = op;
}

void agent_stream_want_write(struct agent_stream *stream)
{
    assert(stream->ops && stream->ops->on_writable);
    stream->wants_write = true;
    mark_ready(stream);
}

size_t agent_stream_room(const struct agent_stream *stream)
{
    return SHL_MIN(stream->send_credit, AGENT_PAYLOAD_MAX);
}

void agent_stream_send(struct agent_stream *stream, uint8_t channel, struct shl_bytes data)
{
    assert(data.len <= agent_stream_room(stream));
    stream->send_credit -= (uint32_t)data.len;
    send_frame(stream, AGENT_FRAME_DATA, channel, data);
}

void agent_stream_eof(struct agent_stream *stream)
{
    send_frame(stream, AGENT_FRAME_EOF, AGENT_CHANNEL_RAW, shl_bytes_of(NULL, 0));
}

void agent_stream_consumed(struct agent_stream *stream, size_t len)
{
    uint8_t payload[4];

    stream->recv_consumed += (uint32_t)len;
    if (stream->recv_consumed < CREDIT_STEP_BYTES) {
        return;
    }
    shl_put_le32(payload, stream->recv_consumed);
    stream->recv_credit += stream->recv_consumed;
    stream->recv_consumed = 0;
    send_frame(stream, AGENT_FRAME_CREDIT, 0, shl_bytes_of(payload, sizeof(payload)));
}

static void reply_begin(struct agent_reply *reply,
                        struct agent_stream *stream,
                        enum agent_frame_type type)
{
    reply->stream = stream;
    reply->type = type;
    shl_buf_init(&reply->buf, AGENT_PAYLOAD_MAX);
    shl_mp_writer_init(&reply->w, &reply->buf);
    shl_mp_map(&reply->w);
}

void agent_reply_head(struct agent_reply *reply, struct agent_stream *stream)
{
    reply_begin(reply, stream, AGENT_FRAME_HEAD);
}

void agent_reply_response(struct agent_reply *reply, struct agent_stream *stream)
{
    reply_begin(reply, stream, AGENT_FRAME_RESPONSE);
    shl_mp_kv_int(&reply->w, "code", 0);
    shl_mp_kv_str(&reply->w, "msg", "");
}

void agent_reply_end(struct agent_reply *reply)
{
    struct agent_stream *stream = reply->stream;
    int rc;

    shl_mp_end(&reply->w);
    rc = shl_mp_done(&reply->w);
    if (rc == 0) {
        send_frame(stream, reply->type, 0, shl_buf_bytes(&reply->buf));
    } else if (stream->mux->error == 0) {
        stream->mux->error = rc;
    }
    shl_buf_release(&reply->buf);
    if (reply->type == AGENT_FRAME_RESPONSE) {
        free_stream(stream);
    }
}

void agent_stream_finish(struct agent_stream *stream, int code, const char *msg)
{
    struct agent_reply reply;

    assert(code <= 0);
    reply_begin(&reply, stream, AGENT_FRAME_RESPONSE);
    shl_mp_kv_int(&reply.w, "code", code);
    shl_mp_kv_str(&reply.w, "msg", msg ? msg : code ? shl_err_text(code) : "");
    agent_reply_end(&reply);
}
