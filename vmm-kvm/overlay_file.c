/* The overlay's files: opening and creating the top, layers, sealing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/overlay.h"

#define CLUSTER VMM_OVERLAY_CLUSTER_BYTES

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

/* ---- the top ---- */

static void release_top(struct vmm_overlay_top *top)
{
    free(top->bitmap);
    free(top->dirty_pages);
    memset(top, 0, sizeof(*top));
    top->fd = -1;
}

static int allocate_top(const struct vmm_overlay *overlay,
                        struct vmm_overlay_top *top,
                        int fd,
                        struct shl_err *err)
{
    memset(top, 0, sizeof(*top));
    top->fd = fd;
    top->bitmap = calloc(1, overlay->bitmap_bytes);
    top->dirty_pages = calloc(1, overlay->bitmap_bytes / VMM_PAGE_BYTES);
    if (!top->bitmap || !top->dirty_pages) {
        return shl_err_set(err, -ENOMEM, "no memory for the overlay's bitmap");
    }
    return 0;
}

static int load_bitmap(const struct vmm_overlay *overlay,
                       struct vmm_overlay_top *top,
                       struct shl_err *err)
{
    uint64_t n;
    int r = shl_pread_full(top->fd, top->bitmap, overlay->bitmap_bytes, VMM_OVERLAY_HEADER_BYTES);

    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the overlay's bitmap");
    }
    for (n = 0; n < overlay->bitmap_bytes * 8; n++) {
        if (!(top->bitmap[n / 8] >> (n % 8) & 1)) {
            continue;
        }
        if (n >= overlay->cluster_count) {
            return shl_err_set(err, SHL_ECORRUPT, "the overlay's bitmap is longer than the disk");
        }
        top->present_count++;
    }
    return 0;
}

/* Make every cluster without a bit a hole again (see the crash rule). */
static void punch_leftovers(const struct vmm_overlay *overlay, struct vmm_overlay_top *top)
{
    const off_t data_offset = (off_t)overlay->header.data_offset;
    off_t end = data_offset + (off_t)(overlay->cluster_count * CLUSTER);
    off_t at = data_offset;

    while (at < end) {
        off_t data = lseek(top->fd, at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(top->fd, data, SEEK_HOLE);

        if (data < 0 && errno == ENXIO) {
            return;
        }
        if (data < 0 || hole < 0) {
            top->no_holes = true;
            return;
        }
        for (at = data; at < hole && at < end;) {
            uint64_t n = (uint64_t)(at - data_offset) / CLUSTER;
            off_t start = data_offset + (off_t)(n * CLUSTER);

            if (!(top->bitmap[n / 8] >> (n % 8) & 1) &&
                fallocate(top->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, CLUSTER) <
                    0) {
                top->no_holes = true;
                return;
            }
            at = start + (off_t)CLUSTER;
        }
    }
}

static int check_header(const struct vmm_overlay *overlay,
                        const struct vmm_overlay_header *header,
                        struct shl_err *err)
{
    if (header->virtual_bytes != overlay->header.virtual_bytes) {
        return shl_err_set(err, SHL_ECONFLICT, "the overlay is of a disk of %llu bytes, not %llu",
                           (unsigned long long)header->virtual_bytes,
                           (unsigned long long)overlay->header.virtual_bytes);
    }
    if (header->base_bytes != overlay->header.base_bytes ||
        memcmp(header->base_id, overlay->header.base_id, VMM_OVERLAY_ID_BYTES) != 0) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "the overlay belongs to another base image, or the base has changed");
    }
    return 0;
}

static int load(const struct vmm_overlay *overlay,
                struct vmm_overlay_top *top,
                uint64_t file_bytes,
                struct shl_err *err)
{
    uint8_t raw[VMM_OVERLAY_HEADER_BYTES];
    struct vmm_overlay_header header;
    int r = shl_pread_full(top->fd, raw, sizeof(raw), 0);

    if (r == -ENODATA) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay file is cut off in its header");
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot read the overlay file");
    }
    r = vmm_overlay_header_parse(raw, &header, err);
    if (r == 0) {
        r = check_header(overlay, &header, err);
    }
    if (r < 0) {
        return r;
    }
    if (file_bytes < overlay->header.data_offset + overlay->cluster_count * CLUSTER) {
        return shl_err_set(err, SHL_ECORRUPT, "the overlay file is cut off");
    }
    r = load_bitmap(overlay, top, err);
    if (r == 0) {
        punch_leftovers(overlay, top);
    }
    return r;
}

static int create(const struct vmm_overlay *overlay,
                  struct vmm_overlay_top *top,
                  struct shl_err *err)
{
    top->data_dirty = true; /* the header: durable with the first flush */
    return vmm_overlay_file_create(top->fd, &overlay->header, err);
}

/* Open @fd as top into @top, which the caller releases also on failure. */
static int open_top(const struct vmm_overlay *overlay,
                    struct vmm_overlay_top *top,
                    int fd,
                    bool only_empty,
                    struct shl_err *err)
{
    struct stat st;
    int r = allocate_top(overlay, top, fd, err);

    if (r == 0) {
        r = lock_file(fd, err);
    }
    if (r < 0) {
        return r;
    }
    if (fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the overlay file");
    }
    if (!S_ISREG(st.st_mode)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the overlay is not a regular file");
    }
    /* All hole: created by a process that died before it wrote the header. */
    if (st.st_size == 0 || (lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO)) {
        return create(overlay, top, err);
    }
    if (only_empty) {
        return shl_err_set(err, SHL_EINVALIDARG, "the file of the new overlay is not empty");
    }
    return load(overlay, top, (uint64_t)st.st_size, err);
}

static int measure(struct vmm_overlay *overlay, uint64_t virtual_bytes, struct shl_err *err)
{
    struct vmm_overlay_header *header = &overlay->header;
    int r;

    if (virtual_bytes == 0 || virtual_bytes % 512 != 0 || virtual_bytes > VMM_OVERLAY_VIRTUAL_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "a disk of %llu bytes is not possible: give a multiple of 512 up to "
                           "4 TiB",
                           (unsigned long long)virtual_bytes);
    }
    header->virtual_bytes = virtual_bytes;
    header->data_offset = vmm_overlay_data_offset(virtual_bytes);
    overlay->cluster_count = vmm_overlay_cluster_count(virtual_bytes);
    overlay->bitmap_bytes = (size_t)vmm_overlay_bitmap_bytes(virtual_bytes);
    r = vmm_overlay_measure_base(overlay->base_fd, &header->base_bytes, header->base_id, err);
    if (r == 0 && header->base_bytes > virtual_bytes) {
        r = shl_err_set(err, SHL_EINVALIDARG,
                        "the disk base image must be no larger than the disk (%llu > %llu bytes)",
                        (unsigned long long)header->base_bytes, (unsigned long long)virtual_bytes);
    }
    return r;
}

int vmm_overlay_open(struct vmm_overlay *overlay,
                     int fd,
                     int base_fd,
                     uint64_t virtual_bytes,
                     struct shl_err *err)
{
    int r;

    memset(overlay, 0, sizeof(*overlay));
    overlay->top.fd = fd;
    overlay->base_fd = base_fd;
    r = measure(overlay, virtual_bytes, err);
    if (r == 0) {
        overlay->bounce = malloc(CLUSTER);
        r = overlay->bounce ? open_top(overlay, &overlay->top, fd, false, err)
                            : shl_err_set(err, -ENOMEM, "no memory for the overlay");
    }
    if (r < 0) {
        vmm_overlay_release(overlay);
    }
    return r;
}

/* ---- sealed layers ---- */

static void release_layers(struct vmm_sealed *layers, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        vmm_sealed_release(&layers[i]);
    }
}

static int check_layer(const struct vmm_overlay *overlay,
                       const struct vmm_sealed *layer,
                       struct shl_err *err)
{
    if (layer->header.base_bytes != overlay->header.base_bytes ||
        memcmp(layer->header.base_id, overlay->header.base_id, VMM_OVERLAY_ID_BYTES) != 0) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "a disk layer belongs to another base image, or the base has changed");
    }
    if (layer->header.virtual_bytes > overlay->header.virtual_bytes) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "a disk layer is of a disk of %llu bytes, larger than this of %llu",
                           (unsigned long long)layer->header.virtual_bytes,
                           (unsigned long long)overlay->header.virtual_bytes);
    }
    return 0;
}

int vmm_overlay_set_layers(struct vmm_overlay *overlay,
                           const int *fds,
                           unsigned count,
                           struct shl_err *err)
{
    struct vmm_sealed layers[VMM_DISK_LAYERS_MAX];
    unsigned i;
    int r = 0;

    if (count > VMM_DISK_LAYERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "a disk has at most %d layers", VMM_DISK_LAYERS_MAX);
    }
    for (i = 0; i < count; i++) {
        r = vmm_sealed_open(&layers[i], fds[i], err);
        if (r < 0) {
            break;
        }
        r = check_layer(overlay, &layers[i], err);
        if (r < 0) {
            i++; /* this one is open */
            break;
        }
    }
    if (r < 0) {
        release_layers(layers, i);
        return r;
    }
    release_layers(overlay->layers, overlay->layer_count);
    memcpy(overlay->layers, layers, count * sizeof(layers[0]));
    memset(overlay->layer_unsynced, 0, sizeof(overlay->layer_unsynced));
    overlay->layer_count = count;
    return 0;
}

int vmm_overlay_seal(struct vmm_overlay *overlay, int new_fd, struct shl_err *err)
{
    struct vmm_overlay_top top;
    struct vmm_sealed sealed;
    int r;

    if (overlay->layer_count == VMM_DISK_LAYERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "the disk has %d layers already: merge some first",
                           VMM_DISK_LAYERS_MAX);
    }
    r = open_top(overlay, &top, new_fd, true, err);
    if (r == 0) {
        r = vmm_overlay_complete(overlay);
        if (r < 0) {
            (void)shl_err_sys(err, -r, "cannot complete the overlay file");
        }
    }
    if (r == 0) {
        /* Turns the lock of the old top into a shared one. */
        r = vmm_sealed_open(&sealed, overlay->top.fd, err);
        if (r < 0) {
            (void)lock_file(overlay->top.fd, NULL);
        }
    }
    if (r < 0) {
        release_top(&top);
        return r;
    }
    overlay->layer_unsynced[overlay->layer_count] = overlay->top.data_dirty;
    overlay->layers[overlay->layer_count++] = sealed;
    release_top(&overlay->top);
    overlay->top = top;
    return 0;
}

void vmm_overlay_release(struct vmm_overlay *overlay)
{
    release_layers(overlay->layers, overlay->layer_count);
    release_top(&overlay->top);
    free(overlay->bounce);
    memset(overlay, 0, sizeof(*overlay));
    overlay->top.fd = -1;
    overlay->base_fd = -1;
}
