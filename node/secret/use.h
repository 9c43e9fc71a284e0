/* What a sandbox has of secret stores: which ones, its sealed tokens, and its allowlist.
 *
 * Part of the specification and the record of a sandbox, and so of what it comes back from on
 * another node. No values: those are looked up by store and name whenever they are needed
 * (node/api/secret_policy.h). Checkpoints keep the stores and the allowlist alone, since forks
 * get tokens of their own. Pure.
 */
#ifndef SHL_NODE_SECRET_USE_H
#define SHL_NODE_SECRET_USE_H

#include "node/secret/row.h"

#define NODE_USE_STORES_MAX 8 /* layered over each other: of a fork of a fork ... */

struct node_secret_ref {
    char id[NODE_STORE_ID_SIZE];
    char name[NODE_STORE_NAME_SIZE];
};

struct node_secret_token {
    char *name; /* of secret and environment variable; heap */
    char store[NODE_STORE_ID_SIZE];
    char token[NODE_SEALED_SIZE];
};

/* All zero: none. */
struct node_secret_use {
    struct node_secret_ref stores[NODE_USE_STORES_MAX]; /* the later ones on top */
    size_t store_count;
    struct node_secret_token *tokens; /* heap */
    size_t token_count;
    /* Of all stores together, as it was known last; empty: every public host. Kept so that a
     * sandbox does not become open when a store is deleted. */
    struct node_host_list allowlist;
};

void node_secret_use_release(struct node_secret_use *use);
/* @with_tokens false: as a checkpoint keeps it. 0 or -ENOMEM (then @dst is all zero). */
SHL_MUST_CHECK int node_secret_use_copy(struct node_secret_use *dst,
                                        const struct node_secret_use *src,
                                        bool with_tokens);
/* As a checkpoint keeps it. */
void node_secret_use_drop_tokens(struct node_secret_use *use);
/* What it adds to the environment. */
size_t node_secret_use_env_bytes(const struct node_secret_use *use);
/* A store on top; one that is there already moves there. 0 or SHL_ELIMIT. */
SHL_MUST_CHECK int node_secret_use_add_store(struct node_secret_use *use,
                                             const char *id,
                                             const char *name);
/* A secret with a fresh token; it takes the place of one of the same name. 0, SHL_ELIMIT,
 * -ENOMEM. */
SHL_MUST_CHECK int node_secret_use_add(struct node_secret_use *use,
                                       const char *name,
                                       const char *store_id);

bool node_secret_name_is_valid(const char *name);

/* As field @key of the open map; nothing for an empty one. */
void node_secret_use_encode(struct shl_mp_writer *w,
                            const char *key,
                            const struct node_secret_use *use);
/* 0, also when the field is absent; SHL_EPROTO, -ENOMEM. */
SHL_MUST_CHECK int node_secret_use_decode(const struct msgpack_object *map,
                                          const char *key,
                                          struct node_secret_use *ret);

#endif /* SHL_NODE_SECRET_USE_H */
