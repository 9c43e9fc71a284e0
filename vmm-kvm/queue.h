/* Split virtqueue, device side (virtio 1.2, section 2.7).
 *
 * Everything in the rings is hostile: each field is read once, every index and
 * address is checked before use, and a violation is SHL_EGUEST, which ends the VM.
 * Rules are numbered as in the comments of queue.c and in tests/vmm-kvm/test_queue.c.
 * No indirect descriptors. EVENT_IDX is used when negotiated.
 *
 * One thread at a time per queue (the device's lock). The struct is plain data; the
 * three host pointers are recomputed by vmm_queue_activate from the addresses.
 */
#ifndef SHL_VMM_QUEUE_H
#define SHL_VMM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/attr.h"
#include "vmm-kvm/iov.h"

struct vmm_mem;

#define VMM_QUEUE_SIZE_MAX 256u

struct vmm_queue {
    uint16_t size_max; /* what the device offers, a power of two <= VMM_QUEUE_SIZE_MAX */
    uint16_t size;     /* what the driver chose */
    bool ready;        /* the driver enabled it */
    uint64_t desc_addr;
    uint64_t avail_addr;
    uint64_t used_addr;

    uint16_t next_avail;    /* next avail entry to take */
    uint16_t next_used;     /* next used entry to fill */
    uint16_t signaled_used; /* next_used when the driver was last interrupted */
    bool event_idx;
    bool active; /* passed vmm_queue_activate */

    const uint8_t *desc; /* derived: slices of guest memory */
    uint8_t *avail;
    uint8_t *used;
    const char *violation; /* what the driver did wrong, static text, or NULL */
};

/* One request: @iov holds the driver's read-only parts, then the write-only ones. */
struct vmm_chain {
    uint16_t head;
    uint16_t read_count;
    uint16_t write_count;
    uint32_t read_bytes;
    uint32_t write_bytes;
    struct iovec iov[VMM_QUEUE_SIZE_MAX];
};

void vmm_queue_init(struct vmm_queue *queue, uint16_t size_max);
void vmm_queue_reset(struct vmm_queue *queue);

/* Check size, alignment and location of the rings (R1) and keep pointers to them.
 * 0 or SHL_EGUEST with queue->violation set. */
SHL_MUST_CHECK int vmm_queue_activate(struct vmm_queue *queue,
                                      const struct vmm_mem *mem,
                                      bool event_idx);

/* Take the next request. 1 and *ret, 0 when there is none, SHL_EGUEST. */
SHL_MUST_CHECK int vmm_queue_pop(struct vmm_queue *queue,
                                 const struct vmm_mem *mem,
                                 struct vmm_chain *ret);

/* Give back the request popped last, as if it was never taken. */
void vmm_queue_unpop(struct vmm_queue *queue);

/* True when a pop would find something (or a violation). */
bool vmm_queue_has_work(const struct vmm_queue *queue);

/* Return request @head to the driver with @written bytes. */
void vmm_queue_push(struct vmm_queue *queue, uint16_t head, uint32_t written);

/* The same for requests that the driver must see together, like the buffers of one
 * received frame (5.1.6.4): fill each, then publish once. */
void vmm_queue_fill(struct vmm_queue *queue, uint16_t head, uint32_t written);
void vmm_queue_publish(struct vmm_queue *queue);

/* Ask the driver not to notify while we are looking, and to notify again. Enabling
 * returns true when requests arrived in between: look again, no notification comes. */
void vmm_queue_disable_notify(struct vmm_queue *queue);
bool vmm_queue_enable_notify(struct vmm_queue *queue);

/* Ask for a notification when more requests come than there are now, though some may
 * be waiting. Look once more afterwards. */
void vmm_queue_await_more(struct vmm_queue *queue);

/* As pop; when there is none, asks for a notification first and looks once more. */
SHL_MUST_CHECK int vmm_queue_pop_or_await(struct vmm_queue *queue,
                                          const struct vmm_mem *mem,
                                          struct vmm_chain *ret);

/* Whether the driver wants an interrupt for what was pushed since the last call. */
bool vmm_queue_wants_interrupt(struct vmm_queue *queue);

/* Driver's read-only parts as one flat copy: bytes copied, at most @len, from @offset. */
size_t vmm_chain_read(const struct vmm_chain *chain, size_t offset, void *dst, size_t len);
/* The same for the write-only parts. */
size_t vmm_chain_write(const struct vmm_chain *chain, size_t offset, const void *src, size_t len);

#endif /* SHL_VMM_QUEUE_H */
