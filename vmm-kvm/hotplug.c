#include "vmm-kvm/hotplug.h"

#include <assert.h>
#include <string.h>

#define F_UNPLUGGED_INACCESSIBLE (1ull << 1)

#define BLOCK VMM_HOTPLUG_BLOCK_BYTES

/* 5.15.6: le16 type, 6 bytes padding, then le64 addr, le16 nb_blocks, 6 bytes padding.
 * Answer: le16 type, 6 bytes padding, le16 state. */
#define REQUEST_BYTES 24u
#define ANSWER_BYTES  10u
#define QUEUE_SIZE    64u

#define REQ_PLUG       0u
#define REQ_UNPLUG     1u
#define REQ_UNPLUG_ALL 2u
#define REQ_STATE      3u

#define RESP_ACK   0u
#define RESP_NACK  1u
#define RESP_ERROR 3u

#define STATE_PLUGGED   0u
#define STATE_UNPLUGGED 1u
#define STATE_MIXED     2u

static bool is_plugged(const struct vmm_hotplug *hotplug, uint64_t block)
{
    return hotplug->plugged[block / 8] >> (block % 8) & 1;
}

static uint64_t plugged_among(const struct vmm_hotplug *hotplug, uint64_t first, uint64_t count)
{
    uint64_t plugged = 0, i;

    for (i = 0; i < count; i++) {
        plugged += is_plugged(hotplug, first + i);
    }
    return plugged;
}

static void discard_blocks(const struct vmm_hotplug *hotplug, uint64_t first, uint64_t count)
{
    const struct vmm_mem *mem = hotplug->dev.mem;
    void *host = vmm_mem_slice(mem, mem->hotplug_start + first * BLOCK, count * BLOCK);

    if (host) {
        (void)vmm_mem_discard(mem, host, count * BLOCK);
    }
}

static void set_blocks(struct vmm_hotplug *hotplug, uint64_t first, uint64_t count, bool plugged)
{
    uint64_t i;

    for (i = first; i < first + count; i++) {
        uint8_t bit = (uint8_t)(1u << (i % 8));

        if (plugged) {
            hotplug->plugged[i / 8] |= bit;
            hotplug->plugged_bytes += BLOCK;
        } else {
            hotplug->plugged[i / 8] &= (uint8_t)~bit;
            hotplug->plugged_bytes -= BLOCK;
        }
    }
}

static uint16_t plug(struct vmm_hotplug *hotplug, uint64_t first, uint64_t count)
{
    if (plugged_among(hotplug, first, count) != 0) {
        return RESP_ERROR;
    }
    /* plugged <= requested, unless the driver kept blocks over a restart of itself. */
    if (hotplug->plugged_bytes + count * BLOCK > hotplug->requested_bytes) {
        return RESP_NACK;
    }
    set_blocks(hotplug, first, count, true);
    return RESP_ACK;
}

static uint16_t unplug(struct vmm_hotplug *hotplug, uint64_t first, uint64_t count)
{
    if (plugged_among(hotplug, first, count) != count) {
        return RESP_ERROR;
    }
    set_blocks(hotplug, first, count, false);
    discard_blocks(hotplug, first, count);
    return RESP_ACK;
}

static uint16_t unplug_all(struct vmm_hotplug *hotplug)
{
    memset(hotplug->plugged, 0, sizeof(hotplug->plugged));
    hotplug->plugged_bytes = 0;
    discard_blocks(hotplug, 0, hotplug->usable_bytes / BLOCK);
    return RESP_ACK;
}

static uint16_t state_of(const struct vmm_hotplug *hotplug, uint64_t first, uint64_t count)
{
    uint64_t plugged = plugged_among(hotplug, first, count);

    if (plugged == count) {
        return STATE_PLUGGED;
    }
    return plugged == 0 ? STATE_UNPLUGGED : STATE_MIXED;
}

/* Blocks of a request: aligned, at least one, inside the usable part. */
static bool find_blocks(const struct vmm_hotplug *hotplug,
                        const uint8_t request[REQUEST_BYTES],
                        uint64_t *ret_first,
                        uint64_t *ret_count)
{
    uint64_t addr = shl_get_le64(request + 8);
    uint64_t count = shl_get_le16(request + 16);
    uint64_t start = hotplug->dev.mem->hotplug_start;

    if (addr < start || (addr - start) % BLOCK != 0 || addr - start >= hotplug->usable_bytes ||
        count == 0 || count > (hotplug->usable_bytes - (addr - start)) / BLOCK) {
        return false;
    }
    *ret_first = (addr - start) / BLOCK;
    *ret_count = count;
    return true;
}

/* Runs one request. Returns the answer's type; *ret_state is for STATE. */
static uint16_t execute(struct vmm_hotplug *hotplug,
                        const uint8_t request[REQUEST_BYTES],
                        uint16_t *ret_state)
{
    uint16_t type = shl_get_le16(request);
    uint64_t first, count;

    *ret_state = 0;
    if (type == REQ_UNPLUG_ALL) {
        return unplug_all(hotplug);
    }
    if (type > REQ_STATE || !find_blocks(hotplug, request, &first, &count)) {
        return RESP_ERROR;
    }
    switch (type) {
    case REQ_PLUG:
        return plug(hotplug, first, count);
    case REQ_UNPLUG:
        return unplug(hotplug, first, count);
    default:
        *ret_state = state_of(hotplug, first, count);
        return RESP_ACK;
    }
}

static int serve(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_hotplug *hotplug = shl_container_of(dev, struct vmm_hotplug, dev);
    uint8_t request[REQUEST_BYTES], answer[ANSWER_BYTES] = {0};
    uint16_t type, state;

    if (chain->read_bytes < REQUEST_BYTES || chain->write_bytes < ANSWER_BYTES) {
        queue->violation = "a memory request has no room for request and answer";
        return SHL_EGUEST;
    }
    (void)vmm_chain_read(chain, 0, request, sizeof(request)); /* R7: read once */
    type = execute(hotplug, request, &state);
    hotplug->refused += type != RESP_ACK;
    shl_put_le16(answer, type);
    shl_put_le16(answer + 8, state);
    (void)vmm_chain_write(chain, 0, answer, sizeof(answer));
    vmm_queue_push(queue, chain->head, sizeof(answer));
    return 0;
}

static int hotplug_notify(struct vmm_virtio *dev, unsigned index)
{
    return vmm_virtio_serve(dev, index, serve);
}

/* le64 block_size, le16 node_id, 6 bytes padding, le64 addr, le64 region_size,
 * le64 usable_region_size, le64 plugged_size, le64 requested_size. */
static void hotplug_config_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    const struct vmm_hotplug *hotplug = shl_container_of(dev, struct vmm_hotplug, dev);
    uint8_t raw[VMM_HOTPLUG_CONFIG_BYTES] = {0};

    shl_put_le64(raw, BLOCK);
    shl_put_le64(raw + 16, dev->mem->hotplug_start);
    shl_put_le64(raw + 24, dev->mem->hotplug_max);
    shl_put_le64(raw + 32, hotplug->usable_bytes);
    shl_put_le64(raw + 40, hotplug->plugged_bytes);
    shl_put_le64(raw + 48, hotplug->requested_bytes);
    memcpy(dst, raw + offset, len);
}

/* No reset op: plugged memory stays when the driver goes (5.15.5.2). */
static const struct vmm_virtio_ops hotplug_ops = {
    .name = "memory",
    .device_id = VMM_VIRTIO_ID_MEM,
    .queue_count = 1,
    .queue_sizes = {QUEUE_SIZE},
    .config_bytes = VMM_HOTPLUG_CONFIG_BYTES,
    .config_read = hotplug_config_read,
    .notify = hotplug_notify,
};

void vmm_hotplug_init(struct vmm_hotplug *hotplug,
                      struct vmm_mem *mem,
                      struct vmm_irq irq,
                      uint64_t requested_bytes)
{
    assert(mem->hotplug_max > 0);
    assert(requested_bytes % BLOCK == 0);
    assert(requested_bytes <= mem->hotplug_usable);
    memset(hotplug, 0, sizeof(*hotplug));
    hotplug->usable_bytes = mem->hotplug_usable;
    hotplug->requested_bytes = requested_bytes;
    vmm_virtio_init(&hotplug->dev, &hotplug_ops, F_UNPLUGGED_INACCESSIBLE, mem, irq);
}

void vmm_hotplug_grow(struct vmm_hotplug *hotplug, uint64_t requested_bytes)
{
    const struct vmm_mem *mem = hotplug->dev.mem;

    assert(requested_bytes % BLOCK == 0);
    assert(requested_bytes <= mem->hotplug_usable);
    if (requested_bytes <= hotplug->requested_bytes) {
        return;
    }
    hotplug->requested_bytes = requested_bytes;
    hotplug->usable_bytes = mem->hotplug_usable;
    vmm_virtio_signal_config(&hotplug->dev);
}

/* le64 region size, le64 usable, le64 requested, then the bitmap of the region. */
#define STATE_BITMAP 24u

static size_t bitmap_bytes(const struct vmm_mem *mem)
{
    return (size_t)((mem->hotplug_max / BLOCK + 7) / 8);
}

int vmm_hotplug_save(const struct vmm_hotplug *hotplug, struct shl_buf *buf)
{
    const struct vmm_mem *mem = hotplug->dev.mem;
    uint8_t raw[STATE_BITMAP];
    int r;

    shl_put_le64(raw, mem->hotplug_max);
    shl_put_le64(raw + 8, hotplug->usable_bytes);
    shl_put_le64(raw + 16, hotplug->requested_bytes);
    r = shl_buf_append(buf, raw, sizeof(raw));
    return r < 0 ? r : shl_buf_append(buf, hotplug->plugged, bitmap_bytes(mem));
}

/* No block is plugged from @first on. */
static bool none_plugged_from(const struct vmm_hotplug *hotplug, uint64_t first)
{
    uint64_t end = bitmap_bytes(hotplug->dev.mem) * 8;

    return first >= end || plugged_among(hotplug, first, end - first) == 0;
}

int vmm_hotplug_restore(struct vmm_hotplug *hotplug, struct shl_bytes bytes, struct shl_err *err)
{
    const struct vmm_mem *mem = hotplug->dev.mem;
    uint64_t usable, requested;

    if (bytes.len != STATE_BITMAP + bitmap_bytes(mem) ||
        shl_get_le64(bytes.base) != mem->hotplug_max) {
        return shl_err_set(err, SHL_ECORRUPT, "the saved state of the memory device is damaged");
    }
    usable = shl_get_le64(bytes.base + 8);
    requested = shl_get_le64(bytes.base + 16);
    if (usable % BLOCK != 0 || usable > mem->hotplug_max || requested % BLOCK != 0 ||
        requested > usable) {
        return shl_err_set(err, SHL_ECORRUPT, "the saved sizes of pluggable memory make no sense");
    }
    if (usable > mem->hotplug_usable) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the machine was saved with %llu MiB of pluggable memory and cannot "
                           "become smaller (%llu MiB)",
                           (unsigned long long)(usable >> 20),
                           (unsigned long long)(mem->hotplug_usable >> 20));
    }
    memcpy(hotplug->plugged, bytes.base + STATE_BITMAP, bitmap_bytes(mem));
    if (!none_plugged_from(hotplug, usable / BLOCK)) {
        memset(hotplug->plugged, 0, sizeof(hotplug->plugged));
        return shl_err_set(err, SHL_ECORRUPT, "memory was plugged outside its region");
    }
    hotplug->usable_bytes = usable;
    hotplug->requested_bytes = requested;
    hotplug->plugged_bytes = plugged_among(hotplug, 0, usable / BLOCK) * BLOCK;
    return 0;
}
