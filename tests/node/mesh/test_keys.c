/* node/mesh/keys: made once, the same ever after, counted, and refused when not ours alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/mesh/keys.h"

struct fixture {
    char root[64];
    char dir[80], key[96], boot[96];
};

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)snprintf(fix->root, sizeof(fix->root), "%s", "/tmp/shoal-keys-XXXXXX");
    assert_non_null(mkdtemp(fix->root));
    (void)snprintf(fix->dir, sizeof(fix->dir), "%s/mesh", fix->root);
    (void)snprintf(fix->key, sizeof(fix->key), "%s/key", fix->dir);
    (void)snprintf(fix->boot, sizeof(fix->boot), "%s/boot", fix->dir);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(shl_remove_tree(fix->root), 0);
    free(fix);
    return 0;
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void flip_bit(const char *path, long offset)
{
    FILE *file = fopen(path, "r+");
    int byte;

    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    byte = fgetc(file);
    assert_true(byte != EOF);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    assert_int_equal(fclose(file), 0);
}

static void test_keys_are_made_once_and_starts_are_counted(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_keys first, second;
    struct shl_node_id id;

    assert_int_equal(node_mesh_keys_open(fix->dir, &first, NULL), 0);
    assert_int_equal(first.boot, 1);
    node_mesh_keys_id(first.public_key, &id);
    assert_true(shl_node_id_equal(&first.id, &id));
    assert_int_equal(mode_of(fix->dir), 0700);
    assert_int_equal(mode_of(fix->key), 0600);
    assert_int_equal(mode_of(fix->boot), 0600);
    assert_int_equal(node_mesh_keys_open(fix->dir, &second, NULL), 0);
    assert_int_equal(second.boot, 2);
    assert_memory_equal(first.public_key, second.public_key, NODE_KEY_BYTES);
    assert_memory_equal(first.secret_key, second.secret_key, NODE_KEY_BYTES);
    node_mesh_keys_release(&first);
    assert_int_equal(first.secret_key[0] | first.secret_key[31], 0);
}

static void test_keys_readable_by_others_are_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_keys keys;
    struct shl_err err = {0};

    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
    assert_int_equal(chmod(fix->key, 0640), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, &err), SHL_EFORBIDDEN);
    assert_non_null(strstr(err.msg, "chmod 600"));
    assert_int_equal(chmod(fix->key, 0600), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, &err), 0);
    assert_int_equal(keys.boot, 2); /* the refused start does not count */
}

static void test_keys_that_are_a_link_are_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_keys keys;
    char other[112];

    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
    (void)snprintf(other, sizeof(other), "%s.real", fix->key);
    assert_int_equal(rename(fix->key, other), 0);
    assert_int_equal(symlink(other, fix->key), 0);
    assert_true(node_mesh_keys_open(fix->dir, &keys, NULL) < 0);
}

static void test_keys_each_damaged_byte_is_found(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_keys keys;
    struct shl_err err = {0};
    const char *paths[] = {fix->key, fix->boot};
    size_t which;

    for (which = 0; which < 2; which++) {
        struct stat st;
        long at;

        assert_int_equal(shl_remove_tree(fix->dir), 0);
        assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
        assert_int_equal(stat(paths[which], &st), 0);
        for (at = 0; at < st.st_size; at++) {
            flip_bit(paths[which], at);
            /* X25519 ignores five bits of a secret key; then nothing is lost. */
            if (node_mesh_keys_open(fix->dir, &keys, &err) == 0) {
                assert_int_equal(which, 0);
                assert_int_equal(shl_remove_tree(fix->dir), 0);
                assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
                continue;
            }
            assert_int_equal(err.code, SHL_ECORRUPT);
            assert_non_null(strstr(err.msg, "damaged"));
            flip_bit(paths[which], at);
        }
    }
}

static void test_keys_cut_or_half_there_are_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_keys keys;
    struct shl_err err = {0};

    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
    assert_int_equal(unlink(fix->boot), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "missing beside the key"));
    assert_int_equal(truncate(fix->key, 0), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, &err), SHL_ECORRUPT);
    /* A counter without a key is what a crash of the very first start leaves. */
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, NULL), 0);
    assert_int_equal(unlink(fix->key), 0);
    assert_int_equal(node_mesh_keys_open(fix->dir, &keys, &err), 0);
    assert_int_equal(keys.boot, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keys_are_made_once_and_starts_are_counted, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_keys_readable_by_others_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_that_are_a_link_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_each_damaged_byte_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_cut_or_half_there_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests_name("node/mesh_keys", tests, NULL, NULL);
}
