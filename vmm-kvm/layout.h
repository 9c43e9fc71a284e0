/* Guest-physical addresses, ports and interrupt numbers of the machine.
 *
 * One place for numbers that several parts must agree on: boot (page tables, zero
 * page), ACPI (what the guest is told) and the exit handlers (what is there).
 * A snapshot depends on them, so changing one changes the format.
 */
#ifndef SHL_VMM_LAYOUT_H
#define SHL_VMM_LAYOUT_H

#include <stdint.h>

#define VMM_PAGE_BYTES 4096u
#define VMM_MIB        (1ull << 20)
#define VMM_GIB        (1ull << 30)

/* RAM: 0..3 GiB, then the hole for MMIO, the rest from 4 GiB on. */
#define VMM_RAM_LOW_END    (3 * VMM_GIB)
#define VMM_RAM_HIGH_START (4 * VMM_GIB)

/* Boot structures in the first 640 KiB (free for the kernel once it has run). */
#define VMM_ADDR_GDT       0x500u
#define VMM_ADDR_IDT       0x520u
#define VMM_ADDR_ZERO_PAGE 0x7000u
#define VMM_ADDR_STACK     0x8ff0u
#define VMM_ADDR_PML4      0x9000u
#define VMM_ADDR_PDPT      0xa000u
#define VMM_ADDR_PD        0xb000u
#define VMM_ADDR_CMDLINE   0x20000u
#define VMM_CMDLINE_MAX    2048u /* COMMAND_LINE_SIZE of x86, with the terminator */

/* Reserved in the e820 map; ACPI tables live here, the RSDP where a BIOS has it. */
#define VMM_ADDR_EBDA     0x9fc00u
#define VMM_ADDR_RSDP     0xe0000u
#define VMM_ADDR_ACPI_END 0x100000u
#define VMM_ADDR_HIMEM    0x100000u

/* Devices. One 4 KiB page and one interrupt line per virtio device. */
#define VMM_MMIO_BASE        0xd0000000u
#define VMM_MMIO_STRIDE      0x1000u
#define VMM_IOAPIC_ADDR      0xfec00000u
#define VMM_LAPIC_ADDR       0xfee00000u
#define VMM_KVM_TSS_ADDR     0xfffbd000u /* three pages KVM needs on Intel */
#define VMM_IOAPIC_PINS      24u
#define VMM_GSI_SERIAL       4u
#define VMM_GSI_VIRTIO_FIRST 5u
#define VMM_VIRTIO_MAX       8u

/* I/O ports. */
#define VMM_PORT_SERIAL        0x3f8u
#define VMM_PORT_SERIAL_COUNT  8u
#define VMM_PORT_I8042_STATUS  0x64u /* write 0xfe: reset */
#define VMM_PORT_SLEEP_CONTROL 0x604u
#define VMM_PORT_SLEEP_STATUS  0x605u
#define VMM_SLEEP_TYPE_S5      5u

#endif /* SHL_VMM_LAYOUT_H */
