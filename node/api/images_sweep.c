/* Tidying up: builds of this node that nobody carries on, checkpoints that no row names. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/images_private.h"
#include "node/api/router.h"
#include "node/api/server_private.h"
#include "node/sandbox/builder.h"

#define TICK_MS       2000
#define SWEEP_MS      (60 * 1000)
#define SWEEP_DELETES 20 /* checkpoints, at once */

/* ---- rows that nobody stands for ---------------------------------------------------------- */

#define STALE_MAX 16 /* at once */

struct stale {
    struct node_server *server;
    size_t count;
    struct {
        char key[IMAGE_ROW_KEY_SIZE];
        uint64_t revision;
        struct image_row row;
    } items[STALE_MAX];
};

static bool on_row(void *arg, const struct node_row *row)
{
    struct stale *stale = arg;
    struct image_row image;

    if (image_row_decode(row->value, &image) < 0) {
        return true;
    }
    if (strlen(row->key) >= IMAGE_ROW_KEY_SIZE || image.status != IMAGE_BUILDING ||
        strcmp(image.node, stale->server->worker_id) != 0 ||
        !node_images_is_stale(stale->server, &image)) {
        image_row_release(&image);
        return true;
    }
    memcpy(stale->items[stale->count].key, row->key, strlen(row->key) + 1);
    stale->items[stale->count].revision = row->revision;
    stale->items[stale->count].row = image;
    return ++stale->count < STALE_MAX;
}

/* Those who look at the row must not wait for ever. */
static void settle_stale(struct node_images *images)
{
    struct node_router *router = images->server->router;
    struct stale *stale = calloc(1, sizeof(*stale));

    if (!stale) {
        return;
    }
    stale->server = images->server;
    router->ops->rows(router, IMAGE_ROW_IMAGE, on_row, stale);
    if (stale->count < STALE_MAX) {
        router->ops->rows(router, IMAGE_ROW_SNAPSHOT, on_row, stale);
    }
    for (size_t i = 0; i < stale->count; i++) {
        struct image_row *row = &stale->items[i].row;

        row->status = IMAGE_FAILED;
        (void)snprintf(row->error, sizeof(row->error), "image build failed: %s",
                       row->boot != images->boot ? "the node was restarted while it built"
                                                 : "what came of it could not be recorded");
        images_put_row(images, stale->items[i].key, row, stale->items[i].revision);
        image_row_release(row);
    }
    free(stale);
}

/* ---- checkpoints ---------------------------------------------------------------------- */

struct uses {
    const char *checkpoint;
    bool is_used;
};

static bool on_use(void *arg, const struct node_row *row)
{
    struct uses *uses = arg;
    struct image_row image;

    if (image_row_decode(row->value, &image) == 0) {
        uses->is_used = strcmp(image.checkpoint, uses->checkpoint) == 0;
        image_row_release(&image);
    }
    return !uses->is_used;
}

bool node_images_uses(struct node_server *server, const char *org, const char *checkpoint)
{
    static const char *const prefixes[] = {IMAGE_ROW_IMAGE, IMAGE_ROW_SNAPSHOT};
    struct node_router *router = server->router;
    struct uses uses = {.checkpoint = checkpoint};
    char prefix[IMAGE_ROW_KEY_SIZE];

    for (size_t i = 0; i < SHL_ARRAY_SIZE(prefixes) && !uses.is_used; i++) {
        (void)snprintf(prefix, sizeof(prefix), "%s%s/", prefixes[i], org);
        router->ops->rows(router, prefix, on_use, &uses);
    }
    return uses.is_used;
}

struct sweep {
    struct node_images *images;
    int64_t before_ms;
    unsigned deleted;
};

static bool on_build(void *arg, struct node_checkpoint *checkpoint)
{
    struct sweep *sweep = arg;
    struct node_server *server = sweep->images->server;
    struct shl_err err = {0};

    if (checkpoint->created_at_ms > sweep->before_ms ||
        node_images_uses(server, checkpoint->spec.org, checkpoint->id)) {
        return true;
    }
    SHL_LOG(server->log, SHL_LOG_INFO, "image_checkpoint_unused",
            SHL_S("checkpoint", checkpoint->id));
    if (node_checkpoint_delete(server->manager, checkpoint, &err) < 0) {
        SHL_LOG(server->log, SHL_LOG_WARN, "image_checkpoint_not_deleted",
                SHL_S("reason", err.msg));
        return false;
    }
    return ++sweep->deleted < SWEEP_DELETES;
}

/* A node that does not follow the log does not know what is named. */
static bool is_current(struct node_server *server)
{
    struct node_cluster cluster;

    server->router->ops->cluster(server->router, &cluster);
    return cluster.has_quorum && cluster.applied_index == cluster.commit_index;
}

static void on_tick(uv_timer_t *timer)
{
    struct node_images *images = timer->data;
    uint64_t now_ms = shl_monotonic_ms();
    struct sweep sweep = {.images = images, .before_ms = shl_realtime_ms() - NODE_IMAGE_ORPHAN_MS};

    if (images->is_closing || images->changes > 0 || !is_current(images->server)) {
        return;
    }
    settle_stale(images);
    if (now_ms - images->swept_at_ms < SWEEP_MS) {
        return;
    }
    images->swept_at_ms = now_ms;
    if (shl_list_empty(&images->entries)) {
        node_checkpoint_each_build(images->server->manager, on_build, &sweep);
    }
}

void images_sweep_start(struct node_images *images)
{
    images->swept_at_ms = shl_monotonic_ms();
    (void)uv_timer_init(images->server->loop, &images->tick);
    images->tick.data = images;
    (void)uv_timer_start(&images->tick, on_tick, TICK_MS, TICK_MS);
}

/* ---- how many there are --------------------------------------------------------------- */

struct oldest {
    size_t count;
    char key[IMAGE_ROW_KEY_SIZE];
    uint64_t revision;
    int64_t used_at_ms;
};

static bool on_unnamed(void *arg, const struct node_row *row)
{
    struct oldest *oldest = arg;
    struct image_row image;

    oldest->count++;
    if (image_row_decode(row->value, &image) < 0) {
        return true;
    }
    if (image.status != IMAGE_BUILDING && image.used_at_ms < oldest->used_at_ms &&
        strlen(row->key) < sizeof(oldest->key)) {
        oldest->used_at_ms = image.used_at_ms;
        oldest->revision = row->revision;
        memcpy(oldest->key, row->key, strlen(row->key) + 1);
    }
    image_row_release(&image);
    return true;
}

void images_bound(struct node_images *images, const char *org)
{
    struct node_router *router = images->server->router;
    struct oldest oldest = {.used_at_ms = INT64_MAX};
    char prefix[IMAGE_ROW_KEY_SIZE];

    (void)snprintf(prefix, sizeof(prefix), IMAGE_ROW_IMAGE "%s/", org);
    router->ops->rows(router, prefix, on_unnamed, &oldest);
    if (oldest.count > NODE_IMAGES_ORG_MAX && oldest.key[0] != '\0') {
        images_delete_row(images, oldest.key, oldest.revision);
    }
}
