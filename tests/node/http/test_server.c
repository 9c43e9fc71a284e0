/* The HTTP server over real loopback sockets: requests, clients that leave, padding, listening. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/node/http/server_fixture.h"

/* Ordinary requests */

static void test_server_echo_and_headers(void **state)
{
    struct reply reply;
    char buf[128];

    (void)state;
    request(&fix->loop, fix->port, "POST /echo HTTP/1.1\r\nX-Request-Id: abc-1", "hello", 5,
            &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal((char *)reply.body, "hello");
    assert_string_equal(reply_header(&reply, "X-Request-Id", buf, sizeof(buf)), "abc-1");
    assert_string_equal(reply_header(&reply, "Access-Control-Allow-Origin", buf, sizeof(buf)), "*");
    reply_release(&reply);

    /* A name that could split a header or a log line is replaced. */
    request(&fix->loop, fix->port, "POST /echo HTTP/1.1\r\nX-Request-Id: a\tb", "", 0, &reply);
    assert_int_equal(strncmp(reply_header(&reply, "X-Request-Id", buf, sizeof(buf)), "req-", 4), 0);
    reply_release(&reply);
}

static void test_server_keep_alive_and_pipelining(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    for (int i = 0; i < 3; i++) {
        client_text(&client, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d", i);
        assert_true(client_reply(&client, &reply));
        assert_int_equal(reply.body[0], '0' + i);
        reply_release(&reply);
    }
    client_text(&client, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nA"
                         "GET /empty HTTP/1.1\r\nHost: x\r\n\r\n"
                         "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nC");
    assert_true(client_reply(&client, &reply));
    assert_string_equal((char *)reply.body, "A");
    reply_release(&reply);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 204);
    reply_release(&reply);
    assert_true(client_reply(&client, &reply));
    assert_string_equal((char *)reply.body, "C");
    reply_release(&reply);
    client_close(&client);
}

static void test_server_chunked_request_in_single_bytes(void **state)
{
    const char *text = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\n\r\n";
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    for (const char *p = text; *p; p++) {
        client_send(&client, p, 1);
        run_for(&fix->loop, 1);
    }
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    assert_string_equal((char *)reply.body, "abcdefgh");
    reply_release(&reply);
    client_close(&client);
}

static void test_server_head_has_no_body(void **state)
{
    struct reply reply;
    char buf[64];

    (void)state;
    fix->app.source_total = 12345;
    request(&fix->loop, fix->port, "HEAD /source HTTP/1.1", NULL, 0, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Content-Length", buf, sizeof(buf)), "12345");
    assert_int_equal(reply.body_len, 0);
    reply_release(&reply);
    run_for(&fix->loop, 20);
    assert_int_equal(fix->app.released, 1);
    assert_int_equal(fix->app.source_at, 0);
}

static void test_server_expect_100_continue(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                         "Expect: 100-continue\r\n\r\n");
    assert_true(client_reply_head(&client, &reply));
    assert_int_equal(reply.status, 100);
    reply_release(&reply);
    client_text(&client, "body");
    assert_true(client_reply(&client, &reply));
    assert_string_equal((char *)reply.body, "body");
    reply_release(&reply);
    client_close(&client);

    /* A refused one gets its answer without sending the body. */
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
                         "Expect: 100-continue\r\n\r\n");
    assert_true(client_reply(&client, &reply));
    assert_envelope(&reply, 401);
    reply_release(&reply);
    client_close(&client);
}

/* Clients that leave */

static void test_server_clients_leave_in_each_phase(void **state)
{
    static const char *const starts[] = {
        "",
        "GET ",
        "GET /empty HTTP/1.1\r\nHost: x\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
        "GET /source HTTP/1.1\r\nHost: x\r\n\r\n",
    };

    (void)state;
    fix->app.source_total = 50 * MIB;
    fix->app.source_room = 50 * MIB;
    fix->app.sink_any = true;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(starts); i++) {
        struct client client;

        fix->app.source_at = 0;
        fix->app.sink_room = 0;
        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "%s", starts[i]);
        run_for(&fix->loop, 20);
        client_close(&client);
        run_for(&fix->loop, 20);
        if (fix->app.sinking) { /* suspended: it notices when it goes on */
            fix->app.sink_room = 100;
            fix->app.sunk_bytes = 0;
            node_exchange_resume_body(fix->app.sinking);
        }
        run_until(&fix->loop, is_all_closed, NULL);
    }
    assert_int_equal(fix->app.completed, 0);
    assert_int_equal(fix->app.released, 1);
}

static void test_server_late_reply_to_a_client_that_left(void **state)
{
    struct client client;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    run_until(&fix->loop, is_waiting, NULL);
    client_close(&client);
    run_for(&fix->loop, 20);
    assert_non_null(fix->app.waiting);
    node_exchange_reply_empty(fix->app.waiting, 204);
    run_until(&fix->loop, is_all_closed, NULL);
    assert_int_equal(fix->app.closed, 1);
}

static void test_server_close_with_requests_in_flight(void **state)
{
    struct client clients[4];

    (void)state;
    fix->app.source_total = 100;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(clients); i++) {
        client_open(&clients[i], &fix->loop, fix->port);
        client_wait_connected(&clients[i]);
    }
    client_text(&clients[0], "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    client_text(&clients[1], "GET /source HTTP/1.1\r\nHost: x\r\n\r\n");
    client_text(&clients[2], "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
    client_text(&clients[3], "GET /part");
    run_for(&fix->loop, 50);
    node_http_close(fix->http, on_http_closed, fix);
    run_until(&fix->loop, http_is_closed, fix);
    assert_int_equal(fix->app.closed, 3);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(clients); i++) {
        client_wait_end(&clients[i]);
        client_close(&clients[i]);
    }
    assert_int_equal(uv_loop_close(&fix->loop), 0);
}

static int teardown_closed(void **state)
{
    (void)state;
    free(fix);
    return 0;
}

/* Padding */

static void pad_until_spaces(struct client *client, struct reply *reply)
{
    client_open(client, &fix->loop, fix->port);
    client_text(client, "GET /pad HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(client_reply_head(client, reply));
    assert_int_equal(reply->status, 200);
    run_for(&fix->loop, 180);
    assert_true(fix->app.waiting->is_padded);
}

static void test_server_padding_goes_before_the_body(void **state)
{
    struct client client;
    struct reply reply;
    const char *text;

    (void)state;
    pad_until_spaces(&client, &reply);
    node_exchange_reply_heap(fix->app.waiting, 200, "application/json", strdup("{\"a\":1}"), 7);
    run_for(&fix->loop, 30);
    assert_int_equal(shl_buf_append(&client.in, "", 1), 0);
    text = (const char *)shl_buf_data(&client.in);
    assert_non_null(strstr(text, "\r\n \r\n"));
    assert_non_null(strstr(text, "{\"a\":1}\r\n0\r\n\r\n"));
    assert_int_equal(fix->app.completed, 1);
    reply_release(&reply);
    client_close(&client);
}

static void test_server_padded_client_leaves(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    pad_until_spaces(&client, &reply);
    reply_release(&reply);
    client_close(&client);
    run_until(&fix->loop, is_all_closed, NULL);
    assert_int_equal(fix->app.closed, 1);
}

static void test_server_fast_reply_is_not_padded(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /pad HTTP/1.1\r\nHost: x\r\n\r\n");
    run_until(&fix->loop, is_waiting, NULL);
    node_exchange_fail(fix->app.waiting, SHL_EGONE, NULL);
    assert_true(client_reply(&client, &reply));
    assert_envelope(&reply, 410);
    reply_release(&reply);
    client_close(&client);
}

/* Listening */

static void test_server_port_taken_is_said_plainly(void **state)
{
    struct node_http_config config = {.app = {.on_head = on_head}};
    struct node_http *http = NULL;
    struct shl_err err = {0};
    char address[32];

    (void)state;
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", fix->port);
    config.listen = address;
    assert_int_equal(node_http_open(&fix->loop, &config, &http, &err), -EADDRINUSE);
    assert_non_null(strstr(err.msg, address));
    assert_non_null(strstr(err.msg, "in use"));
}

static void test_server_addresses(void **state)
{
    static const struct {
        const char *text;
        int rc;
    } rows[] = {
        {"127.0.0.1:0", 0},
        {"[::1]:0", 0},
        {":0", 0},
        {"localhost:0", 0},
        {"127.0.0.1", SHL_EINVALIDARG},
        {"127.0.0.1:x", SHL_EINVALIDARG},
        {"127.0.0.1:70000", SHL_EINVALIDARG},
        {"host:1", SHL_EINVALIDARG},
        {"[::1:80", SHL_EINVALIDARG},
        {"", SHL_EINVALIDARG},
        {"127.0.0.1:-1", SHL_EINVALIDARG},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct node_http_config config = {.app = {.on_head = on_head}, .listen = rows[i].text};
        struct node_http *http = NULL;
        struct shl_err err = {0};
        int rc = node_http_open(&fix->loop, &config, &http, &err);

        if (rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT) {
            continue; /* no IPv6 here */
        }
        if (rc != rows[i].rc) {
            fail_msg("%s: %d %s", rows[i].text, rc, err.msg);
        }
        if (rc == 0) {
            assert_true(node_http_port(http) > 0);
            fix->is_closed = false;
            node_http_close(http, on_http_closed, fix);
            run_until(&fix->loop, http_is_closed, fix);
            fix->is_closed = false;
        } else {
            assert_true(strlen(err.msg) > 20);
        }
    }
}

/* The argument, if any, is a pattern of test names to run. */
int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_server_echo_and_headers),
        TEST(test_server_keep_alive_and_pipelining),
        TEST(test_server_chunked_request_in_single_bytes),
        TEST(test_server_head_has_no_body),
        TEST(test_server_expect_100_continue),
        TEST(test_server_clients_leave_in_each_phase),
        TEST(test_server_late_reply_to_a_client_that_left),
        cmocka_unit_test_setup_teardown(test_server_close_with_requests_in_flight, setup,
                                        teardown_closed),
        TEST(test_server_padding_goes_before_the_body),
        TEST(test_server_padded_client_leaves),
        TEST(test_server_fast_reply_is_not_padded),
        TEST(test_server_port_taken_is_said_plainly),
        TEST(test_server_addresses),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
