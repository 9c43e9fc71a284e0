/* node/sandbox/text: what a guest wrote never reaches a record as control bytes or bad UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/sandbox/text.h"

static void check_clean(const char *in, size_t size, const char *want)
{
    char out[64];

    node_text_clean(out, size, shl_bytes_of(in, strlen(in)));
    assert_string_equal(out, want);
}

static void test_text_clean(void **state)
{
    (void)state;
    check_clean("plain text", 64, "plain text");
    check_clean("a\nb\x1b[0m\x7f", 64, "a b [0m ");
    check_clean("gr\xc3\xbc\xc3\x9f", 64, "gr\xc3\xbc\xc3\x9f");
    check_clean("\xff\xc3(\xed\xa0\x80", 64,
                "?"
                "?(???");
    check_clean("\xc0\xaf\xf5\x80", 64, "????");
    check_clean("\xc2\x9b", 64, " ");
    check_clean("\xf0\x9f\x98\x80", 64, "\xf0\x9f\x98\x80");
    check_clean("\xf0\x9f\x98", 64, "???");
}

/* A cut must not leave half a character. */
static void test_text_clean_cuts_between_characters(void **state)
{
    (void)state;
    check_clean("abc\xc3\xbc", 5, "abc");
    check_clean("abc\xc3\xbc", 6, "abc\xc3\xbc");
    check_clean("abc", 1, "");
}

static void check_last(const char *in, const char *want)
{
    char out[64];

    node_text_last_line(out, sizeof(out), shl_bytes_of(in, strlen(in)));
    assert_string_equal(out, want);
}

static void test_text_last_line(void **state)
{
    (void)state;
    check_last("", "");
    check_last("\r\n \n", "");
    check_last("one", "one");
    check_last("one\ntwo\r\n\n", "two");
    check_last("one\n\t two", "two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_clean),
        cmocka_unit_test(test_text_clean_cuts_between_characters),
        cmocka_unit_test(test_text_last_line),
    };

    return cmocka_run_group_tests_name("node/text", tests, NULL, NULL);
}
