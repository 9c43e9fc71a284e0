/* What is believed of a claim. Order: incarnation first, then alive < suspect < dead < left;
 * an alive claim needs a strictly higher incarnation, the others at least an equal one. */
#include <string.h>

#include "gossip/wire.h"

/* ---- ourselves ---- */

void gossip_refute(struct gossip *g, uint64_t incarnation, uint64_t foreign)
{
    struct gossip_peer *self = g->self;
    uint64_t next = SHL_MAX(self->pub.incarnation, incarnation) + 1;

    if (g->leaving || next > GOSSIP_INCARNATION_MAX ||
        (g->config.mutations & GOSSIP_MUT_NO_REFUTE)) {
        return;
    }
    if (foreign != 0) {
        self->over = foreign;
    }
    g->counters.refutations++;
    g->out->persist.incarnation = next;
    gossip_peer_set(g, self, GOSSIP_ALIVE, next);
}

static void notice_copy(struct gossip *g,
                        const struct shl_node_id *id,
                        const struct shl_node_id *from,
                        const char *address)
{
    struct gossip_notice notice = {.type = GOSSIP_NOTICE_COPIED_IDENTITY, .id = *id};

    if (!gossip_once(g, id, GOSSIP_RECENT_COPIED, GOSSIP_REFUSED_WAIT_MS)) {
        return;
    }
    notice.other_id = *from;
    memcpy(notice.other, address, sizeof(notice.other));
    g->counters.conflicts++;
    gossip_emit_notice(g, &notice);
}

/* Somebody says how we are. An alive claim of another run of our id comes from our own past
 * (then nobody answers our refutation) or from a copy of our key: that one is proved when it
 * says that it overruled this very run. */
static void believe_self(struct gossip *g,
                         const struct shl_node_id *from,
                         const struct gossip_claim *claim)
{
    struct gossip_peer *self = g->self;
    bool is_foreign = claim->has_info && claim->instance != self->instance;

    if (claim->life != GOSSIP_ALIVE) {
        if (claim->incarnation >= self->pub.incarnation && !g->leaving) {
            g->health = gossip_health_after(g->health, claim->life == GOSSIP_SUSPECT);
            gossip_refute(g, claim->incarnation, 0);
        }
        return;
    }
    if (!is_foreign) {
        if (claim->incarnation > self->pub.incarnation) {
            gossip_refute(g, claim->incarnation, 0); /* nobody but us may raise it */
        }
        return;
    }
    if (claim->over == self->instance) {
        notice_copy(g, &self->pub.info.id, from, claim->info.control);
        if (claim->incarnation >= self->pub.incarnation &&
            g->now_ms - g->copied_at_ms >= GOSSIP_TELL_MS) {
            g->copied_at_ms = g->now_ms; /* two copies would refute each other without end */
            gossip_refute(g, claim->incarnation, claim->instance);
        }
        return;
    }
    if (claim->incarnation >= self->pub.incarnation) {
        gossip_refute(g, claim->incarnation, claim->instance);
    }
}

/* ---- others ---- */

static void refuse(struct gossip *g, const struct gossip_claim *claim)
{
    g->counters.refused_version++;
    if (gossip_once(g, &claim->id, GOSSIP_RECENT_REFUSE, GOSSIP_REFUSED_WAIT_MS)) {
        struct gossip_message m;
        struct gossip_contact to;

        gossip_emit_notice(g, &(struct gossip_notice){
                                  .type = GOSSIP_NOTICE_WE_REFUSED,
                                  .reason = GOSSIP_REFUSAL_VERSION,
                                  .id = claim->id,
                              });
        gossip_contact_of(&to, &claim->info);
        gossip_message_begin(g, &m, GOSSIP_KIND_REFUSE);
        shl_mp_uint(&m.w, GOSSIP_REFUSAL_VERSION);
        shl_mp_uint(&m.w, g->config.self.proto_min);
        shl_mp_uint(&m.w, g->config.self.proto_max);
        gossip_message_send(g, &m, &to, GOSSIP_LANE_PING);
    }
}

static bool is_acceptable(struct gossip *g,
                          const struct gossip_peer *peer,
                          const struct gossip_claim *claim)
{
    if (gossip_info_check(g, &claim->info, NULL) < 0) {
        g->counters.malformed++;
        return false;
    }
    if (claim->info.proto_min > g->config.self.proto_max ||
        claim->info.proto_max < g->config.self.proto_min) {
        refuse(g, claim);
        return false;
    }
    if (gossip_is_live(claim->life) && !gossip_has_room(g, peer)) {
        g->counters.over_limit++;
        if (gossip_once(g, &claim->id, GOSSIP_RECENT_FULL, GOSSIP_REFUSED_WAIT_MS)) {
            gossip_emit_notice(g, &(struct gossip_notice){.type = GOSSIP_NOTICE_FULL,
                                                          .id = claim->id});
        }
        return false;
    }
    return true;
}

static void check_name(struct gossip *g, const struct gossip_peer *peer)
{
    uint32_t i;

    for (i = 0; i < g->peer_count; i++) {
        const struct gossip_peer *other = g->peers[i];

        if (other->name_hash == peer->name_hash && other != peer &&
            gossip_is_live(other->pub.life) &&
            strcmp(other->pub.info.name, peer->pub.info.name) == 0) {
            struct gossip_notice notice = {
                .type = GOSSIP_NOTICE_NAME_TAKEN,
                .id = peer->pub.info.id,
                .other_id = other->pub.info.id,
            };

            memcpy(notice.other, other->pub.info.control, sizeof(notice.other));
            g->counters.conflicts++;
            gossip_emit_notice(g, &notice);
        }
    }
}

/* Two runs that each overruled the other live at the same time. */
static void check_copy(struct gossip *g,
                       const struct gossip_peer *peer,
                       const struct gossip_claim *claim)
{
    if (claim->instance != peer->instance && claim->over != 0 && claim->over == peer->instance &&
        claim->instance == peer->over) {
        notice_copy(g, &claim->id, &claim->id, peer->pub.info.control);
    }
}

/* Another run at another address: if the old one still runs there, it has a right to know. */
static void tell_old_address(struct gossip *g,
                             const struct gossip_peer *peer,
                             const struct gossip_contact *old)
{
    struct gossip_message m;

    gossip_message_begin(g, &m, GOSSIP_KIND_GOSSIP);
    shl_mp_bool(&m.w, true);
    shl_mp_array(&m.w);
    gossip_write_claim(&m.w, peer, true);
    shl_mp_end(&m.w);
    gossip_message_send(g, &m, old, GOSSIP_LANE_PING);
}

static void take_info(struct gossip_peer *peer, const struct gossip_claim *claim)
{
    gossip_peer_set_info(peer, &claim->info);
    peer->instance = claim->instance;
    peer->over = claim->over;
}

static void believe_alive(struct gossip *g,
                          struct gossip_peer *peer,
                          const struct gossip_claim *claim)
{
    struct gossip_contact old;
    bool renamed, moved;

    if (peer->pub.life != GOSSIP_UNHEARD && claim->incarnation <= peer->pub.incarnation) {
        return;
    }
    if (!is_acceptable(g, peer, claim)) {
        return;
    }
    check_copy(g, peer, claim);
    renamed = !gossip_is_live(peer->pub.life) || strcmp(peer->pub.info.name, claim->info.name) != 0;
    gossip_contact_of(&old, &peer->pub.info);
    moved = peer->instance != 0 && peer->instance != claim->instance &&
            strcmp(old.address, claim->info.control) != 0;
    take_info(peer, claim);
    gossip_peer_set(g, peer, GOSSIP_ALIVE, claim->incarnation);
    if (moved) {
        tell_old_address(g, peer, &old);
    }
    if (renamed) {
        check_name(g, peer);
    }
}

static void believe_suspect(struct gossip *g,
                            const struct shl_node_id *from,
                            struct gossip_peer *peer,
                            const struct gossip_claim *claim)
{
    uint32_t i, valid = 0;

    if (!gossip_is_live(peer->pub.life) || claim->incarnation < peer->pub.incarnation) {
        return;
    }
    for (i = 0; i < claim->accusers.count; i++) {
        const struct shl_node_id *id = &claim->accusers.ids[i];
        const struct gossip_peer *accuser = gossip_peer_find(g, id);
        bool broken = (claim->accusers.broken_mask & (1u << i)) != 0;

        /* Only members accuse, nobody himself, and we know ourselves what we said. */
        if (accuser && accuser != peer && accuser != g->self && gossip_is_live(accuser->pub.life)) {
            (void)gossip_suspect(g, peer, claim->incarnation, id, broken);
            valid++;
        }
    }
    if (valid == 0 && !shl_node_id_equal(from, &claim->id)) {
        (void)gossip_suspect(g, peer, claim->incarnation, from, false);
    }
}

/* Gone since then, not since we heard of it; unless a clock is wrong. */
static void take_age(const struct gossip *g,
                     struct gossip_peer *peer,
                     const struct gossip_claim *claim)
{
    if (claim->gone_s != 0 && claim->gone_s < g->wall_s) {
        peer->pub.gone_s = claim->gone_s;
    }
}

static void believe_gone(struct gossip *g,
                         struct gossip_peer *peer,
                         const struct gossip_claim *claim,
                         bool merge)
{
    enum gossip_life life = peer->pub.life;

    if (claim->incarnation < peer->pub.incarnation && life != GOSSIP_UNHEARD) {
        return;
    }
    if (claim->life == GOSSIP_LEFT) {
        if (life != GOSSIP_LEFT || claim->incarnation > peer->pub.incarnation) {
            gossip_peer_set(g, peer, GOSSIP_LEFT, claim->incarnation);
            take_age(g, peer, claim);
        }
        return;
    }
    if (merge && gossip_is_live(life) && !(g->config.mutations & GOSSIP_MUT_MERGE_KILLS)) {
        /* Old news: whoever is alive gets the time to say so. */
        (void)gossip_suspect(g, peer, claim->incarnation, &g->self->pub.info.id, false);
        return;
    }
    if (gossip_is_live(life) || life == GOSSIP_UNHEARD) {
        gossip_peer_set(g, peer, GOSSIP_DEAD, claim->incarnation);
        take_age(g, peer, claim);
    }
}

/* Somebody new, or only known from the book: enters as claimed. */
static struct gossip_peer *enter(struct gossip *g, const struct gossip_claim *claim)
{
    struct gossip_peer *peer;

    bool is_live = gossip_is_live(claim->life);

    if (!claim->has_info || !is_acceptable(g, NULL, claim) ||
        (!is_live && gossip_is_outdated(g, claim->gone_s))) {
        return NULL; /* the forgotten do not come back from a slower list */
    }
    peer = gossip_peer_add(g, &claim->info);
    if (peer) {
        take_info(peer, claim);
    }
    return peer;
}

void gossip_believe(struct gossip *g,
                    const struct shl_node_id *from,
                    const struct gossip_claim *claim,
                    bool merge)
{
    struct gossip_peer *peer = gossip_peer_find(g, &claim->id);

    if (peer && peer == g->self) {
        believe_self(g, from, claim);
        return;
    }
    if (gossip_is_removed(g, &claim->id)) {
        g->counters.refused_removed++;
        return;
    }
    if (!peer) {
        peer = enter(g, claim);
    }
    if (!peer) {
        return;
    }
    switch (claim->life) {
    case GOSSIP_ALIVE:
        believe_alive(g, peer, claim);
        break;
    case GOSSIP_SUSPECT:
        if (peer->pub.life == GOSSIP_UNHEARD && claim->has_info) {
            struct gossip_claim alive = *claim;

            alive.life = GOSSIP_ALIVE;
            believe_alive(g, peer, &alive);
        }
        believe_suspect(g, from, peer, claim);
        break;
    case GOSSIP_DEAD:
    case GOSSIP_LEFT:
        believe_gone(g, peer, claim, merge);
        break;
    case GOSSIP_UNHEARD:
    case GOSSIP_REMOVED:
        break;
    }
}
