/* Guest RAM: boot memory, split at the 3 GiB hole, and the region memory is plugged
 * into later (virtio-mem).
 *
 * Everything is private to this process: anonymous zeros, or files mapped MAP_PRIVATE
 * (a raw base image, memory layers over it), which this process never writes. What lies
 * below a page, a file's content or zeros, is what vmm_mem_save compares with and what
 * comes back after a discard.
 *
 * The hotplug region lies at the first multiple of 128 MiB from 4 GiB on behind boot
 * memory. Only its first hotplug_usable bytes exist: they are mapped, accepted by
 * vmm_mem_slice and given to KVM. Linux adds memory in blocks of 128 MiB, so usable is
 * hotplug_now rounded up to that; what may be plugged is the device's business.
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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define VMM_MEM_REGIONS_MAX       3
#define VMM_MEM_SECTION_BYTES     (128ull << 20) /* memory block of Linux */
#define VMM_MEM_HOTPLUG_MAX_BYTES (64ull << 30)

/* Pieces that layers are mapped in. vm.max_map_count is 65530, and each piece may also
 * split what is around it; smaller runs beyond are copied instead. */
#define VMM_MEM_MAPS_MAX 24576u

struct vmm_mem_region {
    uint64_t start; /* guest-physical */
    uint64_t size;
    uint8_t *host;
};

/* Owned by the caller; release unmaps. */
struct vmm_mem {
    /* Boot memory first, then the usable part of the hotplug region, if there is any. */
    struct vmm_mem_region regions[VMM_MEM_REGIONS_MAX];
    unsigned region_count;
    unsigned boot_region_count; /* what the firmware tables (e820) tell of */
    uint64_t size;              /* boot memory */
    uint64_t hotplug_start;     /* guest-physical, also when the region is empty */
    uint64_t hotplug_max;       /* size of the region, 0: the machine has none */
    uint64_t hotplug_usable;    /* 0..hotplug_max */
    bool has_base;              /* boot memory lies over a base image */
    uint8_t *layered;           /* a bit per page of any layer; NULL: no layers */
    void *map;                  /* what munmap gets */
    size_t map_bytes;
};

/* Memory of a machine that boots: zeros. @boot_bytes: multiple of the page size;
 * @hotplug_max and @hotplug_now: multiples of VMM_HOTPLUG_BLOCK_BYTES (control.h).
 * 0, SHL_EINVALIDARG or -ENOMEM. */
SHL_MUST_CHECK int vmm_mem_init(struct vmm_mem *mem,
                                uint64_t boot_bytes,
                                uint64_t hotplug_max,
                                uint64_t hotplug_now,
                                struct shl_err *err);

/* Memory of a machine that was saved. @base_fd: raw image of exactly the boot memory,
 * or -1 for zeros. @layer_fds: memory layers of this machine, from the lowest to the
 * highest. The descriptors are borrowed for the call; the files stay mapped and must
 * not change any more. Also SHL_ECORRUPT, SHL_EVERSION, SHL_ECONFLICT (a file of
 * another machine), SHL_ELIMIT, errno. */
SHL_MUST_CHECK int vmm_mem_init_restored(struct vmm_mem *mem,
                                         uint64_t boot_bytes,
                                         uint64_t hotplug_max,
                                         uint64_t hotplug_now,
                                         int base_fd,
                                         const int *layer_fds,
                                         unsigned layer_count,
                                         struct shl_err *err);
void vmm_mem_release(struct vmm_mem *mem);

/* What is going to be written soon. @fd: a memory layer of this machine; the pages of its
 * runs become this process's own now, with the content they have, up to
 * VMM_WORKING_SET_MAX_BYTES of them. A run beyond the memory there is is passed over. Where
 * the kernel cannot (before 5.14, or no memory) they are left as they are: it is a hint.
 *
 * A page of a file that the guest reads, then writes costs it up to three exits: mapped for
 * reading, copied by this machine, which takes the mapping away, and mapped again. A
 * page that is there already costs one. For vmm_mem_save such a page is dirty, changed or not.
 * For memory that no guest runs on yet. SHL_ECONFLICT: of another machine; as vmm_layer_open. */
SHL_MUST_CHECK int vmm_mem_populate(const struct vmm_mem *mem, int fd, struct shl_err *err);

/* All RAM the machine can have, and the numbering of its pages in layers: boot memory,
 * then the hotplug region. */
uint64_t vmm_mem_total_bytes(const struct vmm_mem *mem);
/* Host address of page @page of that numbering and, in @ret_count, how many pages
 * follow it without a gap (it included). NULL when it is not mapped. */
uint8_t *vmm_mem_page(const struct vmm_mem *mem, uint64_t page, uint64_t *ret_count);

/* Forget the whole pages within [host, host + len), which must come from
 * vmm_mem_slice: memory goes back to this machine, and the guest finds what lies below
 * (an old page or zeros). Returns the bytes given back, 0 when the range holds no whole
 * page or is no guest memory.
 *
 * Old content is fine for all users: virtio leaves the content of reported, ballooned
 * and plugged memory undefined (1.2: 5.5.6, 5.15.6), it is this guest's own, and the
 * page costs nothing in the next snapshot. */
uint64_t vmm_mem_discard(const struct vmm_mem *mem, void *host, uint64_t len);

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
