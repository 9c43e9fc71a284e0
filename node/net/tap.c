#include "node/net/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "node/net/pool.h"

int node_tap_create(const char *name, int *ret_fd, struct shl_err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    SHL_CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return shl_err_sys(err, errno,
                           "cannot open /dev/net/tun (run shoald as root, load the module tun)");
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        return shl_err_sys(err, errno, "cannot create the network interface %s", name);
    }
    *ret_fd = shl_steal_fd(&fd);
    return 0;
}

static int set_address(int fd, const char *name, unsigned long op, uint32_t address)
{
    struct ifreq request = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};

    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    memcpy(&request.ifr_addr, &in, sizeof(in));
    return ioctl(fd, op, &request) < 0 ? -errno : 0;
}

static int set_up(int fd, const char *name)
{
    struct ifreq request = {0};

    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, SIOCGIFFLAGS, &request) < 0) {
        return -errno;
    }
    request.ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* No link-local address on the node's end. Failure is harmless: the rules drop what is
 * not IPv4, and the file is missing only where IPv6 is off anyway. */
static void disable_ipv6(const char *name)
{
    char path[128];
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written SHL_UNUSED = write(fd, "1", 1);

        (void)close(fd);
    }
}

int node_tap_start(const char *name, uint32_t gateway, struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : 0;

    disable_ipv6(name);
    if (rc == 0) {
        rc = set_address(fd, name, SIOCSIFADDR, gateway);
    }
    if (rc == 0) {
        rc = set_address(fd, name, SIOCSIFNETMASK, 0xffffffffu << (32 - NODE_GUEST_PREFIX));
    }
    if (rc == 0) {
        rc = set_up(fd, name);
    }
    return rc < 0 ? shl_err_sys(err, -rc, "cannot configure the network interface %s", name) : 0;
}

/* Of a reply to RTM_GETLINK: the kernel's word. */
static int find_counters(const uint8_t *reply, size_t len, struct rtnl_link_stats64 *ret)
{
    struct nlmsghdr head;
    struct nlmsgerr error;
    size_t at = NLMSG_LENGTH(sizeof(struct ifinfomsg));

    if (len < sizeof(head)) {
        return -EPROTO;
    }
    memcpy(&head, reply, sizeof(head));
    if (head.nlmsg_type == NLMSG_ERROR && len >= sizeof(head) + sizeof(error)) {
        memcpy(&error, reply + sizeof(head), sizeof(error));
        return error.error < 0 ? error.error : -EPROTO;
    }
    while (len >= at + sizeof(struct rtattr)) {
        struct rtattr attr;

        memcpy(&attr, reply + at, sizeof(attr));
        if (attr.rta_len < sizeof(attr) || attr.rta_len > len - at) {
            break;
        }
        if (attr.rta_type == IFLA_STATS64 && attr.rta_len >= RTA_LENGTH(0) + sizeof(*ret)) {
            memcpy(ret, reply + at + RTA_LENGTH(0), sizeof(*ret));
            return 0;
        }
        at += RTA_ALIGN(attr.rta_len);
    }
    return -EPROTO;
}

int node_tap_bytes(const char *name, uint64_t *ret_in, uint64_t *ret_out)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg msg;
    } request = {
        .head = {.nlmsg_len = sizeof(request),
                 .nlmsg_type = RTM_GETLINK,
                 .nlmsg_flags = NLM_F_REQUEST},
        .msg = {.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex(name)},
    };
    SHL_CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct rtnl_link_stats64 counters;
    uint8_t reply[16384];
    ssize_t n;
    int rc;

    if (fd < 0 || request.msg.ifi_index == 0) {
        return fd < 0 ? -errno : -ENODEV;
    }
    if (send(fd, &request, sizeof(request), 0) < 0 || (n = recv(fd, reply, sizeof(reply), 0)) < 0) {
        return -errno;
    }
    rc = find_counters(reply, (size_t)n, &counters);
    if (rc == 0) {
        *ret_in = counters.tx_bytes;
        *ret_out = counters.rx_bytes;
    }
    return rc;
}
