/* Commands over HTTP: contract tests 25 to 36 and 43. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "tests/node/api/fixture.h"

static int64_t number_of(json_t *json, const char *name)
{
    json_t *value = json_object_get(json, name);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static json_t *run(const char *body)
{
    return call(200, "POST /api/sandboxes/%s/exec/run", body);
}

static void run_is(const char *body, int64_t code, const char *out, const char *err)
{
    json_t *json = run(body);

    if (number_of(json, "exitCode") != code || strcmp(text_of(json, "stdout"), out) != 0 ||
        strcmp(text_of(json, "stderr"), err) != 0) {
        fail_msg("%s: %lld \"%s\" \"%s\"", body, (long long)number_of(json, "exitCode"),
                 text_of(json, "stdout"), text_of(json, "stderr"));
    }
    assert_null(json_object_get(json, "running"));
    json_decref(json);
}

static void test_exec_run_outcomes(void **state)
{
    (void)state;
    run_is("{\"cmd\":\"true\"}", 0, "", "");
    run_is("{\"cmd\":\"false\"}", 1, "", "");
    run_is("{\"cmd\":\"echo\",\"args\":[\"a\",\"b c\"]}", 0, "a b c\n", "");
    run_is("{\"cmd\":\"echo line one\",\"args\":[]}", 0, "line one\n", "");
    run_is("{\"cmd\":\"echo \xc3\xa4\xe2\x82\xac\"}", 0, "\xc3\xa4\xe2\x82\xac\n", "");
    run_is("{\"cmd\":\"both\",\"cwd\":\"\",\"envs\":{\"A\":\"1\"},\"timeout\":0}", 3, "out\n",
           "err\n");
    run_is("{\"cmd\":\"nothere\"}", 127, "", "nothere: not found\n");
}

static void test_exec_run_at_root_prefix(void **state)
{
    json_t *json = call(200, "POST /sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");

    (void)state;
    assert_int_equal(number_of(json, "exitCode"), 0);
    json_decref(json);
}

static void test_exec_output_is_repaired(void **state)
{
    struct reply reply;
    char *target = expand("POST /api/sandboxes/%s/exec/run");
    json_t *json = api(target, "{\"cmd\":\"raw\"}", &reply);

    (void)state;
    assert_non_null(strstr((char *)reply.body,
                           "\"stdout\":\"a\xef\xbf\xbd\xef\xbf\xbdz\\u0000\\u001b\\\"\\\\"
                           "\xc3\xa4\xef\xbf\xbd\""));
    json_decref(json);
    reply_release(&reply);
    free(target);
}

static void test_exec_bad_cwd_is_400(void **state)
{
    (void)state;
    call_fails(400, "cwd does not exist: /nope", "POST /api/sandboxes/%s/exec/run",
               "{\"cmd\":\"true\",\"cwd\":\"/nope\"}");
    call_fails(400, "cwd does not exist: /nope", "POST /api/sandboxes/%s/exec/run-async",
               "{\"cmd\":\"true\",\"cwd\":\"/nope\"}");
}

static void big(uint64_t bytes)
{
    char body[64];
    struct reply reply;
    char *target = expand("POST /api/sandboxes/%s/exec/run");
    size_t before = heap_bytes();
    json_t *json;

    (void)snprintf(body, sizeof(body), "{\"cmd\":\"big %llu\"}", (unsigned long long)bytes);
    json = api(target, body, &reply);
    assert_int_equal(reply.status, 200);
    assert_int_equal(number_of(json, "exitCode"), 0);
    assert_true(json_string_length(json_object_get(json, "stdout")) >= bytes / 2);
    assert_null(json_object_get(json, "truncated"));
    json_decref(json);
    reply_release(&reply);
    run_for(&fix->loop, 20);
    assert_true(heap_bytes() < before + 100000); /* nothing stays */
    free(target);
}

static void test_exec_big_outputs_are_complete(void **state)
{
    (void)state;
    big(60 * 1024);
    big(70 * 1024);
    big(5 * 1024 * 1024);
    big(16 * 1024 * 1024);
}

/* A client that does not read must not make the JSON text pile up. */
static void test_exec_big_output_to_a_slow_reader(void **state)
{
    struct client client;
    struct reply reply;
    size_t before;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 22\r\n\r\n{\"cmd\":\"big 16000000\"}",
                fix->id, fix->key);
    before = heap_bytes();
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    client_pause(&client);
    run_for(&fix->loop, 200);
    print_message("heap with 16 MB of output waiting: %zd\n", (ssize_t)(heap_bytes() - before));
    assert_true(heap_bytes() < before + 40 * 1024 * 1024);
    client_close(&client);
    run_for(&fix->loop, 50);
    assert_true(heap_bytes() < before + 100000);
}

static void test_exec_timeout(void **state)
{
    json_t *json;

    (void)state;
    json = run("{\"cmd\":\"sleep 30000\",\"timeout\":1}");
    assert_int_equal(number_of(json, "exitCode"), -1);
    assert_string_equal(text_of(json, "stdout"), "part");
    assert_string_equal(text_of(json, "stderr"), "Process timed out\n");
    json_decref(json);
}

static void test_exec_long_run_is_padded(void **state)
{
    struct client client;
    struct reply reply;
    json_t *json;
    size_t spaces;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 20\r\n\r\n{\"cmd\":\"sleep 1000\"}",
                fix->id, fix->key);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    spaces = strspn((char *)reply.body, " ");
    assert_true(spaces >= 1);
    json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
    assert_int_equal(number_of(json, "exitCode"), 0);
    json_decref(json);
    reply_release(&reply);
    client_close(&client);
}

static bool link_goes_at(void *arg)
{
    uint64_t *at_ms = arg;

    return shl_monotonic_ms() >= *at_ms;
}

/* After the padding there is no status any more: the failure is told in the body, in the
 * form clients look for. */
static void test_exec_failure_after_padding(void **state)
{
    struct client client;
    struct reply reply;
    uint64_t at_ms = shl_monotonic_ms() + 900;
    json_t *json;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 21\r\n\r\n{\"cmd\":\"sleep 60000\"}",
                fix->id, fix->key);
    run_until(&fix->loop, link_goes_at, &at_ms);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_ERROR, "gone");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
    assert_int_equal(number_of(json, "exitCode"), -1);
    assert_string_equal(text_of(json, "stdout"), "");
    assert_true(strlen(text_of(json, "error")) > 0);
    assert_string_equal(text_of(json, "error"), text_of(json, "stderr"));
    json_decref(json);
    reply_release(&reply);
    client_close(&client);
}

/* The link to the guest is lost and comes back while a command runs. */
static void test_exec_run_survives_a_lost_link(void **state)
{
    struct client client;
    struct reply reply;
    uint64_t at_ms = shl_monotonic_ms() + 100;
    json_t *json;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 19\r\n\r\n{\"cmd\":\"sleep 300\"}",
                fix->id, fix->key);
    run_until(&fix->loop, link_goes_at, &at_ms);
    fake_agent_break(fixture_sandbox()->agent);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
    assert_int_equal(number_of(json, "exitCode"), 0);
    assert_string_equal(text_of(json, "stdout"), "part");
    json_decref(json);
    reply_release(&reply);
    client_close(&client);
}

static void test_exec_client_leaves_and_the_command_runs_on(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;
    json_t *json;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 20\r\n\r\n{\"cmd\":\"sleep 1500\"}",
                fix->id, fix->key);
    run_for(&fix->loop, 50);
    client_close(&client);
    run_for(&fix->loop, 1000); /* the padding shows that nobody is there */
    assert_int_equal(stats->cancelled, 1);
    assert_int_equal(stats->kills, 0);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "running")));
    json_decref(json);
}

static void test_exec_async_fast_and_slow(void **state)
{
    char target[256];
    char id[64];
    json_t *json;

    (void)state;
    json = call(200, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"echo hi\"}");
    assert_null(json_object_get(json, "execId"));
    assert_int_equal(number_of(json, "exitCode"), 0);
    assert_string_equal(text_of(json, "stdout"), "hi\n");
    json_decref(json);

    json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"sleep 1200\"}");
    assert_true(json_is_true(json_object_get(json, "running")));
    assert_string_equal(text_of(json, "startedAt"), "2023-11-14T22:13:20.123Z");
    (void)snprintf(id, sizeof(id), "%s", text_of(json, "execId"));
    json_decref(json);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/exec/%s/result", fix->id, id);
    json = call(200, target, NULL);
    assert_true(json_is_true(json_object_get(json, "running")));
    assert_string_equal(text_of(json, "stdout"), "");
    assert_null(json_object_get(json, "exitCode"));
    json_decref(json);
    run_for(&fix->loop, 800);
    for (int i = 0; i < 2; i++) { /* and again */
        json = call(200, target, NULL);
        assert_true(json_is_false(json_object_get(json, "running")));
        assert_int_equal(number_of(json, "exitCode"), 0);
        assert_string_equal(text_of(json, "stdout"), "part");
        json_decref(json);
    }
}

static void test_exec_async_truncated_goes_the_long_way(void **state)
{
    char target[256];
    json_t *json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"huge\"}");

    (void)state;
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/exec/%s/result", fix->id,
                   text_of(json, "execId"));
    json_decref(json);
    json = call(200, target, NULL);
    assert_true(json_is_true(json_object_get(json, "truncated")));
    json_decref(json);
}

static void test_exec_poll_is_never_a_5xx(void **state)
{
    static const int codes[] = {SHL_EUNAVAILABLE, SHL_EGUEST,      -EIO,    -ETIMEDOUT,
                                SHL_EPROTO,       SHL_ENOCAPACITY, -ENOMEM, SHL_EAUTH};
    struct node_agent_link *agent = fixture_sandbox()->agent;
    json_t *json;

    (void)state;
    call_fails(404, "exec session not found", "GET /api/sandboxes/%s/exec/abcdef/result", NULL);
    call_fails(404, "exec session not found", "GET /api/sandboxes/%s/exec/a%2fb/result", NULL);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(codes); i++) {
        fake_agent_fail_next(agent, codes[i], "it went wrong");
        json = call(200, "GET /api/sandboxes/%s/exec/abcdef/result", NULL);
        if (codes[i] == SHL_EUNAVAILABLE || codes[i] == -ENOMEM) {
            assert_true(json_is_true(json_object_get(json, "waking")));
            assert_true(json_is_true(json_object_get(json, "running")));
        } else {
            assert_true(json_is_false(json_object_get(json, "running")));
            assert_string_equal(text_of(json, "error"), "it went wrong");
        }
        json_decref(json);
    }
    fake_agent_refuse_next(agent, SHL_ELIMIT);
    json = call(200, "GET /api/sandboxes/%s/exec/abcdef/result", NULL);
    assert_true(json_is_true(json_object_get(json, "waking")));
    json_decref(json);
}

static void test_exec_failures_of_the_agent(void **state)
{
    static const struct {
        int code;
        int status;
    } rows[] = {
        {SHL_EUNAVAILABLE, 503}, {SHL_EGONE, 410}, {SHL_EGUEST, 502}, {-EIO, 502},
        {SHL_ELIMIT, 429},       {-ENOSPC, 507},   {SHL_EAUTH, 502}, /* a guest's lie */
        {SHL_EINVALIDARG, 400},  {-123456, 502},
    };
    struct node_agent_link *agent = fixture_sandbox()->agent;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        fake_agent_fail_next(agent, rows[i].code, "so says the guest");
        call_fails(rows[i].status, "so says the guest", "POST /api/sandboxes/%s/exec/run",
                   "{\"cmd\":\"true\"}");
    }
    fake_agent_refuse_next(agent, SHL_ELIMIT);
    call_fails(503, "too many operations", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");
    fake_agent_refuse_next(agent, SHL_EGONE);
    call_fails(410, "", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");
    call_fails(502, "", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"evil\"}");
    call_fails(502, "", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"nonsense\"}");
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_exec_request_too_large_for_the_agent(void **state)
{
    const size_t fits = 100000, too_large = AGENT_REQUEST_MAX;
    char *body = malloc(too_large + 100);
    size_t len = (size_t)snprintf(body, 100, "{\"cmd\":\"echo ");

    (void)state;
    memset(body + len, 'x', too_large);
    (void)snprintf(body + len + fits, 10, "\"}");
    json_decref(run(body));
    memset(body + len, 'x', too_large);
    (void)snprintf(body + len + too_large, 10, "\"}");
    call_fails(413, "too large", "POST /api/sandboxes/%s/exec/run", body);
    free(body);
}

#define PARALLEL 12

static void test_exec_parallel_and_sequential(void **state)
{
    struct client clients[PARALLEL];

    (void)state;
    for (int i = 0; i < PARALLEL; i++) {
        char body[64];
        int len = snprintf(body, sizeof(body), "{\"cmd\":\"echo number %d\"}", i);

        client_open(&clients[i], &fix->loop, fix->port);
        client_text(&clients[i],
                    "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                    "Content-Length: %d\r\n\r\n%s",
                    fix->id, fix->key, len, body);
    }
    for (int i = 0; i < PARALLEL; i++) {
        struct reply reply;
        char expected[32];
        json_t *json;

        (void)snprintf(expected, sizeof(expected), "number %d\n", i);
        assert_true(client_reply(&clients[i], &reply));
        json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
        assert_string_equal(text_of(json, "stdout"), expected);
        json_decref(json);
        reply_release(&reply);
        client_close(&clients[i]);
    }
    for (int i = 0; i < 50; i++) {
        run_is("{\"cmd\":\"true\"}", 0, "", "");
    }
}

static void test_exec_sessions(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    char target[256];
    char id[64];
    json_t *json;
    json_t *item;

    (void)state;
    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_int_equal(json_array_size(json), 0);
    json_decref(json);
    json = call(201, "POST /api/sandboxes/%s/exec", "{\"cmd\":\"sleep 60000\"}");
    (void)snprintf(id, sizeof(id), "%s", text_of(json, "sessionID"));
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    assert_string_equal(text_of(json, "command"), "sleep 60000");
    assert_int_equal(json_array_size(json_object_get(json, "args")), 0);
    assert_true(json_is_array(json_object_get(json, "args")));
    assert_true(json_is_true(json_object_get(json, "running")));
    assert_int_equal(number_of(json, "attachedClients"), 0);
    json_decref(json);
    json_decref(call(201, "POST /api/sandboxes/%s/exec",
                     "{\"cmd\":\"echo\",\"args\":[\"a\",\"\\u0001\xc3\xa4\"]}"));

    json = call(200, "GET /api/sandboxes/%s/exec", NULL);
    assert_int_equal(json_array_size(json), 2);
    item = json_array_get(json, 0);
    assert_string_equal(text_of(item, "sessionID"), id);
    assert_true(json_is_true(json_object_get(item, "running")));
    assert_null(json_object_get(item, "exitCode"));
    assert_true(json_is_array(json_object_get(item, "args")));
    item = json_array_get(json, 1);
    assert_true(json_is_false(json_object_get(item, "running")));
    assert_int_equal(number_of(item, "exitCode"), 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(item, "args"), 1)),
                        "\x01\xc3\xa4");
    assert_string_equal(text_of(item, "startedAt"), "2023-11-14T22:13:20.123Z");
    json_decref(json);

    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/%s/exec/%s/kill", fix->id, id);
    json = call(200, target, "{\"signal\":15}");
    assert_string_equal(text_of(json, "status"), "ok");
    json_decref(json);
    assert_int_equal(stats->last_signal, 15);
    json_decref(call(200, target, NULL)); /* an ended one is fine, and 9 the default */
    assert_int_equal(stats->last_signal, 9);
    call_fails(404, "exec session not found", "POST /api/sandboxes/%s/exec/nosuch/kill", "{}");
}

/* test_attach.c has the rest. */
static void test_exec_attach_needs_a_websocket(void **state)
{
    (void)state;
    call_fails(426, "WebSocket", "GET /api/sandboxes/%s/exec/abc", NULL);
}

static void test_exec_counts_as_activity(void **state)
{
    struct node_sandbox *sandbox = fixture_sandbox();
    unsigned touches = fake_sandbox_touches(sandbox);
    struct client client;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 19\r\n\r\n{\"cmd\":\"sleep 200\"}",
                fix->id, fix->key);
    run_for(&fix->loop, 100);
    assert_int_equal(fake_sandbox_holds(sandbox), 1);
    assert_true(fake_sandbox_touches(sandbox) > touches);
    run_for(&fix->loop, 200);
    assert_int_equal(fake_sandbox_holds(sandbox), 0);
    client_close(&client);
}

/* Closing the server while commands run leaves nothing behind (the sanitizer looks). */
static void test_exec_server_closes_under_way(void **state)
{
    struct client client;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 21\r\n\r\n{\"cmd\":\"sleep 60000\"}",
                fix->id, fix->key);
    run_for(&fix->loop, 100);
    client_close(&client);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 1);
    /* the teardown closes */
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exec_run_outcomes),
        TEST(test_exec_run_at_root_prefix),
        TEST(test_exec_output_is_repaired),
        TEST(test_exec_bad_cwd_is_400),
        TEST(test_exec_big_outputs_are_complete),
        TEST(test_exec_big_output_to_a_slow_reader),
        TEST(test_exec_timeout),
        TEST(test_exec_long_run_is_padded),
        TEST(test_exec_failure_after_padding),
        TEST(test_exec_run_survives_a_lost_link),
        TEST(test_exec_client_leaves_and_the_command_runs_on),
        TEST(test_exec_async_fast_and_slow),
        TEST(test_exec_async_truncated_goes_the_long_way),
        TEST(test_exec_poll_is_never_a_5xx),
        TEST(test_exec_failures_of_the_agent),
        TEST(test_exec_request_too_large_for_the_agent),
        TEST(test_exec_parallel_and_sequential),
        TEST(test_exec_sessions),
        TEST(test_exec_attach_needs_a_websocket),
        TEST(test_exec_counts_as_activity),
        TEST(test_exec_server_closes_under_way),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
