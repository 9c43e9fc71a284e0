/* Leases: the node's has always ended before the leader says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "scheduler/leases.h"
#include "scheduler/mutate.h"
#include "tests/scheduler/kit.h"

static void test_leases_new_leader_waits_a_full_lease(void **state)
{
    struct shl_node_id node = kit_id(1);
    struct sched_leases l;

    (void)state;
    sched_leases_init(&l, 10000, 0);
    assert_false(sched_leases_lapsed(&l, &node, UINT64_MAX)); /* it does not lead */
    assert_int_equal(sched_leases_lapses_at(&l, &node), UINT64_MAX);
    sched_leases_elected(&l, 3, 5000);
    assert_false(sched_leases_lapsed(&l, &node, 5000 + 11000));
    assert_true(sched_leases_lapsed(&l, &node, 5000 + 11001));
    sched_leases_deposed(&l);
    assert_false(sched_leases_lapsed(&l, &node, 5000 + 11001));
}

static void test_leases_renewal_moves_the_end(void **state)
{
    struct shl_node_id one = kit_id(1), two = kit_id(2);
    struct sched_leases l;

    (void)state;
    sched_leases_init(&l, 10000, 0);
    sched_leases_elected(&l, 1, 0);
    assert_int_equal(sched_leases_renewed(&l, &one, 8000), 0);
    assert_int_equal(sched_leases_lapses_at(&l, &one), 19001);
    assert_int_equal(sched_leases_lapses_at(&l, &two), 11001);
    assert_int_equal(sched_leases_renewed(&l, &one, 9000), 0);
    assert_int_equal(sched_leases_lapses_at(&l, &one), 20001);
    sched_leases_trim(&l, 30000);
    assert_int_equal(l.count, 0);
    assert_true(sched_leases_lapsed(&l, &one, 30000));
    sched_leases_elected(&l, 2, 30000); /* what was known of the last term is gone */
    assert_int_equal(sched_leases_lapses_at(&l, &one), 41001);
}

/* A table full of removed nodes makes it cautious, not wrong. */
static void test_leases_table_is_bounded(void **state)
{
    struct shl_node_id id;
    struct sched_leases l;
    unsigned n;

    (void)state;
    sched_leases_init(&l, 10000, 0);
    sched_leases_elected(&l, 1, 0);
    for (n = 1; n <= SCHED_NODES_MAX; n++) {
        id = kit_id(n);
        assert_int_equal(sched_leases_renewed(&l, &id, 1000 + n), 0);
    }
    id = kit_id(n);
    assert_int_equal(sched_leases_renewed(&l, &id, 5000), SHL_ELIMIT);
    assert_int_equal(sched_leases_lapses_at(&l, &id), 16001);
    assert_int_equal(sched_leases_renewed(&l, &id, 20000), 0); /* old ones made room */
}

static void test_leases_node_counts_from_sending(void **state)
{
    struct sched_lease l;
    uint64_t first, second;

    (void)state;
    sched_lease_init(&l, 10000, 0);
    assert_false(sched_lease_valid(&l, 0));
    assert_int_equal(sched_lease_ask_at(&l), 0);
    first = sched_lease_sent(&l, 1000);
    assert_int_equal(sched_lease_ask_at(&l), 2000); /* no answer: again after a tenth */
    second = sched_lease_sent(&l, 2000);
    sched_lease_granted(&l, first, 2500);
    assert_true(sched_lease_valid(&l, 9999));
    assert_false(sched_lease_valid(&l, 10000));
    assert_int_equal(sched_lease_pause_at(&l, 500), 9500);
    sched_lease_granted(&l, second, 2600);
    assert_true(sched_lease_valid(&l, 10999));
    assert_false(sched_lease_valid(&l, 11000));
    assert_int_equal(sched_lease_ask_at(&l), 2000 + 3333);
    sched_lease_granted(&l, first, 9000);  /* known already */
    sched_lease_granted(&l, 12345, 10999); /* never sent */
    assert_false(sched_lease_valid(&l, 11000));
}

static void test_leases_answers_out_of_order(void **state)
{
    struct sched_lease l;
    uint64_t seq[SCHED_LEASE_ASKED_MAX + 2];
    unsigned i;

    (void)state;
    sched_lease_init(&l, 10000, 0);
    for (i = 0; i < SCHED_LEASE_ASKED_MAX + 2; i++) {
        seq[i] = sched_lease_sent(&l, 1000u * (i + 1));
    }
    sched_lease_granted(&l, seq[0], 20000); /* forgotten: there is no room for it */
    assert_false(sched_lease_valid(&l, 2000));
    sched_lease_granted(&l, seq[5], 20000);
    assert_int_equal(l.valid_until_ms, 6000 + 9000);
    sched_lease_granted(&l, seq[3], 20000);
    assert_int_equal(l.valid_until_ms, 6000 + 9000);
    sched_lease_granted(&l, seq[9], 20000);
    assert_int_equal(l.valid_until_ms, 10000 + 9000);
}

/*- Both sides in true time, each with a clock of its own rate and offset. */

struct clock {
    double rate;
    uint64_t offset;
};

static uint64_t at(const struct clock *clock, uint64_t true_ms)
{
    return clock->offset + (uint64_t)((double)true_ms * clock->rate);
}

/* Random delays, losses and elections. Counts the instants at which a leader would hand a
 * sandbox on while its node still believes in its lease. */
static unsigned run_true_time(uint64_t seed, uint32_t mutations, unsigned *ret_lapses)
{
    uint64_t random = seed;
    struct clock node_clock = {0.9 + (double)(kit_random(&random) % 201) / 1000, 1000000};
    struct clock leader_clock = {0.9 + (double)(kit_random(&random) % 201) / 1000, 500};
    struct shl_node_id node = kit_id(1);
    struct sched_leases leader;
    struct sched_lease lease;
    uint64_t true_ms, apply_at = UINT64_MAX, answer_at = UINT64_MAX, seq = 0;
    unsigned both = 0;
    bool link = true;

    sched_leases_init(&leader, 2000, mutations);
    sched_lease_init(&lease, 2000, mutations);
    sched_leases_elected(&leader, 1, at(&leader_clock, 0));
    for (true_ms = 1; true_ms < 60000; true_ms++) {
        if (kit_random(&random) % 4000 == 0) {
            link = !link;
        }
        if (kit_random(&random) % 15000 == 0) {
            sched_leases_elected(&leader, 2, at(&leader_clock, true_ms));
        }
        if (apply_at == UINT64_MAX && link &&
            at(&node_clock, true_ms) >= sched_lease_ask_at(&lease)) {
            seq = sched_lease_sent(&lease, at(&node_clock, true_ms));
            apply_at = true_ms + kit_random(&random) % 800;
            answer_at = apply_at + kit_random(&random) % 800;
        }
        if (true_ms == apply_at) {
            assert_int_equal(sched_leases_renewed(&leader, &node, at(&leader_clock, true_ms)), 0);
        }
        if (true_ms == answer_at) {
            sched_lease_granted(&lease, seq, at(&node_clock, true_ms));
        }
        if (apply_at != UINT64_MAX && true_ms >= answer_at) {
            apply_at = UINT64_MAX;
        }
        if (sched_leases_lapsed(&leader, &node, at(&leader_clock, true_ms))) {
            ++*ret_lapses;
            both += sched_lease_valid(&lease, at(&node_clock, true_ms));
        }
    }
    return both;
}

/* Mesh invariants 3 and 25. */
static void test_leases_never_both_in_true_time(void **state)
{
    unsigned lapses = 0, ignored = 0, unwaited = 0, from_ack = 0;
    uint64_t seed;

    (void)state;
    for (seed = 1; seed <= 20; seed++) {
        assert_int_equal(run_true_time(seed, 0, &lapses), 0);
        unwaited += run_true_time(seed, SCHED_MUT_LEASE_UNWAITED, &ignored);
        from_ack += run_true_time(seed, SCHED_MUT_LEASE_FROM_ACK, &ignored);
    }
    print_message("%u ms lapsed, never while valid; mutated: %u and %u ms of both\n", lapses,
                  unwaited, from_ack);
    assert_true(lapses > 1000);
    assert_true(unwaited > 0);
    assert_true(from_ack > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases_new_leader_waits_a_full_lease),
        cmocka_unit_test(test_leases_renewal_moves_the_end),
        cmocka_unit_test(test_leases_table_is_bounded),
        cmocka_unit_test(test_leases_node_counts_from_sending),
        cmocka_unit_test(test_leases_answers_out_of_order),
        cmocka_unit_test(test_leases_never_both_in_true_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
