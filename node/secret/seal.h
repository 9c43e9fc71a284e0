/* Sealing of secret values, and of the key they are sealed with.
 *
 * The cluster has one key at a time, with a generation that grows when it is replaced. Values are
 * sealed with it (XChaCha20-Poly1305), bound to the row they stand in, so that one cannot be put
 * in another's place. The key itself exists at rest only in boxes (X25519, libsodium's sealed
 * boxes), one per node, that only the key of that node opens (DATA/mesh/key).
 *
 * Pure, on libsodium (sodium_init first). Keys and values are wiped by whoever holds them.
 */
#ifndef SHL_NODE_SECRET_SEAL_H
#define SHL_NODE_SECRET_SEAL_H

#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"

#define NODE_SEAL_KEY_BYTES   32
#define NODE_SEAL_NODE_BYTES  32 /* public and secret key of a node */
#define NODE_SEAL_BOX_BYTES   84 /* a key and its generation, sealed for one node */
#define NODE_SEAL_VALUE_EXTRA 40 /* bytes by which a sealed value is longer */

struct node_seal_key {
    uint32_t generation; /* from 1 */
    uint8_t bytes[NODE_SEAL_KEY_BYTES];
};

void node_seal_key_make(struct node_seal_key *key, uint32_t generation);
void node_seal_key_wipe(struct node_seal_key *key);

/* For the node with this public key. 0 or -EINVAL (that is no key). */
SHL_MUST_CHECK int node_seal_key_box(const struct node_seal_key *key,
                                     const uint8_t node_public[NODE_SEAL_NODE_BYTES],
                                     uint8_t ret[NODE_SEAL_BOX_BYTES]);
/* SHL_ECORRUPT: not for this node, damaged, or of another generation. */
SHL_MUST_CHECK int node_seal_key_open(const uint8_t box[NODE_SEAL_BOX_BYTES],
                                      uint32_t generation,
                                      const uint8_t node_public[NODE_SEAL_NODE_BYTES],
                                      const uint8_t node_secret[NODE_SEAL_NODE_BYTES],
                                      struct node_seal_key *ret);

/* Append the sealed @value to @out; @place is the key of the row it will stand in. 0, SHL_ELIMIT,
 * -ENOMEM. */
SHL_MUST_CHECK int node_seal_value(const struct node_seal_key *key,
                                   const char *place,
                                   struct shl_bytes value,
                                   struct shl_buf *out);
/* *ret_value is sodium_malloc'ed: sodium_free wipes it. SHL_ECORRUPT: another key, another place,
 * or damaged. -ENOMEM. */
SHL_MUST_CHECK int node_seal_open(const struct node_seal_key *key,
                                  const char *place,
                                  struct shl_bytes sealed,
                                  uint8_t **ret_value,
                                  size_t *ret_len);

#endif /* SHL_NODE_SECRET_SEAL_H */
