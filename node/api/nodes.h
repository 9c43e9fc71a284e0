/* Orders about nodes, shared by nodes.c and workers.c. */
#ifndef SHL_NODE_API_NODES_H
#define SHL_NODE_API_NODES_H

#include "node/api/peers.h"

/* Mark the node of :id; @reply gets the mark as value. */
void node_set_mark(struct node_call *call, enum node_mark mark, node_ordered_cb reply);
/* Give @order about the node of :id; without one the call fails with @missing as the reason. */
void node_order_node(struct node_call *call,
                     node_order_fn order,
                     const char *missing,
                     node_ordered_cb reply);

#endif /* SHL_NODE_API_NODES_H */
