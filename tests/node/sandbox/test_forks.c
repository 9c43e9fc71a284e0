/* Checkpoints, forks and restore in place from end to end with fake_vmm: what a sandbox held
 * at that instant is what comes back, in as many as are asked for, whatever became of the
 * source. Nothing leaks (teardown looks for layers that are left). */
#include <errno.h>
#include <unistd.h>

#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/fixture.h"

static void set_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "set", 0, value, &answer), 0);
    assert_int_equal(ask(fix, sandbox, "write", 3, value, &answer), 0);
}

static unsigned memory_of(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "get", 0, 0, &answer), 0);
    return (unsigned)answer.value;
}

static unsigned disk_of(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer;

    assert_int_equal(ask(fix, sandbox, "read", 3, 0, &answer), 0);
    return (unsigned)answer.value;
}

static void check_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value)
{
    assert_int_equal(memory_of(fix, sandbox), value);
    assert_int_equal(disk_of(fix, sandbox), value);
}

/* As soon as it is taken, which may be before it is ready. */
static struct node_checkpoint *begin_checkpoint(struct fixture *fix,
                                                struct node_sandbox *sandbox,
                                                const char *name,
                                                bool disk_only)
{
    struct node_checkpoint_spec spec = {.disk_only = disk_only};
    struct node_checkpoint *checkpoint;
    struct shl_err err = {0};

    (void)snprintf(spec.name, sizeof(spec.name), "%s", name);
    if (node_checkpoint_create(fix->manager, sandbox, &spec, &checkpoint, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    return checkpoint;
}

static struct node_checkpoint *make_checkpoint(struct fixture *fix,
                                               struct node_sandbox *sandbox,
                                               const char *name)
{
    struct node_checkpoint *checkpoint = begin_checkpoint(fix, sandbox, name, false);

    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        fail_msg("%s", checkpoint->error);
    }
    assert_true(checkpoint->size_bytes > 0);
    return checkpoint;
}

static void begin_fork(struct fixture *fix,
                       struct node_checkpoint *checkpoint,
                       struct answer *answer)
{
    const struct node_fork_spec spec = {.timeout_s = 0};
    struct shl_err err = {0};

    *answer = (struct answer){0};
    if (node_manager_fork(fix->manager, checkpoint, &spec, on_created, answer, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_false(answer->done);
}

static struct node_sandbox *end_fork(struct fixture *fix, struct answer *answer)
{
    RUN_UNTIL(fix, answer->done);
    if (answer->code < 0) {
        fail_msg("%s", answer->msg);
    }
    assert_int_equal(answer->sandbox->state, NODE_SANDBOX_RUNNING);
    return answer->sandbox;
}

static struct node_sandbox *fork_one(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    struct answer answer;

    begin_fork(fix, checkpoint, &answer);
    return end_fork(fix, &answer);
}

static void delete_one(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    assert_int_equal(node_checkpoint_delete(fix->manager, checkpoint, NULL), 0);
}

static int restore(struct fixture *fix,
                   struct node_sandbox *sandbox,
                   struct node_checkpoint *checkpoint)
{
    struct answer answer = {0};

    node_manager_restore(fix->manager, sandbox, checkpoint, on_killed, &answer);
    assert_false(answer.done);
    RUN_UNTIL(fix, answer.done);
    return answer.code;
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

/* ---- tests -------------------------------------------------------------------------- */

static void test_forks_are_independent(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *forks[3];
    struct node_checkpoint *checkpoint;
    struct answer answers[3];
    int i;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 1);
    checkpoint = make_checkpoint(fix, source, "one");
    check_data(fix, source, 1); /* it went on */
    set_data(fix, source, 2);
    for (i = 0; i < 3; i++) {
        begin_fork(fix, checkpoint, &answers[i]);
    }
    for (i = 0; i < 3; i++) {
        forks[i] = end_fork(fix, &answers[i]);
        assert_string_equal(forks[i]->from_checkpoint, checkpoint->id);
        assert_string_not_equal(forks[i]->id, source->id);
        check_data(fix, forks[i], 1);
        set_data(fix, forks[i], 10 + (unsigned)i);
    }
    check_data(fix, source, 2);
    for (i = 0; i < 3; i++) {
        check_data(fix, forks[i], 10 + (unsigned)i);
    }
    delete_one(fix, checkpoint);
}

static void test_forks_outlive_source_and_checkpoint(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *fork, *late;
    struct node_checkpoint *checkpoint;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 5);
    checkpoint = make_checkpoint(fix, source, "one");
    fork = fork_one(fix, checkpoint);
    kill_now(fix, source);
    late = fork_one(fix, checkpoint);
    delete_one(fix, checkpoint);
    check_data(fix, fork, 5);
    set_data(fix, late, 6);
    hibernate(fix, late);
    wake(fix, late);
    check_data(fix, late, 6);
}

static void test_fork_while_processing(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source;
    struct node_checkpoint *checkpoint;
    struct answer answer;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 7);
    checkpoint = begin_checkpoint(fix, source, "one", false);
    begin_fork(fix, checkpoint, &answer);
    check_data(fix, end_fork(fix, &answer), 7);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    delete_one(fix, checkpoint);
}

static void test_fork_of_the_disk_boots(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *fork;
    struct node_checkpoint *checkpoint;

    open_manager(fix);
    source = create(fix, "plain");
    set_data(fix, source, 8);
    checkpoint = begin_checkpoint(fix, source, "disk", true);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    fork = fork_one(fix, checkpoint);
    assert_int_equal(disk_of(fix, fork), 8);
    assert_int_not_equal(memory_of(fix, fork), 8);
    check_data(fix, source, 8);
    delete_one(fix, checkpoint);
}

static void test_restore_in_place(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_checkpoint *one, *two;
    char id[NODE_SANDBOX_ID_SIZE];

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    set_data(fix, sandbox, 1);
    one = make_checkpoint(fix, sandbox, "one");
    set_data(fix, sandbox, 2);
    two = make_checkpoint(fix, sandbox, "two");
    set_data(fix, sandbox, 3);
    assert_int_equal(restore(fix, sandbox, one), 0);
    assert_string_equal(sandbox->id, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    check_data(fix, sandbox, 1);
    /* forward again, and from hibernation */
    assert_int_equal(restore(fix, sandbox, two), 0);
    check_data(fix, sandbox, 2);
    hibernate(fix, sandbox);
    assert_int_equal(restore(fix, sandbox, one), 0);
    check_data(fix, sandbox, 1);
    delete_one(fix, one);
    delete_one(fix, two);
    check_data(fix, sandbox, 1);
}

static void test_failed_checkpoint_leaves_the_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 4);
    set_flag(fix, "plain", "no_space", true);
    checkpoint = begin_checkpoint(fix, sandbox, "one", false);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_FAILED);
    assert_true(checkpoint->error[0] != '\0');
    check_data(fix, sandbox, 4);
    set_flag(fix, "plain", "no_space", false);
    delete_one(fix, make_checkpoint(fix, sandbox, "one"));
}

static void test_sandbox_killed_meanwhile(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;

    open_manager(fix);
    sandbox = create(fix, "plain");
    checkpoint = begin_checkpoint(fix, sandbox, "one", false);
    kill_now(fix, sandbox);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    delete_one(fix, checkpoint);
}

static void test_another_daemon_forks_and_restores(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;
    char id[NODE_SANDBOX_ID_SIZE], checkpoint_id[NODE_CHECKPOINT_ID_SIZE];

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 1);
    checkpoint = make_checkpoint(fix, sandbox, "one");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    (void)snprintf(checkpoint_id, sizeof(checkpoint_id), "%s", checkpoint->id);
    set_data(fix, sandbox, 2);
    close_manager(fix);
    open_manager(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, checkpoint_id);
    assert_non_null(checkpoint);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    check_data(fix, fork_one(fix, checkpoint), 1);
    sandbox = find(fix, id);
    RUN_UNTIL(fix, sandbox->agent);
    assert_int_equal(restore(fix, sandbox, checkpoint), 0);
    check_data(fix, sandbox, 1);
    delete_one(fix, checkpoint);
}

/* Stopped between the snapshot and the end of the ingest: the next daemon does the rest. */
static void test_another_daemon_ingests(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char checkpoint_id[NODE_CHECKPOINT_ID_SIZE];
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 9);
    fix->manager->checkpoints->tidied = false; /* nothing is ingested before this */
    checkpoint = begin_checkpoint(fix, sandbox, "one", false);
    (void)snprintf(checkpoint_id, sizeof(checkpoint_id), "%s", checkpoint->id);
    RUN_UNTIL(fix, checkpoint_of(checkpoint)->has_stack);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    close_manager(fix);
    open_manager(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, checkpoint_id);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    check_data(fix, fork_one(fix, checkpoint), 9);
    delete_one(fix, checkpoint);
}

static void test_lost_layers_come_from_the_store(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char path[SANDBOX_PATH_MAX];
    struct answer answers[2];
    struct node_sandbox *sandbox;
    const struct node_stack *stack;

    open_manager(fix);
    sandbox = create(fix, "plain");
    set_data(fix, sandbox, 6);
    checkpoint = make_checkpoint(fix, sandbox, "one");
    kill_now(fix, sandbox);
    stack = &checkpoint_of(checkpoint)->stack;
    layers_path(fix->manager, stack->disk[stack->disk_count - 1].hex, LAYERS_DISK, path,
                sizeof(path));
    assert_int_equal(unlink(path), 0);
    layers_path(fix->manager, stack->mem[stack->mem_count - 1].hex, LAYERS_MEM, path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    begin_fork(fix, checkpoint, &answers[0]);
    begin_fork(fix, checkpoint, &answers[1]);
    check_data(fix, end_fork(fix, &answers[0]), 6);
    check_data(fix, end_fork(fix, &answers[1]), 6);
    delete_one(fix, checkpoint);
}

static bool count_each(void *arg, struct node_checkpoint *checkpoint)
{
    (void)checkpoint;
    ++*(unsigned *)arg;
    return true;
}

/* The record of the sandbox is dropped some time after its end; its checkpoints stay. */
static void test_checkpoints_of_a_forgotten_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;
    char id[NODE_SANDBOX_ID_SIZE];
    unsigned count = 0;

    fix->config.ended_keep_ms = 1;
    fix->config.housekeeping_ms = 10;
    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    set_data(fix, sandbox, 6);
    checkpoint = make_checkpoint(fix, sandbox, "one");
    kill_now(fix, sandbox);
    RUN_UNTIL(fix, !node_manager_find(fix->manager, ORG, id));
    node_checkpoint_each(fix->manager, ORG, id, count_each, &count);
    assert_int_equal(count, 1);
    check_data(fix, fork_one(fix, checkpoint), 6);
    delete_one(fix, checkpoint);
}

/* A fork of a fork of a fork: stacks do not grow without an end. */
static void test_generations(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox, *next;
    struct node_checkpoint *checkpoint;
    unsigned i;

    open_manager(fix);
    sandbox = create(fix, "plain");
    for (i = 1; i <= VMM_DISK_LAYERS_MAX + 2; i++) {
        set_data(fix, sandbox, i);
        checkpoint = make_checkpoint(fix, sandbox, "one");
        kill_now(fix, sandbox);
        next = fork_one(fix, checkpoint);
        delete_one(fix, checkpoint);
        check_data(fix, next, i);
        sandbox = next;
    }
}

/* ---- patches ------------------------------------------------------------------------ */

static struct {
    uint32_t numbers[8];
    size_t count;
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
} book;

static int next_patch(void *arg,
                      const char *checkpoint,
                      uint32_t after,
                      uint32_t *ret_sequence,
                      char **ret_script)
{
    (void)arg;
    assert_string_equal(checkpoint, book.checkpoint);
    for (size_t i = 0; i < book.count; i++) {
        if (book.numbers[i] > after) {
            *ret_sequence = book.numbers[i];
            *ret_script = strdup("true");
            return 1;
        }
    }
    return 0;
}

static const struct node_patch_source patch_book = {.next = next_patch};

static void set_patches(const uint32_t *numbers, size_t count)
{
    memcpy(book.numbers, numbers, count * sizeof(*numbers));
    book.count = count;
}

#define PATCHES(...) \
    set_patches((const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static void sleep_and_wake(struct fixture *fix, struct node_sandbox *sandbox)
{
    hibernate(fix, sandbox);
    wake(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
}

static void test_forks_patches_run_once_in_order_at_forks_and_wakes(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *source, *fork;
    struct node_checkpoint *checkpoint;
    struct answer answer = {0};
    char id[NODE_SANDBOX_ID_SIZE];

    open_manager(fix);
    source = create(fix, "plain");
    checkpoint = make_checkpoint(fix, source, "one");
    memcpy(book.checkpoint, checkpoint->id, sizeof(book.checkpoint));
    node_manager_set_patches(fix->manager, &patch_book, NULL);
    PATCHES(1, 2);
    fork = fork_one(fix, checkpoint);
    assert_int_equal(fork->spec.patched, 2);
    assert_string_equal(fork->spec.patch_error, "");
    sleep_and_wake(fix, source); /* it is no fork */
    assert_int_equal(source->spec.patched, 0);

    /* not in what runs, at its next wake */
    PATCHES(1, 2, 3);
    assert_int_equal(fork->spec.patched, 2);
    sleep_and_wake(fix, fork);
    assert_int_equal(fork->spec.patched, 3);

    /* one that fails holds back the later ones, and the sandbox runs */
    set_flag(fix, "plain", "exec_fails", true);
    PATCHES(1, 2, 3, 4, 5);
    sleep_and_wake(fix, fork);
    assert_int_equal(fork->spec.patched, 3);
    assert_int_equal(strncmp(fork->spec.patch_error, "patch 4 failed (exit 1)", 23), 0);
    sleep_and_wake(fix, fork);
    assert_int_equal(fork->spec.patched, 3);

    /* that is recorded */
    memcpy(id, fork->id, sizeof(id));
    hibernate(fix, fork);
    close_manager(fix);
    open_manager(fix);
    node_manager_set_patches(fix->manager, &patch_book, NULL);
    fork = find(fix, id);
    assert_int_equal(fork->spec.patched, 3);
    assert_int_equal(strncmp(fork->spec.patch_error, "patch 4 failed", 14), 0);

    /* deleted: the others run, also when a call wakes it */
    set_flag(fix, "plain", "exec_fails", false);
    PATCHES(1, 2, 3, 5);
    assert_int_equal(node_sandbox_need(fork, on_killed, &answer, NULL), 0);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    assert_int_equal(fork->spec.patched, 5);
    assert_string_equal(fork->spec.patch_error, "");

    /* a reboot is no wake */
    PATCHES(1, 2, 3, 5, 6);
    answer = (struct answer){0};
    node_manager_reboot(fix->manager, fork, true, on_killed, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    assert_int_equal(fork->spec.patched, 5);
    delete_one(fix, node_checkpoint_find(fix->manager, ORG, book.checkpoint));
}

static int last_patch(void *arg,
                      const char *checkpoint,
                      uint32_t after,
                      uint32_t *ret_sequence,
                      char **ret_script)
{
    struct fixture *fix = arg;

    node_manager_set_patches(fix->manager, NULL, NULL);
    return next_patch(NULL, checkpoint, after, ret_sequence, ret_script);
}

static const struct node_patch_source last_page = {.next = last_patch};

/* The API closes while one runs, before the manager does. */
static void test_forks_patches_end_with_their_source(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    struct node_sandbox *fork;

    open_manager(fix);
    checkpoint = make_checkpoint(fix, create(fix, "plain"), "one");
    memcpy(book.checkpoint, checkpoint->id, sizeof(book.checkpoint));
    node_manager_set_patches(fix->manager, &last_page, fix);
    PATCHES(1, 2);
    fork = fork_one(fix, checkpoint);
    assert_int_equal(fork->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(fork->spec.patched, 1);
    node_manager_set_patches(fix->manager, &patch_book, NULL);
    sleep_and_wake(fix, fork);
    assert_int_equal(fork->spec.patched, 2);
    delete_one(fix, node_checkpoint_find(fix->manager, ORG, book.checkpoint));
}

static struct {
    node_patches_known_cb cb;
    void *arg;
    unsigned asked;
} slow;

static bool slow_catch_up(void *arg, node_patches_known_cb cb, void *cb_arg)
{
    (void)arg;
    assert_null(slow.cb);
    slow.cb = cb;
    slow.arg = cb_arg;
    slow.asked++;
    return false;
}

static const struct node_patch_source slow_book = {.catch_up = slow_catch_up, .next = next_patch};

static void catch_up_ends(void)
{
    node_patches_known_cb cb = slow.cb;

    slow.cb = NULL;
    cb(slow.arg);
}

/* The one that is set up and waits for the answer, or NULL. */
static struct node_sandbox *waiting(struct fixture *fix)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &fix->manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (sandbox->patches_due) {
            return &sandbox->pub;
        }
    }
    return NULL;
}

/* A patch that another node was told just now. */
static void test_forks_wait_for_patches_this_node_does_not_know_yet(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    struct answer answer = {0};
    struct node_sandbox *source, *fork;

    open_manager(fix);
    memset(&slow, 0, sizeof(slow));
    source = create(fix, "plain");
    checkpoint = make_checkpoint(fix, source, "one");
    memcpy(book.checkpoint, checkpoint->id, sizeof(book.checkpoint));
    node_manager_set_patches(fix->manager, &slow_book, fix);
    PATCHES(1);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, waiting(fix));
    assert_false(answer.done);
    PATCHES(1, 2);
    catch_up_ends();
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    fork = answer.sandbox;
    assert_int_equal(fork->spec.patched, 2);

    /* what it was made of asks nobody */
    sleep_and_wake(fix, source);
    assert_int_equal(slow.asked, 1);

    /* a wake waits, too; here for the deletion of one */
    hibernate(fix, fork);
    PATCHES(1, 2, 3);
    answer = (struct answer){0};
    assert_int_equal(node_sandbox_need(fork, on_killed, &answer, NULL), 0);
    RUN_UNTIL(fix, waiting(fix));
    assert_false(answer.done);
    PATCHES(1, 2);
    catch_up_ends();
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(fork->spec.patched, 2);

    /* an answer before the guest is set up, and one when it has ended */
    hibernate(fix, fork);
    answer = (struct answer){0};
    assert_int_equal(node_sandbox_need(fork, on_killed, &answer, NULL), 0);
    RUN_UNTIL(fix, slow.cb);
    assert_null(waiting(fix));
    catch_up_ends();
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, waiting(fix));
    kill_now(fix, waiting(fix));
    assert_true(answer.done);
    catch_up_ends();
    assert_null(waiting(fix));
    delete_one(fix, node_checkpoint_find(fix->manager, ORG, book.checkpoint));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_forks_patches_run_once_in_order_at_forks_and_wakes),
        TEST(test_forks_patches_end_with_their_source),
        TEST(test_forks_wait_for_patches_this_node_does_not_know_yet),
        TEST(test_forks_are_independent),
        TEST(test_forks_outlive_source_and_checkpoint),
        TEST(test_fork_while_processing),
        TEST(test_fork_of_the_disk_boots),
        TEST(test_restore_in_place),
        TEST(test_failed_checkpoint_leaves_the_sandbox),
        TEST(test_sandbox_killed_meanwhile),
        TEST(test_another_daemon_forks_and_restores),
        TEST(test_another_daemon_ingests),
        TEST(test_lost_layers_come_from_the_store),
        TEST(test_checkpoints_of_a_forgotten_sandbox),
        TEST(test_generations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
