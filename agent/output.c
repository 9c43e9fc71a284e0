#include "agent/output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Room for a few lines at first; a program that prints much gets large chunks. */
#define CHUNK_FIRST_BYTES 256u
#define CHUNK_MAX_BYTES   65536u

void agent_output_init(struct agent_output *output,
                       struct agent_budget *budget,
                       uint64_t keep_bytes)
{
    *output = (struct agent_output){.budget = budget};
    output->keep_max[AGENT_CHANNEL_OUT] = keep_bytes;
    output->keep_max[AGENT_CHANNEL_ERR] = keep_bytes;
    shl_list_init(&output->chunks);
}

static size_t chunk_cost(size_t cap)
{
    return sizeof(struct agent_chunk) + cap;
}

size_t agent_output_cost(size_t len)
{
    return chunk_cost(SHL_MAX(len, (size_t)CHUNK_FIRST_BYTES));
}

void agent_output_release(struct agent_output *output)
{
    struct shl_list *first;

    while ((first = shl_list_first(&output->chunks)) != NULL) {
        struct agent_chunk *chunk = shl_container_of(first, struct agent_chunk, node);

        shl_list_remove(first);
        output->budget->used_bytes -= chunk_cost(chunk->cap);
        free(chunk);
    }
}

void agent_output_set_ring(struct agent_output *output, uint64_t ring_bytes)
{
    output->ring_bytes = ring_bytes;
    output->keep_max[AGENT_CHANNEL_OUT] = UINT64_MAX / 2;
    output->keep_max[AGENT_CHANNEL_ERR] = UINT64_MAX / 2;
}

static size_t budget_room(const struct agent_budget *budget)
{
    return budget->max_bytes - SHL_MIN(budget->used_bytes, budget->max_bytes);
}

static bool fits(const struct agent_output *output, size_t len)
{
    uint64_t kept = output->kept_bytes[AGENT_CHANNEL_OUT] + output->kept_bytes[AGENT_CHANNEL_ERR];

    return kept + len <= output->ring_bytes &&
           budget_room(output->budget) >= agent_output_cost(len);
}

bool agent_output_trim(struct agent_output *output, size_t len, uint64_t floor_seq)
{
    while (!fits(output, len)) {
        struct shl_list *first = shl_list_first(&output->chunks);
        struct agent_chunk *chunk;

        if (!first) {
            return true; /* one chunk is everybody's, whatever the budget */
        }
        chunk = shl_container_of(first, struct agent_chunk, node);
        if (chunk->seq + chunk->len > floor_seq) {
            return false;
        }
        output->lost_bytes[chunk->channel] += chunk->len;
        output->kept_bytes[chunk->channel] -= chunk->len;
        shl_list_remove(first);
        output->budget->used_bytes -= chunk_cost(chunk->cap);
        free(chunk);
    }
    return true;
}

uint64_t agent_output_first_seq(const struct agent_output *output)
{
    const struct shl_list *first = output->chunks.next;

    return first == &output->chunks ? output->next_seq
                                    : shl_container_of(first, struct agent_chunk, node)->seq;
}

void agent_output_evict(struct agent_output *output)
{
    uint8_t channel;

    agent_output_release(output);
    for (channel = AGENT_CHANNEL_OUT; channel <= AGENT_CHANNEL_ERR; channel++) {
        output->lost_bytes[channel] += output->kept_bytes[channel];
        output->kept_bytes[channel] = 0;
        output->keep_max[channel] = 0;
    }
}

/* Bytes the next chunk gets: twice the last one of a talkative program. */
static size_t next_cap(const struct agent_output *output, size_t len)
{
    size_t cap = CHUNK_FIRST_BYTES;

    if (output->chunks.prev != &output->chunks) {
        const struct agent_chunk *last =
            shl_container_of(output->chunks.prev, struct agent_chunk, node);

        cap = last->len == last->cap ? 2 * (size_t)last->cap : CHUNK_FIRST_BYTES;
    }
    return SHL_MIN(SHL_MAX(cap, len), (size_t)CHUNK_MAX_BYTES);
}

static struct agent_chunk *add_chunk(struct agent_output *output, uint8_t channel, size_t len)
{
    struct agent_budget *budget = output->budget;
    size_t room = budget_room(budget);
    size_t cap = next_cap(output, len);
    struct agent_chunk *chunk;

    if (chunk_cost(cap) > room) {
        cap = SHL_MIN(len, (size_t)CHUNK_MAX_BYTES);
    }
    if (chunk_cost(cap) > room && (output->ring_bytes == 0 || !shl_list_empty(&output->chunks))) {
        return NULL;
    }
    chunk = malloc(chunk_cost(cap));
    if (!chunk) {
        return NULL;
    }
    *chunk = (struct agent_chunk){.cap = (uint32_t)cap, .channel = channel};
    chunk->seq = output->next_seq;
    shl_list_push_back(&output->chunks, &chunk->node);
    budget->used_bytes += chunk_cost(cap);
    return chunk;
}

/* The last chunk when it takes more of @channel, else a new one, else NULL. */
static struct agent_chunk *writable_chunk(struct agent_output *output, uint8_t channel, size_t len)
{
    if (output->chunks.prev != &output->chunks) {
        struct agent_chunk *last = shl_container_of(output->chunks.prev, struct agent_chunk, node);

        if (last->channel == channel && last->len < last->cap) {
            return last;
        }
    }
    return add_chunk(output, channel, len);
}

void agent_output_append(struct agent_output *output, uint8_t channel, struct shl_bytes data)
{
    uint64_t room = output->keep_max[channel] - output->kept_bytes[channel];
    size_t len = (size_t)SHL_MIN(room, (uint64_t)data.len);

    assert(channel == AGENT_CHANNEL_OUT || channel == AGENT_CHANNEL_ERR);
    output->lost_bytes[channel] += data.len - len;
    while (len > 0) {
        struct agent_chunk *chunk = writable_chunk(output, channel, len);
        uint32_t part;

        if (!chunk) {
            if (output->ring_bytes == 0) {
                output->keep_max[channel] = output->kept_bytes[channel]; /* no holes */
            }
            output->lost_bytes[channel] += len;
            return;
        }
        part = (uint32_t)SHL_MIN(len, (size_t)(chunk->cap - chunk->len));
        memcpy(chunk->data + chunk->len, data.base, part);
        chunk->len += part;
        output->kept_bytes[channel] += part;
        output->next_seq += part;
        data.base += part;
        len -= part;
    }
}

void agent_output_note(struct agent_output *output, uint8_t channel, const char *text)
{
    output->keep_max[channel] += strlen(text);
    agent_output_append(output, channel, shl_bytes_of(text, strlen(text)));
}
