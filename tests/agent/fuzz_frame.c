/* Any bytes, cut into any pieces, through the frame parser: no crash, bounded memory,
 * every frame handed out has a valid header, and after the bytes a node that connects
 * properly is always heard. The first byte chooses the pieces. */
#include <assert.h>
#include <string.h>

#include "agent/frame.h"

#define STREAM_MAX_BYTES (1u << 22)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool feed(struct agent_parser *parser, const uint8_t *data, size_t size, size_t step)
{
    bool last_is_hello = false;
    size_t at = 0;

    while (at < size) {
        struct agent_frame frame;
        uint8_t *space;
        size_t room, len;

        if (agent_parser_space(parser, &space, &room) < 0) {
            assert(!"the parser refused to read");
        }
        len = SHL_MIN(SHL_MIN(step, room), size - at);
        memcpy(space, data + at, len);
        agent_parser_filled(parser, len);
        at += len;
        while (agent_parser_next(parser, &frame)) {
            assert(frame.type >= AGENT_FRAME_HELLO && frame.type <= AGENT_FRAME_RESPONSE);
            assert(frame.payload.len <= AGENT_PAYLOAD_MAX);
            last_is_hello = frame.type == AGENT_FRAME_HELLO && frame.payload.len == 3 &&
                            memcmp(frame.payload.base, "end", 3) == 0;
            if (frame.payload.len == 1 && frame.type == AGENT_FRAME_HELLO) {
                agent_parser_reject(parser);
            }
        }
    }
    return last_is_hello;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_parser parser;
    struct shl_buf tail;
    size_t step;

    if (size == 0) {
        return 0;
    }
    step = data[0] ? data[0] : 32768;
    agent_parser_init(&parser, AGENT_FRAME_HELLO);
    (void)feed(&parser, data + 1, size - 1, step);
    shl_buf_init(&tail, STREAM_MAX_BYTES);
    {
        static const uint8_t zeros[AGENT_SYNC_BYTES];
        int rc = shl_buf_append(&tail, zeros, sizeof(zeros));

        rc |= agent_frame_write(&tail, AGENT_FRAME_HELLO, 0, 0, shl_bytes_of("end", 3));
        assert(rc == 0);
    }
    if (!feed(&parser, shl_buf_data(&tail), shl_buf_len(&tail), 32768)) {
        assert(!"a proper connect was not heard");
    }
    shl_buf_release(&tail);
    agent_parser_release(&parser);
    return 0;
}
