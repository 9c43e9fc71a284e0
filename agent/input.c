#include "agent/input.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void agent_input_init(struct agent_input *input,
                      struct agent_session *session,
                      size_t bytes_max,
                      const struct agent_input_ops *ops)
{
    shl_list_init(&input->node);
    shl_buf_init(&input->bytes, bytes_max);
    input->session = session;
    input->ops = ops;
}

void agent_input_release(struct agent_input *input)
{
    shl_list_remove(&input->node);
    shl_buf_release(&input->bytes);
}

static void take(struct agent_input *input, size_t len)
{
    shl_buf_consume(&input->bytes, len);
    if (len > 0 && input->ops->written) {
        input->ops->written(input, len);
    }
}

static void finish(struct agent_input *input, bool is_written)
{
    shl_list_remove(&input->node);
    input->ops->done(input, is_written);
}

/* False when stdin takes no more for now. */
static bool write_first(struct agent_session *session, struct agent_input *input)
{
    size_t len = shl_buf_len(&input->bytes);
    ssize_t n = 0;

    if (len > 0) {
        n = write(session->stdin_fd, shl_buf_data(&input->bytes), len);
    }
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return false;
        }
        agent_session_close_stdin(session); /* nobody reads it any more */
        return true;
    }
    take(input, (size_t)n);
    if ((size_t)n < len) {
        return false;
    }
    finish(input, true);
    return true;
}

void agent_inputs_closed(struct agent_session *session)
{
    struct shl_list *first;

    while ((first = shl_list_first(&session->inputs)) != NULL) {
        struct agent_input *input = shl_container_of(first, struct agent_input, node);

        take(input, shl_buf_len(&input->bytes));
        finish(input, false);
    }
}

/* False when stdin takes no more for now. */
static bool write_all(struct agent_session *session)
{
    struct shl_list *first;

    while (session->stdin_fd >= 0 && (first = shl_list_first(&session->inputs)) != NULL) {
        if (!write_first(session, shl_container_of(first, struct agent_input, node))) {
            return false;
        }
    }
    agent_inputs_closed(session); /* nothing, or there is no stdin */
    return true;
}

static void on_stdin_writable(void *arg, uint32_t events)
{
    struct agent_session *session = arg;

    (void)events;
    if (write_all(session)) {
        agent_watch_remove(session->sessions->loop, &session->stdin_watch);
    }
}

void agent_input_push(struct agent_input *input)
{
    struct agent_session *session = input->session;

    if (shl_list_empty(&input->node)) {
        shl_list_push_back(&session->inputs, &input->node);
    }
    if (session->stdin_watch.fd >= 0 || write_all(session)) {
        return; /* in its turn, or done */
    }
    session->stdin_watch = (struct agent_watch){-1, on_stdin_writable, session};
    if (agent_watch_add(session->sessions->loop, &session->stdin_watch, session->stdin_fd,
                        EPOLLOUT) < 0) {
        agent_session_close_stdin(session);
    }
}

/* ---- exec.input ------------------------------------------------------------------ */

/* Nothing is written before all has come, so that half of a line never is. */
struct piece {
    struct agent_input input;
    struct agent_stream *stream; /* NULL: the node has left, what has begun goes on */
};

static void free_piece(struct piece *piece)
{
    piece->input.session->pins--;
    agent_input_release(&piece->input);
    free(piece);
}

static void on_piece_done(struct agent_input *input, bool is_written)
{
    struct piece *piece = shl_container_of(input, struct piece, input);
    struct agent_stream *stream = piece->stream;

    free_piece(piece);
    if (stream) {
        agent_stream_finish(stream, is_written ? 0 : SHL_EBADSTATE,
                            is_written ? NULL : "its program has ended or closed its input");
    }
}

static const struct agent_input_ops piece_input_ops = {.done = on_piece_done};

static void on_piece_data(void *arg, struct shl_bytes data)
{
    struct piece *piece = arg;
    struct agent_stream *stream = piece->stream;
    int rc = shl_buf_append(&piece->input.bytes, data.base, data.len);

    if (rc < 0) {
        free_piece(piece);
        agent_stream_finish(stream, rc, rc == SHL_ELIMIT ? "the input is too long" : NULL);
        return;
    }
    agent_stream_consumed(stream, data.len);
}

static void on_piece_eof(void *arg)
{
    struct piece *piece = arg;

    agent_input_push(&piece->input);
}

static void on_piece_drop(void *arg)
{
    struct piece *piece = arg;

    if (shl_list_empty(&piece->input.node)) {
        free_piece(piece);
    } else {
        piece->stream = NULL;
    }
}

static const struct agent_stream_ops piece_ops = {.on_data = on_piece_data,
                                                  .on_eof = on_piece_eof,
                                                  .on_drop = on_piece_drop};

int agent_input_begin(struct agent_session *session,
                      struct agent_stream *stream,
                      struct shl_err *err)
{
    struct piece *piece;

    if (session->stdin_fd < 0) {
        return shl_err_set(err, SHL_EBADSTATE, "its program has ended or reads no input");
    }
    piece = calloc(1, sizeof(*piece));
    if (!piece) {
        return shl_err_set(err, -ENOMEM, "no memory for the input");
    }
    agent_input_init(&piece->input, session, AGENT_INPUT_MAX, &piece_input_ops);
    piece->stream = stream;
    session->pins++;
    agent_stream_bind(stream, &piece_ops, piece);
    return 0;
}
