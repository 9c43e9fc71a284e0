/* Built images of this node: found, brought, waited for or built.
 *
 * The rows that all nodes know (node/image/row.h) say what there is; the first node that writes
 * "building" into the row of an image builds it. Requests for the same image share one build: those
 * of this node one entry here, those of other nodes look at the row until it says more.
 *
 * A failed build is told to all who wait for it and is not kept: the next request builds again.
 * When the node that builds is lost, the next one who looks builds. Checkpoints of builds that no
 * row names are deleted (images_sweep.c).
 *
 * Loop thread.
 */
#ifndef SHL_NODE_API_IMAGES_H
#define SHL_NODE_API_IMAGES_H

#include <stdbool.h>

#include "base/list.h"
#include "node/image/row.h"

struct node_images;
struct node_image_wait;
struct node_server;

#define NODE_IMAGES_ORG_MAX  200 /* images and layers that are kept unnamed; the least used goes */
#define NODE_BUILDS_MAX      4   /* at once on one node; more wait */
#define NODE_IMAGE_TOUCH_MS  (60 * 1000)  /* how exact "last used" is */
#define NODE_IMAGE_ORPHAN_MS (600 * 1000) /* a checkpoint that no row names is kept so long */

struct node_image_ops {
    /* Progress, see image_build_ops. */
    void (*log)(void *arg, size_t step, const char *type, const char *text);
    /* Once, never from inside node_images_get: 0 and the checkpoint, which is on this node. */
    void (*done)(void *arg, int code, const char *msg, const char *checkpoint);
};

struct node_images *node_images_new(struct node_server *server); /* NULL without memory */
/* Builds are given up; @cb when nothing of them is left. */
void node_images_close(struct node_images *images, void (*cb)(void *arg), void *arg);

/* @manifest is taken, also when this fails. */
SHL_MUST_CHECK int node_images_get(struct node_images *images,
                                   const char *org,
                                   struct image_manifest *manifest,
                                   const struct node_image_ops *ops,
                                   void *arg,
                                   struct node_image_wait **ret_wait,
                                   struct shl_err *err);
/* Hear no more. The build goes on: somebody will want it. */
void node_images_leave(struct node_image_wait *wait);

/* The newest checkpoint of a ready image, built from whatever template; false: none is known. For
 * the choice of a node. */
bool node_images_find(struct node_server *server,
                      const char *org,
                      const char *hash,
                      char ret[NODE_CHECKPOINT_ID_SIZE]);

/* Does a row of @org name this checkpoint? */
bool node_images_uses(struct node_server *server, const char *org, const char *checkpoint);

/* Says "building", but whoever built it is gone. */
bool node_images_is_stale(struct node_server *server, const struct image_row *row);
/* A row of this node's daemon that says "building". */
void node_images_begin_row(struct node_server *server, struct image_row *row);

/* Somebody here stands for the row of that id. One that nobody stands for is stale: what came of
 * it could not be recorded, or that it was claimed was learned too late. */
struct node_image_hold {
    struct shl_list link; /* initialised */
    char id[SHL_UUID_SIZE];
};
void node_images_hold(struct node_images *images, struct node_image_hold *hold, const char *id);
void node_images_let_go(struct node_image_hold *hold);

#endif /* SHL_NODE_API_IMAGES_H */
