/* node/net with real packets: two guests and an outside world are played by this test
 * on TAP interfaces in a network namespace of its own.
 *
 * That something does not pass is shown by order, not by waiting: after the forbidden
 * packet an allowed one is sent, and the allowed one is the next to arrive.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "node/net/net.h"
#include "node/net/tap.h"

#define ID_A       "sb-0000000a"
#define ID_B       "sb-0000000b"
#define WAN        0xc0000201u /* 192.0.2.1, this node */
#define WAN_PEER   0xc0000202u /* 192.0.2.2, the way out */
#define INTERNET   0xcb007105u /* 203.0.113.5 */
#define DNS        0x0a636363u /* 10.99.99.99: private, and yet reachable for names */
#define VNET_BYTES 10
#define ETH_BYTES  14
#define GUARD_MS   10000

static const uint8_t mac_wan_peer[6] = {2, 0, 0, 0, 0, 9};

struct guest {
    int fd;
    uint32_t slot, own, gateway;
    uint8_t mac[6];
    uint8_t node_mac[6];
};

struct fixture {
    struct node_net *net;
    struct guest a, b;
    int wan;
    uint8_t wan_mac[6];
};

struct packet {
    uint32_t from, to;
    uint8_t protocol;
    uint16_t from_port, to_port; /* UDP */
    uint8_t icmp_type, icmp_code;
    char text[32];
};

static void interface_mac(const char *name, uint8_t mac[6])
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
    memcpy(mac, request.ifr_hwaddr.sa_data, 6);
    (void)close(fd);
}

static struct sockaddr make_address(uint32_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    struct sockaddr any;

    memcpy(&any, &in, sizeof(any));
    return any;
}

static void set_neighbour(const char *name, uint32_t address, const uint8_t mac[6])
{
    struct arpreq request = {.arp_flags = ATF_PERM | ATF_COM};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    (void)snprintf(request.arp_dev, sizeof(request.arp_dev), "%s", name);
    request.arp_pa = make_address(address);
    request.arp_ha.sa_family = ARPHRD_ETHER;
    memcpy(request.arp_ha.sa_data, mac, 6);
    assert_int_equal(ioctl(fd, SIOCSARP, &request), 0);
    (void)close(fd);
}

static void set_default_route(uint32_t gateway)
{
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    route.rt_dst = make_address(0);
    route.rt_genmask = make_address(0);
    route.rt_gateway = make_address(gateway);
    assert_int_equal(ioctl(fd, SIOCADDRT, &route), 0);
    (void)close(fd);
}

static uint16_t checksum(const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t sum = 0;
    size_t i;

    for (i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)(at[i] << 8 | at[i + 1]);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htons((uint16_t)~sum);
}

static void send_frame(int fd,
                       const uint8_t *from,
                       const uint8_t *to,
                       uint16_t type,
                       const void *payload,
                       size_t len)
{
    uint8_t frame[512] = {0};

    memcpy(frame + VNET_BYTES, to, 6);
    memcpy(frame + VNET_BYTES + 6, from, 6);
    frame[VNET_BYTES + 12] = (uint8_t)(type >> 8);
    frame[VNET_BYTES + 13] = (uint8_t)type;
    memcpy(frame + VNET_BYTES + ETH_BYTES, payload, len);
    len += VNET_BYTES + ETH_BYTES;
    assert_int_equal(write(fd, frame, len), len);
}

struct datagram {
    struct iphdr ip;
    struct udphdr udp;
    char text[32];
};

static void send_udp(int fd,
                     const uint8_t *from_mac,
                     const uint8_t *to_mac,
                     uint32_t from,
                     uint16_t from_port,
                     uint32_t to,
                     uint16_t to_port,
                     const char *text)
{
    struct datagram packet = {
        .ip = {.version = 4,
               .ihl = 5,
               .ttl = 64,
               .protocol = IPPROTO_UDP,
               .tot_len = htons(sizeof(packet)),
               .saddr = htonl(from),
               .daddr = htonl(to)},
        .udp = {.source = htons(from_port),
                .dest = htons(to_port),
                .len = htons(sizeof(packet) - sizeof(packet.ip))},
    };

    (void)snprintf(packet.text, sizeof(packet.text), "%s", text);
    packet.ip.check = checksum(&packet.ip, sizeof(packet.ip));
    send_frame(fd, from_mac, to_mac, 0x0800, &packet, sizeof(packet));
}

static void guest_send(const struct guest *guest, uint32_t to, uint16_t port, const char *text)
{
    send_udp(guest->fd, guest->mac, guest->node_mac, guest->own, 4000, to, port, text);
}

static void wan_send(struct fixture *fix,
                     uint32_t from,
                     uint16_t from_port,
                     uint32_t to,
                     uint16_t to_port,
                     const char *text)
{
    send_udp(fix->wan, mac_wan_peer, fix->wan_mac, from, from_port, to, to_port, text);
}

/* The next IPv4 packet that comes out of an interface. */
static struct packet receive(int fd)
{
    struct packet packet = {0};
    struct iphdr ip;
    uint8_t frame[2048];
    uint8_t *body;
    ssize_t len;

    do {
        struct pollfd ready = {.fd = fd, .events = POLLIN};

        if (poll(&ready, 1, GUARD_MS) != 1) {
            fail_msg("no packet came");
        }
        len = read(fd, frame, sizeof(frame));
        assert_true(len >= VNET_BYTES + ETH_BYTES);
    } while (frame[VNET_BYTES + 12] != 0x08 || frame[VNET_BYTES + 13] != 0x00);
    memcpy(&ip, frame + VNET_BYTES + ETH_BYTES, sizeof(ip));
    body = frame + VNET_BYTES + ETH_BYTES + ip.ihl * 4;
    packet.from = ntohl(ip.saddr);
    packet.to = ntohl(ip.daddr);
    packet.protocol = ip.protocol;
    if (ip.protocol == IPPROTO_UDP) {
        packet.from_port = (uint16_t)(body[0] << 8 | body[1]);
        packet.to_port = (uint16_t)(body[2] << 8 | body[3]);
        memcpy(packet.text, body + 8, sizeof(packet.text));
    } else if (ip.protocol == IPPROTO_ICMP) {
        packet.icmp_type = body[0];
        packet.icmp_code = body[1];
    }
    return packet;
}

static void check_arrives(int fd, const char *text)
{
    struct packet packet = receive(fd);

    assert_int_equal(packet.protocol, IPPROTO_UDP);
    assert_string_equal(packet.text, text);
}

/* "communication administratively prohibited" */
static void check_rejected(const struct guest *guest)
{
    struct packet packet = receive(guest->fd);

    assert_int_equal(packet.protocol, IPPROTO_ICMP);
    assert_int_equal(packet.icmp_type, 3);
    assert_int_equal(packet.icmp_code, 13);
}

/* ---- the fixture ----------------------------------------------------------------- */

static void start_guest(struct fixture *fix, struct guest *guest, const char *id, uint8_t last)
{
    char name[NODE_TAP_NAME_SIZE];

    node_net_tap_name(name, id);
    assert_int_equal(node_net_take_slot(fix->net, &guest->slot), 0);
    assert_int_equal(node_net_attach(fix->net, id, guest->slot, &guest->fd, NULL), 0);
    guest->own = node_net_guest(fix->net, guest->slot);
    guest->gateway = node_net_gateway(fix->net, guest->slot);
    guest->mac[0] = 2;
    guest->mac[5] = last;
    interface_mac(name, guest->node_mac);
    set_neighbour(name, guest->own, guest->mac);
}

static void stop_guest(struct fixture *fix, struct guest *guest, const char *id)
{
    (void)close(guest->fd);
    assert_int_equal(node_net_detach(fix->net, id, guest->slot, NULL), 0);
    node_net_give_slot(fix->net, guest->slot);
}

/* The kernel bounds how many rejections it sends; here each one is looked at. */
static void allow_every_rejection(void)
{
    FILE *file = fopen("/proc/sys/net/ipv4/icmp_ratelimit", "w");

    assert_non_null(file);
    assert_true(fputs("0", file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    const struct node_net_config config = {.pool_cidr = "10.201.0.0/16", .dns = "10.99.99.99"};
    struct fixture *fix = calloc(1, sizeof(*fix));
    struct shl_err err = {0};

    assert_int_equal(unshare(CLONE_NEWNET), 0);
    allow_every_rejection();
    assert_int_equal(node_tap_create("wan0", &fix->wan, NULL), 0);
    assert_int_equal(node_tap_start("wan0", WAN, NULL), 0);
    interface_mac("wan0", fix->wan_mac);
    set_neighbour("wan0", WAN_PEER, mac_wan_peer);
    set_default_route(WAN_PEER);
    if (node_net_open(&config, NULL, 0, &fix->net, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    start_guest(fix, &fix->a, ID_A, 0xa);
    start_guest(fix, &fix->b, ID_B, 0xb);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    stop_guest(fix, &fix->a, ID_A);
    stop_guest(fix, &fix->b, ID_B);
    node_net_close(fix->net);
    (void)close(fix->wan);
    free(fix);
    return 0;
}

/* ---- tests ----------------------------------------------------------------------- */

static void test_guest_reaches_the_internet_with_the_nodes_address(void **state)
{
    struct fixture *fix = *state;
    struct packet packet;

    guest_send(&fix->a, INTERNET, 7, "hello");
    packet = receive(fix->wan);
    assert_int_equal(packet.from, WAN);
    assert_int_equal(packet.to, INTERNET);
    assert_string_equal(packet.text, "hello");
    wan_send(fix, INTERNET, 7, WAN, packet.from_port, "answer");
    packet = receive(fix->a.fd);
    assert_int_equal(packet.from, INTERNET);
    assert_int_equal(packet.to, fix->a.own);
    assert_string_equal(packet.text, "answer");
}

/* As the guest sees them, and of that guest alone. */
static void test_bytes_of_a_guest_are_counted(void **state)
{
    struct fixture *fix = *state;
    uint64_t in, out, more_in, more_out, other_in, other_out;

    assert_int_equal(node_net_bytes(ID_A, &in, &out), 0);
    assert_int_equal(node_net_bytes(ID_B, &other_in, &other_out), 0);
    guest_send(&fix->a, INTERNET, 7, "hello");
    wan_send(fix, INTERNET, 7, WAN, receive(fix->wan).from_port, "a longer answer");
    check_arrives(fix->a.fd, "a longer answer");
    assert_int_equal(node_net_bytes(ID_A, &more_in, &more_out), 0);
    assert_true(more_in > in);
    assert_true(more_out > out);
    assert_int_equal(node_net_bytes(ID_B, &in, &out), 0);
    assert_int_equal(in, other_in);
    assert_int_equal(out, other_out);
    assert_int_equal(node_net_bytes("sb-0000000c", &in, &out), -ENODEV);
}

static void test_guest_cannot_reach_the_node(void **state)
{
    struct fixture *fix = *state;
    const uint32_t targets[] = {fix->a.gateway, fix->b.gateway, WAN};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9999)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    char text[64];
    size_t i;

    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    for (i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        guest_send(&fix->a, targets[i], 9999, "node");
        check_rejected(&fix->a);
    }
    /* the socket works: the world outside reaches it */
    wan_send(fix, INTERNET, 5, WAN, 9999, "outside");
    {
        struct pollfd ready = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&ready, 1, GUARD_MS), 1);
    }
    assert_true(recv(fd, text, sizeof(text), 0) > 0);
    assert_string_equal(text, "outside");
    assert_int_equal(recv(fd, text, sizeof(text), 0), -1);
    (void)close(fd);
}

static void test_guests_cannot_reach_each_other(void **state)
{
    struct fixture *fix = *state;

    guest_send(&fix->a, fix->b.own, 7, "neighbour");
    check_rejected(&fix->a);
    /* what B sees first is its own business, not A's packet */
    guest_send(&fix->b, INTERNET, 8, "ping");
    wan_send(fix, INTERNET, 8, WAN, receive(fix->wan).from_port, "pong");
    check_arrives(fix->b.fd, "pong");
}

static void test_guest_cannot_reach_private_ranges(void **state)
{
    static const uint32_t targets[] = {
        0x0a010101 /* 10.1.1.1 */,       0xa9fea9fe /* 169.254.169.254 */,
        0xac10ffff /* 172.16.255.255 */, 0xc0a80101 /* 192.168.1.1 */,
        0x64400001 /* 100.64.0.1 */,     DNS,
    };
    struct fixture *fix = *state;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(targets); i++) {
        guest_send(&fix->a, targets[i], 7, "private");
        check_rejected(&fix->a);
    }
    guest_send(&fix->a, DNS, 53, "names, but not at the gateway");
    check_rejected(&fix->a);
    guest_send(&fix->a, 0xe0000001, 7, "multicast");
    guest_send(&fix->a, 0xffffffff, 7, "broadcast");
    guest_send(&fix->a, INTERNET, 7, "allowed");
    check_arrives(fix->wan, "allowed");
}

static void test_guest_cannot_forge_its_address(void **state)
{
    struct fixture *fix = *state;
    const uint32_t forged[] = {fix->b.own, fix->a.gateway, INTERNET + 1, 0, 0x7f000001};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(forged); i++) {
        send_udp(fix->a.fd, fix->a.mac, fix->a.node_mac, forged[i], 4000, INTERNET, 7, "forged");
    }
    guest_send(&fix->a, INTERNET, 7, "own");
    check_arrives(fix->wan, "own");
}

static void test_ipv6_is_dropped(void **state)
{
    struct fixture *fix = *state;
    uint8_t packet[48] = {0x60, 0, 0, 0, 0, 8, 17, 64, 0x20, 1, 0xd, 0xb8};

    packet[24] = 0x20;
    send_frame(fix->a.fd, fix->a.mac, fix->a.node_mac, 0x86dd, packet, sizeof(packet));
    guest_send(&fix->a, INTERNET, 7, "v4");
    check_arrives(fix->wan, "v4");
}

static void test_names_go_to_the_nodes_server(void **state)
{
    struct fixture *fix = *state;
    struct packet packet;

    guest_send(&fix->a, fix->a.gateway, 53, "query");
    packet = receive(fix->wan);
    assert_int_equal(packet.to, DNS);
    assert_int_equal(packet.to_port, 53);
    assert_int_equal(packet.from, WAN);
    wan_send(fix, DNS, 53, WAN, packet.from_port, "reply");
    packet = receive(fix->a.fd);
    assert_int_equal(packet.from, fix->a.gateway);
    assert_int_equal(packet.from_port, 53);
    assert_string_equal(packet.text, "reply");
    /* only at the own gateway */
    guest_send(&fix->a, fix->b.gateway, 53, "foreign");
    check_rejected(&fix->a);
}

static void test_nobody_calls_a_guest(void **state)
{
    struct fixture *fix = *state;

    wan_send(fix, INTERNET, 9, fix->a.own, 7, "unasked");
    guest_send(&fix->a, INTERNET, 7, "ask");
    wan_send(fix, INTERNET, 7, WAN, receive(fix->wan).from_port, "asked");
    check_arrives(fix->a.fd, "asked");
}

/* A restarted daemon finds its own rules and guests. */
static void test_reopen_keeps_living_guests(void **state)
{
    struct fixture *fix = *state;
    const struct node_net_config config = {.pool_cidr = "10.201.0.0/16", .dns = "10.99.99.99"};
    struct node_net_guest guests[2] = {{.slot = fix->a.slot}, {.slot = fix->b.slot}};
    struct node_net *second = NULL;
    struct shl_err err = {0};
    uint32_t slot;

    node_net_tap_name(guests[0].tap, ID_A);
    node_net_tap_name(guests[1].tap, ID_B);
    assert_int_equal(node_net_open(&config, guests, 2, &second, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "--pool"));
    node_net_close(fix->net);
    assert_int_equal(node_net_open(&config, guests, 2, &fix->net, &err), 0);
    assert_int_equal(node_net_take_slot(fix->net, &slot), 0);
    assert_int_not_equal(slot, fix->a.slot);
    assert_int_not_equal(slot, fix->b.slot);
    node_net_give_slot(fix->net, slot);
    guest_send(&fix->a, fix->b.own, 7, "neighbour");
    check_rejected(&fix->a);
    guest_send(&fix->a, INTERNET, 7, "still out");
    check_arrives(fix->wan, "still out");
}

static void test_open_refuses_an_overlapping_pool(void **state)
{
    struct fixture *fix = *state;
    const struct node_net_config config = {.pool_cidr = "10.77.0.0/16", .dns = "10.99.99.99"};
    struct node_net *second = NULL;
    struct shl_err err = {0};
    int fd;

    (void)fix;
    assert_int_equal(node_tap_create("lan0", &fd, NULL), 0);
    assert_int_equal(node_tap_start("lan0", 0x0a4d0101, NULL), 0);
    assert_int_equal(node_net_open(&config, NULL, 0, &second, &err), SHL_ECONFLICT);
    assert_non_null(strstr(err.msg, "lan0"));
    (void)close(fd);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_guest_reaches_the_internet_with_the_nodes_address),
        TEST(test_bytes_of_a_guest_are_counted),
        TEST(test_guest_cannot_reach_the_node),
        TEST(test_guests_cannot_reach_each_other),
        TEST(test_guest_cannot_reach_private_ranges),
        TEST(test_guest_cannot_forge_its_address),
        TEST(test_ipv6_is_dropped),
        TEST(test_names_go_to_the_nodes_server),
        TEST(test_nobody_calls_a_guest),
        TEST(test_reopen_keeps_living_guests),
        TEST(test_open_refuses_an_overlapping_pool),
    };

    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) < 0) {
        printf("SKIP: needs root and /dev/net/tun to make network namespaces and TAPs\n");
        return 77;
    }
    return cmocka_run_group_tests_name("node/net_isolation", tests, NULL, NULL);
}
