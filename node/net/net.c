#include "node/net/net.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/net/nft.h"
#include "node/net/resolver.h"
#include "node/net/tap.h"

#define RULES_MAX    (32u * 1024 * 1024)
#define ID_PREFIX    "sb-"
#define TAP_PREFIX   "shl"
#define FORWARD_PATH "/proc/sys/net/ipv4/ip_forward"

struct node_net {
    struct node_pool pool;
    uint32_t dns;
    uint32_t attached;            /* guests in the rules */
    struct node_net_guest *slots; /* of each slot; .tap is empty when nothing is attached */
    int claim_fd;                 /* holds the pool against another daemon */
    const struct shl_log *log;
};

static const char *id_digits(const char *sandbox_id)
{
    assert(strncmp(sandbox_id, ID_PREFIX, strlen(ID_PREFIX)) == 0);
    assert(strlen(sandbox_id) == strlen(ID_PREFIX) + 8);
    return sandbox_id + strlen(ID_PREFIX);
}

void node_net_mac(char dst[NODE_MAC_SIZE], const char *sandbox_id)
{
    const char *hex = id_digits(sandbox_id);

    (void)snprintf(dst, NODE_MAC_SIZE, "02:53:%.2s:%.2s:%.2s:%.2s", hex, hex + 2, hex + 4, hex + 6);
}

void node_net_tap_name(char dst[NODE_TAP_NAME_SIZE], const char *sandbox_id)
{
    (void)snprintf(dst, NODE_TAP_NAME_SIZE, TAP_PREFIX "%s", id_digits(sandbox_id));
}

/* ---- opening --------------------------------------------------------------------- */

/* An abstract socket name exists once per network namespace and dies with us. */
static int claim_pool(struct node_net *net, const char *cidr, struct shl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char table[NODE_TABLE_NAME_SIZE];
    socklen_t len;

    node_rules_table(table, &net->pool);
    len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                      (size_t)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s",
                                       table));
    net->claim_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (net->claim_fd < 0) {
        return shl_err_sys(err, errno, "cannot reserve the address pool");
    }
    if (bind(net->claim_fd, (struct sockaddr *)&address, len) < 0) {
        return errno == EADDRINUSE
                   ? shl_err_set(err, SHL_ECONFLICT,
                                 "another shoald uses the address pool %s: give each its own "
                                 "with --pool",
                                 cidr)
                   : shl_err_sys(err, errno, "cannot reserve the address pool");
    }
    return 0;
}

/* Guests would shadow a network the machine is part of. */
static int check_no_overlap(const struct node_pool *pool, const char *cidr, struct shl_err *err)
{
    struct ifaddrs *list, *it;
    int rc = 0;

    if (getifaddrs(&list) < 0) {
        return shl_err_sys(err, errno, "cannot list the addresses of this machine");
    }
    for (it = list; it && rc == 0; it = it->ifa_next) {
        struct sockaddr_in in;

        if (!it->ifa_addr || it->ifa_addr->sa_family != AF_INET ||
            strncmp(it->ifa_name, TAP_PREFIX, strlen(TAP_PREFIX)) == 0) {
            continue;
        }
        memcpy(&in, it->ifa_addr, sizeof(in));
        if (node_pool_contains(pool, ntohl(in.sin_addr.s_addr))) {
            rc = shl_err_set(err, SHL_ECONFLICT,
                             "the address pool %s overlaps the network of %s: choose another "
                             "with --pool",
                             cidr, it->ifa_name);
        }
    }
    freeifaddrs(list);
    return rc;
}

static int find_dns(struct node_net *net, const char *wanted, struct shl_err *err)
{
    if (wanted && wanted[0]) {
        if (node_address_parse(wanted, &net->dns) < 0 || net->dns >> 24 == 127) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "the name server '%s' is not an IPv4 address guests can be led to",
                               wanted);
        }
        return 0;
    }
    net->dns = node_resolver_find();
    if (net->dns == 0) {
        SHL_LOG(net->log, SHL_LOG_WARN, "no_name_server",
                SHL_S("effect", "guests cannot resolve names"),
                SHL_S("remedy", "start shoald with --dns ADDRESS"));
    }
    return 0;
}

static int enable_forwarding(struct shl_err *err)
{
    SHL_CLEANUP_FD int fd = open(FORWARD_PATH, O_RDWR | O_CLOEXEC);
    char value = '0';
    int rc;

    if (fd < 0) {
        return shl_err_sys(err, errno, "cannot switch IP forwarding on (%s)", FORWARD_PATH);
    }
    if (pread(fd, &value, 1, 0) == 1 && value == '1') {
        return 0;
    }
    rc = shl_pwrite_full(fd, "1\n", 2, 0);
    return rc < 0 ? shl_err_sys(err, -rc, "cannot switch IP forwarding on (%s)", FORWARD_PATH) : 0;
}

/* Runs what @make wrote into a buffer; the text needs its terminator. */
static int run_rules(struct shl_buf *text, int made, struct shl_err *err)
{
    if (made == 0) {
        made = shl_buf_append(text, "", 1);
    }
    made = made < 0 ? shl_err_set(err, made, "the guest network rules do not fit in memory")
                    : node_nft_run((const char *)shl_buf_data(text), err);
    shl_buf_release(text);
    return made;
}

/* Which sets of the rules that were left to us name @tap. */
static enum node_net_egress found_egress(const char *watched, const char *limited, const char *tap)
{
    char quoted[NODE_TAP_NAME_SIZE + 2];

    (void)snprintf(quoted, sizeof(quoted), "\"%s\"", tap);
    return strstr(limited, quoted)   ? NODE_NET_EGRESS_LIMITED
           : strstr(watched, quoted) ? NODE_NET_EGRESS_WATCHED
                                     : NODE_NET_EGRESS_DIRECT;
}

/* The guests that live, as the rules of the former daemon have them: one with an allowlist
 * stays shut in from one rule set to the next, before anybody says so again. */
static int take_guests(struct node_net *net,
                       const struct node_net_guest *guests,
                       size_t guest_count,
                       struct shl_err *err)
{
    char table[NODE_TABLE_NAME_SIZE];
    char *watched, *limited;
    int rc = 0;
    size_t i;

    net->slots = calloc(net->pool.slot_count, sizeof(*net->slots));
    if (!net->slots) {
        return shl_err_sys(err, ENOMEM, "cannot set up the guest network");
    }
    node_rules_table(table, &net->pool);
    watched = node_nft_set(table, "watched");
    limited = node_nft_set(table, "limited");
    for (i = 0; i < guest_count && rc == 0; i++) {
        rc = node_pool_take_slot(&net->pool, guests[i].slot);
        if (rc == 0) {
            net->slots[guests[i].slot] = guests[i];
            net->slots[guests[i].slot].egress =
                found_egress(watched ? watched : "", limited ? limited : "", guests[i].tap);
        } else {
            (void)shl_err_set(err, rc,
                              "the living sandbox of %s has no place in this address pool: start "
                              "shoald with the pool it had before",
                              guests[i].tap);
        }
    }
    free(watched);
    free(limited);
    return rc;
}

static int install_rules(struct node_net *net,
                         const struct node_net_guest *guests,
                         size_t guest_count,
                         struct shl_err *err)
{
    struct node_net_guest *living;
    struct shl_buf text;
    size_t i;
    int rc = take_guests(net, guests, guest_count, err);

    if (rc < 0) {
        return rc;
    }
    living = calloc(guest_count + 1, sizeof(*living));
    if (!living) {
        return shl_err_sys(err, ENOMEM, "cannot set up the guest network");
    }
    for (i = 0; i < guest_count; i++) {
        living[i] = net->slots[guests[i].slot];
    }
    net->attached = (uint32_t)guest_count;
    shl_buf_init(&text, RULES_MAX);
    rc = run_rules(&text, node_rules_all(&text, &net->pool, net->dns, living, guest_count), err);
    free(living);
    return rc;
}

static void net_free(struct node_net *net)
{
    if (net->claim_fd >= 0) {
        (void)close(net->claim_fd);
    }
    node_pool_release(&net->pool);
    free(net->slots);
    free(net);
}

int node_net_open(const struct node_net_config *config,
                  const struct node_net_guest *guests,
                  size_t guest_count,
                  struct node_net **ret_net,
                  struct shl_err *err)
{
    struct node_net *net = calloc(1, sizeof(*net));
    int rc;

    if (!net) {
        return shl_err_sys(err, ENOMEM, "cannot set up the guest network");
    }
    net->claim_fd = -1;
    net->log = config->log;
    rc = node_pool_init(&net->pool, config->pool_cidr, err);
    if (rc == 0) {
        rc = claim_pool(net, config->pool_cidr, err);
    }
    if (rc == 0) {
        rc = check_no_overlap(&net->pool, config->pool_cidr, err);
    }
    if (rc == 0) {
        rc = find_dns(net, config->dns, err);
    }
    if (rc == 0) {
        rc = install_rules(net, guests, guest_count, err);
    }
    if (rc == 0) {
        rc = enable_forwarding(err);
    }
    if (rc < 0) {
        net_free(net);
        return rc;
    }
    *ret_net = net;
    return 0;
}

void node_net_close(struct node_net *net)
{
    struct shl_err err = {0};
    struct shl_buf text;

    if (!net) {
        return;
    }
    if (net->attached == 0) {
        shl_buf_init(&text, RULES_MAX);
        if (run_rules(&text, node_rules_drop_table(&text, &net->pool), &err) < 0) {
            SHL_LOG(net->log, SHL_LOG_WARN, "network_rules_left", SHL_S("reason", err.msg));
        }
    }
    net_free(net);
}

/* ---- sandboxes ------------------------------------------------------------------- */

int node_net_take_slot(struct node_net *net, uint32_t *ret_slot)
{
    return node_pool_take(&net->pool, ret_slot);
}

int node_net_take_slot_again(struct node_net *net, uint32_t slot)
{
    return node_pool_take_slot(&net->pool, slot);
}

void node_net_give_slot(struct node_net *net, uint32_t slot)
{
    net->slots[slot].egress = NODE_NET_EGRESS_DIRECT;
    node_pool_give(&net->pool, slot);
}

static int change_rules(struct node_net *net,
                        const struct node_net_guest *guest,
                        int (*make)(struct shl_buf *buf,
                                    const struct node_pool *pool,
                                    const struct node_net_guest *guest),
                        struct shl_err *err)
{
    struct shl_buf text;

    shl_buf_init(&text, RULES_MAX);
    return run_rules(&text, make(&text, &net->pool, guest), err);
}

int node_net_attach(struct node_net *net,
                    const char *sandbox_id,
                    uint32_t slot,
                    int *ret_fd,
                    struct shl_err *err)
{
    struct node_net_guest guest = {.slot = slot, .egress = net->slots[slot].egress};
    SHL_CLEANUP_FD int fd = -1;
    int rc;

    node_net_tap_name(guest.tap, sandbox_id);
    rc = node_tap_create(guest.tap, &fd, err);
    if (rc == 0) {
        rc = change_rules(net, &guest, node_rules_add, err);
    }
    if (rc < 0) {
        return rc;
    }
    net->attached++;
    net->slots[slot] = guest;
    rc = node_tap_start(guest.tap, node_pool_gateway(&net->pool, slot), err);
    if (rc < 0) {
        /* this failure is the one to tell; a rule for a dead name harms nobody */
        (void)node_net_detach(net, sandbox_id, slot, NULL);
        return rc;
    }
    *ret_fd = shl_steal_fd(&fd);
    return 0;
}

int node_net_detach(struct node_net *net,
                    const char *sandbox_id,
                    uint32_t slot,
                    struct shl_err *err)
{
    struct node_net_guest guest = {.slot = slot};

    assert(net->attached > 0);
    net->attached--;
    net->slots[slot].tap[0] = '\0';
    node_net_tap_name(guest.tap, sandbox_id);
    return change_rules(net, &guest, node_rules_del, err);
}

int node_net_set_egress(struct node_net *net,
                        uint32_t slot,
                        enum node_net_egress egress,
                        struct shl_err *err)
{
    struct node_net_guest *guest = &net->slots[slot];

    if (guest->egress == egress) {
        return 0;
    }
    guest->egress = egress;
    return guest->tap[0] ? change_rules(net, guest, node_rules_change, err) : 0;
}

enum node_net_egress node_net_egress_of(const struct node_net *net, uint32_t slot)
{
    return net->slots[slot].egress;
}

int node_net_slot_of(const struct node_net *net, uint32_t guest, uint32_t *ret_slot)
{
    uint32_t slot = (guest - net->pool.base) / 4;

    if (!node_pool_contains(&net->pool, guest) || slot >= net->pool.slot_count ||
        node_pool_guest(&net->pool, slot) != guest) {
        return SHL_ENOTFOUND;
    }
    *ret_slot = slot;
    return 0;
}

int node_net_set_gateway(struct node_net *net,
                         const struct node_net_ports *ports,
                         struct shl_err *err)
{
    struct shl_buf text;

    shl_buf_init(&text, RULES_MAX);
    return run_rules(&text, node_rules_egress(&text, &net->pool, ports), err);
}

int node_net_bytes(const char *sandbox_id, uint64_t *ret_in, uint64_t *ret_out)
{
    char tap[NODE_TAP_NAME_SIZE];

    node_net_tap_name(tap, sandbox_id);
    return node_tap_bytes(tap, ret_in, ret_out);
}

uint32_t node_net_dns(const struct node_net *net)
{
    return net->dns;
}

uint32_t node_net_pool_base(const struct node_net *net)
{
    return net->pool.base;
}

uint32_t node_net_gateway(const struct node_net *net, uint32_t slot)
{
    return node_pool_gateway(&net->pool, slot);
}

uint32_t node_net_guest(const struct node_net *net, uint32_t slot)
{
    return node_pool_guest(&net->pool, slot);
}

int node_net_cleanup(const char *pool_cidr, struct shl_err *err)
{
    struct node_pool pool;
    struct shl_buf text;
    int rc = node_pool_init(&pool, pool_cidr, err);

    if (rc < 0) {
        return rc;
    }
    shl_buf_init(&text, RULES_MAX);
    rc = run_rules(&text, node_rules_drop_table(&text, &pool), err);
    node_pool_release(&pool);
    return rc;
}
