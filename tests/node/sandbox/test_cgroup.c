/* node/sandbox/cgroup on the cgroups of this machine, version 1 or 2, with a real process. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/sandbox/cgroup.h"

static struct node_cgroups groups;

static void make_name(char name[32])
{
    (void)snprintf(name, 32, "test-%d", (int)getpid());
}

static void check_value(const char *name,
                        const char *v1_file,
                        const char *v2_file,
                        const char *want)
{
    struct shl_buf text;
    char path[256];

    if (groups.version == NODE_CGROUPS_V2) {
        (void)snprintf(path, sizeof(path), "%s/shoal/%s/%s", groups.root, name, v2_file);
    } else { /* the controller is the first word of the file */
        (void)snprintf(path, sizeof(path), "%s/%.*s/shoal/%s/%s", groups.root,
                       (int)strcspn(v1_file, "."), v1_file, name, v1_file);
    }
    shl_buf_init(&text, 4096);
    assert_int_equal(shl_read_file(path, &text), 0);
    assert_int_equal(strncmp((char *)shl_buf_data(&text), want, strlen(want)), 0);
    shl_buf_release(&text);
}

static void test_cgroup_limits_and_removes_what_is_left(void **state)
{
    const struct node_cgroup_limits limits = {
        .cpu_percent = 150, .memory_bytes = 256u << 20, .pids = 7};
    char name[32];
    int status;
    pid_t child;

    (void)state;
    make_name(name);
    assert_int_equal(node_cgroup_create(&groups, name, &limits, NULL), 0);
    check_value(name, "cpu.cfs_quota_us", "cpu.max", "150000");
    check_value(name, "memory.limit_in_bytes", "memory.max", "268435456");
    check_value(name, "pids.max", "pids.max", "7");
    child = fork();
    if (child == 0) {
        (void)pause();
        _exit(0);
    }
    assert_int_equal(node_cgroup_join(&groups, name, child, NULL), 0);
    /* nobody stopped it: removing does */
    assert_int_equal(node_cgroup_remove(&groups, name, NULL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_int_equal(node_cgroup_remove(&groups, name, NULL), 0); /* again is fine */
}

static void test_cgroup_without_any(void **state)
{
    const struct node_cgroup_limits limits = {.cpu_percent = 100};
    struct node_cgroups none;

    (void)state;
    assert_int_equal(node_cgroups_init(&none, "", NULL), 0);
    assert_int_equal(node_cgroup_create(&none, "x", &limits, NULL), 0);
    assert_int_equal(node_cgroup_join(&none, "x", 1, NULL), 0);
    assert_int_equal(node_cgroup_remove(&none, "x", NULL), 0);
}

static void test_cgroup_root_that_is_none(void **state)
{
    struct node_cgroups none;
    struct shl_err err = {0};

    (void)state;
    assert_true(node_cgroups_init(&none, "/nonexistent", &err) < 0);
    assert_int_equal(none.version, NODE_CGROUPS_NONE);
    assert_non_null(strstr(err.msg, "/nonexistent"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cgroup_limits_and_removes_what_is_left),
        cmocka_unit_test(test_cgroup_without_any),
        cmocka_unit_test(test_cgroup_root_that_is_none),
    };
    struct shl_err err = {0};

    if (node_cgroups_init(&groups, NULL, &err) < 0) {
        printf("SKIP: no usable cgroups here: %s\n", err.msg);
        return 77;
    }
    return cmocka_run_group_tests_name("node/cgroup", tests, NULL, NULL);
}
