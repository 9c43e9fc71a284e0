/* node/store on a disk that fills up: what was acknowledged is there after a start, and once there
 * is space again it goes on. Skipped where a tmpfs cannot be mounted. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "node/store/store.h"
#include "tests/checkpoint/small_disk.h"

#define VALUE_BYTES 3000

static char folder[] = "/tmp/shoal-full-XXXXXX";
static char dir[64];

/* Leaves so many bytes. */
static void fill(size_t left)
{
    static const char block[4096];
    char path[64];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/filler", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, block, sizeof(block)) == (ssize_t)sizeof(block)) {
    }
    assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - (off_t)left), 0);
    assert_int_equal(close(fd), 0);
}

static void make_room(void)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/filler", folder);
    assert_int_equal(unlink(path), 0);
}

static int put(struct node_store *store, unsigned n)
{
    char value[VALUE_BYTES], id[16];
    struct shl_err err = {0};
    int rc;

    memset(value, (int)('a' + n % 26), sizeof(value));
    (void)snprintf(id, sizeof(id), "%u", n);
    rc = node_store_put(store, "record", id, shl_bytes_of(value, sizeof(value)), &err);
    if (rc < 0) {
        assert_non_null(strstr(err.msg, "full"));
    }
    return rc;
}

static bool has(struct node_store *store, unsigned n)
{
    struct shl_buf buf;
    char id[16];
    int rc;

    shl_buf_init(&buf, VALUE_BYTES);
    (void)snprintf(id, sizeof(id), "%u", n);
    rc = node_store_get(store, "record", id, &buf, NULL);
    assert_true(rc == 0 || rc == SHL_ENOTFOUND);
    shl_buf_release(&buf);
    return rc == 0;
}

static void test_store_goes_on_after_a_full_disk(void **state)
{
    struct node_store *store;
    bool acked[400] = {false};
    unsigned n = 0, round, failed = 0;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(mount("none", folder, "tmpfs", 0, DISK_OPTIONS), 0);
    (void)snprintf(dir, sizeof(dir), "%s/store", folder);
    assert_int_equal(node_store_open(dir, &store, NULL), 0);
    for (round = 0; round < 4; round++) {
        unsigned end = n + 10;

        for (; n < end; n++) {
            acked[n] = put(store, n) == 0;
            assert_true(acked[n]);
        }
        fill(4096 * (round + 1));
        for (end = n + 20; n < end; n++) {
            acked[n] = put(store, n) == 0;
            failed += !acked[n];
            assert_true(has(store, 0)); /* it can be read all the time */
        }
        make_room();
    }
    assert_true(failed > 0);
    acked[n] = put(store, n) == 0;
    assert_true(acked[n++]);
    node_store_close(store);
    assert_int_equal(node_store_open(dir, &store, NULL), 0);
    while (n-- > 0) {
        assert_true(!acked[n] || has(store, n));
    }
    node_store_close(store);
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_goes_on_after_a_full_disk),
    };

    if (!can_mount()) {
        puts("needs a mount namespace and a tmpfs of its own");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
