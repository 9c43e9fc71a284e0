/* libshoal against a server that answers by a table: sandboxes, checkpoints, the cluster, and
 * answers that are refusals or nonsense. */
#include <errno.h>
#include <string.h>

#include "base/attr.h"
#include "tests/client/lib.h"

#define CHECKPOINT(status)                                                           \
    "{\"id\":\"" CID "\",\"sandboxId\":\"sb-1\",\"name\":\"a\",\"status\":\"" status \
    "\",\"sizeBytes\":7}"

static void test_sandbox_create_sends_fields_and_reads_answer(void **state)
{
    const struct mock_rule rules[] = {{"POST", "/api/sandboxes", 201, BOX}};
    struct fixture f = begin(rules, 1);
    struct shoal_create *create = shoal_create_new();
    struct shoal_sandbox *sandbox = NULL;

    (void)state;
    assert_int_equal(shoal_create_set_template(create, "minimal"), 0);
    assert_int_equal(shoal_create_set_cpus(create, 2), 0);
    assert_int_equal(shoal_create_set_timeout_s(create, 0), 0);
    assert_int_equal(shoal_create_add_env(create, "A", "\xc3\xa4 \"x\""), 0);
    assert_int_equal(shoal_create_add_metadata(create, "who", "me"), 0);
    assert_int_equal(shoal_create_add_env(create, "B", "\xff"), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_create_add_env(create, "", "x"), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_sandbox_create(f.client, create, &sandbox, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 0)->body,
                        "{\"templateID\":\"minimal\",\"cpuCount\":2,\"timeout\":0,"
                        "\"envs\":{\"A\":\"\xc3\xa4 \\\"x\\\"\"},\"metadata\":{\"who\":\"me\"}}");
    assert_string_equal(mock_at(f.mock, 0)->key, "key-1");
    assert_string_equal(shoal_sandbox_id(sandbox), "sb-1");
    assert_string_equal(shoal_sandbox_status(sandbox), "running");
    assert_int_equal(shoal_sandbox_memory_mb(sandbox), 1024);
    assert_int_equal(shoal_sandbox_disk_mb(sandbox), -1);
    assert_null(shoal_sandbox_template(sandbox));
    shoal_sandbox_free(sandbox);
    shoal_create_free(create);
    end(&f);
}

static void test_sandbox_hibernate_wake_reboot(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/hibernate", 200,
         "{\"status\":\"hibernated\",\"sizeBytes\":99}"},
        {"POST", "/api/sandboxes/sb-1/wake", 200, BOX},
        {"POST", "/api/sandboxes/sb-1/power-cycle", 204, NULL},
        {"POST", "/api/sandboxes/sb-2/hibernate", 200, "{}"},
        {"POST", "/api/sandboxes/sb-2/wake", 503, "{\"error\":\"no memory is left\"}"},
    };
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_sandbox *sandbox = NULL;
    int64_t saved = 0;

    (void)state;
    assert_int_equal(shoal_sandbox_hibernate(f.client, "sb-1", &saved, &f.err), 0);
    assert_int_equal(saved, 99);
    assert_int_equal(shoal_sandbox_hibernate(f.client, "sb-1", NULL, NULL), 0);
    assert_int_equal(shoal_sandbox_wake(f.client, "sb-1", 5, &sandbox, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 2)->body, "{\"timeout\":5}");
    assert_string_equal(shoal_sandbox_status(sandbox), "running");
    assert_false(shoal_sandbox_cold_woken(sandbox));
    assert_null(shoal_sandbox_checkpoint(sandbox));
    shoal_sandbox_free(sandbox);
    assert_int_equal(shoal_sandbox_wake(f.client, "sb-1", -1, NULL, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 3)->body, "{}");
    assert_int_equal(shoal_sandbox_reboot(f.client, "sb-1", true, &f.err), 0);
    saved = 5;
    assert_int_equal(shoal_sandbox_hibernate(f.client, "sb-2", &saved, &f.err), SHOAL_EPROTO);
    assert_int_equal(saved, 5); /* not written */
    assert_int_equal(shoal_sandbox_wake(f.client, "sb-2", 0, NULL, &f.err), SHOAL_EUNAVAILABLE);
    assert_string_equal(f.err.message, "no memory is left");
    assert_int_equal(shoal_sandbox_reboot(f.client, "a b", false, &f.err), SHOAL_EINVALIDARG);
    end(&f);
}

static void test_checkpoints(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/checkpoints", 201, CHECKPOINT("processing")},
        {"GET", "/api/sandboxes/sb-1/checkpoints", 200, "[" CHECKPOINT("ready") "]"},
        {"GET", "/api/sandboxes/sb-2/checkpoints", 200, "[{\"id\":\"x\",\"name\":7}]"},
        {"GET", "/api/sandboxes/sb-3/checkpoints", 200, "[" CHECKPOINT("odd") "]"},
        {"DELETE", "/api/sandboxes/sb-1/checkpoints/" CID, 204, NULL},
        {"POST", "/api/sandboxes/sb-1/checkpoints/" CID "/restore", 200, "{}"},
    };
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_checkpoint_list *list = NULL;
    struct shoal_checkpoint *checkpoint = NULL;

    (void)state;
    assert_int_equal(
        shoal_checkpoint_create(f.client, "sb-1", "\xc3\xa4", true, 2, &checkpoint, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 0)->body,
                        "{\"name\":\"\xc3\xa4\",\"kind\":\"disk_only\",\"retentionPolicy\":"
                        "{\"mode\":\"delete_oldest\",\"maxCount\":2}}");
    assert_string_equal(shoal_checkpoint_status(checkpoint), "processing");
    assert_string_equal(shoal_checkpoint_sandbox(checkpoint), "sb-1");
    assert_null(shoal_checkpoint_kind(checkpoint));
    shoal_checkpoint_free(checkpoint);
    assert_int_equal(shoal_checkpoint_list(f.client, "sb-1", &list, &f.err), 0);
    assert_int_equal(shoal_checkpoint_list_count(list), 1);
    assert_int_equal(shoal_checkpoint_size_bytes(shoal_checkpoint_list_at(list, 0)), 7);
    assert_null(shoal_checkpoint_list_at(list, 1));
    shoal_checkpoint_list_free(list);
    assert_int_equal(shoal_checkpoint_wait(f.client, "sb-1", CID, &checkpoint, &f.err), 0);
    assert_string_equal(shoal_checkpoint_id(checkpoint), CID);
    assert_non_null(strstr(shoal_checkpoint_json(checkpoint), "\"sizeBytes\": 7"));
    shoal_checkpoint_free(checkpoint);
    assert_int_equal(shoal_checkpoint_wait(f.client, "sb-3", CID, &checkpoint, &f.err),
                     SHOAL_EUNAVAILABLE);
    assert_int_equal(shoal_checkpoint_find(f.client, "sb-1", "b", &checkpoint, &f.err),
                     SHOAL_ENOTFOUND);
    assert_int_equal(shoal_checkpoint_list(f.client, "sb-2", &list, &f.err), SHOAL_EPROTO);
    assert_int_equal(shoal_checkpoint_delete(f.client, "sb-1", CID, &f.err), 0);
    assert_int_equal(shoal_checkpoint_restore(f.client, "sb-1", CID, &f.err), 0);
    assert_int_equal(shoal_checkpoint_delete(f.client, "sb-1", "../x", &f.err), SHOAL_EINVALIDARG);
    end(&f);
}

static void test_checkpoint_forks(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201, BOX, .times = 1},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201,
         "{\"results\":[{\"sandbox\":" BOX "},{\"error\":\"full\",\"status\":503}]}", .times = 1},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 201, "{\"results\":[{\"sandbox\":7}]}"},
    };
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_create *changes = shoal_create_new();
    struct shoal_fork_list *list = NULL;
    struct shoal_sandbox *sandbox = NULL;

    (void)state;
    assert_int_equal(shoal_create_set_timeout_s(changes, 9), 0);
    assert_int_equal(shoal_checkpoint_fork(f.client, CID, changes, &sandbox, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 0)->body, "{\"timeout\":9}");
    shoal_sandbox_free(sandbox);
    assert_int_equal(shoal_checkpoint_fork_many(f.client, CID, changes, 2, &list, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 1)->body, "{\"timeout\":9,\"count\":2}");
    assert_int_equal(shoal_fork_list_count(list), 2);
    assert_string_equal(shoal_fork_list_id(list, 0), "sb-1");
    assert_null(shoal_fork_list_error(list, 0));
    assert_null(shoal_fork_list_id(list, 1));
    assert_string_equal(shoal_fork_list_error(list, 1), "full");
    assert_null(shoal_fork_list_id(list, 2));
    assert_null(shoal_fork_list_error(list, 2));
    shoal_fork_list_free(list);
    assert_int_equal(shoal_checkpoint_fork_many(f.client, CID, NULL, 1, &list, &f.err),
                     SHOAL_EPROTO);
    assert_int_equal(shoal_checkpoint_fork_many(f.client, CID, NULL, 0, &list, &f.err),
                     SHOAL_EINVALIDARG);
    shoal_create_free(changes);
    end(&f);
}

/* Each refusal arrives as its code with the server's text and the request id. */
static void test_call_refusals_become_codes(void **state)
{
    static const struct {
        int status;
        const char *body;
        int code;
        const char *message;
    } cases[] = {
        {400, "{\"error\":\"timeout must not be negative\"}", SHOAL_EINVALIDARG, "negative"},
        {401, "{\"error\":\"missing API key\"}", SHOAL_EAUTH, "missing API key"},
        {403, "{\"error\":\"no\"}", SHOAL_EFORBIDDEN, "no"},
        {404, "{\"error\":\"sandbox not found\"}", SHOAL_ENOTFOUND, "sandbox not found"},
        {405, "{}", SHOAL_EMETHOD, "405 without saying why"},
        {409, "{\"error\":7}", SHOAL_ECONFLICT, "409 without saying why"},
        {410, "{\"error\":\"ended\"}", SHOAL_EGONE, "ended"},
        {413, "", SHOAL_ELIMIT, "413 without saying why"},
        {429, "{\"error\":\"too many\",\"active\":5,\"limit\":5}", SHOAL_EQUOTA, "too many"},
        {500, "<html>oops\x1b[31m</html>", -EREMOTEIO, "answered 500: <html>oops?[31m"},
        {503, "{\"error\":\"busy\"}", SHOAL_EUNAVAILABLE, "busy"},
        {507, "{\"error\":\"disk full\"}", -ENOSPC, "disk full"},
        {302, "", SHOAL_EPROTO, "elsewhere"},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        const struct mock_rule rules[] = {
            {"GET", "/api/sandboxes/sb-1", cases[i].status, cases[i].body}};
        struct fixture f = begin(rules, 1);
        struct shoal_sandbox *sandbox = NULL;

        assert_int_equal(shoal_sandbox_get(f.client, "sb-1", &sandbox, &f.err), cases[i].code);
        assert_int_equal(f.err.code, cases[i].code);
        assert_int_equal(f.err.http_status, cases[i].status);
        assert_string_equal(f.err.request_id, "req-7");
        if (!strstr(f.err.message, cases[i].message)) {
            assert_string_equal(f.err.message, cases[i].message);
        }
        assert_null(sandbox);
        end(&f);
    }
}

/* Answers that are no sandbox: broken, cut, wrong types, absurd sizes. */
static void test_sandbox_get_bad_answers_are_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "{\"sandboxID\":\"sb-1\",\"status\":\"run",
        "not json",
        "null",
        "[]",
        "{\"status\":\"running\"}",
        "{\"sandboxID\":7,\"status\":\"running\"}",
        "{\"sandboxID\":null,\"status\":\"running\"}",
        "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"memoryMB\":\"many\"}",
        "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"memoryMB\":1e3}",
        "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"memoryMB\":99999999999999999999999}",
        "{\"sandboxID\":\"\xff\",\"status\":\"running\"}",
        "{\"sandboxID\":\"sb-1\",\"status\":\"running\"} trailing",
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bodies); i++) {
        const struct mock_rule rules[] = {{"GET", "/api/sandboxes/sb-1", 200, bodies[i]}};
        struct fixture f = begin(rules, 1);
        struct shoal_sandbox *sandbox = NULL;

        assert_int_equal(shoal_sandbox_get(f.client, "sb-1", &sandbox, &f.err), SHOAL_EPROTO);
        assert_non_null(strstr(f.err.message, "sandbox"));
        assert_null(sandbox);
        end(&f);
    }
}

static void test_sandbox_get_huge_values_and_unknown_fields_pass(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1", 200,
         "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"memoryMB\":9223372036854775807,"
         "\"endAt\":null,\"cpuCount\":-5,\"new\":{\"deep\":[1,2,{\"x\":null}]},"
         "\"metadata\":{\"k\":\"v\"}}"}};
    struct fixture f = begin(rules, 1);
    struct shoal_sandbox *sandbox = NULL;

    (void)state;
    assert_int_equal(shoal_sandbox_get(f.client, "sb-1", &sandbox, &f.err), 0);
    assert_true(shoal_sandbox_memory_mb(sandbox) == INT64_MAX);
    assert_null(shoal_sandbox_end_at(sandbox));
    assert_string_equal(shoal_sandbox_metadata(sandbox, "k"), "v");
    assert_null(shoal_sandbox_metadata(sandbox, "x"));
    assert_non_null(strstr(shoal_sandbox_json(sandbox), "\"deep\""));
    shoal_sandbox_free(sandbox);
    end(&f);
}

/* Ids become part of a path: nothing that could leave it is sent. */
static void test_call_bad_ids_are_not_sent(void **state)
{
    static const char *const ids[] = {"", "..", "sb-1/exec", "sb 1", "sb-1?x", "sb-\xc3\xa4"};
    struct fixture f = begin(NULL, 0);

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(ids); i++) {
        struct shoal_sandbox *sandbox = NULL;

        assert_int_equal(shoal_sandbox_get(f.client, ids[i], &sandbox, &f.err), SHOAL_EINVALIDARG);
        assert_int_equal(shoal_sandbox_kill(f.client, ids[i], &f.err), SHOAL_EINVALIDARG);
    }
    assert_int_equal(mock_count(f.mock), 0);
    end(&f);
}

static void test_sandbox_list_entries_are_checked(void **state)
{
    const struct mock_rule good[] = {
        {"GET", "/api/sandboxes", 200, "[" BOX ",{\"sandboxID\":\"sb-2\",\"status\":\"error\"}]"}};
    const struct mock_rule bad[] = {{"GET", "/api/sandboxes", 200, "[" BOX ",7]"}};
    const struct mock_rule empty[] = {{"GET", "/api/sandboxes", 200, "[]"}};
    struct shoal_sandbox_list *list = NULL;
    struct fixture f = begin(good, 1);

    (void)state;
    assert_int_equal(shoal_sandbox_list(f.client, &list, &f.err), 0);
    assert_int_equal(shoal_sandbox_list_count(list), 2);
    assert_string_equal(shoal_sandbox_id(shoal_sandbox_list_at(list, 1)), "sb-2");
    assert_null(shoal_sandbox_list_at(list, 2));
    shoal_sandbox_list_free(list);
    list = NULL;
    end(&f);
    f = begin(bad, 1);
    assert_int_equal(shoal_sandbox_list(f.client, &list, &f.err), SHOAL_EPROTO);
    assert_null(list);
    end(&f);
    f = begin(empty, 1);
    assert_int_equal(shoal_sandbox_list(f.client, &list, &f.err), 0);
    assert_int_equal(shoal_sandbox_list_count(list), 0);
    shoal_sandbox_list_free(list);
    end(&f);
}

static void test_endpoint_health_tells_alive_from_ready(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/healthz", 200, "{\"status\":\"alive\"}"},
        {"GET", "/readyz", 503, "{\"error\":\"no template yet\"}", .times = 1},
        {"GET", "/readyz", 200, "{\"status\":\"ready\"}"},
    };
    struct fixture f = begin(rules, 3);
    bool ready = true;

    (void)state;
    assert_int_equal(shoal_endpoint_health(f.client, 0, &ready, &f.err), 0);
    assert_false(ready);
    assert_string_equal(f.err.message, "no template yet");
    assert_int_equal(shoal_endpoint_health(f.client, 0, &ready, &f.err), 0);
    assert_true(ready);
    assert_string_equal(mock_at(f.mock, 0)->key, "");
    assert_int_equal(shoal_endpoint_health(f.client, 1, &ready, &f.err), SHOAL_EINVALIDARG);
    end(&f);
}

static void test_worker_list_takes_both_shapes(void **state)
{
    static const char *const bodies[] = {
        "[{\"worker_id\":\"w1\",\"draining\":true,\"current\":3,\"total_memory_mb\":1}]",
        "{\"workers\":[{\"worker_id\":\"w1\",\"draining\":true,\"current\":3}]}",
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct mock_rule rules[] = {{"GET", "/api/workers", 200, bodies[i]}};
        struct fixture f = begin(rules, 1);
        struct shoal_worker_list *list = NULL;

        assert_int_equal(shoal_worker_list(f.client, &list, &f.err), 0);
        assert_string_equal(shoal_worker_id(shoal_worker_list_at(list, 0)), "w1");
        assert_true(shoal_worker_draining(shoal_worker_list_at(list, 0)));
        assert_int_equal(shoal_worker_current(shoal_worker_list_at(list, 0)), 3);
        assert_int_equal(shoal_worker_capacity(shoal_worker_list_at(list, 0)), -1);
        shoal_worker_list_free(list);
        end(&f);
    }
}

static void test_cluster_and_nodes(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/cluster", 200,
         "{\"clusterId\":null,\"mode\":\"single\",\"self\":\"a\",\"scheduler\":{\"leader\":null,"
         "\"hasQuorum\":false,\"term\":0},\"nodes\":[{\"name\":\"a\",\"state\":\"alive\"}]}",
         .times = 1},
        {"GET", "/api/cluster", 200, "{\"mode\":\"single\",\"scheduler\":{}}", .times = 1},
        {"GET", "/api/cluster", 200,
         "{\"mode\":\"single\",\"scheduler\":{},\"nodes\":[{\"name\":7}]}"},
        {"POST", "/api/nodes/a/drain", 200, "{}"},
        {"POST", "/api/join-tokens", 501, "{\"error\":\"on its own\"}"},
    };
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_cluster *cluster = NULL;
    struct shoal_join_token *token = NULL;

    (void)state;
    assert_int_equal(shoal_cluster_get(f.client, &cluster, &f.err), 0);
    assert_null(shoal_cluster_id(cluster));
    assert_null(shoal_cluster_leader(cluster));
    assert_null(shoal_cluster_digest(cluster));
    assert_string_equal(shoal_cluster_mode(cluster), "single");
    assert_false(shoal_cluster_has_quorum(cluster));
    assert_int_equal(shoal_cluster_term(cluster), 0);
    assert_int_equal(shoal_cluster_commit_index(cluster), -1);
    assert_int_equal(shoal_cluster_node_count(cluster), 1);
    assert_string_equal(shoal_node_name(shoal_cluster_node_at(cluster, 0)), "a");
    assert_null(shoal_node_mark(shoal_cluster_node_at(cluster, 0)));
    assert_int_equal(shoal_node_memory_mb(shoal_cluster_node_at(cluster, 0)), -1);
    assert_null(shoal_cluster_node_at(cluster, 1));
    shoal_cluster_free(cluster);
    assert_int_equal(shoal_cluster_get(f.client, &cluster, &f.err), SHOAL_EPROTO);
    assert_int_equal(shoal_cluster_get(f.client, &cluster, &f.err), SHOAL_EPROTO);
    assert_int_equal(shoal_node_drain(f.client, "a", &f.err), 0);
    assert_int_equal(shoal_node_cordon(f.client, "", &f.err), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_node_remove(f.client, "..", &f.err), SHOAL_EINVALIDARG);
    assert_true(shoal_join_token_create(f.client, 60, &token, &f.err) < 0);
    assert_string_equal(f.err.message, "on its own");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sandbox_create_sends_fields_and_reads_answer),
        cmocka_unit_test(test_sandbox_hibernate_wake_reboot),
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_checkpoint_forks),
        cmocka_unit_test(test_call_refusals_become_codes),
        cmocka_unit_test(test_sandbox_get_bad_answers_are_refused),
        cmocka_unit_test(test_sandbox_get_huge_values_and_unknown_fields_pass),
        cmocka_unit_test(test_call_bad_ids_are_not_sent),
        cmocka_unit_test(test_sandbox_list_entries_are_checked),
        cmocka_unit_test(test_endpoint_health_tells_alive_from_ready),
        cmocka_unit_test(test_worker_list_takes_both_shapes),
        cmocka_unit_test(test_cluster_and_nodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
