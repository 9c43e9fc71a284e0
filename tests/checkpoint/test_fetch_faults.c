/* The fetch core: peers that lie, lack or vanish. */
#include "base/err.h"
#include "tests/checkpoint/fetch_kit.h"

static void test_fetch_wrong_bytes_are_quarantined(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    struct ckpt_fetch_result results[2] = {{0, CKPT_FETCH_BAD, 65536}, {1, CKPT_FETCH_ARRIVED, 9}};
    uint8_t liar;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 2, 2);
    r = fk_request(w, 0);
    liar = r.u.request.peer.bytes[0];
    event.u.answer.request = r.u.request.request;
    event.u.answer.results = results;
    event.u.answer.count = 2;
    event.u.answer.last = true;
    fk_step(w, &event);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_QUARANTINE, 0).u.quarantine.peer.bytes[0], liar);
    assert_int_equal(fk_stats(w).bad, 1);
    assert_int_equal(fk_stats(w).wasted_bytes, 65536);
    r = fk_request(w, 0);
    assert_int_equal(r.u.request.count, 1);
    assert_int_not_equal(r.u.request.peer.bytes[0], liar);
    fk_answer(w, &r, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
}

static void test_fetch_liar_is_left_out(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action queue[64];
    uint32_t head = 0, tail = 0, i;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 2000, 2);
    for (;;) {
        for (i = 0; i < fk_count(w, CKPT_FETCH_ACT_REQUEST); i++) {
            queue[tail++ % 64] = fk_request(w, i);
        }
        if (head == tail) {
            break;
        }
        w->now_ms++;
        i = head++ % 64;
        fk_answer(w, &queue[i],
                  queue[i].u.request.peer.bytes[0] == 1 ? CKPT_FETCH_BAD : CKPT_FETCH_ARRIVED);
    }
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    assert_true(fk_stats(w).bad <= 2 * 32); /* what was in flight when the first came */
    fk_holder(w, 1, 1, NULL);
    fk_add(w, 2, CKPT_FETCH_RESUME, 5000, 10, 1); /* it is the only one: not even then */
    assert_int_equal(w->acts->count, 0);
}

static void test_fetch_missing_chunk_waits_for_a_holder_then_fails(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 5, 1);
    r = fk_request(w, 0);
    fk_answer(w, &r, CKPT_FETCH_LACKS);
    assert_int_equal(w->acts->count, 0);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 30000);
    fk_tick(w, 29999);
    assert_int_equal(w->acts->count, 0);
    fk_holder(w, 1, 2, NULL); /* in time */
    r = fk_request(w, 0);
    fk_answer(w, &r, CKPT_FETCH_LACKS);
    fk_tick(w, 30000);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.reason, CKPT_FETCH_NO_CHUNK);
    r = fk_act(w, CKPT_FETCH_ACT_FAILED, 0);
    assert_int_equal(r.u.failed.missing, 5);
    assert_true(fk_number(&r.u.failed.chunk) < 5);
}

static void test_fetch_lost_holder_is_replaced(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 5, 1);
    r = fk_request(w, 0);
    fk_holder_lost(w, 0, 1);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_CANCEL, 0).u.cancel, r.u.request.request);
    fk_tick(w, 20000);
    fk_holder(w, 1, 3, NULL);
    r = fk_request(w, 0);
    assert_int_equal(r.u.request.peer.bytes[0], 3);
    fk_holder_lost(w, 1, 3);
    fk_tick(w, 30000);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_FAILED, 0).u.failed.reason, CKPT_FETCH_NO_HOLDER);
}

static void test_fetch_answers_that_make_no_sense_do_no_harm(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_ANSWER};
    struct ckpt_fetch_result results[] = {
        {UINT32_MAX, CKPT_FETCH_ARRIVED, 7},
        {3, CKPT_FETCH_ARRIVED, 7}, /* behind the end */
        {0, CKPT_FETCH_ARRIVED, 7},
        {0, CKPT_FETCH_BAD, 7}, /* twice */
    };
    uint64_t deadline_at_ms;

    w->config.endgame = 0;
    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 3, 1);
    r = fk_request(w, 0);
    deadline_at_ms = r.u.request.deadline_at_ms;
    event.u.answer.request = r.u.request.request;
    event.u.answer.results = results;
    event.u.answer.count = 4;
    w->now_ms += 100;
    fk_step(w, &event);
    assert_int_equal(w->acts->count, 0);
    assert_int_equal(fk_stats(w).arrived, 1);
    assert_int_equal(fk_stats(w).wasted_bytes, 21);
    assert_int_equal(fk_stats(w).missing, 2);
    assert_int_equal(w->acts->wake_at_ms, w->now_ms + 5000); /* it moves: more time */
    event.u.answer.count = 2;
    w->now_ms += 100;
    fk_step(w, &event);
    assert_int_equal(w->acts->wake_at_ms, deadline_at_ms + 100); /* nothing new: none */
    event.u.answer.request = 99;
    fk_step(w, &event);
    event.u.answer.request = r.u.request.request;
    event.u.answer.count = 0;
    event.u.answer.last = true; /* says nothing of the other two: it has not */
    fk_step(w, &event);
    assert_int_equal(fk_stats(w).lacks, 2);
}

static void test_fetch_present_chunks_are_not_waited_for(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_action r;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_PRESENT};
    struct ckpt_id ids[3] = {fk_id(0), fk_id(1), fk_id(77)};

    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_RESUME, 0, 2, 1);
    r = fk_request(w, 0);
    event.u.present.ids = ids;
    event.u.present.count = 3;
    fk_step(w, &event);
    assert_int_equal(fk_act(w, CKPT_FETCH_ACT_CANCEL, 0).u.cancel, r.u.request.request);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
}

/* It came for one job and rotted or was collected; the next job says that it is not there. */
static void test_fetch_chunks_gone_again_are_asked_for(void **state)
{
    struct world *w = *state;
    struct ckpt_fetch_event event = {.type = CKPT_FETCH_EV_PRESENT};
    struct ckpt_id ids[1] = {fk_id(0)};
    struct ckpt_fetch_action first, second;

    w->config.endgame = 0;
    fk_begin(w);
    fk_add(w, 1, CKPT_FETCH_REPAIR, 0, 2, 1);
    first = fk_request(w, 0);
    event.u.present.ids = ids;
    event.u.present.count = 1;
    fk_step(w, &event);
    assert_int_equal(fk_stats(w).missing, 1);
    fk_add(w, 2, CKPT_FETCH_REPAIR, 0, 1, 1);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 0);
    assert_int_equal(fk_stats(w).missing, 3); /* the first one needs it again as well */
    second = fk_request(w, 0);
    assert_int_equal(fk_number(&second.u.request.ids[0]), 0);
    fk_answer(w, &second, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    fk_answer(w, &first, CKPT_FETCH_ARRIVED);
    assert_int_equal(fk_count(w, CKPT_FETCH_ACT_DONE), 1);
    assert_int_equal(fk_stats(w).missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fetch_wrong_bytes_are_quarantined, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_liar_is_left_out, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_missing_chunk_waits_for_a_holder_then_fails,
                                        fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_lost_holder_is_replaced, fk_setup, fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_answers_that_make_no_sense_do_no_harm, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_present_chunks_are_not_waited_for, fk_setup,
                                        fk_teardown),
        cmocka_unit_test_setup_teardown(test_fetch_chunks_gone_again_are_asked_for, fk_setup,
                                        fk_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
