/* run-async on sandboxes that do not run, and its polls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/api/cold.h"
#include "tests/node/api/fixture.h"

static json_t *poll(const char *exec_id)
{
    char target[128];

    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/exec/%s/result", fix->id,
                   exec_id);
    return call(200, target, NULL);
}

static bool flag(json_t *json, const char *name)
{
    return json_is_true(json_object_get(json, name));
}

/* Starts "echo cold" and returns its id. */
static void start_cold(char id[64])
{
    json_t *json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"echo cold\"}");

    (void)snprintf(id, 64, "%s", text_of(json, "execId"));
    assert_true(flag(json, "running"));
    assert_int_equal(strlen(text_of(json, "startedAt")), strlen("2026-01-01T00:00:00.000Z"));
    assert_true(strlen(id) > 0);
    json_decref(json);
}

static void test_run_async_answers_before_the_wake(void **state)
{
    struct node_sandbox *sandbox = fixture_sandbox();
    unsigned waking = 0;
    json_t *json;
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_ms = 1200; /* longer than a poll is held */
    start_cold(id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_WAKING);
    for (json = poll(id); flag(json, "running"); json = poll(id)) {
        if (sandbox->state == NODE_SANDBOX_WAKING) {
            assert_true(flag(json, "waking"));
            waking++;
        }
        assert_string_equal(text_of(json, "stdout"), "");
        json_decref(json);
        run_for(&fix->loop, 10);
    }
    assert_true(waking > 0);
    assert_int_equal(json_integer_value(json_object_get(json, "exitCode")), 0);
    assert_string_equal(text_of(json, "stdout"), "cold\n");
    assert_null(json_object_get(json, "waking"));
    json_decref(json);
    assert_int_equal(wakes(), 1);
    run_for(&fix->loop, 10);
    assert_int_equal(fake_sandbox_holds(sandbox), 0);
}

static void test_run_async_of_a_wake_that_fails(void **state)
{
    json_t *json;
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_code = SHL_ENOCAPACITY;
    knobs()->change_msg = "no memory is left";
    start_cold(id);
    run_for(&fix->loop, 20);
    for (unsigned i = 0; i < 2; i++) { /* it stays known */
        json = poll(id);
        assert_false(flag(json, "running"));
        assert_int_equal(json_integer_value(json_object_get(json, "exitCode")), -1);
        assert_string_equal(text_of(json, "error"), "no memory is left");
        assert_string_equal(text_of(json, "stdout"), "");
        json_decref(json);
    }
    assert_int_equal(wakes(), 1);
    /* a request too large is told at once, whatever the sandbox does */
    {
        char *big = malloc(200 * 1024);

        memset(big, 'x', 200 * 1024);
        memcpy(big, "{\"cmd\":\"", 8);
        memcpy(big + 200 * 1024 - 3, "\"}", 3);
        call_fails(413, "too large", "POST /api/sandboxes/%s/exec/run-async", big);
        free(big);
    }
    assert_int_equal(wakes(), 1);
}

/* Failures that nobody asks for do not keep others from waking. */
static void test_run_async_failures_are_bounded(void **state)
{
    json_t *json;
    char first[64];
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_code = SHL_ENOCAPACITY;
    knobs()->change_msg = "no memory is left";
    start_cold(first);
    for (unsigned i = 0; i < NODE_COLD_MAX + 10; i++) {
        start_cold(id);
        while (fixture_sandbox()->state != NODE_SANDBOX_HIBERNATED) {
            uv_run(&fix->loop, UV_RUN_ONCE);
        }
    }
    json = call(200, "GET /debug/state", NULL);
    assert_int_equal(json_integer_value(
                         json_object_get(json_object_get(json, "snapshots"), "waiting")),
                     NODE_COLD_MAX);
    json_decref(json);
    json = poll(id);
    assert_string_equal(text_of(json, "error"), "no memory is left");
    json_decref(json);
    knobs()->wake_code = 0;
    start_cold(id);
    run_for(&fix->loop, 50);
    json = poll(id);
    assert_string_equal(text_of(json, "stdout"), "cold\n");
    json_decref(json);
    {
        char target[128];

        (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/exec/%s/result", fix->id,
                       first);
        call_fails(404, "exec session not found", target, NULL);
    }
}

static void test_run_async_start_that_fails(void **state)
{
    struct node_agent_link *agent = fixture_sandbox()->agent;
    json_t *json;
    char id[64];

    (void)state;
    hibernate();
    fake_agent_fail_next(agent, SHL_EINVALIDARG, "cwd does not exist: /nope");
    start_cold(id);
    run_for(&fix->loop, 20);
    json = poll(id);
    assert_false(flag(json, "running"));
    assert_string_equal(text_of(json, "error"), "cwd does not exist: /nope");
    json_decref(json);

    hibernate(); /* the link breaks under the start: it is sent once more */
    fake_agent_fail_next(agent, SHL_EUNAVAILABLE, "the link was lost");
    start_cold(id);
    run_for(&fix->loop, 20);
    for (json = poll(id); flag(json, "running"); json = poll(id)) {
        json_decref(json);
    }
    assert_string_equal(text_of(json, "stdout"), "cold\n");
    json_decref(json);

    hibernate();
    fake_agent_refuse_next(agent, SHL_ELIMIT);
    start_cold(id);
    run_for(&fix->loop, 20);
    json = poll(id);
    assert_non_null(strstr(text_of(json, "error"), "too many operations"));
    json_decref(json);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_run_async_of_a_sandbox_that_is_killed(void **state)
{
    json_t *json;
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_ms = 100;
    start_cold(id);
    json_decref(call(204, "DELETE /api/sandboxes/%s", NULL));
    json = poll(id);
    assert_false(flag(json, "running"));
    assert_non_null(strstr(text_of(json, "error"), "stopped"));
    json_decref(json);
    call_fails(410, "has stopped", "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"true\"}");
}

/* Results survive hibernation, and polling one wakes without ever being an error. */
static void test_poll_wakes(void **state)
{
    json_t *json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"sleep 600\"}");
    char id[64];

    (void)state;
    (void)snprintf(id, sizeof(id), "%s", text_of(json, "execId"));
    json_decref(json);
    hibernate();
    knobs()->wake_code = SHL_ENOCAPACITY;
    knobs()->change_msg = "no memory is left";
    json = poll(id); /* held until then */
    assert_string_equal(text_of(json, "error"), "no memory is left");
    json_decref(json);
    knobs()->wake_ms = 700; /* longer than it is held */
    json = poll(id);
    assert_true(flag(json, "waking") && flag(json, "running"));
    json_decref(json);
    run_for(&fix->loop, 400);
    knobs()->wake_ms = 0;
    json = poll(id); /* told once */
    assert_string_equal(text_of(json, "error"), "no memory is left");
    json_decref(json);
    knobs()->wake_code = 0;
    json = poll(id);
    assert_null(json_object_get(json, "waking"));
    json_decref(json);
    for (json = poll(id); flag(json, "running"); json = poll(id)) {
        json_decref(json);
        run_for(&fix->loop, 10);
    }
    assert_string_equal(text_of(json, "stdout"), "part");
    json_decref(json);
    assert_int_equal(wakes(), 3);
    call_fails(404, "exec session not found", "GET /api/sandboxes/%s/exec/nosuch/result", NULL);
}

/* Several polls are held by one wake, one of whose clients leaves. */
static void test_polls_are_held(void **state)
{
    struct client clients[3];
    struct reply reply;
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_ms = 300;
    start_cold(id);
    for (size_t i = 0; i < 3; i++) {
        client_open(&clients[i], &fix->loop, fix->port);
        client_text(&clients[i],
                    "GET /api/sandboxes/%s/exec/%s/result HTTP/1.1\r\nHost: x\r\n"
                    "X-API-Key: %s\r\n\r\n",
                    fix->id, id, fix->key);
    }
    run_for(&fix->loop, 100);
    client_close(&clients[1]);
    for (size_t i = 0; i < 3; i += 2) {
        assert_true(client_reply(&clients[i], &reply));
        assert_int_equal(reply.status, 200);
        assert_non_null(strstr((char *)reply.body, "\"stdout\":\"cold\\n\""));
        reply_release(&reply);
        client_close(&clients[i]);
    }
    assert_int_equal(wakes(), 1);
}

/* Polls that are held when the server closes leave nothing behind. */
static void test_close_with_held_polls(void **state)
{
    struct client client;
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_ms = 200;
    start_cold(id);
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/exec/%s/result HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n\r\n",
                fix->id, id, fix->key);
    run_for(&fix->loop, 50);
    client_close(&client);
}

/* A poll that is being held when the sandbox is hibernated. */
static void test_poll_under_hibernation(void **state)
{
    json_t *json = call(202, "POST /api/sandboxes/%s/exec/run-async", "{\"cmd\":\"sleep 60000\"}");
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/exec/%s/result HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n\r\n",
                fix->id, text_of(json, "execId"), fix->key);
    json_decref(json);
    while (fake_sandbox_holds(fixture_sandbox()) == 0) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    hibernate();
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr((char *)reply.body, "\"running\":true,\"waking\":true"));
    reply_release(&reply);
    client_close(&client);
}

/* Commands that wait when the server closes leave nothing behind (the sanitizer looks). */
static void test_close_with_waiting_commands(void **state)
{
    char id[64];

    (void)state;
    hibernate();
    knobs()->wake_ms = 5;
    start_cold(id);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_run_async_answers_before_the_wake),
        TEST(test_run_async_of_a_wake_that_fails),
        TEST(test_run_async_failures_are_bounded),
        TEST(test_run_async_start_that_fails),
        TEST(test_run_async_of_a_sandbox_that_is_killed),
        TEST(test_poll_wakes),
        TEST(test_polls_are_held),
        TEST(test_close_with_held_polls),
        TEST(test_poll_under_hibernation),
        TEST(test_close_with_waiting_commands),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
