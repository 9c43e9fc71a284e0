#include "tests/node/sandbox/cycle.h"

#include <unistd.h>

void hibernate(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_manager_hibernate(fix->manager, sandbox, on_killed, &answer);
    assert_false(answer.done);
    RUN_UNTIL(fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
}

void wake(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answer);
    assert_false(answer.done);
    RUN_UNTIL(fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    assert_non_null(sandbox->agent);
}

void wait_thawed(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer;

    do {
        assert_int_equal(ask(fix, sandbox, "get", 0, 0, &answer), 0);
    } while (answer.frozen);
}

void set_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "set", 0, value, &answer), 0);
    assert_int_equal(ask(fix, sandbox, "write", value % 8, value, &answer), 0);
}

void check_memory(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "get", 0, 0, &answer), 0);
    assert_int_equal(answer.value, value);
    assert_false(answer.frozen);
}

void check_disk(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "read", value % 8, 0, &answer), 0);
    assert_int_equal(answer.value, value);
}

void check_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    check_memory(fix, sandbox, value);
    check_disk(fix, sandbox, value);
}
