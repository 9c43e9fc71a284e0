/* Input for a session from a caller that does not attach to it (exec.input). Loop thread. */
#ifndef SHL_NODE_API_SESSION_INPUT_H
#define SHL_NODE_API_SESSION_INPUT_H

#include "node/api/call.h"

/* Give the bytes of @bytes (taken) to the stdin of @session in one piece. @only: the command it
 * must be of, NULL any. @done is called once, later or at once: 0, when its program can read them,
 * or an error and a sentence; SHL_EBADSTATE: it has ended or reads no input. The sandbox of @call
 * is entered. When the client leaves, @done may come with -ECANCELED; what was sent stays sent. */
void node_session_input_send(struct node_call *call,
                             const char *session,
                             const char *only,
                             struct shl_buf *bytes,
                             void (*done)(void *arg, int code, const char *msg),
                             void *arg);

#endif /* SHL_NODE_API_SESSION_INPUT_H */
