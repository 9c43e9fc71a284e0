/* What one node makes and the other has, when daemons die and peers lie. */
#include <signal.h>

#include "tests/node/sandbox/two_nodes.h"

static bool count_one(void *arg, const struct ckpt_id *id)
{
    (void)id;
    ++*(int *)arg;
    return true;
}

static int count_manifests(struct node *node)
{
    int count = 0;

    assert_int_equal(
        ckpt_manifest_each(node_manager_store(node->fix->manager), count_one, &count, NULL), 0);
    return count;
}

static void test_copies_are_kept(void **state)
{
    struct node_artefact artefact;
    struct bundle bundle;

    (void)state;
    start(A);
    start(B);
    (void)hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    bring(A, B, &artefact, &bundle);
    B->may_drop = -1; /* not known yet */
    restart(B);
    idle(B);
    assert_int_equal(count_manifests(B), 1);
    B->may_drop = 0;
    artefacts_housekeeping(B->fix->manager->checkpoints);
    idle(B);
    assert_int_equal(count_manifests(B), 1);
    assert_true(shl_list_empty(&B->fix->manager->checkpoints->unknown));
    B->may_drop = 1;
    restart(B);
    idle(B);
    assert_int_equal(count_manifests(B), 0);
}

static void test_orphans(void **state)
{
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct shl_buf buf;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    start(A);
    sandbox = hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    /* as after a crash between the end of a sandbox and that of its artefact */
    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(node_store_get(A->fix->store, CHECKPOINT_KIND, artefact.id, &buf, NULL), 0);
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 1);
    assert_int_equal(
        node_store_put(A->fix->store, CHECKPOINT_KIND, artefact.id, shl_buf_bytes(&buf), NULL), 0);
    restart(A);
    assert_int_equal(A->gone, 2);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    /* ... and one that is somewhere else: not a word */
    assert_int_equal(
        node_store_put(A->fix->store, CHECKPOINT_KIND, artefact.id, shl_buf_bytes(&buf), NULL), 0);
    assert_int_equal(node_store_delete(A->fix->store, SANDBOX_KIND, id, NULL), 0);
    restart(A);
    assert_int_equal(A->gone, 2);
    assert_true(shl_list_empty(&A->fix->manager->checkpoints->saves));
    shl_buf_release(&buf);
}

/* The VM is gone when the daemon comes back, as after a crash of the machine. */
static void test_lost_with_its_machine(void **state)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct node_sandbox *sandbox;
    struct node_artefact artefact;
    struct answer answer = {0};
    struct bundle bundle;
    char id[NODE_SANDBOX_ID_SIZE];

    (void)state;
    start(A);
    start(B);
    spec.on_node_loss = NODE_ON_LOSS_RESTORE;
    assert_int_equal(node_manager_create(A->fix->manager, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(A->fix, answer.done);
    sandbox = answer.sandbox;
    (void)snprintf(id, sizeof(id), "%s", sandbox->id);
    set_data(A->fix, sandbox, 61);
    hibernate(A->fix, sandbox);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    wake(A->fix, sandbox);
    close_manager(A->fix);
    assert_int_equal(kill(vmm_pid(A->fix, id), SIGKILL), 0);
    RUN_UNTIL(A->fix, vmm_pid(A->fix, id) == 0);
    start(A);
    sandbox = find(A->fix, id);
    RUN_UNTIL(A->fix, sandbox->state == NODE_SANDBOX_ERROR);
    artefacts_housekeeping(A->fix->manager->checkpoints);
    assert_int_equal(A->gone, 0);
    assert_non_null(find_artefact(A, NODE_ARTEFACT_HIBERNATION, artefact.id));

    /* recovered on the same node, from its own store */
    let_go(A, sandbox);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(import_sandbox(A, &bundle, &answer), 0);
    sandbox = find(A->fix, id);
    wake(A->fix, sandbox);
    check_data(A->fix, sandbox, 61);
    kill_now(A->fix, sandbox);
    assert_int_equal(A->gone, 1);
    node_manager_kill(A->fix->manager, sandbox, on_killed, NULL);
    assert_int_equal(A->gone, 1);
}

/* The daemon is stopped at any step of an import: it is all there, or nothing of it. */
static void test_stopped_meanwhile(void **state)
{
    struct node_artefact artefact;
    struct answer answer;
    struct bundle bundle;
    unsigned turns, i;
    bool there = false;

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    (void)hibernated(A, 71);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    bring(A, B, &artefact, &bundle);
    for (turns = 0; !there && turns < 200; turns++) {
        idle(B);
        answer = (struct answer){0};
        node_sandbox_import(B->fix->manager, &bundle.import, on_killed, &answer);
        for (i = 0; i < turns && !answer.done; i++) {
            (void)uv_run(&B->fix->loop, UV_RUN_ONCE);
        }
        close_manager(B->fix);
        assert_true(answer.done);
        assert_true(answer.code == 0 || answer.code == SHL_EUNAVAILABLE);
        start(B);
        idle(B);
        there = node_manager_find(B->fix->manager, ORG, artefact.sandbox_id);
        assert_int_equal(there, answer.code == 0);
        assert_int_equal(count_layers(B->fix, NULL), there ? 3 : 0);
        assert_int_equal(count_in(B, "bases"), there ? 1 : 0);
    }
    assert_true(there);
    wake(B->fix, find(B->fix, artefact.sandbox_id));
    check_data(B->fix, find(B->fix, artefact.sandbox_id), 71);
}

/* What a daemon that was killed leaves behind. */
static void test_leftovers(void **state)
{
    static const char id[] = "0123456789abcdef0123456789abcdef";
    char name[128];
    struct node_sandbox *sandbox;

    (void)state;
    (void)snprintf(name, sizeof(name), "bases/%s/disk.raw", id);
    add_file(A->fix, name, "half an import");
    add_file(A->fix, "bases/new-12/disk.raw", "half a base");
    (void)snprintf(name, sizeof(name), "warm/%s/mem", id);
    add_file(A->fix, name, "memory of a base");
    (void)snprintf(name, sizeof(name), "layers/%s.mem", id);
    add_file(A->fix, name, "memory");
    start(A);
    idle(A);
    assert_int_equal(count_in(A, "bases"), 0);
    assert_int_equal(count_in(A, "warm"), 0);
    assert_int_equal(count_layers(A->fix, NULL), 0);

    /* between the hibernation and the end of the ingest: the next one does the rest */
    sandbox = create(A->fix, "plain");
    set_data(A->fix, sandbox, 72);
    A->fix->manager->checkpoints->tidied = false;
    hibernate(A->fix, sandbox);
    restart(A);
    (void)wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    assert_int_equal(A->count, 2); /* one, and its base */
}

static void test_refused(void **state)
{
    struct node_artefact artefact, base;
    struct bundle bundle, bad;
    struct answer answer;
    char ids[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
    struct shl_err err = {0};

    (void)state;
    set_template(B, "plain too");
    start(A);
    start(B);
    (void)hibernated(A, 1);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    base = *find_artefact(A, NODE_ARTEFACT_BASE, NULL);
    assert_true(node_import_bases(B->fix->manager, artefact.manifest, ids, &err) < 0);
    bring(A, B, &artefact, &bundle);
    assert_int_equal(import_checkpoint(B, &bundle, &answer), SHL_EINVALIDARG);

    bad = bundle; /* another artefact's id */
    bad.import.id = "00000000-0000-4000-8000-000000000000";
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    bad = bundle; /* without the base */
    bad.import.base_count = 0;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ENOTFOUND);
    bad = bundle; /* a base that is none */
    bad.import.bases[0].manifest = artefact.manifest;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    bad = bundle; /* a base as an artefact */
    bad.import.manifest = base.manifest;
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_ECORRUPT);
    assert_true(answer.msg[0] != '\0');
    bad = bundle;
    bad.import.manifest = "nonsense";
    assert_int_equal(import_sandbox(B, &bad, &answer), SHL_EINVALIDARG);
    idle(B);
    assert_int_equal(count_layers(B->fix, NULL), 0);
    assert_int_equal(count_in(B, "bases"), 0);
    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_copies_are_kept),       TEST(test_orphans),
        TEST(test_stopped_meanwhile),     TEST(test_leftovers),
        TEST(test_lost_with_its_machine), TEST(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
