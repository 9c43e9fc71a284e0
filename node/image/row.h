/* Rows of images, layers and named snapshots: what all nodes know of them (router op row).
 *
 *   img/ORG/HASH.IDENTITY   built from the template image of that identity; also layers
 *   snap/ORG/NAME           a name that stands for a built image
 *
 * Pure. Rows come from other nodes: decoding checks everything.
 */
#ifndef SHL_NODE_IMAGE_ROW_H
#define SHL_NODE_IMAGE_ROW_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/id.h"
#include "node/image/manifest.h"

#define IMAGE_ROW_IMAGE    "img/"
#define IMAGE_ROW_SNAPSHOT "snap/"
#define IMAGE_ROW_KEY_SIZE 193
#define IMAGE_ROW_MAX      (32 * 1024)
#define IMAGE_ERROR_MAX    1024        /* why a build failed, with the end of the output */
#define IMAGE_MANIFEST_MAX (16 * 1024) /* bytes of a manifest kept with a name; see row.c */
#define IMAGE_NODE_SIZE    64

enum image_status {
    IMAGE_BUILDING = 1,
    IMAGE_READY = 2,
    IMAGE_FAILED = 3,
};

struct image_row {
    enum image_status status;
    bool is_layer;              /* a disk, to build on: nothing starts from it */
    char id[SHL_UUID_SIZE];     /* of the snapshot, or of this build */
    char hash[IMAGE_HASH_SIZE]; /* of the manifest */
    char node[IMAGE_NODE_SIZE]; /* that builds or built it */
    uint64_t boot;              /* of that node's daemon: another one does not go on */
    uint64_t beat;              /* counts while it builds */
    char checkpoint[NODE_CHECKPOINT_ID_SIZE]; /* "" until ready */
    int64_t created_at_ms, used_at_ms;
    char error[IMAGE_ERROR_MAX];
    char *manifest; /* JSON text, heap; of a snapshot; or NULL */
};

SHL_MUST_CHECK int image_row_encode(const struct image_row *row, struct shl_buf *buf);
/* SHL_ECORRUPT, -ENOMEM. Release after a success. */
SHL_MUST_CHECK int image_row_decode(struct shl_bytes value, struct image_row *ret);
void image_row_release(struct image_row *row);

/* Keys; @identity NULL: the beginning of those of all identities. */
void image_row_image_key(char dst[IMAGE_ROW_KEY_SIZE],
                         const char *org,
                         const char *hash,
                         const char *identity);
void image_row_snapshot_key(char dst[IMAGE_ROW_KEY_SIZE], const char *org, const char *name);

const char *image_status_text(enum image_status status); /* as the API says it */

/* The manifest as text for a row, on the heap, NULL without memory: as it was sent, or, when that
 * is more than IMAGE_MANIFEST_MAX, without the contents of files ("contentBytes" says how long each
 * was), or without its steps ("stepCount"). */
char *image_manifest_text(const struct image_manifest *manifest);

#endif /* SHL_NODE_IMAGE_ROW_H */
