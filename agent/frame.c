#include "agent/frame.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

/* One read. Together with a frame that is not complete yet this bounds the buffer. */
#define READ_BYTES 32768u

void agent_parser_init(struct agent_parser *parser, enum agent_frame_type sync_type)
{
    assert(sync_type == AGENT_FRAME_HELLO || sync_type == AGENT_FRAME_HELLO_ACK);
    *parser = (struct agent_parser){.sync_type = sync_type};
    shl_buf_init(&parser->buf, AGENT_FRAME_MAX + READ_BYTES);
}

void agent_parser_release(struct agent_parser *parser)
{
    shl_buf_release(&parser->buf);
    parser->pending = 0;
    parser->synced = false;
}

void agent_parser_reset(struct agent_parser *parser)
{
    shl_buf_clear(&parser->buf);
    parser->pending = 0;
    parser->synced = false;
}

int agent_parser_space(struct agent_parser *parser, uint8_t **ret_space, size_t *ret_len)
{
    int rc = shl_buf_reserve(&parser->buf, READ_BYTES, ret_space);

    if (rc == 0) {
        *ret_len = READ_BYTES;
    }
    return rc;
}

void agent_parser_filled(struct agent_parser *parser, size_t len)
{
    shl_buf_commit(&parser->buf, len);
}

static bool is_link_frame(uint8_t type)
{
    return type == AGENT_FRAME_HELLO || type == AGENT_FRAME_HELLO_ACK;
}

static bool has_channel(uint8_t type)
{
    return type == AGENT_FRAME_DATA || type == AGENT_FRAME_EOF;
}

static uint32_t payload_max(uint8_t type)
{
    if (is_link_frame(type)) {
        return AGENT_HELLO_MAX;
    }
    return type == AGENT_FRAME_REQUEST ? AGENT_REQUEST_MAX : AGENT_PAYLOAD_MAX;
}

/* Everything that can be checked before the payload is there. */
static bool header_is_valid(const uint8_t *header)
{
    uint8_t type = header[4];
    uint32_t stream = shl_get_le32(header + 8);

    return shl_get_le32(header) == AGENT_MAGIC && type >= AGENT_FRAME_HELLO &&
           type <= AGENT_FRAME_RESPONSE && header[5] <= AGENT_CHANNEL_ERR &&
           (header[5] == 0 || has_channel(type)) && shl_get_le16(header + 6) == 0 &&
           stream <= AGENT_STREAM_ID_MAX && (stream == 0) == is_link_frame(type) &&
           shl_get_le32(header + 12) <= payload_max(type);
}

static size_t frame_bytes(const uint8_t *header)
{
    return AGENT_HEADER_BYTES + shl_get_le32(header + 12) + AGENT_TRAILER_BYTES;
}

static uint32_t trailer_of(uint32_t length, uint32_t stream)
{
    return length ^ stream ^ AGENT_TRAILER;
}

static bool trailer_is_valid(const uint8_t *header)
{
    uint32_t length = shl_get_le32(header + 12);

    return shl_get_le32(header + AGENT_HEADER_BYTES + length) ==
           trailer_of(length, shl_get_le32(header + 8));
}

static void hand_out(struct agent_parser *parser, struct agent_frame *ret_frame)
{
    const uint8_t *header = shl_buf_data(&parser->buf);

    ret_frame->type = (enum agent_frame_type)header[4];
    ret_frame->channel = header[5];
    ret_frame->stream = shl_get_le32(header + 8);
    ret_frame->payload = shl_bytes_of(header + AGENT_HEADER_BYTES, shl_get_le32(header + 12));
    parser->pending = frame_bytes(header);
}

static void drop(struct agent_parser *parser, size_t len)
{
    shl_buf_consume(&parser->buf, len);
    parser->skipped_bytes += len;
}

static void lose_sync(struct agent_parser *parser)
{
    parser->synced = false;
    parser->bad_frames++;
}

/* Distance to the next place where a magic begins, or could begin at the very end;
 * @len when there is none. */
static size_t find_magic(const uint8_t *at, size_t len)
{
    static const uint8_t magic[4] = {'S', 'H', 'L', '1'};
    size_t i = 0;

    while (i < len) {
        const uint8_t *hit = memchr(at + i, magic[0], len - i);
        size_t left;

        if (!hit) {
            return len;
        }
        i = (size_t)(hit - at);
        left = len - i;
        if (memcmp(hit, magic, left < sizeof(magic) ? left : sizeof(magic)) == 0) {
            return i;
        }
        i++;
    }
    return len;
}

/* Out of sync: is there a whole frame of the awaited type? A place that looks like the
 * start of one and is not complete must not hide a complete one behind it, so the
 * search goes on beyond it; the bytes from the first such place on are kept. */
static bool search(struct agent_parser *parser)
{
    const uint8_t *base = shl_buf_data(&parser->buf);
    size_t len = shl_buf_len(&parser->buf);
    size_t keep_from = len;
    size_t at = 0;

    if (len == 0) {
        return false;
    }
    while ((at += find_magic(base + at, len - at)) < len) {
        size_t left = len - at;
        bool whole = left >= AGENT_HEADER_BYTES;

        if (!whole) {
            keep_from = SHL_MIN(keep_from, at);
        } else if (header_is_valid(base + at) && base[at + 4] == parser->sync_type) {
            if (left < frame_bytes(base + at)) {
                keep_from = SHL_MIN(keep_from, at);
            } else if (trailer_is_valid(base + at)) {
                drop(parser, at);
                parser->synced = true;
                return true;
            }
        }
        at++;
    }
    if (keep_from > 0) {
        drop(parser, keep_from);
    }
    return false;
}

bool agent_parser_next(struct agent_parser *parser, struct agent_frame *ret_frame)
{
    shl_buf_consume(&parser->buf, parser->pending);
    parser->pending = 0;
    while (parser->synced) {
        const uint8_t *header = shl_buf_data(&parser->buf);
        size_t len = shl_buf_len(&parser->buf);

        if (len < AGENT_HEADER_BYTES) {
            return false;
        }
        if (!header_is_valid(header)) {
            lose_sync(parser);
            drop(parser, 1);
        } else if (len < frame_bytes(header)) {
            return false;
        } else if (!trailer_is_valid(header)) {
            lose_sync(parser);
            drop(parser, frame_bytes(header));
        } else {
            hand_out(parser, ret_frame);
            return true;
        }
    }
    if (!search(parser)) {
        return false;
    }
    hand_out(parser, ret_frame);
    return true;
}

void agent_parser_reject(struct agent_parser *parser)
{
    assert(parser->pending > 0);
    parser->pending = 0;
    lose_sync(parser);
    drop(parser, sizeof(uint32_t));
}

int agent_frame_write(struct shl_buf *out,
                      enum agent_frame_type type,
                      uint8_t channel,
                      uint32_t stream,
                      struct shl_bytes payload)
{
    uint8_t *frame;
    int rc;

    if (payload.len > payload_max((uint8_t)type)) {
        return SHL_ELIMIT;
    }
    rc = shl_buf_reserve(out, AGENT_HEADER_BYTES + payload.len + AGENT_TRAILER_BYTES, &frame);
    if (rc < 0) {
        return rc;
    }
    shl_put_le32(frame, AGENT_MAGIC);
    frame[4] = (uint8_t)type;
    frame[5] = channel;
    shl_put_le16(frame + 6, 0);
    shl_put_le32(frame + 8, stream);
    shl_put_le32(frame + 12, (uint32_t)payload.len);
    assert(header_is_valid(frame));
    if (payload.len > 0) {
        memcpy(frame + AGENT_HEADER_BYTES, payload.base, payload.len);
    }
    shl_put_le32(frame + AGENT_HEADER_BYTES + payload.len,
                 trailer_of((uint32_t)payload.len, stream));
    shl_buf_commit(out, AGENT_HEADER_BYTES + payload.len + AGENT_TRAILER_BYTES);
    return 0;
}
