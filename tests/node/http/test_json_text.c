#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "node/http/json_text.h"

#define FFFD "\xef\xbf\xbd"

static void test_json_text_table(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *expected;
    } rows[] = {
#define ROW(text, expected) {(text), sizeof(text) - 1, (expected)}
        ROW("", ""),
        ROW("plain", "plain"),
        ROW("a\"b\\c\n\r\t\b\f", "a\\\"b\\\\c\\n\\r\\t\\b\\f"),
        ROW("\0\x1b\x7f", "\\u0000\\u001b\x7f"),
        ROW("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
        ROW("\xff", FFFD),
        ROW("a\x80z", "a" FFFD "z"),
        ROW("\xc3", FFFD),
        ROW("\xe2\x82", FFFD),
        ROW("\xe2\x82z", FFFD "z"),
        ROW("\xf0\x9f\x98", FFFD),
        ROW("\xc0\xaf", FFFD FFFD),                   /* overlong */
        ROW("\xed\xa0\x80", FFFD FFFD FFFD),          /* a surrogate */
        ROW("\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD), /* beyond Unicode */
        ROW("\xf0\x80\x80\x80", FFFD FFFD FFFD FFFD),
#undef ROW
    };

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        uint8_t out[64];
        size_t used = 0;
        size_t len =
            node_json_escape(out, sizeof(out), shl_bytes_of(rows[i].text, rows[i].len), &used);

        assert_int_equal(used, rows[i].len);
        assert_int_equal(len, strlen(rows[i].expected));
        assert_memory_equal(out, rows[i].expected, len);
    }
}

/* Whatever the bytes and however small the pieces, the result is one JSON string. */
static void test_json_text_random_bytes_in_small_pieces(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 200; round++) {
        uint8_t in[300];
        struct shl_buf out;
        size_t at = 0;
        json_t *json;

        for (size_t i = 0; i < sizeof(in); i++) {
            in[i] = (uint8_t)(rand() % 3 ? rand() % 256 : 0xc0 + rand() % 64);
        }
        shl_buf_init(&out, 1 << 20);
        assert_int_equal(shl_buf_append_str(&out, "[\""), 0);
        while (at < sizeof(in)) {
            uint8_t piece[16];
            size_t cap = NODE_JSON_ESCAPE_MAX + (size_t)rand() % 10;
            size_t used = 0;
            size_t len =
                node_json_escape(piece, cap, shl_bytes_of(in + at, sizeof(in) - at), &used);

            assert_true(used > 0 && len <= cap);
            assert_int_equal(shl_buf_append(&out, piece, len), 0);
            at += used;
        }
        assert_int_equal(shl_buf_append_str(&out, "\"]"), 0);
        json = json_loadb((char *)shl_buf_data(&out), shl_buf_len(&out), JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_decref(json);
        shl_buf_release(&out);
    }
}

static void test_json_text_append_keeps_the_limit(void **state)
{
    struct shl_buf out;

    (void)state;
    shl_buf_init(&out, 8192);
    assert_int_equal(node_json_append_str(&out, "a\nb"), 0);
    assert_memory_equal(shl_buf_data(&out), "\"a\\nb\"", 6);
    shl_buf_release(&out);
    shl_buf_init(&out, 4);
    assert_true(node_json_append_str(&out, "abcdefgh") < 0);
    shl_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_text_table),
        cmocka_unit_test(test_json_text_random_bytes_in_small_pieces),
        cmocka_unit_test(test_json_text_append_keeps_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
