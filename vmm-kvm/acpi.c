#include "vmm-kvm/acpi.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "vmm-kvm/aml.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#define RSDP_BYTES   36u
#define HEADER_BYTES 36u
#define FADT_BYTES   276u
#define TABLE_ALIGN  16u

/* FADT fields (table 5.9). */
#define FADT_DSDT          40u
#define FADT_BOOT_ARCH     109u
#define FADT_FLAGS         112u
#define FADT_RESET_REG     116u
#define FADT_RESET_VALUE   128u
#define FADT_MINOR_VERSION 131u
#define FADT_X_DSDT        140u
#define FADT_SLEEP_CONTROL 244u
#define FADT_SLEEP_STATUS  256u
#define FADT_HYPERVISOR_ID 268u

#define BOOT_ARCH_NO_VGA 0x04u
#define BOOT_ARCH_NO_RTC 0x20u

#define FLAG_POWER_BUTTON (1u << 4) /* no fixed button */
#define FLAG_SLEEP_BUTTON (1u << 5)
#define FLAG_RESET_REG    (1u << 10)
#define FLAG_HW_REDUCED   (1u << 20)

/* MADT structures (5.2.12). */
#define MADT_LAPIC   0u
#define MADT_IOAPIC  1u
#define MADT_ENABLED 1u

static uint8_t checksum(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;
    size_t i;

    for (i = 0; i < len; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    return (uint8_t)-sum;
}

static uint64_t address_of(const struct shl_buf *out)
{
    return VMM_ADDR_RSDP + shl_buf_len(out);
}

/* Begin a table at an aligned place; *ret_at is its offset in @out. */
static int begin_table(struct shl_buf *out, const char *name, uint8_t revision, size_t *ret_at)
{
    static const uint8_t padding[TABLE_ALIGN];
    uint8_t header[HEADER_BYTES] = {0};
    size_t rest = shl_buf_len(out) % TABLE_ALIGN;
    int r = rest ? shl_buf_append(out, padding, TABLE_ALIGN - rest) : 0;

    if (r < 0) {
        return r;
    }
    *ret_at = shl_buf_len(out);
    memcpy(header, name, 4);
    header[8] = revision;
    memcpy(header + 10, "SHOAL ", 6);
    memcpy(header + 16, "SHOALVMM", 8);
    shl_put_le32(header + 24, 1);
    memcpy(header + 28, "SHOL", 4);
    shl_put_le32(header + 32, 1);
    return shl_buf_append(out, header, sizeof(header));
}

static void end_table(struct shl_buf *out, size_t at)
{
    uint8_t *table = shl_buf_data(out) + at;
    size_t len = shl_buf_len(out) - at;

    shl_put_le32(table + 4, (uint32_t)len);
    table[9] = 0;
    table[9] = checksum(table, len);
}

static void describe_com1(struct vmm_aml *aml)
{
    const struct vmm_aml_resources resources = {
        .port_base = VMM_PORT_SERIAL,
        .port_count = VMM_PORT_SERIAL_COUNT,
        .interrupt = VMM_GSI_SERIAL,
    };

    vmm_aml_device(aml, "COM1");
    vmm_aml_name(aml, "_HID");
    vmm_aml_eisa_id(aml, "PNP0501");
    vmm_aml_name(aml, "_UID");
    vmm_aml_integer(aml, 0);
    vmm_aml_name(aml, "_CRS");
    vmm_aml_resource_template(aml, &resources);
    vmm_aml_end(aml);
}

static void describe_virtio(struct vmm_aml *aml, unsigned n)
{
    const struct vmm_aml_resources resources = {
        .memory_base = VMM_MMIO_BASE + n * VMM_MMIO_STRIDE,
        .memory_bytes = VMM_MMIO_STRIDE,
        .interrupt = VMM_GSI_VIRTIO_FIRST + n,
    };
    char name[8];

    (void)snprintf(name, sizeof(name), "V%03u", n % 1000);
    vmm_aml_device(aml, name);
    vmm_aml_name(aml, "_HID");
    vmm_aml_string(aml, "LNRO0005");
    vmm_aml_name(aml, "_UID");
    vmm_aml_integer(aml, n);
    vmm_aml_name(aml, "_CCA");
    vmm_aml_integer(aml, 1);
    vmm_aml_name(aml, "_CRS");
    vmm_aml_resource_template(aml, &resources);
    vmm_aml_end(aml);
}

static int build_dsdt(const struct vmm_acpi_config *config, struct shl_buf *out)
{
    struct vmm_aml aml;
    size_t at;
    unsigned n;
    int r = begin_table(out, "DSDT", 6, &at);

    if (r < 0) {
        return r;
    }
    vmm_aml_init(&aml, out);
    vmm_aml_name(&aml, "_S5_"); /* soft off: type for SLEEP_CONTROL_REG */
    vmm_aml_package(&aml, 4);
    vmm_aml_integer(&aml, VMM_SLEEP_TYPE_S5);
    vmm_aml_integer(&aml, VMM_SLEEP_TYPE_S5);
    vmm_aml_integer(&aml, 0);
    vmm_aml_integer(&aml, 0);
    vmm_aml_end(&aml);
    vmm_aml_scope(&aml, "\\_SB_");
    describe_com1(&aml);
    for (n = 0; n < config->virtio_count; n++) {
        describe_virtio(&aml, n);
    }
    vmm_aml_end(&aml);
    if (aml.error == 0) {
        end_table(out, at);
    }
    return aml.error;
}

/* Generic address structure (5.2.3.2) of one byte-wide I/O port. */
static void put_port(uint8_t *at, uint16_t port)
{
    at[0] = 1; /* system I/O */
    at[1] = 8; /* bits */
    at[2] = 0;
    at[3] = 1; /* byte access */
    shl_put_le64(at + 4, port);
}

static int build_fadt(struct shl_buf *out, uint64_t dsdt)
{
    uint8_t body[FADT_BYTES] = {0};
    size_t at;
    int r;

    shl_put_le32(body + FADT_DSDT, (uint32_t)dsdt);
    shl_put_le64(body + FADT_X_DSDT, dsdt);
    shl_put_le16(body + FADT_BOOT_ARCH, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_RTC);
    shl_put_le32(body + FADT_FLAGS,
                 FLAG_POWER_BUTTON | FLAG_SLEEP_BUTTON | FLAG_RESET_REG | FLAG_HW_REDUCED);
    put_port(body + FADT_RESET_REG, VMM_PORT_I8042_STATUS);
    body[FADT_RESET_VALUE] = 0xfe;
    body[FADT_MINOR_VERSION] = 5;
    put_port(body + FADT_SLEEP_CONTROL, VMM_PORT_SLEEP_CONTROL);
    put_port(body + FADT_SLEEP_STATUS, VMM_PORT_SLEEP_STATUS);
    memcpy(body + FADT_HYPERVISOR_ID, "SHOALVMM", 8);
    r = begin_table(out, "FACP", 6, &at);
    if (r == 0) {
        r = shl_buf_append(out, body + HEADER_BYTES, sizeof(body) - HEADER_BYTES);
    }
    if (r == 0) {
        end_table(out, at);
    }
    return r;
}

static int build_madt(const struct vmm_acpi_config *config, struct shl_buf *out)
{
    uint8_t fixed[8] = {0}; /* LAPIC address, flags 0: no 8259 */
    uint8_t ioapic[12] = {MADT_IOAPIC, 12};
    size_t at;
    unsigned n;
    int r = begin_table(out, "APIC", 6, &at);

    shl_put_le32(fixed, VMM_LAPIC_ADDR);
    shl_put_le32(ioapic + 4, VMM_IOAPIC_ADDR);
    if (r == 0) {
        r = shl_buf_append(out, fixed, sizeof(fixed));
    }
    if (r == 0) {
        r = shl_buf_append(out, ioapic, sizeof(ioapic));
    }
    for (n = 0; r == 0 && n < config->vcpus; n++) {
        const uint8_t lapic[8] = {MADT_LAPIC, 8, (uint8_t)n, (uint8_t)n, MADT_ENABLED};

        r = shl_buf_append(out, lapic, sizeof(lapic));
    }
    if (r == 0) {
        end_table(out, at);
    }
    return r;
}

static int build_xsdt(struct shl_buf *out, uint64_t fadt, uint64_t madt)
{
    uint8_t entries[16];
    size_t at;
    int r = begin_table(out, "XSDT", 1, &at);

    shl_put_le64(entries, fadt);
    shl_put_le64(entries + 8, madt);
    if (r == 0) {
        r = shl_buf_append(out, entries, sizeof(entries));
    }
    if (r == 0) {
        end_table(out, at);
    }
    return r;
}

static uint64_t next_table(const struct shl_buf *out)
{
    return (address_of(out) + TABLE_ALIGN - 1) / TABLE_ALIGN * TABLE_ALIGN;
}

int vmm_acpi_build(const struct vmm_acpi_config *config, struct shl_buf *out)
{
    uint8_t rsdp[RSDP_BYTES] = {0};
    uint64_t dsdt, fadt, madt, xsdt;
    int r = shl_buf_append(out, rsdp, sizeof(rsdp));

    dsdt = next_table(out);
    if (r == 0) {
        r = build_dsdt(config, out);
    }
    fadt = next_table(out);
    if (r == 0) {
        r = build_fadt(out, dsdt);
    }
    madt = next_table(out);
    if (r == 0) {
        r = build_madt(config, out);
    }
    xsdt = next_table(out);
    if (r == 0) {
        r = build_xsdt(out, fadt, madt);
    }
    if (r < 0) {
        return r;
    }
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "SHOAL ", 6);
    rsdp[15] = 2; /* revision */
    shl_put_le32(rsdp + 20, RSDP_BYTES);
    shl_put_le64(rsdp + 24, xsdt);
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, RSDP_BYTES);
    memcpy(shl_buf_data(out), rsdp, sizeof(rsdp));
    return 0;
}

int vmm_acpi_write(const struct vmm_acpi_config *config, struct vmm_mem *mem)
{
    struct shl_buf out;
    int r;

    shl_buf_init(&out, VMM_ACPI_BYTES_MAX);
    r = vmm_acpi_build(config, &out);
    if (r == 0) {
        r = vmm_mem_write(mem, VMM_ADDR_RSDP, shl_buf_data(&out), shl_buf_len(&out));
    }
    shl_buf_release(&out);
    return r;
}
