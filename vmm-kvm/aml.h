/* ACPI Machine Language: just enough to describe devices (ACPI 6.5, chapter 20).
 * Writes into a shl_buf whose limit bounds it; the first failure sticks in error. */
#ifndef SHL_VMM_AML_H
#define SHL_VMM_AML_H

#include <stdint.h>

#include "base/buf.h"

#define VMM_AML_DEPTH_MAX 8

struct vmm_aml {
    struct shl_buf *out; /* borrowed */
    int error;
    unsigned depth;
    size_t open_at[VMM_AML_DEPTH_MAX]; /* where the PkgLength goes */
};

void vmm_aml_init(struct vmm_aml *aml, struct shl_buf *out);

/* Containers; vmm_aml_end closes the innermost one. Names have 4 characters, a scope
 * may start with a backslash. */
void vmm_aml_scope(struct vmm_aml *aml, const char *name);
void vmm_aml_device(struct vmm_aml *aml, const char *name);
void vmm_aml_package(struct vmm_aml *aml, uint8_t count);
void vmm_aml_end(struct vmm_aml *aml);

void vmm_aml_name(struct vmm_aml *aml, const char *name); /* the value follows */
void vmm_aml_integer(struct vmm_aml *aml, uint32_t value);
void vmm_aml_string(struct vmm_aml *aml, const char *text);
void vmm_aml_eisa_id(struct vmm_aml *aml, const char *id); /* "PNP0501" */

/* A resource template as a value: memory window or I/O ports (count 0: none), and one
 * edge-triggered, active-high, exclusive interrupt. */
struct vmm_aml_resources {
    uint32_t memory_base;
    uint32_t memory_bytes;
    uint16_t port_base;
    uint8_t port_count;
    uint32_t interrupt;
};
void vmm_aml_resource_template(struct vmm_aml *aml, const struct vmm_aml_resources *resources);

#endif /* SHL_VMM_AML_H */
