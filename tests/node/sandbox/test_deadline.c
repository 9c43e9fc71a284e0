/* A sandbox stands still while it is paused and from its deadline on, until the next one. */
#include "tests/node/sandbox/two_nodes.h"

/* ---- pausing ----------------------------------------------------------------------------- */

static void test_paused(void **state)
{
    struct node_sandbox *sandbox;
    struct answer needed = {0}, asleep = {0}, stream;
    struct shl_err err = {0};
    unsigned i;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    assert_int_equal(node_sandbox_set_timeout(sandbox, 100), 0);
    assert_true(sandbox->end_at_ms > 0);
    set_data(A->fix, sandbox, 51);
    node_sandbox_set_paused(sandbox, true);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(sandbox->end_at_ms, 0);
    begin_op(sandbox, "get", &stream); /* in flight */
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, &err), 0);
    for (i = 0; i < 20; i++) {
        (void)uv_run(&A->fix->loop, UV_RUN_NOWAIT);
    }
    assert_false(stream.done || needed.done);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, needed.done && stream.done);
    assert_int_equal(needed.code, 0);
    assert_int_equal(stream.value, 51);
    assert_true(sandbox->end_at_ms > 0);

    /* what came meanwhile follows */
    node_sandbox_set_paused(sandbox, true);
    node_manager_hibernate(A->fix->manager, sandbox, on_killed, &asleep);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, asleep.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);

    /* a new run begins without; the next daemon lets it go on; a paused one can be killed */
    wake(A->fix, sandbox);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    {
        char id[NODE_SANDBOX_ID_SIZE];

        (void)snprintf(id, sizeof(id), "%s", sandbox->id);
        restart(A);
        sandbox = find(A->fix, id);
    }
    RUN_UNTIL(A->fix, sandbox->agent && !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 51);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    kill_now(A->fix, sandbox);
}

/* ---- the deadline ------------------------------------------------------------------------ */

#define LONG_AGO 1u

static uint64_t far_away(void)
{
    return shl_monotonic_ms() + 3600000;
}

static void turns(struct node *node)
{
    unsigned i;

    for (i = 0; i < 20; i++) {
        (void)uv_run(&node->fix->loop, UV_RUN_NOWAIT);
    }
}

static bool vmm_knows(const struct node_sandbox *pub)
{
    const struct sandbox *sandbox = sandbox_of((struct node_sandbox *)pub);

    return !sandbox->deadline_due && !sandbox->deadline_telling;
}

/* It strikes while nobody here does anything; what is asked afterwards waits for the next. */
static void test_deadline_strikes(void **state)
{
    struct node_sandbox *sandbox;
    uint64_t at_ms = 0, asked_ms = 0;
    struct answer stream;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 21);
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0);
    at_ms = shl_monotonic_ms() + 200;
    node_sandbox_set_deadline(sandbox, at_ms);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == at_ms);
    RUN_UNTIL(A->fix, shl_monotonic_ms() > at_ms);
    begin_op(sandbox, "get", &stream);
    turns(A);
    assert_false(stream.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->struck);
    assert_int_equal(stream.value, 21);

    /* put off in time: nothing happens */
    at_ms = shl_monotonic_ms() + 300;
    node_sandbox_set_deadline(sandbox, at_ms);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    RUN_UNTIL(A->fix, shl_monotonic_ms() > at_ms);
    check_data(A->fix, sandbox, 21);
    kill_now(A->fix, sandbox);
}

/* Together with set_paused: both have to allow it, and the deadline is told before. */
static void test_deadline_and_paused(void **state)
{
    struct node_sandbox *sandbox;
    struct answer stream;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 22);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due);
    begin_op(sandbox, "get", &stream);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    turns(A);
    assert_false(stream.done);
    node_sandbox_set_paused(sandbox, false);
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->struck);

    /* let go on while the VMM would refuse: that waits */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    node_sandbox_set_paused(sandbox, true);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->pause_due);
    begin_op(sandbox, "get", &stream);
    node_sandbox_set_paused(sandbox, false);
    turns(A);
    assert_true(sandbox_of(sandbox)->pause_due);
    assert_false(stream.done);
    node_sandbox_set_deadline(sandbox, 0);
    RUN_UNTIL(A->fix, stream.done && !sandbox_of(sandbox)->pause_due);
    assert_int_equal(stream.value, 22);

    /* in one go, as after a stand-still of this daemon */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_paused(sandbox, true);
    node_sandbox_set_deadline(sandbox, far_away());
    node_sandbox_set_paused(sandbox, false);
    check_data(A->fix, sandbox, 22);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->pause_due && !sandbox_of(sandbox)->resume_due);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    kill_now(A->fix, sandbox);
}

static void test_deadline_survives_the_link(void **state)
{
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_flag(A->fix, "plain", "drop_control", true);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && sandbox_of(sandbox)->struck);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->struck);
    kill_now(A->fix, sandbox);
}

static uint64_t saved_deadline(struct node *node, const char *id, const char *name)
{
    uint64_t at_ms = 0;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    read_saved(node->fix, id, name, &buf, &doc);
    (void)!shl_mp_get_uint(doc.root, "deadline_ms", UINT64_MAX, &at_ms);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    return at_ms;
}

static void test_deadline_is_started_with(void **state)
{
    uint64_t at_ms = far_away(), asked_ms = 1;
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer one, two = {0};

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 23);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_artefact(sandbox) != NULL);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 1);
    assert_true(node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0); /* the one before is forgotten */
    node_sandbox_set_deadline(sandbox, at_ms);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    assert_true(saved_deadline(A, sandbox->id, "restore.msgpack") == at_ms);
    assert_true(vmm_knows(sandbox));
    check_data(A->fix, sandbox, 23);

    /* a reboot goes on under the same lease */
    node_manager_reboot(A->fix->manager, sandbox, true, on_killed, &two);
    RUN_UNTIL(A->fix, two.done);
    assert_int_equal(two.code, 0);
    assert_true(saved_deadline(A, sandbox->id, "start.msgpack") == at_ms);

    /* it has passed before the guest runs: the next one lets it */
    set_data(A->fix, sandbox, 24);
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_artefact(sandbox) != NULL);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 2);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, sandbox_of(sandbox)->link);
    turns(A);
    assert_false(one.done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_WAKING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    check_data(A->fix, sandbox, 24);
    node_manager_set_gate(A->fix->manager, NULL, NULL);
}

static struct node_sandbox *restart_with(struct node *node, struct node_sandbox *sandbox)
{
    char id[NODE_SANDBOX_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    restart(node);
    return find(node->fix, id);
}

static void test_deadline_of_an_adopted_one(void **state)
{
    uint64_t at_ms = far_away(), asked_ms;
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 25);
    node_sandbox_set_deadline(sandbox, at_ms);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    sandbox = restart_with(A, sandbox);
    assert_false(node_sandbox_deadline(sandbox, &asked_ms));
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == at_ms);
    check_data(A->fix, sandbox, 25);

    /* struck meanwhile: it is not let go on without a new one, and does not fail */
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    sandbox = restart_with(A, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == LONG_AGO);
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->resuming);
    assert_true(sandbox_of(sandbox)->resume_due && sandbox_of(sandbox)->struck);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 25);

    /* a VMM of an older version: it runs on */
    set_flag(A->fix, "plain", "no_deadline", true);
    sandbox = restart_with(A, sandbox);
    RUN_UNTIL(A->fix, node_sandbox_deadline(sandbox, &asked_ms));
    assert_true(asked_ms == 0);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    check_data(A->fix, sandbox, 25);
    kill_now(A->fix, sandbox);
}

/* The guest cannot be frozen: it is not hibernated, and goes on with the next one. */
static void test_deadline_in_a_hibernation(void **state)
{
    struct answer asleep = {0};
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    A->fix->manager->silent_ms = 500; /* how long it is waited for */
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 26);
    node_sandbox_set_deadline(sandbox, LONG_AGO);
    RUN_UNTIL(A->fix, vmm_knows(sandbox));
    node_manager_hibernate(A->fix->manager, sandbox, on_killed, &asleep);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATING);
    RUN_UNTIL(A->fix, asleep.done);
    assert_true(asleep.code < 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    node_sandbox_set_deadline(sandbox, far_away());
    RUN_UNTIL(A->fix, vmm_knows(sandbox) && !sandbox_of(sandbox)->resume_due);
    check_data(A->fix, sandbox, 26);
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 26);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_paused),
        TEST(test_deadline_strikes),
        TEST(test_deadline_and_paused),
        TEST(test_deadline_survives_the_link),
        TEST(test_deadline_is_started_with),
        TEST(test_deadline_of_an_adopted_one),
        TEST(test_deadline_in_a_hibernation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
