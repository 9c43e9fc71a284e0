/* The nftables rules of this node, as text for libnftables. Pure.
 *
 * One table `inet shoal_<pool>` per node (two nodes with different pools may share a
 * network namespace). What a guest may do: talk to the Internet with its own address,
 * and ask its gateway for names (redirected to the node's name server). What it may
 * not: reach the node, another guest, private ranges, or send as someone else. Refused
 * destinations are rejected, not dropped, so that programs fail at once with a reason;
 * forged packets are dropped.
 */
#ifndef SHL_NODE_NET_RULES_H
#define SHL_NODE_NET_RULES_H

#include "base/buf.h"
#include "node/net/pool.h"

#define NODE_TAP_NAME_SIZE   16 /* IFNAMSIZ */
#define NODE_TABLE_NAME_SIZE 48

struct node_net_guest {
    char tap[NODE_TAP_NAME_SIZE];
    uint32_t slot;
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
SHL_MUST_CHECK int node_rules_del(struct shl_buf *buf,
                                  const struct node_pool *pool,
                                  const struct node_net_guest *guest);
SHL_MUST_CHECK int node_rules_drop_table(struct shl_buf *buf, const struct node_pool *pool);

#endif /* SHL_NODE_NET_RULES_H */
