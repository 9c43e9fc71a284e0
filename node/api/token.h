/* Sandbox tokens: JWTs (HS256) that open one sandbox.
 *
 * A token is bound to the sandbox's id, not to a node or a boot, and lives as long as a
 * sandbox reasonably does, since clients never refresh it. The signing key is made at
 * first start and kept in the store (kind "secret"). Loop thread.
 */
#ifndef SHL_NODE_API_TOKEN_H
#define SHL_NODE_API_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/sandbox/manager.h"

struct node_store;

#define NODE_TOKEN_KEY_BYTES  32
#define NODE_TOKEN_TEXT_MAX   2048
#define NODE_TOKEN_LIFETIME_S (10ll * 365 * 24 * 3600)
#define NODE_TOKEN_ISSUER     "opensandbox"

struct node_token_key {
    uint8_t bytes[NODE_TOKEN_KEY_BYTES];
};

struct node_token {
    char org[NODE_ORG_ID_SIZE];
    char sandbox_id[NODE_SANDBOX_ID_SIZE];
};

/* The stored key, made and stored when there is none. */
SHL_MUST_CHECK int node_token_key_load(struct node_store *store,
                                       struct node_token_key *ret_key,
                                       struct shl_err *err);

/* Heap text the caller frees, NULL without memory. */
char *node_token_make(const struct node_token_key *key,
                      const struct node_token *token,
                      int64_t now_s);

/* 0, or SHL_EAUTH for anything that is not a valid token of this key at that time. */
SHL_MUST_CHECK int node_token_check(const struct node_token_key *key,
                                    const char *text,
                                    int64_t now_s,
                                    struct node_token *ret_token);

/* Has it the form of a JWT (two dots)? API keys never do. */
bool node_token_looks_like(const char *text);

#endif /* SHL_NODE_API_TOKEN_H */
