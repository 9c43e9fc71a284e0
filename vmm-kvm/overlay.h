/* Copy-on-write disk: a read-only base image and one sparse overlay file.
 *
 * Overlay file, all fields little-endian:
 *   0      header, 4 KiB: magic "SHLOVL\r\n", u32 version, u32 cluster_bytes,
 *          u64 virtual_bytes, u64 base_bytes, 16 bytes base id, u64 bitmap_offset,
 *          u64 data_offset, u64 checksum of the 64 bytes before it
 *   4096   bitmap: bit n (LSB first) set: cluster n is in this file
 *   ...    data_offset (multiple of 64 KiB): cluster n at data_offset + n * 64 KiB
 * Clusters without a bit come from the base; beyond its end they are zeros.
 *
 * Crash rule: a bit reaches the file only after the data of its cluster is on disk
 * (flush: fdatasync, write bitmap, fdatasync). So whatever kills the process, flushed
 * data is there and an unflushed cluster is as it was at the last flush. In exchange
 * a cluster without a bit must be a hole: open punches what a crash left there.
 *
 * The base id is a fingerprint of the first and last 64 KiB and the size. It catches
 * mistakes (a wrong or changed base), it is no proof against an attacker.
 *
 * One thread. The file is locked (OFD lock) so that two VMs never share it.
 */
#ifndef SHL_VMM_OVERLAY_H
#define SHL_VMM_OVERLAY_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"
#include "vmm-kvm/disk.h"

#define VMM_OVERLAY_CLUSTER_BYTES 65536u
#define VMM_OVERLAY_HEADER_BYTES  4096u
#define VMM_OVERLAY_ID_BYTES      16u
#define VMM_OVERLAY_VIRTUAL_MAX   (1ull << 42) /* 4 TiB: an 8 MiB bitmap */

struct vmm_overlay {
    int fd;      /* borrowed, like base_fd */
    int base_fd; /* -1: the base is empty */
    uint64_t virtual_bytes;
    uint64_t base_bytes;
    uint64_t cluster_count;
    uint64_t data_offset;
    uint64_t present_count; /* clusters in the overlay */
    uint8_t base_id[VMM_OVERLAY_ID_BYTES];
    uint8_t *bitmap; /* bitmap_bytes, what the VM sees */
    size_t bitmap_bytes;
    uint8_t *dirty_pages; /* one byte per 4 KiB of bitmap: differs from the file */
    bool bitmap_dirty;
    bool data_dirty; /* written since the last flush */
    bool no_holes;   /* this file system cannot punch: copy whole clusters */
    uint8_t *bounce; /* one cluster */
};

/* Header fields as parsed; separate so that the parser can be fuzzed. */
struct vmm_overlay_header {
    uint64_t virtual_bytes;
    uint64_t base_bytes;
    uint64_t data_offset;
    uint8_t base_id[VMM_OVERLAY_ID_BYTES];
};

/* Parse and check a header alone. 0, SHL_EVERSION or SHL_ECORRUPT with the reason. */
SHL_MUST_CHECK int vmm_overlay_header_parse(const uint8_t raw[VMM_OVERLAY_HEADER_BYTES],
                                            struct vmm_overlay_header *ret,
                                            struct shl_err *err);

/* Open or, when @fd is an empty file, create. The descriptors stay the caller's and
 * must outlive the overlay. Errors: SHL_ECORRUPT, SHL_EVERSION, SHL_ECONFLICT (other
 * base, other size, in use), SHL_EINVALIDARG, or errno. */
SHL_MUST_CHECK int vmm_overlay_open(struct vmm_overlay *overlay,
                                    int fd,
                                    int base_fd,
                                    uint64_t virtual_bytes,
                                    struct shl_err *err);
/* Frees memory; does not flush. */
void vmm_overlay_release(struct vmm_overlay *overlay);

/* The overlay as a disk; valid until release. */
struct vmm_disk vmm_overlay_disk(struct vmm_overlay *overlay);

#endif /* SHL_VMM_OVERLAY_H */
