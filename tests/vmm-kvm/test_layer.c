/* Memory layer files: what is written is read back; damaged ones are refused. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/sum.h"
#include "vmm-kvm/layer.h"

#include "files.h"
#include "test.h"

#define PAGE   4096u
#define MEMORY (64u * PAGE)
#define HEADER VMM_LAYER_HEADER_BYTES

static const struct vmm_layer_run three[] = {{0, 2, 0}, {3, 1, 0}, {60, 4, 0}};

/* A layer of @count runs whose pages hold their page number in each byte. */
static int make_layer(const struct vmm_layer_run *runs, uint64_t count)
{
    struct vmm_layer layer = {.fd = files_temp(), .memory_bytes = MEMORY, .run_count = count};
    struct shl_err err = {0};
    uint64_t i, p;

    layer.runs = calloc(count + 1, sizeof(*layer.runs));
    memcpy(layer.runs, runs, count * sizeof(*runs));
    assert_int_equal(vmm_layer_begin(&layer, &err), 0);
    for (i = 0; i < count; i++) {
        for (p = 0; p < layer.runs[i].page_count; p++) {
            uint8_t page[PAGE];

            memset(page, (int)(layer.runs[i].first_page + p), PAGE);
            assert_int_equal(
                shl_pwrite_full(layer.fd, page, PAGE, layer.runs[i].file_offset + p * PAGE), 0);
        }
    }
    free(layer.runs);
    return layer.fd;
}

static void check_refused(int fd, int code)
{
    struct vmm_layer layer;
    struct shl_err err = {0};

    assert_int_equal(vmm_layer_open(&layer, fd, &err), code);
    assert_int_equal(err.code, code);
    assert_true(strlen(err.msg) > 0);
    assert_null(layer.runs);
}

static void test_layer_reads_what_was_written(void **state)
{
    struct vmm_layer layer;
    uint8_t page[PAGE];
    int fd = make_layer(three, 3);

    (void)state;
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_true(layer.memory_bytes == MEMORY);
    assert_true(layer.page_count == 7);
    assert_true(layer.run_count == 3);
    assert_true(layer.data_offset == 2 * PAGE);
    assert_true(layer.runs[2].first_page == 60);
    assert_true(layer.runs[2].page_count == 4);
    assert_true(layer.runs[2].file_offset == (2 + 3) * PAGE);
    assert_int_equal(shl_pread_full(fd, page, PAGE, layer.runs[2].file_offset + PAGE), 0);
    assert_int_equal(page[17], 61);
    assert_true(files_bytes(fd) == 9 * PAGE);
    vmm_layer_release(&layer);
    (void)close(fd);
}

static void test_layer_without_runs(void **state)
{
    struct vmm_layer layer;
    int fd = make_layer(three, 0);

    (void)state;
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_true(layer.page_count == 0);
    assert_null(vmm_layer_find(&layer, 0));
    vmm_layer_release(&layer);
    (void)close(fd);
}

static void test_layer_find_gives_the_run_or_the_next(void **state)
{
    struct vmm_layer layer;
    int fd = make_layer(three, 3);

    (void)state;
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_ptr_equal(vmm_layer_find(&layer, 0), &layer.runs[0]);
    assert_ptr_equal(vmm_layer_find(&layer, 1), &layer.runs[0]);
    assert_ptr_equal(vmm_layer_find(&layer, 2), &layer.runs[1]);
    assert_ptr_equal(vmm_layer_find(&layer, 3), &layer.runs[1]);
    assert_ptr_equal(vmm_layer_find(&layer, 4), &layer.runs[2]);
    assert_ptr_equal(vmm_layer_find(&layer, 63), &layer.runs[2]);
    assert_null(vmm_layer_find(&layer, 64));
    assert_null(vmm_layer_find(&layer, UINT64_MAX));
    vmm_layer_release(&layer);
    (void)close(fd);
}

/* Each byte of header and table, and the last ones of the data. */
static void test_layer_cut_off_anywhere_is_refused(void **state)
{
    int fd = make_layer(three, 3);
    uint64_t bytes = files_bytes(fd), cut;

    (void)state;
    for (cut = 0; cut < bytes; cut += cut < HEADER + 3 * 16 + 8 ? 1 : 509) {
        int copy = files_copy(fd, cut);

        check_refused(copy, SHL_ECORRUPT);
        (void)close(copy);
    }
    assert_int_equal(ftruncate(fd, (off_t)bytes + 1), 0);
    check_refused(fd, SHL_ECORRUPT);
    (void)close(fd);
}

/* Every bit of the fields and the table; the rest of the header has no meaning. */
static void test_layer_every_damaged_byte_is_found(void **state)
{
    int fd = make_layer(three, 3);
    uint64_t at;

    (void)state;
    for (at = 0; at < HEADER + 3 * 16; at++) {
        struct vmm_layer layer;
        uint8_t byte, bad;

        if (at >= 64 && at < HEADER) {
            continue;
        }
        assert_int_equal(shl_pread_full(fd, &byte, 1, at), 0);
        bad = byte ^ (uint8_t)(1u << (at % 8));
        assert_int_equal(shl_pwrite_full(fd, &bad, 1, at), 0);
        assert_int_equal(vmm_layer_open(&layer, fd, NULL),
                         at >= 8 && at < 12 ? SHL_EVERSION : SHL_ECORRUPT);
        assert_int_equal(shl_pwrite_full(fd, &byte, 1, at), 0);
    }
    (void)close(fd);
}

struct raw {
    uint64_t memory_bytes;
    uint64_t run_count;
    uint64_t page_count;
    uint64_t data_offset;
    uint64_t table[8];
};

/* A file with right checksums and whatever content. */
static int make_raw(const struct raw *raw)
{
    uint8_t header[HEADER + sizeof(raw->table)] = {0};
    int fd = files_temp();
    size_t i;

    memcpy(header, "SHLMEM\r\n", 8);
    shl_put_le32(header + 8, 1);
    shl_put_le32(header + 12, PAGE);
    shl_put_le64(header + 16, raw->memory_bytes);
    shl_put_le64(header + 24, raw->run_count);
    shl_put_le64(header + 32, raw->page_count);
    shl_put_le64(header + 40, raw->data_offset);
    for (i = 0; i < 8; i++) {
        shl_put_le64(header + HEADER + i * 8, raw->table[i]);
    }
    shl_put_le64(header + 48,
                 shl_sum(SHL_SUM_START, header + HEADER, (size_t)(raw->run_count * 16) & 127));
    shl_put_le64(header + 56, shl_sum(SHL_SUM_START, header, 56));
    assert_int_equal(shl_pwrite_full(fd, header, sizeof(header), 0), 0);
    assert_int_equal(ftruncate(fd, (off_t)(2 * PAGE + (raw->page_count & 1023) * PAGE)), 0);
    return fd;
}

static void test_layer_that_makes_no_sense_is_refused(void **state)
{
    static const struct raw bad[] = {
        {MEMORY, 1, 1, 2 * PAGE, {64, 1}},                     /* behind the memory */
        {MEMORY, 1, 2, 2 * PAGE, {63, 2}},                     /* over its end */
        {MEMORY, 1, 0, 2 * PAGE, {3, 0}},                      /* empty run */
        {MEMORY, 2, 2, 2 * PAGE, {5, 1, 3, 1}},                /* not ascending */
        {MEMORY, 2, 3, 2 * PAGE, {3, 2, 4, 1}},                /* overlapping */
        {MEMORY, 2, 2, 2 * PAGE, {3, 1, 4, 1}},                /* touching */
        {MEMORY, 1, 1, 2 * PAGE, {3, 2}},                      /* wrong page count */
        {MEMORY, 1, 1, 2 * PAGE, {UINT64_MAX, 1}},             /* wraps */
        {MEMORY, 1, 1, 2 * PAGE, {1, UINT64_MAX}},             /* wraps */
        {MEMORY, 2, 1, 2 * PAGE, {0, UINT64_MAX, 2, 2}},       /* sum wraps to 1 */
        {MEMORY, 1, 1, 3 * PAGE, {3, 1}},                      /* data elsewhere */
        {MEMORY, 1, 1, 0, {3, 1}},                             /* data over the header */
        {MEMORY, 1u << 30, 1, 2 * PAGE, {3, 1}},               /* too many runs */
        {MEMORY, 1, 1ull << 40, 2 * PAGE, {3, 1}},             /* too many pages */
        {0, 0, 0, PAGE, {0}},                                  /* no memory */
        {MEMORY + 1, 1, 1, 2 * PAGE, {3, 1}},                  /* not whole pages */
        {VMM_LAYER_MEMORY_MAX + PAGE, 1, 1, 2 * PAGE, {3, 1}}, /* more than there is */
    };
    static const struct raw good = {MEMORY, 1, 1, 2 * PAGE, {63, 1}};
    struct vmm_layer layer;
    size_t i;
    int fd;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        fd = make_raw(&bad[i]);
        check_refused(fd, SHL_ECORRUPT);
        (void)close(fd);
    }
    fd = make_raw(&good);
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    vmm_layer_release(&layer);
    (void)close(fd);
}

static void test_layer_begin_refuses_bad_runs(void **state)
{
    struct vmm_layer_run touching[] = {{0, 2, 0}, {2, 1, 0}};
    struct vmm_layer layer = {
        .fd = files_temp(), .memory_bytes = MEMORY, .runs = touching, .run_count = 2};
    struct shl_err err = {0};

    (void)state;
    assert_int_equal(vmm_layer_begin(&layer, &err), SHL_EINVALIDARG);
    layer.run_count = VMM_LAYER_RUNS_MAX + 1;
    assert_int_equal(vmm_layer_begin(&layer, &err), SHL_EINVALIDARG);
    layer.run_count = 1;
    layer.memory_bytes = PAGE;
    assert_int_equal(vmm_layer_begin(&layer, &err), SHL_EINVALIDARG);
    assert_true(files_bytes(layer.fd) == 0);
    (void)close(layer.fd);
}

static void test_layer_full_disk_is_an_error(void **state)
{
    struct vmm_layer_run one = {0, 2, 0};
    struct vmm_layer layer = {
        .fd = files_temp(), .memory_bytes = MEMORY, .runs = &one, .run_count = 1};
    struct shl_err err = {0};

    (void)state;
    files_limit(3 * PAGE);
    assert_int_equal(vmm_layer_begin(&layer, &err), -EFBIG);
    files_limit(0);
    (void)close(layer.fd);
}

static void test_layer_of_something_else_is_refused(void **state)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    (void)state;
    check_refused(fd, SHL_ECORRUPT);
    (void)close(fd);
    check_refused(-1, -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_reads_what_was_written),
        cmocka_unit_test(test_layer_without_runs),
        cmocka_unit_test(test_layer_find_gives_the_run_or_the_next),
        cmocka_unit_test(test_layer_cut_off_anywhere_is_refused),
        cmocka_unit_test(test_layer_every_damaged_byte_is_found),
        cmocka_unit_test(test_layer_that_makes_no_sense_is_refused),
        cmocka_unit_test(test_layer_begin_refuses_bad_runs),
        cmocka_unit_test(test_layer_full_disk_is_an_error),
        cmocka_unit_test(test_layer_of_something_else_is_refused),
    };

    return cmocka_run_group_tests_name("vmm-kvm/layer", tests, NULL, NULL);
}
