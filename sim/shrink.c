#include "sim/shrink.h"

#include <string.h>

struct shrinker {
    struct sim_schedule *best;
    sim_shrink_fails fails;
    void *arg;
    struct sim_shrink_stats *stats;
};

/* Takes over @candidate: it becomes the best one when it still fails. */
static bool try(struct shrinker *s, struct sim_schedule *candidate)
{
    bool failed = false;

    if (s->stats->runs < s->stats->runs_max) {
        s->stats->runs++;
        failed = s->fails(candidate, s->arg);
    }
    if (failed) {
        sim_schedule_release(s->best);
        *s->best = *candidate;
        return true;
    }
    sim_schedule_release(candidate);
    return false;
}

static bool drop_classes(struct shrinker *s)
{
    bool changed = false;

    for (int class = 0; class < SIM_FAULT_CLASSES; class ++) {
        struct sim_schedule candidate;
        size_t before = s->best->count;

        sim_schedule_copy(&candidate, s->best);
        sim_schedule_drop_class(&candidate, (enum sim_fault_class) class);
        if (candidate.count == before) {
            sim_schedule_release(&candidate);
            continue;
        }
        changed |= try(s, &candidate);
    }
    return changed;
}

/* Half of the time in which faults happen; the liveness phase keeps its length. */
static bool halve_horizon(struct shrinker *s)
{
    bool changed = false;

    while (s->best->faults_us > SIM_SECOND) {
        struct sim_schedule candidate;
        uint64_t half = s->best->faults_us / 2;

        sim_schedule_copy(&candidate, s->best);
        candidate.end_us -= candidate.faults_us - half;
        candidate.faults_us = half;
        while (candidate.count > 0 && candidate.faults[candidate.count - 1].at_us >= half) {
            candidate.count--;
        }
        if (!try(s, &candidate)) {
            break;
        }
        changed = true;
    }
    return changed;
}

/* Drops the faults that name a node which is no longer there. */
static void fit_nodes(struct sim_schedule *schedule)
{
    size_t kept = 0;

    for (size_t i = 0; i < schedule->count; i++) {
        if (schedule->faults[i].a < schedule->nodes && schedule->faults[i].b < schedule->nodes) {
            schedule->faults[kept++] = schedule->faults[i];
        }
    }
    schedule->count = kept;
}

static bool take_nodes(struct shrinker *s)
{
    bool changed = false;

    while (s->best->nodes > 1) {
        struct sim_schedule candidate;

        sim_schedule_copy(&candidate, s->best);
        candidate.nodes--;
        fit_nodes(&candidate);
        if (!try(s, &candidate)) {
            break;
        }
        changed = true;
    }
    return changed;
}

static bool without(struct shrinker *s, size_t from, size_t count)
{
    struct sim_schedule candidate;

    sim_schedule_copy(&candidate, s->best);
    memmove(&candidate.faults[from], &candidate.faults[from + count],
            (candidate.count - from - count) * sizeof(*candidate.faults));
    candidate.count -= count;
    return try(s, &candidate);
}

/* ddmin by complements: chunks of half the list, then smaller ones. */
static bool drop_faults(struct shrinker *s)
{
    bool changed = false;
    size_t chunk = (s->best->count + 1) / 2;

    while (chunk > 0 && s->best->count > 0) {
        size_t at = 0;

        while (at < s->best->count) {
            size_t count = s->best->count - at < chunk ? s->best->count - at : chunk;

            if (without(s, at, count)) {
                changed = true;
            } else {
                at += count;
            }
        }
        chunk = chunk == 1 ? 0 : (chunk + 1) / 2;
    }
    return changed;
}

void sim_shrink(struct sim_schedule *schedule,
                sim_shrink_fails fails,
                void *arg,
                struct sim_shrink_stats *stats)
{
    struct shrinker s = {.best = schedule, .fails = fails, .arg = arg, .stats = stats};
    bool changed = true;

    while (changed && stats->runs < stats->runs_max) {
        changed = drop_classes(&s);
        changed |= halve_horizon(&s);
        changed |= drop_faults(&s);
        changed |= take_nodes(&s);
    }
}
