/* Sequences of register writes, guest memory writes, notifications and host events on
 * each device. Input: first byte picks the device, then operations of 1 + n bytes. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "vmm-kvm/balloon.h"
#include "vmm-kvm/blk.h"
#include "vmm-kvm/console.h"
#include "vmm-kvm/hotplug.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/net.h"
#include "vmm-kvm/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY     65536u
#define DISK_BYTES 16384u
#define HOTPLUG    (4 * VMM_HOTPLUG_BLOCK_BYTES)

static struct vmm_mem mem;
static uint8_t disk_bytes[DISK_BYTES];
static struct vmm_blk blk;
static struct vmm_net net;
static struct vmm_console console;
static struct vmm_rng rng;
static struct vmm_balloon balloon;
static struct vmm_hotplug hotplug;

/* ---- host sides ---- */

static void on_irq(void *ctx)
{
    (void)ctx;
}

static int disk_rw(uint64_t offset, const struct iovec *iov, unsigned count, size_t len, bool write)
{
    unsigned i;

    assert(offset <= DISK_BYTES);
    assert(len <= DISK_BYTES - offset);
    for (i = 0; i < count; i++) {
        assert(iov[i].iov_len <= len);
        len -= iov[i].iov_len;
        if (write) {
            memcpy(disk_bytes + offset, iov[i].iov_base, iov[i].iov_len);
        } else {
            memcpy(iov[i].iov_base, disk_bytes + offset, iov[i].iov_len);
        }
        offset += iov[i].iov_len;
    }
    assert(len == 0);
    return 0;
}

static int disk_read(void *ctx, uint64_t offset, const struct iovec *iov, unsigned n, size_t len)
{
    (void)ctx;
    return disk_rw(offset, iov, n, len, false);
}

static int disk_write(void *ctx, uint64_t offset, const struct iovec *iov, unsigned n, size_t len)
{
    (void)ctx;
    return disk_rw(offset, iov, n, len, true);
}

static int disk_zero(void *ctx, uint64_t offset, uint64_t len)
{
    (void)ctx;
    assert(offset <= DISK_BYTES);
    assert(len <= DISK_BYTES - offset);
    memset(disk_bytes + offset, 0, len);
    return 0;
}

static int disk_flush(void *ctx)
{
    (void)ctx;
    return 0;
}

static unsigned frames;

static ssize_t net_recv(void *ctx, void *frame, size_t len)
{
    size_t n = 26 + frames * 700 % 9000;

    (void)ctx;
    if (frames == 0) {
        return -EAGAIN;
    }
    frames--;
    n = SHL_MIN(n, len);
    memset(frame, 0, n);
    return (ssize_t)n;
}

static uint64_t touch(const struct iovec *iov, unsigned count)
{
    uint64_t total = 0;
    unsigned i;
    size_t j;

    for (i = 0; i < count; i++) {
        for (j = 0; j < iov[i].iov_len; j++) {
            total += ((const volatile uint8_t *)iov[i].iov_base)[j] & 0;
        }
        total += iov[i].iov_len;
    }
    return total;
}

static ssize_t net_send(void *ctx, const struct iovec *iov, unsigned count)
{
    uint64_t total = touch(iov, count);

    (void)ctx;
    assert(total <= VMM_NET_FRAME_MAX);
    return (ssize_t)total;
}

static void net_offload(void *ctx, bool csum, bool tso4, bool tso6)
{
    (void)ctx;
    (void)csum;
    (void)tso4;
    (void)tso6;
}

static void net_want(void *ctx, bool want)
{
    (void)ctx;
    (void)want;
}

static unsigned port_bytes;

static ssize_t port_read(void *ctx, const struct iovec *iov, unsigned count)
{
    size_t n = SHL_MIN((size_t)port_bytes, iov[0].iov_len);

    (void)ctx;
    assert(count > 0);
    if (n == 0) {
        return -EAGAIN;
    }
    memset(iov[0].iov_base, 'x', n);
    port_bytes -= (unsigned)n;
    return (ssize_t)n;
}

static ssize_t port_write(void *ctx, const struct iovec *iov, unsigned count)
{
    uint64_t total = touch(iov, count);

    (void)ctx;
    return total % 3 == 0 ? -EAGAIN : (ssize_t)(total + 1) / 2;
}

static void port_want(void *ctx, bool readable, bool writable)
{
    (void)ctx;
    (void)readable;
    (void)writable;
}

static void fill(void *dst, size_t len)
{
    memset(dst, 0x42, len);
}

/* ---- operations ---- */

static struct vmm_virtio *make_device(uint8_t kind)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    const struct vmm_irq irq = {on_irq, NULL};
    const struct vmm_disk disk = {DISK_BYTES, NULL, disk_read, disk_write, disk_zero, disk_flush};
    const struct vmm_net_host net_host = {NULL, net_recv, net_send, net_offload, net_want};
    const struct vmm_port_host port_host = {NULL, port_read, port_write, port_want};

    switch (kind % 6) {
    case 0:
        vmm_blk_init(&blk, &mem, irq, &disk);
        return &blk.dev;
    case 1:
        vmm_net_init(&net, &mem, irq, &net_host, mac, true);
        return &net.dev;
    case 2:
        vmm_console_init(&console, &mem, irq, &port_host, "port");
        return &console.dev;
    case 3:
        vmm_rng_init(&rng, &mem, irq, fill);
        return &rng.dev;
    case 4:
        vmm_balloon_init(&balloon, &mem, irq);
        return &balloon.dev;
    default:
        vmm_hotplug_init(&hotplug, &mem, irq, HOTPLUG / 2);
        return &hotplug.dev;
    }
}

static void write32(struct vmm_virtio *dev, uint32_t offset, uint32_t value)
{
    uint8_t raw[4];

    shl_put_le32(raw, value);
    (void)vmm_mmio_write(dev, offset, raw, 4);
}

/* A whole driver start, so that the fuzzer need not find it byte by byte. */
static void bring_up(struct vmm_virtio *dev, uint8_t choice)
{
    uint64_t features = choice & 1 ? dev->offered : VMM_F_VERSION_1;
    unsigned i;

    write32(dev, 0x70, 0);
    write32(dev, 0x70, 1);
    write32(dev, 0x70, 3);
    write32(dev, 0x24, 0);
    write32(dev, 0x20, (uint32_t)features);
    write32(dev, 0x24, 1);
    write32(dev, 0x20, (uint32_t)(features >> 32));
    write32(dev, 0x70, 11);
    for (i = 0; i < dev->ops->queue_count; i++) {
        write32(dev, 0x30, i);
        write32(dev, 0x38, 8);
        write32(dev, 0x80, 0x400 * i);
        write32(dev, 0x90, 0x400 * i + 0x100);
        write32(dev, 0xa0, 0x400 * i + 0x200);
        write32(dev, 0x44, 1);
    }
    if (choice & 2) {
        write32(dev, 0x70, 15);
    }
}

/* Whatever the driver did, the state is saved and taken back. */
static void save_and_restore(struct vmm_virtio *dev)
{
    struct shl_buf buf;
    int r = 0;

    shl_buf_init(&buf, VMM_HOTPLUG_STATE_MAX);
    if (dev == &blk.dev) {
        r = vmm_blk_save(&blk, &buf);
        r = r < 0 ? r : vmm_blk_restore(&blk, shl_buf_bytes(&buf), NULL);
    } else if (dev == &balloon.dev) {
        r = vmm_balloon_save(&balloon, &buf);
        r = r < 0 ? r : vmm_balloon_restore(&balloon, shl_buf_bytes(&buf));
    } else if (dev == &hotplug.dev) {
        uint64_t plugged = hotplug.plugged_bytes;

        r = vmm_hotplug_save(&hotplug, &buf);
        r = r < 0 ? r : vmm_hotplug_restore(&hotplug, shl_buf_bytes(&buf), NULL);
        assert(hotplug.plugged_bytes == plugged);
        assert(plugged <= hotplug.requested_bytes);
    }
    assert(r == 0);
    shl_buf_release(&buf);
}

static int host_event(struct vmm_virtio *dev, uint8_t arg)
{
    save_and_restore(dev);
    if (dev == &hotplug.dev && arg % 2) {
        vmm_hotplug_grow(&hotplug, HOTPLUG);
    }
    if (dev == &net.dev && dev->ops) {
        frames = arg % 8;
        return vmm_net_on_readable(&net);
    }
    if (dev == &console.dev) {
        port_bytes = arg;
        switch (arg % 4) {
        case 0:
            return vmm_console_set_host(&console, true);
        case 1:
            return vmm_console_set_host(&console, false);
        case 2:
            return vmm_console_on_readable(&console);
        default:
            return vmm_console_on_writable(&console);
        }
    }
    return 0;
}

/* One operation; returns the bytes it used, 0 at the end, negative: the VM ends. */
static int operate(struct vmm_virtio *dev, const uint8_t *in, size_t left)
{
    uint8_t raw[8];

    if (left < 2) {
        return 0;
    }
    switch (in[0] % 8) {
    case 0: /* aligned register */
        if (left < 6) {
            return 0;
        }
        (void)vmm_mmio_write(dev, (in[1] & 63u) * 4, in + 2, 4);
        return 6;
    case 1: /* any access */
        if (left < 7) {
            return 0;
        }
        (void)vmm_mmio_write(dev, shl_get_le16(in + 1) & 0xfff, in + 3, 1 + in[0] / 8 % 4);
        return 7;
    case 2:
        if (left < 3) {
            return 0;
        }
        vmm_mmio_read(dev, shl_get_le16(in + 1) & 0xfff, raw, 1 + in[0] / 8 % 8);
        return 3;
    case 3: { /* guest memory: address, length, bytes */
        size_t len = in[0] / 8;

        if (left < 3 + len) {
            return 0;
        }
        (void)vmm_mem_write(&mem, shl_get_le16(in + 1), in + 3, len);
        return (int)(3 + len);
    }
    case 4:
        bring_up(dev, in[1]);
        return 2;
    case 5:
        if (host_event(dev, in[1]) < 0) {
            return -1;
        }
        return 2;
    default: /* doorbell */
        if (vmm_virtio_queue_is_active(dev, in[1]) && dev->ops->notify(dev, in[1]) < 0) {
            return -1;
        }
        return 2;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vmm_virtio *dev;
    int used;

    if (!mem.map && vmm_mem_init(&mem, MEMORY, HOTPLUG, HOTPLUG, NULL) < 0) {
        abort();
    }
    if (size < 2) {
        return 0;
    }
    memset(mem.regions[0].host, 0, MEMORY);
    frames = 0;
    port_bytes = 0;
    dev = make_device(data[0]);
    data++;
    size--;
    while ((used = operate(dev, data, size)) > 0) {
        data += used;
        size -= (size_t)used;
    }
    if (used < 0) {
        assert(vmm_virtio_violation(dev));
    }
    return 0;
}
