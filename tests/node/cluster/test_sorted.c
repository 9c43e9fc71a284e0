/* Random insertions and removals against a plain array of flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "node/cluster/sorted.h"

#define VALUES 300

static int compare(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;

    return left < right ? -1 : left > right;
}

static void check(const struct sorted *set, const bool *in)
{
    size_t at = 0;
    int value;

    for (value = 0; value < VALUES; value++) {
        assert_int_equal(sorted_seek(set, &value), at);
        assert_true((sorted_find(set, &value) != NULL) == in[value]);
        at += in[value];
    }
    assert_int_equal(set->count, at);
}

static void test_sorted(void **state)
{
    struct sorted set = {.compare = compare};
    static int values[VALUES];
    bool in[VALUES] = {false};
    uint32_t random = 1;
    int i;

    (void)state;
    check(&set, in);
    for (i = 0; i < VALUES; i++) {
        values[i] = i;
    }
    for (i = 0; i < 2000; i++) {
        int value;

        random = random * 1664525u + 1013904223u;
        value = (int)(random >> 8) % VALUES;
        if (in[value]) {
            sorted_remove(&set, &values[value]);
        } else {
            assert_int_equal(sorted_insert(&set, &values[value]), 0);
        }
        in[value] = !in[value];
        if (i % 50 == 0) {
            check(&set, in);
        }
    }
    check(&set, in);
    i = VALUES + 1; /* not in it: nothing happens */
    sorted_remove(&set, &i);
    check(&set, in);
    sorted_release(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sorted)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
