/* Others are asked before a hibernated sandbox is woken. */
#include "tests/node/sandbox/two_nodes.h"

static void test_gate(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer one, two;

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = hibernated(A, 6);
    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 1);
    begin_wake(A, sandbox, &two);
    (void)uv_run(&A->fix->loop, UV_RUN_NOWAIT);
    assert_int_equal(gate.asked, 1);
    gate.cb(gate.arg, SHL_ECONFLICT, "node b has it");
    assert_true(one.done && two.done);
    assert_int_equal(one.code, SHL_ECONFLICT);
    assert_string_equal(two.msg, "node b has it");
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);

    begin_wake(A, sandbox, &one);
    RUN_UNTIL(A->fix, gate.asked == 2);
    gate.cb(gate.arg, 0, "");
    RUN_UNTIL(A->fix, one.done);
    assert_int_equal(one.code, 0);
    check_data(A->fix, sandbox, 6);

    gate.at_once = true;
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    assert_int_equal(gate.asked, 3);
    check_data(A->fix, sandbox, 6);
    node_manager_set_gate(A->fix->manager, NULL, NULL);
}

static void test_gate_of_one_that_goes(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};
    struct answer answer;

    (void)state;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = hibernated(A, 6);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 1);
    kill_now(A->fix, sandbox);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EGONE);
    gate.cb(gate.arg, 0, "");
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);

    sandbox = hibernated(A, 7);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 2);
    let_go(A, sandbox);
    assert_true(answer.done);
    gate.cb(gate.arg, 0, "");

    sandbox = hibernated(A, 8);
    begin_wake(A, sandbox, &answer);
    RUN_UNTIL(A->fix, gate.asked == 3);
    close_manager(A->fix);
    assert_true(answer.done);
    gate.cb(gate.arg, 0, ""); /* far too late */
    start(A);
}

static void test_gate_is_not_asked_alone(void **state)
{
    struct node_sandbox *sandbox;
    struct gate gate = {0};

    (void)state;
    A->unwatched = true;
    start(A);
    node_manager_set_gate(A->fix->manager, on_gate, &gate);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 6);
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    assert_int_equal(gate.asked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_gate),
        TEST(test_gate_of_one_that_goes),
        TEST(test_gate_is_not_asked_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
