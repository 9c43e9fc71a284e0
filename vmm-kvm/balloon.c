#include "vmm-kvm/balloon.h"

#include <string.h>

#include "base/err.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#define F_REPORTING (1ull << 5)

/* Queues of 5.5.2. Absent ones (statistics, hints) do not count on this transport:
 * Linux numbers what is there. */
#define QUEUE_INFLATE 0u
#define QUEUE_DEFLATE 1u
#define QUEUE_REPORT  2u
#define QUEUE_SIZE    64u
#define REPORT_SIZE   32u /* what the driver of Linux puts into one report */

#define CONFIG_ACTUAL 4u
#define PFN_BYTES     4u
#define PFNS_AT_ONCE  256u

/* Pages in one go, as long as the numbers follow each other. */
static void discard_pages(struct vmm_balloon *balloon, const uint8_t *pfns, size_t count)
{
    size_t i = 0;

    while (i < count) {
        uint64_t first = shl_get_le32(pfns + i * PFN_BYTES);
        uint64_t run = 1;
        void *host;

        while (i + run < count && shl_get_le32(pfns + (i + run) * PFN_BYTES) == first + run) {
            run++;
        }
        /* Numbers outside RAM have no effect; a run across regions stays as it is. */
        host = vmm_mem_slice(balloon->dev.mem, first * VMM_PAGE_BYTES, run * VMM_PAGE_BYTES);
        if (host) {
            balloon->stats.discarded_bytes +=
                vmm_mem_discard(balloon->dev.mem, host, run * VMM_PAGE_BYTES);
        }
        i += run;
    }
}

/* The driver gives pages: an array of their numbers. */
static int serve_inflate(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_balloon *balloon = shl_container_of(dev, struct vmm_balloon, dev);
    size_t left = SHL_MIN(chain->read_bytes / PFN_BYTES, VMM_BALLOON_PFNS_MAX);
    uint8_t pfns[PFNS_AT_ONCE * PFN_BYTES];
    size_t offset = 0;

    while (left > 0) {
        size_t count = SHL_MIN(left, (size_t)PFNS_AT_ONCE);

        (void)vmm_chain_read(chain, offset, pfns, count * PFN_BYTES); /* R7: read once */
        discard_pages(balloon, pfns, count);
        offset += count * PFN_BYTES;
        left -= count;
    }
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

/* The driver takes pages back: they come at the first access. */
static int serve_deflate(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    (void)dev;
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

/* The driver names free memory by the buffers themselves (5.5.6.7). */
static int serve_report(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_balloon *balloon = shl_container_of(dev, struct vmm_balloon, dev);
    unsigned i;

    for (i = 0; i < chain->write_count; i++) {
        const struct iovec *part = &chain->iov[chain->read_count + i];

        balloon->stats.reported_bytes += part->iov_len;
        balloon->stats.discarded_bytes += vmm_mem_discard(dev->mem, part->iov_base, part->iov_len);
    }
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

static int balloon_notify(struct vmm_virtio *dev, unsigned index)
{
    switch (index) {
    case QUEUE_INFLATE:
        return vmm_virtio_serve(dev, index, serve_inflate);
    case QUEUE_DEFLATE:
        return vmm_virtio_serve(dev, index, serve_deflate);
    default:
        return vmm_virtio_serve(dev, index, serve_report);
    }
}

/* le32 num_pages, le32 actual. */
static void balloon_config_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    const struct vmm_balloon *balloon = shl_container_of(dev, struct vmm_balloon, dev);
    uint8_t raw[VMM_BALLOON_CONFIG_BYTES] = {0};

    shl_put_le32(raw + CONFIG_ACTUAL, balloon->actual);
    memcpy(dst, raw + offset, len);
}

static void balloon_config_write(struct vmm_virtio *dev,
                                 uint32_t offset,
                                 const uint8_t *src,
                                 uint32_t len)
{
    struct vmm_balloon *balloon = shl_container_of(dev, struct vmm_balloon, dev);

    if (offset == CONFIG_ACTUAL && len == sizeof(uint32_t)) {
        balloon->actual = shl_get_le32(src);
    } else {
        dev->ignored_accesses++;
    }
}

static void balloon_reset(struct vmm_virtio *dev)
{
    struct vmm_balloon *balloon = shl_container_of(dev, struct vmm_balloon, dev);

    balloon->actual = 0;
}

static const struct vmm_virtio_ops balloon_ops = {
    .name = "balloon",
    .device_id = VMM_VIRTIO_ID_BALLOON,
    .queue_count = 3,
    .queue_sizes = {QUEUE_SIZE, QUEUE_SIZE, REPORT_SIZE},
    .config_bytes = VMM_BALLOON_CONFIG_BYTES,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .notify = balloon_notify,
    .reset = balloon_reset,
};

void vmm_balloon_init(struct vmm_balloon *balloon, struct vmm_mem *mem, struct vmm_irq irq)
{
    memset(&balloon->stats, 0, sizeof(balloon->stats));
    balloon->actual = 0;
    vmm_virtio_init(&balloon->dev, &balloon_ops, F_REPORTING, mem, irq);
}

int vmm_balloon_save(const struct vmm_balloon *balloon, struct shl_buf *buf)
{
    uint8_t raw[VMM_BALLOON_STATE_BYTES];

    shl_put_le32(raw, balloon->actual);
    return shl_buf_append(buf, raw, sizeof(raw));
}

int vmm_balloon_restore(struct vmm_balloon *balloon, struct shl_bytes bytes)
{
    if (bytes.len != VMM_BALLOON_STATE_BYTES) {
        return SHL_ECORRUPT;
    }
    balloon->actual = shl_get_le32(bytes.base);
    return 0;
}
