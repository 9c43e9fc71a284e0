#include "gossip/gossip.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "gossip/wire.h"

#define ROUNDS_MAX 4 /* of the timers in one step: one may make another due */

/* ---- random numbers ---- */

uint64_t gossip_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a + UINT64_C(0x9e3779b97f4a7c15) * (b + 1);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t gossip_random(struct gossip *g)
{
    g->random += UINT64_C(0x9e3779b97f4a7c15);
    return gossip_mix(g->random, 0);
}

uint32_t gossip_random_below(struct gossip *g, uint32_t limit)
{
    assert(limit > 0);
    return (uint32_t)(((gossip_random(g) >> 32) * limit) >> 32);
}

bool gossip_once(struct gossip *g,
                 const struct shl_node_id *id,
                 enum gossip_recent_what what,
                 uint64_t ms)
{
    struct gossip_recent *recent;
    uint32_t i;

    for (i = 0; i < GOSSIP_RECENT_MAX; i++) {
        recent = &g->recent[i];
        if (recent->until_ms > g->now_ms && recent->what == what &&
            shl_node_id_equal(&recent->id, id)) {
            return false;
        }
    }
    recent = &g->recent[g->recent_next];
    g->recent_next = (g->recent_next + 1) % GOSSIP_RECENT_MAX;
    *recent = (struct gossip_recent){*id, what, g->now_ms + ms};
    return true;
}

/* ---- names ---- */

const char *gossip_life_name(enum gossip_life life)
{
    static const char *const names[] = {"unheard", "alive", "suspect", "dead", "left", "removed"};

    return (unsigned)life < SHL_ARRAY_SIZE(names) ? names[life] : "?";
}

const char *gossip_refusal_text(enum gossip_refusal refusal)
{
    switch (refusal) {
    case GOSSIP_REFUSAL_CLUSTER:
        return "the nodes belong to different clusters";
    case GOSSIP_REFUSAL_VERSION:
        return "the nodes speak no common protocol version";
    case GOSSIP_REFUSAL_REMOVED:
        return "the node was removed from the cluster";
    case GOSSIP_REFUSAL_NONE:
        break;
    }
    return "no reason";
}

/* ---- life cycle ---- */

void gossip_timing_defaults(struct gossip_timing *timing)
{
    *timing = (struct gossip_timing){
        .probe_ms = 1000,
        .probe_targets = 3,
        .ping_timeout_ms = 500,
        .helpers = 3,
        .gossip_ms = 100,
        .gossip_hold_ms = 2,
        .fanout = 3,
        .sends_mult = 4,
        .sends_floor = 12,
        .dead_gossip_ms = 30000,
        .suspicion_mult = 4,
        .suspicion_min_ms = 6000,
        .suspicion_max_mult = 6,
        .broken_ms = 1600,
        .sync_ms = 30000,
        .sync_settle_ms = 300,
        .sync_least_ms = 1000,
        .heal_ms = 10000,
        .heal_urgent_ms = 1000,
        .view_settle_ms = 600000,
        .leave_ms = 2000,
        .book_save_ms = 5000,
        .unset_keep_ms = 600000,
        .flap_half_life_ms = 300000,
        .flap_limit = 3,
        .flap_stable_ms = 60000,
        .book_keep_s = 7 * 24 * 3600,
        .removed_keep_s = 7 * 24 * 3600,
        .records_keep_ms = 24 * 3600 * 1000,
    };
}

static int check_config(const struct gossip_config *config, struct shl_err *err)
{
    const struct gossip_timing *timing = &config->timing;

    if (timing->probe_ms == 0 || timing->ping_timeout_ms == 0 || timing->gossip_ms == 0 ||
        timing->fanout == 0 || timing->sync_ms == 0 || timing->heal_ms == 0 ||
        timing->heal_urgent_ms == 0 || timing->sends_floor == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "an interval or count of the timing is zero");
    }
    if (config->members_max > GOSSIP_MEMBERS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "at most %d members are possible",
                           GOSSIP_MEMBERS_MAX);
    }
    if (config->incarnation >= GOSSIP_INCARNATION_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "the saved incarnation is out of range");
    }
    return 0;
}

static void init_lists(struct gossip *g)
{
    uint32_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(g->queue); i++) {
        shl_list_init(&g->queue[i]);
    }
    shl_list_init(&g->suspects);
    shl_list_init(&g->marks);
}

/* We are in our own list from the start; the first step announces us. */
static int add_self(struct gossip *g)
{
    uint64_t instance = gossip_random(g);

    g->self = gossip_peer_add(g, &g->config.self);
    if (!g->self) {
        return -ENOMEM;
    }
    g->self->instance = instance ? instance : 1;
    g->self->pub.incarnation = g->config.incarnation + 1;
    g->self->records.generation = g->self->pub.incarnation;
    return 0;
}

int gossip_new(const struct gossip_config *config, struct gossip **ret, struct shl_err *err)
{
    struct gossip_actions scratch;
    struct gossip *g;
    int rc = check_config(config, err);

    if (rc < 0) {
        return rc;
    }
    g = calloc(1, sizeof(*g));
    if (!g) {
        return shl_err_set(err, -ENOMEM, "no memory for the member list");
    }
    gossip_actions_init(&scratch);
    g->out = &scratch;
    g->config = *config;
    g->config.book = (struct shl_bytes){NULL, 0};
    if (g->config.members_max == 0) {
        g->config.members_max = GOSSIP_MEMBERS_DEFAULT;
    }
    g->random = gossip_mix(config->seed, shl_get_le64(config->self.id.bytes));
    g->seq = gossip_random(g) >> 1;
    g->wake_at_ms = 0;
    init_lists(g);
    rc = gossip_info_check(g, &config->self, err);
    if (rc == 0) {
        rc = add_self(g);
    }
    if (rc == 0) {
        rc = gossip_book_load(g, config->book, err);
    }
    gossip_actions_release(&scratch);
    g->out = NULL;
    if (rc < 0) {
        gossip_free(g);
        return rc;
    }
    *ret = g;
    return 0;
}

void gossip_free(struct gossip *g)
{
    uint32_t i;

    if (!g) {
        return;
    }
    for (i = 0; i < g->peer_count; i++) {
        gossip_peer_free(g, g->peers[i]);
    }
    free(g->peers);
    free(g->probe_ring.items);
    free(g->gossip_ring.items);
    free(g);
}

/* ---- step ---- */

static void start(struct gossip *g)
{
    const struct gossip_timing *timing = &g->config.timing;

    g->started = true;
    g->probe_at_ms = g->now_ms + gossip_random_below(g, timing->probe_ms);
    g->sync_at_ms = g->now_ms + gossip_random_below(g, timing->sync_ms);
    g->heal_at_ms = g->now_ms;
    g->book_at_ms = g->now_ms + timing->book_save_ms;
    g->book_dirty = false;
    /* Whoever is in the book is missed until it is heard. */
    g->view = g->peer_count - g->left_count;
    g->out->persist.incarnation = g->self->pub.incarnation;
    gossip_peer_set(g, g->self, GOSSIP_ALIVE, g->self->pub.incarnation);
}

static void check_lag(struct gossip *g)
{
    uint64_t bound = g->config.timing.probe_ms / 2;

    if (g->wake_at_ms != UINT64_MAX && g->now_ms > g->wake_at_ms &&
        g->now_ms - g->wake_at_ms > bound) {
        gossip_probe_lag(g, g->now_ms - g->wake_at_ms);
    }
}

static void on_link(struct gossip *g, const struct shl_node_id *id, bool up)
{
    struct gossip_peer *peer = gossip_peer_find(g, id);

    if (peer && peer != g->self) {
        gossip_probe_link(g, peer, up);
    }
}

static int handle(struct gossip *g, const struct gossip_event *event)
{
    switch (event->type) {
    case GOSSIP_EV_TICK:
        return 0;
    case GOSSIP_EV_RECV:
        gossip_receive(g, &event->recv.from, event->recv.bytes);
        return 0;
    case GOSSIP_EV_LINK:
        on_link(g, &event->link.peer, event->link.up);
        return 0;
    case GOSSIP_EV_LOOP_LAG:
        if (event->lag_ms > g->config.timing.probe_ms / 2) {
            gossip_probe_lag(g, event->lag_ms);
        }
        return 0;
    case GOSSIP_EV_JOIN:
        return gossip_join(g, event->join.contacts, event->join.contact_count);
    case GOSSIP_EV_LEAVE:
        gossip_leave(g);
        return 0;
    case GOSSIP_EV_SET:
        return gossip_record_set_own(g, event->record.key, event->record.value);
    case GOSSIP_EV_UNSET:
        return gossip_record_unset_own(g, event->record.key);
    case GOSSIP_EV_REMOVED:
        return gossip_remove(g, &event->removed);
    case GOSSIP_EV_ADMIT:
        return gossip_admit(g, event->admit.infos, event->admit.info_count);
    }
    return SHL_EINVALIDARG;
}

static uint64_t next_wake(const struct gossip *g)
{
    uint64_t wake = gossip_probe_wake(g);

    wake = SHL_MIN(wake, gossip_spread_wake(g));
    wake = SHL_MIN(wake, gossip_sync_wake(g));
    return SHL_MIN(wake, gossip_heal_wake(g));
}

static void run_timers(struct gossip *g)
{
    uint32_t round;

    g->wake_at_ms = next_wake(g);
    for (round = 0; g->wake_at_ms <= g->now_ms && round < ROUNDS_MAX; round++) {
        gossip_probe_tick(g);
        gossip_spread_tick(g);
        gossip_sync_tick(g);
        gossip_heal_tick(g);
        g->wake_at_ms = next_wake(g);
    }
    g->wake_at_ms = SHL_MAX(g->wake_at_ms, g->now_ms + 1);
}

int gossip_step(struct gossip *g, const struct gossip_event *event, struct gossip_actions *actions)
{
    int rc;

    gossip_actions_clear(actions);
    g->out = actions;
    g->now_ms = SHL_MAX(g->now_ms, event->now_ms);
    g->wall_s = event->wall_s ? event->wall_s : g->wall_s;
    if (!g->started) {
        start(g);
    } else if (event->type == GOSSIP_EV_TICK && g->now_ms < g->wake_at_ms) {
        actions->wake_at_ms = g->wake_at_ms;
        g->out = NULL;
        return 0;
    } else {
        check_lag(g);
    }
    rc = handle(g, event);
    run_timers(g);
    gossip_actions_finish(g);
    actions->wake_at_ms = g->wake_at_ms;
    g->out = NULL;
    return actions->error ? -ENOMEM : rc;
}

/* ---- queries ---- */

uint32_t gossip_member_count(const struct gossip *g)
{
    return g->peer_count;
}

const struct gossip_member *gossip_member_at(const struct gossip *g, uint32_t index)
{
    assert(index < g->peer_count);
    return &g->peers[index]->pub;
}

const struct gossip_member *gossip_member_find(const struct gossip *g, const struct shl_node_id *id)
{
    const struct gossip_peer *peer = gossip_peer_find(g, id);

    return peer ? &peer->pub : NULL;
}

const struct gossip_member *gossip_self(const struct gossip *g)
{
    return &g->self->pub;
}

uint32_t gossip_live_count(const struct gossip *g)
{
    return g->live_count;
}

double gossip_flap_score(const struct gossip *g, const struct shl_node_id *id, uint64_t now_ms)
{
    const struct gossip_peer *peer = gossip_peer_find(g, id);

    if (!peer) {
        return 0;
    }
    return gossip_decayed(peer->flap, now_ms > peer->flap_at_ms ? now_ms - peer->flap_at_ms : 0,
                          g->config.timing.flap_half_life_ms);
}

bool gossip_is_placeable(const struct gossip *g, const struct shl_node_id *id, uint64_t now_ms)
{
    const struct gossip_peer *peer = gossip_peer_find(g, id);

    if (!peer || peer->pub.life != GOSSIP_ALIVE) {
        return false;
    }
    return !peer->flapping || (now_ms > peer->pub.since_ms &&
                               now_ms - peer->pub.since_ms >= g->config.timing.flap_stable_ms);
}

uint64_t gossip_digest(const struct gossip *g)
{
    return g->digest;
}

uint64_t gossip_record_digest(const struct gossip *g)
{
    return g->record_digest;
}

void gossip_counters(const struct gossip *g, struct gossip_counters *ret)
{
    *ret = g->counters;
    ret->queued = g->queued;
    ret->health = g->health;
}
