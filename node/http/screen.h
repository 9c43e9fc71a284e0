/* First look at the head of a connection's first request.
 *
 * Pure. The HTTP library answers what it cannot parse with a page of its own; the API
 * promises the JSON envelope on every error, and a limit on time and size for heads.
 * So a new connection is only handed to the library when its first head is complete
 * and passes here. The rules are at least as strict as the library's, and refuse what
 * servers disagree on (two lengths, folded lines, bare line feeds).
 */
#ifndef SHL_NODE_HTTP_SCREEN_H
#define SHL_NODE_HTTP_SCREEN_H

#include "base/buf.h"

#define NODE_SCREEN_HEAD_MAX    (32u * 1024) /* request line and headers */
#define NODE_SCREEN_HEADERS_MAX 100
#define NODE_SCREEN_METHOD_MAX  32

enum node_screen_result {
    NODE_SCREEN_MORE, /* the head is not complete yet */
    NODE_SCREEN_OK,
    NODE_SCREEN_BAD,
};

struct node_screen_error {
    int status;
    const char *msg; /* one sentence, static */
};

/* @ret_error is set with NODE_SCREEN_BAD only. */
enum node_screen_result node_screen(struct shl_bytes bytes, struct node_screen_error *ret_error);

#endif /* SHL_NODE_HTTP_SCREEN_H */
