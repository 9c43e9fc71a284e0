/* Thousands of random histories of a few nodes and sandboxes: never two places, never back to an
 * older point, and each comes back in the end. Known mistakes must show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/scheduler/hold_world.h"

#define STEPS 1200

static void test_hold_random_histories(void **state)
{
    struct hold_world_result sum = {0};
    const char *seeds = getenv("SHL_HOLD_SEEDS");
    uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 60;

    (void)state;
    for (uint64_t seed = 1; seed <= count; seed++) {
        struct hold_world_result r;

        hold_world_run(seed, STEPS, 0, &r);
        if (r.broken) {
            print_error("seed %llu step %llu: %s\n", (unsigned long long)seed,
                        (unsigned long long)r.step, r.text);
        }
        assert_null(r.broken);
        sum.wakes += r.wakes;
        sum.allowed += r.allowed;
        sum.refused += r.refused;
        sum.claims += r.claims;
        sum.paused += r.paused;
        sum.went_on += r.went_on;
        sum.let_go += r.let_go;
        sum.deleted += r.deleted;
        sum.orders += r.orders;
    }
    print_message("%llu seeds: wakes %llu, allowed %llu, refused %llu, claims %llu, paused %llu, "
                  "went on %llu, let go %llu, deleted %llu, orders %llu\n",
                  (unsigned long long)count, (unsigned long long)sum.wakes,
                  (unsigned long long)sum.allowed, (unsigned long long)sum.refused,
                  (unsigned long long)sum.claims, (unsigned long long)sum.paused,
                  (unsigned long long)sum.went_on, (unsigned long long)sum.let_go,
                  (unsigned long long)sum.deleted, (unsigned long long)sum.orders);
    assert_true(sum.allowed > count && sum.claims > count && sum.paused > count / 3 &&
                sum.went_on > count / 3 && sum.let_go > count / 3 && sum.deleted > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_random_histories),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
