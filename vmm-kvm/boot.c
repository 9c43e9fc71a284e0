#include "vmm-kvm/boot.h"

#include <string.h>

#include "base/buf.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#define PTE_PRESENT 1u
#define PTE_WRITE   2u
#define PTE_HUGE    0x80u

/* Fields of setup_header, as offsets in the zero page. */
#define ZP_BOOT_FLAG        0x1feu
#define ZP_MAGIC            0x202u
#define ZP_TYPE_OF_LOADER   0x210u
#define ZP_RAMDISK_IMAGE    0x218u
#define ZP_RAMDISK_SIZE     0x21cu
#define ZP_CMD_LINE_PTR     0x228u
#define ZP_INITRD_ADDR_MAX  0x22cu
#define ZP_KERNEL_ALIGNMENT 0x230u
#define ZP_CMDLINE_SIZE     0x238u

#define LOADER_UNDEFINED 0xffu

/* The first GiB mapped to itself with 2 MiB pages. */
static int write_page_tables(struct vmm_mem *mem)
{
    uint8_t *pml4 = vmm_mem_slice(mem, VMM_ADDR_PML4, VMM_PAGE_BYTES);
    uint8_t *pdpt = vmm_mem_slice(mem, VMM_ADDR_PDPT, VMM_PAGE_BYTES);
    uint8_t *pd = vmm_mem_slice(mem, VMM_ADDR_PD, VMM_PAGE_BYTES);
    unsigned i;

    if (!pml4 || !pdpt || !pd) {
        return SHL_EINVALIDARG;
    }
    shl_put_le64(pml4, VMM_ADDR_PDPT | PTE_PRESENT | PTE_WRITE);
    shl_put_le64(pdpt, VMM_ADDR_PD | PTE_PRESENT | PTE_WRITE);
    for (i = 0; i < 512; i++) {
        shl_put_le64(pd + 8u * (size_t)i, ((uint64_t)i << 21) | PTE_PRESENT | PTE_WRITE | PTE_HUGE);
    }
    return 0;
}

/* Null, unused, 64-bit code, data, TSS: base 0, limit 4 GiB (Intel SDM 3A, 3.4.5). */
static int write_gdt(struct vmm_mem *mem)
{
    static const uint64_t gdt[VMM_BOOT_GDT_COUNT] = {
        0, 0, 0x00af9b000000ffffull, 0x00cf93000000ffffull, 0x008f8b000000ffffull,
    };
    static const uint64_t idt = 0;
    int r = vmm_mem_write(mem, VMM_ADDR_GDT, gdt, sizeof(gdt));

    return r < 0 ? r : vmm_mem_write(mem, VMM_ADDR_IDT, &idt, sizeof(idt));
}

static void add_e820(uint8_t *zero_page, uint64_t start, uint64_t end, uint32_t type)
{
    uint8_t *entry = zero_page + VMM_ZP_E820 + zero_page[VMM_ZP_E820_COUNT] * VMM_E820_BYTES;

    if (start >= end) {
        return;
    }
    shl_put_le64(entry, start);
    shl_put_le64(entry + 8, end - start);
    shl_put_le32(entry + 16, type);
    zero_page[VMM_ZP_E820_COUNT]++;
}

static void write_e820(uint8_t *zero_page, const struct vmm_mem *mem)
{
    unsigned i;

    add_e820(zero_page, 0, VMM_ADDR_EBDA, VMM_E820_RAM);
    add_e820(zero_page, VMM_ADDR_EBDA, VMM_ADDR_HIMEM, VMM_E820_RESERVED);
    for (i = 0; i < mem->boot_region_count; i++) {
        const struct vmm_mem_region *region = &mem->regions[i];

        add_e820(zero_page, SHL_MAX(region->start, (uint64_t)VMM_ADDR_HIMEM),
                 region->start + region->size, VMM_E820_RAM);
    }
}

static void write_setup_header(uint8_t *zero_page, const struct vmm_kernel *kernel)
{
    if (kernel->bzimage) {
        memcpy(zero_page + VMM_ZP_SETUP, kernel->setup_header, sizeof(kernel->setup_header));
    } else {
        shl_put_le16(zero_page + ZP_BOOT_FLAG, 0xaa55);
        memcpy(zero_page + ZP_MAGIC, "HdrS", 4);
        shl_put_le32(zero_page + ZP_KERNEL_ALIGNMENT, 0x1000000);
        shl_put_le32(zero_page + ZP_INITRD_ADDR_MAX, 0x7fffffff);
        shl_put_le32(zero_page + ZP_CMDLINE_SIZE, VMM_CMDLINE_MAX - 1);
    }
    zero_page[ZP_TYPE_OF_LOADER] = LOADER_UNDEFINED;
}

/* The initrd goes to the end of low memory, where the kernel does not step on it. */
static int load_initrd(const struct vmm_boot *boot,
                       struct vmm_mem *mem,
                       const struct vmm_kernel *kernel,
                       uint8_t *zero_page,
                       struct shl_err *err)
{
    uint64_t top = SHL_MIN(mem->regions[0].size, 2 * VMM_GIB);
    uint64_t bytes = boot->initrd->bytes;
    uint64_t addr;
    void *at;
    int r;

    addr = bytes <= top ? (top - bytes) & ~(uint64_t)(VMM_PAGE_BYTES - 1) : 0;
    at = addr >= kernel->end ? vmm_mem_slice(mem, addr, bytes) : NULL;
    if (!at) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "kernel and initrd do not fit into %llu MiB of memory",
                           (unsigned long long)(mem->size / VMM_MIB));
    }
    r = boot->initrd->read(boot->initrd->ctx, at, (size_t)bytes, 0);
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the initrd");
    }
    shl_put_le32(zero_page + ZP_RAMDISK_IMAGE, (uint32_t)addr);
    shl_put_le32(zero_page + ZP_RAMDISK_SIZE, (uint32_t)bytes);
    return 0;
}

int vmm_boot_load(const struct vmm_boot *boot,
                  struct vmm_mem *mem,
                  uint64_t *ret_entry,
                  struct shl_err *err)
{
    uint8_t *zero_page = vmm_mem_slice(mem, VMM_ADDR_ZERO_PAGE, VMM_PAGE_BYTES);
    size_t cmdline_bytes = strlen(boot->cmdline) + 1;
    struct vmm_kernel kernel;
    int r;

    if (cmdline_bytes > VMM_CMDLINE_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "the kernel command line is longer than %u bytes",
                           VMM_CMDLINE_MAX - 1);
    }
    if (!zero_page || write_page_tables(mem) < 0 || write_gdt(mem) < 0 ||
        vmm_mem_write(mem, VMM_ADDR_CMDLINE, boot->cmdline, cmdline_bytes) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the guest has too little memory to boot");
    }
    r = vmm_kernel_load(boot->kernel, mem, &kernel, err);
    if (r < 0) {
        return r;
    }
    memset(zero_page, 0, VMM_PAGE_BYTES);
    write_setup_header(zero_page, &kernel);
    write_e820(zero_page, mem);
    shl_put_le32(zero_page + ZP_CMD_LINE_PTR, VMM_ADDR_CMDLINE);
    shl_put_le64(zero_page + VMM_ZP_ACPI_RSDP, VMM_ADDR_RSDP);
    if (boot->initrd) {
        r = load_initrd(boot, mem, &kernel, zero_page, err);
        if (r < 0) {
            return r;
        }
    }
    *ret_entry = kernel.entry;
    return 0;
}
