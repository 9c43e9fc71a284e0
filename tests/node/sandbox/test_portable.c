/* What one node makes is started on the other, with the same bytes of memory and disk, whatever
 * that one's templates are. */
#include <unistd.h>

#include "tests/node/sandbox/two_nodes.h"

/* ---- checkpoints ------------------------------------------------------------------------- */

static struct node_checkpoint *checkpoint_of_sandbox(struct node *node,
                                                     struct node_sandbox *sandbox,
                                                     bool disk_only)
{
    struct node_checkpoint_spec spec = {.name = "one", .disk_only = disk_only};
    struct node_checkpoint *checkpoint;

    assert_int_equal(node_checkpoint_create(node->fix->manager, sandbox, &spec, &checkpoint, NULL),
                     0);
    RUN_UNTIL(node->fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    return checkpoint;
}

static struct node_sandbox *fork_one(struct node *node, const char *id)
{
    const struct node_fork_spec spec = {.timeout_s = 0};
    struct node_checkpoint *checkpoint = node_checkpoint_find(node->fix->manager, ORG, id);
    struct answer answer = {0};

    assert_non_null(checkpoint);
    assert_int_equal(
        node_manager_fork(node->fix->manager, checkpoint, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(node->fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    return answer.sandbox;
}

static void drop_template(struct node *node)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/templates/plain/disk.raw", node->fix->data);
    assert_int_equal(unlink(path), 0);
}

static void test_checkpoint_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_checkpoint *checkpoint;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;

    (void)state;
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 11);
    checkpoint = checkpoint_of_sandbox(A, sandbox, false);
    artefact = wait_artefact(A, NODE_ARTEFACT_FULL);
    assert_string_equal(artefact.id, checkpoint->id);
    assert_string_equal(artefact.manifest, checkpoint->manifest);
    assert_string_equal(artefact.sandbox_id, sandbox->id);
    assert_string_equal(artefact.label, "one");
    assert_true(artefact.bytes > 0);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_BASE, NULL));

    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 0); /* it has the same template */
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0);
    assert_int_equal(B->count, 0); /* not told: they know */
    check_data(B->fix, fork_one(B, artefact.id), 11);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0); /* again */
    restart(B);
    check_data(B->fix, fork_one(B, artefact.id), 11);

    /* its user deletes it on B: that is told; and on A */
    assert_int_equal(node_checkpoint_delete(B->fix->manager,
                                            node_checkpoint_find(B->fix->manager, ORG, artefact.id),
                                            NULL),
                     0);
    assert_int_equal(B->gone, 1);
    node_artefact_forget(A->fix->manager, artefact.id);
    assert_int_equal(A->gone, 0);
    assert_null(node_checkpoint_find(A->fix->manager, ORG, artefact.id));
}

static void test_another_template(void **state)
{
    struct node_sandbox *sandbox, *fork;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 12);
    (void)checkpoint_of_sandbox(A, sandbox, true);
    artefact = wait_artefact(A, NODE_ARTEFACT_DISK);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 1);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), 0);
    assert_int_equal(count_in(B, "bases"), 1);
    fork = fork_one(B, artefact.id);
    check_disk(B->fix, fork, 12);

    /* without any template of that name, and another daemon */
    drop_template(B);
    restart(B);
    check_disk(B->fix, fork_one(B, artefact.id), 12);

    /* the base goes with the last that stands on it */
    assert_int_equal(node_checkpoint_delete(B->fix->manager,
                                            node_checkpoint_find(B->fix->manager, ORG, artefact.id),
                                            NULL),
                     0);
    idle(B);
    assert_int_equal(count_in(B, "bases"), 1);
    node_manager_each(B->fix->manager, ORG, kill_each, B->fix);
    RUN_UNTIL(B->fix, count_in(B, "bases") == 0);
}

/* ---- hibernated ones --------------------------------------------------------------------- */

static void test_sandbox_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact first, second;
    struct bundle bundle;
    struct answer answer;
    char id[NODE_SANDBOX_ID_SIZE];
    int64_t created_at_ms;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    sandbox = create(A->fix, "plain");
    assert_int_equal(node_kv_set(&sandbox->spec.envs, "KEY", "value"), 0);
    set_data(A->fix, sandbox, 21);
    hibernate(A->fix, sandbox);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_string_equal(first.sandbox_id, sandbox->id);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    created_at_ms = sandbox->created_at_ms;

    bring(A, B, &first, &bundle);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
    let_go(A, sandbox);
    assert_null(node_manager_find(A->fix->manager, ORG, id));
    assert_int_equal(A->gone, 0);
    restart(A);
    assert_null(node_manager_find(A->fix->manager, ORG, id));

    restart(B); /* it is durable */
    sandbox = find(B->fix, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_HIBERNATED);
    assert_int_equal(sandbox->created_at_ms, created_at_ms);
    assert_true(sandbox->saved_bytes > 0);
    assert_int_equal(sandbox->spec.envs.count, 1);
    assert_string_equal(sandbox->spec.envs.items[0].value, "value");
    assert_int_equal(import_sandbox(B, &bundle, &answer), SHL_ECONFLICT);
    idle(B);
    assert_null(find_artefact(B, NODE_ARTEFACT_HIBERNATION, NULL)); /* it is one already */
    wake(B->fix, sandbox);
    check_data(B->fix, sandbox, 21);

    /* its next hibernation replaces the one it came with */
    set_data(B->fix, sandbox, 22);
    hibernate(B->fix, sandbox);
    second = wait_artefact(B, NODE_ARTEFACT_HIBERNATION);
    assert_string_not_equal(second.id, first.id);
    assert_int_equal(B->gone, 1);

    /* and back to where it came from */
    bring(B, A, &second, &bundle);
    assert_int_equal(bundle.import.base_count, 0);
    assert_int_equal(import_sandbox(A, &bundle, &answer), 0);
    let_go(B, sandbox);
    sandbox = find(A->fix, id);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 22);
    RUN_UNTIL(B->fix, count_layers(B->fix, NULL) == 0);
    RUN_UNTIL(B->fix, count_in(B, "bases") == 0);
}

static void test_warm_memory_elsewhere(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct bundle bundle;
    struct answer answer;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    A->fix->config.warm = true;
    start(A);
    start(B);
    RUN_UNTIL(A->fix, warm_templates(A->fix) == 1);
    sandbox = hibernated(A, 31);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_true(artefact.bases[1][0] != '\0');
    bring(A, B, &artefact, &bundle);
    assert_int_equal(bundle.import.base_count, 1);
    assert_string_equal(bundle.ids[0], artefact.bases[1]);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
    assert_int_equal(count_in(B, "warm"), 1);
    restart(B);
    sandbox = find(B->fix, id);
    wake(B->fix, sandbox);
    assert_false(sandbox->cold_woken);
    check_data(B->fix, sandbox, 31);
    kill_now(B->fix, sandbox);
    assert_int_equal(B->gone, 1);
    RUN_UNTIL(B->fix, count_in(B, "warm") == 0);
}

static void test_newer_replaces_older(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact first;

    (void)state;
    start(A);
    sandbox = hibernated(A, 1);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    wake(A->fix, sandbox);
    set_data(A->fix, sandbox, 2);
    hibernate(A->fix, sandbox);
    RUN_UNTIL(A->fix, A->gone == 1);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, first.id));
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 2);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
}

/* Woken before the ingest is over. */
static void test_wakes_before_it_is_ready(void **state)
{
    struct node_sandbox *sandbox;

    (void)state;
    start(A);
    idle(A);
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 5);
    A->fix->manager->checkpoints->tidied = false; /* nothing is ingested before this */
    hibernate(A->fix, sandbox);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 5);
    assert_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, NULL));
    A->fix->manager->checkpoints->tidied = true;
    ingest_pump(A->fix->manager->checkpoints);
    (void)wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
}

static void test_wanted_later(void **state)
{
    struct node_sandbox *sandboxes[3];
    int i;

    (void)state;
    A->unwatched = true;
    start(A);
    for (i = 0; i < 3; i++) {
        sandboxes[i] = create(A->fix, "plain");
        set_data(A->fix, sandboxes[i], (unsigned)i + 1);
        hibernate(A->fix, sandboxes[i]);
    }
    idle(A);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    A->unwatched = false;
    restart(A);
    RUN_UNTIL(A->fix, A->count == 4); /* and the base */
    /* again: nothing new */
    restart(A);
    assert_int_equal(A->count, 4);
    idle(A);
    assert_int_equal(A->count, 4);
    assert_int_equal(A->gone, 0);
}

/* ---- autosave ---------------------------------------------------------------------------- */

static void test_autosave(void **state)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct checkpoints *set;
    struct node_artefact first, second;
    struct answer answer = {0};
    struct bundle bundle;
    uint64_t now_ms = 1000;

    (void)state;
    start(A);
    start(B);
    set = A->fix->manager->checkpoints;
    spec.on_node_loss = NODE_ON_LOSS_RESTORE;
    spec.autosave_s = NODE_AUTOSAVE_MIN_S - 1;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL),
                     SHL_EINVALIDARG);
    spec.autosave_s = NODE_AUTOSAVE_MIN_S;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(A->fix, answer.done);
    set_data(A->fix, answer.sandbox, 41);
    (void)uv_timer_stop(&set->save_tick); /* the test is the clock */
    answer.sandbox->end_at_ms = 0;
    sandbox_of(answer.sandbox)->autosave_at_ms = 0;
    saves_tick(set, now_ms);
    saves_tick(set, now_ms + NODE_AUTOSAVE_MIN_S * 1000 - 1);
    assert_true(shl_list_empty(&set->saves));
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    first = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    check_data(A->fix, answer.sandbox, 41); /* it goes on */
    set_data(A->fix, answer.sandbox, 42);
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    RUN_UNTIL(A->fix, A->gone == 1);
    second = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_string_not_equal(first.id, second.id);

    /* no space: the next one is tried, nothing is left */
    set_flag(A->fix, "plain", "no_space", true);
    saves_tick(set, now_ms += NODE_AUTOSAVE_MIN_S * 1000);
    RUN_UNTIL(A->fix, sandbox_of(answer.sandbox)->save_failed);
    set_flag(A->fix, "plain", "no_space", false);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, second.id));

    /* A is lost; what was written after the last one is, too */
    set_data(A->fix, answer.sandbox, 43);
    bring(A, B, &second, &bundle);
    assert_int_equal(import_sandbox(B, &bundle, &(struct answer){0}), 0);
    wake(B->fix, find(B->fix, answer.sandbox->id));
    check_data(B->fix, find(B->fix, answer.sandbox->id), 42);
    assert_int_equal(find(B->fix, answer.sandbox->id)->spec.on_node_loss, NODE_ON_LOSS_RESTORE);
    let_go(A, answer.sandbox);
    assert_int_equal(A->gone, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_elsewhere), TEST(test_another_template),
        TEST(test_sandbox_elsewhere),    TEST(test_warm_memory_elsewhere),
        TEST(test_newer_replaces_older), TEST(test_wakes_before_it_is_ready),
        TEST(test_wanted_later),         TEST(test_autosave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
