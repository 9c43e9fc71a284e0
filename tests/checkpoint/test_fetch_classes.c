/* The fetch core: priorities, rates, limits. */
#include "base/err.h"
#include "tests/checkpoint/fetch_kit.h"

static void test_fetch_urgent_classes_go_first(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r, s;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 1000, 1);
    r = fk_request(w, 0);
    s = fk_request(w, 1);
    fk_add(w, 2, CKPT_FETCH_UNACKED, 10000, 300, 1);
    fk_add(w, 3, CKPT_FETCH_RESUME, 20000, 40, 1);
    fk_answer(w, &r, CKPT_FETCH_ARRIVED); /* the window grows: two may start */
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_REQUEST), 2);
    assert_int_equal(fk_request(w, 0).u.request.class, CKPT_FETCH_RESUME);
    assert_int_equal(fk_request(w, 0).u.request.count, 32);
    assert_int_equal(fk_request(w, 1).u.request.class, CKPT_FETCH_RESUME);
    assert_int_equal(fk_request(w, 1).u.request.count, 8);
    r = fk_request(w, 0);
    fk_answer(w, &s, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_request(w, 0).u.request.class, CKPT_FETCH_UNACKED);
    /* Raised by a second ADD, it is as urgent as can be. */
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 1000, 1);
    fk_answer(w, &r, CKPT_FETCH_ARRIVED);
    r = fk_request(w, 0);
    assert_int_equal(r.u.request.class, CKPT_FETCH_RESUME);
    assert_int_equal(fk_number(&r.manifest), 1);
}

/* Strict: while an urgent chunk waits, others do not even use links that are idle. */
static void test_fetch_urgent_job_has_the_node_for_itself(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;
    uint32_t i, others = 0;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_UNACKED, 0, 96, 1); /* two requests, and one that waits */
    r = fk_request(w, 0);
    fk_add(w, 2, CKPT_FETCH_REPAIR, 1000, 50, 0);
    fk_holder(w, 2, 2, NULL);
    assert_int_equal(w->acts->count, 0);
    fk_answer(w, &r, CKPT_FETCH_ARRIVED);
    for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
        others += fk_request(w, i).u.request.class == CKPT_FETCH_REPAIR;
    }
    assert_int_equal(fk_request(w, 0).u.request.class, CKPT_FETCH_UNACKED);
    assert_int_equal(others, 2); /* all of it is under way: now the others may */
}

/* An urgent job that nobody can serve does not stop the others. */
static void test_fetch_stuck_urgent_job_blocks_nobody(void **state)
{
    struct world *w = *state;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 10, 0);
    fk_add(w, 2, CKPT_FETCH_SCRUB, 100, 10, 1);
    assert_int_equal(fk_request(w, 0).u.request.class, CKPT_FETCH_SCRUB);
}

static void test_fetch_bulk_leaves_room_for_urgent(void **state)
{
    struct world *w = *state;
    uint32_t round, in_flight = 0;
    struct ckpt_fetch_action first;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 5000, 1);
    in_flight = fk_count(w, CKPT_FETCH_ACT_REQUEST);
    for (round = 0; round < 20; round++) { /* the window opens to its limit */
        struct ckpt_fetch_action r = fk_request(w, 0);

        w->now_ms++;
        fk_answer(w, &r, CKPT_FETCH_ARRIVED);
        in_flight += fk_count(w, CKPT_FETCH_ACT_REQUEST) - 1;
    }
    assert_int_equal(in_flight, 6);
    fk_add(w, 2, CKPT_FETCH_RESUME, 10000, 500, 1);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_REQUEST), 2);
    first = fk_request(w, 0);
    assert_int_equal(first.u.request.class, CKPT_FETCH_RESUME);
}

/* Three bulk classes that all want everything: chunks by weight. */
static void test_fetch_bulk_classes_share_by_weight(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action queue[64];
    uint32_t head = 0, tail = 0, chunks[CKPT_FETCH_CLASS_COUNT] = {0}, i, total = 0;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_SCRUB, 0, 30000, 1);
    for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
        queue[tail++ % 64] = fk_request(w, i);
    }
    fk_add(w, 2, CKPT_FETCH_REBALANCE, 100000, 30000, 1);
    fk_add(w, 3, CKPT_FETCH_REPAIR, 200000, 30000, 1);
    while (total < 12000) {
        assert_true(head < tail);
        w->now_ms++;
        i = head++ % 64;
        fk_answer(w, &queue[i], CKPT_FETCH_ARRIVED);
        for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
            queue[tail % 64] = fk_request(w, i);
            chunks[queue[tail % 64].u.request.class] += queue[tail % 64].u.request.count;
            total += queue[tail++ % 64].u.request.count;
        }
    }
    assert_in_range(chunks[CKPT_FETCH_REPAIR], 7900, 8100);
    assert_in_range(chunks[CKPT_FETCH_REBALANCE], 2900, 3100);
    assert_in_range(chunks[CKPT_FETCH_SCRUB], 900, 1100);
}

static void test_fetch_rate_is_kept(void **state)
{
    struct world *w = *state;
    uint64_t begin_ms, rate = 10u << 20;

    w->config.rates[CKPT_FETCH_REPAIR] = rate;
    fk_begin(w);
    begin_ms = w->now_ms;
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 2000, 3); /* 125 MiB: the burst, and 11.5 s */
    while (fk_stats(w).done == 0) {
        uint64_t moved;

        if (fk_count(w, CKPT_FETCH_ACT_REQUEST) > 0) {
            fk_serve_all(w, 1);
        } else {
            assert_true(w->acts->wake_at_ms != CKPT_FETCH_NEVER_MS);
            fk_tick(w, w->acts->wake_at_ms - w->now_ms);
        }
        moved = fk_stats(w).arrived_bytes;
        /* Burst, time passed, and one request that may run into debt. */
        assert_true(moved <= rate + rate * (w->now_ms - begin_ms) / 1000 + (2u << 20));
    }
    assert_in_range(w->now_ms - begin_ms, 11000, 12600);
    assert_int_equal(fk_stats(w).arrived, 2000);
}

static void test_fetch_rate_can_change(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_RATES};

    w->config.rates[CKPT_FETCH_REPAIR] = 1;
    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 640, 1);
    fk_serve_all(w, 1);
    assert_int_equal(fk_stats(w).arrived, 32); /* one request, then debt for a month */
    fk_step(w, &event);
    fk_serve_all(w, 1);
    assert_int_equal(fk_stats(w).done, 1);
    event.u.rates[0] = CKPT_FETCH_RATE_MAX + 1;
    assert_int_equal(fk_try_step(w, &event), SHL_EINVALIDARG);
}

/*- Limits. */

static void test_fetch_refuses_what_is_over_its_limits(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_config bad = w->config;
    uint32_t i;

    fk_begin(w);
    for (i = 0; i < CKPT_FETCH_JOBS_MAX; i++) {
        fk_add(w, i + 1, CKPT_FETCH_REPAIR, 10 * i, 2, 0);
    }
    assert_int_equal(fk_try_add(w, 999, CKPT_FETCH_REPAIR, 0, 2, 0), SHL_ELIMIT);
    assert_int_equal(fk_try_add(w, 1, CKPT_FETCH_REPAIR, 0, 2, 20), 0); /* 16 of them count */
    fk_serve_all(w, 1);
    assert_int_equal(fk_stats(w).done, 1);
    assert_int_equal(fk_try_add(w, 999, CKPT_FETCH_REPAIR, 0, CKPT_FETCH_CHUNKS_MAX, 0),
                     SHL_ELIMIT);
    assert_int_equal(fk_try_add(w, 999, CKPT_FETCH_CLASS_COUNT, 0, 2, 0), SHL_EINVALIDARG);
    assert_int_equal(fk_stats(w).jobs, CKPT_FETCH_JOBS_MAX - 1);
    bad.request_chunks = CKPT_FETCH_REQUEST_CHUNKS_MAX + 1;
    ckpt_fetch_free(w->f);
    w->f = NULL;
    assert_int_equal(ckpt_fetch_new(&bad, &w->f), SHL_EINVALIDARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fetch_urgent_classes_go_first, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_urgent_job_has_the_node_for_itself, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_stuck_urgent_job_blocks_nobody, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_bulk_leaves_room_for_urgent, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_bulk_classes_share_by_weight, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_rate_is_kept, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_rate_can_change, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_refuses_what_is_over_its_limits, fk_setup,
                                        fk_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
