#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/clock.h"

/* A timer set by the clock never rings before its time and is at most 1 ms late. */
static void test_clock_when_is_the_inverse(void **state)
{
    static const uint32_t rates[] = {900000, 999999, 1000000, 1000001, 1100000};
    struct sim_clock clock;

    (void)state;
    for (unsigned r = 0; r < 5; r++) {
        sim_clock_init(&clock, 12345, 999000123);
        sim_clock_set_rate(&clock, 20000, rates[r]);
        for (uint64_t ms = 999020; ms < 1010000; ms += 37) {
            uint64_t at = sim_clock_when(&clock, ms);

            assert_true(sim_clock_mono_ms(&clock, at) >= ms);
            assert_true(at == clock.anchor_us || sim_clock_mono_us(&clock, at - 1) < ms * 1000);
        }
    }
    assert_int_equal(sim_clock_when(&clock, 0), clock.anchor_us);
}

static void test_clock_rate_changes_without_a_jump(void **state)
{
    struct sim_clock clock;

    (void)state;
    sim_clock_init(&clock, 0, 0);
    sim_clock_set_rate(&clock, 1000000, 1100000);
    assert_int_equal(sim_clock_mono_us(&clock, 1000000), 1000000);
    assert_int_equal(sim_clock_mono_us(&clock, 2000000), 2100000);
    sim_clock_set_rate(&clock, 2000000, 900000);
    assert_int_equal(sim_clock_mono_us(&clock, 3000000), 3000000);
}

static void test_clock_wall_steps_leave_the_monotonic_clock_alone(void **state)
{
    struct sim_clock clock;
    uint64_t before = 0;

    (void)state;
    sim_clock_init(&clock, 0, 5000);
    before = sim_clock_wall_ms(&clock, 1000);
    sim_clock_step_wall(&clock, -3600000000);
    assert_int_equal(sim_clock_wall_ms(&clock, 1000), before - 3600000);
    assert_int_equal(sim_clock_mono_us(&clock, 1000), 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_when_is_the_inverse),
        cmocka_unit_test(test_clock_rate_changes_without_a_jump),
        cmocka_unit_test(test_clock_wall_steps_leave_the_monotonic_clock_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
