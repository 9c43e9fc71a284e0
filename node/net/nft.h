/* Run nftables commands through libnftables: all of them or none. */
#ifndef SHL_NODE_NET_NFT_H
#define SHL_NODE_NET_NFT_H

#include "base/err.h"

/* @commands is terminated text. Errors tell missing permission and missing kernel
 * modules from the rest. */
SHL_MUST_CHECK int node_nft_run(const char *commands, struct shl_err *err);

/* What nft prints of a set: heap text, the caller frees. NULL when there is none. */
char *node_nft_set(const char *table, const char *set);

#endif /* SHL_NODE_NET_NFT_H */
