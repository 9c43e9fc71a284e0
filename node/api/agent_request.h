/* Requests to the guest agent on behalf of a call. */
#ifndef SHL_NODE_API_AGENT_REQUEST_H
#define SHL_NODE_API_AGENT_REQUEST_H

#include "base/mp.h"
#include "node/api/call.h"

/* A REQUEST being written: init, add fields to w, send (which releases it). */
struct node_agent_request {
    struct shl_buf buf;
    struct shl_mp_writer w;
    bool is_finished;
};

void node_agent_request_init(struct node_agent_request *request, const char *op);

/* All fields are written: 0, SHL_ELIMIT with a sentence, or -ENOMEM. */
SHL_MUST_CHECK int node_agent_request_finish(struct node_agent_request *request,
                                             struct shl_err *err);

/* Finishes the request and opens a stream to the agent of the call's sandbox, which the
 * call has entered (node_call_enter). On failure
 * sets @err and returns its code: SHL_ELIMIT (request too large), SHL_EUNAVAILABLE (too
 * many streams), SHL_EGONE, -ENOMEM. */
SHL_MUST_CHECK int node_agent_request_send(struct node_agent_request *request,
                                           struct node_call *call,
                                           const struct node_agent_stream_ops *ops,
                                           void *arg,
                                           struct node_agent_stream **ret_stream,
                                           struct shl_err *err);

/* An answer without a body: on success the call gets @json (taken), or 204 when NULL. The
 * request is sent; failures are replied to. Takes what it needs of @call by reference. */
void node_agent_request_simple(struct node_agent_request *request,
                               struct node_call *call,
                               json_t *json);

/* A code that came from a guest, reduced to those a guest may cause: it must not be able
 * to make this node say 401. */
int node_guest_code(int code);

/* The query parameter "path", checked; NULL after a 400 was sent. With @fallback, an
 * absent one means that. */
const char *node_call_path(struct node_call *call, const char *fallback);

/* The session id of the path; false after a 404 was sent when it cannot be one. */
bool node_call_check_session(struct node_call *call);

#endif /* SHL_NODE_API_AGENT_REQUEST_H */
