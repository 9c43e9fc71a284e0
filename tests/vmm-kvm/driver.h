/* The guest's side of a virtio device, for tests: memory, rings, register writes. */
#ifndef SHL_TESTS_VMM_DRIVER_H
#define SHL_TESTS_VMM_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm-kvm/mem.h"
#include "vmm-kvm/virtio.h"

#define DRIVER_MEMORY (4u << 20)

/* Register offsets of virtio 1.2, table 4.1. */
#define REG_DEVICE_FEATURES     0x010u
#define REG_DEVICE_FEATURES_SEL 0x014u
#define REG_DRIVER_FEATURES     0x020u
#define REG_DRIVER_FEATURES_SEL 0x024u
#define REG_QUEUE_SEL           0x030u
#define REG_QUEUE_NUM_MAX       0x034u
#define REG_QUEUE_NUM           0x038u
#define REG_QUEUE_READY         0x044u
#define REG_STATUS              0x070u
#define REG_QUEUE_DESC          0x080u
#define REG_QUEUE_DRIVER        0x090u
#define REG_QUEUE_DEVICE        0x0a0u
#define REG_CONFIG_GENERATION   0x0fcu
#define REG_CONFIG              0x100u

#define F_NEXT  1u
#define F_WRITE 2u

struct driver_queue {
    uint64_t desc, avail, used;
    uint16_t size;
    uint16_t next_desc; /* next free descriptor, wraps */
    uint16_t avail_idx;
    uint16_t used_seen;
};

struct driver {
    struct vmm_mem mem;
    struct vmm_virtio *dev;
    struct driver_queue queues[VMM_VIRTIO_QUEUES_MAX];
    uint64_t heap; /* next free guest address */
    unsigned interrupts;
};

struct driver_part {
    uint64_t addr;
    uint32_t len;
    bool write;
};

void driver_init(struct driver *driver);
/* With pluggable memory. */
void driver_init_hotplug(struct driver *driver, uint64_t max, uint64_t now);
void driver_release(struct driver *driver);
struct vmm_irq driver_irq(struct driver *driver);

uint64_t driver_alloc(struct driver *driver, uint64_t bytes); /* guest address, 4 KiB aligned */
void *driver_at(struct driver *driver, uint64_t addr);

uint32_t driver_get(struct driver *driver, uint32_t offset);
int driver_set(struct driver *driver, uint32_t offset, uint32_t value);

/* Status to FEATURES_OK with @features (VERSION_1 is added). */
void driver_negotiate(struct driver *driver, uint64_t features);
void driver_add_queue(struct driver *driver, unsigned index, uint16_t size);
int driver_ok(struct driver *driver); /* DRIVER_OK; result of the write */
/* All of it: queues of full size, everything offered. */
void driver_start(struct driver *driver, struct vmm_virtio *dev, uint64_t features);

/* One descriptor, raw. */
void driver_put_desc(struct driver *driver,
                     unsigned queue,
                     uint16_t index,
                     uint64_t addr,
                     uint32_t len,
                     uint16_t flags,
                     uint16_t next);
/* Make @head available. */
void driver_offer(struct driver *driver, unsigned queue, uint16_t head);
/* A chain of @count parts, made available. Returns its head. */
uint16_t driver_add(struct driver *driver,
                    unsigned queue,
                    const struct driver_part *parts,
                    unsigned count);
int driver_notify(struct driver *driver, unsigned queue);
/* Next used entry; false when there is none. */
bool driver_used(struct driver *driver, unsigned queue, uint32_t *ret_head, uint32_t *ret_len);

#endif /* SHL_TESTS_VMM_DRIVER_H */
