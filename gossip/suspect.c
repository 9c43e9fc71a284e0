/* Suspicion: who accuses whom, and when a suspect counts as dead. The time shrinks with every
 * accuser (Lifeguard), and to a fraction when enough of them saw their connection break: a
 * process that stalls keeps its connections, one that crashed does not. */
#include <assert.h>

#include "gossip/core.h"

/* Nodes that could confirm: with one or none of them, one broken link must do. */
static uint32_t broken_quorum(const struct gossip *g)
{
    return g->live_count - g->counters.suspects > 1 ? 2 : 1;
}

static void set_deadline(struct gossip *g, struct gossip_peer *peer)
{
    const struct gossip_timing *timing = &g->config.timing;
    uint32_t broken = (uint32_t)__builtin_popcount(peer->accusers.broken_mask);
    uint32_t confirmed = peer->accusers.count > 0 ? peer->accusers.count - 1 : 0;
    uint64_t broken_ms = gossip_broken_ms(timing, g->live_count);
    uint64_t fast;

    peer->dead_at_ms = peer->suspect_at_ms + gossip_suspicion_ms(timing, g->live_count, confirmed);
    if (peer->broken_at_ms == 0 && broken >= broken_quorum(g)) {
        peer->broken_at_ms = g->now_ms;
    }
    if (peer->broken_at_ms != 0) {
        fast = SHL_MAX(peer->suspect_at_ms + broken_ms, peer->broken_at_ms + broken_ms / 2);
        peer->dead_at_ms = SHL_MIN(peer->dead_at_ms, fast);
    }
}

static void set_all_deadlines(struct gossip *g)
{
    struct shl_list *at;

    SHL_LIST_FOREACH(at, &g->suspects) {
        set_deadline(g, shl_container_of(at, struct gossip_peer, suspect_node));
    }
}

static uint32_t find_accuser(const struct gossip_accusers *accusers, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < accusers->count; i++) {
        if (shl_node_id_equal(&accusers->ids[i], id)) {
            return i;
        }
    }
    return i;
}

/* A full list gives up somebody who only saw silence for somebody who saw a broken link. */
static bool add_accuser(struct gossip_accusers *accusers, const struct shl_node_id *id, bool broken)
{
    uint32_t at = find_accuser(accusers, id);

    if (at == GOSSIP_ACCUSERS_MAX) {
        if (!broken || accusers->broken_mask == (1u << GOSSIP_ACCUSERS_MAX) - 1) {
            return false;
        }
        at = (uint32_t)__builtin_ctz(~accusers->broken_mask);
        accusers->ids[at] = *id;
    } else if (at == accusers->count) {
        accusers->ids[at] = *id;
        accusers->count++;
    } else if (!broken || (accusers->broken_mask & (1u << at)) != 0) {
        return false;
    }
    if (broken) {
        accusers->broken_mask |= 1u << at;
    }
    return true;
}

/* Somebody else accuses: we add what we know, or a few of us look for themselves at once. */
static void confirm(struct gossip *g, struct gossip_peer *peer)
{
    if (peer->pub.link_broken) {
        (void)gossip_suspect(g, peer, peer->pub.incarnation, &g->self->pub.info.id, true);
    } else if (gossip_random_below(g, g->live_count) < GOSSIP_CONFIRM_NODES) {
        gossip_probe_start(g, peer);
    }
}

bool gossip_suspect(struct gossip *g,
                    struct gossip_peer *peer,
                    uint64_t incarnation,
                    const struct shl_node_id *accuser,
                    bool broken)
{
    bool is_first = peer->pub.life == GOSSIP_ALIVE;

    assert(peer != g->self);
    if (!is_first && incarnation > peer->pub.incarnation) {
        peer->accusers = (struct gossip_accusers){0};
        peer->suspect_at_ms = g->now_ms;
        peer->broken_at_ms = 0;
        is_first = true;
    }
    if (!add_accuser(&peer->accusers, accuser, broken)) {
        return false;
    }
    if (is_first) {
        gossip_peer_set(g, peer, GOSSIP_SUSPECT, incarnation);
    } else {
        gossip_queue(g, &peer->rumour); /* confirmations that are new spread on */
    }
    if (is_first) {
        set_all_deadlines(g); /* one more that cannot confirm anything */
    } else {
        set_deadline(g, peer);
    }
    if (is_first && !shl_node_id_equal(accuser, &g->self->pub.info.id)) {
        confirm(g, peer);
    }
    return true;
}

void gossip_suspect_tick(struct gossip *g)
{
    struct shl_list *at, *next;

    SHL_LIST_FOREACH_SAFE(at, next, &g->suspects) {
        struct gossip_peer *peer = shl_container_of(at, struct gossip_peer, suspect_node);

        if (g->now_ms >= peer->dead_at_ms) {
            gossip_peer_set(g, peer, GOSSIP_DEAD, peer->pub.incarnation);
        }
    }
}

void gossip_suspect_lag(struct gossip *g, uint64_t lag_ms)
{
    struct shl_list *at;

    SHL_LIST_FOREACH(at, &g->suspects) {
        struct gossip_peer *peer = shl_container_of(at, struct gossip_peer, suspect_node);

        peer->suspect_at_ms += lag_ms;
        peer->broken_at_ms += peer->broken_at_ms != 0 ? lag_ms : 0;
        peer->dead_at_ms += lag_ms;
    }
}

uint64_t gossip_suspect_wake(const struct gossip *g)
{
    uint64_t wake = UINT64_MAX;
    struct shl_list *at;

    SHL_LIST_FOREACH(at, &g->suspects) {
        wake = SHL_MIN(wake, shl_container_of(at, struct gossip_peer, suspect_node)->dead_at_ms);
    }
    return wake;
}
