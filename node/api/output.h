/* Output of a command, collected from the agent and written as JSON.
 *
 * The bytes are kept as they came, at most AGENT_KEEP_DEFAULT_BYTES per stream, and
 * counted against the server's NODE_SERVER_OUTPUT_MAX; the JSON text, up to six times as
 * long, is only made while it is sent. Loop thread.
 */
#ifndef SHL_NODE_API_OUTPUT_H
#define SHL_NODE_API_OUTPUT_H

#include "agent/protocol.h"
#include "base/buf.h"
#include "node/api/call.h"

#define NODE_OUTPUT_AT_ONCE_MAX (64u * 1024) /* raw bytes; below, one reply with a length */

struct node_output {
    struct node_server *server; /* NULL before init */
    struct shl_buf out;
    struct shl_buf err;
    int64_t counted_bytes;
};

void node_output_init(struct node_output *output, struct node_server *server);
void node_output_release(struct node_output *output);

/* 0, SHL_EGUEST (the agent sends more than it may), SHL_EUNAVAILABLE (the server holds
 * too much output already), -ENOMEM. */
SHL_MUST_CHECK int node_output_add(struct node_output *output,
                                   enum agent_channel channel,
                                   struct shl_bytes data);

struct node_output_facts {
    bool with_running; /* a poll: has "running":false in front */
    int64_t exit_code;
    bool truncated;
};

/* Reply 200 with everything; @output is emptied. */
void node_output_reply(struct node_output *output,
                       struct node_call *call,
                       const struct node_output_facts *facts);

#endif /* SHL_NODE_API_OUTPUT_H */
