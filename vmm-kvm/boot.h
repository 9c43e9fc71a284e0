/* Everything the kernel finds in memory when it starts in long mode: page tables, GDT,
 * zero page with e820 map, command line, initrd (Linux Documentation/x86/boot.rst,
 * "64-bit Boot Protocol"). No KVM calls: registers are set by regs.c. */
#ifndef SHL_VMM_BOOT_H
#define SHL_VMM_BOOT_H

#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "vmm-kvm/kernel.h"

struct vmm_mem;

/* Selectors in the boot GDT (boot.rst: __BOOT_CS 0x10, __BOOT_DS 0x18). */
#define VMM_BOOT_CS        0x10u
#define VMM_BOOT_DS        0x18u
#define VMM_BOOT_TR        0x20u
#define VMM_BOOT_GDT_COUNT 5u

/* Offsets in the zero page (struct boot_params). */
#define VMM_ZP_ACPI_RSDP  0x070u
#define VMM_ZP_E820_COUNT 0x1e8u
#define VMM_ZP_SETUP      0x1f1u
#define VMM_ZP_E820       0x2d0u
#define VMM_E820_BYTES    20u
#define VMM_E820_RAM      1u
#define VMM_E820_RESERVED 2u

struct vmm_boot {
    const struct vmm_image *kernel;
    const struct vmm_image *initrd; /* NULL: none */
    const char *cmdline;
};

/* Load kernel and initrd and write all structures. *ret_entry is where vCPU 0 starts.
 * 0, SHL_EINVALIDARG with the reason, or errno. */
SHL_MUST_CHECK int vmm_boot_load(const struct vmm_boot *boot,
                                 struct vmm_mem *mem,
                                 uint64_t *ret_entry,
                                 struct shl_err *err);

#endif /* SHL_VMM_BOOT_H */
