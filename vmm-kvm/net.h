/* virtio-net (virtio 1.2, section 5.1): one queue pair, header of 12 bytes, offloads
 * as far as the host's TAP can do them.
 *
 * Receiving goes through one frame buffer: a frame is taken from the host only when
 * the driver has buffers; without buffers frames stay in the TAP, whose queue is
 * bounded, and the kernel drops the rest. Sending is refused above
 * VMM_NET_FRAME_MAX and when the header asks for an offload that was not negotiated
 * (R10); such frames are dropped and counted.
 */
#ifndef SHL_VMM_NET_H
#define SHL_VMM_NET_H

#include <sys/types.h>

#include "vmm-kvm/virtio.h"

#define VMM_NET_HEADER_BYTES 12u
#define VMM_NET_FRAME_MAX    (65535u + 14u + VMM_NET_HEADER_BYTES)
#define VMM_NET_MAC_BYTES    6u

#define VMM_NET_RX 0u
#define VMM_NET_TX 1u

/* The host side, non-blocking. */
struct vmm_net_host {
    void *ctx;
    /* One frame with its virtio header; -EAGAIN when there is none. */
    ssize_t (*recv)(void *ctx, void *frame, size_t len);
    /* One frame; -EAGAIN drops it. */
    ssize_t (*send)(void *ctx, const struct iovec *iov, unsigned count);
    /* What the driver can receive: checksum-less and large frames or not. */
    void (*set_offload)(void *ctx, bool csum, bool tso4, bool tso6);
    /* Whether recv should be called when a frame comes. */
    void (*want_recv)(void *ctx, bool want);
};

struct vmm_net_stats {
    uint64_t rx_packets;
    uint64_t rx_bytes;
    uint64_t rx_dropped;
    uint64_t tx_packets;
    uint64_t tx_bytes;
    uint64_t tx_dropped;
};

struct vmm_net {
    struct vmm_virtio dev;
    uint8_t mac[VMM_NET_MAC_BYTES];
    struct vmm_net_host host;
    struct vmm_net_stats stats;
    uint32_t frame_bytes; /* frame waiting for buffers, 0: none */
    uint8_t frame[VMM_NET_FRAME_MAX];
};

/* @offloads: the host can take and give frames without checksum and larger than the MTU. */
void vmm_net_init(struct vmm_net *net,
                  struct vmm_mem *mem,
                  struct vmm_irq irq,
                  const struct vmm_net_host *host,
                  const uint8_t mac[VMM_NET_MAC_BYTES],
                  bool offloads);

/* The host has a frame: move frames to the driver. Same results as notify. */
SHL_MUST_CHECK int vmm_net_on_readable(struct vmm_net *net);

#endif /* SHL_VMM_NET_H */
