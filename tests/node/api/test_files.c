/* Files over HTTP: contract tests 44 to 49. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/api/fixture.h"

#define MIB (1024u * 1024)

static void put(const char *path, const char *headers, const void *data, size_t len)
{
    char head[512];
    struct reply reply;

    (void)snprintf(head, sizeof(head),
                   "PUT /api/sandboxes/%s/files?path=%s HTTP/1.1\r\nX-API-Key: %s%s", fix->id, path,
                   fix->key, headers);
    request(&fix->loop, fix->port, head, data, len, &reply);
    if (reply.status != 204) {
        fail_msg("PUT %s: %d %s", path, reply.status, (char *)reply.body);
    }
    assert_int_equal(reply.body_len, 0);
    reply_release(&reply);
}

static void get_is(const char *path, const void *data, size_t len)
{
    char head[512];
    char buf[64];
    char expected[32];
    struct reply reply;

    (void)snprintf(head, sizeof(head),
                   "GET /api/sandboxes/%s/files?path=%s HTTP/1.1\r\nX-API-Key: %s", fix->id, path,
                   fix->key);
    request(&fix->loop, fix->port, head, NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Content-Type", buf, sizeof(buf)),
                        "application/octet-stream");
    (void)snprintf(expected, sizeof(expected), "%zu", len);
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), expected);
    assert_int_equal(reply.body_len, len);
    assert_memory_equal(reply.body, data, len);
    reply_release(&reply);
}

static void test_files_round_trips(void **state)
{
    uint8_t all[256 * 3];

    (void)state;
    for (size_t i = 0; i < sizeof(all); i++) {
        all[i] = (uint8_t)i;
    }
    put("%2Ftmp%2Fa", "", "text", 4);
    get_is("/tmp/a", "text", 4);
    put("/tmp/a", "", all, sizeof(all)); /* overwritten */
    get_is("/tmp/a", all, sizeof(all));
    put("/tmp/empty", "", "", 0);
    get_is("/tmp/empty", "", 0);
}

static void test_files_odd_names(void **state)
{
    (void)state;
    put("/tmp/%C3%A4%20b%23c%25d%2B", "", "u", 1);
    get_is("/tmp/%c3%a4%20b%23c%25d%2b", "u", 1);
    get_is("/tmp/%c3%a4+b%23c%25d%2b", "u", 1); /* '+' is a space in a query */
    put("/tmp/%FF%FE", "", "not utf-8", 9);
    get_is("/tmp/%ff%fe", "not utf-8", 9);
    call_fails(400, "", "GET /api/sandboxes/%s/files?path=/a%00b", NULL);
}

static void test_files_bodies_are_raw(void **state)
{
    (void)state;
    put("/tmp/j", "\r\nContent-Type: application/json", "{not json", 9);
    get_is("/tmp/j", "{not json", 9);
    put("/tmp/f", "\r\nContent-Type: application/x-www-form-urlencoded", "a=b&c=%20", 9);
    get_is("/tmp/f", "a=b&c=%20", 9);
    put("/tmp/m", "\r\nContent-Type: multipart/form-data; boundary=x", "--x\r\n", 5);
    get_is("/tmp/m", "--x\r\n", 5);
}

static void test_files_errors(void **state)
{
    char path[AGENT_PATH_MAX + 200];
    size_t len;

    (void)state;
    call_fails(404, "no such file", "GET /api/sandboxes/%s/files?path=/missing", NULL);
    call_fails(400, "is a directory", "GET /api/sandboxes/%s/files?path=/dir", NULL);
    call_fails(400, "is a directory", "PUT /api/sandboxes/%s/files?path=/dir", "x");
    call_fails(404, "no such folder", "GET /api/sandboxes/%s/files/list?path=/missing", NULL);
    put("/tmp/file", "", "x", 1);
    call_fails(400, "not a directory", "GET /api/sandboxes/%s/files/list?path=/tmp/file", NULL);
    call_fails(400, "in the way", "POST /api/sandboxes/%s/files/mkdir?path=/tmp/file", "");
    (void)snprintf(path, sizeof(path), "GET /api/sandboxes/%s/files?path=/", fix->id);
    len = strlen(path);
    memset(path + len, 'a', AGENT_PATH_MAX - 1); /* the slash counts too */
    path[len + AGENT_PATH_MAX - 1] = '\0';
    call_fails(400, "longer than 4095", path, NULL);
    fake_agent_fail_next(fixture_sandbox()->agent, -ENOSPC, "no space left on device");
    call_fails(507, "no space", "PUT /api/sandboxes/%s/files?path=/a", "x");
}

static void test_files_mkdir_remove(void **state)
{
    (void)state;
    json_decref(call(204, "POST /api/sandboxes/%s/files/mkdir?path=/d/e", NULL));
    json_decref(call(204, "POST /api/sandboxes/%s/files/mkdir?path=/d/e", "{}"));
    json_decref(call(204, "DELETE /api/sandboxes/%s/files?path=/d/e", NULL));
    json_decref(call(204, "DELETE /api/sandboxes/%s/files?path=/d/e", NULL));
    json_decref(call(204, "DELETE /sandboxes/%s/files?path=/..x", NULL));
}

static void list_is(const char *target, size_t at, const char *name, bool is_dir, const char *path)
{
    json_t *json = call(200, target, NULL);
    json_t *item = json_array_get(json, at);

    assert_string_equal(text_of(item, "name"), name);
    assert_string_equal(text_of(item, "path"), path);
    assert_int_equal(json_is_true(json_object_get(item, "isDir")), is_dir);
    assert_true(json_is_integer(json_object_get(item, "size")));
    json_decref(json);
}

static void test_files_list_shape(void **state)
{
    json_t *json;

    (void)state;
    list_is("GET /api/sandboxes/%s/files/list", 0, "a \"b\"", false, "/a \"b\"");
    list_is("GET /api/sandboxes/%s/files/list?path=/dir/", 0, "a \"b\"", false, "/dir/a \"b\"");
    list_is("GET /api/sandboxes/%s/files/list?path=rel", 0, "a \"b\"", false,
            "/home/sandbox/rel/a \"b\"");
    list_is("GET /api/sandboxes/%s/files/list?path=/", 1, "bad\xef\xbf\xbd", true,
            "/bad\xef\xbf\xbd");
    json = call(200, "GET /api/sandboxes/%s/files/list?path=/empty", NULL);
    assert_true(json_is_array(json) && json_array_size(json) == 0);
    json_decref(json);
    call_fails(502, "", "GET /api/sandboxes/%s/files/list?path=/garbage", NULL);
}

static void check_many(unsigned count)
{
    char target[128];
    char last[32];
    json_t *json;

    (void)snprintf(target, sizeof(target), "GET /api/sandboxes/%s/files/list?path=/many/%u",
                   fix->id, count);
    json = call(200, target, NULL);
    assert_int_equal(json_array_size(json), count);
    (void)snprintf(last, sizeof(last), "file-%08u", count - 1);
    assert_string_equal(text_of(json_array_get(json, count - 1), "name"), last);
    json_decref(json);
}

static void test_files_list_of_any_length(void **state)
{
    (void)state;
    check_many(1);
    check_many(1000);
    check_many(2500);
    check_many(30000);
}

static void test_files_sizes_that_lie(void **state)
{
    struct reply reply;
    char head[256];

    (void)state;
    /* A pseudo file: size 0, but content. */
    (void)snprintf(head, sizeof(head),
                   "GET /api/sandboxes/%s/files?path=/proc/5000 HTTP/1.1\r\nX-API-Key: %s", fix->id,
                   fix->key);
    request(&fix->loop, fix->port, head, NULL, 0, &reply);
    assert_int_equal(reply.body_len, 5000);
    reply_release(&reply);
    (void)snprintf(head, sizeof(head),
                   "GET /api/sandboxes/%s/files?path=/proc/300000 HTTP/1.1\r\nX-API-Key: %s",
                   fix->id, fix->key);
    request(&fix->loop, fix->port, head, NULL, 0, &reply);
    assert_int_equal(reply.body_len, 300000);
    reply_release(&reply);
    /* It grows while it is read: the announced part is sent. */
    (void)snprintf(head, sizeof(head),
                   "GET /api/sandboxes/%s/files?path=/grows HTTP/1.1\r\nX-API-Key: %s", fix->id,
                   fix->key);
    request(&fix->loop, fix->port, head, NULL, 0, &reply);
    assert_int_equal(reply.body_len, 50000);
    reply_release(&reply);
}

/* It shrinks: the client must see that the body is not whole. */
static void test_files_that_shrink_cut_the_connection(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/files?path=/shrinks HTTP/1.1\r\nHost: x\r\n"
                "X-API-Key: %s\r\n\r\n",
                fix->id, fix->key);
    assert_false(client_reply(&client, &reply));
    reply_release(&reply);
    client_close(&client);
}

static void test_files_head_request(void **state)
{
    char *target = expand("HEAD /api/sandboxes/%s/files?path=/big/123456789");
    struct reply reply;
    char buf[64];

    (void)state;
    json_decref(api(target, NULL, &reply));
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), "123456789");
    reply_release(&reply);
    free(target);
    run_for(&fix->loop, 50);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
    assert_int_equal(fake_agent_stats(fixture_sandbox()->agent)->cancelled, 1);
}

/* 100 MB, both ways */

struct feed {
    struct client *client;
    uint64_t sent;
    uint64_t total;
};

static bool feed_step(void *arg)
{
    struct feed *feed = arg;
    static uint8_t piece[64 * 1024];

    while (feed->sent < feed->total && feed->client->unsent_bytes < 4 * sizeof(piece)) {
        size_t len = (size_t)SHL_MIN((uint64_t)sizeof(piece), feed->total - feed->sent);

        for (size_t i = 0; i < len; i++) {
            piece[i] = fake_pattern(feed->sent + i);
        }
        client_send(feed->client, piece, len);
        feed->sent += len;
    }
    return feed->client->is_ended || shl_buf_len(&feed->client->in) > 0;
}

static void open_put(struct client *client, const char *path, uint64_t length)
{
    client_open(client, &fix->loop, fix->port);
    client_text(client,
                "PUT /api/sandboxes/%s/files?path=%s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
                "Content-Length: %llu\r\n\r\n",
                fix->id, path, fix->key, (unsigned long long)length);
}

static void test_files_100_mb_up(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;
    struct feed feed = {.client = &client, .total = 100 * MIB + 3};
    struct reply reply;
    size_t before;

    (void)state;
    fake_agent_limit_writes(fixture_sandbox()->agent, 1000); /* the guest stalls */
    open_put(&client, "/pattern", feed.total);
    run_for(&fix->loop, 20);
    before = heap_bytes();
    for (int i = 0; i < 40; i++) {
        (void)feed_step(&feed);
        run_for(&fix->loop, 5);
    }
    print_message("stalled guest: %llu bytes sent, %llu taken, heap grew %zd\n",
                  (unsigned long long)feed.sent, (unsigned long long)stats->written_bytes,
                  (ssize_t)(heap_bytes() - before));
    assert_int_equal(stats->written_bytes, 1000);
    assert_true(feed.sent < 24 * MIB);
    assert_true(heap_bytes() < before + MIB);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 1);
    fake_agent_limit_writes(fixture_sandbox()->agent, UINT64_MAX);
    run_until(&fix->loop, feed_step, &feed);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    client_close(&client);
    assert_int_equal(stats->written_bytes, feed.total);
    assert_true(stats->write_wrong_at == UINT64_MAX);
    assert_true(heap_bytes() < before + MIB);
}

struct drain {
    struct client *client;
    uint64_t at;
    uint64_t total;
};

static bool drain_step(void *arg)
{
    struct drain *drain = arg;
    struct shl_bytes got = shl_buf_bytes(&drain->client->in);

    for (size_t i = 0; i < got.len; i++) {
        if (got.base[i] != fake_pattern(drain->at + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(drain->at + i));
        }
    }
    drain->at += got.len;
    shl_buf_consume(&drain->client->in, got.len);
    return drain->at == drain->total || drain->client->is_ended;
}

static void test_files_100_mb_down(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;
    struct drain drain = {.client = &client, .total = 100 * MIB + 3};
    struct reply reply;
    size_t before = heap_bytes();
    char buf[32];

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/files?path=/big/%llu HTTP/1.1\r\nHost: x\r\n"
                "X-API-Key: %s\r\n\r\n",
                fix->id, (unsigned long long)drain.total, fix->key);
    assert_true(client_reply_head(&client, &reply));
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), "104857603");
    reply_release(&reply);
    client_pause(&client);
    run_for(&fix->loop, 200);
    print_message("stalled client: at most %zu bytes of credit in use, heap grew %zd\n",
                  stats->window_used_max, (ssize_t)(heap_bytes() - before));
    assert_true(stats->window_used_max <= AGENT_WINDOW_BYTES);
    assert_true(heap_bytes() < before + 2 * MIB);
    client_read(&client);
    run_until(&fix->loop, drain_step, &drain);
    assert_int_equal(drain.at, drain.total);
    assert_true(stats->window_used_max <= AGENT_WINDOW_BYTES);
    client_close(&client);
    run_for(&fix->loop, 20);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_files_above_the_cap_are_413(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    open_put(&client, "/pattern", 2ull * 1024 * MIB + 1);
    assert_true(client_reply(&client, &reply));
    check_envelope(&reply, 413);
    reply_release(&reply);
    client_close(&client);
}

/* The guest refuses early: the client gets to see it although it is still sending. */
static void test_files_refused_upload_is_answered(void **state)
{
    struct client client;
    struct feed feed = {.client = &client, .total = 20 * MIB};
    struct reply reply;

    (void)state;
    open_put(&client, "/dir", feed.total);
    run_until(&fix->loop, feed_step, &feed);
    assert_true(client_reply(&client, &reply));
    check_envelope(&reply, 400);
    reply_release(&reply);
    client_close(&client);
}

static void test_files_client_leaves_during_upload(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;

    (void)state;
    open_put(&client, "/tmp/x", 1000000);
    client_text(&client, "the beginning");
    run_for(&fix->loop, 50);
    client_close(&client);
    run_for(&fix->loop, 50);
    assert_int_equal(stats->cancelled, 1);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

static void test_files_client_leaves_during_download(void **state)
{
    struct fake_agent_stats *stats = fake_agent_stats(fixture_sandbox()->agent);
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client,
                "GET /api/sandboxes/%s/files?path=/big/1000000000 HTTP/1.1\r\nHost: x\r\n"
                "X-API-Key: %s\r\n\r\n",
                fix->id, fix->key);
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    client_close(&client);
    run_for(&fix->loop, 100);
    assert_int_equal(stats->cancelled, 1);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

/* The sandbox ends in the middle of everything. */
static void test_files_sandbox_ends_under_way(void **state)
{
    struct client up;
    struct client down;
    struct reply reply;

    (void)state;
    fake_agent_limit_writes(fixture_sandbox()->agent, 5);
    open_put(&up, "/pattern", 100000);
    client_text(&up, "some bytes that are not the pattern");
    client_open(&down, &fix->loop, fix->port);
    client_text(&down,
                "GET /api/sandboxes/%s/files?path=/big/1000000000 HTTP/1.1\r\nHost: x\r\n"
                "X-API-Key: %s\r\n\r\n",
                fix->id, fix->key);
    assert_true(client_reply_head(&down, &reply));
    reply_release(&reply);
    client_pause(&down);
    run_for(&fix->loop, 50);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    client_read(&down);
    client_wait_end(&down); /* cut short of its length */
    client_close(&down);
    client_close(&up);
    run_for(&fix->loop, 50);
    assert_int_equal(fake_sandbox_holds(fixture_sandbox()), 0);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_files_round_trips),
        TEST(test_files_odd_names),
        TEST(test_files_bodies_are_raw),
        TEST(test_files_errors),
        TEST(test_files_mkdir_remove),
        TEST(test_files_list_shape),
        TEST(test_files_list_of_any_length),
        TEST(test_files_sizes_that_lie),
        TEST(test_files_that_shrink_cut_the_connection),
        TEST(test_files_head_request),
        TEST(test_files_100_mb_up),
        TEST(test_files_100_mb_down),
        TEST(test_files_above_the_cap_are_413),
        TEST(test_files_refused_upload_is_answered),
        TEST(test_files_client_leaves_during_upload),
        TEST(test_files_client_leaves_during_download),
        TEST(test_files_sandbox_ends_under_way),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
