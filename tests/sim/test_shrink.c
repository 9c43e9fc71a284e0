#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/shrink.h"

struct question {
    unsigned asked;
    unsigned nodes_needed;
};

/* "Fails" when a crash of node 1 comes before a pause of node 2. */
static bool crash_before_pause(const struct sim_schedule *s, void *arg)
{
    struct question *q = arg;
    bool crashed = false;

    q->asked++;
    if (s->nodes < q->nodes_needed) {
        return false;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (s->faults[i].class == SIM_FAULT_CRASH && s->faults[i].a == 1) {
            crashed = true;
        }
        if (crashed && s->faults[i].class == SIM_FAULT_PAUSE && s->faults[i].a == 2) {
            return true;
        }
    }
    return false;
}

static void test_shrink_finds_the_two_faults_that_matter(void **state)
{
    struct question q = {.nodes_needed = 3};
    unsigned tried = 0;

    (void)state;
    for (uint64_t seed = 1; seed < 400; seed++) {
        struct sim_schedule s;
        struct sim_shrink_stats stats = {.runs_max = 1000};

        sim_schedule_draw(&s, seed, 5, 16);
        if (!crash_before_pause(&s, &q)) {
            sim_schedule_release(&s);
            continue;
        }
        tried++;
        sim_shrink(&s, crash_before_pause, &q, &stats);
        assert_true(crash_before_pause(&s, &q));
        assert_int_equal(s.count, 2);
        assert_int_equal(s.faults[0].class, SIM_FAULT_CRASH);
        assert_int_equal(s.faults[1].class, SIM_FAULT_PAUSE);
        assert_int_equal(s.nodes, 3);
        assert_true(s.faults_us < 16 * SIM_SECOND || s.faults[1].at_us >= 8 * SIM_SECOND);
        sim_schedule_release(&s);
    }
    assert_true(tried > 3);
}

static bool always(const struct sim_schedule *s, void *arg)
{
    (void)s;
    (void)arg;
    return true;
}

static void test_shrink_of_what_always_fails_is_empty(void **state)
{
    struct sim_schedule s;
    struct sim_shrink_stats stats = {.runs_max = 1000};

    (void)state;
    sim_schedule_draw(&s, 3, 5, 12);
    sim_shrink(&s, always, NULL, &stats);
    assert_int_equal(s.count, 0);
    assert_int_equal(s.nodes, 1);
    assert_true(s.faults_us <= SIM_SECOND);
    sim_schedule_release(&s);
}

static void test_shrink_stops_at_its_budget(void **state)
{
    struct sim_schedule s;
    struct sim_shrink_stats stats = {.runs_max = 7};
    struct question q = {.nodes_needed = 1};

    (void)state;
    sim_schedule_draw(&s, 3, 5, 12);
    q.asked = 0;
    sim_shrink(&s, crash_before_pause, &q, &stats);
    assert_int_equal(q.asked, 7);
    assert_int_equal(stats.runs, 7);
    sim_schedule_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shrink_finds_the_two_faults_that_matter),
        cmocka_unit_test(test_shrink_of_what_always_fails_is_empty),
        cmocka_unit_test(test_shrink_stops_at_its_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
