/* What a node holds, situation by situation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "scheduler/hold.h"
#include "tests/scheduler/kit.h"

#define SB "sb-1"

struct bench {
    struct kit kit;
    struct sched_hold *hold;
    struct sched_hold_actions actions;
    struct sched_hold_facts facts;
    uint64_t now_ms;
};

static void step(struct bench *b, struct sched_hold_event event)
{
    event.now_ms = b->now_ms;
    event.sandbox = event.type == SCHED_HOLD_EV_FACTS || event.type == SCHED_HOLD_EV_OUTCOME ||
                            event.type == SCHED_HOLD_EV_LEASE
                        ? NULL
                        : SB;
    assert_int_equal(sched_hold_step(b->hold, &event, &b->actions), 0);
}

static void tick(struct bench *b)
{
    step(b, (struct sched_hold_event){.type = SCHED_HOLD_EV_TICK});
}

static void facts(struct bench *b)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_FACTS};

    event.u.facts.facts = &b->facts;
    event.u.facts.state = b->kit.state;
    step(b, event);
}

static void row(struct bench *b)
{
    step(b, (struct sched_hold_event){.type = SCHED_HOLD_EV_ROW, .u.row = b->kit.state});
}

static void lease(struct bench *b, uint64_t until_ms)
{
    step(b, (struct sched_hold_event){.type = SCHED_HOLD_EV_LEASE, .u.lease_until_ms = until_ms});
}

static void saved(struct bench *b, uint64_t epoch, bool claimable)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_SAVED};

    event.u.saved.epoch = epoch;
    event.u.saved.claimable = claimable;
    step(b, event);
}

static const struct sched_hold_action *act(const struct bench *b, enum sched_hold_action_type type)
{
    for (uint32_t i = 0; i < b->actions.count; i++) {
        if (b->actions.items[i].type == type) {
            return &b->actions.items[i];
        }
    }
    return NULL;
}

static void assert_none(const struct bench *b)
{
    if (b->actions.count) {
        print_error("action %d\n", (int)b->actions.items[0].type);
    }
    assert_int_equal(b->actions.count, 0);
}

static void open_bench(struct bench *b, uint8_t phase, uint64_t epoch)
{
    struct sched_hold_config config;

    memset(b, 0, sizeof(*b));
    b->now_ms = 100000;
    kit_open_cluster(&b->kit, NULL);
    assert_int_equal(kit_add_node(&b->kit, 2), 0);
    sched_hold_config_defaults(&config);
    config.self = kit_id(1);
    assert_int_equal(sched_hold_new(&config, &b->hold), 0);
    snprintf(b->facts.sandbox, sizeof(b->facts.sandbox), SB);
    snprintf(b->facts.org, sizeof(b->facts.org), "org");
    b->facts.phase = phase;
    b->facts.epoch = epoch;
}

static void close_bench(struct bench *b)
{
    sched_hold_free(b->hold);
    kit_close(&b->kit);
}

/* The order that the core sends, applied, and its outcome. */
static int carry_out(struct bench *b)
{
    const struct sched_hold_action *a = act(b, SCHED_HOLD_ACT_ORDER);
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_OUTCOME};
    struct sched_command c;
    uint64_t token;
    int code;

    assert_non_null(a);
    token = a->u.order.token;
    c = kit_command(&b->kit, a->u.order.kind);
    c.u.owner = a->u.order.owner;
    code = kit_apply(&b->kit, &c);
    event.u.outcome.token = token;
    event.u.outcome.code = code;
    event.u.outcome.index = b->kit.result.index;
    event.u.outcome.number = b->kit.result.number;
    event.u.outcome.err = &b->kit.result.err;
    step(b, event);
    return code;
}

static void wake(struct bench *b)
{
    step(b, (struct sched_hold_event){.type = SCHED_HOLD_EV_WAKE});
}

static void test_hold_what_the_log_never_knew_runs_freely(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 0);
    facts(&b);
    assert_none(&b);
    wake(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    b.facts.phase = SCHED_HOLD_RUNNING;
    facts(&b);
    b.now_ms += 1000000;
    tick(&b);
    assert_none(&b);
    assert_true(b.actions.wake_at_ms == UINT64_MAX);
    close_bench(&b);
}

static void test_hold_hibernated_is_registered_released_and_claimed(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 0);
    lease(&b, b.now_ms + 9000);
    b.facts.elsewhere = true;
    facts(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 1);
    assert_null(act(&b, SCHED_HOLD_ACT_ORDER)); /* not before its record says so */
    saved(&b, 1, true);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_REGISTER);
    assert_int_equal(carry_out(&b), 0);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_RELEASE);
    assert_int_equal(carry_out(&b), 0);
    assert_none(&b);
    wake(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_CLAIM);
    assert_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    assert_int_equal(carry_out(&b), 0);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 2);
    assert_false(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.claimable); /* on_node_loss is not restore */
    saved(&b, 2, false);
    assert_non_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    b.facts.phase = SCHED_HOLD_RUNNING;
    facts(&b);
    b.now_ms += 1000000; /* without a lease */
    tick(&b);
    assert_none(&b);
    close_bench(&b);
}

static void run_claimable(struct bench *b)
{
    open_bench(b, SCHED_HOLD_RUNNING, 0);
    b->facts.restore = true;
    facts(b);
    lease(b, b->now_ms + 9000);
    b->facts.elsewhere = true;
    facts(b);
    saved(b, 1, true);
    assert_int_equal(b->actions.count, 2);
    assert_int_equal(b->actions.items[0].type, SCHED_HOLD_ACT_DEADLINE); /* before the order */
    assert_int_equal(b->actions.items[0].u.at_ms, b->now_ms + 9000);
    assert_int_equal(carry_out(b), 0);
    assert_none(b);
}

static void test_hold_claimable_runs_under_the_lease(void **state)
{
    struct bench b;

    (void)state;
    run_claimable(&b);
    assert_int_equal(b.actions.wake_at_ms, b.now_ms + 8000);
    b.now_ms += 7999;
    tick(&b);
    assert_none(&b);
    b.now_ms++;
    tick(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_PAUSE));
    tick(&b);
    assert_none(&b);
    b.now_ms += 5000;
    lease(&b, b.now_ms + 4000);
    assert_int_equal(b.actions.items[0].type, SCHED_HOLD_ACT_DEADLINE);
    assert_int_equal(b.actions.items[1].type, SCHED_HOLD_ACT_GO_ON);
    /* A daemon that stood still longer than its lease: the VMM has stopped by itself. */
    b.now_ms += 20000;
    lease(&b, b.now_ms + 4000);
    assert_non_null(act(&b, SCHED_HOLD_ACT_GO_ON));
    close_bench(&b);
}

static void test_hold_lets_go_of_what_went_on_elsewhere(void **state)
{
    struct bench b;

    (void)state;
    run_claimable(&b);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_CLAIM, SB, 1, 1, 2, true), 0);
    row(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_LET_GO));
    assert_non_null(strstr(act(&b, SCHED_HOLD_ACT_LET_GO)->u.err.msg, "epoch 2"));
    lease(&b, b.now_ms + 20000);
    assert_none(&b);
    close_bench(&b);
}

static void test_hold_lets_go_of_what_was_deleted(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 3);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_DELETE, SB, 1, 3, 0, false), 0);
    facts(&b); /* returns with its old records */
    assert_int_equal(act(&b, SCHED_HOLD_ACT_LET_GO)->u.err.code, SHL_EGONE);
    close_bench(&b);
}

static void test_hold_restarted_waits_for_its_log(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 1);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, false), 0);
    facts(&b);
    wake(&b);
    assert_none(&b);
    b.now_ms += 5000;
    tick(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_REFUSE)->u.err.code, SHL_EUNAVAILABLE);
    assert_non_null(strstr(act(&b, SCHED_HOLD_ACT_REFUSE)->u.err.msg, "since it started"));
    wake(&b);
    lease(&b, b.now_ms + 9000);
    /* Its own row is not enough: a release of an earlier process may be on its way. */
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_CLAIM);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.owner.epoch, 1);
    close_bench(&b);
}

static void test_hold_adopted_vm_keeps_its_deadline(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_RUNNING, 1);
    b.facts.claimable = true;
    facts(&b); /* its deadline is not known */
    assert_non_null(act(&b, SCHED_HOLD_ACT_PAUSE));
    close_bench(&b);
    open_bench(&b, SCHED_HOLD_RUNNING, 1);
    b.facts.claimable = true;
    b.facts.deadline_ms = b.now_ms + 3000;
    facts(&b);
    assert_none(&b);
    b.now_ms += 2000;
    tick(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_PAUSE));
    close_bench(&b);
    /* Paused by an earlier daemon, and not claimable: it goes on. */
    open_bench(&b, SCHED_HOLD_RUNNING, 1);
    facts(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_GO_ON));
    close_bench(&b);
}

static void test_hold_copy_of_another_node_is_claimed(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 1);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 2, 1, 0, false), 0);
    lease(&b, b.now_ms + 9000);
    b.facts.copy = true;
    b.facts.elsewhere = true;
    facts(&b);
    assert_none(&b);
    wake(&b);
    assert_true(shl_node_id_equal(&act(&b, SCHED_HOLD_ACT_ORDER)->u.order.owner.owner,
                                  &(struct shl_node_id){{0, 2, [15] = 1}}));
    assert_int_equal(carry_out(&b), SHL_EBADSTATE); /* its owner lives */
    assert_int_equal(act(&b, SCHED_HOLD_ACT_REFUSE)->u.err.code, SHL_EBADSTATE);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_RELEASE, SB, 2, 1, 0, false), 0);
    row(&b);
    b.now_ms += 1000;
    wake(&b);
    assert_int_equal(carry_out(&b), 0);
    assert_none(&b); /* the log here has to come as far, for what to go on from */
    row(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 2);
    saved(&b, 2, false);
    assert_non_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    close_bench(&b);
}

/* It lost what it had, and fetched a copy: a release of that epoch may still be on its way. */
static void test_hold_copy_of_its_own_is_claimed(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 1);
    lease(&b, b.now_ms + 9000);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, true), 0);
    b.facts.copy = true;
    facts(&b);
    wake(&b);
    assert_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_CLAIM);
    assert_int_equal(carry_out(&b), 0);
    row(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 2);
    close_bench(&b);
}

static void test_hold_running_with_a_copy_is_registered_as_its_nodes_alone(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_RUNNING, 0);
    facts(&b);
    lease(&b, b.now_ms + 9000);
    b.facts.elsewhere = true;
    facts(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 1);
    assert_false(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.claimable);
    saved(&b, 1, false);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_REGISTER);
    assert_int_equal(carry_out(&b), 0);
    assert_false(sched_state_owner(b.kit.state, SB)->claimable);
    b.now_ms += 1000000; /* without a lease it goes on */
    tick(&b);
    assert_none(&b);
    close_bench(&b);
}

static void test_hold_lost_orders_are_sent_again(void **state)
{
    struct bench b;
    uint64_t token;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 1);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, false), 0);
    b.facts.elsewhere = true;
    facts(&b);
    lease(&b, b.now_ms + 9000);
    token = act(&b, SCHED_HOLD_ACT_ORDER)->u.order.token;
    tick(&b);
    assert_none(&b);
    b.now_ms = b.actions.wake_at_ms;
    tick(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_RELEASE);
    assert_true(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.token != token);
    /* The answer is lost, the entry is not: the log is enough. */
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_RELEASE, SB, 1, 1, 0, false), 0);
    row(&b);
    b.now_ms += 100000;
    tick(&b);
    assert_none(&b);
    close_bench(&b);
}

/* The answer to a claim was lost and the claim came again: the log refuses the second, and shows
 * that the first one counts. */
static void test_hold_repeated_claim_is_its_own(void **state)
{
    struct bench b;
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_OUTCOME};

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 1);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, false), 0);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_RELEASE, SB, 1, 1, 0, false), 0);
    b.facts.elsewhere = true;
    facts(&b);
    lease(&b, b.now_ms + 9000);
    wake(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_CLAIM);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_CLAIM, SB, 1, 1, 1, false), 0); /* unseen */
    b.now_ms = b.actions.wake_at_ms;
    tick(&b);
    event.u.outcome.token = act(&b, SCHED_HOLD_ACT_ORDER)->u.order.token;
    event.u.outcome.code = SHL_ECONFLICT;
    step(&b, event);
    assert_null(act(&b, SCHED_HOLD_ACT_REFUSE));
    row(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_SAVE)->u.save.epoch, 2);
    saved(&b, 2, false);
    assert_non_null(act(&b, SCHED_HOLD_ACT_ALLOW));
    close_bench(&b);
}

/* A claim was committed after the copy that it was for had been dropped. */
static void test_hold_orphans_are_released(void **state)
{
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_WAKE, .sandbox = SB};
    struct sched_hold_status status;
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_HIBERNATED, 2);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, false), 0);
    row(&b); /* the records may not all have been told yet */
    assert_none(&b);
    lease(&b, b.now_ms + 9000);
    row(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_RELEASE);
    assert_true(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.is_orphan);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.owner.epoch, 1);
    event.now_ms = b.now_ms;
    assert_int_equal(sched_hold_step(b.hold, &event, &b.actions), SHL_ENOTFOUND);
    b.now_ms += 1000; /* not carried out: there was something of it after all; asked again */
    tick(&b);
    assert_int_equal(carry_out(&b), 0);
    assert_none(&b);
    sched_hold_status(b.hold, &status);
    assert_int_equal(status.sandboxes, 0);
    row(&b); /* released: nobody's */
    assert_none(&b);
    /* One that is told of meanwhile is none any more. */
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_CLAIM, SB, 1, 1, 1, false), 0);
    row(&b);
    assert_true(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.is_orphan);
    facts(&b);
    b.now_ms += 1000;
    tick(&b);
    assert_none(&b);
    sched_hold_status(b.hold, &status);
    assert_int_equal(status.orphans, 0);
    close_bench(&b);
}

static void test_hold_deletes_through_the_log(void **state)
{
    struct bench b;

    (void)state;
    run_claimable(&b);
    step(&b, (struct sched_hold_event){.type = SCHED_HOLD_EV_DELETE});
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_DELETE);
    assert_null(act(&b, SCHED_HOLD_ACT_DELETED));
    assert_int_equal(carry_out(&b), 0);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_DELETED)->u.err.code, 0);
    assert_non_null(act(&b, SCHED_HOLD_ACT_LET_GO));
    step(&b, (struct sched_hold_event){.type = SCHED_HOLD_EV_GONE});
    close_bench(&b);
    open_bench(&b, SCHED_HOLD_RUNNING, 0);
    facts(&b);
    step(&b, (struct sched_hold_event){.type = SCHED_HOLD_EV_DELETE});
    assert_int_equal(act(&b, SCHED_HOLD_ACT_DELETED)->u.err.code, 0);
    close_bench(&b);
}

static void test_hold_leaves_the_lease_when_nobody_may_restore_it(void **state)
{
    struct bench b;

    (void)state;
    run_claimable(&b);
    b.facts.restore = false;
    facts(&b);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_ORDER)->u.order.kind, SCHED_OWNER_CLAIM);
    assert_int_equal(carry_out(&b), 0);
    assert_null(act(&b, SCHED_HOLD_ACT_DEADLINE)); /* its record still says that it is claimable */
    saved(&b, 2, false);
    assert_int_equal(act(&b, SCHED_HOLD_ACT_DEADLINE)->u.at_ms, 0);
    close_bench(&b);
}

static void test_hold_removed_node_stops(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b, SCHED_HOLD_RUNNING, 1);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_REGISTER, SB, 1, 1, 0, false), 0);
    facts(&b);
    lease(&b, b.now_ms + 9000);
    assert_int_equal(kit_remove(&b.kit, 1, true), 0);
    row(&b);
    assert_non_null(act(&b, SCHED_HOLD_ACT_PAUSE));
    assert_non_null(strstr(sched_hold_reason(b.hold, SB, b.now_ms), "removed"));
    close_bench(&b);
}

/* More than fits into one step comes with the next ones, each sandbox once. */
static void test_hold_many_take_several_steps(void **state)
{
    struct bench b;
    uint32_t paused = 0;
    struct sched_hold_event event = {.type = SCHED_HOLD_EV_TICK};

    (void)state;
    open_bench(&b, SCHED_HOLD_RUNNING, 1);
    lease(&b, b.now_ms + 9000);
    b.facts.claimable = true;
    for (unsigned i = 0; i < SCHED_HOLD_MAX; i++) {
        snprintf(b.facts.sandbox, sizeof(b.facts.sandbox), "sb-%05u", (i * 7919u) % 99991u);
        facts(&b);
    }
    snprintf(b.facts.sandbox, sizeof(b.facts.sandbox), "one-more");
    event.type = SCHED_HOLD_EV_FACTS;
    event.u.facts.facts = &b.facts;
    assert_int_equal(sched_hold_step(b.hold, &event, &b.actions), SHL_ELIMIT);
    event.type = SCHED_HOLD_EV_TICK;
    event.now_ms = b.now_ms + 8500;
    do {
        assert_int_equal(sched_hold_step(b.hold, &event, &b.actions), 0);
        for (uint32_t i = 0; i < b.actions.count; i++) {
            paused += b.actions.items[i].type == SCHED_HOLD_ACT_PAUSE;
        }
    } while (b.actions.more);
    assert_int_equal(paused, SCHED_HOLD_MAX);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_what_the_log_never_knew_runs_freely),
        cmocka_unit_test(test_hold_hibernated_is_registered_released_and_claimed),
        cmocka_unit_test(test_hold_claimable_runs_under_the_lease),
        cmocka_unit_test(test_hold_lets_go_of_what_went_on_elsewhere),
        cmocka_unit_test(test_hold_lets_go_of_what_was_deleted),
        cmocka_unit_test(test_hold_restarted_waits_for_its_log),
        cmocka_unit_test(test_hold_adopted_vm_keeps_its_deadline),
        cmocka_unit_test(test_hold_copy_of_another_node_is_claimed),
        cmocka_unit_test(test_hold_copy_of_its_own_is_claimed),
        cmocka_unit_test(test_hold_running_with_a_copy_is_registered_as_its_nodes_alone),
        cmocka_unit_test(test_hold_lost_orders_are_sent_again),
        cmocka_unit_test(test_hold_repeated_claim_is_its_own),
        cmocka_unit_test(test_hold_orphans_are_released),
        cmocka_unit_test(test_hold_deletes_through_the_log),
        cmocka_unit_test(test_hold_leaves_the_lease_when_nobody_may_restore_it),
        cmocka_unit_test(test_hold_removed_node_stops),
        cmocka_unit_test(test_hold_many_take_several_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
