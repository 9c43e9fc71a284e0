/* The JSON object of a sandbox, the same in create, get and list. */
#ifndef SHL_NODE_API_SANDBOX_JSON_H
#define SHL_NODE_API_SANDBOX_JSON_H

#include <jansson.h>

struct node_call;
struct node_sandbox;

/* New reference, NULL without memory. */
json_t *node_sandbox_json(const struct node_call *call, const struct node_sandbox *sandbox);

#endif /* SHL_NODE_API_SANDBOX_JSON_H */
