#include "driver.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"

void driver_init_hotplug(struct driver *driver, uint64_t max, uint64_t now)
{
    int r;

    memset(driver, 0, sizeof(*driver));
    r = vmm_mem_init(&driver->mem, DRIVER_MEMORY, max, now, NULL);
    assert(r == 0);
    driver->heap = 0x10000;
}

void driver_init(struct driver *driver)
{
    driver_init_hotplug(driver, 0, 0);
}

void driver_release(struct driver *driver)
{
    vmm_mem_release(&driver->mem);
}

static void on_irq(void *ctx)
{
    struct driver *driver = ctx;

    driver->interrupts++;
}

struct vmm_irq driver_irq(struct driver *driver)
{
    return (struct vmm_irq){on_irq, driver};
}

uint64_t driver_alloc(struct driver *driver, uint64_t bytes)
{
    uint64_t addr = driver->heap;

    driver->heap += (bytes + 4095) & ~4095ull;
    assert(driver->heap <= DRIVER_MEMORY);
    return addr;
}

void *driver_at(struct driver *driver, uint64_t addr)
{
    void *at = vmm_mem_slice(&driver->mem, addr, 1);

    assert(at);
    return at;
}

uint32_t driver_get(struct driver *driver, uint32_t offset)
{
    uint8_t raw[4];

    vmm_mmio_read(driver->dev, offset, raw, sizeof(raw));
    return shl_get_le32(raw);
}

int driver_set(struct driver *driver, uint32_t offset, uint32_t value)
{
    uint8_t raw[4];

    shl_put_le32(raw, value);
    return vmm_mmio_write(driver->dev, offset, raw, sizeof(raw));
}

void driver_negotiate(struct driver *driver, uint64_t features)
{
    features |= VMM_F_VERSION_1;
    driver_set(driver, REG_STATUS, 0);
    driver_set(driver, REG_STATUS, 1);
    driver_set(driver, REG_STATUS, 3);
    driver_set(driver, REG_DRIVER_FEATURES_SEL, 0);
    driver_set(driver, REG_DRIVER_FEATURES, (uint32_t)features);
    driver_set(driver, REG_DRIVER_FEATURES_SEL, 1);
    driver_set(driver, REG_DRIVER_FEATURES, (uint32_t)(features >> 32));
    driver_set(driver, REG_STATUS, 11);
}

static void set_addr(struct driver *driver, uint32_t offset, uint64_t addr)
{
    driver_set(driver, offset, (uint32_t)addr);
    driver_set(driver, offset + 4, (uint32_t)(addr >> 32));
}

void driver_add_queue(struct driver *driver, unsigned index, uint16_t size)
{
    struct driver_queue *queue = &driver->queues[index];

    memset(queue, 0, sizeof(*queue));
    queue->size = size;
    queue->desc = driver_alloc(driver, 16u * size);
    queue->avail = driver_alloc(driver, 6u + 2u * size);
    queue->used = driver_alloc(driver, 6u + 8u * size);
    memset(driver_at(driver, queue->avail), 0, 6u + 2u * size);
    memset(driver_at(driver, queue->used), 0, 6u + 8u * size);
    driver_set(driver, REG_QUEUE_SEL, index);
    driver_set(driver, REG_QUEUE_NUM, size);
    set_addr(driver, REG_QUEUE_DESC, queue->desc);
    set_addr(driver, REG_QUEUE_DRIVER, queue->avail);
    set_addr(driver, REG_QUEUE_DEVICE, queue->used);
    driver_set(driver, REG_QUEUE_READY, 1);
}

int driver_ok(struct driver *driver)
{
    return driver_set(driver, REG_STATUS, 15);
}

void driver_start(struct driver *driver, struct vmm_virtio *dev, uint64_t features)
{
    unsigned i;

    driver->dev = dev;
    driver_negotiate(driver, features);
    for (i = 0; i < dev->ops->queue_count; i++) {
        driver_add_queue(driver, i, dev->ops->queue_sizes[i]);
    }
    driver_ok(driver);
}

void driver_put_desc(struct driver *driver,
                     unsigned queue,
                     uint16_t index,
                     uint64_t addr,
                     uint32_t len,
                     uint16_t flags,
                     uint16_t next)
{
    uint8_t *at = driver_at(driver, driver->queues[queue].desc + 16u * index);

    shl_put_le64(at, addr);
    shl_put_le32(at + 8, len);
    shl_put_le16(at + 12, flags);
    shl_put_le16(at + 14, next);
}

void driver_offer(struct driver *driver, unsigned index, uint16_t head)
{
    struct driver_queue *queue = &driver->queues[index];
    uint8_t *avail = driver_at(driver, queue->avail);

    shl_put_le16(avail + 4 + 2u * (queue->avail_idx % queue->size), head);
    queue->avail_idx++;
    shl_put_le16(avail + 2, queue->avail_idx);
}

uint16_t driver_add(struct driver *driver,
                    unsigned index,
                    const struct driver_part *parts,
                    unsigned count)
{
    struct driver_queue *queue = &driver->queues[index];
    uint16_t head = queue->next_desc;
    unsigned i;

    for (i = 0; i < count; i++) {
        uint16_t at = queue->next_desc;
        uint16_t next = (uint16_t)((at + 1) % queue->size);
        uint16_t flags =
            (uint16_t)((parts[i].write ? F_WRITE : 0u) | (i + 1 < count ? F_NEXT : 0u));

        driver_put_desc(driver, index, at, parts[i].addr, parts[i].len, flags, next);
        queue->next_desc = next;
    }
    driver_offer(driver, index, head);
    return head;
}

int driver_notify(struct driver *driver, unsigned queue)
{
    if (!vmm_virtio_queue_is_active(driver->dev, queue)) {
        return 0;
    }
    return driver->dev->ops->notify(driver->dev, queue);
}

bool driver_used(struct driver *driver, unsigned index, uint32_t *ret_head, uint32_t *ret_len)
{
    struct driver_queue *queue = &driver->queues[index];
    const uint8_t *used = driver_at(driver, queue->used);
    const uint8_t *entry;

    if (shl_get_le16(used + 2) == queue->used_seen) {
        return false;
    }
    entry = used + 4 + 8u * (queue->used_seen % queue->size);
    queue->used_seen++;
    *ret_head = shl_get_le32(entry);
    *ret_len = shl_get_le32(entry + 4);
    return true;
}
