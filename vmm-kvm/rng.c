#include "vmm-kvm/rng.h"

#include "base/err.h"

static int serve(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_rng *rng = shl_container_of(dev, struct vmm_rng, dev);
    uint32_t left = SHL_MIN(chain->write_bytes, VMM_RNG_REQUEST_MAX);
    uint32_t done = 0;
    unsigned i;

    for (i = 0; i < chain->write_count && done < left; i++) {
        const struct iovec *part = &chain->iov[chain->read_count + i];
        size_t step = SHL_MIN(part->iov_len, (size_t)(left - done));

        rng->fill(part->iov_base, step);
        done += (uint32_t)step;
    }
    rng->bytes += done;
    vmm_queue_push(queue, chain->head, done);
    return 0;
}

static int rng_notify(struct vmm_virtio *dev, unsigned index)
{
    return vmm_virtio_serve(dev, index, serve);
}

static const struct vmm_virtio_ops rng_ops = {
    .name = "rng",
    .device_id = VMM_VIRTIO_ID_RNG,
    .queue_count = 1,
    .queue_sizes = {64},
    .notify = rng_notify,
};

void vmm_rng_init(struct vmm_rng *rng,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  void (*fill)(void *dst, size_t len))
{
    vmm_virtio_init(&rng->dev, &rng_ops, 0, mem, irq);
    rng->bytes = 0;
    rng->fill = fill;
}
