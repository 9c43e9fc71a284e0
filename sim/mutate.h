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
    SIM_MUT_COPY_SKIPPED = 1u << 6,     /* a newer point is passed over though it has copies */
    SIM_MUT_FETCH_UNVERIFIED = 1u << 7, /* what a holder sends is stored as it comes */
    SIM_MUT_RESUME_DROPS = 1u << 8,     /* a transfer begins anew, whatever is there */
    SIM_MUT_RETIRE_EARLY = 1u << 9,     /* an older point goes once a newer one is listed */
    SIM_MUT_RETIRE_CHAIN = 1u << 12,    /* a point that goes itself replaces older ones */
    SIM_MUT_DROP_UNASKED = 1u << 11,    /* what the own state does not list is dropped */
    SIM_MUT_ROT_SAYS_YES = 1u << 10,    /* a copy that is known to be damaged counts as one */
};

struct sim_mutation {
    const char *name; /* "" for none */
    const char *text;
    uint32_t raft;        /* enum sched_raft_mutation */
    uint32_t sched;       /* enum sched_mutation */
    uint32_t gossip;      /* enum gossip_mutation */
    uint32_t ckpt;        /* enum ckpt_mutation */
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
