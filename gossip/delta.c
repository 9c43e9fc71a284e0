/* The second half of anti-entropy: what one side lacks is asked for (WANT), members come as
 * old knowledge (GOSSIP), records in pieces (DELTA), each of which leads to the next WANT. */
#include "gossip/wire.h"

#define IDS_MAX 256 /* members asked for in one WANT */

/* ---- wants ---- */

void gossip_send_wants(struct gossip *g,
                       const struct shl_node_id *to,
                       const struct shl_node_id *ids,
                       uint32_t id_count,
                       const struct gossip_set_want *sets,
                       uint32_t set_count)
{
    uint32_t id_at = 0, set_at = 0, i;

    while (id_at < id_count || set_at < set_count) {
        struct gossip_message m;
        uint32_t id_end = SHL_MIN(id_count, id_at + IDS_MAX);
        uint32_t set_end = SHL_MIN(set_count, set_at + GOSSIP_WANT_MAX);

        gossip_message_begin(g, &m, GOSSIP_KIND_WANT);
        shl_mp_array(&m.w);
        for (i = id_at; i < id_end; i++) {
            gossip_write_id(&m.w, &ids[i]);
        }
        shl_mp_end(&m.w);
        shl_mp_array(&m.w);
        for (i = set_at; i < set_end; i++) {
            shl_mp_array(&m.w);
            gossip_write_id(&m.w, &sets[i].id);
            shl_mp_uint(&m.w, sets[i].generation);
            shl_mp_uint(&m.w, sets[i].from);
            shl_mp_bool(&m.w, sets[i].continues);
            shl_mp_end(&m.w);
        }
        shl_mp_end(&m.w);
        gossip_message_reply(g, &m, to, GOSSIP_LANE_SYNC);
        id_at = id_end;
        set_at = set_end;
    }
}

/* ---- WANT arrives ---- */

/* One piece of @peer's records above @from. */
static void send_delta(struct gossip *g,
                       const struct shl_node_id *to,
                       const struct gossip_peer *peer,
                       uint64_t from,
                       bool reset)
{
    const struct gossip_records *records = &peer->records;
    const struct shl_list *head = &records->by_version, *at = head, *first;
    size_t room = GOSSIP_MESSAGE_MAX - GOSSIP_FRAME_BYTES - 64;
    uint64_t last = from;
    struct gossip_message m;

    while (at->prev != head &&
           shl_container_of(at->prev, struct gossip_entry, by_version)->pub.version > from) {
        at = at->prev;
    }
    first = at;
    /* How far this piece reaches is written before the entries: find out first. */
    for (; at != head; at = at->next) {
        const struct gossip_entry *entry = shl_container_of(at, struct gossip_entry, by_version);
        size_t bytes = gossip_entry_bytes(entry);

        if (bytes > room) {
            break;
        }
        room -= bytes;
        last = entry->pub.version;
    }
    if (at == head || last > records->complete) {
        last = SHL_MAX(records->complete, from);
    }
    gossip_message_begin(g, &m, GOSSIP_KIND_DELTA);
    gossip_write_id(&m.w, &peer->pub.info.id);
    shl_mp_uint(&m.w, records->generation);
    shl_mp_uint(&m.w, from);
    shl_mp_uint(&m.w, last);
    shl_mp_uint(&m.w, SHL_MAX(records->complete, from));
    shl_mp_bool(&m.w, reset);
    shl_mp_array(&m.w);
    for (; first != at; first = first->next) {
        const struct gossip_entry *entry = shl_container_of(first, struct gossip_entry, by_version);

        shl_mp_array(&m.w);
        shl_mp_str(&m.w, entry->pub.key);
        shl_mp_uint(&m.w, entry->pub.version);
        if (entry->unset) {
            shl_mp_nil(&m.w);
        } else {
            shl_mp_bin(&m.w, entry->pub.value.base, entry->pub.value.len);
        }
        shl_mp_end(&m.w);
    }
    shl_mp_end(&m.w);
    shl_mp_uint(&m.w, records->unset_floor);
    gossip_message_reply(g, &m, to, GOSSIP_LANE_SYNC);
}

static void answer_set(struct gossip *g,
                       const struct shl_node_id *to,
                       const struct gossip_set_want *want)
{
    const struct gossip_peer *peer = gossip_peer_find(g, &want->id);
    uint64_t from = want->from;
    bool reset;

    if (!peer || peer->records.generation == 0) {
        return;
    }
    if (want->generation != peer->records.generation) {
        from = 0;
    }
    /* Marks of keys that were unset since are gone: only the whole set tells. */
    reset = from < peer->records.unset_floor && !want->continues;
    send_delta(g, to, peer, reset ? 0 : from, reset);
}

static bool read_set_want(const msgpack_object *object, struct gossip_set_want *ret)
{
    return gossip_read_id(gossip_at(object, 0), &ret->id) &&
           gossip_read_uint(object, 1, GOSSIP_INCARNATION_MAX, &ret->generation) &&
           gossip_read_uint(object, 2, UINT64_MAX - 1, &ret->from) &&
           gossip_read_bool(object, 3, &ret->continues);
}

/* The members that were asked for, as old knowledge with their info. */
static void answer_ids(struct gossip *g,
                       const struct shl_node_id *to,
                       const struct shl_node_id *ids,
                       uint32_t count)
{
    uint32_t at = 0;

    while (at < count) {
        size_t room = GOSSIP_MESSAGE_MAX - GOSSIP_FRAME_BYTES;
        struct gossip_message m;

        gossip_message_begin(g, &m, GOSSIP_KIND_GOSSIP);
        shl_mp_bool(&m.w, true);
        shl_mp_array(&m.w);
        for (; at < count; at++) {
            const struct gossip_peer *peer = gossip_peer_find(g, &ids[at]);
            size_t bytes = peer ? gossip_claim_bytes(peer, true) : 0;

            if (!peer || !gossip_has_row(peer)) {
                continue;
            }
            if (bytes > room) {
                break;
            }
            room -= bytes;
            gossip_write_claim(&m.w, peer, true);
        }
        shl_mp_end(&m.w);
        gossip_message_reply(g, &m, to, GOSSIP_LANE_SYNC);
    }
}

void gossip_on_want(struct gossip *g,
                    const struct shl_node_id *from,
                    const msgpack_object *ids,
                    const msgpack_object *sets)
{
    struct shl_node_id id_list[IDS_MAX];
    struct gossip_set_want set_list[GOSSIP_WANT_MAX];
    uint32_t i, id_count, set_count;

    if (!ids || ids->type != MSGPACK_OBJECT_ARRAY || ids->via.array.size > IDS_MAX || !sets ||
        sets->type != MSGPACK_OBJECT_ARRAY || sets->via.array.size > GOSSIP_WANT_MAX) {
        g->counters.malformed++;
        return;
    }
    id_count = ids->via.array.size;
    set_count = sets->via.array.size;
    for (i = 0; i < id_count; i++) {
        if (!gossip_read_id(&ids->via.array.ptr[i], &id_list[i])) {
            g->counters.malformed++;
            return;
        }
    }
    for (i = 0; i < set_count; i++) {
        if (!read_set_want(&sets->via.array.ptr[i], &set_list[i])) {
            g->counters.malformed++;
            return;
        }
    }
    answer_ids(g, from, id_list, id_count);
    for (i = 0; i < set_count; i++) {
        answer_set(g, from, &set_list[i]);
    }
}

/* ---- DELTA arrives ---- */

struct delta {
    struct shl_node_id id;
    uint64_t generation, from, to, top;
    uint64_t floor; /* marks up to here may be missing */
    bool reset;
};

static bool read_delta(const msgpack_object *message, struct delta *ret)
{
    ret->floor = UINT64_MAX; /* an older version says nothing of it */
    if (gossip_at(message, 10) && !gossip_read_uint(message, 10, UINT64_MAX - 1, &ret->floor)) {
        return false;
    }
    return gossip_read_id(gossip_at(message, 3), &ret->id) &&
           gossip_read_uint(message, 4, GOSSIP_INCARNATION_MAX, &ret->generation) &&
           gossip_read_uint(message, 5, UINT64_MAX - 1, &ret->from) &&
           gossip_read_uint(message, 6, UINT64_MAX - 1, &ret->to) &&
           gossip_read_uint(message, 7, UINT64_MAX - 1, &ret->top) &&
           gossip_read_bool(message, 8, &ret->reset) && ret->generation > 0 &&
           ret->from <= ret->to && ret->to <= ret->top;
}

static bool apply_delta_entry(struct gossip *g,
                              struct gossip_peer *peer,
                              const struct delta *delta,
                              const msgpack_object *object)
{
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct shl_bytes value;
    uint64_t version;
    bool unset;

    if (!gossip_read_text(object, 0, key, sizeof(key)) || key[0] == '\0' ||
        !gossip_read_uint(object, 1, UINT64_MAX - 1, &version) ||
        !gossip_read_value(gossip_at(object, 2), &value, &unset)) {
        return false;
    }
    (void)gossip_record_apply(g, peer, delta->generation, key, version, value, unset);
    return true;
}

/* The piece joins what we have: go on, or finish. */
static void advance_delta(struct gossip *g,
                          const struct shl_node_id *from,
                          struct gossip_peer *peer,
                          const struct delta *delta)
{
    struct gossip_records *records = &peer->records;

    if (delta->from > records->complete) {
        return; /* a hole before this piece: the next comparison asks again */
    }
    gossip_record_complete(g, peer, delta->to);
    if (delta->floor > delta->from) {
        records->unset_floor = SHL_MAX(records->unset_floor, SHL_MIN(delta->floor, delta->to));
    }
    if (records->complete >= delta->top) {
        if (records->resetting) {
            gossip_record_reset_end(g, peer);
        }
        return;
    }
    if (delta->to > delta->from) {
        /* Marks can be dropped between two pieces, which hurts only who keeps what it had. */
        struct gossip_set_want next = {delta->id, delta->generation, records->complete,
                                       records->resetting};

        gossip_send_wants(g, from, NULL, 0, &next, 1);
    }
}

void gossip_on_delta(struct gossip *g,
                     const struct shl_node_id *from,
                     const msgpack_object *message)
{
    const msgpack_object *entries = gossip_at(message, 9);
    struct gossip_peer *peer;
    struct delta delta;
    uint32_t i;

    if (!read_delta(message, &delta) || !entries || entries->type != MSGPACK_OBJECT_ARRAY) {
        g->counters.malformed++;
        return;
    }
    peer = gossip_peer_find(g, &delta.id);
    if (!peer || peer == g->self || delta.generation < peer->records.generation) {
        return;
    }
    if (delta.generation > peer->records.generation) {
        gossip_record_generation(g, peer, delta.generation);
    }
    if (delta.reset) {
        gossip_record_reset_begin(g, peer);
    }
    for (i = 0; i < entries->via.array.size; i++) {
        if (!apply_delta_entry(g, peer, &delta, &entries->via.array.ptr[i])) {
            g->counters.malformed++;
            return;
        }
    }
    advance_delta(g, from, peer, &delta);
}
