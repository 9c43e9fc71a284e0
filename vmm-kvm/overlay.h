/* Copy-on-write disk: a read-only base image, sealed overlays over it, and one sparse
 * overlay file on top, which alone is written. File format: overlay_format.h.
 *
 * A cluster comes from the top if it has it, else from the highest sealed layer that
 * has it, else from the base; beyond the end of the base there are zeros. A layer may be
 * of a smaller disk (the disk grew since).
 *
 * Crash rule: a bit reaches the top's file only after the data of its cluster is on
 * disk (flush: fdatasync, write bitmap, fdatasync). So whatever kills the process,
 * flushed data is there and an unflushed cluster is as it was at the last flush. In
 * exchange a cluster without a bit must be a hole: open punches what a crash left.
 * vmm_overlay_seal and vmm_overlay_complete write the bitmap without waiting for the
 * disk (they run while the VM stands still): a power failure between them and the next
 * sync may leave bits without data. Flush shortly before and sync right after.
 *
 * One thread. The top is locked (OFD lock) so that two VMs never share it, sealed layers
 * have shared locks. System calls: preadv, pwritev, pread64, pwrite64, fdatasync,
 * fallocate, lseek, fstat, ftruncate, fcntl (F_OFD_SETLK), mmap, munmap, brk.
 */
#ifndef SHL_VMM_OVERLAY_H
#define SHL_VMM_OVERLAY_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/disk.h"
#include "vmm-kvm/overlay_format.h"
#include "vmm-kvm/sealed.h"

/* The overlay that is written. */
struct vmm_overlay_top {
    int fd;                 /* borrowed */
    uint64_t present_count; /* clusters in it */
    uint8_t *bitmap;        /* bitmap_bytes, what the VM sees */
    uint8_t *dirty_pages;   /* one byte per 4 KiB of bitmap: differs from the file */
    bool bitmap_dirty;
    bool data_dirty; /* written since the last flush */
    bool no_holes;   /* this file system cannot punch: copy whole clusters */
};

struct vmm_overlay {
    struct vmm_overlay_top top;
    struct vmm_sealed layers[VMM_DISK_LAYERS_MAX]; /* from the lowest to the highest */
    unsigned layer_count;
    bool layer_unsynced[VMM_DISK_LAYERS_MAX]; /* sealed here and not flushed since */
    int base_fd;                              /* borrowed; -1: the base is empty */
    struct vmm_overlay_header header;         /* of the top */
    uint64_t cluster_count;
    size_t bitmap_bytes;
    uint8_t *bounce; /* one cluster */
};

/* Open or, when @fd is an empty file, create the top. The descriptors stay the caller's
 * and must outlive the overlay. No sealed layers yet: see vmm_overlay_set_layers.
 * Errors: SHL_ECORRUPT, SHL_EVERSION, SHL_ECONFLICT (other base, other size, in use),
 * SHL_EINVALIDARG, or errno. */
SHL_MUST_CHECK int vmm_overlay_open(struct vmm_overlay *overlay,
                                    int fd,
                                    int base_fd,
                                    uint64_t virtual_bytes,
                                    struct shl_err *err);

/* Read through @fds (from the lowest to the highest, borrowed until replaced or
 * release) instead of the present sealed layers. When there were some, the caller made
 * sure that the contents are equal and durable. On failure nothing changes. SHL_ELIMIT,
 * SHL_ECONFLICT (other base, a larger disk, still written), SHL_ECORRUPT, SHL_EVERSION,
 * errno. */
SHL_MUST_CHECK int vmm_overlay_set_layers(struct vmm_overlay *overlay,
                                          const int *fds,
                                          unsigned count,
                                          struct shl_err *err);

/* Make the top the highest sealed layer and go on with the empty file @new_fd as top.
 * The old top is complete in its file afterwards, though not synced; a later flush of
 * the guest syncs it too. On failure the old top stays in use and nothing is lost.
 * SHL_ELIMIT, SHL_EINVALIDARG (@new_fd is not empty), errno. */
SHL_MUST_CHECK int vmm_overlay_seal(struct vmm_overlay *overlay, int new_fd, struct shl_err *err);

/* Write what the top's file lacks (its bitmap), without syncing. 0 or -errno. */
SHL_MUST_CHECK int vmm_overlay_complete(struct vmm_overlay *overlay);

/* What the guest's flush does: all data durable. 0 or -errno. */
SHL_MUST_CHECK int vmm_overlay_flush(struct vmm_overlay *overlay);

/* Bytes of clusters in the top. */
uint64_t vmm_overlay_used_bytes(const struct vmm_overlay *overlay);

/* Frees memory; does not flush. */
void vmm_overlay_release(struct vmm_overlay *overlay);

/* The overlay as a disk; valid until release. */
struct vmm_disk vmm_overlay_disk(struct vmm_overlay *overlay);

#endif /* SHL_VMM_OVERLAY_H */
