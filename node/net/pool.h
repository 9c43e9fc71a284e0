/* Guest addresses: one /30 per sandbox out of the pool of this node.
 *
 * Slot n is the n-th /30 of the pool: first address gateway (the node's end of the
 * TAP), second the guest. The slot of a sandbox is in its record, so the address
 * survives the daemon. Pure bookkeeping, loop thread only.
 */
#ifndef SHL_NODE_NET_POOL_H
#define SHL_NODE_NET_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define NODE_POOL_PREFIX_MIN 12 /* largest pool: 2^18 sandboxes */
#define NODE_POOL_PREFIX_MAX 28 /* smallest pool: 4 sandboxes */
#define NODE_GUEST_PREFIX    30
#define NODE_ADDRESS_SIZE    16 /* dotted text with terminator */

struct node_pool {
    uint32_t base; /* host byte order, like every address here */
    uint8_t prefix;
    uint32_t slot_count;
    uint32_t next;  /* search starts here: an address rests before it is used again */
    uint8_t *taken; /* one byte per slot, heap */
};

/* "10.201.0.0/16". The pool must be private space, or guests could take addresses of
 * others on the Internet. SHL_EINVALIDARG with a sentence, -ENOMEM. */
SHL_MUST_CHECK int node_pool_init(struct node_pool *pool, const char *cidr, struct shl_err *err);
void node_pool_release(struct node_pool *pool);

/* SHL_ENOCAPACITY when every slot is taken. */
SHL_MUST_CHECK int node_pool_take(struct node_pool *pool, uint32_t *ret_slot);
/* The slot of a record. SHL_ECONFLICT when another has it, SHL_EINVALIDARG beyond the pool. */
SHL_MUST_CHECK int node_pool_take_slot(struct node_pool *pool, uint32_t slot);
void node_pool_give(struct node_pool *pool, uint32_t slot);

uint32_t node_pool_gateway(const struct node_pool *pool, uint32_t slot);
uint32_t node_pool_guest(const struct node_pool *pool, uint32_t slot);
bool node_pool_contains(const struct node_pool *pool, uint32_t address);

void node_address_format(char dst[NODE_ADDRESS_SIZE], uint32_t address);
/* Dotted text; 0 or -EINVAL. */
SHL_MUST_CHECK int node_address_parse(const char *text, uint32_t *ret_address);

#endif /* SHL_NODE_NET_POOL_H */
