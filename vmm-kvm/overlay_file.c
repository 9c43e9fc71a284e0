/* The overlay's file format: header, bitmap, opening and creating. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/overlay.h"

#define CLUSTER       VMM_OVERLAY_CLUSTER_BYTES
#define HEADER_SUMMED 64u
#define VERSION       1u

static const char magic[8] = {'S', 'H', 'L', 'O', 'V', 'L', '\r', '\n'};

/* FNV-1a over 64-bit words (and bytes at the end), with the high half folded down. */
static uint64_t fingerprint(uint64_t hash, const uint8_t *data, size_t len)
{
    size_t i = 0;

    for (; len - i >= 8; i += 8) {
        hash = (hash ^ shl_get_le64(data + i)) * 0x100000001b3ull;
        hash ^= hash >> 32;
    }
    for (; i < len; i++) {
        hash = (hash ^ data[i]) * 0x100000001b3ull;
    }
    return hash;
}

#define FINGERPRINT_START 0xcbf29ce484222325ull

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint64_t bitmap_bytes_of(uint64_t virtual_bytes)
{
    uint64_t clusters = (virtual_bytes + CLUSTER - 1) / CLUSTER;

    return round_up((clusters + 7) / 8, VMM_PAGE_BYTES);
}

static uint64_t data_offset_of(uint64_t virtual_bytes)
{
    return round_up(VMM_OVERLAY_HEADER_BYTES + bitmap_bytes_of(virtual_bytes), CLUSTER);
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
    if (shl_get_le64(raw + HEADER_SUMMED) != fingerprint(FINGERPRINT_START, raw, HEADER_SUMMED)) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay header is damaged (checksum)");
    }
    header.virtual_bytes = shl_get_le64(raw + 16);
    header.base_bytes = shl_get_le64(raw + 24);
    memcpy(header.base_id, raw + 32, VMM_OVERLAY_ID_BYTES);
    header.data_offset = shl_get_le64(raw + 56);
    if (shl_get_le32(raw + 12) != CLUSTER || header.virtual_bytes == 0 ||
        header.virtual_bytes % 512 != 0 || header.virtual_bytes > VMM_OVERLAY_VIRTUAL_MAX ||
        shl_get_le64(raw + 48) != VMM_OVERLAY_HEADER_BYTES ||
        header.data_offset != data_offset_of(header.virtual_bytes)) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay header has impossible sizes");
    }
    *ret = header;
    return 0;
}

static void format_header(const struct vmm_overlay *overlay, uint8_t raw[VMM_OVERLAY_HEADER_BYTES])
{
    memset(raw, 0, VMM_OVERLAY_HEADER_BYTES);
    memcpy(raw, magic, sizeof(magic));
    shl_put_le32(raw + 8, VERSION);
    shl_put_le32(raw + 12, CLUSTER);
    shl_put_le64(raw + 16, overlay->virtual_bytes);
    shl_put_le64(raw + 24, overlay->base_bytes);
    memcpy(raw + 32, overlay->base_id, VMM_OVERLAY_ID_BYTES);
    shl_put_le64(raw + 48, VMM_OVERLAY_HEADER_BYTES);
    shl_put_le64(raw + 56, overlay->data_offset);
    shl_put_le64(raw + HEADER_SUMMED, fingerprint(FINGERPRINT_START, raw, HEADER_SUMMED));
}

/* Size and fingerprint of the base. */
static int measure_base(struct vmm_overlay *overlay, struct shl_err *err)
{
    uint64_t hash = FINGERPRINT_START;
    struct stat st;
    size_t len;
    int r;

    shl_put_le64(overlay->base_id, hash);
    if (overlay->base_fd < 0) {
        return 0;
    }
    if (fstat(overlay->base_fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the disk base image");
    }
    overlay->base_bytes = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || overlay->base_bytes > overlay->virtual_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the disk base image must be a file no larger than the disk (%llu > "
                           "%llu bytes)",
                           (unsigned long long)overlay->base_bytes,
                           (unsigned long long)overlay->virtual_bytes);
    }
    len = (size_t)SHL_MIN(overlay->base_bytes, (uint64_t)CLUSTER);
    r = shl_pread_full(overlay->base_fd, overlay->bounce, len, 0);
    hash = fingerprint(hash, overlay->bounce, len);
    shl_put_le64(overlay->base_id, hash);
    if (r == 0) {
        r = shl_pread_full(overlay->base_fd, overlay->bounce, len, overlay->base_bytes - len);
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the disk base image");
    }
    hash = fingerprint(hash ^ overlay->base_bytes, overlay->bounce, len);
    shl_put_le64(overlay->base_id + 8, hash);
    return 0;
}

static int lock_file(int fd, struct shl_err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return shl_err_set(err, SHL_ECONFLICT, "the overlay file is in use by another VM");
    }
    return shl_err_sys(err, errno, "cannot lock the overlay file");
}

static int create(struct vmm_overlay *overlay, struct shl_err *err)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES];
    uint64_t bytes = overlay->data_offset + overlay->cluster_count * CLUSTER;
    int r;

    if (ftruncate(overlay->fd, (off_t)bytes) < 0) {
        return shl_err_sys(err, errno, "cannot size the overlay file");
    }
    format_header(overlay, raw);
    r = shl_pwrite_full(overlay->fd, raw, sizeof(raw), 0);
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot write the overlay file");
    }
    overlay->data_dirty = true;
    return 0;
}

static int load_bitmap(struct vmm_overlay *overlay, struct shl_err *err)
{
    uint64_t n;
    int r = shl_pread_full(overlay->fd, overlay->bitmap, overlay->bitmap_bytes,
                           VMM_OVERLAY_HEADER_BYTES);

    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the overlay's bitmap");
    }
    for (n = 0; n < overlay->bitmap_bytes * 8; n++) {
        if (!(overlay->bitmap[n / 8] >> (n % 8) & 1)) {
            continue;
        }
        if (n >= overlay->cluster_count) {
            return shl_err_set(err, SHL_ECORRUPT, "the overlay's bitmap is longer than the disk");
        }
        overlay->present_count++;
    }
    return 0;
}

/* Make every cluster without a bit a hole again (see the crash rule). */
static void punch_leftovers(struct vmm_overlay *overlay)
{
    off_t end = (off_t)(overlay->data_offset + overlay->cluster_count * CLUSTER);
    off_t at = (off_t)overlay->data_offset;

    while (at < end) {
        off_t data = lseek(overlay->fd, at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(overlay->fd, data, SEEK_HOLE);

        if (data < 0 && errno == ENXIO) {
            return;
        }
        if (data < 0 || hole < 0) {
            overlay->no_holes = true;
            return;
        }
        for (at = data; at < hole && at < end;) {
            uint64_t n = ((uint64_t)at - overlay->data_offset) / CLUSTER;
            off_t start = (off_t)(overlay->data_offset + n * CLUSTER);

            if (!(overlay->bitmap[n / 8] >> (n % 8) & 1) &&
                fallocate(overlay->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, CLUSTER) <
                    0) {
                overlay->no_holes = true;
                return;
            }
            at = start + (off_t)CLUSTER;
        }
    }
}

static int load(struct vmm_overlay *overlay, uint64_t file_bytes, struct shl_err *err)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES];
    struct vmm_overlay_header header;
    int r = shl_pread_full(overlay->fd, raw, sizeof(raw), 0);

    if (r == -ENODATA) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay file is cut off in its header");
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the overlay file");
    }
    r = vmm_overlay_header_parse(raw, &header, err);
    if (r < 0) {
        return r;
    }
    if (header.virtual_bytes != overlay->virtual_bytes) {
        return shl_err_set(err, SHL_ECONFLICT, "the overlay is of a disk of %llu bytes, not %llu",
                           (unsigned long long)header.virtual_bytes,
                           (unsigned long long)overlay->virtual_bytes);
    }
    if (header.base_bytes != overlay->base_bytes ||
        memcmp(header.base_id, overlay->base_id, VMM_OVERLAY_ID_BYTES) != 0) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the overlay belongs to another base image, or the base has changed");
    }
    if (file_bytes < overlay->data_offset + overlay->cluster_count * CLUSTER) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay file is cut off");
    }
    r = load_bitmap(overlay, err);
    if (r == 0) {
        punch_leftovers(overlay);
    }
    return r;
}

static int open_file(struct vmm_overlay *overlay, struct shl_err *err)
{
    struct stat st;
    int r = lock_file(overlay->fd, err);

    if (r == 0) {
        r = measure_base(overlay, err);
    }
    if (r < 0) {
        return r;
    }
    if (fstat(overlay->fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the overlay file");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the overlay is not a regular file");
    }
    /* All hole: created by a process that died before it wrote the header. */
    if (st.st_size == 0 || (lseek(overlay->fd, 0, SEEK_DATA) < 0 && errno == ENXIO)) {
        return create(overlay, err);
    }
    return load(overlay, (uint64_t)st.st_size, err);
}

int vmm_overlay_open(struct vmm_overlay *overlay,
                     int fd,
                     int base_fd,
                     uint64_t virtual_bytes,
                     struct shl_err *err)
{
    int r;

    memset(overlay, 0, sizeof(*overlay));
    overlay->fd = fd;
    overlay->base_fd = base_fd;
    if (virtual_bytes == 0 || virtual_bytes % 512 != 0 || virtual_bytes > VMM_OVERLAY_VIRTUAL_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "a disk of %llu bytes is not possible: give a multiple of 512 up to "
                           "4 TiB",
                           (unsigned long long)virtual_bytes);
    }
    overlay->virtual_bytes = virtual_bytes;
    overlay->cluster_count = (virtual_bytes + CLUSTER - 1) / CLUSTER;
    overlay->data_offset = data_offset_of(virtual_bytes);
    overlay->bitmap_bytes = (size_t)bitmap_bytes_of(virtual_bytes);
    overlay->bitmap = calloc(1, overlay->bitmap_bytes);
    overlay->dirty_pages = calloc(1, overlay->bitmap_bytes / VMM_PAGE_BYTES);
    overlay->bounce = malloc(CLUSTER);
    if (!overlay->bitmap || !overlay->dirty_pages || !overlay->bounce) {
        r = shl_err_set(err, -ENOMEM, "no memory for the overlay's bitmap");
    } else {
        r = open_file(overlay, err);
    }
    if (r < 0) {
        vmm_overlay_release(overlay);
    }
    return r;
}

void vmm_overlay_release(struct vmm_overlay *overlay)
{
    free(overlay->bitmap);
    free(overlay->dirty_pages);
    free(overlay->bounce);
    memset(overlay, 0, sizeof(*overlay));
    overlay->fd = -1;
    overlay->base_fd = -1;
}
