/* Secret stores through libshoal: what is sent, what is not, and that values leave nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/attr.h"
#include "tests/client/lib.h"

#define STORE \
    "{\"id\":\"" CID "\",\"orgId\":\"o\",\"name\":\"prod\",\"egressAllowlist\":[\"a.com\"]}"
#define STORES "/api/secret-stores/" CID

static void test_secret_store_life(void **state)
{
    const struct mock_rule rules[] = {
        {"POST", "/api/secret-stores", 201, STORE},
        {"GET", "/api/secret-stores", 200, "[" STORE "]"},
        {"GET", STORES, 200, STORE},
        {"PUT", STORES, 200, STORE},
        {"DELETE", STORES, 204, NULL},
    };
    static const char *const names[] = {"a.com", "*.b.com"};
    const struct shoal_hosts hosts = {names, 2}, none = {NULL, 0};
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_secret_store *store = NULL;
    struct shoal_secret_store_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_secret_store_create(f.client, "prod", &hosts, &store, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 0)->body,
                        "{\"name\":\"prod\",\"egressAllowlist\":[\"a.com\",\"*.b.com\"]}");
    assert_string_equal(shoal_secret_store_text(store, "id"), CID);
    assert_string_equal(shoal_secret_store_allowed(store, 0), "a.com");
    assert_null(shoal_secret_store_allowed(store, 1));
    assert_null(shoal_secret_store_text(store, "updatedAt"));
    shoal_secret_store_free(store);
    assert_int_equal(shoal_secret_store_create(f.client, "prod", NULL, &store, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 1)->body, "{\"name\":\"prod\"}");
    shoal_secret_store_free(store);
    assert_int_equal(shoal_secret_store_list(f.client, &list, &f.err), 0);
    assert_int_equal(shoal_secret_store_list_count(list), 1);
    assert_string_equal(shoal_secret_store_text(shoal_secret_store_list_at(list, 0), "name"),
                        "prod");
    shoal_secret_store_list_free(list);
    assert_int_equal(shoal_secret_store_get(f.client, CID, &store, &f.err), 0);
    shoal_secret_store_free(store);
    /* absent stays, empty clears */
    assert_int_equal(shoal_secret_store_update(f.client, CID, "live", NULL, &store, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 4)->body, "{\"name\":\"live\"}");
    assert_string_equal(mock_at(f.mock, 4)->method, "PUT");
    shoal_secret_store_free(store);
    assert_int_equal(shoal_secret_store_update(f.client, CID, NULL, &none, &store, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 5)->body, "{\"egressAllowlist\":[]}");
    shoal_secret_store_free(store);
    assert_int_equal(shoal_secret_store_delete(f.client, CID, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 6)->method, "DELETE");
    end(&f);
}

static void test_secret_values(void **state)
{
    const struct mock_rule rules[] = {
        {"PUT", STORES "/secrets/A_1", 200, "{\"name\":\"A_1\",\"status\":\"set\"}"},
        {"GET", STORES "/secrets", 200, "[{\"name\":\"A_1\",\"allowedHosts\":[\"x.com\"]}]"},
        {"DELETE", STORES "/secrets/A_1", 404, "{\"error\":\"no such secret\"}"},
    };
    static const char *const names[] = {"x.com"};
    const struct shoal_hosts hosts = {names, 1}, none = {NULL, 0};
    struct fixture f = begin(rules, SHL_ARRAY_SIZE(rules));
    struct shoal_secret_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_secret_set(f.client, CID, "A_1", "s\"\xc3\xa4\nxNO", 6, NULL, &f.err),
                     0);
    assert_string_equal(mock_at(f.mock, 0)->body, "{\"value\":\"s\\\"\xc3\xa4\\nx\"}");
    assert_int_equal(shoal_secret_set(f.client, CID, "A_1", "v", 1, &hosts, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 1)->body, "{\"allowedHosts\":[\"x.com\"],\"value\":\"v\"}");
    assert_int_equal(shoal_secret_set(f.client, CID, "A_1", "v", 1, &none, &f.err), 0);
    assert_string_equal(mock_at(f.mock, 2)->body, "{\"allowedHosts\":[],\"value\":\"v\"}");
    assert_int_equal(shoal_secret_list(f.client, CID, &list, &f.err), 0);
    assert_int_equal(shoal_secret_list_count(list), 1);
    assert_string_equal(shoal_secret_host(shoal_secret_list_at(list, 0), 0), "x.com");
    assert_null(shoal_secret_host(shoal_secret_list_at(list, 0), 1));
    shoal_secret_list_free(list);
    assert_int_equal(shoal_secret_delete(f.client, CID, "A_1", &f.err), SHOAL_ENOTFOUND);
    end(&f);
}

/* What cannot be right is refused here: in a path it would mean something else. */
static void test_secret_bad_names_are_not_sent(void **state)
{
    static const char *const bad[] = {"", "1A", "a/b", "../x", "a b", "a-b", "a?b", "\xc3\xa4"};
    struct fixture f = begin(NULL, 0);
    struct shoal_secret_store *store = NULL;
    char *endless = calloc(1, 70000);

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        assert_int_equal(shoal_secret_set(f.client, CID, bad[i], "v", 1, NULL, &f.err),
                         SHOAL_EINVALIDARG);
        assert_int_equal(shoal_secret_delete(f.client, CID, bad[i], &f.err), SHOAL_EINVALIDARG);
    }
    memset(endless, 'A', 69999);
    assert_int_equal(shoal_secret_set(f.client, CID, endless, "v", 1, NULL, &f.err),
                     SHOAL_EINVALIDARG);
    assert_int_equal(shoal_secret_set(f.client, "a/b", "A", "v", 1, NULL, &f.err),
                     SHOAL_EINVALIDARG);
    assert_int_equal(shoal_secret_set(f.client, CID, "A", "\xff\xfe", 2, NULL, &f.err),
                     SHOAL_EINVALIDARG);
    assert_null(strstr(f.err.message, "\xff"));
    assert_int_equal(shoal_secret_store_create(f.client, "\xff", NULL, &store, &f.err),
                     SHOAL_EINVALIDARG);
    assert_int_equal(shoal_secret_store_delete(f.client, "", &f.err), SHOAL_EINVALIDARG);
    assert_int_equal(mock_count(f.mock), 0);
    free(endless);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret_store_life),
        cmocka_unit_test(test_secret_values),
        cmocka_unit_test(test_secret_bad_names_are_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
