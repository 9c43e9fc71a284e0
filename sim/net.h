/* Network between the simulated nodes.
 *
 * Each ordered pair of nodes is a link that carries messages in order, as a ZeroMQ
 * connection does. Order breaks only across a reconnect: a reset loses some of what is
 * under way and lets the rest arrive behind messages of the new connection. A cut link
 * either loses what is sent (half-open) or holds it until the cut ends, drawn for each
 * cut, so that very old messages arrive after a partition. Loss, duplication, delay and
 * clogging are settings of a link.
 *
 * The net pushes its own events into the heap of the world and takes them back through
 * sim_net_arrive. Messages are reference counted and belong to the net until handed over.
 */
#ifndef SHL_SIM_NET_H
#define SHL_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/heap.h"
#include "sim/rng.h"

#define SIM_NET_NODES_MAX 1024
/* Messages under way or held on one link; more are dropped, as at a high-water mark. */
#define SIM_NET_QUEUE_MAX 256

struct sim_msg {
    uint32_t refs;
    uint32_t from;
    uint32_t to;
    uint32_t epoch; /* connection of the link it was sent on */
    uint32_t kind;  /* the nodes' business */
    uint32_t len;
    bool once;      /* the net does not double it */
    uint64_t tag;   /* the nodes' business */
    uint64_t stamp; /* boot of the sending node */
    uint8_t data[]; /* @len bytes */
};

struct sim_link {
    uint64_t fifo_us;    /* the last arrival planned: the next is not before */
    uint64_t clog_us;    /* nothing arrives before this time */
    uint32_t epoch;      /* counts connections */
    uint32_t cuts;       /* how many faults cut it right now */
    uint32_t loss_ppm;   /* of a message */
    uint32_t dup_ppm;    /* of a message */
    uint32_t slow_us;    /* added to each delay */
    uint16_t under_way;  /* messages in the heap */
    uint16_t held_count; /* messages waiting for the end of the cut */
    bool hold;           /* a cut holds instead of losing */
    struct sim_msg **held;
};

struct sim_net {
    struct sim_heap *heap; /* the world's */
    uint32_t event_kind;   /* of the events the net pushes */
    uint32_t count;
    struct sim_link *links;  /* count * count, [from * count + to] */
    struct sim_rng *rng;     /* one stream per sender */
    uint32_t delay_mean_us;  /* exponential part */
    uint32_t delay_min_us;   /* constant part */
    uint32_t delay_extra_us; /* a fault: mean of a second exponential part */
    uint64_t sent;           /* counters of the run */
    uint64_t delivered;
    uint64_t lost;
    uint64_t duplicated;
    uint64_t refused; /* queue full */
};

void sim_net_init(struct sim_net *net,
                  struct sim_heap *heap,
                  uint32_t event_kind,
                  uint32_t count,
                  uint64_t seed);
/* Messages inside the heap are given back by the owner of the heap (sim_msg_unref). */
void sim_net_release(struct sim_net *net);

struct sim_msg *sim_msg_new(uint32_t kind, uint64_t tag, const void *data, size_t len);
void sim_msg_unref(struct sim_msg *msg);

/* Takes @msg over in every case. */
void sim_net_send(struct sim_net *net,
                  uint64_t now_us,
                  uint32_t from,
                  uint32_t to,
                  struct sim_msg *msg);

/* An event of the net. Returns the message when it reaches its node now (the caller
 * unrefs), NULL when it was lost or held. */
struct sim_msg *sim_net_arrive(struct sim_net *net, uint64_t now_us, const struct sim_event *event);

static inline struct sim_link *sim_net_link(struct sim_net *net, uint32_t from, uint32_t to)
{
    return &net->links[from * net->count + to];
}

/* Cuts nest. The first cut decides whether the link holds or loses. */
void sim_net_cut(struct sim_net *net, uint32_t from, uint32_t to, bool hold);
/* The last mend lets held messages go, in order. */
void sim_net_mend(struct sim_net *net, uint64_t now_us, uint32_t from, uint32_t to);
void sim_net_reset(struct sim_net *net, uint32_t from, uint32_t to);
/* The process of @from ended: what its links hold was in its memory. */
void sim_net_ended(struct sim_net *net, uint32_t from);
/* End of every fault; held messages go. */
void sim_net_heal(struct sim_net *net, uint64_t now_us);
static inline bool sim_net_is_cut(const struct sim_net *net, uint32_t from, uint32_t to)
{
    return net->links[from * net->count + to].cuts > 0;
}

#endif /* SHL_SIM_NET_H */
