/* Checkpoints of a sandbox: make, list, delete, go back to one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/bring.h"
#include "node/api/checkpoint_json.h"
#include "node/api/checkpoint_spec.h"
#include "node/api/handlers.h"
#include "node/api/images.h"
#include "node/api/params.h"
#include "node/api/patches.h"
#include "node/api/server_private.h"

/* Create */

static int parse_create(struct node_call *call,
                        struct node_checkpoint_spec *spec,
                        struct shl_err *err)
{
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, err);

    if (rc == 0) {
        rc = node_checkpoint_spec_parse(body, spec, err);
        json_decref(body);
    }
    return rc;
}

void node_handle_checkpoint_create(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_checkpoint *checkpoint = NULL;
    struct node_checkpoint_spec spec;
    struct shl_err err = {0};
    int rc;

    if (!sandbox) {
        return;
    }
    rc = parse_create(call, &spec, &err);
    if (rc == 0 && node_call_is_ended(sandbox, &err)) {
        rc = shl_err_wrap(&err, SHL_EBADSTATE, "sandbox is not running");
    }
    if (rc == 0) {
        rc = node_checkpoint_create(call->server->manager, sandbox, &spec, &checkpoint, &err);
    }
    if (rc < 0) {
        /* A limit on their number: not a body that is too large. */
        node_call_fail(call, rc == SHL_ELIMIT ? SHL_EINVALIDARG : rc, err.msg);
        return;
    }
    node_call_reply_json(call, 201, node_checkpoint_json(call, checkpoint));
}

/* List */

struct listing {
    const struct node_call *call;
    json_t *array;
    bool has_failed;
};

static bool list_one(void *arg, struct node_checkpoint *checkpoint)
{
    struct listing *listing = arg;

    listing->has_failed =
        json_array_append_new(listing->array, node_checkpoint_json(listing->call, checkpoint)) < 0;
    return !listing->has_failed;
}

/* They outlive the record of their sandbox. */
void node_handle_checkpoint_list(struct node_call *call)
{
    struct node_manager *manager = call->server->manager;
    struct listing listing = {.call = call, .array = json_array()};

    node_checkpoint_each(manager, call->caller.org, call->id, list_one, &listing);
    if (listing.has_failed) {
        json_decref(listing.array);
        listing.array = NULL;
    }
    if (listing.array && json_array_size(listing.array) == 0 && !node_call_find_sandbox(call)) {
        json_decref(listing.array);
        return;
    }
    node_call_reply_json(call, 200, listing.array);
}

/* Delete */

/* False after the error was sent. */
static bool is_own(struct node_call *call, const struct node_checkpoint *checkpoint)
{
    if (strcmp(checkpoint->sandbox_id, call->id) != 0) {
        node_call_failf(call, SHL_EINVALIDARG, "the checkpoint belongs to another sandbox: %s",
                        checkpoint->sandbox_id);
        return false;
    }
    return true;
}

/* Later is fine, too: here it is gone, and the cluster is told until it knows. */
static void on_forgotten(void *arg, const struct node_order *outcome)
{
    struct node_call *call = arg;

    (void)outcome;
    if (node_call_is_open(call)) {
        node_call_reply_empty(call, 204);
    }
    node_call_unref(call);
}

static void forget(struct node_call *call)
{
    struct node_router *router = call->server->router;
    struct node_order outcome = {.code = 0};

    (void)node_call_ref(call);
    if (!router->ops->forget ||
        router->ops->forget(router, call->cid, &outcome, on_forgotten, call) > 0) {
        on_forgotten(call, &outcome);
    }
}

static void delete_it(struct node_call *call, struct node_checkpoint *checkpoint)
{
    struct shl_err err = {0};
    int rc;

    if (!is_own(call, checkpoint)) {
        return;
    }
    if (checkpoint->spec.is_build &&
        node_images_uses(call->server, call->caller.org, checkpoint->id)) {
        node_call_fail(call, SHL_ECONFLICT,
                       "the checkpoint belongs to a built image or a named snapshot: delete the "
                       "snapshot instead");
        return;
    }
    rc = node_checkpoint_delete(call->server->manager, checkpoint, &err);
    if (rc < 0) {
        node_call_fail(call, rc, err.msg);
    } else {
        node_patches_forget(call->server, call->cid);
        forget(call);
    }
}

void node_handle_checkpoint_delete(struct node_call *call)
{
    node_call_bring_checkpoint(call, delete_it);
}

/* Restore in place */

struct restore {
    struct node_call *call;
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
    char checkpoint_id[NODE_CHECKPOINT_ID_SIZE];
};

static void on_restored(void *arg, int code, const char *msg)
{
    struct restore *restore = arg;

    if (code < 0) {
        node_call_fail(restore->call, code, msg);
    } else {
        /* It is done, but this is what clients know. */
        node_call_reply_json(restore->call, 200,
                             json_pack("{s:s, s:s, s:s}", "sandboxId", restore->sandbox_id,
                                       "checkpointId", restore->checkpoint_id, "status",
                                       "restoring"));
    }
    node_call_unref(restore->call);
    free(restore);
}

static bool may_restore(struct node_call *call,
                        const struct node_sandbox *sandbox,
                        const struct node_checkpoint *checkpoint)
{
    struct shl_err err = {0};

    if (node_call_is_ended(sandbox, &err)) {
        node_call_failf(call, SHL_EBADSTATE, "sandbox is not running: %s", err.msg);
        return false;
    }
    if (sandbox->state == NODE_SANDBOX_HIBERNATED && node_server_may_wake(call->server, &err) < 0) {
        node_call_fail_err(call, &err);
        return false;
    }
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        node_call_failf(call, SHL_EBADSTATE, "checkpoint not ready: it is %s%s%s",
                        node_checkpoint_status(checkpoint), checkpoint->error[0] ? ": " : "",
                        checkpoint->error);
        return false;
    }
    return true;
}

static void restore_from(struct node_call *call, struct node_checkpoint *checkpoint)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct restore *restore;

    if (!sandbox || !is_own(call, checkpoint) || !may_restore(call, sandbox, checkpoint)) {
        return;
    }
    restore = calloc(1, sizeof(*restore));
    if (!restore) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    restore->call = node_call_ref(call);
    memcpy(restore->sandbox_id, sandbox->id, sizeof(restore->sandbox_id));
    memcpy(restore->checkpoint_id, checkpoint->id, sizeof(restore->checkpoint_id));
    node_manager_restore(call->server->manager, sandbox, checkpoint, on_restored, restore);
}

void node_handle_checkpoint_restore(struct node_call *call)
{
    if (node_call_find_sandbox(call)) {
        node_call_bring_checkpoint(call, restore_from);
    }
}
