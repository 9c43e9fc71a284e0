/* What the handlers of secret stores share. */
#ifndef SHL_NODE_API_SECRET_JSON_H
#define SHL_NODE_API_SECRET_JSON_H

#include <jansson.h>

#include "node/api/call.h"
#include "node/api/secret_rows.h"
#include "node/secret/policy.h"

/* A list of hosts in a body: 1, 0 when absent, SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int node_params_hosts(const json_t *body,
                                     const char *name,
                                     size_t max,
                                     struct node_host_list *ret,
                                     struct shl_err *err);
json_t *node_hosts_json(const struct node_host_list *list);
/* The objects of @array (taken) in a new one, by their "name". */
json_t *node_json_by_name(json_t *array);

/* The store of the path, released by the caller; false after a reply. */
SHL_MUST_CHECK bool node_call_store(struct node_call *call, struct secret_store *ret);

#endif /* SHL_NODE_API_SECRET_JSON_H */
