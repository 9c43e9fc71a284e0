/* node/egress/metadata: requests and replies as text. Connections are in
 * tests/egress/metadata.test.mjs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "node/egress/metadata.h"

static const struct node_egress_facts facts = {
    .region = "eu \"1\"\\\n",
    .template_name = "b\xc3\xa4se",
    .memory_bytes = 1ull << 40,
    .began_ms = 5000,
};
static const struct node_egress_figures figures = {
    .cpu_permille = 1234,
    .memory_used_bytes = 1,
    .processes = 3,
    .net_in_bytes = 4,
    .net_out_bytes = 5,
};
static const struct egress_metadata_caller caller = {.sandbox = "sb-1",
                                                     .facts = &facts,
                                                     .now_ms = 17999};

static bool parse(const char *text, struct egress_metadata_request *ret)
{
    return egress_metadata_parse(shl_bytes_of(text, strlen(text)), ret);
}

/* On the heap. */
static char *reply_to(const struct egress_metadata_request *request,
                      const struct egress_metadata_caller *by)
{
    struct shl_buf out;
    char *reply;

    shl_buf_init(&out, 2 * EGRESS_METADATA_REPLY_MAX);
    assert_int_equal(egress_metadata_reply(request, by, &figures, &out), 0);
    reply = shl_bytes_dup_str(shl_buf_bytes(&out));
    shl_buf_release(&out);
    return reply;
}

static char *answer(const char *text)
{
    struct egress_metadata_request request;

    assert_true(parse(text, &request));
    return reply_to(&request, &caller);
}

static void body_is(const char *path, const char *body)
{
    char text[128], length[64];
    char *reply;

    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    (void)snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", strlen(body));
    reply = answer(text);
    assert_int_equal(strncmp(reply, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(reply, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(reply, length));
    assert_string_equal(strstr(reply, "\r\n\r\n") + 4, body);
    free(reply);
}

static void test_metadata_replies(void **state)
{
    (void)state;
    body_is("/", "{\"endpoints\":[\"/v1/status\",\"/v1/limits\",\"/v1/metadata\"]}\n");
    body_is("/v1/status", "{\"sandboxId\":\"sb-1\",\"uptime\":12}\n");
    body_is("/v1/status/?a=b", "{\"sandboxId\":\"sb-1\",\"uptime\":12}\n");
    body_is("/v1/limits", "{\"cpuPercent\":123.4,\"memUsage\":1,\"memLimit\":1099511627776,"
                          "\"pids\":3,\"netInput\":4,\"netOutput\":5}\n");
    body_is("/v1/metadata",
            "{\"region\":\"eu \\\"1\\\"\\\\\\u000a\",\"template\":\"b\xc3\xa4se\"}\n");
}

static void test_metadata_uptime_is_never_negative(void **state)
{
    struct egress_metadata_caller early = caller;
    struct egress_metadata_request request;
    char *reply;

    (void)state;
    early.now_ms = 4000;
    assert_true(parse("GET /v1/status HTTP/1.1\r\n\r\n", &request));
    reply = reply_to(&request, &early);
    assert_non_null(strstr(reply, "\"uptime\":0}"));
    free(reply);
}

static void test_metadata_refusals(void **state)
{
    static const struct {
        const char *text;
        const char *status;
    } bad[] = {
        {"GET /v1/status HTTP/2\r\n\r\n", "400"},
        {"GET /v1/status\r\n\r\n", "400"},
        {"GET  /v1/status HTTP/1.1\r\n\r\n", "400"},
        {"GET /v1/status HTTP/1.1\nHost: x\n\n", "400"},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nA : b\r\n\r\n", "400"},
        {"get /v1/status HTTP/1.1\r\n\r\n", "405"},
        {"GET http://169.254.169.254/ HTTP/1.1\r\n\r\n", "400"},
        {"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n", "400"},
        {"OPTIONS * HTTP/1.1\r\n\r\n", "400"},
        {" / HTTP/1.1\r\n\r\n", "400"},
        {"GET /latest/meta-data/ HTTP/1.1\r\n\r\n", "404"},
        {"PUT /latest/api/token HTTP/1.1\r\n\r\n", "404"},
        {"GET /v1/statusx HTTP/1.1\r\n\r\n", "404"},
        {"GET // HTTP/1.1\r\n\r\n", "200"}, /* one at the end is left out */
        {"GET /v1/../v1/status HTTP/1.1\r\n\r\n", "404"},
        {"POST /v1/scale HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "404"},
        {"POST /v1/status HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"},
        {"DELETE / HTTP/1.1\r\n\r\n", "405"},
    };
    struct egress_metadata_request request;
    char *reply;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        reply = answer(bad[i].text);
        if (strncmp(reply + 9, bad[i].status, 3) != 0) {
            fail_msg("%s: %s", bad[i].text, reply);
        }
        free(reply);
    }
    reply = answer("PUT / HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(reply, "\r\nAllow: GET, HEAD\r\n"));
    assert_non_null(strstr(reply, "\r\nContent-Type: text/plain; charset=utf-8\r\n"));
    free(reply);
    reply = answer("HEAD /v1/status HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(reply, "\r\nContent-Length: 33\r\n"));
    assert_string_equal(strstr(reply, "\r\n\r\n"), "\r\n\r\n");
    free(reply);
    /* nobody's address: there are no facts to be shown */
    assert_true(parse("GET /v1/status HTTP/1.1\r\n\r\n", &request));
    egress_metadata_refuse(&request, 404, "this address is no sandbox's");
    reply = reply_to(&request, NULL);
    assert_int_equal(strncmp(reply, "HTTP/1.1 404 Not Found\r\n", 24), 0);
    assert_string_equal(strstr(reply, "\r\n\r\n") + 4, "this address is no sandbox's\n");
    free(reply);
}

static void test_metadata_heads_are_awaited_and_bounded(void **state)
{
    static char large[EGRESS_METADATA_HEAD_MAX + 2];
    struct egress_metadata_request request;

    (void)state;
    assert_false(parse("", &request));
    assert_false(parse("GET /v1/status HTTP/1.1\r\nHost: x\r\n", &request));
    memset(large, 'x', sizeof(large) - 2);
    memcpy(large, "GET / HTTP/1.1\r\nA: ", 19);
    large[sizeof(large) - 3] = '\0';
    assert_false(parse(large, &request));
    large[sizeof(large) - 3] = 'x';
    assert_true(parse(large, &request));
    assert_int_equal(request.status, 431);
    /* the end of the head lies behind what is looked at */
    memcpy(large + EGRESS_METADATA_HEAD_MAX - 3, "\r\n\r\n", 5);
    assert_true(parse(large, &request));
    assert_int_equal(request.status, 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata_replies),
        cmocka_unit_test(test_metadata_uptime_is_never_negative),
        cmocka_unit_test(test_metadata_refusals),
        cmocka_unit_test(test_metadata_heads_are_awaited_and_bounded),
    };

    return cmocka_run_group_tests_name("node/egress_metadata", tests, NULL, NULL);
}
