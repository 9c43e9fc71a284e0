/* Hibernating and waking, interrupted: killed, or the daemon stopped or killed, at every
 * step. Nothing is lost, whoever waits is told, nothing leaks. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/cycle.h"

/* Stops at different points of what is under way; which ones depends on the machine. */
static void turns(struct fixture *fix, int count)
{
    int i;

    for (i = 0; i < count; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
        (void)usleep(1000);
    }
}

/* ---- kills ----------------------------------------------------------------------- */

static void check_killed(struct fixture *fix, struct node_sandbox *sandbox)
{
    kill_now(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
    RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
}

static void test_kill_in_each_state(void **state)
{
    struct fixture *fix = *state;
    struct answer answers[4] = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    check_killed(fix, sandbox);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &answers[0]);
    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answers[1]);
    RUN_UNTIL(fix, answers[0].done && answers[1].done);
    assert_int_equal(answers[0].code, SHL_EBADSTATE);
    assert_int_equal(answers[1].code, SHL_EBADSTATE);

    sandbox = create(fix, "plain");
    node_manager_hibernate(fix->manager, sandbox, on_killed, &answers[2]);
    check_killed(fix, sandbox);
    assert_true(answers[2].done);
    assert_int_equal(answers[2].code, SHL_EGONE);

    /* while it waits for a call in flight, which ends after it */
    answers[2] = (struct answer){0};
    sandbox = create(fix, "plain");
    node_sandbox_hold(sandbox);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &answers[2]);
    node_manager_kill(fix->manager, sandbox, on_killed, NULL);
    node_sandbox_release(sandbox);
    RUN_UNTIL(fix, answers[2].done);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);

    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &answers[3], NULL), 0);
    RUN_UNTIL(fix, sandbox->state == NODE_SANDBOX_WAKING);
    check_killed(fix, sandbox);
    assert_true(answers[3].done);
    assert_int_equal(answers[3].code, SHL_EGONE);
}

/* Killed after each number of turns of the loop, so at every step of both. */
static void test_kill_at_every_step(void **state)
{
    struct fixture *fix = *state;
    int steps;

    open_manager(fix);
    for (steps = 0; steps < 40; steps++) {
        struct answer slept = {0}, woken = {0};
        struct node_sandbox *sandbox = create(fix, "plain");

        if (steps % 2) {
            hibernate(fix, sandbox);
            node_manager_wake(fix->manager, sandbox, NULL, on_killed, &woken);
        } else {
            node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
        }
        turns(fix, steps / 2);
        check_killed(fix, sandbox);
        assert_true(steps % 2 ? woken.done : slept.done);
    }
}

/* ---- restarts of the daemon ------------------------------------------------------- */

static void test_restart_while_hibernated(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    uint64_t bytes;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 21);
    hibernate(fix, sandbox);
    bytes = sandbox->saved_bytes;
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    close_manager(fix);
    open_manager(fix);
    sandbox = find(fix, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    assert_int_equal(sandbox->saved_bytes, bytes);
    wake(fix, sandbox);
    check_data(fix, sandbox, 21);
}

/* Stopped after each number of turns: the next daemon finds it running or hibernated,
 * never lost, and it answers with its data. */
static void test_restart_at_every_step(void **state)
{
    struct fixture *fix = *state;
    int steps;

    for (steps = 0; steps < 40; steps++) {
        struct answer slept = {0}, woken = {0}, needed = {0};
        struct node_sandbox *sandbox;
        char id[NODE_SANDBOX_ID_SIZE];

        open_manager(fix);
        sandbox = create(fix, "plain");
        (void)snprintf(id, sizeof(id), "%s", sandbox->id);
        set_data(fix, sandbox, 100 + (unsigned)steps);
        if (steps % 2) {
            hibernate(fix, sandbox);
            node_manager_wake(fix->manager, sandbox, NULL, on_killed, &woken);
        } else {
            node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
        }
        turns(fix, steps / 2);
        close_manager(fix);
        assert_true(steps % 2 ? woken.done : slept.done);
        open_manager(fix);
        sandbox = find(fix, id);
        assert_true(sandbox->state == NODE_SANDBOX_RUNNING ||
                    sandbox->state == NODE_SANDBOX_HIBERNATED);
        if (node_sandbox_need(sandbox, on_killed, &needed, NULL) == 0) {
            RUN_UNTIL(fix, needed.done);
            assert_int_equal(needed.code, 0);
        }
        wait_thawed(fix, sandbox);
        check_data(fix, sandbox, 100 + (unsigned)steps);
        kill_now(fix, sandbox);
        RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
        close_manager(fix);
    }
    open_manager(fix);
}

/* A daemon in a process of its own, killed hard after so many turns. */
static void crash_after(struct fixture *fix, int steps, bool waking, char id[NODE_SANDBOX_ID_SIZE])
{
    int pipe_fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct answer slept = {0}, woken = {0};
        struct node_sandbox *sandbox;

        (void)uv_loop_fork(&fix->loop);
        open_manager(fix);
        sandbox = create(fix, "plain");
        set_data(fix, sandbox, 50);
        if (waking) {
            hibernate(fix, sandbox);
            node_manager_wake(fix->manager, sandbox, NULL, on_killed, &woken);
        } else {
            node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
        }
        turns(fix, steps);
        (void)!write(pipe_fds[1], sandbox->id, NODE_SANDBOX_ID_SIZE);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(pipe_fds[0], id, NODE_SANDBOX_ID_SIZE), NODE_SANDBOX_ID_SIZE);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void test_daemon_killed_at_every_step(void **state)
{
    struct fixture *fix = *state;
    int steps;

    for (steps = 0; steps < 30; steps++) {
        char id[NODE_SANDBOX_ID_SIZE];
        struct answer needed = {0};
        struct node_sandbox *sandbox;

        crash_after(fix, steps / 2, steps % 2, id);
        open_manager(fix);
        sandbox = find(fix, id);
        assert_true(sandbox->state == NODE_SANDBOX_RUNNING ||
                    sandbox->state == NODE_SANDBOX_HIBERNATED);
        if (node_sandbox_need(sandbox, on_killed, &needed, NULL) == 0) {
            RUN_UNTIL(fix, needed.done);
            assert_int_equal(needed.code, 0);
        }
        wait_thawed(fix, sandbox);
        check_data(fix, sandbox, 50);
        kill_now(fix, sandbox);
        RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
        close_manager(fix);
    }
    open_manager(fix);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_kill_in_each_state),          TEST(test_kill_at_every_step),
        TEST(test_restart_while_hibernated),    TEST(test_restart_at_every_step),
        TEST(test_daemon_killed_at_every_step),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/interrupted", tests, NULL, NULL);
}
