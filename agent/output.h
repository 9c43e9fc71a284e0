/* What a session printed, in the order it came, within a memory budget.
 *
 * Chunks carry their channel and a sequence number (the offset in the session's whole
 * output), so that a reader can continue where it was. Each channel keeps its first
 * keep_bytes; what comes later, or finds no budget, is counted as lost. A ring keeps the last
 * ring_bytes of both channels instead: agent_output_trim makes room for what is to come.
 */
#ifndef SHL_AGENT_OUTPUT_H
#define SHL_AGENT_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/protocol.h"
#include "base/buf.h"
#include "base/list.h"

/* Shared by all sessions: bytes of memory, bookkeeping included. */
struct agent_budget {
    size_t max_bytes;
    size_t used_bytes;
};

struct agent_chunk {
    struct shl_list node;
    uint64_t seq;
    uint32_t len;
    uint32_t cap;
    uint8_t channel; /* AGENT_CHANNEL_OUT or _ERR */
    uint8_t data[];
};

struct agent_output {
    struct agent_budget *budget; /* borrowed */
    struct shl_list chunks;
    uint64_t next_seq;
    uint64_t ring_bytes;    /* 0: no ring */
    uint64_t keep_max[3];   /* by channel, payload bytes */
    uint64_t kept_bytes[3]; /* by channel */
    uint64_t lost_bytes[3];
};

void agent_output_init(struct agent_output *output,
                       struct agent_budget *budget,
                       uint64_t keep_bytes);

/* Make it a ring of @ring_bytes. Empty as yet. */
void agent_output_set_ring(struct agent_output *output, uint64_t ring_bytes);
/* Of a ring: drop the oldest chunks until @len bytes fit, but none that reaches beyond
 * @floor_seq, where a reader is. False when they do not fit then. */
bool agent_output_trim(struct agent_output *output, size_t len, uint64_t floor_seq);
/* Where a reader begins: the sequence number of the oldest byte there is. */
uint64_t agent_output_first_seq(const struct agent_output *output);

/* Forget everything; the bytes count as lost. */
void agent_output_evict(struct agent_output *output);
/* Give the memory back. */
void agent_output_release(struct agent_output *output);

/* Keep or count @data. Never fails. */
void agent_output_append(struct agent_output *output, uint8_t channel, struct shl_bytes data);

/* Like append, but a full channel makes room: a word of the agent itself. */
void agent_output_note(struct agent_output *output, uint8_t channel, const char *text);

/* Budget that appending @len bytes may need. */
size_t agent_output_cost(size_t len);

static inline uint64_t agent_output_lost(const struct agent_output *output)
{
    return output->lost_bytes[AGENT_CHANNEL_OUT] + output->lost_bytes[AGENT_CHANNEL_ERR];
}

#endif /* SHL_AGENT_OUTPUT_H */
