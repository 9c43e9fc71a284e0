/* What a block device needs from the host. Implemented by the overlay, and by plain
 * memory in tests. Offsets and lengths are bytes, checked by the caller against
 * @bytes. Each call returns 0 or a negative code; afterwards the caller may go on. */
#ifndef SHL_VMM_DISK_H
#define SHL_VMM_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct vmm_disk {
    uint64_t bytes; /* size the guest sees, multiple of 512 */
    void *ctx;
    int (*read)(void *ctx, uint64_t offset, const struct iovec *iov, unsigned count, size_t len);
    int (*write)(void *ctx, uint64_t offset, const struct iovec *iov, unsigned count, size_t len);
    int (*zero)(void *ctx, uint64_t offset, uint64_t len); /* reads as zeros afterwards */
    int (*flush)(void *ctx);                               /* what was written survives a crash */
};

#endif /* SHL_VMM_DISK_H */
