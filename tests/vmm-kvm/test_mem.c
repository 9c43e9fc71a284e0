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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mem_small_guest_is_one_region),
        cmocka_unit_test(test_mem_large_guest_is_split_at_the_hole),
        cmocka_unit_test(test_mem_r8_slice_does_not_overflow),
        cmocka_unit_test(test_mem_impossible_sizes_are_refused),
    };

    return cmocka_run_group_tests_name("vmm-kvm/mem", tests, NULL, NULL);
}
