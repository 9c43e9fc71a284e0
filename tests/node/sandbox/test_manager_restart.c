/* A daemon that comes back, and what it makes of what it finds. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/node/sandbox/fixture.h"

static void test_restart_adopts_running_ones(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    struct answer answer;
    pid_t pid;

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    pid = vmm_pid(fix, id);
    begin_op(sandbox, "mute", &answer); /* in flight while the daemon goes */
    close_manager(fix);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EUNAVAILABLE);
    assert_int_equal(vmm_pid(fix, id), pid);
    open_manager(fix);
    sandbox = find(fix, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(vmm_pid(fix, id), pid);
    kill_now(fix, sandbox);
}

static void test_restarted_daemon_talks_to_the_guest(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    int i;

    open_manager(fix);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    for (i = 0; i < 3; i++) {
        close_manager(fix);
        open_manager(fix);
        sandbox = find(fix, id);
        assert_int_equal(run_op(fix, sandbox, "ping"), 0);
    }
    assert_true(run_op(fix, sandbox, "panic") < 0);
    wait_gone(fix, sandbox);
    assert_string_equal(sandbox->reason, "kernel panic - not syncing:  [1mtest");
}

/* A daemon in a process of its own, killed hard while its sandbox runs, or starts. */
static void crash_daemon(struct fixture *fix,
                         const char *behaviour,
                         bool wait_running,
                         char id[NODE_SANDBOX_ID_SIZE])
{
    int pipe_fds[2];
    int status;
    pid_t pid;

    memset(id, 0, NODE_SANDBOX_ID_SIZE);
    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct answer answer;

        (void)uv_loop_fork(&fix->loop);
        open_manager(fix);
        begin_create(fix, behaviour, &answer);
        if (wait_running) {
            RUN_UNTIL(fix, answer.done);
        } else {
            RUN_UNTIL(fix, count_entries(fix->run) == 1);
        }
        if (answer.done) {
            (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", answer.sandbox->id);
        }
        (void)!write(pipe_fds[1], id, NODE_SANDBOX_ID_SIZE);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(pipe_fds[0], id, NODE_SANDBOX_ID_SIZE), NODE_SANDBOX_ID_SIZE);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void test_killed_daemon_loses_no_vm(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "plain", true, id);
    assert_int_not_equal(vmm_pid(fix, id), 0);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(run_op(fix, find(fix, id), "ping"), 0);
    kill_now(fix, find(fix, id));
    assert_int_equal(vmm_pid(fix, id), 0);
}

static bool first_id(void *arg, struct node_sandbox *sandbox)
{
    *(struct node_sandbox **)arg = sandbox;
    return false;
}

static void test_daemon_killed_while_starting_one(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox = NULL;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "silent", false, id);
    open_manager(fix);
    node_manager_each(fix->manager, ORG, first_id, &sandbox);
    assert_non_null(sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "restarted while the sandbox was starting"));
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static void test_vmm_killed_while_the_daemon_is_down(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];
    pid_t pid;

    crash_daemon(fix, "plain", true, id);
    pid = vmm_pid(fix, id);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (vmm_pid(fix, id)) {
        (void)usleep(1000);
    }
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_ERROR);
    assert_string_equal(find(fix, id)->reason, "the VMM was killed while the node daemon was down");
    assert_int_equal(count_sandbox_folders(fix), 0);
}

/* Another process got the number: it must be neither adopted nor killed. */
static void test_foreign_process_is_left_alone(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];
    pid_t stranger;

    open_manager(fix);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    close_manager(fix);
    assert_int_equal(kill(vmm_pid(fix, id), SIGKILL), 0);
    while (vmm_pid(fix, id)) {
        (void)usleep(1000);
    }
    stranger = fork();
    if (stranger == 0) {
        char dir[256];

        (void)snprintf(dir, sizeof(dir), "%s/%s", fix->run, id);
        (void)execl("/bin/sh", "sh", "-c", "kill -STOP $$", "--dir", dir, NULL);
        _exit(1);
    }
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_ERROR);
    assert_int_equal(kill(stranger, 0), 0);
    assert_int_equal(kill(stranger, SIGKILL), 0);
    assert_int_equal(waitpid(stranger, NULL, 0), stranger);
}

/* The records are lost: what still runs belongs to nobody and goes. */
static void test_strays_without_records_are_removed(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "plain", true, id);
    assert_int_equal(shl_remove_tree(fix->store_dir), 0);
    open_manager(fix);
    assert_null(node_manager_find(fix->manager, ORG, id));
    assert_int_equal(vmm_pid(fix, id), 0);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static void test_damaged_record_refuses_to_start(void **state)
{
    struct fixture *fix = *state;
    struct node_store *store;
    struct shl_err err = {0};

    assert_int_equal(node_store_open(fix->store_dir, &store, NULL), 0);
    assert_int_equal(
        node_store_put(store, "sandbox", "sb-00000001", shl_bytes_of("\x81\xa1v\x01", 4), NULL), 0);
    node_store_close(store);
    assert_int_equal(try_open(fix, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "sb-00000001"));
    assert_int_equal(node_store_open(fix->store_dir, &store, NULL), 0);
    assert_int_equal(
        node_store_put(store, "sandbox", "sb-00000001", shl_bytes_of("\x81\xa1v\x63", 4), NULL), 0);
    node_store_close(store);
    assert_int_equal(try_open(fix, &err), SHL_EVERSION);
}

static void test_ended_records_are_dropped_later(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    kill_now(fix, sandbox);
    close_manager(fix);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_STOPPED); /* kept a day */
    close_manager(fix);
    fix->config.ended_keep_ms = 1;
    fix->config.housekeeping_ms = 10;
    open_manager(fix);
    node_sandbox_ref(find(fix, id));
    (void)usleep(20000);
    (void)uv_run(&fix->loop, UV_RUN_ONCE);
    node_sandbox_unref(find(fix, id)); /* was held, so it is still there */
    RUN_UNTIL(fix, !node_manager_find(fix->manager, ORG, id));
    close_manager(fix);
    open_manager(fix);
    assert_null(node_manager_find(fix->manager, ORG, id));
}

static void test_close_in_the_middle_of_everything(void **state)
{
    struct fixture *fix = *state;
    struct answer starting, queued;
    struct answer killed = {0};
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    fix->config.boots_max = 1;
    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    begin_create(fix, "silent", &starting);
    begin_create(fix, "plain", &queued);
    RUN_UNTIL(fix, count_entries(fix->run) == 3);
    node_manager_kill(fix->manager, sandbox, on_killed, &killed);
    close_manager(fix);
    assert_true(killed.done && starting.done && queued.done);
    assert_int_equal(killed.code, 0);
    assert_int_equal(starting.code, SHL_EUNAVAILABLE);
    assert_int_equal(queued.code, SHL_EUNAVAILABLE);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(count_sandbox_folders(fix), 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_restart_adopts_running_ones),
        TEST(test_restarted_daemon_talks_to_the_guest),
        TEST(test_killed_daemon_loses_no_vm),
        TEST(test_daemon_killed_while_starting_one),
        TEST(test_vmm_killed_while_the_daemon_is_down),
        TEST(test_foreign_process_is_left_alone),
        TEST(test_strays_without_records_are_removed),
        TEST(test_damaged_record_refuses_to_start),
        TEST(test_ended_records_are_dropped_later),
        TEST(test_close_in_the_middle_of_everything),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/manager_restart", tests, NULL, NULL);
}
