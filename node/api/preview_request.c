#include "node/api/preview_request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "node/api/preview_token.h"
#include "node/http/proxy.h"

/* The token is for the gate; what carried it stays here. */
static int write_header(const struct node_previews *set,
                        const struct node_reply_header *header,
                        struct shl_buf *out)
{
    size_t from = shl_buf_len(out);
    int rc;

    if (strcasecmp(header->name, NODE_PREVIEW_TOKEN_HEADER) == 0 ||
        (strcasecmp(header->name, "Authorization") == 0 &&
         node_preview_token_is(set, node_preview_bearer(header->value)))) {
        return 0;
    }
    if (strcasecmp(header->name, "Cookie") != 0) {
        return shl_buf_printf(out, "%s: %s\r\n", header->name, header->value);
    }
    rc = shl_buf_append_str(out, "Cookie: ");
    if (rc == 0) {
        rc = node_preview_cookie_strip(header->value, out);
    }
    if (rc == 0 && shl_buf_len(out) == from + strlen("Cookie: ")) {
        out->end -= strlen("Cookie: ");
        return 0;
    }
    return rc < 0 ? rc : shl_buf_append_str(out, "\r\n");
}

static int write_framing(const struct node_exchange *x, struct shl_buf *out)
{
    if (x->is_upgrade) {
        return shl_buf_append_str(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    }
    if (x->body_length < 0) {
        return shl_buf_append_str(out, "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    if (x->body_length > 0 || x->method == NODE_METHOD_POST || x->method == NODE_METHOD_PUT ||
        x->method == NODE_METHOD_PATCH) {
        return shl_buf_printf(out, "Connection: close\r\nContent-Length: %lld\r\n\r\n",
                              (long long)x->body_length);
    }
    return shl_buf_append_str(out, "Connection: close\r\n\r\n");
}

int node_preview_write_head(struct node_exchange *x,
                            const struct node_previews *set,
                            const char *target,
                            struct shl_buf *out,
                            struct shl_err *err)
{
    struct node_proxy_headers headers;
    int rc = node_proxy_headers_of(x, &headers, err);

    if (rc == 0) {
        rc = shl_buf_printf(out, "%s %s HTTP/1.1\r\n", node_method_name(x->method), target);
    }
    for (size_t i = 0; rc == 0 && i < headers.count; i++) {
        rc = write_header(set, &headers.items[i], out);
    }
    if (rc == 0) {
        rc = write_framing(x, out);
    }
    return rc == SHL_ELIMIT ? shl_err_set(err, -E2BIG, "the request headers are too large") : rc;
}
