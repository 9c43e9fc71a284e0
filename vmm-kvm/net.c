#include "vmm-kvm/net.h"

#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* Feature bits of 5.1.3. */
#define F_CSUM       (1ull << 0)
#define F_GUEST_CSUM (1ull << 1)
#define F_MAC        (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_GUEST_TSO6 (1ull << 8)
#define F_HOST_TSO4  (1ull << 11)
#define F_HOST_TSO6  (1ull << 12)
#define F_MRG_RXBUF  (1ull << 15)

/* struct virtio_net_hdr, 5.1.6: u8 flags, u8 gso_type, le16 hdr_len, gso_size,
 * csum_start, csum_offset, num_buffers. */
#define HDR_FLAGS        0u
#define HDR_GSO_TYPE     1u
#define HDR_GSO_SIZE     4u
#define HDR_CSUM_START   6u
#define HDR_CSUM_OFFSET  8u
#define HDR_NUM_BUFFERS  10u
#define HDR_F_NEEDS_CSUM 1u
#define GSO_NONE         0u
#define GSO_TCPV4        1u
#define GSO_TCPV6        4u

#define ETHERNET_MIN  14u
#define QUEUE_SIZE    256u
#define BUFFERS_MAX   64u /* chains one frame may spread over */
#define RX_FRAMES_MAX 64u

static void net_config_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    const struct vmm_net *net = shl_container_of(dev, struct vmm_net, dev);

    memcpy(dst, net->mac + offset, len);
}

static void net_activate(struct vmm_virtio *dev)
{
    struct vmm_net *net = shl_container_of(dev, struct vmm_net, dev);

    net->host.set_offload(net->host.ctx, vmm_virtio_has(dev, F_GUEST_CSUM),
                          vmm_virtio_has(dev, F_GUEST_TSO4), vmm_virtio_has(dev, F_GUEST_TSO6));
}

static void net_reset(struct vmm_virtio *dev)
{
    struct vmm_net *net = shl_container_of(dev, struct vmm_net, dev);

    net->frame_bytes = 0;
    net->host.want_recv(net->host.ctx, false);
}

/* ---- to the driver ---- */

struct used_buffer {
    uint16_t head;
    uint32_t bytes;
};

/* All at once: a driver that polls would miss the rest of a frame published in parts. */
static void publish(struct vmm_net *net, const struct used_buffer *used, unsigned count)
{
    struct vmm_queue *queue = &net->dev.queues[VMM_NET_RX];
    unsigned i;

    for (i = 0; i < count; i++) {
        vmm_queue_fill(queue, used[i].head, used[i].bytes);
    }
    vmm_queue_publish(queue);
}

/* The waiting frame goes nowhere: it needs more or larger buffers than there can be. */
static int drop_frame(struct vmm_net *net)
{
    net->stats.rx_dropped++;
    net->frame_bytes = 0;
    return 1;
}

static void give_back(struct vmm_queue *queue, unsigned count)
{
    while (count-- > 0) {
        vmm_queue_unpop(queue);
    }
}

/* Spread the waiting frame over the driver's buffers. 1 done, 0 not enough buffers
 * (nothing taken), SHL_EGUEST. */
static int deliver(struct vmm_net *net)
{
    struct vmm_queue *queue = &net->dev.queues[VMM_NET_RX];
    unsigned most = vmm_virtio_has(&net->dev, F_MRG_RXBUF) ? SHL_MIN(BUFFERS_MAX, queue->size) : 1;
    struct used_buffer used[BUFFERS_MAX];
    struct vmm_chain first, chain;
    uint32_t done = 0;
    uint8_t number[2];
    unsigned count = 0;

    do {
        struct vmm_chain *at = count == 0 ? &first : &chain;
        int r = vmm_queue_pop(queue, net->dev.mem, at);

        if (r <= 0) {
            give_back(queue, count);
            return r;
        }
        if (at->write_bytes < VMM_NET_HEADER_BYTES || at->read_count > 0) {
            queue->violation = "a receive buffer is too small or not writable";
            return SHL_EGUEST;
        }
        used[count].head = at->head;
        used[count].bytes =
            (uint32_t)vmm_chain_write(at, 0, net->frame + done, net->frame_bytes - done);
        done += used[count].bytes;
        count++;
        if (count == most && done < net->frame_bytes) {
            give_back(queue, count);
            return drop_frame(net);
        }
    } while (done < net->frame_bytes);
    shl_put_le16(number, (uint16_t)count);
    (void)vmm_chain_write(&first, HDR_NUM_BUFFERS, number, sizeof(number));
    publish(net, used, count);
    net->stats.rx_packets++;
    net->stats.rx_bytes += net->frame_bytes - VMM_NET_HEADER_BYTES;
    net->frame_bytes = 0;
    return 1;
}

static bool fetch(struct vmm_net *net)
{
    ssize_t n = net->host.recv(net->host.ctx, net->frame, sizeof(net->frame));

    if (n < (ssize_t)(VMM_NET_HEADER_BYTES + ETHERNET_MIN)) {
        return false;
    }
    net->frame_bytes = (uint32_t)n;
    return true;
}

/* As deliver; without enough buffers the driver is asked to tell about new ones, and
 * those that came meanwhile are looked at once more. */
static int deliver_or_wait(struct vmm_net *net)
{
    int r = deliver(net);

    if (r != 0) {
        return r;
    }
    vmm_queue_await_more(&net->dev.queues[VMM_NET_RX]);
    return deliver(net);
}

static int receive(struct vmm_net *net)
{
    struct vmm_queue *queue = &net->dev.queues[VMM_NET_RX];
    unsigned budget = RX_FRAMES_MAX;
    bool buffers = true;

    vmm_queue_disable_notify(queue);
    while (budget-- > 0 && buffers && (net->frame_bytes > 0 || fetch(net))) {
        int r = deliver_or_wait(net);

        if (r < 0) {
            return r;
        }
        buffers = r > 0;
    }
    /* Without buffers the rest waits in the TAP until the driver notifies. */
    net->host.want_recv(net->host.ctx, buffers);
    vmm_virtio_signal_queue(&net->dev, VMM_NET_RX);
    return 0;
}

int vmm_net_on_readable(struct vmm_net *net)
{
    if (!vmm_virtio_queue_is_active(&net->dev, VMM_NET_RX)) {
        net->host.want_recv(net->host.ctx, false);
        return 0;
    }
    return receive(net);
}

/* ---- from the driver ---- */

/* The header decides what the host kernel does with the frame: only what was
 * negotiated, and positions inside the frame (CVE-2024-11614 was the latter missing). */
static bool header_is_fine(const struct vmm_virtio *dev,
                           const uint8_t *header,
                           uint32_t frame_bytes)
{
    uint8_t gso = header[HDR_GSO_TYPE];
    uint32_t start = shl_get_le16(header + HDR_CSUM_START);
    uint32_t field = start + shl_get_le16(header + HDR_CSUM_OFFSET);

    if (header[HDR_FLAGS] & HDR_F_NEEDS_CSUM) {
        if (!vmm_virtio_has(dev, F_CSUM) || start >= frame_bytes || field + 2 > frame_bytes) {
            return false;
        }
    }
    if (gso == GSO_NONE) {
        return true;
    }
    if (!(header[HDR_FLAGS] & HDR_F_NEEDS_CSUM) || shl_get_le16(header + HDR_GSO_SIZE) == 0) {
        return false;
    }
    return (gso == GSO_TCPV4 && vmm_virtio_has(dev, F_HOST_TSO4)) ||
           (gso == GSO_TCPV6 && vmm_virtio_has(dev, F_HOST_TSO6));
}

static bool send_frame(struct vmm_net *net, const struct vmm_chain *chain)
{
    struct iovec iov[VMM_QUEUE_SIZE_MAX + 1];
    uint8_t header[VMM_NET_HEADER_BYTES];
    uint32_t frame_bytes;
    unsigned count;

    if (chain->read_bytes < VMM_NET_HEADER_BYTES + ETHERNET_MIN ||
        chain->read_bytes > VMM_NET_FRAME_MAX) {
        return false;
    }
    (void)vmm_chain_read(chain, 0, header, sizeof(header)); /* R7: read once, sent from here */
    frame_bytes = chain->read_bytes - VMM_NET_HEADER_BYTES;
    if (!header_is_fine(&net->dev, header, frame_bytes)) {
        return false;
    }
    header[HDR_FLAGS] &= HDR_F_NEEDS_CSUM;
    shl_put_le16(header + HDR_NUM_BUFFERS, 0);
    iov[0] = (struct iovec){header, sizeof(header)};
    count = 1 + vmm_iov_slice(iov + 1, chain->iov, chain->read_count, sizeof(header), frame_bytes);
    if (net->host.send(net->host.ctx, iov, count) < 0) {
        return false;
    }
    net->stats.tx_packets++;
    net->stats.tx_bytes += frame_bytes;
    return true;
}

static int serve_tx(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_net *net = shl_container_of(dev, struct vmm_net, dev);

    if (!send_frame(net, chain)) {
        net->stats.tx_dropped++;
    }
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

static int net_notify(struct vmm_virtio *dev, unsigned index)
{
    struct vmm_net *net = shl_container_of(dev, struct vmm_net, dev);

    if (index == VMM_NET_RX) {
        return receive(net);
    }
    return vmm_virtio_serve(dev, index, serve_tx);
}

static const struct vmm_virtio_ops net_ops = {
    .name = "network",
    .device_id = VMM_VIRTIO_ID_NET,
    .queue_count = 2,
    .queue_sizes = {QUEUE_SIZE, QUEUE_SIZE},
    .config_bytes = VMM_NET_MAC_BYTES,
    .config_read = net_config_read,
    .activate = net_activate,
    .notify = net_notify,
    .reset = net_reset,
};

void vmm_net_init(struct vmm_net *net,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  const struct vmm_net_host *host,
                  const uint8_t mac[VMM_NET_MAC_BYTES],
                  bool offloads)
{
    uint64_t features = F_MAC | F_MRG_RXBUF;

    if (offloads) {
        features |= F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6;
    }
    memset(&net->stats, 0, sizeof(net->stats));
    net->frame_bytes = 0;
    net->host = *host;
    memcpy(net->mac, mac, VMM_NET_MAC_BYTES);
    vmm_virtio_init(&net->dev, &net_ops, features, mem, irq);
}
