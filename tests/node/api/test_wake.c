/* Calls on sandboxes that do not run: contract tests 19 to 22. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/api/fixture.h"

#define ASYNC_WAKE "X-OSB-Async-Wake: 1"

/* Hibernate and wake */

static void test_hibernate_and_wake(void **state)
{
    json_t *json = call(200, "POST /api/sandboxes/%s/hibernate", "");

    (void)state;
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    assert_string_equal(text_of(json, "sandboxId"), fix->id);
    assert_string_equal(text_of(json, "status"), "hibernated");
    assert_true(strlen(text_of(json, "hibernationKey")) > 0);
    assert_int_equal(json_integer_value(json_object_get(json, "sizeBytes")), 123456);
    json_decref(json);
    hibernate(); /* again is fine */

    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_string_equal(text_of(json, "status"), "hibernated");
    assert_null(json_object_get(json, "workerID"));
    assert_null(json_object_get(json, "endAt"));
    assert_true(strlen(text_of(json, "token")) > 0);
    assert_true(strlen(text_of(json, "connectURL")) > 0);
    json_decref(json);

    json = call(200, "POST /api/sandboxes/%s/wake", NULL);
    assert_string_equal(text_of(json, "status"), "running");
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    assert_string_equal(text_of(json, "workerID"), "w-test");
    assert_true(strlen(text_of(json, "token")) > 0);
    assert_true(strlen(text_of(json, "sandboxDomain")) > 0);
    assert_int_equal(json_integer_value(json_object_get(json, "timeout")), 300);
    json_decref(json);
    json = call(200, "POST /api/sandboxes/%s/wake", "{}"); /* running already */
    assert_string_equal(text_of(json, "status"), "running");
    json_decref(json);
    assert_int_equal(wakes(), 1);
}

/* Users are told that processes were lost. */
static void test_cold_wake_is_told(void **state)
{
    json_t *json = call(200, "POST /api/sandboxes/%s/wake", NULL);

    (void)state;
    assert_null(json_object_get(json, "coldWoken"));
    json_decref(json);
    hibernate();
    fixture_sandbox()->cold_woken = true;
    json = call(200, "POST /api/sandboxes/%s/wake", NULL);
    assert_true(json_is_true(json_object_get(json, "coldWoken")));
    json_decref(json);
}

static void test_wake_sets_the_timeout(void **state)
{
    (void)state;
    hibernate();
    json_decref(call(200, "POST /api/sandboxes/%s/wake", "{\"timeout\":77}"));
    assert_int_equal(fixture_sandbox()->spec.timeout_s, 77);
    hibernate();
    json_decref(call(200, "POST /api/sandboxes/%s/wake", "{\"timeout\":null}"));
    assert_int_equal(fixture_sandbox()->spec.timeout_s, 77);
    json_decref(call(200, "POST /api/sandboxes/%s/wake", "{\"timeout\":0}"));
    assert_int_equal(fixture_sandbox()->spec.timeout_s, 0);
    hibernate();
    call_fails(400, "timeout must be between", "POST /api/sandboxes/%s/wake", "{\"timeout\":-1}");
    call_fails(400, "timeout must be a whole", "POST /api/sandboxes/%s/wake",
               "{\"timeout\":\"5\"}");
    call_fails(400, "not valid JSON", "POST /api/sandboxes/%s/wake", "{");
    assert_int_equal(wakes(), 2);
}

static void test_changes_of_state_that_fail(void **state)
{
    struct reply reply;
    char buf[64];
    char *target;
    json_t *json;

    (void)state;
    knobs()->change_msg = "the disk of the node is full";
    knobs()->hibernate_code = -ENOSPC;
    call_fails(507, "disk of the node", "POST /api/sandboxes/%s/hibernate", NULL);
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));
    knobs()->hibernate_code = 0;
    hibernate();
    knobs()->change_msg = "no memory is left on this node";
    knobs()->wake_code = SHL_ENOCAPACITY;
    target = expand("POST /api/sandboxes/%s/wake");
    json = api(target, NULL, &reply);
    check_envelope(&reply, 503);
    assert_string_equal(text_of(json, "code"), "worker_unavailable");
    assert_string_equal(reply_header(&reply, "Retry-After", buf, sizeof(buf)), "2");
    json_decref(json);
    reply_release(&reply);
    free(target);
    call_fails(503, "no memory is left", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");
    call_fails(503, "no memory is left", "GET /api/sandboxes/%s/files?path=/a", NULL);
    knobs()->wake_code = SHL_EINCOMPATIBLE;
    call_fails(409, "no memory is left", "POST /api/sandboxes/%s/wake", NULL);
    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_string_equal(text_of(json, "status"), "hibernated");
    json_decref(json);
    call_fails(400, "sandbox is not running", "POST /api/sandboxes/%s/reboot", NULL);
    knobs()->wake_code = 0;
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));
    knobs()->reboot_code = SHL_EGUEST;
    call_fails(502, "", "POST /api/sandboxes/%s/reboot", NULL);
}

static void test_ended_sandboxes_do_not_change(void **state)
{
    static const char *const targets[] = {"POST /api/sandboxes/%s/hibernate",
                                          "POST /api/sandboxes/%s/wake",
                                          "POST /api/sandboxes/%s/reboot",
                                          "POST /api/sandboxes/%s/power-cycle",
                                          "POST /api/sandboxes/%s/checkpoints"};

    (void)state;
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_ERROR, "the guest kernel panicked");
    for (size_t i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        call_fails(400, "sandbox is not running", targets[i], "{\"name\":\"a\"}");
        call_fails(400, "kernel panicked", targets[i], "{\"name\":\"a\"}");
    }
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/hibernate", NULL);
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/wake", NULL);
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/reboot", NULL);
}

static void test_reboot_and_power_cycle(void **state)
{
    (void)state;
    json_decref(call(204, "POST /api/sandboxes/%s/reboot", NULL));
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));
    json_decref(call(204, "POST /api/sandboxes/%s/power-cycle", "{}"));
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));
    assert_int_equal(wakes(), 0);
}

static void test_list_has_hibernated_ones(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    json_t *json;

    (void)state;
    hibernate();
    create_sandbox("{}", id);
    json = call(200, "GET /api/sandboxes", NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 0), "sandboxID"), id);
    assert_string_equal(text_of(json_array_get(json, 1), "status"), "hibernated");
    json_decref(json);
    json = call(200, "GET /api/sandboxes?status=hibernated", NULL);
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(text_of(json_array_get(json, 0), "sandboxID"), fix->id);
    json_decref(json);
    json = call(200, "GET /api/sandboxes?status=running", NULL);
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(text_of(json_array_get(json, 0), "sandboxID"), id);
    json_decref(json);
}

/* Waking by use */

static void test_every_data_call_wakes(void **state)
{
    static const struct {
        int status;
        const char *target;
        const char *body;
    } calls[] = {
        {200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"},
        {201, "POST /api/sandboxes/%s/exec", "{\"cmd\":\"true\"}"},
        {200, "GET /api/sandboxes/%s/exec", NULL},
        {404, "POST /api/sandboxes/%s/exec/abc/kill", "{}"},
        {204, "PUT /api/sandboxes/%s/files?path=/new", "text"},
        {200, "GET /api/sandboxes/%s/files?path=/new", NULL},
        {204, "PUT /api/sandboxes/%s/files?path=/empty", ""},
        {200, "GET /api/sandboxes/%s/files?path=/empty", NULL},
        {404, "GET /api/sandboxes/%s/files?path=/missing", NULL},
        {200, "GET /api/sandboxes/%s/files/list?path=/many/1", NULL},
        {204, "POST /api/sandboxes/%s/files/mkdir?path=/folder", NULL},
        {204, "DELETE /api/sandboxes/%s/files?path=/new", NULL},
        {200, "POST /sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(calls); i++) {
        unsigned touches;

        hibernate();
        touches = fake_sandbox_touches(fixture_sandbox());
        json_decref(call(calls[i].status, calls[i].target, calls[i].body));
        assert_int_equal(wakes(), i + 1);
        assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_RUNNING);
        assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
        assert_true(fake_sandbox_touches(fixture_sandbox()) > touches);
    }
}

/* What has nothing to do with the inside does not wake, neither does what is refused. */
static void test_metadata_and_bad_requests_do_not_wake(void **state)
{
    (void)state;
    hibernate();
    json_decref(call(200, "GET /api/sandboxes/%s", NULL));
    json_decref(call(200, "GET /api/sandboxes", NULL));
    json_decref(call(204, "POST /api/sandboxes/%s/timeout", "{\"timeout\":9}"));
    json_decref(call(200, "GET /api/sandboxes/%s/checkpoints", NULL));
    call_fails(400, "cmd is required", "POST /api/sandboxes/%s/exec/run", "{}");
    call_fails(400, "cmd is required", "POST /api/sandboxes/%s/exec/run-async", "{}");
    call_fails(400, "cmd is required", "POST /api/sandboxes/%s/exec", "{}");
    call_fails(400, "signal", "POST /api/sandboxes/%s/exec/abc/kill", "{\"signal\":0}");
    call_fails(400, "path is required", "GET /api/sandboxes/%s/files", NULL);
    call_fails(400, "path is required", "PUT /api/sandboxes/%s/files", "x");
    call_fails(400, "root folder", "DELETE /api/sandboxes/%s/files?path=/", NULL);
    call_fails(426, "WebSocket", "GET /api/sandboxes/%s/exec/abc", NULL);
    call_fails(400, "sandbox is not running", "POST /api/sandboxes/%s/checkpoints",
               "{\"name\":\"a\"}");
    assert_int_equal(wakes(), 0);
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_HIBERNATED);
}

#define CALLERS 8

static void send_run(struct client *client)
{
    client_open(client, &fix->loop, fix->port);
    client_text(client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 17\r\n\r\n{\"cmd\":\"echo hi\"}",
                fix->id, fix->key);
}

static void expect_hi(struct client *client)
{
    struct reply reply;

    assert_true(client_reply(client, &reply));
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr((char *)reply.body, "\"stdout\":\"hi\\n\""));
    reply_release(&reply);
    client_close(client);
}

static void test_callers_share_one_wake(void **state)
{
    struct client clients[CALLERS];

    (void)state;
    hibernate();
    knobs()->wake_ms = 100;
    for (size_t i = 0; i < CALLERS; i++) {
        send_run(&clients[i]);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        expect_hi(&clients[i]);
    }
    assert_int_equal(wakes(), 1);
}

/* Calls that come while it is being hibernated or restarted wait for what follows. */
static void test_calls_wait_for_changes_under_way(void **state)
{
    struct client client;

    (void)state;
    fake_agent_stats(fixture_sandbox()->agent); /* it has one */
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/hibernate HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 0\r\n\r\n",
                fix->id, fix->key);
    while (fixture_sandbox()->state == NODE_SANDBOX_RUNNING) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_HIBERNATING);
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));
    assert_int_equal(wakes(), 1);
    client_close(&client);

    knobs()->wake_ms = 100;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/reboot HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 0\r\n\r\n",
                fix->id, fix->key);
    while (fixture_sandbox()->state == NODE_SANDBOX_RUNNING) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_WAKING);
    json_decref(call(204, "PUT /api/sandboxes/%s/files?path=/new", "text"));
    client_close(&client);
}

static void test_client_leaves_while_it_wakes(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;
    unsigned opened = stats->opened;

    (void)state;
    hibernate();
    knobs()->wake_ms = 900; /* the padding shows that nobody is there */
    send_run(&client);
    while (fixture_sandbox()->state == NODE_SANDBOX_HIBERNATED) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    client_close(&client);
    run_for(&fix->loop, 1200);
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(stats->opened, opened); /* nothing was started for it */
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_kill_while_a_call_waits(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    hibernate();
    knobs()->wake_ms = 300;
    send_run(&client);
    while (fixture_sandbox()->state == NODE_SANDBOX_HIBERNATED) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    json_decref(call(204, "DELETE /api/sandboxes/%s", NULL));
    assert_true(client_reply(&client, &reply));
    check_envelope(&reply, 410);
    reply_release(&reply);
    client_close(&client);
}

/* A wake that takes long is padded like a command that does, and a failure then comes in
 * the form clients look for. */
static void test_long_wake_is_padded(void **state)
{
    struct client client;
    struct reply reply;
    json_t *json;

    (void)state;
    hibernate();
    knobs()->wake_ms = 1000;
    send_run(&client);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body[0], ' ');
    assert_non_null(strstr((char *)reply.body, "\"stdout\":\"hi\\n\""));
    reply_release(&reply);
    client_close(&client);

    hibernate();
    knobs()->wake_code = SHL_ENOCAPACITY;
    knobs()->change_msg = "no memory is left";
    send_run(&client);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "exitCode")), -1);
    assert_string_equal(text_of(json, "error"), "no memory is left");
    assert_string_equal(text_of(json, "stderr"), "no memory is left");
    json_decref(json);
    reply_release(&reply);
    client_close(&client);
}

/* The body of an upload waits in the connection. */
static void test_upload_to_a_hibernated_one(void **state)
{
    const size_t total = 3 * 1024 * 1024;
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    uint8_t *data = malloc(total);
    struct client client;
    struct reply reply;

    (void)state;
    for (size_t i = 0; i < total; i++) {
        data[i] = fake_pattern(i);
    }
    hibernate();
    knobs()->wake_ms = 200;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "PUT /api/sandboxes/%s/files?path=/pattern HTTP/1.1\r\nHost: x\r\n"
                "X-API-Key: %s\r\nContent-Length: %zu\r\n\r\n",
                fix->id, fix->key, total);
    client_send(&client, data, total);
    run_for(&fix->loop, 50);
    assert_int_equal(stats->written_bytes, 0);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 204);
    assert_int_equal(stats->written_bytes, total);
    assert_int_equal(stats->write_wrong_at, UINT64_MAX);
    reply_release(&reply);
    client_close(&client);
    free(data);
}

/* A run that is under way says so, and the command goes on later. */
static void test_run_under_hibernation(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/%s/exec/run HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 21\r\n\r\n{\"cmd\":\"sleep 60000\"}",
                fix->id, fix->key);
    while (fake_sandbox_holds(fixture_sandbox()) == 0) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    run_for(&fix->loop, 20);
    hibernate();
    assert_true(client_reply(&client, &reply));
    check_envelope(&reply, 503);
    assert_non_null(strstr((char *)reply.body, "hibernated while the command ran"));
    reply_release(&reply);
    client_close(&client);
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_HIBERNATED); /* and stays so */
}

/* Clients that do not want to wait */

static int status_async(const char *format, const char *body, struct reply *reply)
{
    char *target = expand(format);
    char header[256];

    (void)snprintf(header, sizeof(header), "X-API-Key: %s\r\n" ASYNC_WAKE, fix->key);
    json_decref(api_as(header, target, body, reply));
    free(target);
    return reply->status;
}

static void test_async_wake(void **state)
{
    struct reply reply;
    char buf[64];
    json_t *json;

    (void)state;
    json_decref(call(204, "PUT /api/sandboxes/%s/files?path=/new", "text"));
    assert_int_equal(status_async("GET /api/sandboxes/%s/files?path=/new", NULL, &reply), 200);
    reply_release(&reply); /* harmless on one that runs */
    hibernate();
    knobs()->wake_ms = 100;
    for (unsigned i = 0; i < 3; i++) { /* one wake for all of them */
        assert_int_equal(status_async(i == 2 ? "PUT /api/sandboxes/%s/files?path=/b"
                                             : "GET /api/sandboxes/%s/files?path=/new",
                                      i == 2 ? "body" : NULL, &reply),
                         503);
        json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
        assert_true(json_is_true(json_object_get(json, "waking")));
        assert_true(strlen(text_of(json, "error")) > 0);
        assert_string_equal(reply_header(&reply, "Retry-After", buf, sizeof(buf)), "1");
        json_decref(json);
        reply_release(&reply);
    }
    run_for(&fix->loop, 150);
    assert_int_equal(status_async("GET /api/sandboxes/%s/files?path=/new", NULL, &reply), 200);
    assert_string_equal((char *)reply.body, "text");
    reply_release(&reply);
    assert_int_equal(wakes(), 1);

    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    assert_int_equal(status_async("GET /api/sandboxes/%s/files?path=/new", NULL, &reply), 410);
    reply_release(&reply);
    assert_int_equal(status_async("GET /api/sandboxes/sb-0/files?path=/new", NULL, &reply), 404);
    reply_release(&reply);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_hibernate_and_wake),
        TEST(test_cold_wake_is_told),
        TEST(test_wake_sets_the_timeout),
        TEST(test_changes_of_state_that_fail),
        TEST(test_ended_sandboxes_do_not_change),
        TEST(test_reboot_and_power_cycle),
        TEST(test_list_has_hibernated_ones),
        TEST(test_every_data_call_wakes),
        TEST(test_metadata_and_bad_requests_do_not_wake),
        TEST(test_callers_share_one_wake),
        TEST(test_calls_wait_for_changes_under_way),
        TEST(test_client_leaves_while_it_wakes),
        TEST(test_kill_while_a_call_waits),
        TEST(test_long_wake_is_padded),
        TEST(test_upload_to_a_hibernated_one),
        TEST(test_run_under_hibernation),
        TEST(test_async_wake),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
