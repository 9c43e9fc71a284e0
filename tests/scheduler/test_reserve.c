/* Reservations: counted from the promise until the node's own figures include them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "scheduler/reserve.h"
#include "tests/scheduler/kit.h"

static const struct sched_amount one = {1, 512, 1000, 1};

static uint64_t take(struct sched_reserves *r, unsigned node, uint64_t deadline_ms)
{
    struct shl_node_id id = kit_id(node);
    uint64_t reservation = 0;

    assert_int_equal(sched_reserve(r, &id, &one, deadline_ms, &reservation), 0);
    return reservation;
}

static uint64_t held(const struct sched_reserves *r, unsigned node)
{
    struct shl_node_id id = kit_id(node);

    return sched_reserves_sum(r, &id).sandboxes;
}

static void test_reserve_ends_by_release_or_deadline(void **state)
{
    struct sched_reserves r;
    uint64_t first;

    (void)state;
    assert_int_equal(sched_reserves_init(&r), 0);
    first = take(&r, 1, 100);
    (void)take(&r, 1, 200);
    (void)take(&r, 2, 300);
    assert_int_equal(held(&r, 1), 2);
    assert_int_equal(sched_reserves_wake_at(&r), 100);
    assert_int_equal(sched_reserve_release(&r, first), 0);
    assert_int_equal(sched_reserve_release(&r, first), SHL_ENOTFOUND);
    assert_int_equal(held(&r, 1), 1);
    assert_int_equal(sched_reserves_expire(&r, 199), 0);
    assert_int_equal(sched_reserves_expire(&r, 200), 1);
    assert_int_equal(held(&r, 1), 0);
    assert_int_equal(r.node_count, 1);
    assert_int_equal(sched_reserves_expire(&r, 300), 1);
    assert_int_equal(sched_reserves_wake_at(&r), UINT64_MAX);
    assert_int_equal(r.node_count, 0);
    sched_reserves_release(&r);
}

static void test_reserve_committed_waits_for_the_nodes_figures(void **state)
{
    struct shl_node_id node = kit_id(1), other = kit_id(2);
    struct sched_reserves r;
    uint64_t a, b;

    (void)state;
    assert_int_equal(sched_reserves_init(&r), 0);
    a = take(&r, 1, 100);
    b = take(&r, 1, 100);
    (void)take(&r, 1, 5000);
    assert_int_equal(sched_reserve_commit(&r, a, 10, 1000), 0);
    assert_int_equal(sched_reserve_commit(&r, b, 12, 1000), 0);
    assert_int_equal(sched_reserves_expire(&r, 500), 0); /* the deadline is the later one */
    assert_int_equal(sched_reserves_seen(&r, &node, 9), 0);
    assert_int_equal(sched_reserves_seen(&r, &other, 99), 0);
    assert_int_equal(sched_reserves_seen(&r, &node, 11), 1);
    assert_int_equal(held(&r, 1), 2);
    assert_int_equal(sched_reserves_seen(&r, &node, 12), 1);
    assert_int_equal(sched_reserves_seen(&r, &node, 99), 0); /* a promise is not in its figures */
    assert_int_equal(held(&r, 1), 1);
    assert_int_equal(sched_reserve_commit(&r, a, 10, 1000), SHL_ENOTFOUND);
    sched_reserves_release(&r);
}

static void test_reserve_is_bounded(void **state)
{
    struct shl_node_id node = kit_id(1);
    struct sched_reserves r;
    uint64_t id;
    unsigned i;

    (void)state;
    assert_int_equal(sched_reserves_init(&r), 0);
    for (i = 0; i < SCHED_RESERVATIONS_MAX; i++) {
        (void)take(&r, 1 + i % SCHED_NODES_MAX, 100);
    }
    assert_int_equal(sched_reserve(&r, &node, &one, 100, &id), SHL_ELIMIT);
    sched_reserves_clear(&r);
    for (i = 0; i < SCHED_NODES_MAX; i++) {
        (void)take(&r, 1 + i, 100);
    }
    node = kit_id(SCHED_NODES_MAX + 1);
    assert_int_equal(sched_reserve(&r, &node, &one, 100, &id), SHL_ELIMIT);
    sched_reserves_release(&r);
}

/* The running sums are the sums of what is there, whatever happens in which order. */
static void test_reserve_sums_are_exact(void **state)
{
    struct sched_reserves r;
    uint64_t random = 3, now = 0;
    unsigned step, i;

    (void)state;
    assert_int_equal(sched_reserves_init(&r), 0);
    for (step = 0; step < 20000; step++) {
        unsigned node = 1 + (unsigned)(kit_random(&random) % 7);
        struct shl_node_id id = kit_id(node);
        uint64_t pick = r.next_id - 1 - kit_random(&random) % 20;
        uint64_t sums[8] = {0};

        switch (kit_random(&random) % 6) {
        case 0:
            (void)sched_reserve_release(&r, pick);
            break;
        case 1:
            (void)sched_reserve_commit(&r, pick, now + kit_random(&random) % 50, now + 100);
            break;
        case 2:
            (void)sched_reserves_seen(&r, &id, now);
            break;
        case 3:
            (void)sched_reserves_expire(&r, now++);
            break;
        default:
            (void)take(&r, node, now + kit_random(&random) % 60);
            break;
        }
        for (i = 0; i < r.count; i++) {
            assert_true(i == 0 || r.items[i - 1].id < r.items[i].id);
            assert_true(r.items[i].deadline_ms >= r.wake_at_ms);
            sums[r.items[i].node.bytes[1]]++;
        }
        for (i = 1; i <= 7; i++) {
            assert_int_equal(held(&r, i), sums[i]);
        }
    }
    sched_reserves_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_ends_by_release_or_deadline),
        cmocka_unit_test(test_reserve_committed_waits_for_the_nodes_figures),
        cmocka_unit_test(test_reserve_is_bounded),
        cmocka_unit_test(test_reserve_sums_are_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
