/* The file format of overlays, sealed or not.
 *
 * Overlay file, all fields little-endian:
 *   0      header, 4 KiB: magic "SHLOVL\r\n", u32 version, u32 cluster_bytes,
 *          u64 virtual_bytes, u64 base_bytes, 16 bytes base id, u64 bitmap_offset,
 *          u64 data_offset, u64 checksum of the 64 bytes before it
 *   4096   bitmap: bit n (LSB first) set: cluster n is in this file
 *   ...    data_offset (multiple of 64 KiB): cluster n at data_offset + n * 64 KiB
 *
 * The base id is a fingerprint of the first and last 64 KiB and the size. It catches
 * mistakes (a wrong or changed base), it is no proof against an attacker.
 */
#ifndef SHL_VMM_OVERLAY_FORMAT_H
#define SHL_VMM_OVERLAY_FORMAT_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define VMM_OVERLAY_CLUSTER_BYTES 65536u
#define VMM_OVERLAY_HEADER_BYTES  4096u
#define VMM_OVERLAY_ID_BYTES      16u
#define VMM_OVERLAY_VIRTUAL_MAX   (1ull << 42) /* 4 TiB: an 8 MiB bitmap */

struct vmm_overlay_header {
    uint64_t virtual_bytes;
    uint64_t base_bytes;
    uint64_t data_offset;
    uint8_t base_id[VMM_OVERLAY_ID_BYTES];
};

/* Sizes that follow from virtual_bytes. */
uint64_t vmm_overlay_cluster_count(uint64_t virtual_bytes);
uint64_t vmm_overlay_bitmap_bytes(uint64_t virtual_bytes);
uint64_t vmm_overlay_data_offset(uint64_t virtual_bytes);

/* Parse and check a header alone. 0, SHL_EVERSION or SHL_ECORRUPT with the reason. */
SHL_MUST_CHECK int vmm_overlay_header_parse(const uint8_t raw[VMM_OVERLAY_HEADER_BYTES],
                                            struct vmm_overlay_header *ret,
                                            struct shl_err *err);
void vmm_overlay_header_format(const struct vmm_overlay_header *header,
                               uint8_t raw[VMM_OVERLAY_HEADER_BYTES]);

/* Size and id of the base image @base_fd (-1: an empty one). 0, SHL_EINVALIDARG, errno. */
SHL_MUST_CHECK int vmm_overlay_measure_base(int base_fd,
                                            uint64_t *ret_bytes,
                                            uint8_t ret_id[VMM_OVERLAY_ID_BYTES],
                                            struct shl_err *err);

/* Bring the empty file @fd into being as an overlay without clusters. Also how
 * checkpoint/ starts a merged layer, which it then fills: clusters at their offsets,
 * then fdatasync, then the bitmap. 0 or errno. */
SHL_MUST_CHECK int vmm_overlay_file_create(int fd,
                                           const struct vmm_overlay_header *header,
                                           struct shl_err *err);

#endif /* SHL_VMM_OVERLAY_FORMAT_H */
