/* API keys: who may call, kept as hashes.
 *
 * A key is NODE_KEY_PREFIX and 40 random hexadecimal digits. Its plaintext exists only
 * in the answer that creates it; the store (kind "apikey", id = the key's SHA-256 in
 * hexadecimal) has a display prefix, the organisation, times and the admin flag. A
 * lookup is by hash, so no comparison depends on secret bytes, and the stored hash is
 * compared again in constant time. Loop thread, no state of its own.
 */
#ifndef SHL_NODE_API_KEYS_H
#define SHL_NODE_API_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "node/sandbox/manager.h"

struct node_store;

#define NODE_KEY_PREFIX       "osb_"
#define NODE_KEY_SIZE         45 /* prefix, 40 digits, terminator */
#define NODE_KEY_DISPLAY_SIZE 13 /* "osb_" and 8 digits, for people */
#define NODE_KEY_TEXT_MAX     256
#define NODE_ORG_FIRST        "org-default"

struct node_key_info {
    char display[NODE_KEY_DISPLAY_SIZE];
    char org[NODE_ORG_ID_SIZE];
    bool admin;
    int64_t created_at_ms;
    int64_t expires_at_ms; /* wall clock, 0 never */
};

/* Store a new key. @ret_key gets the plaintext, which nothing else keeps. */
SHL_MUST_CHECK int node_keys_create(struct node_store *store,
                                    const char *org,
                                    bool admin,
                                    int64_t expires_at_ms,
                                    char ret_key[NODE_KEY_SIZE],
                                    struct shl_err *err);

/* At start: 1 when the store had no key and an admin key of NODE_ORG_FIRST was made
 * (@ret_key is its plaintext, to be shown once), 0 when there are keys already. */
SHL_MUST_CHECK int node_keys_ensure_first(struct node_store *store,
                                          char ret_key[NODE_KEY_SIZE],
                                          struct shl_err *err);

/* Whose key is it? 0, SHL_EAUTH when unknown or expired, or an error of the store. */
SHL_MUST_CHECK int node_keys_check(struct node_store *store,
                                   const char *key,
                                   int64_t now_ms,
                                   struct node_key_info *ret_info,
                                   struct shl_err *err);

/* A key that the cluster knows, by the hexadecimal SHA-256 of its text. Writes only what is
 * new. Both are durable when they return 0; dropping one that is not there is fine. */
SHL_MUST_CHECK int node_keys_import(struct node_store *store,
                                    const char *hash,
                                    const struct node_key_info *info,
                                    struct shl_err *err);
SHL_MUST_CHECK int node_keys_drop(struct node_store *store, const char *hash, struct shl_err *err);

/* Every readable key; @each may not change the store. */
SHL_MUST_CHECK int node_keys_each(struct node_store *store,
                                  void (*each)(void *arg,
                                               const char *hash,
                                               const struct node_key_info *info),
                                  void *arg,
                                  struct shl_err *err);

#endif /* SHL_NODE_API_KEYS_H */
