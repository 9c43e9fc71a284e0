/* Requests that need a built image: create with image or snapshot, create of a snapshot.
 *
 * Their progress is server-sent events when the client asks for that (Accept: text/event-stream),
 * else the outcome is the reply. The stream begins as soon as something takes time, so that what
 * fails before has a status, and another node can be asked for room.
 */
#ifndef SHL_NODE_API_IMAGE_REQUEST_H
#define SHL_NODE_API_IMAGE_REQUEST_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"
#include "node/api/images.h"
#include "node/api/router.h"
#include "node/sandbox/checkpoints.h"

struct node_call;

/* What node_image_where found. Its place points into it. */
struct node_image_place {
    struct node_place place;
    char template_name[NODE_TEMPLATE_MAX];
    char build[IMAGE_ROW_KEY_SIZE];
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
};

/* Where it goes: 1 with the checkpoint that it starts from, when it is known; 2 with what a builder
 * needs, and what one that finds it built; 0: nothing of an image in @body; or an error. */
SHL_MUST_CHECK int node_image_where(struct node_call *call,
                                    const json_t *body,
                                    struct node_image_place *ret,
                                    struct shl_err *err);

/* POST /sandboxes whose body names an image or a snapshot: true, and the call is answered. */
bool node_image_create(struct node_call *call, const json_t *body);

/* A snapshot that was claimed: build, record, answer. Takes @manifest and @row. */
void node_image_snapshot(struct node_call *call,
                         struct image_manifest *manifest,
                         const char *key,
                         struct image_row *row,
                         uint64_t revision,
                         bool is_async);

/* snapshots.c: as the API shows it. NULL without memory. */
json_t *node_snapshot_json(struct node_call *call, const char *name, const struct image_row *row);

#endif /* SHL_NODE_API_IMAGE_REQUEST_H */
