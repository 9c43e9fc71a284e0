/* The host side of virtio-net: a TAP descriptor handed in by the node, opened with
 * IFF_NO_PI | IFF_VNET_HDR. Reads happen on the loop's thread under the slot's lock. */
#ifndef SHL_VMM_TAP_H
#define SHL_VMM_TAP_H

#include "vmm-kvm/net.h"
#include "vmm-kvm/slot.h"

struct vmm_tap {
    struct vmm_watch watch;
    int fd; /* borrowed */
    bool offloads;
    struct vmm_net *net;
    struct vmm_slot *slot;
};

/* Check the descriptor, set the header size, find out about offloads. */
SHL_MUST_CHECK int vmm_tap_init(struct vmm_tap *tap,
                                int fd,
                                struct vmm_net *net,
                                struct vmm_slot *slot,
                                struct shl_err *err);
struct vmm_net_host vmm_tap_host(struct vmm_tap *tap);
SHL_MUST_CHECK int vmm_tap_watch(struct vmm_tap *tap);
void vmm_tap_release(struct vmm_tap *tap);

#endif /* SHL_VMM_TAP_H */
