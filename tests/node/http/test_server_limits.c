/* What the HTTP server refuses, and whom it cuts off. */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "tests/node/http/server_fixture.h"

static void test_server_refuses_bad_heads_with_the_envelope(void **state)
{
    static const struct {
        const char *text;
        int status;
    } rows[] = {
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x03", 400},
        {"GET / HTTP/3.0\r\n\r\n", 505},
        {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", 501},
        {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400},
        {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /echo?a=%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
    };
    struct node_http_stats stats;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct client client;
        struct reply reply;

        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "%s", rows[i].text);
        assert_true(client_reply(&client, &reply));
        assert_envelope(&reply, rows[i].status);
        reply_release(&reply);
        client_close(&client);
    }
    run_for(&fix->loop, 300);
    node_http_stats(fix->http, &stats);
    assert_int_equal(stats.connections, 0);
}

static void long_head(const char *before, size_t count, int status)
{
    struct client client;
    struct reply reply;
    char *fill = malloc(count + 1);

    memset(fill, 'a', count);
    fill[count] = '\0';
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "%s%s", before, fill);
    client_text(&client, "%s", status == 200 ? "\r\nContent-Length: 0\r\n\r\n" : "");
    assert_true(client_reply(&client, &reply));
    if (status == 200) {
        assert_int_equal(reply.status, 200);
    } else {
        assert_envelope(&reply, status);
    }
    reply_release(&reply);
    client_close(&client);
    free(fill);
}

static void test_server_head_sizes(void **state)
{
    (void)state;
    long_head("POST /echo HTTP/1.1\r\nHost: x\r\nA: ", 31000, 200);
    long_head("POST /echo HTTP/1.1\r\nHost: x\r\nA: ", 33000, 431);
    long_head("POST /echo HTTP/1.1\r\nHost: x\r\nA: ", 500000, 431);
    long_head("GET /", 33000, 414);
}

static void test_server_body_limit(void **state)
{
    uint8_t *body = calloc(1, NODE_EXCHANGE_JSON_MAX + 1);
    struct client client;
    struct reply reply;

    (void)state;
    request(&fix->loop, fix->port, "POST /echo HTTP/1.1", body, NODE_EXCHANGE_JSON_MAX, &reply);
    assert_int_equal(reply.status, 200);
    assert_int_equal(reply.body_len, NODE_EXCHANGE_JSON_MAX);
    reply_release(&reply);
    request(&fix->loop, fix->port, "POST /echo HTTP/1.1", body, NODE_EXCHANGE_JSON_MAX + 1, &reply);
    assert_envelope(&reply, 413);
    reply_release(&reply);

    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client_text(&client, "%x\r\n", NODE_EXCHANGE_JSON_MAX + 1);
    client_send(&client, body, NODE_EXCHANGE_JSON_MAX + 1);
    client_text(&client, "\r\n0\r\n\r\n");
    assert_true(client_reply(&client, &reply));
    assert_envelope(&reply, 413);
    reply_release(&reply);

    /* The connection is still good: the body was read to its end. */
    client_text(&client, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    client_close(&client);
    free(body);
}

static void test_server_connection_limit(void **state)
{
    struct client clients[9];
    struct client extra;
    struct reply reply;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(clients) - 1; i++) {
        client_open(&clients[i], &fix->loop, fix->port);
        client_text(&clients[i], "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(client_reply(&clients[i], &reply));
        reply_release(&reply);
    }
    client_open(&extra, &fix->loop, fix->port);
    client_text(&extra, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_reply(&extra, &reply));
    assert_envelope(&reply, 503);
    reply_release(&reply);
    client_close(&extra);
    client_close(&clients[0]);
    run_for(&fix->loop, 20);
    request(&fix->loop, fix->port, "GET /empty HTTP/1.1", NULL, 0, &reply);
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    for (size_t i = 1; i < SHL_ARRAY_SIZE(clients) - 1; i++) {
        client_close(&clients[i]);
    }
}

/* A byte now and then does not hold a connection: neither in the first head, nor in the
 * head of a later request, nor in a body. */
static void trickle(const char *start, const char *byte, int expected_status)
{
    struct client client;
    struct reply reply;
    uint64_t from_ms = shl_monotonic_ms();

    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "%s", start);
    while (!client.is_ended && shl_monotonic_ms() - from_ms < 10000) {
        if (shl_buf_len(&client.in) == 0) {
            client_text(&client, "%s", byte);
        }
        run_for(&fix->loop, 40);
    }
    assert_true(client.is_ended);
    if (expected_status > 0) {
        assert_true(client_reply(&client, &reply));
        assert_envelope(&reply, expected_status);
        reply_release(&reply);
    }
    client_close(&client);
}

static void test_server_slow_heads_and_bodies_are_cut(void **state)
{
    (void)state;
    trickle("GET / HTTP/1.1\r\nHost: x\r\nA: ", "a", 408);
    trickle("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "a", 0);
}

static void test_server_silent_connections_are_cut(void **state)
{
    struct client silent;
    struct client idle;
    struct reply reply;

    (void)state;
    client_open(&silent, &fix->loop, fix->port);
    client_wait_end(&silent);
    assert_int_equal(silent.received_bytes, 0); /* nothing was asked, nothing is said */
    client_close(&silent);

    client_open(&idle, &fix->loop, fix->port);
    client_text(&idle, "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_reply(&idle, &reply));
    reply_release(&reply);
    client_wait_end(&idle); /* idle_timeout_ms */
    client_close(&idle);
}

/* The argument, if any, is a pattern of test names to run. */
int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_server_refuses_bad_heads_with_the_envelope),
        TEST(test_server_head_sizes),
        TEST(test_server_body_limit),
        TEST(test_server_connection_limit),
        cmocka_unit_test_setup_teardown(test_server_slow_heads_and_bodies_are_cut, setup_hasty,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_server_silent_connections_are_cut, setup_hasty,
                                        teardown),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
