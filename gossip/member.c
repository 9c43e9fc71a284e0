#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"
#include "gossip/core.h"

/* ---- list ---- */

static uint32_t lower_bound(const struct gossip *g, const struct shl_node_id *id)
{
    uint32_t low = 0, high = g->peer_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (shl_node_id_compare(&g->peers[mid]->pub.info.id, id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct gossip_peer *gossip_peer_find(const struct gossip *g, const struct shl_node_id *id)
{
    uint32_t at = lower_bound(g, id);

    if (at < g->peer_count && shl_node_id_equal(&g->peers[at]->pub.info.id, id)) {
        return g->peers[at];
    }
    return NULL;
}

/* The one that is gone for the longest makes room. */
static void evict_one(struct gossip *g)
{
    struct gossip_peer *oldest = NULL;
    uint32_t i;

    for (i = 0; i < g->peer_count; i++) {
        struct gossip_peer *peer = g->peers[i];

        if (peer == g->self || gossip_is_live(peer->pub.life)) {
            continue;
        }
        if (!oldest || peer->pub.since_ms < oldest->pub.since_ms) {
            oldest = peer;
        }
    }
    if (oldest) {
        struct shl_node_id id = oldest->pub.info.id;
        enum gossip_life before = oldest->pub.life;

        gossip_peer_drop(g, oldest);
        gossip_emit_gone(g, &id, before);
    }
}

static bool make_room(struct gossip *g)
{
    struct gossip_peer **grown;
    uint32_t wanted;

    if (g->peer_count - g->live_count >= GOSSIP_BOOK_MAX) {
        evict_one(g);
    }
    if (g->peer_count < g->peer_room) {
        return true;
    }
    wanted = g->peer_room ? g->peer_room * 2 : 16;
    grown = reallocarray(g->peers, wanted, sizeof(struct gossip_peer *));
    if (!grown) {
        g->out->error = -ENOMEM;
        return false;
    }
    g->peers = grown;
    g->peer_room = wanted;
    return true;
}

void gossip_peer_set_info(struct gossip_peer *peer, const struct gossip_info *info)
{
    peer->pub.info = *info;
    peer->name_hash = shl_sum(SHL_SUM_START, (const uint8_t *)info->name, strlen(info->name));
}

struct gossip_peer *gossip_peer_add(struct gossip *g, const struct gossip_info *info)
{
    struct gossip_peer *peer;
    uint32_t at;

    if (!make_room(g)) {
        return NULL;
    }
    peer = calloc(1, sizeof(*peer));
    if (!peer) {
        g->out->error = -ENOMEM;
        return NULL;
    }
    gossip_peer_set_info(peer, info);
    peer->pub.life = GOSSIP_UNHEARD;
    peer->pub.since_ms = g->now_ms;
    peer->pub.gone_s = g->wall_s;
    peer->id_hash = gossip_mix(shl_get_le64(info->id.bytes), shl_get_le64(info->id.bytes + 8));
    shl_list_init(&peer->suspect_node);
    shl_list_init(&peer->rumour.node);
    shl_list_init(&peer->records.by_version);
    at = lower_bound(g, &info->id);
    memmove(g->peers + at + 1, g->peers + at, (g->peer_count - at) * sizeof(struct gossip_peer *));
    g->peers[at] = peer;
    g->peer_count++;
    gossip_book_touch(g);
    return peer;
}

static void ring_remove(struct gossip_ring *ring, const struct gossip_peer *peer)
{
    uint32_t i;

    for (i = 0; i < ring->count; i++) {
        if (ring->items[i] == peer) {
            memmove(ring->items + i, ring->items + i + 1,
                    (ring->count - i - 1) * sizeof(struct gossip_peer *));
            ring->count--;
            ring->cursor -= ring->cursor > i;
            return;
        }
    }
}

void gossip_peer_free(struct gossip *g, struct gossip_peer *peer)
{
    gossip_record_drop_all(g, peer);
    gossip_unqueue(g, &peer->rumour);
    free(peer);
}

void gossip_peer_drop(struct gossip *g, struct gossip_peer *peer)
{
    uint32_t at = lower_bound(g, &peer->pub.info.id);

    assert(peer != g->self);
    assert(g->peers[at] == peer);
    gossip_digest_update(g, peer, -1);
    g->record_digest -= peer->records.digest_part;
    peer->records.digest_part = 0;
    g->live_count -= gossip_is_live(peer->pub.life);
    g->left_count -= peer->pub.life == GOSSIP_LEFT;
    g->counters.suspects -= peer->pub.life == GOSSIP_SUSPECT;
    shl_list_remove(&peer->suspect_node);
    ring_remove(&g->probe_ring, peer);
    ring_remove(&g->gossip_ring, peer);
    memmove(g->peers + at, g->peers + at + 1,
            (g->peer_count - at - 1) * sizeof(struct gossip_peer *));
    g->peer_count--;
    gossip_peer_free(g, peer);
    gossip_book_touch(g);
}

/* ---- rings ---- */

static bool ring_insert(struct gossip *g, struct gossip_ring *ring, struct gossip_peer *peer)
{
    struct gossip_peer **grown;
    uint32_t at;

    /* Room for everybody who can be in the list, in steps. */
    if (ring->count % 64 == 0) {
        grown = reallocarray(ring->items, ring->count + 64, sizeof(struct gossip_peer *));
        if (!grown) {
            g->out->error = -ENOMEM;
            return false;
        }
        ring->items = grown;
    }
    at = gossip_random_below(g, ring->count + 1);
    memmove(ring->items + at + 1, ring->items + at,
            (ring->count - at) * sizeof(struct gossip_peer *));
    ring->items[at] = peer;
    ring->count++;
    ring->cursor += ring->cursor > at;
    return true;
}

static void rings_insert(struct gossip *g, struct gossip_peer *peer)
{
    if (!peer->in_rings && peer != g->self) {
        peer->in_rings =
            ring_insert(g, &g->probe_ring, peer) && ring_insert(g, &g->gossip_ring, peer);
    }
}

/* A new round: who is gone for long leaves both rings, the order is drawn anew. */
static void ring_wrap(struct gossip *g, struct gossip_ring *ring)
{
    uint32_t i;

    for (i = ring->count; i > 0; i--) {
        struct gossip_peer *peer = ring->items[i - 1];

        if (!gossip_is_live(peer->pub.life) &&
            g->now_ms - peer->pub.since_ms > g->config.timing.dead_gossip_ms) {
            ring_remove(&g->probe_ring, peer);
            ring_remove(&g->gossip_ring, peer);
            peer->in_rings = false;
        }
    }
    for (i = ring->count; i > 1; i--) {
        uint32_t other = gossip_random_below(g, i);
        struct gossip_peer *peer = ring->items[i - 1];

        ring->items[i - 1] = ring->items[other];
        ring->items[other] = peer;
    }
    ring->cursor = 0;
}

struct gossip_peer *gossip_ring_next(struct gossip *g,
                                     struct gossip_ring *ring,
                                     bool (*eligible)(const struct gossip *,
                                                      const struct gossip_peer *))
{
    uint32_t tries = 2 * ring->count + 1;

    while (ring->count > 0 && tries-- > 0) {
        struct gossip_peer *peer;

        if (ring->cursor >= ring->count) {
            ring_wrap(g, ring);
            if (ring->count == 0) {
                return NULL;
            }
        }
        peer = ring->items[ring->cursor++];
        if (eligible(g, peer)) {
            return peer;
        }
    }
    return NULL;
}

/* ---- life ---- */

void gossip_digest_update(struct gossip *g, struct gossip_peer *peer, int sign)
{
    uint64_t part;

    if (!gossip_is_live(peer->pub.life)) {
        return;
    }
    part = gossip_mix(peer->id_hash, peer->pub.incarnation);
    g->digest += sign > 0 ? part : 0 - part;
    g->digest_at_ms = g->now_ms;
}

bool gossip_has_room(const struct gossip *g, const struct gossip_peer *peer)
{
    return (peer && gossip_is_live(peer->pub.life)) || g->live_count < g->config.members_max;
}

static void count_death(struct gossip *g, struct gossip_peer *peer)
{
    const struct gossip_timing *timing = &g->config.timing;

    peer->flap =
        1 + gossip_decayed(peer->flap, g->now_ms - peer->flap_at_ms, timing->flap_half_life_ms);
    peer->flap_at_ms = g->now_ms;
    peer->flapping = peer->flap > timing->flap_limit;
    g->counters.deaths++;
}

static void leave_life(struct gossip *g, struct gossip_peer *peer)
{
    g->live_count -= gossip_is_live(peer->pub.life);
    g->left_count -= peer->pub.life == GOSSIP_LEFT;
    if (peer->pub.life == GOSSIP_SUSPECT) {
        shl_list_remove(&peer->suspect_node);
        peer->accusers = (struct gossip_accusers){0};
        g->counters.suspects--;
    }
}

static void enter_life(struct gossip *g, struct gossip_peer *peer, enum gossip_life life)
{
    bool was_live = gossip_is_live(peer->pub.life);

    peer->pub.life = life;
    peer->pub.since_ms = g->now_ms;
    g->live_count += gossip_is_live(life);
    g->left_count += life == GOSSIP_LEFT;
    if (gossip_is_live(life)) {
        peer->pub.gone_s = 0;
        rings_insert(g, peer);
    } else {
        peer->pub.gone_s = g->wall_s;
    }
    if (life == GOSSIP_SUSPECT) {
        shl_list_push_back(&g->suspects, &peer->suspect_node);
        peer->suspect_at_ms = g->now_ms;
        peer->broken_at_ms = 0;
        g->counters.suspects++;
        g->counters.suspicions++;
    }
    if (life == GOSSIP_DEAD && was_live) {
        count_death(g, peer);
    }
}

void gossip_peer_set(struct gossip *g,
                     struct gossip_peer *peer,
                     enum gossip_life life,
                     uint64_t incarnation)
{
    enum gossip_life before = peer->pub.life;
    bool is_new = !peer->heard;

    assert(life != GOSSIP_UNHEARD);
    assert(life != GOSSIP_REMOVED);
    gossip_digest_update(g, peer, -1);
    peer->pub.incarnation = incarnation;
    peer->heard = true;
    if (life != before) {
        leave_life(g, peer);
        enter_life(g, peer, life);
    }
    gossip_digest_update(g, peer, 1);
    gossip_record_digest_update(g, peer);
    gossip_queue(g, &peer->rumour);
    g->view -= life == GOSSIP_LEFT && gossip_is_live(before) && g->view > 0;
    gossip_emit_change(g, peer, before, is_new);
    /* A suspicion is too short-lived to be worth a save. */
    if (life != GOSSIP_SUSPECT && before != GOSSIP_SUSPECT) {
        gossip_book_touch(g);
    }
    gossip_heal_view(g);
}

/* ---- what a node says about itself ---- */

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

int gossip_info_check(const struct gossip *g, const struct gossip_info *info, struct shl_err *err)
{
    if (shl_node_id_is_none(&info->id)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the node has no id");
    }
    if (!is_terminated(info->name, sizeof(info->name)) || info->name[0] == '\0') {
        return shl_err_set(err, SHL_EINVALIDARG, "the node has no name");
    }
    if (!is_terminated(info->control, sizeof(info->control)) || info->control[0] == '\0') {
        return shl_err_set(err, SHL_EINVALIDARG, "the node has no control address");
    }
    if (!is_terminated(info->bulk, sizeof(info->bulk)) ||
        !is_terminated(info->api, sizeof(info->api)) ||
        !is_terminated(info->domain, sizeof(info->domain))) {
        return shl_err_set(err, SHL_EINVALIDARG, "an address or the failure domain is too long");
    }
    if (info->proto_min > info->proto_max) {
        return shl_err_set(err, SHL_EINVALIDARG, "the range of protocol versions is empty");
    }
    if (g->config.key_matches && !g->config.key_matches(&info->id, info->key)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the node's id is not the hash of its key");
    }
    return 0;
}

/* ---- age ---- */

bool gossip_is_outdated(const struct gossip *g, uint64_t gone_s)
{
    return g->wall_s != 0 && gone_s != 0 && g->wall_s > gone_s &&
           g->wall_s - gone_s > g->config.timing.book_keep_s;
}

static bool is_forgotten(const struct gossip *g, const struct gossip_peer *peer)
{
    return peer != g->self && !gossip_is_live(peer->pub.life) &&
           gossip_is_outdated(g, peer->pub.gone_s);
}

void gossip_forget_old(struct gossip *g)
{
    uint32_t i, kept = 0;

    for (i = g->peer_count; i > 0; i--) {
        struct gossip_peer *peer = g->peers[i - 1];

        if (peer->pub.gone_s == 0 && !gossip_is_live(peer->pub.life)) {
            peer->pub.gone_s = g->wall_s; /* missed since we look at a clock */
        }
        if (is_forgotten(g, peer)) {
            struct shl_node_id id = peer->pub.info.id;
            enum gossip_life before = peer->pub.life;

            gossip_peer_drop(g, peer);
            gossip_emit_gone(g, &id, before);
        } else if (!gossip_is_live(peer->pub.life) && peer != g->self &&
                   peer->records.generation != 0 &&
                   g->now_ms - peer->pub.since_ms > g->config.timing.records_keep_ms) {
            gossip_record_drop_all(g, peer);
            gossip_emit_record(g, &peer->pub.info.id, NULL);
        }
    }
    for (i = 0; i < g->removed_count; i++) {
        struct gossip_tombstone *stone = &g->removed[i];

        if (stone->until_s == 0 && g->wall_s != 0) {
            stone->until_s = g->wall_s + g->config.timing.removed_keep_s;
        }
        if (g->wall_s == 0 || stone->until_s > g->wall_s) {
            g->removed[kept++] = *stone;
        }
    }
    g->removed_count = kept;
}
