/* virtio-balloon (virtio 1.2, section 5.5) with free page reporting.
 *
 * The guest reports memory it does not use, and the pages go back to the machine
 * (vmm_mem_discard). The host never asks for a balloon (num_pages is 0); the inflate
 * and deflate queues are there because a driver needs them, and do what they should.
 * PAGE_POISON is not offered: a guest that fills or checks free pages then reports
 * none, which is right, since a discarded page may come back with old content. */
#ifndef SHL_VMM_BALLOON_H
#define SHL_VMM_BALLOON_H

#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "vmm-kvm/virtio.h"

#define VMM_BALLOON_CONFIG_BYTES 8u
#define VMM_BALLOON_PFNS_MAX     4096u /* of one inflate request; more are ignored */
#define VMM_BALLOON_STATE_BYTES  4u

struct vmm_balloon_stats {
    uint64_t reported_bytes;  /* by the guest, as unused */
    uint64_t discarded_bytes; /* of them and of inflation, given back to the machine */
};

struct vmm_balloon {
    struct vmm_virtio dev;
    uint32_t actual; /* what the driver says it gave, pages */
    struct vmm_balloon_stats stats;
};

void vmm_balloon_init(struct vmm_balloon *balloon, struct vmm_mem *mem, struct vmm_irq irq);

/* State beyond the transport's. 0, SHL_ELIMIT, -ENOMEM; SHL_ECORRUPT. */
SHL_MUST_CHECK int vmm_balloon_save(const struct vmm_balloon *balloon, struct shl_buf *buf);
SHL_MUST_CHECK int vmm_balloon_restore(struct vmm_balloon *balloon, struct shl_bytes bytes);

#endif /* SHL_VMM_BALLOON_H */
