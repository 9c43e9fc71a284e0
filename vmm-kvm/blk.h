/* virtio-blk (virtio 1.2, section 5.2) on a struct vmm_disk.
 *
 * Requests are served in order, one at a time. What the host cannot do (disk full,
 * I/O error) is answered with VIRTIO_BLK_S_IOERR and counted; a request without room
 * for header or status is SHL_EGUEST (R9). Sector ranges are checked against the
 * capacity without overflow. */
#ifndef SHL_VMM_BLK_H
#define SHL_VMM_BLK_H

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/disk.h"
#include "vmm-kvm/virtio.h"

#define VMM_BLK_CONFIG_BYTES 60u
#define VMM_BLK_STATE_BYTES  8u

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

/* The disk became larger (the disk given to init must have that size): the driver is
 * told. Smaller or equal sizes change nothing. */
void vmm_blk_grow(struct vmm_blk *blk, uint64_t bytes);

/* State beyond the transport's: the size the guest knows. Restore keeps that size until
 * vmm_blk_grow, which is for when the guest is about to run. 0, SHL_ELIMIT, -ENOMEM;
 * SHL_ECORRUPT, SHL_EINVALIDARG (the disk became smaller). */
SHL_MUST_CHECK int vmm_blk_save(const struct vmm_blk *blk, struct shl_buf *buf);
SHL_MUST_CHECK int vmm_blk_restore(struct vmm_blk *blk,
                                   struct shl_bytes bytes,
                                   struct shl_err *err);

#endif /* SHL_VMM_BLK_H */
