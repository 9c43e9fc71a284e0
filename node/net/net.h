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
/* The one it had before: 0 or SHL_ECONFLICT (another one's by now). */
SHL_MUST_CHECK int node_net_take_slot_again(struct node_net *net, uint32_t slot);
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

/* How the guest of a slot gets out from now on, or once it is attached; connections it has
 * obey, too. A slot that is given back is direct again. */
SHL_MUST_CHECK int node_net_set_egress(struct node_net *net,
                                       uint32_t slot,
                                       enum node_net_egress egress,
                                       struct shl_err *err);
/* The ports of the egress gateway of this node. */
SHL_MUST_CHECK int node_net_set_gateway(struct node_net *net,
                                        const struct node_net_ports *ports,
                                        struct shl_err *err);
enum node_net_egress node_net_egress_of(const struct node_net *net, uint32_t slot);
/* Bytes that the guest of @sandbox_id received and sent through its TAP: since its run began. 0,
 * -errno; -ENODEV when it is not attached. */
SHL_MUST_CHECK int node_net_bytes(const char *sandbox_id, uint64_t *ret_in, uint64_t *ret_out);
/* The slot of a guest's address: 0 or SHL_ENOTFOUND. */
SHL_MUST_CHECK int node_net_slot_of(const struct node_net *net, uint32_t guest, uint32_t *ret_slot);
/* First address of the pool: no guest's, and no other node's on this machine. */
uint32_t node_net_pool_base(const struct node_net *net);
/* The name server guests are led to, host byte order; 0: none. */
uint32_t node_net_dns(const struct node_net *net);

uint32_t node_net_gateway(const struct node_net *net, uint32_t slot);
uint32_t node_net_guest(const struct node_net *net, uint32_t slot);

/* `shoald --cleanup`: remove the rules of @pool_cidr. */
SHL_MUST_CHECK int node_net_cleanup(const char *pool_cidr, struct shl_err *err);

#endif /* SHL_NODE_NET_NET_H */
