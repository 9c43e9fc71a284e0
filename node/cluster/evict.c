/* What runs on this node goes on elsewhere: `shoal node drain --move`, POST
 * /admin/workers/:id/evict. One sandbox after the other, EVICT_AT_ONCE at a time; one that
 * cannot be moved stays and is tried once more after all others. Hibernated ones are left: where
 * their data have a copy, their next call wakes them on another node.
 *
 * Nothing of this is durable: a node that restarts is to be asked again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/cluster/owners_private.h"

#define EVICT_AT_ONCE 2
#define EVICT_TRIES   2

struct search {
    struct cluster *cluster;
    struct node_sandbox *found;
    uint8_t tries;
};

struct eviction {
    struct cluster *cluster;
    char sandbox[NODE_SANDBOX_ID_SIZE];
};

static bool find(void *arg, struct node_sandbox *sandbox)
{
    struct search *search = arg;
    struct owned *o;

    if (sandbox->state != NODE_SANDBOX_RUNNING) {
        return true;
    }
    o = owned_find_or_add(search->cluster->owners, sandbox->id);
    if (!o || o->is_moving || o->evict_tries != search->tries) {
        return true;
    }
    search->found = sandbox;
    return false;
}

static void on_moved(void *arg, const struct node_order *order)
{
    struct eviction *eviction = arg;
    struct cluster *c = eviction->cluster;

    if (order->code == 0) {
        c->evicted++;
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "sandbox_moved", SHL_S("sandbox", eviction->sandbox));
    }
    free(eviction);
}

static bool move_one(struct cluster *c, struct node_sandbox *sandbox)
{
    struct eviction *eviction = calloc(1, sizeof(*eviction));
    struct owned *o = owned_find(c->owners, sandbox->id);
    struct node_answer answer = {0};
    struct node_order order;

    if (!eviction || !o) {
        free(eviction);
        return false;
    }
    o->evict_tries++;
    eviction->cluster = c;
    (void)snprintf(eviction->sandbox, sizeof(eviction->sandbox), "%s", sandbox->id);
    cluster_candidates(c, NULL, &c->keys.id, &answer);
    if (answer.target_count == 0) {
        order = cluster_order_of(SHL_ENOCAPACITY, "no other node can take it");
    } else if (cluster_move(c, sandbox, &answer.targets[0], &order, on_moved, eviction) == 0) {
        return true;
    }
    SHL_LOG(&c->log_sink, SHL_LOG_WARN, "sandbox_not_moved", SHL_S("sandbox", sandbox->id),
            SHL_S("error", order.msg));
    free(eviction);
    return true;
}

void cluster_evict_tick(struct cluster *c)
{
    uint8_t tries;

    while (c->is_evicting && !c->is_closing && c->move_count < EVICT_AT_ONCE) {
        struct search search = {.cluster = c};

        for (tries = 0; tries < EVICT_TRIES && !search.found; tries++) {
            search.tries = tries;
            node_manager_each(c->manager, NULL, find, &search);
        }
        if (!search.found) {
            c->is_evicting = c->move_count > 0;
            if (!c->is_evicting) {
                SHL_LOG(&c->log_sink, SHL_LOG_INFO, "evicted", SHL_I("moved", c->evicted));
            }
            return;
        }
        if (!move_one(c, search.found)) {
            return; /* at the next tick again */
        }
    }
}

static void begin(struct cluster *c)
{
    size_t i;

    for (i = 0; i < OWNERS_BUCKETS; i++) {
        struct shl_list *it;

        SHL_LIST_FOREACH(it, &c->owners->buckets[i]) {
            shl_container_of(it, struct owned, link)->evict_tries = 0;
        }
    }
    c->is_evicting = true;
    c->evicted = 0;
}

/* ---- asked by another node -------------------------------------------------------- */

static void on_evict(void *arg,
                     struct node_mesh_call *call,
                     const struct shl_node_id *from,
                     struct shl_bytes body)
{
    (void)from;
    (void)body;
    begin(arg);
    node_mesh_reply(call, 0, NULL, shl_bytes_of(NULL, 0));
}

struct asked {
    node_order_cb cb;
    void *arg;
};

static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct asked *asked = arg;
    struct node_order order = cluster_order_of(code == -ETIMEDOUT ? SHL_EUNAVAILABLE : code, msg);

    (void)body;
    asked->cb(asked->arg, &order);
    free(asked);
}

int cluster_evict(struct cluster *c,
                  const struct node_target *node,
                  struct node_order *ret,
                  node_order_cb cb,
                  void *arg)
{
    struct shl_err err = {0};
    struct asked *asked;

    if (node->is_local) {
        begin(c);
        *ret = cluster_order_of(0, "");
        return 1;
    }
    asked = malloc(sizeof(*asked));
    if (!asked) {
        *ret = cluster_order_of(-ENOMEM, "");
        return 1;
    }
    *asked = (struct asked){cb, arg};
    if (node_mesh_ask(c->mesh, &node->id, CLUSTER_RPC_EVICT, shl_bytes_of(NULL, 0),
                      cluster_patience_ms(c, CLUSTER_ASK_MS), on_answer, asked, NULL, &err) < 0) {
        *ret = cluster_order_of(err.code, err.msg);
        free(asked);
        return 1;
    }
    return 0;
}

void cluster_evict_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_EVICT, 0, on_evict, c);
}
