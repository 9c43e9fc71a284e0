/* Node side of the link to one guest agent (agent/protocol.h).
 *
 * Owned by a sandbox; everything runs on the loop thread. The link connects to the
 * VMM's agent socket, synchronises, and multiplexes streams. When it breaks (VMM
 * ended, guest agent gone, protocol error) every open stream gets on_end with
 * SHL_EUNAVAILABLE or SHL_EGONE and the owner hears on_state.
 *
 * A stream lives from node_agent_open to its on_end callback, which is called
 * exactly once, never from inside node_agent_open, and after which the pointer is
 * invalid. Callbacks may call any function here.
 */
#ifndef SHL_NODE_SANDBOX_AGENT_LINK_H
#define SHL_NODE_SANDBOX_AGENT_LINK_H

#include <stdint.h>

#include "agent/protocol.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mp.h"

struct node_agent_link;
struct node_agent_stream;

struct node_agent_stream_ops {
    /* HEAD of the answer; @head is valid during the call. May be NULL. */
    void (*on_head)(void *arg, const msgpack_object *head);
    /* Bytes from the agent, borrowed for the call. Credit is given back only by
     * node_agent_consumed, so a slow reader slows the guest and nothing piles up. */
    void (*on_data)(void *arg, enum agent_channel channel, struct shl_bytes data);
    /* The agent sends no more DATA, and the stream goes on (tcp.connect). May be NULL. */
    void (*on_eof)(void *arg);
    /* There is room for node_agent_write again after it accepted less than offered. */
    void (*on_writable)(void *arg);
    /* The end. @code 0 and the RESPONSE map, or a negative code, @msg a sentence and
     * @response maybe NULL. Mandatory. */
    void (*on_end)(void *arg, int code, const char *msg, const msgpack_object *response);
};

/* Open a stream with a REQUEST; @request is one msgpack map and is copied. Streams
 * opened before the link is ready wait for it. 0, SHL_ELIMIT (too many streams or
 * bytes waiting), SHL_EGONE (link closed for good), -ENOMEM. */
SHL_MUST_CHECK int node_agent_open(struct node_agent_link *link,
                                   struct shl_bytes request,
                                   const struct node_agent_stream_ops *ops,
                                   void *arg,
                                   struct node_agent_stream **ret_stream);

/* The same for what the life of the sandbox depends on, which must not wait for its users: a guest
 * that is frozen ends none of their streams before it is thawed. */
#define NODE_AGENT_STREAMS_KEPT 8u
SHL_MUST_CHECK int node_agent_open_kept(struct node_agent_link *link,
                                        struct shl_bytes request,
                                        const struct node_agent_stream_ops *ops,
                                        void *arg,
                                        struct node_agent_stream **ret_stream);

/* Send DATA on @channel (AGENT_CHANNEL_RAW for files and stdin). Returns how many bytes
 * were taken, 0..len; when fewer than @len, on_writable follows. */
size_t node_agent_write(struct node_agent_stream *stream,
                        enum agent_channel channel,
                        struct shl_bytes data);

/* No more DATA will follow from the node. */
void node_agent_eof(struct node_agent_stream *stream);

/* @len bytes of on_data were dealt with: the agent may send as many again. */
void node_agent_consumed(struct node_agent_stream *stream, size_t len);

/* Nobody wants the result any more. on_end still comes (possibly after the caller
 * dropped its side: pass the same arg, keep it alive until then). */
void node_agent_cancel(struct node_agent_stream *stream);

#endif /* SHL_NODE_SANDBOX_AGENT_LINK_H */
