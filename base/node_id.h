/* Identity of a node: the first 16 bytes of the BLAKE2b-256 hash of its CURVE public key
 * (computed in node/mesh/; every other folder only compares and prints it). */
#ifndef SHL_BASE_NODE_ID_H
#define SHL_BASE_NODE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

#define SHL_NODE_ID_BYTES     16
#define SHL_NODE_ID_TEXT_SIZE (2 * SHL_NODE_ID_BYTES + 1)

struct shl_node_id {
    uint8_t bytes[SHL_NODE_ID_BYTES];
};

/* Order by bytes: <0, 0, >0. */
static inline int shl_node_id_compare(const struct shl_node_id *a, const struct shl_node_id *b)
{
    return memcmp(a->bytes, b->bytes, SHL_NODE_ID_BYTES);
}

static inline bool shl_node_id_equal(const struct shl_node_id *a, const struct shl_node_id *b)
{
    return shl_node_id_compare(a, b) == 0;
}

/* All zeros: "no node". */
bool shl_node_id_is_none(const struct shl_node_id *id);

/* Lower-case hexadecimal text. */
void shl_node_id_format(char dst[SHL_NODE_ID_TEXT_SIZE], const struct shl_node_id *id);

/* Exactly 32 hexadecimal digits, not all zeros. Returns 0 or -EINVAL. */
SHL_MUST_CHECK int shl_node_id_parse(const char *text, struct shl_node_id *ret);

#endif /* SHL_BASE_NODE_ID_H */
