/* Large bodies through the HTTP server, in bounded memory, and ones that break off. */
#include <stdio.h>
#include <sys/socket.h>

#include "tests/node/http/server_fixture.h"

struct upload {
    struct client *client;
    uint64_t sent;
    uint64_t total;
    bool stall; /* never have more than the sockets hold */
};

static void feed(struct upload *up)
{
    static uint8_t piece[64 * 1024];

    while (up->sent < up->total && up->client->unsent_bytes < 4 * sizeof(piece)) {
        size_t len = (size_t)SHL_MIN((uint64_t)sizeof(piece), up->total - up->sent);

        for (size_t i = 0; i < len; i++) {
            piece[i] = pattern(up->sent + i);
        }
        client_send(up->client, piece, len);
        up->sent += len;
    }
}

static bool feed_until_stuck(void *arg)
{
    struct upload *up = arg;

    feed(up);
    return up->sent == up->total || up->client->is_ended;
}

static bool feed_and_allow(void *arg)
{
    struct upload *up = arg;

    feed(up);
    if (fix->app.sink_room == 0 && fix->app.sinking) {
        fix->app.sink_room = 300 * 1000; /* an odd size, so that parts are taken */
        node_exchange_resume_body(fix->app.sinking);
    }
    return shl_buf_len(&up->client->in) > 0 || up->client->is_ended;
}

static void test_server_upload_of_100_mb_waits_for_its_sink(void **state)
{
    const uint64_t total = 100 * MIB + 17;
    struct client client;
    struct upload up = {.client = &client, .total = total};
    struct reply reply;
    size_t before;
    char expected[64];

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: %llu\r\n\r\n",
                (unsigned long long)total);
    run_for(&fix->loop, 20);
    before = heap_bytes();
    for (int i = 0; i < 60; i++) { /* the sink takes nothing: the client gets stuck */
        (void)feed_until_stuck(&up);
        run_for(&fix->loop, 5);
    }
    print_message("stalled sink: %llu bytes sent, heap grew %zd\n", (unsigned long long)up.sent,
                  (ssize_t)(heap_bytes() - before));
    assert_true(up.sent < 24 * MIB); /* in the sockets of the kernel */
    assert_true(heap_bytes() < before + MIB);
    run_until(&fix->loop, feed_and_allow, &up);
    assert_true(heap_bytes() < before + MIB);
    assert_true(client_reply(&client, &reply));
    (void)snprintf(expected, sizeof(expected), "{\"bytes\":%llu}", (unsigned long long)total);
    assert_string_equal((char *)reply.body, expected);
    reply_release(&reply);
    client_close(&client);
}

struct download {
    struct client *client;
    uint64_t at;
};

static void check_received(struct download *down)
{
    struct shl_bytes got = shl_buf_bytes(&down->client->in);

    for (size_t i = 0; i < got.len; i++) {
        if (got.base[i] != pattern(down->at + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(down->at + i));
        }
    }
    down->at += got.len;
    shl_buf_consume(&down->client->in, got.len);
}

static bool download_is_done(void *arg)
{
    struct download *down = arg;

    check_received(down);
    if (fix->app.source_room == 0 && fix->app.sourcing) { /* the source runs dry now and then */
        fix->app.source_room = 500 * 1000;
        node_exchange_wake(fix->app.sourcing);
    }
    return down->at == fix->app.source_total || down->client->is_ended;
}

static void test_server_download_of_100_mb_waits_for_its_reader(void **state)
{
    struct client client;
    struct download down = {.client = &client};
    struct reply reply;
    size_t before;
    uv_os_fd_t fd;
    int small = 64 * 1024;

    (void)state;
    fix->app.source_total = 100 * MIB + 17;
    fix->app.source_room = 1;
    client_open(&client, &fix->loop, fix->port);
    client_wait_connected(&client);
    uv_fileno((uv_handle_t *)&client.tcp, &fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    client_text(&client, "GET /source HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    client_pause(&client);
    before = heap_bytes();
    fix->app.source_room = UINT64_MAX;
    node_exchange_wake(fix->app.sourcing);
    run_for(&fix->loop, 300); /* nobody reads: the source is not asked for more */
    print_message("stalled reader: %llu bytes read from the source, heap grew %zd\n",
                  (unsigned long long)fix->app.source_at, (ssize_t)(heap_bytes() - before));
    assert_true(fix->app.source_at < 24 * MIB);
    assert_true(heap_bytes() < before + MIB);
    fix->app.source_room = 0;
    client_read(&client);
    run_until(&fix->loop, download_is_done, &down);
    assert_int_equal(down.at, fix->app.source_total);
    assert_true(heap_bytes() < before + MIB);
    client_close(&client);
}

/* A source that breaks off must not look like a whole body. */
static void test_server_broken_source_cuts_the_connection(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    fix->app.source_total = 1000;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /broken HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_false(client_reply(&client, &reply));
    reply_release(&reply);
    client_close(&client);
    fix->app.source_at = 0;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /broken?chunked HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_false(client_reply(&client, &reply));
    reply_release(&reply);
    client_close(&client);
    assert_int_equal(fix->app.released, 2);
    assert_int_equal(fix->app.completed, 0);
}

/* The argument, if any, is a pattern of test names to run. */
int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_server_upload_of_100_mb_waits_for_its_sink),
        TEST(test_server_download_of_100_mb_waits_for_its_reader),
        TEST(test_server_broken_source_cuts_the_connection),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
