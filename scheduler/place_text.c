/* What placement says to people. */
#include <stdio.h>

#include "scheduler/place.h"

struct refusal {
    const char *word;
    const char *sentence; /* "node X ..." */
    const char *unit;     /* of what is short: "node X has N UNIT left, M are needed" */
};

static const struct refusal refusals[SCHED_REFUSAL_COUNT] = {
    [SCHED_FITS] = {"fits", "has room", NULL},
    [SCHED_REFUSED_DEAD] = {"dead", "does not answer", NULL},
    [SCHED_REFUSED_WITNESS] = {"witness", "is a witness and runs no sandboxes", NULL},
    [SCHED_REFUSED_DRAINING] = {"draining", "is being drained", NULL},
    [SCHED_REFUSED_CORDONED] = {"cordoned", "is cordoned", NULL},
    [SCHED_REFUSED_FLAPPING] = {"flapping", "was lost several times lately", NULL},
    [SCHED_REFUSED_EXCLUDED] = {"excluded", "was excluded or has refused already", NULL},
    [SCHED_REFUSED_CPU_MODEL] = {"cpu_model", "has another CPU than the saved memory needs", NULL},
    [SCHED_REFUSED_NOT_HOLDER] = {"not_holder", "does not hold the checkpoint", NULL},
    [SCHED_REFUSED_CPUS] = {"cpus", NULL, "vCPUs"},
    [SCHED_REFUSED_MEMORY] = {"memory", NULL, "MB of memory"},
    [SCHED_REFUSED_DISK] = {"disk", NULL, "MB of disk"},
    [SCHED_REFUSED_SANDBOXES] = {"sandboxes", NULL, "places for sandboxes"},
};

const char *sched_refusal_word(enum sched_refusal reason)
{
    return (unsigned)reason < SCHED_REFUSAL_COUNT ? refusals[reason].word : "?";
}

void sched_refusal_text(char *dst,
                        size_t size,
                        const struct sched_refused *refused,
                        const struct sched_view *views)
{
    const struct refusal *r = &refusals[refused->reason];
    char id[SHL_NODE_ID_TEXT_SIZE];
    const char *name = views[refused->view].name;

    shl_node_id_format(id, &refused->id);
    if (!name || name[0] == '\0') {
        name = id;
    }
    if (r->sentence) {
        (void)snprintf(dst, size, "node %s %s", name, r->sentence);
    } else {
        (void)snprintf(dst, size, "node %s has %llu %s left, %llu are needed", name,
                       (unsigned long long)refused->free, r->unit,
                       (unsigned long long)refused->needed);
    }
}

void sched_placement_text(char *dst, size_t size, const struct sched_placement *placement)
{
    uint32_t counts[SCHED_REFUSAL_COUNT] = {0};
    uint32_t i;
    int used;

    for (i = 0; i < placement->refused_count; i++) {
        counts[placement->refused[i].reason]++;
    }
    used = snprintf(dst, size, "%u of %u nodes fit", placement->candidate_count,
                    placement->candidate_count + placement->refused_count);
    for (i = 1; i < SCHED_REFUSAL_COUNT && used >= 0 && (size_t)used < size; i++) {
        if (counts[i] > 0) {
            used += snprintf(dst + used, size - (size_t)used, ", %u %s%s", counts[i],
                             refusals[i].unit ? "short of " : "", refusals[i].word);
        }
    }
}
