/* A disk of many layers against a flat array: writes, seals, merges, reopening, faults. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/overlay.h"

#include "files.h"
#include "test.h"

#define CLUSTER VMM_OVERLAY_CLUSTER_BYTES
#define BASE    (9u * CLUSTER + 512u * 7) /* ends inside a cluster */
#define VIRTUAL (14u * CLUSTER + 512u * 3)
#define FILES   (VMM_DISK_LAYERS_MAX + 2)

/* A disk with its files, and what it must hold. */
struct stack {
    int base_fd;
    int fds[FILES]; /* sealed layers, then the top */
    unsigned count; /* the top included */
    struct vmm_overlay overlay;
    uint8_t *flat;
    uint8_t *part;
    uint32_t seed;
};

static int setup(void **state)
{
    struct stack *stack = calloc(1, sizeof(*stack));
    size_t i;

    stack->flat = calloc(1, VIRTUAL);
    stack->part = calloc(1, VIRTUAL);
    stack->seed = 20261120;
    for (i = 0; i < BASE; i++) {
        stack->flat[i] = i / CLUSTER == 2 ? 0 : (uint8_t)(i / 512 * 7 + i + 1);
    }
    stack->base_fd = files_temp();
    assert_int_equal(shl_pwrite_full(stack->base_fd, stack->flat, BASE, 0), 0);
    stack->fds[0] = files_temp();
    stack->count = 1;
    assert_int_equal(
        vmm_overlay_open(&stack->overlay, stack->fds[0], stack->base_fd, VIRTUAL, NULL), 0);
    *state = stack;
    return 0;
}

static int teardown(void **state)
{
    struct stack *stack = *state;

    vmm_overlay_release(&stack->overlay);
    while (stack->count > 0) {
        (void)close(stack->fds[--stack->count]);
    }
    (void)close(stack->base_fd);
    free(stack->flat);
    free(stack->part);
    free(stack);
    return 0;
}

static uint32_t roll(struct stack *stack, uint32_t sides)
{
    return files_random(&stack->seed) % sides;
}

static void check_all(struct stack *stack)
{
    struct vmm_disk disk = vmm_overlay_disk(&stack->overlay);
    struct iovec iov = {stack->part, VIRTUAL};

    memset(stack->part, 0xee, VIRTUAL);
    assert_int_equal(disk.read(disk.ctx, 0, &iov, 1, VIRTUAL), 0);
    assert_memory_equal(stack->part, stack->flat, VIRTUAL);
}

static void pick(struct stack *stack, uint64_t *offset, size_t *len)
{
    uint32_t sectors = VIRTUAL / 512, first = roll(stack, sectors), count = 1 + roll(stack, 30);

    if (roll(stack, 3) == 0) { /* whole clusters */
        first = first / 128 * 128;
        count = 128 * (1 + roll(stack, 3));
    }
    count = count > sectors - first ? sectors - first : count;
    *offset = (uint64_t)first * 512;
    *len = (size_t)count * 512;
}

static void write_random(struct stack *stack)
{
    struct vmm_disk disk = vmm_overlay_disk(&stack->overlay);
    uint64_t offset;
    size_t len, cut, i;
    struct iovec iov[2];

    pick(stack, &offset, &len);
    cut = roll(stack, (uint32_t)len);
    for (i = 0; i < len; i++) {
        stack->flat[offset + i] = (uint8_t)roll(stack, 256);
    }
    iov[0] = (struct iovec){stack->flat + offset, cut};
    iov[1] = (struct iovec){stack->flat + offset + cut, len - cut};
    assert_int_equal(disk.write(disk.ctx, offset, iov, 2, len), 0);
}

static void zero_random(struct stack *stack)
{
    struct vmm_disk disk = vmm_overlay_disk(&stack->overlay);
    uint64_t offset;
    size_t len;

    pick(stack, &offset, &len);
    assert_int_equal(disk.zero(disk.ctx, offset, len), 0);
    memset(stack->flat + offset, 0, len);
}

static void read_random(struct stack *stack)
{
    struct vmm_disk disk = vmm_overlay_disk(&stack->overlay);
    uint64_t offset;
    size_t len;
    struct iovec iov;

    pick(stack, &offset, &len);
    iov = (struct iovec){stack->part, len};
    assert_int_equal(disk.read(disk.ctx, offset, &iov, 1, len), 0);
    assert_memory_equal(stack->part, stack->flat + offset, len);
}

static void seal(struct stack *stack)
{
    struct shl_err err = {0};
    int fd = files_temp();

    assert_int_equal(vmm_overlay_seal(&stack->overlay, fd, &err), 0);
    stack->fds[stack->count++] = fd;
    assert_int_equal(stack->overlay.layer_count, stack->count - 1);
    assert_true(vmm_overlay_used_bytes(&stack->overlay) == 0);
}

/* Layers [first, first + count) of the disk in one new file, as checkpoint/ does it. */
static int merge(const struct stack *stack, unsigned first, unsigned count)
{
    const unsigned bitmap_bytes = 4096;
    uint8_t bitmap[4096] = {0}, cluster[CLUSTER];
    int fd = files_temp();
    uint64_t n;
    unsigned i;

    assert_true(vmm_overlay_bitmap_bytes(VIRTUAL) == bitmap_bytes);
    assert_int_equal(vmm_overlay_file_create(fd, &stack->overlay.header, NULL), 0);
    for (i = first; i < first + count; i++) {
        const struct vmm_sealed *layer = &stack->overlay.layers[i];

        for (n = 0; vmm_sealed_next(layer, n, &n); n++) {
            assert_int_equal(
                shl_pread_full(layer->fd, cluster, CLUSTER, vmm_sealed_offset(layer, n)), 0);
            assert_int_equal(shl_pwrite_full(fd, cluster, CLUSTER,
                                             vmm_overlay_data_offset(VIRTUAL) + n * CLUSTER),
                             0);
            bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
        }
    }
    assert_int_equal(shl_pwrite_full(fd, bitmap, bitmap_bytes, VMM_OVERLAY_HEADER_BYTES), 0);
    return fd;
}

static void merge_some(struct stack *stack)
{
    unsigned layers = stack->count - 1;
    unsigned first = roll(stack, layers);
    unsigned count = 1 + roll(stack, layers - first);
    int fd = merge(stack, first, count);
    unsigned i;

    for (i = first; i < first + count; i++) {
        (void)close(stack->fds[i]);
    }
    stack->fds[first] = fd;
    memmove(&stack->fds[first + 1], &stack->fds[first + count],
            (stack->count - first - count) * sizeof(stack->fds[0]));
    stack->count -= count - 1;
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, stack->fds, stack->count - 1, NULL),
                     0);
}

/* A new process: all descriptors opened anew, sealed ones read-only. */
static void reopen(struct stack *stack)
{
    unsigned i;

    assert_int_equal(vmm_overlay_complete(&stack->overlay), 0);
    vmm_overlay_release(&stack->overlay);
    for (i = 0; i < stack->count; i++) {
        int fd = files_reopen(stack->fds[i], i + 1 < stack->count ? O_RDONLY : O_RDWR);

        (void)close(stack->fds[i]);
        stack->fds[i] = fd;
    }
    assert_int_equal(vmm_overlay_open(&stack->overlay, stack->fds[stack->count - 1], stack->base_fd,
                                      VIRTUAL, NULL),
                     0);
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, stack->fds, stack->count - 1, NULL),
                     0);
}

static void test_stack_behaves_like_a_flat_array(void **state)
{
    struct stack *stack = *state;
    unsigned round, seals = 0, merges = 0, reopens = 0;

    for (round = 0; round < 3000; round++) {
        uint32_t what = roll(stack, 100);

        if (what < 45) {
            write_random(stack);
        } else if (what < 60) {
            zero_random(stack);
        } else if (what < 90) {
            read_random(stack);
        } else if (what < 95) {
            if (stack->count - 1 == VMM_DISK_LAYERS_MAX) {
                merge_some(stack);
                merges++;
            } else {
                seal(stack);
                seals++;
            }
        } else if (what < 96 && stack->count > 1) {
            merge_some(stack);
            merges++;
        } else if (what < 97) {
            reopen(stack);
            reopens++;
        } else if (what < 98) {
            assert_int_equal(vmm_overlay_flush(&stack->overlay), 0);
        }
        if (round % 50 == 0) {
            check_all(stack);
        }
    }
    check_all(stack);
    assert_true(seals > 30);
    assert_true(merges > 10);
    assert_true(reopens > 10);
}

/* Whatever is written later, a sealed file stays as it was, and so do forks of it. */
static void test_stack_sealed_files_never_change(void **state)
{
    struct stack *stack = *state;
    struct vmm_overlay fork;
    uint8_t *before, *after, *flat = malloc(VIRTUAL);
    uint64_t bytes;
    int shared_fd, fork_fd, i;

    for (i = 0; i < 30; i++) {
        write_random(stack);
    }
    seal(stack);
    memcpy(flat, stack->flat, VIRTUAL);
    before = files_content(stack->fds[0], &bytes);
    shared_fd = files_reopen(stack->fds[0], O_RDONLY);
    for (i = 0; i < 60; i++) {
        write_random(stack);
        zero_random(stack);
    }
    assert_int_equal(vmm_overlay_flush(&stack->overlay), 0);
    after = files_content(stack->fds[0], &bytes);
    assert_memory_equal(before, after, bytes);

    fork_fd = files_temp();
    assert_int_equal(vmm_overlay_open(&fork, fork_fd, stack->base_fd, VIRTUAL, NULL), 0);
    assert_int_equal(vmm_overlay_set_layers(&fork, &shared_fd, 1, NULL), 0);
    check_all(stack);
    {
        struct vmm_disk disk = vmm_overlay_disk(&fork);
        struct iovec iov = {stack->part, VIRTUAL};

        assert_int_equal(disk.read(disk.ctx, 0, &iov, 1, VIRTUAL), 0);
        assert_memory_equal(stack->part, flat, VIRTUAL);
    }
    vmm_overlay_release(&fork);
    (void)close(fork_fd);
    (void)close(shared_fd);
    free(before);
    free(after);
    free(flat);
}

static void test_stack_seal_of_an_unchanged_top(void **state)
{
    struct stack *stack = *state;
    uint64_t n;

    write_random(stack);
    seal(stack);
    seal(stack);
    assert_true(vmm_sealed_next(&stack->overlay.layers[0], 0, &n));
    assert_false(vmm_sealed_next(&stack->overlay.layers[1], 0, &n));
    check_all(stack);
}

/* Zeros written over a layer's data must hide it, also after the next seal. */
static void test_stack_zeros_hide_what_is_below(void **state)
{
    struct stack *stack = *state;
    struct vmm_disk disk;

    memset(stack->flat + 10 * CLUSTER, 5, CLUSTER); /* behind the base */
    disk = vmm_overlay_disk(&stack->overlay);
    assert_int_equal(disk.write(disk.ctx, 10 * CLUSTER,
                                &(struct iovec){stack->flat + 10 * CLUSTER, CLUSTER}, 1, CLUSTER),
                     0);
    seal(stack);
    assert_int_equal(disk.zero(disk.ctx, 10 * CLUSTER, CLUSTER), 0);
    memset(stack->flat + 10 * CLUSTER, 0, CLUSTER);
    check_all(stack);
    seal(stack);
    reopen(stack);
    check_all(stack);
}

static void test_stack_has_a_limit(void **state)
{
    struct stack *stack = *state;
    struct shl_err err = {0};
    int fds[VMM_DISK_LAYERS_MAX + 1] = {0};
    int fd = files_temp();

    while (stack->overlay.layer_count < VMM_DISK_LAYERS_MAX) {
        write_random(stack);
        seal(stack);
    }
    assert_int_equal(vmm_overlay_seal(&stack->overlay, fd, &err), SHL_ELIMIT);
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, fds, VMM_DISK_LAYERS_MAX + 1, &err),
                     SHL_ELIMIT);
    write_random(stack);
    check_all(stack);
    (void)close(fd);
}

/* The disk grew: layers of the smaller one are fine, behind them is the base or nothing. */
static void test_stack_grown_disk_reads_zeros_at_the_end(void **state)
{
    struct stack *stack = *state;
    const uint64_t large = 3ull * VIRTUAL / 512 * 512;
    uint8_t *all = malloc(large), *expected = calloc(1, large);
    struct vmm_overlay grown;
    struct vmm_disk disk;
    int fd = files_temp(), i;

    for (i = 0; i < 40; i++) {
        write_random(stack);
    }
    seal(stack);
    assert_int_equal(vmm_overlay_open(&grown, fd, stack->base_fd, large, NULL), 0);
    assert_int_equal(vmm_overlay_set_layers(&grown, stack->fds, 1, NULL), 0);
    disk = vmm_overlay_disk(&grown);
    assert_true(disk.bytes == large);
    assert_int_equal(disk.read(disk.ctx, 0, &(struct iovec){all, large}, 1, large), 0);
    memcpy(expected, stack->flat, VIRTUAL);
    assert_memory_equal(all, expected, large);
    memset(all, 9, 2 * CLUSTER);
    assert_int_equal(
        disk.write(disk.ctx, VIRTUAL - 512, &(struct iovec){all, 2 * CLUSTER}, 1, 2 * CLUSTER), 0);
    memset(expected + VIRTUAL - 512, 9, 2 * CLUSTER);
    assert_int_equal(disk.read(disk.ctx, 0, &(struct iovec){all, large}, 1, large), 0);
    assert_memory_equal(all, expected, large);
    vmm_overlay_release(&grown);
    (void)close(fd);
    free(all);
    free(expected);
}

/* A larger layer, one of another base, one that is written, no overlay at all: refused,
 * and the disk goes on with what it had. */
static void test_stack_refuses_layers_that_do_not_fit(void **state)
{
    struct stack *stack = *state;
    struct shl_err err = {0};
    struct vmm_overlay other;
    int fds[2], fd = files_temp(), again;

    write_random(stack);
    seal(stack);
    write_random(stack);
    fds[0] = stack->fds[0];

    fds[1] = fd; /* empty file */
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, fds, 2, &err), SHL_ECORRUPT);
    assert_int_equal(vmm_overlay_open(&other, fd, stack->base_fd, VIRTUAL + 512, NULL), 0);
    again = files_reopen(fd, O_RDONLY);
    fds[1] = again;
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, fds, 2, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "written"));
    vmm_overlay_release(&other);
    (void)close(fd); /* with it the lock goes */
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, fds, 2, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "larger"));
    (void)close(again);

    fd = files_temp();
    assert_int_equal(vmm_overlay_open(&other, fd, -1, VIRTUAL, NULL), 0);
    vmm_overlay_release(&other);
    fds[1] = fd;
    assert_int_equal(vmm_overlay_set_layers(&stack->overlay, fds, 2, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "base"));
    (void)close(fd);
    assert_int_equal(stack->overlay.layer_count, 1);
    check_all(stack);
}

/* A sealed file cannot be opened for writing while somebody reads through it. */
static void test_stack_sealed_file_is_not_written_by_another(void **state)
{
    struct stack *stack = *state;
    struct shl_err err = {0};
    struct vmm_overlay other;
    int fd;

    write_random(stack);
    seal(stack);
    fd = files_reopen(stack->fds[0], O_RDWR);
    assert_int_equal(vmm_overlay_open(&other, fd, stack->base_fd, VIRTUAL, &err), SHL_ECONFLICT);
    (void)close(fd);
    check_all(stack);
}

/* ---- faults ---- */

static void check_seal_fails(struct stack *stack, int fd, int code)
{
    struct shl_err err = {0};
    unsigned layers = stack->overlay.layer_count;

    assert_int_equal(vmm_overlay_seal(&stack->overlay, fd, &err), code);
    assert_true(strlen(err.msg) > 0);
    assert_int_equal(stack->overlay.layer_count, layers);
    assert_int_equal(stack->overlay.top.fd, stack->fds[stack->count - 1]);
    check_all(stack);
    write_random(stack);
    check_all(stack);
}

static void test_stack_failed_seal_loses_nothing(void **state)
{
    struct stack *stack = *state;
    struct vmm_overlay other;
    int full_fd = files_temp(), zero_fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
    int read_only;

    write_random(stack);
    assert_int_equal(shl_pwrite_full(full_fd, "x", 1, 0), 0);
    check_seal_fails(stack, full_fd, SHL_EINVALIDARG);
    check_seal_fails(stack, zero_fd, SHL_EINVALIDARG);
    check_seal_fails(stack, -1, -EBADF);
    files_limit(100);
    read_only = files_temp();
    assert_int_equal(vmm_overlay_seal(&stack->overlay, read_only, NULL), -EFBIG);
    files_limit(0);
    (void)close(read_only);
    /* The old top is still locked. */
    read_only = files_reopen(stack->fds[0], O_RDWR);
    assert_int_equal(vmm_overlay_open(&other, read_only, stack->base_fd, VIRTUAL, NULL),
                     SHL_ECONFLICT);
    (void)close(read_only);
    check_all(stack);
    seal(stack);
    write_random(stack);
    reopen(stack);
    check_all(stack);
    (void)close(full_fd);
    (void)close(zero_fd);
}

/* A full file system under the top: single requests fail, seals fail, and all that
 * succeeded is there; with room again everything goes on. */
static void test_stack_full_file_system(void **state)
{
    struct stack *stack = *state;
    struct vmm_disk disk;
    struct iovec iov;
    int filler, fd, i, failed = 0;
    off_t filled = 0;
    char block[4096] = {1};

    if (!files_small_fs(6 * CLUSTER)) {
        print_message("no mount namespaces here\n");
        skip();
    }
    fd = files_small_temp();
    assert_int_equal(vmm_overlay_seal(&stack->overlay, fd, NULL), 0);
    stack->fds[stack->count++] = fd;
    filler = files_small_temp();
    assert_int_equal(posix_fallocate(filler, 0, CLUSTER), 0);
    filled = CLUSTER;
    disk = vmm_overlay_disk(&stack->overlay);
    for (i = 0; i < 200; i++) {
        uint64_t offset;
        size_t len;

        pick(stack, &offset, &len);
        memset(stack->part, i, len);
        iov = (struct iovec){stack->part, len};
        if (disk.write(disk.ctx, offset, &iov, 1, len) == 0) {
            memset(stack->flat + offset, i, len);
        } else {
            /* A request of many clusters may have got some of them done. */
            failed++;
            iov = (struct iovec){stack->flat + offset, len};
            assert_int_equal(disk.read(disk.ctx, offset, &iov, 1, len), 0);
        }
    }
    assert_true(failed > 10);
    check_all(stack);
    while (pwrite(filler, block, sizeof(block), filled) == (ssize_t)sizeof(block)) {
        filled += (off_t)sizeof(block);
    }
    assert_int_equal(errno, ENOSPC);
    fd = files_small_temp();
    assert_int_equal(vmm_overlay_seal(&stack->overlay, fd, NULL), -ENOSPC);
    (void)close(fd);
    check_all(stack);
    assert_int_equal(ftruncate(filler, 0), 0);
    seal(stack);
    check_all(stack);
    assert_int_equal(vmm_overlay_flush(&stack->overlay), 0);
    reopen(stack);
    check_all(stack);
    (void)close(filler);
    files_small_fs_end();
}

/* Data that was written before a seal is durable after the guest's flush. A descriptor
 * that cannot sync shows whether it is tried. */
static void test_stack_flush_syncs_sealed_layers(void **state)
{
    struct stack *stack = *state;
    int pipe_fds[2], real;

    write_random(stack);
    seal(stack);
    assert_true(stack->overlay.layer_unsynced[0]);
    assert_int_equal(pipe(pipe_fds), 0);
    real = stack->overlay.layers[0].fd;
    stack->overlay.layers[0].fd = pipe_fds[0];
    assert_int_equal(vmm_overlay_flush(&stack->overlay), -EINVAL);
    assert_true(stack->overlay.layer_unsynced[0]);
    stack->overlay.layers[0].fd = real;
    assert_int_equal(vmm_overlay_flush(&stack->overlay), 0);
    assert_false(stack->overlay.layer_unsynced[0]);
    stack->overlay.layers[0].fd = pipe_fds[0];
    assert_int_equal(vmm_overlay_flush(&stack->overlay), 0);
    stack->overlay.layers[0].fd = real;
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

/* complete: the file is whole for a reader, though nothing was synced. */
static void test_stack_complete_file_has_everything(void **state)
{
    struct stack *stack = *state;
    struct stack copy = *stack;
    int i;

    for (i = 0; i < 20; i++) {
        write_random(stack);
    }
    assert_int_equal(vmm_overlay_complete(&stack->overlay), 0);
    copy.fds[0] = files_copy(stack->fds[0], files_bytes(stack->fds[0]));
    assert_int_equal(vmm_overlay_open(&copy.overlay, copy.fds[0], copy.base_fd, VIRTUAL, NULL), 0);
    check_all(&copy);
    vmm_overlay_release(&copy.overlay);
    (void)close(copy.fds[0]);
}

/* ---- sealed files ---- */

static void check_sealed_refused(int fd, int code)
{
    struct vmm_sealed sealed;
    struct shl_err err = {0};

    assert_int_equal(vmm_sealed_open(&sealed, fd, &err), code);
    assert_true(strlen(err.msg) > 0);
    assert_null(sealed.bitmap);
}

static void test_sealed_damaged_files_are_refused(void **state)
{
    struct stack *stack = *state;
    uint64_t at;
    uint8_t byte;
    int fd;

    write_random(stack);
    seal(stack);
    fd = files_copy(stack->fds[0], files_bytes(stack->fds[0]));
    for (at = 0; at < 72; at++) {
        uint8_t bad;

        assert_int_equal(shl_pread_full(fd, &byte, 1, at), 0);
        bad = byte ^ 4;
        assert_int_equal(shl_pwrite_full(fd, &bad, 1, at), 0);
        check_sealed_refused(fd, at >= 8 && at < 12 ? SHL_EVERSION : SHL_ECORRUPT);
        assert_int_equal(shl_pwrite_full(fd, &byte, 1, at), 0);
    }
    byte = 0x80; /* a cluster behind the disk: bit 15 of 15 clusters */
    assert_int_equal(shl_pwrite_full(fd, &byte, 1, VMM_OVERLAY_HEADER_BYTES + 1), 0);
    check_sealed_refused(fd, SHL_ECORRUPT);
    byte = 0;
    assert_int_equal(shl_pwrite_full(fd, &byte, 1, VMM_OVERLAY_HEADER_BYTES + 1), 0);
    assert_int_equal(ftruncate(fd, (off_t)files_bytes(fd) - 1), 0);
    check_sealed_refused(fd, SHL_ECORRUPT);
    for (at = 0; at < VMM_OVERLAY_HEADER_BYTES + 16; at += at < 80 || at > 4080 ? 1 : 50) {
        int cut = files_copy(stack->fds[0], at);

        check_sealed_refused(cut, SHL_ECORRUPT);
        (void)close(cut);
    }
    (void)close(fd);
    check_sealed_refused(-1, -EBADF);
}

static void test_sealed_lists_its_clusters(void **state)
{
    struct stack *stack = *state;
    const struct vmm_sealed *layer = &stack->overlay.layers[0];
    struct vmm_disk disk = vmm_overlay_disk(&stack->overlay);
    uint8_t cluster[CLUSTER];
    uint64_t n;

    memset(cluster, 3, CLUSTER);
    memset(stack->flat + 4 * CLUSTER, 3, CLUSTER);
    memset(stack->flat + 13 * CLUSTER, 3, CLUSTER);
    assert_int_equal(
        disk.write(disk.ctx, 4 * CLUSTER, &(struct iovec){cluster, CLUSTER}, 1, CLUSTER), 0);
    assert_int_equal(
        disk.write(disk.ctx, 13 * CLUSTER, &(struct iovec){cluster, CLUSTER}, 1, CLUSTER), 0);
    seal(stack);
    assert_true(layer->header.virtual_bytes == VIRTUAL);
    assert_true(layer->header.base_bytes == BASE);
    assert_true(vmm_sealed_next(layer, 0, &n));
    assert_true(n == 4);
    assert_true(vmm_sealed_next(layer, 5, &n));
    assert_true(n == 13);
    assert_false(vmm_sealed_next(layer, 14, &n));
    assert_false(vmm_sealed_next(layer, UINT64_MAX, &n));
    assert_true(vmm_sealed_has(layer, 4));
    assert_false(vmm_sealed_has(layer, 5));
    assert_false(vmm_sealed_has(layer, UINT64_MAX));
    assert_int_equal(shl_pread_full(layer->fd, cluster, 1, vmm_sealed_offset(layer, 13)), 0);
    assert_int_equal(cluster[0], 3);
    check_all(stack);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_stack_behaves_like_a_flat_array),
        WITH(test_stack_sealed_files_never_change),
        WITH(test_stack_seal_of_an_unchanged_top),
        WITH(test_stack_zeros_hide_what_is_below),
        WITH(test_stack_has_a_limit),
        WITH(test_stack_grown_disk_reads_zeros_at_the_end),
        WITH(test_stack_refuses_layers_that_do_not_fit),
        WITH(test_stack_sealed_file_is_not_written_by_another),
        WITH(test_stack_failed_seal_loses_nothing),
        WITH(test_stack_full_file_system),
        WITH(test_stack_flush_syncs_sealed_layers),
        WITH(test_stack_complete_file_has_everything),
        WITH(test_sealed_damaged_files_are_refused),
        WITH(test_sealed_lists_its_clusters),
    };

    return cmocka_run_group_tests_name("vmm-kvm/overlay_stack", tests, NULL, NULL);
}
