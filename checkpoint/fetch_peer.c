/* Peers: how long they take, and which of them failed lately. */
#include <string.h>

#include "checkpoint/fetch_core.h"

#define WINDOW_FIRST 2u

struct fetch_peer *fetch_peer_find(struct ckpt_fetch *f, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_PEERS_MAX; i++) {
        if (f->peers[i].used && shl_node_id_equal(&f->peers[i].id, id)) {
            return &f->peers[i];
        }
    }
    return NULL;
}

/* A free entry, or the one that nobody needs and that was asked least lately. */
static struct fetch_peer *room_for_peer(struct ckpt_fetch *f)
{
    struct fetch_peer *oldest = NULL;
    uint32_t i;

    for (i = 0; i < CKPT_FETCH_PEERS_MAX; i++) {
        struct fetch_peer *peer = &f->peers[i];

        if (!peer->used) {
            return peer;
        }
        if (peer->holdings == 0 && peer->requests == 0 &&
            (!oldest || peer->asked_seq < oldest->asked_seq)) {
            oldest = peer;
        }
    }
    return oldest;
}

struct fetch_peer *fetch_peer_get(struct ckpt_fetch *f, const struct shl_node_id *id)
{
    struct fetch_peer *peer = fetch_peer_find(f, id);

    if (!peer) {
        peer = room_for_peer(f);
        if (peer) {
            *peer = (struct fetch_peer){.id = *id, .used = true, .window = WINDOW_FIRST};
        }
    }
    return peer;
}

bool fetch_peer_is_demoted(const struct ckpt_fetch *f, const struct fetch_peer *peer)
{
    return f->now_ms < peer->demoted_until_ms;
}

/* The largest of the latest times stands for their 99th percentile. */
static uint64_t slowest_ms(const struct ckpt_fetch *f, const struct fetch_peer *peer)
{
    uint32_t i, most = 0;

    if (peer->sample_count == 0) {
        return f->config.deadline_first_ms / FETCH_LATE_FACTOR;
    }
    for (i = 0; i < SHL_MIN(peer->sample_count, FETCH_SAMPLES); i++) {
        most = SHL_MAX(most, peer->samples[i]);
    }
    return most;
}

uint64_t fetch_peer_span_ms(const struct ckpt_fetch *f, const struct fetch_peer *peer)
{
    uint64_t span = slowest_ms(f, peer) * FETCH_LATE_FACTOR;

    span = SHL_MAX(span, (uint64_t)f->config.deadline_min_ms) << peer->backoff;
    return SHL_MIN(span, (uint64_t)f->config.deadline_max_ms);
}

void fetch_peer_answered(struct ckpt_fetch *f, struct fetch_peer *peer, uint64_t took_ms)
{
    peer->samples[peer->sample_count % FETCH_SAMPLES] = (uint32_t)SHL_MIN(took_ms, UINT32_MAX);
    peer->sample_count++;
    if (peer->sample_count == 2 * FETCH_SAMPLES) {
        peer->sample_count = FETCH_SAMPLES; /* never wraps */
    }
    peer->backoff = 0;
    peer->window = SHL_MIN(peer->window + 1, f->config.peer_requests);
    peer->retry_at_ms = f->now_ms;
    peer->retry_ms = f->config.retry_ms;
}

void fetch_peer_failed(struct ckpt_fetch *f, struct fetch_peer *peer)
{
    if (fetch_peer_is_demoted(f, peer)) {
        peer->retry_ms = SHL_MIN(peer->retry_ms * 2, f->config.demote_ms);
    } else {
        peer->retry_ms = f->config.retry_ms;
    }
    peer->window = 1;
    peer->failed_at_ms = f->now_ms;
    peer->demoted_until_ms = f->now_ms + f->config.demote_ms;
    peer->retry_at_ms = f->now_ms + peer->retry_ms;
}
