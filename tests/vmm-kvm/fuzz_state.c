/* The state file of a snapshot. Input: first byte modulo 3 is 0: the rest is the file; 1:
 * the same, but its header is made to fit, so that the fuzzer comes past the checksum; 2:
 * the state of one device. What decodes is put into devices over a small memory, which
 * then work through whatever queues that gives. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"
#include "vmm-kvm/balloon.h"
#include "vmm-kvm/device_state.h"
#include "vmm-kvm/hotplug.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/rng.h"
#include "vmm-kvm/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY  (1u << 20)
#define HOTPLUG (256ull << 20)

static struct vmm_mem mem;
static struct vmm_net net;
static struct vmm_console console;
static struct vmm_rng rng;
static struct vmm_balloon balloon;
static struct vmm_hotplug hotplug;

static void on_irq(void *ctx)
{
    (void)ctx;
}

static ssize_t host_io(void *ctx, const struct iovec *iov, unsigned count)
{
    (void)ctx;
    return count > 0 && iov[0].iov_len > 0 ? (ssize_t)iov[0].iov_len : -EAGAIN;
}

static void host_want(void *ctx, bool readable, bool writable)
{
    (void)ctx;
    (void)readable;
    (void)writable;
}

static ssize_t net_recv(void *ctx, void *frame, size_t len)
{
    (void)ctx;
    memset(frame, 0, SHL_MIN(len, 64u));
    return 64;
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

static const struct vmm_irq irq = {on_irq, NULL};

static struct vmm_virtio *make_device(uint32_t id)
{
    static const struct vmm_port_host port = {NULL, host_io, host_io, host_want};
    static const struct vmm_net_host host = {NULL, net_recv, host_io, net_offload, net_want};
    static const uint8_t mac[VMM_NET_MAC_BYTES] = {2};

    switch (id) {
    case VMM_VIRTIO_ID_NET:
        vmm_net_init(&net, &mem, irq, &host, mac, true);
        return &net.dev;
    case VMM_VIRTIO_ID_CONSOLE:
        vmm_console_init(&console, &mem, irq, &port, "port");
        return &console.dev;
    case VMM_VIRTIO_ID_BALLOON:
        vmm_balloon_init(&balloon, &mem, irq);
        return &balloon.dev;
    case VMM_VIRTIO_ID_MEM:
        vmm_hotplug_init(&hotplug, &mem, irq, 0);
        return &hotplug.dev;
    default:
        vmm_rng_init(&rng, &mem, irq, (void (*)(void *, size_t))explicit_bzero);
        return &rng.dev;
    }
}

static int restore_model(const struct vmm_device_state *state)
{
    struct shl_bytes bytes = shl_bytes_of(state->model, state->model_bytes);

    switch (state->device_id) {
    case VMM_VIRTIO_ID_CONSOLE:
        return vmm_console_restore(&console, bytes);
    case VMM_VIRTIO_ID_BALLOON:
        return vmm_balloon_restore(&balloon, bytes);
    case VMM_VIRTIO_ID_MEM:
        return vmm_hotplug_restore(&hotplug, bytes, NULL);
    default:
        return 0;
    }
}

static void run_device(const struct vmm_device_state *state)
{
    struct vmm_virtio *dev = make_device(state->device_id);
    unsigned i;

    if (vmm_transport_restore(dev, shl_bytes_of(state->transport, state->transport_bytes), NULL) <
            0 ||
        restore_model(state) < 0) {
        return;
    }
    for (i = 0; i < dev->ops->queue_count; i++) {
        if (vmm_virtio_queue_is_active(dev, i)) {
            (void)dev->ops->notify(dev, i);
        }
    }
}

/* @file with the header that makes its checksum right. */
static void reseal(uint8_t *file, size_t len)
{
    uint64_t hash;

    memcpy(file, "SHLSTAT\n", 8);
    shl_put_le16(file + 8, VMM_TLV_MAJOR);
    shl_put_le64(file + 16, len);
    hash = shl_sum(SHL_SUM_START, file, 24);
    hash = shl_sum(hash, file + VMM_TLV_HEADER_BYTES, len - VMM_TLV_HEADER_BYTES);
    shl_put_le64(file + 24, hash);
}

static void decode(struct shl_bytes bytes)
{
    static struct vmm_state state;
    uint32_t i;

    if (vmm_state_decode(bytes, &state, NULL) < 0) {
        return;
    }
    assert(state.shape.vcpus >= 1 && state.shape.vcpus <= VMM_VCPUS_MAX);
    assert(state.device_count <= VMM_VIRTIO_MAX);
    for (i = 0; i < state.device_count; i++) {
        run_device(&state.devices[i]);
    }
}

/* Device id, length of the transport part, then both parts. */
static void one_device(const uint8_t *data, size_t size)
{
    static struct vmm_device_state state;

    if (size < 3) {
        return;
    }
    state.device_id = data[0];
    state.transport_bytes = shl_get_le16(data + 1);
    data += 3;
    size -= 3;
    state.transport_bytes =
        (uint32_t)SHL_MIN(SHL_MIN(state.transport_bytes, size), sizeof(state.transport));
    memcpy(state.transport, data, state.transport_bytes);
    data += state.transport_bytes;
    size -= state.transport_bytes;
    state.model_bytes = (uint32_t)SHL_MIN(size, sizeof(state.model));
    memcpy(state.model, data, state.model_bytes);
    run_device(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (!mem.map && vmm_mem_init(&mem, MEMORY, HOTPLUG, HOTPLUG / 2, NULL) < 0) {
        return 0;
    }
    if (size < 1) {
        return 0;
    }
    copy = malloc(size); /* of exactly that size: the sanitizer sees what reads beyond */
    if (!copy) {
        return 0;
    }
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 3 == 0) {
        decode(shl_bytes_of(copy, size - 1));
    } else if (data[0] % 3 == 1 && size - 1 >= VMM_TLV_HEADER_BYTES) {
        reseal(copy, size - 1);
        decode(shl_bytes_of(copy, size - 1));
    } else {
        one_device(copy, size - 1);
    }
    free(copy);
    return 0;
}
