#include "node/net/rules.h"

#include <stdio.h>
#include <string.h>

/* Where no guest may go: this host, link-local (cloud metadata), private and CGNAT
 * space, IETF assignments, benchmarking, multicast and the rest up to broadcast.
 * Documentation networks are left alone: some sites route them. */
#define REFUSED_RANGES                                                                   \
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, " \
    "192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3"

/* Chains that any rule set has. The sets are filled by elements(). */
static const char chains[] =
    "  set taps { type ifname; }\n"
    "  set guests { type ifname . ipv4_addr; }\n"
    "  set gateways { type ifname . ipv4_addr; }\n"
    "  set refused { type ipv4_addr; flags interval; elements = { " REFUSED_RANGES " } }\n"
    /* before anything else sees the packet: IPv4 alone, and only its own address */
    "  chain source {\n"
    "    type filter hook prerouting priority raw; policy accept;\n"
    "    iifname @taps meta nfproto != ipv4 drop\n"
    "    iifname @taps iifname . ip saddr != @guests drop\n"
    "  }\n"
    "  chain to_node {\n"
    "    type filter hook input priority filter; policy accept;\n"
    "    iifname @taps jump guest_to_node\n"
    "  }\n"
    "  chain guest_to_node {\n"
    "    iifname . ct original ip daddr @gateways ct status dnat"
    " meta l4proto { tcp, udp } th dport 53 accept\n"
    "    reject with icmpx admin-prohibited\n"
    "  }\n"
    "  chain through {\n"
    "    type filter hook forward priority filter; policy accept;\n"
    "    iifname @taps jump guest_out\n"
    "    oifname @taps jump guest_in\n"
    "  }\n"
    "  chain guest_out {\n"
    "    oifname @taps reject with icmpx admin-prohibited\n"
    "    iifname . ct original ip daddr @gateways ct status dnat"
    " meta l4proto { tcp, udp } th dport 53 accept\n"
    "    ip daddr @refused reject with icmpx admin-prohibited\n"
    "  }\n"
    "  chain guest_in {\n"
    "    ct state established,related accept\n"
    "    drop\n"
    "  }\n";

void node_rules_table(char dst[NODE_TABLE_NAME_SIZE], const struct node_pool *pool)
{
    char address[NODE_ADDRESS_SIZE];
    char *dot;

    node_address_format(address, pool->base);
    while ((dot = strchr(address, '.'))) {
        *dot = '_';
    }
    (void)snprintf(dst, NODE_TABLE_NAME_SIZE, "shoal_%s_%u", address, pool->prefix);
}

static int element(struct shl_buf *buf,
                   const char *verb,
                   const struct node_pool *pool,
                   const struct node_net_guest *guest)
{
    char gateway[NODE_ADDRESS_SIZE];
    char table[NODE_TABLE_NAME_SIZE];
    char own[NODE_ADDRESS_SIZE];

    node_rules_table(table, pool);
    node_address_format(gateway, node_pool_gateway(pool, guest->slot));
    node_address_format(own, node_pool_guest(pool, guest->slot));
    return shl_buf_printf(buf,
                          "%s element inet %s guests { \"%s\" . %s }\n"
                          "%s element inet %s gateways { \"%s\" . %s }\n"
                          "%s element inet %s taps { \"%s\" }\n",
                          verb, table, guest->tap, own, verb, table, guest->tap, gateway, verb,
                          table, guest->tap);
}

int node_rules_add(struct shl_buf *buf,
                   const struct node_pool *pool,
                   const struct node_net_guest *guest)
{
    return element(buf, "add", pool, guest);
}

/* "add" first, because deleting what is not there is an error. */
int node_rules_del(struct shl_buf *buf,
                   const struct node_pool *pool,
                   const struct node_net_guest *guest)
{
    int rc = element(buf, "add", pool, guest);

    return rc < 0 ? rc : element(buf, "delete", pool, guest);
}

/* Here too: "add" makes the "delete" of a missing table succeed. */
int node_rules_drop_table(struct shl_buf *buf, const struct node_pool *pool)
{
    char table[NODE_TABLE_NAME_SIZE];

    node_rules_table(table, pool);
    return shl_buf_printf(buf, "add table inet %s\ndelete table inet %s\n", table, table);
}

static int nat_chains(struct shl_buf *buf, const struct node_pool *pool, uint32_t dns)
{
    char address[NODE_ADDRESS_SIZE];
    int rc;

    if (dns != 0) {
        node_address_format(address, dns);
        rc = shl_buf_printf(buf,
                            "  chain names {\n"
                            "    type nat hook prerouting priority dstnat; policy accept;\n"
                            "    iifname . ip daddr @gateways meta l4proto { tcp, udp }"
                            " th dport 53 dnat ip to %s\n"
                            "  }\n",
                            address);
        if (rc < 0) {
            return rc;
        }
    }
    node_address_format(address, pool->base);
    return shl_buf_printf(buf,
                          "  chain out {\n"
                          "    type nat hook postrouting priority srcnat; policy accept;\n"
                          "    ip saddr %s/%u oifname != @taps masquerade\n"
                          "  }\n",
                          address, pool->prefix);
}

int node_rules_all(struct shl_buf *buf,
                   const struct node_pool *pool,
                   uint32_t dns,
                   const struct node_net_guest *guests,
                   size_t guest_count)
{
    char table[NODE_TABLE_NAME_SIZE];
    size_t i;
    int rc;

    node_rules_table(table, pool);
    rc = node_rules_drop_table(buf, pool);
    if (rc == 0) {
        rc = shl_buf_printf(buf, "table inet %s {\n%s", table, chains);
    }
    if (rc == 0) {
        rc = nat_chains(buf, pool, dns);
    }
    if (rc == 0) {
        rc = shl_buf_append_str(buf, "}\n");
    }
    for (i = 0; i < guest_count && rc == 0; i++) {
        rc = node_rules_add(buf, pool, &guests[i]);
    }
    return rc;
}
