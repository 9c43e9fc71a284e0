/* The network of this node's guests: addresses, TAP interfaces, nftables.
 *
 * One per node, loop thread only; every call is a few system calls (milliseconds).
 * Rules are replaced as a whole at open, with the guests that live, and stay when the
 * daemon goes; they are removed at close when no guest lives.
 */
#ifndef SHL_NODE_NET_NET_H
#define SHL_NODE_NET_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "node/net/pool.h"
#include "node/net/rules.h"

struct node_net;

struct node_net_config {
    const char *pool_cidr;
    const char *dns; /* NULL or "": first name server of this machine */
    const struct shl_log *log;
};

#define NODE_MAC_SIZE 18

/* "02:53:.." and "shl...": both from the eight hex digits of "sb-xxxxxxxx". */
void node_net_mac(char dst[NODE_MAC_SIZE], const char *sandbox_id);
void node_net_tap_name(char dst[NODE_TAP_NAME_SIZE], const char *sandbox_id);

/* Reserve the pool, find the name server, switch forwarding on, install rules for
 * @guests (living sandboxes, whose slots are taken). Errors say what is missing. */
SHL_MUST_CHECK int node_net_open(const struct node_net_config *config,
                                 const struct node_net_guest *guests,
                                 size_t guest_count,
                                 struct node_net **ret_net,
                                 struct shl_err *err);
/* NULL is fine. */
void node_net_close(struct node_net *net);

/* Reserve a slot for a new sandbox: 0 or SHL_ENOCAPACITY. */
SHL_MUST_CHECK int node_net_take_slot(struct node_net *net, uint32_t *ret_slot);
void node_net_give_slot(struct node_net *net, uint32_t slot);

/* TAP for @sandbox_id, in the rules before it is up. The descriptor is the caller's. */
SHL_MUST_CHECK int node_net_attach(struct node_net *net,
                                   const char *sandbox_id,
                                   uint32_t slot,
                                   int *ret_fd,
                                   struct shl_err *err);
/* Take it out of the rules, once per attach or guest given at open; the interface goes
 * with the VMM. */
int node_net_detach(struct node_net *net,
                    const char *sandbox_id,
                    uint32_t slot,
                    struct shl_err *err);

uint32_t node_net_gateway(const struct node_net *net, uint32_t slot);
uint32_t node_net_guest(const struct node_net *net, uint32_t slot);

/* `shoald --cleanup`: remove the rules of @pool_cidr. */
SHL_MUST_CHECK int node_net_cleanup(const char *pool_cidr, struct shl_err *err);

#endif /* SHL_NODE_NET_NET_H */
