/* Known bugs that can be put back, to prove that the simulator would find them. */
#ifndef SHL_SIM_MUTATE_H
#define SHL_SIM_MUTATE_H

#include <stddef.h>
#include <stdint.h>

struct sim_mutation {
    const char *name; /* "" for none */
    const char *text;
    uint32_t raft;   /* enum sched_raft_mutation */
    uint32_t sched;  /* enum sched_mutation */
    uint32_t gossip; /* enum gossip_mutation */
    uint32_t seeds;  /* of the normal run, within which it must be found */
};

/* Numbers are 1 .. count; 0 is no mutation. */
size_t sim_mutation_count(void);
const struct sim_mutation *sim_mutation_get(size_t number);
/* Number of @name, or -EINVAL. */
int sim_mutation_parse(const char *name);

#endif /* SHL_SIM_MUTATE_H */
