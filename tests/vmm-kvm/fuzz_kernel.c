/* Any bytes as a kernel image, and as an overlay header. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm-kvm/boot.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/overlay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size;
};

static int read_input(void *ctx, void *dst, size_t len, uint64_t offset)
{
    const struct input *input = ctx;

    assert(offset <= input->size);
    assert(len <= input->size - offset);
    memcpy(dst, input->data + offset, len);
    return 0;
}

static void parse_overlay(const uint8_t *data, size_t size)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES] = {0};
    struct vmm_overlay_header header;

    memcpy(raw, data, SHL_MIN(size, sizeof(raw)));
    if (vmm_overlay_header_parse(raw, &header, NULL) == 0) {
        assert(header.virtual_bytes > 0);
        assert(header.virtual_bytes <= VMM_OVERLAY_VIRTUAL_MAX);
        assert(header.data_offset % VMM_OVERLAY_CLUSTER_BYTES == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    const struct vmm_image image = {size, read_input, &input};
    const struct vmm_boot boot = {&image, size & 1 ? &image : NULL, "quiet"};
    struct vmm_mem mem;
    uint64_t entry;

    parse_overlay(data, size);
    if (vmm_mem_init(&mem, 32 * VMM_MIB, 0, 0, NULL) < 0) {
        abort();
    }
    if (size > 0 && vmm_boot_load(&boot, &mem, &entry, NULL) == 0) {
        assert(vmm_mem_slice(&mem, entry, 1) || entry >= VMM_ADDR_HIMEM);
    }
    vmm_mem_release(&mem);
    return 0;
}
