/* Guest RAM: one private anonymous mapping, split at the 3 GiB hole.
 *
 * vmm_mem_slice is the only way from a guest address to a host pointer. It checks
 * that the whole range lies in one RAM region, so a slice never covers MMIO or the
 * hole. The mapping does not move while the VM lives; pointers may be kept.
 *
 * The guest writes this memory at any moment. A field is read once, with the
 * vmm_guest_load helpers, into a local that is then checked and used.
 *
 * Thread-safe after init: nothing here changes.
 */
#ifndef SHL_VMM_MEM_H
#define SHL_VMM_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define VMM_MEM_REGIONS_MAX 2

struct vmm_mem_region {
    uint64_t start; /* guest-physical */
    uint64_t size;
    uint8_t *host;
};

/* Owned by the caller; release unmaps. */
struct vmm_mem {
    struct vmm_mem_region regions[VMM_MEM_REGIONS_MAX];
    unsigned region_count;
    uint64_t size; /* all regions together */
    void *map;     /* what munmap gets */
    size_t map_bytes;
};

/* @size: multiple of the page size. 0, SHL_EINVALIDARG or -ENOMEM. */
SHL_MUST_CHECK int vmm_mem_init(struct vmm_mem *mem, uint64_t size, struct shl_err *err);
void vmm_mem_release(struct vmm_mem *mem);

/* Host address of [addr, addr + len), NULL unless all of it is RAM of one region.
 * A @len of 0 is fine inside RAM. */
void *vmm_mem_slice(const struct vmm_mem *mem, uint64_t addr, uint64_t len);

/* Copy to or from the guest: 0 or SHL_EGUEST when the range is no RAM. */
SHL_MUST_CHECK int vmm_mem_write(const struct vmm_mem *mem,
                                 uint64_t addr,
                                 const void *src,
                                 size_t len);
SHL_MUST_CHECK int vmm_mem_read(const struct vmm_mem *mem, uint64_t addr, void *dst, size_t len);

/* Fuzz targets define this to change guest memory between two reads (TOCTOU). */
#ifdef VMM_GUEST_LOAD_HOOK
void vmm_guest_load_hook(void);
#else
static inline void vmm_guest_load_hook(void)
{
}
#endif

/* Exactly one load or store of an aligned little-endian field in guest memory. */
static inline uint16_t vmm_guest_load16(const void *at)
{
    vmm_guest_load_hook();
    return __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED);
}
static inline uint64_t vmm_guest_load64(const void *at)
{
    vmm_guest_load_hook();
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
}
static inline uint16_t vmm_guest_load16_acquire(const void *at)
{
    vmm_guest_load_hook();
    return __atomic_load_n((const uint16_t *)at, __ATOMIC_ACQUIRE);
}
static inline void vmm_guest_store16_release(void *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)at, value, __ATOMIC_RELEASE);
}
static inline void vmm_guest_store64(void *at, uint64_t value)
{
    __atomic_store_n((uint64_t *)at, value, __ATOMIC_RELAXED);
}

#endif /* SHL_VMM_MEM_H */
