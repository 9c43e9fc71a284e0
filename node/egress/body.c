#include "node/egress/body.h"

#include "base/err.h"
#include "base/id.h"

#define CHUNK_DIGITS_MAX 15 /* 2^60: no sum of sizes overflows */

void egress_body_init(struct egress_body *body, enum egress_body_kind kind, uint64_t length)
{
    *body = (struct egress_body){.kind = kind};
    switch (kind) {
    case EGRESS_BODY_NONE:
        body->state = EGRESS_BODY_DONE;
        break;
    case EGRESS_BODY_LENGTH:
        body->left = length;
        body->state = length > 0 ? EGRESS_BODY_PAYLOAD : EGRESS_BODY_DONE;
        break;
    case EGRESS_BODY_CHUNKED:
        body->state = EGRESS_BODY_SIZE;
        break;
    case EGRESS_BODY_UNTIL_CLOSE:
        body->left = UINT64_MAX;
        body->state = EGRESS_BODY_PAYLOAD;
        break;
    }
}

static void begin_line(struct egress_body *body, enum egress_body_state state)
{
    body->state = state;
    body->line_bytes = 0;
    body->digits = 0;
    body->in_extension = false;
    body->last = 0;
    body->trailer_bytes = 0;
}

/* One byte of "1a;name=value CR LF". */
static int take_size_byte(struct egress_body *body, uint8_t c)
{
    int digit = shl_hex_digit((char)c);
    uint8_t last = body->last;

    if (++body->line_bytes > EGRESS_CHUNK_LINE_MAX) {
        return SHL_EPROTO;
    }
    body->last = c;
    if (last == '\r') {
        if (c != '\n' || body->digits == 0) {
            return SHL_EPROTO;
        }
        begin_line(body, body->left > 0 ? EGRESS_BODY_PAYLOAD : EGRESS_BODY_TRAILER);
        return 0;
    }
    if (c == '\r') {
        return 0;
    }
    if (body->in_extension) {
        return c >= 0x20 || c == '\t' ? 0 : SHL_EPROTO;
    }
    if (digit >= 0) {
        if (++body->digits > CHUNK_DIGITS_MAX) {
            return SHL_EPROTO;
        }
        body->left = body->left << 4 | (uint64_t)digit;
        return 0;
    }
    body->in_extension = true;
    return body->digits > 0 && (c == ';' || c == ' ' || c == '\t') ? 0 : SHL_EPROTO;
}

static int take_after_byte(struct egress_body *body, uint8_t c)
{
    if (body->last == 0) {
        body->last = c;
        return c == '\r' ? 0 : SHL_EPROTO;
    }
    begin_line(body, EGRESS_BODY_SIZE);
    body->left = 0;
    return c == '\n' ? 0 : SHL_EPROTO;
}

static int take_trailer_byte(struct egress_body *body, uint8_t c)
{
    uint8_t last = body->last;

    if (++body->line_bytes > EGRESS_TRAILERS_MAX) {
        return SHL_EPROTO;
    }
    body->last = c;
    if (last == '\r') {
        if (c != '\n') {
            return SHL_EPROTO;
        }
        if (body->trailer_bytes == 0) {
            body->state = EGRESS_BODY_DONE;
        }
        body->trailer_bytes = 0;
        return 0;
    }
    if (c == '\r') {
        return 0;
    }
    body->trailer_bytes++;
    return c >= 0x20 || c == '\t' ? 0 : SHL_EPROTO;
}

static int take_byte(struct egress_body *body, uint8_t c)
{
    switch (body->state) {
    case EGRESS_BODY_SIZE:
        return take_size_byte(body, c);
    case EGRESS_BODY_AFTER:
        return take_after_byte(body, c);
    case EGRESS_BODY_TRAILER:
        return take_trailer_byte(body, c);
    case EGRESS_BODY_PAYLOAD:
    case EGRESS_BODY_DONE:
        break;
    }
    return 0;
}

static void take_payload(struct egress_body *body, size_t len)
{
    if (body->kind == EGRESS_BODY_UNTIL_CLOSE) {
        return;
    }
    body->left -= len;
    if (body->left == 0) {
        if (body->kind == EGRESS_BODY_CHUNKED) {
            begin_line(body, EGRESS_BODY_AFTER);
        } else {
            body->state = EGRESS_BODY_DONE;
        }
    }
}

int egress_body_take(struct egress_body *body,
                     struct shl_bytes bytes,
                     size_t *ret_used,
                     struct shl_bytes *ret_payload)
{
    size_t at = 0;

    *ret_payload = (struct shl_bytes){NULL, 0};
    while (at < bytes.len && body->state != EGRESS_BODY_DONE) {
        if (body->state == EGRESS_BODY_PAYLOAD) {
            size_t len = (size_t)SHL_MIN((uint64_t)(bytes.len - at), body->left);

            *ret_payload = shl_bytes_of(bytes.base + at, len);
            at += len;
            take_payload(body, len);
            break;
        }
        if (take_byte(body, bytes.base[at]) < 0) {
            return SHL_EPROTO;
        }
        at++;
    }
    *ret_used = at;
    return 0;
}
