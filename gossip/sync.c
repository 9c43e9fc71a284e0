/* Anti-entropy. The asker lists what it knows in rows (SYNC); the asked one wants what it
 * lacks (WANT) and lists in turn what the asker lacks (SYNC with answer), who wants it then.
 * Nothing is remembered between messages, each of them is bounded, and a lost one is made up
 * for by the next comparison. */
#include <assert.h>
#include <string.h>

#include "gossip/wire.h"

#define ROWS_MAX ((GOSSIP_MESSAGE_MAX - 2048) / GOSSIP_ROW_BYTES)

/* What a SYNC message leads to; filled while its rows are read, sent afterwards. */
struct outcome {
    struct shl_node_id ids[ROWS_MAX];
    uint32_t id_count;
    struct gossip_set_want sets[ROWS_MAX];
    uint32_t set_count;
};

/* ---- rows ---- */

/* Head of a SYNC up to its rows, which are left open. */
static void begin_sync(struct gossip *g,
                       struct gossip_message *m,
                       bool answer,
                       const struct shl_node_id *after,
                       const struct shl_node_id *last)
{
    gossip_message_begin(g, m, GOSSIP_KIND_SYNC);
    shl_mp_bool(&m->w, answer);
    if (after) {
        gossip_write_id(&m->w, after);
    } else {
        shl_mp_nil(&m->w);
    }
    if (last) {
        gossip_write_id(&m->w, last);
    } else {
        shl_mp_nil(&m->w);
    }
    shl_mp_array(&m->w);
}

/* Closes the rows; we introduce ourselves at the end. */
static void end_sync(struct gossip *g, struct gossip_message *m, const struct gossip_contact *to)
{
    shl_mp_end(&m->w);
    shl_mp_array(&m->w);
    gossip_write_claim(&m->w, g->self, true);
    shl_mp_end(&m->w);
    gossip_message_send(g, m, to, GOSSIP_LANE_SYNC);
}

void gossip_sync_start(struct gossip *g, const struct gossip_contact *to)
{
    const struct shl_node_id *after = NULL;
    uint32_t at = 0;

    g->counters.syncs++;
    do {
        struct gossip_message m;
        uint32_t end = SHL_MIN(at + (uint32_t)ROWS_MAX, g->peer_count);
        const struct shl_node_id *last =
            end < g->peer_count ? &g->peers[end - 1]->pub.info.id : NULL;

        begin_sync(g, &m, false, after, last);
        for (; at < end; at++) {
            if (gossip_has_row(g->peers[at])) {
                gossip_write_row(&m.w, g->peers[at]);
            }
        }
        end_sync(g, &m, to);
        after = last;
    } while (at < g->peer_count);
}

static int severity(enum gossip_life life)
{
    return life == GOSSIP_ALIVE ? 0 : (int)life;
}

/* Does (incarnation, life) of the first overrule the second's? */
static bool is_newer(uint64_t incarnation,
                     enum gossip_life life,
                     uint64_t than_incarnation,
                     enum gossip_life than_life)
{
    if (incarnation != than_incarnation) {
        return incarnation > than_incarnation;
    }
    return severity(life) > severity(than_life);
}

static void want_id(struct outcome *outcome, const struct shl_node_id *id)
{
    if (outcome->id_count < SHL_ARRAY_SIZE(outcome->ids)) {
        outcome->ids[outcome->id_count++] = *id;
    }
}

static void want_set(struct outcome *outcome, const struct gossip_row *row, uint64_t from)
{
    if (outcome->set_count < SHL_ARRAY_SIZE(outcome->sets)) {
        outcome->sets[outcome->set_count++] =
            (struct gossip_set_want){row->id, row->generation, from, false};
    }
}

/* Records of somebody gone for long are not fetched again. */
static bool keeps_records(const struct gossip *g, const struct gossip_peer *peer)
{
    return gossip_is_live(peer->pub.life) || peer->pub.life == GOSSIP_UNHEARD ||
           g->now_ms - peer->pub.since_ms < g->config.timing.records_keep_ms;
}

/* True when we have records that the row's sender lacks. */
static bool compare_records(struct gossip *g,
                            struct gossip_peer *peer,
                            const struct gossip_row *row,
                            struct outcome *outcome)
{
    struct gossip_records *ours = &peer->records;

    if (row->generation > ours->generation) {
        if (row->top == 0) {
            gossip_record_generation(g, peer, row->generation); /* begun anew, nothing written */
        } else if (keeps_records(g, peer)) {
            want_set(outcome, row, 0);
        }
        return false;
    }
    if (row->generation < ours->generation) {
        return ours->top > 0;
    }
    if (row->hash == ours->hash && row->top == ours->top) {
        /* The same content: whoever is surer of it is right for both. The marks between are
         * fetched, so that this node can hand on what is newer, unless all of them are. */
        if (row->complete > ours->complete && row->complete <= ours->top) {
            if (ours->resetting) {
                gossip_record_equal(peer, row->complete);
            } else {
                want_set(outcome, row, ours->complete);
            }
        }
        return false;
    }
    if (row->complete == ours->complete && row->top == ours->top) {
        want_set(outcome, row, ours->complete); /* different holes: both want */
        return true;
    }
    if (row->complete > ours->complete || row->top > ours->top) {
        want_set(outcome, row, ours->complete);
    }
    return ours->complete > row->complete || ours->top > row->top;
}

/* A row about ourselves. True when its sender should hear from us. What another run of our
 * id claims is asked for in full: whom it overruled tells our past from a copy. */
static bool compare_self(struct gossip *g, const struct gossip_row *row, struct outcome *outcome)
{
    struct gossip_peer *self = g->self;
    bool is_foreign = row->instance != 0 && row->instance != self->instance;

    if (is_foreign && row->life == GOSSIP_ALIVE && row->incarnation >= self->pub.incarnation) {
        want_id(outcome, &row->id);
    }

    if (gossip_record_reclaim(g, row->generation, row->top)) {
        return true;
    }
    if (row->life != GOSSIP_ALIVE && row->life != GOSSIP_UNHEARD &&
        row->incarnation >= self->pub.incarnation) {
        if (!g->leaving) {
            gossip_refute(g, row->incarnation, 0);
        }
        return true;
    }
    return row->incarnation < self->pub.incarnation || row->generation < self->records.generation ||
           row->top < self->records.top || row->hash != self->records.hash;
}

/* Opinions that need no info are taken from the row itself. */
static void take_row(struct gossip *g, const struct shl_node_id *from, const struct gossip_row *row)
{
    struct gossip_claim claim = {
        .life = row->life,
        .id = row->id,
        .incarnation = row->incarnation,
        .gone_s = row->gone_s,
        .accusers = {.ids = {*from}, .count = 1},
    };

    if (row->life == GOSSIP_SUSPECT || row->life == GOSSIP_DEAD || row->life == GOSSIP_LEFT) {
        gossip_believe(g, from, &claim, true);
    }
}

/* True when the sender of @row lacks something that we have about it. */
static bool compare_row(struct gossip *g,
                        const struct shl_node_id *from,
                        const struct gossip_row *row,
                        struct outcome *outcome)
{
    struct gossip_peer *peer = gossip_peer_find(g, &row->id);
    bool tell;

    if (peer && peer == g->self) {
        return compare_self(g, row, outcome);
    }
    if (gossip_is_removed(g, &row->id)) {
        return false;
    }
    if (!peer || peer->pub.life == GOSSIP_UNHEARD) {
        if (row->life != GOSSIP_UNHEARD &&
            (gossip_is_live(row->life) || !gossip_is_outdated(g, row->gone_s))) {
            want_id(outcome, &row->id);
            if (row->top > 0) {
                want_set(outcome, row, 0);
            }
        }
        return false;
    }
    tell = row->life == GOSSIP_UNHEARD ||
           is_newer(peer->pub.incarnation, peer->pub.life, row->incarnation, row->life);
    if (row->life == GOSSIP_ALIVE && row->incarnation > peer->pub.incarnation) {
        want_id(outcome, &row->id);
    } else if (row->life != GOSSIP_UNHEARD &&
               is_newer(row->incarnation, row->life, peer->pub.incarnation, peer->pub.life)) {
        take_row(g, from, row);
    }
    /* The same incarnation claimed by two runs: that node must hear of it. */
    if (row->incarnation == peer->pub.incarnation && row->instance != peer->instance &&
        row->instance != 0 && peer->instance != 0) {
        tell = true;
    }
    return compare_records(g, peer, row, outcome) || tell;
}

/* ---- SYNC arrives ---- */

/* Rows of @tell[0..count), as an answer. */
static void send_answer(struct gossip *g,
                        const struct shl_node_id *to,
                        struct gossip_peer **tell,
                        uint32_t count)
{
    struct gossip_contact contact;
    uint32_t at = 0;

    gossip_contact_for(g, to, &contact);
    while (at < count) {
        uint32_t end = SHL_MIN(count, at + (uint32_t)ROWS_MAX);
        struct gossip_message m;

        begin_sync(g, &m, true, NULL, NULL);
        for (; at < end; at++) {
            gossip_write_row(&m.w, tell[at]);
        }
        end_sync(g, &m, &contact);
    }
}

static bool is_in_range(const struct gossip_peer *peer,
                        const struct shl_node_id *after,
                        const struct shl_node_id *last)
{
    const struct shl_node_id *id = &peer->pub.info.id;

    return (!after || shl_node_id_compare(id, after) > 0) &&
           (!last || shl_node_id_compare(id, last) <= 0);
}

static bool is_listed(const struct shl_node_id *sorted,
                      uint32_t count,
                      const struct shl_node_id *id)
{
    uint32_t low = 0, high = count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = shl_node_id_compare(id, &sorted[mid]);

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return false;
}

/* Reads all rows. Their ids, ascending, go to @ids; false when they are not in order. */
static bool read_rows(const msgpack_object *rows, struct gossip_row *ret, uint32_t *ret_count)
{
    uint32_t i;

    if (!rows || rows->type != MSGPACK_OBJECT_ARRAY || rows->via.array.size > ROWS_MAX) {
        return false;
    }
    for (i = 0; i < rows->via.array.size; i++) {
        if (!gossip_read_row(&rows->via.array.ptr[i], &ret[i])) {
            return false;
        }
        if (i > 0 && shl_node_id_compare(&ret[i - 1].id, &ret[i].id) >= 0) {
            return false;
        }
    }
    *ret_count = i;
    return true;
}

void gossip_on_sync(struct gossip *g,
                    const struct shl_node_id *from,
                    bool answer,
                    const struct shl_node_id *after,
                    const struct shl_node_id *last,
                    const msgpack_object *rows)
{
    struct gossip_row list[ROWS_MAX];
    struct shl_node_id ids[ROWS_MAX];
    struct gossip_peer *tell[GOSSIP_MEMBERS_MAX + GOSSIP_BOOK_MAX];
    struct outcome outcome;
    uint32_t count, i, tell_count = 0;

    if (!read_rows(rows, list, &count)) {
        g->counters.malformed++;
        return;
    }
    outcome.id_count = 0;
    outcome.set_count = 0;
    for (i = 0; i < count; i++) {
        ids[i] = list[i].id;
        /* Rows carry no info, so nobody enters or leaves the list meanwhile. */
        if (compare_row(g, from, &list[i], &outcome)) {
            tell[tell_count] = gossip_peer_find(g, &list[i].id);
            tell_count += tell[tell_count] != NULL;
        }
    }
    for (i = 0; !answer && i < g->peer_count; i++) {
        struct gossip_peer *peer = g->peers[i];

        if (gossip_has_row(peer) && is_in_range(peer, after, last) &&
            !is_listed(ids, count, &peer->pub.info.id) && tell_count < SHL_ARRAY_SIZE(tell)) {
            tell[tell_count++] = peer;
        }
    }
    gossip_send_wants(g, from, outcome.ids, outcome.id_count, outcome.sets, outcome.set_count);
    if (!answer) {
        send_answer(g, from, tell, tell_count);
    }
}

/* ---- when ---- */

void gossip_tell(struct gossip *g,
                 const struct shl_node_id *to,
                 const struct gossip_peer *about,
                 enum gossip_lane lane)
{
    struct gossip_message m;

    gossip_message_begin(g, &m, GOSSIP_KIND_GOSSIP);
    shl_mp_bool(&m.w, true);
    shl_mp_array(&m.w);
    gossip_write_claim(&m.w, about, true);
    shl_mp_end(&m.w);
    gossip_message_reply(g, &m, to, lane);
}

void gossip_sync_compare(struct gossip *g,
                         const struct shl_node_id *from,
                         uint64_t digest,
                         uint64_t record_digest)
{
    const struct gossip_timing *timing = &g->config.timing;
    uint64_t pause = timing->sync_least_ms;
    struct gossip_peer *peer;
    struct gossip_contact to;

    if ((digest == g->digest && record_digest == g->record_digest) ||
        (g->config.mutations & GOSSIP_MUT_DIGEST_IGNORED)) {
        return;
    }
    /* News on its way makes digests differ as well: wait for quiet, but not for ever. */
    if (g->now_ms - g->digest_at_ms < timing->sync_settle_ms) {
        pause *= 3;
    }
    peer = gossip_peer_find(g, from);
    if (g->now_ms - g->digest_sync_at_ms < pause || !peer) {
        return;
    }
    g->digest_sync_at_ms = g->now_ms;
    g->counters.syncs_by_digest++;
    gossip_contact_of(&to, &peer->pub.info);
    gossip_sync_start(g, &to);
}

static bool is_partner(const struct gossip *g, const struct gossip_peer *peer)
{
    return peer != g->self && peer->pub.life == GOSSIP_ALIVE;
}

static struct gossip_peer *random_partner(struct gossip *g)
{
    uint32_t start = gossip_random_below(g, g->peer_count), i;

    for (i = 0; i < g->peer_count; i++) {
        struct gossip_peer *peer = g->peers[(start + i) % g->peer_count];

        if (is_partner(g, peer)) {
            return peer;
        }
    }
    return NULL;
}

void gossip_sync_tick(struct gossip *g)
{
    struct gossip_peer *peer;
    struct gossip_contact to;

    if (g->live_count <= 1 || g->leaving || g->now_ms < g->sync_at_ms) {
        return;
    }
    g->sync_at_ms = g->now_ms + gossip_sync_ms(&g->config.timing, g->live_count);
    gossip_record_purge(g);
    gossip_forget_old(g);
    peer = random_partner(g);
    if (peer) {
        gossip_contact_of(&to, &peer->pub.info);
        gossip_sync_start(g, &to);
    }
}

uint64_t gossip_sync_wake(const struct gossip *g)
{
    return g->live_count <= 1 || g->leaving ? UINT64_MAX : g->sync_at_ms;
}
