/* The repair planner, rule by rule: five nodes, one checkpoint, one node's planner at a time. */
#include "base/err.h"
#include "checkpoint/replica_plan.h"
#include "tests/checkpoint/helper.h"

#define NODES   5u
#define NOBODY  99u
#define ENTRIES 100u

struct world {
    struct ckpt_plan *plan;
    struct ckpt_plan_config config;
    struct ckpt_plan_actions acts;
    struct ckpt_plan_node nodes[NODES];
    struct ckpt_plan_entry entries[ENTRIES];
    struct shl_node_id holders[ENTRIES][NODES];
    uint32_t entry_count;
    bool settled;
    struct ckpt_plan_budget budget;
    uint64_t now_ms;
};

static struct shl_node_id node_id(uint32_t number)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = (uint8_t)(number + 1);
    return id;
}

static struct ckpt_id manifest(uint32_t number)
{
    struct ckpt_id id = {{0}};

    id.bytes[0] = (uint8_t)number;
    id.bytes[31] = 1;
    return id;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    uint32_t i;

    for (i = 0; i < NODES; i++) {
        w->nodes[i].id = node_id(i);
        w->nodes[i].weight = 100;
    }
    w->now_ms = 1000000;
    w->settled = true;
    w->budget = (struct ckpt_plan_budget){16, 4, UINT64_MAX};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    ckpt_plan_free(w->plan);
    free(w);
    return 0;
}

/* A new planner of this node. */
static void begin(struct world *w, uint32_t self)
{
    ckpt_plan_free(w->plan);
    ckpt_plan_config_defaults(&w->config);
    w->config.self = node_id(self);
    w->config.seed = 77;
    assert_int_equal(ckpt_plan_new(&w->config, &w->plan), 0);
}

/* Entry number @at, held by the nodes whose bits are in @held. */
static void entry(struct world *w, uint32_t at, uint32_t copies, uint32_t owner, uint32_t held)
{
    struct ckpt_plan_entry *e = &w->entries[at];
    uint32_t i;

    memset(e, 0, sizeof(*e));
    e->manifest = manifest(at);
    e->bytes = 1000;
    e->copies = copies;
    if (owner < NODES) {
        e->owner = node_id(owner);
    }
    e->holders = w->holders[at];
    for (i = 0; i < NODES; i++) {
        if (held >> i & 1u) {
            w->holders[at][e->holder_count++] = node_id(i);
        }
    }
    w->entry_count = SHL_MAX(w->entry_count, at + 1);
}

static int try_view(struct world *w)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_VIEW, .now_ms = w->now_ms};

    event.u.view.nodes = w->nodes;
    event.u.view.node_count = NODES;
    event.u.view.entries = w->entries;
    event.u.view.entry_count = w->entry_count;
    event.u.view.settled = w->settled;
    event.u.view.budget = w->budget;
    return ckpt_plan_step(w->plan, &event, &w->acts);
}

static void view(struct world *w, uint64_t elapsed_ms)
{
    w->now_ms += elapsed_ms;
    assert_int_equal(try_view(w), 0);
}

static void life(struct world *w, uint32_t node, enum ckpt_plan_life state)
{
    w->nodes[node].life = state;
    w->nodes[node].since_ms = w->now_ms;
}

static uint32_t count(const struct world *w, enum ckpt_plan_action_type type)
{
    uint32_t i, found = 0;

    for (i = 0; i < w->acts.count; i++) {
        found += w->acts.items[i].type == type;
    }
    return found;
}

static void ended(struct world *w, uint32_t at, bool ok)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ENDED, .now_ms = w->now_ms};

    event.u.ended.manifest = manifest(at);
    event.u.ended.ok = ok;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
}

/* Who would be told to fetch entry 0: asks the planner of every node; NOBODY, or the only one. */
static uint32_t fetcher(struct world *w)
{
    uint32_t i, who = NOBODY;

    for (i = 0; i < NODES; i++) {
        begin(w, i);
        view(w, 0);
        if (count(w, CKPT_PLAN_ACT_FETCH) > 0) {
            assert_int_equal(who, NOBODY); /* not all of them do it */
            who = i;
        }
    }
    return who;
}

/*- Fetching. */

static void test_plan_one_node_makes_the_second_copy(void **state)
{
    struct world *w = *state;
    uint32_t who;

    entry(w, 0, 2, 0, 1u << 0);
    who = fetcher(w);
    assert_in_range(who, 1, 4);
    begin(w, who);
    view(w, 0);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REPAIR);
    assert_int_equal(w->acts.items[0].u.fetch.remaining, 1);
    assert_int_equal(w->acts.report.short_of, 1);
    view(w, 1000); /* it is under way */
    assert_int_equal(w->acts.count, 0);
    entry(w, 0, 2, 0, 1u << 0 | 1u << who);
    assert_int_equal(fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.full, 1);
}

static void test_plan_only_death_and_grace_trigger_repair(void **state)
{
    struct world *w = *state;
    uint32_t second;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    life(w, second, CKPT_PLAN_SUSPECT);
    w->now_ms += 3600 * 1000;
    assert_int_equal(fetcher(w), NOBODY);
    life(w, second, CKPT_PLAN_DEAD);
    w->now_ms += 59999;
    assert_int_equal(fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.graced, 1);
    w->now_ms += 1;
    assert_in_range(fetcher(w), 1, 4);
    w->nodes[second].planned = true; /* it said that it would be back */
    assert_int_equal(fetcher(w), NOBODY);
    w->now_ms += 540000;
    assert_in_range(fetcher(w), 1, 4);
    w->nodes[second].planned = false;
    life(w, second, CKPT_PLAN_LEFT);
    assert_in_range(fetcher(w), 1, 4);
}

static void test_plan_return_of_a_node_cancels_the_repair(void **state)
{
    struct world *w = *state;
    uint32_t second, third;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    life(w, second, CKPT_PLAN_DEAD);
    w->now_ms += 60000;
    third = fetcher(w);
    begin(w, third);
    view(w, 0);
    assert_int_equal(count(w, CKPT_PLAN_ACT_FETCH), 1);
    life(w, second, CKPT_PLAN_ALIVE);
    view(w, 1000);
    assert_int_equal(count(w, CKPT_PLAN_ACT_CANCEL), 1);
    view(w, 1000);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_deleted_checkpoint_is_not_fetched_on(void **state)
{
    struct world *w = *state;

    entry(w, 0, 2, 0, 1u << 0);
    begin(w, fetcher(w));
    view(w, 0);
    w->entry_count = 0;
    view(w, 1000);
    assert_int_equal(count(w, CKPT_PLAN_ACT_CANCEL), 1);
}

static void test_plan_draining_copies_do_not_count(void **state)
{
    struct world *w = *state;
    uint32_t second, third;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    entry(w, 0, 2, 0, 1u << 0 | 1u << second);
    w->nodes[second].draining = true;
    third = fetcher(w);
    assert_int_not_equal(third, second);
    assert_in_range(third, 1, 4);
    begin(w, third); /* the draining node is as good a source as any */
    entry(w, 0, 2, NOBODY, 1u << second);
    view(w, 0);
    assert_int_equal(count(w, CKPT_PLAN_ACT_FETCH), 1);
    assert_int_equal(w->acts.items[0].u.fetch.remaining, 0);
}

static void test_plan_nothing_new_for_full_and_flapping_nodes(void **state)
{
    struct world *w = *state;
    uint32_t second, other;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    w->nodes[second].full = true;
    other = fetcher(w);
    assert_int_not_equal(other, second);
    w->nodes[other].flapping = true;
    assert_true(fetcher(w) != second && fetcher(w) != other);
    entry(w, 0, 2, 0, 1u << 0 | 1u << second); /* but what is there stays */
    assert_int_equal(fetcher(w), NOBODY);
    assert_int_equal(w->acts.report.full, 1);
}

static void test_plan_new_place_is_a_rebalance(void **state)
{
    struct world *w = *state;
    uint32_t second, wrong, who;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    wrong = second == 1 ? 2 : 1;
    entry(w, 0, 2, 0, 1u << 0 | 1u << wrong);
    who = fetcher(w);
    assert_int_equal(who, second);
    begin(w, who);
    view(w, 0);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REBALANCE);
    life(w, wrong, CKPT_PLAN_LEFT); /* now it matters: told again, with the better class */
    view(w, 1000);
    assert_int_equal(count(w, CKPT_PLAN_ACT_FETCH), 1);
    assert_int_equal(w->acts.items[0].u.fetch.class, CKPT_FETCH_REPAIR);
    begin(w, who);
    w->budget.rebalances = 0;
    life(w, wrong, CKPT_PLAN_ALIVE);
    view(w, 1000);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_without_source_waits(void **state)
{
    struct world *w = *state;
    uint32_t i;

    entry(w, 0, 2, 0, 1u << 0);
    life(w, 0, CKPT_PLAN_DEAD);
    assert_int_equal(fetcher(w), NOBODY);
    w->now_ms += 60000;
    for (i = 1; i < NODES; i++) {
        begin(w, i);
        view(w, 0);
        assert_int_equal(w->acts.count, 0);
        assert_int_equal(w->acts.report.lost, 1);
    }
}

static void test_plan_unsettled_view_begins_nothing(void **state)
{
    struct world *w = *state;
    uint32_t who;

    entry(w, 0, 2, 0, 1u << 0);
    who = fetcher(w);
    begin(w, who);
    w->settled = false;
    view(w, 0);
    assert_int_equal(w->acts.count, 0);
    w->settled = true;
    view(w, 0);
    assert_int_equal(count(w, CKPT_PLAN_ACT_FETCH), 1);
    w->settled = false;
    w->entry_count = 0;
    view(w, 0); /* nor does it end anything */
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_failed_fetch_rests(void **state)
{
    struct world *w = *state;

    entry(w, 0, 2, 0, 1u << 0);
    begin(w, fetcher(w));
    view(w, 0);
    ended(w, 0, false);
    view(w, 29999);
    assert_int_equal(w->acts.count, 0);
    view(w, 1);
    assert_int_equal(count(w, CKPT_PLAN_ACT_FETCH), 1);
}

/* Of 90 checkpoints, a third have one copy left, a third are in the wrong place: the order is
 * by copies that remain, then rebalancing, and never more than the budget. */
static void test_plan_order_and_budget(void **state)
{
    struct world *w = *state;
    uint32_t i, last = 0, fetches = 0;

    for (i = 0; i < 90; i++) {
        entry(w, i, 3, 0, i % 3 == 0 ? 0x03 : i % 3 == 1 ? 0x01 : 0x07);
    }
    begin(w, 4);
    w->budget = (struct ckpt_plan_budget){64, 5, 50 * 1000};
    view(w, 0);
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
    begin(w, 4);
    w->budget.fetches = 3;
    view(w, 0);
    assert_int_equal(w->acts.count, 3);
    view(w, 1000);
    assert_int_equal(w->acts.count, 0);
    ended(w, w->acts.items[0].manifest.bytes[0], true);
    begin(w, 4);
    w->budget.fetches = 10;
    w->budget.bytes = 10; /* less than one: one at a time all the same */
    view(w, 0);
    assert_int_equal(w->acts.count, 1);
}

static void test_plan_reports_cramped_domains(void **state)
{
    struct world *w = *state;
    uint32_t i;

    for (i = 0; i < NODES; i++) {
        w->nodes[i].domain = i < 4 ? "rack" : "cellar";
    }
    entry(w, 0, 2, 0, 1u << 0);
    assert_int_equal(fetcher(w), 4);
    assert_int_equal(w->acts.report.cramped, 0);
    life(w, 4, CKPT_PLAN_LEFT);
    assert_in_range(fetcher(w), 1, 3);
    assert_int_equal(w->acts.report.cramped, 1);
}

static void test_plan_refuses_views_that_make_no_sense(void **state)
{
    struct world *w = *state;
    struct ckpt_plan_config bad;

    entry(w, 0, 2, 0, 1u << 0);
    entry(w, 1, 2, 0, 1u << 0);
    begin(w, 1);
    w->entries[0].copies = 0;
    assert_int_equal(try_view(w), SHL_EINVALIDARG);
    w->entries[0].copies = 2;
    w->entries[1].manifest = w->entries[0].manifest;
    assert_int_equal(try_view(w), SHL_EINVALIDARG);
    w->entry_count = 1;
    w->nodes[1].id = node_id(9); /* out of order, and this node is missing */
    assert_int_equal(try_view(w), SHL_EINVALIDARG);
    assert_int_equal(w->acts.count, 0);
    bad = w->config;
    bad.planned_ms = bad.grace_ms - 1;
    ckpt_plan_free(w->plan);
    w->plan = NULL;
    assert_int_equal(ckpt_plan_new(&bad, &w->plan), SHL_EINVALIDARG);
}

/*- Trimming. */

/* Node number 4, 3.. that has a copy too many of entry 0 (R = 2, owner 0); the other place. */
static uint32_t one_too_many(struct world *w, uint32_t *ret_second)
{
    uint32_t second, third;

    entry(w, 0, 2, 0, 1u << 0);
    second = fetcher(w);
    third = second == 4 ? 3 : 4;
    entry(w, 0, 2, 0, 1u << 0 | 1u << second | 1u << third);
    *ret_second = second;
    return third;
}

static void answered(struct world *w, uint32_t from, uint64_t token, bool yes)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ANSWERED, .now_ms = w->now_ms};

    event.u.answered.from = node_id(from);
    event.u.answered.manifest = manifest(0);
    event.u.answered.token = token;
    event.u.answered.yes = yes;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
}

static bool asked(struct world *w, uint32_t from, bool held)
{
    struct ckpt_plan_event event = {.type = CKPT_PLAN_EV_ASKED, .now_ms = w->now_ms};

    event.u.asked.from = node_id(from);
    event.u.asked.manifest = manifest(0);
    event.u.asked.token = 5;
    event.u.asked.held = held;
    assert_int_equal(ckpt_plan_step(w->plan, &event, &w->acts), 0);
    assert_int_equal(w->acts.count, 1);
    assert_int_equal(w->acts.items[0].type, CKPT_PLAN_ACT_ANSWER);
    assert_int_equal(w->acts.items[0].u.message.token, 5);
    return w->acts.items[0].u.message.yes;
}

static void test_plan_trim_needs_a_yes_of_all(void **state)
{
    struct world *w = *state;
    struct ckpt_plan_event done = {.type = CKPT_PLAN_EV_TRIMMED};
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    begin(w, self);
    view(w, 0);
    assert_int_equal(count(w, CKPT_PLAN_ACT_ASK), 2);
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
    view(w, 1000);
    assert_int_equal(w->acts.count, 0);
    done.now_ms = w->now_ms;
    done.u.trimmed.manifest = manifest(0);
    assert_int_equal(ckpt_plan_step(w->plan, &done, &w->acts), 0);
    assert_false(asked(w, 0, false));
}

static void test_plan_trim_ends_with_a_no_or_with_time(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    begin(w, self);
    view(w, 0);
    token = w->acts.items[0].u.message.token;
    answered(w, second, token, false);
    answered(w, 0, token, true);
    assert_int_equal(w->acts.count, 0);
    view(w, 29999); /* not at once again */
    assert_int_equal(w->acts.count, 0);
    view(w, 1);
    assert_int_equal(count(w, CKPT_PLAN_ACT_ASK), 2);
    token = w->acts.items[0].u.message.token;
    w->now_ms += 10001;
    answered(w, 0, token, true);
    answered(w, second, token, true);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_does_not_trim_unless_all_places_are_well(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second), i;

    for (i = 0; i < NODES; i++) { /* the owner never drops its copy, a place neither */
        if (i != self) {
            begin(w, i);
            view(w, 0);
            assert_int_equal(w->acts.count, 0);
        }
    }
    begin(w, self);
    life(w, second, CKPT_PLAN_SUSPECT);
    view(w, 0);
    assert_int_equal(w->acts.count, 0);
    life(w, second, CKPT_PLAN_ALIVE); /* back for less than settle_ms */
    view(w, 29999);
    assert_int_equal(w->acts.count, 0);
    view(w, 1);
    assert_int_equal(count(w, CKPT_PLAN_ACT_ASK), 2);
    begin(w, self);
    entry(w, 0, 2, 0, 1u << self | 1u << 0); /* the second place lost it */
    view(w, 0);
    assert_int_equal(w->acts.count, 0);
    entry(w, 0, 5, 0, 0x1f); /* all nodes are wanted: no copy is too many */
    view(w, 0);
    assert_int_equal(w->acts.count, 0);
    entry(w, 0, 2, self, 0x1f); /* it is the owner now */
    view(w, 0);
    assert_int_equal(w->acts.count, 0);
}

/* The view changes while answers are awaited. */
static void test_plan_trim_is_given_up_when_the_view_changes(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);
    uint64_t token;

    begin(w, self);
    view(w, 0);
    token = w->acts.items[0].u.message.token;
    answered(w, 0, token, true);
    life(w, second, CKPT_PLAN_DEAD);
    view(w, 1000);
    answered(w, second, token, true);
    assert_int_equal(w->acts.count, 0);
}

static void test_plan_draining_node_says_no(void **state)
{
    struct world *w = *state;
    uint32_t second, self = one_too_many(w, &second);

    begin(w, self);
    assert_false(asked(w, 0, false)); /* it has none */
    assert_true(asked(w, 0, true));
    w->nodes[self].draining = true;
    view(w, 0);
    assert_int_equal(count(w, CKPT_PLAN_ACT_ASK), 2);
    w->entry_count = 0;
    view(w, 0);                      /* nothing to trim */
    assert_false(asked(w, 0, true)); /* it will be gone soon */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan_one_node_makes_the_second_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_only_death_and_grace_trigger_repair, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_return_of_a_node_cancels_the_repair, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_deleted_checkpoint_is_not_fetched_on, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_draining_copies_do_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_nothing_new_for_full_and_flapping_nodes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_new_place_is_a_rebalance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_without_source_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_unsettled_view_begins_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_failed_fetch_rests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_order_and_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_reports_cramped_domains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_refuses_views_that_make_no_sense, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_trim_needs_a_yes_of_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan_trim_ends_with_a_no_or_with_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_does_not_trim_unless_all_places_are_well, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_trim_is_given_up_when_the_view_changes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_plan_draining_node_says_no, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
