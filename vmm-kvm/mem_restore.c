/* Guest memory over files: a base image and memory layers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#define MAP_FLAGS (MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; C libraries know it later */
#endif

static int map_base(struct vmm_mem *mem, int fd, struct shl_err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the memory image");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the memory image is not a regular file");
    }
    /* A shorter file would be found out by a SIGBUS when the guest gets there. */
    if ((uint64_t)st.st_size != mem->size) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the memory image has %llu bytes, the machine has %llu",
                           (unsigned long long)st.st_size, (unsigned long long)mem->size);
    }
    if (mmap(mem->regions[0].host, (size_t)mem->size, PROT_READ | PROT_WRITE, MAP_FLAGS, fd, 0) ==
        MAP_FAILED) {
        return shl_err_sys(err, errno, "cannot map the memory image");
    }
    mem->has_base = true;
    return 0;
}

static void mark_layered(struct vmm_mem *mem, uint64_t page, uint64_t count)
{
    while (count > 0) {
        if (page % 8 == 0 && count >= 8) {
            memset(mem->layered + page / 8, 0xff, (size_t)(count / 8));
            page += count / 8 * 8;
            count %= 8;
        } else {
            mem->layered[page / 8] |= (uint8_t)(1u << (page % 8));
            page++;
            count--;
        }
    }
}

/* Pages [page, page + count) of the machine from @offset of @fd: mapped, or copied. */
static int place(struct vmm_mem *mem,
                 int fd,
                 uint64_t page,
                 uint64_t count,
                 uint64_t offset,
                 bool mapped,
                 struct shl_err *err)
{
    while (count > 0) {
        uint64_t step;
        uint8_t *host = vmm_mem_page(mem, page, &step);
        int r = 0;

        if (!host) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "a memory layer has pages the machine has no memory for");
        }
        step = SHL_MIN(step, count);
        if (!mapped) {
            r = shl_pread_full(fd, host, (size_t)(step * VMM_PAGE_BYTES), offset);
        } else if (mmap(host, (size_t)(step * VMM_PAGE_BYTES), PROT_READ | PROT_WRITE, MAP_FLAGS,
                        fd, (off_t)offset) == MAP_FAILED) {
            r = -errno;
        }
        if (r < 0) {
            return shl_err_sys(err, -r, "cannot map a memory layer");
        }
        page += step;
        count -= step;
        offset += step * VMM_PAGE_BYTES;
    }
    return 0;
}

static int place_layer(struct vmm_mem *mem,
                       const struct vmm_layer *layer,
                       uint64_t mapped_min,
                       struct shl_err *err)
{
    uint64_t i;

    for (i = 0; i < layer->run_count; i++) {
        const struct vmm_layer_run *run = &layer->runs[i];
        int r = place(mem, layer->fd, run->first_page, run->page_count, run->file_offset,
                      run->page_count >= mapped_min, err);

        if (r < 0) {
            return r;
        }
        if (!mem->has_base || run->first_page + run->page_count > mem->size / VMM_PAGE_BYTES) {
            mark_layered(mem, run->first_page, run->page_count);
        }
    }
    return 0;
}

/* The shortest run that is mapped, so that there are at most VMM_MEM_MAPS_MAX. */
static uint64_t shortest_mapped(const struct vmm_layer *layers, unsigned count)
{
    uint64_t min = 1;

    for (;; min *= 2) {
        uint64_t maps = 0, i;
        unsigned n;

        for (n = 0; n < count; n++) {
            for (i = 0; i < layers[n].run_count; i++) {
                maps += layers[n].runs[i].page_count >= min;
            }
        }
        if (maps <= VMM_MEM_MAPS_MAX) {
            return min;
        }
    }
}

static int open_layer(const struct vmm_mem *mem,
                      struct vmm_layer *layer,
                      int fd,
                      struct shl_err *err)
{
    int r = vmm_layer_open(layer, fd, err);

    if (r < 0) {
        return r;
    }
    if (layer->memory_bytes != vmm_mem_total_bytes(mem)) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "a memory layer is of a machine with %llu bytes, this has %llu",
                           (unsigned long long)layer->memory_bytes,
                           (unsigned long long)vmm_mem_total_bytes(mem));
    }
    return 0;
}

static int open_layers(const struct vmm_mem *mem,
                       struct vmm_layer *layers,
                       const int *fds,
                       unsigned count,
                       struct shl_err *err)
{
    unsigned i;
    int r = 0;

    for (i = 0; i < count && r == 0; i++) {
        r = open_layer(mem, &layers[i], fds[i], err);
    }
    return r;
}

static int restore(struct vmm_mem *mem,
                   int base_fd,
                   struct vmm_layer *layers,
                   const int *layer_fds,
                   unsigned layer_count,
                   struct shl_err *err)
{
    uint64_t mapped_min;
    unsigned i;
    int r = base_fd >= 0 ? map_base(mem, base_fd, err) : 0;

    if (r < 0 || layer_count == 0) {
        return r;
    }
    mem->layered = calloc(1, (size_t)(vmm_mem_total_bytes(mem) / VMM_PAGE_BYTES / 8 + 1));
    if (!mem->layered) {
        return shl_err_set(err, -ENOMEM, "no memory for the map of the memory layers");
    }
    r = open_layers(mem, layers, layer_fds, layer_count, err);
    mapped_min = r == 0 ? shortest_mapped(layers, layer_count) : 1;
    for (i = 0; i < layer_count && r == 0; i++) {
        r = place_layer(mem, &layers[i], mapped_min, err);
    }
    return r;
}

int vmm_mem_init_restored(struct vmm_mem *mem,
                          uint64_t boot_bytes,
                          uint64_t hotplug_max,
                          uint64_t hotplug_now,
                          int base_fd,
                          const int *layer_fds,
                          unsigned layer_count,
                          struct shl_err *err)
{
    struct vmm_layer layers[VMM_MEM_LAYERS_MAX];
    unsigned i;
    int r;

    memset(mem, 0, sizeof(*mem));
    memset(layers, 0, sizeof(layers));
    if (layer_count > VMM_MEM_LAYERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "a machine has at most %d memory layers",
                           VMM_MEM_LAYERS_MAX);
    }
    r = vmm_mem_init(mem, boot_bytes, hotplug_max, hotplug_now, err);
    if (r == 0) {
        r = restore(mem, base_fd, layers, layer_fds, layer_count, err);
    }
    for (i = 0; i < layer_count; i++) {
        vmm_layer_release(&layers[i]);
    }
    if (r < 0) {
        vmm_mem_release(mem);
    }
    return r;
}

/* Pages [page, page + count), as far as there is memory for them. */
static int populate(const struct vmm_mem *mem, uint64_t page, uint64_t count)
{
    while (count > 0) {
        uint64_t step;
        uint8_t *host = vmm_mem_page(mem, page, &step);

        if (!host) {
            return 0;
        }
        step = SHL_MIN(step, count);
        if (madvise(host, (size_t)(step * VMM_PAGE_BYTES), MADV_POPULATE_WRITE) < 0) {
            return -errno;
        }
        page += step;
        count -= step;
    }
    return 0;
}

int vmm_mem_populate(const struct vmm_mem *mem, int fd, struct shl_err *err)
{
    uint64_t left = VMM_WORKING_SET_MAX_BYTES / VMM_PAGE_BYTES;
    struct vmm_layer layer = {0};
    uint64_t i;
    int r = open_layer(mem, &layer, fd, err);

    if (r < 0) {
        vmm_layer_release(&layer);
        return shl_err_wrap(err, r, "the working set");
    }
    for (i = 0; i < layer.run_count && left > 0; i++) {
        uint64_t count = SHL_MIN(layer.runs[i].page_count, left);

        if (populate(mem, layer.runs[i].first_page, count) < 0) {
            break; /* the others would fail, too */
        }
        left -= count;
    }
    vmm_layer_release(&layer);
    return 0;
}
