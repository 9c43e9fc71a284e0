/* Coming back together: peers that are lost are remembered on disk and dialled for days, from
 * both sides, so that a partition heals without an operator. Removed nodes stay out. */
#include <string.h>

#include "gossip/wire.h"

#define BOOK_VERSION 1

/* ---- dialling ---- */

static void dial(struct gossip *g, const struct gossip_contact *to)
{
    g->counters.heals++;
    gossip_sync_start(g, to);
}

static bool is_lost(const struct gossip *g, const struct gossip_peer *peer)
{
    return peer != g->self && (peer->pub.life == GOSSIP_DEAD || peer->pub.life == GOSSIP_UNHEARD);
}

/* Lost members are dialled as such; of seeds only those of whom no member is known. */
static bool is_open_seed(const struct gossip *g, const struct gossip_contact *seed)
{
    uint32_t i;

    for (i = 0; i < g->peer_count; i++) {
        const struct gossip_info *info = &g->peers[i]->pub.info;

        if (shl_node_id_equal(&info->id, &seed->id) ||
            strncmp(info->control, seed->address, sizeof(seed->address)) == 0) {
            return false;
        }
    }
    return true;
}

static void dial_one_lost(struct gossip *g)
{
    uint32_t i, count = 0;
    struct gossip_contact to;
    bool found = false;

    /* One of count candidates with equal chances, in one pass. */
    for (i = 0; i < g->peer_count; i++) {
        if (is_lost(g, g->peers[i]) && gossip_random_below(g, ++count) == 0) {
            gossip_contact_of(&to, &g->peers[i]->pub.info);
            found = true;
        }
    }
    for (i = 0; i < g->seed_count; i++) {
        if (is_open_seed(g, &g->seeds[i]) && gossip_random_below(g, ++count) == 0) {
            to = g->seeds[i];
            found = true;
        }
    }
    if (found) {
        dial(g, &to);
    }
}

/* A way to somebody has opened of whom only the name is known: what was sent before went
 * nowhere. The dead are dialled in their turn. */
void gossip_heal_link(struct gossip *g, const struct gossip_peer *peer)
{
    struct gossip_contact to;

    if (peer->pub.life == GOSSIP_UNHEARD && !g->leaving) {
        gossip_contact_of(&to, &peer->pub.info);
        dial(g, &to);
    }
}

/* ---- when ---- */

static bool is_urgent(const struct gossip *g)
{
    return g->view > 1 && 2 * g->live_count <= g->view;
}

void gossip_heal_view(struct gossip *g)
{
    if (g->live_count >= g->view) {
        g->view = g->live_count;
    }
    g->view_low_at_ms = g->now_ms;
    if (is_urgent(g)) {
        g->heal_at_ms = SHL_MIN(g->heal_at_ms, g->now_ms + g->config.timing.heal_urgent_ms);
    }
}

static bool has_anybody_lost(const struct gossip *g)
{
    return g->seed_count > 0 || g->peer_count > g->live_count + g->left_count;
}

static void tick_book(struct gossip *g)
{
    if (g->book_dirty && g->now_ms >= g->book_at_ms) {
        g->book_dirty = false;
        g->book_at_ms = g->now_ms + g->config.timing.book_save_ms;
        g->out->persist.book = true;
    }
}

static void tick_leave(struct gossip *g)
{
    bool is_told = !g->self->rumour.queued || g->live_count == 0;

    if (g->leaving && !g->left_told && (is_told || g->now_ms >= g->leave_end_ms)) {
        g->left_told = true;
        gossip_emit_notice(g, &(struct gossip_notice){
                                  .type = GOSSIP_NOTICE_LEAVE_DONE,
                                  .id = g->self->pub.info.id,
                              });
    }
}

void gossip_heal_tick(struct gossip *g)
{
    const struct gossip_timing *timing = &g->config.timing;

    tick_book(g);
    tick_leave(g);
    if (g->leaving || g->now_ms < g->heal_at_ms || !has_anybody_lost(g)) {
        return;
    }
    if (g->live_count < g->view && g->now_ms - g->view_low_at_ms >= timing->view_settle_ms) {
        g->view = g->live_count;
    }
    g->heal_at_ms = g->now_ms + (is_urgent(g) ? timing->heal_urgent_ms : timing->heal_ms);
    gossip_forget_old(g);
    if (g->config.mutations & GOSSIP_MUT_NO_HEALING) {
        return;
    }
    dial_one_lost(g);
}

uint64_t gossip_heal_wake(const struct gossip *g)
{
    uint64_t wake = UINT64_MAX;

    if (!g->leaving && has_anybody_lost(g)) {
        wake = g->heal_at_ms;
    }
    if (g->book_dirty) {
        wake = SHL_MIN(wake, g->book_at_ms);
    }
    if (g->leaving && !g->left_told) {
        wake = SHL_MIN(wake, g->leave_end_ms);
    }
    return wake;
}

/* ---- events ---- */

static void add_seed(struct gossip *g, const struct gossip_contact *contact)
{
    uint32_t i;

    for (i = 0; i < g->seed_count; i++) {
        if (shl_node_id_equal(&g->seeds[i].id, &contact->id) &&
            strncmp(g->seeds[i].address, contact->address, sizeof(contact->address)) == 0) {
            return;
        }
    }
    if (g->seed_count == GOSSIP_SEEDS_MAX) {
        memmove(g->seeds, g->seeds + 1, (GOSSIP_SEEDS_MAX - 1) * sizeof(g->seeds[0]));
        g->seed_count--;
    }
    g->seeds[g->seed_count++] = *contact;
}

static void remove_seed(struct gossip *g, const struct shl_node_id *id)
{
    uint32_t i, kept = 0;

    for (i = 0; i < g->seed_count; i++) {
        if (!shl_node_id_equal(&g->seeds[i].id, id)) {
            g->seeds[kept++] = g->seeds[i];
        }
    }
    g->seed_count = kept;
}

static bool is_own_contact(const struct gossip *g, const struct gossip_contact *contact)
{
    const struct gossip_info *self = &g->self->pub.info;

    return shl_node_id_equal(&contact->id, &self->id) ||
           strncmp(contact->address, self->control, sizeof(contact->address)) == 0;
}

int gossip_join(struct gossip *g, const struct gossip_contact *contacts, uint32_t count)
{
    uint32_t i, dialled = 0;

    if (count > GOSSIP_SEEDS_MAX) {
        return SHL_ELIMIT;
    }
    for (i = 0; i < count; i++) {
        if (!memchr(contacts[i].address, 0, sizeof(contacts[i].address))) {
            return SHL_EINVALIDARG;
        }
    }
    if (g->leaving) {
        g->leaving = false;
        g->left_told = false;
        gossip_refute(g, g->self->pub.incarnation, 0);
    }
    for (i = 0; i < count; i++) {
        if (is_own_contact(g, &contacts[i])) {
            continue; /* a list of seeds may name every node */
        }
        add_seed(g, &contacts[i]);
        if (dialled < GOSSIP_DIAL_MAX) {
            dial(g, &contacts[i]);
            dialled++;
        }
    }
    g->heal_at_ms = g->now_ms + g->config.timing.heal_urgent_ms;
    return 0;
}

void gossip_leave(struct gossip *g)
{
    if (g->leaving) {
        return;
    }
    g->leaving = true;
    g->left_told = false;
    g->leave_end_ms = g->now_ms + g->config.timing.leave_ms;
    gossip_peer_set(g, g->self, GOSSIP_LEFT, g->self->pub.incarnation);
    g->gossip_at_ms = g->now_ms;
}

/* ---- removed for good ---- */

static uint32_t find_removed(const struct gossip *g, const struct shl_node_id *id)
{
    uint32_t low = 0, high = g->removed_count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (shl_node_id_compare(&g->removed[mid].id, id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

bool gossip_is_removed(const struct gossip *g, const struct shl_node_id *id)
{
    uint32_t at = find_removed(g, id);

    return at < g->removed_count && shl_node_id_equal(&g->removed[at].id, id) &&
           !(g->config.mutations & GOSSIP_MUT_REMOVED_FORGOTTEN);
}

static void erase_removed(struct gossip *g, uint32_t at)
{
    memmove(g->removed + at, g->removed + at + 1,
            (g->removed_count - at - 1) * sizeof(g->removed[0]));
    g->removed_count--;
}

static void insert_removed(struct gossip *g, const struct shl_node_id *id)
{
    uint32_t at, i, oldest = 0;

    if (g->removed_count == GOSSIP_REMOVED_MAX) {
        for (i = 1; i < g->removed_count; i++) {
            oldest = g->removed[i].until_s < g->removed[oldest].until_s ? i : oldest;
        }
        erase_removed(g, oldest);
    }
    at = find_removed(g, id);
    memmove(g->removed + at + 1, g->removed + at, (g->removed_count - at) * sizeof(g->removed[0]));
    g->removed[at] = (struct gossip_tombstone){
        .id = *id,
        .until_s = g->wall_s ? g->wall_s + g->config.timing.removed_keep_s : 0,
    };
    g->removed_count++;
}

int gossip_remove(struct gossip *g, const struct shl_node_id *id)
{
    struct gossip_peer *peer = gossip_peer_find(g, id);

    if (shl_node_id_is_none(id) || peer == g->self) {
        return SHL_EINVALIDARG;
    }
    if (!gossip_is_removed(g, id)) {
        insert_removed(g, id);
    }
    remove_seed(g, id);
    if (peer) {
        enum gossip_life before = peer->pub.life;

        g->view -= gossip_is_live(before) && g->view > 0;
        gossip_peer_drop(g, peer);
        gossip_emit_gone(g, id, before);
        gossip_heal_view(g);
    }
    return 0;
}

int gossip_admit(struct gossip *g, const struct gossip_info *infos, uint32_t count)
{
    uint32_t i, dialled = 0;

    for (i = 0; i < count; i++) {
        if (gossip_info_check(g, &infos[i], NULL) < 0) {
            return SHL_EINVALIDARG;
        }
    }
    for (i = 0; i < count; i++) {
        struct gossip_contact to;

        if (gossip_is_removed(g, &infos[i].id)) {
            erase_removed(g, find_removed(g, &infos[i].id));
        }
        if (gossip_peer_find(g, &infos[i].id) || !gossip_peer_add(g, &infos[i])) {
            continue;
        }
        if (dialled++ < GOSSIP_DIAL_MAX && !g->leaving) {
            gossip_contact_of(&to, &infos[i]);
            dial(g, &to);
        }
    }
    return 0;
}

/* ---- the book ---- */

void gossip_book_touch(struct gossip *g)
{
    g->book_dirty = true;
}

int gossip_book_encode(const struct gossip *g, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    uint32_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_array(&w);
    shl_mp_uint(&w, BOOK_VERSION);
    shl_mp_array(&w);
    for (i = 0; i < g->peer_count; i++) {
        const struct gossip_peer *peer = g->peers[i];
        bool is_live = gossip_is_live(peer->pub.life);

        if (peer == g->self) {
            continue;
        }
        shl_mp_array(&w);
        gossip_write_id(&w, &peer->pub.info.id);
        shl_mp_uint(&w, peer->pub.life);
        shl_mp_uint(&w, peer->pub.incarnation);
        shl_mp_uint(&w, is_live ? 0 : peer->pub.gone_s);
        gossip_write_info(&w, &peer->pub.info, peer->instance, peer->over);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

/* A peer of an earlier run. We have no opinion about it yet, unless it said good-bye. */
static int load_peer(struct gossip *g, const msgpack_object *row)
{
    struct gossip_info info = {0};
    uint64_t life, incarnation, gone_s, instance, over;
    struct gossip_peer *peer;

    if (!gossip_read_id(gossip_at(row, 0), &info.id) ||
        !gossip_read_uint(row, 1, GOSSIP_LEFT, &life) ||
        !gossip_read_uint(row, 2, GOSSIP_INCARNATION_MAX, &incarnation) ||
        !gossip_read_uint(row, 3, UINT64_MAX, &gone_s) ||
        !gossip_read_info(gossip_at(row, 4), &info, &instance, &over) ||
        gossip_info_check(g, &info, NULL) < 0) {
        return SHL_ECORRUPT;
    }
    if (gossip_peer_find(g, &info.id)) {
        return 0;
    }
    peer = gossip_peer_add(g, &info);
    if (!peer) {
        return g->out->error;
    }
    peer->pub.gone_s = gone_s;
    if (life == GOSSIP_LEFT) {
        peer->pub.life = GOSSIP_LEFT;
        peer->pub.incarnation = incarnation;
        g->left_count++;
    }
    return 0;
}

int gossip_book_load(struct gossip *g, struct shl_bytes book, struct shl_err *err)
{
    const msgpack_object *rows;
    struct shl_mp_doc doc;
    uint64_t version;
    uint32_t i;
    int rc;

    if (book.len == 0) {
        return 0;
    }
    rc = shl_mp_parse(&doc, book);
    if (rc < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the book of peers is damaged");
    }
    rows = gossip_at(doc.root, 1);
    if (!gossip_read_uint(doc.root, 0, BOOK_VERSION, &version) || version != BOOK_VERSION ||
        !rows || rows->type != MSGPACK_OBJECT_ARRAY) {
        rc = SHL_ECORRUPT;
    }
    for (i = 0; rc == 0 && i < rows->via.array.size; i++) {
        rc = load_peer(g, &rows->via.array.ptr[i]);
    }
    shl_mp_release(&doc);
    return rc < 0 ? shl_err_set(err, rc, "the book of peers cannot be used") : 0;
}
