/* Known mistakes of holding cores, claims and leases must show in random histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/attr.h"
#include "scheduler/mutate.h"
#include "tests/scheduler/hold_world.h"

#define STEPS 1200

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
        cmocka_unit_test(test_hold_random_mistakes_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
