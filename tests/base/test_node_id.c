#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/node_id.h"

static void test_node_id_text_and_back(void **state)
{
    struct shl_node_id id, same;
    char text[SHL_NODE_ID_TEXT_SIZE];
    size_t i;

    (void)state;
    for (i = 0; i < SHL_NODE_ID_BYTES; i++) {
        id.bytes[i] = (uint8_t)(17 * i + 3);
    }
    shl_node_id_format(text, &id);
    assert_string_equal(text, "031425364758697a8b9cadbecfe0f102");
    assert_int_equal(shl_node_id_parse(text, &same), 0);
    assert_true(shl_node_id_equal(&id, &same));
    same.bytes[15]++;
    assert_true(shl_node_id_compare(&id, &same) < 0);
}

static void test_node_id_refuses_what_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "00000000000000000000000000000000",
        "031425364758697a8b9cadbecfe0f10",
        "031425364758697a8b9cadbecfe0f10200",
        "x31425364758697a8b9cadbecfe0f102",
    };
    struct shl_node_id id = {{7}};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        assert_int_equal(shl_node_id_parse(bad[i], &id), -EINVAL);
        assert_int_equal(id.bytes[0], 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_id_text_and_back),
        cmocka_unit_test(test_node_id_refuses_what_is_none),
    };

    return cmocka_run_group_tests_name("base/node_id", tests, NULL, NULL);
}
