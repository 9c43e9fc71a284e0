/* Checkpoints as JSON and by id, for the handlers. */
#ifndef SHL_NODE_API_CHECKPOINT_JSON_H
#define SHL_NODE_API_CHECKPOINT_JSON_H

#include <jansson.h>

#include "node/api/call.h"
#include "node/sandbox/checkpoints.h"

/* A new reference; NULL without memory. Values of envs are left out. */
json_t *node_checkpoint_json(const struct node_call *call,
                             const struct node_checkpoint *checkpoint);

/* The checkpoint of :cid; NULL after a 400 (no UUID) or 404 was sent. */
struct node_checkpoint *node_call_find_checkpoint(struct node_call *call);

#endif /* SHL_NODE_API_CHECKPOINT_JSON_H */
