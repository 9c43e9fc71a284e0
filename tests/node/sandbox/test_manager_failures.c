/* Sandboxes that do not start, and what ends those that run. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/node/sandbox/fixture.h"

/* ---- starts that fail ------------------------------------------------------------ */

static void test_start_refused_by_the_vmm(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "start_fails", &answer);
    assert_int_equal(answer.code, SHL_ENOKVM);
    assert_non_null(strstr(answer.msg, "KVM said no"));
}

static void test_setup_refused_by_the_guest(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "setup_fails", &answer);
    assert_string_equal(answer.msg, "the guest could not be set up: no such disk");
}

static void test_panic_while_booting(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "panic", &answer);
    assert_int_equal(answer.code, SHL_EGUEST);
    assert_string_equal(answer.msg, "kernel panic - not syncing: VFS");
}

static void test_silent_guest_hits_the_limit(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.boot_ms = 1000;
    open_manager(fix);
    create_failing(fix, "silent", &answer);
    assert_int_equal(answer.code, -ETIMEDOUT);
    assert_non_null(strstr(answer.msg, "did not become ready within 1 s"));
    assert_non_null(strstr(answer.msg, "'no root device'"));
}

static void test_vmm_that_talks_nonsense(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "bad_reply", &answer);
    assert_string_equal(answer.msg, "the VMM sent a control frame that is not valid");
}

static void test_vmm_that_never_answers(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.boot_ms = 500;
    open_manager(fix);
    create_failing(fix, "no_reply", &answer);
    assert_int_equal(answer.code, -ETIMEDOUT);
}

static void test_vmm_that_exits_at_once(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.vmm_path = "/bin/false";
    open_manager(fix);
    create_failing(fix, "plain", &answer);
    assert_non_null(strstr(answer.msg, "the VMM exited with status 1"));
}

static void test_vmm_without_permission_to_run(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    add_file(fix, "not-a-program", "#!/nonexistent/interpreter\n");
    (void)snprintf(fix->vmm, sizeof(fix->vmm), "%s/not-a-program", fix->data);
    assert_int_equal(chmod(fix->vmm, 0700), 0);
    open_manager(fix);
    create_failing(fix, "plain", &answer);
    assert_non_null(strstr(answer.msg, "the VMM could not be started"));
}

static void test_open_says_what_is_missing(void **state)
{
    struct fixture *fix = *state;
    struct shl_err err = {0};
    char path[256];

    fix->config.kvm_path = "/nonexistent/kvm";
    assert_int_equal(try_open(fix, &err), SHL_ENOKVM);
    assert_non_null(strstr(err.msg, "no KVM"));
    fix->config.kvm_path = "/dev/null";
    fix->config.vmm_path = "/nonexistent/vmm";
    assert_int_equal(try_open(fix, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "--vmm"));
    fix->config.vmm_path = fix->vmm;
    (void)snprintf(path, sizeof(path), "%s/kernel/initrd", fix->data);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_open(fix, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "guest kernel"));
}

/* ---- ends ------------------------------------------------------------------------ */

static void test_panic_ends_with_reason(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct answer answer;

    open_manager(fix);
    sandbox = create(fix, "plain");
    begin_op(sandbox, "panic", &answer);
    RUN_UNTIL(fix, answer.done);
    wait_gone(fix, sandbox);
    assert_true(answer.code < 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(sandbox->reason, "kernel panic - not syncing:  [1mtest");
}

/* What is kept of a sandbox that failed, "" for nothing. */
static void read_remains(const struct fixture *fix, const char *id, char *dst, size_t size)
{
    char path[256];
    ssize_t len;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/failed/%s.log", fix->config.data_dir, id);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    len = fd >= 0 ? read(fd, dst, size - 1) : 0;
    dst[len > 0 ? len : 0] = '\0';
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void test_console_of_a_failed_one_is_kept(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct answer answer;
    char text[4096];

    open_manager(fix);
    sandbox = create(fix, "plain");
    begin_op(sandbox, "panic", &answer);
    RUN_UNTIL(fix, answer.done);
    wait_gone(fix, sandbox);
    read_remains(fix, sandbox->id, text, sizeof(text));
    assert_non_null(strstr(text, "---- end of serial.log\nline one\r\nno root device"));

    sandbox = create(fix, "plain");
    assert_true(run_op(fix, sandbox, "poweroff") < 0);
    wait_gone(fix, sandbox);
    read_remains(fix, sandbox->id, text, sizeof(text));
    assert_string_equal(text, ""); /* it did not fail */
}

static void test_remains_are_few(void **state)
{
    struct fixture *fix = *state;
    char first[NODE_SANDBOX_ID_SIZE] = "";
    char last[NODE_SANDBOX_ID_SIZE] = "";
    char text[4096];
    int i;

    open_manager(fix);
    for (i = 0; i < 33; i++) {
        struct node_sandbox *sandbox = create(fix, "plain");

        assert_int_equal(kill(vmm_pid(fix, sandbox->id), SIGKILL), 0);
        wait_gone(fix, sandbox);
        (void)snprintf(i == 0 ? first : last, sizeof(first), "%s", sandbox->id);
    }
    read_remains(fix, first, text, sizeof(text));
    assert_string_equal(text, "");
    read_remains(fix, last, text, sizeof(text));
    assert_string_not_equal(text, "");
}

static void test_poweroff_is_a_stop(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_true(run_op(fix, sandbox, "poweroff") < 0);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_string_equal(sandbox->reason, "the guest powered itself off");
}

static void test_killed_vmm_names_the_signal(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(kill(vmm_pid(fix, sandbox->id), SIGKILL), 0);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(sandbox->reason, "the VMM was killed by signal 9 (KILL)");
}

static void test_one_bad_guest_leaves_the_others(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *good, *bad;

    open_manager(fix);
    good = create(fix, "plain");
    bad = create(fix, "plain");
    (void)run_op(fix, bad, "panic");
    RUN_UNTIL(fix, bad->state == NODE_SANDBOX_ERROR);
    assert_int_equal(run_op(fix, good, "ping"), 0);
    assert_int_equal(good->state, NODE_SANDBOX_RUNNING);
}

static void test_lost_agent_link_comes_back(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(run_op(fix, sandbox, "drop"), SHL_EUNAVAILABLE);
    assert_int_equal(run_op(fix, sandbox, "ping"), 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
}

static void test_silent_agent_ends_the_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    fix->config.silent_ms = 500;
    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)run_op(fix, sandbox, "mute");
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "the guest agent does not answer"));
}

static void test_hostile_agent_ends_the_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(run_op(fix, sandbox, "garbage"), SHL_EUNAVAILABLE);
    assert_int_equal(run_op(fix, sandbox, "ping"), 0); /* forgiven once */
    assert_int_equal(run_op(fix, sandbox, "garbage"), SHL_EGONE);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "broke its protocol"));
}

static void test_vmm_that_ignores_stop_is_killed(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    fix->config.stop_ms = 100;
    open_manager(fix);
    sandbox = create(fix, "ignore_stop");
    kill_now(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_start_refused_by_the_vmm),
        TEST(test_setup_refused_by_the_guest),
        TEST(test_panic_while_booting),
        TEST(test_silent_guest_hits_the_limit),
        TEST(test_vmm_that_talks_nonsense),
        TEST(test_vmm_that_never_answers),
        TEST(test_vmm_that_exits_at_once),
        TEST(test_vmm_without_permission_to_run),
        TEST(test_open_says_what_is_missing),
        TEST(test_panic_ends_with_reason),
        TEST(test_console_of_a_failed_one_is_kept),
        TEST(test_remains_are_few),
        TEST(test_poweroff_is_a_stop),
        TEST(test_killed_vmm_names_the_signal),
        TEST(test_one_bad_guest_leaves_the_others),
        TEST(test_lost_agent_link_comes_back),
        TEST(test_silent_agent_ends_the_sandbox),
        TEST(test_hostile_agent_ends_the_sandbox),
        TEST(test_vmm_that_ignores_stop_is_killed),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/manager_failures", tests, NULL, NULL);
}
