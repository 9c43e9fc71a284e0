#include "vmm-kvm/overlay_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/sum.h"
#include "vmm-kvm/layout.h"

#define CLUSTER       VMM_OVERLAY_CLUSTER_BYTES
#define HEADER_SUMMED 64u
#define VERSION       1u

static const char magic[8] = {'S', 'H', 'L', 'O', 'V', 'L', '\r', '\n'};

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

uint64_t vmm_overlay_cluster_count(uint64_t virtual_bytes)
{
    return (virtual_bytes + CLUSTER - 1) / CLUSTER;
}

uint64_t vmm_overlay_bitmap_bytes(uint64_t virtual_bytes)
{
    return round_up((vmm_overlay_cluster_count(virtual_bytes) + 7) / 8, VMM_PAGE_BYTES);
}

uint64_t vmm_overlay_data_offset(uint64_t virtual_bytes)
{
    return round_up(VMM_OVERLAY_HEADER_BYTES + vmm_overlay_bitmap_bytes(virtual_bytes), CLUSTER);
}

int vmm_overlay_header_parse(const uint8_t raw[VMM_OVERLAY_HEADER_BYTES],
                             struct vmm_overlay_header *ret,
                             struct shl_err *err)
{
    struct vmm_overlay_header header;

    if (memcmp(raw, magic, sizeof(magic)) != 0) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the overlay file does not start with an overlay header");
    }
    if (shl_get_le32(raw + 8) != VERSION) {
        return shl_err_set(err, SHL_EVERSION,
                           "the overlay has format version %u, this program knows %u",
                           shl_get_le32(raw + 8), VERSION);
    }
    if (shl_get_le64(raw + HEADER_SUMMED) != shl_sum(SHL_SUM_START, raw, HEADER_SUMMED)) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay header is damaged (checksum)");
    }
    header.virtual_bytes = shl_get_le64(raw + 16);
    header.base_bytes = shl_get_le64(raw + 24);
    memcpy(header.base_id, raw + 32, VMM_OVERLAY_ID_BYTES);
    header.data_offset = shl_get_le64(raw + 56);
    if (shl_get_le32(raw + 12) != CLUSTER || header.virtual_bytes == 0 ||
        header.virtual_bytes % 512 != 0 || header.virtual_bytes > VMM_OVERLAY_VIRTUAL_MAX ||
        shl_get_le64(raw + 48) != VMM_OVERLAY_HEADER_BYTES ||
        header.data_offset != vmm_overlay_data_offset(header.virtual_bytes)) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay header has impossible sizes");
    }
    *ret = header;
    return 0;
}

void vmm_overlay_header_format(const struct vmm_overlay_header *header,
                               uint8_t raw[VMM_OVERLAY_HEADER_BYTES])
{
    memset(raw, 0, VMM_OVERLAY_HEADER_BYTES);
    memcpy(raw, magic, sizeof(magic));
    shl_put_le32(raw + 8, VERSION);
    shl_put_le32(raw + 12, CLUSTER);
    shl_put_le64(raw + 16, header->virtual_bytes);
    shl_put_le64(raw + 24, header->base_bytes);
    memcpy(raw + 32, header->base_id, VMM_OVERLAY_ID_BYTES);
    shl_put_le64(raw + 48, VMM_OVERLAY_HEADER_BYTES);
    shl_put_le64(raw + 56, vmm_overlay_data_offset(header->virtual_bytes));
    shl_put_le64(raw + HEADER_SUMMED, shl_sum(SHL_SUM_START, raw, HEADER_SUMMED));
}

static int hash_base(int fd, uint64_t bytes, uint8_t id[VMM_OVERLAY_ID_BYTES])
{
    SHL_CLEANUP_FREE uint8_t *part = malloc(CLUSTER);
    size_t len = (size_t)SHL_MIN(bytes, (uint64_t)CLUSTER);
    uint64_t hash = SHL_SUM_START;
    int r;

    if (!part) {
        return -ENOMEM;
    }
    r = shl_pread_full(fd, part, len, 0);
    if (r < 0) {
        return r;
    }
    hash = shl_sum(hash, part, len);
    shl_put_le64(id, hash);
    r = shl_pread_full(fd, part, len, bytes - len);
    if (r < 0) {
        return r;
    }
    shl_put_le64(id + 8, shl_sum(hash ^ bytes, part, len));
    return 0;
}

int vmm_overlay_measure_base(int base_fd,
                             uint64_t *ret_bytes,
                             uint8_t ret_id[VMM_OVERLAY_ID_BYTES],
                             struct shl_err *err)
{
    struct stat st;
    int r = 0;

    *ret_bytes = 0;
    memset(ret_id, 0, VMM_OVERLAY_ID_BYTES);
    shl_put_le64(ret_id, SHL_SUM_START);
    if (base_fd < 0) {
        return 0;
    }
    if (fstat(base_fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the disk base image");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the disk base image is not a regular file");
    }
    *ret_bytes = (uint64_t)st.st_size;
    if (st.st_size > 0) {
        r = hash_base(base_fd, (uint64_t)st.st_size, ret_id);
    }
    return r < 0 ? shl_err_sys(err, -r, "cannot read the disk base image") : 0;
}

int vmm_overlay_file_create(int fd, const struct vmm_overlay_header *header, struct shl_err *err)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES];
    uint64_t bytes = vmm_overlay_data_offset(header->virtual_bytes) +
                     vmm_overlay_cluster_count(header->virtual_bytes) * CLUSTER;
    int r;

    if (ftruncate(fd, (off_t)bytes) < 0) {
        return shl_err_sys(err, errno, "cannot size the overlay file");
    }
    vmm_overlay_header_format(header, raw);
    r = shl_pwrite_full(fd, raw, sizeof(raw), 0);
    return r < 0 ? shl_err_sys(err, -r, "cannot write the overlay file") : 0;
}
