/* Secret stores given to new sandboxes: which secrets they have, with fresh sealed tokens. */
#ifndef SHL_NODE_API_SECRET_BIND_H
#define SHL_NODE_API_SECRET_BIND_H

#include "node/api/call.h"
#include "node/sandbox/manager.h"

/* @go when this node knows every store that was made before, at once when it does not matter for
 * this request: its body names no store and (@is_fork) the organisation has none. */
void node_secret_bind_ready(struct node_call *call,
                            bool is_fork,
                            void (*go)(struct node_call *call));

/* The stores of @inherited (NULL: none), by name as they are now, and @name (NULL, "": none) on
 * top. Inherited ones that were deleted are left out, their part of the allowlist stays. @envs is
 * what the sandbox has beside. 0 and *ret is to be released; SHL_EINVALIDARG ("secret store not
 * found: NAME", too many together), -ENOMEM. */
SHL_MUST_CHECK int node_secret_bind(struct node_server *server,
                                    const char *org,
                                    const struct node_secret_use *inherited,
                                    const char *name,
                                    const struct node_kv_list *envs,
                                    struct node_secret_use *ret,
                                    struct shl_err *err);

#endif /* SHL_NODE_API_SECRET_BIND_H */
