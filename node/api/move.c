/* A running sandbox goes on on another node. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/peers.h"
#include "node/api/server_private.h"

struct move {
    struct node_call *call;
    struct node_target target;
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
    uint64_t began_ms;
};

struct lookup {
    const char *name;
    struct node_target *target;
    bool is_found;
    bool is_self;
    bool is_first; /* this node comes first */
};

static bool match(void *arg, const struct node_peer *peer)
{
    struct lookup *lookup = arg;
    bool is_self = lookup->is_first;

    lookup->is_first = false;
    if (strcmp(peer->name, lookup->name) != 0 || lookup->is_found) {
        return true;
    }
    lookup->is_found = true;
    lookup->is_self = is_self;
    lookup->target->id = peer->id;
    (void)snprintf(lookup->target->name, sizeof(lookup->target->name), "%s", peer->name);
    return true;
}

static void on_moved(void *arg, const struct node_order *outcome)
{
    struct move *move = arg;

    if (outcome->code < 0) {
        node_call_fail(move->call, outcome->code, outcome->msg);
    } else {
        node_call_reply_json(move->call, 200,
                             json_pack("{s:s, s:s, s:s, s:I}", "sandboxID", move->sandbox_id,
                                       "sourceWorker", move->call->server->worker_id,
                                       "targetWorker", move->target.name, "elapsedMs",
                                       (json_int_t)(shl_monotonic_ms() - move->began_ms)));
    }
    node_call_unref(move->call);
    free(move);
}

/* False after an error was sent. */
static bool parse(struct node_call *call, struct node_target *target)
{
    struct lookup lookup = {.target = target, .is_first = true};
    struct shl_err err = {0};
    json_t *body = NULL;
    int rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, &err);

    *target = (struct node_target){0};
    lookup.name = rc == 0 ? json_string_value(json_object_get(body, "targetWorker")) : NULL;
    if (rc < 0) {
        node_call_fail_err(call, &err);
    } else if (!lookup.name) {
        node_call_fail(call, SHL_EINVALIDARG, "targetWorker must be the name of a node");
    } else {
        node_peers_each(call, match, &lookup);
        if (!lookup.is_found) {
            node_call_failf(call, SHL_ENOTFOUND, "there is no node named \"%.63s\"", lookup.name);
        } else if (lookup.is_self) {
            node_call_failf(call, SHL_EINVALIDARG, "the sandbox is on node %s already",
                            target->name);
        }
    }
    json_decref(body);
    return lookup.is_found && !lookup.is_self;
}

void node_handle_sandbox_migrate(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_router *router = call->server->router;
    struct node_order outcome;
    struct node_target target;
    struct move *move;

    if (!sandbox || !parse(call, &target)) {
        return;
    }
    if (strcmp(node_sandbox_status(sandbox), "running") != 0) {
        node_call_failf(call, SHL_EBADSTATE, "sandbox is not running: it is %s",
                        node_sandbox_status(sandbox));
        return;
    }
    if (!router->ops->move) {
        node_call_fail(call, -ENOSYS, "a single node has nowhere to move a sandbox to");
        return;
    }
    move = calloc(1, sizeof(*move));
    if (!move) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    move->call = node_call_ref(call);
    move->target = target;
    move->began_ms = shl_monotonic_ms();
    memcpy(move->sandbox_id, sandbox->id, sizeof(move->sandbox_id));
    if (router->ops->move(router, sandbox, &target, &outcome, on_moved, move) > 0) {
        on_moved(move, &outcome);
    }
}
