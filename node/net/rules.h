/* The nftables rules of this node, as text for libnftables. Pure.
 *
 * One table `inet shoal_<pool>` per node (two nodes with different pools may share a
 * network namespace). What a guest may do: talk to the Internet with its own address,
 * and ask its gateway for names (redirected to the node's name server). What it may
 * not: reach the node, another guest, private ranges, or send as someone else. Refused
 * destinations are rejected, not dropped, so that programs fail at once with a reason;
 * forged packets are dropped. Guests with a secret store are led to the egress gateway of the
 * node (node/egress/); those with an allowlist get out by nothing else, also while it is down.
 * The address of the metadata service leads there for all of them, and never anywhere else.
 */
#ifndef SHL_NODE_NET_RULES_H
#define SHL_NODE_NET_RULES_H

#include "base/buf.h"
#include "node/net/pool.h"

#define NODE_TAP_NAME_SIZE   16 /* IFNAMSIZ */
#define NODE_TABLE_NAME_SIZE 48

/* Where a guest finds the egress gateway as a proxy: at this address, which is the same for all,
 * and at its own gateway. */
#define NODE_NET_PROXY_ADDRESS "169.254.169.253"
#define NODE_NET_PROXY_PORT    3128

/* Where it finds what the node says to it of itself (node/egress/metadata.h): the address at which
 * clouds have such a service, so that the machine's own stays out of reach. */
#define NODE_NET_METADATA_ADDRESS "169.254.169.254"
#define NODE_NET_METADATA_PORT    80

/* Where the egress gateway listens on this machine. All zero: nowhere. */
struct node_net_ports {
    uint16_t tcp, dns, metadata;
};

/* How a guest gets out. */
enum node_net_egress {
    NODE_NET_EGRESS_DIRECT,  /* to the Internet by itself */
    NODE_NET_EGRESS_WATCHED, /* port 443 through the egress gateway of this node */
    NODE_NET_EGRESS_LIMITED, /* ports 80, 443 and names through it, nothing else */
};

struct node_net_guest {
    char tap[NODE_TAP_NAME_SIZE];
    uint32_t slot;
    enum node_net_egress egress;
};

void node_rules_table(char dst[NODE_TABLE_NAME_SIZE], const struct node_pool *pool);

/* Replace the whole table by one with @guests in it. @dns 0: no name server known.
 * 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_rules_all(struct shl_buf *buf,
                                  const struct node_pool *pool,
                                  uint32_t dns,
                                  const struct node_net_guest *guests,
                                  size_t guest_count);
SHL_MUST_CHECK int node_rules_add(struct shl_buf *buf,
                                  const struct node_pool *pool,
                                  const struct node_net_guest *guest);
/* @guest is there and gets out another way than before. */
SHL_MUST_CHECK int node_rules_change(struct shl_buf *buf,
                                     const struct node_pool *pool,
                                     const struct node_net_guest *guest);
/* While it listens nowhere, what has to go through it goes nowhere. */
SHL_MUST_CHECK int node_rules_egress(struct shl_buf *buf,
                                     const struct node_pool *pool,
                                     const struct node_net_ports *ports);
SHL_MUST_CHECK int node_rules_del(struct shl_buf *buf,
                                  const struct node_pool *pool,
                                  const struct node_net_guest *guest);
SHL_MUST_CHECK int node_rules_drop_table(struct shl_buf *buf, const struct node_pool *pool);

#endif /* SHL_NODE_NET_RULES_H */
