/* virtio-mem (virtio 1.2, section 5.15): memory that is plugged after a restore, so
 * that one warm snapshot serves every memory size.
 *
 * The region and its usable part are those of struct vmm_mem. The driver plugs blocks
 * of VMM_HOTPLUG_BLOCK_BYTES until it has requested_bytes. Unplugged blocks are
 * discarded. UNPLUGGED_INACCESSIBLE is offered (the driver then stays away from unplugged
 * blocks); without it reading them works too, since the usable part is all mapped.
 *
 * A request the rules forbid is answered with an error; one without room for request
 * and answer is SHL_EGUEST. */
#ifndef SHL_VMM_HOTPLUG_H
#define SHL_VMM_HOTPLUG_H

#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/virtio.h"

#define VMM_HOTPLUG_CONFIG_BYTES 56u
#define VMM_HOTPLUG_BLOCKS_MAX   (VMM_MEM_HOTPLUG_MAX_BYTES / VMM_HOTPLUG_BLOCK_BYTES)
#define VMM_HOTPLUG_STATE_MAX    (32u + VMM_HOTPLUG_BLOCKS_MAX / 8)

struct vmm_hotplug {
    struct vmm_virtio dev;
    uint64_t usable_bytes; /* the part the driver may use now */
    uint64_t requested_bytes;
    uint64_t plugged_bytes;
    uint8_t plugged[VMM_HOTPLUG_BLOCKS_MAX / 8]; /* a bit per block, LSB first */
    uint64_t refused;                            /* requests answered with an error */
};

/* @mem->hotplug_max is not 0. @requested_bytes: multiple of the block, <= usable. */
void vmm_hotplug_init(struct vmm_hotplug *hotplug,
                      struct vmm_mem *mem,
                      struct vmm_irq irq,
                      uint64_t requested_bytes);

/* More memory: the driver is told (configuration interrupt) and plugs it. Smaller or
 * equal sizes change nothing. @requested_bytes <= mem->hotplug_usable. */
void vmm_hotplug_grow(struct vmm_hotplug *hotplug, uint64_t requested_bytes);

/* State beyond the transport's: what was plugged and asked for. After init with the
 * restored memory, whose usable part must hold all plugged blocks; then the sizes are
 * those of the snapshot until vmm_hotplug_grow, which is for when the guest is about to
 * run. 0, SHL_ELIMIT, -ENOMEM; SHL_ECORRUPT, SHL_EINVALIDARG (memory became smaller). */
SHL_MUST_CHECK int vmm_hotplug_save(const struct vmm_hotplug *hotplug, struct shl_buf *buf);
SHL_MUST_CHECK int vmm_hotplug_restore(struct vmm_hotplug *hotplug,
                                       struct shl_bytes bytes,
                                       struct shl_err *err);

#endif /* SHL_VMM_HOTPLUG_H */
