/* Streams of one link: who is open, how much may still be sent each way, whose turn
 * it is. No descriptors: frames come in by agent_mux_frame, bytes go out through
 * mux.out, which the link writes and consumes.
 *
 * A stream is created by REQUEST and ends with its response (agent_reply_end,
 * agent_stream_finish) or when it is dropped (CANCEL, HELLO, lost link). Its operation
 * learns of the latter by on_drop, must forget the stream and is not called again;
 * after a response it is not called either. Loop thread only.
 */
#ifndef SHL_AGENT_MUX_H
#define SHL_AGENT_MUX_H

#include <stdbool.h>

#include "agent/frame.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mp.h"

/* Above this much unsent output no stream is asked for more. */
#define AGENT_MUX_SOFT_BYTES (256u * 1024)
/* Above this no frame is read. More than streams fill: behind any amount of their data
 * requests are still read, only those whose answers nobody takes are not. */
#define AGENT_MUX_READ_BYTES (512u * 1024)
#define AGENT_MUX_OUT_MAX    (2u * 1024 * 1024)

struct agent_mux;
struct agent_stream;

struct agent_stream_ops {
    void (*on_data)(void *op, struct shl_bytes data); /* NULL: DATA is ignored */
    void (*on_eof)(void *op);
    void (*on_writable)(void *op); /* once per agent_stream_want_write */
    void (*on_drop)(void *op);
};

struct agent_stream {
    struct shl_list node;
    struct shl_list ready; /* in mux.ready while it may write and wants to */
    struct agent_mux *mux;
    uint32_t id;
    uint32_t send_credit;   /* DATA bytes we may send */
    uint32_t recv_credit;   /* DATA bytes the node may send */
    uint32_t recv_consumed; /* taken in and not yet given back as CREDIT */
    bool wants_write;
    const struct agent_stream_ops *ops; /* NULL until the operation is bound */
    void *op;
};

struct agent_mux {
    struct shl_list streams;
    struct shl_list ready;
    unsigned stream_count;
    struct shl_buf out;
    int error; /* first failure to queue a frame: the link has to be dropped */
    /* A new stream. The handler binds an operation or answers at once. */
    void (*on_request)(void *arg, struct agent_stream *stream, const msgpack_object *request);
    void *arg;
};

void agent_mux_init(struct agent_mux *mux,
                    void (*on_request)(void *, struct agent_stream *, const msgpack_object *),
                    void *arg);
/* Drops every stream. */
void agent_mux_release(struct agent_mux *mux);

/* Any frame but HELLO. 0, SHL_EPROTO when the node broke the rules, or -ENOMEM: the
 * link has to be dropped. */
SHL_MUST_CHECK int agent_mux_frame(struct agent_mux *mux, const struct agent_frame *frame);

/* The link is gone or replaced: every stream ends, unsent output is forgotten. */
void agent_mux_drop_all(struct agent_mux *mux);

/* Let streams that want to write do so, in turn, while there is room. */
void agent_mux_pump(struct agent_mux *mux);

void agent_stream_bind(struct agent_stream *stream, const struct agent_stream_ops *ops, void *op);
void agent_stream_want_write(struct agent_stream *stream);

/* DATA bytes that may be sent now, up to one frame. */
size_t agent_stream_room(const struct agent_stream *stream);
/* @data must fit in agent_stream_room. */
void agent_stream_send(struct agent_stream *stream, uint8_t channel, struct shl_bytes data);

/* No more DATA will follow from the agent; RESPONSE is still to come. */
void agent_stream_eof(struct agent_stream *stream);

/* @len bytes handed to on_data are out of memory again: the node may send more. */
void agent_stream_consumed(struct agent_stream *stream, size_t len);

/* A HEAD or RESPONSE with fields: begin, write fields to reply.w, end. */
struct agent_reply {
    struct agent_stream *stream;
    enum agent_frame_type type;
    struct shl_buf buf;
    struct shl_mp_writer w; /* a map is open */
};
void agent_reply_head(struct agent_reply *reply, struct agent_stream *stream);
/* Success: {code: 0, msg: "", ...}. */
void agent_reply_response(struct agent_reply *reply, struct agent_stream *stream);
/* Sends; a RESPONSE ends the stream, which is freed. */
void agent_reply_end(struct agent_reply *reply);

/* RESPONSE {code, msg} and the end of the stream. @code 0 or negative; without @msg
 * the general sentence of the code is sent. */
void agent_stream_finish(struct agent_stream *stream, int code, const char *msg);

#endif /* SHL_AGENT_MUX_H */
