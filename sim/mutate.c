#include "sim/mutate.h"

#include <errno.h>
#include <string.h>

#include "scheduler/mutate.h"
#include "scheduler/raft.h"

static const struct sim_mutation mutations[] = {
    {.name = "", .text = ""},
    {.name = "raft-commit-old-term",
     .text = "entries of older terms are committed by counting copies",
     .raft = SCHED_RAFT_MUT_COMMIT_OLD_TERM,
     .seeds = 2000},
};

size_t sim_mutation_count(void)
{
    return sizeof(mutations) / sizeof(mutations[0]) - 1;
}

const struct sim_mutation *sim_mutation_get(size_t number)
{
    return &mutations[number];
}

int sim_mutation_parse(const char *name)
{
    for (size_t i = 1; i <= sim_mutation_count(); i++) {
        if (strcmp(mutations[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -EINVAL;
}
