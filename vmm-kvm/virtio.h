/* A virtio device as the transport sees it, and the register file of virtio-mmio
 * version 2 (virtio 1.2, section 4.2).
 *
 * A device model embeds struct vmm_virtio as its first member and fills one
 * vmm_virtio_ops. It knows nothing of KVM, threads or file descriptors: memory comes
 * through vmm_mem, interrupts leave through struct vmm_irq, the host side is reached
 * through the model's own ops (struct vmm_disk, vmm_net_host, vmm_port_host).
 *
 * Calls on one device are serialised by its owner (the machine's lock per device),
 * except vmm_mmio_interrupt_status and vmm_mmio_interrupt_ack, which are atomic.
 */
#ifndef SHL_VMM_VIRTIO_H
#define SHL_VMM_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "vmm-kvm/queue.h"

struct vmm_mem;
struct vmm_virtio;

#define VMM_VIRTIO_QUEUES_MAX 6

#define VMM_VIRTIO_ID_NET     1u
#define VMM_VIRTIO_ID_BLOCK   2u
#define VMM_VIRTIO_ID_CONSOLE 3u
#define VMM_VIRTIO_ID_RNG     4u
#define VMM_VIRTIO_ID_BALLOON 5u
#define VMM_VIRTIO_ID_MEM     24u

/* Feature bits of section 6. */
#define VMM_F_EVENT_IDX (1ull << 29)
#define VMM_F_VERSION_1 (1ull << 32)

/* Status bits of section 2.1. */
#define VMM_STATUS_ACKNOWLEDGE 1u
#define VMM_STATUS_DRIVER      2u
#define VMM_STATUS_DRIVER_OK   4u
#define VMM_STATUS_FEATURES_OK 8u
#define VMM_STATUS_NEEDS_RESET 64u
#define VMM_STATUS_FAILED      128u

#define VMM_INTERRUPT_QUEUE  1u
#define VMM_INTERRUPT_CONFIG 2u

/* An interrupt line: edge triggered, raised from any thread. */
struct vmm_irq {
    void (*raise)(void *ctx);
    void *ctx;
};

struct vmm_virtio_ops {
    const char *name;
    uint32_t device_id;
    uint16_t queue_count;
    uint16_t queue_sizes[VMM_VIRTIO_QUEUES_MAX];

    /* Device configuration space. Offset and length are inside config_bytes. */
    uint32_t config_bytes;
    void (*config_read)(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len);
    void (*config_write)(struct vmm_virtio *dev,
                         uint32_t offset,
                         const uint8_t *src,
                         uint32_t len); /* may be NULL: read-only */

    /* The driver is up (DRIVER_OK) and all enabled queues are checked. May be NULL. */
    void (*activate)(struct vmm_virtio *dev);
    /* Work through queue @index. 0, 1 when work is left (call again, after others had
     * their turn), SHL_EGUEST ends the VM. Called only while the queue is active. */
    int (*notify)(struct vmm_virtio *dev, unsigned index);
    /* Finish what is under way so that the state can be saved. May be NULL. */
    void (*drain)(struct vmm_virtio *dev);
    /* Forget everything the driver negotiated. May be NULL. */
    void (*reset)(struct vmm_virtio *dev);
};

/* State of one device; plain data but for the borrowed pointers at the end. */
struct vmm_virtio {
    uint64_t offered; /* feature bits */
    uint64_t acked;
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
    uint32_t status;
    uint32_t config_generation;
    uint32_t interrupt_status; /* atomic */
    struct vmm_queue queues[VMM_VIRTIO_QUEUES_MAX];
    uint64_t ignored_accesses; /* register accesses the rules forbid, for statistics */

    const struct vmm_virtio_ops *ops;
    struct vmm_mem *mem; /* borrowed */
    struct vmm_irq irq;
};

/* @features: device-specific bits; VERSION_1 and EVENT_IDX are added. */
void vmm_virtio_init(struct vmm_virtio *dev,
                     const struct vmm_virtio_ops *ops,
                     uint64_t features,
                     struct vmm_mem *mem,
                     struct vmm_irq irq);

static inline bool vmm_virtio_has(const struct vmm_virtio *dev, uint64_t feature)
{
    return (dev->acked & feature) != 0;
}

/* The driver is up and the device may touch its queues. */
bool vmm_virtio_is_active(const struct vmm_virtio *dev);

/* True when queue @index may be used: device active, queue enabled. */
bool vmm_virtio_queue_is_active(const struct vmm_virtio *dev, unsigned index);

/* Interrupt the driver for queue @index if it asked for it. */
void vmm_virtio_signal_queue(struct vmm_virtio *dev, unsigned index);

/* The loop of a notify: pop requests and hand each to @serve until the queue is empty,
 * then interrupt the driver if it wants that. @serve returns 0 when the request is
 * done or kept, 1 to stop here (it gave the request back), or an error. Returns as
 * notify does: at most VMM_SERVE_MAX requests in one call, so that no queue starves
 * the others (R10). */
#define VMM_SERVE_MAX 64
SHL_MUST_CHECK int vmm_virtio_serve(struct vmm_virtio *dev,
                                    unsigned index,
                                    int (*serve)(struct vmm_virtio *dev,
                                                 struct vmm_queue *queue,
                                                 struct vmm_chain *chain));

/* Configuration changed: new generation and a configuration interrupt. */
void vmm_virtio_signal_config(struct vmm_virtio *dev);

/* The device cannot go on until the driver resets it (2.1.2). */
void vmm_virtio_need_reset(struct vmm_virtio *dev);

/* First violation found in a queue, static text; never NULL. */
const char *vmm_virtio_violation(const struct vmm_virtio *dev);

/* Registers of the 4 KiB window. Reads fill @len bytes always; illegal accesses read
 * as zero, illegal writes are ignored and counted. Write returns 1 when the write
 * made the device active (the caller then kicks all its queues), else 0. */
void vmm_mmio_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len);
int vmm_mmio_write(struct vmm_virtio *dev, uint32_t offset, const uint8_t *src, uint32_t len);

/* The two registers of every interrupt, without the device's lock. */
#define VMM_MMIO_QUEUE_NOTIFY     0x050u
#define VMM_MMIO_INTERRUPT_STATUS 0x060u
#define VMM_MMIO_INTERRUPT_ACK    0x064u
uint32_t vmm_mmio_interrupt_status(struct vmm_virtio *dev);
void vmm_mmio_interrupt_ack(struct vmm_virtio *dev, uint32_t bits);

#endif /* SHL_VMM_VIRTIO_H */
