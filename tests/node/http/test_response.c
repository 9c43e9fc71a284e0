/* Replies of guests: good ones in any pieces, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/response.h"

struct outcome {
    int code;
    struct shl_err err;
    int status;
    int64_t length;
    char type[64];
    char headers[512]; /* "name=value;" */
    char body[512];
    size_t used;
};

enum kind {
    TO_GET,
    TO_HEAD,
    TO_UPGRADE,
};

static void note_head(const struct node_response *r, struct outcome *ret)
{
    ret->status = r->status;
    ret->length = r->length;
    (void)snprintf(ret->type, sizeof(ret->type), "%s", r->content_type ? r->content_type : "-");
    for (size_t i = 0; i < r->header_count; i++) {
        size_t len = strlen(ret->headers);

        (void)snprintf(ret->headers + len, sizeof(ret->headers) - len, "%s=%s;", r->headers[i].name,
                       r->headers[i].value);
    }
}

static void run(enum kind kind, const char *text, size_t len, size_t step, struct outcome *ret)
{
    struct node_response r;
    int rc = NODE_RESPONSE_MORE;

    *ret = (struct outcome){.status = 0};
    node_response_init(&r, kind == TO_HEAD, kind == TO_UPGRADE);
    while (rc >= 0 && rc != NODE_RESPONSE_END && ret->used < len) {
        struct shl_bytes body;
        size_t used;

        rc = node_response_feed(&r, shl_bytes_of(text + ret->used, SHL_MIN(step, len - ret->used)),
                                &used, &body, &ret->err);
        if (rc == NODE_RESPONSE_HEAD) {
            note_head(&r, ret);
        } else if (rc == NODE_RESPONSE_BODY) {
            (void)strncat(ret->body, (const char *)body.base, body.len);
        }
        ret->used += rc < 0 ? 0 : used;
    }
    ret->code = rc < 0 ? rc : node_response_eof(&r, &ret->err);
    node_response_release(&r);
}

static void is_good(enum kind kind,
                    const char *text,
                    int status,
                    int64_t length,
                    const char *headers,
                    const char *body)
{
    for (size_t step = 1; step < strlen(text) + 1; step += step < 4 ? 1 : 17) {
        struct outcome got;

        run(kind, text, strlen(text), step, &got);
        if (got.code != NODE_RESPONSE_END) {
            fail_msg("%s: %s", text, got.err.msg);
        }
        assert_int_equal(got.status, status);
        assert_int_equal(got.length, length);
        assert_string_equal(got.headers, headers);
        assert_string_equal(got.body, body);
    }
}

static void is_refused(enum kind kind, const char *text, const char *part)
{
    for (size_t step = 1; step < strlen(text) + 1; step += step < 4 ? 1 : 17) {
        struct outcome got;

        run(kind, text, strlen(text), step, &got);
        if (got.code != SHL_EGUEST || !strstr(got.err.msg, part)) {
            fail_msg("%s: %d %s", text, got.code, got.err.msg);
        }
    }
}

static void test_response_bodies(void **state)
{
    (void)state;
    is_good(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b c \r\n\r\nhello", 200, 5,
            "X-A=b c;", "hello");
    is_good(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, 0, "", "");
    is_good(TO_GET,
            "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n00A\r\n"
            "0123456789\r\n0\r\nT: 1\r\n\r\n",
            200, -1, "", "hello0123456789");
    is_good(TO_GET, "HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nto the end", 404, -1, "Server=x;",
            "to the end");
    is_good(TO_GET, "HTTP/1.0 200 OK\nServer: x\n\nplain line feeds", 200, -1, "Server=x;",
            "plain line feeds");
    is_good(TO_GET,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
            "HTTP/1.1 204 No Content\r\nX-B: 1\r\n\r\n",
            204, 0, "X-B=1;", "");
    is_good(TO_GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, 0, "", "");
    is_good(TO_HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", 200, 700, "", "");
    is_good(TO_UPGRADE,
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            "Sec-WebSocket-Accept: k\r\n\r\n\x81\x02hi",
            101, -1, "Sec-WebSocket-Accept=k;", "\x81\x02hi");
}

static void test_response_of_the_connection_stays_there(void **state)
{
    (void)state;
    is_good(TO_GET,
            "HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\nX-Private: 1\r\nKeep-Alive: x\r\n"
            "Trailer: T\r\nProxy-Authenticate: y\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
            "Content-Length: 1\r\n\r\n.",
            200, 1, "Set-Cookie=a;Set-Cookie=b;", ".");
}

static void test_response_two_meanings_are_refused(void **state)
{
    (void)state;
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
               "two Content-Length");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
               "two Content-Length");
    is_refused(
        TO_GET,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two things about the length");
    is_refused(TO_GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
               "two things about the length");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "other than");
    is_refused(
        TO_GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "other than");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "not a size");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "not a size");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
               "not a size");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\n\r\n", "name: value");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", "name: value");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 5\r\n\r\n", "control");
    is_refused(TO_GET, "HTTP/1.1 101 Switching\r\n\r\n", "nobody asked");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n",
               "two Content-Type");
}

static void test_response_chunks_are_checked(void **state)
{
#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    (void)state;
    is_refused(TO_GET, CHUNKED "x\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "-1\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "0x5\r\nhello\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "5\nhello\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "fffffffffffffffff\r\n", "without a size");
    is_refused(TO_GET, CHUNKED "3\r\nhello\r\n", "longer than its size");
    is_refused(TO_GET, CHUNKED "5\r\nhello\n0\r\n\r\n", "longer than its size");
    is_refused(TO_GET, CHUNKED "5\r\nhel", "broke off");
    is_refused(TO_GET, CHUNKED "5\r\nhello\r\n", "broke off");
    is_refused(TO_GET, CHUNKED "5\r\nhello\r\n0\r\n", "broke off");
}

static void test_response_not_http(void **state)
{
    (void)state;
    is_refused(TO_GET, "SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP");
    is_refused(TO_GET, "HTTP/2.0 200 OK\r\n\r\n", "not HTTP");
    is_refused(TO_GET, "HTTP/1.1 20 OK\r\n\r\n", "not HTTP");
    is_refused(TO_GET, "HTTP/1.1 2000 OK\r\n\r\n", "not HTTP");
    is_refused(TO_GET, "HTTP/1.1 999 OK\r\n\r\n", "status that does not exist");
    is_refused(TO_GET, "\r\n\r\n", "not HTTP");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "name: value");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "broke off");
    is_refused(TO_GET, "HTTP/1.1 200 OK\r\nContent-Le", "without an answer");
}

static void test_response_limits(void **state)
{
    struct outcome got;
    char *text = malloc(64 * 1024);
    size_t len;

    (void)state;
    len = (size_t)snprintf(text, 100, "HTTP/1.1 200 OK\r\nX-A: ");
    memset(text + len, 'a', 40 * 1024);
    run(TO_GET, text, len + 40 * 1024, 1000, &got);
    assert_int_equal(got.code, SHL_EGUEST);
    assert_non_null(strstr(got.err.msg, "32 KiB"));

    len = (size_t)snprintf(text, 100, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i <= NODE_EXCHANGE_HEADERS_MAX; i++) {
        len += (size_t)sprintf(text + len, "X-%d: a\r\n", i);
    }
    len += (size_t)sprintf(text + len, "\r\n");
    run(TO_GET, text, len, len, &got);
    assert_non_null(strstr(got.err.msg, "more headers"));

    len = 0;
    for (unsigned i = 0; i <= NODE_RESPONSE_INTERIM_MAX; i++) {
        len += (size_t)sprintf(text + len, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    run(TO_GET, text, len, len, &got);
    assert_non_null(strstr(got.err.msg, "interim"));

    len = (size_t)sprintf(text, CHUNKED "0\r\nT: ");
    memset(text + len, 'a', 10000);
    run(TO_GET, text, len + 10000, 1000, &got);
    assert_non_null(strstr(got.err.msg, "trailers"));

    len = (size_t)sprintf(text, CHUNKED "1;");
    memset(text + len, 'a', 1000);
    run(TO_GET, text, len + 1000, 100, &got);
    assert_non_null(strstr(got.err.msg, "does not end"));
    run(TO_GET, "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", 28, 28, &got);
    assert_non_null(strstr(got.err.msg, "zero byte"));
    free(text);
}

/* What follows a complete reply is not looked at: it answers nothing that was asked. */
static void test_response_nothing_after_the_end(void **state)
{
    struct outcome got;
    const char *text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil";

    (void)state;
    run(TO_GET, text, strlen(text), strlen(text), &got);
    assert_int_equal(got.code, NODE_RESPONSE_END);
    assert_string_equal(got.body, "ok");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_response_bodies),
        cmocka_unit_test(test_response_of_the_connection_stays_there),
        cmocka_unit_test(test_response_two_meanings_are_refused),
        cmocka_unit_test(test_response_chunks_are_checked),
        cmocka_unit_test(test_response_not_http),
        cmocka_unit_test(test_response_limits),
        cmocka_unit_test(test_response_nothing_after_the_end),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
