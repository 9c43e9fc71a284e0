/* virtio-blk (virtio 1.2, section 5.2) on a struct vmm_disk.
 *
 * Requests are served in order, one at a time. What the host cannot do (disk full,
 * I/O error) is answered with VIRTIO_BLK_S_IOERR and counted; a request without room
 * for header or status is SHL_EGUEST (R9). Sector ranges are checked against the
 * capacity without overflow. */
#ifndef SHL_VMM_BLK_H
#define SHL_VMM_BLK_H

#include "vmm-kvm/disk.h"
#include "vmm-kvm/virtio.h"

#define VMM_BLK_CONFIG_BYTES 60u

struct vmm_blk_stats {
    uint64_t reads;
    uint64_t writes;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint64_t flushes;
    uint64_t errors; /* requests answered with IOERR */
};

struct vmm_blk {
    struct vmm_virtio dev;
    struct vmm_disk disk;
    struct vmm_blk_stats stats;
};

/* @disk is copied; its ctx is borrowed. */
void vmm_blk_init(struct vmm_blk *blk,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  const struct vmm_disk *disk);

#endif /* SHL_VMM_BLK_H */
