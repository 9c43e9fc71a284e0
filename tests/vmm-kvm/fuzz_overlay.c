/* Any file as a sealed overlay and as the overlay that is written. The header's checksum
 * is made right half of the time. */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/sum.h"
#include "vmm-kvm/overlay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VIRTUAL (20u * VMM_OVERLAY_CLUSTER_BYTES + 512u)
#define DATA    VMM_OVERLAY_CLUSTER_BYTES /* data_offset of disks of this size */
#define FIELDS  64u

static int fd = -1;

/* Input: one byte of choices, the header's fields (64 bytes), then the bitmap. */
static void write_file(const uint8_t *data, size_t size)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES + 64] = {0};
    uint8_t choice = data[0];

    data++;
    size--;
    memcpy(raw, data, SHL_MIN(size, (size_t)FIELDS));
    if (size > FIELDS) {
        memcpy(raw + VMM_OVERLAY_HEADER_BYTES, data + FIELDS, SHL_MIN(size - FIELDS, (size_t)64));
    }
    if (choice & 1) { /* a header that fits, with the virtual size of the input or ours */
        struct vmm_overlay_header header = {.virtual_bytes = VIRTUAL};

        (void)vmm_overlay_measure_base(-1, &header.base_bytes, header.base_id, NULL);
        vmm_overlay_header_format(&header, raw);
        if (choice & 2) {
            memcpy(raw + 16, data, SHL_MIN(size, (size_t)8));
        }
    }
    if (choice & 4) {
        shl_put_le64(raw + FIELDS, shl_sum(SHL_SUM_START, raw, FIELDS));
    }
    if (ftruncate(fd, 0) < 0 || shl_pwrite_full(fd, raw, sizeof(raw), 0) < 0 ||
        ftruncate(fd, (off_t)(DATA + (choice >> 3) * (uint64_t)VMM_OVERLAY_CLUSTER_BYTES)) < 0) {
        abort();
    }
}

static void read_sealed(void)
{
    struct vmm_sealed sealed;
    uint64_t n, before = 0;
    uint8_t byte;

    if (vmm_sealed_open(&sealed, fd, NULL) < 0) {
        assert(!sealed.bitmap);
        return;
    }
    for (n = 0; vmm_sealed_next(&sealed, n, &n); n++) {
        int r = shl_pread_full(fd, &byte, 1,
                               vmm_sealed_offset(&sealed, n) + VMM_OVERLAY_CLUSTER_BYTES - 1);

        assert(n >= before);
        assert(n < sealed.cluster_count);
        assert(vmm_sealed_has(&sealed, n));
        assert(r == 0); /* every cluster is whole in the file */
        before = n;
    }
    vmm_sealed_release(&sealed);
}

static void unlock(void)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

/* As a layer of a disk, then as its top. */
static void use_as_disk(int top_fd)
{
    static uint8_t all[VIRTUAL];
    struct vmm_overlay overlay;
    struct vmm_disk disk;
    struct iovec iov = {all, VIRTUAL};

    if (top_fd >= 0 && vmm_overlay_open(&overlay, top_fd, -1, VIRTUAL, NULL) == 0) {
        if (vmm_overlay_set_layers(&overlay, &fd, 1, NULL) == 0) {
            disk = vmm_overlay_disk(&overlay);
            if (disk.read(disk.ctx, 0, &iov, 1, VIRTUAL) < 0) {
                abort();
            }
        }
        vmm_overlay_release(&overlay);
    }
    unlock();
    if (vmm_overlay_open(&overlay, fd, -1, VIRTUAL, NULL) == 0) {
        disk = vmm_overlay_disk(&overlay);
        if (disk.zero(disk.ctx, 512, VIRTUAL - 512) < 0 || disk.flush(disk.ctx) < 0) {
            abort();
        }
        vmm_overlay_release(&overlay);
    }
    unlock();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int top_fd = -1;

    if (fd < 0) {
        fd = memfd_create("overlay", MFD_CLOEXEC);
        top_fd = memfd_create("top", MFD_CLOEXEC);
    }
    if (size < 1) {
        return 0;
    }
    write_file(data, size);
    read_sealed();
    use_as_disk(top_fd);
    return 0;
}
