/* The layer files of this node and who needs them.
 *
 * DATA/layers/ID.{disk,mem,state}, DATA/warm/ID/ and DATA/bases/ID/ are removed, on the thread
 * pool, when the last reference to ID goes. References are counted in memory alone: records are
 * what is durable, and layers_sweep removes at start what no record names. Loop thread, except
 * layers_path.
 */
#ifndef SHL_NODE_SANDBOX_LAYERS_H
#define SHL_NODE_SANDBOX_LAYERS_H

#include <stdbool.h>
#include <stddef.h>

#include "node/sandbox/stack.h"

#define LAYERS_DISK  "disk"
#define LAYERS_MEM   "mem"
#define LAYERS_STATE "state"
#define LAYERS_WORK  "work" /* only of warm templates */

SHL_MUST_CHECK int layers_open(struct node_manager *manager, struct shl_err *err);
void layers_free(struct node_manager *manager); /* no removal may be under way */

/* A fresh random id with one reference. */
void layers_new(struct node_manager *manager, struct node_layer_id *ret);
/* "" is fine in both. */
void layers_ref(struct node_manager *manager, const char *id);
void layers_unref(struct node_manager *manager, const char *id);
unsigned layers_refs(const struct node_manager *manager, const char *id);

/* Once at start, when all records have taken their references. */
void layers_sweep(struct node_manager *manager);

/* DATA/layers/ID.KIND */
void layers_path(const struct node_manager *manager,
                 const char *id,
                 const char *kind,
                 char *path,
                 size_t size);
/* DATA/warm/ID or, with a name, DATA/warm/ID/NAME */
void layers_warm_path(const struct node_manager *manager,
                      const char *id,
                      const char *name,
                      char *path,
                      size_t size);
/* DATA/bases/ID or, with a name, DATA/bases/ID/NAME */
void layers_base_path(const struct node_manager *manager,
                      const char *id,
                      const char *name,
                      char *path,
                      size_t size);
#define LAYERS_BASE_IMAGE "disk.raw" /* in there */
/* Its files are being removed, or are about to be: whoever wants new ones waits. */
bool layers_is_going(const struct node_manager *manager, const char *id);
/* 32 lower-case hexadecimal digits. */
bool layers_id_is_valid(const char *id);

#endif /* SHL_NODE_SANDBOX_LAYERS_H */
