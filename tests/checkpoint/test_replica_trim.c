/* The repair planner: dropping copies that are too many. */
#include "tests/checkpoint/plan_kit.h"

/* Node number 4, 3.. that has a copy too many of entry 0 (R = 2, owner 0); the other place. */
static uint32_t one_too_many(struct world *w, uint32_t *ret_second)
{
    uint32_t second, third;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    third = second == 4 ? 3 : 4;
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second | 1u << third);
    *ret_second = second;
    return third;
}

static void answered(struct world *w, uint32_t from, uint64_t token, bool yes)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ANSWERED, .now_ms = w->now_ms};

    event.u.answered.from = pk_node_id(from);
    event.u.answered.manifest = pk_manifest(0);
    event.u.answered.token = token;
    event.u.answered.yes = yes;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
}

static bool asked(struct world *w, uint32_t from, bool held)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ASKED, .now_ms = w->now_ms};

    event.u.asked.from = pk_node_id(from);
    event.u.asked.manifest = pk_manifest(0);
    event.u.asked.token = 5;
    event.u.asked.held = held;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
    assert_int_equal(w->acts.count, 1);
    assert_int_equal(w->acts.items[0].type, CKPT_PLAN_ACT_ANSWER);
    assert_int_equal(w->acts.items[0].u.message.token, 5);
    return w->acts.items[0].u.message.yes;
}

static void test_trim_needs_a_yes_of_all(void **state)
{
    struct world *w = *state;
    struct ckpt_plan_event done = {.type = CKPT_PLAN_EV_TRIMMED};
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    pk_begin(w, self);
    pk_view(w, 0);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_ASK), 2);
    assert_int_equal(w->acts.report.extra, 1);
    token = w->acts.items[0].u.message.token;
    w->now_ms += 500;
    answered(w, 0, token, true);
    answered(w, 0, token, true); /* twice is once */
    assert_int_equal(w->acts.count, 0);
    answered(w, second, token + 1, true); /* to another question */
    answered(w, self, token, true);       /* by somebody who was not asked */
    assert_int_equal(w->acts.count, 0);
    assert_false(asked(w, 0, true)); /* it wants to drop it */
    answered(w, second, token, true);
    assert_int_equal(w->acts.items[0].type, CKPT_PLAN_ACT_TRIM);
    assert_int_equal(w->acts.items[0].u.until_ms, w->now_ms + 10000);
    assert_false(asked(w, 0, true)); /* it is being dropped */
    pk_view(w, 1000);
    assert_int_equal(w->acts.count, 0);
    done.now_ms = w->now_ms;
    done.u.trimmed.manifest = pk_manifest(0);
    assert_int_equal(ckpt_plan_step(w->plan, &done, &w->acts), 0);
    assert_false(asked(w, 0, false));
}

static void test_trim_ends_with_a_no_or_with_time(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    pk_begin(w, self);
    pk_view(w, 0);
    token = w->acts.items[0].u.message.token;
    answered(w, second, token, false);
    answered(w, 0, token, true);
    assert_int_equal(w->acts.count, 0);
    pk_view(w, 29999); /* not at once again */
    assert_int_equal(w->acts.count, 0);
    pk_view(w, 1);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_ASK), 2);
    token = w->acts.items[0].u.message.token;
    w->now_ms += 10001;
    answered(w, 0, token, true);
    answered(w, second, token, true);
    assert_int_equal(w->acts.count, 0);
}

static void test_trim_waits_until_all_places_are_well(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second), i;

    for (i = 0; i < NODES; i++) { /* the owner never drops its copy, a place neither */
        if (i != self) {
            pk_begin(w, i);
            pk_view(w, 0);
            assert_int_equal(w->acts.count, 0);
        }
    }
    pk_begin(w, self);
    pk_life(w, second, CKPT_PLAN_SUSPECT);
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 0);
    pk_life(w, second, CKPT_PLAN_ALIVE); /* back for less than settle_ms */
    pk_view(w, 29999);
    assert_int_equal(w->acts.count, 0);
    pk_view(w, 1);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_ASK), 2);
    pk_begin(w, self);
    pk_entry(w, 0, 2, 0, 1u << self | 1u << 0); /* the second place lost it */
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 0);
    pk_entry(w, 0, 5, 0, 0x1f); /* all nodes are wanted: no copy is too many */
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 0);
    pk_entry(w, 0, 2, self, 0x1f); /* it is the owner now */
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 0);
}

/* The view changes while answers are awaited. */
static void test_trim_is_given_up_when_the_view_changes(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    pk_begin(w, self);
    pk_view(w, 0);
    token = w->acts.items[0].u.message.token;
    answered(w, 0, token, true);
    pk_life(w, second, CKPT_PLAN_DEAD);
    pk_view(w, 1000);
    answered(w, second, token, true);
    assert_int_equal(w->acts.count, 0);
}

static void test_trim_draining_node_says_no(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);

    pk_begin(w, self);
    assert_false(asked(w, 0, false)); /* it has none */
    assert_true(asked(w, 0, true));
    w->nodes[self].draining = true;
    pk_view(w, 0);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_ASK), 2);
    w->entry_count = 0;
    pk_view(w, 0);                   /* nothing to trim */
    assert_false(asked(w, 0, true)); /* it will be gone soon */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trim_needs_a_yes_of_all, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_trim_ends_with_a_no_or_with_time, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_trim_waits_until_all_places_are_well, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_trim_is_given_up_when_the_view_changes, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_trim_draining_node_says_no, pk_setup, pk_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
