/* Any file as a memory layer: opened, searched, and mapped into a machine. The checksums
 * are made right half of the time, so that the fuzzer gets behind them. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/sum.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGE      VMM_LAYER_PAGE_BYTES
#define BOOT      (64u * PAGE)
#define INPUT_MAX (16u * PAGE)

/* Input: one byte of choices, the header's fields (48 bytes), then the table. */
#define FIELDS 48u

static int fd = -1;

static void write_file(const uint8_t *data, size_t size)
{
    static uint8_t raw[INPUT_MAX];
    uint8_t choice = data[0];
    uint64_t runs;
    size_t table;

    memset(raw, 0, sizeof(raw));
    data++;
    size--;
    memcpy(raw, data, SHL_MIN(size, (size_t)FIELDS));
    if (size > FIELDS) {
        memcpy(raw + VMM_LAYER_HEADER_BYTES, data + FIELDS,
               SHL_MIN(size - FIELDS, sizeof(raw) - VMM_LAYER_HEADER_BYTES));
    }
    if (choice & 1) {
        memcpy(raw, "SHLMEM\r\n\1\0\0\0\0\x10\0\0", 16);
    }
    if (choice & 2) {
        shl_put_le64(raw + 16, BOOT);
    }
    runs = shl_get_le64(raw + 24);
    table = (size_t)SHL_MIN(runs, (sizeof(raw) - VMM_LAYER_HEADER_BYTES) / 16) * 16;
    if (choice & 4) {
        shl_put_le64(raw + 48, shl_sum(SHL_SUM_START, raw + VMM_LAYER_HEADER_BYTES, table));
        shl_put_le64(raw + 56, shl_sum(SHL_SUM_START, raw, 56));
    }
    if (ftruncate(fd, 0) < 0 || shl_pwrite_full(fd, raw, sizeof(raw), 0) < 0 ||
        ftruncate(fd, (off_t)(2 * PAGE + (choice >> 3) * PAGE)) < 0) {
        abort();
    }
}

static void check_layer(void)
{
    struct vmm_layer layer;
    uint64_t i, pages = 0;

    if (vmm_layer_open(&layer, fd, NULL) < 0) {
        assert(!layer.runs);
        return;
    }
    for (i = 0; i < layer.run_count; i++) {
        const struct vmm_layer_run *run = &layer.runs[i];

        assert(run->page_count > 0);
        assert(run->file_offset == layer.data_offset + pages * PAGE);
        assert(run->first_page + run->page_count <= layer.memory_bytes / PAGE);
        assert(vmm_layer_find(&layer, run->first_page) == run);
        assert(vmm_layer_find(&layer, run->first_page + run->page_count - 1) == run);
        pages += run->page_count;
    }
    assert(pages == layer.page_count);
    vmm_layer_release(&layer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_mem mem;

    if (fd < 0) {
        fd = memfd_create("layer", MFD_CLOEXEC);
    }
    if (size < 1) {
        return 0;
    }
    write_file(data, size);
    check_layer();
    if (vmm_mem_init_restored(&mem, BOOT, 0, 0, -1, &fd, 1, NULL) == 0) {
        const volatile uint8_t *host = vmm_mem_slice(&mem, 0, BOOT);
        size_t i;

        for (i = 0; i < BOOT; i += PAGE) {
            (void)host[i]; /* no page is behind the end of the file */
        }
        vmm_mem_release(&mem);
    }
    return 0;
}
