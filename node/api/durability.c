#include "node/api/durability.h"

#include "node/api/server_private.h"

json_t *node_durability_json(const struct node_call *call,
                             bool is_checkpoint,
                             bool is_saved,
                             const char *id)
{
    struct node_router *router = call->server->router;
    struct node_durability durability = {0};

    if (router->ops->durability) {
        router->ops->durability(router, is_checkpoint, id, &durability);
    }
    if (durability.replicas == 0 && is_saved) {
        durability.replicas = 1; /* this node's own, whatever the log knows by now */
    }
    return json_pack("{s:s, s:i, s:i}", "state", durability.is_whole ? "replicated" : "local",
                     "replicas", (int)durability.replicas, "wanted",
                     (int)SHL_MAX(durability.wanted, 1u));
}
