#include "vmm-kvm/virtio.h"

#include <assert.h>
#include <string.h>

void vmm_virtio_init(struct vmm_virtio *dev,
                     const struct vmm_virtio_ops *ops,
                     uint64_t features,
                     struct vmm_mem *mem,
                     struct vmm_irq irq)
{
    unsigned i;

    assert(ops->queue_count <= VMM_VIRTIO_QUEUES_MAX);
    memset(dev, 0, sizeof(*dev));
    dev->ops = ops;
    dev->offered = features | VMM_F_VERSION_1 | VMM_F_EVENT_IDX;
    dev->mem = mem;
    dev->irq = irq;
    for (i = 0; i < ops->queue_count; i++) {
        vmm_queue_init(&dev->queues[i], ops->queue_sizes[i]);
    }
}

bool vmm_virtio_is_active(const struct vmm_virtio *dev)
{
    return (dev->status & VMM_STATUS_DRIVER_OK) &&
           !(dev->status & (VMM_STATUS_FAILED | VMM_STATUS_NEEDS_RESET));
}

bool vmm_virtio_queue_is_active(const struct vmm_virtio *dev, unsigned index)
{
    return index < dev->ops->queue_count && vmm_virtio_is_active(dev) && dev->queues[index].active;
}

static void raise_interrupt(struct vmm_virtio *dev, uint32_t bit)
{
    (void)__atomic_fetch_or(&dev->interrupt_status, bit, __ATOMIC_SEQ_CST);
    if (dev->irq.raise) {
        dev->irq.raise(dev->irq.ctx);
    }
}

void vmm_virtio_signal_queue(struct vmm_virtio *dev, unsigned index)
{
    if (vmm_queue_wants_interrupt(&dev->queues[index])) {
        raise_interrupt(dev, VMM_INTERRUPT_QUEUE);
    }
}

int vmm_virtio_serve(struct vmm_virtio *dev,
                     unsigned index,
                     int (*serve)(struct vmm_virtio *dev,
                                  struct vmm_queue *queue,
                                  struct vmm_chain *chain))
{
    struct vmm_queue *queue = &dev->queues[index];
    struct vmm_chain chain;
    unsigned budget = VMM_SERVE_MAX;
    bool more = true;
    int r = 0;

    vmm_queue_disable_notify(queue);
    while (more && budget > 0) {
        r = vmm_queue_pop(queue, dev->mem, &chain);
        if (r > 0) {
            budget--;
            r = serve(dev, queue, &chain);
            if (r != 0) {
                break;
            }
        } else if (r == 0) {
            more = vmm_queue_enable_notify(queue);
        } else {
            break;
        }
    }
    if (r < 0) {
        return r;
    }
    vmm_virtio_signal_queue(dev, index);
    return r == 0 && more ? 1 : 0;
}

void vmm_virtio_signal_config(struct vmm_virtio *dev)
{
    dev->config_generation++;
    if (dev->status & VMM_STATUS_DRIVER_OK) {
        raise_interrupt(dev, VMM_INTERRUPT_CONFIG);
    }
}

void vmm_virtio_need_reset(struct vmm_virtio *dev)
{
    dev->status |= VMM_STATUS_NEEDS_RESET;
    raise_interrupt(dev, VMM_INTERRUPT_CONFIG);
}

const char *vmm_virtio_violation(const struct vmm_virtio *dev)
{
    unsigned i;

    for (i = 0; i < dev->ops->queue_count; i++) {
        if (dev->queues[i].violation) {
            return dev->queues[i].violation;
        }
    }
    return "the driver broke a rule of the device";
}
