/* Random numbers of the simulator: xoshiro256** seeded through splitmix64.
 *
 * Each node and each subject (network, disk, faults, workload, ...) has a stream of
 * its own split from the seed, so a further fault or node does not reshuffle what the
 * others draw. Not for secrets.
 */
#ifndef SHL_SIM_RNG_H
#define SHL_SIM_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_rng {
    uint64_t s[4];
};

enum sim_subject {
    SIM_SUBJECT_SETUP,
    SIM_SUBJECT_FAULTS,
    SIM_SUBJECT_WORKLOAD,
    SIM_SUBJECT_NET,
    SIM_SUBJECT_DISK,
    SIM_SUBJECT_CLOCK,
    SIM_SUBJECT_NODE, /* what the node's own code draws: ids, seeds of the cores */
};

/* One step of splitmix64 as a hash. */
uint64_t sim_mix(uint64_t x);

void sim_rng_init(struct sim_rng *rng, uint64_t seed);
/* The stream of @subject on @node of the run @seed. */
void sim_rng_split(struct sim_rng *rng, uint64_t seed, enum sim_subject subject, uint32_t node);

uint64_t sim_rng_next(struct sim_rng *rng);
/* 0 <= result < @n; @n must not be 0. */
uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n);
/* @lo <= result <= @hi. */
uint64_t sim_rng_range(struct sim_rng *rng, uint64_t lo, uint64_t hi);
/* True in @per_million of a million draws. Draws nothing for 0, so a fault that is off
 * leaves the stream alone. */
bool sim_rng_chance(struct sim_rng *rng, uint32_t per_million);
/* Exponential with @mean, cut at 20 times the mean; integer arithmetic and a table, so
 * the result does not depend on a math library. */
uint64_t sim_rng_exp(struct sim_rng *rng, uint64_t mean);
void sim_rng_fill(struct sim_rng *rng, void *dst, size_t len);

#endif /* SHL_SIM_RNG_H */
