/* Snapshots of running sandboxes, forks of them, restoring in place, with fake_vmm. */
#include <errno.h>
#include <unistd.h>

#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/cycle.h"

struct taken {
    bool done;
    int code;
    struct node_stack stack;
};

static void on_taken(void *arg,
                     int code,
                     const char *msg,
                     const struct node_stack *stack,
                     const struct sandbox_snapshot_stats *stats)
{
    struct taken *taken = arg;

    (void)msg;
    (void)stats;
    taken->done = true;
    taken->code = code;
    if (stack) {
        taken->stack = *stack;
    }
}

static void snapshot(struct fixture *fix,
                     struct node_sandbox *sandbox,
                     enum sandbox_snapshot_kind kind,
                     struct taken *taken)
{
    *taken = (struct taken){0};
    assert_int_equal(sandbox_snapshot(sandbox_of(sandbox), kind, on_taken, taken), 0);
    assert_false(taken->done);
    RUN_UNTIL(fix, taken->done);
    assert_int_equal(taken->code, 0);
}

static struct node_sandbox *fork_one(struct fixture *fix, const struct node_stack *stack)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct answer answer = {0};

    assert_int_equal(sandbox_create_from(fix->manager, &spec, stack, "checkpoint", on_created,
                                         &answer, NULL),
                     0);
    RUN_UNTIL(fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    assert_string_equal(answer.sandbox->from_checkpoint, "checkpoint");
    return answer.sandbox;
}

static void test_forks_outlive_their_source(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *forks[3];
    struct taken taken;
    unsigned i;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 41);
    snapshot(fix, source, SANDBOX_SNAPSHOT_FULL, &taken);
    assert_int_equal(source->state, NODE_SANDBOX_RUNNING);
    set_data(fix, source, 49); /* the same cluster */
    for (i = 0; i < 3; i++) {
        forks[i] = fork_one(fix, &taken.stack);
        check_data(fix, forks[i], 41);
        set_data(fix, forks[i], 57 + 8 * i);
    }
    node_stack_unref(fix->manager, &taken.stack);
    check_data(fix, source, 49);
    kill_now(fix, source);
    for (i = 0; i < 3; i++) {
        hibernate(fix, forks[i]);
        wake(fix, forks[i]);
        check_data(fix, forks[i], 57 + 8 * i);
    }
}

static void test_snapshot_of_the_disk(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *fork;
    struct taken taken;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 42);
    snapshot(fix, source, SANDBOX_SNAPSHOT_DISK, &taken);
    assert_string_equal(taken.stack.state.hex, "");
    fork = fork_one(fix, &taken.stack);
    node_stack_unref(fix->manager, &taken.stack);
    check_memory(fix, fork, 0);
    check_disk(fix, fork, 42);
    check_data(fix, source, 42);
}

/* Two at once take their turns; hibernating waits for them. */
static void test_snapshots_queue(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct taken taken[2] = {0};
    struct answer slept = {0};

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 43);
    assert_int_equal(
        sandbox_snapshot(sandbox_of(sandbox), SANDBOX_SNAPSHOT_FULL, on_taken, &taken[0]), 0);
    assert_int_equal(
        sandbox_snapshot(sandbox_of(sandbox), SANDBOX_SNAPSHOT_FULL, on_taken, &taken[1]), 0);
    node_manager_hibernate(fix->manager, sandbox, on_killed, &slept);
    RUN_UNTIL(fix, slept.done);
    assert_int_equal(slept.code, 0);
    assert_true(taken[0].done && taken[1].done);
    assert_int_equal(taken[0].code, 0);
    assert_int_equal(taken[1].code, 0);
    wake(fix, sandbox);
    check_data(fix, sandbox, 43);
    assert_int_equal(sandbox_snapshot(sandbox_of(sandbox), SANDBOX_SNAPSHOT_LAST, on_taken,
                                      &taken[1]),
                     SHL_EBADSTATE);
    node_stack_unref(fix->manager, &taken[0].stack);
    node_stack_unref(fix->manager, &taken[1].stack);
}

static void test_failed_snapshot_leaves_it_running(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct taken taken = {0};

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_flag(fix, "plain", "no_space", true);
    assert_int_equal(sandbox_snapshot(sandbox_of(sandbox), SANDBOX_SNAPSHOT_FULL, on_taken, &taken),
                     0);
    RUN_UNTIL(fix, taken.done);
    assert_int_equal(taken.code, -ENOSPC);
    set_flag(fix, "plain", "no_space", false);
    set_data(fix, sandbox, 44);
    RUN_UNTIL(fix, count_layers(fix, NULL) == 1);
    wait_thawed(fix, sandbox);
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    check_data(fix, sandbox, 44);
}

/* Thirty checkpoints in a row, each forkable, the deepest too. */
static void test_many_snapshots(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox, *fork;
    struct taken taken;
    char path[300];
    unsigned i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    for (i = 1; i <= 30; i++) {
        set_data(fix, sandbox, i);
        snapshot(fix, sandbox, SANDBOX_SNAPSHOT_FULL, &taken);
        if (i % 10 == 0) {
            fork = fork_one(fix, &taken.stack);
            check_data(fix, fork, i);
            check_disk(fix, fork, i - 3);
            kill_now(fix, fork);
        }
        node_stack_unref(fix->manager, &taken.stack);
    }
    check_data(fix, sandbox, 30);
    /* deep stacks were merged under the running VM, which was told */
    (void)snprintf(path, sizeof(path), "%s/%s/layers", fix->run, sandbox->id);
    assert_int_equal(access(path, F_OK), 0);
    assert_true(sandbox_of(sandbox)->stack.disk_count <= VMM_DISK_LAYERS_MAX);
}

/* One right behind the other: merged layers leave the VMM, too, which has room for 16. */
static void test_snapshots_without_a_pause(void **state)
{
    enum {
        COUNT = 40,
        AHEAD = 3
    };
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct taken taken[COUNT] = {0};
    unsigned i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    for (i = 0; i < COUNT + AHEAD; i++) {
        if (i < COUNT) {
            assert_int_equal(sandbox_snapshot(sandbox_of(sandbox), SANDBOX_SNAPSHOT_DISK, on_taken,
                                              &taken[i]),
                             0);
        }
        if (i >= AHEAD) {
            RUN_UNTIL(fix, taken[i - AHEAD].done);
            assert_int_equal(taken[i - AHEAD].code, 0);
            node_stack_unref(fix->manager, &taken[i - AHEAD].stack);
        }
    }
    set_data(fix, sandbox, 45);
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    check_data(fix, sandbox, 45);
}

/* A daemon may have died between a merge and telling the VMM of it. */
static void test_layers_are_told_after_a_restart(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    struct taken taken;
    char path[300];

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    (void)snprintf(path, sizeof(path), "%s/%s/layers", fix->run, id);
    set_data(fix, sandbox, 46);
    snapshot(fix, sandbox, SANDBOX_SNAPSHOT_FULL, &taken);
    node_stack_unref(fix->manager, &taken.stack);
    assert_int_equal(access(path, F_OK), -1);
    close_manager(fix);
    open_manager(fix);
    sandbox = find(fix, id);
    wait_thawed(fix, sandbox);
    snapshot(fix, sandbox, SANDBOX_SNAPSHOT_FULL, &taken);
    node_stack_unref(fix->manager, &taken.stack);
    assert_int_equal(access(path, F_OK), 0);
    check_data(fix, sandbox, 46);
}

static void switch_to(struct fixture *fix,
                      struct node_sandbox *sandbox,
                      const struct node_stack *stack,
                      struct answer *answer)
{
    *answer = (struct answer){0};
    sandbox_switch(sandbox_of(sandbox), stack, on_killed, answer);
    assert_false(answer->done);
    RUN_UNTIL(fix, answer->done);
}

static void test_restore_in_place(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct answer answer;
    struct taken taken;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 61);
    snapshot(fix, sandbox, SANDBOX_SNAPSHOT_FULL, &taken);
    set_data(fix, sandbox, 69);
    switch_to(fix, sandbox, &taken.stack, &answer);
    assert_int_equal(answer.code, 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    check_data(fix, sandbox, 61);
    set_data(fix, sandbox, 77);
    hibernate(fix, sandbox);
    switch_to(fix, sandbox, &taken.stack, &answer);
    assert_int_equal(answer.code, 0);
    check_data(fix, sandbox, 61);
    node_stack_unref(fix->manager, &taken.stack);
}

static void test_failed_restore_in_place(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct answer answer, needed = {0};
    struct node_stack broken;
    struct taken taken;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 62);
    snapshot(fix, sandbox, SANDBOX_SNAPSHOT_FULL, &taken);
    set_data(fix, sandbox, 70);
    broken = taken.stack;
    memset(broken.disk[0].hex, 'a', NODE_LAYER_ID_SIZE - 1); /* there is none */
    switch_to(fix, sandbox, &broken, &answer);
    assert_int_equal(answer.code, -ENOENT);
    if (node_sandbox_need(sandbox, on_killed, &needed, NULL) == 0) {
        RUN_UNTIL(fix, needed.done);
    }
    check_data(fix, sandbox, 70);
    node_stack_unref(fix->manager, &taken.stack);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_forks_outlive_their_source),
        TEST(test_snapshot_of_the_disk),
        TEST(test_snapshots_queue),
        TEST(test_failed_snapshot_leaves_it_running),
        TEST(test_many_snapshots),
        TEST(test_snapshots_without_a_pause),
        TEST(test_layers_are_told_after_a_restart),
        TEST(test_restore_in_place),
        TEST(test_failed_restore_in_place),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/snapshot", tests, NULL, NULL);
}
