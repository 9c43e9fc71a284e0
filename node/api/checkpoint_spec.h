/* The bodies of checkpoint creates and forks, checked.
 *
 * Pure. Unknown fields are ignored. 0 on success; SHL_EINVALIDARG with a sentence that
 * names the field, or -ENOMEM.
 */
#ifndef SHL_NODE_API_CHECKPOINT_SPEC_H
#define SHL_NODE_API_CHECKPOINT_SPEC_H

#include <jansson.h>

#include "node/sandbox/checkpoints.h"

SHL_MUST_CHECK int node_checkpoint_spec_parse(const json_t *body,
                                              struct node_checkpoint_spec *ret_spec,
                                              struct shl_err *err);

/* The name in secretStore, heap: 1; 0 without one. */
SHL_MUST_CHECK int node_secret_store_parse(const json_t *body,
                                           char **ret_name,
                                           struct shl_err *err);

/* *ret_count is 0 when the body does not ask for several. Release the spec on success. */
SHL_MUST_CHECK int node_fork_spec_parse(const json_t *body,
                                        struct node_fork_spec *ret_spec,
                                        uint32_t *ret_count,
                                        struct shl_err *err);
void node_fork_spec_release(struct node_fork_spec *spec);

/* A UUID in lower-case text, as ids of checkpoints are. */
bool node_is_uuid(const char *text);

#endif /* SHL_NODE_API_CHECKPOINT_SPEC_H */
