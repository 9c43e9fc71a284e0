/* Images and snapshots over the API, with the real agent carrying the steps out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/images.h"
#include "node/api/patches.h"
#include "node/api/server_private.h"
#include "node/sandbox/builder.h"
#include "tests/node/api/fixture.h"

#define RUN(commands) "{\"steps\":[{\"type\":\"run\",\"args\":{\"commands\":[" commands "]}}]}"

static unsigned builders(void)
{
    return fake_manager_knobs(fix->manager)->builders;
}

/* The body of the answer to a request that wants events. */
static char *events(const char *target, const char *body)
{
    struct reply reply;
    char *head, *text;

    assert_true(asprintf(&head, "%s HTTP/1.1\r\nX-API-Key: %s\r\nAccept: text/event-stream", target,
                         fix->key) > 0);
    request(&fix->loop, fix->port, head, body, strlen(body), &reply);
    free(head);
    if (reply.status != 200) {
        fail_msg("%d %s", reply.status, (char *)reply.body);
    }
    text = strdup((char *)reply.body);
    reply_release(&reply);
    return text;
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("\"%s\" is not in: %s", part, text);
    }
}

static void lacks(const char *text, const char *part)
{
    if (strstr(text, part)) {
        fail_msg("\"%s\" is in: %s", part, text);
    }
}

/* The data of the last event, which must be a result. */
static json_t *result_of(char *text)
{
    char *at = strstr(text, "event: result\ndata: ");
    json_t *json;
    char *end;

    if (!at) {
        fail_msg("no result: %s", text);
        return NULL;
    }
    at += strlen("event: result\ndata: ");
    end = strstr(at, "\n\n");
    assert_non_null(end);
    assert_string_equal(end, "\n\n");
    *end = '\0';
    json = json_loads(at, 0, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static void test_images_build_then_cache_hit(void **state)
{
    char *text =
        events("POST /api/sandboxes",
               "{\"templateID\":\"base\",\"image\":" RUN("\"echo hello\",\"echo again\"") "}");
    json_t *first, *second;

    (void)state;
    has(text, "event: build_log\ndata: {\"step\":0,\"type\":\"build\",");
    has(text, "\"message\":\"hello\"");
    has(text, "\"message\":\"again\"");
    has(text, "Step 1/1 completed");
    has(text, "Creating sandbox from image...");
    lacks(text, "\r");
    first = result_of(text);
    assert_string_equal(text_of(first, "status"), "running");
    assert_int_equal(fake_manager_knobs(fix->manager)->builders_at_fork,
                     0);             /* it has their memory */
    assert_int_equal(builders(), 2); /* one that runs the steps, one that is kept */
    text = events("POST /api/sandboxes",
                  "{\"timeout\":0,\"image\":" RUN("\"echo hello\",\"echo again\"") "}");
    has(text, "Image found in cache");
    lacks(text, "\"message\":\"hello\"");
    second = result_of(text);
    assert_string_not_equal(text_of(first, "sandboxID"), text_of(second, "sandboxID"));
    assert_int_equal(builders(), 2);
    json_decref(first);
    json_decref(second);
}

static void test_images_builders_are_in_no_list(void **state)
{
    json_t *json;
    size_t i;

    (void)state;
    json_decref(call(201, "POST /api/sandboxes", "{\"image\":" RUN("\"true\"") "}"));
    json = call(200, "GET /api/sandboxes", NULL);
    assert_int_equal(json_array_size(json), 2); /* the fixture's and that one */
    for (i = 0; i < json_array_size(json); i++) {
        assert_string_equal(text_of(json_array_get(json, i), "status"), "running");
    }
    json_decref(json);
}

static void test_images_a_failing_step_is_explained_and_not_kept(void **state)
{
    static const char body[] =
        "{\"image\":" RUN("\"echo what is wrong >&2\",\"exit 7\",\"echo never\"") "}";
    char *text = events("POST /api/sandboxes", body);

    (void)state;
    has(text, "event: error\ndata: {\"error\":\"image build failed: step 0 (run) failed (exit 7): "
              "what is wrong");
    lacks(text, "event: result");
    lacks(text, "\"message\":\"never\"");
    free(text);
    call_fails(400, "step 0 (run) failed (exit 7): what is wrong", "POST /api/sandboxes", body);
    assert_int_equal(builders(), 2); /* each request built */
    assert_null(fake_checkpoint_last(fix->manager));
}

static void test_images_bad_manifests_have_a_status(void **state)
{
    (void)state;
    call_fails(400, "unknown step type: docker", "POST /api/sandboxes",
               "{\"image\":{\"steps\":[{\"type\":\"docker\"}]}}");
    call_fails(400, "exclude each other", "POST /api/sandboxes",
               "{\"snapshot\":\"a\",\"image\":" RUN("\"true\"") "}");
    call_fails(404, "template not found: nope", "POST /api/sandboxes",
               "{\"image\":{\"base\":\"nope\"}}");
    call_fails(501, "previewAuth together", "POST /api/sandboxes",
               "{\"previewAuth\":{\"token\":\"auto\"},\"image\":" RUN("\"true\"") "}");
    call_fails(400, "memoryMB", "POST /api/sandboxes",
               "{\"memoryMB\":7,\"image\":" RUN("\"true\"") "}");
    assert_int_equal(builders(), 0);
}

static void test_images_what_does_not_count_for_the_cache(void **state)
{
    struct reply reply;
    char other[128];

    (void)snprintf(other, sizeof(other), "X-API-Key: %s", fix->other_key);
    (void)state;
    json_decref(call(201, "POST /api/sandboxes", "{\"image\":" RUN("\"true\"") "}"));
    json_decref(call(201, "POST /api/sandboxes",
                     "{\"image\":{\"name\":\"x\",\"builderMemoryMB\":2048,\"base\":\"default\","
                     "\"steps\":[{\"type\":\"run\",\"commands\":[\"true\"]}]}}"));
    assert_int_equal(builders(), 2);
    /* another organisation shares nothing */
    json_decref(api_as(other, "POST /api/sandboxes", "{\"image\":" RUN("\"true\"") "}", &reply));
    assert_int_equal(reply.status, 201);
    reply_release(&reply);
    assert_int_equal(builders(), 4);
}

static void test_images_a_new_template_is_built_on_again(void **state)
{
    json_t *first, *second;

    (void)state;
    first = call(201, "POST /api/snapshots", "{\"name\":\"a\",\"image\":" RUN("\"true\"") "}");
    fake_manager_knobs(fix->manager)->template_version++;
    second = call(201, "POST /api/snapshots", "{\"name\":\"b\",\"image\":" RUN("\"true\"") "}");
    assert_int_equal(builders(), 4);
    assert_string_equal(text_of(first, "contentHash"), text_of(second, "contentHash"));
    assert_string_not_equal(text_of(first, "checkpointId"), text_of(second, "checkpointId"));
    json_decref(first);
    json_decref(second);
}

static void test_images_layers_are_shared(void **state)
{
    char *text;

    (void)state;
    text = events("POST /api/sandboxes",
                  "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"echo one\"]},"
                  "{\"type\":\"run\",\"commands\":[\"echo two\"]}]}}");
    has(text, "\"message\":\"one\"");
    free(text);
    text = events("POST /api/sandboxes",
                  "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"echo one\"]},"
                  "{\"type\":\"run\",\"commands\":[\"echo three\"]}]}}");
    has(text, "Step 1/2: run CACHED");
    lacks(text, "\"message\":\"one\"");
    has(text, "\"message\":\"three\"");
    free(text);
    /* a whole image is one, too */
    text = events("POST /api/sandboxes",
                  "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"echo one\"]},"
                  "{\"type\":\"run\",\"commands\":[\"echo two\"]},"
                  "{\"type\":\"workdir\",\"path\":\"/tmp\"}]}}");
    has(text, "Step 2/3: run CACHED");
    has(text, "Step 3/3: workdir /tmp");
    free(text);
}

static void test_images_env_and_workdir_stay_with_the_sandbox(void **state)
{
    char *text;
    json_t *json;
    struct node_sandbox *sandbox;

    (void)state;
    /* the step env writes /etc/environment: only the order of things is looked at here */
    text = events("POST /api/sandboxes", "{\"envs\":{\"B\":\"mine\"},\"image\":{\"steps\":["
                                         "{\"type\":\"workdir\",\"path\":\"/tmp\"},"
                                         "{\"type\":\"run\",\"commands\":[\"pwd\"]}]}}");
    has(text, "\"message\":\"/tmp\"");
    json = result_of(text);
    sandbox = fake_manager_last(fix->manager);
    assert_string_equal(text_of(json, "sandboxID"), sandbox->id);
    assert_string_equal(sandbox->spec.workdir, "/tmp");
    json_decref(json);
}

static void test_images_files_arrive(void **state)
{
    char path[] = "/tmp/shoal-images-XXXXXX";
    char *body, *text;

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_non_null(mkdtemp(path));
    assert_true(asprintf(&body,
                         "{\"image\":{\"steps\":[{\"type\":\"add_file\",\"args\":{\"path\":"
                         "\"%s/a b\",\"content\":\"aGVsbG8gZmlsZQ==\"}},{\"type\":\"add_dir\","
                         "\"args\":{\"path\":\"%s/d\",\"files\":[{\"relativePath\":\"x/y\","
                         "\"content\":\"aW4gZGly\"}]}},{\"type\":\"run\",\"commands\":["
                         "\"cat '%s/a b' %s/d/x/y\",\"stat -c %%u:%%a '%s/a b'\","
                         "\"rm -r %s\"]}]}}",
                         path, path, path, path, path, path) > 0);
    text = events("POST /api/sandboxes", body);
    has(text, "hello filein dir");
    has(text, "1000:644");
    has(text, "event: result");
    free(text);
    free(body);
}

/* Ten requests at once. */
static void test_images_one_build_for_all_who_ask_at_once(void **state)
{
    static const char body[] = "{\"image\":" RUN("\"sleep 0.5\",\"echo done\"") "}";
    struct client clients[10];
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(clients); i++) {
        client_open(&clients[i], &fix->loop, fix->port);
        client_text(&clients[i],
                    "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                    "Accept: text/event-stream\r\nContent-Length: %zu\r\n\r\n%s",
                    fix->key, strlen(body), body);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(clients); i++) {
        struct reply reply;

        assert_true(client_reply(&clients[i], &reply));
        assert_int_equal(reply.status, 200);
        has((char *)reply.body, "event: build_log");
        has((char *)reply.body, "event: result");
        reply_release(&reply);
        client_close(&clients[i]);
    }
    assert_int_equal(builders(), 2);
}

static bool has_image(void *arg)
{
    struct node_checkpoint *last = fake_checkpoint_last(fix->manager);

    (void)arg;
    return last && !last->disk_only && last->status == NODE_CHECKPOINT_READY;
}

static void test_images_a_client_that_leaves_does_not_end_the_build(void **state)
{
    /* what is sent after the first step is what tells that nobody is there */
    static const char body[] =
        "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"sleep 0.2\"]},"
        "{\"type\":\"run\",\"commands\":[\"sleep 1\"]}]}}";
    struct client client;
    struct reply reply;
    json_t *json;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Accept: text/event-stream\r\nContent-Length: %zu\r\n\r\n%s",
                fix->key, strlen(body), body);
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    client_close(&client);
    run_until(&fix->loop, has_image, NULL);
    run_for(&fix->loop, 100);
    json = call(200, "GET /api/sandboxes", NULL);
    assert_int_equal(json_array_size(json), 1); /* nobody wanted the sandbox */
    json_decref(json);
    json_decref(call(201, "POST /api/sandboxes", body));
    assert_int_equal(builders(), 2);
}

static void test_snapshots_life(void **state)
{
    char *text = events("POST /api/snapshots",
                        "{\"name\":\"data-1\",\"image\":" RUN("\"echo building\"") "}");
    char path[128];
    json_t *json, *again;

    (void)state;
    has(text, "\"message\":\"building\"");
    json = result_of(text);
    assert_string_equal(text_of(json, "status"), "ready");
    assert_string_equal(text_of(json, "name"), "data-1");
    assert_int_equal(strlen(text_of(json, "contentHash")), 64);
    assert_int_equal(strlen(text_of(json, "checkpointId")), 36);
    assert_int_equal(strlen(text_of(json, "id")), 36);
    assert_true(json_is_object(json_object_get(json, "manifest")));
    assert_int_equal(json_array_size(json_object_get(json_object_get(json, "manifest"), "steps")),
                     1);

    call_fails(409, "already exists", "POST /api/snapshots",
               "{\"name\":\"data-1\",\"image\":" RUN("\"true\"") "}");
    /* the same image under another name: nothing is built */
    again = call(201, "POST /api/snapshots",
                 "{\"name\":\"data-2\",\"image\":" RUN("\"echo building\"") "}");
    assert_string_equal(text_of(again, "checkpointId"), text_of(json, "checkpointId"));
    assert_int_equal(builders(), 2);
    json_decref(again);

    again = call(200, "GET /api/snapshots", NULL);
    assert_int_equal(json_array_size(again), 2);
    json_decref(again);
    again = call(200, "GET /api/snapshots/data-1", NULL);
    assert_true(json_equal(again, json));
    json_decref(again);

    (void)snprintf(path, sizeof(path), "DELETE /api/sandboxes/%s/checkpoints/%s",
                   fake_checkpoint_last(fix->manager)->sandbox_id, text_of(json, "checkpointId"));
    call_fails(409, "belongs to a built image", path, NULL);

    again = call(201, "POST /api/sandboxes", "{\"snapshot\":\"data-1\",\"templateID\":\"base\"}");
    assert_int_equal(json_integer_value(json_object_get(again, "memoryMB")), 1024);
    json_decref(again);
    json_decref(call(204, "DELETE /api/snapshots/data-1", NULL));
    call_fails(404, "not found", "DELETE /api/snapshots/data-1", NULL);
    call_fails(404, "not found", "GET /api/snapshots/data-1", NULL);
    call_fails(404, "snapshot \"data-1\" not found", "POST /api/sandboxes",
               "{\"snapshot\":\"data-1\"}");
    json_decref(call(201, "POST /api/snapshots",
                     "{\"name\":\"data-1\",\"image\":" RUN("\"echo building\"") "}"));
    json_decref(json);
}

static void test_snapshots_memory_is_moved_into_its_range(void **state)
{
    json_t *json;

    (void)state;
    json_decref(call(201, "POST /api/snapshots",
                     "{\"name\":\"big\",\"image\":{\"runtimeMemoryMB\":4096,\"steps\":[]}}"));
    json = call(201, "POST /api/sandboxes", "{\"snapshot\":\"big\",\"memoryMB\":1024}");
    assert_int_equal(json_integer_value(json_object_get(json, "memoryMB")), 4096);
    json_decref(json);
    json = call(201, "POST /api/sandboxes", "{\"snapshot\":\"big\",\"memoryMB\":99999}");
    assert_int_equal(json_integer_value(json_object_get(json, "memoryMB")), NODE_MEMORY_MAX_MB);
    json_decref(json);
    json = call(201, "POST /api/sandboxes", "{\"templateID\":\"big\"}");
    assert_int_equal(json_integer_value(json_object_get(json, "memoryMB")), 4096);
    json_decref(json);
    call_fails(404, "template not found: small", "POST /api/sandboxes",
               "{\"templateID\":\"small\"}");
}

static void test_snapshots_a_failed_one_frees_its_name(void **state)
{
    json_t *json;

    (void)state;
    call_fails(400, "failed (exit 3)", "POST /api/snapshots",
               "{\"name\":\"a\",\"image\":" RUN("\"exit 3\"") "}");
    json = call(200, "GET /api/snapshots/a", NULL);
    assert_string_equal(text_of(json, "status"), "failed");
    assert_true(json_is_null(json_object_get(json, "checkpointId")));
    has(text_of(json, "error"), "exit 3");
    json_decref(json);
    call_fails(400, "is not ready: it is failed", "POST /api/sandboxes", "{\"snapshot\":\"a\"}");
    json_decref(call(201, "POST /api/snapshots", "{\"name\":\"a\",\"image\":" RUN("\"true\"") "}"));
    json = call(200, "GET /api/snapshots/a", NULL);
    assert_string_equal(text_of(json, "status"), "ready");
    json_decref(json);
}

static void test_snapshots_bad_requests(void **state)
{
    (void)state;
    call_fails(400, "name is required", "POST /api/snapshots", "{\"image\":{}}");
    call_fails(400, "image is required", "POST /api/snapshots", "{\"name\":\"a\"}");
    call_fails(400, "the name of a snapshot", "POST /api/snapshots",
               "{\"name\":\"a b\",\"image\":{}}");
    call_fails(400, "image must be an object", "POST /api/snapshots",
               "{\"name\":\"a\",\"image\":[]}");
    call_fails(404, "not found", "GET /api/snapshots/..", NULL);
    call_fails(404, "not found", "POST /api/sandboxes", "{\"snapshot\":\"../x\"}");
}

static bool is_ready(void *arg)
{
    json_t *json = call(200, "GET /api/snapshots/later", NULL);
    bool ready = strcmp(text_of(json, "status"), "ready") == 0;

    (void)arg;
    assert_string_not_equal(text_of(json, "status"), "failed");
    json_decref(json);
    return ready;
}

static void test_snapshots_async(void **state)
{
    json_t *json = call(202, "POST /api/snapshots?async=1",
                        "{\"name\":\"later\",\"image\":" RUN("\"sleep 0.1\"") "}");

    (void)state;
    assert_string_equal(text_of(json, "status"), "building");
    json_decref(json);
    call_fails(400, "is not ready: it is building", "POST /api/sandboxes",
               "{\"snapshot\":\"later\"}");
    while (!is_ready(NULL)) {
        run_for(&fix->loop, 20);
    }
}

static void test_images_the_node_closes_in_the_middle(void **state)
{
    static const char body[] = "{\"image\":" RUN("\"sleep 30\"") "}";
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Accept: text/event-stream\r\nContent-Length: %zu\r\n\r\n%s",
                fix->key, strlen(body), body);
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    run_for(&fix->loop, 200);
    client_close(&client); /* the fixture closes the server: it waits for the build's end */
}

static bool take_row(void *arg, const char *id, struct shl_bytes value)
{
    struct image_row *ret = arg;

    (void)id; /* 8 bytes of revision come first */
    return image_row_decode(shl_bytes_of(value.base + 8, value.len - 8), ret) < 0 ||
           ret->status != IMAGE_BUILDING;
}

static void put_row(const char *key, uint8_t revision, struct image_row *row)
{
    struct shl_buf buf;

    shl_buf_init(&buf, IMAGE_ROW_MAX);
    assert_int_equal(shl_buf_append(&buf, (uint8_t[8]){revision}, 8), 0);
    assert_int_equal(image_row_encode(row, &buf), 0);
    assert_int_equal(node_store_put(fix->store, "row", key, shl_buf_bytes(&buf), NULL), 0);
    shl_buf_release(&buf);
}

static bool count_row(void *arg, const char *id, struct shl_bytes value)
{
    (void)value;
    *(unsigned *)arg += strncmp(id, "img/", 4) == 0;
    return true;
}

/* No events, so that another node may be asked; no row, so that those who wait may build. */
static void test_images_a_builder_without_room(void **state)
{
    struct fake_manager_knobs *knobs = fake_manager_knobs(fix->manager);
    char head[300];
    struct reply reply;

    (void)state;
    (void)snprintf(head, sizeof(head),
                   "POST /api/sandboxes HTTP/1.1\r\nX-API-Key: %s\r\nAccept: text/event-stream",
                   fix->key);
    for (int later = 0; later < 2; later++) {
        static const char body[] = "{\"image\":" RUN("\"true\"") "}";
        unsigned count = 0;

        knobs->builder_refuse_code = later ? 0 : SHL_ENOCAPACITY;
        knobs->create_code = later ? SHL_ENOCAPACITY : 0;
        if (later) {
            call_fails(503, "did not start", "POST /api/sandboxes", body);
        } else {
            request(&fix->loop, fix->port, head, body, strlen(body), &reply);
            assert_int_equal(reply.status, 503);
            has((char *)reply.body, "no room for a builder");
            reply_release(&reply);
        }
        assert_int_equal(node_store_each(fix->store, "row", count_row, &count, NULL), 0);
        assert_int_equal(count, 0);
    }
    knobs->create_code = 0;
    json_decref(call(201, "POST /api/sandboxes", "{\"image\":" RUN("\"true\"") "}"));
}

/* What was asked for before that is not begun after it. */
static void test_images_the_node_is_cordoned_meanwhile(void **state)
{
    static const char body[] = "{\"image\":" RUN("\"sleep 0.4\"") "}";
    struct client client;
    struct reply reply;
    char path[128];

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: %zu\r\n\r\n%s",
                fix->key, strlen(body), body);
    run_for(&fix->loop, 100);
    (void)snprintf(path, sizeof(path), "POST /api/nodes/%s/cordon", fix->server->worker_id);
    json_decref(call(200, path, NULL));
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 503);
    has((char *)reply.body, "takes no new sandboxes: it is cordoned");
    reply_release(&reply);
    client_close(&client);
    assert_int_equal(fake_manager_knobs(fix->manager)->forks, 0);
}

/* Layers count, too. */
static void test_images_the_least_used_go(void **state)
{
    struct image_row row = {.status = IMAGE_READY, .checkpoint = "old"};
    char key[IMAGE_ROW_KEY_SIZE];
    struct shl_buf buf;
    unsigned count = 0;

    (void)state;
    for (unsigned i = 0; i < NODE_IMAGES_ORG_MAX; i++) {
        (void)snprintf(row.hash, sizeof(row.hash), "%064x", i);
        row.used_at_ms = i + 1;
        image_row_image_key(key, NODE_ORG_FIRST, row.hash, "00");
        put_row(key, 1, &row);
    }
    json_decref(call(201, "POST /api/sandboxes",
                     "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"true\"]},"
                     "{\"type\":\"run\",\"commands\":[\"true\"]},"
                     "{\"type\":\"run\",\"commands\":[\"true\"]}]}}"));
    assert_int_equal(node_store_each(fix->store, "row", count_row, &count, NULL), 0);
    assert_int_equal(count, NODE_IMAGES_ORG_MAX);
    (void)snprintf(row.hash, sizeof(row.hash), "%064x", 2);
    image_row_image_key(key, NODE_ORG_FIRST, row.hash, "00");
    shl_buf_init(&buf, IMAGE_ROW_MAX);
    assert_int_equal(node_store_get(fix->store, "row", key, &buf, NULL), SHL_ENOTFOUND);
    shl_buf_release(&buf);
}

struct layer {
    char key[IMAGE_ROW_KEY_SIZE];
    struct image_row row;
};

static bool take_layer(void *arg, const char *id, struct shl_bytes value)
{
    struct layer *layer = arg;

    (void)snprintf(layer->key, sizeof(layer->key), "%s", id);
    return image_row_decode(shl_bytes_of(value.base + 8, value.len - 8), &layer->row) < 0 ||
           !layer->row.is_layer;
}

static void test_images_a_layer_that_is_built_on_is_used(void **state)
{
    struct layer layer = {.key = ""};
    int64_t before_ms;

    (void)state;
    json_decref(call(201, "POST /api/sandboxes",
                     "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"true\"]},"
                     "{\"type\":\"run\",\"commands\":[\"echo one\"]}]}}"));
    assert_int_equal(node_store_each(fix->store, "row", take_layer, &layer, NULL), 0);
    assert_true(layer.row.is_layer);
    before_ms = layer.row.used_at_ms -= 2ll * NODE_IMAGE_TOUCH_MS;
    put_row(layer.key, 1, &layer.row);
    json_decref(call(201, "POST /api/sandboxes",
                     "{\"image\":{\"steps\":[{\"type\":\"run\",\"commands\":[\"true\"]},"
                     "{\"type\":\"run\",\"commands\":[\"echo two\"]}]}}"));
    assert_int_equal(node_store_each(fix->store, "row", take_layer, &layer, NULL), 0);
    assert_true(layer.row.is_layer && layer.row.used_at_ms > before_ms);
}

/* Somebody wants it while it is built, a while after that began: the build ends all the same. */
static void test_snapshots_are_not_touched_before_they_are_ready(void **state)
{
    static const char key[] = "snap/" NODE_ORG_FIRST "/later";
    struct image_row row = {.id = ""};
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, IMAGE_ROW_MAX);
    json_decref(call(202, "POST /api/snapshots?async=1",
                     "{\"name\":\"later\",\"image\":" RUN("\"sleep 0.5\"") "}"));
    assert_int_equal(node_store_get(fix->store, "row", key, &buf, NULL), 0);
    assert_true(take_row(&row, key, shl_buf_bytes(&buf)) == false);
    row.used_at_ms -= 2ll * NODE_IMAGE_TOUCH_MS;
    put_row(key, shl_buf_data(&buf)[0], &row);
    image_row_release(&row);
    shl_buf_release(&buf);
    call_fails(400, "is not ready: it is building", "POST /api/sandboxes",
               "{\"snapshot\":\"later\"}");
    while (!is_ready(NULL)) {
        run_for(&fix->loop, 20);
    }
}

/* A node that could not record what came of a build, or learned too late that it had claimed it:
 * its row says that it builds, and it runs on. */
static void test_images_what_nobody_builds_is_built_again(void **state)
{
    static const char body[] = "{\"name\":\"lost\",\"image\":" RUN("\"true\"") "}";
    struct image_row row = {.id = ""};
    char identity[NODE_TEMPLATE_IDENTITY_SIZE], key[IMAGE_ROW_KEY_SIZE];
    json_t *json;

    (void)state;
    json_decref(call(202, "POST /api/snapshots?async=1",
                     "{\"name\":\"later\",\"image\":" RUN("\"sleep 1\"") "}"));
    run_for(&fix->loop, 50);
    assert_int_equal(node_store_each(fix->store, "row", take_row, &row, NULL), 0);
    assert_int_equal(row.status, IMAGE_BUILDING);
    json = call(200, "GET /api/snapshots/later", NULL);
    assert_string_equal(text_of(json, "status"), "building");
    json_decref(json);

    json = call(201, "POST /api/snapshots", body);
    assert_int_equal(node_template_identity(fix->manager, "base", identity, NULL), 0);
    image_row_image_key(key, NODE_ORG_FIRST, text_of(json, "contentHash"), identity);
    (void)snprintf(row.hash, sizeof(row.hash), "%s", text_of(json, "contentHash"));
    json_decref(json);
    shl_uuid_make(row.id);
    put_row(key, 7, &row);
    put_row("snap/" NODE_ORG_FIRST "/lost", 7, &row);
    image_row_release(&row);
    json = call(200, "GET /api/snapshots/lost", NULL);
    assert_string_equal(text_of(json, "status"), "failed");
    json_decref(json);
    json_decref(call(201, "POST /api/snapshots", body));
    while (!is_ready(NULL)) {
        run_for(&fix->loop, 20);
    }
    assert_int_equal(builders(), 6);
}

static void expect_patch(const char *checkpoint,
                         uint32_t after,
                         uint32_t sequence,
                         const char *script)
{
    uint32_t found = 0;
    char *text = NULL;

    assert_int_equal(fake_manager_next_patch(fix->manager, checkpoint, after, &found, &text),
                     sequence > 0);
    assert_int_equal(found, sequence);
    if (sequence > 0) {
        assert_string_equal(text, script);
    }
    free(text);
}

static void add_patch(const char *path, const char *script, int sequence, char ret_id[64])
{
    char body[128];
    json_t *json, *patch;

    (void)snprintf(body, sizeof(body), "{\"script\":\"%s\",\"description\":\"why\"}", script);
    json = call(201, path, body);
    patch = json_object_get(json, "patch");
    assert_int_equal(json_integer_value(json_object_get(patch, "sequence")), sequence);
    assert_string_equal(text_of(patch, "strategy"), "on_wake");
    assert_string_equal(text_of(patch, "description"), "why");
    assert_int_equal(strlen(text_of(patch, "createdAt")), 24);
    (void)snprintf(ret_id, 64, "%s", text_of(patch, "id"));
    json_decref(json);
}

static void test_patches_numbers_are_never_used_again(void **state)
{
    json_t *json = call(201, "POST /api/sandboxes/%s/checkpoints", "{\"name\":\"a\"}");
    char checkpoint[64], path[160], at[256], ids[4][64];

    (void)state;
    (void)snprintf(checkpoint, sizeof(checkpoint), "%s", text_of(json, "id"));
    json_decref(json);
    (void)snprintf(path, sizeof(path), "POST /api/sandboxes/checkpoints/%s/patches", checkpoint);
    run_for(&fix->loop, 50);
    call_fails(400, "script is required", path, "{}");
    add_patch(path, "one", 1, ids[0]);
    add_patch(path, "two", 2, ids[1]);
    add_patch(path, "three", 3, ids[2]);
    expect_patch(checkpoint, 0, 1, "one");
    expect_patch(checkpoint, 1, 2, "two");
    expect_patch(checkpoint, 3, 0, NULL);

    (void)snprintf(at, sizeof(at), "DELETE /api/sandboxes/checkpoints/%s/patches/%s", checkpoint,
                   ids[2]);
    json_decref(call(204, at, NULL));
    call_fails(404, "patch not found", at, NULL);
    add_patch(path, "four", 4, ids[3]);
    (void)snprintf(at, sizeof(at), "DELETE /api/sandboxes/checkpoints/%s/patches/%s", checkpoint,
                   ids[1]);
    json_decref(call(204, at, NULL));
    expect_patch(checkpoint, 1, 4, "four");

    (void)snprintf(at, sizeof(at), "GET /api/sandboxes/checkpoints/%s/patches", checkpoint);
    json = call(200, at, NULL);
    assert_int_equal(json_array_size(json), 2);
    assert_string_equal(text_of(json_array_get(json, 0), "script"), "one");
    assert_string_equal(text_of(json_array_get(json, 1), "script"), "four");
    json_decref(json);

    /* with the checkpoint they go */
    (void)snprintf(at, sizeof(at), "DELETE /api/sandboxes/%%s/checkpoints/%s", checkpoint);
    json_decref(call(204, at, NULL));
    expect_patch(checkpoint, 0, 0, NULL);
    call_fails(404, "checkpoint not found", path, "{\"script\":\"x\"}");
    call_fails(400, "not the id of a checkpoint", "POST /api/sandboxes/checkpoints/nope/patches",
               "{\"script\":\"x\"}");
}

/* A router on which every catching up with the log waits for the test. */
static struct {
    const struct node_router_ops *ops; /* the real ones */
    struct node_router_ops slow_ops;
    struct node_order outcome;
    node_order_cb cb;
    void *arg;
    unsigned asked, known;
    char key[IMAGE_ROW_KEY_SIZE];
} slow;

static int slow_sync(struct node_router *router,
                     struct node_order *ret,
                     node_order_cb cb,
                     void *arg)
{
    (void)router;
    (void)ret;
    assert_null(slow.cb);
    slow.cb = cb;
    slow.arg = arg;
    slow.asked++;
    return 0;
}

static void slow_cluster(struct node_router *router, struct node_cluster *ret)
{
    (void)router;
    *ret = (struct node_cluster){.has_quorum = slow.outcome.code == 0};
}

static void slow_ends(void)
{
    node_order_cb cb = slow.cb;

    slow.cb = NULL;
    cb(slow.arg, &slow.outcome);
}

static void on_known(void *arg)
{
    slow.known++;
    if (arg) { /* the next boot begins */
        assert_false(fake_manager_catch_up(fix->manager, on_known, NULL));
    }
}

/* Who boots waits for what other nodes were told before, and many share one question. */
static void test_patches_of_other_nodes_are_waited_for(void **state)
{
    struct node_router *router = fix->server->router;

    (void)state;
    memset(&slow, 0, sizeof(slow));
    assert_true(fake_manager_catch_up(fix->manager, on_known, NULL)); /* a node on its own */
    slow.ops = router->ops;
    slow.slow_ops = *router->ops;
    slow.slow_ops.row_sync = slow_sync;
    slow.slow_ops.cluster = slow_cluster;
    router->ops = &slow.slow_ops;

    assert_false(fake_manager_catch_up(fix->manager, on_known, NULL));
    for (int i = 0; i < 10; i++) { /* asked too late for the first answer */
        assert_false(fake_manager_catch_up(fix->manager, on_known, i == 0 ? fix : NULL));
    }
    assert_int_equal(slow.asked, 1);
    slow_ends();
    assert_int_equal(slow.known, 1);
    assert_int_equal(slow.asked, 2);
    slow_ends();
    assert_int_equal(slow.known, 11);
    assert_int_equal(slow.asked, 3);
    slow_ends();
    assert_int_equal(slow.known, 12);
    assert_null(slow.cb);

    /* without a scheduler: with what is known here, also when it goes meanwhile */
    assert_false(fake_manager_catch_up(fix->manager, on_known, NULL));
    slow.outcome.code = SHL_EUNAVAILABLE;
    slow_ends();
    assert_int_equal(slow.known, 13);
    assert_true(fake_manager_catch_up(fix->manager, on_known, NULL));

    /* the API closes first */
    slow.outcome.code = 0;
    assert_false(fake_manager_catch_up(fix->manager, on_known, NULL));
    node_patches_close(fix->server);
    assert_int_equal(slow.known, 14);
    slow.outcome.code = -ECANCELED;
    slow_ends();
    assert_int_equal(slow.known, 14);
    router->ops = slow.ops;
}

/* What another node was told to delete is gone by the time this one has caught up. */
static int deleting_sync(struct node_router *router,
                         struct node_order *ret,
                         node_order_cb cb,
                         void *arg)
{
    struct node_row_change change = {.key = slow.key, .is_delete = true};

    (void)slow.ops->row_change(router, &change, ret, cb, arg);
    *ret = slow.outcome;
    return 1;
}

static void test_snapshots_deleted_through_another_node(void **state)
{
    struct node_router *router = fix->server->router;
    json_t *json = result_of(
        events("POST /api/snapshots", "{\"name\":\"gone\",\"image\":" RUN("\"true\"") "}"));

    (void)state;
    memset(&slow, 0, sizeof(slow));
    image_row_snapshot_key(slow.key, text_of(json, "orgId"), "gone");
    json_decref(json);
    json_decref(call(200, "GET /api/snapshots/gone", NULL));
    slow.ops = router->ops;
    slow.slow_ops = *router->ops;
    slow.slow_ops.row_sync = deleting_sync;
    router->ops = &slow.slow_ops;
    call_fails(404, "not found", "GET /api/snapshots/gone", NULL);
    router->ops = slow.ops;
}

/* The answer to each change is lost, and it is given to the log once more. */
static int twice(struct node_router *router,
                 const struct node_row_change *change,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    (void)slow.ops->row_change(router, change, ret, cb, arg);
    return slow.ops->row_change(router, change, ret, cb, arg);
}

static void test_snapshots_changes_that_the_log_is_given_twice(void **state)
{
    struct node_router *router = fix->server->router;
    json_t *json;

    (void)state;
    memset(&slow, 0, sizeof(slow));
    slow.ops = router->ops;
    slow.slow_ops = *router->ops;
    slow.slow_ops.row_change = twice;
    router->ops = &slow.slow_ops;
    json = call(201, "POST /api/snapshots", "{\"name\":\"again\",\"image\":" RUN("\"true\"") "}");
    assert_string_equal(text_of(json, "status"), "ready");
    json_decref(json);
    json_decref(call(200, "GET /api/snapshots/again", NULL));
    call_fails(409, "already exists", "POST /api/snapshots",
               "{\"name\":\"again\",\"image\":" RUN("\"true\"") "}");
    assert_int_equal(builders(), 2);
    router->ops = slow.ops;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_images_build_then_cache_hit),
        TEST(test_images_builders_are_in_no_list),
        TEST(test_images_a_failing_step_is_explained_and_not_kept),
        TEST(test_images_bad_manifests_have_a_status),
        TEST(test_images_what_does_not_count_for_the_cache),
        TEST(test_images_a_new_template_is_built_on_again),
        TEST(test_images_layers_are_shared),
        TEST(test_images_env_and_workdir_stay_with_the_sandbox),
        TEST(test_images_files_arrive),
        TEST(test_images_one_build_for_all_who_ask_at_once),
        TEST(test_images_a_client_that_leaves_does_not_end_the_build),
        TEST(test_snapshots_life),
        TEST(test_snapshots_memory_is_moved_into_its_range),
        TEST(test_snapshots_a_failed_one_frees_its_name),
        TEST(test_snapshots_bad_requests),
        TEST(test_snapshots_deleted_through_another_node),
        TEST(test_snapshots_changes_that_the_log_is_given_twice),
        TEST(test_snapshots_async),
        TEST(test_images_a_builder_without_room),
        TEST(test_images_the_node_is_cordoned_meanwhile),
        TEST(test_images_the_least_used_go),
        TEST(test_images_a_layer_that_is_built_on_is_used),
        TEST(test_snapshots_are_not_touched_before_they_are_ready),
        TEST(test_images_what_nobody_builds_is_built_again),
        TEST(test_patches_numbers_are_never_used_again),
        TEST(test_patches_of_other_nodes_are_waited_for),
        TEST(test_images_the_node_closes_in_the_middle),
    };

    return cmocka_run_group_tests_name("images and snapshots", tests, NULL, NULL);
}
