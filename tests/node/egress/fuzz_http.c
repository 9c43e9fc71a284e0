/* Both directions of an intercepted connection. In one piece or in small ones, the same bytes
 * go on to the server up to where new chunks begin, and the same verdict falls. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "node/egress/reply.h"
#include "node/egress/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
    int rc;
    uint64_t requests, replaced;
};

static struct shl_bytes look_up(void *arg, const char *token)
{
    (void)arg;
    assert(strlen(token) == EGRESS_TOKEN_BYTES);
    return token[11] == '0' ? shl_bytes_of("\r\nX: value", 10) : shl_bytes_of(NULL, 0);
}

static struct result run(const struct egress_request_rules *rules,
                         const uint8_t *data,
                         size_t size,
                         size_t piece)
{
    struct egress_exchanges exchanges = {0};
    struct egress_request request;
    struct shl_buf in, out;
    struct result result = {0};
    size_t at = 0;

    egress_request_init(&request);
    shl_buf_init(&in, EGRESS_IN_MAX);
    shl_buf_init(&out, EGRESS_OUT_MAX);
    while (result.rc == 0 && at < size) {
        size_t len = SHL_MIN(SHL_MIN(piece, size - at), EGRESS_IN_MAX - shl_buf_len(&in));

        if (len == 0) {
            break; /* nothing takes it: a real client would wait */
        }
        assert(shl_buf_append(&in, data + at, len) == 0);
        at += len;
        result.rc = egress_request_step(&request, rules, &exchanges, &in, &out);
        shl_buf_clear(&out);
        while (exchanges.count > 0 && !egress_exchanges_wait_for_switch(&exchanges)) {
            egress_exchanges_pop(&exchanges);
        }
    }
    assert(result.rc != SHL_EPROTO || request.refused_status >= 400);
    result.requests = request.requests;
    result.replaced = request.replaced;
    egress_request_release(&request);
    shl_buf_release(&in);
    shl_buf_release(&out);
    return result;
}

static void run_reply(const uint8_t *data, size_t size)
{
    struct egress_exchanges exchanges = {0};
    struct egress_reply reply = {0};
    struct shl_buf in, out;
    size_t sent = SHL_MIN(size, EGRESS_IN_MAX);

    egress_exchanges_push(&exchanges, EGRESS_EXCHANGE_HEAD);
    egress_exchanges_push(&exchanges, 0);
    egress_exchanges_push(&exchanges, EGRESS_EXCHANGE_UPGRADE);
    shl_buf_init(&in, EGRESS_IN_MAX);
    shl_buf_init(&out, EGRESS_OUT_MAX);
    assert(sent == 0 || shl_buf_append(&in, data, sent) == 0);
    if (egress_reply_step(&reply, &exchanges, &in, &out) == 0) {
        /* nothing is lost and nothing altered */
        assert(shl_buf_len(&in) + shl_buf_len(&out) == sent);
        assert(shl_buf_len(&out) == 0 || memcmp(shl_buf_data(&out), data, shl_buf_len(&out)) == 0);
    }
    shl_buf_release(&in);
    shl_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct egress_request_rules rules = {.host = "a", .port = 443, .lookup = look_up};
    struct result whole, part;

    if (size == 0) {
        return 0;
    }
    rules.lookup = data[0] & 1 ? look_up : NULL;
    rules.is_proxy = data[0] & 2;
    whole = run(&rules, data + 1, size - 1, size);
    part = run(&rules, data + 1, size - 1, 1 + data[0] / 8);
    assert(whole.rc == part.rc && whole.requests == part.requests);
    assert(whole.rc < 0 || whole.replaced == part.replaced);
    run_reply(data + 1, size - 1);
    return 0;
}
