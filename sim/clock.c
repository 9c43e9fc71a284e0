#include "sim/clock.h"

#include <assert.h>

/* What the wall clock of a right node shows when a run begins. */
#define EPOCH_US 1700000000000000

void sim_clock_init(struct sim_clock *clock, uint64_t now_us, uint64_t base_us)
{
    *clock = (struct sim_clock){
        .anchor_us = now_us, .base_us = base_us, .rate_ppm = SIM_CLOCK_PPM, .wall_shift_us = 0};
}

uint64_t sim_clock_mono_us(const struct sim_clock *clock, uint64_t now_us)
{
    assert(now_us >= clock->anchor_us);
    return clock->base_us + (now_us - clock->anchor_us) * clock->rate_ppm / SIM_CLOCK_PPM;
}

uint64_t sim_clock_wall_ms(const struct sim_clock *clock, uint64_t now_us)
{
    int64_t wall = EPOCH_US + (int64_t)now_us + clock->wall_shift_us;

    return wall > 0 ? (uint64_t)wall / 1000 : 0;
}

uint64_t sim_clock_when(const struct sim_clock *clock, uint64_t mono_ms)
{
    uint64_t mono_us = mono_ms > UINT64_MAX / 1000000000u ? UINT64_MAX / 1000000u : mono_ms * 1000;

    if (mono_us <= clock->base_us) {
        return clock->anchor_us;
    }
    return clock->anchor_us +
           ((mono_us - clock->base_us) * SIM_CLOCK_PPM + clock->rate_ppm - 1) / clock->rate_ppm;
}

void sim_clock_set_rate(struct sim_clock *clock, uint64_t now_us, uint32_t rate_ppm)
{
    assert(rate_ppm > 0);
    clock->base_us = sim_clock_mono_us(clock, now_us);
    clock->anchor_us = now_us;
    clock->rate_ppm = rate_ppm;
}

void sim_clock_step_wall(struct sim_clock *clock, int64_t by_us)
{
    clock->wall_shift_us += by_us;
}
