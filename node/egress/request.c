#include "node/egress/request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "node/egress/rewrite.h"

#define SLICE_BYTES 16384 /* of a body, taken at once: one chunk */

void egress_request_init(struct egress_request *request)
{
    memset(request, 0, sizeof(*request));
    egress_subst_init(&request->subst);
    shl_buf_init(&request->head, EGRESS_HEAD_OUT_MAX);
    shl_buf_init(&request->scratch, EGRESS_COLLECT_OUT_MAX);
}

/* Values of secrets were in these. */
void egress_request_release(struct egress_request *request)
{
    shl_buf_wipe(&request->head);
    shl_buf_wipe(&request->scratch);
}

static int refuse(struct egress_request *request, int status, const char *reason)
{
    request->refused_status = status;
    request->refused_reason = reason;
    return SHL_EPROTO;
}

int egress_request_split(struct shl_bytes target,
                         char host[EGRESS_HOST_SIZE],
                         uint16_t *ret_port,
                         struct shl_bytes *ret_path)
{
    static const char scheme[] = "http://";
    const size_t skip = sizeof(scheme) - 1;
    size_t len;

    if (target.len <= skip || strncasecmp((const char *)target.base, scheme, skip) != 0) {
        return -EINVAL;
    }
    for (len = skip; len < target.len && !strchr("/?#", target.base[len]); len++) {
    }
    if (egress_host_parse(host, ret_port, (const char *)target.base + skip, len - skip) < 0) {
        return -EINVAL;
    }
    *ret_port = *ret_port ? *ret_port : 80;
    *ret_path = shl_bytes_of(target.base + len, target.len - len);
    return 0;
}

/* Bytes in which a token would be an accident. */
static bool is_binary(const struct egress_head *head)
{
    static const char *const types[] = {
        "application/octet-stream",
        "binary/octet-stream",
        "application/zip",
        "application/gzip",
        "application/x-tar",
        "application/pdf",
        "image/",
        "video/",
        "audio/",
        "font/",
    };
    size_t i;

    for (i = 0; head->content_type.base && i < SHL_ARRAY_SIZE(types); i++) {
        size_t len = strlen(types[i]);

        if (head->content_type.len >= len &&
            strncasecmp((const char *)head->content_type.base, types[i], len) == 0) {
            return true;
        }
    }
    return false;
}

static bool host_is_right(const struct egress_head *head, const struct egress_request_rules *rules)
{
    char host[EGRESS_HOST_SIZE];
    struct shl_bytes path;
    uint16_t port;

    if (rules->is_proxy) {
        if (egress_request_split(head->target, host, &port, &path) < 0 ||
            strcmp(host, rules->host) != 0 || port != rules->port) {
            return false;
        }
    } else if (head->target.base[0] != '/' &&
               !(head->target.len == 1 && head->target.base[0] == '*')) {
        return false; /* a target that names a host of its own */
    }
    if (!head->host.base) {
        return head->minor == 0;
    }
    return egress_host_parse(host, &port, (const char *)head->host.base, head->host.len) == 0 &&
           strcmp(host, rules->host) == 0 && (port == 0 || port == rules->port);
}

static void choose_body(struct egress_request *request,
                        const struct egress_request_rules *rules,
                        const struct egress_head *head,
                        enum egress_rewrite *ret_how)
{
    bool as_is = !rules->lookup || is_binary(head) || head->is_encoded;

    egress_subst_init(&request->subst);
    *ret_how = EGRESS_REWRITE_KEEP;
    switch (head->framing) {
    case EGRESS_FRAMING_NONE:
        egress_body_init(&request->body, EGRESS_BODY_NONE, 0);
        request->state = EGRESS_REQUEST_HEAD;
        return;
    case EGRESS_FRAMING_CHUNKED:
        egress_body_init(&request->body, EGRESS_BODY_CHUNKED, 0);
        request->state = as_is ? EGRESS_REQUEST_PASS : EGRESS_REQUEST_CHUNKS;
        return;
    case EGRESS_FRAMING_LENGTH:
        break;
    }
    egress_body_init(&request->body, EGRESS_BODY_LENGTH, head->length);
    if (as_is || head->length == 0 || (head->minor == 0 && head->length > EGRESS_COLLECT_MAX)) {
        request->state = EGRESS_REQUEST_PASS;
    } else if (head->length > EGRESS_COLLECT_MAX) {
        *ret_how = EGRESS_REWRITE_CHUNKS;
        request->state = EGRESS_REQUEST_CHUNKS;
    } else {
        *ret_how = EGRESS_REWRITE_COLLECT;
        request->state = EGRESS_REQUEST_COLLECT;
    }
}

static int begin(struct egress_request *request,
                 const struct egress_request_rules *rules,
                 struct egress_exchanges *exchanges,
                 const struct egress_head *head,
                 struct shl_buf *out)
{
    enum egress_rewrite how;
    struct shl_buf *to;
    size_t before;
    bool collect;
    int rc;

    if (egress_bytes_equal_nocase(head->method, "CONNECT")) {
        return refuse(request, 405, "CONNECT is not possible inside this connection.");
    }
    if (!host_is_right(head, rules)) {
        return refuse(request, 421, "This connection goes to another host than the request names.");
    }
    choose_body(request, rules, head, &how);
    collect = how == EGRESS_REWRITE_COLLECT;
    request->continue_asked = collect && head->expects_continue && exchanges->count == 0;
    to = collect ? &request->head : out;
    before = shl_buf_len(to);
    rc = egress_rewrite_head(head, rules, how, to, &request->replaced);
    if (rc == SHL_ELIMIT || (rc == 0 && shl_buf_len(to) - before > EGRESS_HEAD_OUT_MAX)) {
        return refuse(request, 431, "The head is too large with its secrets in place.");
    }
    if (rc < 0) {
        return rc;
    }
    request->requests++;
    egress_exchanges_push(
        exchanges,
        (egress_bytes_equal_nocase(head->method, "HEAD") ? EGRESS_EXCHANGE_HEAD : 0u) |
            (head->wants_upgrade && head->framing == EGRESS_FRAMING_NONE ? EGRESS_EXCHANGE_UPGRADE
                                                                         : 0u));
    if (rules->is_proxy && request->state == EGRESS_REQUEST_HEAD && !head->wants_upgrade) {
        request->state = EGRESS_REQUEST_ENDED;
    }
    return 0;
}

/* 1 when a head was taken, 0 when more bytes are needed. */
static int take_head(struct egress_request *request,
                     const struct egress_request_rules *rules,
                     struct egress_exchanges *exchanges,
                     struct shl_buf *in,
                     struct shl_buf *out)
{
    struct egress_head head;
    int rc;

    if (shl_buf_len(in) == 0 || egress_exchanges_full(exchanges) ||
        egress_exchanges_wait_for_switch(exchanges)) {
        return 0;
    }
    switch (egress_head_request(shl_buf_bytes(in), &head)) {
    case EGRESS_HEAD_MORE:
        return 0;
    case EGRESS_HEAD_OK:
        break;
    case EGRESS_HEAD_BAD:
        return refuse(request, 400, "The request is not valid HTTP/1.1.");
    case EGRESS_HEAD_TOO_LARGE:
        return refuse(request, 431, "The head of the request is too large.");
    }
    rc = begin(request, rules, exchanges, &head, out);
    if (rc < 0) {
        return rc;
    }
    shl_buf_consume(in, head.bytes);
    return 1;
}

static int put_chunk(struct egress_request *request, struct shl_buf *out)
{
    size_t len = shl_buf_len(&request->scratch);
    int rc;

    if (len == 0) {
        return 0;
    }
    rc = shl_buf_printf(out, "%zx\r\n", len);
    rc = rc < 0 ? rc : shl_buf_append(out, shl_buf_data(&request->scratch), len);
    shl_buf_clear(&request->scratch);
    return rc < 0 ? rc : shl_buf_append_str(out, "\r\n");
}

static int end_collected(struct egress_request *request, struct shl_buf *out)
{
    struct shl_bytes body = shl_buf_bytes(&request->scratch);
    int rc = shl_buf_append(out, shl_buf_data(&request->head), shl_buf_len(&request->head));

    rc = rc < 0 ? rc : shl_buf_printf(out, "Content-Length: %zu\r\n\r\n", body.len);
    if (rc == 0 && body.len > 0) {
        rc = shl_buf_append(out, body.base, body.len);
    }
    shl_buf_wipe(&request->head);
    shl_buf_wipe(&request->scratch);
    shl_buf_init(&request->head, EGRESS_HEAD_OUT_MAX);
    shl_buf_init(&request->scratch, EGRESS_COLLECT_OUT_MAX);
    return rc;
}

static int end_body(struct egress_request *request,
                    const struct egress_request_rules *rules,
                    struct shl_buf *out)
{
    int rc = 0;

    if (request->state != EGRESS_REQUEST_PASS) {
        rc = egress_subst_end(&request->subst, &request->scratch);
        request->replaced += request->subst.replaced;
    }
    if (rc == 0 && request->state == EGRESS_REQUEST_CHUNKS) {
        rc = put_chunk(request, out);
        rc = rc < 0 ? rc : shl_buf_append_str(out, "0\r\n\r\n");
    }
    if (rc == 0 && request->state == EGRESS_REQUEST_COLLECT) {
        rc = end_collected(request, out);
    }
    request->continue_asked = false;
    request->state = rules->is_proxy ? EGRESS_REQUEST_ENDED : EGRESS_REQUEST_HEAD;
    return rc;
}

/* Payload with its tokens replaced goes to the scratch buffer, whose limit holds. */
static int replace_in(struct egress_request *request,
                      const struct egress_request_rules *rules,
                      struct shl_bytes payload)
{
    size_t used;

    return egress_subst_feed(&request->subst, payload, SIZE_MAX, &request->scratch, rules->lookup,
                             rules->arg, &used);
}

static int take_body(struct egress_request *request,
                     const struct egress_request_rules *rules,
                     struct shl_buf *in,
                     struct shl_buf *out)
{
    size_t slice = request->state == EGRESS_REQUEST_PASS ? EGRESS_OUT_ENOUGH : SLICE_BYTES;
    struct shl_bytes bytes = shl_buf_bytes(in), payload;
    size_t used = 0;
    int rc;

    bytes.len = SHL_MIN(bytes.len, slice);
    if (egress_body_take(&request->body, bytes, &used, &payload) < 0) {
        return refuse(request, 400, "The chunks of the request are not valid.");
    }
    if (request->state == EGRESS_REQUEST_PASS) {
        rc = shl_buf_append(out, bytes.base, used);
    } else {
        rc = payload.len > 0 ? replace_in(request, rules, payload) : 0;
        if (rc == 0 && request->state == EGRESS_REQUEST_CHUNKS) {
            rc = put_chunk(request, out);
        }
    }
    if (rc == SHL_ELIMIT) {
        return refuse(request, 413, "The body is too large with its secrets in place.");
    }
    shl_buf_consume(in, used);
    return rc;
}

static int pass_raw(struct shl_buf *in, struct shl_buf *out)
{
    size_t len = SHL_MIN(shl_buf_len(in), EGRESS_OUT_ENOUGH);
    int rc = shl_buf_append(out, shl_buf_data(in), len);

    if (rc == 0) {
        shl_buf_consume(in, len);
    }
    return rc;
}

int egress_request_step(struct egress_request *request,
                        const struct egress_request_rules *rules,
                        struct egress_exchanges *exchanges,
                        struct shl_buf *in,
                        struct shl_buf *out)
{
    int rc;

    while (shl_buf_len(out) < EGRESS_OUT_ENOUGH) {
        if (exchanges->switched) {
            return shl_buf_len(in) > 0 ? pass_raw(in, out) : 0;
        }
        if (request->state == EGRESS_REQUEST_ENDED) {
            return 0;
        }
        if (request->state == EGRESS_REQUEST_HEAD) {
            rc = take_head(request, rules, exchanges, in, out);
            if (rc <= 0) {
                return rc;
            }
            continue;
        }
        if (egress_body_is_done(&request->body)) {
            rc = end_body(request, rules, out);
        } else if (shl_buf_len(in) > 0) {
            rc = take_body(request, rules, in, out);
        } else {
            return 0;
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}
