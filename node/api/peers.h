/* Nodes by name or id, and what this node says of itself. Loop thread. */
#ifndef SHL_NODE_API_PEERS_H
#define SHL_NODE_API_PEERS_H

#include "node/api/router.h"

struct node_call;
struct node_server;

/* This node, in the form in which others are known. @call: for the address, when none is
 * configured. */
void node_peer_self(const struct node_call *call, struct node_peer *ret);

/* The node of :id, by name or by id. False after a 404 or 409 (two of that name) was sent. */
bool node_peer_of_path(struct node_call *call, struct node_target *ret);

/* This node, then all others; false stops. */
void node_peers_each(const struct node_call *call,
                     bool (*each)(void *arg, const struct node_peer *peer),
                     void *arg);

/* Sends an order's outcome when it is there: @reply for success, with the arguments of the
 * order in @target. The call is referenced meanwhile. */
struct node_ordering;
typedef void (*node_ordered_cb)(struct node_call *call,
                                const struct node_target *target,
                                int value,
                                const struct node_order *outcome);
/* NULL after the error was sent. */
struct node_ordering *node_ordering_new(struct node_call *call,
                                        const struct node_target *target,
                                        int value,
                                        node_ordered_cb reply);
/* The callback of the order, whose argument is the ordering; and what to call at once when
 * the order returned 1. Frees. */
void node_ordering_done(void *arg, const struct node_order *outcome);

#endif /* SHL_NODE_API_PEERS_H */
