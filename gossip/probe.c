#include <assert.h>

#include "gossip/wire.h"

static bool is_target(const struct gossip *g, const struct gossip_peer *peer)
{
    return peer != g->self && gossip_is_live(peer->pub.life);
}

static uint64_t round_ms(const struct gossip *g)
{
    return (uint64_t)g->config.timing.probe_ms * (g->health + 1);
}

/* ---- probes ---- */

static void end_probe(struct gossip *g, struct gossip_probe *probe)
{
    probe->used = false;
    g->probe_count--;
}

static void send_ping(struct gossip *g, const struct gossip_peer *peer, uint64_t seq)
{
    struct gossip_message m;
    struct gossip_contact to;

    gossip_contact_of(&to, &peer->pub.info);
    gossip_message_begin(g, &m, GOSSIP_KIND_PING);
    shl_mp_uint(&m.w, seq);
    /* A suspect learns at once that it is one. */
    gossip_write_rumours(g, &m.w, peer->pub.life == GOSSIP_SUSPECT ? peer : NULL,
                         GOSSIP_PING_MAX - GOSSIP_FRAME_BYTES, 1);
    gossip_message_send(g, &m, &to, GOSSIP_LANE_PING);
}

static bool is_helper(const struct gossip *g,
                      const struct gossip_peer *peer,
                      const struct gossip_probe *probe)
{
    uint32_t i;

    if (peer == g->self || peer->pub.life != GOSSIP_ALIVE || peer->pub.link_broken ||
        shl_node_id_equal(&peer->pub.info.id, &probe->target)) {
        return false;
    }
    for (i = 0; i < probe->helper_count; i++) {
        if (shl_node_id_equal(&probe->helpers[i], &peer->pub.info.id)) {
            return false;
        }
    }
    return true;
}

/* From a random place in the list; a few tries find one in a healthy cluster. */
static struct gossip_peer *pick_helper(struct gossip *g, const struct gossip_probe *probe)
{
    uint32_t start = gossip_random_below(g, g->peer_count), i;

    for (i = 0; i < g->peer_count; i++) {
        struct gossip_peer *peer = g->peers[(start + i) % g->peer_count];

        if (is_helper(g, peer, probe)) {
            return peer;
        }
    }
    return NULL;
}

/* Helpers, and the target once more: one lost message must not make a suspect. */
static void ask_helpers(struct gossip *g, struct gossip_probe *probe)
{
    uint32_t wanted = SHL_MIN(g->config.timing.helpers, (uint32_t)GOSSIP_HELPERS_MAX);
    const struct gossip_peer *peer = gossip_peer_find(g, &probe->target);

    probe->asked = true;
    if (peer && !peer->pub.link_broken) {
        send_ping(g, peer, probe->seq);
    }
    while (probe->helper_count < wanted) {
        struct gossip_peer *helper = pick_helper(g, probe);
        struct gossip_contact to;
        struct gossip_message m;

        if (!helper) {
            return;
        }
        probe->helpers[probe->helper_count++] = helper->pub.info.id;
        gossip_contact_of(&to, &helper->pub.info);
        gossip_message_begin(g, &m, GOSSIP_KIND_PING_REQ);
        shl_mp_uint(&m.w, probe->seq);
        gossip_write_id(&m.w, &probe->target);
        gossip_message_send(g, &m, &to, GOSSIP_LANE_PING);
    }
}

static bool is_probed(const struct gossip *g, const struct gossip_peer *peer)
{
    uint32_t i;

    for (i = 0; g->probe_count > 0 && i < GOSSIP_PROBES_MAX; i++) {
        if (g->probes[i].used && shl_node_id_equal(&g->probes[i].target, &peer->pub.info.id)) {
            return true;
        }
    }
    return false;
}

void gossip_probe_start(struct gossip *g, struct gossip_peer *peer)
{
    const struct gossip_timing *timing = &g->config.timing;
    struct gossip_probe *probe = g->probes;
    uint64_t least_ms = (uint64_t)timing->ping_timeout_ms + 1;

    if (g->leaving || g->probe_count == GOSSIP_PROBES_MAX || is_probed(g, peer)) {
        return;
    }
    while (probe->used) {
        probe++;
    }
    *probe = (struct gossip_probe){
        .used = true,
        .target = peer->pub.info.id,
        .seq = ++g->seq,
        .ask_at_ms = g->now_ms + (peer->pub.link_broken ? 0 : timing->ping_timeout_ms),
        .end_at_ms = g->now_ms + (peer->pub.link_broken ? (uint64_t)timing->ping_timeout_ms
                                                        : SHL_MAX(round_ms(g), least_ms)),
    };
    g->probe_count++;
    g->counters.probes++;
    send_ping(g, peer, probe->seq);
    if (peer->pub.link_broken) {
        ask_helpers(g, probe);
    }
}

static void accuse(struct gossip *g, struct gossip_peer *peer)
{
    if (!gossip_is_live(peer->pub.life)) {
        return;
    }
    g->counters.accusations += peer->pub.life == GOSSIP_ALIVE;
    (void)gossip_suspect(g, peer, peer->pub.incarnation, &g->self->pub.info.id,
                         peer->pub.link_broken);
}

/* No ack. Helpers that kept silent hint that the fault is ours. */
static void fail_probe(struct gossip *g, struct gossip_probe *probe)
{
    struct gossip_peer *peer = gossip_peer_find(g, &probe->target);
    uint32_t nacks = (uint32_t)__builtin_popcount(probe->nacked_mask);
    bool excused = probe->excused;
    int worse = probe->helper_count > 0 ? (int)(probe->helper_count - nacks) : 1;

    end_probe(g, probe);
    if (!peer || !is_target(g, peer) || excused) {
        return;
    }
    g->counters.probes_failed++;
    /* Alone with a peer whose link broke: nobody could have helped, and the cause is plain. */
    if (!peer->pub.link_broken) {
        g->health = gossip_health_after(g->health, worse);
    }
    accuse(g, peer);
}

static bool all_say_broken(const struct gossip *g, const struct gossip_probe *probe)
{
    const struct gossip_peer *peer = gossip_peer_find(g, &probe->target);

    return peer && peer->pub.link_broken && probe->asked &&
           (uint32_t)__builtin_popcount(probe->broken_mask) == probe->helper_count;
}

static void tick_probes(struct gossip *g)
{
    uint32_t i;

    for (i = 0; g->probe_count > 0 && i < GOSSIP_PROBES_MAX; i++) {
        struct gossip_probe *probe = &g->probes[i];

        if (!probe->used) {
            continue;
        }
        if (!probe->asked && g->now_ms >= probe->ask_at_ms) {
            ask_helpers(g, probe);
        }
        if (g->now_ms >= probe->end_at_ms || all_say_broken(g, probe)) {
            fail_probe(g, probe);
        }
    }
}

/* ---- for others ---- */

static void answer_relay(struct gossip *g, const struct gossip_relay *relay, bool is_ack)
{
    const struct gossip_peer *peer = gossip_peer_find(g, &relay->target);
    struct gossip_message m;

    gossip_message_begin(g, &m, is_ack ? GOSSIP_KIND_ACK : GOSSIP_KIND_NACK);
    shl_mp_uint(&m.w, relay->origin_seq);
    if (!is_ack) {
        shl_mp_bool(&m.w, peer && peer->pub.link_broken);
    }
    gossip_message_reply(g, &m, &relay->origin, GOSSIP_LANE_PING);
}

static void tick_relays(struct gossip *g)
{
    uint32_t i;

    for (i = 0; g->relay_count > 0 && i < GOSSIP_RELAYS_MAX; i++) {
        struct gossip_relay *relay = &g->relays[i];

        if (!relay->used) {
            continue;
        }
        if (!relay->nacked && g->now_ms >= relay->nack_at_ms) {
            relay->nacked = true;
            answer_relay(g, relay, false);
        }
        if (g->now_ms >= relay->end_at_ms) {
            relay->used = false;
            g->relay_count--;
        }
    }
}

/* ---- messages ---- */

void gossip_on_ping(struct gossip *g, const struct shl_node_id *from, uint64_t seq)
{
    struct gossip_message m;

    gossip_message_begin(g, &m, GOSSIP_KIND_ACK);
    shl_mp_uint(&m.w, seq);
    shl_mp_uint(&m.w, g->digest);
    shl_mp_uint(&m.w, g->record_digest);
    gossip_write_rumours(g, &m.w, NULL, GOSSIP_PING_MAX - GOSSIP_FRAME_BYTES, 1);
    gossip_message_reply(g, &m, from, GOSSIP_LANE_PING);
}

void gossip_on_ping_request(struct gossip *g,
                            const struct shl_node_id *from,
                            uint64_t seq,
                            const struct shl_node_id *target)
{
    const struct gossip_timing *timing = &g->config.timing;
    struct gossip_peer *peer = gossip_peer_find(g, target);
    struct gossip_relay *relay = g->relays;

    if (g->relay_count == GOSSIP_RELAYS_MAX || !peer || peer == g->self) {
        return; /* a missing nack only makes the asker doubt itself */
    }
    while (relay->used) {
        relay++;
    }
    *relay = (struct gossip_relay){
        .used = true,
        .origin = *from,
        .origin_seq = seq,
        .target = *target,
        .seq = ++g->seq,
        /* Early enough to arrive before the asker's round ends. */
        .nack_at_ms =
            g->now_ms + (peer->pub.link_broken ? 0 : (uint64_t)timing->ping_timeout_ms * 8 / 10),
        .end_at_ms = g->now_ms + timing->probe_ms,
    };
    g->relay_count++;
    send_ping(g, peer, relay->seq);
    if (peer->pub.link_broken) {
        tick_relays(g);
    }
}

static bool ack_relay(struct gossip *g, const struct shl_node_id *from, uint64_t seq)
{
    uint32_t i;

    for (i = 0; g->relay_count > 0 && i < GOSSIP_RELAYS_MAX; i++) {
        struct gossip_relay *relay = &g->relays[i];

        if (relay->used && relay->seq == seq && shl_node_id_equal(&relay->target, from)) {
            answer_relay(g, relay, true);
            relay->used = false;
            g->relay_count--;
            return true;
        }
    }
    return false;
}

static uint32_t find_helper(const struct gossip_probe *probe, const struct shl_node_id *id)
{
    uint32_t i = 0;

    while (i < probe->helper_count && !shl_node_id_equal(&probe->helpers[i], id)) {
        i++;
    }
    return i;
}

static struct gossip_probe *find_probe(struct gossip *g, uint64_t seq)
{
    uint32_t i;

    for (i = 0; g->probe_count > 0 && i < GOSSIP_PROBES_MAX; i++) {
        if (g->probes[i].used && g->probes[i].seq == seq) {
            return &g->probes[i];
        }
    }
    return NULL;
}

bool gossip_on_ack(struct gossip *g, const struct shl_node_id *from, uint64_t seq)
{
    struct gossip_probe *probe = find_probe(g, seq);
    bool is_direct;

    if (!probe) {
        (void)ack_relay(g, from, seq);
        return false;
    }
    is_direct = shl_node_id_equal(&probe->target, from);
    if (!is_direct && find_helper(probe, from) == probe->helper_count) {
        return false; /* neither asked nor probed: not its business */
    }
    g->health = gossip_health_after(g->health, -1);
    end_probe(g, probe);
    return is_direct;
}

void gossip_on_nack(struct gossip *g, const struct shl_node_id *from, uint64_t seq, bool broken)
{
    struct gossip_probe *probe = find_probe(g, seq);
    uint32_t helper = probe ? find_helper(probe, from) : 0;

    if (!probe || helper == probe->helper_count) {
        return;
    }
    probe->nacked_mask |= 1u << helper;
    if (broken) {
        probe->broken_mask |= 1u << helper;
    }
    if (all_say_broken(g, probe)) {
        fail_probe(g, probe);
    }
}

/* ---- link, lag, time ---- */

/* A probe under way need not wait for an ack that cannot come, only for its helpers. */
static void ask_now(struct gossip *g, const struct gossip_peer *peer)
{
    uint32_t i;

    for (i = 0; i < GOSSIP_PROBES_MAX; i++) {
        struct gossip_probe *probe = &g->probes[i];

        if (probe->used && shl_node_id_equal(&probe->target, &peer->pub.info.id)) {
            probe->ask_at_ms = SHL_MIN(probe->ask_at_ms, g->now_ms);
            probe->end_at_ms =
                SHL_MIN(probe->end_at_ms, g->now_ms + g->config.timing.ping_timeout_ms);
        }
    }
}

void gossip_probe_link(struct gossip *g, struct gossip_peer *peer, bool up)
{
    bool was_broken = peer->pub.link_broken;

    peer->pub.link_broken = !up;
    if (up || was_broken || !is_target(g, peer) || g->leaving) {
        return;
    }
    if (peer->pub.life == GOSSIP_SUSPECT) {
        accuse(g, peer); /* somebody asked already; this is what we can add */
        return;
    }
    gossip_probe_start(g, peer);
    ask_now(g, peer);
}

void gossip_probe_lag(struct gossip *g, uint64_t lag_ms)
{
    uint32_t i;

    /* Told and noticed: once is enough. */
    if (g->counters.lags > 0 && g->now_ms - g->lag_seen_ms < lag_ms) {
        return;
    }
    g->lag_seen_ms = g->now_ms;
    g->counters.lags++;
    g->health = gossip_health_after(g->health, 1);
    /* What we did not hear while we slept proves nothing: probes under way are excused, and
     * suspects get the time again in which we could not have heard their answer. */
    for (i = 0; i < GOSSIP_PROBES_MAX; i++) {
        g->probes[i].excused = true;
    }
    gossip_suspect_lag(g, lag_ms);
}

static bool is_alone(const struct gossip *g)
{
    return g->live_count <= 1 || g->leaving;
}

static uint64_t probe_pause_ms(const struct gossip *g)
{
    uint32_t others = SHL_MAX(g->live_count, 2u) - 1;
    uint32_t targets = SHL_MIN(SHL_MAX(g->config.timing.probe_targets, 1u), others);

    return SHL_MAX(round_ms(g) / targets, (uint64_t)1);
}

void gossip_probe_tick(struct gossip *g)
{
    tick_probes(g);
    tick_relays(g);
    gossip_suspect_tick(g);
    if (is_alone(g) || g->now_ms < g->probe_at_ms) {
        return;
    }
    g->probe_at_ms = g->now_ms + probe_pause_ms(g);
    {
        struct gossip_peer *peer = gossip_ring_next(g, &g->probe_ring, is_target);

        if (peer) {
            gossip_probe_start(g, peer);
        }
    }
}

uint64_t gossip_probe_wake(const struct gossip *g)
{
    uint64_t wake = is_alone(g) ? UINT64_MAX : g->probe_at_ms;
    uint32_t i, left;

    for (i = 0, left = g->probe_count; left > 0; i++) {
        const struct gossip_probe *probe = &g->probes[i];

        if (probe->used) {
            wake = SHL_MIN(wake, probe->asked ? probe->end_at_ms : probe->ask_at_ms);
            left--;
        }
    }
    for (i = 0, left = g->relay_count; left > 0; i++) {
        const struct gossip_relay *relay = &g->relays[i];

        if (relay->used) {
            wake = SHL_MIN(wake, relay->nacked ? relay->end_at_ms : relay->nack_at_ms);
            left--;
        }
    }
    return SHL_MIN(wake, gossip_suspect_wake(g));
}
