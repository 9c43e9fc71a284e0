#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/id.h"
#include "base/io.h"

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/shoal-io-XXXXXX");

    *state = mkdtemp(dir);
    return *state ? 0 : -1;
}

static int drop_dir(void **state)
{
    int rc = shl_remove_tree(*state);

    free(*state);
    return rc;
}

static void test_io_atomic_write_replaces_the_whole_file(void **state)
{
    char path[128];
    struct shl_buf buf;
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/f", (char *)*state);
    assert_int_equal(shl_write_file_atomic(path, "a longer text", 13, 0600), 0);
    assert_int_equal(shl_write_file_atomic(path, "short", 5, 0600), 0);
    shl_buf_init(&buf, 64);
    assert_int_equal(shl_read_file(path, &buf), 0);
    assert_int_equal(shl_buf_len(&buf), 5);
    assert_memory_equal(shl_buf_data(&buf), "short", 5);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    shl_buf_release(&buf);
}

static void test_io_read_file_takes_exactly_the_limit_and_refuses_more(void **state)
{
    char path[128];
    struct shl_buf buf;

    (void)snprintf(path, sizeof(path), "%s/f", (char *)*state);
    assert_int_equal(shl_write_file_atomic(path, "12345678", 8, 0600), 0);
    shl_buf_init(&buf, 8);
    assert_int_equal(shl_read_file(path, &buf), 0);
    assert_int_equal(shl_buf_len(&buf), 8);
    shl_buf_release(&buf);
    shl_buf_init(&buf, 7);
    assert_int_equal(shl_read_file(path, &buf), SHL_ELIMIT);
    shl_buf_release(&buf);
}

static void test_io_pread_past_the_end_says_so(void **state)
{
    char path[128], raw[8];
    SHL_CLEANUP_FD int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/f", (char *)*state);
    assert_int_equal(shl_write_file_atomic(path, "1234", 4, 0600), 0);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(shl_pread_full(fd, raw, 4, 0), 0);
    assert_int_equal(shl_pread_full(fd, raw, 5, 0), -ENODATA);
}

/* A link inside the tree must be removed, never followed. */
static void test_io_remove_tree_does_not_follow_links(void **state)
{
    char keep[160], tree[160], link[192];

    (void)snprintf(keep, sizeof(keep), "%s/keep", (char *)*state);
    (void)snprintf(tree, sizeof(tree), "%s/tree/a/b", (char *)*state);
    assert_int_equal(shl_mkdir_all(keep, 0700), 0);
    assert_int_equal(shl_mkdir_all(tree, 0700), 0);
    assert_int_equal(shl_mkdir_all(tree, 0700), 0);
    (void)snprintf(link, sizeof(link), "%s/link", tree);
    assert_int_equal(symlink(keep, link), 0);
    (void)snprintf(tree, sizeof(tree), "%s/tree", (char *)*state);
    assert_int_equal(shl_remove_tree(tree), 0);
    assert_int_equal(access(keep, F_OK), 0);
    assert_int_equal(access(tree, F_OK), -1);
    assert_int_equal(shl_remove_tree(tree), 0);
}

static void test_id_hex_round_trip_and_bad_digits(void **state)
{
    uint8_t raw[4] = {0x00, 0xff, 0x5a, 0x01}, back[4];
    char text[9];

    (void)state;
    shl_hex_encode(text, raw, sizeof(raw));
    assert_string_equal(text, "00ff5a01");
    assert_int_equal(shl_hex_decode(back, sizeof(back), "00FF5A01"), 0);
    assert_memory_equal(raw, back, sizeof(raw));
    assert_int_equal(shl_hex_decode(back, sizeof(back), "00ff5a0g"), -EINVAL);
    assert_int_equal(shl_hex_decode(back, sizeof(back), "00ff5a"), -EINVAL);
}

static void test_id_make_has_prefix_and_differs(void **state)
{
    char a[16], b[16], uuid[SHL_UUID_SIZE];

    (void)state;
    shl_id_make(a, sizeof(a), "sb-", 8);
    shl_id_make(b, sizeof(b), "sb-", 8);
    assert_int_equal(strlen(a), 11);
    assert_memory_equal(a, "sb-", 3);
    assert_string_not_equal(a, b);
    shl_uuid_make(uuid);
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_io_atomic_write_replaces_the_whole_file, make_dir,
                                        drop_dir),
        cmocka_unit_test_setup_teardown(test_io_read_file_takes_exactly_the_limit_and_refuses_more,
                                        make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_io_pread_past_the_end_says_so, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_io_remove_tree_does_not_follow_links, make_dir,
                                        drop_dir),
        cmocka_unit_test(test_id_hex_round_trip_and_bad_digits),
        cmocka_unit_test(test_id_make_has_prefix_and_differs),
    };

    return cmocka_run_group_tests_name("base/io", tests, NULL, NULL);
}
