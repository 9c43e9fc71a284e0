/* Warm templates, with fake_vmm: made in the background, what creates start from, made anew
 * when they are bad or their template changed, gone when nobody needs them. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/fixture.h"

static void open_warm(struct fixture *fix)
{
    fix->config.warm = true;
    open_manager(fix);
    RUN_UNTIL(fix, warm_templates(fix) == 1);
    RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
}

static int count_warm(struct fixture *fix)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/warm", fix->data);
    return count_entries(path);
}

static bool was_restored(struct fixture *fix, const struct node_sandbox *sandbox)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s/restore.msgpack", fix->run, sandbox->id);
    return access(path, F_OK) == 0;
}

static bool has_working_set(struct fixture *fix, const struct node_sandbox *sandbox)
{
    const msgpack_object *names;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    bool found = false;
    uint32_t i;

    read_saved(fix, sandbox->id, "restore.msgpack", &buf, &doc);
    names = shl_mp_find(doc.root, "fds");
    assert_non_null(names);
    for (i = 0; i < names->via.array.size; i++) {
        const msgpack_object_str *name = &names->via.array.ptr[i].via.str;

        found |= name->size == 11 && memcmp(name->ptr, "working_set", 11) == 0;
    }
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    return found;
}

/* How many paths below the fixture's folder match. */
static size_t count_matches(const struct fixture *fix, const char *pattern)
{
    char path[256];
    glob_t found;
    size_t count;

    (void)snprintf(path, sizeof(path), "%s/%s", fix->dir, pattern);
    count = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static void hibernate(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_manager_hibernate(fix->manager, sandbox, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
}

static void wake(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_manager_wake(fix->manager, sandbox, NULL, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
}

static bool count_each(void *arg, struct node_sandbox *sandbox)
{
    (void)sandbox;
    ++*(int *)arg;
    return true;
}

static void test_creates_are_restores(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *first, *second;
    struct answer answer;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    int listed = 0;

    open_warm(fix);
    assert_int_equal(count_warm(fix), 1);
    RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
    node_manager_each(fix->manager, ORG, count_each, &listed);
    node_manager_each(fix->manager, "", count_each, &listed);
    assert_int_equal(listed, 0); /* what made it is nobody's */
    first = create(fix, "plain");
    second = create(fix, "plain");
    assert_true(was_restored(fix, first) && was_restored(fix, second));
    assert_false(first->cold_woken);
    read_saved(fix, first->id, "setup.msgpack", &buf, &doc);
    assert_non_null(shl_mp_find(doc.root, "machine_id"));
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    assert_int_equal(ask(fix, first, "set", 0, 3, &answer), 0);
    assert_int_equal(ask(fix, first, "write", 1, 4, &answer), 0);
    hibernate(fix, first);
    wake(fix, first);
    assert_int_equal(ask(fix, first, "get", 0, 0, &answer), 0);
    assert_int_equal(answer.value, 3);
    assert_int_equal(ask(fix, first, "read", 1, 0, &answer), 0);
    assert_int_equal(answer.value, 4);
    assert_int_equal(ask(fix, second, "read", 1, 0, &answer), 0);
    assert_int_equal(answer.value, 0);
}

/* What a trial run wrote comes with every fresh restore, and not with a wake. */
static void test_creates_have_a_working_set(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_warm(fix);
    assert_int_equal(count_matches(fix, "data/warm/*/work"), 1);
    sandbox = create(fix, "plain");
    assert_true(has_working_set(fix, sandbox));
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    assert_true(was_restored(fix, sandbox));
    assert_false(has_working_set(fix, sandbox));
}

/* Without its working set a template is not one. */
static void test_incomplete_one_is_made_anew(void **state)
{
    struct fixture *fix = *state;
    char path[256];
    glob_t found;

    open_warm(fix);
    close_manager(fix);
    (void)snprintf(path, sizeof(path), "%s/warm/*/work", fix->data);
    assert_int_equal(glob(path, 0, NULL, &found), 0);
    assert_int_equal(unlink(found.gl_pathv[0]), 0);
    globfree(&found);
    open_manager(fix);
    assert_int_equal(warm_templates(fix), 0);
    RUN_UNTIL(fix, warm_templates(fix) == 1);
    assert_int_equal(count_warm(fix), 1);
}

static void test_restart_finds_it(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    struct answer answer = {0};

    open_warm(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    hibernate(fix, sandbox);
    close_manager(fix);
    open_manager(fix);
    assert_int_equal(warm_templates(fix), 1); /* at once */
    assert_int_equal(node_sandbox_need(find(fix, id), on_killed, &answer, NULL), 0);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    assert_true(was_restored(fix, find(fix, id)));
    assert_int_equal(count_warm(fix), 1);
}

/* Switched off: what lies on it stays usable. */
static void test_off(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    open_warm(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    hibernate(fix, sandbox);
    close_manager(fix);
    fix->config.warm = false;
    open_manager(fix);
    assert_int_equal(warm_templates(fix), 0);
    assert_false(was_restored(fix, create(fix, "plain")));
    wake(fix, find(fix, id));
    assert_true(was_restored(fix, find(fix, id)));
    kill_now(fix, find(fix, id));
    RUN_UNTIL(fix, count_warm(fix) == 0);
}

static void test_bad_one_is_made_anew(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *old, *sandbox;
    struct answer answer;

    open_warm(fix);
    old = create(fix, "plain");
    assert_int_equal(ask(fix, old, "set", 0, 3, &answer), 0);
    set_flag(fix, "plain", "restore_corrupt", true);
    sandbox = create(fix, "plain");
    assert_false(was_restored(fix, sandbox));
    assert_false(sandbox->cold_woken); /* nothing was lost */
    set_flag(fix, "plain", "restore_corrupt", false);
    RUN_UNTIL(fix, warm_templates(fix) == 1);
    assert_int_equal(count_warm(fix), 2); /* the old one lies on its own */
    assert_true(was_restored(fix, create(fix, "plain")));
    hibernate(fix, old);
    wake(fix, old);
    assert_int_equal(ask(fix, old, "get", 0, 0, &answer), 0);
    assert_int_equal(answer.value, 3);
    kill_now(fix, old);
    RUN_UNTIL(fix, count_warm(fix) == 1);
}

static void test_changed_template_is_made_anew(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_warm(fix);
    add_file(fix, "templates/plain/disk.raw", "plain, built again");
    sandbox = create(fix, "plain");
    assert_false(was_restored(fix, sandbox));
    RUN_UNTIL(fix, warm_templates(fix) == 1);
    assert_true(was_restored(fix, create(fix, "plain")));
    RUN_UNTIL(fix, count_warm(fix) == 1);
}

static void test_template_that_does_not_boot(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    add_file(fix, "templates/plain/disk.raw", "plain panic");
    fix->config.warm = true;
    open_manager(fix);
    RUN_UNTIL(fix, count_sandbox_folders(fix) == 1);
    RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
    assert_int_equal(warm_templates(fix), 0);
    create_failing(fix, "plain", &answer);
    assert_int_equal(count_warm(fix), 0);
}

/* What cannot be restored, or does not work then, is never used: nobody starts from it,
 * nothing of it stays, and the next daemon makes it. */
static void test_trial_that_fails(void **state)
{
    static const char *const how[] = {"restore_fails", "restore_corrupt", "restore_dies",
                                      "exec_fails"};
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    size_t i;

    fix->config.warm = true;
    for (i = 0; i < SHL_ARRAY_SIZE(how); i++) {
        set_flag(fix, "plain", how[i], true);
        open_manager(fix);
        RUN_UNTIL(fix, count_matches(fix, "run/*/restore.msgpack") == 1);
        RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
        RUN_UNTIL(fix, count_warm(fix) == 0);
        RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
        assert_int_equal(warm_templates(fix), 0);
        sandbox = create(fix, "plain");
        assert_false(was_restored(fix, sandbox));
        kill_now(fix, sandbox);
        set_flag(fix, "plain", how[i], false);
        close_manager(fix);
    }
    open_manager(fix);
    RUN_UNTIL(fix, warm_templates(fix) == 1);
}

/* The VM of the trial is killed: the same. */
static void test_trial_that_is_killed(void **state)
{
    struct fixture *fix = *state;

    add_file(fix, "templates/plain/disk.raw", "plain gate");
    set_flag(fix, "plain", "open", true);
    fix->config.warm = true;
    open_manager(fix);
    RUN_UNTIL(fix, count_warm(fix) == 1); /* the draft: the first round is nearly over */
    set_flag(fix, "plain", "open", false);
    RUN_UNTIL(fix, count_matches(fix, "run/*/restore.msgpack") == 1);
    assert_int_equal(kill(vmm_pid(fix, "run/"), SIGKILL), 0);
    RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
    RUN_UNTIL(fix, count_warm(fix) == 0);
    assert_int_equal(warm_templates(fix), 0);
}

/* A daemon in a process of its own, killed hard so many turns after the trial began. */
static void crash_in_trial(struct fixture *fix, int steps)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)uv_loop_fork(&fix->loop);
        open_manager(fix);
        RUN_UNTIL(fix, count_matches(fix, "run/*/restore.msgpack") == 1);
        for (; steps > 0; steps--) {
            (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
            (void)usleep(1000);
        }
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void test_daemon_killed_in_trial(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    int steps;

    fix->config.warm = true;
    for (steps = 0; steps < 12; steps++) {
        crash_in_trial(fix, steps * 3);
        open_manager(fix);
        RUN_UNTIL(fix, warm_templates(fix) == 1);
        RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
        RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
        RUN_UNTIL(fix, count_warm(fix) == 1);
        sandbox = create(fix, "plain");
        assert_true(was_restored(fix, sandbox));
        kill_now(fix, sandbox);
        close_manager(fix);
        add_file(fix, "templates/plain/disk.raw", steps % 2 ? "plain" : "plain, built again");
    }
    fix->config.warm = false;
    open_manager(fix); /* for the teardown */
    RUN_UNTIL(fix, count_warm(fix) == 0);
}

/* The daemon goes, or its VM does, in the middle of making one. */
static void test_interrupted(void **state)
{
    struct fixture *fix = *state;
    int steps;

    fix->config.warm = true;
    for (steps = 0; steps < 24; steps++) {
        int i;

        open_manager(fix);
        for (i = 0; i < steps * 5; i++) {
            (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
            (void)usleep(1000);
        }
        close_manager(fix);
        assert_int_equal(count_sandbox_folders(fix), 0);
    }
    open_manager(fix);
    RUN_UNTIL(fix, warm_templates(fix) == 1);
    RUN_UNTIL(fix, count_layers(fix, NULL) == 0);
    RUN_UNTIL(fix, count_warm(fix) == 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_creates_are_restores),
        TEST(test_creates_have_a_working_set),
        TEST(test_incomplete_one_is_made_anew),
        TEST(test_restart_finds_it),
        TEST(test_off),
        TEST(test_bad_one_is_made_anew),
        TEST(test_changed_template_is_made_anew),
        TEST(test_template_that_does_not_boot),
        TEST(test_trial_that_fails),
        TEST(test_trial_that_is_killed),
        TEST(test_daemon_killed_in_trial),
        TEST(test_interrupted),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/warm", tests, NULL, NULL);
}
