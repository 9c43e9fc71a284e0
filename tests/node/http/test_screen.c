#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/http/screen.h"
#include "node/http/url.h"

static enum node_screen_result screen(const char *text, struct node_screen_error *why)
{
    /* On the heap at its exact size, so that the sanitizer sees reads beyond. */
    size_t len = strlen(text);
    char *copy = malloc(len > 0 ? len : 1);
    enum node_screen_result result;

    memcpy(copy, text, len);
    result = node_screen(shl_bytes_of(copy, len), why);
    free(copy);
    return result;
}

#define H "Host: x\r\n"

static void test_screen_table(void **state)
{
    static const struct {
        const char *text;
        int status; /* 0: passes, -1: more bytes are awaited */
    } rows[] = {
        {"GET / HTTP/1.1\r\n" H "\r\n", 0},
        {"GET / HTTP/1.0\r\n\r\n", 0},
        {"\r\nGET / HTTP/1.1\r\n" H "\r\n", 0},
        {"PUT /x?y=%20 HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", 0},
        {"PUT /x HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", 0},
        {"GET http://h/ HTTP/1.1\r\n" H "\r\n", 0},
        {"GET / HTTP/1.1\r\n" H "X-Utf8: \xc3\xa4\r\nX-Empty:\r\n\r\n", 0},
        {"", -1},
        {"G", -1},
        {"\r", -1},
        {"GET / HTTP/1.1\r\n" H, -1},
        {"GET / HTTP/1.1\r\n" H "\r", -1},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H H "\r\n", 400},
        {"GET / HTTP/1.1\n" H "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /\r\n" H "\r\n", 400},
        {"GET / HTTP/1.1 \r\n" H "\r\n", 400},
        {"GET / FTP/1.1\r\n" H "\r\n", 400},
        {" GET / HTTP/1.1\r\n" H "\r\n", 400},
        {"GE(T / HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n" H "\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"GET / HTTP/0.9\r\n" H "\r\n", 505},
        {"\x16\x03\x01\x02", 400},
        {"GET / HTTP/1.1\r\n" H "Bad header\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "Bad : x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H ": x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: \x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length: 1x\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length: 9999999999999999999\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct node_screen_error why = {0, NULL};
        enum node_screen_result result = screen(rows[i].text, &why);
        int status = result == NODE_SCREEN_BAD ? why.status : result == NODE_SCREEN_OK ? 0 : -1;

        if (status != rows[i].status) {
            fail_msg("%s: %d instead of %d", rows[i].text, status, rows[i].status);
        }
        assert_true(status <= 0 || why.msg != NULL);
    }
}

/* A head is judged the same however its bytes arrive. */
static void test_screen_every_prefix_of_a_good_head_waits(void **state)
{
    const char *head = "POST /api/sandboxes HTTP/1.1\r\nHost: a:1\r\nContent-Length: 2\r\n\r\n";

    (void)state;
    for (size_t len = 0; len < strlen(head); len++) {
        char *prefix = strndup(head, len);
        struct node_screen_error why;

        assert_int_equal(screen(prefix, &why), NODE_SCREEN_MORE);
        free(prefix);
    }
}

static int status_of_long(const char *start, const char *unit, size_t total)
{
    struct shl_buf text;
    struct node_screen_error why = {0, NULL};
    enum node_screen_result result;

    shl_buf_init(&text, total + 4096);
    assert_int_equal(shl_buf_append_str(&text, start), 0);
    while (shl_buf_len(&text) < total) {
        assert_int_equal(shl_buf_append_str(&text, unit), 0);
    }
    result = node_screen(shl_buf_bytes(&text), &why);
    shl_buf_release(&text);
    return result == NODE_SCREEN_BAD ? why.status : result == NODE_SCREEN_OK ? 0 : -1;
}

static void test_screen_sizes(void **state)
{
    (void)state;
    assert_int_equal(status_of_long("GET /", "a", NODE_SCREEN_HEAD_MAX), 414);
    assert_int_equal(status_of_long("GET /", "a", 1000), -1);
    assert_int_equal(status_of_long("GET / HTTP/1.1\r\nA: ", "a", NODE_SCREEN_HEAD_MAX), 431);
    assert_int_equal(status_of_long("GET / HTTP/1.1\r\n", "A: b\r\n", 6000), 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_screen_table),
        cmocka_unit_test(test_screen_every_prefix_of_a_good_head_waits),
        cmocka_unit_test(test_screen_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
