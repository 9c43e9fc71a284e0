/* Signed URLs: one transfer of one file, without a key, until they expire.
 *
 *   GET /api/sandboxes/ID/files/download?path=...&expires=...&signature=...
 *   PUT /api/sandboxes/ID/files/upload?path=...&expires=...&signature=...
 *
 * The signature is an HMAC-SHA256 over operation, sandbox, time and path, with the key that all
 * nodes of a cluster sign sandbox tokens with; nothing is stored, so any node can check it. What
 * it is over begins in another way than a token, so neither passes for the other. Pure.
 */
#ifndef SHL_NODE_API_SIGNED_H
#define SHL_NODE_API_SIGNED_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/api/token.h"
#include "node/http/url.h"

#define NODE_SIGNED_DEFAULT_S 3600
#define NODE_SIGNED_MAX_S     86400
#define NODE_SIGNED_URL_MAX   NODE_URL_MAX

enum node_signed_op {
    NODE_SIGNED_DOWNLOAD,
    NODE_SIGNED_UPLOAD,
};

struct node_signed {
    enum node_signed_op op;
    const char *sandbox_id;
    const char *path;
    int64_t expires_s; /* wall clock, in seconds */
};

/* Append "/sandboxes/..." to @out. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_signed_write(const struct node_token_key *key,
                                     const struct node_signed *what,
                                     struct shl_buf *out);

/* May the request for @url do @op to @sandbox_id? 0, SHL_EINVALIDARG (a parameter is missing or
 * not of its form) or SHL_EFORBIDDEN (another signature, or too late), with a sentence. */
SHL_MUST_CHECK int node_signed_check(const struct node_token_key *key,
                                     enum node_signed_op op,
                                     const char *sandbox_id,
                                     const struct node_url *url,
                                     int64_t now_s,
                                     struct shl_err *err);

#endif /* SHL_NODE_API_SIGNED_H */
