/* The repair planner: who fetches what, when, and in which order. */
#include "base/err.h"
#include "tests/checkpoint/plan_kit.h"

static void test_plan_one_node_makes_the_second_copy(void **state)
{
    struct world *w = *state;
    uint32_t who;

    pk_entry(w, 0, 2, 0, 1u << 0);
    who = pk_fetcher(w);
    assert_in_range(who, 1, 4);
    pk_begin(w, who);
    pk_view(w, 0);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REPAIR);
    assert_int_equal(w->acts.items[0].u.fetch.remaining, 1);
    assert_int_equal(w->acts.report.short_of, 1);
    pk_view(w, 1000); /* it is under way */
    assert_int_equal(w->acts.count, 0);
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << who);
    assert_int_equal(pk_fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.full, 1);
}

static void test_plan_only_death_and_grace_trigger_repair(void **state)
{
    struct world *w = *state;
    uint32_t second;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    pk_life(w, second, CKPT_PLAN_SUSPECT);
    w->now_ms += 3600 * 1000;
    assert_int_equal(pk_fetcher(w), NOBODY);
    pk_life(w, second, CKPT_PLAN_DEAD);
    w->now_ms += 59999;
    assert_int_equal(pk_fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.graced, 1);
    w->now_ms += 1;
    assert_in_range(pk_fetcher(w), 1, 4);
    w->nodes[second].planned = true; /* it said that it would be back */
    assert_int_equal(pk_fetcher(w), NOBODY);
    w->now_ms += 540000;
    assert_in_range(pk_fetcher(w), 1, 4);
    w->nodes[second].planned = false;
    pk_life(w, second, CKPT_PLAN_LEFT);
    assert_in_range(pk_fetcher(w), 1, 4);
}

static void test_plan_return_of_a_node_cancels_the_repair(void **state)
{
    struct world *w = *state;
    uint32_t second, third;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    pk_life(w, second, CKPT_PLAN_DEAD);
    w->now_ms += 60000;
    third = pk_fetcher(w);
    pk_begin(w, third);
    pk_view(w, 0);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_FETCH), 1);
    pk_life(w, second, CKPT_PLAN_ALIVE);
    pk_view(w, 1000);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_CANCEL), 1);
    pk_view(w, 1000);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_deleted_checkpoint_is_not_fetched_on(void **state)
{
    struct world *w = *state;

    pk_entry(w, 0, 2, 0, 1u << 0);
    pk_begin(w, pk_fetcher(w));
    pk_view(w, 0);
    w->entry_count = 0;
    pk_view(w, 1000);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_CANCEL), 1);
}

static void test_plan_draining_copies_do_not_count(void **state)
{
    struct world *w = *state;
    uint32_t second, third;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    w->nodes[second].draining = true;
    third = pk_fetcher(w);
    assert_int_not_equal(third, second);
    assert_in_range(third, 1, 4);
    pk_begin(w, third); /* the draining node is as good a source as any */
    pk_entry(w, 0, 2, NOBODY, 1u << second);
    pk_view(w, 0);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_FETCH), 1);
    assert_int_equal(w->acts.items[0].u.fetch.remaining, 0);
}

static void test_plan_nothing_new_for_full_and_flapping_nodes(void **state)
{
    struct world *w = *state;
    uint32_t second, other;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    w->nodes[second].full = true;
    other = pk_fetcher(w);
    assert_int_not_equal(other, second);
    w->nodes[other].flapping = true;
    assert_true(pk_fetcher(w) != second && pk_fetcher(w) != other);
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second); /* but what is there stays */
    assert_int_equal(pk_fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.full, 1);
}

/* Made while its place is away, for a minute or for an upgrade: copied at once to one that is
 * there. */
static void test_plan_new_checkpoints_do_not_wait_for_a_dead_node(void **state)
{
    struct world *w = *state;
    uint32_t second, other;
    int planned;

    for (planned = 0; planned < 2; planned++) {
        pk_entry(w, 0, 2, 0, 1u << 0);
        second = pk_fetcher(w);
        w->nodes[second].planned = planned;
        pk_life(w, second, CKPT_PLAN_SUSPECT);
        assert_int_equal(pk_fetcher(w), second);
        pk_life(w, second, CKPT_PLAN_DEAD);
        other = pk_fetcher(w);
        assert_true(other != second && other != NOBODY);
        assert_int_equal(w->acts.report.short_of, 1);
        pk_entry(w, 0, 2, 0, 1u << 0 | 1u << other);
        assert_int_equal(pk_fetcher(w), NOBODY);
        assert_int_equal(w->acts.report.full, 1);
        /* It is back: that copy belongs to it, though nothing is urgent about it. */
        pk_life(w, second, CKPT_PLAN_ALIVE);
        assert_int_equal(pk_fetcher(w), second);
        assert_int_equal(w->acts.report.short_of, 0);
        /* What it has is kept for it as before. */
        pk_entry(w, 0, 2, 0, 1u << 0 | 1u << second);
        pk_life(w, second, CKPT_PLAN_DEAD);
        assert_int_equal(pk_fetcher(w), NOBODY);
        assert_int_equal(w->acts.report.graced, 1);
        pk_life(w, second, CKPT_PLAN_ALIVE);
    }
}

static void test_plan_new_place_is_a_rebalance(void **state)
{
    struct world *w = *state;
    uint32_t second, wrong, who;

    pk_entry(w, 0, 2, 0, 1u << 0);
    second = pk_fetcher(w);
    wrong = second == 1 ? 2 : 1;
    pk_entry(w, 0, 2, 0, 1u << 0 | 1u << wrong);
    who = pk_fetcher(w);
    assert_int_equal(who, second);
    pk_begin(w, who);
    pk_view(w, 0);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REBALANCE);
    pk_life(w, wrong, CKPT_PLAN_LEFT); /* now it matters: told again, with the better class */
    pk_view(w, 1000);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_FETCH), 1);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REPAIR);
    pk_begin(w, who);
    w->budget.rebalances = 0;
    pk_life(w, wrong, CKPT_PLAN_ALIVE);
    pk_view(w, 1000);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_without_source_waits(void **state)
{
    struct world *w = *state;
    uint32_t i;

    pk_entry(w, 0, 2, 0, 1u << 0);
    pk_life(w, 0, CKPT_PLAN_DEAD);
    assert_int_equal(pk_fetcher(w), NOBODY);
    w->now_ms += 60000;
    for (i = 1; i < NODES; i++) {
        pk_begin(w, i);
        pk_view(w, 0);
        assert_int_equal(w->acts.count, 0);
        assert_int_equal(w->acts.report.lost, 1);
    }
}

static void test_plan_unsettled_view_begins_nothing(void **state)
{
    struct world *w = *state;
    uint32_t who;

    pk_entry(w, 0, 2, 0, 1u << 0);
    who = pk_fetcher(w);
    pk_begin(w, who);
    w->settled = false;
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 0);
    w->settled = true;
    pk_view(w, 0);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_FETCH), 1);
    w->settled = false;
    w->entry_count = 0;
    pk_view(w, 0); /* nor does it end anything */
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_failed_fetch_rests(void **state)
{
    struct world *w = *state;

    pk_entry(w, 0, 2, 0, 1u << 0);
    pk_begin(w, pk_fetcher(w));
    pk_view(w, 0);
    pk_ended(w, 0, false);
    pk_view(w, 29999);
    assert_int_equal(w->acts.count, 0);
    pk_view(w, 1);
    assert_int_equal(pk_count(w, CKPT_PLAN_ACT_FETCH), 1);
}

/* Of 90 checkpoints, a third have one copy left, a third are in the wrong place: the order is
 * by copies that remain, then rebalancing, and never more than the budget. */
static void test_plan_order_and_budget(void **state)
{
    struct world *w = *state;
    uint32_t i, last = 0, fetches = 0;

    for (i = 0; i < 90; i++) {
        pk_entry(w, i, 3, 0, i % 3 == 0 ? 0x03 : i % 3 == 1 ? 0x01 : 0x07);
    }
    pk_begin(w, 4);
    w->budget = (struct ckpt_plan_budget){64, 5, 50 * 1000};
    pk_view(w, 0);
    for (i = 0; i < w->acts.count; i++) {
        const struct ckpt_plan_action *act = &w->acts.items[i];
        uint32_t rank = act->u.fetch.class * 10u + act->u.fetch.remaining;

        assert_int_equal(act->type, CKPT_PLAN_ACT_FETCH);
        assert_true(rank >= last);
        last = rank;
        fetches++;
    }
    assert_true(fetches > 10 && fetches <= 50);
    assert_int_equal(w->acts.items[0].u.fetch.remaining, 1);
    pk_begin(w, 4);
    w->budget.fetches = 3;
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 3);
    pk_view(w, 1000);
    assert_int_equal(w->acts.count, 0);
    pk_ended(w, w->acts.items[0].manifest.bytes[0], true);
    pk_begin(w, 4);
    w->budget.fetches = 10;
    w->budget.bytes = 10; /* less than one: one at a time all the same */
    pk_view(w, 0);
    assert_int_equal(w->acts.count, 1);
}

static void test_plan_reports_cramped_domains(void **state)
{
    struct world *w = *state;
    uint32_t i;

    for (i = 0; i < NODES; i++) {
        w->nodes[i].domain = i < 4 ? "rack" : "cellar";
    }
    pk_entry(w, 0, 2, 0, 1u << 0);
    assert_int_equal(pk_fetcher(w), 4);
    assert_int_equal(w->acts.report.cramped, 0);
    pk_life(w, 4, CKPT_PLAN_LEFT);
    assert_in_range(pk_fetcher(w), 1, 3);
    assert_int_equal(w->acts.report.cramped, 1);
}

static void test_plan_refuses_views_that_make_no_sense(void **state)
{
    struct world *w = *state;
    struct ckpt_plan_config bad;

    pk_entry(w, 0, 2, 0, 1u << 0);
    pk_entry(w, 1, 2, 0, 1u << 0);
    pk_begin(w, 1);
    w->entries[0].copies = 0;
    assert_int_equal(pk_try_view(w), SHL_EINVALIDARG);
    w->entries[0].copies = 2;
    w->entries[1].manifest = w->entries[0].manifest;
    assert_int_equal(pk_try_view(w), SHL_EINVALIDARG);
    w->entry_count = 1;
    w->nodes[1].id = pk_node_id(9); /* out of order, and this node is missing */
    assert_int_equal(pk_try_view(w), SHL_EINVALIDARG);
    assert_int_equal(w->acts.count, 0);
    bad = w->config;
    bad.planned_ms = bad.grace_ms - 1;
    ckpt_plan_free(w->plan);
    w->plan = NULL;
    assert_int_equal(ckpt_plan_new(&bad, &w->plan), SHL_EINVALIDARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan_one_node_makes_the_second_copy, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_only_death_and_grace_trigger_repair, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_return_of_a_node_cancels_the_repair, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_deleted_checkpoint_is_not_fetched_on, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_draining_copies_do_not_count, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_new_checkpoints_do_not_wait_for_a_dead_node,
                                        pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_nothing_new_for_full_and_flapping_nodes, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_new_place_is_a_rebalance, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_without_source_waits, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_unsettled_view_begins_nothing, pk_setup,
                                        pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_failed_fetch_rests, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_order_and_budget, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_reports_cramped_domains, pk_setup, pk_teardown),
        cmocka_unit_test_setup_teardown(test_plan_refuses_views_that_make_no_sense, pk_setup,
                                        pk_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
