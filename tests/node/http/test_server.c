/* The HTTP server over real loopback sockets, client and server on one loop. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/http/server.h"
#include "tests/node/http/client.h"

#define MIB (1024u * 1024)

/* What the small application below knows. */
struct app {
    struct node_exchange *waiting; /* request of /wait */
    unsigned handled;
    unsigned closed;
    unsigned completed;
    /* /sink */
    struct node_exchange *sinking;
    uint64_t sunk_bytes;
    uint64_t sink_room;
    bool sink_any; /* do not look at the bytes */
    /* /source */
    uint64_t source_total;
    uint64_t source_at;
    uint64_t source_room; /* bytes that may be read now */
    unsigned released;
    struct node_exchange *sourcing;
};

struct fixture {
    uv_loop_t loop;
    struct node_http *http;
    struct app app;
    uint16_t port;
    bool is_closed;
};

static struct fixture *fix;

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 13));
}

static size_t sink_data(void *arg, struct shl_bytes data)
{
    struct app *app = arg;
    size_t take = (size_t)SHL_MIN(app->sink_room, (uint64_t)data.len);

    for (size_t i = 0; i < take; i++) {
        if (!app->sink_any && data.base[i] != pattern(app->sunk_bytes + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(app->sunk_bytes + i));
        }
    }
    app->sunk_bytes += take;
    app->sink_room -= take;
    return take;
}

static void sink_end(void *arg)
{
    struct app *app = arg;
    char *text = NULL;
    int len = asprintf(&text, "{\"bytes\":%llu}", (unsigned long long)app->sunk_bytes);

    node_exchange_reply_heap(app->sinking, 200, "application/json", text, (size_t)len);
}

static const struct node_sink_ops sink_ops = {.data = sink_data, .end = sink_end};

static ssize_t source_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app *app = arg;
    size_t len = (size_t)SHL_MIN(SHL_MIN((uint64_t)cap, app->source_room),
                                 app->source_total - app->source_at);

    if (app->source_at == app->source_total) {
        return NODE_SOURCE_END;
    }
    for (size_t i = 0; i < len; i++) {
        dst[i] = pattern(app->source_at + i);
    }
    app->source_at += len;
    app->source_room -= len;
    return (ssize_t)len;
}

static void source_release(void *arg)
{
    ((struct app *)arg)->released++;
}

static ssize_t broken_read(void *arg, uint8_t *dst, size_t cap)
{
    struct app *app = arg;

    if (app->source_at++ == 0) {
        memset(dst, 'x', SHL_MIN(cap, (size_t)100));
        return (ssize_t)SHL_MIN(cap, (size_t)100);
    }
    return -EIO;
}

static const struct node_source_ops source_ops = {.read = source_read, .release = source_release};
static const struct node_source_ops broken_ops = {.read = broken_read, .release = source_release};

static bool is_path(struct node_exchange *x, const char *name)
{
    return x->url.segment_count > 0 && strcmp(x->url.segments[0], name) == 0;
}

static void handle(void *arg)
{
    struct node_exchange *x = arg;
    struct app *app = &fix->app;

    app->handled++;
    if (is_path(x, "echo")) {
        char *copy = malloc(shl_buf_len(&x->body) + 1);

        if (shl_buf_len(&x->body) > 0) {
            memcpy(copy, shl_buf_data(&x->body), shl_buf_len(&x->body));
        }
        node_exchange_reply_heap(x, 200, "text/plain", copy, shl_buf_len(&x->body));
    } else if (is_path(x, "empty")) {
        node_exchange_reply_empty(x, 204);
    } else if (is_path(x, "wait")) {
        app->waiting = x;
    } else if (is_path(x, "pad")) {
        app->waiting = x;
        assert_int_equal(node_exchange_pad(x), 0);
    } else if (is_path(x, "sink")) {
        app->sinking = x;
        node_exchange_set_sink(x, &sink_ops, app);
    } else if (is_path(x, "source") || is_path(x, "broken")) {
        struct node_reply reply = {
            .status = 200,
            .content_type = "application/octet-stream",
            .source = is_path(x, "source") ? &source_ops : &broken_ops,
            .source_arg = app,
            .length = node_url_query(&x->url, "chunked") ? -1 : (int64_t)app->source_total};

        app->sourcing = x;
        node_exchange_reply(x, &reply);
    } else {
        node_exchange_fail(x, SHL_ENOTFOUND, NULL);
    }
}

static void on_close(void *arg, bool is_complete)
{
    (void)arg;
    fix->app.closed++;
    fix->app.completed += is_complete;
    fix->app.waiting = NULL;
    fix->app.sourcing = NULL;
    fix->app.sinking = NULL;
}

static void on_head(void *arg, struct node_exchange *x)
{
    (void)arg;
    if (is_path(x, "refuse")) {
        node_exchange_fail(x, SHL_EAUTH, "not you");
        return;
    }
    x->handle = handle;
    x->on_close = on_close;
    x->arg = x;
    if (is_path(x, "sink")) {
        x->body_mode = NODE_BODY_STREAMED;
        x->body_max = 200 * MIB;
    }
}

static int setup_with(void **state, struct node_http_config *config)
{
    struct shl_err err = {0};

    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does: clients go at any time */
    fix = calloc(1, sizeof(*fix));
    *state = fix;
    uv_loop_init(&fix->loop);
    config->listen = "127.0.0.1:0";
    config->app.on_head = on_head;
    if (node_http_open(&fix->loop, config, &fix->http, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    fix->port = node_http_port(fix->http);
    return 0;
}

static int setup(void **state)
{
    struct node_http_config config = {.pad_after_ms = 50, .pad_every_ms = 50, .connections_max = 8};

    return setup_with(state, &config);
}

/* For tests of the limits of time: a busy machine makes any client slow. */
static int setup_hasty(void **state)
{
    struct node_http_config config = {
        .head_timeout_ms = 400, .body_timeout_ms = 600, .idle_timeout_ms = 3000};

    return setup_with(state, &config);
}

static void on_http_closed(void *arg)
{
    ((struct fixture *)arg)->is_closed = true;
}

static bool http_is_closed(void *arg)
{
    return ((struct fixture *)arg)->is_closed;
}

static int teardown(void **state)
{
    (void)state;
    node_http_close(fix->http, on_http_closed, fix);
    run_until(&fix->loop, http_is_closed, fix);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) { /* closing handles of pads */
    }
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

static void assert_envelope(struct reply *reply, int status)
{
    char buf[128];

    assert_int_equal(reply->status, status);
    assert_non_null(reply->body);
    if (strncmp((char *)reply->body, "{\"error\":\"", 10) != 0) {
        fail_msg("no envelope: %s", (char *)reply->body);
    }
    assert_string_equal(reply_header(reply, "Content-Type", buf, sizeof(buf)), "application/json");
}

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

/* Limits and bad requests */

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
    assert_true(shl_monotonic_ms() - from_ms < 8000);
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

/* Clients that leave */

static bool is_all_closed(void *arg)
{
    struct node_http_stats stats;

    (void)arg;
    node_http_stats(fix->http, &stats);
    return stats.connections == 0 && stats.in_flight == 0;
}

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

static bool is_waiting(void *arg)
{
    (void)arg;
    return fix->app.waiting != NULL;
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

/* Large bodies in bounded memory */

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
        TEST(test_server_refuses_bad_heads_with_the_envelope),
        TEST(test_server_head_sizes),
        TEST(test_server_body_limit),
        TEST(test_server_connection_limit),
        cmocka_unit_test_setup_teardown(test_server_slow_heads_and_bodies_are_cut, setup_hasty,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_server_silent_connections_are_cut, setup_hasty,
                                        teardown),
        TEST(test_server_clients_leave_in_each_phase),
        TEST(test_server_late_reply_to_a_client_that_left),
        cmocka_unit_test_setup_teardown(test_server_close_with_requests_in_flight, setup,
                                        teardown_closed),
        TEST(test_server_padding_goes_before_the_body),
        TEST(test_server_padded_client_leaves),
        TEST(test_server_fast_reply_is_not_padded),
        TEST(test_server_upload_of_100_mb_waits_for_its_sink),
        TEST(test_server_download_of_100_mb_waits_for_its_reader),
        TEST(test_server_broken_source_cuts_the_connection),
        TEST(test_server_port_taken_is_said_plainly),
        TEST(test_server_addresses),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
