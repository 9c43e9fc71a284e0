/* The overlay against a flat array: random operations, reopening, crashes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "vmm-kvm/overlay.h"

#include "test.h"

#define CLUSTER VMM_OVERLAY_CLUSTER_BYTES
#define BASE    (5u * CLUSTER + 512u * 7) /* ends inside a cluster */
#define VIRTUAL (9u * CLUSTER + 512u * 3)

struct files {
    int base_fd;
    int fd;
};

static int temp_file(void)
{
    char name[] = "/tmp/shoal-overlay-XXXXXX";
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    (void)unlink(name);
    return fd;
}

static uint8_t base_byte(size_t at)
{
    /* Cluster 2 of the base is all zeros: a write there needs no copy. */
    return at / CLUSTER == 2 ? 0 : (uint8_t)(at / 512 * 7 + at + 1);
}

static int setup(void **state)
{
    struct files *files = malloc(sizeof(*files));
    uint8_t *base = malloc(BASE);
    size_t i;

    for (i = 0; i < BASE; i++) {
        base[i] = base_byte(i);
    }
    files->base_fd = temp_file();
    files->fd = temp_file();
    assert_int_equal(shl_pwrite_full(files->base_fd, base, BASE, 0), 0);
    free(base);
    *state = files;
    return 0;
}

static int teardown(void **state)
{
    struct files *files = *state;

    (void)close(files->base_fd);
    (void)close(files->fd);
    free(files);
    return 0;
}

static void open_overlay(struct vmm_overlay *overlay, const struct files *files)
{
    struct shl_err err = {0};
    int r = vmm_overlay_open(overlay, files->fd, files->base_fd, VIRTUAL, &err);

    if (r < 0) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(r, 0);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void fill_flat(uint8_t *flat)
{
    size_t i;

    memset(flat, 0, VIRTUAL);
    for (i = 0; i < BASE; i++) {
        flat[i] = base_byte(i);
    }
}

static void check_all(struct vmm_overlay *overlay, const uint8_t *flat)
{
    struct vmm_disk disk = vmm_overlay_disk(overlay);
    uint8_t *all = malloc(VIRTUAL);
    struct iovec iov = {all, VIRTUAL};

    assert_int_equal(disk.read(disk.ctx, 0, &iov, 1, VIRTUAL), 0);
    assert_memory_equal(all, flat, VIRTUAL);
    free(all);
}

/* A random sector range; @seed moves on. */
static void pick_range(uint32_t *seed, uint64_t *offset, size_t *len)
{
    uint32_t sectors = VIRTUAL / 512;
    uint32_t first = next_random(seed) % sectors;
    uint32_t max = next_random(seed) % 4 == 0 ? 400 : 20;
    uint32_t count = 1 + next_random(seed) % max;

    if (next_random(seed) % 5 == 0) { /* whole clusters */
        first = first / 128 * 128;
        count = 128 * (1 + next_random(seed) % 2);
    }
    if (count > sectors - first) {
        count = sectors - first;
    }
    *offset = (uint64_t)first * 512;
    *len = (size_t)count * 512;
}

static void write_both(struct vmm_overlay *overlay,
                       uint8_t *flat,
                       uint64_t offset,
                       size_t len,
                       uint32_t *seed)
{
    struct vmm_disk disk = vmm_overlay_disk(overlay);
    size_t cut = next_random(seed) % len;
    struct iovec iov[2] = {{flat + offset, cut}, {flat + offset + cut, len - cut}};
    size_t i;

    for (i = 0; i < len; i++) {
        flat[offset + i] = (uint8_t)next_random(seed);
    }
    assert_int_equal(disk.write(disk.ctx, offset, iov, 2, len), 0);
}

static void test_overlay_behaves_like_a_flat_array(void **state)
{
    struct files *files = *state;
    uint8_t *flat = malloc(VIRTUAL), *part = malloc(VIRTUAL);
    struct vmm_overlay overlay;
    struct vmm_disk disk;
    uint32_t seed = 12345;
    int round;

    fill_flat(flat);
    open_overlay(&overlay, files);
    check_all(&overlay, flat);
    for (round = 0; round < 600; round++) {
        uint64_t offset;
        size_t len;
        struct iovec iov;

        disk = vmm_overlay_disk(&overlay);
        pick_range(&seed, &offset, &len);
        switch (next_random(&seed) % 8) {
        case 0:
        case 1:
        case 2:
            write_both(&overlay, flat, offset, len, &seed);
            break;
        case 3:
            assert_int_equal(disk.zero(disk.ctx, offset, len), 0);
            memset(flat + offset, 0, len);
            break;
        case 4:
            assert_int_equal(disk.flush(disk.ctx), 0);
            if (next_random(&seed) % 4 == 0) {
                vmm_overlay_release(&overlay);
                open_overlay(&overlay, files);
            }
            break;
        default:
            iov = (struct iovec){part, len};
            assert_int_equal(disk.read(disk.ctx, offset, &iov, 1, len), 0);
            assert_memory_equal(part, flat + offset, len);
            break;
        }
    }
    check_all(&overlay, flat);
    vmm_overlay_release(&overlay);
    free(flat);
    free(part);
}

/* Copy of the overlay file as it is now: what a new process finds after kill -9. */
static int crash_copy(int fd)
{
    int copy = temp_file();
    struct stat st;
    uint8_t *all;

    assert_int_equal(fstat(fd, &st), 0);
    all = malloc((size_t)st.st_size);
    assert_int_equal(shl_pread_full(fd, all, (size_t)st.st_size, 0), 0);
    assert_int_equal(shl_pwrite_full(copy, all, (size_t)st.st_size, 0), 0);
    free(all);
    return copy;
}

/* At every moment a crashed overlay opens, has all that was flushed, and per sector
 * nothing but the flushed or the newest content. */
static void test_overlay_crash_keeps_what_was_flushed(void **state)
{
    struct files *files = *state;
    uint8_t *flat = malloc(VIRTUAL), *flushed = malloc(VIRTUAL), *seen = malloc(VIRTUAL);
    struct vmm_overlay overlay;
    uint32_t seed = 99;
    int round;

    fill_flat(flat);
    memcpy(flushed, flat, VIRTUAL);
    open_overlay(&overlay, files);
    for (round = 0; round < 60; round++) {
        struct files crashed = {files->base_fd, -1};
        struct vmm_overlay again;
        struct vmm_disk disk = vmm_overlay_disk(&overlay);
        struct iovec iov = {seen, VIRTUAL};
        uint64_t offset;
        size_t len, at;

        pick_range(&seed, &offset, &len);
        write_both(&overlay, flat, offset, len, &seed);
        if (next_random(&seed) % 4 == 0) {
            assert_int_equal(disk.flush(disk.ctx), 0);
            memcpy(flushed, flat, VIRTUAL);
        }
        crashed.fd = crash_copy(files->fd);
        open_overlay(&again, &crashed);
        disk = vmm_overlay_disk(&again);
        assert_int_equal(disk.read(disk.ctx, 0, &iov, 1, VIRTUAL), 0);
        for (at = 0; at < VIRTUAL; at += 512) {
            assert_true(memcmp(seen + at, flushed + at, 512) == 0 ||
                        memcmp(seen + at, flat + at, 512) == 0);
        }
        vmm_overlay_release(&again);
        (void)close(crashed.fd);
    }
    vmm_overlay_release(&overlay);
    free(flat);
    free(flushed);
    free(seen);
}

/* Data of a cluster whose bit never reached the file must not show up later. */
static void test_overlay_leftovers_of_a_crash_are_gone(void **state)
{
    struct files *files = *state;
    struct vmm_overlay overlay;
    struct vmm_disk disk;
    uint8_t sector[512], all[1024];
    struct iovec iov = {sector, 512}, both = {all, 1024};

    open_overlay(&overlay, files);
    disk = vmm_overlay_disk(&overlay);
    assert_int_equal(disk.flush(disk.ctx), 0);
    memset(sector, 0xaa, sizeof(sector));
    /* Cluster 7 is behind the base: the write goes straight, without its neighbours. */
    assert_int_equal(disk.write(disk.ctx, 7 * CLUSTER + 512, &iov, 1, 512), 0);
    vmm_overlay_release(&overlay); /* no flush: the bit is lost */
    open_overlay(&overlay, files);
    disk = vmm_overlay_disk(&overlay);
    assert_true(overlay.top.present_count == 0);
    memset(sector, 0xbb, sizeof(sector));
    assert_int_equal(disk.write(disk.ctx, 7 * CLUSTER, &iov, 1, 512), 0);
    assert_int_equal(disk.read(disk.ctx, 7 * CLUSTER, &both, 1, 1024), 0);
    assert_int_equal(all[0], 0xbb);
    assert_int_equal(all[512], 0);
    vmm_overlay_release(&overlay);
}

static void test_overlay_base_is_never_written(void **state)
{
    struct files *files = *state;
    struct vmm_overlay overlay;
    struct vmm_disk disk;
    uint8_t data[1024], byte;
    struct iovec iov = {data, sizeof(data)};

    open_overlay(&overlay, files);
    disk = vmm_overlay_disk(&overlay);
    memset(data, 0, sizeof(data));
    assert_int_equal(disk.write(disk.ctx, 0, &iov, 1, sizeof(data)), 0);
    assert_int_equal(disk.flush(disk.ctx), 0);
    assert_int_equal(shl_pread_full(files->base_fd, &byte, 1, 100), 0);
    assert_int_equal(byte, base_byte(100));
    vmm_overlay_release(&overlay);
}

static int open_again(const struct files *files, uint64_t virtual_bytes, struct shl_err *err)
{
    struct vmm_overlay overlay;
    int r = vmm_overlay_open(&overlay, files->fd, files->base_fd, virtual_bytes, err);

    if (r == 0) {
        vmm_overlay_release(&overlay);
    }
    return r;
}

static void create(const struct files *files)
{
    struct shl_err err = {0};

    assert_int_equal(open_again(files, VIRTUAL, &err), 0);
}

static void test_overlay_of_another_size_or_base_is_refused(void **state)
{
    struct files *files = *state;
    struct shl_err err = {0};
    uint8_t byte = 0x5a;

    create(files);
    assert_int_equal(open_again(files, VIRTUAL + 512, &err), SHL_ECONFLICT);
    assert_int_equal(open_again(files, VIRTUAL, &err), 0);
    assert_int_equal(shl_pwrite_full(files->base_fd, &byte, 1, 1000), 0);
    assert_int_equal(open_again(files, VIRTUAL, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "base"));
}

static void test_overlay_damaged_header_is_refused_with_the_reason(void **state)
{
    struct files *files = *state;
    struct shl_err err = {0};
    uint8_t saved, byte;
    size_t at;

    create(files);
    for (at = 0; at < 72; at++) {
        assert_int_equal(shl_pread_full(files->fd, &saved, 1, at), 0);
        byte = saved ^ 0x10;
        assert_int_equal(shl_pwrite_full(files->fd, &byte, 1, at), 0);
        memset(&err, 0, sizeof(err));
        assert_true(open_again(files, VIRTUAL, &err) < 0);
        assert_true(err.code == SHL_ECORRUPT || err.code == SHL_EVERSION);
        assert_true(strlen(err.msg) > 0);
        assert_int_equal(shl_pwrite_full(files->fd, &saved, 1, at), 0);
    }
    assert_int_equal(open_again(files, VIRTUAL, &err), 0);
}

static void test_overlay_cut_off_file_is_refused(void **state)
{
    struct files *files = *state;
    static const off_t cuts[] = {1, 100, 4095, 4096, 8192, 65536, 65536 * 5};
    struct shl_err err = {0};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(cuts); i++) {
        assert_int_equal(ftruncate(files->fd, 0), 0);
        create(files);
        assert_int_equal(ftruncate(files->fd, cuts[i]), 0);
        assert_int_equal(open_again(files, VIRTUAL, &err), SHL_ECORRUPT);
    }
}

static void test_overlay_bitmap_beyond_the_disk_is_refused(void **state)
{
    struct files *files = *state;
    struct shl_err err = {0};
    uint8_t byte = 0xff;

    create(files);
    assert_int_equal(shl_pwrite_full(files->fd, &byte, 1, 4096 + 1), 0);
    assert_int_equal(open_again(files, VIRTUAL, &err), SHL_ECORRUPT);
}

/* A process that died before the header was written leaves a file without data. */
static void test_overlay_all_hole_counts_as_empty(void **state)
{
    struct files *files = *state;
    struct shl_err err = {0};

    assert_int_equal(ftruncate(files->fd, 1 << 20), 0);
    assert_int_equal(open_again(files, VIRTUAL, &err), 0);
}

static void test_overlay_foreign_file_is_refused(void **state)
{
    struct files *files = *state;
    struct shl_err err = {0};
    char text[8192];

    memset(text, 'x', sizeof(text));
    assert_int_equal(shl_pwrite_full(files->fd, text, sizeof(text), 0), 0);
    assert_int_equal(open_again(files, VIRTUAL, &err), SHL_ECORRUPT);
}

static void test_overlay_in_use_is_refused(void **state)
{
    struct files *files = *state;
    struct files other = *files;
    struct shl_err err = {0};
    struct vmm_overlay overlay;
    char path[64];

    open_overlay(&overlay, files);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", files->fd);
    other.fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(other.fd >= 0);
    assert_int_equal(open_again(&other, VIRTUAL, &err), SHL_ECONFLICT);
    (void)close(other.fd);
    vmm_overlay_release(&overlay);
}

/* A full host disk fails the request, harms nothing, and writing works afterwards. */
static void test_overlay_full_disk_fails_one_request(void **state)
{
    struct files *files = *state;
    struct vmm_overlay overlay;
    struct vmm_disk disk;
    uint8_t *flat = malloc(VIRTUAL), data[512];
    struct iovec iov = {data, sizeof(data)};
    struct files full = *files;

    fill_flat(flat);
    open_overlay(&overlay, files);
    disk = vmm_overlay_disk(&overlay);
    memset(data, 1, sizeof(data));
    /* /dev/full answers every write with ENOSPC. */
    full.fd = open("/dev/full", O_RDWR | O_CLOEXEC);
    assert_true(full.fd >= 0);
    overlay.top.fd = full.fd;
    assert_int_equal(disk.write(disk.ctx, 512, &iov, 1, sizeof(data)), -ENOSPC);
    assert_int_equal(disk.write(disk.ctx, 8 * CLUSTER, &iov, 1, sizeof(data)), -ENOSPC);
    assert_true(overlay.top.present_count == 0);
    overlay.top.fd = files->fd;
    check_all(&overlay, flat);
    assert_int_equal(disk.write(disk.ctx, 512, &iov, 1, sizeof(data)), 0);
    memset(flat + 512, 1, 512);
    check_all(&overlay, flat);
    vmm_overlay_release(&overlay);
    (void)close(full.fd);
    free(flat);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_overlay_behaves_like_a_flat_array),
        WITH(test_overlay_crash_keeps_what_was_flushed),
        WITH(test_overlay_leftovers_of_a_crash_are_gone),
        WITH(test_overlay_base_is_never_written),
        WITH(test_overlay_of_another_size_or_base_is_refused),
        WITH(test_overlay_damaged_header_is_refused_with_the_reason),
        WITH(test_overlay_cut_off_file_is_refused),
        WITH(test_overlay_bitmap_beyond_the_disk_is_refused),
        WITH(test_overlay_all_hole_counts_as_empty),
        WITH(test_overlay_foreign_file_is_refused),
        WITH(test_overlay_in_use_is_refused),
        WITH(test_overlay_full_disk_fails_one_request),
    };

    return cmocka_run_group_tests_name("vmm-kvm/overlay", tests, NULL, NULL);
}
