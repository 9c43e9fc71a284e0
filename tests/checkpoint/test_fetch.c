/* The fetch core: what is asked of whom, and when. */
#include "base/err.h"
#include "tests/checkpoint/fetch_kit.h"

/*- Asking. */

static void test_fetch_nothing_missing_is_done(void **state)
{
    struct world *w = *state;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 0, 1);
    assert_int_equal(w->acts->count, 1);
    assert_int_equal(w->acts->items[0].type, CKPT_FETCH_ACT_DONE);
    assert_true(w->acts->wake_at_ms == CKPT_FETCH_NEVER_MS);
}

static void test_fetch_asks_only_for_what_is_missing(void **state)
{
    struct world *w = *state;
    struct ckpt_id ids[12];
    uint8_t present[2] = {0x0f, 0x01}; /* 0..3 and 8 */
    struct shl_node_id peer = fk_peer(1);
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    struct ckpt_fetch_action r;
    uint32_t i, seen = 0;

    fk_begin(w);
    for (i = 0; i < 10; i++) {
        ids[i] = fk_id(i);
    }
    ids[10] = fk_id(9);                  /* twice */
    memset(&ids[11], 0, sizeof(ids[0])); /* the chunk of zeros */
    event.u.add.manifest = fk_manifest(1);
    event.u.add.class = CKPT_FETCH_RESUME;
    event.u.add.deadline_at_ms = CKPT_FETCH_NEVER_MS;
    event.u.add.ids = ids;
    event.u.add.count = 12;
    event.u.add.present = present;
    event.u.add.holders = &peer;
    event.u.add.holder_count = 1;
    fk_step(w, &event);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_REQUEST), 1);
    r = fk_request(w, 0);
    for (i = 0; i < r.u.request.count; i++) {
        seen |= 1u << fk_number(&r.u.request.ids[i]);
    }
    assert_int_equal(r.u.request.count, 5);
    assert_int_equal(seen, 0x2f0); /* 4..7 and 9 */
    fk_answer(w, &r, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_DONE, 0).u.done.chunks, 5);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_DONE, 0).u.done.bytes, 5 * 65536);
}

static void test_fetch_asks_all_holders_within_limits(void **state)
{
    struct world *w = *state;
    uint32_t per_peer[5] = {0}, i;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 5000, 4);
    for (i = 0; i < w->acts->count; i++) {
        struct ckpt_fetch_action r = fk_request(w, i);

        assert_int_equal(r.u.request.count, 32);
        per_peer[r.u.request.peer.bytes[0]]++;
    }
    for (i = 1; i <= 4; i++) {
        assert_int_equal(per_peer[i], 2); /* peers that were not measured yet get two */
    }
    fk_serve_all(w, 1);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    assert_int_equal(fk_stats(w).arrived, 5000);
    assert_int_equal(fk_stats(w).in_flight_bytes, 0);
    assert_int_equal(fk_stats(w).requests, 0);
}

/* Bytes on the wire against bytes that were missing, with nothing going wrong. */
static void test_fetch_moves_each_byte_once(void **state)
{
    struct world *w = *state;
    uint32_t peers;

    fk_begin(w);
    for (peers = 1; peers <= 5; peers++) {
        struct ckpt_fetch_stats before = fk_stats(w), after;

        fk_add(w, peers, CKPT_FETCH_REPAIR, peers * 10000, 3001, peers);
        fk_serve_all(w, 3);
        after = fk_stats(w);
        assert_int_equal(after.done, peers);
        assert_int_equal(after.arrived - before.arrived, 3001);
        assert_true((double)(after.arrived_bytes + after.wasted_bytes - before.arrived_bytes) <=
                    1.05 * 3001 * 65536);
        assert_int_equal(after.wasted_bytes, 0);
        assert_int_equal(after.duplicates, 0);
    }
}

static void test_fetch_shares_chunks_between_jobs(void **state)
{
    struct world *w = *state;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 100, 1);
    {
        struct ckpt_fetch_action first = fk_request(w, 0), second = fk_request(w, 1), third;

        fk_add(w, 2, CKPT_FETCH_RESUME, 0, 120, 2); /* 20 of its own, 36 nobody was asked for yet */
        assert_int_equal(fk_count(w, CKPT_FETCH_ACT_REQUEST), 2);
        third = fk_request(w, 0);
        assert_int_equal(third.u.request.count + fk_request(w, 1).u.request.count, 56);
        {
            struct ckpt_fetch_action fourth = fk_request(w, 1);

            fk_answer(w, &third, CKPT_FETCH_ARRIVED);
            fk_answer(w, &fourth, CKPT_FETCH_ARRIVED);
        }
        fk_answer(w, &first, CKPT_FETCH_ARRIVED);
        assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 0);
        fk_answer(w, &second, CKPT_FETCH_ARRIVED);
    }
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 2);
    assert_int_equal(fk_stats(w).arrived, 120);
    assert_int_equal(fk_stats(w).wasted_bytes, 0);
}

/* A request of a job that ends is asked anew for the other job that counted on it. */
static void test_fetch_dropped_job_leaves_shared_chunks_to_the_other(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_DROP};

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 10, 1);
    fk_add(w, 2, CKPT_FETCH_REPAIR, 0, 10, 2);
    assert_int_equal(w->acts->count, 0);
    event.u.drop.manifest = fk_manifest(1);
    fk_step(w, &event);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_CANCEL), 1);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.reason, CKPT_FETCH_DROPPED);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.missing, 10);
    assert_int_equal(fk_request(w, 0).u.request.count, 10);
    fk_serve_all(w, 1);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
}

static void test_fetch_takes_rare_chunks_first(void **state)
{
    struct world *w = *state;
    uint8_t has[13];
    struct ckpt_fetch_action r;
    uint32_t i;

    w->config.random_first = 0;
    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 100, 0);
    memset(has, 0xff, sizeof(has));
    memset(has, 0, 4); /* peer 2 and 3 lack the first 32 */
    fk_holder(w, 1, 2, has);
    {
        struct ckpt_fetch_action a = fk_request(w, 0), b = fk_request(w, 1);

        for (i = 0; i < a.u.request.count; i++) {
            assert_true(fk_number(&a.u.request.ids[i]) >= 32);
        }
        fk_holder(w, 1, 1, NULL);
        r = fk_request(w, 0);
        assert_int_equal(r.u.request.peer.bytes[0], 1);
        assert_int_equal(r.u.request.count, 32);
        for (i = 0; i < 32; i++) {
            assert_true(fk_number(&r.u.request.ids[i]) < 32);
        }
        fk_answer(w, &a, CKPT_FETCH_ARRIVED);
        fk_answer(w, &b, CKPT_FETCH_ARRIVED);
        fk_answer(w, &r, CKPT_FETCH_ARRIVED);
    }
}

/*- Time. */

static void test_fetch_deadline_follows_the_peer(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action first, next;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 500, 1);
    first = fk_request(w, 0);
    assert_int_equal(first.u.request.deadline_at_ms, w->now_ms + 5000);
    w->now_ms += 10;
    fk_answer(w, &first, CKPT_FETCH_ARRIVED);
    next = fk_request(w, 0);
    assert_int_equal(next.u.request.deadline_at_ms, w->now_ms + 250); /* the least there is */
    w->now_ms += 200;
    fk_answer(w, &next, CKPT_FETCH_ARRIVED);
    next = fk_request(w, 0);
    assert_int_equal(next.u.request.deadline_at_ms, w->now_ms + 800);
}

/* With another holder that answers, nothing is asked of the failed one for 10 s. */
static void test_fetch_failed_peer_rests(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action queue[64], r;
    uint32_t head = 0, tail = 0, i, again = 0;
    uint64_t failed_at_ms;

    fk_begin(w);
    failed_at_ms = w->now_ms;
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 100000, 2);
    while (w->now_ms < failed_at_ms + 11000) {
        for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
            r = fk_request(w, i);
            if (r.u.request.peer.bytes[0] == 1 && w->now_ms > failed_at_ms) {
                assert_true(w->now_ms >= failed_at_ms + 10000);
                again++;
            } else {
                queue[tail++ % 64] = r;
            }
        }
        assert_true(head < tail);
        r = queue[head++ % 64];
        if (r.u.request.peer.bytes[0] == 1) {
            fk_failed(w, &r);
        } else {
            w->now_ms += 100;
            fk_answer(w, &r, CKPT_FETCH_ARRIVED);
        }
    }
    assert_int_equal(fk_stats(w).failures, 2);
    assert_true(again > 0);
}

static void test_fetch_only_holder_is_tried_again_soon(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 20, 1);
    r = fk_request(w, 0);
    fk_failed(w, &r);
    assert_int_equal(w->acts->count, 0);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 500);
    fk_tick(w, 500);
    r = fk_request(w, 0);
    fk_failed(w, &r);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 1000);
    fk_tick(w, 1000);
    fk_serve_all(w, 1);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
}

static void test_fetch_gives_up_on_holders_that_never_answer(void **state)
{
    struct world *w = *state;
    uint32_t rounds = 0;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 2000, 2);
    while (fk_count(w, CKPT_FETCH_ACT_FAILED) == 0) {
        assert_true(w->acts->wake_at_ms != CKPT_FETCH_NEVER_MS);
        assert_true(++rounds < 200);
        fk_tick(w, w->acts->wake_at_ms - w->now_ms);
    }
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.reason, CKPT_FETCH_NO_ANSWER);
    assert_int_equal(fk_stats(w).requests, 0);
    assert_int_equal(fk_stats(w).jobs, 0);
    assert_true(w->now_ms < 10 * 60 * 1000);
}

static void test_fetch_job_has_a_deadline(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ADD};
    struct ckpt_id id = fk_id(1);

    fk_begin(w);
    event.u.add.manifest = fk_manifest(1);
    event.u.add.deadline_at_ms = w->now_ms + 700;
    event.u.add.ids = &id;
    event.u.add.count = 1;
    fk_step(w, &event);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 700);
    fk_tick(w, 700);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.reason, CKPT_FETCH_TIMED_OUT);
}

static void test_fetch_late_end_is_asked_twice(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r, second;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 8, 2);
    r = fk_request(w, 0);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_REQUEST), 1);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 1250); /* a quarter of the deadline */
    fk_tick(w, 1249);
    assert_int_equal(w->acts->count, 0);
    fk_tick(w, 1);
    second = fk_request(w, 0);
    assert_int_equal(second.u.request.count, 8);
    assert_int_not_equal(second.u.request.peer.bytes[0], r.u.request.peer.bytes[0]);
    fk_tick(w, 10);
    assert_int_equal(w->acts->count, 0); /* not a third time */
    fk_answer(w, &second, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_CANCEL, 0).u.cancel, r.u.request.request);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    assert_int_equal(fk_stats(w).duplicates, 8);
    fk_answer(w, &r, CKPT_FETCH_ARRIVED); /* late, and no harm */
    assert_int_equal(w->acts->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fetch_nothing_missing_is_done, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_asks_only_for_what_is_missing, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_asks_all_holders_within_limits, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_moves_each_byte_once, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_shares_chunks_between_jobs, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_dropped_job_leaves_shared_chunks_to_the_other,
                                        fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_takes_rare_chunks_first, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_deadline_follows_the_peer, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_failed_peer_rests, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_only_holder_is_tried_again_soon, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_gives_up_on_holders_that_never_answer, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_job_has_a_deadline, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_late_end_is_asked_twice, fk_setup, fk_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
