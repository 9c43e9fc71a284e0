/* Seeds that once showed a bug (tests/sim/seeds.txt) must hold for ever, and must repeat. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/run.h"

static void test_found_seeds_hold_and_repeat(void **state)
{
    struct sim_result *result = malloc(sizeof(*result));
    FILE *file = fopen(SIM_SEEDS_FILE, "r");
    unsigned seeds = 0, failed = 0;
    char line[512];

    (void)state;
    assert_non_null(result);
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        unsigned long long seed = 0;
        unsigned nodes = 0, seconds = 0;
        struct sim_schedule schedule;
        uint32_t second = 0;

        if (line[0] == '#' || sscanf(line, "%llu %u %u", &seed, &nodes, &seconds) != 3) {
            continue;
        }
        seeds++;
        sim_schedule_draw(&schedule, seed, nodes, seconds);
        if (!sim_run_twice(&schedule, result, &second)) {
            printf("seed %llu: two runs differ in second %u\n", seed, second);
            failed++;
        } else if (result->invariant) {
            printf("seed %llu: invariant %d: %s\n", seed, result->invariant, result->text);
            failed++;
        }
        sim_schedule_release(&schedule);
    }
    fclose(file);
    free(result);
    assert_true(seeds > 0);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found_seeds_hold_and_repeat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
