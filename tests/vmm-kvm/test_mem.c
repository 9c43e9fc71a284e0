#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#include "test.h"

static void test_mem_small_guest_is_one_region(void **state)
{
    struct vmm_mem mem;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, 256 * VMM_MIB, 0, 0, NULL), 0);
    assert_int_equal(mem.region_count, 1);
    assert_true(mem.regions[0].size == 256 * VMM_MIB);
    vmm_mem_release(&mem);
}

/* RAM above 3 GiB continues at 4 GiB, and nothing crosses the hole. */
static void test_mem_large_guest_is_split_at_the_hole(void **state)
{
    struct vmm_mem mem;
    uint8_t *low, *high;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, 5 * VMM_GIB, 0, 0, NULL), 0);
    assert_int_equal(mem.region_count, 2);
    low = vmm_mem_slice(&mem, VMM_RAM_LOW_END - 1, 1);
    high = vmm_mem_slice(&mem, VMM_RAM_HIGH_START, 1);
    assert_non_null(low);
    assert_ptr_equal(high, low + 1);
    assert_null(vmm_mem_slice(&mem, VMM_RAM_LOW_END - 1, 2));
    assert_null(vmm_mem_slice(&mem, VMM_RAM_LOW_END, 1));
    assert_null(vmm_mem_slice(&mem, VMM_RAM_HIGH_START - 1, 2));
    assert_non_null(vmm_mem_slice(&mem, VMM_RAM_HIGH_START, 2 * VMM_GIB));
    assert_null(vmm_mem_slice(&mem, VMM_RAM_HIGH_START, 2 * VMM_GIB + 1));
    vmm_mem_release(&mem);
}

/* R8: no address and length may wrap around. */
static void test_mem_r8_slice_does_not_overflow(void **state)
{
    struct vmm_mem mem;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, 0, 0, NULL), 0);
    assert_null(vmm_mem_slice(&mem, UINT64_MAX, 1));
    assert_null(vmm_mem_slice(&mem, UINT64_MAX, 2));
    assert_null(vmm_mem_slice(&mem, 16, UINT64_MAX));
    assert_null(vmm_mem_slice(&mem, 16, UINT64_MAX - 15));
    assert_null(vmm_mem_slice(&mem, VMM_MIB, 0));
    assert_non_null(vmm_mem_slice(&mem, VMM_MIB - 1, 1));
    assert_null(vmm_mem_slice(&mem, VMM_MIB - 1, 2));
    assert_non_null(vmm_mem_slice(&mem, 0, VMM_MIB));
    vmm_mem_release(&mem);
}

static void test_mem_impossible_sizes_are_refused(void **state)
{
    struct vmm_mem mem;
    struct shl_err err = {0};

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, 0, 0, 0, &err), SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, 4097, 0, 0, &err), SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, UINT64_MAX & ~4095ull, 0, 0, &err), SHL_EINVALIDARG);
    assert_true(strlen(err.msg) > 0);
}

/* The region starts behind boot memory, at a multiple of 128 MiB from 4 GiB on. */
static void test_mem_hotplug_region_lies_behind_boot_memory(void **state)
{
    static const struct {
        uint64_t boot, start;
    } cases[] = {
        {128 * VMM_MIB, 4 * VMM_GIB},
        {3 * VMM_GIB, 4 * VMM_GIB},
        {3 * VMM_GIB + VMM_MIB, 4 * VMM_GIB + 128 * VMM_MIB},
        {3 * VMM_GIB + 128 * VMM_MIB, 4 * VMM_GIB + 128 * VMM_MIB},
        {5 * VMM_GIB, 6 * VMM_GIB},
    };
    struct vmm_mem mem;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        assert_int_equal(vmm_mem_init(&mem, cases[i].boot, 512 * VMM_MIB, 256 * VMM_MIB, NULL), 0);
        assert_true(mem.hotplug_start == cases[i].start);
        assert_true(mem.size == cases[i].boot);
        assert_true(vmm_mem_total_bytes(&mem) == cases[i].boot + 512 * VMM_MIB);
        assert_int_equal(mem.region_count, mem.boot_region_count + 1);
        assert_non_null(vmm_mem_slice(&mem, cases[i].start, 256 * VMM_MIB));
        assert_null(vmm_mem_slice(&mem, cases[i].start, 256 * VMM_MIB + 1));
        assert_null(vmm_mem_slice(&mem, cases[i].start - 1, 2));
        vmm_mem_release(&mem);
    }
}

/* Linux adds whole blocks of 128 MiB, as far as the region goes. */
static void test_mem_usable_part_is_whole_sections(void **state)
{
    static const struct {
        uint64_t max, now, usable; /* MiB */
    } cases[] = {{512, 0, 0},     {512, 4, 128}, {512, 128, 128},
                 {512, 132, 256}, {4, 4, 4},     {200, 132, 200}};
    struct vmm_mem mem;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        assert_int_equal(vmm_mem_init(&mem, 128 * VMM_MIB, cases[i].max * VMM_MIB,
                                      cases[i].now * VMM_MIB, NULL),
                         0);
        assert_true(mem.hotplug_usable == cases[i].usable * VMM_MIB);
        vmm_mem_release(&mem);
    }
}

static void test_mem_impossible_hotplug_sizes_are_refused(void **state)
{
    struct vmm_mem mem;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, 8 * VMM_MIB, 12 * VMM_MIB, NULL), SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, 9 * VMM_MIB, 4 * VMM_MIB, NULL), SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, 8 * VMM_MIB, 4096, NULL), SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, UINT64_MAX / (4 * VMM_MIB) * (4 * VMM_MIB), 0,
                                  NULL),
                     SHL_EINVALIDARG);
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, VMM_MEM_HOTPLUG_MAX_BYTES + 4 * VMM_MIB, 0, NULL),
                     SHL_EINVALIDARG);
}

/* Pages are numbered without the holes: boot memory, then the hotplug region. */
static void test_mem_pages_are_numbered_without_holes(void **state)
{
    const uint64_t boot_pages = 5 * VMM_GIB / VMM_PAGE_BYTES;
    struct vmm_mem mem;
    uint64_t count;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, 5 * VMM_GIB, 8 * VMM_MIB, 4 * VMM_MIB, NULL), 0);
    assert_ptr_equal(vmm_mem_page(&mem, 0, &count), vmm_mem_slice(&mem, 0, 1));
    assert_true(count == boot_pages);
    assert_ptr_equal(vmm_mem_page(&mem, VMM_RAM_LOW_END / VMM_PAGE_BYTES, &count),
                     vmm_mem_slice(&mem, VMM_RAM_HIGH_START, 1));
    assert_ptr_equal(vmm_mem_page(&mem, boot_pages, &count),
                     vmm_mem_slice(&mem, mem.hotplug_start, 1));
    assert_true(count == 8 * VMM_MIB / VMM_PAGE_BYTES);
    assert_non_null(vmm_mem_page(&mem, boot_pages + count - 1, &count));
    assert_true(count == 1);
    assert_null(vmm_mem_page(&mem, boot_pages + 8 * VMM_MIB / VMM_PAGE_BYTES, &count));
    assert_null(vmm_mem_page(&mem, UINT64_MAX, &count));
    vmm_mem_release(&mem);
}

/* Only whole pages inside the range go; what is no guest memory stays untouched. */
static void test_mem_discard_keeps_what_is_around(void **state)
{
    struct vmm_mem mem;
    uint8_t *host, own[3 * VMM_PAGE_BYTES];
    size_t i;

    (void)state;
    assert_int_equal(vmm_mem_init(&mem, VMM_MIB, 0, 0, NULL), 0);
    host = vmm_mem_slice(&mem, 0, VMM_MIB);
    memset(host, 7, 4 * VMM_PAGE_BYTES);
    assert_true(vmm_mem_discard(&mem, host + 1, 3 * VMM_PAGE_BYTES - 2) == VMM_PAGE_BYTES);
    for (i = 0; i < 4 * VMM_PAGE_BYTES; i++) {
        assert_int_equal(host[i], i / VMM_PAGE_BYTES == 1 ? 0 : 7);
    }
    assert_true(vmm_mem_discard(&mem, host + 1, VMM_PAGE_BYTES) == 0);
    assert_true(vmm_mem_discard(&mem, host, VMM_MIB + 1) == 0);
    assert_true(vmm_mem_discard(&mem, host, UINT64_MAX) == 0);
    assert_true(vmm_mem_discard(&mem, host, 0) == 0);
    memset(own, 7, sizeof(own));
    assert_true(vmm_mem_discard(&mem, own, sizeof(own)) == 0);
    assert_int_equal(own[VMM_PAGE_BYTES + 100], 7);
    vmm_mem_release(&mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_small_guest_is_one_region),
        cmocka_unit_test(test_mem_large_guest_is_split_at_the_hole),
        cmocka_unit_test(test_mem_r8_slice_does_not_overflow),
        cmocka_unit_test(test_mem_impossible_sizes_are_refused),
        cmocka_unit_test(test_mem_hotplug_region_lies_behind_boot_memory),
        cmocka_unit_test(test_mem_usable_part_is_whole_sections),
        cmocka_unit_test(test_mem_impossible_hotplug_sizes_are_refused),
        cmocka_unit_test(test_mem_pages_are_numbered_without_holes),
        cmocka_unit_test(test_mem_discard_keeps_what_is_around),
    };

    return cmocka_run_group_tests_name("vmm-kvm/mem", tests, NULL, NULL);
}
