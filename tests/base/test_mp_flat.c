#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mp.h"
#include "base/mp_flat.h"

static const uint64_t numbers[] = {0,      1,       0x7f,       0x80,        0xff,      0x100,
                                   0xffff, 0x10000, 0xffffffff, 0x100000000, UINT64_MAX};

/* What one writes the other reads, in both directions. */
static void test_mp_flat_speaks_the_same_as_mp(void **state)
{
    uint8_t bytes[256], *p = bytes;
    struct shl_mp_cursor c;
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    size_t i;

    (void)state;
    p = shl_mp_put_array(p, SHL_ARRAY_SIZE(numbers) + 2);
    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        p = shl_mp_put_uint(p, numbers[i]);
    }
    p = shl_mp_put_bin(p, "abc", 3);
    p = shl_mp_put_nil(p);
    assert_int_equal(shl_mp_parse(&doc, shl_bytes_of(bytes, (size_t)(p - bytes))), 0);
    assert_int_equal(doc.root->via.array.size, SHL_ARRAY_SIZE(numbers) + 2);
    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        assert_true(doc.root->via.array.ptr[i].via.u64 == numbers[i]);
    }
    assert_memory_equal(doc.root->via.array.ptr[i].via.bin.ptr, "abc", 3);
    shl_mp_release(&doc);

    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_array(&w);
    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        shl_mp_uint(&w, numbers[i]);
    }
    shl_mp_bin(&w, "abc", 3);
    shl_mp_nil(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    c = shl_mp_cursor_of(shl_buf_bytes(&buf));
    assert_int_equal(shl_mp_take_array(&c), SHL_ARRAY_SIZE(numbers) + 2);
    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        assert_true(shl_mp_take_uint(&c, UINT64_MAX) == numbers[i]);
    }
    assert_int_equal(shl_mp_take_bin(&c, 3).len, 3);
    shl_mp_take_nil(&c);
    assert_int_equal(c.error, 0);
    assert_ptr_equal(c.at, c.end);
    shl_buf_release(&buf);
}

static int skip_error(const uint8_t *bytes, size_t len, uint32_t count)
{
    struct shl_mp_cursor c = shl_mp_cursor_of(shl_bytes_of(bytes, len));

    shl_mp_take_skip(&c, count);
    return c.error ? c.error : c.at == c.end ? 0 : 1;
}

static void test_mp_flat_steps_over_what_it_does_not_know(void **state)
{
    /* {"a": [1, -1, 1.5f], "b": nil}, true, str8 */
    static const uint8_t values[] = {0x82, 0xa1, 'a',  0x93, 1,    0xff, 0xca, 0x3f, 0xc0,
                                     0,    0,    0xa1, 'b',  0xc0, 0xc3, 0xd9, 1,    'x'};
    size_t len;

    (void)state;
    assert_int_equal(skip_error(values, sizeof(values), 3), 0);
    assert_int_equal(skip_error(values, sizeof(values), 2), 1); /* something is left */
    for (len = 0; len < sizeof(values); len++) {
        assert_int_equal(skip_error(values, len, 3), SHL_EPROTO);
    }
}

static void test_mp_flat_refuses_lies(void **state)
{
    static const struct {
        uint8_t bytes[6];
        size_t len;
    } arrays[] = {{{0xdd, 0xff, 0xff, 0xff, 0xff, 0}, 6},
                  {{0x92, 0}, 2},
                  {{0xdc, 0}, 2},
                  {{0xa0}, 1},
                  {{0}, 0}};
    static const uint8_t bin[] = {0xc4, 3, 'a', 'b', 'c'}, cut[] = {0xc6, 0, 0, 1, 0, 'a'};
    static const uint8_t ext[] = {0xd4, 1, 1}, big[] = {0xcd, 1, 0};
    struct shl_mp_cursor c;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(arrays); i++) {
        c = shl_mp_cursor_of(shl_bytes_of(arrays[i].bytes, arrays[i].len));
        assert_int_equal(shl_mp_take_array(&c), 0);
        assert_int_equal(c.error, SHL_EPROTO);
    }
    c = shl_mp_cursor_of(shl_bytes_of(bin, sizeof(bin)));
    assert_int_equal(shl_mp_take_bin(&c, 2).len, 0);
    assert_int_equal(c.error, SHL_ELIMIT);
    assert_int_equal(shl_mp_take_uint(&c, 9), 0); /* the first failure stays */
    assert_int_equal(c.error, SHL_ELIMIT);
    c = shl_mp_cursor_of(shl_bytes_of(cut, sizeof(cut)));
    assert_int_equal(shl_mp_take_bin(&c, 1000).len, 0);
    assert_int_equal(c.error, SHL_EPROTO);
    c = shl_mp_cursor_of(shl_bytes_of(big, sizeof(big)));
    assert_int_equal(shl_mp_take_uint(&c, 255), 0);
    assert_int_equal(c.error, SHL_EPROTO);
    assert_int_equal(skip_error(ext, sizeof(ext), 1), SHL_EPROTO);
    assert_int_equal(skip_error((const uint8_t *)"\xc1", 1, 1), SHL_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mp_flat_speaks_the_same_as_mp),
        cmocka_unit_test(test_mp_flat_steps_over_what_it_does_not_know),
        cmocka_unit_test(test_mp_flat_refuses_lies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
