#include "vmm-kvm/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

int vmm_tap_init(struct vmm_tap *tap,
                 int fd,
                 struct vmm_net *net,
                 struct vmm_slot *slot,
                 struct shl_err *err)
{
    int header_bytes = (int)VMM_NET_HEADER_BYTES;
    struct ifreq request;
    int flags;

    memset(tap, 0, sizeof(*tap));
    tap->fd = fd;
    tap->net = net;
    tap->slot = slot;
    memset(&request, 0, sizeof(request));
    if (ioctl(fd, TUNGETIFF, &request) < 0) {
        return shl_err_sys(err, errno, "the descriptor 'tap' is no TAP interface");
    }
    flags = request.ifr_flags;
    if (!(flags & IFF_TAP) || !(flags & IFF_NO_PI) || !(flags & IFF_VNET_HDR)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the TAP interface must be opened with IFF_TAP, IFF_NO_PI and "
                           "IFF_VNET_HDR");
    }
    if (ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
        return shl_err_sys(err, errno, "cannot set up the TAP interface");
    }
    tap->offloads = ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0;
    (void)ioctl(fd, TUNSETOFFLOAD, 0);
    return 0;
}

static ssize_t tap_recv(void *ctx, void *frame, size_t len)
{
    const struct vmm_tap *tap = ctx;
    ssize_t n = read(tap->fd, frame, len);

    return n < 0 ? -errno : n;
}

static ssize_t tap_send(void *ctx, const struct iovec *iov, unsigned count)
{
    const struct vmm_tap *tap = ctx;
    ssize_t n = writev(tap->fd, iov, (int)count);

    return n < 0 ? -errno : n;
}

static void tap_set_offload(void *ctx, bool csum, bool tso4, bool tso6)
{
    const struct vmm_tap *tap = ctx;
    unsigned flags = 0;

    if (csum) {
        flags |= TUN_F_CSUM | (tso4 ? TUN_F_TSO4 : 0u) | (tso6 ? TUN_F_TSO6 : 0u);
    }
    (void)ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)flags);
}

static void tap_want_recv(void *ctx, bool want)
{
    struct vmm_tap *tap = ctx;

    vmm_loop_modify(tap->slot->loop, &tap->watch, want ? EPOLLIN : 0);
}

struct vmm_net_host vmm_tap_host(struct vmm_tap *tap)
{
    return (struct vmm_net_host){
        .ctx = tap,
        .recv = tap_recv,
        .send = tap_send,
        .set_offload = tap_set_offload,
        .want_recv = tap_want_recv,
    };
}

static void on_frame(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_tap *tap = shl_container_of(watch, struct vmm_tap, watch);

    (void)pthread_mutex_lock(&tap->slot->lock);
    if (events & EPOLLIN) {
        vmm_slot_check(tap->slot, vmm_net_on_readable(tap->net));
    } else {
        /* The interface was removed from the host: the guest's link is just silent. */
        vmm_loop_remove(tap->slot->loop, watch);
    }
    (void)pthread_mutex_unlock(&tap->slot->lock);
}

int vmm_tap_watch(struct vmm_tap *tap)
{
    return vmm_loop_add(tap->slot->loop, &tap->watch, tap->fd, 0, on_frame);
}

void vmm_tap_release(struct vmm_tap *tap)
{
    if (tap->slot) {
        vmm_loop_remove(tap->slot->loop, &tap->watch);
    }
}
