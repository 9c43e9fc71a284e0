/* What the files of images share. */
#ifndef SHL_NODE_API_IMAGES_PRIVATE_H
#define SHL_NODE_API_IMAGES_PRIVATE_H

#include <uv.h>

#include "base/list.h"
#include "node/api/images.h"
#include "node/api/router.h"
#include "node/image/build.h"

struct node_images {
    struct node_server *server;
    uint64_t boot; /* random, of this daemon */
    struct shl_list entries;
    struct shl_list holds;
    unsigned builds; /* under way */
    uv_timer_t tick; /* images_sweep.c */
    bool is_closing;
    bool is_tick_closed;
    unsigned changes; /* of rows, not answered */
    uint64_t swept_at_ms;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* images.c */
void images_maybe_closed(struct node_images *images);

/* A change of a row whose outcome is nobody's business. */
void images_change(struct node_images *images, const struct node_row_change *change);
/* Likewise, of an image, layer or snapshot; @revision above 0: if it has that. */
void images_put_row(struct node_images *images,
                    const char *key,
                    const struct image_row *row,
                    uint64_t revision);
/* It is used now. While it is built its row is left to who builds it. */
void images_touch(struct node_images *images,
                  const char *key,
                  struct image_row *row,
                  uint64_t revision);
void images_delete_row(struct node_images *images, const char *key, uint64_t revision);

/* images_sweep.c */
void images_sweep_start(struct node_images *images);
/* More unnamed ones than an organisation may have: the least used go. */
void images_bound(struct node_images *images, const char *org);

#endif /* SHL_NODE_API_IMAGES_PRIVATE_H */
