/* Some nodes with their holding cores, one log, one leader with its leases, and a witness that
 * sees who executes what. One clock; orders, answers and entries are delayed, doubled and
 * lost; daemons die and return, VMs stay; records are durable only once saved. */
#ifndef SHL_TESTS_SCHEDULER_HOLD_WORLD_H
#define SHL_TESTS_SCHEDULER_HOLD_WORLD_H

#include <stdbool.h>
#include <stdint.h>

struct hold_world_result {
    const char *broken; /* NULL: all held */
    char text[200];
    uint64_t step;
    uint64_t wakes, allowed, refused, claims, paused, went_on, let_go, deleted, saves, orders;
};

/* A run of @steps random steps, then everything heals; after that every sandbox that was not
 * deleted must wake somewhere. @mutations: enum sched_mutation. */
void hold_world_run(uint64_t seed,
                    uint32_t steps,
                    uint32_t mutations,
                    struct hold_world_result *ret);

#endif /* SHL_TESTS_SCHEDULER_HOLD_WORLD_H */
