/* The authority of the egress gateways: one for the cluster, as a row that all nodes have, sealed
 * like the values of secrets. So what a guest was told to trust holds on any node.
 *
 * Loop thread. Looks every few seconds until this node has it, and then now and then: makes the
 * row when there is none and this node has the key, and gives what is in it to the gateway and to
 * guests. The cluster seals it anew when it has another key (node/cluster/keyring.c).
 */
#ifndef SHL_NODE_AUTHORITY_H
#define SHL_NODE_AUTHORITY_H

#include <uv.h>

#include "base/err.h"
#include "base/log.h"

struct node_authority;
struct node_egress;
struct node_manager;
struct node_router;

/* All outlive it. 0 or -ENOMEM. */
SHL_MUST_CHECK int node_authority_open(uv_loop_t *loop,
                                       struct node_router *router,
                                       struct node_egress *egress,
                                       struct node_manager *manager,
                                       const struct shl_log *log,
                                       struct node_authority **ret);
/* Before the router closes. NULL is fine. */
void node_authority_close(struct node_authority *authority);

#endif /* SHL_NODE_AUTHORITY_H */
