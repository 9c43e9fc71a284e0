/* virtio-rng (virtio 1.2, section 5.4): fills the driver's buffers with random bytes.
 * A request gets at most VMM_RNG_REQUEST_MAX bytes (R10); the driver asks again. */
#ifndef SHL_VMM_RNG_H
#define SHL_VMM_RNG_H

#include <stdint.h>

#include "vmm-kvm/virtio.h"

#define VMM_RNG_REQUEST_MAX 65536u

struct vmm_rng {
    struct vmm_virtio dev;
    uint64_t bytes;                      /* given to the guest */
    void (*fill)(void *dst, size_t len); /* source of randomness */
};

void vmm_rng_init(struct vmm_rng *rng,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  void (*fill)(void *dst, size_t len));

#endif /* SHL_VMM_RNG_H */
