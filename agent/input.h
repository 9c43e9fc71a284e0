/* What clients send to the stdin of a session, in the order in which it came: each waits until
 * those before it are written, so that nothing comes apart when the pipe is full. Loop thread
 * only. */
#ifndef SHL_AGENT_INPUT_H
#define SHL_AGENT_INPUT_H

#include "agent/mux.h"
#include "agent/session.h"

struct agent_input;

struct agent_input_ops {
    /* @len of its bytes have left its memory. May be NULL. */
    void (*written)(struct agent_input *input, size_t len);
    /* It has no bytes left, written or (nobody reads them any more) not. It may be released. */
    void (*done)(struct agent_input *input, bool is_written);
};

/* Embedded in whoever sends. */
struct agent_input {
    struct shl_list node; /* session->inputs, while it is not done */
    struct agent_session *session;
    struct shl_buf bytes; /* not written yet */
    const struct agent_input_ops *ops;
};

void agent_input_init(struct agent_input *input,
                      struct agent_session *session,
                      size_t bytes_max,
                      const struct agent_input_ops *ops);
/* What is left is forgotten; done is not called. */
void agent_input_release(struct agent_input *input);

/* There is something in bytes, or (without bytes) its end is to be told in its turn. Calls done,
 * now or later. */
void agent_input_push(struct agent_input *input);

/* exec.input: one piece of input of a client that stays no longer. The session is not starting. 0,
 * then @stream is taken; SHL_EBADSTATE (its program reads nothing any more), -ENOMEM. */
SHL_MUST_CHECK int agent_input_begin(struct agent_session *session,
                                     struct agent_stream *stream,
                                     struct shl_err *err);

/* The session has no stdin any more: all that waits is done. */
void agent_inputs_closed(struct agent_session *session);

#endif /* SHL_AGENT_INPUT_H */
