/* node/store: what was put is there after a reopen, kinds do not mix, damage is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/store/store.h"

struct fixture {
    char dir[64];
    struct node_store *store;
};

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)snprintf(fix->dir, sizeof(fix->dir), "%s", "/tmp/shoal-store-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    assert_int_equal(node_store_open(fix->dir, &fix->store, NULL), 0);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    node_store_close(fix->store);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    free(fix);
    return 0;
}

static void reopen(struct fixture *fix)
{
    node_store_close(fix->store);
    fix->store = NULL;
    assert_int_equal(node_store_open(fix->dir, &fix->store, NULL), 0);
}

static void put(struct fixture *fix, const char *kind, const char *id, const char *text)
{
    assert_int_equal(node_store_put(fix->store, kind, id, shl_bytes_of(text, strlen(text)), NULL),
                     0);
}

static void check(struct fixture *fix, const char *kind, const char *id, const char *text)
{
    struct shl_buf buf;

    shl_buf_init(&buf, 1024);
    assert_int_equal(node_store_get(fix->store, kind, id, &buf, NULL), 0);
    assert_int_equal(shl_buf_len(&buf), strlen(text));
    assert_memory_equal(shl_buf_data(&buf), text, strlen(text));
    shl_buf_release(&buf);
}

static void test_store_values_survive_reopen(void **state)
{
    struct fixture *fix = *state;

    put(fix, "sandbox", "sb-1", "one");
    put(fix, "sandbox", "sb-1", "two");
    reopen(fix);
    check(fix, "sandbox", "sb-1", "two");
}

static void test_store_missing_and_deleted(void **state)
{
    struct fixture *fix = *state;
    struct shl_buf buf;
    struct shl_err err = {0};

    shl_buf_init(&buf, 1024);
    assert_int_equal(node_store_get(fix->store, "sandbox", "x", &buf, &err), SHL_ENOTFOUND);
    assert_string_equal(err.msg, "there is no record sandbox/x");
    put(fix, "sandbox", "x", "1");
    assert_int_equal(node_store_delete(fix->store, "sandbox", "x", NULL), 0);
    assert_int_equal(node_store_delete(fix->store, "sandbox", "x", NULL), 0);
    assert_int_equal(node_store_get(fix->store, "sandbox", "x", &buf, NULL), SHL_ENOTFOUND);
    assert_int_equal(node_store_get(fix->store, "sandbox", "", &buf, NULL), SHL_EINVALIDARG);
    shl_buf_release(&buf);
}

static bool collect(void *arg, const char *id, struct shl_bytes value)
{
    char *text = arg;

    (void)snprintf(text + strlen(text), 64, "%s=%.*s ", id, (int)value.len,
                   (const char *)value.base);
    return strcmp(id, "stop") != 0;
}

/* Neighbouring kinds that share a prefix must not leak into a walk. */
static void test_store_each_stays_in_its_kind(void **state)
{
    struct fixture *fix = *state;
    char text[256] = "";

    put(fix, "key", "a", "1");
    put(fix, "keys", "b", "2");
    put(fix, "key", "c", "3");
    put(fix, "ke", "d", "4");
    assert_int_equal(node_store_each(fix->store, "key", collect, text, NULL), 0);
    assert_string_equal(text, "a=1 c=3 ");
    text[0] = '\0';
    put(fix, "key", "stop", "5");
    put(fix, "key", "zz", "6");
    assert_int_equal(node_store_each(fix->store, "key", collect, text, NULL), 0);
    assert_string_equal(text, "a=1 c=3 stop=5 ");
}

static void test_store_value_limit(void **state)
{
    struct fixture *fix = *state;
    char *big = calloc(1, (1 << 20) + 1);

    assert_int_equal(node_store_put(fix->store, "k", "id", shl_bytes_of(big, (1 << 20) + 1), NULL),
                     SHL_ELIMIT);
    free(big);
}

/* A lost CURRENT file must not silently become an empty store. */
static void test_store_refuses_gutted_folder(void **state)
{
    struct fixture *fix = *state;
    struct node_store *store = NULL;
    struct shl_err err = {0};
    char path[128];

    put(fix, "k", "id", "x");
    node_store_close(fix->store);
    fix->store = NULL;
    (void)snprintf(path, sizeof(path), "%s/CURRENT", fix->dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(node_store_open(fix->dir, &store, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "damaged"));
    assert_null(store);
}

static void test_store_second_open_fails_with_reason(void **state)
{
    struct fixture *fix = *state;
    struct node_store *store = NULL;
    struct shl_err err = {0};

    assert_true(node_store_open(fix->dir, &store, &err) < 0);
    assert_non_null(strstr(err.msg, "LOCK"));
}

static void test_store_refuses_other_format(void **state)
{
    struct fixture *fix = *state;
    struct node_store *store = NULL;
    struct shl_err err = {0};

    put(fix, "store", "format", "999");
    node_store_close(fix->store);
    fix->store = NULL;
    assert_int_equal(node_store_open(fix->dir, &store, &err), SHL_EVERSION);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_store_values_survive_reopen),  TEST(test_store_missing_and_deleted),
        TEST(test_store_each_stays_in_its_kind), TEST(test_store_value_limit),
        TEST(test_store_refuses_gutted_folder),  TEST(test_store_second_open_fails_with_reason),
        TEST(test_store_refuses_other_format),
    };

    return cmocka_run_group_tests_name("node/store", tests, NULL, NULL);
}
