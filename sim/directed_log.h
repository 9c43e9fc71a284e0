/* Logs that are on the disks before a directed schedule begins. */
#ifndef SHL_SIM_DIRECTED_LOG_H
#define SHL_SIM_DIRECTED_LOG_H

#include <stdint.h>

struct sim_world;

/* The first @count nodes are voters and members, by entries that all of them have; behind
 * these each has one entry for every number in its row of @terms (0 ends it) of that term.
 * All know of @term. Returns the index of the first such entry. */
uint64_t sim_directed_logs(struct sim_world *world,
                           const uint8_t (*terms)[13],
                           uint32_t count,
                           uint64_t term);

#endif /* SHL_SIM_DIRECTED_LOG_H */
