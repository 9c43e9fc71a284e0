/* Requests of preview hosts before they reach a sandbox: which they are, which may go on, and what
 * browsers see otherwise. */
#ifndef SHL_NODE_API_PREVIEW_GATE_H
#define SHL_NODE_API_PREVIEW_GATE_H

#include "node/api/call.h"
#include "node/api/preview_host.h"

#define NODE_PREVIEW_REFRESH_S 3 /* of the page while nothing listens */

/* Is @x for a preview host? NODE_HOST_BAD: it was replied to. */
enum node_host_kind node_preview_match(const struct node_server *server,
                                       struct node_exchange *x,
                                       struct node_preview_host *ret);

/* On the node that has call->sandbox: the target without the token (heap), or NULL after a reply:
 * the token is missing, or the browser gets it as a cookie. */
char *node_preview_pass_gate(struct node_call *call);

bool node_preview_wants_html(struct node_exchange *x);
/* Nothing listens on the port: a page that looks again by itself. */
void node_preview_reply_waiting(struct node_call *call);

#endif /* SHL_NODE_API_PREVIEW_GATE_H */
