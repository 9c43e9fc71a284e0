/* Requests to the metadata service, whole and in pieces.
 *
 * Input: the first byte says where a request is cut, the rest is it.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "node/egress/metadata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly that size: reading beyond it is seen. */
static bool parse(const uint8_t *data, size_t size, struct egress_metadata_request *request)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    bool done;

    if (size > 0) {
        memcpy(copy, data, size);
    }
    done = egress_metadata_parse(shl_bytes_of(copy, size), request);
    free(copy);
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct node_egress_facts facts = {.region = "\"\\\n", .template_name = "base"};
    const struct egress_metadata_caller caller = {.sandbox = "sb-1", .facts = &facts};
    const struct node_egress_figures figures = {.cpu_permille = UINT64_MAX};
    struct egress_metadata_request request, early;
    struct shl_buf out;
    size_t cut;

    if (size == 0) {
        return 0;
    }
    cut = (size_t)data[0] * (size - 1) / 255;
    if (parse(data + 1, size - 1, &request)) {
        shl_buf_init(&out, 2 * EGRESS_METADATA_REPLY_MAX);
        assert((request.status == 200) == (request.what != EGRESS_METADATA_BAD));
        assert(egress_metadata_reply(&request, &caller, &figures, &out) == 0);
        shl_buf_release(&out);
        /* what is decided early is decided the same */
        if (parse(data + 1, cut, &early) && request.what != EGRESS_METADATA_BAD) {
            assert(early.what == request.what && early.is_head == request.is_head);
        }
    } else {
        assert(!parse(data + 1, cut, &early));
    }
    return 0;
}
