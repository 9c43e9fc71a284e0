/* What a node may be asked to take over is made ready there before it is needed. */
#include "tests/node/sandbox/two_nodes.h"

static int make_ready(struct node *to, const struct bundle *bundle, bool layers)
{
    struct answer answer = {0};

    node_import_ready(to->fix->manager, &bundle->import, layers, on_killed, &answer);
    assert_false(answer.done);
    RUN_UNTIL(to->fix, answer.done);
    return answer.code;
}

/* A hibernated sandbox of A, whose memory lies on A's warm template, brought to B. */
static void bring_warm(struct bundle *bundle, char id[NODE_SANDBOX_ID_SIZE])
{
    struct node_sandbox *sandbox;
    struct node_artefact artefact;

    A->fix->config.warm = true;
    start(A);
    start(B);
    RUN_UNTIL(A->fix, warm_templates(A->fix) == 1);
    sandbox = hibernated(A, 41);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    artefact = wait_artefact(A, NODE_ARTEFACT_HIBERNATION);
    bring(A, B, &artefact, bundle);
}

static void test_bases_ahead(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE], kept[1][NODE_BASE_ID_SIZE];
    struct bundle bundle;
    struct answer answer;
    struct shl_err err = {0};

    (void)state;
    bring_warm(&bundle, id);
    assert_int_equal(make_ready(B, &bundle, false), 0);
    assert_int_equal(count_in(B, "warm"), 1);
    assert_int_equal(count_layers(B->fix, NULL), 0);
    assert_null(node_manager_find(B->fix->manager, ORG, id));

    restart(B); /* nothing lies on it, and it stays */
    idle(B);
    assert_int_equal(count_in(B, "warm"), 1);
    assert_int_equal(node_import_bases(B->fix->manager, bundle.import.manifest, bundle.ids, &err),
                     0);
    memcpy(kept[0], bundle.artefact.bases[1], sizeof(kept[0]));
    node_bases_keep(B->fix->manager, (const char(*)[NODE_BASE_ID_SIZE])kept, 1);
    idle(B);
    assert_int_equal(count_in(B, "warm"), 1);

    assert_int_equal(import_sandbox(B, &bundle, &answer), 0); /* with something on it, it stays */
    node_bases_keep(B->fix->manager, NULL, 0);
    idle(B);
    assert_int_equal(count_in(B, "warm"), 1);
    kill_now(B->fix, find(B->fix, id));
    RUN_UNTIL(B->fix, count_in(B, "warm") == 0);
}

static void test_bases_given_up(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    struct bundle bundle;

    (void)state;
    bring_warm(&bundle, id);
    assert_int_equal(make_ready(B, &bundle, false), 0);
    node_bases_keep(B->fix->manager, NULL, 0);
    RUN_UNTIL(B->fix, count_in(B, "warm") == 0);
    restart(B);
    idle(B);
    assert_int_equal(count_in(B, "warm"), 0);
}

static void test_layers_ahead(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    struct bundle bundle;
    struct answer answer;
    struct node_sandbox *sandbox;
    int layers;

    (void)state;
    bring_warm(&bundle, id);
    assert_int_equal(make_ready(B, &bundle, true), 0);
    layers = count_layers(B->fix, NULL);
    assert_true(layers > 0);
    assert_null(node_manager_find(B->fix->manager, ORG, id));
    assert_int_equal(make_ready(B, &bundle, true), 0); /* twice is once */
    assert_int_equal(count_layers(B->fix, NULL), layers);

    assert_int_equal(import_sandbox(B, &bundle, &answer), 0);
    assert_int_equal(count_layers(B->fix, NULL), layers);   /* the same files */
    node_import_unready(B->fix->manager, bundle.import.id); /* they are the sandbox's now */
    restart(B);
    sandbox = find(B->fix, id);
    wake(B->fix, sandbox);
    check_data(B->fix, sandbox, 41);
}

static void test_layers_not_needed(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    struct bundle bundle;

    (void)state;
    bring_warm(&bundle, id);
    assert_int_equal(make_ready(B, &bundle, true), 0);
    node_import_unready(B->fix->manager, bundle.import.id);
    RUN_UNTIL(B->fix, count_layers(B->fix, NULL) == 0);
    assert_int_equal(make_ready(B, &bundle, true), 0);
    node_artefact_forget(B->fix->manager, bundle.import.id);
    RUN_UNTIL(B->fix, count_layers(B->fix, NULL) == 0);
    assert_int_equal(make_ready(B, &bundle, true), 0);
    restart(B); /* no record names them */
    RUN_UNTIL(B->fix, count_layers(B->fix, NULL) == 0);
}

/* Whoever needs it while it is being made waits for that, and bases are written once. */
static void test_import_while_it_is_made_ready(void **state)
{
    struct answer first = {0}, second = {0};
    char id[NODE_SANDBOX_ID_SIZE];
    struct node_sandbox *sandbox;
    struct bundle bundle;

    (void)state;
    bring_warm(&bundle, id);
    node_import_ready(B->fix->manager, &bundle.import, true, on_killed, &first);
    node_sandbox_import(B->fix->manager, &bundle.import, on_killed, &second);
    RUN_UNTIL(B->fix, second.done);
    assert_true(first.done);
    assert_int_equal(first.code, 0);
    assert_int_equal(second.code, 0);
    idle(B);
    assert_int_equal(count_in(B, "warm"), 1);
    sandbox = find(B->fix, id);
    wake(B->fix, sandbox);
    check_data(B->fix, sandbox, 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_bases_ahead),
        TEST(test_bases_given_up),
        TEST(test_layers_ahead),
        TEST(test_layers_not_needed),
        TEST(test_import_while_it_is_made_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
