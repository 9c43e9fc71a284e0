/* Forks, layers that were lost, restore in place. */
#include "tests/node/sandbox/checkpoint_fixture.h"

/* ---- forks -------------------------------------------------------------------------- */

static void test_fork_of_a_ready_one(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct answer answer;

    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1);
    assert_false(answer.done);
    assert_string_equal(fix->forks[0].from, checkpoint->id);
    assert_int_equal(fix->forks[0].spec.timeout_s, 60);
    assert_int_equal(fix->forks[0].spec.memory_mb, 1024);
    assert_memory_equal(&fix->forks[0].stack, &checkpoint_of(checkpoint)->stack,
                        sizeof(struct node_stack));
    fix->forks[0].cb(fix->forks[0].arg, 0, "", NULL);
    assert_true(answer.done);
}

/* A fork waits for the snapshot, not for the ingest. */
static void test_fork_of_a_processing_one(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct answer answers[3];
    int i;

    for (i = 0; i < 3; i++) {
        begin_fork(fix, checkpoint, &answers[i]);
    }
    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->fork_count == 3);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    /* and outlives it */
    delete_now(fix, checkpoint);
    hold_ingests(fix, false);
    assert_int_equal(count_layers(fix), 3);
}

static void test_fork_waits_in_vain(void **state)
{
    struct fixture *fix = *state;
    struct answer answers[2];

    begin_fork(fix, begin(fix, "deleted", false), &answers[0]);
    delete_now(fix, &((struct checkpoint *)fix->snapshot_arg)->pub);
    assert_true(answers[0].done);
    assert_int_equal(answers[0].code, SHL_ENOTFOUND);
    fail_snapshot(fix, "because");
    begin_fork(fix, begin(fix, "failing", false), &answers[1]);
    fail_snapshot(fix, "no space");
    assert_true(answers[1].done);
    assert_int_equal(answers[1].code, SHL_EBADSTATE);
    assert_string_equal(answers[1].msg, "the checkpoint failed: no space");
    assert_int_equal(fix->fork_count, 0);
}

static void test_fork_of_a_failed_one(void **state)
{
    struct fixture *fix = *state;
    const struct node_fork_spec spec = {.timeout_s = 60};
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct shl_err err = {0};

    fail_snapshot(fix, "no space");
    assert_int_equal(node_manager_fork(fix->manager, checkpoint, &spec, on_create, NULL, &err),
                     SHL_EBADSTATE);
    assert_string_equal(err.msg, "the checkpoint failed: no space");
}

static void test_fork_waits_no_longer_than_its_limit(void **state)
{
    struct fixture *fix = *state;
    struct checkpoints *set = fix->manager->checkpoints;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct answer answers[2];

    begin_fork(fix, checkpoint, &answers[0]);
    begin_fork(fix, checkpoint, &answers[1]);
    /* as if it had waited */
    shl_container_of(shl_list_first(&set->limited), struct checkpoint_waiter, limit_node)
        ->deadline_ms = shl_monotonic_ms();
    checkpoint_on_limit(&set->limit_timer);
    assert_true(answers[0].done);
    assert_int_equal(answers[0].code, SHL_EBADSTATE);
    assert_non_null(strstr(answers[0].msg, "checkpoint not ready"));
    assert_false(answers[1].done);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->fork_count == 1);
}

static void test_fork_refused_by_admission(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->fork_rc = SHL_ENOCAPACITY;
    begin_fork(fix, make(fix, "x", 'a'), &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ENOCAPACITY);
    assert_string_equal(answer.msg, "no memory is free");
}

static void test_stop_of_the_daemon_answers_forks(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    begin_fork(fix, begin(fix, "x", false), &answer);
    restart(fix);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EUNAVAILABLE);
}

/* ---- layers that were lost ----------------------------------------------------------- */

static void read_at(const char *path, void *dst, size_t len, uint64_t offset)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(shl_pread_full(fd, dst, len, offset), 0);
    (void)close(fd);
}

static void check_made_again(struct fixture *fix, const struct node_stack *stack, char fill)
{
    char path[SANDBOX_PATH_MAX];
    struct vmm_layer layer;
    char got[16], want[16];
    int fd;

    (void)memset(want, fill, sizeof(want));
    layer_path(fix, &stack->disk[0], LAYERS_DISK, path);
    read_at(path, got, sizeof(got), vmm_overlay_data_offset(DISK_BYTES) + 100);
    assert_memory_equal(got, want, sizeof(want));
    layer_path(fix, &stack->state, LAYERS_STATE, path);
    read_at(path, got, sizeof(got), 900);
    assert_memory_equal(got, want, sizeof(want));
    layer_path(fix, &stack->mem[0], LAYERS_MEM, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_int_equal(layer.memory_bytes, MEMORY_BYTES);
    assert_true(layer.runs[0].first_page <= 7 &&
                layer.runs[0].first_page + layer.runs[0].page_count > 7);
    read_at(path, got, sizeof(got),
            layer.runs[0].file_offset + (7 - layer.runs[0].first_page) * VMM_LAYER_PAGE_BYTES);
    assert_memory_equal(got, want, sizeof(want));
    vmm_layer_release(&layer);
    (void)close(fd);
}

static void fork_after_loss(struct fixture *fix, struct node_checkpoint *checkpoint, char fill)
{
    struct node_stack lost = checkpoint_of(checkpoint)->stack;
    struct answer answers[3];
    int i;

    for (i = 0; i < 3; i++) {
        begin_fork(fix, checkpoint, &answers[i]);
    }
    RUN_UNTIL(fix, fix->fork_count == 3 || answers[0].done);
    if (answers[0].done) {
        fail_msg("%s", answers[0].msg);
    }
    for (i = 0; i < 3; i++) {
        assert_string_not_equal(fix->forks[i].stack.disk[0].hex, lost.disk[0].hex);
        assert_memory_equal(&fix->forks[i].stack, &checkpoint_of(checkpoint)->stack,
                            sizeof(struct node_stack));
    }
    assert_true(fix->forks[0].stack.whole_disk);
    check_made_again(fix, &fix->forks[0].stack, fill);
    assert_int_equal(count_layers(fix), 3); /* what was left of the old ones is gone */
}

static void test_lost_disk_is_made_again_once(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'q');
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    fork_after_loss(fix, checkpoint, 'q');
}

static void test_damaged_memory_is_made_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'm');
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.mem[0], LAYERS_MEM, path);
    assert_int_equal(truncate(path, 5000), 0);
    fork_after_loss(fix, checkpoint, 'm');
}

static void test_made_again_survives_a_restart(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 's');
    char id[NODE_CHECKPOINT_ID_SIZE], path[SANDBOX_PATH_MAX];
    struct answer answer;

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    layer_path(fix, &checkpoint_of(checkpoint)->stack.state, LAYERS_STATE, path);
    assert_int_equal(truncate(path, 0), 0);
    fork_after_loss(fix, checkpoint, 's');
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1);
    check_made_again(fix, &fix->forks[0].stack, 's');
    assert_int_equal(count_layers(fix), 3);
}

/* The warm template's disk is not below what is made again: it would show through where the
 * sandbox wrote zeros. */
static void test_made_again_above_a_warm_template(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    struct node_stack_fds fds;
    char path[SANDBOX_PATH_MAX];
    uint8_t bits;

    make_warm(fix);
    checkpoint = make(fix, "x", 'q');
    layer_path(fix, &checkpoint_of(checkpoint)->stack.mem[0], LAYERS_MEM, path);
    assert_int_equal(unlink(path), 0);
    fork_after_loss(fix, checkpoint, 'q');
    assert_string_equal(fix->forks[0].stack.warm, fix->warm);
    assert_true(fix->forks[0].stack.warm_mem);
    assert_int_equal(node_stack_open(fix->manager, TEMPLATE, &fix->forks[0].stack, &fds, NULL), 0);
    assert_int_equal(fds.disk_count, 1);
    assert_true(fds.warm_mem >= 0);
    /* cluster 1 is zeros, as in the template's image: nothing stands in the way of that */
    assert_int_equal(shl_pread_full(fds.disk[0], &bits, 1, VMM_OVERLAY_HEADER_BYTES), 0);
    assert_int_equal(bits, 1);
    node_stack_close(&fds);
}

/* Without the memory of the warm template that of the checkpoint means nothing. */
static void test_warm_template_lost_too(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char path[SANDBOX_PATH_MAX];
    struct answer answer;

    make_warm(fix);
    checkpoint = make(fix, "x", 'q');
    layers_warm_path(fix->manager, fix->warm, "", path, sizeof(path));
    assert_int_equal(shl_remove_tree(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1 || answer.done);
    assert_int_equal(fix->fork_count, 1);
    assert_string_equal(fix->forks[0].stack.state.hex, "");
    assert_string_equal(fix->forks[0].stack.warm, "");
    assert_int_equal(fix->forks[0].stack.mem_count, 0);
    assert_int_equal(fix->forks[0].stack.disk_count, 1);
    assert_int_equal(count_layers(fix), 1);
    restart(fix);
    assert_string_equal(list(fix), "x:ready");
}

static void test_lost_before_the_ingest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    char path[SANDBOX_PATH_MAX];
    struct answer answer;

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_true(answer.code < 0);
    hold_ingests(fix, false);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
}

static void lose_disk(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
}

/* One is made after the other, both are served. */
static void test_two_lost_at_the_same_time(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *one = make(fix, "one", 'a');
    struct node_checkpoint *two = make(fix, "two", 'b');
    struct answer answers[2];

    lose_disk(fix, one);
    lose_disk(fix, two);
    begin_fork(fix, one, &answers[0]);
    begin_fork(fix, two, &answers[1]);
    RUN_UNTIL(fix, fix->fork_count == 2);
    check_made_again(fix, &checkpoint_of(one)->stack, 'a');
    check_made_again(fix, &checkpoint_of(two)->stack, 'b');
    assert_int_equal(count_layers(fix), 6);
}

static unsigned count_makes(struct fixture *fix)
{
    struct shl_list *it;
    unsigned count = 0;

    SHL_LIST_FOREACH(it, &fix->manager->checkpoints->makes) {
        count++;
    }
    return count;
}

static void test_stop_while_layers_wait_to_be_made(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *one = make(fix, "one", 'a');
    struct node_checkpoint *two = make(fix, "two", 'b');
    struct answer answers[2];

    lose_disk(fix, one);
    lose_disk(fix, two);
    fix->manager->checkpoints->making = CHECKPOINT_MAKES_MAX; /* as if others were made */
    begin_fork(fix, one, &answers[0]);
    begin_fork(fix, two, &answers[1]);
    RUN_UNTIL(fix, count_makes(fix) == 2);
    restart(fix);
    assert_int_equal(answers[0].code, SHL_EUNAVAILABLE);
    assert_int_equal(answers[1].code, SHL_EUNAVAILABLE);
    assert_int_equal(count_layers(fix), 4);
    assert_string_equal(list(fix), "two:ready one:ready");
}

static void test_lost_for_good(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char path[SANDBOX_PATH_MAX];
    struct ckpt_id id;
    struct answer answer;

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    assert_true(manifest_id_parse(checkpoint->manifest, &id));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &id, NULL), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ENOTFOUND);
    assert_int_equal(fix->fork_count, 0);
    assert_int_equal(count_layers(fix), 2); /* nothing half-made stays */
}

/* ---- restore in place ---------------------------------------------------------------- */

static void restore(struct fixture *fix, struct node_checkpoint *checkpoint, struct answer *answer)
{
    *answer = (struct answer){0};
    node_manager_restore(fix->manager, &fix->sandbox->pub, checkpoint, on_sandbox, answer);
    assert_false(answer->done);
    RUN_UNTIL(fix, answer->done);
}

static void test_restore(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct answer answer;

    restore(fix, checkpoint, &answer);
    assert_int_equal(answer.code, 0);
    assert_int_equal(fix->switches, 1);
    assert_memory_equal(&fix->switched, &checkpoint_of(checkpoint)->stack,
                        sizeof(struct node_stack));
    assert_int_equal(fix->sandbox->refs, 0);
}

static void test_restore_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *ready = make(fix, "ready", 'a');
    struct node_checkpoint *processing = begin(fix, "processing", false);
    struct answer answer;

    restore(fix, processing, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "checkpoint not ready: it is processing");
    fix->sandbox->pub.state = NODE_SANDBOX_STOPPED;
    restore(fix, ready, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "sandbox is not running");
    fix->sandbox->pub.state = NODE_SANDBOX_RUNNING;
    fix->sandbox->pub.id[4] = '9';
    restore(fix, ready, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "the checkpoint belongs to another sandbox");
    assert_int_equal(fix->switches, 0);
}

static void test_sandbox_ends_before_its_restore(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *ready = make(fix, "ready", 'a');
    struct answer answer = {0};

    node_manager_restore(fix->manager, &fix->sandbox->pub, ready, on_sandbox, &answer);
    assert_int_equal(fix->sandbox->refs, 1);
    fix->sandbox->pub.state = NODE_SANDBOX_STOPPED;
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_int_equal(fix->switches, 0);
    assert_int_equal(fix->sandbox->refs, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fork_of_a_ready_one),
        TEST(test_fork_of_a_processing_one),
        TEST(test_fork_waits_in_vain),
        TEST(test_fork_of_a_failed_one),
        TEST(test_fork_waits_no_longer_than_its_limit),
        TEST(test_fork_refused_by_admission),
        TEST(test_stop_of_the_daemon_answers_forks),
        TEST(test_lost_disk_is_made_again_once),
        TEST(test_damaged_memory_is_made_again),
        TEST(test_made_again_survives_a_restart),
        TEST(test_made_again_above_a_warm_template),
        TEST(test_warm_template_lost_too),
        TEST(test_lost_before_the_ingest),
        TEST(test_two_lost_at_the_same_time),
        TEST(test_stop_while_layers_wait_to_be_made),
        TEST(test_lost_for_good),
        TEST(test_restore),
        TEST(test_restore_refused),
        TEST(test_sandbox_ends_before_its_restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
