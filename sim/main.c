#include <stdio.h>
#include <stdlib.h>

#include "sim/run.h"
int main(int argc, char **argv)
{
    uint64_t a = strtoull(argv[1], 0, 10), b = argc > 2 ? strtoull(argv[2], 0, 10) : a;
    struct sim_result *r = malloc(sizeof(*r));
    for (uint64_t s = a; s <= b; s++) {
        struct sim_schedule sch;
        sim_schedule_draw(&sch, s, 0, 0);
        if (argc > 4)
            sch.mutation = (uint32_t)atoi(argv[4]);
        sim_run(&sch, argc > 3 && argv[3][0] == 't' ? stdout : NULL, r);
        printf(
            "seed %llu nodes %u inv %d %s at %.3f events %llu heal %.2f ops %llu/%llu/%llu el %llu entries %llu sb %llu claims %llu\n",
            (unsigned long long)s, sch.nodes, r->invariant, r->text, (double)r->at_us / 1e6,
            (unsigned long long)r->events, (double)r->heal_us / 1e6,
            (unsigned long long)r->calls_done, (unsigned long long)r->calls_refused,
            (unsigned long long)r->calls_unknown, (unsigned long long)r->elections,
            (unsigned long long)r->entries, (unsigned long long)r->sandboxes,
            (unsigned long long)r->claims);
        sim_schedule_release(&sch);
    }
}
