/* The body of POST /sandboxes, checked.
 *
 * Pure. Unknown fields are ignored; fields that promise something this release cannot
 * keep are refused with -ENOSYS and a sentence, never dropped.
 */
#ifndef SHL_NODE_API_SPEC_H
#define SHL_NODE_API_SPEC_H

#include <jansson.h>

#include "base/err.h"
#include "node/sandbox/manager.h"

#define NODE_TIMEOUT_MAX_S (366ll * 24 * 3600) /* a year; 0 stands for never */
#define NODE_TEMPLATE_BASE "base"

/* Fills @ret_spec (without org). Release it with node_spec_release, on success only.
 * 0, SHL_EINVALIDARG, SHL_ENOTFOUND (template name), -ENOSYS or -ENOMEM. */
SHL_MUST_CHECK int node_spec_parse(const json_t *body,
                                   uint32_t memory_default_mb,
                                   struct node_sandbox_spec *ret_spec,
                                   struct shl_err *err);
void node_spec_release(struct node_sandbox_spec *spec);

#endif /* SHL_NODE_API_SPEC_H */
