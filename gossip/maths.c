#include "gossip/maths.h"

#include <math.h>

#include "base/attr.h"

uint32_t gossip_sends_limit(const struct gossip_timing *timing, uint32_t nodes)
{
    uint64_t reach = 1, limit;
    uint32_t digits = 0;

    while (reach < (uint64_t)nodes + 1) {
        reach *= 10;
        digits++;
    }
    limit = (uint64_t)timing->sends_mult * digits;
    limit = SHL_MAX(limit, timing->sends_floor);
    return (uint32_t)SHL_MIN(limit, (uint64_t)GOSSIP_SENDS_MAX);
}

static double log10_of(uint32_t nodes)
{
    return nodes > 10 ? log10((double)nodes) : 1.0;
}

uint64_t gossip_suspicion_least_ms(const struct gossip_timing *timing, uint32_t nodes)
{
    double scaled = (double)timing->suspicion_mult * timing->probe_ms * log10_of(nodes);

    return SHL_MAX((uint64_t)scaled, (uint64_t)timing->suspicion_min_ms);
}

uint32_t gossip_suspicion_confirmers(const struct gossip_timing *timing, uint32_t nodes)
{
    uint32_t wanted = timing->suspicion_mult > 2 ? timing->suspicion_mult - 2 : 0;

    return nodes < wanted + 2 ? 0 : wanted;
}

uint64_t gossip_suspicion_ms(const struct gossip_timing *timing, uint32_t nodes, uint32_t confirmed)
{
    uint64_t least = gossip_suspicion_least_ms(timing, nodes);
    uint64_t most = least * SHL_MAX(timing->suspicion_max_mult, 1u);
    uint32_t wanted = gossip_suspicion_confirmers(timing, nodes);
    double share;

    if (confirmed >= wanted) {
        return least;
    }
    share = log((double)confirmed + 1) / log((double)wanted + 1);
    return most - (uint64_t)((double)(most - least) * share);
}

uint64_t gossip_broken_ms(const struct gossip_timing *timing, uint32_t nodes)
{
    double scale = log10_of(nodes) / 2;

    return (uint64_t)(timing->broken_ms * (scale > 1 ? scale : 1.0));
}

uint64_t gossip_sync_ms(const struct gossip_timing *timing, uint32_t nodes)
{
    uint64_t scale = 1, reach = 32;

    while (reach < nodes) {
        reach *= 2;
        scale++;
    }
    return timing->sync_ms * scale;
}

double gossip_decayed(double score, uint64_t elapsed_ms, uint64_t half_life_ms)
{
    if (score <= 0 || half_life_ms == 0) {
        return 0;
    }
    return score * exp2(-(double)elapsed_ms / (double)half_life_ms);
}

uint32_t gossip_health_after(uint32_t health, int delta)
{
    int after = (int)health + delta;

    if (after < 0) {
        return 0;
    }
    return after > GOSSIP_HEALTH_MAX ? GOSSIP_HEALTH_MAX : (uint32_t)after;
}
