/* Cluster time: the time that a leader stamps on commands. It starts at the wall clock or
 * at the state's time, whichever is later, and goes on with the leader's monotonic clock,
 * so a step of a wall clock while somebody leads does nothing, and expiry keeps its pace
 * even when a former leader's clock was ahead. Safety never depends on it. Pure. */
#ifndef SHL_SCHEDULER_CLUSTER_TIME_H
#define SHL_SCHEDULER_CLUSTER_TIME_H

#include <stdint.h>

struct sched_cluster_time {
    uint64_t base_ms;
    uint64_t since_mono_ms;
};

/* At election; @state_ms is sched_state_time_ms once all earlier entries are applied. */
static inline void sched_cluster_time_start(struct sched_cluster_time *t,
                                            uint64_t state_ms,
                                            uint64_t wall_ms,
                                            uint64_t mono_ms)
{
    t->base_ms = wall_ms > state_ms ? wall_ms : state_ms;
    t->since_mono_ms = mono_ms;
}

static inline uint64_t sched_cluster_time_now(const struct sched_cluster_time *t, uint64_t mono_ms)
{
    return mono_ms > t->since_mono_ms ? t->base_ms + (mono_ms - t->since_mono_ms) : t->base_ms;
}

#endif /* SHL_SCHEDULER_CLUSTER_TIME_H */
