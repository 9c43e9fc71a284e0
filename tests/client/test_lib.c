/* libshoal against a server that answers by a table. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/attr.h"
#include "client/shoal.h"
#include "tests/client/mock.h"

#define BOX "{\"sandboxID\":\"sb-1\",\"status\":\"running\",\"cpuCount\":2,\"memoryMB\":1024}"

struct fixture {
    struct mock *mock;
    struct shoal_client *client;
    struct shoal_error err;
};

static struct shoal_client *client_of(const char *url, int idle_timeout_s)
{
    struct shoal_settings *settings = shoal_settings_new();
    struct shoal_client *client = NULL;

    assert_int_equal(shoal_settings_set_url(settings, url, NULL), 0);
    assert_int_equal(shoal_settings_set_key(settings, "key-1", NULL), 0);
    assert_int_equal(shoal_settings_set_idle_timeout_s(settings, idle_timeout_s), 0);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    shoal_settings_free(settings);
    return client;
}

static struct fixture begin(const struct mock_rule *rules, size_t count)
{
    struct fixture f = {.mock = mock_start(rules, count), .err = SHOAL_ERROR_INIT};

    f.client = client_of(mock_url(f.mock), 30);
    return f;
}

static void end(struct fixture *f)
{
    shoal_client_free(f->client);
    mock_stop(f->mock);
}

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

#define CID "11111111-2222-4333-8444-555555555555"
#define CHECKPOINT(status)                                                           \
    "{\"id\":\"" CID "\",\"sandboxId\":\"sb-1\",\"name\":\"a\",\"status\":\"" status \
    "\",\"sizeBytes\":7}"

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

/* A dead first server is passed over, and the live one is remembered. */
static void test_failover_unreachable_server_is_passed_over(void **state)
{
    const struct mock_rule rules[] = {{"POST", "/api/sandboxes", 201, BOX},
                                      {"DELETE", "/api/sandboxes/sb-1", 204, NULL}};
    struct mock *mock = mock_start(rules, 2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "http://127.0.0.1:1,%s/api/", mock_url(mock));
    client = client_of(urls, 30);
    assert_int_equal(shoal_client_endpoint_count(client), 2);
    /* Creating must not happen twice, but nothing was sent to the first one. */
    assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
    assert_string_equal(shoal_client_endpoint_in_use(client), shoal_client_endpoint(client, 1));
    assert_int_equal(shoal_sandbox_kill(client, "sb-1", &err), 0);
    assert_int_equal(mock_count(mock), 2);
    shoal_sandbox_free(sandbox);
    shoal_client_free(client);
    mock_stop(mock);
}

/* A server that took the request and vanished may have acted on it: a reboot is not
 * repeated elsewhere, a get is, and a create with the key that makes it one and the same. */
static void test_failover_only_repeatable_calls_after_sending(void **state)
{
    const struct mock_rule dropping[] = {
        {"POST", "/api/sandboxes", 0, NULL, MOCK_DROP},
        {"POST", "/api/sandboxes/sb-1/reboot", 0, NULL, MOCK_DROP},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 0, NULL, MOCK_DROP},
        {"GET", "/api/sandboxes/sb-1", 0, NULL, MOCK_DROP},
    };
    const struct mock_rule good[] = {{"POST", "/api/sandboxes", 201, BOX},
                                     {"POST", "/api/sandboxes/from-checkpoint/" CID, 201, BOX},
                                     {"GET", "/api/sandboxes/sb-1", 200, BOX}};
    struct mock *first = mock_start(dropping, SHL_ARRAY_SIZE(dropping));
    struct mock *second = mock_start(good, SHL_ARRAY_SIZE(good));
    char key[64];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_sandbox_reboot(client, "sb-1", false, &err), -ECONNRESET);
    assert_int_equal(mock_count(first), 1);
    assert_int_equal(mock_count(second), 0);
    assert_string_equal(mock_at(first, 0)->once, "");
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), 0);
    assert_int_equal(mock_count(second), 1);
    shoal_sandbox_free(sandbox);
    shoal_client_free(client);

    for (int fork = 0; fork < 2; fork++) {
        mock_forget(first);
        mock_forget(second);
        client = client_of(urls, 30);
        if (fork) {
            assert_int_equal(shoal_checkpoint_fork(client, CID, NULL, &sandbox, &err), 0);
        } else {
            assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
        }
        assert_int_equal(mock_count(first), 1);
        assert_int_equal(mock_count(second), 1);
        assert_int_equal(strlen(mock_at(first, 0)->once), 36);
        assert_string_equal(mock_at(first, 0)->once, mock_at(second, 0)->once);
        snprintf(key, sizeof(key), "%s", mock_at(first, 0)->once);
        shoal_sandbox_free(sandbox);
        /* The next one has a key of its own. */
        assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
        assert_string_not_equal(mock_at(second, 1)->once, key);
        shoal_sandbox_free(sandbox);
        shoal_client_free(client);
    }
    mock_stop(first);
    mock_stop(second);
}

static void test_failover_all_servers_dead_names_the_last(void **state)
{
    struct shoal_client *client = client_of("http://127.0.0.1:1,http://127.0.0.1:2", 30);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_sandbox_list(client, &list, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.message, "none of 2 servers"));
    assert_int_equal(err.http_status, 0);
    shoal_client_free(client);
}

/* A refusal is an answer: it does not send the call to another server. */
static void test_failover_refusal_is_final(void **state)
{
    const struct mock_rule refusing[] = {
        {"GET", "/api/sandboxes/sb-1", 404, "{\"error\":\"sandbox not found\"}"}};
    const struct mock_rule good[] = {{"GET", "/api/sandboxes/sb-1", 200, BOX}};
    struct mock *first = mock_start(refusing, 1);
    struct mock *second = mock_start(good, 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), SHOAL_ENOTFOUND);
    assert_int_equal(mock_count(second), 0);
    shoal_client_free(client);
    mock_stop(first);
    mock_stop(second);
}

static struct shoal_command *command_of(const char *cmd, const char *arg)
{
    struct shoal_command *command = shoal_command_new(cmd);

    assert_non_null(command);
    if (arg) {
        assert_int_equal(shoal_command_add_arg(command, arg), 0);
    }
    return command;
}

static void test_exec_run_short_command_needs_one_request(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/exec/run-async", 200,
         "{\"exitCode\":3,\"stdout\":\"a\\u0000b\\u00e4\",\"stderr\":\"e\"}"}};
    struct fixture f = begin(rules, 1);
    struct shoal_command *command = command_of("printf", "x");
    struct shoal_exec_result *result = NULL;
    const char *text;
    size_t len = 0;

    (void)state;
    assert_int_equal(shoal_command_add_env(command, "K", "V"), 0);
    assert_int_equal(shoal_command_set_cwd(command, "/tmp"), 0);
    assert_int_equal(shoal_command_set_timeout_s(command, 5), 0);
    assert_int_equal(shoal_exec_run(f.client, "sb-1", command, NULL, NULL, &result, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 0)->body,
                        "{\"cmd\":\"printf\",\"args\":[\"x\"],\"envs\":{\"K\":\"V\"},"
                        "\"cwd\":\"/tmp\",\"timeout\":5}");
    assert_int_equal(shoal_exec_result_exit_code(result), 3);
    text = shoal_exec_result_stdout(result, &len);
    assert_int_equal(len, 5);
    assert_memory_equal(text, "a\0b\xc3\xa4", 5);
    text = shoal_exec_result_stderr(result, &len);
    assert_string_equal(text, "e");
    assert_false(shoal_exec_result_truncated(result));
    shoal_exec_result_free(result);
    shoal_command_free(command);
    end(&f);
}

static int count_waits(void *arg, const char *exec_id)
{
    assert_string_equal(exec_id, "e1");
    *(int *)arg += 1;
    return 0;
}

static int stop_waiting(void *arg, const char *exec_id)
{
    (void)arg;
    (void)exec_id;
    return 1;
}

/* A long command is polled; a server that is away for a moment does not lose it. */
static void test_exec_run_polls_through_trouble(void **state)
{
    const char *path = "/api/sandboxes/sb-1/exec/e1/result";
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/exec/run-async", 202,
         "{\"execId\":\"e1\",\"running\":true,\"startedAt\":\"2026-01-01T00:00:00Z\"}"},
        {"GET", path, 200, "{\"running\":true,\"stdout\":\"\",\"stderr\":\"\"}", .times = 1},
        {"GET", path, 503, "{\"error\":\"restarting\"}", .times = 1},
        {"GET", path, 0, NULL, MOCK_DROP, .times = 1},
        {"GET", path, 200,
         "{\"running\":false,\"exitCode\":0,\"stdout\":\"done\",\"stderr\":\"\","
         "\"truncated\":true}"},
    };
    struct fixture f = begin(rules, 5);
    struct shoal_command *command = command_of("sleep 9", NULL);
    struct shoal_exec_result *result = NULL;
    int waits = 0;

    (void)state;
    assert_int_equal(
        shoal_exec_run(f.client, "sb-1", command, count_waits, &waits, &result, &f.err), 0);
    /* libcurl repeats a dropped request on a kept connection by itself. */
    assert_in_range(waits, 2, 3);
    assert_int_equal(mock_count(f.mock), 5);
    assert_true(shoal_exec_result_truncated(result));
    shoal_exec_result_free(result);
    mock_forget(f.mock);
    result = NULL;
    assert_int_equal(shoal_exec_run(f.client, "sb-1", command, stop_waiting, NULL, &result, &f.err),
                     -ECANCELED);
    assert_null(result);
    shoal_command_free(command);
    end(&f);
}

static void test_exec_run_falls_back_to_synchronous(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/sandboxes/sb-1/exec/run-async", 404, "{\"error\":\"not found\"}"},
        {"POST", "/api/sandboxes/sb-1/exec/run", 200,
         "   \n {\"exitCode\":-1,\"stdout\":\"part\",\"stderr\":\"Process timed out\"}"},
    };
    struct fixture f = begin(rules, 2);
    struct shoal_command *command = command_of("x", NULL);
    struct shoal_exec_result *result = NULL;

    (void)state;
    assert_int_equal(shoal_exec_run(f.client, "sb-1", command, NULL, NULL, &result, &f.err), 0);
    assert_int_equal(shoal_exec_result_exit_code(result), -1);
    shoal_exec_result_free(result);
    shoal_command_free(command);
    end(&f);
}

static void test_exec_run_answers_without_outcome_are_errors(void **state)
{
    static const struct {
        const char *body;
        int code;
    } cases[] = {
        {"{}", SHOAL_EPROTO},
        {"{\"running\":false}", SHOAL_EPROTO},
        {"{\"execId\":\"../../x\",\"running\":true}", SHOAL_EPROTO},
        {"{\"exitCode\":\"0\"}", SHOAL_EPROTO},
        {"{\"exitCode\":-1,\"error\":\"wake failed\",\"stdout\":\"\",\"stderr\":\"\"}",
         SHOAL_EUNAVAILABLE},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        const struct mock_rule rules[] = {
            {"POST", "/api/sandboxes/sb-1/exec/run-async", 200, cases[i].body}};
        struct fixture f = begin(rules, 1);
        struct shoal_command *command = command_of("x", NULL);
        struct shoal_exec_result *result = NULL;

        assert_int_equal(shoal_exec_run(f.client, "sb-1", command, NULL, NULL, &result, &f.err),
                         cases[i].code);
        assert_null(result);
        shoal_command_free(command);
        end(&f);
    }
}

static void test_exec_list_and_kill(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/exec", 200,
         "[{\"sessionID\":\"s1\",\"command\":\"sh\",\"args\":[],\"running\":false,\"exitCode\":7},"
         "{\"sessionID\":\"s2\",\"running\":true,\"exitCode\":null}]"},
        {"POST", "/api/sandboxes/sb-1/exec/s2/kill", 200, "{\"status\":\"ok\"}"},
    };
    struct fixture f = begin(rules, 2);
    struct shoal_exec_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_exec_list(f.client, "sb-1", &list, &f.err), 0);
    assert_int_equal(shoal_exec_list_count(list), 2);
    assert_int_equal(shoal_exec_session_exit_code(shoal_exec_list_at(list, 0)), 7);
    assert_true(shoal_exec_session_running(shoal_exec_list_at(list, 1)));
    assert_int_equal(shoal_exec_session_exit_code(shoal_exec_list_at(list, 1)), -1);
    shoal_exec_list_free(list);
    assert_int_equal(shoal_exec_kill(f.client, "sb-1", "s2", 15, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 1)->body, "{\"signal\":15}");
    assert_int_equal(shoal_exec_kill(f.client, "sb-1", "s9", 15, &f.err), SHOAL_ENOTFOUND);
    end(&f);
}

struct counter {
    uint64_t bytes;
    uint64_t wrong;
    uint64_t limit; /* source: how much to give; sink: when to refuse, 0 never */
};

static int count_sink(void *arg, const void *data, size_t len)
{
    struct counter *counter = arg;

    for (size_t i = 0; i < len; i++) {
        counter->wrong += ((const unsigned char *)data)[i] != mock_pattern(counter->bytes + i);
    }
    counter->bytes += len;
    return counter->limit && counter->bytes > counter->limit ? -ENOSPC : 0;
}

static int64_t pattern_source(void *arg, void *dst, size_t size)
{
    struct counter *counter = arg;
    size_t len = SHL_MIN(size, counter->limit - counter->bytes);

    for (size_t i = 0; i < len; i++) {
        ((unsigned char *)dst)[i] = mock_pattern(counter->bytes + i);
    }
    counter->bytes += len;
    return (int64_t)len;
}

static int64_t failing_source(void *arg, void *dst, size_t size)
{
    (void)arg;
    (void)dst;
    (void)size;
    return -EIO;
}

#define BIG (20u * 1024 * 1024 + 13)

static void test_file_read_streams_exactly(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, NULL, MOCK_STREAM, BIG}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(
        shoal_file_read(f.client, "sb-1", "/a b/\xc3\xa4#%?&+", count_sink, &counter, &f.err), 0);
    assert_int_equal(counter.bytes, BIG);
    assert_int_equal(counter.wrong, 0);
    assert_string_equal(mock_at(f.mock, 0)->uri,
                        "/api/sandboxes/sb-1/files?path=/a%20b/%C3%A4%23%25%3F%26%2B");
    /* A sink that refuses ends the transfer with its own code. */
    counter = (struct counter){.limit = 1000};
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     -ENOSPC);
    end(&f);
}

/* A file that is cut short must never look complete. */
static void test_file_read_truncated_is_an_error(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, "only this", MOCK_TRUNCATE}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     -ECONNRESET);
    /* Bytes went to the sink, so nothing may be repeated. */
    assert_int_equal(mock_count(f.mock), 1);
    end(&f);
}

static void test_file_read_refusal_stays_out_of_the_sink(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 404, "{\"error\":\"no such file\"}"}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     SHOAL_ENOTFOUND);
    assert_int_equal(counter.bytes, 0);
    assert_string_equal(f.err.message, "no such file");
    end(&f);
}

static void test_file_write_streams_with_and_without_size(void **state)
{
    const struct mock_rule rules[] = {{"PUT", "/api/sandboxes/sb-1/files", 204, NULL}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {.limit = BIG};

    (void)state;
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", BIG, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 0)->body_bytes, BIG);
    assert_int_equal(mock_at(f.mock, 0)->wrong_bytes, 0);
    assert_false(mock_at(f.mock, 0)->chunked);
    counter = (struct counter){.limit = BIG};
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", -1, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 1)->body_bytes, BIG);
    assert_true(mock_at(f.mock, 1)->chunked);
    counter = (struct counter){.limit = 0};
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", 0, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 2)->body_bytes, 0);
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", 5, failing_source, NULL, &f.err),
                     -EIO);
    assert_int_equal(shoal_file_write(f.client, "sb-1", "", 5, failing_source, NULL, &f.err),
                     SHOAL_EINVALIDARG);
    end(&f);
}

/* Half of an upload is gone from the source: it cannot start again elsewhere. */
static void test_file_write_is_not_repeated_after_bytes_left(void **state)
{
    const struct mock_rule dropping[] = {{"PUT", "/api/sandboxes/sb-1/files", 0, NULL, MOCK_DROP}};
    const struct mock_rule good[] = {{"PUT", "/api/sandboxes/sb-1/files", 204, NULL}};
    struct mock *first = mock_start(dropping, 1);
    struct mock *second = mock_start(good, 1);
    struct counter counter = {.limit = 5000};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_file_write(client, "sb-1", "x", 5000, pattern_source, &counter, &err),
                     -ECONNRESET);
    assert_int_equal(mock_count(second), 0);
    shoal_client_free(client);
    mock_stop(first);
    mock_stop(second);
}

static void test_file_list_entries(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files/list", 200,
         "[{\"name\":\"d\",\"isDir\":true,\"path\":\"/d\"},"
         "{\"name\":\"f\",\"isDir\":false,\"size\":5000000000,\"path\":\"/f\"}]"},
        {"POST", "/api/sandboxes/sb-1/files/mkdir", 204, NULL},
        {"DELETE", "/api/sandboxes/sb-1/files", 204, NULL},
    };
    struct fixture f = begin(rules, 3);
    struct shoal_file_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_file_list(f.client, "sb-1", "/", &list, &f.err), 0);
    assert_true(shoal_file_entry_is_dir(shoal_file_list_at(list, 0)));
    assert_int_equal(shoal_file_entry_size_bytes(shoal_file_list_at(list, 0)), 0);
    assert_true(shoal_file_entry_size_bytes(shoal_file_list_at(list, 1)) == 5000000000);
    shoal_file_list_free(list);
    assert_int_equal(shoal_file_mkdir(f.client, "sb-1", "/a/b", &f.err), 0);
    assert_int_equal(shoal_file_remove(f.client, "sb-1", "/a", &f.err), 0);
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

static void test_call_silent_server_times_out(void **state)
{
    const struct mock_rule rules[] = {{"GET", "/api/sandboxes/sb-1", 200, "", MOCK_STALL}};
    struct mock *mock = mock_start(rules, 1);
    struct shoal_client *client = client_of(mock_url(mock), 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;

    (void)state;
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.message, "silent for 1 s"));
    shoal_client_free(client);
    mock_stop(mock);
}

static void test_settings_url_list(void **state)
{
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {"http://h:1", 0},
        {"https://h/api/", 0},
        {"http://a, http://b ,https://c/", 0},
        {"", SHOAL_EINVALIDARG},
        {"h:8080", SHOAL_EINVALIDARG},
        {"http://", SHOAL_EINVALIDARG},
        {"ftp://h", SHOAL_EINVALIDARG},
        {"http://a,,http://b", SHOAL_EINVALIDARG},
        {"http://u:p@h", SHOAL_EINVALIDARG},
        {"http://h/\r\nX: y", SHOAL_EINVALIDARG},
        {"http://h?x", SHOAL_EINVALIDARG},
    };
    struct shoal_settings *settings = shoal_settings_new();
    struct shoal_client *client = NULL;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        assert_int_equal(shoal_settings_set_url(settings, cases[i].url, NULL), cases[i].code);
    }
    assert_int_equal(shoal_settings_set_url(settings, "http://a/,http://b/api//,https://c/x", NULL),
                     0);
    assert_int_equal(shoal_settings_set_key(settings, "a\r\nb", NULL), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_settings_set_key(settings, "", NULL), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    assert_string_equal(shoal_client_endpoint(client, 0), "http://a/api");
    assert_string_equal(shoal_client_endpoint(client, 1), "http://b/api");
    assert_string_equal(shoal_client_endpoint(client, 2), "https://c/x/api");
    assert_null(shoal_client_endpoint(client, 3));
    shoal_client_free(client);
    shoal_settings_free(settings);
}

static void write_config(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_settings_load_environment_then_file(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        int code;
    } cases[] = {
        {"{\"url\":\"http://f:1\",\"key\":\"k\"}", 0600, 0},
        {"{\"url\":\"http://f:1\",\"key\":\"k\"}", 0644, -EPERM},
        {"{\"url\":\"http://f:1\"}", 0644, 0},
        {"{\"url\":7}", 0600, SHOAL_EINVALIDARG},
        {"[]", 0600, SHOAL_EINVALIDARG},
        {"{", 0600, SHOAL_EINVALIDARG},
        {"", 0600, SHOAL_EINVALIDARG},
        {"{\"url\":\"http://f:1\",\"ca_file\":\"/nonexistent\"}", 0600, -ENOENT},
    };
    char path[] = "/tmp/shoal-test-config-XXXXXX";
    int fd = mkstemp(path);
    struct shoal_client *client = NULL;
    struct shoal_settings *settings;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    setenv("SHOAL_CONFIG", path, 1);
    unsetenv("SHOAL_URL");
    unsetenv("OPENCOMPUTER_API_URL");
    unsetenv("SHOAL_API_KEY");
    unsetenv("OPENCOMPUTER_API_KEY");
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        settings = shoal_settings_new();
        write_config(path, cases[i].text, cases[i].mode);
        assert_int_equal(shoal_settings_load(settings, NULL), cases[i].code);
        shoal_settings_free(settings);
    }
    /* The environment goes first, SHOAL_URL before the other name, flags before both. */
    write_config(path, "{\"url\":\"http://file\",\"key\":\"k\"}", 0600);
    setenv("OPENCOMPUTER_API_URL", "http://other", 1);
    setenv("SHOAL_URL", "http://env", 1);
    settings = shoal_settings_new();
    assert_int_equal(shoal_settings_load(settings, NULL), 0);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    assert_string_equal(shoal_client_endpoint(client, 0), "http://env/api");
    shoal_client_free(client);
    shoal_settings_free(settings);
    unlink(path);
    settings = shoal_settings_new();
    assert_int_equal(shoal_settings_load(settings, NULL), -ENOENT); /* asked for by name */
    shoal_settings_free(settings);
    unsetenv("SHOAL_CONFIG");
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
        cmocka_unit_test(test_failover_unreachable_server_is_passed_over),
        cmocka_unit_test(test_failover_only_repeatable_calls_after_sending),
        cmocka_unit_test(test_failover_all_servers_dead_names_the_last),
        cmocka_unit_test(test_failover_refusal_is_final),
        cmocka_unit_test(test_exec_run_short_command_needs_one_request),
        cmocka_unit_test(test_exec_run_polls_through_trouble),
        cmocka_unit_test(test_exec_run_falls_back_to_synchronous),
        cmocka_unit_test(test_exec_run_answers_without_outcome_are_errors),
        cmocka_unit_test(test_exec_list_and_kill),
        cmocka_unit_test(test_file_read_streams_exactly),
        cmocka_unit_test(test_file_read_truncated_is_an_error),
        cmocka_unit_test(test_file_read_refusal_stays_out_of_the_sink),
        cmocka_unit_test(test_file_write_streams_with_and_without_size),
        cmocka_unit_test(test_file_write_is_not_repeated_after_bytes_left),
        cmocka_unit_test(test_file_list_entries),
        cmocka_unit_test(test_endpoint_health_tells_alive_from_ready),
        cmocka_unit_test(test_worker_list_takes_both_shapes),
        cmocka_unit_test(test_cluster_and_nodes),
        cmocka_unit_test(test_call_silent_server_times_out),
        cmocka_unit_test(test_settings_url_list),
        cmocka_unit_test(test_settings_load_environment_then_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
