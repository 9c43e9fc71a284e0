/* A row of msgpack maps from the agent, answered as a JSON array.
 *
 * Short rows are one reply with a length; long ones stream, and the guest sends on only
 * as the client reads, so a folder of a million files takes no memory to speak of.
 */
#ifndef SHL_NODE_API_ARRAY_REPLY_H
#define SHL_NODE_API_ARRAY_REPLY_H

#include "node/api/agent_request.h"

/* Append the JSON of @item to @out: 0, SHL_EGUEST (not what it should be) or an error of
 * the buffer. */
typedef int (*node_array_convert)(void *arg, const msgpack_object *item, struct shl_buf *out);

/* Sends @request and answers @call. @arg goes to @convert; @free_arg (may be NULL) is
 * called on it at the end, on every path. */
void node_array_reply(struct node_agent_request *request,
                      struct node_call *call,
                      node_array_convert convert,
                      void *arg,
                      void (*free_arg)(void *arg));

#endif /* SHL_NODE_API_ARRAY_REPLY_H */
