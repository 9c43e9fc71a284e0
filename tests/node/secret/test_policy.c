/* Which host matches which pattern, and which token stands for what where. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/err.h"
#include "node/secret/policy.h"

static const char *normalised(const char *text)
{
    static char host[NODE_HOST_SIZE];

    return node_host_normalise(host, text, strlen(text)) == 0 ? host : "-";
}

static const char *pattern_of(const char *text)
{
    static char pattern[NODE_HOST_SIZE];

    return node_host_pattern_normalise(pattern, text, strlen(text)) == 0 ? pattern : "-";
}

static void test_host_has_one_spelling(void **state)
{
    (void)state;
    assert_string_equal(normalised("API.Example.com.:443"), "api.example.com");
    assert_string_equal(normalised("api.example.com."), "api.example.com");
    assert_string_equal(normalised("localhost"), "localhost");
    assert_string_equal(normalised("10.0.0.1:80"), "10.0.0.1");
    assert_string_equal(normalised("[2001:DB8::1]:443"), "[2001:db8::1]");
    assert_string_equal(normalised("2001:db8::1"), "[2001:db8::1]");
    assert_string_equal(normalised("a_b.example"), "a_b.example");
}

static void test_host_that_is_none_is_refused(void **state)
{
    static const char *const bad[] = {"",     ".",       "..",        "a..b",     ".a",
                                      "a b",  "a/b",     "a:",        "a:b",      "a:123456",
                                      ":80",  "a..",     "user@host", "http://a", "a\nb",
                                      "[::1", "[::1]80", "[::1]:",    "[]",       "[::g]",
                                      "a*b",  "*.a.b",   "*",         "a%00b",    "\xc3\xa4.de"};
    char host[NODE_HOST_SIZE], big[NODE_HOST_SIZE + 1];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (strcmp(normalised(bad[i]), "-") != 0) {
            fail_msg("\"%s\" was taken for a host", bad[i]);
        }
    }
    assert_int_equal(node_host_normalise(host, "a\0b", 3), -EINVAL);
    memset(big, 'a', sizeof(big));
    assert_int_equal(node_host_normalise(host, big, NODE_HOST_SIZE), -EINVAL);
    assert_int_equal(node_host_normalise(host, big, NODE_HOST_SIZE - 1), 0);
}

static void test_pattern_has_its_star_in_front_only(void **state)
{
    (void)state;
    assert_string_equal(pattern_of("*"), "*");
    assert_string_equal(pattern_of("*.Example.COM."), "*.example.com");
    assert_string_equal(pattern_of("*.example.com:443"), "*.example.com");
    assert_string_equal(pattern_of("api.example.com"), "api.example.com");
    assert_string_equal(pattern_of("*example.com"), "-");
    assert_string_equal(pattern_of("api.*.com"), "-");
    assert_string_equal(pattern_of("*."), "-");
    assert_string_equal(pattern_of("**.a"), "-");
    assert_string_equal(pattern_of("*.*.a"), "-");
    assert_string_equal(pattern_of("*.[::1]"), "-");
    assert_string_equal(pattern_of(""), "-");
}

static void test_pattern_matches_any_depth_but_not_the_apex(void **state)
{
    (void)state;
    assert_true(node_host_matches("a.x.com", "*.x.com"));
    assert_true(node_host_matches("a.b.x.com", "*.x.com"));
    assert_false(node_host_matches("x.com", "*.x.com"));
    assert_false(node_host_matches("ax.com", "*.x.com"));
    assert_false(node_host_matches("x.com.evil.org", "*.x.com"));
    assert_true(node_host_matches("x.com", "x.com"));
    assert_false(node_host_matches("a.x.com", "x.com"));
    assert_true(node_host_matches("anything", "*"));
}

static void test_list_keeps_each_pattern_once_and_its_limit(void **state)
{
    struct node_host_list list = {NULL, 0};

    (void)state;
    assert_int_equal(node_host_list_add(&list, "A.com", 5, 2), 0);
    assert_int_equal(node_host_list_add(&list, "a.com.", 6, 2), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(node_host_list_add(&list, "b.com", 5, 2), 0);
    assert_int_equal(node_host_list_add(&list, "c.com", 5, 2), SHL_ELIMIT);
    assert_int_equal(node_host_list_add(&list, "not a host", 10, 9), -EINVAL);
    assert_int_equal(list.count, 2);
    assert_true(node_host_list_matches(&list, "b.com"));
    assert_false(node_host_list_matches(&list, "c.com"));
    node_host_list_release(&list);
}

static struct node_egress_secret *add(struct node_egress_policy *policy,
                                      char token[NODE_SEALED_SIZE],
                                      const char *value)
{
    node_sealed_make(token);
    return node_egress_policy_add(policy, token, shl_bytes_of(value, strlen(value)));
}

static bool stands_for(const struct node_egress_policy *policy,
                       const char *host,
                       const char *token,
                       const char *value)
{
    struct shl_bytes found = node_egress_value(policy, host, token);

    return found.base
               ? value && found.len == strlen(value) && memcmp(found.base, value, found.len) == 0
               : !value;
}

static void test_policy_of_nothing_allows_nothing(void **state)
{
    struct node_egress_policy policy = {false};

    (void)state;
    assert_false(node_egress_may_reach(&policy, "example.com"));
    policy.is_open = true;
    assert_true(node_egress_may_reach(&policy, "example.com"));
    assert_false(node_egress_has_secret_for(&policy, "example.com"));
    node_egress_policy_release(&policy);
}

static void test_policy_secret_goes_to_its_hosts_only(void **state)
{
    struct node_egress_policy policy = {.is_open = true}, copy;
    char one[NODE_SEALED_SIZE], two[NODE_SEALED_SIZE], other[NODE_SEALED_SIZE];
    struct node_egress_secret *secret = add(&policy, one, "value one");

    (void)state;
    assert_non_null(secret);
    assert_int_equal(node_host_list_add(&secret->hosts, "*.x.com", 7, 9), 0);
    assert_non_null(add(&policy, two, "value two"));
    node_sealed_make(other);
    assert_true(stands_for(&policy, "a.x.com", one, "value one"));
    assert_true(stands_for(&policy, "x.com", one, NULL));
    assert_true(stands_for(&policy, "x.com", two, "value two")); /* no hosts: every one */
    assert_true(stands_for(&policy, "a.x.com", other, NULL));
    assert_true(node_egress_has_secret_for(&policy, "anywhere.org"));

    assert_int_equal(node_egress_policy_copy(&copy, &policy), 0);
    node_egress_policy_release(&policy);
    assert_true(stands_for(&copy, "a.x.com", one, "value one"));
    assert_true(stands_for(&copy, "y.com", one, NULL));
    node_egress_policy_release(&copy);
}

static void test_policy_allowlist_goes_before_a_secret(void **state)
{
    struct node_egress_policy policy = {false};
    char token[NODE_SEALED_SIZE];

    (void)state;
    assert_int_equal(node_host_list_add(&policy.allowlist, "ok.com", 6, 9), 0);
    assert_non_null(add(&policy, token, "v"));
    assert_true(stands_for(&policy, "ok.com", token, "v"));
    assert_true(stands_for(&policy, "other.com", token, NULL));
    assert_false(node_egress_has_secret_for(&policy, "other.com"));
    assert_true(node_egress_has_secret_for(&policy, "ok.com"));
    node_egress_policy_release(&policy);
}

/* A deleted secret: the token is known, but stands for nothing. */
static void test_policy_token_without_value_stays(void **state)
{
    struct node_egress_policy policy = {.is_open = true};
    char token[NODE_SEALED_SIZE];

    (void)state;
    node_sealed_make(token);
    assert_non_null(node_egress_policy_add(&policy, token, shl_bytes_of(NULL, 0)));
    assert_true(stands_for(&policy, "ok.com", token, NULL));
    assert_false(node_egress_has_secret_for(&policy, "ok.com"));
    node_egress_policy_release(&policy);
}

/* A secret whose store is gone goes on with what it was; all others are as they are told. */
static void test_policy_kept_secret_goes_on(void **state)
{
    struct node_egress_policy before = {.is_open = true}, now = {.is_open = true}, later;
    struct node_egress_secret *secret;
    char one[NODE_SEALED_SIZE], two[NODE_SEALED_SIZE], other[NODE_SEALED_SIZE];

    (void)state;
    node_sealed_make(one);
    node_sealed_make(two);
    node_sealed_make(other);
    secret = add(&before, one, "first");
    assert_int_equal(node_host_list_add(&secret->hosts, "a.com", 5, 10), 0);
    assert_non_null(add(&before, two, "second"));
    assert_non_null(node_egress_policy_add(&now, one, shl_bytes_of(NULL, 0)));
    now.secrets[0].is_kept = true;
    assert_non_null(node_egress_policy_add(&now, two, shl_bytes_of(NULL, 0))); /* deleted */
    assert_non_null(node_egress_policy_add(&now, other, shl_bytes_of(NULL, 0)));
    now.secrets[2].is_kept = true; /* of nothing */
    assert_int_equal(node_egress_policy_keep(&now, &before), 0);
    node_egress_policy_release(&before);
    assert_int_equal(node_egress_value(&now, "a.com", one).len, 5);
    assert_null(node_egress_value(&now, "b.com", one).base); /* its hosts go on, too */
    assert_null(node_egress_value(&now, "a.com", two).base);
    assert_null(node_egress_value(&now, "a.com", other).base);
    assert_int_equal(node_egress_policy_copy(&later, &now), 0);
    assert_true(later.secrets[0].is_kept);
    /* a value that is told wins */
    sodium_free(later.secrets[0].value);
    later.secrets[0].value = sodium_malloc(1);
    later.secrets[0].value_len = 1;
    assert_int_equal(node_egress_policy_keep(&later, &now), 0);
    assert_int_equal(node_egress_value(&later, "a.com", one).len, 1);
    node_egress_policy_release(&later);
    node_egress_policy_release(&now);
}

static void test_policy_keeps_its_limits(void **state)
{
    struct node_egress_policy policy = {.is_open = true};
    char token[NODE_SEALED_SIZE];
    char *big = calloc(1, NODE_SECRET_VALUE_MAX + 1);
    size_t i;

    (void)state;
    assert_non_null(big);
    node_sealed_make(token);
    assert_null(
        node_egress_policy_add(&policy, token, shl_bytes_of(big, NODE_SECRET_VALUE_MAX + 1)));
    assert_null(node_egress_policy_add(&policy, "osb_sealed_short", shl_bytes_of(big, 1)));
    for (i = 0; i < NODE_EGRESS_SECRETS_MAX; i++) {
        assert_non_null(add(&policy, token, "x"));
    }
    assert_null(add(&policy, token, "x"));
    node_egress_policy_release(&policy);
    free(big);
}

static void test_sealed_token_has_its_form(void **state)
{
    char one[NODE_SEALED_SIZE], two[NODE_SEALED_SIZE];

    (void)state;
    node_sealed_make(one);
    node_sealed_make(two);
    assert_true(node_sealed_is_valid(one, strlen(one)));
    assert_string_not_equal(one, two);
    assert_false(node_sealed_is_valid(one, strlen(one) - 1));
    one[20] = 'A';
    assert_false(node_sealed_is_valid(one, strlen(one)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host_has_one_spelling),
        cmocka_unit_test(test_host_that_is_none_is_refused),
        cmocka_unit_test(test_pattern_has_its_star_in_front_only),
        cmocka_unit_test(test_pattern_matches_any_depth_but_not_the_apex),
        cmocka_unit_test(test_list_keeps_each_pattern_once_and_its_limit),
        cmocka_unit_test(test_policy_of_nothing_allows_nothing),
        cmocka_unit_test(test_policy_secret_goes_to_its_hosts_only),
        cmocka_unit_test(test_policy_allowlist_goes_before_a_secret),
        cmocka_unit_test(test_policy_token_without_value_stays),
        cmocka_unit_test(test_policy_kept_secret_goes_on),
        cmocka_unit_test(test_policy_keeps_its_limits),
        cmocka_unit_test(test_sealed_token_has_its_form),
    };

    if (sodium_init() < 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
