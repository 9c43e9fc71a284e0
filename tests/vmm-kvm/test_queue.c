/* Rules R1 and R5 to R9 and R12 on the queue walker itself. Built with the guest load
 * hook, so that a test can change memory between two reads as a hostile vCPU would. */
#include "base/buf.h"
#include "base/err.h"

#include "driver.h"
#include "test.h"

/* ---- a device that only keeps what it popped ---- */

static int no_notify(struct vmm_virtio *dev, unsigned index)
{
    (void)dev;
    (void)index;
    return 0;
}

static const struct vmm_virtio_ops plain_ops = {
    .name = "plain",
    .device_id = 99,
    .queue_count = 1,
    .queue_sizes = {16},
    .notify = no_notify,
};

static struct driver driver;
static struct vmm_virtio dev;
static struct vmm_chain chain;
static void (*load_hook)(void);

void vmm_guest_load_hook(void)
{
    if (load_hook) {
        load_hook();
    }
}

static int setup(void **state)
{
    (void)state;
    load_hook = NULL;
    driver_init(&driver);
    vmm_virtio_init(&dev, &plain_ops, 0, &driver.mem, driver_irq(&driver));
    driver_start(&driver, &dev, 0);
    return 0;
}

static int setup_event_idx(void **state)
{
    int r = setup(state);

    driver_start(&driver, &dev, VMM_F_EVENT_IDX);
    return r;
}

static int teardown(void **state)
{
    (void)state;
    driver_release(&driver);
    return 0;
}

static int pop(void)
{
    return vmm_queue_pop(&dev.queues[0], &driver.mem, &chain);
}

static void put_avail_idx(uint16_t idx)
{
    shl_put_le16((uint8_t *)driver_at(&driver, driver.queues[0].avail) + 2, idx);
}

/* ---- the normal path ---- */

static void test_queue_pop_gives_the_parts_in_order(void **state)
{
    const struct driver_part parts[] = {
        {0x200000, 16, false}, {0x201000, 100, false}, {0x202000, 512, true}, {0x203000, 1, true}};
    uint32_t head, len;

    (void)state;
    assert_int_equal(pop(), 0);
    driver_add(&driver, 0, parts, 4);
    assert_int_equal(pop(), 1);
    assert_int_equal(chain.read_count, 2);
    assert_int_equal(chain.write_count, 2);
    assert_int_equal(chain.read_bytes, 116);
    assert_int_equal(chain.write_bytes, 513);
    assert_ptr_equal(chain.iov[2].iov_base, driver_at(&driver, 0x202000));
    assert_int_equal(pop(), 0);
    vmm_queue_push(&dev.queues[0], chain.head, 77);
    assert_true(driver_used(&driver, 0, &head, &len));
    assert_int_equal(head, chain.head);
    assert_int_equal(len, 77);
}

static void test_queue_indexes_wrap_around(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    uint32_t head, len, i;

    (void)state;
    for (i = 0; i < 3 * 65536u; i++) {
        uint16_t expected = driver_add(&driver, 0, &part, 1);

        assert_int_equal(pop(), 1);
        assert_int_equal(chain.head, expected);
        vmm_queue_push(&dev.queues[0], chain.head, 4);
        assert_true(driver_used(&driver, 0, &head, &len));
    }
}

static void test_queue_unpop_gives_the_same_request_again(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    uint16_t head = driver_add(&driver, 0, &part, 1);

    (void)state;
    assert_int_equal(pop(), 1);
    vmm_queue_unpop(&dev.queues[0]);
    assert_true(vmm_queue_has_work(&dev.queues[0]));
    assert_int_equal(pop(), 1);
    assert_int_equal(chain.head, head);
}

static void test_queue_flat_copies_cross_parts(void **state)
{
    const struct driver_part parts[] = {
        {0x200000, 3, false}, {0x201000, 5, false}, {0x202000, 2, true}, {0x203000, 4, true}};
    char flat[16] = {0};

    (void)state;
    memcpy(driver_at(&driver, 0x200000), "abc", 3);
    memcpy(driver_at(&driver, 0x201000), "defgh", 5);
    driver_add(&driver, 0, parts, 4);
    assert_int_equal(pop(), 1);
    assert_int_equal(vmm_chain_read(&chain, 2, flat, 4), 4);
    assert_string_equal(flat, "cdef");
    assert_int_equal(vmm_chain_read(&chain, 6, flat, 16), 2);
    assert_int_equal(vmm_chain_read(&chain, 8, flat, 16), 0);
    assert_int_equal(vmm_chain_write(&chain, 1, "vwxyz", 5), 5);
    assert_memory_equal((char *)driver_at(&driver, 0x202000) + 1, "v", 1);
    assert_memory_equal(driver_at(&driver, 0x203000), "wxyz", 4);
    assert_int_equal(vmm_chain_write(&chain, 4, "0123456", 7), 2);
}

/* The driver polls: the buffers of one frame must not show up one by one. */
static void test_queue_filled_requests_show_up_together(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    uint32_t head, len;
    int i;

    (void)state;
    for (i = 0; i < 3; i++) {
        driver_add(&driver, 0, &part, 1);
        assert_int_equal(pop(), 1);
        vmm_queue_fill(&dev.queues[0], chain.head, 4);
        assert_false(driver_used(&driver, 0, &head, &len));
    }
    vmm_queue_publish(&dev.queues[0]);
    for (i = 0; i < 3; i++) {
        assert_true(driver_used(&driver, 0, &head, &len));
    }
    assert_false(driver_used(&driver, 0, &head, &len));
}

/* ---- R1 ---- */

static int activate_with(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
    struct vmm_queue queue;

    vmm_queue_init(&queue, 256);
    queue.size = size;
    queue.desc_addr = desc;
    queue.avail_addr = avail;
    queue.used_addr = used;
    return vmm_queue_activate(&queue, &driver.mem, false);
}

static void test_queue_r1_size_is_a_power_of_two_within_the_limit(void **state)
{
    uint32_t size;

    (void)state;
    for (size = 0; size <= UINT16_MAX; size++) {
        bool fine = size > 0 && size <= 256 && (size & (size - 1)) == 0;

        assert_int_equal(activate_with((uint16_t)size, 0x1000, 0x3000, 0x5000),
                         fine ? 0 : SHL_EGUEST);
    }
}

static void test_queue_r1_rings_are_aligned(void **state)
{
    uint64_t i;

    (void)state;
    for (i = 0; i < 32; i++) {
        assert_int_equal(activate_with(16, 0x1000 + i, 0x3000, 0x5000), i % 16 ? SHL_EGUEST : 0);
        assert_int_equal(activate_with(16, 0x1000, 0x3000 + i, 0x5000), i % 2 ? SHL_EGUEST : 0);
        assert_int_equal(activate_with(16, 0x1000, 0x3000, 0x5000 + i), i % 4 ? SHL_EGUEST : 0);
    }
}

static void test_queue_r1_rings_lie_in_one_region(void **state)
{
    const uint64_t end = DRIVER_MEMORY;
    struct vmm_mem two;

    (void)state;
    assert_int_equal(activate_with(16, end - 256, 0x3000, 0x5000), 0);
    assert_int_equal(activate_with(16, end - 240, 0x3000, 0x5000), SHL_EGUEST);
    assert_int_equal(activate_with(16, 0x1000, end - 38, 0x5000), 0);
    assert_int_equal(activate_with(16, 0x1000, end - 36, 0x5000), SHL_EGUEST);
    assert_int_equal(activate_with(16, 0x1000, 0x3000, end - 136), 0);
    assert_int_equal(activate_with(16, 0x1000, 0x3000, end - 132), SHL_EGUEST);
    assert_int_equal(activate_with(16, UINT64_MAX - 15, 0x3000, 0x5000), SHL_EGUEST);
    assert_int_equal(activate_with(16, 0xd0000000, 0x3000, 0x5000), SHL_EGUEST);
    /* Across the border of two regions that touch: still refused. */
    two = driver.mem;
    two.region_count = 2;
    two.regions[0].size = 0x100000;
    two.regions[1] = (struct vmm_mem_region){0x100000, 0x100000, two.regions[0].host + 0x100000};
    dev.queues[0].desc_addr = 0x100000 - 16;
    assert_int_equal(vmm_queue_activate(&dev.queues[0], &two, false), SHL_EGUEST);
}

/* ---- R5 ---- */

static void test_queue_r5_avail_index_far_ahead_is_a_violation(void **state)
{
    (void)state;
    put_avail_idx(17);
    assert_int_equal(pop(), SHL_EGUEST);
    assert_non_null(dev.queues[0].violation);
    put_avail_idx(0xffff);
    assert_int_equal(pop(), SHL_EGUEST);
}

static void test_queue_r5_a_full_queue_is_fine(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    int i;

    (void)state;
    for (i = 0; i < 16; i++) {
        driver_add(&driver, 0, &part, 1);
    }
    for (i = 0; i < 16; i++) {
        assert_int_equal(pop(), 1);
    }
    assert_int_equal(pop(), 0);
}

/* ---- R6 ---- */

static void test_queue_r6_head_beyond_the_queue(void **state)
{
    (void)state;
    driver_offer(&driver, 0, 16);
    assert_int_equal(pop(), SHL_EGUEST);
}

static void test_queue_r6_next_beyond_the_queue(void **state)
{
    (void)state;
    driver_put_desc(&driver, 0, 0, 0x200000, 4, F_NEXT, 16);
    driver_offer(&driver, 0, 0);
    assert_int_equal(pop(), SHL_EGUEST);
}

static void test_queue_r6_a_loop_ends(void **state)
{
    (void)state;
    driver_put_desc(&driver, 0, 0, 0x200000, 4, F_NEXT, 1);
    driver_put_desc(&driver, 0, 1, 0x200000, 4, F_NEXT, 0);
    driver_offer(&driver, 0, 0);
    assert_int_equal(pop(), SHL_EGUEST);
    driver_put_desc(&driver, 0, 2, 0x200000, 4, F_NEXT, 2);
    driver_offer(&driver, 0, 2);
    assert_int_equal(pop(), SHL_EGUEST);
}

static void test_queue_r6_longest_chain_is_the_queue(void **state)
{
    struct driver_part parts[16];
    int i;

    (void)state;
    for (i = 0; i < 16; i++) {
        parts[i] = (struct driver_part){0x200000, 1, i >= 8};
    }
    driver_add(&driver, 0, parts, 16);
    assert_int_equal(pop(), 1);
    assert_int_equal(chain.read_count + chain.write_count, 16);
}

/* Indirect (4) and other bits were not offered: they mean nothing. */
static void test_queue_r6_unknown_flags_are_ignored(void **state)
{
    (void)state;
    driver_put_desc(&driver, 0, 0, 0x200000, 4, 0xfffc, 16);
    driver_offer(&driver, 0, 0);
    assert_int_equal(pop(), 1);
    assert_int_equal(chain.read_count, 1);
}

/* ---- R7 ---- */

static unsigned loads;

/* After the length was checked, make address and length point outside. */
static void flip_descriptor(void)
{
    loads++;
    if (loads >= 4) { /* avail idx, head, addr, then this one: len, flags, next */
        uint8_t *at = driver_at(&driver, driver.queues[0].desc);

        shl_put_le64(at, 0xfffffffff000ull);
    }
}

static void flip_everything(void)
{
    static uint32_t seed = 1;
    uint8_t *desc = driver_at(&driver, driver.queues[0].desc);
    uint8_t *avail = driver_at(&driver, driver.queues[0].avail);

    seed = seed * 1664525u + 1013904223u;
    desc[(seed >> 8) % 256] = (uint8_t)(seed >> 24);
    seed = seed * 1664525u + 1013904223u;
    avail[(seed >> 8) % 38] = (uint8_t)(seed >> 24);
}

static void test_queue_r7_a_descriptor_is_read_once(void **state)
{
    (void)state;
    driver_put_desc(&driver, 0, 0, 0x200000, 64, 0, 0);
    driver_offer(&driver, 0, 0);
    loads = 0;
    load_hook = flip_descriptor;
    assert_int_equal(pop(), 1);
    load_hook = NULL;
    assert_int_equal(loads, 4);
    assert_ptr_equal(chain.iov[0].iov_base, driver_at(&driver, 0x200000));
    assert_int_equal(chain.iov[0].iov_len, 64);
}

static bool inside(const struct iovec *part)
{
    const uint8_t *low = driver.mem.regions[0].host;
    const uint8_t *base = part->iov_base;

    return base >= low && part->iov_len <= DRIVER_MEMORY &&
           base + part->iov_len <= low + DRIVER_MEMORY;
}

/* Whatever changes between reads, what comes out lies in guest memory. */
static void test_queue_r7_changing_memory_never_escapes(void **state)
{
    int round, i;

    (void)state;
    load_hook = flip_everything;
    for (round = 0; round < 200000; round++) {
        if (pop() == 1) {
            for (i = 0; i < chain.read_count + chain.write_count; i++) {
                assert_true(inside(&chain.iov[i]));
            }
            vmm_queue_push(&dev.queues[0], chain.head, 0);
        }
        (void)vmm_queue_wants_interrupt(&dev.queues[0]);
    }
    load_hook = NULL;
}

/* ---- R8 ---- */

static void test_queue_r8_buffers_lie_in_ram(void **state)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
    } bad[] = {
        {DRIVER_MEMORY, 1},  {DRIVER_MEMORY - 1, 2}, {0xd0000000, 4},          {UINT64_MAX, 1},
        {UINT64_MAX - 3, 8}, {0x200000, UINT32_MAX}, {0xffffffff00000000, 16},
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        driver_put_desc(&driver, 0, 0, bad[i].addr, bad[i].len, 0, 0);
        driver_offer(&driver, 0, 0);
        assert_int_equal(pop(), SHL_EGUEST);
    }
}

static void test_queue_r8_total_fits_32_bits(void **state)
{
    struct vmm_mem large;
    struct driver_part parts[2] = {{0, 0x80000000u, true}, {0, 0x80000000u, true}};

    (void)state;
    /* 3 GiB of reserved, never touched memory; the rings stay in the small one. */
    assert_int_equal(vmm_mem_init(&large, 3ull << 30, 0, 0, NULL), 0);
    driver_add(&driver, 0, parts, 2);
    assert_int_equal(vmm_queue_pop(&dev.queues[0], &large, &chain), SHL_EGUEST);
    parts[1].len = 0x7fffffffu;
    driver_add(&driver, 0, parts, 2);
    assert_int_equal(vmm_queue_pop(&dev.queues[0], &large, &chain), 1);
    assert_int_equal(chain.write_bytes, UINT32_MAX);
    vmm_mem_release(&large);
}

/* ---- R9 ---- */

static void test_queue_r9_readable_parts_come_first(void **state)
{
    const struct driver_part parts[] = {{0x200000, 16, true}, {0x201000, 16, false}};

    (void)state;
    driver_add(&driver, 0, parts, 2);
    assert_int_equal(pop(), SHL_EGUEST);
}

/* ---- R12 ---- */

/* A restored queue is the struct of a file: the same checks run before it is used. */
static void test_queue_r12_restored_state_is_checked_again(void **state)
{
    struct vmm_queue restored = dev.queues[0];

    (void)state;
    restored.size = 3;
    assert_int_equal(vmm_queue_activate(&restored, &driver.mem, false), SHL_EGUEST);
    assert_false(restored.active);
    restored = dev.queues[0];
    restored.used_addr = DRIVER_MEMORY - 4;
    assert_int_equal(vmm_queue_activate(&restored, &driver.mem, false), SHL_EGUEST);
    restored = dev.queues[0];
    restored.next_avail = 1000; /* far from avail.idx: R5 catches it */
    assert_int_equal(vmm_queue_activate(&restored, &driver.mem, false), 0);
    assert_int_equal(vmm_queue_pop(&restored, &driver.mem, &chain), SHL_EGUEST);
}

/* ---- notifications ---- */

static void test_queue_flags_suppress_notifications_and_interrupts(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    uint8_t *used = driver_at(&driver, driver.queues[0].used);
    uint8_t *avail = driver_at(&driver, driver.queues[0].avail);

    (void)state;
    vmm_queue_disable_notify(&dev.queues[0]);
    assert_int_equal(shl_get_le16(used), 1);
    assert_false(vmm_queue_enable_notify(&dev.queues[0]));
    assert_int_equal(shl_get_le16(used), 0);
    driver_add(&driver, 0, &part, 1);
    assert_true(vmm_queue_enable_notify(&dev.queues[0]));
    assert_int_equal(pop(), 1);
    assert_false(vmm_queue_wants_interrupt(&dev.queues[0]));
    vmm_queue_push(&dev.queues[0], chain.head, 0);
    assert_true(vmm_queue_wants_interrupt(&dev.queues[0]));
    assert_false(vmm_queue_wants_interrupt(&dev.queues[0]));
    shl_put_le16(avail, 1); /* VIRTQ_AVAIL_F_NO_INTERRUPT */
    vmm_queue_push(&dev.queues[0], chain.head, 0);
    assert_false(vmm_queue_wants_interrupt(&dev.queues[0]));
}

static void test_queue_event_idx_asks_where_the_driver_wants(void **state)
{
    const struct driver_part part = {0x200000, 4, true};
    uint8_t *used = driver_at(&driver, driver.queues[0].used);
    uint8_t *avail = driver_at(&driver, driver.queues[0].avail);
    uint8_t *used_event = avail + 4 + 2 * 16;
    uint8_t *avail_event = used + 4 + 8 * 16;
    int i;

    (void)state;
    assert_true(dev.queues[0].event_idx);
    for (i = 0; i < 3; i++) {
        driver_add(&driver, 0, &part, 1);
    }
    shl_put_le16(used_event, 1); /* interrupt when entry 1 is used */
    assert_int_equal(pop(), 1);
    vmm_queue_push(&dev.queues[0], chain.head, 0);
    assert_false(vmm_queue_wants_interrupt(&dev.queues[0]));
    assert_int_equal(pop(), 1);
    vmm_queue_push(&dev.queues[0], chain.head, 0);
    assert_true(vmm_queue_wants_interrupt(&dev.queues[0]));
    assert_true(vmm_queue_enable_notify(&dev.queues[0]));
    assert_int_equal(shl_get_le16(avail_event), 2);
    vmm_queue_await_more(&dev.queues[0]); /* beyond those already there */
    assert_int_equal(shl_get_le16(avail_event), 3);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_queue_pop_gives_the_parts_in_order),
        WITH(test_queue_indexes_wrap_around),
        WITH(test_queue_unpop_gives_the_same_request_again),
        WITH(test_queue_flat_copies_cross_parts),
        WITH(test_queue_filled_requests_show_up_together),
        WITH(test_queue_r1_size_is_a_power_of_two_within_the_limit),
        WITH(test_queue_r1_rings_are_aligned),
        WITH(test_queue_r1_rings_lie_in_one_region),
        WITH(test_queue_r5_avail_index_far_ahead_is_a_violation),
        WITH(test_queue_r5_a_full_queue_is_fine),
        WITH(test_queue_r6_head_beyond_the_queue),
        WITH(test_queue_r6_next_beyond_the_queue),
        WITH(test_queue_r6_a_loop_ends),
        WITH(test_queue_r6_longest_chain_is_the_queue),
        WITH(test_queue_r6_unknown_flags_are_ignored),
        WITH(test_queue_r7_a_descriptor_is_read_once),
        WITH(test_queue_r7_changing_memory_never_escapes),
        WITH(test_queue_r8_buffers_lie_in_ram),
        WITH(test_queue_r8_total_fits_32_bits),
        WITH(test_queue_r9_readable_parts_come_first),
        WITH(test_queue_r12_restored_state_is_checked_again),
        WITH(test_queue_flags_suppress_notifications_and_interrupts),
        cmocka_unit_test_setup_teardown(test_queue_event_idx_asks_where_the_driver_wants,
                                        setup_event_idx, teardown),
    };

    return cmocka_run_group_tests_name("vmm-kvm/queue", tests, NULL, NULL);
}
