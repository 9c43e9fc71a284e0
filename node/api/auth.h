/* Who is calling: API key or sandbox token, from header or query.
 *
 * Slots: X-API-Key, ?api_key= (keys, and sandbox tokens where tokens are allowed),
 * Authorization: Bearer, ?token= (sandbox tokens only; a raw key there is refused). The
 * first slot that is not empty decides. Loop thread.
 */
#ifndef SHL_NODE_API_AUTH_H
#define SHL_NODE_API_AUTH_H

#include <stdbool.h>

#include "base/err.h"
#include "node/sandbox/manager.h"

struct node_exchange;
struct node_store;
struct node_token_key;

struct node_caller {
    char org[NODE_ORG_ID_SIZE];
    char sandbox_id[NODE_SANDBOX_ID_SIZE]; /* the only one a token opens; "" for a key */
    bool is_admin;
    bool is_anyone; /* org is "": what may be done was checked otherwise, for :id alone */
};

struct node_auth {
    struct node_store *store;
    const struct node_token_key *token_key;
};

/* What of a request matters here; NULL where absent. */
struct node_credentials {
    const char *key_slot;   /* header X-API-Key, else ?api_key= */
    const char *token_slot; /* Bearer, else ?token= */
};

/* Both slots of a request, borrowed from it. An Authorization header of another scheme
 * ends up in the token slot whole, where it is not valid. */
void node_credentials_of(struct node_exchange *x, struct node_credentials *ret);

/* @sandbox_id is that of the path on routes where a token may act, else NULL.
 * 0, SHL_EAUTH, SHL_EFORBIDDEN, or an error of the store, with a sentence. */
SHL_MUST_CHECK int node_auth_check(const struct node_auth *auth,
                                   const struct node_credentials *credentials,
                                   const char *sandbox_id,
                                   int64_t now_ms,
                                   struct node_caller *ret_caller,
                                   struct shl_err *err);

#endif /* SHL_NODE_API_AUTH_H */
