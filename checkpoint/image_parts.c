#include "checkpoint/image_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#define COPY_BYTES (1u << 20)

int ckpt_base_read(int fd, uint8_t *dst, size_t len, uint64_t offset)
{
    while (len > 0 && fd >= 0) {
        ssize_t got = pread(fd, dst, len, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        dst += got;
        offset += (uint64_t)got;
        len -= (size_t)got;
    }
    memset(dst, 0, len);
    return 0;
}

bool ckpt_is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

size_t ckpt_chunk_len(uint64_t bytes, uint64_t n)
{
    return (size_t)SHL_MIN((uint64_t)CKPT_CHUNK_BYTES, bytes - n * CKPT_CHUNK_BYTES);
}

static int copy_buffered(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(COPY_BYTES);
    int rc = buffer ? 0 : -ENOMEM;

    while (rc == 0 && len > 0) {
        size_t part = (size_t)SHL_MIN((uint64_t)COPY_BYTES, len);

        rc = shl_pread_full(from, buffer, part, from_at);
        if (rc == 0) {
            rc = shl_pwrite_full(to, buffer, part, to_at);
        }
        from_at += part;
        to_at += part;
        len -= part;
    }
    return rc;
}

int ckpt_copy_range(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len)
{
    off_t in = (off_t)from_at, out = (off_t)to_at;

    while (len > 0) {
        ssize_t done = copy_file_range(from, &in, to, &out, (size_t)len, 0);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0 && (errno == ENOSPC || errno == EFBIG || errno == EIO || errno == EDQUOT)) {
            return -errno;
        }
        if (done <= 0) { /* not between these files, or not here */
            return copy_buffered(from, (uint64_t)in, to, (uint64_t)out, len);
        }
        len -= (uint64_t)done;
    }
    return 0;
}

/*- Memory. */

int ckpt_memory_open(struct ckpt_memory *memory,
                     const int *fds,
                     unsigned count,
                     int base_fd,
                     struct shl_err *err)
{
    int rc = 0;

    *memory = (struct ckpt_memory){.base_fd = base_fd};
    if (count == 0 || count > CKPT_LAYERS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "a memory has 1 to %d layers, not %u",
                           CKPT_LAYERS_MAX, count);
    }
    while (rc == 0 && memory->count < count) {
        struct vmm_layer *layer = &memory->layers[memory->count];

        rc = vmm_layer_open(layer, fds[memory->count], err);
        if (rc == 0) {
            memory->bytes = SHL_MAX(memory->bytes, layer->memory_bytes);
            memory->count++;
        }
    }
    if (rc < 0) {
        ckpt_memory_release(memory);
    }
    return rc;
}

void ckpt_memory_release(struct ckpt_memory *memory)
{
    while (memory->count > 0) {
        vmm_layer_release(&memory->layers[--memory->count]);
    }
}

bool ckpt_memory_touched(const struct ckpt_memory *memory, uint64_t n)
{
    unsigned i;

    for (i = 0; i < memory->count; i++) {
        const struct vmm_layer_run *run = vmm_layer_find(&memory->layers[i], n * CKPT_CHUNK_PAGES);

        if (run && run->first_page < (n + 1) * CKPT_CHUNK_PAGES) {
            return true;
        }
    }
    return false;
}

/* Pages [from, to) of one run into the chunk that begins at page @first, where no higher
 * layer was; bit n of *covered: page n of the chunk is there. */
static int read_run(const struct vmm_layer *layer,
                    const struct vmm_layer_run *run,
                    uint64_t first,
                    uint64_t from,
                    uint64_t to,
                    uint32_t *covered,
                    uint8_t *dst)
{
    uint64_t page = from, end;
    int rc = 0;

    while (rc == 0 && page < to) {
        if (*covered >> (page - first) & 1) {
            page++;
            continue;
        }
        for (end = page; end < to && !(*covered >> (end - first) & 1); end++) {
            *covered |= 1u << (end - first);
        }
        rc = shl_pread_full(layer->fd, dst + (page - first) * CKPT_PAGE_BYTES,
                            (size_t)((end - page) * CKPT_PAGE_BYTES),
                            run->file_offset + (page - run->first_page) * CKPT_PAGE_BYTES);
        page = end;
    }
    return rc;
}

static int read_layer(const struct vmm_layer *layer,
                      uint64_t first,
                      uint64_t end,
                      uint32_t *covered,
                      uint8_t *dst)
{
    const struct vmm_layer_run *run = vmm_layer_find(layer, first);
    const struct vmm_layer_run *last = layer->runs + layer->run_count;
    int rc = 0;

    for (; rc == 0 && run && run < last && run->first_page < end; run++) {
        rc = read_run(layer, run, first, SHL_MAX(first, run->first_page),
                      SHL_MIN(end, run->first_page + run->page_count), covered, dst);
    }
    return rc;
}

int ckpt_memory_read(const struct ckpt_memory *memory,
                     uint64_t n,
                     uint8_t *dst,
                     size_t len,
                     struct shl_err *err)
{
    uint64_t first = n * CKPT_CHUNK_PAGES, pages = len / CKPT_PAGE_BYTES, page;
    uint32_t covered = 0, all = (uint32_t)((1ull << pages) - 1);
    unsigned i;
    int rc = 0;

    for (i = memory->count; rc == 0 && covered != all && i-- > 0;) {
        rc = read_layer(&memory->layers[i], first, first + pages, &covered, dst);
    }
    for (page = 0; rc == 0 && page < pages; page++) {
        if (!(covered >> page & 1)) {
            rc = ckpt_base_read(memory->base_fd, dst + page * CKPT_PAGE_BYTES, CKPT_PAGE_BYTES,
                                (first + page) * CKPT_PAGE_BYTES);
        }
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot read the memory of a snapshot") : 0;
}

/*- Disk. */

int ckpt_disk_open(struct ckpt_disk *disk,
                   const int *fds,
                   unsigned count,
                   int base_fd,
                   struct shl_err *err)
{
    struct vmm_overlay_header *header = &disk->header;
    int rc;

    *disk = (struct ckpt_disk){.base_fd = base_fd};
    if (count > CKPT_LAYERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "a disk has up to %d layers, not %u", CKPT_LAYERS_MAX,
                           count);
    }
    rc = vmm_overlay_measure_base(base_fd, &header->base_bytes, header->base_id, err);
    while (rc == 0 && disk->count < count) {
        struct vmm_sealed *layer = &disk->layers[disk->count];

        rc = vmm_sealed_open(layer, fds[disk->count], err);
        if (rc < 0) {
            break;
        }
        disk->count++;
        header->virtual_bytes = SHL_MAX(header->virtual_bytes, layer->header.virtual_bytes);
        if (layer->header.base_bytes != header->base_bytes ||
            memcmp(layer->header.base_id, header->base_id, VMM_OVERLAY_ID_BYTES) != 0) {
            rc = shl_err_set(err, SHL_ECONFLICT,
                             "a disk layer belongs to another base image, or the base has changed");
        }
    }
    if (rc < 0) {
        ckpt_disk_release(disk);
        return rc;
    }
    if (count > 0) {
        header->data_offset = vmm_overlay_data_offset(header->virtual_bytes);
    }
    return 0;
}

void ckpt_disk_release(struct ckpt_disk *disk)
{
    while (disk->count > 0) {
        vmm_sealed_release(&disk->layers[--disk->count]);
    }
}

const struct vmm_sealed *ckpt_disk_owner(const struct ckpt_disk *disk, uint64_t n)
{
    unsigned i;

    for (i = disk->count; i-- > 0;) {
        if (vmm_sealed_has(&disk->layers[i], n)) {
            return &disk->layers[i];
        }
    }
    return NULL;
}

size_t ckpt_disk_valid(const struct vmm_sealed *layer, uint64_t n)
{
    return ckpt_chunk_len(layer->header.virtual_bytes, n);
}

int ckpt_disk_read(const struct ckpt_disk *disk,
                   uint64_t n,
                   uint8_t *dst,
                   size_t len,
                   struct shl_err *err)
{
    const struct vmm_sealed *layer = ckpt_disk_owner(disk, n);
    size_t valid;
    int rc;

    if (!layer) {
        rc = ckpt_base_read(disk->base_fd, dst, len, n * CKPT_CHUNK_BYTES);
    } else {
        valid = SHL_MIN(len, ckpt_disk_valid(layer, n));
        rc = shl_pread_full(layer->fd, dst, valid, vmm_sealed_offset(layer, n));
        memset(dst + valid, 0, len - valid);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot read the disk of a snapshot") : 0;
}
