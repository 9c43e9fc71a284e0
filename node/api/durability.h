/* "durability" of checkpoints and of what sandboxes come back from. */
#ifndef SHL_NODE_API_DURABILITY_H
#define SHL_NODE_API_DURABILITY_H

#include <stdbool.h>

#include <jansson.h>

struct node_call;

/* {"state": "local" | "replicated", "replicas": n, "wanted": m} of a checkpoint, or of what
 * a sandbox comes back from; @is_saved: it is durable on this node at least. Replicas are live
 * nodes that have all of it. A new reference, NULL without memory. */
json_t *node_durability_json(const struct node_call *call,
                             bool is_checkpoint,
                             bool is_saved,
                             const char *id);

#endif /* SHL_NODE_API_DURABILITY_H */
