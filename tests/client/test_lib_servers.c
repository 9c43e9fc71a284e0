/* Which servers libshoal knows, and which of them it asks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/attr.h"
#include "tests/client/lib.h"

/* A dead first server is passed over, and the live one is remembered. */
static void test_failover_unreachable_server_is_passed_over(void **state)
{
    const struct mock_rule rules[] = {{"POST", "/api/sandboxes", 201, BOX},
                                      {"DELETE", "/api/sandboxes/sb-1", 204, NULL}};
    struct mock *mock = mock_start(rules, 2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "http://127.0.0.1:1,%s/api/", mock_url(mock));
    client = client_of(urls, 30);
    assert_int_equal(shoal_client_endpoint_count(client), 2);
    /* Creating must not happen twice, but nothing was sent to the first one. */
    assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
    assert_string_equal(shoal_client_endpoint_in_use(client), shoal_client_endpoint(client, 1));
    assert_int_equal(shoal_sandbox_kill(client, "sb-1", &err), 0);
    assert_int_equal(mock_count(mock), 2);
    shoal_sandbox_free(sandbox);
    shoal_client_free(client);
    mock_stop(mock);
}

/* A server that took the request and vanished may have acted on it: a reboot is not
 * repeated elsewhere, a get is, and a create with the key that makes it one and the same. */
static void test_failover_only_repeatable_calls_after_sending(void **state)
{
    const struct mock_rule dropping[] = {
        {"POST", "/api/sandboxes", 0, NULL, MOCK_DROP},
        {"POST", "/api/sandboxes/sb-1/reboot", 0, NULL, MOCK_DROP},
        {"POST", "/api/sandboxes/from-checkpoint/" CID, 0, NULL, MOCK_DROP},
        {"GET", "/api/sandboxes/sb-1", 0, NULL, MOCK_DROP},
    };
    const struct mock_rule good[] = {{"POST", "/api/sandboxes", 201, BOX},
                                     {"POST", "/api/sandboxes/from-checkpoint/" CID, 201, BOX},
                                     {"GET", "/api/sandboxes/sb-1", 200, BOX}};
    struct mock *first = mock_start(dropping, SHL_ARRAY_SIZE(dropping));
    struct mock *second = mock_start(good, SHL_ARRAY_SIZE(good));
    char key[64];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_sandbox_reboot(client, "sb-1", false, &err), -ECONNRESET);
    assert_int_equal(mock_count(first), 1);
    assert_int_equal(mock_count(second), 0);
    assert_string_equal(mock_at(first, 0)->once, "");
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), 0);
    assert_int_equal(mock_count(second), 1);
    shoal_sandbox_free(sandbox);
    shoal_client_free(client);

    for (int fork = 0; fork < 2; fork++) {
        mock_forget(first);
        mock_forget(second);
        client = client_of(urls, 30);
        if (fork) {
            assert_int_equal(shoal_checkpoint_fork(client, CID, NULL, &sandbox, &err), 0);
        } else {
            assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
        }
        assert_int_equal(mock_count(first), 1);
        assert_int_equal(mock_count(second), 1);
        assert_int_equal(strlen(mock_at(first, 0)->once), 36);
        assert_string_equal(mock_at(first, 0)->once, mock_at(second, 0)->once);
        snprintf(key, sizeof(key), "%s", mock_at(first, 0)->once);
        shoal_sandbox_free(sandbox);
        /* The next one has a key of its own. */
        assert_int_equal(shoal_sandbox_create(client, NULL, &sandbox, &err), 0);
        assert_string_not_equal(mock_at(second, 1)->once, key);
        shoal_sandbox_free(sandbox);
        shoal_client_free(client);
    }
    mock_stop(first);
    mock_stop(second);
}

static void test_failover_all_servers_dead_names_the_last(void **state)
{
    struct shoal_client *client = client_of("http://127.0.0.1:1,http://127.0.0.1:2", 30);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_sandbox_list(client, &list, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.message, "none of 2 servers"));
    assert_int_equal(err.http_status, 0);
    shoal_client_free(client);
}

/* A refusal is an answer: it does not send the call to another server. */
static void test_failover_refusal_is_final(void **state)
{
    const struct mock_rule refusing[] = {
        {"GET", "/api/sandboxes/sb-1", 404, "{\"error\":\"sandbox not found\"}"}};
    const struct mock_rule good[] = {{"GET", "/api/sandboxes/sb-1", 200, BOX}};
    struct mock *first = mock_start(refusing, 1);
    struct mock *second = mock_start(good, 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), SHOAL_ENOTFOUND);
    assert_int_equal(mock_count(second), 0);
    shoal_client_free(client);
    mock_stop(first);
    mock_stop(second);
}

static void test_call_silent_server_times_out(void **state)
{
    const struct mock_rule rules[] = {{"GET", "/api/sandboxes/sb-1", 200, "", MOCK_STALL}};
    struct mock *mock = mock_start(rules, 1);
    struct shoal_client *client = client_of(mock_url(mock), 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;

    (void)state;
    assert_int_equal(shoal_sandbox_get(client, "sb-1", &sandbox, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.message, "silent for 1 s"));
    shoal_client_free(client);
    mock_stop(mock);
}

static void test_settings_url_list(void **state)
{
    static const struct {
        const char *url;
        int code;
    } cases[] = {
        {"http://h:1", 0},
        {"https://h/api/", 0},
        {"http://a, http://b ,https://c/", 0},
        {"", SHOAL_EINVALIDARG},
        {"h:8080", SHOAL_EINVALIDARG},
        {"http://", SHOAL_EINVALIDARG},
        {"ftp://h", SHOAL_EINVALIDARG},
        {"http://a,,http://b", SHOAL_EINVALIDARG},
        {"http://u:p@h", SHOAL_EINVALIDARG},
        {"http://h/\r\nX: y", SHOAL_EINVALIDARG},
        {"http://h?x", SHOAL_EINVALIDARG},
    };
    struct shoal_settings *settings = shoal_settings_new();
    struct shoal_client *client = NULL;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        assert_int_equal(shoal_settings_set_url(settings, cases[i].url, NULL), cases[i].code);
    }
    assert_int_equal(shoal_settings_set_url(settings, "http://a/,http://b/api//,https://c/x", NULL),
                     0);
    assert_int_equal(shoal_settings_set_key(settings, "a\r\nb", NULL), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_settings_set_key(settings, "", NULL), SHOAL_EINVALIDARG);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    assert_string_equal(shoal_client_endpoint(client, 0), "http://a/api");
    assert_string_equal(shoal_client_endpoint(client, 1), "http://b/api");
    assert_string_equal(shoal_client_endpoint(client, 2), "https://c/x/api");
    assert_null(shoal_client_endpoint(client, 3));
    shoal_client_free(client);
    shoal_settings_free(settings);
}

static void write_config(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_settings_load_environment_then_file(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        int code;
    } cases[] = {
        {"{\"url\":\"http://f:1\",\"key\":\"k\"}", 0600, 0},
        {"{\"url\":\"http://f:1\",\"key\":\"k\"}", 0644, -EPERM},
        {"{\"url\":\"http://f:1\"}", 0644, 0},
        {"{\"url\":7}", 0600, SHOAL_EINVALIDARG},
        {"[]", 0600, SHOAL_EINVALIDARG},
        {"{", 0600, SHOAL_EINVALIDARG},
        {"", 0600, SHOAL_EINVALIDARG},
        {"{\"url\":\"http://f:1\",\"ca_file\":\"/nonexistent\"}", 0600, -ENOENT},
    };
    char path[] = "/tmp/shoal-test-config-XXXXXX";
    int fd = mkstemp(path);
    struct shoal_client *client = NULL;
    struct shoal_settings *settings;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    setenv("SHOAL_CONFIG", path, 1);
    unsetenv("SHOAL_URL");
    unsetenv("OPENCOMPUTER_API_URL");
    unsetenv("SHOAL_API_KEY");
    unsetenv("OPENCOMPUTER_API_KEY");
    for (size_t i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        settings = shoal_settings_new();
        write_config(path, cases[i].text, cases[i].mode);
        assert_int_equal(shoal_settings_load(settings, NULL), cases[i].code);
        shoal_settings_free(settings);
    }
    /* The environment goes first, SHOAL_URL before the other name, flags before both. */
    write_config(path, "{\"url\":\"http://file\",\"key\":\"k\"}", 0600);
    setenv("OPENCOMPUTER_API_URL", "http://other", 1);
    setenv("SHOAL_URL", "http://env", 1);
    settings = shoal_settings_new();
    assert_int_equal(shoal_settings_load(settings, NULL), 0);
    assert_int_equal(shoal_client_new(settings, &client, NULL), 0);
    assert_string_equal(shoal_client_endpoint(client, 0), "http://env/api");
    shoal_client_free(client);
    shoal_settings_free(settings);
    unlink(path);
    settings = shoal_settings_new();
    assert_int_equal(shoal_settings_load(settings, NULL), -ENOENT); /* asked for by name */
    shoal_settings_free(settings);
    unsetenv("SHOAL_CONFIG");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failover_unreachable_server_is_passed_over),
        cmocka_unit_test(test_failover_only_repeatable_calls_after_sending),
        cmocka_unit_test(test_failover_all_servers_dead_names_the_last),
        cmocka_unit_test(test_failover_refusal_is_final),
        cmocka_unit_test(test_call_silent_server_times_out),
        cmocka_unit_test(test_settings_url_list),
        cmocka_unit_test(test_settings_load_environment_then_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
