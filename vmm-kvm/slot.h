/* A virtio device's place in the machine: lock, interrupt event, queue doorbells. */
#ifndef SHL_VMM_SLOT_H
#define SHL_VMM_SLOT_H

#include <pthread.h>

#include "base/err.h"
#include "vmm-kvm/loop.h"
#include "vmm-kvm/virtio.h"

struct vmm_kvm;
struct vmm_outcome;
struct vmm_slot;

struct vmm_doorbell {
    struct vmm_watch watch;
    int fd;
    unsigned index; /* queue */
    struct vmm_slot *slot;
};

struct vmm_slot {
    pthread_mutex_t lock; /* of the device model and its host side */
    struct vmm_virtio *dev;
    struct vmm_outcome *outcome;
    struct vmm_loop *loop;
    int irq_fd;
    bool held; /* loop thread: queues are not worked through */
    struct vmm_doorbell doorbells[VMM_VIRTIO_QUEUES_MAX];
};

/* Make the descriptors; the slot's irq may then be handed to the device model. */
SHL_MUST_CHECK int vmm_slot_init(struct vmm_slot *slot,
                                 struct vmm_loop *loop,
                                 struct vmm_outcome *outcome,
                                 struct shl_err *err);
void vmm_slot_release(struct vmm_slot *slot);
struct vmm_irq vmm_slot_irq(struct vmm_slot *slot);

/* Connect the initialised @dev as virtio device @number of the machine. */
SHL_MUST_CHECK int vmm_slot_connect(struct vmm_slot *slot,
                                    struct vmm_virtio *dev,
                                    struct vmm_kvm *kvm,
                                    unsigned number,
                                    struct shl_err *err);

/* Have all queues looked at by the loop. From any thread. */
void vmm_slot_kick_all(struct vmm_slot *slot);

/* From now on doorbells are heard and nothing is done; ended, all queues are looked at. Loop
 * thread. */
void vmm_slot_hold(struct vmm_slot *slot, bool held);

/* Result of device work: a negative one ends the VM as the guest's fault, a positive
 * one means there is more to do: all queues get another turn. */
void vmm_slot_check(struct vmm_slot *slot, int result);

#endif /* SHL_VMM_SLOT_H */
