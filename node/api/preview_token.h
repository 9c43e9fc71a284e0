/* The token that opens the preview hosts of a sandbox: made or chosen, kept as a hash, found in
 * requests. Pure but for randomness.
 *
 * Requests show it as "Authorization: Bearer", in X-OC-Preview-Token, or, for browsers, in the
 * cookie that they get in exchange for the query parameter, both named oc_preview_token.
 */
#ifndef SHL_NODE_API_PREVIEW_TOKEN_H
#define SHL_NODE_API_PREVIEW_TOKEN_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/sandbox/preview.h"

#define NODE_PREVIEW_TOKEN_SIZE   (NODE_PREVIEW_TOKEN_MAX + 1)
#define NODE_PREVIEW_TOKEN_NAME   "oc_preview_token"
#define NODE_PREVIEW_TOKEN_HEADER "X-OC-Preview-Token"

void node_preview_token_make(char dst[NODE_PREVIEW_TOKEN_SIZE]);
void node_preview_token_set(struct node_previews *set, const char *token);
/* Is it the one of @set? In constant time; @token need not be terminated. */
bool node_preview_token_is(const struct node_previews *set, struct shl_bytes token);

/* Field previewAuth of a create: 1 and the token it asks for, 0 when it is not there, or
 * SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int node_preview_token_parse(const json_t *body,
                                            char dst[NODE_PREVIEW_TOKEN_SIZE],
                                            struct shl_err *err);

/* The token of an Authorization header (NULL: none), empty when it is of another scheme. */
struct shl_bytes node_preview_bearer(const char *header);

/* The value of cookie NODE_PREVIEW_TOKEN_NAME in a Cookie header; empty when it has none. */
struct shl_bytes node_preview_cookie(const char *header);
/* The header without it, appended to @out. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int node_preview_cookie_strip(const char *header, struct shl_buf *out);

/* @target without the parameter NODE_PREVIEW_TOKEN_NAME, appended to @out; its value, decoded, to
 * @token (empty when it is not there, or not decodable). 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int node_preview_target_strip(const char *target,
                                             struct shl_buf *out,
                                             char token[NODE_PREVIEW_TOKEN_SIZE]);

#endif /* SHL_NODE_API_PREVIEW_TOKEN_H */
