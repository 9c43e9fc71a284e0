#include "vmm-kvm/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm-kvm/control.h"
#include "vmm-kvm/layout.h"

_Static_assert(VMM_MEM_SECTION_BYTES % VMM_HOTPLUG_BLOCK_BYTES == 0,
               "the usable part of the hotplug region holds whole blocks");

/* Guest and host addresses agree modulo 2 MiB, so that the host can back the guest
 * with huge pages: 512 times fewer page faults while a guest boots. */
#define MAP_ALIGN      (2 * VMM_MIB)
#define BOOT_BYTES_MAX ((uint64_t)1 << 46)

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static int check_sizes(uint64_t boot_bytes,
                       uint64_t hotplug_max,
                       uint64_t hotplug_now,
                       struct shl_err *err)
{
    if (boot_bytes == 0 || boot_bytes % VMM_PAGE_BYTES != 0 || boot_bytes > BOOT_BYTES_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "guest memory of %llu bytes is not possible: give a multiple of 4096",
                           (unsigned long long)boot_bytes);
    }
    if (hotplug_max % VMM_HOTPLUG_BLOCK_BYTES != 0 || hotplug_max > VMM_MEM_HOTPLUG_MAX_BYTES ||
        hotplug_now % VMM_HOTPLUG_BLOCK_BYTES != 0 || hotplug_now > hotplug_max) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "pluggable memory of %llu of %llu bytes is not possible: give "
                           "multiples of 4 MiB up to 64 GiB",
                           (unsigned long long)hotplug_now, (unsigned long long)hotplug_max);
    }
    return 0;
}

static void add_region(struct vmm_mem *mem, uint64_t start, uint64_t size, uint8_t *host)
{
    mem->regions[mem->region_count++] = (struct vmm_mem_region){start, size, host};
}

int vmm_mem_init(struct vmm_mem *mem,
                 uint64_t boot_bytes,
                 uint64_t hotplug_max,
                 uint64_t hotplug_now,
                 struct shl_err *err)
{
    uint64_t usable, high_end;
    uint8_t *host;
    int r = check_sizes(boot_bytes, hotplug_max, hotplug_now, err);

    memset(mem, 0, sizeof(*mem));
    if (r < 0) {
        return r;
    }
    usable = SHL_MIN(round_up(hotplug_now, VMM_MEM_SECTION_BYTES), hotplug_max);
    mem->map_bytes = (size_t)(round_up(boot_bytes, MAP_ALIGN) + usable + MAP_ALIGN);
    mem->map = mmap(NULL, mem->map_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem->map == MAP_FAILED) {
        mem->map = NULL;
        return shl_err_sys(err, errno,
                           "cannot map %llu MiB of guest memory: give the machine more memory or "
                           "the sandbox less",
                           (unsigned long long)((boot_bytes + usable) / VMM_MIB));
    }
    host = (uint8_t *)(((uintptr_t)mem->map + MAP_ALIGN - 1) & ~(uintptr_t)(MAP_ALIGN - 1));
    mem->size = boot_bytes;
    add_region(mem, 0, SHL_MIN(boot_bytes, VMM_RAM_LOW_END), host);
    if (boot_bytes > VMM_RAM_LOW_END) {
        add_region(mem, VMM_RAM_HIGH_START, boot_bytes - VMM_RAM_LOW_END, host + VMM_RAM_LOW_END);
    }
    mem->boot_region_count = mem->region_count;
    high_end =
        VMM_RAM_HIGH_START + (boot_bytes > VMM_RAM_LOW_END ? boot_bytes - VMM_RAM_LOW_END : 0);
    mem->hotplug_start = round_up(high_end, VMM_MEM_SECTION_BYTES);
    mem->hotplug_max = hotplug_max;
    mem->hotplug_usable = usable;
    if (usable > 0) {
        add_region(mem, mem->hotplug_start, usable, host + round_up(boot_bytes, MAP_ALIGN));
    }
    return 0;
}

void vmm_mem_release(struct vmm_mem *mem)
{
    if (mem->map) {
        (void)munmap(mem->map, mem->map_bytes);
    }
    free(mem->layered);
    memset(mem, 0, sizeof(*mem));
}

uint64_t vmm_mem_total_bytes(const struct vmm_mem *mem)
{
    return mem->size + mem->hotplug_max;
}

uint8_t *vmm_mem_page(const struct vmm_mem *mem, uint64_t page, uint64_t *ret_count)
{
    uint64_t boot_pages = mem->size / VMM_PAGE_BYTES;
    uint64_t plug_pages = mem->hotplug_usable / VMM_PAGE_BYTES;

    if (page < boot_pages) {
        /* Both parts of boot memory are one piece here. */
        *ret_count = boot_pages - page;
        return mem->regions[0].host + page * VMM_PAGE_BYTES;
    }
    page -= boot_pages;
    if (page < plug_pages) {
        *ret_count = plug_pages - page;
        return mem->regions[mem->region_count - 1].host + page * VMM_PAGE_BYTES;
    }
    return NULL;
}

uint64_t vmm_mem_discard(const struct vmm_mem *mem, void *host, uint64_t len)
{
    uint64_t skip = -(uintptr_t)host % VMM_PAGE_BYTES;
    unsigned i;

    for (i = 0; i < mem->region_count; i++) {
        const struct vmm_mem_region *region = &mem->regions[i];
        uint64_t offset = (uintptr_t)host - (uintptr_t)region->host;

        if (offset < region->size && len <= region->size - offset && len > skip) {
            uint64_t bytes = (len - skip) / VMM_PAGE_BYTES * VMM_PAGE_BYTES;

            return bytes > 0 && madvise((uint8_t *)host + skip, bytes, MADV_DONTNEED) == 0 ? bytes
                                                                                           : 0;
        }
    }
    return 0;
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
