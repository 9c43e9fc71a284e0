/* Preview records and tokens: contract test 82, host names, cookies and targets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/api/preview_host.h"
#include "node/api/preview_token.h"
#include "tests/node/api/fixture.h"

static void host_is(const char *host, const char *id, uint16_t port)
{
    struct node_preview_host got = {.port = 0};

    if (node_preview_host_parse(host, "sandboxes.test:8443", &got) != NODE_HOST_PREVIEW ||
        strcmp(got.id, id) != 0 || got.port != port) {
        fail_msg("%s: %s %u", host, got.id, got.port);
    }
}

static void host_is_not(enum node_host_kind kind, const char *host)
{
    struct node_preview_host got = {.port = 0};

    if (node_preview_host_parse(host, "sandboxes.test:8443", &got) != kind) {
        fail_msg("%s", host);
    }
}

static void test_previews_host_names(void **state)
{
    static const char *const bad[] = {
        "sb-1f0c9d5e.sandboxes.test",
        "sb-1f0c9d5e-p.sandboxes.test",
        "sb-1f0c9d5e-p0.sandboxes.test",
        "sb-1f0c9d5e-p65536.sandboxes.test",
        "sb-1f0c9d5e-p080.sandboxes.test",
        "sb-1f0c9d5e-p80x.sandboxes.test",
        "sb--p80.sandboxes.test",
        "sb-p80.sandboxes.test",
        "xx-1f0c9d5e-p80.sandboxes.test",
        "-p80.sandboxes.test",
        "sb-1f0c9d5e1f0c9d5e-p80.localhost",
        "sb-1f0c_9d5-p80.localhost",
        "sb-1f0c9d5e-p111111111.localhost",
    };
    static const char *const api[] = {
        "sandboxes.test",
        "sandboxes.test:8080",
        "localhost",
        "127.0.0.1:8080",
        "[::1]:8080",
        "api.sandboxes.test",
        "www-prod.localhost",
        "a.sb-1f0c9d5e-p80.localhost",
        "sb-1f0c9d5e-p80.other.test",
        "sb-1f0c9d5e-p80",
        "sb-1f0c9d5e-p80sandboxes.test",
        "",
        ":80",
        ".",
        ".localhost",
    };

    (void)state;
    host_is("sb-1f0c9d5e-p80.sandboxes.test", "sb-1f0c9d5e", 80);
    host_is("sb-1f0c9d5e-p3000.sandboxes.test:9999", "sb-1f0c9d5e", 3000);
    host_is("SB-1F0C9D5E-P65535.Sandboxes.Test", "sb-1f0c9d5e", 65535);
    host_is("sb-1f0c9d5e-p1.localhost:8080", "sb-1f0c9d5e", 1);
    host_is("sb-1f0c9d5e-p1.localhost.", "sb-1f0c9d5e", 1);
    host_is("sb-a-p1-p2.localhost", "sb-a-p1", 2);
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        host_is_not(NODE_HOST_BAD, bad[i]);
    }
    for (size_t i = 0; i < SHL_ARRAY_SIZE(api); i++) {
        host_is_not(NODE_HOST_API, api[i]);
    }
    host_is_not(NODE_HOST_API, NULL);
}

static void target_is(const char *target, const char *stripped, const char *token)
{
    char got[NODE_PREVIEW_TOKEN_SIZE];
    struct shl_buf out;

    shl_buf_init(&out, 4096);
    assert_int_equal(node_preview_target_strip(target, &out, got), 0);
    assert_int_equal(shl_buf_append(&out, "", 1), 0);
    assert_string_equal((char *)shl_buf_data(&out), stripped);
    assert_string_equal(got, token);
    shl_buf_release(&out);
}

static void test_previews_token_leaves_the_target(void **state)
{
    (void)state;
    target_is("/", "/", "");
    target_is("/a?b=c&&d", "/a?b=c&&d", "");
    target_is("/a?", "/a?", "");
    target_is("/a?oc_preview_token=secret", "/a", "secret");
    target_is("/a?b=1&oc_preview_token=s%2Bt&c=2", "/a?b=1&c=2", "s+t");
    target_is("/a?oc_preview_token=one&oc_preview_token=two&c", "/a?c", "one");
    target_is("/a?oc_preview_token=%zz&c", "/a?c", "");
    target_is("/a?my_oc_preview_token=x", "/a?my_oc_preview_token=x", "");
}

static void cookie_is(const char *header, const char *value, const char *rest)
{
    struct shl_bytes got = node_preview_cookie(header);
    struct shl_buf out;

    assert_int_equal(got.len, strlen(value));
    assert_true(got.len == 0 || memcmp(got.base, value, got.len) == 0);
    shl_buf_init(&out, 4096);
    assert_int_equal(node_preview_cookie_strip(header, &out), 0);
    assert_int_equal(shl_buf_append(&out, "", 1), 0);
    assert_string_equal((char *)shl_buf_data(&out), rest);
    shl_buf_release(&out);
}

static void test_previews_cookies(void **state)
{
    (void)state;
    cookie_is("a=b", "", "a=b");
    cookie_is("oc_preview_token=secret", "secret", "");
    cookie_is("a=b; oc_preview_token=secret; c=d", "secret", "a=b; c=d");
    cookie_is("xoc_preview_token=secret;oc_preview_token=t ", "t", "xoc_preview_token=secret");
    cookie_is(";;; ", "", "");
}

static void test_previews_create_list_delete(void **state)
{
    json_t *first = call(201, "POST /api/sandboxes/%s/preview",
                         "{\"port\":3000,\"authConfig\":{\"a\":[1,\"x\"]}}");
    json_t *again = call(200, "POST /api/sandboxes/%s/preview", "{\"port\":3000}");
    json_t *list;
    char expected[128];

    (void)state;
    (void)snprintf(expected, sizeof(expected), "%s-p3000.sandboxes.test", fix->id);
    assert_string_equal(text_of(first, "hostname"), expected);
    assert_string_equal(text_of(first, "sandboxId"), fix->id);
    assert_string_equal(text_of(first, "sslStatus"), "active");
    assert_true(strlen(text_of(first, "orgId")) > 0 && strlen(text_of(first, "createdAt")) > 10);
    assert_true(json_equal(first, again));
    json_decref(again);
    json_decref(call(201, "POST /api/sandboxes/%s/preview", "{\"port\":80,\"domain\":\"\"}"));
    list = call(200, "GET /api/sandboxes/%s/preview", NULL);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "port")), 80);
    assert_true(json_equal(json_array_get(list, 1), first));
    json_decref(list);
    json_decref(first);
    assert_null(call(204, "DELETE /api/sandboxes/%s/preview/3000", NULL));
    call_fails(404, "no preview record", "DELETE /api/sandboxes/%s/preview/3000", NULL);
    list = call(200, "GET /api/sandboxes/%s/preview", NULL);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
}

static void test_previews_bad_requests(void **state)
{
    static const struct {
        const char *body;
        const char *part;
    } cases[] = {{"{}", "port is required"},
                 {"{\"port\":0}", "port"},
                 {"{\"port\":70000}", "port"},
                 {"{\"port\":-1}", "port"},
                 {"{\"port\":\"80\"}", "port"},
                 {"{\"port\":80.5}", "port"},
                 {"{\"port\":80,\"domain\":\"app.example.com\"}", "not verified"},
                 {"{\"port\":80,\"domain\":1}", "domain"},
                 {"{\"port\":80,\"authConfig\":[]}", "authConfig"},
                 {"nonsense", "JSON"}};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        call_fails(400, cases[i].part, "POST /api/sandboxes/%s/preview", cases[i].body);
    }
    call_fails(400, "port", "DELETE /api/sandboxes/%s/preview/0", NULL);
    call_fails(400, "port", "DELETE /api/sandboxes/%s/preview/65536", NULL);
    call_fails(400, "port", "DELETE /api/sandboxes/%s/preview/http", NULL);
    call_fails(404, "sandbox not found", "GET /api/sandboxes/sb-00000000/preview", NULL);
    call_fails(404, "sandbox not found", "POST /api/sandboxes/sb-00000000/preview", "{\"port\":1}");
}

static void test_previews_config_has_a_limit(void **state)
{
    char body[2048];

    (void)state;
    (void)snprintf(body, sizeof(body), "{\"port\":80,\"authConfig\":{\"a\":\"%01100d\"}}", 0);
    call_fails(400, "authConfig is larger", "POST /api/sandboxes/%s/preview", body);
}

static void test_previews_have_a_limit(void **state)
{
    char body[64];

    (void)state;
    for (int i = 1; i <= NODE_PREVIEWS_MAX; i++) {
        (void)snprintf(body, sizeof(body), "{\"port\":%d}", i);
        json_decref(call(201, "POST /api/sandboxes/%s/preview", body));
    }
    call_fails(429, "the maximum", "POST /api/sandboxes/%s/preview", "{\"port\":4000}");
    json_decref(call(200, "POST /api/sandboxes/%s/preview", "{\"port\":7}"));
}

static void test_previews_of_a_hibernated_and_of_an_ended_sandbox(void **state)
{
    json_t *list;

    (void)state;
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_HIBERNATED, "");
    json_decref(call(201, "POST /api/sandboxes/%s/preview", "{\"port\":80}"));
    assert_int_equal(fake_sandbox_wakes(fixture_sandbox()), 0);
    fake_manager_set_state(fixture_sandbox(), NODE_SANDBOX_STOPPED, "killed");
    list = call(200, "GET /api/sandboxes/%s/preview", NULL);
    assert_int_equal(json_array_size(list), 0);
    json_decref(list);
    call_fails(400, "stopped", "POST /api/sandboxes/%s/preview", "{\"port\":81}");
    call_fails(410, "stopped", "POST /api/sandboxes/%s/preview/rotate", "");
}

static bool is_token_of_sandbox(const struct node_sandbox *sandbox, const char *token)
{
    return node_preview_token_is(&sandbox->spec.previews, shl_bytes_of(token, strlen(token)));
}

static void test_previews_tokens(void **state)
{
    json_t *made = call(201, "POST /api/sandboxes",
                        "{\"previewAuth\":{\"scheme\":\"bearer\",\"token\":\"auto\"}}");
    struct node_sandbox *sandbox = fake_manager_last(fix->manager);
    json_t *json;

    (void)state;
    assert_true(strlen(text_of(made, "previewAuthToken")) > 40);
    assert_true(is_token_of_sandbox(sandbox, text_of(made, "previewAuthToken")));
    assert_false(is_token_of_sandbox(sandbox, "pv_something else"));
    assert_false(is_token_of_sandbox(sandbox, ""));
    json = call(200, "GET /api/sandboxes/%s", NULL);
    assert_null(json_object_get(json, "previewAuthToken"));
    json_decref(json);
    json_decref(made);

    made = call(201, "POST /api/sandboxes", "{\"previewAuth\":{\"token\":\"0123456789abcdef\"}}");
    assert_string_equal(text_of(made, "previewAuthToken"), "0123456789abcdef");
    json_decref(made);
    made = call(201, "POST /api/sandboxes", "{}");
    assert_null(json_object_get(made, "previewAuthToken"));
    assert_false(fake_manager_last(fix->manager)->spec.previews.has_token);
    json_decref(made);
    call_fails(400, "previewAuth.token", "POST /api/sandboxes",
               "{\"previewAuth\":{\"token\":\"too short\"}}");
    call_fails(400, "previewAuth.token", "POST /api/sandboxes",
               "{\"previewAuth\":{\"token\":\"0123456789 abcdef\"}}");
    call_fails(400, "previewAuth.scheme", "POST /api/sandboxes",
               "{\"previewAuth\":{\"scheme\":\"basic\"}}");
    call_fails(400, "previewAuth", "POST /api/sandboxes", "{\"previewAuth\":true}");
}

static void test_previews_rotation_ends_the_old_token(void **state)
{
    json_t *one = call(200, "POST /api/sandboxes/%s/preview/rotate", "");
    json_t *two = call(200, "POST /api/sandboxes/%s/preview/rotate", "{}");

    (void)state;
    assert_string_equal(text_of(one, "scheme"), "bearer");
    assert_false(is_token_of_sandbox(fixture_sandbox(), text_of(one, "previewAuthToken")));
    assert_true(is_token_of_sandbox(fixture_sandbox(), text_of(two, "previewAuthToken")));
    json_decref(one);
    json_decref(two);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_previews_host_names),
        cmocka_unit_test(test_previews_token_leaves_the_target),
        cmocka_unit_test(test_previews_cookies),
        TEST(test_previews_create_list_delete),
        TEST(test_previews_bad_requests),
        TEST(test_previews_config_has_a_limit),
        TEST(test_previews_have_a_limit),
        TEST(test_previews_of_a_hibernated_and_of_an_ended_sandbox),
        TEST(test_previews_tokens),
        TEST(test_previews_rotation_ends_the_old_token),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
