/* Requests of other nodes: the owner's side, spoken to in bytes over streams in memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/remote.h"
#include "node/http/wire.h"
#include "tests/node/http/app.h"
#include "tests/node/http/client.h"
#include "tests/node/http/fake_net.h"

#define OWNER 2

struct fixture {
    uv_loop_t loop;
    struct fake_net net;
    struct fake_opener opener;
    struct node_remote *remote;
    struct app app;
    bool is_closed;
};

static struct fixture *fix;

/* One request, seen from the entry node. */
struct visitor {
    struct node_stream *stream;
    const uint8_t *body;
    size_t body_len;
    size_t sent;
    size_t take_max; /* of one callback, 0 all */
    bool is_stopped; /* takes nothing */
    bool sends_on_go;
    bool is_finished;
    struct shl_buf in;
    uint64_t in_bytes;
    bool drops; /* counts body bytes only */
    bool is_ended;
    bool is_closed;
    int code;
    char msg[SHL_ERR_TEXT_MAX];
};

static void send_more(struct visitor *v)
{
    while (v->sent < v->body_len) {
        size_t n =
            node_stream_write(v->stream, shl_bytes_of(v->body + v->sent, v->body_len - v->sent));

        if (n == 0) {
            return;
        }
        v->sent += n;
    }
    if (!v->is_finished) {
        v->is_finished = true;
        node_stream_finish(v->stream);
    }
}

static void resume(void *arg)
{
    struct visitor *v = arg;

    if (!v->is_closed) {
        node_stream_resume(v->stream);
    }
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct visitor *v = arg;
    size_t take = v->is_stopped ? 0 : data.len;

    if (v->take_max > 0 && take > v->take_max) {
        take = v->take_max;
        app_later(&fix->loop, resume, v);
    }
    v->in_bytes += take;
    if (!v->drops || shl_buf_len(&v->in) < 4096) {
        assert_int_equal(shl_buf_append(&v->in, data.base, take), 0);
    }
    if (v->sends_on_go && shl_buf_len(&v->in) > 0) {
        struct node_wire_frame frame;
        int len = node_wire_read_frame(shl_buf_bytes(&v->in), &frame, NULL);

        if (len > 0) {
            v->sends_on_go = false;
            if (frame.kind == NODE_WIRE_GO) {
                shl_buf_consume(&v->in, (size_t)len);
                send_more(v);
            }
            node_wire_frame_release(&frame);
        }
    }
    return take;
}

static void on_end(void *arg)
{
    struct visitor *v = arg;

    v->is_ended = true;
}

static void on_writable(void *arg)
{
    send_more(arg);
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct visitor *v = arg;

    v->is_closed = true;
    v->code = code;
    (void)snprintf(v->msg, sizeof(v->msg), "%s", msg ? msg : "");
}

static const struct node_stream_user user = {.data = on_data,
                                             .end = on_end,
                                             .writable = on_writable,
                                             .closed = on_closed};

static struct node_wire_request plain(const char *method, const char *target, int64_t length)
{
    return (struct node_wire_request){.method = method,
                                      .target = target,
                                      .origin = "http://a.example:8080",
                                      .via = "node-a",
                                      .body_length = length,
                                      .hops = 1,
                                      .headers = {{"X-Request-Id", "req-1"}, {"Accept", "x/y"}},
                                      .header_count = 2};
}

static void visit_bytes(struct visitor *v, struct shl_bytes head)
{
    struct shl_node_id owner = fake_node_id(OWNER);
    struct shl_err err;

    shl_buf_init(&v->in, 64u * 1024 * 1024);
    if (fix->opener.base.open(&fix->opener.base, &owner, NODE_WIRE_KIND, head, &user, v, &v->stream,
                              &err) < 0) {
        fail_msg("%s", err.msg);
    }
}

static void visit(struct visitor *v, const struct node_wire_request *request)
{
    struct shl_buf head;

    shl_buf_init(&head, NODE_STREAM_HEAD_MAX);
    assert_int_equal(node_wire_write_request(request, &head), 0);
    visit_bytes(v, shl_buf_bytes(&head));
    shl_buf_release(&head);
}

static bool is_over(void *arg)
{
    return ((struct visitor *)arg)->is_closed;
}

static void wait_for(struct visitor *v)
{
    run_until(&fix->loop, is_over, v);
}

/* Takes the reply's frame off the front. */
static void take_reply(struct visitor *v, struct node_wire_frame *frame)
{
    struct shl_err err = {0};
    int len = node_wire_read_frame(shl_buf_bytes(&v->in), frame, &err);

    if (len <= 0) {
        fail_msg("no reply: %s %s", err.msg, v->msg);
    }
    shl_buf_consume(&v->in, (size_t)len);
    assert_int_equal(frame->kind, NODE_WIRE_REPLY);
}

static void visitor_release(struct visitor *v)
{
    shl_buf_release(&v->in);
}

static int setup_with(uint32_t peer_max, uint32_t body_timeout_ms)
{
    struct node_remote_config config = {.node_name = "owner",
                                        .peer_requests_max = peer_max,
                                        .body_timeout_ms = body_timeout_ms,
                                        .pad_after_ms = 5,
                                        .pad_every_ms = 5};
    struct shl_err err;

    fix = calloc(1, sizeof(*fix));
    uv_loop_init(&fix->loop);
    fake_net_init(&fix->net, &fix->loop, 1);
    config.app = (struct node_exchange_app){.on_head = app_on_head, .arg = &fix->app};
    assert_int_equal(node_remote_open(&fix->loop, &config, &fix->remote, &err), 0);
    fake_net_add(&fix->net, OWNER, node_remote_accept, fix->remote);
    fake_opener_init(&fix->opener, &fix->net, 1);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_with(0, 0);
}

static void on_remote_closed(void *arg)
{
    ((struct fixture *)arg)->is_closed = true;
}

static bool remote_is_closed(void *arg)
{
    return ((struct fixture *)arg)->is_closed;
}

static int teardown(void **state)
{
    (void)state;
    if (!fix->is_closed) {
        node_remote_close(fix->remote, on_remote_closed, fix);
    }
    run_until(&fix->loop, remote_is_closed, fix);
    fake_net_close(&fix->net);
    while (uv_run(&fix->loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    assert_int_equal(fix->net.open_now, 0);
    free(fix);
    return 0;
}

static void test_remote_buffered_body_and_headers(void **state)
{
    struct node_wire_request request = plain("POST", "/echo?a=b", 5);
    struct visitor v = {.body = (const uint8_t *)"hello", .body_len = 5};
    struct node_wire_frame frame;

    (void)state;
    visit(&v, &request);
    send_more(&v);
    wait_for(&v);
    assert_int_equal(v.code, 0);
    take_reply(&v, &frame);
    assert_int_equal(frame.status, 201);
    assert_int_equal(frame.length, 5);
    assert_int_equal(frame.refusal, NODE_REFUSAL_NONE);
    assert_string_equal(frame.content_type, "text/plain");
    assert_string_equal(frame.node_name, "owner");
    assert_int_equal(frame.header_count, 2);
    assert_string_equal(frame.headers[0].name, "X-Seen-Id");
    assert_string_equal(frame.headers[0].value, "req-1");
    assert_string_equal(frame.headers[1].value, "x/y");
    assert_int_equal(shl_buf_len(&v.in), 5);
    assert_memory_equal(shl_buf_data(&v.in), "hello", 5);
    assert_int_equal(fix->app.completed, 1);
    assert_int_equal(fix->app.hops, 1);
    assert_string_equal(fix->app.origin, "http://a.example:8080");
    node_wire_frame_release(&frame);
    visitor_release(&v);
}

/* Random pieces, windows and slow sides: the bytes are the same. */
static void test_remote_streams_any_way(void **state)
{
    static const size_t windows[] = {1, 7, 100, 4096, 1u << 20};
    uint8_t *body = malloc(40000);

    (void)state;
    for (size_t i = 0; i < 40000; i++) {
        body[i] = app_pattern(i);
    }
    for (unsigned seed = 1; seed <= 40; seed++) {
        size_t size = fake_random(&(uint64_t){seed * 77}) % (seed % 4 ? 3000 : 40000);
        struct node_wire_request up = plain("PUT", "/sink", seed % 3 ? (int64_t)size : -1);
        struct visitor a = {.body = body, .body_len = size, .sends_on_go = true};
        struct visitor b = {.take_max = seed % 2 ? 13 : 0, .body_len = 0};
        struct node_wire_frame frame;
        char target[64];
        char text[64];

        fix->net.seed = seed;
        fix->net.window = windows[seed % 5];
        fix->net.piece_max = seed % 3 ? 500 : NODE_STREAM_PIECE_MAX;
        fix->app.sink_step = seed % 2 ? 9 : 0;
        fix->app.source_step = seed % 3 ? 0 : 11;
        up.holds_body = true;
        visit(&a, &up);
        (void)snprintf(target, sizeof(target), "/source?n=%zu%s", size,
                       seed % 2 ? "&chunked=1" : "");
        struct node_wire_request down = plain("GET", target, 0);

        visit(&b, &down);
        send_more(&b);
        wait_for(&a);
        wait_for(&b);
        assert_int_equal(a.code, 0);
        take_reply(&a, &frame);
        assert_int_equal(frame.status, 200);
        (void)snprintf(text, sizeof(text), "{\"bytes\":%zu}", size);
        assert_int_equal(shl_buf_len(&a.in), strlen(text));
        assert_memory_equal(shl_buf_data(&a.in), text, strlen(text));
        node_wire_frame_release(&frame);

        assert_int_equal(b.code, 0);
        take_reply(&b, &frame);
        assert_int_equal(frame.length, seed % 2 ? -1 : (int64_t)size);
        assert_int_equal(shl_buf_len(&b.in), size);
        assert_memory_equal(shl_buf_data(&b.in) ? shl_buf_data(&b.in) : body, body, size);
        node_wire_frame_release(&frame);
        visitor_release(&a);
        visitor_release(&b);
        assert_true(fix->net.queued_max <= NODE_STREAM_WINDOW);
    }
    assert_int_equal(fix->app.closed, 80);
    assert_int_equal(fix->app.completed, 80);
    assert_int_equal(fix->app.released, 40);
    free(body);
}

/* A peer that takes nothing stops the source; one whose handler takes nothing is stopped. */
static void test_remote_back_pressure(void **state)
{
    struct node_wire_request down = plain("GET", "/source?n=100000000", 0);
    struct node_wire_request up = plain("PUT", "/sink", 50000000);
    struct visitor a = {.is_stopped = true};
    struct visitor b = {.body_len = 50000000};
    uint8_t *body = malloc(b.body_len);
    size_t before = heap_bytes();

    (void)state;
    fix->net.window = 100000;
    for (size_t i = 0; i < b.body_len; i++) {
        body[i] = app_pattern(i);
    }
    b.body = body;
    fix->app.sink_stops = true;
    visit(&a, &down);
    send_more(&a);
    visit(&b, &up);
    send_more(&b);
    run_for(&fix->loop, 50);
    assert_true(fix->app.read_bytes >= 100000);
    assert_true(fix->app.read_bytes <= 100000 + 2 * NODE_STREAM_PIECE_MAX);
    assert_int_equal(fix->app.sunk_bytes, 0);
    assert_true(b.sent <= 100000);
    assert_true(heap_bytes() - before < 1024u * 1024);
    /* Both go on. */
    a.drops = true;
    a.is_stopped = false;
    node_stream_resume(a.stream);
    app_resume_sinks(&fix->app);
    wait_for(&a);
    wait_for(&b);
    assert_int_equal(a.code, 0);
    assert_int_equal(b.code, 0);
    assert_true(a.in_bytes > 100000000);
    assert_int_equal(fix->app.sunk_bytes, 50000000);
    visitor_release(&a);
    visitor_release(&b);
    free(body);
}

static void test_remote_heads_without_a_body(void **state)
{
    struct node_wire_request head = plain("HEAD", "/source?n=1234", 0);
    struct node_wire_request empty = plain("GET", "/empty", 0);
    struct node_wire_request refused = plain("GET", "/refuse", 0);
    struct node_wire_request broken = plain("GET", "/a%zz", 0);
    struct visitor v[4] = {{.body_len = 0}};
    struct node_wire_frame frame;

    (void)state;
    visit(&v[0], &head);
    visit(&v[1], &empty);
    visit(&v[2], &refused);
    visit(&v[3], &broken);
    for (int i = 0; i < 4; i++) {
        send_more(&v[i]);
        wait_for(&v[i]);
        assert_int_equal(v[i].code, 0);
    }
    take_reply(&v[0], &frame);
    assert_int_equal(frame.length, 1234);
    assert_int_equal(shl_buf_len(&v[0].in), 0);
    assert_int_equal(fix->app.read_bytes, 0);
    node_wire_frame_release(&frame);
    take_reply(&v[1], &frame);
    assert_int_equal(frame.status, 204);
    assert_null(frame.content_type);
    node_wire_frame_release(&frame);
    take_reply(&v[2], &frame);
    assert_int_equal(frame.status, 404);
    assert_int_equal(frame.refusal, NODE_REFUSAL_NOT_HERE);
    node_wire_frame_release(&frame);
    take_reply(&v[3], &frame);
    assert_int_equal(frame.status, 400);
    node_wire_frame_release(&frame);
    for (int i = 0; i < 4; i++) {
        visitor_release(&v[i]);
    }
}

static void test_remote_padding(void **state)
{
    struct node_wire_request request = plain("GET", "/pad", 0);
    struct visitor v = {.body_len = 0};
    struct node_wire_frame frame;

    (void)state;
    visit(&v, &request);
    send_more(&v);
    while (v.in_bytes < 100) {
        run_for(&fix->loop, 5);
    }
    app_answer(&fix->app, "{}");
    wait_for(&v);
    assert_int_equal(v.code, 0);
    take_reply(&v, &frame);
    assert_int_equal(frame.status, 200);
    assert_int_equal(frame.length, -1);
    assert_memory_equal(shl_buf_data(&v.in), "  ", 2);
    assert_memory_equal(shl_buf_data(&v.in) + shl_buf_len(&v.in) - 3, " {}", 3);
    node_wire_frame_release(&frame);
    visitor_release(&v);
}

/* The entry node goes away after every number of bytes, sent or received. */
static void test_remote_cut_at_every_byte(void **state)
{
    uint8_t body[120];
    unsigned begun = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = app_pattern(i);
    }
    for (unsigned i = 0; i <= sizeof(body); i++) {
        struct node_wire_request up = plain("PUT", i % 2 ? "/sink" : "/echo", sizeof(body));
        struct node_wire_request down = plain("GET", "/source?n=120", 0);
        struct visitor a = {.body = body, .body_len = sizeof(body)};
        struct visitor b = {.body_len = 0};

        fix->net.cut_to_acceptor = i;
        visit(&a, &up);
        send_more(&a);
        wait_for(&a);
        fix->net.cut_to_acceptor = -1;
        assert_int_equal(a.code, SHL_EUNAVAILABLE);
        fix->net.cut_to_opener = i;
        visit(&b, &down);
        send_more(&b);
        wait_for(&b);
        fix->net.cut_to_opener = -1;
        assert_int_equal(b.code, SHL_EUNAVAILABLE);
        begun += 2;
        visitor_release(&a);
        visitor_release(&b);
    }
    run_for(&fix->loop, 5);
    assert_int_equal(fix->app.closed, begun);
    assert_int_equal(fix->app.completed, 0);
}

static void test_remote_source_that_fails_is_cut(void **state)
{
    static const char *const targets[] = {"/source?n=1000&fail=300", "/source?n=1000&fail=0",
                                          "/source?n=1000&fail=300&chunked=1"};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        struct node_wire_request request = plain("GET", targets[i], 0);
        struct visitor v = {.body_len = 0};

        visit(&v, &request);
        send_more(&v);
        wait_for(&v);
        assert_int_equal(v.code, -EIO);
        assert_false(v.is_ended);
        visitor_release(&v);
    }
    assert_int_equal(fix->app.released, 3);
    assert_int_equal(fix->app.completed, 0);
}

/* More or fewer bytes than announced are no request. */
static void test_remote_body_of_another_length(void **state)
{
    struct node_wire_request request = plain("POST", "/echo", 10);
    struct visitor more = {.body = (const uint8_t *)"hello world", .body_len = 11};
    struct visitor less = {.body = (const uint8_t *)"hello", .body_len = 5};

    (void)state;
    visit(&more, &request);
    send_more(&more);
    visit(&less, &request);
    send_more(&less);
    wait_for(&more);
    wait_for(&less);
    assert_int_equal(more.code, SHL_EPROTO);
    assert_int_equal(less.code, SHL_EPROTO);
    assert_int_equal(fix->app.handled, 0);
    visitor_release(&more);
    visitor_release(&less);
}

/* Too large, announced or not: the ordinary answer. */
static void test_remote_body_that_is_too_large(void **state)
{
    struct node_wire_request announced = plain("POST", "/echo", NODE_EXCHANGE_JSON_MAX + 1);
    struct node_wire_request chunked = plain("POST", "/echo", -1);
    struct visitor a = {.body_len = 0};
    struct visitor b = {.body_len = NODE_EXCHANGE_JSON_MAX + 1};
    struct node_wire_frame frame;

    (void)state;
    b.body = calloc(1, b.body_len);
    visit(&a, &announced);
    send_more(&a);
    visit(&b, &chunked);
    send_more(&b);
    wait_for(&a);
    wait_for(&b);
    take_reply(&a, &frame);
    assert_int_equal(frame.status, 413);
    node_wire_frame_release(&frame);
    take_reply(&b, &frame);
    assert_int_equal(frame.status, 413);
    node_wire_frame_release(&frame);
    visitor_release(&a);
    visitor_release(&b);
    free((void *)b.body);
}

/* Who goes on sending after the answer is dropped in the end. */
static void test_remote_body_that_never_ends(void **state)
{
    struct node_wire_request request = plain("POST", "/echo", -1);
    struct visitor v = {.body_len = 16u << 20};

    (void)state;
    v.body = calloc(1, v.body_len);
    visit(&v, &request);
    send_more(&v);
    wait_for(&v);
    assert_int_equal(v.code, SHL_ELIMIT);
    assert_true(v.sent < v.body_len);
    visitor_release(&v);
    free((void *)v.body);
}

static void test_remote_heads_that_are_not_valid(void **state)
{
    static const struct {
        const char *field;
        struct node_wire_request request;
    } rows[] = {
        {"method", {.method = "BREW", .target = "/", .origin = "http://a", .via = "a", .hops = 1}},
        {"options",
         {.method = "OPTIONS", .target = "/", .origin = "http://a", .via = "a", .hops = 1}},
        {"target", {.method = "GET", .target = "x", .origin = "http://a", .via = "a", .hops = 1}},
        {"blank", {.method = "GET", .target = "/ x", .origin = "http://a", .via = "a", .hops = 1}},
        {"origin", {.method = "GET", .target = "/", .origin = "ftp://a", .via = "a", .hops = 1}},
        {"origin", {.method = "GET", .target = "/", .origin = "http://a\"", .via = "a", .hops = 1}},
        {"via", {.method = "GET", .target = "/", .origin = "http://a", .via = "\r", .hops = 1}},
        {"hops", {.method = "GET", .target = "/", .origin = "http://a", .via = "a", .hops = 0}},
        {"loop", {.method = "GET", .target = "/", .origin = "http://a", .via = "a", .hops = 2}},
        {"length",
         {.method = "GET",
          .target = "/",
          .origin = "http://a",
          .via = "a",
          .hops = 1,
          .body_length = -2}},
        {"header name",
         {.method = "GET",
          .target = "/",
          .origin = "http://a",
          .via = "a",
          .hops = 1,
          .headers = {{"a b", "c"}},
          .header_count = 1}},
        {"header value",
         {.method = "GET",
          .target = "/",
          .origin = "http://a",
          .via = "a",
          .hops = 1,
          .headers = {{"a", "c\r\nd: e"}},
          .header_count = 1}},
    };
    struct node_remote_stats stats;
    struct visitor garbage = {.body_len = 0};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct visitor v = {.body_len = 0};

        visit(&v, &rows[i].request);
        wait_for(&v);
        if (v.code != SHL_EPROTO) {
            fail_msg("%s: %d %s", rows[i].field, v.code, v.msg);
        }
        visitor_release(&v);
    }
    visit_bytes(&garbage, shl_bytes_of("\xc1nonsense", 9));
    wait_for(&garbage);
    assert_int_equal(garbage.code, SHL_EPROTO);
    visitor_release(&garbage);
    node_remote_stats(fix->remote, &stats);
    assert_int_equal(stats.refused, SHL_ARRAY_SIZE(rows) + 1);
    assert_int_equal(stats.in_flight, 0);
}

static int setup_limits(void **state)
{
    (void)state;
    return setup_with(2, 20);
}

/* One peer may have so many; a body that does not come is answered. */
static void test_remote_limits(void **state)
{
    struct node_wire_request wait = plain("GET", "/wait", 0);
    struct node_wire_request slow = plain("POST", "/echo", 5);
    struct visitor v[3] = {{.body_len = 0}};
    struct node_wire_frame frame;

    (void)state;
    visit(&v[0], &wait);
    send_more(&v[0]);
    run_for(&fix->loop, 2);
    visit(&v[1], &slow);
    run_for(&fix->loop, 2);
    visit(&v[2], &wait);
    wait_for(&v[2]);
    assert_int_equal(v[2].code, SHL_EUNAVAILABLE);
    assert_non_null(strstr(v[2].msg, "owner"));
    while (!v[1].is_ended) {
        run_for(&fix->loop, 20);
    }
    v[1].is_finished = true;
    node_stream_finish(v[1].stream);
    wait_for(&v[1]);
    take_reply(&v[1], &frame);
    assert_int_equal(frame.status, 408);
    node_wire_frame_release(&frame);
    /* The one that waits is not timed out, and closing the node cuts it. */
    assert_false(v[0].is_closed);
    node_remote_close(fix->remote, on_remote_closed, fix);
    wait_for(&v[0]);
    assert_int_equal(v[0].code, SHL_EUNAVAILABLE);
    assert_int_equal(fix->app.completed, 1);
    assert_int_equal(fix->app.closed, 2);
    for (int i = 0; i < 3; i++) {
        visitor_release(&v[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_remote_buffered_body_and_headers),
        TEST(test_remote_streams_any_way),
        TEST(test_remote_back_pressure),
        TEST(test_remote_heads_without_a_body),
        TEST(test_remote_padding),
        TEST(test_remote_cut_at_every_byte),
        TEST(test_remote_source_that_fails_is_cut),
        TEST(test_remote_body_of_another_length),
        TEST(test_remote_body_that_is_too_large),
        TEST(test_remote_body_that_never_ends),
        TEST(test_remote_heads_that_are_not_valid),
        cmocka_unit_test_setup_teardown(test_remote_limits, setup_limits, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
