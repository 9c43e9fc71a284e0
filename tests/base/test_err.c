#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_err_set_returns_the_code_and_keeps_the_text(void **state)
{
    struct shl_err err = {0};

    (void)state;
    assert_int_equal(shl_err_set(&err, SHL_ENOTFOUND, "no template %s", "x"), SHL_ENOTFOUND);
    assert_int_equal(err.code, SHL_ENOTFOUND);
    assert_string_equal(err.msg, "no template x");
}

static void test_err_accepts_null(void **state)
{
    (void)state;
    assert_int_equal(shl_err_set(NULL, SHL_EPROTO, "x"), SHL_EPROTO);
    assert_int_equal(shl_err_wrap(NULL, SHL_EPROTO, "x"), SHL_EPROTO);
    assert_int_equal(shl_err_sys(NULL, ENOENT, "x"), -ENOENT);
}

static void test_err_wrap_puts_context_in_front(void **state)
{
    struct shl_err err = {0};

    (void)state;
    (void)shl_err_sys(&err, ENOENT, "cannot open %s", "/a");
    assert_string_equal(err.msg, "cannot open /a: No such file or directory");
    (void)shl_err_wrap(&err, -ENOENT, "kernel");
    assert_string_equal(err.msg, "kernel: cannot open /a: No such file or directory");
}

static void test_err_wrap_of_nothing_uses_the_general_text(void **state)
{
    struct shl_err err = {0};

    (void)state;
    (void)shl_err_wrap(&err, SHL_ENOTFOUND, "kernel");
    assert_string_equal(err.msg, "kernel: there is no such object");
}

static void test_err_long_text_is_cut_and_terminated(void **state)
{
    struct shl_err err = {0};
    char text[2 * SHL_ERR_TEXT_MAX];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)shl_err_set(&err, SHL_EPROTO, "%s", text);
    assert_int_equal(strlen(err.msg), SHL_ERR_TEXT_MAX - 1);
    (void)shl_err_wrap(&err, SHL_EPROTO, "%s", text);
    assert_int_equal(strlen(err.msg), SHL_ERR_TEXT_MAX - 1);
}

static void test_err_names_cover_own_codes_and_errno(void **state)
{
    (void)state;
    assert_string_equal(shl_err_name(SHL_EGUEST), "EGUEST");
    assert_string_equal(shl_err_name(-ENOSPC), "ENOSPC");
    assert_string_equal(shl_err_name(-99999), "E?");
    assert_string_equal(shl_err_text(-99999), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_set_returns_the_code_and_keeps_the_text),
        cmocka_unit_test(test_err_accepts_null),
        cmocka_unit_test(test_err_wrap_puts_context_in_front),
        cmocka_unit_test(test_err_wrap_of_nothing_uses_the_general_text),
        cmocka_unit_test(test_err_long_text_is_cut_and_terminated),
        cmocka_unit_test(test_err_names_cover_own_codes_and_errno),
    };

    return cmocka_run_group_tests_name("base/err", tests, NULL, NULL);
}
