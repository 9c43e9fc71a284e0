#include "vmm-kvm/kernel.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/io.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"

#define PROGRAM_HEADERS_MAX 64u
#define LOAD_END_MAX        VMM_GIB

/* Offsets in the boot sector of a bzImage. */
#define BZ_SETUP_SECTS   0x1f1u
#define BZ_BOOT_FLAG     0x1feu
#define BZ_JUMP_LENGTH   0x201u
#define BZ_MAGIC         0x202u
#define BZ_VERSION       0x206u
#define BZ_XLOADFLAGS    0x236u
#define BZ_PREF_ADDRESS  0x258u
#define BZ_INIT_SIZE     0x260u
#define BZ_HEADER_END    0x264u
#define BZ_VERSION_MIN   0x20cu
#define BZ_XLF_KERNEL_64 1u
#define BZ_ENTRY_64      0x200u

static int read_fd(void *ctx, void *dst, size_t len, uint64_t offset)
{
    return shl_pread_full(*(const int *)ctx, dst, len, offset);
}

int vmm_image_of_fd(struct vmm_image *ret, const int *ctx_fd, const char *what, struct shl_err *err)
{
    struct stat st;

    if (fstat(*ctx_fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the %s", what);
    }
    if (!S_ISREG(st.st_mode) || st.st_size <= 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the %s is empty or not a regular file", what);
    }
    *ret = (struct vmm_image){(uint64_t)st.st_size, read_fd, (void *)(uintptr_t)ctx_fd};
    return 0;
}

static int refuse(struct shl_err *err, const char *why)
{
    return shl_err_set(err, SHL_EINVALIDARG, "the kernel cannot be booted: %s", why);
}

static int read_image(const struct vmm_image *image,
                      void *dst,
                      size_t len,
                      uint64_t offset,
                      struct shl_err *err)
{
    int r;

    if (offset > image->bytes || len > image->bytes - offset) {
        return refuse(err, "the file is cut off");
    }
    r = image->read(image->ctx, dst, len, offset);
    return r < 0 ? shl_err_sys(err, -r, "cannot read the kernel") : 0;
}

/* Guest memory for a piece of the kernel, NULL when it may not go there. */
static void *place(const struct vmm_mem *mem, uint64_t addr, uint64_t len)
{
    if (addr < VMM_ADDR_HIMEM || addr > LOAD_END_MAX || len > LOAD_END_MAX - addr) {
        return NULL;
    }
    return vmm_mem_slice(mem, addr, len);
}

static int load_segment(const struct vmm_image *image,
                        struct vmm_mem *mem,
                        const Elf64_Phdr *segment,
                        struct shl_err *err)
{
    void *at;

    if (segment->p_filesz > segment->p_memsz) {
        return refuse(err, "a segment has more bytes in the file than in memory");
    }
    at = place(mem, segment->p_paddr, segment->p_memsz);
    if (!at) {
        return refuse(err, "a segment does not fit between 1 MiB and the end of memory or 1 GiB");
    }
    /* The rest of p_memsz stays as mapped: zeros, untouched. */
    return read_image(image, at, (size_t)segment->p_filesz, segment->p_offset, err);
}

static int load_elf(const struct vmm_image *image,
                    struct vmm_mem *mem,
                    struct vmm_kernel *kernel,
                    struct shl_err *err)
{
    Elf64_Ehdr header;
    bool entry_loaded = false;
    unsigned i;
    int r = read_image(image, &header, sizeof(header), 0, err);

    if (r < 0) {
        return r;
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64) {
        return refuse(err, "it is not an x86-64 ELF file");
    }
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
        header.e_phnum > PROGRAM_HEADERS_MAX) {
        return refuse(err, "its program headers are not usable");
    }
    for (i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;

        if (header.e_phoff > image->bytes) {
            return refuse(err, "the file is cut off");
        }
        r = read_image(image, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment), err);
        if (r < 0) {
            return r;
        }
        if (segment.p_type != PT_LOAD || segment.p_memsz == 0) {
            continue;
        }
        r = load_segment(image, mem, &segment, err);
        if (r < 0) {
            return r;
        }
        kernel->end = SHL_MAX(kernel->end, segment.p_paddr + segment.p_memsz);
        entry_loaded = entry_loaded || (header.e_entry >= segment.p_paddr &&
                                        header.e_entry - segment.p_paddr < segment.p_memsz);
    }
    if (!entry_loaded) {
        return refuse(err, "its entry point is in no loaded segment");
    }
    kernel->entry = header.e_entry;
    return 0;
}

static int load_bzimage(const struct vmm_image *image,
                        struct vmm_mem *mem,
                        struct vmm_kernel *kernel,
                        struct shl_err *err)
{
    uint8_t head[BZ_HEADER_END];
    uint64_t start, payload, load, init_size;
    size_t header_bytes;
    void *at;
    int r = read_image(image, head, sizeof(head), 0, err);

    if (r < 0) {
        return r;
    }
    if (shl_get_le16(head + BZ_VERSION) < BZ_VERSION_MIN ||
        !(shl_get_le16(head + BZ_XLOADFLAGS) & BZ_XLF_KERNEL_64)) {
        return refuse(err, "the bzImage has no 64-bit entry point");
    }
    start = 512u * (1u + (head[BZ_SETUP_SECTS] ? head[BZ_SETUP_SECTS] : 4u));
    if (start >= image->bytes) {
        return refuse(err, "the file is cut off");
    }
    payload = image->bytes - start;
    load = shl_get_le64(head + BZ_PREF_ADDRESS);
    init_size = SHL_MAX(shl_get_le32(head + BZ_INIT_SIZE), payload);
    at = payload > BZ_ENTRY_64 ? place(mem, load, init_size) : NULL;
    if (!at) {
        return refuse(err, "it does not fit into memory below 1 GiB");
    }
    r = read_image(image, at, (size_t)payload, start, err);
    if (r < 0) {
        return r;
    }
    /* The header ends where the jump at 0x200 goes (boot.rst, setup_header). */
    header_bytes = BZ_MAGIC + head[BZ_JUMP_LENGTH] - VMM_SETUP_HEADER_OFFSET;
    header_bytes = SHL_MIN(header_bytes, BZ_HEADER_END - VMM_SETUP_HEADER_OFFSET);
    memcpy(kernel->setup_header, head + VMM_SETUP_HEADER_OFFSET, header_bytes);
    kernel->bzimage = true;
    kernel->entry = load + BZ_ENTRY_64;
    kernel->end = load + init_size;
    return 0;
}

int vmm_kernel_load(const struct vmm_image *image,
                    struct vmm_mem *mem,
                    struct vmm_kernel *ret,
                    struct shl_err *err)
{
    uint8_t head[BZ_MAGIC + 4];
    struct vmm_kernel kernel = {0};
    int r = read_image(image, head, sizeof(head), 0, err);

    if (r < 0) {
        return r;
    }
    if (memcmp(head, ELFMAG, SELFMAG) == 0) {
        r = load_elf(image, mem, &kernel, err);
    } else if (shl_get_le16(head + BZ_BOOT_FLAG) == 0xaa55 &&
               memcmp(head + BZ_MAGIC, "HdrS", 4) == 0) {
        r = load_bzimage(image, mem, &kernel, err);
    } else {
        r = refuse(err, "it is neither an ELF vmlinux nor a bzImage");
    }
    if (r == 0) {
        *ret = kernel;
    }
    return r;
}
