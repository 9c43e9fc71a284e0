#include "sim/net.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sim_net_init(struct sim_net *net,
                  struct sim_heap *heap,
                  uint32_t event_kind,
                  uint32_t count,
                  uint64_t seed)
{
    assert(count > 0 && count <= SIM_NET_NODES_MAX);
    *net = (struct sim_net){.heap = heap, .event_kind = event_kind, .count = count};
    net->links = calloc((size_t)count * count, sizeof(*net->links));
    net->rng = calloc(count, sizeof(*net->rng));
    assert(net->links && net->rng);
    for (uint32_t i = 0; i < count; i++) {
        sim_rng_split(&net->rng[i], seed, SIM_SUBJECT_NET, i);
    }
    net->delay_mean_us = 300;
    net->delay_min_us = 100;
}

static void drop_held(struct sim_link *link)
{
    for (uint32_t i = 0; i < link->held_count; i++) {
        sim_msg_unref(link->held[i]);
    }
    link->held_count = 0;
}

void sim_net_release(struct sim_net *net)
{
    for (size_t i = 0; i < (size_t)net->count * net->count; i++) {
        drop_held(&net->links[i]);
        free(net->links[i].held);
    }
    free(net->links);
    free(net->rng);
    *net = (struct sim_net){0};
}

struct sim_msg *sim_msg_new(uint32_t kind, uint64_t tag, const void *data, size_t len)
{
    struct sim_msg *msg = malloc(sizeof(*msg) + len);

    assert(msg && len <= UINT32_MAX);
    *msg = (struct sim_msg){.refs = 1, .kind = kind, .tag = tag, .len = (uint32_t)len};
    if (len) {
        memcpy(msg->data, data, len);
    }
    return msg;
}

void sim_msg_unref(struct sim_msg *msg)
{
    if (msg && --msg->refs == 0) {
        free(msg);
    }
}

/* Onto the link in order. Takes over one reference. */
static void plan(struct sim_net *net, uint64_t now_us, struct sim_link *link, struct sim_msg *msg)
{
    uint64_t delay =
        net->delay_min_us + link->slow_us + sim_rng_exp(&net->rng[msg->from], net->delay_mean_us);
    uint64_t at = 0;

    if (net->delay_extra_us > 0) {
        delay += sim_rng_exp(&net->rng[msg->from], net->delay_extra_us);
    }
    at = now_us + delay;

    if (at < link->clog_us) {
        at = link->clog_us;
    }
    if (at < link->fifo_us) {
        at = link->fifo_us;
    }
    link->fifo_us = at;
    link->under_way++;
    sim_heap_push(net->heap, (struct sim_event){.at_us = at,
                                                .kind = net->event_kind,
                                                .node = msg->to,
                                                .a = msg->epoch,
                                                .ptr = msg});
}

void sim_net_send(struct sim_net *net,
                  uint64_t now_us,
                  uint32_t from,
                  uint32_t to,
                  struct sim_msg *msg)
{
    struct sim_link *link = sim_net_link(net, from, to);

    assert(from < net->count && to < net->count && from != to);
    net->sent++;
    if (link->under_way + link->held_count >= SIM_NET_QUEUE_MAX) {
        net->refused++;
        sim_msg_unref(msg);
        return;
    }
    if (sim_rng_chance(&net->rng[from], link->loss_ppm)) {
        net->lost++;
        sim_msg_unref(msg);
        return;
    }
    msg->from = from;
    msg->to = to;
    msg->epoch = link->epoch;
    if (!msg->once && sim_rng_chance(&net->rng[from], link->dup_ppm)) {
        net->duplicated++;
        msg->refs++;
        plan(net, now_us, link, msg);
    }
    plan(net, now_us, link, msg);
}

static void hold(struct sim_link *link, struct sim_msg *msg)
{
    if (!link->held) {
        link->held = calloc(SIM_NET_QUEUE_MAX, sizeof(struct sim_msg *));
        assert(link->held);
    }
    assert(link->held_count < SIM_NET_QUEUE_MAX);
    link->held[link->held_count++] = msg;
}

struct sim_msg *sim_net_arrive(struct sim_net *net, uint64_t now_us, const struct sim_event *event)
{
    struct sim_msg *msg = event->ptr;
    struct sim_link *link = sim_net_link(net, msg->from, msg->to);

    (void)now_us;
    link->under_way--;
    if (link->cuts > 0) {
        /* Two copies of one message may lie here, so the room is checked again. */
        if (link->hold && link->held_count < SIM_NET_QUEUE_MAX) {
            hold(link, msg);
            return NULL;
        }
        net->lost++;
        sim_msg_unref(msg);
        return NULL;
    }
    /* The connection it travelled on is gone: a coin decides whether the kernel of the
     * receiver had it already. */
    if ((uint32_t)event->a != link->epoch && sim_rng_below(&net->rng[msg->from], 2) == 0) {
        net->lost++;
        sim_msg_unref(msg);
        return NULL;
    }
    net->delivered++;
    return msg;
}

void sim_net_cut(struct sim_net *net, uint32_t from, uint32_t to, bool hold_messages)
{
    struct sim_link *link = sim_net_link(net, from, to);

    if (from == to) {
        return;
    }
    if (link->cuts++ == 0) {
        link->hold = hold_messages;
    }
}

static void let_go(struct sim_net *net, uint64_t now_us, struct sim_link *link)
{
    uint32_t count = link->held_count;

    link->held_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        plan(net, now_us, link, link->held[i]);
    }
}

void sim_net_mend(struct sim_net *net, uint64_t now_us, uint32_t from, uint32_t to)
{
    struct sim_link *link = sim_net_link(net, from, to);

    if (from == to || link->cuts == 0) {
        return;
    }
    if (--link->cuts == 0) {
        let_go(net, now_us, link);
    }
}

void sim_net_reset(struct sim_net *net, uint32_t from, uint32_t to)
{
    struct sim_link *link = sim_net_link(net, from, to);

    if (from == to) {
        return;
    }
    link->epoch++;
    link->fifo_us = 0; /* the new connection does not wait for the old one */
    drop_held(link);
}

void sim_net_ended(struct sim_net *net, uint32_t from)
{
    for (uint32_t to = 0; to < net->count; to++) {
        drop_held(sim_net_link(net, from, to));
    }
}

void sim_net_heal(struct sim_net *net, uint64_t now_us)
{
    for (size_t i = 0; i < (size_t)net->count * net->count; i++) {
        struct sim_link *link = &net->links[i];

        link->cuts = 0;
        link->loss_ppm = 0;
        link->dup_ppm = 0;
        link->slow_us = 0;
        link->clog_us = 0;
        let_go(net, now_us, link);
    }
}
