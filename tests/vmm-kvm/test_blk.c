/* virtio-blk against a disk in memory: R9, R10, wrong requests, failing host. */
#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/blk.h"

#include "driver.h"
#include "test.h"

#define SECTORS 64u

static uint8_t content[SECTORS * 512];
static int disk_result; /* what the host answers */
static unsigned flushes;

static int disk_rw(uint64_t offset, const struct iovec *iov, unsigned count, bool write)
{
    unsigned i;

    if (disk_result < 0) {
        return disk_result;
    }
    for (i = 0; i < count; i++) {
        assert_true(offset + iov[i].iov_len <= sizeof(content));
        if (write) {
            memcpy(content + offset, iov[i].iov_base, iov[i].iov_len);
        } else {
            memcpy(iov[i].iov_base, content + offset, iov[i].iov_len);
        }
        offset += iov[i].iov_len;
    }
    return 0;
}

static int disk_read(void *ctx, uint64_t offset, const struct iovec *iov, unsigned n, size_t len)
{
    (void)ctx;
    (void)len;
    return disk_rw(offset, iov, n, false);
}

static int disk_write(void *ctx, uint64_t offset, const struct iovec *iov, unsigned n, size_t len)
{
    (void)ctx;
    (void)len;
    return disk_rw(offset, iov, n, true);
}

static int disk_zero(void *ctx, uint64_t offset, uint64_t len)
{
    (void)ctx;
    assert_true(offset + len <= sizeof(content));
    memset(content + offset, 0, len);
    return disk_result;
}

static int disk_flush(void *ctx)
{
    (void)ctx;
    flushes++;
    return disk_result;
}

static struct driver driver;
static struct vmm_blk blk;
static uint64_t header_at, data_at, status_at;

static int setup(void **state)
{
    const struct vmm_disk disk = {sizeof(content), NULL,      disk_read,
                                  disk_write,      disk_zero, disk_flush};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(content); i++) {
        content[i] = (uint8_t)(i / 512 + 1);
    }
    disk_result = 0;
    flushes = 0;
    driver_init(&driver);
    vmm_blk_init(&blk, &driver.mem, driver_irq(&driver), &disk);
    driver_start(&driver, &blk.dev, blk.dev.offered & ~VMM_F_EVENT_IDX);
    header_at = driver_alloc(&driver, 4096);
    data_at = driver_alloc(&driver, 65536);
    status_at = driver_alloc(&driver, 4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    driver_release(&driver);
    return 0;
}

static void put_header(uint32_t type, uint64_t sector)
{
    uint8_t *header = driver_at(&driver, header_at);

    shl_put_le32(header, type);
    shl_put_le32(header + 4, 0);
    shl_put_le64(header + 8, sector);
    *(uint8_t *)driver_at(&driver, status_at) = 0xee;
}

/* One request; returns the status byte, *ret_len the used length. */
static int request(uint32_t type,
                   uint64_t sector,
                   uint32_t len,
                   bool from_device,
                   uint32_t *ret_len)
{
    const struct driver_part parts[] = {
        {header_at, 16, false}, {data_at, len, from_device}, {status_at, 1, true}};
    const struct driver_part bare[] = {{header_at, 16, false}, {status_at, 1, true}};
    uint32_t head, used_len;

    put_header(type, sector);
    driver_add(&driver, 0, len ? parts : bare, len ? 3 : 2);
    assert_int_equal(driver_notify(&driver, 0), 0);
    assert_true(driver_used(&driver, 0, &head, &used_len));
    if (ret_len) {
        *ret_len = used_len;
    }
    return *(uint8_t *)driver_at(&driver, status_at);
}

static void test_blk_reads_and_writes(void **state)
{
    uint8_t *data = driver_at(&driver, data_at);
    uint32_t len;

    (void)state;
    assert_int_equal(request(0, 3, 1024, true, &len), 0);
    assert_int_equal(len, 1025);
    assert_int_equal(data[0], 4);
    assert_int_equal(data[1023], 5);
    memset(data, 0x77, 512);
    assert_int_equal(request(1, 10, 512, false, &len), 0);
    assert_int_equal(len, 1);
    assert_int_equal(content[10 * 512], 0x77);
    assert_int_equal(content[11 * 512], 12);
    assert_int_equal(blk.stats.reads, 1);
    assert_int_equal(blk.stats.write_bytes, 512);
    assert_int_equal(driver.interrupts, 2);
}

static void test_blk_flush_and_id(void **state)
{
    (void)state;
    assert_int_equal(request(4, 0, 0, false, NULL), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(request(8, 0, 20, true, NULL), 0);
    assert_string_equal(driver_at(&driver, data_at), "shoal-disk");
    assert_int_equal(request(8, 0, 19, true, NULL), 1);
}

static void test_blk_capacity_is_in_the_configuration(void **state)
{
    (void)state;
    assert_int_equal(driver_get(&driver, REG_CONFIG), SECTORS);
    assert_int_equal(driver_get(&driver, REG_CONFIG + 4), 0);
    assert_int_equal(driver_get(&driver, REG_CONFIG + 12), 254);
}

static void test_blk_r9_header_in_pieces_and_status_at_the_end(void **state)
{
    const struct driver_part parts[] = {{header_at, 4, false},
                                        {header_at + 4, 12, false},
                                        {data_at, 511, true},
                                        {data_at + 511, 2, true}};
    uint32_t head, len;

    (void)state;
    put_header(0, 0);
    driver_add(&driver, 0, parts, 4);
    assert_int_equal(driver_notify(&driver, 0), 0);
    assert_true(driver_used(&driver, 0, &head, &len));
    assert_int_equal(len, 513);
    assert_int_equal(((uint8_t *)driver_at(&driver, data_at))[511], 1);
    assert_int_equal(((uint8_t *)driver_at(&driver, data_at))[512], 0); /* status */
}

static void test_blk_r9_no_room_for_header_or_status_ends_the_vm(void **state)
{
    const struct driver_part short_header[] = {{header_at, 15, false}, {status_at, 1, true}};
    const struct driver_part no_status[] = {{header_at, 16, false}, {data_at, 512, false}};
    const struct driver_part empty_status[] = {{header_at, 16, false}, {status_at, 0, true}};

    (void)state;
    put_header(0, 0);
    driver_add(&driver, 0, short_header, 2);
    assert_int_equal(driver_notify(&driver, 0), SHL_EGUEST);
    driver_add(&driver, 0, no_status, 2);
    assert_int_equal(driver_notify(&driver, 0), SHL_EGUEST);
    driver_add(&driver, 0, empty_status, 2);
    assert_int_equal(driver_notify(&driver, 0), SHL_EGUEST);
    assert_string_equal(vmm_virtio_violation(&blk.dev),
                        "a disk request has no room for header and status");
}

static void test_blk_r9_length_is_whole_sectors(void **state)
{
    (void)state;
    assert_int_equal(request(0, 0, 511, true, NULL), 1);
    assert_int_equal(request(1, 0, 513, false, NULL), 1);
    assert_int_equal(blk.stats.errors, 2);
}

static void test_blk_r9_sector_range_does_not_overflow(void **state)
{
    static const uint64_t bad[] = {SECTORS,          SECTORS - 1,          UINT64_MAX,
                                   UINT64_MAX / 512, UINT64_MAX / 512 + 1, 1ull << 55};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        assert_int_equal(request(0, bad[i], 1024, true, NULL), 1);
        assert_int_equal(request(1, bad[i], 1024, false, NULL), 1);
    }
    assert_int_equal(request(0, SECTORS - 2, 1024, true, NULL), 0);
}

static void test_blk_unknown_type_is_unsupported(void **state)
{
    (void)state;
    assert_int_equal(request(77, 0, 512, true, NULL), 2);
    assert_int_equal(request(2, 0, 512, true, NULL), 2);
}

/* A full disk of the host is an I/O error of that request, and the next one works. */
static void test_blk_host_errors_are_io_errors(void **state)
{
    (void)state;
    disk_result = -ENOSPC;
    assert_int_equal(request(1, 0, 512, false, NULL), 1);
    assert_int_equal(request(4, 0, 0, false, NULL), 1);
    disk_result = 0;
    assert_int_equal(request(1, 0, 512, false, NULL), 0);
    assert_int_equal(blk.stats.errors, 2);
}

static int zero_request(uint32_t type, uint64_t sector, uint32_t count, uint32_t bytes)
{
    uint8_t *segment = driver_at(&driver, data_at);

    shl_put_le64(segment, sector);
    shl_put_le32(segment + 8, count);
    shl_put_le32(segment + 12, 0);
    return request(type, 0, bytes, false, NULL);
}

static void test_blk_discard_and_write_zeroes_leave_zeros(void **state)
{
    (void)state;
    assert_int_equal(zero_request(11, 2, 2, 16), 0);
    assert_int_equal(content[2 * 512], 0);
    assert_int_equal(content[4 * 512 - 1], 0);
    assert_int_equal(content[4 * 512], 5);
    assert_int_equal(zero_request(13, 62, 2, 16), 0);
    assert_int_equal(zero_request(13, 62, 3, 16), 1);
    assert_int_equal(zero_request(13, UINT64_MAX, 1, 16), 1);
    assert_int_equal(zero_request(13, 0, UINT32_MAX, 16), 1);
    assert_int_equal(zero_request(13, 0, 1, 15), 1);
    assert_int_equal(zero_request(13, 0, 1, 16 * 9), 1);
    assert_int_equal(request(11, 0, 0, false, NULL), 1);
}

/* R10: one call serves a bounded number of requests and says that more is there. */
static void test_blk_r10_a_flood_does_not_hold_the_thread(void **state)
{
    const struct driver_part parts[] = {{header_at, 16, false}, {status_at, 1, true}};
    uint32_t head, len;
    unsigned i;

    (void)state;
    put_header(4, 0);
    for (i = 0; i < 100; i++) {
        driver_add(&driver, 0, parts, 2);
    }
    assert_int_equal(driver_notify(&driver, 0), 1);
    assert_int_equal(flushes, VMM_SERVE_MAX);
    assert_int_equal(driver_notify(&driver, 0), 0);
    assert_int_equal(flushes, 100);
    for (i = 0; i < 100; i++) {
        assert_true(driver_used(&driver, 0, &head, &len));
    }
}

/* A larger disk after a restore: the guest sees the old size until it is told. */
static void test_blk_grows(void **state)
{
    const struct vmm_disk large = {2 * sizeof(content), NULL,      disk_read,
                                   disk_write,          disk_zero, disk_flush};
    struct vmm_blk restored;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 64);
    assert_int_equal(vmm_blk_save(&blk, &buf), 0);
    vmm_blk_init(&restored, &driver.mem, driver_irq(&driver), &large);
    assert_int_equal(vmm_blk_restore(&restored, shl_buf_bytes(&buf), NULL), 0);
    driver_start(&driver, &restored.dev, restored.dev.offered);
    assert_int_equal(driver_get(&driver, REG_CONFIG), SECTORS);
    driver.interrupts = 0;
    vmm_blk_grow(&restored, sizeof(content));
    assert_int_equal(driver.interrupts, 0);
    vmm_blk_grow(&restored, 2 * sizeof(content));
    assert_int_equal(driver.interrupts, 1);
    assert_true(vmm_mmio_interrupt_status(&restored.dev) & VMM_INTERRUPT_CONFIG);
    assert_int_equal(driver_get(&driver, REG_CONFIG), 2 * SECTORS);
    shl_buf_release(&buf);
}

static void test_blk_state_that_does_not_fit_is_refused(void **state)
{
    struct shl_err err = {0};
    uint8_t raw[8];

    (void)state;
    shl_put_le64(raw, sizeof(content) + 512); /* the disk became smaller */
    assert_int_equal(vmm_blk_restore(&blk, shl_bytes_of(raw, 8), &err), SHL_EINVALIDARG);
    shl_put_le64(raw, 513);
    assert_int_equal(vmm_blk_restore(&blk, shl_bytes_of(raw, 8), &err), SHL_ECORRUPT);
    shl_put_le64(raw, 0);
    assert_int_equal(vmm_blk_restore(&blk, shl_bytes_of(raw, 8), &err), SHL_ECORRUPT);
    assert_int_equal(vmm_blk_restore(&blk, shl_bytes_of(raw, 7), &err), SHL_ECORRUPT);
    assert_int_equal(driver_get(&driver, REG_CONFIG), SECTORS);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_blk_reads_and_writes),
        WITH(test_blk_flush_and_id),
        WITH(test_blk_capacity_is_in_the_configuration),
        WITH(test_blk_r9_header_in_pieces_and_status_at_the_end),
        WITH(test_blk_r9_no_room_for_header_or_status_ends_the_vm),
        WITH(test_blk_r9_length_is_whole_sectors),
        WITH(test_blk_r9_sector_range_does_not_overflow),
        WITH(test_blk_unknown_type_is_unsupported),
        WITH(test_blk_host_errors_are_io_errors),
        WITH(test_blk_discard_and_write_zeroes_leave_zeros),
        WITH(test_blk_r10_a_flood_does_not_hold_the_thread),
        WITH(test_blk_grows),
        WITH(test_blk_state_that_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests_name("vmm-kvm/blk", tests, NULL, NULL);
}
