/* Kernel images into guest memory: ELF64 vmlinux, or a bzImage by its 64-bit entry
 * (Linux Documentation/x86/boot.rst, protocol 2.12 or newer).
 *
 * The image is input from outside: every offset and size is checked against the file
 * and against guest memory, and nothing below 1 MiB or above the first GiB (what the
 * boot page tables map) is touched.
 */
#ifndef SHL_VMM_KERNEL_H
#define SHL_VMM_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_mem;

/* A file to load from; tests give memory. read fills exactly len bytes: 0 or -errno. */
struct vmm_image {
    uint64_t bytes;
    int (*read)(void *ctx, void *dst, size_t len, uint64_t offset);
    void *ctx;
};

#define VMM_SETUP_HEADER_OFFSET 0x1f1u
#define VMM_SETUP_HEADER_MAX    0x8fu /* up to the end of the header area at 0x280 */

struct vmm_kernel {
    uint64_t entry; /* guest-physical, long mode */
    uint64_t end;   /* first byte behind what the kernel occupies or clears itself */
    bool bzimage;
    uint8_t setup_header[VMM_SETUP_HEADER_MAX]; /* of a bzImage, from offset 0x1f1 */
};

/* The image over a descriptor, which stays the caller's; @ctx_fd must outlive it. */
SHL_MUST_CHECK int vmm_image_of_fd(struct vmm_image *ret,
                                   const int *ctx_fd,
                                   const char *what,
                                   struct shl_err *err);

/* 0, SHL_EINVALIDARG when the image is none we can boot (with the reason), or errno. */
SHL_MUST_CHECK int vmm_kernel_load(const struct vmm_image *image,
                                   struct vmm_mem *mem,
                                   struct vmm_kernel *ret,
                                   struct shl_err *err);

#endif /* SHL_VMM_KERNEL_H */
