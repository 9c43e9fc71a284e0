/* Kernel images, zero page, e820, ACPI tables, CPUID: everything the guest is given. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/acpi.h"
#include "vmm-kvm/boot.h"
#include "vmm-kvm/cpuid.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#include "test.h"

/* ---- images in memory ---- */

struct bytes_image {
    uint8_t data[65536];
};

static int read_bytes(void *ctx, void *dst, size_t len, uint64_t offset)
{
    const struct bytes_image *image = ctx;

    memcpy(dst, image->data + offset, len);
    return 0;
}

static struct vmm_image image_of(struct bytes_image *bytes, uint64_t len)
{
    return (struct vmm_image){len, read_bytes, bytes};
}

#define ELF_BYTES 8192u

static Elf64_Phdr *make_elf(struct bytes_image *bytes)
{
    Elf64_Ehdr *header = (Elf64_Ehdr *)bytes->data;
    Elf64_Phdr *segment = (Elf64_Phdr *)(bytes->data + sizeof(*header));

    memset(bytes, 0, sizeof(*bytes));
    memcpy(header->e_ident, ELFMAG, SELFMAG);
    header->e_ident[EI_CLASS] = ELFCLASS64;
    header->e_ident[EI_DATA] = ELFDATA2LSB;
    header->e_machine = EM_X86_64;
    header->e_entry = 0x1000010;
    header->e_phoff = sizeof(*header);
    header->e_phentsize = sizeof(*segment);
    header->e_phnum = 1;
    segment->p_type = PT_LOAD;
    segment->p_offset = 4096;
    segment->p_paddr = 0x1000000;
    segment->p_filesz = 4096;
    segment->p_memsz = 8192;
    memset(bytes->data + 4096, 0x90, 4096);
    return segment;
}

static struct vmm_mem mem;

static int setup(void **state)
{
    (void)state;
    return vmm_mem_init(&mem, 128 * VMM_MIB, 0, 0, NULL);
}

static int teardown(void **state)
{
    (void)state;
    vmm_mem_release(&mem);
    return 0;
}

static int load(struct bytes_image *bytes, uint64_t len)
{
    const struct vmm_image image = image_of(bytes, len);
    struct vmm_kernel kernel;
    struct shl_err err = {0};
    int r = vmm_kernel_load(&image, &mem, &kernel, &err);

    assert_true(r == 0 || strlen(err.msg) > 0);
    return r;
}

static void test_kernel_elf_is_loaded(void **state)
{
    struct bytes_image bytes;
    struct vmm_image image = image_of(&bytes, ELF_BYTES);
    struct vmm_kernel kernel;
    const uint8_t *at;

    (void)state;
    make_elf(&bytes);
    assert_int_equal(vmm_kernel_load(&image, &mem, &kernel, NULL), 0);
    assert_true(kernel.entry == 0x1000010);
    assert_true(kernel.end == 0x1002000);
    at = vmm_mem_slice(&mem, 0x1000000, 8192);
    assert_int_equal(at[4095], 0x90);
    assert_int_equal(at[4096], 0);
}

static void test_kernel_every_truncation_is_refused(void **state)
{
    struct bytes_image bytes;
    uint64_t len;

    (void)state;
    make_elf(&bytes);
    for (len = 1; len < ELF_BYTES; len++) {
        assert_int_equal(load(&bytes, len), SHL_EINVALIDARG);
    }
    assert_int_equal(load(&bytes, ELF_BYTES), 0);
}

static void test_kernel_bad_segments_are_refused(void **state)
{
    static const struct {
        uint64_t paddr, filesz, memsz, offset;
    } bad[] = {
        {0x1000000, 4096, 4095, 4096},            /* more in the file than in memory */
        {0, 4096, 4096, 4096},                    /* over the boot structures */
        {0xfffff, 4096, 4096, 4096},              /* just below 1 MiB */
        {127 * VMM_MIB, 4096, 2 * VMM_MIB, 4096}, /* over the end of memory */
        {UINT64_MAX - 100, 100, 200, 4096},       /* wraps around */
        {0x1000000, 100, UINT64_MAX, 4096},
        {0x1000000, 4096, 4096, UINT64_MAX - 10},
        {0x1000000, 4097, 8192, 4096},
        {0xd0000000, 100, 100, 4096},
    };
    struct bytes_image bytes;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        Elf64_Phdr *segment = make_elf(&bytes);

        segment->p_paddr = bad[i].paddr;
        segment->p_filesz = bad[i].filesz;
        segment->p_memsz = bad[i].memsz;
        segment->p_offset = bad[i].offset;
        assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    }
}

static void test_kernel_bad_headers_are_refused(void **state)
{
    struct bytes_image bytes;
    Elf64_Ehdr *header = (Elf64_Ehdr *)bytes.data;

    (void)state;
    make_elf(&bytes);
    header->e_phoff = UINT64_MAX - 8;
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    make_elf(&bytes);
    header->e_phnum = 65535;
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    make_elf(&bytes);
    header->e_phentsize = 1;
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    make_elf(&bytes);
    header->e_entry = 0x500;
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    make_elf(&bytes);
    header->e_machine = EM_AARCH64;
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
    memset(&bytes, 0, sizeof(bytes));
    assert_int_equal(load(&bytes, ELF_BYTES), SHL_EINVALIDARG);
}

static void make_bzimage(struct bytes_image *bytes)
{
    memset(bytes, 0, sizeof(*bytes));
    bytes->data[0x1f1] = 4; /* setup sectors */
    shl_put_le16(bytes->data + 0x1fe, 0xaa55);
    bytes->data[0x200] = 0xeb;
    bytes->data[0x201] = 0x66;
    memcpy(bytes->data + 0x202, "HdrS", 4);
    shl_put_le16(bytes->data + 0x206, 0x20f);
    shl_put_le16(bytes->data + 0x236, 0x7f);
    shl_put_le64(bytes->data + 0x258, 0x1000000);
    shl_put_le32(bytes->data + 0x260, 0x100000);
    memset(bytes->data + 5 * 512, 0x90, 4096);
}

static void test_kernel_bzimage_is_loaded_at_its_64_bit_entry(void **state)
{
    struct bytes_image bytes;
    struct vmm_image image = image_of(&bytes, 5 * 512 + 4096);
    struct vmm_kernel kernel;

    (void)state;
    make_bzimage(&bytes);
    assert_int_equal(vmm_kernel_load(&image, &mem, &kernel, NULL), 0);
    assert_true(kernel.bzimage);
    assert_true(kernel.entry == 0x1000200);
    assert_true(kernel.end == 0x1100000);
    assert_int_equal(kernel.setup_header[0], 4);
}

static void test_kernel_bad_bzimages_are_refused(void **state)
{
    struct bytes_image bytes;
    uint64_t len;

    (void)state;
    make_bzimage(&bytes);
    for (len = 1; len <= 5 * 512 + 512; len += 7) {
        assert_int_equal(load(&bytes, len), SHL_EINVALIDARG);
    }
    shl_put_le16(bytes.data + 0x236, 0);
    assert_int_equal(load(&bytes, 8192), SHL_EINVALIDARG);
    make_bzimage(&bytes);
    shl_put_le32(bytes.data + 0x260, UINT32_MAX);
    assert_int_equal(load(&bytes, 8192), SHL_EINVALIDARG);
    make_bzimage(&bytes);
    shl_put_le64(bytes.data + 0x258, UINT64_MAX);
    assert_int_equal(load(&bytes, 8192), SHL_EINVALIDARG);
    make_bzimage(&bytes);
    shl_put_le16(bytes.data + 0x206, 0x20b);
    assert_int_equal(load(&bytes, 8192), SHL_EINVALIDARG);
    make_bzimage(&bytes);
    bytes.data[0x201] = 0xff; /* header longer than the area we copy */
    assert_int_equal(load(&bytes, 8192), 0);
    bytes.data[0x201] = 0;
    assert_int_equal(load(&bytes, 8192), 0);
}

/* ---- zero page ---- */

static void test_boot_zero_page_tells_where_everything_is(void **state)
{
    struct bytes_image kernel_bytes, initrd_bytes;
    struct vmm_image kernel = image_of(&kernel_bytes, ELF_BYTES);
    struct vmm_image initrd = image_of(&initrd_bytes, 5000);
    const struct vmm_boot boot = {&kernel, &initrd, "console=ttyS0"};
    const uint8_t *zp, *at;
    uint64_t entry;

    (void)state;
    make_elf(&kernel_bytes);
    memset(&initrd_bytes, 0x33, sizeof(initrd_bytes));
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, NULL), 0);
    assert_true(entry == 0x1000010);
    zp = vmm_mem_slice(&mem, VMM_ADDR_ZERO_PAGE, 4096);
    assert_int_equal(shl_get_le16(zp + 0x1fe), 0xaa55);
    assert_memory_equal(zp + 0x202, "HdrS", 4);
    assert_int_equal(zp[0x210], 0xff);
    assert_int_equal(shl_get_le32(zp + 0x228), VMM_ADDR_CMDLINE);
    assert_true(shl_get_le64(zp + 0x70) == VMM_ADDR_RSDP);
    assert_string_equal(vmm_mem_slice(&mem, VMM_ADDR_CMDLINE, 64), "console=ttyS0");
    assert_int_equal(shl_get_le32(zp + 0x218), 128 * VMM_MIB - 8192);
    assert_int_equal(shl_get_le32(zp + 0x21c), 5000);
    at = vmm_mem_slice(&mem, 128 * VMM_MIB - 8192, 5000);
    assert_int_equal(at[4999], 0x33);
}

static void check_e820(const uint8_t *zp, unsigned i, uint64_t start, uint64_t size, uint32_t type)
{
    const uint8_t *entry = zp + 0x2d0 + 20 * (size_t)i;

    assert_true(shl_get_le64(entry) == start);
    assert_true(shl_get_le64(entry + 8) == size);
    assert_int_equal(shl_get_le32(entry + 16), type);
}

static void test_boot_e820_of_a_small_guest(void **state)
{
    struct bytes_image bytes;
    struct vmm_image kernel = image_of(&bytes, ELF_BYTES);
    const struct vmm_boot boot = {&kernel, NULL, ""};
    const uint8_t *zp;
    uint64_t entry;

    (void)state;
    make_elf(&bytes);
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, NULL), 0);
    zp = vmm_mem_slice(&mem, VMM_ADDR_ZERO_PAGE, 4096);
    assert_int_equal(zp[0x1e8], 3);
    check_e820(zp, 0, 0, 0x9fc00, 1);
    check_e820(zp, 1, 0x9fc00, 0x100000 - 0x9fc00, 2);
    check_e820(zp, 2, 0x100000, 127 * VMM_MIB, 1);
}

static void test_boot_e820_of_a_large_guest_leaves_the_hole(void **state)
{
    struct bytes_image bytes;
    struct vmm_image kernel = image_of(&bytes, ELF_BYTES);
    const struct vmm_boot boot = {&kernel, NULL, ""};
    struct vmm_mem large;
    const uint8_t *zp;
    uint64_t entry;

    (void)state;
    make_elf(&bytes);
    assert_int_equal(vmm_mem_init(&large, 5 * VMM_GIB, 0, 0, NULL), 0);
    assert_int_equal(vmm_boot_load(&boot, &large, &entry, NULL), 0);
    zp = vmm_mem_slice(&large, VMM_ADDR_ZERO_PAGE, 4096);
    assert_int_equal(zp[0x1e8], 4);
    check_e820(zp, 2, 0x100000, 3 * VMM_GIB - VMM_MIB, 1);
    check_e820(zp, 3, 4 * VMM_GIB, 2 * VMM_GIB, 1);
    vmm_mem_release(&large);
}

static void test_boot_refuses_what_does_not_fit(void **state)
{
    struct bytes_image bytes;
    struct vmm_image kernel = image_of(&bytes, ELF_BYTES);
    struct vmm_image initrd = image_of(&bytes, 120 * VMM_MIB);
    char cmdline[VMM_CMDLINE_MAX + 1];
    struct vmm_boot boot = {&kernel, &initrd, ""};
    struct shl_err err = {0};
    uint64_t entry;

    (void)state;
    make_elf(&bytes);
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, &err), SHL_EINVALIDARG);
    initrd.bytes = UINT64_MAX;
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, &err), SHL_EINVALIDARG);
    boot.initrd = NULL;
    memset(cmdline, 'a', sizeof(cmdline) - 1);
    cmdline[sizeof(cmdline) - 1] = '\0';
    boot.cmdline = cmdline;
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, &err), SHL_EINVALIDARG);
    cmdline[VMM_CMDLINE_MAX - 1] = '\0';
    assert_int_equal(vmm_boot_load(&boot, &mem, &entry, &err), 0);
}

/* ---- ACPI ---- */

static void build_acpi(struct shl_buf *out, unsigned vcpus, unsigned devices)
{
    const struct vmm_acpi_config config = {vcpus, devices};

    shl_buf_init(out, VMM_ACPI_BYTES_MAX);
    assert_int_equal(vmm_acpi_build(&config, out), 0);
}

static uint8_t sum_of(const uint8_t *data, size_t len)
{
    uint8_t sum = 0;

    while (len-- > 0) {
        sum = (uint8_t)(sum + *data++);
    }
    return sum;
}

/* The table at guest address @addr. */
static const uint8_t *table_at(const struct shl_buf *out, uint64_t addr, const char *name)
{
    const uint8_t *table = shl_buf_data(out) + (addr - VMM_ADDR_RSDP);

    assert_true(addr - VMM_ADDR_RSDP + 36 <= shl_buf_len(out));
    assert_memory_equal(table, name, 4);
    assert_int_equal(sum_of(table, shl_get_le32(table + 4)), 0);
    return table;
}

static void test_acpi_tables_link_and_sum_up(void **state)
{
    struct shl_buf out;
    const uint8_t *rsdp, *xsdt, *fadt, *madt;

    (void)state;
    build_acpi(&out, 4, 4);
    rsdp = shl_buf_data(&out);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(sum_of(rsdp, 20), 0);
    assert_int_equal(sum_of(rsdp, 36), 0);
    xsdt = table_at(&out, shl_get_le64(rsdp + 24), "XSDT");
    assert_int_equal(shl_get_le32(xsdt + 4), 36 + 16);
    fadt = table_at(&out, shl_get_le64(xsdt + 36), "FACP");
    assert_int_equal(shl_get_le32(fadt + 4), 276);
    assert_true(shl_get_le32(fadt + 112) & 1u << 20); /* hardware-reduced */
    (void)table_at(&out, shl_get_le64(fadt + 140), "DSDT");
    madt = table_at(&out, shl_get_le64(xsdt + 44), "APIC");
    assert_int_equal(shl_get_le32(madt + 4), 44 + 12 + 4 * 8);
    assert_int_equal(shl_get_le32(madt + 40), 0); /* no 8259 */
    assert_true(shl_buf_len(&out) <= VMM_ADDR_ACPI_END - VMM_ADDR_RSDP);
    shl_buf_release(&out);
}

/* The bytes of one device node, as iasl writes them for the same ASL. */
static void test_acpi_golden_bytes_of_a_virtio_device(void **state)
{
    static const uint8_t golden[] = {
        0x5b, 0x82, 0x41, 0x04, 'V',  '0',  '0',  '1', /* Device(V001) */
        0x08, '_',  'H',  'I',  'D',  0x0d, 'L',  'N',  'R',  'O',  '0',  '0',
        '0',  '5',  0,    0x08, '_',  'U',  'I',  'D',  0x01, /* One */
        0x08, '_',  'C',  'C',  'A',  0x01, 0x08, '_',  'C',  'R',  'S',  0x11,
        0x1a, 0x0a, 0x17, /* Buffer(23) */
        0x86, 0x09, 0x00, 0x01, 0x00, 0x10, 0x00, 0xd0, 0x00, 0x10, 0x00, 0x00,
        0x89, 0x06, 0x00, 0x03, 0x01, 0x06, 0x00, 0x00, 0x00, 0x79, 0x00,
    };
    struct shl_buf out;
    const uint8_t *at;

    (void)state;
    build_acpi(&out, 1, 2);
    at = memmem(shl_buf_data(&out), shl_buf_len(&out), "V001", 4);
    assert_non_null(at);
    assert_memory_equal(at - 4, golden, sizeof(golden));
    shl_buf_release(&out);
}

static void test_acpi_golden_bytes_of_soft_off_and_com1(void **state)
{
    static const uint8_t s5[] = {0x08, '_',  'S',  '5',  '_',  0x12, 0x08,
                                 0x04, 0x0a, 0x05, 0x0a, 0x05, 0x00, 0x00};
    static const uint8_t com1[] = {0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01};
    static const uint8_t ports[] = {0x47, 0x01, 0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08, 0x89, 0x06,
                                    0x00, 0x03, 0x01, 0x04, 0x00, 0x00, 0x00, 0x79, 0x00};
    struct shl_buf out;

    (void)state;
    build_acpi(&out, 1, 2);
    assert_non_null(memmem(shl_buf_data(&out), shl_buf_len(&out), s5, sizeof(s5)));
    assert_non_null(memmem(shl_buf_data(&out), shl_buf_len(&out), com1, sizeof(com1)));
    assert_non_null(memmem(shl_buf_data(&out), shl_buf_len(&out), ports, sizeof(ports)));
    shl_buf_release(&out);
}

/* The ACPI compiler reads the DSDT back; skipped where it is not installed. */
static void test_acpi_dsdt_disassembles(void **state)
{
    char dir[] = "/tmp/shoal-acpi-XXXXXX", command[512], text[8192];
    const uint8_t *rsdp, *xsdt, *dsdt;
    struct shl_buf out;
    size_t n;
    FILE *file;

    (void)state;
    if (system("command -v iasl >/dev/null 2>&1") != 0) {
        print_message("iasl is not installed: skipped\n");
        skip();
    }
    assert_non_null(mkdtemp(dir));
    build_acpi(&out, 2, 4);
    rsdp = shl_buf_data(&out);
    xsdt = table_at(&out, shl_get_le64(rsdp + 24), "XSDT");
    dsdt =
        table_at(&out, shl_get_le64(table_at(&out, shl_get_le64(xsdt + 36), "FACP") + 140), "DSDT");
    (void)snprintf(command, sizeof(command), "%s/dsdt.aml", dir);
    file = fopen(command, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(dsdt, 1, shl_get_le32(dsdt + 4), file), shl_get_le32(dsdt + 4));
    assert_int_equal(fclose(file), 0);
    (void)snprintf(command, sizeof(command),
                   "cd %s && iasl -d dsdt.aml >iasl.log 2>&1 && cat dsdt.dsl && iasl dsdt.dsl "
                   ">>iasl.log 2>&1",
                   dir);
    file = popen(command, "r");
    assert_non_null(file);
    n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    assert_int_equal(pclose(file), 0);
    assert_non_null(strstr(text, "Device (V003)"));
    assert_non_null(strstr(text, "\"LNRO0005\""));
    assert_non_null(strstr(text, "EisaId (\"PNP0501\")"));
    assert_non_null(strstr(text, "Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive"));
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    shl_buf_release(&out);
}

/* ---- CPUID ---- */

static const struct kvm_cpuid_entry2 *leaf(const struct vmm_cpuid *cpuid, uint32_t f, uint32_t i)
{
    uint32_t n;

    for (n = 0; n < cpuid->nent; n++) {
        if (cpuid->entries[n].function == f && cpuid->entries[n].index == i) {
            return &cpuid->entries[n];
        }
    }
    return NULL;
}

static void make_cpuid(struct vmm_cpuid *cpuid)
{
    static const struct kvm_cpuid_entry2 entries[] = {
        {.function = 0, .eax = 0xd},
        {.function = 1, .ebx = 0xff123456, .ecx = 1u << 5 | 1u << 3, .edx = 1u << 28},
        {.function = 4, .index = 0, .eax = 0xfc004121},
        {.function = 4, .index = 3, .eax = 0xfc1fc163},
        {.function = 0x1f, .edx = 77},
        {.function = 0x80000001, .ecx = 1u << 2},
        {.function = 0x80000007, .edx = 1u << 8},
        {.function = 0x80000008, .ecx = 0x703f},
        {.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = 0xff},
        {.function = 0x8000001e, .eax = 9, .ebx = 0x109},
    };

    memset(cpuid, 0, sizeof(*cpuid));
    memcpy(cpuid->entries, entries, sizeof(entries));
    cpuid->nent = SHL_ARRAY_SIZE(entries);
}

static void test_cpuid_topology_matches_the_madt(void **state)
{
    struct vmm_cpuid cpuid;
    unsigned vcpu;

    (void)state;
    for (vcpu = 0; vcpu < 3; vcpu++) {
        make_cpuid(&cpuid);
        assert_int_equal(vmm_cpuid_shape(&cpuid, vcpu, 3), 0);
        assert_int_equal(leaf(&cpuid, 1, 0)->ebx, vcpu << 24 | 3 << 16 | 0x3456);
        assert_int_equal(leaf(&cpuid, 0xb, 0)->edx, vcpu);
        assert_int_equal(leaf(&cpuid, 0xb, 1)->eax, 2);
        assert_int_equal(leaf(&cpuid, 0xb, 1)->ebx, 3);
        assert_int_equal(leaf(&cpuid, 4, 0)->eax >> 14 & 0xfff, 0);
        assert_int_equal(leaf(&cpuid, 4, 3)->eax >> 14 & 0xfff, 2);
        assert_int_equal(leaf(&cpuid, 4, 0)->eax >> 26, 2);
        assert_int_equal(leaf(&cpuid, 0x80000008, 0)->ecx, 0x2002);
        assert_int_equal(leaf(&cpuid, 0x8000001e, 0)->eax, vcpu);
        assert_null(leaf(&cpuid, 0x1f, 0));
    }
}

static void test_cpuid_has_no_nested_virtualisation(void **state)
{
    struct vmm_cpuid cpuid;

    (void)state;
    make_cpuid(&cpuid);
    assert_int_equal(vmm_cpuid_shape(&cpuid, 0, 1), 0);
    assert_int_equal(leaf(&cpuid, 1, 0)->ecx, 1u << 31 | 1u << 24); /* hypervisor, deadline */
    assert_int_equal(leaf(&cpuid, 1, 0)->edx & 1u << 28, 0);
    assert_int_equal(leaf(&cpuid, 0x80000001, 0)->ecx, 0);
    assert_int_equal(leaf(&cpuid, 0x80000007, 0)->edx, 0);
    assert_int_equal(leaf(&cpuid, 0x8000000a, 0)->edx, 0);
}

static void test_cpuid_full_table_is_an_error(void **state)
{
    struct vmm_cpuid cpuid;

    (void)state;
    make_cpuid(&cpuid);
    while (cpuid.nent < VMM_CPUID_ENTRIES_MAX) {
        cpuid.entries[cpuid.nent++].function = 0x40000000;
    }
    cpuid.entries[4].function = 2; /* instead of 0x1f, which is removed */
    assert_int_equal(vmm_cpuid_shape(&cpuid, 0, 1), SHL_ELIMIT);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_kernel_elf_is_loaded),
        WITH(test_kernel_every_truncation_is_refused),
        WITH(test_kernel_bad_segments_are_refused),
        WITH(test_kernel_bad_headers_are_refused),
        WITH(test_kernel_bzimage_is_loaded_at_its_64_bit_entry),
        WITH(test_kernel_bad_bzimages_are_refused),
        WITH(test_boot_zero_page_tells_where_everything_is),
        WITH(test_boot_e820_of_a_small_guest),
        WITH(test_boot_e820_of_a_large_guest_leaves_the_hole),
        WITH(test_boot_refuses_what_does_not_fit),
        cmocka_unit_test(test_acpi_tables_link_and_sum_up),
        cmocka_unit_test(test_acpi_golden_bytes_of_a_virtio_device),
        cmocka_unit_test(test_acpi_golden_bytes_of_soft_off_and_com1),
        cmocka_unit_test(test_acpi_dsdt_disassembles),
        cmocka_unit_test(test_cpuid_topology_matches_the_madt),
        cmocka_unit_test(test_cpuid_has_no_nested_virtualisation),
        cmocka_unit_test(test_cpuid_full_table_is_an_error),
    };

    return cmocka_run_group_tests_name("vmm-kvm/boot", tests, NULL, NULL);
}
