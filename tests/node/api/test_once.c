/* Idempotency keys, marks and cluster calls on a single node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mp.h"
#include "node/api/once.h"
#include "node/api/router_local.h"
#include "tests/node/api/fixture.h"

static json_t *keyed_as(const char *api_key,
                        const char *key,
                        const char *target,
                        const char *body,
                        int status,
                        bool is_replayed)
{
    char headers[1024];
    char buf[32];
    struct reply reply;
    json_t *json;

    (void)snprintf(headers, sizeof(headers), "X-API-Key: %s\r\nIdempotency-Key: %s", api_key, key);
    json = api_as(headers, target, body, &reply);
    if (reply.status != status) {
        fail_msg("%s with %s: %d %s", target, key, reply.status, (char *)reply.body);
    }
    assert_int_equal(reply_header(&reply, NODE_ONCE_REPLAYED, buf, sizeof(buf)) != NULL,
                     is_replayed);
    reply_release(&reply);
    return json;
}

static json_t *keyed(const char *key, const char *body, int status, bool is_replayed)
{
    return keyed_as(fix->key, key, "POST /api/sandboxes", body, status, is_replayed);
}

static bool count_one(void *arg, struct node_sandbox *sandbox)
{
    (void)sandbox;
    (*(unsigned *)arg)++;
    return true;
}

static unsigned count(void)
{
    unsigned count = 0;

    node_manager_each(fix->manager, NODE_ORG_FIRST, count_one, &count);
    return count;
}

static void test_once_same_key_same_sandbox(void **state)
{
    json_t *first = keyed("a", "{}", 201, false);
    json_t *again = keyed("a", "{}", 201, true);
    json_t *other = keyed("b", "{}", 201, false);
    json_t *foreign = keyed_as(fix->other_key, "a", "POST /api/sandboxes", "{}", 201, false);
    char target[64];
    char long_key[300];

    (void)state;
    assert_string_equal(text_of(first, "sandboxID"), text_of(again, "sandboxID"));
    assert_string_not_equal(text_of(first, "sandboxID"), text_of(other, "sandboxID"));
    assert_string_not_equal(text_of(first, "sandboxID"), text_of(foreign, "sandboxID"));
    assert_int_equal(count(), 3);
    json_decref(again);
    json_decref(keyed("a", "{ }", 409, false)); /* bytes, not meaning */
    /* Ended, it is shown as it is. */
    (void)snprintf(target, sizeof(target), "DELETE /api/sandboxes/%s", text_of(first, "sandboxID"));
    json_decref(call(204, target, NULL));
    again = keyed("a", "{}", 201, true);
    assert_string_equal(text_of(again, "status"), "stopped");
    json_decref(again);
    json_decref(first);
    json_decref(other);
    json_decref(foreign);
    /* Keys that are none. */
    memset(long_key, 'k', sizeof(long_key));
    long_key[256] = '\0';
    json_decref(keyed(long_key, "{}", 400, false));
    long_key[255] = '\0';
    json_decref(keyed(long_key, "{}", 201, false));
    json_decref(keyed("", "{}", 400, false));
}

static void test_once_failure_leaves_the_key_free(void **state)
{
    struct fake_manager_knobs *knobs = fake_manager_knobs(fix->manager);

    (void)state;
    knobs->refuse_code = SHL_ENOCAPACITY;
    knobs->refuse_msg = "full";
    json_decref(keyed("a", "{}", 503, false));
    knobs->refuse_code = 0;
    knobs->create_code = SHL_EGUEST;
    knobs->create_msg = "it did not boot";
    json_decref(keyed("a", "{}", 502, false));
    knobs->create_code = 0;
    json_decref(keyed("a", "{\"cpuCount\":7}", 400, false));
    json_decref(keyed("a", "{}", 201, false));
    json_decref(keyed("a", "{}", 201, true));
}

struct two {
    struct client clients[3];
};

/* Those that come while the first is under way get its sandbox, or try themselves. */
static void test_once_at_the_same_time(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        struct two two;
        char ids[3][NODE_SANDBOX_ID_SIZE];
        unsigned before = count();

        for (int i = 0; i < 3; i++) {
            client_open(&two.clients[i], &fix->loop, fix->port);
            client_text(&two.clients[i],
                        "POST /api/sandboxes HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\n"
                        "Idempotency-Key: same-%d\r\nContent-Length: 2\r\n\r\n{}",
                        fix->key, fails);
        }
        for (int i = 0; i < 3; i++) {
            struct reply reply;
            json_t *json;

            assert_true(client_reply(&two.clients[i], &reply));
            assert_int_equal(reply.status, 201);
            json = json_loadb((char *)reply.body, reply.body_len, 0, NULL);
            (void)snprintf(ids[i], sizeof(ids[i]), "%s", text_of(json, "sandboxID"));
            json_decref(json);
            reply_release(&reply);
            client_close(&two.clients[i]);
        }
        assert_string_equal(ids[0], ids[1]);
        assert_string_equal(ids[0], ids[2]);
        assert_int_equal(count(), before + 1);
    }
}

/* The client of the first leaves; the sandbox is made and remembered all the same. */
static void test_once_client_leaves(void **state)
{
    struct client client;
    unsigned before = count();

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "POST /api/sandboxes HTTP/1.1\r\nHost: a\r\nX-API-Key: %s\r\n"
                "Idempotency-Key: left\r\nContent-Length: 2\r\n\r\n{}",
                fix->key);
    while (count() == before) {
        run_for(&fix->loop, 1);
    }
    client_close(&client);
    run_for(&fix->loop, 30);
    json_decref(keyed("left", "{}", 201, true));
    assert_int_equal(count(), before + 1);
}

static void test_once_forks(void **state)
{
    json_t *json = call(201, "POST /api/sandboxes/%s/checkpoints", "{\"name\":\"a\"}");
    struct fake_manager_knobs *knobs = fake_manager_knobs(fix->manager);
    char target[128];
    json_t *again;
    unsigned before;

    (void)state;
    (void)snprintf(target, sizeof(target), "POST /api/sandboxes/from-checkpoint/%s",
                   text_of(json, "id"));
    json_decref(json);
    run_for(&fix->loop, 50);
    knobs->fork_fails_from = 3;
    knobs->fork_code = SHL_ENOCAPACITY;
    json = keyed_as(fix->key, "f", target, "{\"count\":4}", 201, false);
    before = count();
    again = keyed_as(fix->key, "f", target, "{\"count\":4}", 201, true);
    assert_int_equal(count(), before);
    assert_int_equal(json_integer_value(json_object_get(json, "created")), 2);
    assert_int_equal(json_integer_value(json_object_get(again, "created")), 2);
    for (size_t i = 0; i < 4; i++) {
        json_t *a = json_array_get(json_object_get(json, "results"), i);
        json_t *b = json_array_get(json_object_get(again, "results"), i);

        assert_string_equal(text_of(json_object_get(a, "sandbox"), "sandboxID"),
                            text_of(json_object_get(b, "sandbox"), "sandboxID"));
        assert_int_equal(json_object_get(a, "error") != NULL, i >= 2);
        assert_int_equal(json_object_get(b, "error") != NULL, i >= 2);
    }
    json_decref(json);
    json_decref(again);
    /* The key of a fork is not that of a create. */
    json_decref(keyed("f", "{\"count\":4}", 409, false));
    knobs->fork_fails_from = 0;
    knobs->fork_code = 0;
    json_decref(keyed_as(fix->key, "g", target, "{}", 201, false));
    json_decref(keyed_as(fix->key, "g", target, "{}", 201, true));
}

/* Records of an earlier run */

static bool first_id(void *arg, const char *id, struct shl_bytes value)
{
    char *dst = arg;

    (void)value;
    (void)snprintf(dst, NODE_CLAIM_HASH_SIZE, "%s", id);
    return false;
}

static void put_record(const char *key, int64_t at_ms, bool is_done, const char *body)
{
    struct shl_mp_writer w;
    struct shl_buf value;

    shl_buf_init(&value, 1024);
    shl_mp_writer_init(&w, &value);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", 1);
    shl_mp_kv_str(&w, "body", body);
    shl_mp_kv_int(&w, "at", at_ms);
    shl_mp_kv_bool(&w, "done", is_done);
    shl_mp_kv_bool(&w, "single", true);
    shl_mp_kv_array(&w, "ids");
    if (is_done) {
        shl_mp_str(&w, "sb-gone");
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(node_store_put(fix->store, "once", key, shl_buf_bytes(&value), NULL), 0);
    shl_buf_release(&value);
}

static void stored_body(const char *key, char body[NODE_CLAIM_HASH_SIZE])
{
    struct shl_mp_doc doc;
    struct shl_buf value;

    shl_buf_init(&value, 8192);
    assert_int_equal(node_store_get(fix->store, "once", key, &value, NULL), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&value)), 0);
    assert_int_equal(shl_mp_get_cpy(doc.root, "body", body, NODE_CLAIM_HASH_SIZE), 0);
    shl_mp_release(&doc);
    shl_buf_release(&value);
}

static void test_once_records_of_an_earlier_run(void **state)
{
    char key[NODE_CLAIM_HASH_SIZE] = "";
    char body[NODE_CLAIM_HASH_SIZE];
    int64_t now_ms = shl_realtime_ms();
    json_t *json;

    (void)state;
    json_decref(keyed("a", "{}", 201, false));
    assert_int_equal(node_store_each(fix->store, "once", first_id, key, NULL), 0);
    assert_int_equal(strlen(key), NODE_CLAIM_HASH_SIZE - 1);
    assert_false(fake_store_contains(fix->store, "Idempotency"));
    stored_body(key, body);
    /* It stopped in the middle. */
    put_record(key, now_ms, false, body);
    json = keyed("a", "{}", 409, false);
    assert_non_null(strstr(text_of(json, "error"), "stopped while it served the first request"));
    json_decref(json);
    /* What was made is not there any more. */
    put_record(key, now_ms, true, body);
    json = keyed("a", "{}", 410, false);
    assert_non_null(strstr(text_of(json, "error"), "sb-gone"));
    json_decref(json);
    /* Damaged. */
    assert_int_equal(node_store_put(fix->store, "once", key, shl_bytes_of("\xc1", 1), NULL), 0);
    json_decref(keyed("a", "{}", 500, false));
    /* Older than a day: free again. */
    put_record(key, now_ms - NODE_CLAIM_KEEP_MS - 1, true, body);
    json_decref(keyed("a", "{}", 201, false));
    json_decref(keyed("a", "{}", 201, true));
}

/* Marks */

static void test_once_marks_of_a_single_node(void **state)
{
    struct node_router *router;
    enum node_mark mark;
    struct shl_err err;
    json_t *json;

    (void)state;
    json_decref(call(200, "POST /api/nodes/w-test/drain", NULL));
    assert_int_equal(node_mark_load(fix->store, &mark, &err), 0);
    assert_int_equal(mark, NODE_MARK_DRAINING);
    call_fails(503, "node w-test takes no new sandboxes: it is draining", "POST /api/sandboxes",
               "{}");
    json = call(200, "GET /api/workers", NULL);
    assert_true(json_is_true(json_object_get(json_array_get(json, 0), "draining")));
    json_decref(json);
    /* The next daemon knows. */
    assert_int_equal(node_router_local_new(fix->store, &router, &err), 0);
    assert_int_equal(router->ops->mark(router), NODE_MARK_DRAINING);
    node_router_local_free(router);
    json_decref(call(200, "POST /admin/workers/w-test/drain?drain=false", NULL));
    json_decref(call(201, "POST /api/sandboxes", "{}"));
    assert_int_equal(node_store_put(fix->store, "node", "mark", shl_bytes_of("x", 1), &err), 0);
    assert_int_equal(node_router_local_new(fix->store, &router, &err), SHL_ECORRUPT);
}

/* Also what is refused before it is a request. */
static void test_once_every_answer_is_signed(void **state)
{
    static const char *const requests[] = {
        "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS /api/sandboxes HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(requests); i++) {
        struct client client;
        struct reply reply;
        char buf[64];

        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "%s", requests[i]);
        assert_true(client_reply(&client, &reply));
        if (!reply_header(&reply, "X-Shoal-Node", buf, sizeof(buf))) {
            fail_msg("%s: %d", requests[i], reply.status);
        }
        assert_string_equal(buf, "w-test");
        reply_release(&reply);
        client_close(&client);
    }
}

static void test_once_cluster_of_a_single_node(void **state)
{
    json_t *json = call(200, "GET /api/cluster", NULL);
    json_t *node = json_array_get(json_object_get(json, "nodes"), 0);

    (void)state;
    assert_string_equal(text_of(json, "mode"), "single");
    assert_true(json_is_null(json_object_get(json, "clusterId")));
    assert_string_equal(text_of(json_object_get(json, "scheduler"), "leader"), "w-test");
    assert_int_equal(json_array_size(json_object_get(json, "nodes")), 1);
    assert_string_equal(text_of(node, "state"), "alive");
    assert_string_equal(text_of(node, "mark"), "none");
    assert_true(json_is_null(json_object_get(node, "id")));
    assert_int_equal(json_integer_value(json_object_get(node, "sandboxes")), 1);
    json_decref(json);
    call_fails(501, "on its own", "POST /api/join-tokens", "{}");
    call_fails(501, "on its own", "DELETE /api/nodes/w-test", NULL);
    call_fails(501, "cannot be moved", "POST /admin/workers/w-test/evict", NULL);
    call_fails(404, "there is no node", "POST /api/nodes/other/drain", NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_once_same_key_same_sandbox),
        TEST(test_once_failure_leaves_the_key_free),
        TEST(test_once_at_the_same_time),
        TEST(test_once_client_leaves),
        TEST(test_once_forks),
        TEST(test_once_records_of_an_earlier_run),
        TEST(test_once_marks_of_a_single_node),
        TEST(test_once_every_answer_is_signed),
        TEST(test_once_cluster_of_a_single_node),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
