#include "sim/run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

void sim_run(const struct sim_schedule *schedule, FILE *trace, struct sim_result *ret)
{
    struct sim_world *world = malloc(sizeof(*world));

    assert(world);
    sim_world_init(world, schedule, trace);
    while (sim_world_step(world)) {
    }
    sim_result_of(world, ret);
    sim_world_release(world);
    free(world);
}

void sim_result_of(const struct sim_world *world, struct sim_result *ret)
{
    *ret = (struct sim_result){.invariant = world->check.code};
    memcpy(ret->text, world->check.text, sizeof(ret->text));
    ret->at_us = world->now_us;
    ret->events = world->events;
    ret->digest = world->digest;
    ret->seconds = SHL_MIN(world->digest_seconds, SIM_RESULT_SECONDS);
    if (ret->seconds > 0) {
        memcpy(ret->digest_at, world->digest_at, ret->seconds * sizeof(ret->digest_at[0]));
    }
    ret->heal_us = world->converged_us ? world->converged_us - world->healed_us : 0;
    memcpy(ret->faults, world->fault_count, sizeof(ret->faults));
    ret->calls_done = world->clients.done;
    ret->calls_refused = world->clients.refused;
    ret->calls_unknown = world->clients.unknown;
    ret->elections = world->check.elections;
    ret->claims = world->check.claims;
    ret->points = world->check.points;
    ret->copies = world->check.copies;
    ret->repairs = world->check.repairs;
    ret->trims = world->check.trims;
    ret->chunks = world->check.asked;
    ret->bad = world->check.quarantines;
    ret->entries = world->check.last_index;
    ret->sandboxes = world->check.known_count;
    ret->messages = world->net.sent;
    ret->lost = world->net.lost + world->net.refused;
    ret->doubled = world->net.duplicated;
}

bool sim_run_twice(const struct sim_schedule *schedule,
                   struct sim_result *ret,
                   uint32_t *ret_second)
{
    struct sim_result second;

    sim_run(schedule, NULL, ret);
    sim_run(schedule, NULL, &second);
    *ret_second = 0;
    if (ret->digest == second.digest && ret->events == second.events) {
        return true;
    }
    while (*ret_second < ret->seconds && *ret_second < second.seconds &&
           ret->digest_at[*ret_second] == second.digest_at[*ret_second]) {
        (*ret_second)++;
    }
    return false;
}
