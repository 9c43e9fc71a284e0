/* Heads of requests and frames of replies between nodes. The first byte chooses. What was
 * accepted is written again and must be accepted again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/http/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_header(const struct node_reply_header *header)
{
    assert(header->name[0] != '\0' && !strpbrk(header->name, " :\r\n"));
    assert(!strpbrk(header->value, "\r\n"));
}

static void fuzz_request(struct shl_bytes bytes)
{
    struct node_wire_request request;
    struct node_wire_request again;
    struct shl_err err;
    struct shl_buf out;

    if (node_wire_read_request(bytes, &request, &err) < 0) {
        return;
    }
    assert(request.hops >= 1 && request.hops <= NODE_WIRE_HOPS_MAX);
    assert(request.target[0] == '/' && strlen(request.target) <= NODE_URL_MAX);
    assert(request.header_count <= NODE_WIRE_HEADERS_MAX);
    for (size_t i = 0; i < request.header_count; i++) {
        check_header(&request.headers[i]);
    }
    shl_buf_init(&out, 2 * bytes.len + 4096);
    assert(node_wire_write_request(&request, &out) == 0);
    assert(node_wire_read_request(shl_buf_bytes(&out), &again, &err) == 0);
    assert(strcmp(request.target, again.target) == 0);
    assert(request.header_count == again.header_count);
    node_wire_request_release(&again);
    node_wire_request_release(&request);
    shl_buf_release(&out);
}

static void fuzz_frame(struct shl_bytes bytes)
{
    struct node_wire_frame frame;
    struct node_wire_frame again;
    struct shl_err err;
    struct shl_buf out;
    int len = node_wire_read_frame(bytes, &frame, &err);

    if (len <= 0) {
        return;
    }
    assert((size_t)len <= bytes.len);
    if (frame.kind == NODE_WIRE_REPLY) {
        assert(frame.status >= 200 && frame.status < 600);
        assert(frame.header_count <= NODE_EXCHANGE_HEADERS_MAX);
        for (size_t i = 0; i < frame.header_count; i++) {
            check_header(&frame.headers[i]);
        }
    }
    shl_buf_init(&out, 2 * bytes.len + 4096);
    assert(node_wire_write_frame(&frame, &out) == 0);
    assert(node_wire_read_frame(shl_buf_bytes(&out), &again, &err) > 0);
    assert(again.kind == frame.kind && again.status == frame.status);
    node_wire_frame_release(&again);
    node_wire_frame_release(&frame);
    shl_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && size < 256u * 1024) {
        struct shl_bytes bytes = shl_bytes_of(data + 1, size - 1);

        if (data[0] % 2) {
            fuzz_request(bytes);
        } else {
            fuzz_frame(bytes);
        }
    }
    return 0;
}
