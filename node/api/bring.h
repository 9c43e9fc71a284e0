/* Checkpoints that may be on another node: brought here before they are used. */
#ifndef SHL_NODE_API_BRING_H
#define SHL_NODE_API_BRING_H

#include "node/sandbox/checkpoints.h"

struct node_call;

/* Calls @then with the checkpoint of :cid, at once when it is here, or when it has been copied to
 * this node. Otherwise the call fails, and of a new sandbox another node may be asked. Once @then
 * runs the call is open. */
void node_call_bring_checkpoint(struct node_call *call,
                                void (*then)(struct node_call *call,
                                             struct node_checkpoint *checkpoint));

#endif /* SHL_NODE_API_BRING_H */
