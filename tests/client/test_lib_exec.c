/* Commands through libshoal. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"
#include "tests/client/lib.h"

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

static void no_output(void *arg, int stream, const void *data, size_t len)
{
    (void)arg;
    (void)stream;
    (void)data;
    fail_msg("%zu bytes", len);
}

static void test_stream_that_is_refused_says_why(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/at/api/sandboxes/sb-1/exec/s-1", 404,
         "{\"error\":\"there is no session \\\"s-1\\\"\"}"},
        {"GET", "/at/api/sandboxes/sb-1/exec/s-2", 502, NULL},
    };
    struct fixture f = {.mock = mock_start(rules, SHL_ARRAY_SIZE(rules)), .err = SHOAL_ERROR_INIT};
    struct shoal_stream *stream = NULL;
    char url[128];

    (void)state;
    (void)snprintf(url, sizeof(url), "%s/at", mock_url(f.mock)); /* behind a proxy, say */
    f.client = client_of(url, 30);
    assert_int_equal(shoal_stream_open(f.client, "sb-1", "s-1", false, no_output, NULL, &stream,
                                       &f.err),
                     SHOAL_ENOTFOUND);
    assert_string_equal(f.err.message, "there is no session \"s-1\"");
    assert_int_equal(f.err.http_status, 404);
    assert_string_equal(mock_at(f.mock, 0)->key, "key-1");
    assert_true(
        shoal_stream_open(f.client, "sb-1", "s-2", false, no_output, NULL, &stream, &f.err) < 0);
    assert_non_null(strstr(f.err.message, "answered 502 without saying why"));
    assert_int_equal(shoal_terminal_resize(f.client, "sb-1", "../../keys", 80, 24, &f.err),
                     SHOAL_EINVALIDARG);
    assert_int_equal(mock_count(f.mock), 2);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exec_run_short_command_needs_one_request),
        cmocka_unit_test(test_exec_run_polls_through_trouble),
        cmocka_unit_test(test_exec_run_falls_back_to_synchronous),
        cmocka_unit_test(test_exec_run_answers_without_outcome_are_errors),
        cmocka_unit_test(test_exec_list_and_kill),
        cmocka_unit_test(test_stream_that_is_refused_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
