/* Named snapshots: make, list, get, delete. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/handlers.h"
#include "node/api/image_request.h"
#include "node/api/images_private.h"
#include "node/api/params.h"
#include "node/api/router.h"
#include "node/api/row_job.h"
#include "node/api/server_private.h"

#define LIST_MAX 5000

/* ---- as JSON ------------------------------------------------------------------------- */

static json_t *time_json(int64_t at_ms)
{
    char text[NODE_TIME_TEXT_SIZE];

    node_time_text(text, at_ms);
    return json_string(text);
}

json_t *node_snapshot_json(struct node_call *call, const char *name, const struct image_row *row)
{
    bool is_stale = node_images_is_stale(call->server, row);
    enum image_status status = is_stale ? IMAGE_FAILED : row->status;
    json_t *manifest = row->manifest ? json_loads(row->manifest, 0, NULL) : NULL;
    json_t *json = json_object();
    int rc;

    rc = json_object_set_new(json, "id", json_string(row->id));
    rc |= json_object_set_new(json, "orgId", json_string(call->caller.org));
    rc |= json_object_set_new(json, "name", json_string(name));
    rc |= json_object_set_new(json, "contentHash", json_string(row->hash));
    rc |= json_object_set_new(json, "checkpointId",
                              row->checkpoint[0] ? json_string(row->checkpoint) : json_null());
    rc |= json_object_set_new(json, "status", json_string(image_status_text(status)));
    rc |= json_object_set_new(json, "manifest", manifest ? manifest : json_object());
    rc |= json_object_set_new(json, "createdAt", time_json(row->created_at_ms));
    rc |= json_object_set_new(json, "lastUsedAt", time_json(row->used_at_ms));
    if (is_stale) {
        rc |= json_object_set_new(json, "error", json_string("the node that built it was lost"));
    } else if (row->error[0] != '\0') {
        rc |= json_object_set_new(json, "error", json_string(row->error));
    }
    if (rc != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- create -------------------------------------------------------------------------- */

struct creation {
    struct node_call *call;
    struct image_manifest manifest;
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row row;
    struct node_image_hold hold;
    bool is_async;
    bool is_again; /* what was in the way is replaced */
};

static void creation_free(struct creation *c)
{
    image_manifest_release(&c->manifest);
    node_images_let_go(&c->hold);
    image_row_release(&c->row);
    node_call_unref(c->call);
    free(c);
}

static void claim(struct creation *c, uint64_t expected);

/* The name is ours. */
static void begin(struct creation *c, uint64_t revision)
{
    if (node_call_is_open(c->call)) {
        node_image_snapshot(c->call, &c->manifest, c->key, &c->row, revision, c->is_async);
    } else {
        images_delete_row(c->call->server->images, c->key, revision);
    }
    creation_free(c);
}

/* Somebody has the name: a failed one, or one whose node is lost, makes room. It may be this very
 * claim, which the log was given twice when an answer of the scheduler was lost. */
static void on_taken(struct creation *c)
{
    struct node_router *router = c->call->server->router;
    struct image_row image;
    struct node_row row;

    if (router->ops->row(router, c->key, &row) && image_row_decode(row.value, &image) == 0) {
        bool is_ours = strcmp(image.id, c->row.id) == 0;
        bool is_free = !c->is_again && (image.status == IMAGE_FAILED ||
                                        node_images_is_stale(c->call->server, &image));

        image_row_release(&image);
        if (is_ours) {
            begin(c, row.revision);
            return;
        }
        if (is_free) {
            c->is_again = true;
            claim(c, row.revision);
            return;
        }
    }
    node_call_fail(c->call, SHL_ECONFLICT, "snapshot name already exists");
    creation_free(c);
}

static void on_claimed(void *arg, const struct node_order *outcome)
{
    struct creation *c = arg;

    if (outcome->code == SHL_ECONFLICT) {
        on_taken(c);
        return;
    }
    if (outcome->code == 0) {
        begin(c, outcome->revision);
        return;
    }
    node_call_fail(c->call, outcome->code, outcome->msg);
    creation_free(c);
}

static void claim(struct creation *c, uint64_t expected)
{
    struct node_router *router = c->call->server->router;
    struct node_row_change change = {.key = c->key, .has_expected = true, .expected = expected};
    struct node_order outcome;
    struct shl_buf buf;

    shl_buf_init(&buf, IMAGE_ROW_MAX);
    if (image_row_encode(&c->row, &buf) < 0) {
        node_call_fail(c->call, -ENOMEM, NULL);
        creation_free(c);
    } else {
        change.value = shl_buf_bytes(&buf);
        if (router->ops->row_change(router, &change, &outcome, on_claimed, c) > 0) {
            on_claimed(c, &outcome);
        }
    }
    shl_buf_release(&buf);
}

static int parse(struct node_call *call, struct creation *c, struct shl_err *err)
{
    const char *name = "";
    json_t *body = NULL;
    json_t *image;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc < 0) {
        return rc;
    }
    image = json_object_get(body, "image");
    rc = node_params_str(body, "name", &name, err);
    if (rc >= 0 && (!image || json_is_null(image))) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "image is required: a manifest");
    }
    if (rc >= 0) {
        rc = image_manifest_parse(image, &c->manifest, err);
    }
    if (rc == 0 && *name == '\0') {
        name = c->manifest.name;
    }
    if (rc == 0 && *name == '\0') {
        rc = shl_err_set(err, SHL_EINVALIDARG, "name is required");
    }
    if (rc == 0) {
        rc = image_name_check(name, err);
    }
    if (rc == 0) {
        image_row_snapshot_key(c->key, call->caller.org, name);
    }
    json_decref(body);
    return rc;
}

void node_handle_snapshot_create(struct node_call *call)
{
    const char *async = node_url_query(&call->x->url, "async");
    struct creation *c;
    struct shl_err err = {0};
    int rc;

    if (!node_call_may_start(call)) {
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    c->call = node_call_ref(call);
    shl_list_init(&c->hold.link);
    c->is_async = async && strcmp(async, "1") == 0;
    rc = parse(call, c, &err);
    if (rc == 0) {
        node_images_begin_row(call->server, &c->row);
        node_images_hold(call->server->images, &c->hold, c->row.id);
        memcpy(c->row.hash, c->manifest.hash, sizeof(c->row.hash));
        c->row.manifest = image_manifest_text(&c->manifest);
        claim(c, 0);
        return;
    }
    node_call_fail_err(call, &err);
    creation_free(c);
}

/* ---- list ---------------------------------------------------------------------------- */

struct listing {
    struct node_call *call;
    json_t *array;
    size_t prefix_len;
};

static bool on_row(void *arg, const struct node_row *row)
{
    struct listing *listing = arg;
    struct image_row image;

    if (image_row_decode(row->value, &image) == 0) {
        (void)json_array_append_new(listing->array,
                                    node_snapshot_json(listing->call,
                                                       row->key + listing->prefix_len, &image));
        image_row_release(&image);
    }
    return json_array_size(listing->array) < LIST_MAX;
}

static void reply_list(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct listing listing = {.call = call, .array = json_array()};
    char prefix[IMAGE_ROW_KEY_SIZE];

    image_row_snapshot_key(prefix, call->caller.org, "");
    listing.prefix_len = strlen(prefix);
    router->ops->rows(router, prefix, on_row, &listing);
    node_call_reply_json(call, 200, listing.array);
}

void node_handle_snapshot_list(struct node_call *call)
{
    node_row_read(call, reply_list);
}

/* ---- get and delete ------------------------------------------------------------------- */

/* False: there is none. */
static bool find(struct node_call *call,
                 char key[IMAGE_ROW_KEY_SIZE],
                 struct image_row *ret,
                 uint64_t *ret_revision)
{
    struct node_router *router = call->server->router;
    struct node_row row;

    if (image_name_check(call->id, NULL) < 0) {
        return false;
    }
    image_row_snapshot_key(key, call->caller.org, call->id);
    if (!router->ops->row(router, key, &row)) {
        return false;
    }
    *ret_revision = row.revision;
    return image_row_decode(row.value, ret) == 0;
}

static void not_found(struct node_call *call)
{
    node_call_failf(call, SHL_ENOTFOUND, "snapshot \"%.128s\" not found", call->id);
}

static void reply_snapshot(struct node_call *call)
{
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row row;
    uint64_t revision;

    if (!find(call, key, &row, &revision)) {
        not_found(call);
        return;
    }
    node_call_reply_json(call, 200, node_snapshot_json(call, call->id, &row));
    image_row_release(&row);
}

/* Also when it is known here: another node may have been told to delete it a moment ago. */
void node_handle_snapshot_get(struct node_call *call)
{
    node_row_read(call, reply_snapshot);
}

static void on_deleted(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;

    if (outcome->code < 0) {
        node_call_fail(call, outcome->code, outcome->msg);
    } else {
        node_call_reply_empty(call, 204);
    }
    node_call_unref(call);
}

/* What it names stays for as long as something else names it; then images_sweep.c deletes it. */
static void delete_it(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_row_change change = {.is_delete = true};
    char key[IMAGE_ROW_KEY_SIZE];
    struct node_order outcome;
    struct image_row row;
    uint64_t revision;

    if (!find(call, key, &row, &revision)) {
        not_found(call);
        return;
    }
    image_row_release(&row);
    change.key = key;
    (void)node_call_ref(call);
    if (router->ops->row_change(router, &change, &outcome, on_deleted, call) > 0) {
        on_deleted(call, &outcome);
    }
}

static void on_delete_synced(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;

    if (node_call_is_open(call) && outcome->code < 0) {
        node_call_fail(call, outcome->code, outcome->msg);
    } else if (node_call_is_open(call)) {
        delete_it(call);
    }
    node_call_unref(call);
}

void node_handle_snapshot_delete(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_order outcome;

    (void)node_call_ref(call);
    if (router->ops->row_sync(router, &outcome, on_delete_synced, call) > 0) {
        on_delete_synced(call, &outcome);
    }
}
