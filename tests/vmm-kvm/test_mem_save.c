/* Saving memory as layers and mapping it again, against a flat copy. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/mem_save.h"

#include "files.h"
#include "test.h"

#define PAGE    VMM_PAGE_BYTES
#define BOOT    (5 * VMM_MIB) /* no multiple of 2 MiB: a gap in host memory follows */
#define HOTPLUG (12 * VMM_MIB)
#define TOTAL   (BOOT + HOTPLUG)
#define PAGES   (TOTAL / PAGE)
#define BOOTED  (BOOT / PAGE)

static int pagemap_fd = -1;

static int setup(void **state)
{
    (void)state;
    pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return pagemap_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return close(pagemap_fd);
}

/* A machine as it is saved and restored: its files, and what its memory must hold. */
struct saved {
    int base_fd;
    int layer_fds[VMM_MEM_LAYERS_MAX];
    unsigned layer_count;
    uint8_t *flat;
};

static uint8_t *page_at(const struct vmm_mem *mem, uint64_t page)
{
    uint64_t count;
    uint8_t *host = vmm_mem_page(mem, page, &count);

    assert_non_null(host);
    return host;
}

static void restore(struct vmm_mem *mem, const struct saved *saved)
{
    struct shl_err err = {0};
    int r = vmm_mem_init_restored(mem, BOOT, HOTPLUG, HOTPLUG, saved->base_fd, saved->layer_fds,
                                  saved->layer_count, &err);

    if (r < 0) {
        print_error("%s\n", err.msg);
    }
    assert_int_equal(r, 0);
}

static void check_content(const struct vmm_mem *mem, const uint8_t *flat)
{
    assert_memory_equal(page_at(mem, 0), flat, BOOT);
    assert_memory_equal(page_at(mem, BOOTED), flat + BOOT, HOTPLUG);
}

/* Saved both ways of asking the kernel: the files must be the same. */
static int save(const struct vmm_mem *mem, struct vmm_mem_save_stats *stats)
{
    struct vmm_mem_save_stats old_stats;
    struct shl_err err = {0};
    int fd = files_temp(), old_fd = files_temp();
    uint8_t *content, *old;
    uint64_t bytes, old_bytes;

    if (vmm_mem_save(mem, pagemap_fd, fd, stats, &err) < 0 ||
        vmm_mem_save_how(mem, pagemap_fd, true, old_fd, &old_stats, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    content = files_content(fd, &bytes);
    old = files_content(old_fd, &old_bytes);
    assert_true(bytes == stats->written_bytes);
    assert_true(bytes == old_bytes);
    assert_memory_equal(content, old, bytes);
    assert_true(stats->dirty_pages == old_stats.dirty_pages);
    assert_true(stats->run_count == old_stats.run_count);
    free(content);
    free(old);
    (void)close(old_fd);
    return fd;
}

/* Pages at random: filled, single bytes changed, zeroed. */
static void scribble(const struct vmm_mem *mem, uint8_t *flat, uint32_t *seed, unsigned count)
{
    while (count-- > 0) {
        uint64_t page = files_random(seed) % PAGES;
        uint64_t run = files_random(seed) % 4 == 0 ? 1 + files_random(seed) % 30 : 1;

        for (; run > 0 && page < PAGES; run--, page++) {
            uint8_t *host = page_at(mem, page);

            switch (files_random(seed) % 4) {
            case 0:
                memset(host, 0, PAGE);
                break;
            case 1:
                host[files_random(seed) % PAGE]++;
                break;
            default:
                memset(host, (int)files_random(seed), PAGE);
                break;
            }
            memcpy(flat + page * PAGE, host, PAGE);
        }
    }
}

static void drop_layers(struct saved *saved)
{
    while (saved->layer_count > 0) {
        (void)close(saved->layer_fds[--saved->layer_count]);
    }
}

/* What a template is: boot memory as a raw image; the hotplug region as one layer. */
static void flatten(struct saved *saved)
{
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;

    drop_layers(saved);
    if (saved->base_fd >= 0) {
        (void)close(saved->base_fd);
    }
    saved->base_fd = files_temp();
    assert_int_equal(shl_pwrite_full(saved->base_fd, saved->flat, BOOT, 0), 0);
    assert_int_equal(vmm_mem_init(&mem, BOOT, HOTPLUG, HOTPLUG, NULL), 0);
    memcpy(page_at(&mem, BOOTED), saved->flat + BOOT, HOTPLUG);
    saved->layer_fds[0] = save(&mem, &stats);
    saved->layer_count = 1;
    vmm_mem_release(&mem);
}

/* Booted, saved, restored, changed, saved on top, ... , twelve times. */
static void test_mem_save_restores_what_was_saved(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    uint32_t seed = 4711;
    unsigned round;

    (void)state;
    for (round = 0; round < 12; round++) {
        struct vmm_mem_save_stats stats;
        struct vmm_mem mem;
        int fd;

        if (round == 3 || saved.layer_count == VMM_MEM_LAYERS_MAX) {
            flatten(&saved);
        }
        restore(&mem, &saved);
        check_content(&mem, saved.flat);
        scribble(&mem, saved.flat, &seed, 10 + 60 * (round % 3));
        fd = save(&mem, &stats);
        saved.layer_fds[saved.layer_count++] = fd;
        check_content(&mem, saved.flat);
        vmm_mem_release(&mem);
    }
    drop_layers(&saved);
    (void)close(saved.base_fd);
    free(saved.flat);
}

/* The budget: what is written is what is dirty, plus a tenth at most. */
static void test_mem_save_writes_the_dirty_pages_only(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;
    uint32_t seed = 1;
    unsigned i;
    int fd;

    (void)state;
    for (i = 0; i < TOTAL; i++) {
        saved.flat[i] = (uint8_t)(i / PAGE + i);
    }
    flatten(&saved);
    restore(&mem, &saved);
    check_content(&mem, saved.flat); /* read all: clean pages in the page tables */
    fd = save(&mem, &stats);
    assert_true(stats.dirty_pages == 0);
    assert_true(files_bytes(fd) == VMM_LAYER_HEADER_BYTES);
    (void)close(fd);
    for (i = 0; i < 300; i++) {
        page_at(&mem, (uint64_t)i * (1 + files_random(&seed) % 14))[5]++;
    }
    fd = save(&mem, &stats);
    assert_true(stats.dirty_pages > 100);
    assert_true(stats.dirty_pages <= 300);
    assert_true(stats.written_bytes >= stats.dirty_pages * PAGE);
    assert_true(stats.written_bytes <= stats.dirty_pages * PAGE * 11 / 10 + 2 * PAGE);
    assert_true(stats.run_count <= stats.dirty_pages);
    (void)close(fd);
    vmm_mem_release(&mem);
    drop_layers(&saved);
    (void)close(saved.base_fd);
    free(saved.flat);
}

/* Zeros are left out where zeros are below, and nowhere else. */
static void test_mem_save_zeros_that_hide_something_are_kept(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;

    (void)state;
    memset(saved.flat, 1, TOTAL);
    memset(saved.flat + TOTAL - 100 * PAGE, 0, 100 * PAGE);
    flatten(&saved);
    restore(&mem, &saved);
    memset(page_at(&mem, 3), 0, PAGE);          /* over the base */
    memset(page_at(&mem, BOOTED + 3), 0, PAGE); /* over a layer */
    memset(page_at(&mem, PAGES - 50), 1, PAGE); /* over zeros: touched, then zero again */
    memset(page_at(&mem, PAGES - 50), 0, PAGE);
    memset(saved.flat + 3 * PAGE, 0, PAGE);
    memset(saved.flat + (BOOTED + 3) * PAGE, 0, PAGE);
    saved.layer_fds[saved.layer_count++] = save(&mem, &stats);
    assert_true(stats.dirty_pages == 2);
    assert_true(stats.zero_pages >= 1); /* huge pages bring more of them */
    vmm_mem_release(&mem);
    restore(&mem, &saved);
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    drop_layers(&saved);
    (void)close(saved.base_fd);
    free(saved.flat);
}

/* A discarded page is what lies below again, and clean. */
static void test_mem_save_discarded_pages_cost_nothing(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;

    (void)state;
    memset(saved.flat, 9, BOOT);
    flatten(&saved);
    restore(&mem, &saved);
    memset(page_at(&mem, 10), 1, 20 * PAGE);
    memset(page_at(&mem, BOOTED + 10), 1, 20 * PAGE);
    assert_true(vmm_mem_discard(&mem, page_at(&mem, 10), 19 * PAGE) == 19 * PAGE);
    assert_true(vmm_mem_discard(&mem, page_at(&mem, BOOTED + 10), 19 * PAGE) == 19 * PAGE);
    memset(saved.flat + 29 * PAGE, 1, PAGE);
    memset(saved.flat + (BOOTED + 29) * PAGE, 1, PAGE);
    check_content(&mem, saved.flat);
    (void)close(save(&mem, &stats));
    assert_true(stats.dirty_pages == 2);
    vmm_mem_release(&mem);
    drop_layers(&saved);
    (void)close(saved.base_fd);
    free(saved.flat);
}

/* More runs than a layer may have, and more than are mapped: still the same content. */
static void test_mem_save_scattered_pages_are_joined(void **state)
{
    const uint64_t boot = 416 * VMM_MIB;
    const uint64_t count = boot / PAGE / 2;
    struct vmm_mem_save_stats stats;
    struct vmm_layer layer;
    struct vmm_mem mem;
    uint64_t i;
    int fd = files_temp();

    (void)state;
    assert_true(count > VMM_LAYER_RUNS_MAX);
    assert_int_equal(vmm_mem_init(&mem, boot, 0, 0, NULL), 0);
    for (i = 0; i < count; i++) {
        *(uint64_t *)(void *)page_at(&mem, 2 * i) = i + 1;
    }
    assert_int_equal(vmm_mem_save(&mem, pagemap_fd, fd, &stats, NULL), 0);
    assert_true(stats.dirty_pages == count);
    assert_true(stats.run_count == VMM_LAYER_RUNS_MAX);
    vmm_mem_release(&mem);
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_true(layer.page_count == count + (count - VMM_LAYER_RUNS_MAX));
    vmm_layer_release(&layer);
    assert_int_equal(vmm_mem_init_restored(&mem, boot, 0, 0, -1, &fd, 1, NULL), 0);
    for (i = 0; i < count; i++) {
        assert_true(*(uint64_t *)(void *)page_at(&mem, 2 * i) == i + 1);
        assert_true(*(uint64_t *)(void *)page_at(&mem, 2 * i + 1) == 0);
    }
    vmm_mem_release(&mem);
    (void)close(fd);
}

/* Cheap gaps are closed, expensive ones are not. */
static void test_mem_save_small_gaps_are_closed(void **state)
{
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;
    unsigned i;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, BOOT, 0, 0, NULL), 0);
    memset(page_at(&mem, 0), 1, 160 * PAGE);
    memset(page_at(&mem, 100), 0, PAGE);
    memset(page_at(&mem, 120), 0, PAGE);
    for (i = 0; i < 5; i++) {
        memset(page_at(&mem, 300 + 100 * i), 1, PAGE);
    }
    (void)close(save(&mem, &stats));
    assert_true(stats.dirty_pages == 163);
    assert_true(stats.run_count == 6);
    assert_true(stats.written_bytes == (2 + 165) * PAGE);
    vmm_mem_release(&mem);
}

/* A full disk: an error, and the memory is as it was. */
static void test_mem_save_full_disk_loses_nothing(void **state)
{
    struct vmm_mem_save_stats stats = {.dirty_pages = 77};
    struct shl_err err = {0};
    uint8_t *flat = calloc(1, TOTAL);
    struct vmm_mem mem;
    uint32_t seed = 99;
    uint64_t limit;
    int fd;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, BOOT, HOTPLUG, HOTPLUG, NULL), 0);
    scribble(&mem, flat, &seed, 500);
    for (limit = PAGE; limit < 800 * PAGE; limit *= 5) {
        fd = files_temp();
        files_limit(limit);
        assert_int_equal(vmm_mem_save(&mem, pagemap_fd, fd, &stats, &err), -EFBIG);
        files_limit(0);
        assert_true(stats.dirty_pages == 77);
        assert_true(strlen(err.msg) > 0);
        (void)close(fd);
        check_content(&mem, flat);
    }
    if (files_small_fs(256 * 1024)) {
        fd = files_small_temp();
        assert_int_equal(vmm_mem_save(&mem, pagemap_fd, fd, &stats, &err), -ENOSPC);
        (void)close(fd);
        files_small_fs_end();
        check_content(&mem, flat);
    } else {
        print_message("no mount namespaces here: a full file system is not tried\n");
    }
    fd = save(&mem, &stats);
    vmm_mem_release(&mem);
    assert_int_equal(vmm_mem_init_restored(&mem, BOOT, HOTPLUG, HOTPLUG, -1, &fd, 1, NULL), 0);
    check_content(&mem, flat);
    vmm_mem_release(&mem);
    (void)close(fd);
    free(flat);
}

static void check_refused(uint64_t hotplug_max,
                          uint64_t hotplug_now,
                          int base_fd,
                          const int *fds,
                          unsigned count,
                          int code)
{
    struct shl_err err = {0};
    struct vmm_mem mem;

    assert_int_equal(vmm_mem_init_restored(&mem, BOOT, hotplug_max, hotplug_now, base_fd, fds,
                                           count, &err),
                     code);
    assert_true(strlen(err.msg) > 0);
    assert_null(mem.map);
}

static void test_mem_restore_refuses_files_that_do_not_fit(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    int fds[VMM_MEM_LAYERS_MAX + 1] = {0};
    int dir_fd = open("/tmp", O_RDONLY | O_CLOEXEC);

    (void)state;
    memset(saved.flat, 1, TOTAL);
    flatten(&saved);
    check_refused(0, 0, -1, saved.layer_fds, 1, SHL_ECONFLICT);         /* another machine */
    check_refused(HOTPLUG, 0, -1, saved.layer_fds, 1, SHL_EINVALIDARG); /* memory missing */
    check_refused(HOTPLUG, HOTPLUG, dir_fd, NULL, 0, SHL_EINVALIDARG);
    check_refused(HOTPLUG, HOTPLUG, -1, fds, VMM_MEM_LAYERS_MAX + 1, SHL_ELIMIT);
    check_refused(HOTPLUG, HOTPLUG, saved.layer_fds[0], NULL, 0, SHL_ECONFLICT);
    assert_int_equal(ftruncate(saved.base_fd, BOOT - 1), 0);
    check_refused(HOTPLUG, HOTPLUG, saved.base_fd, saved.layer_fds, 1, SHL_ECONFLICT);
    assert_int_equal(ftruncate(saved.base_fd, BOOT + PAGE), 0);
    check_refused(HOTPLUG, HOTPLUG, saved.base_fd, saved.layer_fds, 1, SHL_ECONFLICT);
    assert_int_equal(ftruncate(saved.layer_fds[0], 5 * PAGE), 0);
    check_refused(HOTPLUG, HOTPLUG, -1, saved.layer_fds, 1, SHL_ECORRUPT);
    drop_layers(&saved);
    (void)close(saved.base_fd);
    (void)close(dir_fd);
    free(saved.flat);
}

/* Files that are mapped are never written. */
static void test_mem_restored_memory_never_reaches_the_files(void **state)
{
    struct saved saved = {.base_fd = -1, .flat = calloc(1, TOTAL)};
    uint8_t *base, *layer, *now;
    uint64_t bytes;
    struct vmm_mem mem;

    (void)state;
    memset(saved.flat, 3, TOTAL);
    flatten(&saved);
    base = files_content(saved.base_fd, &bytes);
    layer = files_content(saved.layer_fds[0], &bytes);
    restore(&mem, &saved);
    memset(page_at(&mem, 0), 4, BOOT);
    memset(page_at(&mem, BOOTED), 4, HOTPLUG);
    vmm_mem_release(&mem);
    now = files_content(saved.base_fd, &bytes);
    assert_memory_equal(now, base, bytes);
    free(now);
    now = files_content(saved.layer_fds[0], &bytes);
    assert_memory_equal(now, layer, bytes);
    free(now);
    free(base);
    free(layer);
    drop_layers(&saved);
    (void)close(saved.base_fd);
    free(saved.flat);
}

/* ---- the working set ---- */

/* Which pages are private does not tell it: the kernel is asked as the VMM asks it. */
static bool kernel_can_populate(void)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool can;

    assert_true(page != MAP_FAILED);
    can = madvise(page, PAGE, 23 /* MADV_POPULATE_WRITE */) == 0;
    assert_int_equal(munmap(page, PAGE), 0);
    if (!can) {
        print_message("this kernel does not know MADV_POPULATE_WRITE\n");
    }
    return can;
}

/* What an earlier run of the saved machine wrote: these pages, with other content. */
static int written_by_a_run(const struct saved *saved, const uint64_t (*runs)[2], unsigned count)
{
    struct vmm_mem_save_stats stats;
    struct vmm_mem mem;
    unsigned i;
    int fd;

    restore(&mem, saved);
    for (i = 0; i < count; i++) {
        uint64_t page;

        for (page = runs[i][0]; page < runs[i][0] + runs[i][1]; page++) {
            memset(page_at(&mem, page), 0xee, PAGE);
        }
    }
    fd = save(&mem, &stats);
    vmm_mem_release(&mem);
    return fd;
}

static void populate(const struct vmm_mem *mem, int fd)
{
    struct shl_err err = {0};

    if (vmm_mem_populate(mem, fd, &err) < 0) {
        fail_msg("%s", err.msg);
    }
}

/* The last quarter of the hotplug region is zeros, the rest are not. */
static void open_saved(struct saved *saved)
{
    *saved = (struct saved){.base_fd = -1, .flat = calloc(1, TOTAL)};
    memset(saved->flat, 1, TOTAL - HOTPLUG / 4);
    flatten(saved);
}

static void close_saved(struct saved *saved)
{
    drop_layers(saved);
    (void)close(saved->base_fd);
    free(saved->flat);
}

/* Populated pages hold what they held, and a snapshot has them whether they changed or not. */
static void test_mem_populate_makes_pages_private(void **state)
{
    static const uint64_t runs[][2] = {
        {7, 1}, {100, 30}, {BOOTED - 5, 15}, {BOOTED + 200, 1}, {PAGES - 40, 4}};
    struct vmm_mem_save_stats stats;
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    if (!kernel_can_populate()) {
        skip();
    }
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, SHL_ARRAY_SIZE(runs));
    restore(&mem, &saved);
    populate(&mem, set_fd);
    check_content(&mem, saved.flat);
    memset(page_at(&mem, 105), 5, PAGE);
    memset(page_at(&mem, 3), 6, PAGE);
    memset(saved.flat + 105 * PAGE, 5, PAGE);
    memset(saved.flat + 3 * PAGE, 6, PAGE);
    saved.layer_fds[saved.layer_count++] = save(&mem, &stats);
    assert_true(stats.dirty_pages == 1 + 30 + 15 + 1 + 1); /* zeros over zeros are none */
    assert_true(stats.written_bytes <= stats.dirty_pages * PAGE * 11 / 10 + 2 * PAGE);
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    restore(&mem, &saved);
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    close_saved(&saved);
}

/* Over the base and a layer: the layer's content stays on top. */
static void test_mem_populate_over_layers_keeps_them(void **state)
{
    static const uint64_t runs[][2] = {{10, 20}};
    struct vmm_mem_save_stats stats;
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, 1);
    restore(&mem, &saved);
    memset(page_at(&mem, 12), 9, 4 * PAGE);
    memset(saved.flat + 12 * PAGE, 9, 4 * PAGE);
    saved.layer_fds[saved.layer_count++] = save(&mem, &stats);
    vmm_mem_release(&mem);
    restore(&mem, &saved);
    populate(&mem, set_fd);
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    close_saved(&saved);
}

static void test_mem_populate_has_a_limit(void **state)
{
    static const uint64_t runs[][2] = {{0, BOOTED - 1}, {BOOTED, PAGES * 5 / 8 - BOOTED}};
    struct vmm_mem_save_stats stats;
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    if (!kernel_can_populate()) {
        skip();
    }
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, SHL_ARRAY_SIZE(runs));
    assert_true(files_bytes(set_fd) > VMM_WORKING_SET_MAX_BYTES + 64 * PAGE);
    restore(&mem, &saved);
    populate(&mem, set_fd);
    check_content(&mem, saved.flat);
    (void)close(save(&mem, &stats));
    assert_true(stats.dirty_pages == VMM_WORKING_SET_MAX_BYTES / PAGE);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    close_saved(&saved);
}

/* Pages in memory that this machine does not have now are passed over. */
static void test_mem_populate_passes_over_missing_memory(void **state)
{
    static const uint64_t runs[][2] = {{20, 2}, {BOOTED - 2, 4}, {BOOTED + 60, 3}};
    struct vmm_mem_save_stats stats;
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    if (!kernel_can_populate()) {
        skip();
    }
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, SHL_ARRAY_SIZE(runs));
    assert_int_equal(vmm_mem_init_restored(&mem, BOOT, HOTPLUG, 0, saved.base_fd, NULL, 0, NULL),
                     0);
    populate(&mem, set_fd);
    (void)close(save(&mem, &stats));
    assert_true(stats.dirty_pages == 4);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    close_saved(&saved);
}

/* The kernel refuses, here because the page cannot be written: a hint, so no error. */
static void test_mem_populate_goes_on_when_the_kernel_refuses(void **state)
{
    static const uint64_t runs[][2] = {{20, 2}, {90, 3}};
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, SHL_ARRAY_SIZE(runs));
    restore(&mem, &saved);
    assert_int_equal(mprotect(page_at(&mem, 20), PAGE, PROT_READ), 0);
    populate(&mem, set_fd);
    assert_int_equal(mprotect(page_at(&mem, 20), PAGE, PROT_READ | PROT_WRITE), 0);
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    close_saved(&saved);
}

static void test_mem_populate_refuses_files_that_do_not_fit(void **state)
{
    static const uint64_t runs[][2] = {{20, 2}};
    int dir_fd = open("/tmp", O_RDONLY | O_CLOEXEC);
    struct shl_err err = {0};
    struct saved saved;
    struct vmm_mem mem;
    int set_fd;

    (void)state;
    open_saved(&saved);
    set_fd = written_by_a_run(&saved, runs, 1);
    assert_int_equal(vmm_mem_init(&mem, BOOT, 0, 0, NULL), 0); /* another machine */
    assert_int_equal(vmm_mem_populate(&mem, set_fd, &err), SHL_ECONFLICT);
    vmm_mem_release(&mem);
    restore(&mem, &saved);
    assert_true(vmm_mem_populate(&mem, dir_fd, &err) < 0);
    assert_int_equal(vmm_mem_populate(&mem, saved.base_fd, &err), SHL_ECORRUPT); /* no layer */
    assert_non_null(strstr(err.msg, "working set"));
    assert_int_equal(shl_pwrite_full(set_fd, "x", 1, VMM_LAYER_HEADER_BYTES + 1), 0);
    assert_int_equal(vmm_mem_populate(&mem, set_fd, &err), SHL_ECORRUPT); /* altered */
    assert_int_equal(ftruncate(set_fd, VMM_LAYER_HEADER_BYTES + 1), 0);
    assert_int_equal(vmm_mem_populate(&mem, set_fd, &err), SHL_ECORRUPT); /* cut off */
    check_content(&mem, saved.flat);
    vmm_mem_release(&mem);
    (void)close(set_fd);
    (void)close(dir_fd);
    close_saved(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_save_restores_what_was_saved),
        cmocka_unit_test(test_mem_save_writes_the_dirty_pages_only),
        cmocka_unit_test(test_mem_save_zeros_that_hide_something_are_kept),
        cmocka_unit_test(test_mem_save_discarded_pages_cost_nothing),
        cmocka_unit_test(test_mem_save_scattered_pages_are_joined),
        cmocka_unit_test(test_mem_save_small_gaps_are_closed),
        cmocka_unit_test(test_mem_save_full_disk_loses_nothing),
        cmocka_unit_test(test_mem_restore_refuses_files_that_do_not_fit),
        cmocka_unit_test(test_mem_restored_memory_never_reaches_the_files),
        cmocka_unit_test(test_mem_populate_makes_pages_private),
        cmocka_unit_test(test_mem_populate_over_layers_keeps_them),
        cmocka_unit_test(test_mem_populate_has_a_limit),
        cmocka_unit_test(test_mem_populate_passes_over_missing_memory),
        cmocka_unit_test(test_mem_populate_goes_on_when_the_kernel_refuses),
        cmocka_unit_test(test_mem_populate_refuses_files_that_do_not_fit),
    };

    return cmocka_run_group_tests_name("vmm-kvm/mem_save", tests, setup, teardown);
}
