/* Shrinker: the smallest schedule that still fails.
 *
 * Drops whole fault classes, halves the horizon, takes nodes away, and then removes
 * single faults by delta debugging (ddmin), repeating until a round changes nothing. The
 * question "does it still fail" is the caller's: it runs the schedule, so tests can ask
 * something cheaper.
 */
#ifndef SHL_SIM_SHRINK_H
#define SHL_SIM_SHRINK_H

#include <stdbool.h>

#include "sim/fault.h"

/* True when the run of @schedule fails in the way that is looked for. */
typedef bool (*sim_shrink_fails)(const struct sim_schedule *schedule, void *arg);

struct sim_shrink_stats {
    unsigned runs;
    unsigned runs_max; /* set by the caller: no more questions than this */
};

/* @schedule must fail; it is replaced by the smallest failing one found. */
void sim_shrink(struct sim_schedule *schedule,
                sim_shrink_fails fails,
                void *arg,
                struct sim_shrink_stats *stats);

#endif /* SHL_SIM_SHRINK_H */
