#include "agent/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DEVICE "eth0"

static int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

static void fill_address(struct sockaddr *dst, struct in_addr address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};

    memcpy(dst, &in, sizeof(in));
}

static int set_address(int fd, unsigned long request, struct in_addr address)
{
    struct ifreq req = {.ifr_name = DEVICE};

    fill_address(&req.ifr_addr, address);
    return ioctl(fd, request, &req) < 0 ? -errno : 0;
}

static int set_flags(int fd, const char *device, short set, short clear)
{
    struct ifreq req = {0};

    (void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", device);
    if (ioctl(fd, SIOCGIFFLAGS, &req) < 0) {
        return -errno;
    }
    req.ifr_flags = (short)((req.ifr_flags | set) & ~clear);
    return ioctl(fd, SIOCSIFFLAGS, &req) < 0 ? -errno : 0;
}

static int set_up(int fd, const char *device)
{
    return set_flags(fd, device, IFF_UP | IFF_RUNNING, 0);
}

int agent_net_loopback_up(void)
{
    SHL_CLEANUP_FD int fd = open_socket();

    return fd < 0 ? fd : set_up(fd, "lo");
}

/* Also with the address it has already: the kernel then forgets all neighbours. virtio-net
 * takes it while the link is up; whoever does not gets it down for a moment. */
static int set_mac(int fd, const struct agent_net *net)
{
    struct ifreq req = {.ifr_name = DEVICE};
    int rc = 0;

    if (ioctl(fd, SIOCGIFHWADDR, &req) < 0) {
        return -errno;
    }
    if (net->has_mac) {
        memcpy(req.ifr_hwaddr.sa_data, net->mac, sizeof(net->mac));
    }
    if (ioctl(fd, SIOCSIFHWADDR, &req) == 0) {
        return 0;
    }
    if (errno != EBUSY) {
        return -errno;
    }
    rc = set_flags(fd, DEVICE, 0, IFF_UP);
    if (rc == 0 && ioctl(fd, SIOCSIFHWADDR, &req) < 0) {
        rc = -errno;
    }
    if (rc == 0) {
        rc = set_up(fd, DEVICE);
    }
    return rc;
}

static int set_default_route(int fd, struct in_addr gateway)
{
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)DEVICE};
    struct in_addr any = {0};

    fill_address(&route.rt_dst, any);
    fill_address(&route.rt_genmask, any);
    fill_address(&route.rt_gateway, gateway);
    if (ioctl(fd, SIOCADDRT, &route) < 0 && errno != EEXIST) {
        return -errno;
    }
    return 0;
}

static int change_mac(const struct agent_net *net, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = open_socket();
    int rc = fd < 0 ? fd : set_mac(fd, net);

    return rc < 0 ? shl_err_sys(err, -rc, "the address of the network device could not be set") : 0;
}

/* The node carries no IPv6 for guests; an address made from the MAC would only outlive it in
 * forks. ::1 stays, since that is the loopback device's. */
static void disable_ipv6(void)
{
    SHL_CLEANUP_FD int fd =
        open("/proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) { /* a kernel without IPv6 has no such file */
        (void)!write(fd, "1", 1);
    }
}

int agent_net_apply(const struct agent_net *net, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = -1;
    struct in_addr ip, gateway = {0}, mask;
    int rc;

    if (!*net->ip) {
        return net->has_mac ? change_mac(net, err) : 0;
    }
    if (inet_pton(AF_INET, net->ip, &ip) != 1 ||
        (*net->gateway && inet_pton(AF_INET, net->gateway, &gateway) != 1) || net->prefix < 1 ||
        net->prefix > 32) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s/%u via '%s' is not an IPv4 network", net->ip,
                           net->prefix, net->gateway);
    }
    disable_ipv6();
    mask.s_addr = htonl((uint32_t)(0xffffffffull << (32 - net->prefix)));
    fd = open_socket();
    rc = fd < 0 ? fd : set_mac(fd, net);
    if (rc == 0) {
        rc = set_address(fd, SIOCSIFADDR, ip); /* another one: drops the old routes too */
    }
    if (rc == 0) {
        rc = set_address(fd, SIOCSIFNETMASK, mask);
    }
    if (rc == 0) {
        rc = set_up(fd, DEVICE);
    }
    if (rc == 0 && *net->gateway) {
        rc = set_default_route(fd, gateway);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "the network of the guest could not be set up") : 0;
}
