/* Frames of agent/protocol.h: encoder and incremental parser.
 *
 * Pure: bytes in, frames out; used by the agent and by the node, and fuzzed.
 * The parser owns its buffer, hands out frames that borrow from it until the next
 * call, and never fails: after a bad frame it is out of sync and skips bytes until
 * a valid frame of the type named at init (HELLO or HELLO_ACK) appears. A frame whose
 * header was good and whose trailer is not is skipped whole: nothing inside a cut
 * frame is ever taken for a frame.
 */
#ifndef SHL_AGENT_FRAME_H
#define SHL_AGENT_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/protocol.h"
#include "base/buf.h"

struct agent_frame {
    enum agent_frame_type type;
    uint8_t channel;
    uint32_t stream;
    struct shl_bytes payload;
};

struct agent_parser {
    struct shl_buf buf;              /* at most one partial frame and one read */
    enum agent_frame_type sync_type; /* what ends the search */
    bool synced;                     /* false: searching for sync_type */
    uint64_t skipped_bytes;          /* dropped while out of sync, for diagnostics */
    uint64_t bad_frames;             /* times sync was lost */
    size_t pending;                  /* bytes of the frame handed out last */
};

/* Starts out of sync: the first frame delivered is of @sync_type. */
void agent_parser_init(struct agent_parser *parser, enum agent_frame_type sync_type);
void agent_parser_release(struct agent_parser *parser);

/* Drop everything and search again (the link was replaced). */
void agent_parser_reset(struct agent_parser *parser);

/* Room to read into: at least 1 byte, at most what the parser may hold. Call
 * agent_parser_next until it returns false before asking again. 0 or -ENOMEM. */
SHL_MUST_CHECK int agent_parser_space(struct agent_parser *parser,
                                      uint8_t **ret_space,
                                      size_t *ret_len);
void agent_parser_filled(struct agent_parser *parser, size_t len);

/* True and *ret_frame when a whole frame is there. The payload is borrowed until
 * the next call on this parser. */
bool agent_parser_next(struct agent_parser *parser, struct agent_frame *ret_frame);

/* The HELLO_ACK just handed out by agent_parser_next was not ours (another token):
 * search again, starting behind its magic, because the real one may begin inside
 * what looked like a frame. */
void agent_parser_reject(struct agent_parser *parser);

/* Append one frame to @out. 0, SHL_ELIMIT (payload or @out's limit), -ENOMEM. */
SHL_MUST_CHECK int agent_frame_write(struct shl_buf *out,
                                     enum agent_frame_type type,
                                     uint8_t channel,
                                     uint32_t stream,
                                     struct shl_bytes payload);

#endif /* SHL_AGENT_FRAME_H */
