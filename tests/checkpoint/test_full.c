/* A full disk: a tmpfs of a few MiB in a mount namespace of its own. The session that
 * meets it fails with -ENOSPC, everything before it stays, a collection gives the space
 * back, and then writing goes on. Skipped where namespaces are not allowed. */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/checkpoint/helper.h"
#include "tests/checkpoint/small_disk.h"

static const char *dir;

static uint64_t free_bytes(void)
{
    struct statvfs st;

    assert_int_equal(statvfs(dir, &st), 0);
    return (uint64_t)st.f_bavail * st.f_bsize;
}

static int mount_disk(void **state)
{
    (void)state;
    dir = enter_dir();
    assert_int_equal(mount("none", dir, "tmpfs", 0, DISK_OPTIONS), 0);
    return 0;
}

static int unmount_disk(void **state)
{
    (void)state;
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
    leave_dir();
    return 0;
}

/* The session fails, the store does not. */
static void test_full_disk_ends_the_session_alone(void **state)
{
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id kept = add_checkpoint(store, 0, 30), id;
    struct ckpt_store_stats before, after;

    (void)state;
    before = stats_of(store);
    assert_int_equal(try_checkpoint(store, 1000, 2000, &id), -ENOSPC);
    assert_int_equal(count_manifests(store), 1);
    assert_true(is_readable(store, &kept, 0, 30));
    assert_true(collect(store).swept_chunks > 100);
    after = stats_of(store);
    assert_int_equal(after.chunks, before.chunks);
    assert_true(after.bytes <= 2 * before.bytes);
    id = add_checkpoint(store, 1000, 60); /* there is room again */
    assert_true(is_readable(store, &id, 1000, 60));
    assert_true(is_readable(store, &kept, 0, 30));
    ckpt_store_close(store);

    store = open_store(dir);
    assert_true(is_readable(store, &id, 1000, 60));
    assert_int_equal(count_manifests(store), 2);
    ckpt_store_close(store);
}

/* Somebody else takes the last byte: deleting and collecting still work. */
static void test_full_disk_can_be_collected(void **state)
{
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id kept = add_checkpoint(store, 0, 10), gone = add_checkpoint(store, 500, 300), id;
    char path[256];
    uint64_t before;
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/ballast", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    before = free_bytes();
    while (posix_fallocate(fd, lseek(fd, 0, SEEK_END), 4096) == 0) {
        assert_true(lseek(fd, 0, SEEK_END) > 0);
    }
    assert_int_equal(free_bytes(), 0);
    assert_true(before > 0);
    assert_int_equal(try_checkpoint(store, 9000, 20, &id), -ENOSPC);
    assert_int_equal(ckpt_manifest_delete(store, &gone, NULL), 0);
    assert_int_equal(collect(store).live_chunks, 10);
    assert_true(free_bytes() > 2 << 20);
    assert_true(is_readable(store, &kept, 0, 10));
    ckpt_store_close(store);

    store = open_store(dir);
    assert_true(is_readable(store, &kept, 0, 10));
    id = add_checkpoint(store, 9000, 20);
    assert_true(is_readable(store, &id, 9000, 20));
    ckpt_store_close(store);
    close(fd);
}

/* A store opens on a full disk, else a reboot would make it worse. */
static void test_full_disk_does_not_keep_it_from_opening(void **state)
{
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id kept = add_checkpoint(store, 0, 10);
    char path[256];
    int fd;

    (void)state;
    ckpt_store_close(store);
    snprintf(path, sizeof(path), "%s/ballast", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    while (posix_fallocate(fd, lseek(fd, 0, SEEK_END), 4096) == 0) {
    }
    store = open_store(dir);
    assert_true(is_readable(store, &kept, 0, 10));
    ckpt_store_close(store);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_disk_ends_the_session_alone, mount_disk,
                                        unmount_disk),
        cmocka_unit_test_setup_teardown(test_full_disk_can_be_collected, mount_disk, unmount_disk),
        cmocka_unit_test_setup_teardown(test_full_disk_does_not_keep_it_from_opening, mount_disk,
                                        unmount_disk),
    };

    if (!can_mount()) {
        printf("skipped: needs the right to mount in a namespace (root)\n");
        return 77;
    }
    return cmocka_run_group_tests_name("checkpoint/full", tests, NULL, NULL);
}
