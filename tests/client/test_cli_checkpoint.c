/* `shoal checkpoint`, restore and fork: what takes more than one request or answer. */
#include "base/attr.h"
#include "tests/client/cli.h"

/* A checkpoint is named once, then only its id is used; an id wins over a name. */
static void test_cli_checkpoint_names(void **state)
{
    struct mock *mock = mock_start_usual();
    struct outcome got = RUN(mock, "restore", "sb-1", "before");

    (void)state;
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/sb-1/checkpoints/" CID "/restore");
    outcome_release(&got);
    mock_forget(mock);
    got = RUN(mock, "checkpoint", "rm", "sb-1", CID, CID2);
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/sb-1/checkpoints/" CID);
    assert_string_equal(mock_at(mock, 3)->uri, "/api/sandboxes/sb-1/checkpoints/" CID2);
    outcome_release(&got);
    mock_forget(mock);
    got = RUN(mock, "fork", "sb-1", "before");
    assert_int_equal(got.code, 0);
    assert_string_equal(mock_at(mock, 1)->uri, "/api/sandboxes/from-checkpoint/" CID);
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_checkpoint_wait(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/checkpoints", 201, CHECKPOINT("processing", "")},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" CHECKPOINT("processing", "") "]",
         .times = 2},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" READY "]", .times = 1},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200,
         "[" CHECKPOINT("failed", ",\"errorMsg\":\"no room\"") "]", .times = 1},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[]"},
    };
    struct mock *mock = mock_start(rules, SHL_ARRAY_SIZE(rules));
    struct outcome got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before");

    (void)state;
    assert_string_equal(got.err, "");
    assert_int_equal(got.code, 0);
    assert_string_equal(got.out, CID "\n");
    assert_int_equal(mock_count(mock), 4);
    outcome_release(&got);
    got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before");
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "");
    expect_contains("stderr", got.err, "the checkpoint is failed: no room");
    outcome_release(&got);
    got = RUN(mock, "checkpoint", "create", "-w", "sb-1", "before"); /* deleted meanwhile */
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "has no checkpoint");
    outcome_release(&got);
    mock_stop(mock);
}

/* Those that were made are printed, those that were not are told, and the code says so. */
static void test_cli_fork_many(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201,
         "{\"results\":[{\"sandbox\":" BOX "},{\"sandbox\":{\"sandboxID\":\"sb-2\"}}],"
         "\"created\":2}",
         .times = 1},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201,
         "{\"results\":[{\"error\":\"no ro\\u001bom\",\"status\":503},{\"sandbox\":" BOX "},{}],"
         "\"created\":1}",
         .times = 2},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 503,
         "{\"error\":\"no room\",\"results\":[{\"error\":\"no room\",\"status\":503}],"
         "\"created\":0}"},
    };
    struct mock *mock = mock_start(rules, SHL_ARRAY_SIZE(rules));
    struct outcome got = RUN(mock, "fork", "--count", "2", "--timeout", "60", CID);

    (void)state;
    assert_string_equal(got.err, "");
    assert_int_equal(got.code, 0);
    assert_string_equal(got.out, "sb-1\nsb-2\n");
    assert_string_equal(mock_at(mock, 0)->body, "{\"timeout\":60,\"count\":2}");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", CID);
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "sb-1\n");
    assert_string_equal(got.err, "shoal: fork 1: no ro?om\n"
                                 "shoal: fork 3: the server does not say why\n");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", "--json", CID);
    assert_int_equal(got.code, 125);
    expect_contains("stdout", got.out, "\"status\": 503");
    outcome_release(&got);
    got = RUN(mock, "fork", "-n3", CID);
    assert_int_equal(got.code, 125);
    assert_string_equal(got.out, "");
    expect_contains("stderr", got.err, "no room (HTTP 503");
    outcome_release(&got);
    mock_stop(mock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_checkpoint_names),
        cmocka_unit_test(test_cli_checkpoint_wait),
        cmocka_unit_test(test_cli_fork_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
