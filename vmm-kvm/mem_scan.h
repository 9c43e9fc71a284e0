/* Which pages of the guest are this process's own copies.
 *
 * Linux 6.7 and later answers for whole ranges and passes over what was never touched
 * (PAGEMAP_SCAN), so the cost follows the pages there are; older kernels are asked for
 * 8 bytes per page. */
#ifndef SHL_VMM_MEM_SCAN_H
#define SHL_VMM_MEM_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"

/* The ioctl, for the list of allowed ones: _IOWR('f', 16, 96 bytes) of linux/fs.h. */
#define VMM_PAGEMAP_SCAN 0xc0606610ul

/* Page numbers [first, first + count) of host memory are private. */
typedef void (*vmm_mem_scan_cb)(void *ctx, uint64_t first, uint64_t count);

/* Report the private ones among the @count pages from @host on, in ascending order
 * (some perhaps twice); @page is the number of the first. @by_entries: do not try the ioctl. 0 or
 * -errno. */
SHL_MUST_CHECK int vmm_mem_scan(int pagemap_fd,
                                const uint8_t *host,
                                uint64_t page,
                                uint64_t count,
                                bool by_entries,
                                vmm_mem_scan_cb report,
                                void *ctx);

#endif /* SHL_VMM_MEM_SCAN_H */
