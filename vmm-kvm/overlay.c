/* Reading and writing through the overlay. */
#include "vmm-kvm/overlay.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/queue.h"

#define CLUSTER VMM_OVERLAY_CLUSTER_BYTES

/* Requests have at most one entry per descriptor; zero() and copy-up use one. */
#define IOV_COUNT_MAX VMM_QUEUE_SIZE_MAX

/* Where a cluster comes from: a layer's index, or one of these. */
#define FROM_TOP  (-1)
#define FROM_BASE (-2)

static bool is_present(const struct vmm_overlay *overlay, uint64_t n)
{
    return overlay->top.bitmap[n / 8] >> (n % 8) & 1;
}

static void set_present(struct vmm_overlay *overlay, uint64_t n)
{
    struct vmm_overlay_top *top = &overlay->top;

    top->bitmap[n / 8] |= (uint8_t)(1u << (n % 8));
    top->dirty_pages[n / 8 / VMM_PAGE_BYTES] = 1;
    top->bitmap_dirty = true;
    top->present_count++;
}

static uint64_t cluster_at(const struct vmm_overlay *overlay, uint64_t n)
{
    return overlay->header.data_offset + n * CLUSTER;
}

static int source_below(const struct vmm_overlay *overlay, uint64_t n)
{
    int i;

    for (i = (int)overlay->layer_count - 1; i >= 0; i--) {
        if (vmm_sealed_has(&overlay->layers[i], n)) {
            return i;
        }
    }
    return FROM_BASE;
}

static int source_of(const struct vmm_overlay *overlay, uint64_t n)
{
    return is_present(overlay, n) ? FROM_TOP : source_below(overlay, n);
}

/* Whole transfer of @iov; entries are consumed. Reads beyond the file give zeros. */
static int transfer(int fd, struct iovec *iov, unsigned count, uint64_t offset, bool write)
{
    while (count > 0) {
        ssize_t n = write ? pwritev(fd, iov, (int)count, (off_t)offset)
                          : preadv(fd, iov, (int)count, (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0 && write) {
            return -EIO;
        }
        if (n == 0) {
            for (; count > 0; iov++, count--) {
                memset(iov->iov_base, 0, iov->iov_len);
            }
            return 0;
        }
        offset += (uint64_t)n;
        count = vmm_iov_advance(&iov, count, (size_t)n);
    }
    return 0;
}

static int read_base(struct vmm_overlay *overlay,
                     uint64_t offset,
                     struct iovec *iov,
                     unsigned count)
{
    unsigned i;

    if (overlay->base_fd >= 0 && offset < overlay->header.base_bytes) {
        return transfer(overlay->base_fd, iov, count, offset, false);
    }
    for (i = 0; i < count; i++) {
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    }
    return 0;
}

/* A range that lies in one source. Entries of @iov are consumed. */
static int read_from(struct vmm_overlay *overlay,
                     int source,
                     uint64_t offset,
                     struct iovec *iov,
                     unsigned count)
{
    if (source == FROM_TOP) {
        return transfer(overlay->top.fd, iov, count, overlay->header.data_offset + offset, false);
    }
    if (source == FROM_BASE) {
        return read_base(overlay, offset, iov, count);
    }
    return transfer(overlay->layers[source].fd, iov, count,
                    overlay->layers[source].header.data_offset + offset, false);
}

/* Bytes from @offset on that come from @source, at most @len. */
static uint64_t run_length(const struct vmm_overlay *overlay,
                           int source,
                           uint64_t offset,
                           uint64_t len)
{
    uint64_t end = (offset / CLUSTER + 1) * CLUSTER;

    while (end < offset + len && source_of(overlay, end / CLUSTER) == source) {
        end += CLUSTER;
    }
    return SHL_MIN(end - offset, len);
}

static int overlay_read(void *ctx,
                        uint64_t offset,
                        const struct iovec *iov,
                        unsigned count,
                        size_t len)
{
    struct vmm_overlay *overlay = ctx;
    struct iovec part[IOV_COUNT_MAX];
    size_t done = 0;

    assert(offset <= overlay->header.virtual_bytes);
    assert(len <= overlay->header.virtual_bytes - offset);
    while (done < len) {
        uint64_t at = offset + done;
        int source = source_of(overlay, at / CLUSTER);
        size_t step = (size_t)run_length(overlay, source, at, len - done);
        unsigned parts = vmm_iov_slice(part, iov, count, done, step);
        int r = read_from(overlay, source, at, part, parts);

        if (r < 0) {
            return r;
        }
        done += step;
    }
    return 0;
}

/* A write into clusters that have no bit yet failed: take back what reached the file. */
static void undo_absent(struct vmm_overlay *overlay, uint64_t first, uint64_t last)
{
    uint64_t n;

    for (n = first; n <= last; n++) {
        if (!is_present(overlay, n) &&
            fallocate(overlay->top.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)cluster_at(overlay, n), CLUSTER) < 0) {
            overlay->top.no_holes = true;
        }
    }
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* Part of one absent cluster. A cluster without a bit is a hole, so when there are zeros
 * below the part alone is enough; else the whole cluster is copied up. */
static int write_partial(struct vmm_overlay *overlay,
                         uint64_t offset,
                         struct iovec *iov,
                         unsigned count,
                         size_t len)
{
    uint64_t n = offset / CLUSTER;
    size_t within = (size_t)(offset % CLUSTER);
    struct iovec whole = {overlay->bounce, CLUSTER};
    unsigned i;
    int r = read_from(overlay, source_below(overlay, n), n * CLUSTER, &whole, 1);

    if (r < 0) {
        return r;
    }
    if (!overlay->top.no_holes && is_zero(overlay->bounce, CLUSTER)) {
        r = transfer(overlay->top.fd, iov, count, overlay->header.data_offset + offset, true);
    } else {
        for (i = 0; i < count; i++) {
            memcpy(overlay->bounce + within, iov[i].iov_base, iov[i].iov_len);
            within += iov[i].iov_len;
        }
        assert(within == offset % CLUSTER + len);
        r = shl_pwrite_full(overlay->top.fd, overlay->bounce, CLUSTER, cluster_at(overlay, n));
    }
    if (r < 0) {
        undo_absent(overlay, n, n);
        return r;
    }
    set_present(overlay, n);
    return 0;
}

static bool needs_copy_up(const struct vmm_overlay *overlay, uint64_t at, uint64_t left)
{
    return !is_present(overlay, at / CLUSTER) && (at % CLUSTER != 0 || left < CLUSTER);
}

/* Bytes from @at on that can be written straight: present or wholly covered clusters. */
static size_t direct_length(const struct vmm_overlay *overlay, uint64_t at, size_t len)
{
    size_t done = 0;

    while (done < len && !needs_copy_up(overlay, at + done, len - done)) {
        done += SHL_MIN(CLUSTER - (size_t)((at + done) % CLUSTER), len - done);
    }
    return done;
}

static int write_direct(struct vmm_overlay *overlay,
                        uint64_t at,
                        struct iovec *iov,
                        unsigned count,
                        size_t len)
{
    uint64_t first = at / CLUSTER, last = (at + len - 1) / CLUSTER, n;
    int r = transfer(overlay->top.fd, iov, count, overlay->header.data_offset + at, true);

    if (r < 0) {
        undo_absent(overlay, first, last);
        return r;
    }
    for (n = first; n <= last; n++) {
        if (!is_present(overlay, n)) {
            set_present(overlay, n);
        }
    }
    return 0;
}

static int overlay_write(void *ctx,
                         uint64_t offset,
                         const struct iovec *iov,
                         unsigned count,
                         size_t len)
{
    struct vmm_overlay *overlay = ctx;
    struct iovec part[IOV_COUNT_MAX];
    size_t done = 0;

    assert(offset <= overlay->header.virtual_bytes);
    assert(len <= overlay->header.virtual_bytes - offset);
    overlay->top.data_dirty = true;
    while (done < len) {
        uint64_t at = offset + done;
        size_t step = direct_length(overlay, at, len - done);
        bool direct = step > 0;
        unsigned parts;
        int r;

        if (!direct) {
            step = SHL_MIN(CLUSTER - (size_t)(at % CLUSTER), len - done);
        }
        parts = vmm_iov_slice(part, iov, count, done, step);
        r = direct ? write_direct(overlay, at, part, parts, step)
                   : write_partial(overlay, at, part, parts, step);
        if (r < 0) {
            return r;
        }
        done += step;
    }
    return 0;
}

/* One whole cluster: a hole in the file, with a bit when what is below would show. */
static int zero_cluster(struct vmm_overlay *overlay, uint64_t n)
{
    static const uint8_t zeros[VMM_PAGE_BYTES];
    size_t i;
    int r = 0;

    if (!is_present(overlay, n) && !overlay->top.no_holes) {
        if (source_below(overlay, n) != FROM_BASE || n * CLUSTER < overlay->header.base_bytes) {
            set_present(overlay, n);
        }
        return 0;
    }
    if (fallocate(overlay->top.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)cluster_at(overlay, n), CLUSTER) < 0) {
        for (i = 0; i < CLUSTER && r == 0; i += sizeof(zeros)) {
            r = shl_pwrite_full(overlay->top.fd, zeros, sizeof(zeros), cluster_at(overlay, n) + i);
        }
    }
    if (r == 0 && !is_present(overlay, n)) {
        set_present(overlay, n);
    }
    return r;
}

static int overlay_zero(void *ctx, uint64_t offset, uint64_t len)
{
    struct vmm_overlay *overlay = ctx;
    static uint8_t zeros[CLUSTER];

    assert(offset <= overlay->header.virtual_bytes);
    assert(len <= overlay->header.virtual_bytes - offset);
    overlay->top.data_dirty = true;
    while (len > 0) {
        uint64_t step = SHL_MIN(CLUSTER - offset % CLUSTER, len);
        struct iovec iov = {zeros, (size_t)step};
        int r = step == CLUSTER ? zero_cluster(overlay, offset / CLUSTER)
                                : overlay_write(overlay, offset, &iov, 1, (size_t)step);

        if (r < 0) {
            return r;
        }
        offset += step;
        len -= step;
    }
    return 0;
}

int vmm_overlay_complete(struct vmm_overlay *overlay)
{
    struct vmm_overlay_top *top = &overlay->top;
    size_t pages = overlay->bitmap_bytes / VMM_PAGE_BYTES;
    size_t i;

    if (!top->bitmap_dirty) {
        return 0;
    }
    for (i = 0; i < pages; i++) {
        int r;

        if (!top->dirty_pages[i]) {
            continue;
        }
        r = shl_pwrite_full(top->fd, top->bitmap + i * VMM_PAGE_BYTES, VMM_PAGE_BYTES,
                            VMM_OVERLAY_HEADER_BYTES + i * VMM_PAGE_BYTES);
        if (r < 0) {
            return r;
        }
        top->dirty_pages[i] = 0;
    }
    top->bitmap_dirty = false;
    top->data_dirty = true;
    return 0;
}

/* Layers that were sealed here before the guest's flush: from the lowest, so that what
 * is durable is never newer above than below. */
static int flush_layers(struct vmm_overlay *overlay)
{
    unsigned i;

    for (i = 0; i < overlay->layer_count; i++) {
        if (overlay->layer_unsynced[i]) {
            if (fdatasync(overlay->layers[i].fd) < 0) {
                return -errno;
            }
            overlay->layer_unsynced[i] = false;
        }
    }
    return 0;
}

/* The crash rule: data, then the bits that publish it, each made durable. */
int vmm_overlay_flush(struct vmm_overlay *overlay)
{
    int r = flush_layers(overlay);

    if (r < 0 || !overlay->top.data_dirty) {
        return r;
    }
    if (fdatasync(overlay->top.fd) < 0) {
        return -errno;
    }
    if (overlay->top.bitmap_dirty) {
        r = vmm_overlay_complete(overlay);
        if (r < 0) {
            return r;
        }
        if (fdatasync(overlay->top.fd) < 0) {
            return -errno;
        }
    }
    overlay->top.data_dirty = false;
    return 0;
}

uint64_t vmm_overlay_used_bytes(const struct vmm_overlay *overlay)
{
    return overlay->top.present_count * CLUSTER;
}

static int overlay_flush(void *ctx)
{
    return vmm_overlay_flush(ctx);
}

struct vmm_disk vmm_overlay_disk(struct vmm_overlay *overlay)
{
    return (struct vmm_disk){
        .bytes = overlay->header.virtual_bytes,
        .ctx = overlay,
        .read = overlay_read,
        .write = overlay_write,
        .zero = overlay_zero,
        .flush = overlay_flush,
    };
}
