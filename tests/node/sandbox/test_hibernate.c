/* Hibernating, waking, rebooting, with fake_vmm: what is saved comes back, what fails leaves
 * what was, whoever waits is told, nothing leaks (teardown looks for layers that are left). */
#include <errno.h>
#include <unistd.h>

#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/cycle.h"

/* ---- there and back -------------------------------------------------------------- */

static void test_hibernate_and_wake(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 77);
    hibernate(fix, sandbox);
    assert_string_equal(node_sandbox_status(sandbox), "hibernated");
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
    assert_int_equal(count_sandbox_folders(fix), 0);
    assert_true(sandbox->saved_bytes > 0);
    assert_null(sandbox->agent);
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.hibernated, 1);
    assert_int_equal(counts.running, 0);
    assert_int_equal(counts.memory_committed_mb, 0);
    assert_int_equal(counts.hibernations, 1);
    hibernate(fix, sandbox); /* again is fine */
    wake(fix, sandbox);
    assert_int_equal(sandbox->saved_bytes, 0);
    assert_false(sandbox->cold_woken);
    check_data(fix, sandbox, 77);
    wake(fix, sandbox);
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.wakes_warm, 1);
    assert_int_equal(counts.memory_committed_mb, 512);
}

/* Ten times there and back; layers of memory and disk do not pile up without bound. */
static void test_many_cycles(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    unsigned i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    for (i = 1; i <= 24; i++) {
        set_data(fix, sandbox, i);
        hibernate(fix, sandbox);
        wake(fix, sandbox);
        check_data(fix, sandbox, i);
        check_disk(fix, sandbox, i > 5 ? i - 5 : i);
    }
    assert_true(count_layers(fix, "disk") <= VMM_DISK_LAYERS_MAX + 2);
}

/* The identity stays, the rest of setup is new. */
static void test_setup_after_a_wake(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct shl_bytes entropy;
    struct shl_mp_doc doc;
    struct shl_buf buf;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    read_saved(fix, sandbox->id, "setup.msgpack", &buf, &doc);
    assert_null(shl_mp_find(doc.root, "machine_id"));
    assert_int_equal(shl_mp_get_bin(doc.root, "entropy", &entropy), 0);
    assert_non_null(shl_mp_find(doc.root, "time_ms"));
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    read_saved(fix, sandbox->id, "restore.msgpack", &buf, &doc);
    assert_null(shl_mp_find(doc.root, "cmdline"));
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static void test_callers_share_one_wake(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts;
    struct answer answers[6] = {0};
    struct node_sandbox *sandbox;
    int i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &answers[0], NULL), 1);
    hibernate(fix, sandbox);
    for (i = 0; i < 3; i++) {
        assert_int_equal(node_sandbox_need(sandbox, on_killed, &answers[i], NULL), 0);
        node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answers[3 + i]);
    }
    for (i = 0; i < 6; i++) {
        assert_false(answers[i].done && i == 0);
        RUN_UNTIL(fix, answers[i].done);
        assert_int_equal(answers[i].code, 0);
    }
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.wakes_warm, 1);
}

/* Called while it hibernates: it finishes that, and comes back. */
static void test_need_while_hibernating(void **state)
{
    struct fixture *fix = *state;
    struct answer slept[2] = {0}, needed = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 5);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept[0]);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATING);
    assert_string_equal(node_sandbox_status(sandbox), "running");
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, NULL), 0);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept[1]);
    RUN_UNTIL(fix, needed.done);
    assert_true(slept[0].done && slept[1].done);
    assert_int_equal(slept[0].code, 0);
    assert_int_equal(slept[1].code, 0);
    assert_int_equal(needed.code, 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    check_data(fix, sandbox, 5);
}

/* Asked for while it wakes: it wakes, then hibernates. */
static void test_hibernate_while_waking(void **state)
{
    struct fixture *fix = *state;
    struct answer woken = {0}, slept = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &woken);
    RUN_UNTIL(fix, sandbox->state == NODE_SANDBOX_WAKING);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    RUN_UNTIL(fix, slept.done);
    assert_true(woken.done);
    assert_int_equal(woken.code, 0);
    assert_int_equal(slept.code, 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
}

/* A call in flight may end; one that does not is cut off and told. */
static void test_calls_in_flight(void **state)
{
    struct fixture *fix = *state;
    struct answer slept = {0}, op;
    struct node_sandbox *sandbox;
    int i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    node_sandbox_hold(sandbox);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    for (i = 0; i < 5; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATING);
    assert_int_not_equal(vmm_pid(fix, sandbox->id), 0);
    node_sandbox_release(sandbox);
    RUN_UNTIL(fix, slept.done);
    assert_int_equal(slept.code, 0);
    wake(fix, sandbox);
    begin_op(sandbox, "never", &op); /* fake_vmm does not answer it */
    node_sandbox_hold(sandbox);
    slept = (struct answer){0};
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    RUN_UNTIL(fix, slept.done);
    assert_int_equal(slept.code, 0);
    assert_true(op.done);
    assert_int_equal(op.code, SHL_EUNAVAILABLE);
    assert_string_equal(op.msg, "the sandbox was hibernated");
    node_sandbox_release(sandbox);
}

static void test_wake_takes_a_timeout(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};
    struct node_sandbox *sandbox;
    uint32_t timeout_s = 1234;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    node_manager_wake(fix->manager, sandbox, &timeout_s, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(sandbox->spec.timeout_s, 1234);
    assert_true(sandbox->end_at_ms > 0);
    close_manager(fix);
    open_manager(fix);
}

/* ---- failures -------------------------------------------------------------------- */

static void check_not_hibernated(struct fixture *fix, const char *flag, int code, const char *text)
{
    struct answer slept = {0}, needed = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 9);
    set_flag(fix, "plain", flag, true);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, NULL), 0);
    RUN_UNTIL(fix, slept.done && needed.done);
    assert_int_equal(slept.code, code);
    if (!strstr(slept.msg, text)) {
        fail_msg("'%s' is not in '%s'", text, slept.msg);
    }
    assert_int_equal(needed.code, 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    set_flag(fix, "plain", flag, false);
    RUN_UNTIL(fix, count_layers(fix, NULL) == 1);
    wait_thawed(fix, sandbox);
    check_data(fix, sandbox, 9);
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    check_data(fix, sandbox, 9);
}

static void test_full_disk_leaves_it_running(void **state)
{
    check_not_hibernated(*state, "no_space", -ENOSPC, "no space is left");
}

/* Requests that find no memory; those of others go through. */
static unsigned thaws_refused, resumes_refused;

int __real_node_agent_open_kept(struct node_agent_link *link,
                                struct shl_bytes request,
                                const struct node_agent_stream_ops *ops,
                                void *arg,
                                struct node_agent_stream **ret_stream);
int __wrap_node_agent_open_kept(struct node_agent_link *link,
                                struct shl_bytes request,
                                const struct node_agent_stream_ops *ops,
                                void *arg,
                                struct node_agent_stream **ret_stream);
int __real_node_vmm_link_request(struct node_vmm_link *link,
                                 const char *op,
                                 void (*add)(void *arg, struct shl_mp_writer *writer),
                                 const struct node_vmm_fd *fds,
                                 size_t fd_count,
                                 node_vmm_reply_cb cb,
                                 void *arg);
int __wrap_node_vmm_link_request(struct node_vmm_link *link,
                                 const char *op,
                                 void (*add)(void *arg, struct shl_mp_writer *writer),
                                 const struct node_vmm_fd *fds,
                                 size_t fd_count,
                                 node_vmm_reply_cb cb,
                                 void *arg);

int __wrap_node_agent_open_kept(struct node_agent_link *link,
                                struct shl_bytes request,
                                const struct node_agent_stream_ops *ops,
                                void *arg,
                                struct node_agent_stream **ret_stream)
{
    if (thaws_refused > 0 && memmem(request.base, request.len, "thaw", 4)) {
        thaws_refused--;
        return -ENOMEM;
    }
    return __real_node_agent_open_kept(link, request, ops, arg, ret_stream);
}

int __wrap_node_vmm_link_request(struct node_vmm_link *link,
                                 const char *op,
                                 void (*add)(void *arg, struct shl_mp_writer *writer),
                                 const struct node_vmm_fd *fds,
                                 size_t fd_count,
                                 node_vmm_reply_cb cb,
                                 void *arg)
{
    if (resumes_refused > 0 && strcmp(op, "resume") == 0) {
        resumes_refused--;
        return -ENOMEM;
    }
    return __real_node_vmm_link_request(link, op, add, fds, fd_count, cb, arg);
}

/* What could not be asked for is asked for again, though no link and no deadline moves. */
static void test_no_memory_to_go_on(void **state)
{
    thaws_refused = 2;
    resumes_refused = 2;
    check_not_hibernated(*state, "no_space", -ENOSPC, "no space is left");
    assert_int_equal(thaws_refused + resumes_refused, 0);
}

/* On idle, too; it is tried again later, and nothing ends. */
static void test_full_disk_on_idle(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    int64_t end_at_ms;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_flag(fix, "plain", "no_space", true);
    assert_int_equal(node_sandbox_set_timeout(sandbox, 1), 0);
    end_at_ms = sandbox->end_at_ms;
    RUN_UNTIL(fix, sandbox->state == NODE_SANDBOX_HIBERNATING);
    RUN_UNTIL(fix, sandbox->state == NODE_SANDBOX_RUNNING);
    assert_true(sandbox->end_at_ms > end_at_ms + 30000); /* much later than its timeout */
    set_flag(fix, "plain", "no_space", false);
    wait_thawed(fix, sandbox);
    node_sandbox_touch(sandbox); /* somebody used it: the timeout counts again */
    RUN_UNTIL(fix, sandbox->state == NODE_SANDBOX_HIBERNATED);
}

static void test_guest_that_does_not_freeze(void **state)
{
    check_not_hibernated(*state, "freeze_fails", SHL_EGUEST, "could not be frozen");
}

static void test_guest_that_ignores_freeze(void **state)
{
    struct fixture *fix = *state;

    fix->config.silent_ms = 1000; /* a busy machine answers the other freezes in this time */
    check_not_hibernated(fix, "freeze_silent", -ETIMEDOUT, "does not answer in time");
}

static void test_vmm_dies_while_hibernating(void **state)
{
    struct fixture *fix = *state;
    struct answer slept = {0}, needed = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_flag(fix, "plain", "snapshot_dies", true);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, NULL), 0);
    RUN_UNTIL(fix, slept.done && needed.done);
    assert_true(slept.code < 0);
    assert_int_equal(needed.code < 0, 1);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(sandbox->reason, "the VMM was killed by signal 9 (KILL)");
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, NULL), SHL_EGONE);
}

static void check_not_woken(struct fixture *fix, const char *flag, const char *text)
{
    struct answer answers[2] = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 11);
    hibernate(fix, sandbox);
    set_flag(fix, "plain", flag, true);
    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answers[0]);
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &answers[1], NULL), 0);
    RUN_UNTIL(fix, answers[0].done && answers[1].done);
    assert_true(answers[0].code < 0);
    if (!strstr(answers[0].msg, text)) {
        fail_msg("'%s' is not in '%s'", text, answers[0].msg);
    }
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    assert_int_equal(count_sandbox_folders(fix), 0);
    set_flag(fix, "plain", flag, false);
    wake(fix, sandbox);
    assert_false(sandbox->cold_woken);
    check_data(fix, sandbox, 11);
}

static void test_failed_restore_leaves_it_hibernated(void **state)
{
    check_not_woken(*state, "restore_fails", "KVM said no");
}

static void test_vmm_that_dies_in_restore(void **state)
{
    check_not_woken(*state, "restore_dies", "killed by signal 9");
}

static void test_guest_that_refuses_setup(void **state)
{
    check_not_woken(*state, "setup_refused", "no such disk");
}

/* Damaged memory: its files are still there. */
static void test_damaged_memory_boots_from_disk(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 13);
    hibernate(fix, sandbox);
    set_flag(fix, "plain", "restore_corrupt", true);
    wake(fix, sandbox);
    assert_true(sandbox->cold_woken);
    check_memory(fix, sandbox, 0);
    check_disk(fix, sandbox, 13);
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.wakes_cold, 1);
    set_flag(fix, "plain", "restore_corrupt", false);
    set_data(fix, sandbox, 14);
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    assert_false(sandbox->cold_woken);
    check_data(fix, sandbox, 14);
}

static void remove_layers(struct fixture *fix, const char *suffix)
{
    char command[300];

    (void)snprintf(command, sizeof(command), "rm %s/layers/*.%s", fix->data, suffix);
    assert_int_equal(system(command), 0);
}

static void test_missing_layers(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 15);
    hibernate(fix, sandbox);
    remove_layers(fix, "mem");
    wake(fix, sandbox);
    assert_true(sandbox->cold_woken);
    check_disk(fix, sandbox, 15);
    hibernate(fix, sandbox);
    remove_layers(fix, "disk");
    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, -ENOENT);
    assert_non_null(strstr(answer.msg, "saved disk is missing"));
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
}

static void test_changed_template(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    add_file(fix, "templates/plain/disk.raw", "plain and new");
    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ECONFLICT);
    assert_non_null(strstr(answer.msg, "was built anew"));
}

static void test_no_capacity_to_wake(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};
    struct node_sandbox *sandbox, *other;

    fix->config.memory_usable_mb = 600;
    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    other = create(fix, "plain");
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &answer, NULL), 0);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ENOCAPACITY);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    hibernate(fix, other);
    wake(fix, sandbox);
}

/* ---- reboot ---------------------------------------------------------------------- */

static void check_reboot(struct fixture *fix, bool hard)
{
    struct answer answer = {0}, needed = {0};
    struct node_manager_counts counts;
    struct node_sandbox *sandbox;
    pid_t pid;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 31);
    if (hard) {
        hibernate(fix, sandbox); /* so that there is a layer, and what was written is safe */
        wake(fix, sandbox);
    }
    pid = vmm_pid(fix, sandbox->id);
    node_manager_reboot(fix->manager, sandbox, hard, on_killed, &answer);
    assert_int_equal(node_sandbox_need(sandbox, on_killed, &needed, NULL), 0);
    assert_false(answer.done);
    RUN_UNTIL(fix, answer.done && needed.done);
    assert_int_equal(answer.code, 0);
    assert_int_equal(needed.code, 0);
    assert_int_not_equal(vmm_pid(fix, sandbox->id), pid);
    assert_false(sandbox->cold_woken);
    check_memory(fix, sandbox, 0);
    check_disk(fix, sandbox, 31);
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.wakes_cold, 0);
}

static void test_reboot(void **state)
{
    check_reboot(*state, false);
}

static void test_power_cycle(void **state)
{
    check_reboot(*state, true);
}

static void test_reboot_of_a_guest_that_stays(void **state)
{
    struct fixture *fix = *state;

    fix->config.silent_ms = 500;
    set_flag(fix, "plain", "no_shutdown", true);
    check_reboot(fix, true);
}

static void test_reboot_of_a_hibernated_one(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    hibernate(fix, sandbox);
    node_manager_reboot(fix->manager, sandbox, false, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_EBADSTATE);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_hibernate_and_wake),
        TEST(test_many_cycles),
        TEST(test_setup_after_a_wake),
        TEST(test_callers_share_one_wake),
        TEST(test_need_while_hibernating),
        TEST(test_hibernate_while_waking),
        TEST(test_calls_in_flight),
        TEST(test_wake_takes_a_timeout),
        TEST(test_full_disk_leaves_it_running),
        TEST(test_no_memory_to_go_on),
        TEST(test_full_disk_on_idle),
        TEST(test_guest_that_does_not_freeze),
        TEST(test_guest_that_ignores_freeze),
        TEST(test_vmm_dies_while_hibernating),
        TEST(test_failed_restore_leaves_it_hibernated),
        TEST(test_vmm_that_dies_in_restore),
        TEST(test_guest_that_refuses_setup),
        TEST(test_damaged_memory_boots_from_disk),
        TEST(test_missing_layers),
        TEST(test_changed_template),
        TEST(test_no_capacity_to_wake),
        TEST(test_reboot),
        TEST(test_power_cycle),
        TEST(test_reboot_of_a_guest_that_stays),
        TEST(test_reboot_of_a_hibernated_one),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/hibernate", tests, NULL, NULL);
}
