/* Each known bug, switched on, must be found: by its directed schedule or within so many
 * seeds of the normal run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/directed.h"
#include "sim/mutate.h"

#define REQUIRED_MIN 10

/* Number of runs until it was found, 0 when it was not. */
static uint32_t search(uint32_t mutation, struct sim_result *result)
{
    const struct sim_mutation *m = sim_mutation_get(mutation);

    if (m->directed) {
        const struct sim_directed *directed = sim_directed_find(m->directed);

        assert_non_null(directed);
        directed->run(mutation, NULL, result);
        return result->invariant ? 1 : 0;
    }
    for (uint32_t seed = 1; seed <= m->seeds; seed++) {
        struct sim_schedule schedule;

        sim_schedule_draw(&schedule, seed, 0, 0);
        schedule.mutation = mutation;
        sim_run(&schedule, NULL, result);
        sim_schedule_release(&schedule);
        if (result->invariant) {
            return seed;
        }
    }
    return 0;
}

static void test_mutations_are_found(void **state)
{
    struct sim_result *result = malloc(sizeof(*result));
    unsigned required = 0, missed = 0;

    (void)state;
    assert_non_null(result);
    for (uint32_t i = 1; i <= sim_mutation_count(); i++) {
        const struct sim_mutation *m = sim_mutation_get(i);
        uint32_t runs = 0;

        if (!m->directed && m->seeds == 0) {
            printf("%-32s not demanded here\n", m->name);
            continue;
        }
        required++;
        runs = search(i, result);
        missed += runs == 0;
        if (m->directed) {
            printf("%-32s %s %s: %d %s\n", m->name, runs ? "found by" : "MISSED by", m->directed,
                   result->invariant, result->text);
        } else {
            printf("%-32s %s in %u seeds: %d %s\n", m->name, runs ? "found" : "MISSED",
                   runs ? runs : m->seeds, result->invariant, result->text);
        }
        fflush(stdout);
    }
    free(result);
    assert_true(required >= REQUIRED_MIN);
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutations_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
