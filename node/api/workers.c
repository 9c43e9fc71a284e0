/* Nodes in the form of the OpenComputer API: workers. */
#include <string.h>

#include "node/api/handlers.h"
#include "node/api/nodes.h"
#include "node/api/peers.h"
#include "node/api/server_private.h"

static json_t *worker_json(const struct node_peer *peer)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:o, s:i, s:i, s:n, s:s, s:b, s:i}",
        "worker_id", peer->name, "machine_id", peer->name, "region", peer->region, "grpc_addr", "",
        "http_addr", peer->url, "capacity", (int)(peer->memory_total_mb / NODE_MEMORY_MIN_MB),
        "current", (int)peer->sandboxes, "cpu_pct", peer->cpu_percent, "mem_pct",
        peer->memory_percent, "disk_pct",
        peer->disk_percent < 0 ? json_null() : json_real(peer->disk_percent), "total_memory_mb",
        (int)peer->memory_total_mb, "committed_memory_mb", (int)peer->memory_committed_mb,
        "golden_version", "worker_version", peer->version, "draining", peer->mark != NODE_MARK_NONE,
        "sandboxes", (int)peer->sandboxes);
}

/* Those that can serve: a list for clients, not for operators (GET /cluster). */
static bool add_worker(void *arg, const struct node_peer *peer)
{
    if (!peer->is_witness && (peer->state == NODE_PEER_ALIVE || peer->state == NODE_PEER_SUSPECT)) {
        (void)json_array_append_new(arg, worker_json(peer));
    }
    return true;
}

void node_handle_workers(struct node_call *call)
{
    json_t *array = json_array();

    node_peers_each(call, add_worker, array);
    node_call_reply_json(call, 200, array);
}

static void reply_drain(struct node_call *call,
                        const struct node_target *target,
                        int value,
                        const struct node_order *outcome)
{
    (void)outcome;
    node_call_reply_json(call, 200,
                         json_pack("{s:s, s:b}", "workerID", target->name, "draining",
                                   value == NODE_MARK_DRAINING));
}

void node_handle_worker_drain(struct node_call *call)
{
    const char *drain = node_url_query(&call->x->url, "drain");

    if (drain && strcmp(drain, "true") != 0 && strcmp(drain, "false") != 0) {
        node_call_fail(call, SHL_EINVALIDARG, "drain must be true or false");
        return;
    }
    node_set_mark(call, drain && drain[0] == 'f' ? NODE_MARK_NONE : NODE_MARK_DRAINING,
                  reply_drain);
}

static void reply_evict(struct node_call *call,
                        const struct node_target *target,
                        int value,
                        const struct node_order *outcome)
{
    (void)value;
    (void)outcome;
    node_call_reply_json(call, 202, json_pack("{s:s}", "workerID", target->name));
}

void node_handle_worker_evict(struct node_call *call)
{
    node_order_node(call, call->server->router->ops->evict,
                    "sandboxes cannot be moved to another node yet", reply_evict);
}
