/* Directed schedules: situations that chance meets too seldom, or that must end in a
 * certain way, not only without a violation. Each runs the same world and the same checks
 * as a seed does.
 */
#ifndef SHL_SIM_DIRECTED_H
#define SHL_SIM_DIRECTED_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/run.h"

struct sim_directed {
    const char *name;
    const char *text; /* one sentence: what must hold */
    void (*run)(uint32_t mutation, FILE *trace, struct sim_result *ret);
};

size_t sim_directed_count(void);
const struct sim_directed *sim_directed_get(size_t i);
/* NULL when there is none of that name. */
const struct sim_directed *sim_directed_find(const char *name);

#endif /* SHL_SIM_DIRECTED_H */
