/* Server-sent events over a real connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/server.h"
#include "node/http/sse.h"
#include "tests/node/http/client.h"

#define PAD_MS 30

static struct {
    uv_loop_t loop;
    struct node_http *http;
    uint16_t port;
    struct node_exchange *x;
    struct node_sse *sse;
    bool is_over, is_closed;
} fix;

static void handle(void *arg)
{
    fix.x = arg;
    fix.sse = node_sse_new(arg);
    assert_non_null(fix.sse);
}

static void on_close(void *arg, bool is_complete)
{
    (void)arg;
    (void)is_complete;
    fix.is_over = true;
    if (!node_sse_has_begun(fix.sse)) {
        node_sse_gone(fix.sse);
    }
}

static void on_head(void *arg, struct node_exchange *x)
{
    (void)arg;
    x->handle = handle;
    x->on_close = on_close;
    x->arg = x;
}

static int setup(void **state)
{
    struct node_http_config config = {
        .listen = "127.0.0.1:0", .pad_after_ms = PAD_MS, .pad_every_ms = PAD_MS};
    struct shl_err err = {0};

    (void)state;
    memset(&fix, 0, sizeof(fix));
    uv_loop_init(&fix.loop);
    config.app.on_head = on_head;
    assert_int_equal(node_http_open(&fix.loop, &config, &fix.http, &err), 0);
    fix.port = node_http_port(fix.http);
    return 0;
}

static void on_http_closed(void *arg)
{
    (void)arg;
    fix.is_closed = true;
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

static int teardown(void **state)
{
    (void)state;
    node_http_close(fix.http, on_http_closed, NULL);
    run_until(&fix.loop, is_set, &fix.is_closed);
    while (uv_run(&fix.loop, UV_RUN_NOWAIT)) {
    }
    assert_int_equal(uv_loop_close(&fix.loop), 0);
    return 0;
}

static bool has_request(void *arg)
{
    (void)arg;
    return fix.sse != NULL;
}

static void ask(struct client *client)
{
    client_open(client, &fix.loop, fix.port);
    client_text(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    run_until(&fix.loop, has_request, NULL);
}

static void test_sse_bytes_are_what_the_parsers_want(void **state)
{
    struct client client;
    struct reply reply;
    char buf[64];

    (void)state;
    ask(&client);
    assert_int_equal(node_sse_event(fix.sse, "build_log", "{\"a\":1}"), 0);
    assert_false(node_sse_has_begun(fix.sse));
    node_sse_end(fix.sse, "result", "{\"b\":2}");
    assert_int_equal(node_sse_event(fix.sse, "build_log", "{}"), SHL_EGONE);
    node_sse_free(fix.sse);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply_header(&reply, "Content-Type", buf, sizeof(buf)),
                        "text/event-stream");
    assert_string_equal(reply_header(&reply, "Cache-Control", buf, sizeof(buf)), "no-cache");
    assert_string_equal(reply_header(&reply, "X-Accel-Buffering", buf, sizeof(buf)), "no");
    assert_string_equal((char *)reply.body, "event: build_log\ndata: {\"a\":1}\n\n"
                                            "event: result\ndata: {\"b\":2}\n\n");
    reply_release(&reply);
    client_close(&client);
}

static bool has_keepalives(void *arg)
{
    struct client *client = arg;
    static const char one[] = ": keepalive\n\n";

    return shl_buf_len(&client->in) > 0 &&
           memmem(shl_buf_data(&client->in), shl_buf_len(&client->in), one, strlen(one)) &&
           shl_buf_len(&client->in) > 60;
}

static void test_sse_silence_is_filled(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    ask(&client);
    node_sse_begin(fix.sse);
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    run_until(&fix.loop, has_keepalives, &client);
    node_sse_end(fix.sse, "error", "{\"error\":\"x\"}");
    node_sse_free(fix.sse);
    run_until(&fix.loop, is_set, &fix.is_over);
    client_close(&client);
}

static void test_sse_an_owner_that_gives_up_cuts_the_reply(void **state)
{
    struct client client;
    struct reply reply;

    (void)state;
    ask(&client);
    node_sse_begin(fix.sse);
    assert_true(client_reply_head(&client, &reply));
    reply_release(&reply);
    node_sse_free(fix.sse);
    client_wait_end(&client); /* no last chunk: nobody takes it for the whole */
    if (shl_buf_len(&client.in) > 0) {
        assert_null(memmem(shl_buf_data(&client.in), shl_buf_len(&client.in), "0\r\n\r\n", 5));
    }
    client_close(&client);
}

static void test_sse_a_client_that_goes_ends_it(void **state)
{
    struct client client;

    (void)state;
    ask(&client);
    node_sse_begin(fix.sse);
    client_close(&client);
    run_until(&fix.loop, is_set, &fix.is_over);
    assert_int_equal(node_sse_event(fix.sse, "build_log", "{}"), SHL_EGONE);
    node_sse_end(fix.sse, "result", "{}");
    node_sse_free(fix.sse);
}

static void test_sse_a_client_that_goes_before_the_reply(void **state)
{
    struct client client;

    (void)state;
    ask(&client);
    assert_int_equal(node_sse_event(fix.sse, "build_log", "{}"), 0);
    node_exchange_fail(fix.x, SHL_EINVALIDARG, "no");
    run_until(&fix.loop, is_set, &fix.is_over);
    node_sse_begin(fix.sse);
    node_sse_end(fix.sse, "result", "{}");
    node_sse_free(fix.sse);
    client_close(&client);
}

static void test_sse_what_nobody_reads_is_bounded(void **state)
{
    char *text = malloc(100001);
    struct client client;
    struct reply reply;
    unsigned kept = 0;

    (void)state;
    memset(text, '1', 100000);
    text[100000] = '\0';
    ask(&client);
    while (node_sse_event(fix.sse, "build_log", text) == 0) {
        kept++;
        assert_true(kept < 100);
    }
    assert_int_equal(node_sse_event(fix.sse, "build_log", text), SHL_ELIMIT);
    node_sse_end(fix.sse, "result", text); /* fits all the same */
    node_sse_free(fix.sse);
    assert_true(client_reply(&client, &reply));
    assert_int_equal(reply.body_len, kept * (100000 + 25) + 100000 + 22);
    reply_release(&reply);
    client_close(&client);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sse_bytes_are_what_the_parsers_want, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sse_silence_is_filled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sse_an_owner_that_gives_up_cuts_the_reply, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_sse_a_client_that_goes_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sse_a_client_that_goes_before_the_reply, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_sse_what_nobody_reads_is_bounded, setup, teardown),
    };

    return cmocka_run_group_tests_name("server-sent events", tests, NULL, NULL);
}
