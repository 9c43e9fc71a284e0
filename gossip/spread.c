/* Dissemination queue: rumours in buckets by how often they were sent. The least sent go
 * first, among them the newest. What a rumour says is read when it is sent, so a newer state
 * replaces an older one by itself; queueing it again starts its count anew. */
#include "gossip/wire.h"

#define FANOUT_MAX     16 /* receivers of one round */
#define GOODBYE_FANOUT 64 /* of the round with a leave */
#define MISFITS_MAX    8  /* rumours that do not fit before a message counts as full */

static void bucket_update(struct gossip *g, uint32_t bucket)
{
    if (shl_list_empty(&g->queue[bucket])) {
        g->queue_mask &= ~(UINT64_C(1) << bucket);
    } else {
        g->queue_mask |= UINT64_C(1) << bucket;
    }
}

void gossip_unqueue(struct gossip *g, struct gossip_rumour *rumour)
{
    if (rumour->queued) {
        shl_list_remove(&rumour->node);
        bucket_update(g, rumour->sends);
        rumour->queued = false;
        g->queued--;
    }
}

void gossip_queue(struct gossip *g, struct gossip_rumour *rumour)
{
    const struct gossip_timing *timing = &g->config.timing;

    gossip_unqueue(g, rumour);
    if (g->queued == 0) {
        g->gossip_at_ms =
            SHL_MAX(g->gossiped_at_ms + timing->gossip_ms, g->now_ms + timing->gossip_hold_ms);
    }
    rumour->sends = 0;
    rumour->queued = true;
    shl_list_push_front(&g->queue[0], &rumour->node);
    bucket_update(g, 0);
    g->queued++;
}

static size_t rumour_bytes(const struct gossip_rumour *rumour)
{
    if (rumour->is_record) {
        return gossip_entry_bytes(shl_container_of(rumour, struct gossip_entry, rumour));
    }
    return gossip_claim_bytes(shl_container_of(rumour, struct gossip_peer, rumour), false);
}

static void write_rumour(struct shl_mp_writer *w, const struct gossip_rumour *rumour)
{
    if (rumour->is_record) {
        gossip_write_entry(w, shl_container_of(rumour, struct gossip_entry, rumour));
    } else {
        gossip_write_claim(w, shl_container_of(rumour, struct gossip_peer, rumour), false);
    }
}

/* Back into the queue with its new count, or out of it. */
static void count_sends(struct gossip *g, struct shl_list *written, uint32_t sends)
{
    uint32_t limit = gossip_sends_limit(&g->config.timing, g->live_count);

    while (!shl_list_empty(written)) {
        struct gossip_rumour *rumour =
            shl_container_of(shl_list_first(written), struct gossip_rumour, node);

        shl_list_remove(&rumour->node);
        rumour->sends += sends;
        if (rumour->sends >= limit) {
            rumour->queued = false;
            g->queued--;
        } else {
            shl_list_push_back(&g->queue[rumour->sends], &rumour->node);
            bucket_update(g, rumour->sends);
        }
    }
}

void gossip_write_rumours(struct gossip *g,
                          struct shl_mp_writer *w,
                          const struct gossip_peer *first,
                          size_t room,
                          uint32_t sends)
{
    struct shl_list written = SHL_LIST_INIT(written);
    uint64_t mask = g->queue_mask;
    uint32_t misfits = 0;

    shl_mp_array(w);
    if (first) {
        gossip_write_claim(w, first, false);
        room -= SHL_MIN(room, gossip_claim_bytes(first, false));
    }
    for (; mask != 0 && misfits < MISFITS_MAX; mask &= mask - 1) {
        uint32_t bucket = (uint32_t)__builtin_ctzll(mask);
        struct shl_list *at, *next;

        SHL_LIST_FOREACH_SAFE(at, next, &g->queue[bucket]) {
            struct gossip_rumour *rumour = shl_container_of(at, struct gossip_rumour, node);
            size_t bytes = rumour_bytes(rumour);

            if (bytes > room) {
                if (++misfits == MISFITS_MAX) {
                    break;
                }
                continue;
            }
            room -= bytes;
            write_rumour(w, rumour);
            shl_list_remove(&rumour->node);
            shl_list_push_back(&written, &rumour->node);
        }
        bucket_update(g, bucket);
    }
    shl_mp_end(w);
    count_sends(g, &written, sends);
}

/* The dead are among the receivers for a while, so that they can refute. */
static bool is_receiver(const struct gossip *g, const struct gossip_peer *peer)
{
    if (peer == g->self) {
        return false;
    }
    return gossip_is_live(peer->pub.life) ||
           (peer->pub.life == GOSSIP_DEAD &&
            g->now_ms - peer->pub.since_ms < g->config.timing.dead_gossip_ms);
}

static bool is_alone(const struct gossip *g)
{
    return g->gossip_ring.count == 0 || g->live_count + (g->leaving ? 1 : 0) <= 1;
}

static bool is_among(struct gossip_peer *const *targets,
                     uint32_t count,
                     const struct gossip_peer *peer)
{
    uint32_t i;

    for (i = 0; i < count && targets[i] != peer; i++) {
    }
    return i < count;
}

/* The ring is shuffled when it begins anew, which can be in the middle of a choice: then it may
 * return who was chosen already before those who were not, each at most once more. */
static uint32_t choose(struct gossip *g, struct gossip_peer **targets, uint32_t wanted)
{
    uint32_t tries = 2 * wanted;
    uint32_t count = 0;

    while (count < wanted && tries-- > 0) {
        struct gossip_peer *peer = gossip_ring_next(g, &g->gossip_ring, is_receiver);

        if (!peer) {
            break;
        }
        if (!is_among(targets, count, peer)) {
            targets[count++] = peer;
        }
    }
    return count;
}

/* Who leaves may end after this round: it tells everybody itself. Otherwise its lost connections
 * would be taken for a failure wherever the word is still on its way. */
static uint32_t fanout(const struct gossip *g)
{
    bool is_goodbye = g->leaving && !g->left_told && g->self->rumour.queued;

    return is_goodbye ? GOODBYE_FANOUT : SHL_MIN(g->config.timing.fanout, FANOUT_MAX);
}

void gossip_spread_tick(struct gossip *g)
{
    struct gossip_peer *targets[GOODBYE_FANOUT];
    uint32_t count, i;
    struct gossip_message m;

    if (g->queued == 0 || is_alone(g) || g->now_ms < g->gossip_at_ms) {
        return;
    }
    count = choose(g, targets, fanout(g));
    g->gossiped_at_ms = g->now_ms;
    g->gossip_at_ms = g->now_ms + g->config.timing.gossip_ms;
    if (count == 0) {
        return;
    }
    gossip_message_begin(g, &m, GOSSIP_KIND_GOSSIP);
    shl_mp_bool(&m.w, false);
    gossip_write_rumours(g, &m.w, NULL, GOSSIP_MESSAGE_MAX - GOSSIP_FRAME_BYTES, count);
    if (!gossip_message_end(g, &m)) {
        return;
    }
    for (i = 0; i < count; i++) {
        struct gossip_contact to;

        gossip_contact_of(&to, &targets[i]->pub.info);
        gossip_emit_send(g, &to, GOSSIP_LANE_GOSSIP, m.from);
    }
}

uint64_t gossip_spread_wake(const struct gossip *g)
{
    return g->queued == 0 || is_alone(g) ? UINT64_MAX : g->gossip_at_ms;
}
