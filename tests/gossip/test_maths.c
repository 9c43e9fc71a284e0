#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gossip/maths.h"

static struct gossip_timing lan(void)
{
    struct gossip_timing timing;

    gossip_timing_defaults(&timing);
    return timing;
}

/* mult * ceil(log10(n + 1)), never below the floor of 12. */
static void test_maths_sends_limit(void **state)
{
    static const struct {
        uint32_t nodes, limit;
    } table[] = {{1, 12},   {9, 12},    {30, 12},   {100, 12},  {998, 12},
                 {999, 12}, {1000, 16}, {9999, 16}, {10000, 20}};
    struct gossip_timing timing = lan();
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(table); i++) {
        assert_int_equal(gossip_sends_limit(&timing, table[i].nodes), table[i].limit);
    }
    timing.sends_floor = 1;
    assert_int_equal(gossip_sends_limit(&timing, 9), 4);
    assert_int_equal(gossip_sends_limit(&timing, 10), 8);
    timing.sends_mult = UINT32_MAX;
    assert_int_equal(gossip_sends_limit(&timing, 10), GOSSIP_SENDS_MAX);
}

static void test_maths_suspicion_shrinks_with_confirmers(void **state)
{
    struct gossip_timing timing = lan();
    uint64_t least = 8000, most = 48000; /* 4 * log10(100) s, six times that */

    (void)state;
    assert_int_equal(gossip_suspicion_least_ms(&timing, 100), least);
    assert_int_equal(gossip_suspicion_confirmers(&timing, 100), 2);
    assert_int_equal(gossip_suspicion_ms(&timing, 100, 0), most);
    /* max - (max - min) * ln(2) / ln(3) */
    assert_in_range(gossip_suspicion_ms(&timing, 100, 1), 22760, 22765);
    assert_int_equal(gossip_suspicion_ms(&timing, 100, 2), least);
    assert_int_equal(gossip_suspicion_ms(&timing, 100, 50), least);
}

/* Nobody can confirm: waiting for confirmation would only delay. */
static void test_maths_small_clusters_do_not_wait_for_confirmers(void **state)
{
    struct gossip_timing timing = lan();
    uint32_t nodes;

    (void)state;
    for (nodes = 1; nodes <= 3; nodes++) {
        assert_int_equal(gossip_suspicion_confirmers(&timing, nodes), 0);
        assert_int_equal(gossip_suspicion_ms(&timing, nodes, 0), timing.suspicion_min_ms);
    }
    assert_int_equal(gossip_suspicion_confirmers(&timing, 4), 2);
}

static void test_maths_broken_links_shorten(void **state)
{
    struct gossip_timing timing = lan();

    (void)state;
    assert_int_equal(gossip_broken_ms(&timing, 3), 1600);
    assert_int_equal(gossip_broken_ms(&timing, 100), 1600);
    assert_int_equal(gossip_broken_ms(&timing, 1000), 2400);
}

static void test_maths_sync_interval_grows_above_32_nodes(void **state)
{
    static const struct {
        uint32_t nodes, times;
    } table[] = {{1, 1}, {32, 1}, {33, 2}, {64, 2}, {65, 3}, {1000, 6}};
    struct gossip_timing timing = lan();
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(table); i++) {
        assert_int_equal(gossip_sync_ms(&timing, table[i].nodes), 30000 * table[i].times);
    }
}

static void test_maths_flap_score_halves(void **state)
{
    (void)state;
    assert_true(fabs(gossip_decayed(4, 300000, 300000) - 2) < 1e-9);
    assert_true(fabs(gossip_decayed(4, 600000, 300000) - 1) < 1e-9);
    assert_true(gossip_decayed(4, 0, 300000) == 4);
    assert_true(gossip_decayed(0, 5, 300000) == 0);
}

static void test_maths_health_stays_in_range(void **state)
{
    (void)state;
    assert_int_equal(gossip_health_after(0, -1), 0);
    assert_int_equal(gossip_health_after(3, 2), 5);
    assert_int_equal(gossip_health_after(6, 3), GOSSIP_HEALTH_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maths_sends_limit),
        cmocka_unit_test(test_maths_suspicion_shrinks_with_confirmers),
        cmocka_unit_test(test_maths_small_clusters_do_not_wait_for_confirmers),
        cmocka_unit_test(test_maths_broken_links_shorten),
        cmocka_unit_test(test_maths_sync_interval_grows_above_32_nodes),
        cmocka_unit_test(test_maths_flap_score_halves),
        cmocka_unit_test(test_maths_health_stays_in_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
