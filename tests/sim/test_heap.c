#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/heap.h"
#include "sim/rng.h"

/* What comes out is sorted by time, and by order of the pushes at one time. */
static void test_heap_pops_by_time_then_sequence(void **state)
{
    struct sim_heap heap;
    struct sim_rng rng;
    struct sim_event event, last = {0};
    unsigned popped = 0;

    (void)state;
    sim_heap_init(&heap);
    sim_rng_init(&rng, 7);
    for (unsigned i = 0; i < 5000; i++) {
        sim_heap_push(&heap, (struct sim_event){.at_us = sim_rng_below(&rng, 50), .a = i});
        if (i % 3 == 0) {
            assert_true(sim_heap_pop(&heap, &event));
        }
    }
    while (sim_heap_pop(&heap, &event)) {
        if (popped++ > 0) {
            assert_true(last.at_us < event.at_us ||
                        (last.at_us == event.at_us && last.seq < event.seq));
        }
        assert_int_equal(event.seq, event.a);
        last = event;
    }
    assert_int_equal(popped, 5000 - 1667);
    assert_null(sim_heap_peek(&heap));
    sim_heap_release(&heap);
}

/* Pops of a heap that shrinks and grows agree with the slow way. */
static void test_heap_agrees_with_a_sorted_list(void **state)
{
    struct sim_heap heap;
    struct sim_rng rng;
    struct sim_event list[300], event;
    size_t count = 0;

    (void)state;
    sim_heap_init(&heap);
    sim_rng_init(&rng, 11);
    for (unsigned step = 0; step < 20000; step++) {
        if (count < 300 && sim_rng_below(&rng, 2)) {
            list[count] =
                (struct sim_event){.at_us = sim_rng_below(&rng, 1000), .seq = heap.next_seq};
            sim_heap_push(&heap, list[count++]);
        } else if (count > 0) {
            size_t best = 0;

            for (size_t i = 1; i < count; i++) {
                if (list[i].at_us < list[best].at_us ||
                    (list[i].at_us == list[best].at_us && list[i].seq < list[best].seq)) {
                    best = i;
                }
            }
            assert_int_equal(sim_heap_peek(&heap)->seq, list[best].seq);
            assert_true(sim_heap_pop(&heap, &event));
            assert_int_equal(event.seq, list[best].seq);
            list[best] = list[--count];
        }
    }
    sim_heap_release(&heap);
}

/* A process stands still, for longer than was said at first, then goes on early: what it is
 * told comes in the order in which it was sent. */
static void test_heap_keeps_the_order_of_what_is_put_off(void **state)
{
    struct sim_heap heap;
    struct sim_event event;

    (void)state;
    sim_heap_init(&heap);
    sim_heap_push(&heap, (struct sim_event){.at_us = 10, .node = 1, .a = 0});
    sim_heap_push(&heap, (struct sim_event){.at_us = 20, .node = 1, .a = 1});
    assert_true(sim_heap_pop(&heap, &event));
    event.at_us = 15; /* stalled until then */
    sim_heap_push_again(&heap, event);
    sim_heap_push(&heap, (struct sim_event){.at_us = 40, .node = 2, .a = 9});
    assert_true(sim_heap_pop(&heap, &event));
    assert_int_equal(event.a, 0);
    sim_heap_push(&heap, (struct sim_event){.at_us = 16, .node = 1, .a = 2});
    event.at_us = 40; /* no, until then */
    sim_heap_push_again(&heap, event);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(sim_heap_pop(&heap, &event));
        assert_int_equal(event.at_us, i == 0 ? 16 : 20);
        event.at_us = 40;
        sim_heap_push_again(&heap, event);
    }
    sim_heap_bring_forward(&heap, 1, 40, 30);
    for (unsigned i = 0; i < 3; i++) {
        static const uint64_t order[] = {0, 1, 2};

        assert_true(sim_heap_pop(&heap, &event));
        assert_int_equal(event.at_us, 30);
        assert_int_equal(event.a, order[i]);
    }
    assert_true(sim_heap_pop(&heap, &event));
    assert_int_equal(event.at_us, 40); /* of another one */
    sim_heap_release(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_pops_by_time_then_sequence),
        cmocka_unit_test(test_heap_keeps_the_order_of_what_is_put_off),
        cmocka_unit_test(test_heap_agrees_with_a_sorted_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
