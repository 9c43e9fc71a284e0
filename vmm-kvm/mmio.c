/* virtio-mmio version 2: register numbers from virtio 1.2, table 4.1. */
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/virtio.h"

#define REG_MAGIC               0x000u
#define REG_VERSION             0x004u
#define REG_DEVICE_ID           0x008u
#define REG_VENDOR_ID           0x00cu
#define REG_DEVICE_FEATURES     0x010u
#define REG_DEVICE_FEATURES_SEL 0x014u
#define REG_DRIVER_FEATURES     0x020u
#define REG_DRIVER_FEATURES_SEL 0x024u
#define REG_QUEUE_SEL           0x030u
#define REG_QUEUE_NUM_MAX       0x034u
#define REG_QUEUE_NUM           0x038u
#define REG_QUEUE_READY         0x044u
#define REG_STATUS              0x070u
#define REG_QUEUE_DESC_LOW      0x080u
#define REG_QUEUE_DESC_HIGH     0x084u
#define REG_QUEUE_DRIVER_LOW    0x090u
#define REG_QUEUE_DRIVER_HIGH   0x094u
#define REG_QUEUE_DEVICE_LOW    0x0a0u
#define REG_QUEUE_DEVICE_HIGH   0x0a4u
#define REG_SHM_LEN_LOW         0x0b0u
#define REG_SHM_BASE_HIGH       0x0bcu
#define REG_CONFIG_GENERATION   0x0fcu
#define REG_CONFIG              0x100u

#define MAGIC_VALUE  0x74726976u /* "virt" */
#define VENDOR_VALUE 0x4c4f4853u /* "SHOL" */

uint32_t vmm_mmio_interrupt_status(struct vmm_virtio *dev)
{
    return __atomic_load_n(&dev->interrupt_status, __ATOMIC_SEQ_CST);
}

void vmm_mmio_interrupt_ack(struct vmm_virtio *dev, uint32_t bits)
{
    (void)__atomic_fetch_and(&dev->interrupt_status, ~bits, __ATOMIC_SEQ_CST);
}

/* R11: a queue that does not exist reads as zero and swallows writes. */
static struct vmm_queue *selected_queue(struct vmm_virtio *dev)
{
    return dev->queue_sel < dev->ops->queue_count ? &dev->queues[dev->queue_sel] : NULL;
}

static uint32_t feature_word(uint64_t bits, uint32_t select)
{
    return select == 0 ? (uint32_t)bits : select == 1 ? (uint32_t)(bits >> 32) : 0;
}

static uint32_t read_register(struct vmm_virtio *dev, uint32_t offset)
{
    const struct vmm_queue *queue = selected_queue(dev);

    switch (offset) {
    case REG_MAGIC:
        return MAGIC_VALUE;
    case REG_VERSION:
        return 2;
    case REG_DEVICE_ID:
        return dev->ops->device_id;
    case REG_VENDOR_ID:
        return VENDOR_VALUE;
    case REG_DEVICE_FEATURES:
        return feature_word(dev->offered, dev->device_features_sel);
    case REG_QUEUE_NUM_MAX:
        return queue ? queue->size_max : 0;
    case REG_QUEUE_READY:
        return queue ? queue->ready : 0;
    case VMM_MMIO_INTERRUPT_STATUS:
        return vmm_mmio_interrupt_status(dev);
    case REG_STATUS:
        return dev->status;
    case REG_CONFIG_GENERATION:
        return dev->config_generation;
    default:
        /* No shared memory regions: length and base read as all ones (4.2.2). */
        if (offset >= REG_SHM_LEN_LOW && offset <= REG_SHM_BASE_HIGH) {
            return UINT32_MAX;
        }
        dev->ignored_accesses++;
        return 0;
    }
}

void vmm_mmio_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    memset(dst, 0, len);
    if (offset >= REG_CONFIG) {
        offset -= REG_CONFIG;
        if (offset > dev->ops->config_bytes || len > dev->ops->config_bytes - offset) {
            dev->ignored_accesses++;
            return;
        }
        dev->ops->config_read(dev, offset, dst, len);
        return;
    }
    if (len != 4 || offset % 4 != 0) { /* R11 */
        dev->ignored_accesses++;
        return;
    }
    shl_put_le32(dst, read_register(dev, offset));
}

static void reset_device(struct vmm_virtio *dev)
{
    unsigned i;

    if (dev->ops->reset) {
        dev->ops->reset(dev);
    }
    for (i = 0; i < dev->ops->queue_count; i++) {
        vmm_queue_reset(&dev->queues[i]);
    }
    dev->acked = 0;
    dev->device_features_sel = 0;
    dev->driver_features_sel = 0;
    dev->queue_sel = 0;
    dev->status = 0;
    __atomic_store_n(&dev->interrupt_status, 0, __ATOMIC_SEQ_CST);
}

/* Everything the driver set up is checked here, once (R1). A device that cannot start
 * is left in NEEDS_RESET, never half active. */
static int activate_device(struct vmm_virtio *dev)
{
    unsigned i;

    dev->status |= VMM_STATUS_DRIVER_OK;
    for (i = 0; i < dev->ops->queue_count; i++) {
        struct vmm_queue *queue = &dev->queues[i];

        if (queue->ready &&
            vmm_queue_activate(queue, dev->mem, vmm_virtio_has(dev, VMM_F_EVENT_IDX)) < 0) {
            vmm_virtio_need_reset(dev);
            return 0;
        }
    }
    if (dev->ops->activate) {
        dev->ops->activate(dev);
    }
    return 1;
}

/* R3: the only way forward is ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, one at a
 * time and keeping what was set (3.1.1). Reset and FAILED are possible at any time. */
static int write_status(struct vmm_virtio *dev, uint32_t value)
{
    uint32_t old = dev->status & ~VMM_STATUS_NEEDS_RESET;
    uint32_t next = value & ~VMM_STATUS_NEEDS_RESET;

    if (value == 0) {
        reset_device(dev);
        return 0;
    }
    if (value & VMM_STATUS_FAILED) {
        dev->status |= VMM_STATUS_FAILED;
        return 0;
    }
    if (next == old) {
        return 0;
    }
    if ((old == 0 && next == VMM_STATUS_ACKNOWLEDGE) ||
        (old == VMM_STATUS_ACKNOWLEDGE && next == (old | VMM_STATUS_DRIVER))) {
        dev->status = next;
        return 0;
    }
    if (old == (VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER) &&
        next == (old | VMM_STATUS_FEATURES_OK)) {
        /* R4: exactly what was offered, and no legacy drivers: else the bit stays clear,
         * which is how the driver is told (2.2.1). */
        if (!(dev->acked & ~dev->offered) && vmm_virtio_has(dev, VMM_F_VERSION_1)) {
            dev->status = next;
        }
        return 0;
    }
    if (old == (VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER | VMM_STATUS_FEATURES_OK) &&
        next == (old | VMM_STATUS_DRIVER_OK) && !(dev->status & VMM_STATUS_NEEDS_RESET)) {
        return activate_device(dev);
    }
    dev->ignored_accesses++;
    return 0;
}

/* R4: features are acknowledged between DRIVER and FEATURES_OK, never after. */
static void write_driver_features(struct vmm_virtio *dev, uint32_t value)
{
    uint64_t mask = UINT32_MAX;

    if (dev->status != (VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER) ||
        dev->driver_features_sel > 1) {
        dev->ignored_accesses++;
        return;
    }
    if (dev->driver_features_sel == 0) {
        dev->acked = (dev->acked & ~mask) | value;
    } else {
        dev->acked = (dev->acked & mask) | (uint64_t)value << 32;
    }
}

static void set_low(uint64_t *addr, uint32_t value)
{
    *addr = (*addr & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *addr, uint32_t value)
{
    *addr = (*addr & UINT32_MAX) | (uint64_t)value << 32;
}

/* R2: queue fields move only between FEATURES_OK and DRIVER_OK. Otherwise the checks
 * of activation would not hold (CVE-2026-5747 was this rule missing). */
static void write_queue_register(struct vmm_virtio *dev, uint32_t offset, uint32_t value)
{
    const uint32_t configuring =
        VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER | VMM_STATUS_FEATURES_OK;
    struct vmm_queue *queue = selected_queue(dev);

    if (!queue || dev->status != configuring) {
        dev->ignored_accesses++;
        return;
    }
    switch (offset) {
    case REG_QUEUE_NUM:
        /* Larger than 16 bits cannot be valid; 0 is refused at activation. */
        queue->size = value > UINT16_MAX ? 0 : (uint16_t)value;
        break;
    case REG_QUEUE_READY:
        queue->ready = value == 1;
        break;
    case REG_QUEUE_DESC_LOW:
        set_low(&queue->desc_addr, value);
        break;
    case REG_QUEUE_DESC_HIGH:
        set_high(&queue->desc_addr, value);
        break;
    case REG_QUEUE_DRIVER_LOW:
        set_low(&queue->avail_addr, value);
        break;
    case REG_QUEUE_DRIVER_HIGH:
        set_high(&queue->avail_addr, value);
        break;
    case REG_QUEUE_DEVICE_LOW:
        set_low(&queue->used_addr, value);
        break;
    case REG_QUEUE_DEVICE_HIGH:
        set_high(&queue->used_addr, value);
        break;
    default:
        dev->ignored_accesses++;
        break;
    }
}

static int write_register(struct vmm_virtio *dev, uint32_t offset, uint32_t value)
{
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL:
        dev->device_features_sel = value;
        return 0;
    case REG_DRIVER_FEATURES_SEL:
        dev->driver_features_sel = value;
        return 0;
    case REG_DRIVER_FEATURES:
        write_driver_features(dev, value);
        return 0;
    case REG_QUEUE_SEL:
        dev->queue_sel = value;
        return 0;
    case VMM_MMIO_QUEUE_NOTIFY:
        /* R11: valid indexes are taken by ioeventfds; what arrives here is none. */
        dev->ignored_accesses++;
        return 0;
    case VMM_MMIO_INTERRUPT_ACK:
        vmm_mmio_interrupt_ack(dev, value);
        return 0;
    case REG_STATUS:
        return write_status(dev, value);
    default:
        write_queue_register(dev, offset, value);
        return 0;
    }
}

int vmm_mmio_write(struct vmm_virtio *dev, uint32_t offset, const uint8_t *src, uint32_t len)
{
    if (offset >= REG_CONFIG) {
        offset -= REG_CONFIG;
        if (!dev->ops->config_write || offset > dev->ops->config_bytes ||
            len > dev->ops->config_bytes - offset) {
            dev->ignored_accesses++;
            return 0;
        }
        dev->ops->config_write(dev, offset, src, len);
        return 0;
    }
    if (len != 4 || offset % 4 != 0) { /* R11 */
        dev->ignored_accesses++;
        return 0;
    }
    return write_register(dev, offset, shl_get_le32(src));
}
