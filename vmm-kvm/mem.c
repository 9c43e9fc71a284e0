#include "vmm-kvm/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm-kvm/layout.h"

/* Guest and host addresses agree modulo 2 MiB, so that the host can back the guest
 * with huge pages: 512 times fewer page faults while a guest boots. */
#define MAP_ALIGN (2 * VMM_MIB)

int vmm_mem_init(struct vmm_mem *mem, uint64_t size, struct shl_err *err)
{
    size_t map_bytes = (size_t)size + MAP_ALIGN;
    uint8_t *host;
    void *map;

    memset(mem, 0, sizeof(*mem));
    if (size == 0 || size % VMM_PAGE_BYTES != 0 || size > (uint64_t)1 << 46) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "guest memory of %llu bytes is not possible: give a multiple of 4096",
                           (unsigned long long)size);
    }
    map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
    if (map == MAP_FAILED) {
        return shl_err_sys(err, errno,
                           "cannot map %llu MiB of guest memory: give the machine more memory or "
                           "the sandbox less",
                           (unsigned long long)(size / VMM_MIB));
    }
    host = (uint8_t *)(((uintptr_t)map + MAP_ALIGN - 1) & ~(uintptr_t)(MAP_ALIGN - 1));
    mem->map = map;
    mem->map_bytes = map_bytes;
    mem->size = size;
    mem->regions[0].start = 0;
    mem->regions[0].size = SHL_MIN(size, VMM_RAM_LOW_END);
    mem->regions[0].host = host;
    mem->region_count = 1;
    if (size > VMM_RAM_LOW_END) {
        mem->regions[1].start = VMM_RAM_HIGH_START;
        mem->regions[1].size = size - VMM_RAM_LOW_END;
        mem->regions[1].host = host + VMM_RAM_LOW_END;
        mem->region_count = 2;
    }
    return 0;
}

void vmm_mem_release(struct vmm_mem *mem)
{
    if (mem->map) {
        (void)munmap(mem->map, mem->map_bytes);
    }
    memset(mem, 0, sizeof(*mem));
}

void *vmm_mem_slice(const struct vmm_mem *mem, uint64_t addr, uint64_t len)
{
    unsigned i;

    for (i = 0; i < mem->region_count; i++) {
        const struct vmm_mem_region *region = &mem->regions[i];

        /* Written so that nothing overflows for any addr and len. */
        if (addr >= region->start && addr - region->start < region->size &&
            len <= region->size - (addr - region->start)) {
            return region->host + (addr - region->start);
        }
    }
    return NULL;
}

int vmm_mem_write(const struct vmm_mem *mem, uint64_t addr, const void *src, size_t len)
{
    void *at = vmm_mem_slice(mem, addr, len);

    if (!at) {
        return SHL_EGUEST;
    }
    memcpy(at, src, len);
    return 0;
}

int vmm_mem_read(const struct vmm_mem *mem, uint64_t addr, void *dst, size_t len)
{
    const void *at = vmm_mem_slice(mem, addr, len);

    if (!at) {
        return SHL_EGUEST;
    }
    memcpy(dst, at, len);
    return 0;
}
