/* New sandboxes from a checkpoint: one, or many at once.
 *
 * Many are started together and answered together, each with its sandbox or its error, in
 * the order in which they were started. When none could be made the whole request fails
 * with the first error. A client that leaves changes nothing: they are made all the same,
 * as with create.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/bring.h"
#include "node/api/checkpoint_spec.h"
#include "node/api/handlers.h"
#include "node/api/once.h"
#include "node/api/params.h"
#include "node/api/routing.h"
#include "node/api/sandbox_json.h"
#include "node/api/secret_bind.h"
#include "node/api/server_private.h"
#include "node/http/status.h"

struct batch;

struct slot {
    struct batch *batch;
    json_t *json;                  /* {"sandbox": ..} or {"error": .., "status": ..} */
    char id[NODE_SANDBOX_ID_SIZE]; /* of the sandbox, "" without */
    int code;
};

struct batch {
    struct node_call *call;
    uint32_t count;
    uint32_t created;
    uint32_t left; /* not answered yet, and one while they are being started */
    bool is_single;
    struct slot slots[];
};

static void batch_free(struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        json_decref(batch->slots[i].json);
    }
    node_call_unref(batch->call);
    free(batch);
}

/* The results as one array, which is the caller's. NULL without memory. */
static json_t *take_results(struct batch *batch)
{
    json_t *array = json_array();
    int rc = 0;

    for (uint32_t i = 0; array && i < batch->count; i++) {
        rc |= json_array_append(array, batch->slots[i].json);
    }
    if (rc != 0) {
        json_decref(array);
        return NULL;
    }
    return array;
}

static void reply_none(struct batch *batch)
{
    const struct slot *slot = &batch->slots[0];
    const char *msg = json_string_value(json_object_get(slot->json, "error"));
    char *members = NULL;
    json_t *results;
    char *text;

    if (batch->is_single) {
        node_call_fail_create(batch->call, slot->code, msg);
        return;
    }
    node_once_failed(batch->call, node_routing_moves_on(batch->call, slot->code));
    if (node_routing_retry(batch->call, slot->code)) {
        return;
    }
    results = take_results(batch);
    text = results ? json_dumps(results, JSON_COMPACT) : NULL;
    if (text && asprintf(&members, ",\"results\":%s,\"created\":0", text) < 0) {
        members = NULL;
    }
    node_exchange_fail_more(batch->call->x, slot->code, msg, NULL, members);
    free(members);
    free(text);
    json_decref(results);
}

static void reply(struct batch *batch)
{
    if (batch->created == 0) {
        reply_none(batch);
    } else if (batch->is_single) {
        node_call_reply_json(batch->call, 201,
                             json_incref(json_object_get(batch->slots[0].json, "sandbox")));
    } else {
        node_call_reply_json(batch->call, 201,
                             json_pack("{s:o, s:i}", "results", take_results(batch), "created",
                                       (int)batch->created));
    }
}

static void note_made(struct batch *batch)
{
    char(*ids)[NODE_SANDBOX_ID_SIZE] = calloc(batch->count, sizeof(*ids));

    for (uint32_t i = 0; ids && i < batch->count; i++) {
        memcpy(ids[i], batch->slots[i].id, sizeof(ids[i]));
    }
    if (ids) {
        node_once_made(batch->call, (const char(*)[NODE_SANDBOX_ID_SIZE])ids, batch->count,
                       batch->is_single);
    }
    free(ids);
}

static void put(struct batch *batch)
{
    if (--batch->left > 0) {
        return;
    }
    if (batch->created > 0) {
        note_made(batch);
    }
    if (node_call_is_open(batch->call)) {
        reply(batch);
    }
    batch_free(batch);
}

static void set_failed(struct slot *slot, int code, const char *msg)
{
    if (!msg || *msg == '\0') {
        msg = shl_err_text(code);
    }
    slot->code = code;
    slot->json = json_pack("{s:s, s:i}", "error", msg, "status", node_http_status(code));
    if (!slot->json) { /* a text that is not UTF-8 */
        slot->json =
            json_pack("{s:s, s:i}", "error", shl_err_text(code), "status", node_http_status(code));
    }
}

static void on_forked(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct slot *slot = arg;
    struct batch *batch = slot->batch;

    if (code < 0) {
        set_failed(slot, code, msg);
    } else {
        batch->created++;
        memcpy(slot->id, sandbox->id, sizeof(slot->id));
        if (node_call_is_open(batch->call)) {
            slot->json = json_pack("{s:o}", "sandbox", node_sandbox_json(batch->call, sandbox));
        }
    }
    put(batch);
}

/* Each one has tokens of its own. */
static int fork_one(struct node_manager *manager,
                    struct node_checkpoint *checkpoint,
                    const struct node_fork_spec *spec,
                    struct slot *slot,
                    struct shl_err *err)
{
    const struct node_call *call = slot->batch->call;
    struct node_fork_spec one = *spec;
    struct node_secret_use use;
    int rc = node_secret_bind(call->server, call->caller.org, &checkpoint->spec.secrets,
                              spec->secret_store, &spec->envs, &use, err);

    if (rc == 0) {
        one.secrets = &use;
        rc = node_manager_fork(manager, checkpoint, &one, on_forked, slot, err);
        node_secret_use_release(&use);
    }
    return rc;
}

static void start_all(struct batch *batch,
                      struct node_checkpoint *checkpoint,
                      const struct node_fork_spec *spec)
{
    struct node_manager *manager = batch->call->server->manager;

    for (uint32_t i = 0; i < batch->count; i++) {
        struct slot *slot = &batch->slots[i];
        struct shl_err err = {0};
        int rc;

        slot->batch = batch;
        rc = fork_one(manager, checkpoint, spec, slot, &err);
        if (rc < 0) {
            set_failed(slot, rc, err.msg);
            batch->left--;
        }
    }
    put(batch);
}

static int parse(struct node_call *call,
                 struct node_fork_spec *spec,
                 uint32_t *ret_count,
                 struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_fork_spec_parse(body, spec, ret_count, err);
        json_decref(body);
    }
    return rc;
}

static void fork_from(struct node_call *call, struct node_checkpoint *checkpoint)
{
    struct node_fork_spec spec;
    struct shl_err err = {0};
    struct batch *batch;
    uint32_t asked = 0;
    uint32_t count;

    if (!node_call_may_start(call)) { /* its mark may have been set meanwhile */
        return;
    }
    if (parse(call, &spec, &asked, &err) < 0) {
        node_call_fail_err(call, &err);
        return;
    }
    count = SHL_MAX(asked, 1u);
    batch = calloc(1, sizeof(*batch) + count * sizeof(batch->slots[0]));
    if (batch) {
        batch->call = node_call_ref(call);
        batch->count = count;
        batch->left = count + 1;
        batch->is_single = asked == 0;
        start_all(batch, checkpoint, &spec);
    } else {
        node_call_fail(call, -ENOMEM, NULL);
    }
    node_fork_spec_release(&spec);
}

static void bring(struct node_call *call)
{
    node_call_bring_checkpoint(call, fork_from);
}

void node_handle_fork(struct node_call *call)
{
    if (node_call_may_start(call)) {
        node_secret_bind_ready(call, true, bring);
    }
}
