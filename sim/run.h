/* One run of a schedule from beginning to end, and what came of it. */
#ifndef SHL_SIM_RUN_H
#define SHL_SIM_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/fault.h"

#define SIM_RESULT_SECONDS 256
#define SIM_RESULT_TABLE   1280

struct sim_result {
    int invariant; /* number of the broken one, 0: all held */
    char text[256];
    uint64_t at_us; /* virtual time of the end */
    uint64_t events;
    uint64_t digest;
    uint64_t digest_at[SIM_RESULT_SECONDS]; /* at each virtual second */
    uint32_t seconds;
    uint64_t heal_us; /* from the end of the faults until one cluster again */
    uint64_t faults[SIM_FAULT_CLASSES];
    uint64_t calls_done, calls_refused, calls_unknown;
    uint64_t elections, claims, entries, sandboxes;
    uint64_t messages, lost, doubled;
    char table[SIM_RESULT_TABLE]; /* of a directed schedule that measures; text */
    uint64_t points, copies, repairs, trims, chunks, bad; /* promised; fetched; chunks asked for */
};

struct sim_world;
/* What has come of @world so far. */
void sim_result_of(const struct sim_world *world, struct sim_result *ret);

/* @trace may be NULL. */
void sim_run(const struct sim_schedule *schedule, FILE *trace, struct sim_result *ret);

/* Twice: false when the runs differ, and in @ret_second the first virtual second whose
 * digest does. */
bool sim_run_twice(const struct sim_schedule *schedule,
                   struct sim_result *ret,
                   uint32_t *ret_second);

#endif /* SHL_SIM_RUN_H */
