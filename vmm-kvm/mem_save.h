/* Saving guest memory: the pages that differ from what lies below, as one layer.
 *
 * A page is private, and so part of the layer, when the page tables hold an own copy of
 * it (/proc/self/pagemap: present or swapped, and not a file's). Where zeros lie below,
 * pages of zeros are left out. Cost follows the dirty pages (on kernels before 6.7 also 8
 * bytes of pagemap per page of mapped memory, see mem_scan.h).
 *
 * All vCPUs and devices stand still during the call. Nothing in @mem changes, also not
 * when it fails. */
#ifndef SHL_VMM_MEM_SAVE_H
#define SHL_VMM_MEM_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_mem;

struct vmm_mem_save_stats {
    uint64_t dirty_pages;   /* differ from what lies below */
    uint64_t zero_pages;    /* private, but zeros over zeros: left out */
    uint64_t written_bytes; /* of the file: pages, and the table before them */
    uint64_t run_count;
};

/* Write @out_fd (empty, read-write) as a layer of vmm-kvm/layer.h. @pagemap_fd: this
 * process's /proc/self/pagemap, opened after its last fork and before it gave up its
 * privileges. Not synced. 0 or -errno (-ENOSPC, -EFBIG); then @out_fd holds garbage.
 * System calls: ioctl (VMM_PAGEMAP_SCAN), pread64, pwrite64, pwritev, ftruncate, mmap,
 * munmap, brk. */
SHL_MUST_CHECK int vmm_mem_save(const struct vmm_mem *mem,
                                int pagemap_fd,
                                int out_fd,
                                struct vmm_mem_save_stats *ret,
                                struct shl_err *err);

/* The same; @by_entries: as on an older kernel. For tests. */
SHL_MUST_CHECK int vmm_mem_save_how(const struct vmm_mem *mem,
                                    int pagemap_fd,
                                    bool by_entries,
                                    int out_fd,
                                    struct vmm_mem_save_stats *ret,
                                    struct shl_err *err);

#endif /* SHL_VMM_MEM_SAVE_H */
