/* An exchange that another node serves: the entry node's side.
 *
 * Opens a stream to the owner (node/http/wire.h), sends head and body, and replies to the
 * exchange with what comes back, both under back-pressure; at most one frame and
 * NODE_FORWARD_BUFFER_BYTES of the reply are held here.
 *
 *   no byte of the reply yet   failed() is told, nothing was replied: the caller asks another
 *                              node (a body that may have been lost is said) or replies
 *   in the middle              the client's connection is cut
 *   the client left            the stream is cut (node_forward_gone)
 *
 * The body of the exchange: in buffered mode x->body is sent and stays there until the reply,
 * so that another node can be asked; in streamed mode this becomes the sink, and no byte is
 * taken before the owner took the request up.
 *
 * Loop thread.
 */
#ifndef SHL_NODE_HTTP_FORWARD_H
#define SHL_NODE_HTTP_FORWARD_H

#include "base/err.h"
#include "base/node_id.h"
#include "node/http/exchange.h"

struct node_forward;
struct node_stream_opener;

#define NODE_FORWARD_BUFFER_BYTES (128 * 1024)

struct node_forward_failure {
    struct shl_err err; /* for the reply: SHL_EUNAVAILABLE, ...; names the node */
    bool is_untouched;  /* the owner surely did nothing */
    bool has_body;      /* the whole body is still in the exchange */
};

/* Never called from inside a function of this header. */
struct node_forward_ops {
    /* The owner refuses. True: nothing is replied, the caller asks elsewhere or replies
     * itself, the forward is over. False: its refusal is what the client gets. NULL: false. */
    bool (*refused)(void *arg, enum node_refusal why);
    /* Nothing was replied, the forward is over. */
    void (*failed)(void *arg, const struct node_forward_failure *failure);
};

struct node_forward_config {
    struct node_stream_opener *opener;
    const struct shl_node_id *node;
    const char *node_name; /* of it, for sentences; copied */
    const char *origin;    /* under which the client reached this node */
    const char *via;       /* name of this node */
    const struct node_forward_ops *ops;
    void *arg;
};

/* Begin. 0 and the forward, or what failed() would have said, in @ret_failure. The forward is
 * the caller's to use until failed, refused (true) or node_forward_gone. */
SHL_MUST_CHECK int node_forward_start(struct node_exchange *x,
                                      const struct node_forward_config *config,
                                      struct node_forward **ret_forward,
                                      struct node_forward_failure *ret_failure);

/* The exchange has closed (its on_close). Nothing is called any more. */
void node_forward_gone(struct node_forward *forward);

#endif /* SHL_NODE_HTTP_FORWARD_H */
