/* The object: the plan, its timer, its actions. */
#include "node/replica/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/replica/private.h"

/*- What the plan says. */

static struct node_replica_fetch *find_planned(struct node_replica *replica,
                                               const struct ckpt_id *manifest)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->fetches) {
        struct node_replica_fetch *fetch = shl_container_of(it, struct node_replica_fetch, link);

        if (fetch->is_planned && ckpt_id_equal(&fetch->manifest, manifest)) {
            return fetch;
        }
    }
    return NULL;
}

static void quarantine(struct node_replica *replica, const struct ckpt_fetch_action *act)
{
    char peer[SHL_NODE_ID_TEXT_SIZE], chunk[2 * CKPT_ID_BYTES + 1];

    replica->stats.quarantined++;
    shl_node_id_format(peer, &act->u.quarantine.peer);
    shl_hex_encode(chunk, act->u.quarantine.chunk.bytes, CKPT_ID_BYTES);
    SHL_LOG(replica->config.log, SHL_LOG_ERROR, "replica_wrong_bytes", SHL_S("peer", peer),
            SHL_S("chunk", chunk),
            SHL_S("reason", "the bytes it sent for a chunk are not those of the chunk's id"));
}

static void carry_out(struct node_replica *replica, const struct ckpt_fetch_action *act)
{
    struct node_replica_fetch *fetch;

    switch (act->type) {
    case CKPT_FETCH_ACT_CANCEL:
        replica_request_cancel(replica, act->u.cancel);
        return;
    case CKPT_FETCH_ACT_QUARANTINE:
        quarantine(replica, act);
        return;
    case CKPT_FETCH_ACT_REQUEST:
    case CKPT_FETCH_ACT_DONE:
    case CKPT_FETCH_ACT_FAILED:
        break;
    }
    fetch = find_planned(replica, &act->manifest);
    if (!fetch) {
        return; /* dropped by its user a moment ago */
    }
    if (act->type == CKPT_FETCH_ACT_REQUEST) {
        replica_request_begin(fetch, act);
    } else if (act->type == CKPT_FETCH_ACT_DONE) {
        replica_on_done(fetch, act);
    } else {
        replica_on_failed(fetch, act);
    }
}

/* Requests that could not be asked: no link to the peer, most often. */
static struct replica_request *find_unasked(struct node_replica *replica)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &replica->requests) {
        struct replica_request *request = shl_container_of(it, struct replica_request, link);

        if (!request->question && request->waiting == 0) {
            return request;
        }
    }
    return NULL;
}

int replica_step(struct node_replica *replica, struct ckpt_fetch_event *event)
{
    struct replica_request *unasked;
    uint32_t i;
    int rc;

    assert(!replica->is_stepping);
    replica->is_stepping = true;
    event->now_ms = uv_now(replica->loop);
    rc = ckpt_fetch_step(replica->plan, event, &replica->actions);
    for (i = 0; i < replica->actions.count; i++) {
        carry_out(replica, &replica->actions.items[i]);
    }
    replica->is_stepping = false;
    /* Each is a step of its own; the plan waits longer after each. */
    unasked = find_unasked(replica);
    if (unasked) {
        replica_request_settle(unasked);
    } else {
        replica_arm(replica);
    }
    return rc;
}

/*- Time. */

static void on_timer(uv_timer_t *timer)
{
    struct node_replica *replica = timer->data;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_TICK};
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &replica->fetches) {
        replica_fetch_tick(shl_container_of(it, struct node_replica_fetch, link),
                           uv_now(replica->loop));
    }
    (void)replica_step(replica, &event);
}

void replica_arm(struct node_replica *replica)
{
    uint64_t wake = replica->actions.wake_at_ms, now = uv_now(replica->loop);
    struct shl_list *it;

    if (replica->is_closing) {
        return;
    }
    SHL_LIST_FOREACH(it, &replica->fetches) {
        struct node_replica_fetch *fetch = shl_container_of(it, struct node_replica_fetch, link);

        if (fetch->state == REPLICA_ASKING) {
            wake = SHL_MIN(wake, fetch->ask_until_ms);
        }
    }
    if (wake == CKPT_FETCH_NEVER_MS) {
        (void)uv_timer_stop(&replica->timer);
    } else {
        (void)uv_timer_start(&replica->timer, on_timer, wake > now ? wake - now : 0, 0);
    }
}

/*- The object. */

int node_replica_open(uv_loop_t *loop,
                      const struct node_replica_config *config,
                      struct node_replica **ret,
                      struct shl_err *err)
{
    struct node_replica *replica = calloc(1, sizeof(*replica));
    int rc = replica ? ckpt_fetch_new(&config->fetch, &replica->plan) : -ENOMEM;

    if (rc < 0) {
        free(replica);
        return shl_err_set(err, rc, "cannot fetch checkpoints: %s", shl_err_text(rc));
    }
    replica->loop = loop;
    replica->config = *config;
    if (replica->config.manifest_ms == 0) {
        replica->config.manifest_ms = NODE_REPLICA_MANIFEST_MS;
    }
    replica->actions.wake_at_ms = CKPT_FETCH_NEVER_MS;
    shl_list_init(&replica->fetches);
    shl_list_init(&replica->requests);
    shl_list_init(&replica->questions);
    (void)uv_timer_init(loop, &replica->timer);
    (void)uv_idle_init(loop, &replica->soon);
    replica->timer.data = replica->soon.data = replica;
    replica->handles = 2;
    replica->put_count = SHL_MIN(uv_available_parallelism(), REPLICA_PUTS_MAX);
    *ret = replica;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct node_replica *replica = handle->data;
    void (*closed)(void *arg) = replica->closed;
    void *arg = replica->closed_arg;
    uint32_t i;

    if (--replica->handles > 0) {
        return;
    }
    for (i = 0; i < REPLICA_PUTS_MAX; i++) {
        assert(!replica->puts[i].fetch);
        ckpt_checker_free(replica->puts[i].checker);
    }
    assert(shl_list_empty(&replica->requests) && replica->stats.held_bytes == 0);
    ckpt_fetch_free(replica->plan);
    free(replica);
    if (closed) {
        closed(arg);
    }
}

void replica_consider_closed(struct node_replica *replica)
{
    if (replica->is_closing && shl_list_empty(&replica->fetches) &&
        shl_list_empty(&replica->questions) && !uv_is_closing((uv_handle_t *)&replica->timer)) {
        uv_close((uv_handle_t *)&replica->timer, on_handle_closed);
        uv_close((uv_handle_t *)&replica->soon, on_handle_closed);
    }
}

void node_replica_close(struct node_replica *replica, void (*closed)(void *arg), void *arg)
{
    struct shl_list *it, *tmp;

    assert(!replica->is_closing);
    replica->is_closing = true;
    replica->closed = closed;
    replica->closed_arg = arg;
    SHL_LIST_FOREACH_SAFE(it, tmp, &replica->fetches) {
        replica_end(shl_container_of(it, struct node_replica_fetch, link), SHL_EUNAVAILABLE,
                    "this node is stopping");
    }
    replica_consider_closed(replica);
}

void node_replica_node_lost(struct node_replica *replica, const struct shl_node_id *node)
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_HOLDER_LOST};

    event.u.lost.node = *node;
    (void)replica_step(replica, &event);
}

int node_replica_set_rates(struct node_replica *replica,
                           const uint64_t rates[CKPT_FETCH_CLASS_COUNT])
{
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_RATES};

    memcpy(event.u.rates, rates, sizeof(event.u.rates));
    return replica_step(replica, &event);
}

void node_replica_stats(const struct node_replica *replica, struct node_replica_stats *ret)
{
    *ret = replica->stats;
    ckpt_fetch_stats(replica->plan, &ret->fetch);
}
