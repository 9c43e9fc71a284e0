/* A sealed overlay: a disk layer that nobody writes any more.
 *
 * Same file as vmm-kvm/overlay.h describes. Header, sizes and bitmap are checked at open,
 * and the bitmap (one bit for each cluster) is read then: a mapped one would turn a failing
 * disk, or on tmpfs a full one, into the end of the process. The file must not change
 * afterwards.
 *
 * Opening takes a shared lock (OFD) on the open file description of @fd: an overlay
 * that a VM still writes is refused, and a sealed one cannot be opened for writing.
 * Used by the VMM's disk and by checkpoint/. Any thread, one object at a time; reading
 * from several threads is fine.
 */
#ifndef SHL_VMM_SEALED_H
#define SHL_VMM_SEALED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "vmm-kvm/overlay_format.h"

struct vmm_sealed {
    int fd; /* borrowed */
    struct vmm_overlay_header header;
    uint64_t cluster_count;
    uint8_t *bitmap; /* whole pages; owned */
};

/* SHL_ECORRUPT, SHL_EVERSION, SHL_ECONFLICT (somebody writes it), or errno. */
SHL_MUST_CHECK int vmm_sealed_open(struct vmm_sealed *sealed, int fd, struct shl_err *err);
void vmm_sealed_release(struct vmm_sealed *sealed);

/* Whether cluster @n is in this layer; false for any beyond its end. */
bool vmm_sealed_has(const struct vmm_sealed *sealed, uint64_t n);

/* First cluster from @n on that is in this layer: true and *ret. */
bool vmm_sealed_next(const struct vmm_sealed *sealed, uint64_t n, uint64_t *ret);

/* Where cluster @n is in the file. The last one may reach beyond virtual_bytes; what
 * is there has no meaning. */
uint64_t vmm_sealed_offset(const struct vmm_sealed *sealed, uint64_t n);

#endif /* SHL_VMM_SEALED_H */
