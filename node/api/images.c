#include "node/api/images.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/images_private.h"
#include "node/api/router.h"
#include "node/api/server_private.h"
#include "node/sandbox/builder.h"

#define BRINGS_MAX 30  /* looks for what another node has built, before it is built again */
#define LOOK_MS    200 /* pause between two looks at the row of another node's build */

struct node_image_wait {
    struct shl_list link;
    struct entry *entry;
    const struct node_image_ops *ops;
    void *arg;
};

/* One image that is wanted. */
struct entry {
    struct shl_list link;
    struct node_images *images;
    char org[NODE_ORG_ID_SIZE];
    char key[IMAGE_ROW_KEY_SIZE];
    char identity[NODE_TEMPLATE_IDENTITY_SIZE];
    struct image_manifest manifest;
    struct shl_list waits;
    uv_timer_t timer;     /* the next look */
    struct image_row row; /* ours, while it builds here */
    struct node_image_hold hold;
    struct image_build *build;
    char waited_for[SHL_UUID_SIZE]; /* a build of another node */
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
    uint64_t revision; /* of the row that is being looked at */
    size_t layer_steps;
    unsigned brings; /* of what is ready, that gave nothing */
    bool is_over;    /* told; what is left is only to be freed */
    bool is_asking;  /* the router, or the build is being closed */
};

static void look(struct entry *entry);

static struct node_router *router_of(const struct node_images *images)
{
    return images->server->router;
}

/* ---- those who wait ------------------------------------------------------------------ */

static void say(struct entry *entry, size_t step, const char *type, const char *text)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &entry->waits) {
        struct node_image_wait *wait = shl_container_of(it, struct node_image_wait, link);

        wait->ops->log(wait->arg, step, type, text);
    }
}

static void on_entry_closed(uv_handle_t *handle)
{
    struct entry *entry = handle->data;
    struct node_images *images = entry->images;

    shl_list_remove(&entry->link);
    node_images_let_go(&entry->hold);
    image_manifest_release(&entry->manifest);
    free(entry);
    images_maybe_closed(images);
}

static void maybe_free(struct entry *entry)
{
    if (entry->is_over && !entry->is_asking && !entry->build &&
        !uv_is_closing((uv_handle_t *)&entry->timer)) {
        uv_close((uv_handle_t *)&entry->timer, on_entry_closed);
    }
}

static void finish(struct entry *entry, int code, const char *msg)
{
    struct shl_list *first;

    if (entry->is_over) {
        return;
    }
    entry->is_over = true;
    (void)uv_timer_stop(&entry->timer);
    while ((first = shl_list_first(&entry->waits))) {
        struct node_image_wait *wait = shl_container_of(first, struct node_image_wait, link);

        shl_list_remove(first);
        wait->ops->done(wait->arg, code, msg, code == 0 ? entry->checkpoint : "");
        free(wait);
    }
    maybe_free(entry);
}

static void on_timer(uv_timer_t *timer)
{
    look(timer->data);
}

static void look_soon(struct entry *entry, uint64_t ms)
{
    (void)uv_timer_start(&entry->timer, on_timer, ms, 0);
}

/* ---- rows ---------------------------------------------------------------------------- */

struct alive {
    const char *name;
    bool is_known;
};

static bool on_peer(void *arg, const struct node_peer *peer)
{
    struct alive *alive = arg;

    if (strcmp(peer->name, alive->name) == 0) {
        alive->is_known = peer->state == NODE_PEER_ALIVE || peer->state == NODE_PEER_SUSPECT;
        return false;
    }
    return true;
}

void node_images_hold(struct node_images *images, struct node_image_hold *hold, const char *id)
{
    node_images_let_go(hold);
    (void)snprintf(hold->id, sizeof(hold->id), "%s", id);
    shl_list_push_back(&images->holds, &hold->link);
}

void node_images_let_go(struct node_image_hold *hold)
{
    shl_list_remove(&hold->link);
}

static bool is_held(const struct node_images *images, const char *id)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &images->holds) {
        if (strcmp(shl_container_of(it, struct node_image_hold, link)->id, id) == 0) {
            return true;
        }
    }
    return images->changes > 0; /* it may be on its way */
}

bool node_images_is_stale(struct node_server *server, const struct image_row *row)
{
    struct alive alive = {.name = row->node};

    if (row->status != IMAGE_BUILDING) {
        return false;
    }
    if (strcmp(row->node, server->worker_id) == 0) {
        return row->boot != server->images->boot || !is_held(server->images, row->id);
    }
    if (server->router->ops->peers) {
        server->router->ops->peers(server->router, on_peer, &alive);
    }
    return !alive.is_known;
}

void node_images_begin_row(struct node_server *server, struct image_row *row)
{
    row->status = IMAGE_BUILDING;
    row->boot = server->images->boot;
    row->created_at_ms = row->used_at_ms = shl_realtime_ms();
    shl_uuid_make(row->id);
    (void)snprintf(row->node, sizeof(row->node), "%.63s", server->worker_id);
}

static void on_changed(void *arg, const struct node_order *outcome)
{
    struct node_images *images = arg;

    if (outcome->code < 0 && outcome->code != SHL_ECONFLICT) {
        SHL_LOG(images->server->log, SHL_LOG_WARN, "image_row_not_changed",
                SHL_S("reason", outcome->msg));
    }
    images->changes--;
    images_maybe_closed(images);
}

void images_change(struct node_images *images, const struct node_row_change *change)
{
    struct node_router *router = router_of(images);
    struct node_order outcome;

    images->changes++;
    if (router->ops->row_change(router, change, &outcome, on_changed, images) > 0) {
        on_changed(images, &outcome);
    }
}

void images_put_row(struct node_images *images,
                    const char *key,
                    const struct image_row *row,
                    uint64_t revision)
{
    struct node_row_change change = {
        .key = key, .has_expected = revision > 0, .expected = revision};
    struct shl_buf buf;

    shl_buf_init(&buf, IMAGE_ROW_MAX);
    if (image_row_encode(row, &buf) == 0) {
        change.value = shl_buf_bytes(&buf);
        images_change(images, &change);
    }
    shl_buf_release(&buf);
}

void images_touch(struct node_images *images,
                  const char *key,
                  struct image_row *row,
                  uint64_t revision)
{
    int64_t now_ms = shl_realtime_ms();

    if (row->status == IMAGE_READY && now_ms - row->used_at_ms > NODE_IMAGE_TOUCH_MS) {
        row->used_at_ms = now_ms;
        images_put_row(images, key, row, revision);
    }
}

void images_delete_row(struct node_images *images, const char *key, uint64_t revision)
{
    images_change(images, &(struct node_row_change){.key = key,
                                                    .is_delete = true,
                                                    .has_expected = revision > 0,
                                                    .expected = revision});
}

struct finder {
    struct image_row found;
    bool is_found;
};

static bool on_candidate(void *arg, const struct node_row *row)
{
    struct finder *finder = arg;
    struct image_row image;

    if (image_row_decode(row->value, &image) < 0) {
        return true;
    }
    if (image.status == IMAGE_READY && !image.is_layer &&
        (!finder->is_found || image.created_at_ms > finder->found.created_at_ms)) {
        finder->found = image; /* rows of images have no manifest to release */
        finder->is_found = true;
    }
    image_row_release(&image);
    return true;
}

bool node_images_find(struct node_server *server,
                      const char *org,
                      const char *hash,
                      char ret[NODE_CHECKPOINT_ID_SIZE])
{
    struct finder finder = {.is_found = false};
    char key[IMAGE_ROW_KEY_SIZE];

    image_row_image_key(key, org, hash, NULL);
    server->router->ops->rows(server->router, key, on_candidate, &finder);
    if (finder.is_found) {
        memcpy(ret, finder.found.checkpoint, NODE_CHECKPOINT_ID_SIZE);
    }
    return finder.is_found;
}

static bool get_row(struct entry *entry, struct image_row *ret)
{
    struct node_router *router = router_of(entry->images);
    struct node_row row;

    entry->revision = 0;
    if (!router->ops->row(router, entry->key, &row)) {
        return false;
    }
    entry->revision = row.revision;
    return image_row_decode(row.value, ret) == 0;
}

/* ---- the build ----------------------------------------------------------------------- */

static void on_build_log(void *arg, size_t step, const char *type, const char *text)
{
    say(arg, step, type, text);
}

static void put_layer(struct entry *entry, size_t steps, const char *checkpoint)
{
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row row = {.id = ""};

    node_images_begin_row(entry->images->server, &row);
    row.status = IMAGE_READY;
    row.is_layer = true;
    memcpy(row.hash, entry->manifest.steps[steps - 1].hash, sizeof(row.hash));
    (void)snprintf(row.checkpoint, sizeof(row.checkpoint), "%s", checkpoint);
    image_row_image_key(key, entry->org, row.hash, entry->identity);
    images_put_row(entry->images, key, &row, 0);
    images_bound(entry->images, entry->org);
}

static void on_build_layer(void *arg, size_t steps, const char *checkpoint)
{
    put_layer(arg, steps, checkpoint);
}

static void on_build_done(void *arg, const struct image_build_outcome *outcome)
{
    struct entry *entry = arg;
    struct node_images *images = entry->images;

    entry->row.status = outcome->code == 0 ? IMAGE_READY : IMAGE_FAILED;
    entry->row.used_at_ms = shl_realtime_ms();
    if (outcome->code == 0) {
        (void)snprintf(entry->row.checkpoint, sizeof(entry->row.checkpoint), "%s",
                       outcome->checkpoint);
        memcpy(entry->checkpoint, entry->row.checkpoint, sizeof(entry->checkpoint));
    } else {
        (void)snprintf(entry->row.error, sizeof(entry->row.error), "%s", outcome->msg);
    }
    SHL_LOG(images->server->log, SHL_LOG_INFO, "image_built", SHL_S("hash", entry->manifest.hash),
            SHL_S("checkpoint", outcome->code == 0 ? outcome->checkpoint : ""),
            SHL_S("reason", outcome->code == 0 ? "" : outcome->msg));
    if (outcome->code == SHL_ENOCAPACITY || outcome->code == SHL_EQUOTA) {
        /* the next one who looks builds it, where there may be room */
        images_delete_row(images, entry->key, entry->revision);
    } else {
        /* who waits on other nodes hears why it failed; for others that is as good as no row */
        images_put_row(images, entry->key, &entry->row, 0);
        images_bound(images, entry->org);
    }
    finish(entry, outcome->code, outcome->msg);
}

static void on_build_closed(void *arg)
{
    struct entry *entry = arg;

    entry->build = NULL;
    entry->images->builds--;
    maybe_free(entry);
}

static void fail_build(struct entry *entry, int code, const char *msg)
{
    images_delete_row(entry->images, entry->key, entry->revision);
    finish(entry, code, msg);
}

static void start_build(struct entry *entry, struct node_checkpoint *layer)
{
    static const struct image_build_ops ops = {.log = on_build_log,
                                               .layer = on_build_layer,
                                               .done = on_build_done,
                                               .closed = on_build_closed};
    struct node_server *server = entry->images->server;
    struct image_build_config config = {.loop = server->loop,
                                        .manager = server->manager,
                                        .log = server->log,
                                        .org = entry->org,
                                        .manifest = &entry->manifest,
                                        .layer = layer,
                                        .layer_steps = layer ? entry->layer_steps : 0};
    struct shl_err err = {0};
    char text[300];
    size_t i;

    /* before anything is said: what is refused here may then be tried on another node */
    if (image_build_start(&config, &ops, entry, &entry->build, &err) < 0) {
        fail_build(entry, err.code, err.msg);
        return;
    }
    entry->images->builds++;
    (void)snprintf(text, sizeof(text), "Building image with %zu steps (hash=%.12s, node=%s)",
                   entry->manifest.step_count, entry->manifest.hash, server->worker_id);
    say(entry, 0, "build", text);
    for (i = 0; i < config.layer_steps; i++) {
        const char *type = image_step_name(entry->manifest.steps[i].type);

        (void)snprintf(text, sizeof(text), "Step %zu/%zu: %s CACHED", i + 1,
                       entry->manifest.step_count, type);
        say(entry, i + 1, type, text);
    }
}

/* ---- layers -------------------------------------------------------------------------- */

/* The longest beginning that was built before: its checkpoint, and layer_steps. */
static bool find_layer(struct entry *entry, char ret[NODE_CHECKPOINT_ID_SIZE])
{
    struct node_router *router = router_of(entry->images);
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row image;
    struct node_row row;
    size_t k;

    for (k = entry->manifest.step_count; k-- > 1;) {
        image_row_image_key(key, entry->org, entry->manifest.steps[k - 1].hash, entry->identity);
        if (!router->ops->row(router, key, &row) || image_row_decode(row.value, &image) < 0) {
            continue;
        }
        images_touch(entry->images, key, &image, row.revision);
        image_row_release(&image);
        if (image.status == IMAGE_READY) {
            memcpy(ret, image.checkpoint, NODE_CHECKPOINT_ID_SIZE);
            entry->layer_steps = k;
            return true;
        }
    }
    return false;
}

static void bring(struct entry *entry,
                  const char *checkpoint,
                  void (*then)(void *arg, const struct node_answer *answer));

static void on_layer(void *arg, const struct node_answer *answer)
{
    struct entry *entry = arg;
    struct node_checkpoint *layer = NULL;

    entry->is_asking = false;
    if (entry->is_over || entry->images->is_closing) {
        fail_build(entry, -ECANCELED, "the node is shutting down");
        maybe_free(entry);
        return;
    }
    if (answer->code == 0) {
        layer = node_checkpoint_find(entry->images->server->manager, entry->org, entry->checkpoint);
    }
    start_build(entry, layer);
}

static void begin_build(struct entry *entry)
{
    if (entry->images->builds >= NODE_BUILDS_MAX) {
        look_soon(entry, LOOK_MS); /* the row is ours: see look */
        return;
    }
    if (find_layer(entry, entry->checkpoint)) {
        bring(entry, entry->checkpoint, on_layer);
    } else {
        start_build(entry, NULL);
    }
}

/* ---- looking, claiming, bringing ------------------------------------------------------ */

static void on_claimed(void *arg, const struct node_order *outcome)
{
    struct entry *entry = arg;

    entry->is_asking = false;
    if (entry->images->is_closing) {
        finish(entry, -ECANCELED, "the node is shutting down");
        maybe_free(entry);
    } else if (outcome->code == SHL_ECONFLICT) {
        look_soon(entry, 0); /* somebody else was first, or it was given to the log twice */
    } else if (outcome->code < 0) {
        finish(entry, outcome->code, outcome->msg);
    } else {
        entry->revision = outcome->revision;
        begin_build(entry);
    }
}

static void claim(struct entry *entry)
{
    struct node_router *router = router_of(entry->images);
    struct node_row_change change = {
        .key = entry->key, .has_expected = true, .expected = entry->revision};
    struct node_order outcome;
    struct shl_err err = {0};
    struct shl_buf buf;

    if (node_server_may_start(entry->images->server, &err) < 0) {
        finish(entry, err.code, err.msg); /* what others build may still be waited for here */
        return;
    }
    node_images_begin_row(entry->images->server, &entry->row);
    memcpy(entry->row.hash, entry->manifest.hash, sizeof(entry->row.hash));
    node_images_hold(entry->images, &entry->hold, entry->row.id);
    shl_buf_init(&buf, IMAGE_ROW_MAX);
    if (image_row_encode(&entry->row, &buf) < 0) {
        finish(entry, -ENOMEM, "no memory for the image");
    } else {
        change.value = shl_buf_bytes(&buf);
        entry->is_asking = true;
        if (router->ops->row_change(router, &change, &outcome, on_claimed, entry) > 0) {
            on_claimed(entry, &outcome);
        }
    }
    shl_buf_release(&buf);
}

static void on_brought(void *arg, const struct node_answer *answer)
{
    struct entry *entry = arg;
    char text[SHL_ERR_TEXT_MAX + 64];

    entry->is_asking = false;
    if (entry->images->is_closing) {
        finish(entry, -ECANCELED, "the node is shutting down");
        maybe_free(entry);
        return;
    }
    if (answer->code == 0 &&
        node_checkpoint_find(entry->images->server->manager, entry->org, entry->checkpoint)) {
        finish(entry, 0, "");
        return;
    }
    /* The row may be here before the cluster knows where the checkpoint is. */
    if (entry->images->server->router->ops->bring && ++entry->brings < BRINGS_MAX) {
        look_soon(entry, LOOK_MS);
        return;
    }
    (void)snprintf(text, sizeof(text), "What was built cannot be had, building again: %s",
                   answer->msg);
    say(entry, 0, "build", text);
    claim(entry);
}

/* Have @checkpoint on this node. */
static void bring(struct entry *entry,
                  const char *checkpoint,
                  void (*then)(void *arg, const struct node_answer *answer))
{
    struct node_server *server = entry->images->server;
    struct node_router *router = server->router;
    struct node_where what = {.org = entry->org, .id = checkpoint};
    struct node_answer answer = {.code = 0};

    entry->is_asking = true;
    if (node_checkpoint_find(server->manager, entry->org, checkpoint) || !router->ops->bring ||
        router->ops->bring(router, &what, &answer, then, entry) > 0) {
        then(entry, &answer);
    }
}

static void take_ready(struct entry *entry, struct image_row *row)
{
    char text[80];

    if (entry->brings == 0) {
        (void)snprintf(text, sizeof(text), "Image found in cache (hash=%.12s)", row->hash);
        say(entry, 0, "cache_hit", text);
        images_touch(entry->images, entry->key, row, entry->revision);
    }
    memcpy(entry->checkpoint, row->checkpoint, sizeof(entry->checkpoint));
    bring(entry, entry->checkpoint, on_brought);
}

static void wait_for(struct entry *entry, const struct image_row *row)
{
    char text[128];

    if (strcmp(entry->waited_for, row->id) != 0) {
        memcpy(entry->waited_for, row->id, sizeof(entry->waited_for));
        (void)snprintf(text, sizeof(text), "Waiting for the build of this image on node %s",
                       row->node);
        say(entry, 0, "build", text);
    }
    look_soon(entry, LOOK_MS);
}

static void look(struct entry *entry)
{
    struct image_row row;

    if (entry->images->is_closing) {
        finish(entry, -ECANCELED, "the node is shutting down");
        return;
    }
    if (!get_row(entry, &row)) {
        claim(entry);
        return;
    }
    if (row.status == IMAGE_BUILDING && strcmp(row.id, entry->row.id) == 0) {
        begin_build(entry);
    } else if (row.status == IMAGE_READY && !row.is_layer) {
        take_ready(entry, &row);
    } else if (row.status == IMAGE_FAILED && strcmp(row.id, entry->waited_for) == 0) {
        finish(entry, SHL_EINVALIDARG, row.error);
    } else if (row.status == IMAGE_BUILDING && !node_images_is_stale(entry->images->server, &row)) {
        wait_for(entry, &row);
    } else {
        claim(entry);
    }
    image_row_release(&row);
}

/* ---- interface ----------------------------------------------------------------------- */

static struct entry *find_entry(struct node_images *images, const char *key)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &images->entries) {
        struct entry *entry = shl_container_of(it, struct entry, link);

        if (!entry->is_over && strcmp(entry->key, key) == 0) {
            return entry;
        }
    }
    return NULL;
}

static struct entry *entry_new(struct node_images *images,
                               const char *org,
                               const char *key,
                               const char *identity,
                               struct image_manifest *manifest)
{
    struct entry *entry = calloc(1, sizeof(*entry));

    if (!entry) {
        return NULL;
    }
    entry->images = images;
    (void)snprintf(entry->org, sizeof(entry->org), "%s", org);
    (void)snprintf(entry->key, sizeof(entry->key), "%s", key);
    (void)snprintf(entry->identity, sizeof(entry->identity), "%s", identity);
    entry->manifest = *manifest;
    *manifest = (struct image_manifest){.json = NULL};
    shl_list_init(&entry->waits);
    shl_list_init(&entry->hold.link);
    (void)uv_timer_init(images->server->loop, &entry->timer);
    entry->timer.data = entry;
    shl_list_push_back(&images->entries, &entry->link);
    look_soon(entry, 0);
    return entry;
}

int node_images_get(struct node_images *images,
                    const char *org,
                    struct image_manifest *manifest,
                    const struct node_image_ops *ops,
                    void *arg,
                    struct node_image_wait **ret_wait,
                    struct shl_err *err)
{
    struct node_image_wait *wait = calloc(1, sizeof(*wait));
    char identity[NODE_TEMPLATE_IDENTITY_SIZE];
    char key[IMAGE_ROW_KEY_SIZE];
    struct entry *entry = NULL;
    int rc = images->is_closing
                 ? shl_err_set(err, SHL_EUNAVAILABLE, "the node is shutting down, try again")
                 : node_template_identity(images->server->manager, manifest->base, identity, err);

    if (rc == 0) {
        image_row_image_key(key, org, manifest->hash, identity);
        entry = find_entry(images, key);
        if (!entry && wait) {
            entry = entry_new(images, org, key, identity, manifest);
        }
        rc = entry && wait ? 0 : shl_err_set(err, -ENOMEM, "no memory for the image");
    }
    image_manifest_release(manifest);
    if (rc < 0) {
        free(wait);
        return rc;
    }
    *wait = (struct node_image_wait){.entry = entry, .ops = ops, .arg = arg};
    shl_list_push_back(&entry->waits, &wait->link);
    if (entry->build) {
        ops->log(arg, 0, "build", "Joining the build of this image that is under way");
    }
    *ret_wait = wait;
    return 0;
}

void node_images_leave(struct node_image_wait *wait)
{
    if (wait) {
        shl_list_remove(&wait->link);
        free(wait);
    }
}

struct node_images *node_images_new(struct node_server *server)
{
    struct node_images *images = calloc(1, sizeof(*images));

    if (images) {
        images->server = server;
        shl_random_bytes(&images->boot, sizeof(images->boot));
        shl_list_init(&images->entries);
        shl_list_init(&images->holds);
        images_sweep_start(images);
    }
    return images;
}

void images_maybe_closed(struct node_images *images)
{
    if (images->is_closing && images->is_tick_closed && shl_list_empty(&images->entries) &&
        images->changes == 0 && images->close_cb) {
        void (*cb)(void *arg) = images->close_cb;

        images->close_cb = NULL;
        cb(images->close_arg); /* the server frees it */
    }
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct node_images *images = handle->data;

    images->is_tick_closed = true;
    images_maybe_closed(images);
}

void node_images_close(struct node_images *images, void (*cb)(void *arg), void *arg)
{
    struct shl_list *it, *next;

    images->is_closing = true;
    images->close_cb = cb;
    images->close_arg = arg;
    SHL_LIST_FOREACH_SAFE(it, next, &images->entries) {
        struct entry *entry = shl_container_of(it, struct entry, link);

        if (entry->build) {
            image_build_cancel(entry->build, "the node is shutting down");
        }
        finish(entry, -ECANCELED, "the node is shutting down");
    }
    uv_close((uv_handle_t *)&images->tick, on_tick_closed);
}
