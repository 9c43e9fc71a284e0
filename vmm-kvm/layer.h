/* A memory layer: the pages of a guest that differ from what lies below.
 *
 * The memory of a snapshot is a stack: a raw base image (or zeros) and layers, of which
 * a higher one wins. Each file is written once and never again, since running guests
 * have it mapped (reference: Firecracker maps its memory file the same way).
 *
 * File, all fields little-endian:
 *   0     header, 4 KiB: magic "SHLMEM\r\n", u32 version, u32 page_bytes (4096),
 *         u64 memory_bytes (all RAM of the machine: boot memory, then the hotplug
 *         region), u64 run_count, u64 page_count, u64 data_offset (multiple of 4096),
 *         u64 checksum of the run table, u64 checksum of the 56 bytes before it
 *   4096  run table: run_count times {u64 first_page, u64 page_count}, ascending,
 *         not touching each other, inside memory_bytes
 *   ...   data_offset (the first multiple of 4096 after the table): the pages of all
 *         runs, one after the other, to the end of file
 * Page numbers count the machine's memory without its holes: boot memory first, then the
 * hotplug region from its start. A page of zeros that hides another one is stored.
 *
 * A layer is mapped run by run (mem.h), so its runs are at most VMM_LAYER_RUNS_MAX.
 * Everything in a file is checked before use; the same code serves the VMM (mapping
 * and writing) and checkpoint/ (reading, merging). Any thread, one object at a time.
 */
#ifndef SHL_VMM_LAYER_H
#define SHL_VMM_LAYER_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

#define VMM_LAYER_PAGE_BYTES   4096u
#define VMM_LAYER_HEADER_BYTES 4096u
#define VMM_LAYER_RUNS_MAX     49152u         /* bounds the table and the time to map it */
#define VMM_LAYER_MEMORY_MAX   (256ull << 30) /* bounds memory_bytes */

struct vmm_layer_run {
    uint64_t first_page;
    uint64_t page_count;
    uint64_t file_offset; /* derived: where its first page is */
};

/* An opened layer. @fd is borrowed. */
struct vmm_layer {
    int fd;
    uint64_t memory_bytes;
    uint64_t page_count; /* of all runs */
    uint64_t data_offset;
    struct vmm_layer_run *runs; /* heap */
    uint64_t run_count;
};

/* Read and check header, table and file size. SHL_ECORRUPT, SHL_EVERSION, -errno. */
SHL_MUST_CHECK int vmm_layer_open(struct vmm_layer *layer, int fd, struct shl_err *err);
void vmm_layer_release(struct vmm_layer *layer);

/* The run that holds @page, or the first one after it; NULL beyond the last. */
const struct vmm_layer_run *vmm_layer_find(const struct vmm_layer *layer, uint64_t page);

/* Write header and table of a new layer into the empty file @fd, which gets its final
 * size; the pages of the runs follow at layer->data_offset and are the caller's to write
 * (file_offset says where). @layer holds fd, memory_bytes, runs and run_count; the rest
 * is filled in. SHL_EINVALIDARG when the runs break a rule above, or -errno. */
SHL_MUST_CHECK int vmm_layer_begin(struct vmm_layer *layer, struct shl_err *err);

#endif /* SHL_VMM_LAYER_H */
