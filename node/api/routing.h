/* Takes a call to the node that serves it, by the routing class of its route (routes.h) and
 * with the router's answers (router.h).
 *
 *   HERE        the handler runs
 *   SANDBOX     where the sandbox is. When that node says it is not there, the router is asked
 *               once more, past what it cached
 *   CHECKPOINT  one of the nodes that have the checkpoint } the next one when it has no room
 *   CREATE      one of the nodes that the router names    } or cannot be reached
 *   LIST        the handler runs and asks the others itself (list.c)
 *
 * A call that another node passed on (x->hops) is served here or refused, never passed on.
 * Loop thread.
 */
#ifndef SHL_NODE_API_ROUTING_H
#define SHL_NODE_API_ROUTING_H

#include <stdbool.h>

struct node_call;
struct node_routing;

/* The call's body is there, or comes (NODE_ROUTE_STREAM): have it served. */
void node_routing_start(struct node_call *call);

/* Serve it on this node. */
void node_routing_serve(struct node_call *call);

/* A new sandbox could not be made here, with @code: true when another node is asked now, so
 * that nothing may be replied. */
bool node_routing_retry(struct node_call *call, int code);
/* Would it be tried on another node after a failure with @code? */
bool node_routing_moves_on(const struct node_call *call, int code);

void node_routing_free(struct node_routing *routing);

#endif /* SHL_NODE_API_ROUTING_H */
