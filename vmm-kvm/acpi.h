/* ACPI tables of the machine (ACPI 6.5): RSDP, XSDT, FADT (hardware-reduced), MADT and
 * a DSDT with the virtio-mmio devices ("LNRO0005"), COM1 and \_S5. Pure: bytes out. */
#ifndef SHL_VMM_ACPI_H
#define SHL_VMM_ACPI_H

#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"

struct vmm_mem;

struct vmm_acpi_config {
    unsigned vcpus;
    unsigned virtio_count; /* device n: VMM_MMIO_BASE + n * VMM_MMIO_STRIDE, GSI 5 + n */
};

#define VMM_ACPI_BYTES_MAX 16384u

/* Append all tables to @out (empty) as they lie from VMM_ADDR_RSDP on, the RSDP first.
 * 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int vmm_acpi_build(const struct vmm_acpi_config *config, struct shl_buf *out);

/* The same, written to guest memory. */
SHL_MUST_CHECK int vmm_acpi_write(const struct vmm_acpi_config *config, struct vmm_mem *mem);

#endif /* SHL_VMM_ACPI_H */
