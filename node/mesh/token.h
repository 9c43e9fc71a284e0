/* Join token: what a new node needs to find a cluster, to be sure that it talks to it, and
 * to be let in once.
 *
 * Text: "shoal-join-" and base64url (no padding) of a msgpack map and a checksum. It
 * carries a secret: whoever holds it may join. Wipe both forms after use
 * (node_join_token_wipe, sodium_memzero); never log one. The text is bounded by
 * NODE_JOIN_TOKEN_TEXT_SIZE.
 */
#ifndef SHL_NODE_MESH_TOKEN_H
#define SHL_NODE_MESH_TOKEN_H

#include <stdint.h>

#include "base/err.h"
#include "node/mesh/addr.h"
#include "node/mesh/keys.h"

#define NODE_CLUSTER_BYTES           16
#define NODE_JOIN_TOKEN_PREFIX       "shoal-join-"
#define NODE_JOIN_TOKEN_ID_BYTES     16
#define NODE_JOIN_TOKEN_SECRET_BYTES 32
#define NODE_JOIN_TOKEN_SEEDS_MAX    8
#define NODE_JOIN_TOKEN_TEXT_SIZE    1536

struct node_join_token {
    uint8_t cluster[NODE_CLUSTER_BYTES];
    uint8_t server_key[NODE_KEY_BYTES];   /* public key of the node that made the token */
    uint8_t id[NODE_JOIN_TOKEN_ID_BYTES]; /* not secret: names the token in the log */
    uint8_t secret[NODE_JOIN_TOKEN_SECRET_BYTES];
    int64_t expires_at_s; /* wall clock, seconds since 1970 */
    uint32_t seed_count;  /* 1..NODE_JOIN_TOKEN_SEEDS_MAX, all of the node with server_key */
    struct node_mesh_addr seeds[NODE_JOIN_TOKEN_SEEDS_MAX];
};

/* Fills id and secret from the system's randomness. */
void node_join_token_draw(struct node_join_token *token);

/* 0 or SHL_EINVALIDARG (a field is out of its range). */
SHL_MUST_CHECK int node_join_token_format(const struct node_join_token *token,
                                          char dst[NODE_JOIN_TOKEN_TEXT_SIZE],
                                          struct shl_err *err);

/* Surrounding white space is allowed. 0, SHL_EINVALIDARG (not a token, cut off or
 * mistyped) or SHL_EVERSION. Expiry is the caller's check: it knows what time it is. */
SHL_MUST_CHECK int node_join_token_parse(const char *text,
                                         struct node_join_token *ret,
                                         struct shl_err *err);

void node_join_token_wipe(struct node_join_token *token);

/* BLAKE2b-256 of the secret, keyed by the token's id: what the cluster remembers of a token,
 * and what a joiner is compared with (in constant time, by node_join_token_matches). */
#define NODE_JOIN_TOKEN_HASH_BYTES 32
void node_join_token_hash(const uint8_t id[NODE_JOIN_TOKEN_ID_BYTES],
                          const uint8_t secret[NODE_JOIN_TOKEN_SECRET_BYTES],
                          uint8_t ret[NODE_JOIN_TOKEN_HASH_BYTES]);
int node_join_token_matches(const uint8_t hash[NODE_JOIN_TOKEN_HASH_BYTES],
                            const uint8_t id[NODE_JOIN_TOKEN_ID_BYTES],
                            const uint8_t secret[NODE_JOIN_TOKEN_SECRET_BYTES]);

#endif /* SHL_NODE_MESH_TOKEN_H */
