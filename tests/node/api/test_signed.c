/* Signed URLs: contract test 50. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/api/signed.h"
#include "tests/node/api/fixture.h"

#define ORIGIN "http://files.test"

/* The target of the URL that is handed out for @body. Heap. */
static char *hand_out(const char *kind, const char *body)
{
    struct reply reply;
    char head[256];
    char *target;
    json_t *json;

    (void)snprintf(head, sizeof(head),
                   "POST /api/sandboxes/%s/files/%s-url HTTP/1.1\r\nX-API-Key: %s\r\n"
                   "X-Forwarded-Host: files.test",
                   fix->id, kind, fix->key);
    request(&fix->loop, fix->port, head, body, strlen(body), &reply);
    if (reply.status != 200) {
        fail_msg("%s: %d %s", body, reply.status, (char *)reply.body);
    }
    json = json_loads((char *)reply.body, 0, NULL);
    assert_int_equal(strncmp(text_of(json, "url"), ORIGIN, strlen(ORIGIN)), 0);
    target = strdup(text_of(json, "url") + strlen(ORIGIN));
    json_decref(json);
    reply_release(&reply);
    return target;
}

static int transfer(const char *method, const char *target, const char *body, struct reply *reply)
{
    char *head = NULL;

    assert_true(asprintf(&head, "%s %s HTTP/1.1\r\nX-None: 1", method, target) > 0);
    request(&fix->loop, fix->port, head, body, strlen(body), reply);
    free(head);
    return reply->status;
}

static void transfer_fails(int status, const char *part, const char *method, const char *target)
{
    struct reply reply;
    int got = transfer(method, target, "", &reply);

    if (got != status || !strstr((char *)reply.body, part)) {
        fail_msg("%s %s: %d %s", method, target, got, (char *)reply.body);
    }
    check_envelope(&reply, status);
    reply_release(&reply);
}

/* @target with the first @from replaced. Heap. */
static char *changed(const char *target, const char *from, const char *to)
{
    const char *at = strstr(target, from);
    char *text = NULL;

    assert_non_null(at);
    assert_true(asprintf(&text, "%.*s%s%s", (int)(at - target), target, to, at + strlen(from)) > 0);
    return text;
}

static void test_signed_urls_carry_bytes_without_a_key(void **state)
{
    char *up = hand_out("upload", "{\"path\":\"/tmp/a b%\\u00e4+#\"}");
    char *down = hand_out("download", "{\"path\":\"/tmp/a b%\\u00e4+#\"}");
    struct reply reply;

    (void)state;
    assert_int_equal(transfer("PUT", up, "some bytes", &reply), 204);
    reply_release(&reply);
    assert_int_equal(transfer("GET", down, "", &reply), 200);
    assert_string_equal((char *)reply.body, "some bytes");
    reply_release(&reply);
    free(up);
    free(down);
}

/* Whatever is changed makes it another URL, which nobody handed out. */
static void test_signed_urls_are_bound(void **state)
{
    char *down = hand_out("download", "{\"path\":\"/tmp/a\"}");
    static const char *const changes[][2] = {{"path=/tmp/a", "path=/tmp/b"},
                                             {"path=/tmp/a", "path=/tmp/a/"},
                                             {"path=/tmp/a", "path=/tmp/./a"},
                                             {"expires=1", "expires=2"},
                                             {"expires=1", "expires=9"}};
    char other[NODE_SANDBOX_ID_SIZE];
    char *text;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(changes); i++) {
        text = changed(down, changes[i][0], changes[i][1]);
        transfer_fails(403, "invalid signature", "GET", text);
        free(text);
    }
    create_sandbox("{}", other);
    text = changed(down, fix->id, other);
    transfer_fails(403, "invalid signature", "GET", text);
    free(text);
    text = changed(down, "/files/download", "/files/upload");
    transfer_fails(403, "invalid signature", "PUT", text);
    free(text);
    transfer_fails(405, "", "PUT", down);
    text = changed(down, "/files/download", "/files"); /* the signature is no key */
    transfer_fails(401, "missing API key", "GET", text);
    free(text);
    free(down);
}

static void test_signed_urls_expire(void **state)
{
    char *down = hand_out("download", "{\"path\":\"/tmp/a\",\"expiresIn\":1}");
    struct node_url url;
    struct shl_err err = {0};
    struct node_signed what = {NODE_SIGNED_DOWNLOAD, "sb-1", "/a", 1000};
    const struct node_token_key key = {{1}};
    struct shl_buf text;

    (void)state;
    free(down);
    shl_buf_init(&text, NODE_SIGNED_URL_MAX);
    assert_int_equal(node_signed_write(&key, &what, &text), 0);
    assert_int_equal(shl_buf_append(&text, "", 1), 0);
    assert_int_equal(node_url_parse(&url, (const char *)shl_buf_data(&text)), 0);
    assert_int_equal(node_signed_check(&key, NODE_SIGNED_DOWNLOAD, "sb-1", &url, 999, &err), 0);
    assert_int_equal(node_signed_check(&key, NODE_SIGNED_DOWNLOAD, "sb-1", &url, 1000, &err),
                     SHL_EFORBIDDEN);
    assert_non_null(strstr(err.msg, "expired"));
    node_url_release(&url);
    shl_buf_release(&text);
}

static void test_signed_urls_last_as_asked(void **state)
{
    static const struct {
        const char *body;
        int64_t seconds;
    } cases[] = {{"{\"path\":\"a\"}", 3600},
                 {"{\"path\":\"a\",\"expiresIn\":0}", 3600},
                 {"{\"path\":\"a\",\"expiresIn\":-5}", 3600},
                 {"{\"path\":\"a\",\"expiresIn\":60}", 60},
                 {"{\"path\":\"a\",\"expiresIn\":999999}", 86400}};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        int64_t before_s = shl_realtime_ms() / 1000;
        char *target = hand_out("download", cases[i].body);
        int64_t expires_s = strtoll(strstr(target, "expires=") + 8, NULL, 10);

        assert_in_range(expires_s - cases[i].seconds, before_s, shl_realtime_ms() / 1000);
        free(target);
    }
}

static void test_signed_urls_bad_requests(void **state)
{
    char *down = hand_out("download", "{\"path\":\"/tmp/a\"}");
    char *text;

    (void)state;
    call_fails(400, "path is required", "POST /api/sandboxes/%s/files/download-url", "{}");
    call_fails(400, "path is required", "POST /api/sandboxes/%s/files/upload-url",
               "{\"path\":\"\"}");
    call_fails(400, "expiresIn", "POST /api/sandboxes/%s/files/upload-url",
               "{\"path\":\"a\",\"expiresIn\":\"1h\"}");
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/files/upload-url",
               "{\"path\":\"a\"}");
    *strchr(down, '?') = '\0';
    transfer_fails(400, "path is required", "GET", down);
    assert_true(asprintf(&text, "%s?path=/a", down) > 0);
    transfer_fails(400, "expires is required", "GET", text);
    free(text);
    assert_true(asprintf(&text, "%s?path=/a&expires=17x", down) > 0);
    transfer_fails(400, "expires is required", "GET", text);
    free(text);
    assert_true(asprintf(&text, "%s?path=/a&expires=1700000000", down) > 0);
    transfer_fails(400, "signature is required", "GET", text);
    free(text);
    assert_true(asprintf(&text, "%s?path=/a&expires=1700000000&signature=00ff", down) > 0);
    transfer_fails(400, "signature is required", "GET", text);
    free(text);
    free(down);
}

static void test_signed_urls_missing_file_and_ended_sandbox(void **state)
{
    char *down = hand_out("download", "{\"path\":\"/tmp/none\"}");

    (void)state;
    transfer_fails(404, "", "GET", down);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    transfer_fails(410, "stopped", "GET", down);
    call_fails(410, "stopped", "POST /api/sandboxes/%s/files/download-url", "{\"path\":\"/a\"}");
    free(down);
}

static void test_signed_urls_wake(void **state)
{
    char *up = hand_out("upload", "{\"path\":\"/tmp/a\"}");
    struct reply reply;

    (void)state;
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_HIBERNATED, "");
    assert_int_equal(transfer("PUT", up, "x", &reply), 204);
    reply_release(&reply);
    assert_int_equal(fake_sandbox_wakes(fixture_sandbox()), 1);
    free(up);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_signed_urls_carry_bytes_without_a_key),
        TEST(test_signed_urls_are_bound),
        TEST(test_signed_urls_expire),
        TEST(test_signed_urls_last_as_asked),
        TEST(test_signed_urls_bad_requests),
        TEST(test_signed_urls_missing_file_and_ended_sandbox),
        TEST(test_signed_urls_wake),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
