/* Server-sent events as a reply.
 *
 *   event: NAME\n
 *   data: JSON in one line\n
 *   \n
 *
 * and ": keepalive" in between. Events are kept until the reply begins, so whoever fails before
 * that can still answer with a status. The body ends behind the last event. Loop thread.
 *
 * Its owner calls node_sse_free once, at any time: what was given before is still delivered when
 * the last event was. When the client goes, or the exchange is over, events go nowhere.
 */
#ifndef SHL_NODE_HTTP_SSE_H
#define SHL_NODE_HTTP_SSE_H

#include <stdbool.h>

#include "node/http/exchange.h"

#define NODE_SSE_WAITING_MAX (1024u * 1024)      /* bytes that the client has not read yet */
#define NODE_SSE_LAST_MAX    (8u * 1024u * 1024) /* of the last event */

struct node_sse;

/* Of @x, which has no reply yet. NULL without memory. Keepalives come every x->pad_every_ms. */
struct node_sse *node_sse_new(struct node_exchange *x);
void node_sse_free(struct node_sse *sse); /* NULL is fine */

/* @json is text without line breaks. 0; SHL_ELIMIT: the client reads too slowly, it was left out;
 * SHL_EGONE: nobody reads; -ENOMEM. */
SHL_MUST_CHECK int node_sse_event(struct node_sse *sse, const char *name, const char *json);

/* The status and what is waiting go out. */
void node_sse_begin(struct node_sse *sse);
bool node_sse_has_begun(const struct node_sse *sse);

/* The last event; begins the reply, too. */
void node_sse_end(struct node_sse *sse, const char *name, const char *json);

/* The exchange is over: for owners who hear that before the reply has begun. */
void node_sse_gone(struct node_sse *sse);

#endif /* SHL_NODE_HTTP_SSE_H */
