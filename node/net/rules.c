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
    "  set watched { type ifname; }\n"
    "  set limited { type ifname; }\n"
    "  set refused { type ipv4_addr; flags interval; elements = { " REFUSED_RANGES " } }\n"
    /* before anything else sees the packet: IPv4 alone, and only its own address */
    "  chain source {\n"
    "    type filter hook prerouting priority raw; policy accept;\n"
    "    iifname @taps meta nfproto != ipv4 drop\n"
    "    iifname @taps iifname . ip saddr != @guests drop\n"
    "  }\n"
    /* filled by node_rules_egress once there is a gateway; until then they let nothing in */
    "  chain to_metadata { }\n"
    "  chain metadata_in { }\n"
    "  chain to_egress { }\n"
    "  chain egress_in { }\n"
    "  chain egress_strangers { }\n"
    "  chain to_node {\n"
    "    type filter hook input priority filter; policy accept;\n"
    "    iifname != @taps jump egress_strangers\n"
    "    iifname @taps jump guest_to_node\n"
    "  }\n"
    "  chain guest_to_node {\n"
    "    jump metadata_in\n"
    "    iifname @watched jump egress_in\n"
    "    iifname @limited reject with icmpx admin-prohibited\n"
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
    /* what was not led to the gateway; QUIC never is, so that clients fall back to TLS */
    "    iifname @limited reject with icmpx admin-prohibited\n"
    "    iifname @watched meta l4proto { tcp, udp } th dport 443"
    " reject with icmpx admin-prohibited\n"
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

static int member(struct shl_buf *buf,
                  const char *verb,
                  const struct node_pool *pool,
                  const char *set,
                  const struct node_net_guest *guest)
{
    char table[NODE_TABLE_NAME_SIZE];

    node_rules_table(table, pool);
    return shl_buf_printf(buf, "%s element inet %s %s { \"%s\" }\n", verb, table, set, guest->tap);
}

/* Members of the two sets as @guest says. With @clear it may be a member of either, and
 * "add" comes first, because deleting what is not there is an error. */
static int egress_members(struct shl_buf *buf,
                          const struct node_pool *pool,
                          const struct node_net_guest *guest,
                          bool clear)
{
    const struct {
        const char *set;
        bool in;
    } sets[] = {{"watched", guest->egress != NODE_NET_EGRESS_DIRECT},
                {"limited", guest->egress == NODE_NET_EGRESS_LIMITED}};
    size_t i;
    int rc = 0;

    for (i = 0; i < SHL_ARRAY_SIZE(sets) && rc == 0; i++) {
        if (sets[i].in || clear) {
            rc = member(buf, "add", pool, sets[i].set, guest);
        }
        if (rc == 0 && !sets[i].in && clear) {
            rc = member(buf, "delete", pool, sets[i].set, guest);
        }
    }
    return rc;
}

int node_rules_add(struct shl_buf *buf,
                   const struct node_pool *pool,
                   const struct node_net_guest *guest)
{
    int rc = element(buf, "add", pool, guest);

    return rc < 0 ? rc : egress_members(buf, pool, guest, false);
}

int node_rules_change(struct shl_buf *buf,
                      const struct node_pool *pool,
                      const struct node_net_guest *guest)
{
    return egress_members(buf, pool, guest, true);
}

/* "add" first, because deleting what is not there is an error. */
int node_rules_del(struct shl_buf *buf,
                   const struct node_pool *pool,
                   const struct node_net_guest *guest)
{
    struct node_net_guest none = *guest;
    int rc = element(buf, "add", pool, guest);

    rc = rc < 0 ? rc : element(buf, "delete", pool, guest);
    none.egress = NODE_NET_EGRESS_DIRECT;
    return rc < 0 ? rc : egress_members(buf, pool, &none, true);
}

/* Of every guest, before anything else is looked at. */
static int metadata_rules(struct shl_buf *buf, const char *table, uint16_t port)
{
    return shl_buf_printf(buf,
                          "add rule inet %s to_metadata ip daddr " NODE_NET_METADATA_ADDRESS
                          " tcp dport %d redirect to :%u\n"
                          "add rule inet %s metadata_in ct original ip"
                          " daddr " NODE_NET_METADATA_ADDRESS
                          " ct status dnat tcp dport %u accept\n"
                          "add rule inet %s egress_strangers tcp dport %u drop\n",
                          table, NODE_NET_METADATA_PORT, port, table, port, table, port);
}

int node_rules_egress(struct shl_buf *buf,
                      const struct node_pool *pool,
                      const struct node_net_ports *ports)
{
    char table[NODE_TABLE_NAME_SIZE];
    uint16_t port = ports->tcp, dns_port = ports->dns;
    int rc;

    node_rules_table(table, pool);
    rc = shl_buf_printf(buf,
                        "flush chain inet %s to_metadata\n"
                        "flush chain inet %s metadata_in\n"
                        "flush chain inet %s to_egress\n"
                        "flush chain inet %s egress_in\n"
                        "flush chain inet %s egress_strangers\n",
                        table, table, table, table, table);
    if (rc == 0 && ports->metadata != 0) {
        rc = metadata_rules(buf, table, ports->metadata);
    }
    if (rc < 0 || port == 0) {
        return rc;
    }
    return shl_buf_printf(buf,
                          "add rule inet %s to_egress iifname . ip daddr @gateways tcp dport %d"
                          " redirect to :%u\n"
                          "add rule inet %s to_egress ip daddr " NODE_NET_PROXY_ADDRESS
                          " tcp dport %d redirect to :%u\n"
                          "add rule inet %s to_egress tcp dport 443 redirect to :%u\n"
                          "add rule inet %s to_egress iifname @limited tcp dport 80"
                          " redirect to :%u\n"
                          "add rule inet %s to_egress iifname @limited"
                          " iifname . ip daddr @gateways udp dport 53 redirect to :%u\n"
                          "add rule inet %s egress_in ct status dnat tcp dport %u accept\n"
                          "add rule inet %s egress_in iifname @limited ct status dnat"
                          " udp dport %u accept\n"
                          "add rule inet %s egress_strangers tcp dport %u drop\n"
                          "add rule inet %s egress_strangers udp dport %u drop\n",
                          table, NODE_NET_PROXY_PORT, port, table, NODE_NET_PROXY_PORT, port, table,
                          port, table, port, table, dns_port, table, port, table, dns_port, table,
                          port, table, dns_port);
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
    int rc =
        shl_buf_append_str(buf, "  chain names {\n"
                                "    type nat hook prerouting priority dstnat; policy accept;\n"
                                "    iifname @taps jump to_metadata\n"
                                "    iifname @watched jump to_egress\n"
                                "    iifname @limited return\n");

    if (rc == 0 && dns != 0) {
        node_address_format(address, dns);
        rc = shl_buf_printf(buf,
                            "    iifname . ip daddr @gateways meta l4proto { tcp, udp }"
                            " th dport 53 dnat ip to %s\n",
                            address);
    }
    rc = rc < 0 ? rc : shl_buf_append_str(buf, "  }\n");
    if (rc < 0) {
        return rc;
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
