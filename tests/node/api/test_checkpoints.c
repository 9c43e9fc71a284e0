/* Checkpoints and forks over HTTP: contract tests 53 to 60 as far as the API decides. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "node/api/checkpoint_spec.h"
#include "tests/node/api/fixture.h"

#define NO_CHECKPOINT "00000000-0000-4000-8000-000000000000"

static int64_t number_of(json_t *json, const char *name)
{
    json_t *value = json_object_get(json, name);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

/* Makes one with @body and returns its id; it is ready a moment later. */
static void make(const char *body, char id[NODE_CHECKPOINT_ID_SIZE])
{
    json_t *json = call(201, "POST /api/sandboxes/%s/checkpoints", body);

    (void)snprintf(id, NODE_CHECKPOINT_ID_SIZE, "%s", text_of(json, "id"));
    json_decref(json);
    run_for(&fix->loop, 10);
}

/* @format with the checkpoint's id for CID. */
static char *target_of(const char *format, const char *id)
{
    char *target = NULL;
    const char *mark = strstr(format, "CID");

    assert_true(asprintf(&target, "%.*s%s%s", (int)(mark - format), format, id, mark + 3) > 0);
    return target;
}

static json_t *call_on(int status, const char *format, const char *id, const char *body)
{
    char *target = target_of(format, id);
    json_t *json = call(status, target, body);

    free(target);
    return json;
}

static void call_on_fails(int status,
                          const char *part,
                          const char *format,
                          const char *id,
                          const char *body)
{
    char *target = target_of(format, id);

    call_fails(status, part, target, body);
    free(target);
}

static void test_checkpoint_object(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    char box[NODE_SANDBOX_ID_SIZE];
    json_t *json;
    json_t *config;
    char *text;

    (void)state;
    create_sandbox("{\"envs\":{\"API_TOKEN\":\"very-secret\"},\"metadata\":{\"k\":\"v\"},"
                   "\"memoryMB\":2048,\"timeout\":9}",
                   box);
    memcpy(fix->id, box, sizeof(box));
    json = call(201, "POST /api/sandboxes/%s/checkpoints", "{\"name\":\"before\"}");
    (void)snprintf(id, sizeof(id), "%s", text_of(json, "id"));
    assert_true(node_is_uuid(id));
    assert_string_equal(text_of(json, "status"), "processing");
    assert_string_equal(text_of(json, "sandboxId"), box);
    assert_string_equal(text_of(json, "orgId"), NODE_ORG_FIRST);
    assert_string_equal(text_of(json, "name"), "before");
    assert_string_equal(text_of(json, "kind"), "full");
    assert_int_equal(number_of(json, "sizeBytes"), 0);
    assert_true(json_is_false(json_object_get(json, "isPublic")));
    assert_int_equal(strlen(text_of(json, "createdAt")), strlen("2026-01-01T00:00:00.000Z"));
    assert_null(json_object_get(json, "failedAt"));
    config = json_object_get(json, "sandboxConfig");
    assert_string_equal(text_of(config, "templateID"), "base");
    assert_int_equal(number_of(config, "memoryMB"), 2048);
    assert_string_equal(json_string_value(json_array_get(json_object_get(config, "envKeys"), 0)),
                        "API_TOKEN");
    assert_string_equal(text_of(json_object_get(config, "metadata"), "k"), "v");
    text = json_dumps(json, 0);
    assert_null(strstr(text, "very-secret"));
    free(text);
    json_decref(json);

    run_for(&fix->loop, 10);
    json = call(200, "GET /api/sandboxes/%s/checkpoints", NULL);
    assert_int_equal(json_array_size(json), 1);
    assert_string_equal(text_of(json_array_get(json, 0), "id"), id);
    assert_string_equal(text_of(json_array_get(json, 0), "status"), "ready");
    assert_true(number_of(json_array_get(json, 0), "sizeBytes") > 0);
    assert_true(strlen(text_of(json_array_get(json, 0), "rootfsS3Key")) > 0);
    assert_true(strlen(text_of(json_array_get(json, 0), "workspaceS3Key")) > 0);
    json_decref(json);
}

static void test_checkpoint_that_fails(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    json_t *json;

    (void)state;
    knobs()->makes_fail = true;
    make("{\"name\":\"a\"}", id);
    json = call(200, "GET /api/sandboxes/%s/checkpoints", NULL);
    assert_string_equal(text_of(json_array_get(json, 0), "status"), "failed");
    assert_string_equal(text_of(json_array_get(json, 0), "errorMsg"), "the disk is full");
    assert_true(strlen(text_of(json_array_get(json, 0), "failedAt")) > 0);
    json_decref(json);
    call_on_fails(400, "checkpoint not ready: it is failed: the disk is full",
                  "POST /api/sandboxes/%s/checkpoints/CID/restore", id, NULL);
    call_on_fails(400, "not ready", "POST /api/sandboxes/from-checkpoint/CID", id, "{}");
}

static void test_checkpoint_bad_bodies(void **state)
{
    static const struct {
        const char *body;
        const char *part;
    } rows[] = {
        {"", "name is required"},
        {"{}", "name is required"},
        {"{\"name\":\"\"}", "name is required"},
        {"{\"name\":null}", "name is required"},
        {"{\"name\":7}", "name must be a string"},
        {"{\"name\":\"a\\nb\"}", "control"},
        {"{\"name\":\"a\",\"kind\":\"half\"}", "kind must be full or disk_only"},
        {"{\"name\":\"a\",\"kind\":1}", "kind must be a string"},
        {"{\"name\":\"a\",\"promoteToFull\":1}", "promoteToFull must be true or false"},
        {"{\"name\":\"a\",\"promoteToFull\":true}", "promoteToFull"},
        {"{\"name\":\"a\",\"kind\":\"disk_only\",\"promoteToFull\":true}", "promoteToFull"},
        {"{\"name\":\"a\",\"retentionPolicy\":1}", "retentionPolicy must be an object"},
        {"{\"name\":\"a\",\"retentionPolicy\":{}}", "retentionPolicy.mode"},
        {"{\"name\":\"a\",\"retentionPolicy\":{\"mode\":\"x\"}}", "retentionPolicy.mode"},
        {"{\"name\":\"a\",\"retentionPolicy\":{\"mode\":1}}", "mode must be a string"},
        {"{\"name\":\"a\",\"retentionPolicy\":{\"mode\":\"delete_oldest\",\"maxCount\":0}}",
         "maxCount must be between 1 and 10"},
        {"{\"name\":\"a\",\"retentionPolicy\":{\"mode\":\"delete_oldest\",\"maxCount\":11}}",
         "maxCount must be between 1 and 10"},
        {"{\"name\":\"a\",\"kind\":\"disk_only\",\"retentionPolicy\":{\"mode\":"
         "\"delete_oldest\",\"maxCount\":101}}",
         "maxCount must be between 1 and 100"},
        {"{\"name\":\"a\",\"retentionPolicy\":{\"mode\":\"none\",\"maxCount\":3}}", "maxCount"},
        {"{\"name\":\"a\"", "not valid JSON"},
        {"[]", "must be a JSON object"},
    };
    char body[256];

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        call_fails(400, rows[i].part, "POST /api/sandboxes/%s/checkpoints", rows[i].body);
    }
    (void)snprintf(body, sizeof(body), "{\"name\":\"%0129d\"}", 0);
    call_fails(400, "maximum of 128", "POST /api/sandboxes/%s/checkpoints", body);
    assert_null(fake_checkpoint_last(fix->manager));
    (void)snprintf(body, sizeof(body), "{\"name\":\"%0128d\",\"promoteToFull\":false}", 0);
    json_decref(call(201, "POST /api/sandboxes/%s/checkpoints", body));
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-0/checkpoints",
               "{\"name\":\"a\"}");
}

static void test_checkpoint_names_and_limits(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    char body[160];

    (void)state;
    make("{\"name\":\"a\"}", id);
    call_fails(409, "already exists", "POST /api/sandboxes/%s/checkpoints", "{\"name\":\"a\"}");
    for (unsigned i = 1; i < NODE_CHECKPOINTS_FULL_MAX; i++) {
        (void)snprintf(body, sizeof(body), "{\"name\":\"n%u\"}", i);
        make(body, id);
    }
    call_fails(400, "maximum", "POST /api/sandboxes/%s/checkpoints", "{\"name\":\"one more\"}");
    make("{\"name\":\"disk\",\"kind\":\"disk_only\"}", id); /* counted apart */
    assert_true(fake_checkpoint_last(fix->manager)->disk_only);
    make("{\"name\":\"one more\",\"retentionPolicy\":{\"mode\":\"delete_oldest\"}}", id);
    make("{\"name\":\"a\",\"retentionPolicy\":{\"mode\":\"delete_oldest\",\"maxCount\":10}}", id);
}

static void test_checkpoint_list(void **state)
{
    char first[NODE_CHECKPOINT_ID_SIZE];
    char second[NODE_CHECKPOINT_ID_SIZE];
    json_t *json = call(200, "GET /api/sandboxes/%s/checkpoints", NULL);

    (void)state;
    assert_true(json_is_array(json) && json_array_size(json) == 0);
    json_decref(json);
    make("{\"name\":\"1\"}", first);
    make("{\"name\":\"2\",\"kind\":\"disk_only\"}", second);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    json = call(200, "GET /api/sandboxes/%s/checkpoints", NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 0), "id"), second); /* newest first */
    assert_string_equal(text_of(json_array_get(json, 0), "kind"), "disk_only");
    assert_string_equal(text_of(json_array_get(json, 1), "id"), first);
    json_decref(json);
    call_fails(404, "sandbox not found", "GET /api/sandboxes/sb-0/checkpoints", NULL);
}

static void test_checkpoint_delete(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    char other[NODE_SANDBOX_ID_SIZE];
    char *target;

    (void)state;
    make("{\"name\":\"a\"}", id);
    create_sandbox("{}", other);
    assert_true(asprintf(&target, "DELETE /api/sandboxes/%s/checkpoints/%s", other, id) > 0);
    call_fails(400, "belongs to another sandbox", target, NULL);
    free(target);
    knobs()->delete_code = SHL_ECONFLICT;
    call_on_fails(409, "cannot be deleted", "DELETE /api/sandboxes/%s/checkpoints/CID", id, NULL);
    knobs()->delete_code = 0;
    json_decref(call_on(204, "DELETE /api/sandboxes/%s/checkpoints/CID", id, NULL));
    call_on_fails(404, "checkpoint not found", "DELETE /api/sandboxes/%s/checkpoints/CID", id,
                  NULL);
}

static void test_checkpoint_restore(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    char other[NODE_SANDBOX_ID_SIZE];
    char *target;
    json_t *json;

    (void)state;
    make("{\"name\":\"a\"}", id);
    json = call_on(200, "POST /api/sandboxes/%s/checkpoints/CID/restore", id, NULL);
    assert_string_equal(text_of(json, "sandboxId"), fix->id);
    assert_string_equal(text_of(json, "checkpointId"), id);
    assert_string_equal(text_of(json, "status"), "restoring");
    json_decref(json);
    assert_int_equal(fixture_sandbox()->state, NODE_SANDBOX_RUNNING); /* done */
    json_decref(call(200, "POST /api/sandboxes/%s/exec/run", "{\"cmd\":\"true\"}"));

    create_sandbox("{}", other);
    assert_true(asprintf(&target, "POST /api/sandboxes/%s/checkpoints/%s/restore", other, id) > 0);
    call_fails(400, "belongs to another sandbox", target, NULL);
    free(target);
    knobs()->restore_code = SHL_ECORRUPT;
    knobs()->change_msg = "a layer is damaged";
    call_on_fails(500, "a layer is damaged", "POST /api/sandboxes/%s/checkpoints/CID/restore", id,
                  NULL);
    knobs()->stays_processing = true;
    make("{\"name\":\"b\"}", id);
    call_on_fails(400, "checkpoint not ready: it is processing",
                  "POST /api/sandboxes/%s/checkpoints/CID/restore", id, NULL);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    call_on_fails(400, "sandbox is not running", "POST /api/sandboxes/%s/checkpoints/CID/restore",
                  id, NULL);
}

/* No UUID: 400. None of that id, or another organisation's: 404. */
static void test_checkpoint_ids(void **state)
{
    static const char *const formats[] = {
        "DELETE /api/sandboxes/%s/checkpoints/CID",
        "POST /api/sandboxes/%s/checkpoints/CID/restore",
        "POST /api/sandboxes/from-checkpoint/CID",
    };
    static const char *const bad[] = {
        "cp-abc123",
        "timeout", /* a path segment of other routes */
        "exec",
        "checkpoints",
        "00000000-0000-4000-8000-00000000000",
        "00000000-0000-4000-8000-0000000000000",
        "00000000-0000-4000-8000-00000000000G",
        "00000000x0000-4000-8000-000000000000",
        "%2e%2e%2fetc",
        "%C3%A4",
    };
    char id[NODE_CHECKPOINT_ID_SIZE];
    char header[128];

    (void)state;
    make("{\"name\":\"a\"}", id);
    (void)snprintf(header, sizeof(header), "X-API-Key: %s", fix->other_key);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(formats); i++) {
        struct reply reply;
        char *with_cid;
        char *target;

        for (size_t j = 0; j < SHL_ARRAY_SIZE(bad); j++) {
            call_on_fails(400, "is not the id of a checkpoint", formats[i], bad[j], "{}");
        }
        call_on_fails(404, "checkpoint not found", formats[i], NO_CHECKPOINT, "{}");
        with_cid = target_of(formats[i], id);
        target = expand(with_cid);
        json_decref(api_as(header, target, "{}", &reply));
        check_envelope(&reply, 404);
        reply_release(&reply);
        free(target);
        free(with_cid);
    }
    assert_non_null(fake_checkpoint_last(fix->manager));
}

/* Forks */

static void test_fork(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    char box[NODE_SANDBOX_ID_SIZE];
    struct node_sandbox *fork;
    json_t *json;

    (void)state;
    create_sandbox("{\"envs\":{\"A\":\"1\",\"B\":\"2\"},\"metadata\":{\"m\":\"1\"},"
                   "\"memoryMB\":2048,\"cpuCount\":2,\"timeout\":9}",
                   box);
    memcpy(fix->id, box, sizeof(box));
    make("{\"name\":\"a\"}", id);
    json_decref(call(204, "DELETE /api/sandboxes/%s", NULL)); /* forks outlive the source */
    json = call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id,
                   "{\"envs\":{\"B\":\"3\"},\"metadata\":{\"n\":\"2\"},\"unknown\":1}");
    fork = fake_manager_last(fix->manager);
    assert_string_equal(text_of(json, "sandboxID"), fork->id);
    assert_string_not_equal(text_of(json, "sandboxID"), box);
    assert_string_equal(text_of(json, "status"), "running");
    assert_string_equal(text_of(json, "fromCheckpointId"), id);
    assert_int_equal(number_of(json, "memoryMB"), 2048);
    assert_int_equal(number_of(json, "cpuCount"), 2);
    assert_true(strlen(text_of(json, "token")) > 0);
    assert_int_equal(fork->spec.timeout_s, 300); /* not the source's */
    assert_int_equal(fork->spec.envs.count, 2);
    assert_string_equal(fork->spec.envs.items[0].value, "1");
    assert_string_equal(fork->spec.envs.items[1].value, "3");
    assert_int_equal(fork->spec.metadata.count, 2);
    json_decref(json);

    json = call(200, "GET /api/sandboxes", NULL); /* at once */
    assert_string_equal(text_of(json_array_get(json, 0), "sandboxID"), fork->id);
    json_decref(json);
}

static void test_fork_sizes(void **state)
{
    static const struct {
        const char *body;
        uint32_t memory_mb;
        uint32_t cpus;
        uint32_t disk_mb;
        uint32_t timeout_s;
    } rows[] = {
        {"", 1024, 1, 20480, 300},
        {"{\"timeout\":0}", 1024, 1, 20480, 0},
        {"{\"timeout\":77}", 1024, 1, 20480, 77},
        {"{\"memoryMB\":512}", 1024, 1, 20480, 300},
        {"{\"memoryMB\":0}", 1024, 1, 20480, 300},
        {"{\"memoryMB\":4096}", 4096, 1, 20480, 300},
        {"{\"memoryMB\":1000000}", NODE_MEMORY_MAX_MB, 1, 20480, 300},
        {"{\"cpuCount\":4,\"diskMB\":1}", 1024, 4, 20480, 300},
        {"{\"diskMB\":40960,\"memoryMB\":1024,\"cpuCount\":1}", 1024, 1, 40960, 300},
    };
    static const char *const bad[] = {
        "{\"timeout\":-1}",
        "{\"timeout\":\"a\"}",
        "{\"memoryMB\":-1}",
        "{\"memoryMB\":\"big\"}",
        "{\"cpuCount\":0}",
        "{\"cpuCount\":5}",
        "{\"diskMB\":262145}",
        "{\"diskMB\":-1}",
        "{\"envs\":[]}",
        "{\"envs\":{\"A=\":\"\"}}",
        "{\"metadata\":{\"a\":1}}",
        "{\"count\":0}",
        "{\"count\":65}",
        "{\"count\":\"2\"}",
        "{\"count\":1.5}",
        "{\"secretStore\":\"s\"}",
        "{",
    };
    char id[NODE_CHECKPOINT_ID_SIZE];

    (void)state;
    make("{\"name\":\"a\"}", id);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        json_t *json = call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id, rows[i].body);

        assert_int_equal(number_of(json, "memoryMB"), rows[i].memory_mb);
        assert_int_equal(number_of(json, "cpuCount"), rows[i].cpus);
        assert_int_equal(number_of(json, "diskMB"), rows[i].disk_mb);
        assert_int_equal(number_of(json, "timeout"), rows[i].timeout_s);
        json_decref(json);
    }
    knobs()->forks = 0;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        call_on_fails(400, "", "POST /api/sandboxes/from-checkpoint/CID", id, bad[i]);
    }
    assert_int_equal(knobs()->forks, 0);
}

static void test_fork_refusals(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    struct reply reply;
    char *target;
    json_t *json;

    (void)state;
    make("{\"name\":\"a\"}", id);
    target = target_of("POST /api/sandboxes/from-checkpoint/CID", id);
    knobs()->fork_refuse_code = SHL_EQUOTA;
    json = api(target, NULL, &reply);
    check_envelope(&reply, 429);
    assert_int_equal(number_of(json, "active"), 1);
    assert_int_equal(number_of(json, "limit"), 1);
    json_decref(json);
    reply_release(&reply);
    free(target);
    knobs()->fork_refuse_code = 0;
    knobs()->fork_code = SHL_EGUEST;
    call_on_fails(502, "the fork did not start", "POST /api/sandboxes/from-checkpoint/CID", id,
                  "{}");
    knobs()->fork_code = 0;
    knobs()->stays_processing = true;
    make("{\"name\":\"b\"}", id);
    call_on_fails(400, "checkpoint not ready", "POST /api/sandboxes/from-checkpoint/CID", id, "{}");
}

/* Several at once: one result each, in order. */
static void test_fork_many(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    json_t *json;
    json_t *results;

    (void)state;
    make("{\"name\":\"a\"}", id);
    json =
        call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id, "{\"count\":5,\"timeout\":60}");
    results = json_object_get(json, "results");
    assert_int_equal(number_of(json, "created"), 5);
    assert_int_equal(json_array_size(results), 5);
    for (size_t i = 0; i < 5; i++) {
        json_t *sandbox = json_object_get(json_array_get(results, i), "sandbox");

        assert_string_equal(text_of(sandbox, "status"), "running");
        assert_string_equal(text_of(sandbox, "fromCheckpointId"), id);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(text_of(json_object_get(json_array_get(results, j), "sandbox"),
                                            "sandboxID"),
                                    text_of(sandbox, "sandboxID"));
        }
    }
    json_decref(json);
    json = call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id, "{\"count\":1}");
    assert_int_equal(json_array_size(json_object_get(json, "results")), 1);
    json_decref(json);
    json = call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id, "{\"count\":64}");
    assert_int_equal(number_of(json, "created"), NODE_FORK_COUNT_MAX);
    json_decref(json);
}

static void test_fork_many_of_which_some_fail(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    struct reply reply;
    json_t *json;
    json_t *results;
    char *target;

    (void)state;
    make("{\"name\":\"a\"}", id);
    for (unsigned late = 0; late < 2; late++) {
        knobs()->forks = 0;
        knobs()->fork_fails_from = 3;
        knobs()->fork_refuse_code = late ? 0 : SHL_ENOCAPACITY;
        knobs()->fork_code = late ? SHL_EGUEST : 0;
        json = call_on(201, "POST /api/sandboxes/from-checkpoint/CID", id, "{\"count\":4}");
        results = json_object_get(json, "results");
        assert_int_equal(number_of(json, "created"), 2);
        assert_int_equal(json_array_size(results), 4);
        for (size_t i = 0; i < 4; i++) {
            json_t *result = json_array_get(results, i);

            assert_true((json_object_get(result, "sandbox") != NULL) == (i < 2));
            if (i >= 2) {
                assert_string_equal(text_of(result, "error"),
                                    late ? "the fork did not start" : "no room for one more");
                assert_int_equal(number_of(result, "status"), late ? 502 : 503);
            }
        }
        json_decref(json);
    }
    knobs()->fork_fails_from = 0; /* none can be made: not a success */
    target = target_of("POST /api/sandboxes/from-checkpoint/CID", id);
    json = api(target, "{\"count\":2}", &reply);
    check_envelope(&reply, 502);
    assert_string_equal(text_of(json, "error"), "the fork did not start");
    assert_int_equal(number_of(json, "created"), 0);
    assert_int_equal(json_array_size(json_object_get(json, "results")), 2);
    json_decref(json);
    reply_release(&reply);
    free(target);
}

static void test_fork_client_leaves(void **state)
{
    char id[NODE_CHECKPOINT_ID_SIZE];
    struct client client;

    (void)state;
    make("{\"name\":\"a\"}", id);
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes/from-checkpoint/%s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: 11\r\n\r\n{\"count\":3}",
                id, fix->key);
    while (knobs()->forks == 0) {
        uv_run(&fix->loop, UV_RUN_ONCE);
    }
    client_close(&client);
    run_for(&fix->loop, 20);
    assert_int_equal(knobs()->forks, 3);
    assert_int_equal(fake_manager_last(fix->manager)->state, NODE_SANDBOX_RUNNING);
}

/* What monitoring sees. */
static void test_snapshot_metrics(void **state)
{
    struct reply reply;
    json_t *json;

    (void)state;
    json_decref(call(200, "POST /api/sandboxes/%s/hibernate", NULL));
    json_decref(api_as("", "GET /metrics", NULL, &reply));
    assert_non_null(strstr((char *)reply.body, "shoal_sandboxes{state=\"hibernated\"} 1\n"));
    assert_non_null(strstr((char *)reply.body, "shoal_wakes_total{kind=\"warm\"} 0\n"));
    assert_non_null(strstr((char *)reply.body, "shoal_checkpoints{status=\"ready\"} 0\n"));
    assert_non_null(strstr((char *)reply.body, "shoal_hibernations_total "));
    assert_non_null(strstr((char *)reply.body, "shoal_warm_templates "));
    reply_release(&reply);
    json_decref(call(200, "POST /api/sandboxes/%s/wake", NULL));
    json_decref(api_as("", "GET /metrics", NULL, &reply));
    assert_non_null(strstr((char *)reply.body, "shoal_wakes_total{kind=\"warm\"} 1\n"));
    reply_release(&reply);
    json = call(200, "GET /debug/state", NULL);
    assert_int_equal(number_of(json_object_get(json, "snapshots"), "waiting"), 0);
    assert_int_equal(number_of(json_object_get(json, "sandboxes"), "hibernated"), 0);
    json_decref(json);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_object),
        TEST(test_checkpoint_that_fails),
        TEST(test_checkpoint_bad_bodies),
        TEST(test_checkpoint_names_and_limits),
        TEST(test_checkpoint_list),
        TEST(test_checkpoint_delete),
        TEST(test_checkpoint_restore),
        TEST(test_checkpoint_ids),
        TEST(test_fork),
        TEST(test_fork_sizes),
        TEST(test_fork_refusals),
        TEST(test_fork_many),
        TEST(test_fork_many_of_which_some_fail),
        TEST(test_fork_client_leaves),
        TEST(test_snapshot_metrics),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
