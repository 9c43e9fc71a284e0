/* Durable local records of a node: LevelDB with synchronous writes.
 *
 * Keys are "kind/id" text, values msgpack with a version field. One store per node,
 * loop thread only (records are small; large data lives in files). A damaged
 * database refuses to open with a sentence instead of starting empty.
 */
#ifndef SHL_NODE_STORE_STORE_H
#define SHL_NODE_STORE_STORE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct node_store;

SHL_MUST_CHECK int node_store_open(const char *dir,
                                   struct node_store **ret_store,
                                   struct shl_err *err);
void node_store_close(struct node_store *store);

/* Durable when it returns 0. */
SHL_MUST_CHECK int node_store_put(struct node_store *store,
                                  const char *kind,
                                  const char *id,
                                  struct shl_bytes value,
                                  struct shl_err *err);
/* SHL_ENOTFOUND when absent; otherwise appends the value to @buf. */
SHL_MUST_CHECK int node_store_get(struct node_store *store,
                                  const char *kind,
                                  const char *id,
                                  struct shl_buf *buf,
                                  struct shl_err *err);
SHL_MUST_CHECK int node_store_delete(struct node_store *store,
                                     const char *kind,
                                     const char *id,
                                     struct shl_err *err);

/* Every record of a kind in key order; return false from @each to stop. */
SHL_MUST_CHECK int node_store_each(struct node_store *store,
                                   const char *kind,
                                   bool (*each)(void *arg, const char *id, struct shl_bytes value),
                                   void *arg,
                                   struct shl_err *err);

#endif /* SHL_NODE_STORE_STORE_H */
