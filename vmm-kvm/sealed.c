#include "vmm-kvm/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define CLUSTER VMM_OVERLAY_CLUSTER_BYTES

static int lock_shared(int fd, struct shl_err *err)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return shl_err_set(err, SHL_ECONFLICT, "a disk layer is still written by a VM");
    }
    return shl_err_sys(err, errno, "cannot lock a disk layer");
}

static int read_header(struct vmm_sealed *sealed, struct shl_err *err)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES];
    struct stat st;
    int r;

    if (fstat(sealed->fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at a disk layer");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "a disk layer is not a regular file");
    }
    r = shl_pread_full(sealed->fd, raw, sizeof(raw), 0);
    if (r == -ENODATA) {
        return shl_err_set(err, SHL_ECORRUPT, "a disk layer is cut off in its header");
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read a disk layer");
    }
    r = vmm_overlay_header_parse(raw, &sealed->header, err);
    if (r < 0) {
        return shl_err_wrap(err, r, "a disk layer");
    }
    sealed->cluster_count = vmm_overlay_cluster_count(sealed->header.virtual_bytes);
    if ((uint64_t)st.st_size < sealed->header.data_offset + sealed->cluster_count * CLUSTER) {
        return shl_err_set(err, SHL_ECORRUPT, "a disk layer is cut off");
    }
    return 0;
}

/* The bits behind the last cluster: at most one page of them. */
static bool tail_is_clear(const struct vmm_sealed *sealed)
{
    uint64_t bits = vmm_overlay_bitmap_bytes(sealed->header.virtual_bytes) * 8;
    uint64_t n;

    for (n = sealed->cluster_count; n < bits; n++) {
        if (sealed->bitmap[n / 8] >> (n % 8) & 1) {
            return false;
        }
    }
    return true;
}

static int read_bitmap(struct vmm_sealed *sealed, struct shl_err *err)
{
    size_t bytes = (size_t)vmm_overlay_bitmap_bytes(sealed->header.virtual_bytes);
    int r;

    sealed->bitmap = malloc(bytes);
    if (!sealed->bitmap) {
        return shl_err_sys(err, ENOMEM, "cannot read the bitmap of a disk layer");
    }
    r = shl_pread_full(sealed->fd, sealed->bitmap, bytes, VMM_OVERLAY_HEADER_BYTES);
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the bitmap of a disk layer");
    }
    if (!tail_is_clear(sealed)) {
        return shl_err_set(err, SHL_ECORRUPT, "the bitmap of a disk layer is longer than it");
    }
    return 0;
}

int vmm_sealed_open(struct vmm_sealed *sealed, int fd, struct shl_err *err)
{
    int r;

    memset(sealed, 0, sizeof(*sealed));
    sealed->fd = fd;
    r = lock_shared(fd, err);
    if (r == 0) {
        r = read_header(sealed, err);
    }
    if (r == 0) {
        r = read_bitmap(sealed, err);
    }
    if (r < 0) {
        vmm_sealed_release(sealed);
    }
    return r;
}

void vmm_sealed_release(struct vmm_sealed *sealed)
{
    free(sealed->bitmap);
    memset(sealed, 0, sizeof(*sealed));
    sealed->fd = -1;
}

bool vmm_sealed_has(const struct vmm_sealed *sealed, uint64_t n)
{
    return n < sealed->cluster_count && (sealed->bitmap[n / 8] >> (n % 8) & 1);
}

bool vmm_sealed_next(const struct vmm_sealed *sealed, uint64_t n, uint64_t *ret)
{
    while (n < sealed->cluster_count) {
        if (n % 64 == 0) {
            uint64_t word;

            /* The bitmap is whole pages, so whole words. */
            memcpy(&word, sealed->bitmap + n / 8, sizeof(word));
            if (word == 0) {
                n += 64;
                continue;
            }
        }
        if (vmm_sealed_has(sealed, n)) {
            *ret = n;
            return true;
        }
        n++;
    }
    return false;
}

uint64_t vmm_sealed_offset(const struct vmm_sealed *sealed, uint64_t n)
{
    return sealed->header.data_offset + n * CLUSTER;
}
