/* Several layers as one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image_parts.h"

#define FLATTEN_BYTES (1u << 20)

/*- Memory: one byte per page says which layer it comes from (0: none). */

#define FILLED 255 /* from below all layers, between two runs that become one */
_Static_assert(CKPT_LAYERS_MAX < FILLED, "owners are bytes");

struct owners {
    uint8_t *of;
    uint64_t pages;
};

static int find_owners(struct owners *owners, const struct ckpt_memory *memory, struct shl_err *err)
{
    unsigned i;
    uint64_t k;

    owners->pages = memory->bytes / CKPT_PAGE_BYTES;
    owners->of = calloc(1, owners->pages + 1);
    if (!owners->of) {
        return shl_err_sys(err, ENOMEM, "cannot merge memory layers");
    }
    for (i = 0; i < memory->count; i++) { /* higher ones overwrite */
        const struct vmm_layer *layer = &memory->layers[i];

        for (k = 0; k < layer->run_count; k++) {
            memset(owners->of + layer->runs[k].first_page, (int)i + 1,
                   (size_t)layer->runs[k].page_count);
        }
    }
    return 0;
}

/* The next pages from @at on that belong to one layer; false: none. */
static bool next_piece(const struct owners *owners,
                       uint64_t at,
                       uint64_t *ret_at,
                       uint64_t *ret_end)
{
    uint64_t word, end;

    while (at < owners->pages && owners->of[at] == 0) {
        if (at % 8 == 0 && owners->pages - at >= 8) {
            memcpy(&word, owners->of + at, sizeof(word));
            if (word == 0) {
                at += 8;
                continue;
            }
        }
        at++;
    }
    for (end = at; end < owners->pages && owners->of[end] == owners->of[at]; end++) {
    }
    *ret_at = at;
    *ret_end = end;
    return at < owners->pages;
}

/* Where page @page of @layer is in its file; the layer has it. */
static uint64_t page_offset(const struct vmm_layer *layer, uint64_t page)
{
    const struct vmm_layer_run *run = vmm_layer_find(layer, page);

    return run->file_offset + (page - run->first_page) * CKPT_PAGE_BYTES;
}

/* Runs of the merged layer: pieces that touch are one. With NULL they are counted. */
static uint64_t merged_runs(const struct owners *owners, struct vmm_layer_run *runs)
{
    uint64_t at = 0, end, last = UINT64_MAX, count = 0;

    while (next_piece(owners, at, &at, &end)) {
        if (at != last) {
            count++;
            if (runs) {
                runs[count - 1] = (struct vmm_layer_run){.first_page = at};
            }
        }
        if (runs) {
            runs[count - 1].page_count += end - at;
        }
        at = last = end;
    }
    return count;
}

/* Join runs across gaps of up to @gap pages. */
static void fill_gaps(struct owners *owners, uint64_t gap)
{
    uint64_t at = 0, end, last = UINT64_MAX;

    while (next_piece(owners, at, &at, &end)) {
        if (last != UINT64_MAX && at > last && at - last <= gap) {
            memset(owners->of + last, FILLED, (size_t)(at - last));
        }
        at = last = end;
    }
}

/* A layer is mapped run by run, so it must not have too many: the shortest gaps are filled
 * with what lies below, which reads the same. */
static uint64_t limit_runs(struct owners *owners, uint64_t runs_max)
{
    uint64_t count = merged_runs(owners, NULL);
    uint64_t gap;

    for (gap = 1; count > runs_max; gap *= 2) {
        fill_gaps(owners, gap);
        count = merged_runs(owners, NULL);
    }
    return count;
}

/* What lies below all layers; beyond the end of the base a hole reads as zeros, too. */
static int copy_base(int base_fd, uint64_t offset, int out_fd, uint64_t to, uint64_t bytes)
{
    struct stat st;
    uint64_t size;

    if (base_fd < 0) {
        return 0;
    }
    if (fstat(base_fd, &st) < 0) {
        return -errno;
    }
    size = (uint64_t)st.st_size;
    return offset < size
               ? ckpt_copy_range(base_fd, offset, out_fd, to, SHL_MIN(bytes, size - offset))
               : 0;
}

/* The pieces in ascending order are the data of the merged layer. */
static int copy_pieces(const struct ckpt_memory *memory,
                       const struct owners *owners,
                       const struct vmm_layer *out)
{
    uint64_t at = 0, end, to = out->data_offset;
    int rc = 0;

    while (rc == 0 && next_piece(owners, at, &at, &end)) {
        uint64_t bytes = (end - at) * CKPT_PAGE_BYTES;

        if (owners->of[at] == FILLED) {
            rc = copy_base(memory->base_fd, at * CKPT_PAGE_BYTES, out->fd, to, bytes);
        } else {
            const struct vmm_layer *layer = &memory->layers[owners->of[at] - 1];

            rc = ckpt_copy_range(layer->fd, page_offset(layer, at), out->fd, to, bytes);
        }
        to += bytes;
        at = end;
    }
    if (rc == 0 && fdatasync(out->fd) < 0) {
        rc = -errno;
    }
    return rc;
}

static int write_merged(const struct ckpt_memory *memory,
                        struct owners *owners,
                        uint64_t runs_max,
                        int out_fd,
                        struct shl_err *err)
{
    struct vmm_layer out = {.fd = out_fd, .memory_bytes = memory->bytes};
    int rc;

    out.run_count = limit_runs(owners, runs_max ? runs_max : VMM_LAYER_RUNS_MAX);
    out.runs = calloc(out.run_count + 1, sizeof(*out.runs));
    if (!out.runs) {
        return shl_err_sys(err, ENOMEM, "cannot merge memory layers");
    }
    (void)merged_runs(owners, out.runs);
    rc = vmm_layer_begin(&out, err);
    if (rc == 0) {
        rc = copy_pieces(memory, owners, &out);
        rc = rc < 0 ? shl_err_sys(err, -rc, "cannot merge memory layers") : 0;
    }
    vmm_layer_release(&out);
    return rc;
}

int ckpt_merge_memory(const int *fds,
                      unsigned count,
                      int base_fd,
                      unsigned runs_max,
                      int out_fd,
                      struct shl_err *err)
{
    struct ckpt_memory memory;
    struct owners owners = {0};
    int rc = ckpt_memory_open(&memory, fds, count, base_fd, err);

    if (rc < 0) {
        return rc;
    }
    rc = find_owners(&owners, &memory, err);
    if (rc == 0) {
        rc = write_merged(&memory, &owners, runs_max, out_fd, err);
    }
    free(owners.of);
    ckpt_memory_release(&memory);
    return rc;
}

/*- Flattening: pages of zeros become holes. */

static int copy_sparse(int from,
                       uint64_t from_at,
                       int to,
                       uint64_t to_at,
                       uint64_t len,
                       uint8_t *buf)
{
    int rc = 0;

    while (rc == 0 && len > 0) {
        size_t part = (size_t)SHL_MIN((uint64_t)FLATTEN_BYTES, len), i, end;

        rc = shl_pread_full(from, buf, part, from_at);
        for (i = 0; rc == 0 && i < part; i = end) {
            end = i + CKPT_PAGE_BYTES;
            if (ckpt_is_zero(buf + i, CKPT_PAGE_BYTES)) {
                continue;
            }
            while (end < part && !ckpt_is_zero(buf + end, CKPT_PAGE_BYTES)) {
                end += CKPT_PAGE_BYTES;
            }
            rc = shl_pwrite_full(to, buf + i, end - i, to_at + i);
        }
        from_at += part;
        to_at += part;
        len -= part;
    }
    return rc;
}

static int write_flat(const struct ckpt_memory *memory,
                      const struct owners *owners,
                      uint64_t bytes,
                      int out_fd)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(FLATTEN_BYTES);
    uint64_t at = 0, end;
    int rc = buffer ? 0 : -ENOMEM;

    if (rc == 0 && ftruncate(out_fd, (off_t)bytes) < 0) {
        rc = -errno;
    }
    while (rc == 0 && next_piece(owners, at, &at, &end)) {
        const struct vmm_layer *layer = &memory->layers[owners->of[at] - 1];

        rc = copy_sparse(layer->fd, page_offset(layer, at), out_fd, at * CKPT_PAGE_BYTES,
                         (end - at) * CKPT_PAGE_BYTES, buffer);
        at = end;
    }
    if (rc == 0 && fdatasync(out_fd) < 0) {
        rc = -errno;
    }
    return rc;
}

int ckpt_flatten_memory(const int *fds,
                        unsigned count,
                        uint64_t bytes,
                        int out_fd,
                        struct shl_err *err)
{
    struct ckpt_memory memory;
    struct owners owners = {0};
    int rc = ckpt_memory_open(&memory, fds, count, -1, err);

    if (rc < 0) {
        return rc;
    }
    rc = find_owners(&owners, &memory, err);
    if (rc == 0 && owners.pages > bytes / CKPT_PAGE_BYTES &&
        !ckpt_is_zero(owners.of + bytes / CKPT_PAGE_BYTES,
                      (size_t)(owners.pages - bytes / CKPT_PAGE_BYTES))) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "a layer has pages beyond a memory of %llu bytes",
                         (unsigned long long)bytes);
    }
    if (rc == 0) {
        rc = write_flat(&memory, &owners, bytes, out_fd);
        rc = rc < 0 ? shl_err_sys(err, -rc, "cannot write a memory image") : 0;
    }
    free(owners.of);
    ckpt_memory_release(&memory);
    return rc;
}

/*- Disk. */

static int copy_clusters(const struct ckpt_disk *disk, int out_fd, uint8_t *bitmap)
{
    uint64_t count = vmm_overlay_cluster_count(disk->header.virtual_bytes), n;
    int rc = 0;

    for (n = 0; rc == 0 && n < count; n++) {
        const struct vmm_sealed *layer = ckpt_disk_owner(disk, n);

        if (layer) {
            rc = ckpt_copy_range(layer->fd, vmm_sealed_offset(layer, n), out_fd,
                                 disk->header.data_offset + n * CKPT_CHUNK_BYTES,
                                 ckpt_disk_valid(layer, n));
            bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
        }
    }
    return rc;
}

static int write_overlay(const struct ckpt_disk *disk, int out_fd, struct shl_err *err)
{
    size_t bytes = (size_t)vmm_overlay_bitmap_bytes(disk->header.virtual_bytes);
    SHL_CLEANUP_FREE uint8_t *bitmap = calloc(1, bytes);
    int rc = bitmap ? vmm_overlay_file_create(out_fd, &disk->header, err)
                    : shl_err_sys(err, ENOMEM, "cannot merge disk layers");

    if (rc < 0) {
        return rc;
    }
    rc = copy_clusters(disk, out_fd, bitmap);
    if (rc == 0 && fdatasync(out_fd) < 0) { /* a bit only after its data */
        rc = -errno;
    }
    if (rc == 0) {
        rc = shl_pwrite_full(out_fd, bitmap, bytes, VMM_OVERLAY_HEADER_BYTES);
    }
    if (rc == 0 && fdatasync(out_fd) < 0) {
        rc = -errno;
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot merge disk layers") : 0;
}

int ckpt_merge_disk(const int *fds, unsigned count, int base_fd, int out_fd, struct shl_err *err)
{
    struct ckpt_disk disk;
    int rc;

    if (count == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "there is no disk layer to merge");
    }
    rc = ckpt_disk_open(&disk, fds, count, base_fd, err);
    if (rc < 0) {
        return rc;
    }
    rc = write_overlay(&disk, out_fd, err);
    ckpt_disk_release(&disk);
    return rc;
}
