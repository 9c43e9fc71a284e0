#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mp.h"

static void write_sample(struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "exec.start");
    shl_mp_kv_uint(&w, "wait_ms", 300);
    shl_mp_kv_int(&w, "code", -10003);
    shl_mp_kv_bool(&w, "running", true);
    shl_mp_kv_bin(&w, "token", "\0\1\2", 3);
    shl_mp_kv_array(&w, "args");
    shl_mp_str(&w, "a");
    shl_mp_str(&w, "b");
    shl_mp_end(&w);
    shl_mp_kv_map(&w, "envs");
    shl_mp_end(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
}

static void test_mp_round_trip(void **state)
{
    struct shl_buf buf;
    struct shl_mp_doc doc;
    const msgpack_object *args;
    struct shl_bytes bin;
    uint64_t wait_ms;
    int64_t code;
    bool running;
    char op[16];

    (void)state;
    shl_buf_init(&buf, 4096);
    write_sample(&buf);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    assert_int_equal(shl_mp_get_cpy(doc.root, "op", op, sizeof(op)), 0);
    assert_string_equal(op, "exec.start");
    assert_int_equal(shl_mp_get_uint(doc.root, "wait_ms", 1000, &wait_ms), 0);
    assert_int_equal(wait_ms, 300);
    assert_int_equal(shl_mp_get_int(doc.root, "code", &code), 0);
    assert_int_equal(code, -10003);
    assert_int_equal(shl_mp_get_bool(doc.root, "running", &running), 0);
    assert_true(running);
    assert_int_equal(shl_mp_get_bin(doc.root, "token", &bin), 0);
    assert_int_equal(bin.len, 3);
    args = shl_mp_find(doc.root, "args");
    assert_non_null(args);
    assert_int_equal(args->type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(args->via.array.size, 2);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static void test_mp_getters_check_presence_type_and_range(void **state)
{
    struct shl_buf buf;
    struct shl_mp_doc doc;
    uint64_t number;
    bool flag;
    char small[4];

    (void)state;
    shl_buf_init(&buf, 4096);
    write_sample(&buf);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    assert_int_equal(shl_mp_get_uint(doc.root, "absent", 1, &number), SHL_ENOTFOUND);
    assert_int_equal(shl_mp_get_uint(doc.root, "wait_ms", 299, &number), SHL_EPROTO);
    assert_int_equal(shl_mp_get_uint(doc.root, "code", 299, &number), SHL_EPROTO);
    assert_int_equal(shl_mp_get_uint(doc.root, "op", 299, &number), SHL_EPROTO);
    assert_int_equal(shl_mp_get_bool(doc.root, "op", &flag), SHL_EPROTO);
    assert_int_equal(shl_mp_get_cpy(doc.root, "op", small, sizeof(small)), SHL_EPROTO);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static void test_mp_every_truncation_is_refused(void **state)
{
    struct shl_buf buf;
    struct shl_mp_doc doc;
    size_t len;

    (void)state;
    shl_buf_init(&buf, 4096);
    write_sample(&buf);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(shl_buf_data(&buf), len)), SHL_EPROTO);
    }
    shl_buf_release(&buf);
}

/* A header that claims four billion entries must be refused before anybody allocates. */
static void test_mp_lying_counts_depth_and_trailing_bytes_are_refused(void **state)
{
    static const uint8_t huge_array[] = {0xdd, 0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t huge_map[] = {0xdf, 0x7f, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t huge_str[] = {0xdb, 0xff, 0xff, 0xff, 0xff, 'a'};
    static const uint8_t two_values[] = {0x01, 0x02};
    static const uint8_t never_used[] = {0xc1};
    static const uint8_t extension[] = {0xd4, 0x01, 0x02};
    uint8_t deep[100];
    struct shl_mp_doc doc;
    size_t used;

    (void)state;
    memset(deep, 0x91, sizeof(deep)); /* arrays of one element, nested */
    deep[sizeof(deep) - 1] = 0x01;
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(huge_array, sizeof(huge_array))), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(huge_map, sizeof(huge_map))), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(huge_str, sizeof(huge_str))), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(deep, sizeof(deep))), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(two_values, 2)), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(never_used, 1)), SHL_EPROTO);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(extension, 3)), SHL_EPROTO);
    assert_int_equal(shl_mp_parse_first(&doc, shl_bytes_of(two_values, 2), &used), 0);
    assert_int_equal(used, 1);
    shl_mp_release(&doc);
}

static void test_mp_embedded_zero_is_no_c_string(void **state)
{
    static const uint8_t raw[] = {0x81, 0xa1, 'p', 0xa3, 'a', 0, 'b'};
    struct shl_mp_doc doc;
    char text[8];
    char *heap;

    (void)state;
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(raw, sizeof(raw))), 0);
    assert_int_equal(shl_mp_get_cpy(doc.root, "p", text, sizeof(text)), SHL_EPROTO);
    assert_int_equal(shl_mp_get_dup(doc.root, "p", &heap), SHL_EPROTO);
    shl_mp_release(&doc);
}

static void test_mp_writer_reports_a_full_buffer(void **state)
{
    struct shl_buf buf;
    struct shl_mp_writer w;

    (void)state;
    shl_buf_init(&buf, 8);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "key", "a value that does not fit");
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), SHL_ELIMIT);
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mp_round_trip),
        cmocka_unit_test(test_mp_getters_check_presence_type_and_range),
        cmocka_unit_test(test_mp_every_truncation_is_refused),
        cmocka_unit_test(test_mp_lying_counts_depth_and_trailing_bytes_are_refused),
        cmocka_unit_test(test_mp_embedded_zero_is_no_c_string),
        cmocka_unit_test(test_mp_writer_reports_a_full_buffer),
    };

    return cmocka_run_group_tests_name("base/mp", tests, NULL, NULL);
}
