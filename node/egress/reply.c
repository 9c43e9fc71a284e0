#include "node/egress/reply.h"

#include "base/err.h"
#include "node/egress/head.h"
#include "node/egress/request.h"

static int pass(struct shl_buf *in, struct shl_buf *out, size_t len)
{
    int rc = len > 0 ? shl_buf_append(out, shl_buf_data(in), len) : 0;

    if (rc == 0) {
        shl_buf_consume(in, len);
    }
    return rc;
}

static void begin_body(struct egress_reply *reply, unsigned flags, const struct egress_head *head)
{
    enum egress_body_kind kind = EGRESS_BODY_UNTIL_CLOSE;

    if ((flags & EGRESS_EXCHANGE_HEAD) || head->status == 204 || head->status == 304) {
        kind = EGRESS_BODY_NONE;
    } else if (head->framing == EGRESS_FRAMING_CHUNKED) {
        kind = EGRESS_BODY_CHUNKED;
    } else if (head->framing == EGRESS_FRAMING_LENGTH) {
        kind = EGRESS_BODY_LENGTH;
    }
    egress_body_init(&reply->body, kind, head->length);
    reply->in_body = true;
}

/* 1 when a head went on, 0 when more bytes are needed. */
static int take_head(struct egress_reply *reply,
                     struct egress_exchanges *exchanges,
                     struct shl_buf *in,
                     struct shl_buf *out)
{
    unsigned flags = egress_exchanges_front(exchanges);
    struct egress_head head;
    int rc;

    switch (egress_head_response(shl_buf_bytes(in), &head)) {
    case EGRESS_HEAD_MORE:
        return 0;
    case EGRESS_HEAD_OK:
        break;
    case EGRESS_HEAD_BAD:
    case EGRESS_HEAD_TOO_LARGE:
        return SHL_EPROTO;
    }
    rc = pass(in, out, head.bytes);
    if (rc < 0) {
        return rc;
    }
    reply->began = true;
    if (head.status == 101) {
        if (!(flags & EGRESS_EXCHANGE_UPGRADE)) {
            return SHL_EPROTO;
        }
        exchanges->switched = true;
    } else if (head.status >= 200) {
        begin_body(reply, flags, &head);
    }
    return 1;
}

int egress_reply_step(struct egress_reply *reply,
                      struct egress_exchanges *exchanges,
                      struct shl_buf *in,
                      struct shl_buf *out)
{
    while (shl_buf_len(in) > 0 && shl_buf_len(out) < EGRESS_OUT_ENOUGH) {
        struct shl_bytes payload;
        size_t used = 0;
        int rc;

        if (exchanges->switched) {
            rc = pass(in, out, SHL_MIN(shl_buf_len(in), EGRESS_OUT_ENOUGH));
        } else if (reply->in_body) {
            rc = egress_body_take(&reply->body, shl_buf_bytes(in), &used, &payload);
            rc = rc < 0 ? rc : pass(in, out, used);
        } else {
            rc = take_head(reply, exchanges, in, out);
            if (rc == 0) {
                return 0;
            }
        }
        if (rc < 0) {
            return rc;
        }
        if (reply->in_body && egress_body_is_done(&reply->body)) {
            reply->in_body = false;
            egress_exchanges_pop(exchanges);
        }
    }
    return 0;
}
