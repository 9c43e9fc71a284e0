/* Parts of scattered buffers. */
#ifndef SHL_VMM_IOV_H
#define SHL_VMM_IOV_H

#include <stddef.h>
#include <sys/uio.h>

/* Part [offset, offset + len) of @src into @dst (room for @src_count entries), which
 * must exist. Returns the number of entries. */
unsigned vmm_iov_slice(struct iovec *dst,
                       const struct iovec *src,
                       unsigned src_count,
                       size_t offset,
                       size_t len);

/* Drop the first @done bytes, which were transferred: entries are consumed. Returns the
 * number of those that are left, which start at *iov. */
unsigned vmm_iov_advance(struct iovec **iov, unsigned count, size_t done);

#endif /* SHL_VMM_IOV_H */
