/* The register file: rules R2, R3, R4 and R11. */
#include "base/buf.h"

#include "driver.h"
#include "test.h"

static int activations, resets;

static void on_activate(struct vmm_virtio *dev)
{
    (void)dev;
    activations++;
}

static void on_reset(struct vmm_virtio *dev)
{
    (void)dev;
    resets++;
}

static int no_notify(struct vmm_virtio *dev, unsigned index)
{
    (void)dev;
    (void)index;
    return 0;
}

static void read_config(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    static const uint8_t content[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    (void)dev;
    memcpy(dst, content + offset, len);
}

static const struct vmm_virtio_ops plain_ops = {
    .name = "plain",
    .device_id = 42,
    .queue_count = 2,
    .queue_sizes = {16, 32},
    .config_bytes = 8,
    .config_read = read_config,
    .activate = on_activate,
    .notify = no_notify,
    .reset = on_reset,
};

#define FEATURE_A (1ull << 3)

static struct driver driver;
static struct vmm_virtio dev;

static int setup(void **state)
{
    (void)state;
    activations = 0;
    resets = 0;
    driver_init(&driver);
    vmm_virtio_init(&dev, &plain_ops, FEATURE_A, &driver.mem, driver_irq(&driver));
    driver.dev = &dev;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    driver_release(&driver);
    return 0;
}

static void test_mmio_identity(void **state)
{
    (void)state;
    assert_int_equal(driver_get(&driver, 0x000), 0x74726976);
    assert_int_equal(driver_get(&driver, 0x004), 2);
    assert_int_equal(driver_get(&driver, 0x008), 42);
    driver_set(&driver, REG_DEVICE_FEATURES_SEL, 0);
    assert_int_equal(driver_get(&driver, REG_DEVICE_FEATURES), FEATURE_A | VMM_F_EVENT_IDX);
    driver_set(&driver, REG_DEVICE_FEATURES_SEL, 1);
    assert_int_equal(driver_get(&driver, REG_DEVICE_FEATURES), 1);
    driver_set(&driver, REG_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(driver_get(&driver, REG_DEVICE_FEATURES), 0);
    assert_int_equal(driver_get(&driver, 0x0b0), UINT32_MAX);
    assert_int_equal(driver_get(&driver, 0x0bc), UINT32_MAX);
}

static void test_mmio_start_up_activates_once(void **state)
{
    (void)state;
    driver_negotiate(&driver, FEATURE_A);
    assert_int_equal(driver_get(&driver, REG_STATUS), 11);
    driver_add_queue(&driver, 0, 16);
    driver_add_queue(&driver, 1, 8);
    assert_int_equal(driver_ok(&driver), 1);
    assert_int_equal(driver_ok(&driver), 0);
    assert_int_equal(activations, 1);
    assert_true(vmm_virtio_queue_is_active(&dev, 1));
    assert_false(vmm_virtio_queue_is_active(&dev, 2));
    driver_set(&driver, REG_STATUS, 0);
    assert_int_equal(resets, 2); /* one more from the start of negotiate */
    assert_int_equal(driver_get(&driver, REG_STATUS), 0);
    assert_false(vmm_virtio_queue_is_active(&dev, 0));
}

/* A queue that was never enabled stays unusable, the others work. */
static void test_mmio_unused_queue_is_not_active(void **state)
{
    (void)state;
    driver_negotiate(&driver, 0);
    driver_add_queue(&driver, 1, 32);
    assert_int_equal(driver_ok(&driver), 1);
    assert_false(vmm_virtio_queue_is_active(&dev, 0));
    assert_true(vmm_virtio_queue_is_active(&dev, 1));
}

/* ---- R1 at activation ---- */

static void test_mmio_r1_bad_queue_asks_for_reset(void **state)
{
    (void)state;
    driver_negotiate(&driver, 0);
    driver_add_queue(&driver, 0, 16);
    driver_set(&driver, REG_QUEUE_NUM, 17);
    assert_int_equal(driver_ok(&driver), 0);
    assert_int_equal(activations, 0);
    assert_true(driver_get(&driver, REG_STATUS) & VMM_STATUS_NEEDS_RESET);
    assert_int_equal(driver.interrupts, 1);
    assert_int_equal(vmm_mmio_interrupt_status(&dev), VMM_INTERRUPT_CONFIG);
    assert_false(vmm_virtio_is_active(&dev));
    assert_false(vmm_virtio_queue_is_active(&dev, 0));
    driver_set(&driver, REG_STATUS, 0);
    driver_start(&driver, &dev, 0);
    assert_true(vmm_virtio_is_active(&dev));
}

/* ---- R2 ---- */

static void try_queue_writes(void)
{
    driver_set(&driver, REG_QUEUE_SEL, 0);
    driver_set(&driver, REG_QUEUE_NUM, 4);
    driver_set(&driver, REG_QUEUE_READY, 1);
    driver_set(&driver, REG_QUEUE_DESC, 0x1000);
    driver_set(&driver, REG_QUEUE_DESC + 4, 1);
    driver_set(&driver, REG_QUEUE_DRIVER, 0x2000);
    driver_set(&driver, REG_QUEUE_DRIVER + 4, 1);
    driver_set(&driver, REG_QUEUE_DEVICE, 0x3000);
    driver_set(&driver, REG_QUEUE_DEVICE + 4, 1);
}

static void test_mmio_r2_queue_fields_are_frozen_before_features_ok(void **state)
{
    static const uint32_t statuses[] = {0, 1, 3};
    struct vmm_queue before = dev.queues[0];
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(statuses); i++) {
        driver_set(&driver, REG_STATUS, statuses[i]);
        try_queue_writes();
        assert_memory_equal(&dev.queues[0], &before, sizeof(before));
    }
    assert_int_equal(dev.ignored_accesses, 3 * 8);
}

static void test_mmio_r2_queue_fields_are_frozen_after_driver_ok(void **state)
{
    struct vmm_queue before;

    (void)state;
    driver_start(&driver, &dev, 0);
    before = dev.queues[0];
    try_queue_writes();
    assert_memory_equal(&dev.queues[0], &before, sizeof(before));
    driver_set(&driver, REG_STATUS, 15 | VMM_STATUS_FAILED);
    try_queue_writes();
    assert_memory_equal(&dev.queues[0], &before, sizeof(before));
}

static void test_mmio_r2_queue_fields_are_writable_in_between(void **state)
{
    (void)state;
    driver_negotiate(&driver, 0);
    try_queue_writes();
    assert_int_equal(dev.queues[0].size, 4);
    assert_true(dev.queues[0].desc_addr == 0x100001000ull);
    assert_true(dev.queues[0].avail_addr == 0x100002000ull);
    assert_true(dev.queues[0].used_addr == 0x100003000ull);
    assert_int_equal(driver_get(&driver, REG_QUEUE_READY), 1);
    driver_set(&driver, REG_QUEUE_NUM, 0x10010); /* does not become 0x10 */
    assert_int_equal(dev.queues[0].size, 0);
}

/* ---- R3 ---- */

/* Every status value from every reachable state: only the next step is taken. */
static void test_mmio_r3_status_moves_one_step_at_a_time(void **state)
{
    static const uint32_t path[] = {0, 1, 3, 11, 15};
    uint32_t at, value;
    size_t step;

    (void)state;
    for (at = 0; at < 5; at++) {
        for (value = 1; value < 128; value++) {
            uint32_t next = value & ~VMM_STATUS_NEEDS_RESET;
            uint32_t expected = path[at];

            driver_set(&driver, REG_STATUS, 0);
            for (step = 1; step <= at; step++) {
                if (path[step] == 11) {
                    driver_set(&driver, REG_DRIVER_FEATURES_SEL, 1);
                    driver_set(&driver, REG_DRIVER_FEATURES, 1);
                }
                driver_set(&driver, REG_STATUS, path[step]);
            }
            assert_int_equal(driver_get(&driver, REG_STATUS), path[at]);
            if (at < 4 && next == path[at + 1] && path[at + 1] != 11) {
                expected = next; /* FEATURES_OK is refused: VERSION_1 was not acknowledged */
            }
            driver_set(&driver, REG_STATUS, value);
            assert_int_equal(driver_get(&driver, REG_STATUS), expected);
        }
    }
}

static void test_mmio_r3_failed_stops_the_device(void **state)
{
    (void)state;
    driver_start(&driver, &dev, 0);
    driver_set(&driver, REG_STATUS, VMM_STATUS_FAILED);
    assert_false(vmm_virtio_is_active(&dev));
    assert_false(vmm_virtio_queue_is_active(&dev, 0));
    driver_set(&driver, REG_STATUS, 15);
    assert_false(vmm_virtio_is_active(&dev));
    driver_start(&driver, &dev, 0);
    assert_true(vmm_virtio_is_active(&dev));
}

/* ---- R4 ---- */

static void test_mmio_r4_features_only_between_driver_and_features_ok(void **state)
{
    (void)state;
    driver_set(&driver, REG_DRIVER_FEATURES, FEATURE_A);
    assert_true(dev.acked == 0);
    driver_set(&driver, REG_STATUS, 1);
    driver_set(&driver, REG_DRIVER_FEATURES, FEATURE_A);
    assert_true(dev.acked == 0);
    driver_negotiate(&driver, 0);
    driver_set(&driver, REG_DRIVER_FEATURES_SEL, 0);
    driver_set(&driver, REG_DRIVER_FEATURES, FEATURE_A);
    assert_true(dev.acked == VMM_F_VERSION_1);
}

static void test_mmio_r4_not_offered_features_are_refused(void **state)
{
    (void)state;
    driver_negotiate(&driver, FEATURE_A | 1ull << 28);
    assert_int_equal(driver_get(&driver, REG_STATUS), 3);
    driver_negotiate(&driver, FEATURE_A);
    assert_int_equal(driver_get(&driver, REG_STATUS), 11);
}

static void test_mmio_r4_version_1_is_required(void **state)
{
    (void)state;
    driver_set(&driver, REG_STATUS, 1);
    driver_set(&driver, REG_STATUS, 3);
    driver_set(&driver, REG_DRIVER_FEATURES_SEL, 0);
    driver_set(&driver, REG_DRIVER_FEATURES, FEATURE_A);
    driver_set(&driver, REG_STATUS, 11);
    assert_int_equal(driver_get(&driver, REG_STATUS), 3);
    driver_set(&driver, REG_STATUS, 15);
    assert_int_equal(activations, 0);
}

/* ---- R11 ---- */

static void test_mmio_r11_registers_take_four_bytes_only(void **state)
{
    uint8_t raw[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    uint32_t offset, len;

    (void)state;
    for (offset = 0; offset < 0x100; offset++) {
        for (len = 1; len <= 8; len++) {
            if (len == 4 && offset % 4 == 0) {
                continue;
            }
            memset(raw, 0xaa, sizeof(raw));
            vmm_mmio_read(&dev, offset, raw, len);
            assert_int_equal(raw[0], 0);
            memset(raw, 1, sizeof(raw));
            assert_int_equal(vmm_mmio_write(&dev, offset, raw, len), 0);
        }
    }
    assert_int_equal(driver_get(&driver, REG_STATUS), 0);
    assert_int_equal(dev.queue_sel, 0);
}

static void test_mmio_r11_missing_queue_reads_zero(void **state)
{
    static const uint32_t beyond[] = {2, 6, 100, 0x7fffffff, 0x80000000, UINT32_MAX};
    size_t i;

    (void)state;
    driver_negotiate(&driver, 0);
    for (i = 0; i < SHL_ARRAY_SIZE(beyond); i++) {
        driver_set(&driver, REG_QUEUE_SEL, beyond[i]);
        assert_int_equal(driver_get(&driver, REG_QUEUE_NUM_MAX), 0);
        assert_int_equal(driver_get(&driver, REG_QUEUE_READY), 0);
        driver_set(&driver, REG_QUEUE_NUM, 16);
        driver_set(&driver, REG_QUEUE_READY, 1);
        driver_set(&driver, REG_QUEUE_DESC, 0x1000);
    }
    driver_set(&driver, REG_QUEUE_SEL, 1);
    assert_int_equal(driver_get(&driver, REG_QUEUE_NUM_MAX), 32);
    assert_int_equal(driver_get(&driver, REG_QUEUE_READY), 0);
}

static void test_mmio_r11_notify_of_a_missing_queue_is_ignored(void **state)
{
    (void)state;
    driver_start(&driver, &dev, 0);
    assert_int_equal(driver_set(&driver, VMM_MMIO_QUEUE_NOTIFY, 0xffffffff), 0);
    assert_int_equal(driver_set(&driver, VMM_MMIO_QUEUE_NOTIFY, 2), 0);
    assert_int_equal(dev.ignored_accesses, 2);
}

static void test_mmio_r11_config_access_is_bounded(void **state)
{
    uint8_t raw[8];
    uint32_t offset, len;

    (void)state;
    for (offset = 0; offset <= 0xf00; offset++) {
        for (len = 1; len <= 8; len *= 2) {
            memset(raw, 0xaa, sizeof(raw));
            vmm_mmio_read(&dev, REG_CONFIG + offset, raw, len);
            assert_int_equal(raw[0], offset + len <= 8 ? offset + 1 : 0);
            (void)vmm_mmio_write(&dev, REG_CONFIG + offset, raw, len);
        }
    }
}

static void test_mmio_interrupts_are_acknowledged_by_bit(void **state)
{
    (void)state;
    driver_start(&driver, &dev, 0);
    vmm_virtio_signal_config(&dev);
    assert_int_equal(driver_get(&driver, VMM_MMIO_INTERRUPT_STATUS), VMM_INTERRUPT_CONFIG);
    assert_int_equal(driver_get(&driver, REG_CONFIG_GENERATION), 1);
    driver_set(&driver, VMM_MMIO_INTERRUPT_ACK, VMM_INTERRUPT_QUEUE);
    assert_int_equal(driver_get(&driver, VMM_MMIO_INTERRUPT_STATUS), VMM_INTERRUPT_CONFIG);
    driver_set(&driver, VMM_MMIO_INTERRUPT_ACK, VMM_INTERRUPT_CONFIG);
    assert_int_equal(driver_get(&driver, VMM_MMIO_INTERRUPT_STATUS), 0);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_mmio_identity),
        WITH(test_mmio_start_up_activates_once),
        WITH(test_mmio_unused_queue_is_not_active),
        WITH(test_mmio_r1_bad_queue_asks_for_reset),
        WITH(test_mmio_r2_queue_fields_are_frozen_before_features_ok),
        WITH(test_mmio_r2_queue_fields_are_frozen_after_driver_ok),
        WITH(test_mmio_r2_queue_fields_are_writable_in_between),
        WITH(test_mmio_r3_status_moves_one_step_at_a_time),
        WITH(test_mmio_r3_failed_stops_the_device),
        WITH(test_mmio_r4_features_only_between_driver_and_features_ok),
        WITH(test_mmio_r4_not_offered_features_are_refused),
        WITH(test_mmio_r4_version_1_is_required),
        WITH(test_mmio_r11_registers_take_four_bytes_only),
        WITH(test_mmio_r11_missing_queue_reads_zero),
        WITH(test_mmio_r11_notify_of_a_missing_queue_is_ignored),
        WITH(test_mmio_r11_config_access_is_bounded),
        WITH(test_mmio_interrupts_are_acknowledged_by_bit),
    };

    return cmocka_run_group_tests_name("vmm-kvm/mmio", tests, NULL, NULL);
}
