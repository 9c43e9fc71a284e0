/* What a sandbox's preview hosts are: records of ports, and the token that opens them.
 *
 * Part of the specification of a sandbox, so it goes wherever that goes: record, saved states,
 * other nodes. Pure but for memory.
 */
#ifndef SHL_NODE_SANDBOX_PREVIEW_H
#define SHL_NODE_SANDBOX_PREVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mp.h"

#define NODE_PREVIEWS_MAX       32   /* records of one sandbox */
#define NODE_PREVIEW_CONFIG_MAX 1024 /* bytes of its authConfig as JSON */
#define NODE_PREVIEW_ID_SIZE    40   /* a UUID */
#define NODE_PREVIEW_TOKEN_HASH 32   /* SHA-256 */
#define NODE_PREVIEW_TOKEN_MIN  16   /* characters of one that the client chose */
#define NODE_PREVIEW_TOKEN_MAX  256

struct node_preview {
    char id[NODE_PREVIEW_ID_SIZE];
    uint16_t port;         /* unique in its set, not 0 */
    int64_t created_at_ms; /* wall clock */
    char *auth_config;     /* heap; JSON text, stored and shown, nothing else */
};

struct node_previews {
    struct node_preview *items; /* heap, by port */
    size_t count;
    bool has_token; /* requests must show it */
    uint8_t token_hash[NODE_PREVIEW_TOKEN_HASH];
};

void node_previews_release(struct node_previews *set);
/* @dst is overwritten. 0 or -ENOMEM. */
SHL_MUST_CHECK int node_previews_copy(struct node_previews *dst, const struct node_previews *src);

/* NULL when there is no record of @port. */
const struct node_preview *node_previews_find(const struct node_previews *set, uint16_t port);
/* A record that is not there yet; copies. 0, SHL_EQUOTA (NODE_PREVIEWS_MAX), SHL_ECONFLICT,
 * SHL_EINVALIDARG (port 0, a text that is too long) or -ENOMEM. */
SHL_MUST_CHECK int node_previews_add(struct node_previews *set, const struct node_preview *preview);
/* False when there was none. */
bool node_previews_remove(struct node_previews *set, uint16_t port);

/* Fields "previews" and "preview_token" of an open map; nothing for an empty set. */
void node_previews_encode(struct shl_mp_writer *w, const struct node_previews *set);
/* As hostile input, into an empty set; absent fields are an empty set. 0, SHL_EPROTO, -ENOMEM;
 * what was read before is in @set, for the release. */
SHL_MUST_CHECK int node_previews_decode(const msgpack_object *map, struct node_previews *set);

#endif /* SHL_NODE_SANDBOX_PREVIEW_H */
