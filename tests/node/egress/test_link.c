/* node/egress/link with the real shoal-egress: started when it is needed, told everything again
 * when it died, taken over by the next daemon. In a network namespace of its own; needs root.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/egress/link.h"

#define TOKEN "osb_sealed_0123456789abcdef0123456789abcdef"

struct fixture {
    uv_loop_t loop;
    struct node_net *net;
    struct node_egress *egress;
    char dir[64];
    uint32_t slots[2];
};

static const struct shl_log quiet = {.fd = STDERR_FILENO, .level = SHL_LOG_ERROR};

static void open_all(struct fixture *fix)
{
    const struct node_net_config net_config = {
        .pool_cidr = "10.201.0.0/16", .dns = "203.0.113.53", .log = &quiet};
    const struct node_egress_config config = {
        .run_dir = fix->dir, .program_path = EGRESS_PROGRAM, .net = NULL, .log = &quiet};
    struct node_egress_config with_net = config;

    assert_int_equal(node_net_open(&net_config, NULL, 0, &fix->net, NULL), 0);
    with_net.net = fix->net;
    assert_int_equal(node_egress_open(&fix->loop, &with_net, &fix->egress, NULL), 0);
}

static void on_closed(void *arg)
{
    *(bool *)arg = true;
}

static void close_all(struct fixture *fix)
{
    bool closed = false;

    node_egress_close(fix->egress, on_closed, &closed);
    while (!closed) {
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    node_net_close(fix->net);
}

static void set(struct fixture *fix, uint32_t guest, bool limited)
{
    struct node_egress_sink sink = node_egress_sink(fix->egress);
    const struct node_egress_facts facts = {
        .region = "eu-1", .template_name = "minimal", .memory_bytes = 1 << 30};
    struct node_egress_policy policy = {.is_open = !limited};

    if (limited) {
        assert_int_equal(node_host_list_add(&policy.allowlist, "a.example", 9, 10), 0);
    }
    assert_non_null(node_egress_policy_add(&policy, TOKEN, shl_bytes_of("value", 5)));
    sink.set(sink.arg, guest, "sb-00000001", &facts, &policy);
    assert_int_equal(policy.secret_count, 0);
}

/* Runs the loop until the process has @guests guests and is not @not_pid. */
static pid_t wait_for(struct fixture *fix, uint32_t guests, pid_t not_pid)
{
    uint64_t give_up_ms = shl_monotonic_ms() + 60000;

    while (node_egress_guests(fix->egress) != guests || node_egress_pid(fix->egress) == 0 ||
           node_egress_pid(fix->egress) == not_pid) {
        assert_true(shl_monotonic_ms() < give_up_ms);
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    return node_egress_pid(fix->egress);
}

static int set_up(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    (void)snprintf(fix->dir, sizeof(fix->dir), "/tmp/shoal-link-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    open_all(fix);
    node_egress_told(fix->egress);
    *state = fix;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    pid_t pid = node_egress_pid(fix->egress);

    close_all(fix);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
    }
    (void)uv_run(&fix->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    free(fix);
    return 0;
}

/* Before the first guest: that one's metadata service is there from its beginning. */
static void test_link_process_starts_with_the_daemon(void **state)
{
    struct fixture *fix = *state;
    struct node_egress_sink sink = node_egress_sink(fix->egress);
    struct shl_buf text;

    (void)wait_for(fix, 0, 0);
    set(fix, 0x0ac90002, true);
    set(fix, 0x0ac90006, false);
    (void)wait_for(fix, 2, 0);
    sink.drop(sink.arg, 0x0ac90006);
    (void)wait_for(fix, 1, 0);
    shl_buf_init(&text, 65536);
    assert_int_equal(node_egress_metrics(fix->egress, &text), 0);
    assert_int_equal(shl_buf_append(&text, "", 1), 0);
    assert_non_null(strstr((const char *)shl_buf_data(&text), "\nshoal_egress_up 1\n"));
    assert_non_null(strstr((const char *)shl_buf_data(&text), "\nshoal_egress_guests 1\n"));
    shl_buf_release(&text);
}

static void test_link_dead_process_comes_back_with_all_it_knew(void **state)
{
    struct fixture *fix = *state;
    pid_t pid;

    set(fix, 0x0ac90002, true);
    set(fix, 0x0ac90006, false);
    pid = wait_for(fix, 2, 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)wait_for(fix, 2, pid);
}

/* The next daemon goes on with the same process, and guests it does not name are forgotten. */
static void test_link_next_daemon_adopts_the_process(void **state)
{
    struct fixture *fix = *state;
    pid_t pid;

    set(fix, 0x0ac90002, true);
    set(fix, 0x0ac90006, false);
    pid = wait_for(fix, 2, 0);
    close_all(fix);
    assert_int_equal(kill(pid, 0), 0);
    open_all(fix);
    set(fix, 0x0ac90002, true);
    node_egress_told(fix->egress);
    assert_int_equal(wait_for(fix, 1, 0), pid);
}

static bool is_up(struct fixture *fix)
{
    struct shl_buf text;
    bool up;

    shl_buf_init(&text, 65536);
    assert_int_equal(node_egress_metrics(fix->egress, &text), 0);
    assert_int_equal(shl_buf_append(&text, "", 1), 0);
    up = strstr((const char *)shl_buf_data(&text), "\nshoal_egress_up 1\n") != NULL;
    shl_buf_release(&text);
    return up;
}

/* A daemon knows its guests some time after its start, or ends before. */
static void test_link_guests_stay_until_the_next_daemon_knows_its_own(void **state)
{
    struct fixture *fix = *state;
    pid_t pid;
    int round;

    set(fix, 0x0ac90002, true);
    set(fix, 0x0ac90006, false);
    pid = wait_for(fix, 2, 0);
    close_all(fix);
    open_all(fix);
    while (!is_up(fix)) {
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    for (round = 0; round < 4; round++) { /* replies to what it must not ask yet */
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    assert_int_equal(node_egress_pid(fix->egress), 0);
    close_all(fix);
    open_all(fix);
    set(fix, 0x0ac90002, true);
    set(fix, 0x0ac90006, false);
    node_egress_told(fix->egress);
    assert_int_equal(wait_for(fix, 2, 0), pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_link_process_starts_with_the_daemon, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_link_dead_process_comes_back_with_all_it_knew, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_link_next_daemon_adopts_the_process, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_link_guests_stay_until_the_next_daemon_knows_its_own,
                                        set_up, tear_down),
    };

    if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
        (void)puts("skipped: needs root for a network namespace");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
