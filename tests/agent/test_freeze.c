/* freeze and thaw on a real cgroup v2 hierarchy: user processes stop and go on, whatever
 * they did to their cgroups. Needs root and a writable cgroup v2. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

#define COUNT_CMD "i=0; while :; do i=$((i+1)); echo $i >count.new; mv count.new count; done"
#define TRIES_MAX 3000 /* of 20 ms */

static char group[128]; /* stands for the root of a guest's hierarchy */

/* A new cgroup below the first cgroup v2 that can be written; false when there is none. */
static bool make_group(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    size_t i;

    for (i = 0; i < 2; i++) {
        char file[192];

        (void)snprintf(group, sizeof(group), "%s/shoal-test-%d", roots[i], (int)getpid());
        if (mkdir(group, 0755) < 0) {
            continue;
        }
        (void)snprintf(file, sizeof(file), "%s/cgroup.freeze", group);
        if (access(file, W_OK) == 0) {
            return true;
        }
        (void)rmdir(group);
    }
    return false;
}

static void write_group(const char *path, const char *value)
{
    char file[256];
    int fd;

    (void)snprintf(file, sizeof(file), "%s/%s", group, path);
    fd = open(file, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, value, strlen(value)), strlen(value));
    (void)close(fd);
}

static char read_group(const char *path)
{
    char file[256], byte = 0;
    int fd;

    (void)snprintf(file, sizeof(file), "%s/%s", group, path);
    fd = open(file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, &byte, 1), 1);
    (void)close(fd);
    return byte;
}

/* Empties and removes a cgroup and those named below it. */
static void remove_groups(void)
{
    static const char *const below[] = {"sandbox/own", "sandbox", "other", "own"};
    size_t i;

    write_group("cgroup.kill", "1");
    for (i = 0; i < SHL_ARRAY_SIZE(below) + 1; i++) {
        char path[192];
        int tries = 0;

        if (i < SHL_ARRAY_SIZE(below)) {
            (void)snprintf(path, sizeof(path), "%s/%s", group, below[i]);
        } else {
            (void)snprintf(path, sizeof(path), "%s", group);
        }
        while (rmdir(path) < 0 && errno == EBUSY && tries++ < TRIES_MAX) {
            usleep(20000); /* the dead have not been reaped yet */
        }
    }
    assert_int_equal(access(group, F_OK), -1);
}

static int setup(void **state)
{
    const char *options[] = {"--cgroup", group, NULL};

    return make_group() ? fixture_start(state, options) : -1;
}

static int teardown(void **state)
{
    int rc = fixture_teardown(state);

    remove_groups();
    return rc;
}

static int run_op(struct fixture *f, const char *op, const char *flag, char msg[256])
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, op);
    if (flag) {
        shl_mp_kv_bool(&call.w, flag, true);
    }
    rc = client_run(&call, FIXTURE_WAIT_MS);
    (void)client_msg(&call, msg, 256);
    client_call_release(&call);
    return rc;
}

static long read_count(struct fixture *f)
{
    char path[128];
    struct shl_buf buf;
    long count = 0;

    (void)snprintf(path, sizeof(path), "%s/count", f->home);
    shl_buf_init(&buf, 64);
    if (shl_read_file(path, &buf) == 0 && shl_buf_append(&buf, "", 1) == 0) {
        count = strtol((const char *)shl_buf_data(&buf), NULL, 10);
    }
    shl_buf_release(&buf);
    return count;
}

static void wait_for_count(struct fixture *f, long above)
{
    int tries = 0;

    while (read_count(f) <= above && tries++ < TRIES_MAX) {
        usleep(20000);
    }
    assert_true(read_count(f) > above);
}

static void assert_stopped(struct fixture *f)
{
    long before = read_count(f);

    usleep(300000); /* hundreds of turns of the counter */
    assert_int_equal(read_count(f), before);
}

static void start_counter(struct fixture *f)
{
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "count", COUNT_CMD, NULL, msg), 0);
    wait_for_count(f, 0);
}

static void test_freeze_commands_run_in_the_cgroup(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char want[160], *at;

    fixture_exec(f, "grep ^0:: /proc/self/cgroup", NULL, &result);
    assert_int_equal(shl_buf_append(&result.out, "", 1), 0);
    (void)snprintf(want, sizeof(want), "/shoal-test-%d/sandbox\n", (int)getpid());
    at = strstr((char *)shl_buf_data(&result.out), want);
    assert_non_null(at);
    assert_int_equal(strlen(at), strlen(want));
    fixture_result_release(&result);
}

static void test_freeze_stops_and_thaw_continues(void **state)
{
    struct fixture *f = *state;
    char msg[256];
    long count;
    int i;

    start_counter(f);
    for (i = 0; i < 3; i++) {
        assert_int_equal(run_op(f, "freeze", "sync", msg), 0);
        assert_stopped(f);
        assert_int_equal(run_op(f, "freeze", NULL, msg), 0); /* again is fine */
        assert_stopped(f);
        count = read_count(f);
        assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
        wait_for_count(f, count);
        assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
    }
}

static void test_freeze_ends_with_setup(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    start_counter(f);
    assert_int_equal(run_op(f, "freeze", NULL, msg), 0);
    assert_stopped(f);
    assert_int_equal(run_op(f, "setup", NULL, msg), 0);
    wait_for_count(f, read_count(f));
}

/* A command asked for meanwhile begins when it may. */
static void test_freeze_holds_new_commands(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char msg[256], path[128];

    (void)snprintf(path, sizeof(path), "%s/begun", f->home);
    assert_int_equal(run_op(f, "freeze", NULL, msg), 0);
    client_begin(&f->client, &call, "exec.start");
    shl_mp_kv_str(&call.w, "session", "held");
    shl_mp_kv_str(&call.w, "cmd", "touch begun");
    client_send(&call);
    assert_int_equal(client_wait(&call, 300), -ETIMEDOUT);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(run_op(f, "ping", NULL, msg), 0); /* the agent itself goes on */
    assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
}

static void make_below(const char *name)
{
    char path[192];

    (void)snprintf(path, sizeof(path), "%s/%s", group, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

/* What the user had frozen before stays so; what the user made beside it stops as well. */
static void test_freeze_leaves_cgroups_of_the_user(void **state)
{
    struct fixture *f = *state;
    char msg[256];
    long count;

    make_below("sandbox/own");
    write_group("sandbox/own/cgroup.freeze", "1");
    make_below("own");
    write_group("own/cgroup.freeze", "1");
    make_below("other");
    start_counter(f);
    assert_int_equal(run_op(f, "freeze", NULL, msg), 0);
    assert_stopped(f);
    assert_int_equal(read_group("other/cgroup.freeze"), '1');
    count = read_count(f);
    assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
    wait_for_count(f, count);
    assert_int_equal(read_group("other/cgroup.freeze"), '0');
    assert_int_equal(read_group("own/cgroup.freeze"), '1');
    assert_int_equal(read_group("sandbox/own/cgroup.freeze"), '1');
}

static void test_freeze_that_fails_freezes_nothing(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    start_counter(f);
    /* Here the agent is no guest's first process, so no file system is its to freeze. */
    assert_int_equal(run_op(f, "freeze", "fs", msg), SHL_EBADSTATE);
    assert_non_null(strstr(msg, "file system"));
    wait_for_count(f, read_count(f));
}

static void test_freeze_survives_a_removed_cgroup(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    char path[192], msg[256];

    (void)snprintf(path, sizeof(path), "%s/sandbox", group);
    assert_int_equal(rmdir(path), 0);
    fixture_exec(f, "echo still", NULL, &result);
    ASSERT_BUF_EQ(&result.out, "still\n");
    fixture_result_release(&result);
    assert_int_equal(run_op(f, "freeze", NULL, msg), 0);
    assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
}

static void test_freeze_without_a_cgroup_is_refused(void **state)
{
    struct fixture *f = *state;
    char msg[256];

    assert_int_equal(run_op(f, "freeze", NULL, msg), SHL_EBADSTATE);
    assert_non_null(strstr(msg, "cgroup"));
    assert_int_equal(run_op(f, "thaw", NULL, msg), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_freeze_commands_run_in_the_cgroup),
        TEST(test_freeze_stops_and_thaw_continues),
        TEST(test_freeze_ends_with_setup),
        TEST(test_freeze_holds_new_commands),
        TEST(test_freeze_leaves_cgroups_of_the_user),
        TEST(test_freeze_that_fails_freezes_nothing),
        TEST(test_freeze_survives_a_removed_cgroup),
        cmocka_unit_test_setup_teardown(test_freeze_without_a_cgroup_is_refused, fixture_setup,
                                        fixture_teardown),
    };

    if (!make_group()) {
        puts("this needs root and a cgroup v2 hierarchy that can be written");
        return 77;
    }
    (void)rmdir(group);
    return cmocka_run_group_tests_name("agent/freeze", tests, NULL, NULL);
}
