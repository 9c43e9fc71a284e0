/* Thousands of random histories of a few nodes and sandboxes: never two places, never back to an
 * older point, and each comes back in the end. Known mistakes must show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/attr.h"
#include "scheduler/mutate.h"
#include "tests/scheduler/hold_world.h"

#define STEPS 1200

static void test_hold_random_histories(void **state)
{
    struct hold_world_result sum = {0};
    const char *seeds = getenv("SHL_HOLD_SEEDS");
    uint64_t count = seeds ? strtoull(seeds, NULL, 10) : 300;

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

static void test_hold_random_mistakes_show(void **state)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } mistakes[] = {
        {"claim believed", SCHED_MUT_CLAIM_BELIEVED},
        {"no pause", SCHED_MUT_HOLD_NO_PAUSE},
        {"no deadline", SCHED_MUT_HOLD_NO_DEADLINE},
        {"unregistered", SCHED_MUT_HOLD_UNREGISTERED},
        {"unsaved", SCHED_MUT_HOLD_UNSAVED},
        {"same epoch", SCHED_MUT_HOLD_SAME_EPOCH},
        {"stale log", SCHED_MUT_HOLD_STALE_LOG},
        {"tombstone ignored", SCHED_MUT_HOLD_STONE_IGNORED},
        {"keeps stale", SCHED_MUT_HOLD_KEEPS_STALE},
        {"lease unwaited", SCHED_MUT_LEASE_UNWAITED},
    };
    unsigned missed = 0;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(mistakes); i++) {
        struct hold_world_result r = {0};
        uint64_t seed = 0;

        while (!r.broken && seed < 3000) {
            hold_world_run(++seed, STEPS, mistakes[i].bits, &r);
        }
        print_message("%-20s %s after %llu seeds: %s\n", mistakes[i].name,
                      r.broken ? "shows" : "MISSED", (unsigned long long)seed, r.text);
        missed += r.broken == NULL;
    }
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_random_histories),
        cmocka_unit_test(test_hold_random_mistakes_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
