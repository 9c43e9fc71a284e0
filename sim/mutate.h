/* Known bugs that can be put back, to prove that the simulator would find them. */
#ifndef SHL_SIM_MUTATE_H
#define SHL_SIM_MUTATE_H

#include <stddef.h>
#include <stdint.h>

enum sim_mutation_bits {
    SIM_MUT_LEASE_LATE = 1u << 0,       /* renewals under way do not hold claims back */
    SIM_MUT_GRANT_EARLY = 1u << 1,      /* a renewal counts before the log is applied to it */
    SIM_MUT_TAKEOVER_STALE = 1u << 2,   /* an old state decides that a node was removed */
    SIM_MUT_INCARNATION_LOST = 1u << 3, /* the incarnation is not stored */
    SIM_MUT_READ_LOCAL = 1u << 4,       /* strong reads are answered from the local state */
    SIM_MUT_COPY_OLD = 1u << 5,         /* a claimed copy is not compared with the catalogue */
};

struct sim_mutation {
    const char *name; /* "" for none */
    const char *text;
    uint32_t raft;        /* enum sched_raft_mutation */
    uint32_t sched;       /* enum sched_mutation */
    uint32_t gossip;      /* enum gossip_mutation */
    uint32_t sim;         /* enum sim_mutation_bits: mistakes of the glue between the cores */
    const char *directed; /* the directed schedule that finds it, NULL: seeds do */
    uint32_t seeds;       /* of the normal run, the first so many: it must be found in them; 0 with
                           * a directed schedule, or where it is not demanded */
};

/* Numbers are 1 .. count; 0 is no mutation. */
size_t sim_mutation_count(void);
const struct sim_mutation *sim_mutation_get(size_t number);
/* Number of @name, or -EINVAL. */
int sim_mutation_parse(const char *name);

#endif /* SHL_SIM_MUTATE_H */
