/* The router of a single node: everything is here.
 *
 * Keeps the mark of this node (cordoned, draining) in the store. Loop thread.
 */
#ifndef SHL_NODE_API_ROUTER_LOCAL_H
#define SHL_NODE_API_ROUTER_LOCAL_H

#include "node/api/router.h"

struct node_store;

/* @store is borrowed. 0, -ENOMEM or an error of the store. */
SHL_MUST_CHECK int node_router_local_new(struct node_store *store,
                                         struct node_router **ret_router,
                                         struct shl_err *err);
void node_router_local_free(struct node_router *router);

/* The mark of this node as it was stored last; NODE_MARK_NONE when never. For routers that
 * keep it in the same place. */
SHL_MUST_CHECK int node_mark_load(struct node_store *store,
                                  enum node_mark *ret_mark,
                                  struct shl_err *err);
SHL_MUST_CHECK int node_mark_save(struct node_store *store,
                                  enum node_mark mark,
                                  struct shl_err *err);

/* "none", "cordoned", "draining". */
const char *node_mark_text(enum node_mark mark);

#endif /* SHL_NODE_API_ROUTER_LOCAL_H */
