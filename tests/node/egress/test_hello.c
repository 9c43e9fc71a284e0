/* node/egress/hello: what a TLS client wants, from its own first bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/egress/hello.h"

#include "hello_bytes.h"

static void test_hello_of_openssl_is_read(void **state)
{
    struct egress_hello hello;
    uint8_t bytes[4096];
    size_t len = hello_make(bytes, sizeof(bytes), "api.example.com", "\x02h2\x08http/1.1"), i;

    (void)state;
    for (i = 0; i < len; i++) {
        assert_int_equal(egress_hello_parse(shl_bytes_of(bytes, i), &hello), EGRESS_HELLO_MORE);
    }
    assert_int_equal(egress_hello_parse(shl_bytes_of(bytes, len), &hello), EGRESS_HELLO_OK);
    assert_string_equal(hello.server_name, "api.example.com");
    assert_true(hello.has_alpn && hello.offers_h2 && hello.offers_http11);
    len = hello_make(bytes, sizeof(bytes), NULL, "\x02h2");
    assert_int_equal(egress_hello_parse(shl_bytes_of(bytes, len), &hello), EGRESS_HELLO_OK);
    assert_string_equal(hello.server_name, "");
    assert_true(hello.has_alpn && hello.offers_h2 && !hello.offers_http11);
    len = hello_make(bytes, sizeof(bytes), "x.org", NULL);
    assert_int_equal(egress_hello_parse(shl_bytes_of(bytes, len), &hello), EGRESS_HELLO_OK);
    assert_false(hello.has_alpn);
}

static void test_hello_in_many_records_is_the_same(void **state)
{
    uint8_t bytes[4096], cut[8192];
    struct egress_hello hello;
    size_t len = hello_make(bytes, sizeof(bytes), "split.example.com", NULL),
           parts[] = {7, 16, 100};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(parts); i++) {
        size_t cut_len = hello_split(cut, sizeof(cut), bytes, len, parts[i]);

        assert_int_equal(egress_hello_parse(shl_bytes_of(cut, cut_len - 1), &hello),
                         EGRESS_HELLO_MORE);
        assert_int_equal(egress_hello_parse(shl_bytes_of(cut, cut_len), &hello), EGRESS_HELLO_OK);
        assert_string_equal(hello.server_name, "split.example.com");
    }
    /* a record for every byte is no client */
    len = hello_split(cut, sizeof(cut), bytes, len, 1);
    assert_int_equal(egress_hello_parse(shl_bytes_of(cut, len), &hello), EGRESS_HELLO_BAD);
}

static void test_hello_nonsense_is_refused_at_once(void **state)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n",   "\x16\x02\x00\x00\x05",     "\x17\x03\x01\x00\x05hello",
        "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x04\x02", "SSH-2.0-x",
    };
    struct egress_hello hello;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        size_t len = i == 3 ? 5 : i == 1 ? 5 : i == 4 ? 6 : strlen(bad[i]);

        if (egress_hello_parse(shl_bytes_of(bad[i], len), &hello) != EGRESS_HELLO_BAD) {
            fail_msg("nonsense %zu was taken for a hello", i);
        }
    }
    assert_int_equal(egress_hello_parse(shl_bytes_of(NULL, 0), &hello), EGRESS_HELLO_MORE);
}

/* Every byte of a good hello altered: never a crash, and never a name nobody sent. */
static void test_hello_damage_never_makes_another_host(void **state)
{
    struct egress_hello hello;
    uint8_t bytes[4096];
    size_t len = hello_make(bytes, sizeof(bytes), "host.example.com", NULL), i;

    (void)state;
    for (i = 0; i < len; i++) {
        bytes[i] ^= 0x80;
        if (egress_hello_parse(shl_bytes_of(bytes, len), &hello) == EGRESS_HELLO_OK) {
            assert_true(hello.server_name[0] == '\0' ||
                        strcmp(hello.server_name, "host.example.com") == 0);
        }
        bytes[i] ^= 0x80;
    }
}

/* A hello that claims more than the limit is refused by its head. */
static void test_hello_size_is_bounded(void **state)
{
    static const uint8_t huge[] = {22, 3, 1, 0x40, 0, 1, 0, 0x40, 1};
    struct egress_hello hello;

    (void)state;
    assert_int_equal(egress_hello_parse(shl_bytes_of(huge, sizeof(huge)), &hello),
                     EGRESS_HELLO_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_of_openssl_is_read),
        cmocka_unit_test(test_hello_in_many_records_is_the_same),
        cmocka_unit_test(test_hello_nonsense_is_refused_at_once),
        cmocka_unit_test(test_hello_damage_never_makes_another_host),
        cmocka_unit_test(test_hello_size_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
