/* WebSockets: a client on a real socket, served by the node it is connected to, and by another
 * node behind it. Every test runs both ways. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/remote.h"
#include "node/http/server.h"
#include "node/http/websocket.h"
#include "tests/node/http/app.h"
#include "tests/node/http/client.h"
#include "tests/node/http/entry.h"
#include "tests/node/http/fake_net.h"
#include "tests/node/http/ws_client.h"

#define OWNER 2
#define KEY   "dGhlIHNhbXBsZSBub25jZQ=="

struct fixture {
    uv_loop_t loop;
    struct fake_net net;
    struct fake_opener opener;
    struct node_remote *remote;
    struct app app;
    struct node_http *http;
    uint16_t port;
    unsigned closing;
    struct entry entry; /* passes everything on to the owner */
};

static struct fixture *fix;

static int setup(void **state, bool is_forwarded)
{
    struct node_http_config http = {.listen = "127.0.0.1:0", .node_name = "owner"};
    struct node_remote_config remote = {.node_name = "owner"};
    struct shl_err err = {0};

    (void)signal(SIGPIPE, SIG_IGN);
    fix = calloc(1, sizeof(*fix));
    *state = fix;
    uv_loop_init(&fix->loop);
    fake_net_init(&fix->net, &fix->loop, 7);
    fix->net.window = 64 * 1024;
    fake_opener_init(&fix->opener, &fix->net, 1);
    fix->entry =
        (struct entry){.opener = &fix->opener.base, .nodes = {OWNER}, .relays_refusals = true};
    remote.app = (struct node_exchange_app){app_on_head, &fix->app};
    http.app = is_forwarded ? (struct node_exchange_app){entry_on_head, &fix->entry} : remote.app;
    assert_int_equal(node_remote_open(&fix->loop, &remote, &fix->remote, &err), 0);
    (void)fake_net_add(&fix->net, OWNER, node_remote_accept, fix->remote);
    if (node_http_open(&fix->loop, &http, &fix->http, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    fix->port = node_http_port(fix->http);
    return 0;
}

static int setup_direct(void **state)
{
    return setup(state, false);
}

static int setup_forwarded(void **state)
{
    return setup(state, true);
}

static void on_part_closed(void *arg)
{
    (void)arg;
    fix->closing--;
}

static bool all_closed(void *arg)
{
    (void)arg;
    return fix->closing == 0;
}

static int teardown(void **state)
{
    (void)state;
    fix->closing = 2;
    node_http_close(fix->http, on_part_closed, NULL);
    node_remote_close(fix->remote, on_part_closed, NULL);
    run_until(&fix->loop, all_closed, NULL);
    fake_net_close(&fix->net);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(fix->app.closed, fix->app.handled);
    assert_int_equal(fix->app.sockets_closed, fix->app.accepted);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

/* The client's side of the protocol */

static void open_socket(struct client *client, const char *target)
{
    client_open(client, &fix->loop, fix->port);
    client_text(client,
                "GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: " KEY "\r\n\r\n",
                target);
}

static void expect_upgraded(struct client *client)
{
    struct reply reply;
    char buf[128];

    assert_true(client_reply_head(client, &reply));
    assert_int_equal(reply.status, 101);
    assert_string_equal(reply_header(&reply, "Upgrade", buf, sizeof(buf)), "websocket");
    assert_string_equal(reply_header(&reply, "Connection", buf, sizeof(buf)), "Upgrade");
    assert_null(reply_header(&reply, "Content-Length", buf, sizeof(buf)));
    assert_null(reply_header(&reply, "Transfer-Encoding", buf, sizeof(buf)));
    reply_release(&reply);
}

static void open_ws(struct client *client, const char *target)
{
    open_socket(client, target);
    expect_upgraded(client);
}

static void expect_frame(struct client *client, uint8_t first, const char *text)
{
    struct ws_frame frame;

    assert_true(ws_next(client, &frame));
    assert_int_equal(frame.first, first);
    assert_string_equal((char *)frame.data, text);
    free(frame.data);
}

static void expect_close(struct client *client, unsigned code)
{
    struct ws_frame frame;

    do {
        assert_true(ws_next(client, &frame));
        if (frame.first == 0x88) {
            assert_int_equal(frame.len >= 2, code != 0);
            if (code != 0 && frame.len >= 2) {
                assert_int_equal(frame.data[0] << 8 | frame.data[1], code);
            }
        }
        free(frame.data);
    } while (frame.first != 0x88);
}

static bool socket_is_closed(void *arg)
{
    (void)arg;
    return fix->app.sockets_closed == fix->app.accepted;
}

/* Tests */

static void test_socket_accept_key(void **state)
{
    char accept[NODE_WEBSOCKET_ACCEPT_SIZE];

    (void)state;
    assert_true(node_websocket_accept_key(KEY, accept)); /* the one of the RFC */
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_false(node_websocket_accept_key("", accept));
    assert_false(node_websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ=", accept));
    assert_false(node_websocket_accept_key("dGhlIHNhbXBsZSBub25j\r\nQ==", accept));
    assert_false(node_websocket_accept_key("dGhlIHNhbXBsZSBub25jZQAA", accept));
}

static void test_socket_messages_and_close(void **state)
{
    struct client client;

    (void)state;
    open_ws(&client, "/ws");
    ws_send(&client, 0x81, "hello", 5);
    expect_frame(&client, 0x81, "hello");
    ws_send(&client, 0x82, "", 0);
    expect_frame(&client, 0x82, "");
    /* In pieces, with a ping between them. */
    ws_send(&client, 0x01, "one ", 4);
    ws_send(&client, 0x89, "are you there", 13);
    ws_send(&client, 0x00, "two ", 4);
    ws_send(&client, 0x80, "three", 5);
    expect_frame(&client, 0x8a, "are you there");
    expect_frame(&client, 0x81, "one two three");
    ws_send(&client, 0x88, "\x0f\xa2going", 7); /* 4002 */
    expect_close(&client, 4002);
    client_wait_end(&client);
    run_until(&fix->loop, socket_is_closed, NULL);
    assert_int_equal(fix->app.close_code, 4002);
    client_close(&client);
}

static void test_socket_server_closes(void **state)
{
    struct client client;
    struct ws_frame frame;

    (void)state;
    open_ws(&client, "/ws");
    ws_send(&client, 0x81, "last", 4);
    ws_send(&client, 0x81, "bye", 3);
    ws_send(&client, 0x81, "nobody reads this", 17);
    expect_frame(&client, 0x81, "last");
    assert_true(ws_next(&client, &frame));
    assert_int_equal(frame.first, 0x88);
    assert_memory_equal(frame.data,
                        "\x0f\xa1"
                        "as you wish",
                        13);
    free(frame.data);
    ws_send(&client, 0x88, "\x0f\xa1", 2);
    client_wait_end(&client);
    run_until(&fix->loop, socket_is_closed, NULL);
    assert_int_equal(fix->app.close_code, 4001);
    assert_int_equal(fix->app.messages, 1);
    client_close(&client);
}

/* A client may speak before it hears that it may. */
static void test_socket_first_frame_with_the_head(void **state)
{
    uint8_t bytes[1024];
    size_t len;
    struct client client;

    (void)state;
    len = (size_t)snprintf((char *)bytes, sizeof(bytes),
                           "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                           "Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
                           "Sec-WebSocket-Key: " KEY "\r\n\r\n");
    len += ws_make_frame(bytes + len, 0x81, "early", 5);
    client_open(&client, &fix->loop, fix->port);
    client_send(&client, bytes, len);
    expect_upgraded(&client);
    expect_frame(&client, 0x81, "early");
    client_close(&client);
}

/* What RFC 6455 forbids is answered by a close, with the code it names when it is one of messages
 * and not of frames. */
static void test_socket_rules(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        unsigned code;
    } bad[] = {
        {"\x81\x05hello", 7, 1002},                                  /* not masked */
        {"\xc1\x80\x01\x02\x03\x04", 6, 1002},                       /* reserved bit */
        {"\x83\x80\x01\x02\x03\x04", 6, 1002},                       /* unknown opcode */
        {"\x09\x80\x01\x02\x03\x04", 6, 0},                          /* ping in pieces */
        {"\x80\x80\x01\x02\x03\x04", 6, 1002},                       /* goes on with nothing */
        {"\x81\x82\0\0\0\0\xc3\x28", 8, 1007},                       /* not UTF-8 */
        {"\x82\xff\0\0\0\0\x40\0\0\0\0\0\0\0x", 15, 1009},           /* huge */
        {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 0}, /* length of 2^64-1 */
        {"\x88\x81\0\0\0\0\x03", 7, 0},                              /* half a code */
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        struct client client;

        open_ws(&client, "/ws");
        client_send(&client, bad[i].bytes, bad[i].len);
        expect_close(&client, bad[i].code);
        client_wait_end(&client);
        client_close(&client);
        run_until(&fix->loop, socket_is_closed, NULL);
    }
    assert_int_equal(fix->app.messages, 0);
}

static void send_pattern(struct client *client, unsigned i, size_t len)
{
    uint8_t *data = malloc(len);

    for (size_t k = 0; k < len; k++) {
        data[k] = app_pattern(i * 131 + k);
    }
    ws_send(client, 0x82, data, len);
    free(data);
}

static void expect_pattern(struct client *client, unsigned i, size_t len)
{
    struct ws_frame frame;

    assert_true(ws_next(client, &frame));
    assert_int_equal(frame.first, 0x82);
    assert_int_equal(frame.len, len);
    for (size_t k = 0; k < len; k++) {
        if (frame.data[k] != app_pattern(i * 131 + k)) {
            fail_msg("byte %zu of message %u is wrong", k, i);
        }
    }
    free(frame.data);
}

/* The owner takes nothing, then everything; the client reads nothing, then everything. In
 * between what is under way is bounded, and in the end each message came once, in order. */
static void test_socket_back_pressure(void **state)
{
    static const size_t sizes[] = {1, 70000, 0, 125, 126, 65535, 65536, 99999, 3};
    const unsigned count = 400;
    struct client client;
    uint64_t messages;

    (void)state;
    fix->app.socket_stops = true;
    open_ws(&client, "/ws");
    for (unsigned i = 0; i < count; i++) {
        send_pattern(&client, i, sizes[i % SHL_ARRAY_SIZE(sizes)]);
    }
    run_for(&fix->loop, 300);
    assert_int_equal(fix->app.messages, 0);
    assert_true(client.unsent_bytes > 0);
    client_pause(&client);
    app_resume_sockets(&fix->app);
    run_for(&fix->loop, 300);
    messages = fix->app.messages;
    assert_true(messages > 0 && messages < count);
    client_read(&client);
    for (unsigned i = 0; i < count; i++) {
        expect_pattern(&client, i, sizes[i % SHL_ARRAY_SIZE(sizes)]);
    }
    client_close(&client);
}

/* What the owner did not take is in the way of nothing once it has closed. */
static void test_socket_close_while_nothing_is_taken(void **state)
{
    struct client client;
    struct ws_frame frame;

    (void)state;
    fix->app.socket_stops = true;
    open_ws(&client, "/ws");
    for (unsigned i = 0; i < 10; i++) {
        send_pattern(&client, i, 99999);
    }
    run_for(&fix->loop, 100);
    app_close_sockets(&fix->app);
    assert_true(ws_next(&client, &frame));
    assert_int_equal(frame.first, 0x88);
    free(frame.data);
    ws_send(&client, 0x88, "\x0f\xa2", 2);
    client_finish(&client);
    run_until(&fix->loop, socket_is_closed, NULL);
    assert_int_equal(fix->app.close_code, 4002);
    assert_int_equal(fix->app.messages, 0);
    client_close(&client);
}

/* Nothing is read from the connection and nothing sent: its reset is noticed all the same. */
static void test_socket_reset_while_nothing_is_taken(void **state)
{
    struct client client;

    (void)state;
    fix->app.socket_stops = true;
    open_ws(&client, "/ws?ping=600000");
    for (unsigned i = 0; i < 10; i++) {
        send_pattern(&client, i, 99999);
    }
    run_for(&fix->loop, 100);
    client_reset(&client);
    run_until(&fix->loop, socket_is_closed, NULL);
    assert_int_equal(fix->app.close_code, NODE_WEBSOCKET_LOST);
}

/* Pings of a client that does not read the pongs do not pile up. */
static void test_socket_ping_flood(void **state)
{
    const unsigned count = 300000;
    struct client client;
    uint8_t ping[256];
    size_t len =
        ws_make_frame(ping, 0x89, "01234567890123456789012345678901234567890123456789", 50);
    uint8_t *all = malloc(len * count);
    size_t before;

    (void)state;
    for (unsigned i = 0; i < count; i++) {
        memcpy(all + i * len, ping, len);
    }
    open_ws(&client, "/ws");
    client_pause(&client);
    before = heap_bytes();
    client_send(&client, all, len * count);
    free(all);
    run_for(&fix->loop, 500);
    assert_true(client.unsent_bytes > 0);
    if (before > 0) {
        assert_true(heap_bytes() < before + len * count + 4 * 1024 * 1024);
    }
    client_read(&client);
    for (unsigned i = 0; i < 1000; i++) {
        struct ws_frame frame;

        assert_true(ws_next(&client, &frame));
        assert_int_equal(frame.first, 0x8a);
        free(frame.data);
    }
    client_close(&client);
}

static void test_socket_is_refused(void **state)
{
    struct client client;
    struct reply reply;
    char buf[64];

    (void)state;
    request(&fix->loop, fix->port, "GET /ws HTTP/1.1", NULL, 0, &reply);
    assert_int_equal(reply.status, 426);
    assert_string_equal(reply_header(&reply, "Sec-WebSocket-Version", buf, sizeof(buf)), "13");
    reply_release(&reply);
    request(&fix->loop, fix->port,
            "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " KEY,
            NULL, 0, &reply);
    assert_int_equal(reply.status, 426);
    reply_release(&reply);
    request(&fix->loop, fix->port,
            "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc",
            NULL, 0, &reply);
    assert_int_equal(reply.status, 400);
    reply_release(&reply);
    /* The handler says no, the route knows no sockets: ordinary replies. */
    open_socket(&client, "/refuse");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 404);
    reply_release(&reply);
    client_wait_end(&client);
    client_close(&client);
    open_socket(&client, "/echo");
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 201);
    reply_release(&reply);
    client_close(&client);
    assert_int_equal(fix->app.accepted, 0);
}

static void test_socket_client_leaves(void **state)
{
    struct client client;

    (void)state;
    for (int i = 0; i < 3; i++) {
        open_ws(&client, "/ws");
        ws_send(&client, 0x81, "hello", 5);
        if (i > 0) {
            expect_frame(&client, 0x81, "hello");
        }
        if (i == 2) {
            client_send(&client, "\x81\xfe\x10", 3); /* in the middle of a frame */
        }
        client_close(&client);
        run_until(&fix->loop, socket_is_closed, NULL);
        assert_int_equal(fix->app.close_code, NODE_WEBSOCKET_LOST);
    }
}

/* Pings come on time for those who keep the line open for us; answers are not asked for, since
 * who does not read for a while cannot give any. */
static void test_socket_pings(void **state)
{
    struct client client;

    (void)state;
    open_ws(&client, "/ws?ping=20");
    for (int i = 0; i < 5; i++) {
        expect_frame(&client, 0x89, "");
    }
    ws_send(&client, 0x8a, "", 0);
    ws_send(&client, 0x8a, "never asked", 11);
    ws_send(&client, 0x81, "bye", 3);
    expect_close(&client, 4001);
    client_close(&client);
}

/* Bytes without frames: as many as there are, both ways, and each end for itself. */
static void test_socket_raw_bytes_and_half_close(void **state)
{
    const size_t total = 3 * 1024 * 1024;
    struct client client;
    uint8_t *data = malloc(total);

    (void)state;
    for (size_t i = 0; i < total; i++) {
        data[i] = app_pattern(i);
    }
    open_socket(&client, "/pipe");
    expect_upgraded(&client);
    client_send(&client, data, total);
    client_finish(&client);
    client_wait_end(&client);
    assert_int_equal(shl_buf_len(&client.in), total);
    assert_memory_equal(shl_buf_data(&client.in), data, total);
    assert_false(client.is_reset);
    client_close(&client);
    free(data);
}

static bool is_failed_or_cut(void *arg)
{
    return ((struct client *)arg)->is_ended;
}

/* The node that serves it is lost: the client is cut off, the owner's side hears it. */
static void test_socket_node_lost(void **state)
{
    struct client client;

    (void)state;
    open_ws(&client, "/ws");
    ws_send(&client, 0x81, "hello", 5);
    expect_frame(&client, 0x81, "hello");
    fake_net_cut_all(&fix->net, -ECONNRESET, "the node is lost");
    run_until(&fix->loop, is_failed_or_cut, &client);
    run_until(&fix->loop, socket_is_closed, NULL);
    assert_int_equal(fix->app.close_code, NODE_WEBSOCKET_LOST);
    client_close(&client);
}

/* The server closes under open sockets (teardown checks that each was told). */
static void test_socket_server_goes(void **state)
{
    static struct client clients[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        open_ws(&clients[i], "/ws");
    }
    fix->app.socket_stops = true;
    send_pattern(&clients[0], 0, 90000);
    run_for(&fix->loop, 50);
    fix->closing = 1;
    node_remote_close(fix->remote, on_part_closed, NULL);
    run_until(&fix->loop, all_closed, NULL);
    fix->closing = 1;
    node_http_close(fix->http, on_part_closed, NULL);
    run_until(&fix->loop, all_closed, NULL);
    for (int i = 0; i < 3; i++) {
        client_wait_end(&clients[i]);
        client_close(&clients[i]);
    }
}

static int teardown_closed(void **state)
{
    (void)state;
    fake_net_close(&fix->net);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(fix->app.closed, fix->app.handled);
    assert_int_equal(fix->app.sockets_closed, 3);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

#define DIRECT(name) cmocka_unit_test_setup_teardown(name, setup_direct, teardown)
#define BOTH(name)                                                \
    DIRECT(name),                                                 \
    {                                                             \
#name "_forwarded", name, setup_forwarded, teardown, NULL \
    }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_socket_accept_key),
        BOTH(test_socket_messages_and_close),
        BOTH(test_socket_server_closes),
        BOTH(test_socket_first_frame_with_the_head),
        BOTH(test_socket_rules),
        BOTH(test_socket_back_pressure),
        BOTH(test_socket_close_while_nothing_is_taken),
        BOTH(test_socket_reset_while_nothing_is_taken),
        BOTH(test_socket_ping_flood),
        BOTH(test_socket_is_refused),
        BOTH(test_socket_client_leaves),
        BOTH(test_socket_pings),
        BOTH(test_socket_raw_bytes_and_half_close),
        {"test_socket_node_lost", test_socket_node_lost, setup_forwarded, teardown, NULL},
        cmocka_unit_test_setup_teardown(test_socket_server_goes, setup_direct, teardown_closed),
        {"test_socket_server_goes_forwarded", test_socket_server_goes, setup_forwarded,
         teardown_closed, NULL},
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
