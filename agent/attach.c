#include "agent/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/input.h"

struct attach {
    struct shl_list node; /* of the session */
    struct agent_session *session;
    struct agent_stream *stream;
    uint64_t seq;             /* of the next byte to send */
    uint64_t lost_bytes;      /* before it came */
    struct agent_input input; /* within the stream's credit */
    bool in_ended;
};

static void on_left_for_long(void *arg)
{
    agent_session_end(arg);
}

void agent_attaches_left(struct agent_session *session)
{
    if (session->linger_ms > 0 && session->attached_count == 0 &&
        session->state != AGENT_SESSION_DONE) {
        agent_timer_stop(&session->linger);
        agent_timer_init(&session->linger, on_left_for_long, session);
        agent_timer_start(session->sessions->loop, &session->linger, session->linger_ms);
    }
}

static void free_attach(struct attach *op)
{
    struct agent_session *session = op->session;

    shl_list_remove(&op->node);
    agent_input_release(&op->input);
    free(op);
    session->pins--;
    session->attached_count--;
    agent_session_read_on(session);
    agent_attaches_left(session);
}

/* ---- output ---------------------------------------------------------------------- */

static void write_outcome(struct attach *op, struct shl_mp_writer *w)
{
    const struct agent_session *session = op->session;
    /* What a ring drops while it is there, it has had. */
    uint64_t lost_bytes =
        session->output.ring_bytes > 0 ? op->lost_bytes : agent_output_lost(&session->output);

    shl_mp_kv_int(w, "exit_code", session->exit_code);
    shl_mp_kv_bool(w, "timed_out", session->timed_out);
    shl_mp_kv_uint(w, "lost_bytes", lost_bytes);
}

/* True when everything was sent and there is no more. */
static bool finish_when_done(struct attach *op)
{
    struct agent_reply reply;

    if (op->session->state != AGENT_SESSION_DONE || op->seq < op->session->output.next_seq) {
        return false;
    }
    agent_reply_response(&reply, op->stream);
    write_outcome(op, &reply.w);
    free_attach(op);
    agent_reply_end(&reply);
    return true;
}

/* The chunk that has the byte @seq, which is there. From the end: most clients are near it. */
static struct agent_chunk *find_chunk(struct agent_output *output, uint64_t seq)
{
    struct shl_list *it = output->chunks.prev;

    while (shl_container_of(it, struct agent_chunk, node)->seq > seq) {
        it = it->prev;
    }
    return shl_container_of(it, struct agent_chunk, node);
}

static void on_writable(void *arg)
{
    struct attach *op = arg;
    struct agent_session *session = op->session;
    struct agent_chunk *chunk;
    size_t offset;
    size_t len;

    if (op->seq < session->output.next_seq) {
        chunk = find_chunk(&session->output, op->seq);
        offset = (size_t)(op->seq - chunk->seq);
        len = SHL_MIN(chunk->len - offset, agent_stream_room(op->stream));
        agent_stream_send(op->stream, chunk->channel, shl_bytes_of(chunk->data + offset, len));
        op->seq += len;
        agent_session_read_on(session);
    }
    if (!finish_when_done(op) && op->seq < session->output.next_seq) {
        agent_stream_want_write(op->stream);
    }
}

void agent_attaches_wake(struct agent_session *session)
{
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &session->attaches) {
        struct attach *op = shl_container_of(it, struct attach, node);

        if (!finish_when_done(op) && op->seq < session->output.next_seq) {
            agent_stream_want_write(op->stream);
        }
    }
}

uint64_t agent_attaches_floor(const struct agent_session *session)
{
    uint64_t floor_seq = session->is_awaited ? 0 : UINT64_MAX;
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &session->attaches) {
        const struct attach *op = shl_container_of(it, struct attach, node);

        floor_seq = SHL_MIN(floor_seq, op->seq);
    }
    return floor_seq;
}

void agent_attaches_end_slow(struct agent_session *session)
{
    uint64_t floor_seq = agent_attaches_floor(session);
    struct shl_list *it;
    struct shl_list *next;

    SHL_LIST_FOREACH_SAFE(it, next, &session->attaches) {
        struct attach *op = shl_container_of(it, struct attach, node);
        struct agent_stream *stream = op->stream;

        if (op->seq == floor_seq) {
            free_attach(op);
            agent_stream_finish(stream, SHL_ELIMIT,
                                "the client did not read for 5 minutes and held the program up");
        }
    }
}

/* ---- input ----------------------------------------------------------------------- */

static void on_input_written(struct agent_input *input, size_t len)
{
    struct attach *op = shl_container_of(input, struct attach, input);

    agent_stream_consumed(op->stream, len);
}

static void on_input_done(struct agent_input *input, bool is_written)
{
    struct attach *op = shl_container_of(input, struct attach, input);

    (void)is_written;
    if (op->in_ended && !op->session->is_tty) {
        agent_session_close_stdin(op->session);
    }
}

static const struct agent_input_ops input_ops = {.written = on_input_written,
                                                 .done = on_input_done};

static void on_data(void *arg, struct shl_bytes data)
{
    struct attach *op = arg;

    if (shl_buf_append(&op->input.bytes, data.base, data.len) < 0) {
        agent_stream_consumed(op->stream, data.len);
        agent_session_close_stdin(op->session); /* better an end than a hole */
        return;
    }
    agent_input_push(&op->input);
}

static void on_eof(void *arg)
{
    struct attach *op = arg;

    op->in_ended = true;
    agent_input_push(&op->input);
}

static void on_drop(void *arg)
{
    free_attach(arg);
}

static const struct agent_stream_ops attach_ops = {.on_data = on_data,
                                                   .on_eof = on_eof,
                                                   .on_writable = on_writable,
                                                   .on_drop = on_drop};

/* ---- beginning ------------------------------------------------------------------- */

static void send_head(struct attach *op)
{
    const struct agent_session *session = op->session;
    struct agent_reply reply;

    agent_reply_head(&reply, op->stream);
    shl_mp_kv_bool(&reply.w, "running", session->state != AGENT_SESSION_DONE);
    shl_mp_kv_bool(&reply.w, "tty", session->is_tty);
    shl_mp_kv_uint(&reply.w, "replay_bytes", session->output.next_seq - op->seq);
    shl_mp_kv_uint(&reply.w, "lost_bytes", agent_output_lost(&session->output));
    agent_reply_end(&reply);
}

int agent_attach(struct agent_session *session, struct agent_stream *stream)
{
    struct attach *op = calloc(1, sizeof(*op));

    if (!op) {
        return -ENOMEM;
    }
    op->session = session;
    op->stream = stream;
    op->seq = agent_output_first_seq(&session->output);
    op->lost_bytes = agent_output_lost(&session->output);
    agent_input_init(&op->input, session, 2u * AGENT_WINDOW_BYTES, &input_ops);
    shl_list_push_back(&session->attaches, &op->node);
    session->pins++;
    session->attached_count++;
    agent_session_awaited(session);
    agent_timer_stop(&session->linger);
    agent_stream_bind(stream, &attach_ops, op);
    send_head(op);
    if (!finish_when_done(op) && op->seq < session->output.next_seq) {
        agent_stream_want_write(stream);
    }
    return 0;
}
