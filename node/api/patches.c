#include "node/api/patches.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/io.h"
#include "base/mp.h"
#include "node/api/checkpoint_json.h"
#include "node/api/handlers.h"
#include "node/api/images_private.h"
#include "node/api/params.h"
#include "node/api/router.h"
#include "node/api/server_private.h"
#include "node/sandbox/patch.h"

#define PREFIX     "patch/"
#define KEY_SIZE   80
#define ROW_MAX    NODE_ROW_VALUE_MAX
#define TRIES_MAX  8
#define NUMBER_MAX UINT32_MAX

struct patch {
    char id[SHL_UUID_SIZE];
    uint32_t sequence;
    int64_t created_at_ms;
    char *script; /* heap, as the next one */
    char *description;
};

static void patch_release(struct patch *patch)
{
    free(patch->script);
    free(patch->description);
    *patch = (struct patch){.sequence = 0};
}

/* ---- rows ---------------------------------------------------------------------------- */

static int patch_encode(const struct patch *patch, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", 1);
    shl_mp_kv_str(&w, "id", patch->id);
    shl_mp_kv_uint(&w, "sequence", patch->sequence);
    shl_mp_kv_int(&w, "created", patch->created_at_ms);
    shl_mp_kv_str(&w, "script", patch->script);
    shl_mp_kv_str(&w, "description", patch->description);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int patch_decode(struct shl_bytes value, struct patch *ret)
{
    struct patch patch = {.sequence = 0};
    struct shl_mp_doc doc;
    uint64_t sequence = 0;
    int rc = shl_mp_parse(&doc, value);

    if (rc < 0) {
        return rc;
    }
    rc = shl_mp_get_cpy(doc.root, "id", patch.id, sizeof(patch.id));
    if (rc == 0) {
        rc = shl_mp_get_uint(doc.root, "sequence", NUMBER_MAX, &sequence);
        patch.sequence = (uint32_t)sequence;
    }
    if (rc == 0) {
        rc = shl_mp_get_int(doc.root, "created", &patch.created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_dup(doc.root, "script", &patch.script);
    }
    if (rc == 0) {
        rc = shl_mp_get_dup(doc.root, "description", &patch.description);
    }
    shl_mp_release(&doc);
    if (rc == 0 && patch.sequence > 0 && patch.created_at_ms >= 0) {
        *ret = patch;
        return 0;
    }
    patch_release(&patch);
    return rc < 0 ? rc : SHL_ECORRUPT;
}

static void counter_key(char dst[KEY_SIZE], const char *checkpoint)
{
    (void)snprintf(dst, KEY_SIZE, PREFIX "%.40s", checkpoint);
}

static void patch_prefix(char dst[KEY_SIZE], const char *checkpoint)
{
    (void)snprintf(dst, KEY_SIZE, PREFIX "%.40s/", checkpoint);
}

/* Numbers of ten digits, so that keys are in the order of numbers. */
static void patch_key(char dst[KEY_SIZE], const char *checkpoint, uint32_t sequence)
{
    (void)snprintf(dst, KEY_SIZE, PREFIX "%.40s/%010" PRIu32, checkpoint, sequence);
}

/* ---- for the manager ------------------------------------------------------------------ */

struct finding {
    uint32_t after;
    struct patch patch;
};

static bool on_candidate(void *arg, const struct node_row *row)
{
    struct finding *finding = arg;

    if (patch_decode(row->value, &finding->patch) < 0) {
        return true;
    }
    if (finding->patch.sequence > finding->after) {
        return false;
    }
    patch_release(&finding->patch);
    return true;
}

static int next_patch(void *arg,
                      const char *checkpoint,
                      uint32_t after,
                      uint32_t *ret_sequence,
                      char **ret_script)
{
    struct node_server *server = arg;
    struct finding finding = {.after = after};
    char prefix[KEY_SIZE];

    patch_prefix(prefix, checkpoint);
    server->router->ops->rows(server->router, prefix, on_candidate, &finding);
    if (!finding.patch.script) {
        return 0;
    }
    *ret_sequence = finding.patch.sequence;
    *ret_script = finding.patch.script;
    finding.patch.script = NULL;
    patch_release(&finding.patch);
    return 1;
}

/* One question for all who boot: those that come while it is under way share the next one. */

struct waiter {
    struct shl_list link; /* of server->patch_waiters, those that are asked for first */
    bool is_asked;
    node_patches_known_cb cb;
    void *arg;
};

static void tell_asked(struct node_server *server)
{
    struct shl_list *first;

    while ((first = shl_list_first(&server->patch_waiters))) {
        struct waiter *waiter = shl_container_of(first, struct waiter, link);

        if (!waiter->is_asked) {
            return;
        }
        shl_list_remove(first);
        waiter->cb(waiter->arg); /* others may begin, and wait at the end of the list */
        free(waiter);
    }
}

static void ask_for_all(struct node_server *server)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->patch_waiters) {
        shl_container_of(it, struct waiter, link)->is_asked = true;
    }
}

/* Whatever came of it: without a scheduler sandboxes start with what this node knows. */
static void on_caught_up(void *arg, const struct node_order *outcome)
{
    struct node_server *server = arg;
    struct node_router *router = server->router;
    struct node_order again;

    (void)outcome;
    tell_asked(server);
    while (!shl_list_empty(&server->patch_waiters)) {
        ask_for_all(server);
        if (router->ops->row_sync(router, &again, on_caught_up, server) == 0) {
            return;
        }
        tell_asked(server);
    }
    server->is_patch_asked = false;
    node_server_unref(server);
}

static bool catch_up(void *arg, node_patches_known_cb cb, void *cb_arg)
{
    struct node_server *server = arg;
    struct node_router *router = server->router;
    struct node_cluster cluster;
    struct node_order outcome;
    struct waiter *waiter;

    router->ops->cluster(router, &cluster);
    if (!router->ops->row_sync || !cluster.has_quorum) {
        return true;
    }
    waiter = calloc(1, sizeof(*waiter));
    if (!waiter) {
        return true;
    }
    if (!server->is_patch_asked) {
        if (router->ops->row_sync(router, &outcome, on_caught_up, server) > 0) {
            free(waiter);
            return true;
        }
        node_server_ref(server);
        server->is_patch_asked = true;
        waiter->is_asked = true;
    }
    waiter->cb = cb;
    waiter->arg = cb_arg;
    shl_list_push_back(&server->patch_waiters, &waiter->link);
    return false;
}

static const struct node_patch_source source = {.catch_up = catch_up, .next = next_patch};

void node_patches_open(struct node_server *server)
{
    if (server->router->ops->rows) {
        node_manager_set_patches(server->manager, &source, server);
    }
}

void node_patches_close(struct node_server *server)
{
    node_manager_set_patches(server->manager, NULL, NULL);
    ask_for_all(server);
    tell_asked(server);
}

struct keys {
    char keys[NODE_PATCHES_MAX + 1][KEY_SIZE];
    size_t count;
};

static bool collect_key(void *arg, const struct node_row *row)
{
    struct keys *keys = arg;

    if (strlen(row->key) < KEY_SIZE) {
        memcpy(keys->keys[keys->count++], row->key, strlen(row->key) + 1);
    }
    return keys->count < NODE_PATCHES_MAX;
}

void node_patches_forget(struct node_server *server, const char *checkpoint)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    char prefix[KEY_SIZE];
    struct node_row row;

    if (!keys) {
        return;
    }
    patch_prefix(prefix, checkpoint);
    server->router->ops->rows(server->router, prefix, collect_key, keys);
    counter_key(keys->keys[keys->count], checkpoint);
    if (server->router->ops->row(server->router, keys->keys[keys->count], &row)) {
        keys->count++;
    }
    for (size_t i = 0; i < keys->count; i++) {
        images_delete_row(server->images, keys->keys[i], 0);
    }
    free(keys);
}

/* ---- as JSON --------------------------------------------------------------------------- */

static json_t *patch_json(const char *checkpoint, const struct patch *patch)
{
    char at[NODE_TIME_TEXT_SIZE];

    node_time_text(at, patch->created_at_ms);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "id", patch->id, "checkpointId",
                     checkpoint, "sequence", (json_int_t)patch->sequence, "script", patch->script,
                     "description", patch->description, "strategy", "on_wake", "createdAt", at);
}

/* ---- create ---------------------------------------------------------------------------- */

struct creation {
    struct node_call *call;
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
    struct patch patch;
    unsigned tries;
};

static void creation_free(struct creation *c)
{
    patch_release(&c->patch);
    node_call_unref(c->call);
    free(c);
}

static void on_put(void *arg, const struct node_order *outcome)
{
    struct creation *c = arg;

    if (outcome->code < 0) {
        node_call_fail(c->call, outcome->code, outcome->msg);
    } else {
        node_call_reply_json(c->call, 201,
                             json_pack("{s:o}", "patch", patch_json(c->checkpoint, &c->patch)));
    }
    creation_free(c);
}

static void change(struct creation *c, const struct node_row_change *change, node_order_cb cb)
{
    struct node_router *router = c->call->server->router;
    struct node_order outcome;

    if (router->ops->row_change(router, change, &outcome, cb, c) > 0) {
        cb(c, &outcome);
    }
}

static void put(struct creation *c)
{
    char key[KEY_SIZE];
    struct shl_buf buf;

    patch_key(key, c->checkpoint, c->patch.sequence);
    shl_buf_init(&buf, ROW_MAX);
    if (patch_encode(&c->patch, &buf) < 0) {
        node_call_fail(c->call, SHL_EINVALIDARG, "the script is too long");
        creation_free(c);
    } else {
        change(c, &(struct node_row_change){.key = key, .value = shl_buf_bytes(&buf)}, on_put);
    }
    shl_buf_release(&buf);
}

static void take_number(struct creation *c);

static void on_number(void *arg, const struct node_order *outcome)
{
    struct creation *c = arg;

    if (outcome->code == SHL_ECONFLICT && ++c->tries < TRIES_MAX) {
        take_number(c); /* another one was added at the same moment */
    } else if (outcome->code < 0) {
        node_call_fail(c->call, outcome->code, outcome->msg);
        creation_free(c);
    } else {
        put(c);
    }
}

static bool count_row(void *arg, const struct node_row *row)
{
    (void)row;
    ++*(size_t *)arg;
    return true;
}

/* The next number is ours as soon as the counter says so. */
static void take_number(struct creation *c)
{
    struct node_router *router = c->call->server->router;
    struct node_row row = {.revision = 0};
    char key[KEY_SIZE], prefix[KEY_SIZE];
    uint8_t last[4];
    size_t count = 0;

    patch_prefix(prefix, c->checkpoint);
    router->ops->rows(router, prefix, count_row, &count);
    if (count >= NODE_PATCHES_MAX) {
        node_call_failf(c->call, SHL_EINVALIDARG,
                        "the checkpoint has %d patches, the maximum: delete one first",
                        NODE_PATCHES_MAX);
        creation_free(c);
        return;
    }
    counter_key(key, c->checkpoint);
    c->patch.sequence = 1;
    if (router->ops->row(router, key, &row) && row.value.len == sizeof(last)) {
        c->patch.sequence = shl_get_le32(row.value.base) + 1;
    }
    shl_put_le32(last, c->patch.sequence);
    change(c,
           &(struct node_row_change){.key = key,
                                     .value = {last, sizeof(last)},
                                     .has_expected = true,
                                     .expected = row.revision},
           on_number);
}

static int parse(struct node_call *call, struct patch *ret, struct shl_err *err)
{
    const char *script = "", *description = "";
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc < 0) {
        return rc;
    }
    rc = node_params_str(body, "script", &script, err);
    if (rc >= 0) {
        rc = node_params_str(body, "description", &description, err);
    }
    if (rc >= 0 && script[strspn(script, " \t\r\n")] == '\0') {
        rc = shl_err_set(err, SHL_EINVALIDARG, "script is required");
    }
    if (rc >= 0 && strlen(script) > NODE_PATCH_SCRIPT_MAX) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "script is longer than the maximum of %d bytes",
                         NODE_PATCH_SCRIPT_MAX);
    }
    if (rc >= 0 && strlen(description) > NODE_PATCH_DESCRIPTION_MAX) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "description is longer than the maximum of %d bytes",
                         NODE_PATCH_DESCRIPTION_MAX);
    }
    if (rc >= 0) {
        ret->script = strdup(script);
        ret->description = strdup(description);
        rc = ret->script && ret->description ? 0 : shl_err_set(err, -ENOMEM, "no memory");
    }
    json_decref(body);
    return rc;
}

void node_handle_patch_create(struct node_call *call)
{
    struct node_checkpoint *checkpoint = node_call_find_checkpoint(call);
    struct shl_err err = {0};
    struct creation *c;

    if (!checkpoint) {
        return;
    }
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        node_call_failf(call, SHL_EBADSTATE, "checkpoint not ready: it is %s",
                        node_checkpoint_status(checkpoint));
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    c->call = node_call_ref(call);
    memcpy(c->checkpoint, checkpoint->id, sizeof(c->checkpoint));
    if (parse(call, &c->patch, &err) < 0) {
        node_call_fail_err(call, &err);
        creation_free(c);
        return;
    }
    shl_uuid_make(c->patch.id);
    c->patch.created_at_ms = shl_realtime_ms();
    take_number(c);
}

/* ---- list ------------------------------------------------------------------------------ */

struct listing {
    struct node_call *call;
    json_t *array;
};

static bool on_listed(void *arg, const struct node_row *row)
{
    struct listing *listing = arg;
    struct patch patch;

    if (patch_decode(row->value, &patch) == 0) {
        (void)json_array_append_new(listing->array, patch_json(listing->call->cid, &patch));
        patch_release(&patch);
    }
    return true;
}

static void on_list_synced(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;
    struct node_router *router = call->server->router;
    struct listing listing = {.call = call};
    char prefix[KEY_SIZE];

    (void)outcome; /* without a scheduler: what this node knows */
    if (node_call_is_open(call)) {
        listing.array = json_array();
        patch_prefix(prefix, call->cid);
        router->ops->rows(router, prefix, on_listed, &listing);
        node_call_reply_json(call, 200, listing.array);
    }
    node_call_unref(call);
}

/* Calls @then with what all nodes know by now; the call is referenced until then. */
static void after_sync(struct node_call *call, node_order_cb then)
{
    struct node_router *router = call->server->router;
    struct node_order outcome;

    if (node_call_find_checkpoint(call)) {
        (void)node_call_ref(call);
        if (router->ops->row_sync(router, &outcome, then, call) > 0) {
            then(call, &outcome);
        }
    }
}

void node_handle_patch_list(struct node_call *call)
{
    after_sync(call, on_list_synced);
}

/* ---- delete ---------------------------------------------------------------------------- */

struct search {
    const char *id;
    char key[KEY_SIZE];
};

static bool on_searched(void *arg, const struct node_row *row)
{
    struct search *search = arg;
    struct patch patch;

    if (patch_decode(row->value, &patch) == 0) {
        if (strcmp(patch.id, search->id) == 0 && strlen(row->key) < KEY_SIZE) {
            memcpy(search->key, row->key, strlen(row->key) + 1);
        }
        patch_release(&patch);
    }
    return search->key[0] == '\0';
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

static void on_delete_synced(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;
    struct node_router *router = call->server->router;
    struct search search = {.id = call->sid};
    struct node_order done;
    char prefix[KEY_SIZE];

    if (!node_call_is_open(call) || outcome->code < 0) {
        node_call_fail(call, outcome->code, outcome->msg);
        node_call_unref(call);
        return;
    }
    patch_prefix(prefix, call->cid);
    router->ops->rows(router, prefix, on_searched, &search);
    if (search.key[0] == '\0') {
        node_call_fail(call, SHL_ENOTFOUND, "patch not found");
        node_call_unref(call);
        return;
    }
    if (router->ops->row_change(router,
                                &(struct node_row_change){.key = search.key, .is_delete = true},
                                &done, on_deleted, call) > 0) {
        on_deleted(call, &done);
    }
}

void node_handle_patch_delete(struct node_call *call)
{
    after_sync(call, on_delete_synced);
}
