#include "node/api/bring.h"

#include <errno.h>
#include <stdlib.h>

#include "node/api/checkpoint_json.h"
#include "node/api/checkpoint_spec.h"
#include "node/api/routes.h"
#include "node/api/server_private.h"

struct bring {
    struct node_call *call;
    void (*then)(struct node_call *call, struct node_checkpoint *checkpoint);
};

static void go_on(struct bring *bring)
{
    struct node_checkpoint *checkpoint = node_call_find_checkpoint(bring->call);

    if (checkpoint) {
        bring->then(bring->call, checkpoint);
    }
}

static void on_brought(void *arg, const struct node_answer *answer)
{
    struct bring *bring = arg;
    struct node_call *call = bring->call;

    if (!node_call_is_open(call)) {
        /* the client has left */
    } else if (answer->code == 0 || answer->code == SHL_ENOTFOUND) {
        go_on(bring);
    } else if (call->route->where == NODE_ROUTE_CHECKPOINT) {
        node_call_fail_create(call, answer->code, answer->msg);
    } else {
        node_call_fail(call, answer->code, answer->msg);
    }
    node_call_unref(call);
    free(bring);
}

void node_call_bring_checkpoint(struct node_call *call,
                                void (*then)(struct node_call *call,
                                             struct node_checkpoint *checkpoint))
{
    struct node_router *router = call->server->router;
    struct node_where what = {.org = call->caller.org, .id = call->cid};
    struct bring here = {.call = call, .then = then};
    struct node_answer answer;
    struct bring *bring;

    if (!router->ops->bring || !node_is_uuid(call->cid) ||
        node_checkpoint_find(call->server->manager, call->caller.org, call->cid)) {
        go_on(&here);
        return;
    }
    bring = malloc(sizeof(*bring));
    if (!bring) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    *bring = here;
    (void)node_call_ref(call);
    if (router->ops->bring(router, &what, &answer, on_brought, bring) > 0) {
        on_brought(bring, &answer);
    }
}
