/* The simulated world: nodes with the real cores, a network, clients, faults, and the
 * checks that watch them. One thread, one heap of events, virtual microseconds.
 *
 * A run is a function of its schedule (sim/fault.h): the same schedule gives the same
 * events, byte for byte, which the digest proves.
 *
 *     set up -> faults and clients ... -> heal everything -> converge (or fail) -> probe
 *
 * Everything in here is owned by the world and freed by sim_world_release.
 */
#ifndef SHL_SIM_WORLD_H
#define SHL_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "checkpoint/fetch.h"
#include "checkpoint/replica_plan.h"
#include "sim/check.h"
#include "sim/client.h"
#include "sim/fault.h"
#include "sim/heap.h"
#include "sim/mutate.h"
#include "sim/net.h"
#include "sim/node.h"
#include "sim/rng.h"

#define SIM_SETTLE_US (2u * SIM_SECOND) /* forming the cluster, before the first fault */

enum sim_event_kind {
    SIM_EV_NET,         /* a message arrives */
    SIM_EV_WAKE,        /* a node's timer */
    SIM_EV_SYNC,        /* a sync of a node's disk is complete */
    SIM_EV_BOOT,        /* a node starts */
    SIM_EV_CALL,        /* a client's request reaches its entry node; a: attempt */
    SIM_EV_CLIENT,      /* a client acts or gives up waiting; a: attempt */
    SIM_EV_LINK,        /* a node learns how its connection to node a is */
    SIM_EV_CAMPAIGN,    /* a node stands for election now */
    SIM_EV_CUT,         /* power cut of a node in the middle of a write; a: boot */
    SIM_EV_FAULT_BEGIN, /* a: number in the schedule */
    SIM_EV_FAULT_END,
    SIM_EV_SECOND, /* checkpoint of the digest, checks of every second */
    SIM_EV_HEAL,
    SIM_EV_KINDS
};

enum sim_phase {
    SIM_PHASE_FAULTS,
    SIM_PHASE_CONVERGE, /* healed; must become one again */
    SIM_PHASE_PROBE,    /* every promise is asked for */
    SIM_PHASE_DONE
};

/* Settings of a run that are drawn from the seed. */
struct sim_tuning {
    uint32_t lease_ms;
    uint32_t sync_us; /* mean time of a sync */
    bool slow_gossip; /* timings of production instead of quarter ones */
    bool links_told;  /* nodes hear of broken connections */
    uint32_t snapshot_entries;
    uint32_t chunk_bytes;
    uint32_t msg_entries;
    uint32_t inflight;
    uint32_t voters_stable_ms;
    uint32_t voters_dead_ms;
    uint32_t memory_mb;   /* of each node */
    uint32_t autosave_ms; /* of sandboxes that want to be restored */
    uint32_t copies;      /* that are wanted of a point */
    uint32_t grace_ms;    /* before the copies of a dead node are made again */
    uint32_t clients;
    uint32_t think_us;
};

struct sim_world {
    struct sim_heap heap;
    struct sim_net net;
    uint64_t now_us;
    const struct sim_schedule *schedule; /* borrowed */
    struct sim_tuning tuning;
    struct sim_rng setup_rng;
    struct sim_rng fault_rng;
    struct sim_mutation mutate;
    enum sim_phase phase;
    uint64_t healed_us;
    uint64_t converged_us; /* one cluster again */
    bool quiet;            /* no new points: what is under way comes to its end */
    uint64_t quiet_us;     /* since when */

    struct sim_node *nodes; /* schedule->nodes + schedule->spares of them */
    uint32_t node_count;
    uint32_t next_spare;
    bool formed;                      /* the first node made the cluster */
    uint64_t lost_voters;             /* set of nodes whose disk is gone, or that were removed */
    uint8_t isolated[SIM_FAULTS_MAX]; /* per fault: the leader it met plus 1 */

    struct sim_clients clients;
    struct sim_check check;

    uint64_t digest;
    uint64_t *digest_at; /* per virtual second */
    uint32_t digest_seconds;
    uint32_t digest_cap;
    uint64_t events;
    uint64_t fault_count[SIM_FAULT_CLASSES]; /* that took place */
    FILE *trace;                             /* NULL: none */

    struct sched_view scratch_views[SCHED_NODES_MAX]; /* too large for a stack */
    struct sched_placement scratch_placement;
    struct ckpt_plan_actions scratch_plan;
    struct ckpt_fetch_actions scratch_fetch;
    struct ckpt_plan_entry *view_entries; /* of the view of a planner; heap */
    struct shl_node_id *view_holders;
    size_t view_cap;

    /* Filled by directed schedules. */
    bool no_clients;
    uint64_t event_max; /* a run with more is stuck */
};

/* @trace may be NULL. @schedule outlives the world. */
void sim_world_init(struct sim_world *world, const struct sim_schedule *schedule, FILE *trace);
void sim_world_release(struct sim_world *world);

/* Handle the next event. False when the run is over (done, failed, or out of time). */
bool sim_world_step(struct sim_world *world);
/* Until @until_us or the end of the run; false when the run is over. */
bool sim_world_run_until(struct sim_world *world, uint64_t until_us);

/* At most one event per (kind, node, a) matters to the nodes; the heap keeps order. */
void sim_world_push(struct sim_world *world,
                    uint64_t at_us,
                    enum sim_event_kind kind,
                    uint32_t node,
                    uint64_t a);

/* Faults, also by hand from directed schedules. */
void sim_world_fault_begin(struct sim_world *world, const struct sim_fault *fault);
void sim_world_fault_end(struct sim_world *world, const struct sim_fault *fault);
void sim_world_heal(struct sim_world *world);
/* Node that leads in the highest term, or -1. */
int sim_world_leader(const struct sim_world *world);
/* Each pair with one node in @set and one outside. */
void sim_world_split(struct sim_world *world, uint64_t set, bool hold);
void sim_world_join(struct sim_world *world, uint64_t set);

void sim_trace(struct sim_world *world, int node, const char *fmt, ...) SHL_PRINTF(3, 4);
#define SIM_TRACE(world, node, ...)                       \
    do {                                                  \
        if ((world)->trace) {                             \
            sim_trace((world), (int)(node), __VA_ARGS__); \
        }                                                 \
    } while (0)

#endif /* SHL_SIM_WORLD_H */
