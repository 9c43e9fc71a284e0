/* Replies of guests: any bytes, in two ways to cut them into pieces, which must not matter. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    int code; /* of the end */
    int status;
    size_t header_count;
    struct shl_buf body;
};

static void check_head(const struct node_response *r)
{
    assert(r->status >= 200 || (r->status == 101 && r->is_to_upgrade));
    assert(r->length >= -1 && r->header_count <= NODE_EXCHANGE_HEADERS_MAX);
    for (size_t i = 0; i < r->header_count; i++) {
        assert(*r->headers[i].name && !node_header_is_hop(r->headers[i].name));
        assert(!strpbrk(r->headers[i].name, " :\r\n"));
        assert(!strpbrk(r->headers[i].value, "\r\n"));
    }
    assert(!r->content_type || !strpbrk(r->content_type, "\r\n"));
}

static void run(const uint8_t *data, size_t size, size_t step, int kind, struct outcome *ret)
{
    struct node_response r;
    struct shl_err err = {0};
    size_t at = 0;
    int rc = NODE_RESPONSE_MORE;

    *ret = (struct outcome){.code = 0};
    shl_buf_init(&ret->body, 1 << 20);
    node_response_init(&r, kind == 1, kind == 2);
    while (rc >= 0 && rc != NODE_RESPONSE_END && at < size) {
        size_t offered = SHL_MIN(step, size - at);
        struct shl_bytes body;
        size_t used;

        rc = node_response_feed(&r, shl_bytes_of(data + at, offered), &used, &body, &err);
        assert(rc < 0 || used <= offered);
        assert(rc < 0 || rc == NODE_RESPONSE_END || used > 0);
        if (rc == NODE_RESPONSE_HEAD) {
            check_head(&r);
            ret->status = r.status;
            ret->header_count = r.header_count;
        } else if (rc == NODE_RESPONSE_BODY) {
            assert(body.base >= data + at && body.len <= offered);
            assert(shl_buf_append(&ret->body, body.base, body.len) == 0);
        }
        at += rc < 0 ? 0 : used;
    }
    ret->code = rc < 0 ? rc : node_response_eof(&r, &err);
    node_response_release(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole;
    struct outcome pieces;
    int kind;

    if (size < 2 || size > 1 << 18) {
        return 0;
    }
    kind = data[0] % 3;
    run(data + 2, size - 2, size, kind, &whole);
    run(data + 2, size - 2, 1 + data[1] % 7, kind, &pieces);
    assert(whole.code == pieces.code);
    assert(whole.status == pieces.status && whole.header_count == pieces.header_count);
    assert(whole.code < 0 || shl_buf_len(&whole.body) == shl_buf_len(&pieces.body));
    if (whole.code >= 0 && shl_buf_len(&whole.body) > 0) {
        assert(memcmp(shl_buf_data(&whole.body), shl_buf_data(&pieces.body),
                      shl_buf_len(&whole.body)) == 0);
    }
    shl_buf_release(&whole.body);
    shl_buf_release(&pieces.body);
    return 0;
}
