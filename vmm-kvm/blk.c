#include "vmm-kvm/blk.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

#define SECTOR 512u

/* Feature bits of 5.2.3. */
#define F_SEG_MAX      (1ull << 2)
#define F_FLUSH        (1ull << 9)
#define F_DISCARD      (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

/* Request types and status values of 5.2.6. */
#define T_IN           0u
#define T_OUT          1u
#define T_FLUSH        4u
#define T_GET_ID       8u
#define T_DISCARD      11u
#define T_WRITE_ZEROES 13u
#define S_OK           0u
#define S_IOERR        1u
#define S_UNSUPP       2u

#define HEADER_BYTES    16u
#define ID_BYTES        20u
#define QUEUE_SIZE      256u
#define ZERO_SEGMENTS   8u
#define ZERO_SEGMENT    16u /* le64 sector, le32 count, le32 flags */
#define ZERO_SECTORS    (1u << 22)
#define CLUSTER_SECTORS 128u

static void blk_config_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    const struct vmm_blk *blk = shl_container_of(dev, struct vmm_blk, dev);
    uint8_t raw[VMM_BLK_CONFIG_BYTES] = {0};

    shl_put_le64(raw + 0, blk->disk.bytes / SECTOR);
    shl_put_le32(raw + 12, QUEUE_SIZE - 2); /* seg_max: all but header and status */
    shl_put_le32(raw + 20, SECTOR);
    shl_put_le32(raw + 36, ZERO_SECTORS); /* max_discard_sectors */
    shl_put_le32(raw + 40, ZERO_SEGMENTS);
    shl_put_le32(raw + 44, CLUSTER_SECTORS); /* discard_sector_alignment */
    shl_put_le32(raw + 48, ZERO_SECTORS);    /* max_write_zeroes_sectors */
    shl_put_le32(raw + 52, ZERO_SEGMENTS);
    raw[56] = 1; /* write_zeroes_may_unmap */
    memcpy(dst, raw + offset, len);
}

static bool range_fits(const struct vmm_blk *blk, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = blk->disk.bytes / SECTOR;

    return bytes % SECTOR == 0 && sector <= capacity && bytes / SECTOR <= capacity - sector;
}

/* Data parts of the chain: @skip bytes into the read-only or write-only side. */
static int transfer(struct vmm_blk *blk, const struct vmm_chain *chain, uint64_t sector, bool write)
{
    const struct iovec *src = write ? chain->iov : chain->iov + chain->read_count;
    unsigned src_count = write ? chain->read_count : chain->write_count;
    size_t skip = write ? HEADER_BYTES : 0;
    size_t len = write ? chain->read_bytes - HEADER_BYTES : chain->write_bytes - 1u;
    struct iovec iov[VMM_QUEUE_SIZE_MAX];
    unsigned count;
    int r;

    if (!range_fits(blk, sector, len)) {
        return SHL_EINVALIDARG;
    }
    if (len == 0) {
        return 0;
    }
    count = vmm_iov_slice(iov, src, src_count, skip, len);
    if (write) {
        r = blk->disk.write(blk->disk.ctx, sector * SECTOR, iov, count, len);
        blk->stats.writes++;
        blk->stats.write_bytes += r == 0 ? len : 0;
    } else {
        r = blk->disk.read(blk->disk.ctx, sector * SECTOR, iov, count, len);
        blk->stats.reads++;
        blk->stats.read_bytes += r == 0 ? len : 0;
    }
    return r;
}

/* DISCARD and WRITE_ZEROES: both leave zeros, so that ext4 never sees old data. */
static int zero_ranges(struct vmm_blk *blk, const struct vmm_chain *chain)
{
    uint8_t raw[ZERO_SEGMENTS * ZERO_SEGMENT];
    size_t len = chain->read_bytes - HEADER_BYTES;
    size_t at;

    if (len == 0 || len > sizeof(raw) || len % ZERO_SEGMENT != 0) {
        return SHL_EINVALIDARG;
    }
    (void)vmm_chain_read(chain, HEADER_BYTES, raw, len);
    for (at = 0; at < len; at += ZERO_SEGMENT) {
        uint64_t sector = shl_get_le64(raw + at);
        uint64_t bytes = (uint64_t)shl_get_le32(raw + at + 8) * SECTOR;
        int r;

        if (bytes / SECTOR > ZERO_SECTORS || !range_fits(blk, sector, bytes)) {
            return SHL_EINVALIDARG;
        }
        r = blk->disk.zero(blk->disk.ctx, sector * SECTOR, bytes);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int get_id(const struct vmm_chain *chain)
{
    static const char id[ID_BYTES] = "shoal-disk";

    if (chain->write_bytes - 1u < ID_BYTES) {
        return SHL_EINVALIDARG;
    }
    (void)vmm_chain_write(chain, 0, id, ID_BYTES);
    return 0;
}

/* Runs one request. Returns the status byte; *ret_written counts data bytes. */
static uint8_t execute(struct vmm_blk *blk,
                       const struct vmm_chain *chain,
                       const uint8_t header[HEADER_BYTES],
                       uint32_t *ret_written)
{
    uint32_t type = shl_get_le32(header);
    uint64_t sector = shl_get_le64(header + 8);
    int r;

    *ret_written = 0;
    switch (type) {
    case T_IN:
        r = transfer(blk, chain, sector, false);
        *ret_written = r == 0 ? chain->write_bytes - 1u : 0;
        break;
    case T_OUT:
        r = transfer(blk, chain, sector, true);
        break;
    case T_FLUSH:
        r = blk->disk.flush(blk->disk.ctx);
        blk->stats.flushes++;
        break;
    case T_GET_ID:
        r = get_id(chain);
        *ret_written = r == 0 ? ID_BYTES : 0;
        break;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        r = zero_ranges(blk, chain);
        break;
    default:
        return S_UNSUPP;
    }
    if (r < 0) {
        blk->stats.errors++;
        return S_IOERR;
    }
    return S_OK;
}

static int serve(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_blk *blk = shl_container_of(dev, struct vmm_blk, dev);
    uint8_t header[HEADER_BYTES];
    uint32_t written;
    uint8_t status;

    if (chain->read_bytes < HEADER_BYTES || chain->write_bytes < 1) {
        queue->violation = "a disk request has no room for header and status";
        return SHL_EGUEST;
    }
    (void)vmm_chain_read(chain, 0, header, sizeof(header)); /* R7: read once */
    status = execute(blk, chain, header, &written);
    (void)vmm_chain_write(chain, chain->write_bytes - 1u, &status, 1);
    /* The used length counts from the start of the buffer: only a full read reaches
     * the status byte (5.2.6 says drivers must not rely on it). */
    vmm_queue_push(queue, chain->head, written + 1);
    return 0;
}

static int blk_notify(struct vmm_virtio *dev, unsigned index)
{
    return vmm_virtio_serve(dev, index, serve);
}

static const struct vmm_virtio_ops blk_ops = {
    .name = "disk",
    .device_id = VMM_VIRTIO_ID_BLOCK,
    .queue_count = 1,
    .queue_sizes = {QUEUE_SIZE},
    .config_bytes = VMM_BLK_CONFIG_BYTES,
    .config_read = blk_config_read,
    .notify = blk_notify,
};

void vmm_blk_init(struct vmm_blk *blk,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  const struct vmm_disk *disk)
{
    assert(disk->bytes % SECTOR == 0);
    memset(&blk->stats, 0, sizeof(blk->stats));
    blk->disk = *disk;
    vmm_virtio_init(&blk->dev, &blk_ops, F_SEG_MAX | F_FLUSH | F_DISCARD | F_WRITE_ZEROES, mem,
                    irq);
}

void vmm_blk_grow(struct vmm_blk *blk, uint64_t bytes)
{
    assert(bytes % SECTOR == 0);
    if (bytes > blk->disk.bytes) {
        blk->disk.bytes = bytes;
        vmm_virtio_signal_config(&blk->dev);
    }
}

int vmm_blk_save(const struct vmm_blk *blk, struct shl_buf *buf)
{
    uint8_t raw[VMM_BLK_STATE_BYTES];

    shl_put_le64(raw, blk->disk.bytes);
    return shl_buf_append(buf, raw, sizeof(raw));
}

int vmm_blk_restore(struct vmm_blk *blk, struct shl_bytes bytes, struct shl_err *err)
{
    uint64_t known;

    if (bytes.len != VMM_BLK_STATE_BYTES) {
        return shl_err_set(err, SHL_ECORRUPT, "the saved state of the disk device is damaged");
    }
    known = shl_get_le64(bytes.base);
    if (known == 0 || known % SECTOR != 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the saved size of the disk is not possible");
    }
    if (known > blk->disk.bytes) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the disk was saved with %llu bytes and cannot become smaller (%llu)",
                           (unsigned long long)known, (unsigned long long)blk->disk.bytes);
    }
    blk->disk.bytes = known;
    return 0;
}
