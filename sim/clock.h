/* Clocks of one simulated node, as functions of the virtual time.
 *
 * The monotonic clock runs at a rate of its own (0.9 to 1.1) from a base of its own,
 * the wall clock also steps. Both are read only when an event of the node is handled,
 * as a loop does. Nothing here draws random numbers.
 */
#ifndef SHL_SIM_CLOCK_H
#define SHL_SIM_CLOCK_H

#include <stdint.h>

#define SIM_CLOCK_PPM 1000000u /* rate 1.0 */

struct sim_clock {
    uint64_t anchor_us;    /* virtual time at which base_us was right */
    uint64_t base_us;      /* monotonic clock then */
    uint32_t rate_ppm;     /* monotonic microseconds per million virtual ones */
    int64_t wall_shift_us; /* wall clock minus true time */
};

/* @base_us is what the monotonic clock shows at @now_us. */
void sim_clock_init(struct sim_clock *clock, uint64_t now_us, uint64_t base_us);

uint64_t sim_clock_mono_us(const struct sim_clock *clock, uint64_t now_us);
static inline uint64_t sim_clock_mono_ms(const struct sim_clock *clock, uint64_t now_us)
{
    return sim_clock_mono_us(clock, now_us) / 1000;
}

/* Milliseconds since 1970, never below zero. */
uint64_t sim_clock_wall_ms(const struct sim_clock *clock, uint64_t now_us);

/* First virtual time at which the monotonic clock shows at least @mono_ms. */
uint64_t sim_clock_when(const struct sim_clock *clock, uint64_t mono_ms);

/* The clock goes on without a jump at the new rate. */
void sim_clock_set_rate(struct sim_clock *clock, uint64_t now_us, uint32_t rate_ppm);
void sim_clock_step_wall(struct sim_clock *clock, int64_t by_us);

#endif /* SHL_SIM_CLOCK_H */
