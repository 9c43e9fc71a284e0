/* Headers of a request that goes on to another server as it is (previews).
 *
 * What belongs to the connection stays behind; X-Forwarded-For, -Proto and -Host are added by the
 * node the client is connected to. Everything is checked again, because only the first head of
 * a connection was screened.
 */
#ifndef SHL_NODE_HTTP_PROXY_H
#define SHL_NODE_HTTP_PROXY_H

#include "node/http/exchange.h"

#define NODE_PROXY_HEADERS_MAX 104 /* those of a screened head, and ours */
#define NODE_PROXY_TEXT_MAX    512 /* X-Forwarded-For */

struct node_proxy_headers {
    struct node_reply_header items[NODE_PROXY_HEADERS_MAX]; /* borrowed from the exchange */
    size_t count;
    char forwarded_for[NODE_PROXY_TEXT_MAX]; /* one of the values: do not copy this struct */
};

/* 0, -E2BIG (too many or too long) or SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int node_proxy_headers_of(struct node_exchange *x,
                                         struct node_proxy_headers *ret,
                                         struct shl_err *err);

/* @target (from x) is fit for a request line. */
bool node_proxy_target_is_plain(const char *target);

#endif /* SHL_NODE_HTTP_PROXY_H */
