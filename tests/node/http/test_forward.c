/* A client talks to an entry node over a socket, which passes everything on to an owner over
 * streams in memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/fetch.h"
#include "node/http/remote.h"
#include "node/http/server.h"
#include "node/http/wire.h"
#include "tests/node/http/app.h"
#include "tests/node/http/client.h"
#include "tests/node/http/entry.h"
#include "tests/node/http/fake_net.h"

#define OWNER   2
#define OTHER   3
#define HOSTILE 4
#define DOWN    5

struct fixture {
    uv_loop_t loop;
    struct fake_net net;
    struct fake_opener opener;
    struct node_remote *remotes[2]; /* owner, other */
    struct app apps[2];
    struct node_http *http;
    uint16_t port;
    struct entry entry;
    unsigned closing;
    /* what the hostile one says */
    struct shl_bytes script;
    size_t script_sent;
    struct node_stream *hostile;
    bool script_finishes;
};

static struct fixture *fix;

/* The hostile node says what is in the script, whatever it is asked. */

static void say_more(void *arg)
{
    (void)arg;
    if (!fix->hostile) {
        return;
    }
    while (fix->script_sent < fix->script.len) {
        size_t n =
            node_stream_write(fix->hostile, shl_bytes_of(fix->script.base + fix->script_sent,
                                                         fix->script.len - fix->script_sent));

        if (n == 0) {
            return;
        }
        fix->script_sent += n;
    }
    if (fix->script_finishes) {
        fix->script_finishes = false;
        node_stream_finish(fix->hostile);
    }
}

static size_t hostile_data(void *arg, struct shl_bytes data)
{
    (void)arg;
    return data.len;
}

static void hostile_end(void *arg)
{
    (void)arg;
}

static void hostile_closed(void *arg, int code, const char *msg)
{
    (void)arg;
    (void)code;
    (void)msg;
    fix->hostile = NULL;
}

static const struct node_stream_user hostile_user = {.data = hostile_data,
                                                     .end = hostile_end,
                                                     .writable = say_more,
                                                     .closed = hostile_closed};

static int hostile_accept(void *arg,
                          struct node_stream *s,
                          struct shl_bytes head,
                          struct shl_err *err)
{
    (void)arg;
    (void)head;
    (void)err;
    fix->hostile = s;
    fix->script_sent = 0;
    node_stream_set_user(s, &hostile_user, NULL);
    app_later(&fix->loop, say_more, NULL);
    return 0;
}

static int setup(void **state)
{
    struct node_http_config http = {
        .listen = "127.0.0.1:0", .node_name = "entry", .app = {.on_head = entry_on_head}};
    struct shl_err err;

    (void)state;
    fix = calloc(1, sizeof(*fix));
    uv_loop_init(&fix->loop);
    fake_net_init(&fix->net, &fix->loop, 1);
    for (int i = 0; i < 2; i++) {
        struct node_remote_config config = {.node_name = i == 0 ? "owner" : "other",
                                            .pad_after_ms = 5,
                                            .pad_every_ms = 5,
                                            .app = {.on_head = app_on_head, .arg = &fix->apps[i]}};

        assert_int_equal(node_remote_open(&fix->loop, &config, &fix->remotes[i], &err), 0);
        fake_net_add(&fix->net, i == 0 ? OWNER : OTHER, node_remote_accept, fix->remotes[i]);
    }
    fake_net_add(&fix->net, HOSTILE, hostile_accept, NULL);
    fake_net_add(&fix->net, DOWN, NULL, NULL)->is_down = true;
    fake_opener_init(&fix->opener, &fix->net, 1);
    http.app.arg = &fix->entry;
    fix->entry.opener = &fix->opener.base;
    assert_int_equal(node_http_open(&fix->loop, &http, &fix->http, &err), 0);
    fix->port = node_http_port(fix->http);
    fix->entry.nodes[0] = OWNER;
    return 0;
}

static void on_closed(void *arg)
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
    fix->closing = 3;
    node_http_close(fix->http, on_closed, NULL);
    node_remote_close(fix->remotes[0], on_closed, NULL);
    node_remote_close(fix->remotes[1], on_closed, NULL);
    run_until(&fix->loop, all_closed, NULL);
    fake_net_close(&fix->net);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(fix->net.open_now, 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

static void ask(const char *head, const char *body, struct reply *ret)
{
    request(&fix->loop, fix->port, head, body, body ? strlen(body) : 0, ret);
}

static void check_header(const struct reply *reply, const char *name, const char *value)
{
    char buf[256];
    const char *text = reply_header(reply, name, buf, sizeof(buf));

    if (!text || strcmp(text, value) != 0) {
        fail_msg("%s is %s", name, text ? text : "missing");
    }
}

static void check_unavailable(struct reply *reply, const char *part)
{
    assert_int_equal(reply->status, 503);
    check_header(reply, "Content-Type", "application/json");
    check_header(reply, "Retry-After", "2");
    check_header(reply, "X-Shoal-Node", "entry");
    if (!strstr((char *)reply->body, part)) {
        fail_msg("%s", (char *)reply->body);
    }
}

static void test_forward_is_like_direct(void **state)
{
    struct reply reply;

    (void)state;
    ask("POST /echo?x=%20y HTTP/1.1\r\nAccept: text/a\r\nX-Request-Id: my-id", "hello", &reply);
    assert_int_equal(reply.status, 201);
    assert_string_equal((char *)reply.body, "hello");
    check_header(&reply, "X-Shoal-Node", "owner");
    check_header(&reply, "X-Request-Id", "my-id");
    check_header(&reply, "X-Seen-Id", "my-id");
    check_header(&reply, "X-Seen-Accept", "text/a");
    check_header(&reply, "Content-Type", "text/plain");
    check_header(&reply, "Content-Length", "5");
    check_header(&reply, "Access-Control-Allow-Origin", "*");
    reply_release(&reply);
    assert_string_equal(fix->apps[0].origin, "http://entry.example");
    assert_int_equal(fix->apps[0].hops, 1);

    ask("GET /empty HTTP/1.1", NULL, &reply);
    assert_int_equal(reply.status, 204);
    check_header(&reply, "X-Shoal-Node", "owner");
    reply_release(&reply);

    ask("GET /nothing HTTP/1.1", NULL, &reply);
    assert_int_equal(reply.status, 404);
    assert_string_equal((char *)reply.body, "{\"error\":\"there is nothing\"}");
    reply_release(&reply);

    ask("HEAD /source?n=777 HTTP/1.1", NULL, &reply);
    assert_int_equal(reply.status, 200);
    check_header(&reply, "Content-Length", "777");
    reply_release(&reply);

    run_for(&fix->loop, 5);
    assert_int_equal(fix->apps[0].closed, 4);
    assert_int_equal(fix->apps[0].completed, 4);
    assert_int_equal(fix->net.open_now, 0);
}

static void test_forward_random_pieces(void **state)
{
    static const size_t windows[] = {1, 3, 64, 5000, 1u << 20};
    uint8_t *body = malloc(60000);

    (void)state;
    for (size_t i = 0; i < 60000; i++) {
        body[i] = app_pattern(i);
    }
    for (unsigned seed = 1; seed <= 40; seed++) {
        size_t size = fake_random(&(uint64_t){seed * 1337}) % (seed % 5 < 2 ? 800 : 60000);
        struct reply reply;
        char text[64];

        fix->net.seed = seed;
        fix->net.window = windows[seed % 5];
        fix->net.piece_max = seed % 3 ? 700 : NODE_STREAM_PIECE_MAX;
        fix->apps[0].sink_step = seed % 2 ? 57 : 0;
        fix->apps[0].source_step = seed % 4 ? 0 : 33;
        request(&fix->loop, fix->port, "PUT /sink HTTP/1.1", body, size, &reply);
        assert_int_equal(reply.status, 200);
        (void)snprintf(text, sizeof(text), "{\"bytes\":%zu}", size);
        assert_string_equal((char *)reply.body, text);
        reply_release(&reply);
        request(&fix->loop, fix->port, "POST /echo HTTP/1.1", body, size, &reply);
        assert_int_equal(reply.status, 201);
        assert_int_equal(reply.body_len, size);
        assert_memory_equal(reply.body ? reply.body : body, body, size);
        reply_release(&reply);
        (void)snprintf(text, sizeof(text), "GET /source?n=%zu%s HTTP/1.1", size,
                       seed % 2 ? "&chunked=1" : "");
        ask(text, NULL, &reply);
        assert_int_equal(reply.status, 200);
        assert_int_equal(reply.body_len, size);
        assert_memory_equal(reply.body ? reply.body : body, body, size);
        reply_release(&reply);
    }
    run_for(&fix->loop, 5);
    assert_int_equal(fix->apps[0].completed, 120);
    free(body);
}

/* 100 MB either way with a side that stops: nothing piles up. */
static void test_forward_bounded_memory(void **state)
{
    struct client client;
    struct reply head;
    size_t before;
    uint8_t *body = malloc(1u << 20);
    uint64_t read_bytes;

    (void)state;
    fix->net.window = 256 * 1024;
    client_open(&client, &fix->loop, fix->port);
    client_wait_connected(&client);
    before = heap_bytes();
    client_text(&client, "GET /source?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(client_reply_head(&client, &head));
    client.drop_body = true;
    client_pause(&client);
    do { /* until it stands still, which a busy machine reaches late */
        read_bytes = fix->apps[0].read_bytes;
        run_for(&fix->loop, 100);
    } while (fix->apps[0].read_bytes != read_bytes);
    assert_true(read_bytes < 20000000);
    assert_true(heap_bytes() - before < 2 * 1024 * 1024);
    client_read(&client);
    while (client.received_bytes < 100000000) {
        run_for(&fix->loop, 5);
    }
    reply_release(&head);

    client.drop_body = false;
    fix->apps[0].sink_stops = true;
    client_text(&client, "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 50331648\r\n\r\n");
    for (uint64_t i = 0; i < 48; i++) {
        for (size_t k = 0; k < 1u << 20; k++) {
            body[k] = app_pattern((i << 20) + k);
        }
        client_send(&client, body, 1u << 20);
    }
    run_for(&fix->loop, 50);
    assert_int_equal(fix->apps[0].sunk_bytes, 0);
    assert_true(client.unsent_bytes > 30u << 20);
    assert_true(fix->net.queued_max <= 256 * 1024);
    app_resume_sinks(&fix->apps[0]);
    shl_buf_clear(&client.in);
    assert_true(client_reply(&client, &head));
    assert_string_equal((char *)head.body, "{\"bytes\":50331648}");
    reply_release(&head);
    client_close(&client);
    free(body);
}

static void test_forward_padding(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /pad HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    app_answer(&fix->apps[0], "{}");
    while (!memmem(shl_buf_data(&client.in), shl_buf_len(&client.in), "0\r\n\r\n", 5)) {
        run_for(&fix->loop, 2);
    }
    assert_non_null(memmem(shl_buf_data(&client.in), shl_buf_len(&client.in), "{}", 2));
    client_close(&client);
}

/* The link is lost after every number of bytes towards the entry node: before the head of
 * the reply is complete an envelope, afterwards a connection that is cut; never a part. */
static void test_forward_lost_after_every_byte_of_the_reply(void **state)
{
    unsigned envelopes = 0;
    unsigned cuts = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        struct client client;
        struct reply reply;

        fix->net.cut_to_opener = i;
        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "GET /source?n=200%s HTTP/1.1\r\nHost: a\r\n\r\n",
                    i % 2 ? "&chunked=1" : "");
        if (client_reply(&client, &reply)) {
            if (reply.status == 200) { /* more than there is */
                assert_int_equal(reply.body_len, 200);
                reply_release(&reply);
                client_close(&client);
                break;
            }
            check_unavailable(&reply, "node the-owner, which serves this, did not answer");
            assert_false(fix->entry.failure.is_untouched);
            envelopes++;
            assert_int_equal(cuts, 0);
        } else {
            cuts++;
        }
        reply_release(&reply);
        client_close(&client);
    }
    assert_true(envelopes > 50);
    assert_true(cuts >= 200);
    assert_int_equal(fix->entry.failed, envelopes);
}

static void test_forward_lost_after_every_byte_of_the_body(void **state)
{
    uint8_t body[60];

    (void)state;
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = app_pattern(i);
    }
    for (unsigned i = 0; i < 2 * sizeof(body); i++) {
        struct reply reply;

        fix->net.cut_to_acceptor = i / 2;
        request(&fix->loop, fix->port, i % 2 ? "PUT /sink HTTP/1.1" : "POST /echo HTTP/1.1", body,
                sizeof(body), &reply);
        check_unavailable(&reply, "did not answer: the link was lost");
        assert_int_equal(fix->entry.failure.has_body, i % 2 == 0);
        reply_release(&reply);
    }
    run_for(&fix->loop, 5);
    assert_int_equal(fix->apps[0].closed, 2 * sizeof(body));
    assert_int_equal(fix->apps[0].completed, 0);
    assert_int_equal(fix->net.open_now, 0);
}

/* A client that leaves at any time takes the request at the owner with it. */
static void test_forward_client_leaves(void **state)
{
    static const char *const heads[] = {
        "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /source?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        "PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(heads); i++) {
        struct client client;

        fix->apps[0].sink_stops = true;
        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "%s", heads[i]);
        while (fix->apps[0].handled == i) {
            run_for(&fix->loop, 2);
        }
        client_close(&client);
        if (fix->apps[0].waiting) { /* suspended: noticed when it goes on */
            app_answer(&fix->apps[0], "{}");
        }
        while (fix->apps[0].closed == i) {
            run_for(&fix->loop, 2);
        }
        assert_int_equal(fix->apps[0].completed, 1); /* the answer that nobody waited for */
    }
    run_for(&fix->loop, 5);
    assert_int_equal(fix->net.open_now, 0);
}

/* A refusal costs nothing, whatever the body: another node gets the whole of it. */
static void test_forward_asks_elsewhere(void **state)
{
    struct reply reply;

    (void)state;
    fix->entry.nodes[1] = OTHER;
    ask("GET /refuse HTTP/1.1", NULL, &reply);
    check_unavailable(&reply, "nobody is left"); /* both refused */
    reply_release(&reply);
    assert_int_equal(fix->apps[0].handled, 1);
    assert_int_equal(fix->apps[1].handled, 1);

    fix->entry.nodes[0] = DOWN;
    ask("POST /echo HTTP/1.1", "hello", &reply);
    assert_int_equal(reply.status, 201);
    assert_string_equal((char *)reply.body, "hello");
    check_header(&reply, "X-Shoal-Node", "other");
    reply_release(&reply);
    assert_true(fix->entry.failure.is_untouched);
    assert_non_null(
        strstr(fix->entry.failure.err.msg, "cannot be reached: there is no link to it"));

    ask("PUT /sink HTTP/1.1", "", &reply);
    assert_string_equal((char *)reply.body, "{\"bytes\":0}");
    reply_release(&reply);

    /* A body that streams is not touched before somebody wants it. */
    fix->entry.nodes[0] = OWNER;
    fix->apps[0].sink_refuses = true;
    for (size_t size = 1; size <= 100000; size *= 10) {
        uint8_t *body = malloc(size);
        char text[32];

        for (size_t i = 0; i < size; i++) {
            body[i] = app_pattern(i);
        }
        request(&fix->loop, fix->port, "PUT /sink HTTP/1.1", body, size, &reply);
        (void)snprintf(text, sizeof(text), "{\"bytes\":%zu}", size);
        assert_string_equal((char *)reply.body, text);
        check_header(&reply, "X-Shoal-Node", "other");
        reply_release(&reply);
        free(body);
    }
}

static void test_forward_relays_a_refusal(void **state)
{
    struct reply reply;

    (void)state;
    fix->entry.relays_refusals = true;
    ask("GET /refuse HTTP/1.1", NULL, &reply);
    assert_int_equal(reply.status, 404);
    assert_string_equal((char *)reply.body, "{\"error\":\"it is not here\"}");
    check_header(&reply, "X-Shoal-Node", "owner");
    reply_release(&reply);
}

/* Replies of an owner that is not what it should be. */

static void script_reply(struct shl_buf *out, int64_t length, const char *body)
{
    struct node_wire_frame frame = {
        .kind = NODE_WIRE_REPLY,
        .status = 200,
        .length = length,
        .content_type = "text/plain",
        .node_name = "h",
        .headers = {{"Content-Length", "99"}, {"Transfer-Encoding", "x"}, {"X-Kept", "1"}},
        .header_count = 3};

    shl_buf_clear(out);
    assert_int_equal(node_wire_write_frame(&frame, out), 0);
    assert_int_equal(shl_buf_append_str(out, body), 0);
    fix->script = shl_buf_bytes(out);
    fix->script_finishes = true;
}

static void script_bytes(const char *bytes, size_t len)
{
    fix->script = shl_bytes_of(bytes, len);
    fix->script_finishes = true;
}

static void test_forward_hostile_owner(void **state)
{
    struct shl_buf out;
    struct reply reply;
    struct client client;

    (void)state;
    shl_buf_init(&out, 100000);
    fix->entry.nodes[0] = HOSTILE;
    script_reply(&out, 5, "hello");
    ask("GET /x HTTP/1.1", NULL, &reply); /* in order, but for headers of the connection */
    assert_int_equal(reply.status, 200);
    assert_string_equal((char *)reply.body, "hello");
    check_header(&reply, "Content-Length", "5");
    check_header(&reply, "X-Kept", "1");
    reply_release(&reply);

    script_bytes("", 0);
    ask("GET /x HTTP/1.1", NULL, &reply);
    check_unavailable(&reply, "it ended without an answer");
    reply_release(&reply);
    script_bytes("\xff\xff\xff\xff", 4);
    ask("GET /x HTTP/1.1", NULL, &reply);
    check_unavailable(&reply, "has a head of");
    reply_release(&reply);
    script_bytes("\x02\0\0\0\xc1\xc1", 6);
    ask("GET /x HTTP/1.1", NULL, &reply);
    check_unavailable(&reply, "not valid msgpack");
    reply_release(&reply);
    script_bytes("\x04\0\0\0\x81\xa1k\xc0", 8);
    ask("GET /x HTTP/1.1", NULL, &reply);
    check_unavailable(&reply, "a field in the head");
    reply_release(&reply);

    for (int64_t length = 3; length <= 7; length += 4) { /* too long, too short */
        script_reply(&out, length, "hello");
        client_open(&client, &fix->loop, fix->port);
        client_text(&client, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        if (client_reply(&client, &reply)) {
            /* All that was promised was passed on before more came. */
            assert_int_equal(length, 3);
            assert_string_equal((char *)reply.body, "hel");
        }
        reply_release(&reply);
        client_close(&client);
    }
    run_for(&fix->loop, 5);
    assert_int_equal(fix->net.open_now, 0);
    shl_buf_release(&out);
}

/* Answers in memory */

struct fetched {
    int status;
    char body[4096];
    unsigned calls;
};

static void on_fetched(void *arg, int status, struct shl_bytes body)
{
    struct fetched *fetched = arg;

    fetched->calls++;
    fetched->status = status;
    (void)snprintf(fetched->body, sizeof(fetched->body), "%.*s", (int)body.len,
                   (const char *)body.base);
}

static struct fetched fetch_with(struct node_exchange *x, unsigned number, size_t max, bool cancels)
{
    struct shl_node_id node = fake_node_id(number);
    struct fetched fetched = {.status = 0};
    struct node_fetch_config config = {.opener = &fix->opener.base,
                                       .node = &node,
                                       .origin = "http://entry.example",
                                       .via = "entry",
                                       .body_max = max,
                                       .cb = on_fetched,
                                       .arg = &fetched};
    struct node_fetch *fetch;

    fetched.status = node_fetch_start(x, &config, &fetch);
    if (fetched.status == 0 && cancels) {
        node_fetch_cancel(fetch);
        run_for(&fix->loop, 5);
        return fetched;
    }
    while (fetched.status == 0) {
        run_for(&fix->loop, 1);
    }
    return fetched;
}

static void test_forward_fetch(void **state)
{
    struct client client;
    struct fetched fetched;
    struct node_exchange *x;

    (void)state;
    /* A request that waits at the owner lends its exchange. */
    client_open(&client, &fix->loop, fix->port);
    client_text(&client, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    while (!fix->apps[0].waiting) {
        run_for(&fix->loop, 2);
    }
    x = fix->apps[0].waiting->x;
    x->hops = 0;
    x->target = "/nothing";
    fetched = fetch_with(x, OTHER, 1000, false);
    assert_int_equal(fetched.status, 404);
    assert_string_equal(fetched.body, "{\"error\":\"there is nothing\"}");
    x->target = "/source?n=1001";
    assert_int_equal(fetch_with(x, OTHER, 1000, false).status, SHL_ELIMIT);
    assert_int_equal(fetch_with(x, OTHER, 1001, false).status, 200);
    x->target = "/source?n=1000&fail=10";
    assert_int_equal(fetch_with(x, OTHER, 1000, false).status, -EIO);
    x->target = "/source?n=1000";
    assert_int_equal(fetch_with(x, OTHER, 1000, true).calls, 0);
    assert_int_equal(fetch_with(x, DOWN, 1000, false).status, SHL_EUNAVAILABLE);
    client_close(&client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_forward_is_like_direct),
        TEST(test_forward_random_pieces),
        TEST(test_forward_bounded_memory),
        TEST(test_forward_padding),
        TEST(test_forward_lost_after_every_byte_of_the_reply),
        TEST(test_forward_lost_after_every_byte_of_the_body),
        TEST(test_forward_client_leaves),
        TEST(test_forward_asks_elsewhere),
        TEST(test_forward_relays_a_refusal),
        TEST(test_forward_hostile_owner),
        TEST(test_forward_fetch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
