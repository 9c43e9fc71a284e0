/* Secret stores as rows that all nodes have (node/api/router.h, rows): keys and contents.
 *
 *   secret-store/ORG/HASH   a store; HASH is of its name, so a name is taken once
 *   secret/STORE/HASH       a secret of a store; HASH is of its name, the value is sealed
 *   seal/GENERATION         the key that values are sealed with, boxed for each node
 *
 * A store that is renamed has two rows for a moment: the one with the higher revision counts.
 * Contents are msgpack maps. Pure; decoding takes them as hostile input.
 */
#ifndef SHL_NODE_SECRET_ROW_H
#define SHL_NODE_SECRET_ROW_H

#include <stdint.h>

#include "base/node_id.h"
#include "node/secret/policy.h"
#include "node/secret/seal.h"

#define NODE_SECRET_KEY_SIZE    193 /* of a row, with terminator */
#define NODE_SECRET_ROW_MAX     (32 * 1024)
#define NODE_SECRET_ORG_SIZE    40
#define NODE_STORE_ID_SIZE      37 /* a UUID */
#define NODE_STORE_NAME_SIZE    129
#define NODE_STORE_PATTERNS_MAX 100 /* of one allowlist */
#define NODE_STORES_MAX         200 /* of one organisation */
#define NODE_STORE_SECRETS_MAX  100 /* of one store */
#define NODE_SEAL_HOLDERS_MAX   256
#define NODE_STORE_PREFIX       "secret-store/"
#define NODE_SECRET_PREFIX      "secret/"
#define NODE_SEAL_PREFIX        "seal/"
#define NODE_AUTHORITY_KEY      "egress/authority" /* the row node/authority.h is about */

struct node_store_row {
    char org[NODE_SECRET_ORG_SIZE];
    char id[NODE_STORE_ID_SIZE];
    char name[NODE_STORE_NAME_SIZE];
    struct node_host_list allowlist;
    int64_t created_at_ms; /* wall clock */
    int64_t updated_at_ms;
};

struct node_secret_row {
    char id[NODE_STORE_ID_SIZE];
    char store[NODE_STORE_ID_SIZE];
    char name[NODE_SECRET_NAME_SIZE];
    struct node_host_list hosts;
    uint32_t generation;     /* of the key */
    struct shl_bytes sealed; /* borrowed from what was decoded */
    int64_t created_at_ms;
    int64_t updated_at_ms;
};

/* A sealed value that stands alone. */
struct node_sealed_row {
    uint32_t generation;     /* of the key */
    struct shl_bytes sealed; /* borrowed from what was decoded */
};

struct node_seal_holder {
    struct shl_node_id node;
    uint8_t box[NODE_SEAL_BOX_BYTES];
};

struct node_seal_row {
    uint32_t generation;
    int64_t made_at_ms;
    uint32_t count;
    struct node_seal_holder holders[NODE_SEAL_HOLDERS_MAX];
};

/* All of @key is in the prefix of its kind; @key has NODE_SECRET_KEY_SIZE. */
void node_store_key(char *key, const char *org, const char *name);
void node_stores_prefix(char *key, const char *org);
void node_secret_key(char *key, const char *store_id, const char *name);
void node_secrets_prefix(char *key, const char *store_id);
void node_seal_row_key(char *key, uint32_t generation);

bool node_store_id_is_valid(const char *id);

/* Append to @buf. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int node_store_row_encode(const struct node_store_row *row, struct shl_buf *buf);
SHL_MUST_CHECK int node_secret_row_encode(const struct node_secret_row *row, struct shl_buf *buf);
SHL_MUST_CHECK int node_seal_row_encode(const struct node_seal_row *row, struct shl_buf *buf);
SHL_MUST_CHECK int node_sealed_row_encode(const struct node_sealed_row *row, struct shl_buf *buf);

/* 0, SHL_ECORRUPT, SHL_EVERSION, -ENOMEM; on success the first two are to be released. */
SHL_MUST_CHECK int node_store_row_decode(struct node_store_row *ret, struct shl_bytes bytes);
SHL_MUST_CHECK int node_secret_row_decode(struct node_secret_row *ret, struct shl_bytes bytes);
SHL_MUST_CHECK int node_seal_row_decode(struct node_seal_row *ret, struct shl_bytes bytes);
SHL_MUST_CHECK int node_sealed_row_decode(struct node_sealed_row *ret, struct shl_bytes bytes);
void node_store_row_release(struct node_store_row *row);
void node_secret_row_release(struct node_secret_row *row);

/* NULL when @node has none. */
const struct node_seal_holder *node_seal_row_find(const struct node_seal_row *row,
                                                  const struct shl_node_id *node);

/* Lists of patterns in records, also those of sandboxes. */
struct shl_mp_writer;
void node_host_list_encode(struct shl_mp_writer *w,
                           const char *key,
                           const struct node_host_list *list);
struct msgpack_object;
SHL_MUST_CHECK int node_host_list_decode(const struct msgpack_object *map,
                                         const char *key,
                                         size_t max,
                                         struct node_host_list *ret);

#endif /* SHL_NODE_SECRET_ROW_H */
