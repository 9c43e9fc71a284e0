/* Credentials, routes and sandboxes over HTTP: contract tests 1 to 16. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/api/token.h"
#include "tests/node/api/fixture.h"

static int status_as(const char *credentials, const char *target)
{
    struct reply reply;
    int status;

    json_decref(api_as(credentials, target, NULL, &reply));
    status = reply.status;
    if (status >= 400) {
        check_envelope(&reply, status);
    }
    reply_release(&reply);
    return status;
}

static int status_with(const char *prefix, const char *secret, const char *target)
{
    char *header = NULL;
    int status;

    assert_true(asprintf(&header, "%s%s", prefix, secret) > 0);
    status = status_as(header, target);
    free(header);
    return status;
}

static void test_api_credentials(void **state)
{
    char target[4096];

    (void)state;
    assert_int_equal(status_as("", "GET /api/workers"), 401);
    assert_int_equal(status_as("X-API-Key:", "GET /api/workers"), 401);
    assert_int_equal(status_as("X-API-Key: osb_0123", "GET /api/workers"), 401);
    assert_int_equal(status_as("X-API-Key: a.b.c", "GET /api/workers"), 401);
    assert_int_equal(status_with("Authorization: Bearer ", fix->key, "GET /api/workers"), 401);
    assert_int_equal(status_with("Authorization: Basic ", fix->key, "GET /api/workers"), 401);
    assert_int_equal(status_with("X-API-Key: ", fix->key, "GET /api/workers"), 200);
    (void)snprintf(target, sizeof(target), "GET /api/workers?api_key=%s", fix->key);
    assert_int_equal(status_as("", target), 200);
    (void)snprintf(target, sizeof(target), "GET /api/workers?token=%s", fix->key);
    assert_int_equal(status_as("", target), 401);
}

static void test_api_sandbox_token_in_every_slot(void **state)
{
    char mine[4096];
    char other[4096];
    char other_id[NODE_SANDBOX_ID_SIZE];
    char token[2048];

    (void)state;
    memcpy(token, fix->token, sizeof(token));
    create_sandbox("{}", other_id);
    (void)snprintf(mine, sizeof(mine), "GET /api/sandboxes/%s/exec", fix->id);
    (void)snprintf(other, sizeof(other), "GET /api/sandboxes/%s/exec", other_id);
    assert_int_equal(status_with("Authorization: Bearer ", token, mine), 200);
    assert_int_equal(status_with("X-API-Key: ", token, mine), 200);
    assert_int_equal(status_with("Authorization: Bearer ", token, other), 403);
    assert_int_equal(status_with("X-API-Key: ", token, other), 403);
    assert_int_equal(status_with("X-API-Key: ", token, "GET /api/sandboxes"), 403);
    (void)snprintf(mine, sizeof(mine), "GET /sandboxes/%s/exec?api_key=%s", fix->id, token);
    assert_int_equal(status_as("", mine), 200);
    (void)snprintf(mine, sizeof(mine), "GET /sandboxes/%s/exec?token=%s", fix->id, token);
    assert_int_equal(status_as("", mine), 200);
    (void)snprintf(mine, sizeof(mine), "DELETE /api/sandboxes/%s", fix->id);
    assert_int_equal(status_with("X-API-Key: ", token, mine), 403);
    /* A bit of the signature turned. */
    token[strlen(token) - 2] ^= 1;
    (void)snprintf(mine, sizeof(mine), "GET /api/sandboxes/%s/exec", fix->id);
    assert_int_equal(status_with("Authorization: Bearer ", token, mine), 401);
}

static void test_api_foreign_objects_do_not_exist(void **state)
{
    static const char *const targets[] = {
        "GET /api/sandboxes/%s",
        "DELETE /api/sandboxes/%s",
        "POST /api/sandboxes/%s/timeout",
        "POST /api/sandboxes/%s/exec/run",
        "POST /api/sandboxes/%s/exec/run-async",
        "GET /api/sandboxes/%s/exec",
        "GET /api/sandboxes/%s/exec/abc/result",
        "GET /api/sandboxes/%s/files?path=/a",
        "PUT /api/sandboxes/%s/files?path=/a",
        "GET /api/sandboxes/%s/files/list",
    };
    char header[128];
    struct reply reply;
    json_t *json;

    (void)state;
    (void)snprintf(header, sizeof(header), "X-API-Key: %s", fix->other_key);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        char *target = expand(targets[i]);

        assert_int_equal(status_as(header, target), 404);
        free(target);
    }
    json = api_as(header, "GET /api/sandboxes", NULL, &reply);
    assert_int_equal(json_array_size(json), 0);
    assert_string_equal((char *)reply.body, "[]");
    json_decref(json);
    reply_release(&reply);
}

static void test_api_health_needs_no_key(void **state)
{
    struct reply reply;

    (void)state;
    json_decref(api_as("", "GET /health", NULL, &reply));
    assert_string_equal((char *)reply.body, "{\"status\":\"ok\"}");
    reply_release(&reply);
    json_decref(api_as("", "GET /healthz", NULL, &reply));
    assert_string_equal((char *)reply.body, "{\"status\":\"alive\"}");
    reply_release(&reply);
    json_decref(api_as("", "GET /readyz", NULL, &reply));
    assert_int_equal(reply.status, 200);
    reply_release(&reply);
    assert_int_equal(status_as("", "GET /api/health"), 404);
}

static void test_api_routes_and_methods(void **state)
{
    struct reply reply;
    char buf[128];

    (void)state;
    assert_int_equal(status_as("", "GET /api/x"), 404);
    assert_int_equal(status_as("", "GET /"), 404);
    assert_int_equal(status_as("", "GET /sandboxes"), 404); /* not a data-plane route */
    assert_int_equal(status_as("", "PATCH /api/sandboxes"), 405);
    assert_int_equal(status_as("", "BREW /api/sandboxes"), 405);
    assert_int_equal(status_as("", "GET /api/sandboxes/x/exec/run"), 405);
    assert_int_equal(status_as("", "POST /healthz"), 405);
    json_decref(api_as("", "DELETE /api/sandboxes", NULL, &reply));
    assert_string_equal(reply_header(&reply, "Allow", buf, sizeof(buf)), "POST, GET, HEAD");
    reply_release(&reply);
    json_decref(api_as("", "HEAD /healthz", NULL, &reply));
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body_len, 0);
    reply_release(&reply);
    json_decref(api_as("Origin: http://x", "OPTIONS /api/sandboxes/x/files", NULL, &reply));
    assert_int_equal(reply.status, 204);
    assert_non_null(strstr(reply_header(&reply, "Access-Control-Allow-Headers", buf, sizeof(buf)),
                           "X-API-Key"));
    reply_release(&reply);
}

/* Every route with a body, and bodies that are wrong in every way. */
static void test_api_malformed_bodies_are_400(void **state)
{
    static const char *const targets[] = {
        "POST /api/sandboxes",
        "POST /api/sandboxes/%s/timeout",
        "POST /api/sandboxes/%s/exec/run",
        "POST /api/sandboxes/%s/exec/run-async",
        "POST /api/sandboxes/%s/exec",
        "POST /api/sandboxes/%s/exec/abc/kill",
    };
    static const char *const bodies[] = {
        "{",
        "nope",
        "[]",
        "1",
        "null",
        "\"text\"",
        "{\"a\":1}x",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\xff\"}",
        "{'a':1}",
        "{\"a\":1e999999}",
    };
    char deep[600];

    (void)state;
    memset(deep, '[', 300);
    deep[300] = '\0';
    for (size_t i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        for (size_t j = 0; j < SHL_ARRAY_SIZE(bodies); j++) {
            call_fails(400, "", targets[i], bodies[j]);
        }
        call_fails(400, "nested", targets[i], deep);
    }
}

static void test_api_wrong_types_and_sizes_are_400(void **state)
{
    static const struct {
        const char *target;
        const char *body;
        const char *part;
    } rows[] = {
        {"POST /api/sandboxes", "{\"cpuCount\":64}", "cpuCount must be between 1 and 4"},
        {"POST /api/sandboxes", "{\"cpuCount\":0}", "cpuCount"},
        {"POST /api/sandboxes", "{\"cpuCount\":1.5}", "cpuCount must be a whole number"},
        {"POST /api/sandboxes", "{\"cpuCount\":\"2\"}", "cpuCount"},
        {"POST /api/sandboxes", "{\"memoryMB\":1000000}", "memoryMB must be between 512"},
        {"POST /api/sandboxes", "{\"memoryMB\":1}", "memoryMB"},
        {"POST /api/sandboxes", "{\"diskMB\":1}", "diskMB must be between 20480"},
        {"POST /api/sandboxes", "{\"diskMB\":262145}", "diskMB"},
        {"POST /api/sandboxes", "{\"timeout\":-1}", "timeout"},
        {"POST /api/sandboxes", "{\"timeout\":true}", "timeout"},
        {"POST /api/sandboxes", "{\"templateID\":7}", "templateID must be a string"},
        {"POST /api/sandboxes", "{\"envs\":[]}", "envs"},
        {"POST /api/sandboxes", "{\"envs\":{\"A\":1}}", "envs"},
        {"POST /api/sandboxes", "{\"envs\":{\"A=B\":\"c\"}}", "envs"},
        {"POST /api/sandboxes", "{\"envs\":{\"\":\"c\"}}", "envs"},
        {"POST /api/sandboxes", "{\"metadata\":{\"A\":null}}", "metadata"},
        {"POST /api/sandboxes", "{\"secretStore\":\"s1\"}", "secret store not found: s1"},
        {"POST /api/sandboxes", "{\"image\":{},\"snapshot\":\"s\"}", "exclude each other"},
        {"POST /api/sandboxes/%s/timeout", "{}", "timeout is required"},
        {"POST /api/sandboxes/%s/timeout", "", "timeout is required"},
        {"POST /api/sandboxes/%s/timeout", "{\"timeout\":-1}", "timeout"},
        {"POST /api/sandboxes/%s/timeout", "{\"timeout\":\"5\"}", "timeout"},
        {"POST /api/sandboxes/%s/exec/run", "{}", "cmd is required"},
        {"POST /api/sandboxes/%s/exec/run", "", "cmd is required"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"\"}", "cmd is required"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":5}", "cmd must be a string"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"args\":\"b\"}", "args"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"args\":[1]}", "args"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"envs\":{\"A\":1}}", "envs"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"cwd\":1}", "cwd"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"timeout\":-5}", "timeout"},
        {"POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"a\",\"timeout\":86401}", "timeout"},
        {"POST /api/sandboxes/%s/exec", "{\"cmd\":\"a\",\"maxRunAfterDisconnect\":-1}", "max"},
        {"POST /api/sandboxes/%s/exec/abc/kill", "{\"signal\":0}", "signal"},
        {"POST /api/sandboxes/%s/exec/abc/kill", "{\"signal\":65}", "signal"},
        {"POST /api/sandboxes/%s/exec/abc/kill", "{\"signal\":\"TERM\"}", "signal"},
        {"GET /api/sandboxes?limit=0", NULL, "limit"},
        {"GET /api/sandboxes?limit=501", NULL, "limit"},
        {"GET /api/sandboxes?limit=x", NULL, "limit"},
        {"GET /api/sandboxes?status=odd", NULL, "status"},
        {"GET /api/sandboxes/%s/files", NULL, "path is required"},
        {"GET /api/sandboxes/%s/files?path=", NULL, "path is required"},
        {"PUT /api/sandboxes/%s/files", "x", "path is required"},
        {"DELETE /api/sandboxes/%s/files", NULL, "path is required"},
        {"DELETE /api/sandboxes/%s/files?path=/", NULL, "root folder"},
        {"DELETE /api/sandboxes/%s/files?path=/tmp/../../", NULL, "root folder"},
        {"DELETE /api/sandboxes/%s/files?path=%2F%2F.%2F", NULL, "root folder"},
        {"POST /api/sandboxes/%s/files/mkdir", "", "path is required"},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        call_fails(400, rows[i].part, rows[i].target, rows[i].body);
    }
}

static void test_api_create_defaults(void **state)
{
    json_t *json = call(201, "POST /api/sandboxes", "{}");
    char expected[128];

    (void)state;
    assert_int_equal(strncmp(text_of(json, "sandboxID"), "sb-", 3), 0);
    assert_int_equal(strspn(text_of(json, "sandboxID") + 3, "abcdefghijklmnopqrstuvwxyz0123456789"),
                     strlen(text_of(json, "sandboxID")) - 3);
    assert_string_equal(text_of(json, "status"), "running");
    assert_string_equal(text_of(json, "templateID"), "base");
    assert_string_equal(text_of(json, "sandboxDomain"), "sandboxes.test");
    assert_string_equal(text_of(json, "workerID"), "w-test");
    (void)snprintf(expected, sizeof(expected), "http://test:%u/api", fix->port);
    assert_string_equal(text_of(json, "connectURL"), expected);
    assert_true(node_token_looks_like(text_of(json, "token")));
    assert_int_equal(json_integer_value(json_object_get(json, "cpuCount")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "memoryMB")), 1024);
    assert_int_equal(json_integer_value(json_object_get(json, "diskMB")), 20480);
    assert_int_equal(strlen(text_of(json, "startedAt")), strlen("2026-01-01T00:00:00.000Z"));
    assert_int_equal(strlen(text_of(json, "endAt")), strlen("2026-01-01T00:00:00.000Z"));
    assert_true(json_is_object(json_object_get(json, "metadata")));
    assert_int_equal(fake_manager_last(fix->manager)->spec.timeout_s, 300);
    json_decref(json);
    json_decref(call(201, "POST /api/sandboxes", NULL)); /* no body at all */
}

static void test_api_create_fields(void **state)
{
    json_t *json = call(201, "POST /api/sandboxes",
                        "{\"templateID\":\"ubuntu\",\"timeout\":0,\"cpuCount\":2,\"memoryMB\":1024,"
                        "\"diskMB\":30000.0,\"envs\":{\"A\":\"1\",\"B\":\"\xc3\xa4=\"},"
                        "\"metadata\":{\"who\":\"me\"},\"burst\":true,\"unknown\":{\"x\":[1]},"
                        "\"alias\":\"y\",\"image\":null,\"networkEnabled\":true,\"webhooks\":[]}");
    struct node_sandbox *sandbox = fake_manager_last(fix->manager);

    (void)state;
    assert_int_equal(sandbox->spec.timeout_s, 0);
    assert_int_equal(sandbox->spec.cpus, 2);
    assert_int_equal(sandbox->spec.disk_mb, 30000);
    assert_int_equal(sandbox->spec.envs.count, 2);
    assert_string_equal(sandbox->spec.template_name, "base");
    assert_null(json_object_get(json, "endAt"));
    assert_string_equal(text_of(json_object_get(json, "metadata"), "who"), "me");
    json_decref(json);
}

static void test_api_create_refusals(void **state)
{
    struct fake_manager_knobs *knobs = fake_manager_knobs(fix->manager);
    struct reply reply;
    char buf[64];
    json_t *json;

    (void)state;
    call_fails(404, "template not found: nope", "POST /api/sandboxes", "{\"templateID\":\"nope\"}");
    call_fails(404, "template not found: ../x", "POST /api/sandboxes", "{\"templateID\":\"../x\"}");
    call_fails(400, "unknown step type", "POST /api/sandboxes",
               "{\"image\":{\"steps\":[{\"type\":\"x\"}]}}");
    call_fails(404, "snapshot \"s\" not found", "POST /api/sandboxes", "{\"snapshot\":\"s\"}");
    call_fails(501, "not available yet", "POST /api/sandboxes", "{\"networkEnabled\":false}");

    knobs->refuse_code = SHL_EQUOTA;
    knobs->refuse_msg = "the node runs as many sandboxes as it may";
    json = api("POST /api/sandboxes", "{}", &reply);
    check_envelope(&reply, 429);
    assert_int_equal(json_integer_value(json_object_get(json, "active")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "limit")), 1);
    json_decref(json);
    reply_release(&reply);

    knobs->refuse_code = SHL_ENOCAPACITY;
    json = api("POST /api/sandboxes", "{}", &reply);
    check_envelope(&reply, 503);
    assert_string_equal(text_of(json, "code"), "worker_unavailable");
    assert_string_equal(reply_header(&reply, "Retry-After", buf, sizeof(buf)), "2");
    json_decref(json);
    reply_release(&reply);

    knobs->refuse_code = 0;
    knobs->create_code = SHL_EGUEST;
    knobs->create_msg = "the guest did not start: kernel panic";
    call_fails(502, "kernel panic", "POST /api/sandboxes", "{}");
}

/* The client gives up while the sandbox starts: the create goes on, nothing is left over. */
static void test_api_client_leaves_during_create(void **state)
{
    struct client client;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 2\r\n\r\n{}",
                fix->key);
    run_for(&fix->loop, 1);
    client_close(&client);
    run_for(&fix->loop, 20);
    assert_int_equal(fake_manager_last(fix->manager)->state, NODE_SANDBOX_RUNNING);
}

static void test_api_get_list_kill(void **state)
{
    char id[NODE_SANDBOX_ID_SIZE];
    json_t *json;
    char target[128];

    (void)state;
    create_sandbox("{\"metadata\":{\"n\":\"2\"}}", id);
    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_string_equal(text_of(json, "sandboxID"), fix->id);
    assert_true(json_is_object(json_object_get(json, "tags")));
    assert_true(json_is_null(json_object_get(json, "tagsLastUpdatedAt")));
    assert_string_equal(text_of(json, "template"), "base");
    json_decref(json);

    json = call(200, "GET /api/sandboxes", NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 0), "sandboxID"), id); /* newest first */
    json_decref(json);
    json = call(200, "GET /api/sandboxes?limit=1", NULL);
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);

    json_decref(call(204, "DELETE /api/sandboxes/%s", NULL));
    json_decref(call(204, "DELETE /api/sandboxes/%s", NULL));
    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_string_equal(text_of(json, "status"), "stopped");
    json_decref(json);
    json = call(200, "GET /api/sandboxes", NULL);
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);
    json = call(200, "GET /api/sandboxes?status=stopped", NULL);
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);
    call_fails(410, "has stopped", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");
    call_fails(410, "has stopped", "GET /api/sandboxes/%s/files?path=/a", NULL);
    call_fails(410, "has stopped", "GET /api/sandboxes/%s/exec/abc/result", NULL);

    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s", "sb-00000000");
    call_fails(404, "sandbox not found", target, NULL);
    call_fails(404, "sandbox not found", "DELETE /api/sandboxes/sb-00000000", NULL);
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/timeout",
               "{\"timeout\":5}");
    call_fails(404, "sandbox not found", "POST /api/sandboxes/..%2f..%2fetc/timeout", "{}");
}

static void test_api_error_state_tells_the_reason(void **state)
{
    json_t *json;

    (void)state;
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_ERROR, "the guest kernel panicked");
    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_string_equal(text_of(json, "status"), "error");
    assert_string_equal(text_of(json, "reason"), "the guest kernel panicked");
    json_decref(json);
    call_fails(410, "kernel panicked", "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}");
}

static void test_api_timeout(void **state)
{
    unsigned touches = fake_sandbox_touches(fixture_sandbox());

    (void)state;
    json_decref(call(204, "POST /api/sandboxes/%s/timeout", "{\"timeout\":77}"));
    assert_int_equal(fixture_sandbox()->spec.timeout_s, 77);
    json_decref(call(204, "POST /api/sandboxes/%s/timeout", "{\"timeout\":0}"));
    assert_int_equal(fixture_sandbox()->spec.timeout_s, 0);
    json_decref(call(200, "GET /api/sandboxes/%s", NULL));
    assert_int_equal(fake_sandbox_touches(fixture_sandbox()), touches); /* no activity */
    fake_manager_knobs(fix->manager)->timeout_code = SHL_EGONE;
    call_fails(410, "", "POST /api/sandboxes/%s/timeout", "{\"timeout\":5}");
}

static void test_api_origin(void **state)
{
    char header[256];
    struct reply reply;
    json_t *json;

    (void)state;
    (void)snprintf(header, sizeof(header),
                   "X-API-Key: %s\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: box.example",
                   fix->key);
    json = api_as(header, "GET /api/sandboxes", NULL, &reply);
    assert_string_equal(text_of(json_array_get(json, 0), "connectURL"), "https://box.example/api");
    json_decref(json);
    reply_release(&reply);
    (void)snprintf(header, sizeof(header), "X-API-Key: %s\r\nX-Forwarded-Host: evil/\"path",
                   fix->key);
    json = api_as(header, "GET /api/sandboxes", NULL, &reply);
    assert_int_equal(strncmp(text_of(json_array_get(json, 0), "connectURL"), "http://test:", 12),
                     0);
    json_decref(json);
    reply_release(&reply);
}

static void test_api_accept_header_is_ignored(void **state)
{
    char header[256];
    char target[128];
    struct reply reply;

    (void)state;
    (void)snprintf(header, sizeof(header), "X-API-Key: %s\r\nAccept: text/event-stream", fix->key);
    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s", fix->id);
    json_decref(api_as(header, target, NULL, &reply));
    assert_int_equal(reply.status, 200);
    reply_release(&reply);
    json_decref(api_as(header, "POST /api/sandboxes", "{}", &reply));
    assert_int_equal(reply.status, 201);
    reply_release(&reply);
    json_decref(api_as(header, "POST /api/sandboxes", "{\"image\":[]}", &reply));
    check_envelope(&reply, 400); /* a real status, before any stream */
    reply_release(&reply);
}

static void test_api_workers_metrics_debug(void **state)
{
    char header[128];
    struct reply reply;
    json_t *json = call(200, "GET /api/workers", NULL);

    (void)state;
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(text_of(json_array_get(json, 0), "worker_id"), "w-test");
    assert_true(json_is_false(json_object_get(json_array_get(json, 0), "draining")));
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(json, 0), "total_memory_mb")), 8192);
    json_decref(json);

    json_decref(api_as("", "GET /metrics", NULL, &reply));
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr((char *)reply.body, "shoal_sandboxes{state=\"running\"} 1\n"));
    assert_non_null(strstr((char *)reply.body, "shoal_http_requests_total{class=\"2xx\"}"));
    assert_non_null(strstr((char *)reply.body, "shoal_build_info{version=\""));
    reply_release(&reply);

    json = call(200, "GET /debug/state", NULL);
    assert_int_equal(json_array_size(json_object_get(json, "calls")), 1); /* this one */
    json_decref(json);
    (void)snprintf(header, sizeof(header), "X-API-Key: %s", fix->other_key);
    assert_int_equal(status_as(header, "GET /debug/state"), 403);
    assert_int_equal(status_as("", "GET /debug/state"), 401);
}

/* Keys and tokens below HTTP */

static void test_api_keys_are_stored_hashed(void **state)
{
    struct node_key_info info;
    struct shl_err err = {0};
    char key[NODE_KEY_SIZE];

    (void)state;
    assert_false(fake_store_contains(fix->store, fix->key));
    assert_false(fake_store_contains(fix->store, fix->key + strlen(NODE_KEY_PREFIX) + 8));
    assert_int_equal(node_keys_ensure_first(fix->store, key, &err), 0);
    assert_int_equal(node_keys_check(fix->store, fix->key, 1, &info, &err), 0);
    assert_true(info.admin);
    assert_string_equal(info.org, NODE_ORG_FIRST);
    assert_int_equal(strncmp(fix->key, info.display, strlen(info.display)), 0);

    assert_int_equal(node_keys_create(fix->store, "o", false, 5000, key, &err), 0);
    assert_int_equal(node_keys_check(fix->store, key, 4999, &info, &err), 0);
    assert_int_equal(node_keys_check(fix->store, key, 5000, &info, &err), SHL_EAUTH);
    assert_non_null(strstr(err.msg, "expired"));
    assert_null(strstr(err.msg, key));
}

static void test_api_tokens(void **state)
{
    struct node_token token = {.org = "org-a", .sandbox_id = "sb-12345678"};
    struct node_token got;
    struct node_token_key key = {{1}};
    struct node_token_key other = {{2}};
    const int64_t now_s = 1700000000;
    char *text = node_token_make(&key, &token, now_s);

    (void)state;
    assert_int_equal(node_token_check(&key, text, now_s, &got), 0);
    assert_string_equal(got.org, "org-a");
    assert_string_equal(got.sandbox_id, "sb-12345678");
    assert_int_equal(node_token_check(&other, text, now_s, &got), SHL_EAUTH);
    assert_int_equal(node_token_check(&key, text, now_s + NODE_TOKEN_LIFETIME_S, &got), SHL_EAUTH);
    assert_int_equal(node_token_check(&key, text, now_s + NODE_TOKEN_LIFETIME_S - 1, &got), 0);
    for (size_t i = 0; i < strlen(text); i++) { /* no byte may change */
        char *changed = strdup(text);

        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        assert_int_equal(node_token_check(&key, changed, now_s, &got), SHL_EAUTH);
        changed[i] = '\0';
        assert_int_equal(node_token_check(&key, changed, now_s, &got), SHL_EAUTH);
        free(changed);
    }
    /* "alg":"none" and friends */
    assert_int_equal(node_token_check(&key, "eyJhbGciOiJub25lIn0.e30.", now_s, &got), SHL_EAUTH);
    assert_int_equal(node_token_check(&key, "..", now_s, &got), SHL_EAUTH);
    assert_int_equal(node_token_check(&key, "", now_s, &got), SHL_EAUTH);
    free(text);
}

/* The signing key survives a restart, so do tokens. */
static void test_api_token_key_is_kept(void **state)
{
    struct node_token_key first;
    struct node_token_key second;
    struct shl_err err = {0};

    (void)state;
    assert_int_equal(node_token_key_load(fix->store, &first, &err), 0);
    assert_int_equal(node_token_key_load(fix->store, &second, &err), 0);
    assert_memory_equal(&first, &second, sizeof(first));
    assert_int_equal(node_store_put(fix->store, "secret", "token-key", shl_bytes_of("x", 1), &err),
                     0);
    assert_int_equal(node_token_key_load(fix->store, &second, &err), SHL_ECORRUPT);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_api_credentials),
        TEST(test_api_sandbox_token_in_every_slot),
        TEST(test_api_foreign_objects_do_not_exist),
        TEST(test_api_health_needs_no_key),
        TEST(test_api_routes_and_methods),
        TEST(test_api_malformed_bodies_are_400),
        TEST(test_api_wrong_types_and_sizes_are_400),
        TEST(test_api_create_defaults),
        TEST(test_api_create_fields),
        TEST(test_api_create_refusals),
        TEST(test_api_client_leaves_during_create),
        TEST(test_api_get_list_kill),
        TEST(test_api_error_state_tells_the_reason),
        TEST(test_api_timeout),
        TEST(test_api_origin),
        TEST(test_api_accept_header_is_ignored),
        TEST(test_api_workers_metrics_debug),
        TEST(test_api_keys_are_stored_hashed),
        TEST(test_api_tokens),
        TEST(test_api_token_key_is_kept),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
