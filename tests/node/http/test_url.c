#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "node/http/url.h"

static void test_url_decode_table(void **state)
{
    static const struct {
        const char *text;
        bool plus;
        const char *expected; /* NULL: refused */
    } rows[] = {
        {"", false, ""},
        {"a%2Fb", false, "a/b"},
        {"a+b", false, "a+b"},
        {"a+b", true, "a b"},
        {"%e2%82%ac", false, "\xe2\x82\xac"},
        {"%FF", false, "\xff"},
        {"100%25", false, "100%"},
        {"%2525", false, "%25"}, /* decoded once only */
        {"%00", false, NULL},
        {"%", false, NULL},
        {"%4", false, NULL},
        {"%4g", false, NULL},
        {"%g4", false, NULL},
        {"abc%", true, NULL},
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        char *text = strdup(rows[i].text);
        int rc = node_url_decode(text, strlen(text), rows[i].plus);

        if (rows[i].expected) {
            assert_int_equal(rc, strlen(rows[i].expected));
            assert_string_equal(text, rows[i].expected);
        } else {
            assert_int_equal(rc, -EINVAL);
        }
        free(text);
    }
}

static void test_url_path_and_query(void **state)
{
    struct node_url url;

    (void)state;
    assert_int_equal(
        node_url_parse(&url, "/api//sandboxes/sb-1/files/?path=%2Ftmp%2Fa%20b%23%25&x&y=&path=2&&"),
        0);
    assert_int_equal(url.segment_count, 4);
    assert_string_equal(url.segments[0], "api");
    assert_string_equal(url.segments[3], "files");
    assert_string_equal(node_url_query(&url, "path"), "/tmp/a b#%");
    assert_string_equal(node_url_query(&url, "x"), "");
    assert_string_equal(node_url_query(&url, "y"), "");
    assert_null(node_url_query(&url, "z"));
    assert_string_equal(url.path, "/api//sandboxes/sb-1/files/");
    node_url_release(&url);
}

static void test_url_encoded_slash_stays_in_its_segment(void **state)
{
    struct node_url url;

    (void)state;
    assert_int_equal(node_url_parse(&url, "/api%2Fworkers"), 0);
    assert_int_equal(url.segment_count, 1);
    assert_string_equal(url.segments[0], "api/workers");
    node_url_release(&url);
}

static void test_url_forms_of_target(void **state)
{
    struct node_url url;

    (void)state;
    assert_int_equal(node_url_parse(&url, "http://host:1/a/b?c=d"), 0);
    assert_int_equal(url.segment_count, 2);
    assert_string_equal(node_url_query(&url, "c"), "d");
    node_url_release(&url);
    assert_int_equal(node_url_parse(&url, "HTTPS://host"), 0);
    assert_int_equal(url.segment_count, 0);
    node_url_release(&url);
    assert_int_equal(node_url_parse(&url, "*"), 0);
    node_url_release(&url);
    assert_int_equal(node_url_parse(&url, "host:1"), -EINVAL);
    assert_int_equal(node_url_parse(&url, ""), -EINVAL);
    assert_int_equal(node_url_parse(&url, "/a%zz"), -EINVAL);
    assert_int_equal(node_url_parse(&url, "/a?b=%zz"), -EINVAL);
    assert_int_equal(node_url_parse(&url, "/1/2/3/4/5/6/7/8/9/10/11/12/13"), SHL_ELIMIT);
}

static void test_url_limits(void **state)
{
    char *text = malloc(NODE_URL_MAX + 8);
    struct node_url url;
    size_t len = 0;

    (void)state;
    memset(text, 'a', NODE_URL_MAX + 1);
    text[0] = '/';
    text[NODE_URL_MAX + 1] = '\0';
    assert_int_equal(node_url_parse(&url, text), SHL_ELIMIT);
    text[NODE_URL_MAX] = '\0';
    assert_int_equal(node_url_parse(&url, text), 0);
    node_url_release(&url);

    text[len++] = '/';
    text[len++] = '?';
    for (int i = 0; i <= NODE_URL_QUERY_PAIRS; i++) {
        memcpy(text + len, "a=b&", 5);
        len += 4;
    }
    assert_int_equal(node_url_parse(&url, text), SHL_ELIMIT);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_decode_table),
        cmocka_unit_test(test_url_path_and_query),
        cmocka_unit_test(test_url_encoded_slash_stays_in_its_segment),
        cmocka_unit_test(test_url_forms_of_target),
        cmocka_unit_test(test_url_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
