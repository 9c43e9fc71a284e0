#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void test_buf_refuses_beyond_its_limit_and_keeps_content(void **state)
{
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 10);
    assert_int_equal(shl_buf_append(&buf, "12345678", 8), 0);
    assert_int_equal(shl_buf_append(&buf, "abc", 3), SHL_ELIMIT);
    assert_int_equal(shl_buf_len(&buf), 8);
    assert_int_equal(shl_buf_append(&buf, "ab", 2), 0);
    assert_memory_equal(shl_buf_data(&buf), "12345678ab", 10);
    shl_buf_release(&buf);
}

/* A length near SIZE_MAX must not wrap around the limit check. */
static void test_buf_huge_length_does_not_wrap(void **state)
{
    struct shl_buf buf;
    uint8_t *space;

    (void)state;
    shl_buf_init(&buf, 1000);
    assert_int_equal(shl_buf_append(&buf, "x", 1), 0);
    assert_int_equal(shl_buf_reserve(&buf, SIZE_MAX, &space), SHL_ELIMIT);
    assert_int_equal(shl_buf_reserve(&buf, SIZE_MAX - 1, &space), SHL_ELIMIT);
    shl_buf_release(&buf);
}

/* A queue that is filled and drained for ever stays small and in order. */
static void test_buf_as_queue_keeps_order_and_stays_small(void **state)
{
    struct shl_buf buf;
    uint32_t in = 0, out = 0;
    int round;

    (void)state;
    shl_buf_init(&buf, 4096);
    for (round = 0; round < 10000; round++) {
        while (shl_buf_len(&buf) + sizeof(in) <= 600 && in - out < 1000) {
            assert_int_equal(shl_buf_append(&buf, &in, sizeof(in)), 0);
            in++;
        }
        for (int i = 0; i < 37 && shl_buf_len(&buf) > 0; i++) {
            uint32_t value;

            memcpy(&value, shl_buf_data(&buf), sizeof(value));
            assert_int_equal(value, out);
            shl_buf_consume(&buf, sizeof(value));
            out++;
        }
    }
    assert_true(buf.cap <= 4096);
    shl_buf_release(&buf);
}

static void test_buf_printf_appends_without_terminator(void **state)
{
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 64);
    assert_int_equal(shl_buf_printf(&buf, "%d-%s", 7, "x"), 0);
    assert_int_equal(shl_buf_printf(&buf, "%s", "y"), 0);
    assert_int_equal(shl_buf_len(&buf), 4);
    assert_memory_equal(shl_buf_data(&buf), "7-xy", 4);
    shl_buf_release(&buf);
}

static void test_buf_little_endian_round_trip(void **state)
{
    uint8_t raw[8];

    (void)state;
    shl_put_le64(raw, 0x1122334455667788ull);
    assert_int_equal(raw[0], 0x88);
    assert_true(shl_get_le64(raw) == 0x1122334455667788ull);
    assert_int_equal(shl_get_le16(raw), 0x7788);
    assert_int_equal(shl_get_le32(raw + 4), 0x11223344);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf_refuses_beyond_its_limit_and_keeps_content),
        cmocka_unit_test(test_buf_huge_length_does_not_wrap),
        cmocka_unit_test(test_buf_as_queue_keeps_order_and_stays_small),
        cmocka_unit_test(test_buf_printf_appends_without_terminator),
        cmocka_unit_test(test_buf_little_endian_round_trip),
    };

    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
