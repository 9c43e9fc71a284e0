#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/fault.h"

static void test_fault_schedule_is_a_function_of_the_seed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct sim_schedule a, b;

        sim_schedule_draw(&a, seed, 0, 0);
        sim_schedule_draw(&b, seed, 0, 0);
        assert_int_equal(a.count, b.count);
        if (a.count > 0) {
            assert_memory_equal(a.faults, b.faults, a.count * sizeof(*a.faults));
        }
        for (size_t i = 0; i < a.count; i++) {
            assert_true(a.faults[i].at_us < a.faults_us || i == 0);
            assert_true(a.faults[i].a < a.nodes);
            assert_true(a.classes & 1u << a.faults[i].class);
            assert_true(i == 0 || a.faults[i - 1].at_us <= a.faults[i].at_us);
        }
        sim_schedule_release(&a);
        sim_schedule_release(&b);
    }
}

/* Swarm: each class is off in about half of the runs. */
static void test_fault_classes_are_on_in_half_of_the_runs(void **state)
{
    unsigned on[SIM_FAULT_CLASSES] = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct sim_schedule s;

        sim_schedule_draw(&s, seed, 5, 10);
        for (unsigned i = 0; i < SIM_FAULT_CLASSES; i++) {
            on[i] += s.classes >> i & 1;
        }
        sim_schedule_release(&s);
    }
    for (unsigned i = 0; i < SIM_FAULT_CLASSES; i++) {
        assert_in_range(on[i], 430, 570);
    }
}

static void test_fault_schedule_survives_its_text(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 50; seed++) {
        struct sim_schedule a, b;
        FILE *file = tmpfile();

        assert_non_null(file);
        sim_schedule_draw(&a, seed, 0, 0);
        sim_schedule_print(&a, file);
        rewind(file);
        assert_int_equal(sim_schedule_read(&b, file, NULL), 0);
        fclose(file);
        assert_int_equal(a.seed, b.seed);
        assert_int_equal(a.nodes, b.nodes);
        assert_int_equal(a.end_us, b.end_us);
        assert_int_equal(a.count, b.count);
        for (size_t i = 0; i < a.count; i++) {
            assert_int_equal(a.faults[i].class, b.faults[i].class);
            assert_int_equal(a.faults[i].at_us, b.faults[i].at_us);
            assert_int_equal(a.faults[i].for_us, b.faults[i].for_us);
            assert_true(a.faults[i].value == b.faults[i].value);
        }
        sim_schedule_release(&a);
        sim_schedule_release(&b);
    }
}

static void test_fault_bad_text_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "seed 1\nnodes 3\nfaults-us 10\nend-us 5\n",
        "seed 1\nnodes 0\nend-us 5\n",
        "seed 1\nnodes 3\nend-us 5\nfault 1 no-such 0 0 0 0\n",
        "seed 1\nnodes 3\nend-us 5\nfault 1 crash 0 99 0 0\n",
        "seed 1\nnodes 3\nend-us 5\nfault 1 crash\n",
        "what 1\n",
        "seed x\n",
        "nodes 60\nspares 10\nend-us 5\n",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sim_schedule s;
        struct shl_err err = {0};
        FILE *file = tmpfile();

        assert_non_null(file);
        fputs(bad[i], file);
        rewind(file);
        assert_int_equal(sim_schedule_read(&s, file, &err), -EINVAL);
        assert_true(err.msg[0] != 0);
        fclose(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_schedule_is_a_function_of_the_seed),
        cmocka_unit_test(test_fault_classes_are_on_in_half_of_the_runs),
        cmocka_unit_test(test_fault_schedule_survives_its_text),
        cmocka_unit_test(test_fault_bad_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
