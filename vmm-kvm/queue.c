#include "vmm-kvm/queue.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "vmm-kvm/mem.h"

/* virtio 1.2, 2.7.5: le64 addr, le32 len, le16 flags, le16 next. */
#define DESC_BYTES   16u
#define DESC_F_NEXT  1u
#define DESC_F_WRITE 2u

/* 2.7.6 and 2.7.8: le16 flags, le16 idx, ring, le16 event. */
#define RING_FLAGS 0u
#define RING_IDX   2u
#define RING_FIRST 4u

#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

static size_t avail_bytes(uint16_t size)
{
    return RING_FIRST + 2u * size + 2u;
}

static size_t used_bytes(uint16_t size)
{
    return RING_FIRST + 8u * size + 2u;
}

static int violate(struct vmm_queue *queue, const char *text)
{
    queue->violation = text;
    return SHL_EGUEST;
}

void vmm_queue_init(struct vmm_queue *queue, uint16_t size_max)
{
    assert(size_max > 0);
    assert(size_max <= VMM_QUEUE_SIZE_MAX);
    assert((size_max & (size_max - 1)) == 0);
    memset(queue, 0, sizeof(*queue));
    queue->size_max = size_max;
}

void vmm_queue_reset(struct vmm_queue *queue)
{
    vmm_queue_init(queue, queue->size_max);
}

/* R1: size is a power of two within what was offered, rings are aligned and each lies
 * in one RAM region. Checked here once; the fields cannot change while active (R2). */
int vmm_queue_activate(struct vmm_queue *queue, const struct vmm_mem *mem, bool event_idx)
{
    uint16_t size = queue->size;

    queue->active = false;
    queue->violation = NULL;
    if (size == 0 || size > queue->size_max || (size & (size - 1)) != 0) {
        return violate(queue, "queue size is not a power of two within the limit");
    }
    if (queue->desc_addr % 16 != 0 || queue->avail_addr % 2 != 0 || queue->used_addr % 4 != 0) {
        return violate(queue, "a ring is not aligned");
    }
    queue->desc = vmm_mem_slice(mem, queue->desc_addr, (uint64_t)DESC_BYTES * size);
    queue->avail = vmm_mem_slice(mem, queue->avail_addr, avail_bytes(size));
    queue->used = vmm_mem_slice(mem, queue->used_addr, used_bytes(size));
    if (!queue->desc || !queue->avail || !queue->used) {
        return violate(queue, "a ring is not inside one RAM region");
    }
    queue->event_idx = event_idx;
    queue->active = true;
    return 0;
}

/* One descriptor, read once (R7), appended to the chain. @flags and @next are locals. */
static int add_descriptor(struct vmm_queue *queue,
                          const struct vmm_mem *mem,
                          struct vmm_chain *chain,
                          uint64_t addr,
                          uint32_t len,
                          bool writable)
{
    uint32_t *total = writable ? &chain->write_bytes : &chain->read_bytes;
    unsigned used = (unsigned)chain->read_count + chain->write_count;
    void *base;

    /* R9: all read-only parts come before the write-only ones (2.7.4.2). */
    if (!writable && chain->write_count > 0) {
        return violate(queue, "a read-only descriptor follows a write-only one");
    }
    /* R8: inside one RAM region, total fits 32 bits. */
    base = vmm_mem_slice(mem, addr, len);
    if (!base) {
        return violate(queue, "a descriptor points outside RAM");
    }
    if (len > UINT32_MAX - chain->read_bytes - chain->write_bytes) {
        return violate(queue, "a request is longer than 32 bits can say");
    }
    *total += len;
    chain->iov[used] = (struct iovec){base, len};
    if (writable) {
        chain->write_count++;
    } else {
        chain->read_count++;
    }
    return 0;
}

static int walk(struct vmm_queue *queue, const struct vmm_mem *mem, struct vmm_chain *chain)
{
    uint16_t index = chain->head;
    unsigned count;

    for (count = 0; count < queue->size; count++) {
        uint64_t addr, rest;
        uint16_t flags;
        int r;

        /* R6: indexes below the size, at most size descriptors in a chain (a loop ends). */
        if (index >= queue->size) {
            return violate(queue, "a descriptor index is beyond the queue");
        }
        addr = vmm_guest_load64(queue->desc + (size_t)DESC_BYTES * index);
        rest = vmm_guest_load64(queue->desc + (size_t)DESC_BYTES * index + 8);
        flags = (uint16_t)(rest >> 32);
        index = (uint16_t)(rest >> 48);
        /* R6: other flags (indirect was not offered) are ignored. */
        r = add_descriptor(queue, mem, chain, addr, (uint32_t)rest, (flags & DESC_F_WRITE) != 0);
        if (r < 0) {
            return r;
        }
        if (!(flags & DESC_F_NEXT)) {
            return 1;
        }
    }
    return violate(queue, "a descriptor chain is longer than the queue");
}

int vmm_queue_pop(struct vmm_queue *queue, const struct vmm_mem *mem, struct vmm_chain *ret)
{
    uint16_t idx, pending, head;

    assert(queue->active);
    idx = vmm_guest_load16_acquire(queue->avail + RING_IDX);
    pending = (uint16_t)(idx - queue->next_avail);
    if (pending == 0) {
        return 0;
    }
    if (pending > queue->size) { /* R5 */
        return violate(queue, "the available index ran ahead of the queue");
    }
    head = vmm_guest_load16(queue->avail + RING_FIRST +
                            2u * (size_t)(queue->next_avail & (queue->size - 1)));
    if (head >= queue->size) { /* R6 */
        return violate(queue, "an available head is beyond the queue");
    }
    ret->head = head;
    ret->read_count = 0;
    ret->write_count = 0;
    ret->read_bytes = 0;
    ret->write_bytes = 0;
    queue->next_avail++;
    return walk(queue, mem, ret);
}

void vmm_queue_unpop(struct vmm_queue *queue)
{
    queue->next_avail--;
}

bool vmm_queue_has_work(const struct vmm_queue *queue)
{
    return queue->active && vmm_guest_load16_acquire(queue->avail + RING_IDX) != queue->next_avail;
}

void vmm_queue_fill(struct vmm_queue *queue, uint16_t head, uint32_t written)
{
    uint8_t *entry;

    assert(queue->active);
    assert(head < queue->size);
    entry = queue->used + RING_FIRST + 8u * (size_t)(queue->next_used & (queue->size - 1));
    /* The ring is aligned to 4 only, so two 32-bit stores. */
    __atomic_store_n((uint32_t *)(void *)entry, head, __ATOMIC_RELAXED);
    __atomic_store_n((uint32_t *)(void *)(entry + 4), written, __ATOMIC_RELAXED);
    queue->next_used++;
}

void vmm_queue_publish(struct vmm_queue *queue)
{
    vmm_guest_store16_release(queue->used + RING_IDX, queue->next_used);
}

void vmm_queue_push(struct vmm_queue *queue, uint16_t head, uint32_t written)
{
    vmm_queue_fill(queue, head, written);
    vmm_queue_publish(queue);
}

void vmm_queue_disable_notify(struct vmm_queue *queue)
{
    /* With EVENT_IDX a stale avail_event does the same: nothing to write. */
    if (!queue->event_idx) {
        vmm_guest_store16_release(queue->used + RING_FLAGS, USED_F_NO_NOTIFY);
    }
}

/* R4: the driver writes idx, then reads the event or flag; we do it the other way round.
 * Without a full barrier in between, both sides could miss each other. */
static void request_notify(struct vmm_queue *queue, uint16_t event)
{
    if (queue->event_idx) {
        vmm_guest_store16_release(queue->used + used_bytes(queue->size) - 2, event);
    } else {
        vmm_guest_store16_release(queue->used + RING_FLAGS, 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool vmm_queue_enable_notify(struct vmm_queue *queue)
{
    request_notify(queue, queue->next_avail);
    return vmm_queue_has_work(queue);
}

void vmm_queue_await_more(struct vmm_queue *queue)
{
    request_notify(queue, vmm_guest_load16_acquire(queue->avail + RING_IDX));
}

int vmm_queue_pop_or_await(struct vmm_queue *queue,
                           const struct vmm_mem *mem,
                           struct vmm_chain *ret)
{
    int r = vmm_queue_pop(queue, mem, ret);

    if (r != 0) {
        return r;
    }
    vmm_queue_await_more(queue);
    return vmm_queue_pop(queue, mem, ret);
}

bool vmm_queue_wants_interrupt(struct vmm_queue *queue)
{
    uint16_t old = queue->signaled_used;
    uint16_t event;

    if (!queue->active || old == queue->next_used) {
        return false;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* as in request_notify */
    queue->signaled_used = queue->next_used;
    if (!queue->event_idx) {
        return !(vmm_guest_load16(queue->avail + RING_FLAGS) & AVAIL_F_NO_INTERRUPT);
    }
    event = vmm_guest_load16(queue->avail + avail_bytes(queue->size) - 2);
    /* 2.7.7.2: event lies in [old, next_used). */
    return (uint16_t)(queue->next_used - event - 1) < (uint16_t)(queue->next_used - old);
}

static size_t copy_parts(const struct iovec *iov,
                         unsigned count,
                         size_t offset,
                         uint8_t *flat,
                         size_t len,
                         bool to_guest)
{
    size_t done = 0;
    unsigned i;

    for (i = 0; i < count && done < len; i++) {
        size_t step;

        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        step = SHL_MIN(iov[i].iov_len - offset, len - done);
        if (to_guest) {
            memcpy((uint8_t *)iov[i].iov_base + offset, flat + done, step);
        } else {
            memcpy(flat + done, (const uint8_t *)iov[i].iov_base + offset, step);
        }
        done += step;
        offset = 0;
    }
    return done;
}

size_t vmm_chain_read(const struct vmm_chain *chain, size_t offset, void *dst, size_t len)
{
    return copy_parts(chain->iov, chain->read_count, offset, dst, len, false);
}

size_t vmm_chain_write(const struct vmm_chain *chain, size_t offset, const void *src, size_t len)
{
    return copy_parts(chain->iov + chain->read_count, chain->write_count, offset,
                      (uint8_t *)(uintptr_t)src, len, true);
}
