#include "vmm-kvm/slot.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm-kvm/control.h"
#include "vmm-kvm/kvm.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/outcome.h"

static void signal_event(int fd)
{
    static const uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof(one));

    (void)n; /* only fails when the counter is full: then the event is pending anyway */
}

static void raise_irq(void *ctx)
{
    const struct vmm_slot *slot = ctx;

    signal_event(slot->irq_fd);
}

struct vmm_irq vmm_slot_irq(struct vmm_slot *slot)
{
    return (struct vmm_irq){raise_irq, slot};
}

int vmm_slot_init(struct vmm_slot *slot,
                  struct vmm_loop *loop,
                  struct vmm_outcome *outcome,
                  struct shl_err *err)
{
    unsigned i;

    memset(slot, 0, sizeof(*slot));
    (void)pthread_mutex_init(&slot->lock, NULL);
    slot->loop = loop;
    slot->outcome = outcome;
    for (i = 0; i < VMM_VIRTIO_QUEUES_MAX; i++) {
        slot->doorbells[i].fd = -1;
    }
    slot->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return slot->irq_fd < 0 ? shl_err_sys(err, errno, "cannot make an event") : 0;
}

void vmm_slot_release(struct vmm_slot *slot)
{
    unsigned i;

    for (i = 0; i < VMM_VIRTIO_QUEUES_MAX; i++) {
        vmm_loop_remove(slot->loop, &slot->doorbells[i].watch);
        if (slot->doorbells[i].fd >= 0) {
            (void)close(slot->doorbells[i].fd);
        }
    }
    if (slot->irq_fd >= 0) {
        (void)close(slot->irq_fd);
    }
    (void)pthread_mutex_destroy(&slot->lock);
}

void vmm_slot_check(struct vmm_slot *slot, int result)
{
    if (result < 0) {
        vmm_outcome_set(slot->outcome, VMM_REASON_GUEST_ERROR,
                        "the guest misused the %s device: %s", slot->dev->ops->name,
                        vmm_virtio_violation(slot->dev));
    } else if (result > 0) {
        vmm_slot_kick_all(slot);
    }
}

static void on_doorbell(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_doorbell *bell = shl_container_of(watch, struct vmm_doorbell, watch);
    struct vmm_slot *slot = bell->slot;
    uint64_t count;
    int r = 0;

    (void)events;
    if (read(bell->fd, &count, sizeof(count)) < 0 || slot->held) {
        return;
    }
    (void)pthread_mutex_lock(&slot->lock);
    if (vmm_virtio_queue_is_active(slot->dev, bell->index)) {
        r = slot->dev->ops->notify(slot->dev, bell->index);
    }
    vmm_slot_check(slot, SHL_MIN(r, 0));
    (void)pthread_mutex_unlock(&slot->lock);
    if (r > 0) {
        signal_event(bell->fd);
    }
}

int vmm_slot_connect(struct vmm_slot *slot,
                     struct vmm_virtio *dev,
                     struct vmm_kvm *kvm,
                     unsigned number,
                     struct shl_err *err)
{
    uint64_t doorbell_addr =
        VMM_MMIO_BASE + (uint64_t)number * VMM_MMIO_STRIDE + VMM_MMIO_QUEUE_NOTIFY;
    unsigned i;
    int r = vmm_kvm_irqfd(kvm, slot->irq_fd, VMM_GSI_VIRTIO_FIRST + number, err);

    slot->dev = dev;
    for (i = 0; r == 0 && i < dev->ops->queue_count; i++) {
        struct vmm_doorbell *bell = &slot->doorbells[i];

        bell->slot = slot;
        bell->index = i;
        bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (bell->fd < 0) {
            return shl_err_sys(err, errno, "cannot make an event");
        }
        r = vmm_kvm_ioeventfd(kvm, bell->fd, doorbell_addr, i, err);
        if (r == 0) {
            r = vmm_loop_add(slot->loop, &bell->watch, bell->fd, EPOLLIN, on_doorbell);
        }
    }
    return r;
}

void vmm_slot_hold(struct vmm_slot *slot, bool held)
{
    bool was_held = slot->held;

    slot->held = held;
    if (was_held && !held) {
        vmm_slot_kick_all(slot);
    }
}

void vmm_slot_kick_all(struct vmm_slot *slot)
{
    unsigned i;

    for (i = 0; i < slot->dev->ops->queue_count; i++) {
        signal_event(slot->doorbells[i].fd);
    }
}
