#include "node/api/image_request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/checkpoint_spec.h"
#include "node/api/handlers.h"
#include "node/api/images_private.h"
#include "node/api/once.h"
#include "node/api/params.h"
#include "node/api/router.h"
#include "node/api/routes.h"
#include "node/api/sandbox_json.h"
#include "node/api/secret_bind.h"
#include "node/api/server_private.h"
#include "node/api/spec.h"
#include "node/http/json_text.h"
#include "node/http/sse.h"

#define BEGIN_MS 3000 /* then the stream begins, whatever happens */

struct request {
    struct node_call *call;
    struct node_sse *sse; /* NULL: the client wants JSON */
    uv_timer_t begin;
    unsigned lost; /* log lines that a slow client missed */
    struct node_image_wait *wait;
    /* a sandbox */
    struct node_fork_spec fork;
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
    /* a snapshot */
    bool is_async; /* answered already */
    int code;      /* of its build */
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row row;
    struct node_image_hold hold;
    uint64_t revision;
};

/* ---- life ----------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* The client has left: what is built is still built. */
static void on_gone(void *arg)
{
    struct request *r = arg;

    if (r->sse) {
        node_sse_gone(r->sse);
    }
}

static void request_free(struct request *r)
{
    struct node_call *call = r->call;

    node_images_leave(r->wait);
    node_sse_free(r->sse);
    node_fork_spec_release(&r->fork);
    node_images_let_go(&r->hold);
    image_row_release(&r->row);
    if (call->on_gone == on_gone) { /* else another node has been asked: it is the forward's */
        call->on_gone = NULL;
    }
    node_call_unref(call);
    uv_close((uv_handle_t *)&r->begin, on_timer_closed);
}

static void on_begin(uv_timer_t *timer)
{
    struct request *r = timer->data;

    if (r->sse) {
        node_sse_begin(r->sse);
    }
}

static bool wants_events(const struct node_call *call)
{
    const char *accept = node_exchange_header(call->x, "Accept");

    return accept && strcmp(accept, "text/event-stream") == 0;
}

/* NULL after the error was sent. */
static struct request *request_new(struct node_call *call)
{
    struct request *r = calloc(1, sizeof(*r));

    if (r && wants_events(call)) {
        r->sse = node_sse_new(call->x);
    }
    if (!r || (wants_events(call) && !r->sse)) {
        free(r);
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    r->call = node_call_ref(call);
    shl_list_init(&r->hold.link);
    (void)uv_timer_init(call->server->loop, &r->begin);
    r->begin.data = r;
    (void)uv_timer_start(&r->begin, on_begin, BEGIN_MS, 0);
    call->on_gone = on_gone;
    call->gone_arg = r;
    return r;
}

/* ---- events ---------------------------------------------------------------------------- */

static void send_event(struct request *r, const char *name, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (text && node_sse_event(r->sse, name, text) == SHL_ELIMIT) {
        r->lost++;
    }
    free(text);
}

static json_t *log_json(size_t step, const char *type, const char *text)
{
    return json_pack("{s:I, s:s, s:s}", "step", (json_int_t)step, "type", type, "message", text);
}

static void on_log(void *arg, size_t step, const char *type, const char *text)
{
    struct request *r = arg;
    char lost[80];

    if (!r->sse || !node_call_is_open(r->call)) {
        return;
    }
    if (r->lost > 0) {
        (void)snprintf(lost, sizeof(lost), "(%u lines were left out: the reader is too slow)",
                       r->lost);
        r->lost = 0;
        send_event(r, "build_log", log_json(0, "build", lost));
    }
    send_event(r, "build_log", log_json(step, type, text));
    /* a hit may yet need room on another node */
    if (strcmp(type, "cache_hit") != 0 && strcmp(type, "resolve") != 0 &&
        strcmp(type, "create") != 0) {
        node_sse_begin(r->sse);
    }
}

static void end_event(struct request *r, const char *name, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (text) {
        node_sse_end(r->sse, name, text);
    } else {
        node_sse_end(r->sse, "error", "{\"error\":\"the node is out of memory\"}");
    }
    free(text);
}

static void reply(struct request *r, int status, json_t *json)
{
    if (r->sse && node_call_is_open(r->call)) {
        end_event(r, "result", json);
    } else {
        node_call_reply_json(r->call, status, json);
    }
}

static void fail(struct request *r, int code, const char *msg)
{
    struct node_call *call = r->call;

    msg = msg && *msg ? msg : shl_err_text(code);
    if (r->sse && node_call_is_open(call) && node_sse_has_begun(r->sse)) {
        node_once_failed(call, false);
        end_event(r, "error", json_pack("{s:s}", "error", msg));
    } else if (node_call_is_open(call)) {
        call->on_gone = NULL; /* another node may be asked now */
        node_call_fail_create(call, code, msg);
    }
}

/* ---- a sandbox -------------------------------------------------------------------------- */

static void on_created(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct request *r = arg;
    char id[1][NODE_SANDBOX_ID_SIZE];

    if (code < 0) {
        fail(r, code, msg);
    } else {
        memcpy(id[0], sandbox->id, sizeof(id[0]));
        node_once_made(r->call, (const char(*)[NODE_SANDBOX_ID_SIZE])id, 1, true);
        if (node_call_is_open(r->call)) {
            reply(r, 201, node_sandbox_json(r->call, sandbox));
        }
    }
    request_free(r);
}

/* What it starts from is on this node. */
static void create(struct request *r)
{
    struct node_server *server = r->call->server;
    struct node_checkpoint *checkpoint =
        node_checkpoint_find(server->manager, r->call->caller.org, r->checkpoint);
    struct node_secret_use use;
    struct shl_err err = {0};
    int rc;

    if (!node_call_is_open(r->call)) {
        request_free(r); /* nobody wants it */
        return;
    }
    if (!checkpoint) {
        fail(r, SHL_EUNAVAILABLE, "the image is not on this node any more, try again");
        request_free(r);
        return;
    }
    on_log(r, 0, "create", "Creating sandbox from image...");
    rc = node_server_may_start(server, &err);
    rc = rc < 0 ? rc
                : node_secret_bind(server, r->call->caller.org, &checkpoint->spec.secrets,
                                   r->fork.secret_store, &r->fork.envs, &use, &err);
    if (rc == 0) {
        r->fork.secrets = &use;
        rc = node_manager_fork(server->manager, checkpoint, &r->fork, on_created, r, &err);
        r->fork.secrets = NULL;
        node_secret_use_release(&use);
    }
    if (rc < 0) {
        fail(r, rc, err.msg);
        request_free(r);
    }
}

static void on_image(void *arg, int code, const char *msg, const char *checkpoint)
{
    struct request *r = arg;

    r->wait = NULL;
    if (code < 0) {
        fail(r, code, msg);
        request_free(r);
        return;
    }
    (void)snprintf(r->checkpoint, sizeof(r->checkpoint), "%s", checkpoint);
    create(r);
}

static const struct node_image_ops image_ops = {.log = on_log, .done = on_image};

/* ---- from a snapshot -------------------------------------------------------------------- */

/* Of the snapshot. */
static const char *name_of(const struct request *r)
{
    return r->key + strlen(IMAGE_ROW_SNAPSHOT) + strlen(r->call->caller.org) + 1;
}

static void on_snapshot_brought(void *arg, const struct node_answer *answer)
{
    struct request *r = arg;

    if (answer->code < 0) {
        char text[SHL_ERR_TEXT_MAX + 64];

        (void)snprintf(text, sizeof(text), "the snapshot cannot be had right now: %s", answer->msg);
        fail(r, SHL_EUNAVAILABLE, text);
        request_free(r);
        return;
    }
    create(r);
}

static void start_from(struct request *r, const struct image_row *row)
{
    struct node_server *server = r->call->server;
    struct node_router *router = server->router;
    struct node_where what = {.org = r->call->caller.org, .id = r->checkpoint};
    struct node_answer answer = {.code = 0};
    char text[IMAGE_NAME_MAX + 64];

    if (row->status != IMAGE_READY) {
        (void)snprintf(text, sizeof(text), "snapshot \"%s\" is not ready: it is %s", name_of(r),
                       image_status_text(row->status));
        fail(r, SHL_EBADSTATE, text);
        request_free(r);
        return;
    }
    (void)snprintf(text, sizeof(text), "Resolving snapshot '%s'...", name_of(r));
    on_log(r, 0, "resolve", text);
    memcpy(r->checkpoint, row->checkpoint, sizeof(r->checkpoint));
    if (node_checkpoint_find(server->manager, what.org, what.id) || !router->ops->bring) {
        create(r);
    } else if (router->ops->bring(router, &what, &answer, on_snapshot_brought, r) > 0) {
        on_snapshot_brought(r, &answer);
    }
}

static bool look(struct request *r)
{
    struct node_router *router = r->call->server->router;
    struct image_row image;
    struct node_row row;

    if (!router->ops->row(router, r->key, &row) || image_row_decode(row.value, &image) < 0) {
        return false;
    }
    images_touch(r->call->server->images, r->key, &image, row.revision);
    start_from(r, &image);
    image_row_release(&image);
    return true;
}

static void on_synced(void *arg, const struct node_order *outcome)
{
    struct request *r = arg;
    char text[IMAGE_NAME_MAX + 64];

    if (!node_call_is_open(r->call)) {
        request_free(r);
    } else if (outcome->code < 0) {
        fail(r, outcome->code, outcome->msg);
        request_free(r);
    } else if (!look(r)) {
        (void)snprintf(text, sizeof(text), "snapshot \"%s\" not found", name_of(r));
        fail(r, SHL_ENOTFOUND, text);
        request_free(r);
    }
}

static void create_from_snapshot(struct request *r)
{
    struct node_router *router = r->call->server->router;
    struct node_order outcome;

    if (!look(r) && router->ops->row_sync(router, &outcome, on_synced, r) > 0) {
        on_synced(r, &outcome);
    }
}

/* ---- bodies ----------------------------------------------------------------------------- */

static bool is_given(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(body, name);

    return value && !json_is_null(value) &&
           !(json_is_string(value) && json_string_length(value) == 0);
}

/* It is bound when the image is there; what is wrong with it is told before. */
static int check_store(struct node_call *call,
                       const json_t *body,
                       struct node_fork_spec *fork,
                       struct shl_err *err)
{
    struct node_secret_use use;
    int rc = node_secret_store_parse(body, &fork->secret_store, err);

    if (rc > 0) {
        rc = node_secret_bind(call->server, call->caller.org, NULL, fork->secret_store, &fork->envs,
                              &use, err);
        if (rc == 0) {
            node_secret_use_release(&use);
        }
    }
    return rc < 0 ? rc : 0;
}

/* As a create without image or snapshot; of the latter *ret_memory_mb is what was asked for. */
static int parse_plain(struct node_call *call,
                       const json_t *body,
                       bool is_image,
                       struct node_sandbox_spec *ret,
                       int64_t *ret_memory_mb,
                       struct shl_err *err)
{
    json_t *plain = json_copy((json_t *)body);
    int rc;

    *ret_memory_mb = 0;
    if (!plain) {
        return shl_err_set(err, -ENOMEM, "no memory for the request");
    }
    (void)json_object_del(plain, "templateID"); /* clients always send one */
    (void)json_object_del(plain, "image");
    (void)json_object_del(plain, "snapshot");
    rc = is_image ? 0 : node_params_int(plain, "memoryMB", 0, INT32_MAX, ret_memory_mb, err);
    if (!is_image) {
        (void)json_object_del(plain, "memoryMB");
    }
    if (rc >= 0) {
        rc = node_spec_parse(plain, call->server->memory_default_mb, ret, err);
    }
    json_decref(plain);
    return SHL_MIN(rc, 0);
}

/* All that applies to the sandbox; memory of a snapshot is moved into its range. */
static int parse_fork(struct node_call *call,
                      const json_t *body,
                      bool is_image,
                      struct node_fork_spec *ret,
                      struct shl_err *err)
{
    struct node_sandbox_spec spec;
    int64_t memory_mb;
    int rc = parse_plain(call, body, is_image, &spec, &memory_mb, err);

    if (rc < 0) {
        return rc;
    }
    *ret = (struct node_fork_spec){
        .timeout_s = spec.timeout_s,
        .memory_mb =
            is_image ? spec.memory_mb : (uint32_t)SHL_MIN(memory_mb, (int64_t)NODE_MEMORY_MAX_MB),
        .cpus = spec.cpus,
        .disk_mb = spec.disk_mb,
        .has_loss = true,
        .on_node_loss = spec.on_node_loss,
        .autosave_s = spec.autosave_s,
        .envs = spec.envs,
        .metadata = spec.metadata};
    spec.envs = spec.metadata = (struct node_kv_list){0};
    node_spec_release(&spec);
    rc = check_store(call, body, ret, err);
    if (rc < 0) {
        node_fork_spec_release(ret);
    }
    return rc;
}

/* The template of a create may be the name of a snapshot, when there is no such template. */
static const char *template_snapshot(struct node_call *call, const json_t *body)
{
    const char *name = json_string_value(json_object_get(body, "templateID"));
    struct node_router *router = call->server->router;
    char key[IMAGE_ROW_KEY_SIZE];
    struct node_row row;

    if (!name || image_name_check(name, NULL) < 0 || is_given(body, "image") ||
        node_manager_has_template(call->server->manager, name)) {
        return NULL;
    }
    image_row_snapshot_key(key, call->caller.org, name);
    return router->ops->row && router->ops->row(router, key, &row) ? name : NULL;
}

/* 1 when one is named. */
static int parse_snapshot_name(struct node_call *call,
                               const json_t *body,
                               const char **ret,
                               struct shl_err *err)
{
    int rc = is_given(body, "snapshot") ? node_params_str(body, "snapshot", ret, err) : 0;

    if (rc == 0 && (*ret = template_snapshot(call, body)) != NULL) {
        return 1;
    }
    if (rc > 0 && image_name_check(*ret, NULL) < 0) {
        return shl_err_set(err, SHL_ENOTFOUND, "snapshot \"%.128s\" not found", *ret);
    }
    return rc;
}

bool node_image_create(struct node_call *call, const json_t *body)
{
    bool is_image = is_given(body, "image");
    struct image_manifest manifest = {.json = NULL};
    struct node_fork_spec fork;
    const char *name = "";
    struct shl_err err = {0};
    struct request *r;
    int rc;

    rc = parse_snapshot_name(call, body, &name, &err);
    if (rc == 0 && !is_image) {
        return false;
    }
    if (rc > 0 && is_image) {
        rc = shl_err_set(&err, SHL_EINVALIDARG, "image and snapshot exclude each other");
    }
    if (rc >= 0 && is_given(body, "previewAuth")) {
        /* without it the hosts would be open */
        rc = shl_err_set(&err, -ENOSYS,
                         "previewAuth together with image or snapshot is not available yet");
    }
    if (rc >= 0) {
        rc = parse_fork(call, body, is_image, &fork, &err);
    }
    if (rc >= 0 && is_image) {
        rc = image_manifest_parse(json_object_get(body, "image"), &manifest, &err);
        if (rc < 0) {
            node_fork_spec_release(&fork);
        }
    }
    if (rc < 0) {
        node_call_fail_err(call, &err);
        return true;
    }
    r = request_new(call);
    if (!r) {
        node_fork_spec_release(&fork);
        image_manifest_release(&manifest);
        return true;
    }
    r->fork = fork;
    if (!is_image) {
        image_row_snapshot_key(r->key, call->caller.org, name);
        create_from_snapshot(r);
        return true;
    }
    rc = node_images_get(call->server->images, call->caller.org, &manifest, &image_ops, r, &r->wait,
                         &err);
    if (rc < 0) {
        fail(r, rc, err.msg);
        request_free(r);
    }
    return true;
}

/* ---- where it goes ---------------------------------------------------------------------- */

/* Memory of the sandbox that is asked for; 0: a snapshot is. */
static int joined_memory(struct node_call *call,
                         const json_t *body,
                         const struct image_manifest *manifest,
                         uint32_t *ret,
                         struct shl_err *err)
{
    struct node_sandbox_spec spec;
    int64_t memory_mb;
    int rc;

    *ret = 0;
    if (call->route->handle == node_handle_snapshot_create) {
        return 0;
    }
    rc = parse_plain(call, body, true, &spec, &memory_mb, err);
    if (rc == 0) {
        *ret = SHL_MAX(spec.memory_mb, manifest->runtime_mb);
        node_spec_release(&spec);
    }
    return rc;
}

static int where_image(struct node_call *call,
                       const json_t *body,
                       struct node_image_place *ret,
                       struct shl_err *err)
{
    struct node_place *place = &ret->place;
    struct image_manifest manifest;
    int rc = image_manifest_parse(json_object_get(body, "image"), &manifest, err);

    if (rc < 0) {
        return rc;
    }
    place->memory_mb = manifest.is_builder_given ? manifest.builder_mb : IMAGE_MEMORY_MIN_MB;
    memcpy(ret->template_name, manifest.base, sizeof(ret->template_name));
    image_row_image_key(ret->build, call->caller.org, manifest.hash, NULL);
    place->build = ret->build;
    rc = joined_memory(call, body, &manifest, &place->joined_mb, err);
    if (rc == 0) {
        bool is_ready =
            node_images_find(call->server, call->caller.org, manifest.hash, ret->checkpoint);

        rc = is_ready ? 1 : 2;
    }
    image_manifest_release(&manifest);
    return rc;
}

int node_image_where(struct node_call *call,
                     const json_t *body,
                     struct node_image_place *ret,
                     struct shl_err *err)
{
    struct node_router *router = call->server->router;
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row image;
    struct node_row row;
    const char *name = "";
    int rc;

    if (is_given(body, "image")) {
        return where_image(call, body, ret, err);
    }
    rc = parse_snapshot_name(call, body, &name, err);
    if (rc <= 0) {
        return rc;
    }
    image_row_snapshot_key(key, call->caller.org, name);
    if (!router->ops->row || !router->ops->row(router, key, &row) ||
        image_row_decode(row.value, &image) < 0) {
        return 2;
    }
    memcpy(ret->checkpoint, image.checkpoint, NODE_CHECKPOINT_ID_SIZE);
    rc = image.status == IMAGE_READY ? 1 : 2;
    image_row_release(&image);
    return rc;
}

/* ---- a snapshot is made ------------------------------------------------------------------ */

/* The log was given the record twice, and answers for the second time. */
static bool is_recorded(const struct request *r)
{
    struct node_router *router = r->call->server->router;
    struct image_row image;
    struct node_row row;
    bool is_ours;

    if (!router->ops->row(router, r->key, &row) || image_row_decode(row.value, &image) < 0) {
        return false;
    }
    is_ours = strcmp(image.id, r->row.id) == 0 && image.status == r->row.status;
    image_row_release(&image);
    return is_ours;
}

static void on_recorded(void *arg, const struct node_order *outcome)
{
    struct request *r = arg;
    int code = outcome->code == SHL_ECONFLICT && is_recorded(r) ? 0 : outcome->code;

    if (r->row.status == IMAGE_FAILED) {
        fail(r, r->code, r->row.error); /* another node takes the name of a failed one */
    } else if (code == SHL_ECONFLICT) {
        fail(r, SHL_ECONFLICT, "the snapshot was deleted while it was built");
    } else if (code < 0) {
        fail(r, code, outcome->msg);
    } else if (!r->is_async) {
        reply(r, 201, node_snapshot_json(r->call, name_of(r), &r->row));
    }
    request_free(r);
}

static void on_snapshot_built(void *arg, int code, const char *msg, const char *checkpoint)
{
    struct request *r = arg;
    struct node_router *router = r->call->server->router;
    struct node_row_change change = {.key = r->key, .has_expected = true, .expected = r->revision};
    struct node_order outcome = {.code = 0};
    struct shl_buf buf;

    r->wait = NULL;
    r->code = code;
    r->row.status = code == 0 ? IMAGE_READY : IMAGE_FAILED;
    (void)snprintf(r->row.checkpoint, sizeof(r->row.checkpoint), "%s", checkpoint);
    (void)snprintf(r->row.error, sizeof(r->row.error), "%s", msg);
    shl_buf_init(&buf, IMAGE_ROW_MAX);
    if (image_row_encode(&r->row, &buf) < 0) {
        outcome.code = -ENOMEM;
        on_recorded(r, &outcome);
    } else {
        change.value = shl_buf_bytes(&buf);
        if (router->ops->row_change(router, &change, &outcome, on_recorded, r) > 0) {
            on_recorded(r, &outcome);
        }
    }
    shl_buf_release(&buf);
}

void node_image_snapshot(struct node_call *call,
                         struct image_manifest *manifest,
                         const char *key,
                         struct image_row *row,
                         uint64_t revision,
                         bool is_async)
{
    static const struct node_image_ops ops = {.log = on_log, .done = on_snapshot_built};
    struct request *r = request_new(call);
    struct shl_err err = {0};
    int rc;

    if (!r) {
        image_manifest_release(manifest);
        image_row_release(row);
        return;
    }
    r->is_async = is_async;
    (void)snprintf(r->key, sizeof(r->key), "%s", key);
    r->row = *row;
    row->manifest = NULL;
    node_images_hold(call->server->images, &r->hold, r->row.id);
    r->revision = revision;
    if (is_async) {
        call->on_gone = NULL;
        node_sse_free(r->sse);
        r->sse = NULL;
        node_call_reply_json(call, 202, node_snapshot_json(call, name_of(r), &r->row));
    }
    rc = node_images_get(call->server->images, call->caller.org, manifest, &ops, r, &r->wait, &err);
    if (rc < 0) {
        on_snapshot_built(r, rc, err.msg, "");
    }
}
