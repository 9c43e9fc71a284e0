#include "node/api/peers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "node/api/server_private.h"

/* Percentages of the machine; 0 when the kernel does not say. */
static double cpu_percent(uint32_t cpus)
{
    double load = 0;

    return getloadavg(&load, 1) == 1 && cpus > 0 ? 100.0 * load / cpus : 0;
}

static double memory_percent(void)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 && info.totalram > 0
               ? 100.0 * (double)(info.totalram - info.freeram - info.bufferram) /
                     (double)info.totalram
               : 0;
}

void node_peer_self(const struct node_call *call, struct node_peer *ret)
{
    struct node_server *server = call->server;
    struct node_router *router = server->router;
    struct node_manager_counts counts;
    struct node_cluster cluster;
    char origin[NODE_ORIGIN_SIZE];

    node_manager_count(server->manager, &counts);
    router->ops->cluster(router, &cluster);
    node_server_origin(call, origin);
    *ret = (struct node_peer){.id = cluster.self,
                              .state = NODE_PEER_ALIVE,
                              .mark = router->ops->mark(router),
                              .is_witness = cluster.is_witness,
                              .sandboxes = counts.running + counts.creating,
                              .hibernated = counts.hibernated,
                              .cpus_total = counts.cpus_total,
                              .memory_total_mb = counts.memory_total_mb,
                              .memory_committed_mb = counts.memory_committed_mb,
                              .cpu_percent = cpu_percent(counts.cpus_total),
                              .memory_percent = memory_percent(),
                              .disk_percent = -1};
    (void)snprintf(ret->name, sizeof(ret->name), "%s", server->worker_id);
    (void)snprintf(ret->region, sizeof(ret->region), "%s", server->region);
    (void)snprintf(ret->url, sizeof(ret->url), "%.*s", (int)sizeof(ret->url) - 1, origin);
    (void)snprintf(ret->version, sizeof(ret->version), "%s", SHL_VERSION);
}

void node_peers_each(const struct node_call *call,
                     bool (*each)(void *arg, const struct node_peer *peer),
                     void *arg)
{
    struct node_router *router = call->server->router;
    struct node_peer self;

    node_peer_self(call, &self);
    if (each(arg, &self) && router->ops->peers) {
        router->ops->peers(router, each, arg);
    }
}

struct search {
    const char *text;
    struct shl_node_id id;
    bool is_first; /* the next one is this node */
    unsigned found;
    struct node_target target;
};

static bool match(void *arg, const struct node_peer *peer)
{
    struct search *search = arg;
    bool is_local = search->is_first;

    search->is_first = false;
    if (strcmp(peer->name, search->text) == 0 ||
        (!shl_node_id_is_none(&search->id) && shl_node_id_equal(&peer->id, &search->id))) {
        search->found++;
        search->target = (struct node_target){.is_local = is_local, .id = peer->id};
        memcpy(search->target.name, peer->name, sizeof(search->target.name));
    }
    return true;
}

bool node_peer_of_path(struct node_call *call, struct node_target *ret)
{
    struct search search = {.text = call->id, .is_first = true};

    if (shl_node_id_parse(call->id, &search.id) < 0) {
        search.id = (struct shl_node_id){{0}};
    }
    node_peers_each(call, match, &search);
    if (search.found == 0) {
        node_call_failf(call, SHL_ENOTFOUND, "there is no node \"%.64s\"", call->id);
    } else if (search.found > 1) {
        node_call_failf(call, SHL_ECONFLICT,
                        "%u nodes have the name \"%.64s\": use the id of the one you mean",
                        search.found, call->id);
    }
    *ret = search.target;
    return search.found == 1;
}

/* Orders */

struct node_ordering {
    struct node_call *call;
    struct node_target target;
    int value;
    node_ordered_cb reply;
};

struct node_ordering *node_ordering_new(struct node_call *call,
                                        const struct node_target *target,
                                        int value,
                                        node_ordered_cb reply)
{
    struct node_ordering *ordering = calloc(1, sizeof(*ordering));

    if (!ordering) {
        node_call_fail(call, -ENOMEM, NULL);
        return NULL;
    }
    ordering->call = node_call_ref(call);
    ordering->target = target ? *target : (struct node_target){.is_local = true};
    ordering->value = value;
    ordering->reply = reply;
    return ordering;
}

void node_ordering_done(void *arg, const struct node_order *outcome)
{
    struct node_ordering *ordering = arg;

    if (outcome->code < 0) {
        node_call_fail(ordering->call, outcome->code, outcome->msg);
    } else if (node_call_is_open(ordering->call)) {
        ordering->reply(ordering->call, &ordering->target, ordering->value, outcome);
    }
    node_call_unref(ordering->call);
    free(ordering);
}
