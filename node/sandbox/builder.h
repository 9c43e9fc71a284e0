/* Sandboxes that build images: in no list and in no record, so that nothing is left of one when
 * this daemon ends; in everything else as one of a user. Checkpoints of it outlive it. Loop thread.
 */
#ifndef SHL_NODE_SANDBOX_BUILDER_H
#define SHL_NODE_SANDBOX_BUILDER_H

#include "node/sandbox/checkpoints.h"

/* @created is told once, never from inside: with the sandbox, running; or with an error, and that
 * is all then. After a success @ended is told once, when it is gone, for whatever reason; the
 * pointer is not valid any more then. */
struct node_builder_ops {
    void (*created)(void *arg, int code, const char *msg, struct node_sandbox *sandbox);
    void (*ended)(void *arg, int code, const char *msg);
};

/* @spec (is_build is set) is copied. It starts from @checkpoint, else from its template. Refused
 * at once like node_manager_create. */
SHL_MUST_CHECK int node_builder_create(struct node_manager *manager,
                                       const struct node_sandbox_spec *spec,
                                       struct node_checkpoint *checkpoint,
                                       const struct node_builder_ops *ops,
                                       void *arg,
                                       struct shl_err *err);

/* Begin its end; ops->ended follows. */
void node_builder_end(struct node_sandbox *sandbox);

/* What programs of it get from now on: environment and working directory of later steps are told
 * with each command, this is what its checkpoints say. 0 or -ENOMEM. */
SHL_MUST_CHECK int node_builder_set_image(struct node_sandbox *sandbox,
                                          const struct node_kv_list *envs,
                                          const char *workdir);

/* Is the moment over that a checkpoint keeps, so that the sandbox may change again? */
bool node_checkpoint_is_taken(const struct node_checkpoint *checkpoint);

/* Identity of a template's image on this node (32 hexadecimal digits): another one when it was
 * built anew. Blocking, below a ms. SHL_ENOTFOUND. */
#define NODE_TEMPLATE_IDENTITY_SIZE 33
SHL_MUST_CHECK int node_template_identity(struct node_manager *manager,
                                          const char *name,
                                          char ret[NODE_TEMPLATE_IDENTITY_SIZE],
                                          struct shl_err *err);

/* Checkpoints of builds on this node, newest first; @each may delete the one it is given. */
void node_checkpoint_each_build(struct node_manager *manager,
                                bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                                void *arg);

#endif /* SHL_NODE_SANDBOX_BUILDER_H */
