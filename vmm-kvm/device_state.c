#include "vmm-kvm/device_state.h"

#include <string.h>

#include "vmm-kvm/mem.h"

/* Transport: le64 offered, le64 acked, le32 device_features_sel, driver_features_sel,
 * queue_sel, status, config_generation, interrupt_status, queue count; then per queue
 * le16 size, le16 next_avail, next_used, signaled_used, u8 ready, u8 active, le16 zero,
 * le64 descriptor, available and used address. */
#define HEAD_BYTES  44u
#define QUEUE_BYTES 36u
_Static_assert(HEAD_BYTES + VMM_VIRTIO_QUEUES_MAX * QUEUE_BYTES <= VMM_TRANSPORT_BYTES_MAX,
               "the largest device fits");

#define STATUS_CONFIGURED (VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER | VMM_STATUS_FEATURES_OK)

static void put_queue(const struct vmm_queue *queue, uint8_t *raw)
{
    shl_put_le16(raw, queue->size);
    shl_put_le16(raw + 2, queue->next_avail);
    shl_put_le16(raw + 4, queue->next_used);
    shl_put_le16(raw + 6, queue->signaled_used);
    raw[8] = queue->ready;
    raw[9] = queue->active;
    shl_put_le16(raw + 10, 0);
    shl_put_le64(raw + 12, queue->desc_addr);
    shl_put_le64(raw + 20, queue->avail_addr);
    shl_put_le64(raw + 28, queue->used_addr);
}

int vmm_transport_save(const struct vmm_virtio *dev, struct shl_buf *buf)
{
    uint8_t raw[HEAD_BYTES + VMM_VIRTIO_QUEUES_MAX * QUEUE_BYTES];
    unsigned i, count = dev->ops->queue_count;

    shl_put_le64(raw, dev->offered);
    shl_put_le64(raw + 8, dev->acked);
    shl_put_le32(raw + 16, dev->device_features_sel);
    shl_put_le32(raw + 20, dev->driver_features_sel);
    shl_put_le32(raw + 24, dev->queue_sel);
    shl_put_le32(raw + 28, dev->status);
    shl_put_le32(raw + 32, dev->config_generation);
    shl_put_le32(raw + 36, __atomic_load_n(&dev->interrupt_status, __ATOMIC_SEQ_CST));
    shl_put_le32(raw + 40, count);
    for (i = 0; i < count; i++) {
        put_queue(&dev->queues[i], raw + HEAD_BYTES + i * QUEUE_BYTES);
    }
    return shl_buf_append(buf, raw, HEAD_BYTES + count * QUEUE_BYTES);
}

static int corrupt(const struct vmm_virtio *dev, const char *why, struct shl_err *err)
{
    return shl_err_set(err, SHL_ECORRUPT, "the saved state of the %s device is damaged: %s",
                       dev->ops->name, why);
}

/* R3: only what a sequence of legal writes leads to. */
static bool status_is_possible(uint32_t status)
{
    uint32_t steps = status & ~(VMM_STATUS_NEEDS_RESET | VMM_STATUS_FAILED);

    return steps == 0 || steps == VMM_STATUS_ACKNOWLEDGE ||
           steps == (VMM_STATUS_ACKNOWLEDGE | VMM_STATUS_DRIVER) || steps == STATUS_CONFIGURED ||
           steps == (STATUS_CONFIGURED | VMM_STATUS_DRIVER_OK);
}

static int restore_queue(struct vmm_virtio *dev,
                         struct vmm_queue *queue,
                         const uint8_t *raw,
                         struct shl_err *err)
{
    bool active = raw[9];

    if (raw[8] > 1 || raw[9] > 1 || shl_get_le16(raw + 10) != 0) {
        return corrupt(dev, "a queue has impossible flags", err);
    }
    queue->size = shl_get_le16(raw);
    queue->next_avail = shl_get_le16(raw + 2);
    queue->next_used = shl_get_le16(raw + 4);
    queue->signaled_used = shl_get_le16(raw + 6);
    queue->ready = raw[8];
    queue->desc_addr = shl_get_le64(raw + 12);
    queue->avail_addr = shl_get_le64(raw + 20);
    queue->used_addr = shl_get_le64(raw + 28);
    if (!active) {
        return 0;
    }
    if (!queue->ready || !(dev->status & VMM_STATUS_DRIVER_OK)) {
        return corrupt(dev, "a queue is in use before its time", err);
    }
    if (vmm_queue_activate(queue, dev->mem, vmm_virtio_has(dev, VMM_F_EVENT_IDX)) < 0) {
        return corrupt(dev, queue->violation, err);
    }
    return 0;
}

/* R2, R4: features within what was offered and with VERSION_1 before anything is used. */
static int check_head(const struct vmm_virtio *dev, uint64_t saved_offer, struct shl_err *err)
{
    if (!status_is_possible(dev->status)) {
        return corrupt(dev, "its status is impossible", err);
    }
    if (dev->acked & ~saved_offer) {
        return corrupt(dev, "the driver has features that were not offered", err);
    }
    if ((dev->status & VMM_STATUS_FEATURES_OK) && !vmm_virtio_has(dev, VMM_F_VERSION_1)) {
        return corrupt(dev, "the driver has no version", err);
    }
    if (dev->acked & ~dev->offered) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "the saved VM uses features of its %s device that this machine does "
                           "not offer (0x%llx)",
                           dev->ops->name, (unsigned long long)(dev->acked & ~dev->offered));
    }
    return 0;
}

int vmm_transport_restore(struct vmm_virtio *dev, struct shl_bytes bytes, struct shl_err *err)
{
    const uint8_t *raw = bytes.base;
    unsigned i, count = dev->ops->queue_count;
    int r;

    if (bytes.len != HEAD_BYTES + count * QUEUE_BYTES || shl_get_le32(raw + 40) != count) {
        return corrupt(dev, "it has another number of queues", err);
    }
    dev->acked = shl_get_le64(raw + 8);
    dev->device_features_sel = shl_get_le32(raw + 16);
    dev->driver_features_sel = shl_get_le32(raw + 20);
    dev->queue_sel = shl_get_le32(raw + 24);
    dev->status = shl_get_le32(raw + 28);
    dev->config_generation = shl_get_le32(raw + 32);
    dev->interrupt_status = shl_get_le32(raw + 36) & (VMM_INTERRUPT_QUEUE | VMM_INTERRUPT_CONFIG);
    r = check_head(dev, shl_get_le64(raw), err);
    for (i = 0; r == 0 && i < count; i++) {
        r = restore_queue(dev, &dev->queues[i], raw + HEAD_BYTES + i * QUEUE_BYTES, err);
    }
    if (r == 0 && vmm_virtio_is_active(dev) && dev->ops->activate) {
        dev->ops->activate(dev);
    }
    return r;
}

/* ---- serial ---- */

void vmm_serial_save(const struct vmm_serial *serial, uint8_t raw[VMM_SERIAL_BYTES])
{
    raw[0] = serial->ier;
    raw[1] = serial->fcr;
    raw[2] = serial->lcr;
    raw[3] = serial->mcr;
    raw[4] = serial->scr;
    raw[5] = serial->dll;
    raw[6] = serial->dlm;
    raw[7] = serial->thr_pending;
    raw[8] = serial->loop_full;
    raw[9] = serial->loop_byte;
}

int vmm_serial_restore(struct vmm_serial *serial, const uint8_t raw[VMM_SERIAL_BYTES])
{
    if (raw[7] > 1 || raw[8] > 1) {
        return SHL_ECORRUPT;
    }
    serial->ier = raw[0] & 0x0f;
    serial->fcr = raw[1] & (uint8_t)~0x06u;
    serial->lcr = raw[2];
    serial->mcr = raw[3] & 0x1f;
    serial->scr = raw[4];
    serial->dll = raw[5];
    serial->dlm = raw[6];
    serial->thr_pending = raw[7];
    serial->loop_full = raw[8];
    serial->loop_byte = raw[9];
    return 0;
}
