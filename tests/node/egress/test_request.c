/* node/egress/{head,body,subst,rewrite,request,reply}: what leaves for a server when a client
 * sends this, whatever the pieces it comes in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "node/egress/reply.h"
#include "node/egress/request.h"

#define TOKEN "osb_sealed_0123456789abcdef0123456789abcdef"
#define OTHER "osb_sealed_ffffffffffffffffffffffffffffffff"
#define LINES "osb_sealed_eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

static struct shl_bytes look_up(void *arg, const char *token)
{
    (void)arg;
    if (strcmp(token, TOKEN) == 0) {
        return shl_bytes_of("real-value", 10);
    }
    return strcmp(token, LINES) == 0 ? shl_bytes_of("two\r\nlines", 10) : shl_bytes_of(NULL, 0);
}

static const struct egress_request_rules rules = {.host = "api.example.com",
                                                  .port = 443,
                                                  .lookup = look_up};
static const struct egress_request_rules plain = {.host = "api.example.com", .port = 80};
static const struct egress_request_rules proxy = {.host = "api.example.com",
                                                  .port = 80,
                                                  .is_proxy = true};

struct run {
    struct egress_request request;
    struct egress_exchanges exchanges;
    struct shl_buf in, out;
};

static void run_begin(struct run *run)
{
    memset(run, 0, sizeof(*run));
    egress_request_init(&run->request);
    shl_buf_init(&run->in, EGRESS_IN_MAX);
    shl_buf_init(&run->out, EGRESS_OUT_MAX);
}

static void run_end(struct run *run)
{
    egress_request_release(&run->request);
    shl_buf_release(&run->in);
    shl_buf_release(&run->out);
}

/* Gives @text in pieces of @piece; the first error ends it. */
static int run_feed(struct run *run,
                    const struct egress_request_rules *with,
                    const char *text,
                    size_t len,
                    size_t piece)
{
    size_t at;

    for (at = 0; at < len; at += piece) {
        int rc;

        assert_int_equal(shl_buf_append(&run->in, text + at, SHL_MIN(piece, len - at)), 0);
        rc = egress_request_step(&run->request, with, &run->exchanges, &run->in, &run->out);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void expect_with(const struct egress_request_rules *with,
                        const char *sent,
                        const char *wanted)
{
    size_t piece;

    for (piece = 1; piece < 70; piece += piece < 50 ? 1 : 13) {
        struct run run;

        run_begin(&run);
        assert_int_equal(run_feed(&run, with, sent, strlen(sent), piece), 0);
        assert_int_equal(shl_buf_append(&run.out, "", 1), 0);
        assert_string_equal((const char *)shl_buf_data(&run.out), wanted);
        run_end(&run);
    }
}

static void expect(const char *sent, const char *wanted)
{
    expect_with(&rules, sent, wanted);
}

static void expect_refusal(const struct egress_request_rules *with, const char *sent, int status)
{
    size_t piece;

    for (piece = 1; piece < 100; piece += 33) {
        struct run run;

        run_begin(&run);
        assert_int_equal(run_feed(&run, with, sent, strlen(sent), piece), SHL_EPROTO);
        assert_int_equal(run.request.refused_status, status);
        assert_non_null(run.request.refused_reason);
        run_end(&run);
    }
}

static void test_request_tokens_in_headers_are_replaced(void **state)
{
    (void)state;
    expect("GET /x?k=" TOKEN " HTTP/1.1\r\nHost: api.example.com\r\n"
           "Authorization: Bearer " TOKEN "\r\nX: a" TOKEN TOKEN ";" OTHER "\r\n\r\n",
           "GET /x?k=" TOKEN " HTTP/1.1\r\nHost: api.example.com\r\n"
           "Authorization: Bearer real-value\r\nX: areal-valuereal-value;" OTHER "\r\n\r\n");
}

/* A value of several lines would end the header: the token stays. */
static void test_request_values_with_lines_stay_out_of_headers(void **state)
{
    (void)state;
    expect("GET / HTTP/1.1\r\nHost: api.example.com\r\nA: " LINES "\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: api.example.com\r\nA: " LINES "\r\n\r\n");
    expect("POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 43\r\n\r\n" LINES,
           "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 10\r\n\r\ntwo\r\nlines");
}

static void test_request_basic_credentials_are_replaced(void **state)
{
    (void)state;
    /* user:TOKEN, and user:password */
    expect("GET / HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Basic "
           "dXNlcjpvc2Jfc2VhbGVkXzAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm\r\n"
           "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Basic "
           "dXNlcjpyZWFsLXZhbHVl\r\n"
           "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n\r\n");
}

static void test_request_length_is_made_anew(void **state)
{
    (void)state;
    expect("POST / HTTP/1.1\r\nHost: api.example.com\r\ncontent-length: 57\r\n"
           "Expect: 100-continue\r\n\r\n{\"key\": \"" TOKEN "\"},.."
           "GET /2 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
           "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 24\r\n\r\n"
           "{\"key\": \"real-value\"},.."
           "GET /2 HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
}

/* The chunks differ with the pieces; what they carry does not. */
static void test_request_tokens_across_chunks_are_replaced(void **state)
{
    static const char sent[] = "POST / HTTP/1.1\r\nHost: api.example.com\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n"
                               "8;x=y\r\na-osb_se\r\n12\r\naled_0123456789abc\r\n"
                               "15\r\ndef0123456789abcdef-z\r\n0\r\nTrailer: 1\r\n\r\n";
    size_t piece;

    (void)state;
    for (piece = 1; piece < sizeof(sent); piece++) {
        char body[64] = "";
        struct run run;
        const char *at;

        run_begin(&run);
        assert_int_equal(run_feed(&run, &rules, sent, sizeof(sent) - 1, piece), 0);
        assert_int_equal(shl_buf_append(&run.out, "", 1), 0);
        at = strstr((const char *)shl_buf_data(&run.out), "\r\n\r\n") + 4;
        for (;;) {
            char *end;
            unsigned long len = strtoul(at, &end, 16);

            assert_true(strlen(body) + len < sizeof(body));
            assert_memory_equal(end, "\r\n", 2);
            strncat(body, end + 2, len);
            assert_memory_equal(end + 2 + len, "\r\n", 2);
            at = end + 4 + len;
            if (len == 0) {
                break;
            }
        }
        assert_string_equal(at, "");
        assert_string_equal(body, "a-real-value-z");
        assert_int_equal(run.request.replaced, 1);
        run_end(&run);
    }
}

static void test_request_of_a_binary_type_passes_as_it_is(void **state)
{
    static const char sent[] = "PUT / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 43\r\n"
                               "Content-Type: image/png\r\n\r\n" TOKEN;
    static const char encoded[] =
        "PUT / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 43\r\n"
        "Content-Encoding: gzip\r\n\r\n" TOKEN;

    (void)state;
    expect(sent, sent);
    expect(encoded, encoded);
}

/* A body that is too long to be kept goes on in chunks, in little memory. */
static void test_request_long_body_streams_in_chunks(void **state)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: "
                               "104857600\r\n\r\n";
    static char block[16384];
    uint64_t sent = 0, received = 0;
    struct run run;

    (void)state;
    memset(block, 'o', sizeof(block)); /* the first letter of a token, over and over */
    run_begin(&run);
    assert_int_equal(run_feed(&run, &rules, head, sizeof(head) - 1, 1000), 0);
    shl_buf_clear(&run.out);
    while (sent < 104857600) {
        assert_int_equal(run_feed(&run, &rules, block, sizeof(block), sizeof(block)), 0);
        sent += sizeof(block);
        received += shl_buf_len(&run.out);
        assert_true(run.out.cap + run.request.scratch.cap < 1024 * 1024);
        shl_buf_clear(&run.out);
    }
    assert_true(received > sent && received < sent + sent / 100);
    assert_int_equal(run.request.state, EGRESS_REQUEST_HEAD);
    run_end(&run);
}

static void test_request_ambiguous_ones_are_refused(void **state)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length : 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\nHost: api.example.com\n\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01 hello\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nA: \x01\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
        "fffffffffffffffff\r\n",
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        expect_refusal(&rules, bad[i], 400);
    }
    expect_refusal(&rules, "CONNECT api.example.com:443 HTTP/1.1\r\n\r\n", 405);
}

static void test_request_for_another_host_is_refused(void **state)
{
    (void)state;
    expect_refusal(&rules, "GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", 421);
    expect_refusal(&rules, "GET / HTTP/1.1\r\nHost: api.example.com:444\r\n\r\n", 421);
    expect_refusal(&rules, "GET / HTTP/1.1\r\nHost: api.example.com@evil.com\r\n\r\n", 421);
    expect_refusal(&rules, "GET / HTTP/1.1\r\n\r\n", 421);
    expect_refusal(&rules, "GET https://evil.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", 421);
    expect_refusal(&proxy, "GET http://evil.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", 421);
    expect("GET / HTTP/1.1\r\nHost: API.example.com.:443\r\n\r\n",
           "GET / HTTP/1.1\r\nHost: API.example.com.:443\r\n\r\n");
}

static void test_request_head_is_bounded(void **state)
{
    char *large = malloc(EGRESS_HEAD_MAX + 100);
    struct run run;

    (void)state;
    memset(large, 'a', EGRESS_HEAD_MAX + 100);
    memcpy(large, "GET / HTTP/1.1\r\nA: ", 19);
    run_begin(&run);
    assert_int_equal(run_feed(&run, &rules, large, EGRESS_HEAD_MAX + 100, 4096), SHL_EPROTO);
    assert_int_equal(run.request.refused_status, 431);
    run_end(&run);
    free(large);
}

static struct shl_bytes look_up_large(void *arg, const char *token)
{
    static uint8_t value[16384];

    (void)arg;
    (void)token;
    memset(value, 'v', sizeof(value));
    return shl_bytes_of(value, sizeof(value));
}

/* With a body that is kept and without one: the same limit. */
static void test_request_head_is_bounded_with_its_values(void **state)
{
    static const struct egress_request_rules large = {
        .host = "api.example.com", .port = 443, .lookup = look_up_large};
    static const char *const ends[] = {"\r\n", "Content-Length: 1\r\n\r\nx"};
    size_t i, n;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(ends); i++) {
        for (n = 15; n <= 16; n++) {
            struct shl_buf text;
            struct run run;
            size_t k;

            shl_buf_init(&text, 4096);
            assert_int_equal(
                shl_buf_append_str(&text, "POST / HTTP/1.1\r\nHost: api.example.com\r\n"), 0);
            for (k = 0; k < n; k++) {
                assert_int_equal(shl_buf_append_str(&text, "A: " TOKEN "\r\n"), 0);
            }
            assert_int_equal(shl_buf_append_str(&text, ends[i]), 0);
            run_begin(&run);
            assert_int_equal(run_feed(&run, &large, (const char *)shl_buf_data(&text),
                                      shl_buf_len(&text), 4096),
                             n == 16 ? SHL_EPROTO : 0);
            assert_int_equal(run.request.refused_status, n == 16 ? 431 : 0);
            run_end(&run);
            shl_buf_release(&text);
        }
    }
}

static void test_request_without_lookup_keeps_every_byte(void **state)
{
    static const char sent[] = "POST /a HTTP/1.1\r\nHost: api.example.com\r\nA: " TOKEN "\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nT: 1\r\n\r\n";

    (void)state;
    expect_with(&plain, sent, sent);
}

static void test_request_of_a_proxy_client_becomes_one_of_the_server(void **state)
{
    (void)state;
    expect_with(&proxy,
                "GET http://api.example.com/a?b HTTP/1.1\r\nHost: api.example.com\r\n"
                "Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nConnection: "
                "keep-alive\r\nA: " TOKEN "\r\n\r\n"
                "GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n",
                "GET /a?b HTTP/1.1\r\nHost: api.example.com\r\nA: " TOKEN "\r\n"
                "Connection: close\r\n\r\n");
    expect_with(&proxy, "GET http://api.example.com HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n");
}

static void reply_feed(struct run *run, struct egress_reply *reply, const char *text)
{
    struct shl_buf in, out;

    shl_buf_init(&in, EGRESS_IN_MAX);
    shl_buf_init(&out, EGRESS_OUT_MAX);
    for (; *text; text++) {
        assert_int_equal(shl_buf_append(&in, text, 1), 0);
        assert_int_equal(egress_reply_step(reply, &run->exchanges, &in, &out), 0);
    }
    assert_int_equal(shl_buf_len(&in), 0);
    shl_buf_release(&in);
    shl_buf_release(&out);
}

#define UPGRADE                                                                      \
    "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: keep-alive, Upgrade\r\n" \
    "Upgrade: websocket\r\n\r\n"

/* What follows a switch is neither read nor replaced; before the server agreed, it waits. */
static void test_request_switch_of_protocols_passes_raw(void **state)
{
    struct egress_reply reply = {0};
    struct run run;

    (void)state;
    run_begin(&run);
    assert_int_equal(run_feed(&run, &rules, UPGRADE "frames " TOKEN, sizeof(UPGRADE TOKEN) + 6, 7),
                     0);
    assert_int_equal(shl_buf_len(&run.out), sizeof(UPGRADE) - 1);
    reply_feed(&run, &reply,
               "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching\r\n\r\nraw \x01 bytes");
    assert_true(run.exchanges.switched);
    assert_int_equal(run_feed(&run, &rules, "!", 1, 1), 0);
    assert_int_equal(shl_buf_append(&run.out, "", 1), 0);
    assert_string_equal((const char *)shl_buf_data(&run.out), UPGRADE "frames " TOKEN "!");
    run_end(&run);
}

/* A server that does not switch goes on with HTTP, where tokens are replaced. */
static void test_request_refused_switch_goes_on(void **state)
{
    struct egress_reply reply = {0};
    struct run run;

    (void)state;
    run_begin(&run);
    assert_int_equal(run_feed(&run, &rules, UPGRADE, sizeof(UPGRADE) - 1, 99), 0);
    reply_feed(&run, &reply, "HTTP/1.1 426 No\r\nContent-Length: 3\r\n\r\nno!");
    shl_buf_clear(&run.out);
    assert_int_equal(run_feed(&run, &rules,
                              "GET / HTTP/1.1\r\nHost: api.example.com\r\nA: " TOKEN "\r\n\r\n",
                              44 + sizeof(TOKEN) + 2 - 1, 99),
                     0);
    assert_int_equal(shl_buf_append(&run.out, "", 1), 0);
    assert_non_null(strstr((const char *)shl_buf_data(&run.out), "real-value"));
    run_end(&run);
}

/* A response to HEAD has no body, whatever length it names; 304 neither. */
static void test_reply_ends_where_it_ends(void **state)
{
    struct egress_reply reply = {0};
    struct run run;

    (void)state;
    run_begin(&run);
    egress_exchanges_push(&run.exchanges, EGRESS_EXCHANGE_HEAD);
    egress_exchanges_push(&run.exchanges, 0);
    egress_exchanges_push(&run.exchanges, 0);
    egress_exchanges_push(&run.exchanges, EGRESS_EXCHANGE_UPGRADE);
    reply_feed(&run, &reply,
               "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
               "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"
               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
               "HTTP/1.1 101 Switching\r\n\r\nraw");
    assert_true(run.exchanges.switched);
    run_end(&run);
}

/* A server that switches unasked is not followed. */
static void test_reply_unasked_switch_is_an_error(void **state)
{
    static const char text[] = "HTTP/1.1 101 Switching\r\n\r\n";
    struct egress_exchanges exchanges = {0};
    struct egress_reply reply = {0};
    struct shl_buf in, out;

    (void)state;
    egress_exchanges_push(&exchanges, 0);
    shl_buf_init(&in, EGRESS_IN_MAX);
    shl_buf_init(&out, EGRESS_OUT_MAX);
    assert_int_equal(shl_buf_append(&in, text, sizeof(text) - 1), 0);
    assert_int_equal(egress_reply_step(&reply, &exchanges, &in, &out), SHL_EPROTO);
    assert_false(exchanges.switched);
    shl_buf_release(&in);
    shl_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_tokens_in_headers_are_replaced),
        cmocka_unit_test(test_request_values_with_lines_stay_out_of_headers),
        cmocka_unit_test(test_request_basic_credentials_are_replaced),
        cmocka_unit_test(test_request_length_is_made_anew),
        cmocka_unit_test(test_request_tokens_across_chunks_are_replaced),
        cmocka_unit_test(test_request_of_a_binary_type_passes_as_it_is),
        cmocka_unit_test(test_request_long_body_streams_in_chunks),
        cmocka_unit_test(test_request_ambiguous_ones_are_refused),
        cmocka_unit_test(test_request_for_another_host_is_refused),
        cmocka_unit_test(test_request_head_is_bounded),
        cmocka_unit_test(test_request_head_is_bounded_with_its_values),
        cmocka_unit_test(test_request_without_lookup_keeps_every_byte),
        cmocka_unit_test(test_request_of_a_proxy_client_becomes_one_of_the_server),
        cmocka_unit_test(test_request_switch_of_protocols_passes_raw),
        cmocka_unit_test(test_request_refused_switch_goes_on),
        cmocka_unit_test(test_reply_ends_where_it_ends),
        cmocka_unit_test(test_reply_unasked_switch_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
