/* Many seeds over several processes. The seeds are split by number, so what is found does
 * not depend on how many processes there are. Only the program and its tests use this;
 * the simulation itself knows no processes and no clock.
 */
#ifndef SHL_SIM_CAMPAIGN_H
#define SHL_SIM_CAMPAIGN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_JOBS_MAX 64

struct sim_campaign {
    uint64_t first, last; /* seeds, both included */
    uint32_t nodes;       /* 0: drawn */
    uint32_t seconds;     /* 0: drawn */
    uint32_t mutation;    /* 0: none */
    uint32_t jobs;        /* 0: one per CPU */
    uint32_t twice;       /* run each such seed twice; 0 none */
    bool keep_going;      /* do not end at the first violation */
};

/* Prints violations as they come and a summary. Returns the number of seeds that failed. */
uint64_t sim_campaign_run(const struct sim_campaign *campaign, FILE *out);

#endif /* SHL_SIM_CAMPAIGN_H */
