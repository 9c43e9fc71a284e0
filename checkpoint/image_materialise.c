/* From a manifest to the files a VMM maps. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image_parts.h"

struct target {
    struct ckpt_store *store;
    uint8_t *buffer;
    unsigned runs_max;
    struct shl_err *err;
};

/* Chunk @entry of @part to @offset of @fd. A chunk of zeros is a hole of the new file. */
static int write_chunk(struct target *target,
                       const struct ckpt_part *part,
                       const struct ckpt_entry *entry,
                       int fd,
                       uint64_t offset)
{
    size_t len = ckpt_chunk_len(part->bytes, entry->index);
    int rc;

    if (ckpt_id_is_zero(&entry->id)) {
        return 0;
    }
    rc = ckpt_chunk_read(target->store, &entry->id, target->buffer, CKPT_CHUNK_BYTES, target->err);
    if (rc < 0) {
        return rc;
    }
    if ((size_t)rc != len) {
        return shl_err_set(target->err, SHL_ECORRUPT,
                           "the manifest names a chunk of %d bytes where %zu are due", rc, len);
    }
    rc = shl_pwrite_full(fd, target->buffer, len, offset);
    return rc < 0 ? shl_err_sys(target->err, -rc, "cannot write a layer of a checkpoint") : 0;
}

static int sync_file(struct target *target, int fd)
{
    return fdatasync(fd) < 0
               ? shl_err_sys(target->err, errno, "cannot sync a layer of a checkpoint")
               : 0;
}

/*- Disk. */

static int write_bitmap(struct target *target, const struct ckpt_part *part, int fd)
{
    size_t bytes = (size_t)vmm_overlay_bitmap_bytes(part->bytes);
    SHL_CLEANUP_FREE uint8_t *bitmap = calloc(1, bytes);
    uint64_t i;
    int rc;

    if (!bitmap) {
        return shl_err_sys(target->err, ENOMEM, "cannot write a disk layer");
    }
    for (i = 0; i < part->count; i++) {
        bitmap[part->entries[i].index / 8] |= (uint8_t)(1u << (part->entries[i].index % 8));
    }
    rc = shl_pwrite_full(fd, bitmap, bytes, VMM_OVERLAY_HEADER_BYTES);
    return rc < 0 ? shl_err_sys(target->err, -rc, "cannot write a disk layer") : 0;
}

static int write_disk(struct target *target, const struct ckpt_part *part, int base_fd, int fd)
{
    struct vmm_overlay_header header = {.virtual_bytes = part->bytes};
    uint64_t i;
    int rc = vmm_overlay_measure_base(base_fd, &header.base_bytes, header.base_id, target->err);

    if (rc == 0 && header.base_bytes > part->bytes) {
        rc = shl_err_set(target->err, SHL_EINVALIDARG, "the base image is larger than the disk");
    }
    if (rc < 0) {
        return rc;
    }
    header.data_offset = vmm_overlay_data_offset(part->bytes);
    rc = vmm_overlay_file_create(fd, &header, target->err);
    for (i = 0; rc == 0 && i < part->count; i++) {
        const struct ckpt_entry *entry = &part->entries[i];

        rc = write_chunk(target, part, entry, fd,
                         header.data_offset + entry->index * CKPT_CHUNK_BYTES);
    }
    if (rc == 0) {
        rc = sync_file(target, fd); /* a bit only after its data */
    }
    if (rc == 0) {
        rc = write_bitmap(target, part, fd);
    }
    return rc < 0 ? rc : sync_file(target, fd);
}

/*- Memory. */

static uint64_t first_page(const struct ckpt_entry *entry)
{
    return entry->index * CKPT_CHUNK_PAGES;
}

static uint64_t end_page(const struct ckpt_part *part, const struct ckpt_entry *entry)
{
    return SHL_MIN(first_page(entry) + CKPT_CHUNK_PAGES, part->bytes / CKPT_PAGE_BYTES);
}

/* Runs of chunks, of which those up to @gap chunks apart are one. */
static uint64_t make_runs(const struct ckpt_part *part, uint64_t gap, struct vmm_layer_run *runs)
{
    uint64_t i, count = 0;

    for (i = 0; i < part->count; i++) {
        const struct ckpt_entry *entry = &part->entries[i];

        if (i == 0 || entry->index - entry[-1].index > gap + 1) {
            count++;
            if (runs) {
                runs[count - 1] = (struct vmm_layer_run){.first_page = first_page(entry)};
            }
        }
        if (runs) {
            runs[count - 1].page_count = end_page(part, entry) - runs[count - 1].first_page;
        }
    }
    return count;
}

/* Too many runs: over a base of zeros, what lies between them may be in the layer. */
static int plan_runs(struct target *target, const struct ckpt_part *part, struct vmm_layer *layer)
{
    uint64_t gap = 0;

    while (make_runs(part, gap, NULL) > target->runs_max) {
        if (part->base[0]) {
            return shl_err_set(target->err, SHL_ELIMIT,
                               "the memory of this checkpoint is in more than %u pieces",
                               target->runs_max);
        }
        gap = gap ? gap * 2 : 1;
    }
    layer->run_count = make_runs(part, gap, NULL);
    layer->runs = calloc(layer->run_count + 1, sizeof(*layer->runs));
    if (!layer->runs) {
        return shl_err_sys(target->err, ENOMEM, "cannot write a memory layer");
    }
    (void)make_runs(part, gap, layer->runs);
    return 0;
}

static int write_pages(struct target *target,
                       const struct ckpt_part *part,
                       const struct vmm_layer *layer)
{
    const struct vmm_layer_run *run = layer->runs;
    uint64_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < part->count; i++) {
        const struct ckpt_entry *entry = &part->entries[i];

        while (first_page(entry) >= run->first_page + run->page_count) {
            run++;
            assert(run < layer->runs + layer->run_count);
        }
        rc =
            write_chunk(target, part, entry, layer->fd,
                        run->file_offset + (first_page(entry) - run->first_page) * CKPT_PAGE_BYTES);
    }
    return rc;
}

static int write_memory(struct target *target, const struct ckpt_part *part, int fd)
{
    struct vmm_layer layer = {.fd = fd, .memory_bytes = part->bytes};
    int rc = plan_runs(target, part, &layer);

    if (rc == 0) {
        rc = vmm_layer_begin(&layer, target->err);
    }
    if (rc == 0) {
        rc = write_pages(target, part, &layer);
    }
    vmm_layer_release(&layer);
    return rc < 0 ? rc : sync_file(target, fd);
}

/*- State. */

static int write_state(struct target *target, const struct ckpt_part *part, int fd)
{
    uint64_t i;
    int rc = ftruncate(fd, (off_t)part->bytes) < 0
                 ? shl_err_sys(target->err, errno, "cannot size the state of a checkpoint")
                 : 0;

    for (i = 0; rc == 0 && i < part->count; i++) {
        rc = write_chunk(target, part, &part->entries[i], fd,
                         part->entries[i].index * CKPT_CHUNK_BYTES);
    }
    return rc < 0 ? rc : sync_file(target, fd);
}

int ckpt_image_materialise(struct ckpt_store *store,
                           const struct ckpt_manifest *manifest,
                           const struct ckpt_target *files,
                           struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(CKPT_CHUNK_BYTES);
    struct target target = {
        .store = store,
        .buffer = buffer,
        .runs_max = files->runs_max ? files->runs_max : VMM_LAYER_RUNS_MAX,
        .err = err,
    };
    int rc;

    if (!buffer) {
        return shl_err_sys(err, ENOMEM, "cannot write the files of a checkpoint");
    }
    rc = write_disk(&target, &manifest->disk, files->disk_base_fd, files->disk_fd);
    if (rc == 0 && files->mem_fd >= 0) {
        if (!manifest->has_memory) {
            return shl_err_set(err, SHL_EBADSTATE, "this checkpoint is of the disk alone");
        }
        rc = write_memory(&target, &manifest->memory, files->mem_fd);
        if (rc == 0 && files->state_fd >= 0) {
            rc = write_state(&target, &manifest->state, files->state_fd);
        }
    }
    return rc;
}
