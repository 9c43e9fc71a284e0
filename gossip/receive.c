/* One message from an authenticated peer: checked, refused or dispatched. */
#include <string.h>

#include "gossip/wire.h"

/* ---- refusals ---- */

static void reply_refusal(struct gossip *g,
                          const struct shl_node_id *to,
                          enum gossip_refusal reason)
{
    struct gossip_message m;

    if (!gossip_once(g, to, GOSSIP_RECENT_REFUSE, GOSSIP_REFUSED_WAIT_MS)) {
        return;
    }
    gossip_emit_notice(g, &(struct gossip_notice){
                              .type = GOSSIP_NOTICE_WE_REFUSED,
                              .reason = reason,
                              .id = *to,
                          });
    gossip_message_begin(g, &m, GOSSIP_KIND_REFUSE);
    shl_mp_uint(&m.w, reason);
    shl_mp_uint(&m.w, g->config.self.proto_min);
    shl_mp_uint(&m.w, g->config.self.proto_max);
    gossip_message_reply(g, &m, to, GOSSIP_LANE_PING);
}

static void on_refuse(struct gossip *g,
                      const struct shl_node_id *from,
                      const msgpack_object *message)
{
    uint64_t reason;

    if (!gossip_read_uint(message, 3, GOSSIP_REFUSAL_REMOVED, &reason) ||
        reason == GOSSIP_REFUSAL_NONE) {
        g->counters.malformed++;
        return;
    }
    if (gossip_once(g, from, GOSSIP_RECENT_REFUSED, GOSSIP_REFUSED_WAIT_MS)) {
        gossip_emit_notice(g, &(struct gossip_notice){
                                  .type = GOSSIP_NOTICE_WAS_REFUSED,
                                  .reason = (enum gossip_refusal)reason,
                                  .id = *from,
                              });
    }
}

static void tell_removed(struct gossip *g, const struct shl_node_id *to)
{
    struct gossip_message m;

    g->counters.refused_removed++;
    if (gossip_once(g, to, GOSSIP_RECENT_REMOVED, GOSSIP_REFUSED_WAIT_MS)) {
        gossip_emit_notice(g, &(struct gossip_notice){
                                  .type = GOSSIP_NOTICE_WE_REFUSED,
                                  .reason = GOSSIP_REFUSAL_REMOVED,
                                  .id = *to,
                              });
        gossip_message_begin(g, &m, GOSSIP_KIND_REMOVED);
        gossip_message_reply(g, &m, to, GOSSIP_LANE_PING);
    }
}

static void on_removed(struct gossip *g, const struct shl_node_id *from)
{
    if (gossip_once(g, from, GOSSIP_RECENT_REMOVED, GOSSIP_REFUSED_WAIT_MS)) {
        gossip_emit_notice(g, &(struct gossip_notice){
                                  .type = GOSSIP_NOTICE_WE_ARE_REMOVED,
                                  .reason = GOSSIP_REFUSAL_REMOVED,
                                  .id = *from,
                              });
    }
}

/* ---- rumours ---- */

static bool on_record(struct gossip *g, const msgpack_object *rumour)
{
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct gossip_peer *peer;
    uint64_t generation, version;
    struct shl_node_id id;
    struct shl_bytes value;
    bool unset;

    if (!gossip_read_id(gossip_at(rumour, 1), &id) ||
        !gossip_read_uint(rumour, 2, GOSSIP_INCARNATION_MAX, &generation) ||
        !gossip_read_text(rumour, 3, key, sizeof(key)) || key[0] == '\0' ||
        !gossip_read_uint(rumour, 4, UINT64_MAX - 1, &version) ||
        !gossip_read_value(gossip_at(rumour, 5), &value, &unset)) {
        return false;
    }
    peer = gossip_peer_find(g, &id);
    if (peer && peer != g->self) {
        (void)gossip_record_apply(g, peer, generation, key, version, value, unset);
    } else if (peer) {
        (void)gossip_record_reclaim(g, generation, version);
    }
    return true;
}

static void on_rumours(struct gossip *g,
                       const struct shl_node_id *from,
                       const msgpack_object *rumours,
                       bool merge)
{
    uint32_t i;

    if (!rumours || rumours->type != MSGPACK_OBJECT_ARRAY) {
        g->counters.malformed++;
        return;
    }
    for (i = 0; i < rumours->via.array.size; i++) {
        const msgpack_object *rumour = &rumours->via.array.ptr[i];
        struct gossip_claim claim;
        uint64_t tag;
        bool ok = gossip_read_uint(rumour, 0, UINT64_MAX, &tag);

        if (ok && tag == 0) {
            ok = gossip_read_claim(rumour, &claim);
            if (ok) {
                gossip_believe(g, from, &claim, merge);
            }
        } else if (ok && tag == 1) {
            ok = on_record(g, rumour);
        }
        if (!ok) {
            g->counters.malformed++;
            return;
        }
    }
}

/* ---- kinds ---- */

static void on_ack(struct gossip *g, const struct shl_node_id *from, const msgpack_object *message)
{
    uint64_t seq, digest, record_digest;
    bool is_full = gossip_at(message, 6) != NULL;

    if (!gossip_read_uint(message, 3, UINT64_MAX, &seq) ||
        (is_full && (!gossip_read_uint(message, 4, UINT64_MAX, &digest) ||
                     !gossip_read_uint(message, 5, UINT64_MAX, &record_digest)))) {
        g->counters.malformed++;
        return;
    }
    if (is_full) {
        on_rumours(g, from, gossip_at(message, 6), false);
    }
    if (gossip_on_ack(g, from, seq) && is_full) {
        gossip_sync_compare(g, from, digest, record_digest);
    }
}

/* A bound: an id or nil. */
static bool read_bound(const msgpack_object *object,
                       struct shl_node_id *room,
                       const struct shl_node_id **ret)
{
    *ret = NULL;
    if (object && object->type == MSGPACK_OBJECT_NIL) {
        return true;
    }
    *ret = room;
    return gossip_read_id(object, room);
}

static void on_sync(struct gossip *g, const struct shl_node_id *from, const msgpack_object *message)
{
    const struct shl_node_id *after, *last;
    struct shl_node_id room[2];
    bool answer;

    if (!gossip_read_bool(message, 3, &answer) ||
        !read_bound(gossip_at(message, 4), &room[0], &after) ||
        !read_bound(gossip_at(message, 5), &room[1], &last)) {
        g->counters.malformed++;
        return;
    }
    on_rumours(g, from, gossip_at(message, 7), true);
    gossip_on_sync(g, from, answer, after, last, gossip_at(message, 6));
}

static void dispatch(struct gossip *g,
                     const struct shl_node_id *from,
                     uint64_t kind,
                     const msgpack_object *message)
{
    struct shl_node_id target;
    uint64_t seq;
    bool flag;

    switch (kind) {
    case GOSSIP_KIND_PING:
        if (gossip_read_uint(message, 3, UINT64_MAX, &seq)) {
            on_rumours(g, from, gossip_at(message, 4), false);
            gossip_on_ping(g, from, seq);
            return;
        }
        break;
    case GOSSIP_KIND_PING_REQ:
        if (gossip_read_uint(message, 3, UINT64_MAX, &seq) &&
            gossip_read_id(gossip_at(message, 4), &target)) {
            gossip_on_ping_request(g, from, seq, &target);
            return;
        }
        break;
    case GOSSIP_KIND_ACK:
        on_ack(g, from, message);
        return;
    case GOSSIP_KIND_NACK:
        if (gossip_read_uint(message, 3, UINT64_MAX, &seq) && gossip_read_bool(message, 4, &flag)) {
            gossip_on_nack(g, from, seq, flag);
            return;
        }
        break;
    case GOSSIP_KIND_GOSSIP:
        if (gossip_read_bool(message, 3, &flag)) {
            on_rumours(g, from, gossip_at(message, 4), flag);
            return;
        }
        break;
    case GOSSIP_KIND_SYNC:
        on_sync(g, from, message);
        return;
    case GOSSIP_KIND_WANT:
        gossip_on_want(g, from, gossip_at(message, 3), gossip_at(message, 4));
        return;
    case GOSSIP_KIND_DELTA:
        gossip_on_delta(g, from, message);
        return;
    case GOSSIP_KIND_REMOVED:
        on_removed(g, from);
        return;
    case GOSSIP_KIND_REFUSE:
        on_refuse(g, from, message);
        return;
    default:
        g->counters.unknown_kind++;
        return;
    }
    g->counters.malformed++;
}

/* Somebody we hold for gone, or do not know, speaks: tell it, or ask who it is. */
static void answer_stranger(struct gossip *g, const struct shl_node_id *from, uint64_t kind)
{
    struct gossip_peer *peer = gossip_peer_find(g, from);
    struct gossip_contact to = {.id = *from};

    if (kind == GOSSIP_KIND_SYNC || kind == GOSSIP_KIND_REMOVED || kind == GOSSIP_KIND_REFUSE ||
        g->leaving) {
        return;
    }
    if (peer && (peer->pub.life == GOSSIP_DEAD || peer->pub.life == GOSSIP_LEFT)) {
        if (gossip_once(g, from, GOSSIP_RECENT_GREET, GOSSIP_TELL_MS)) {
            gossip_tell(g, from, peer, GOSSIP_LANE_PING);
        }
        return;
    }
    if ((!peer || peer->pub.life == GOSSIP_UNHEARD) &&
        gossip_once(g, from, GOSSIP_RECENT_GREET, GOSSIP_TELL_MS)) {
        gossip_sync_start(g, &to);
    }
}

/* Our own id: an echo (our own address among the seeds), or a copy of our key. Only what it
 * says about us is heard; the copy is told that we exist. */
static void receive_own(struct gossip *g,
                        const struct shl_node_id *from,
                        uint64_t kind,
                        const msgpack_object *message)
{
    uint64_t before = g->self->pub.incarnation;

    if (kind == GOSSIP_KIND_SYNC) {
        on_rumours(g, from, gossip_at(message, 7), true);
    } else if (kind == GOSSIP_KIND_GOSSIP) {
        on_rumours(g, from, gossip_at(message, 4), true);
    }
    if (g->self->pub.incarnation != before) {
        gossip_tell(g, from, g->self, GOSSIP_LANE_PING);
    }
}

/* SYNC ends with what its sender says about itself. */
static void note_sender(struct gossip *g,
                        const struct shl_node_id *from,
                        uint64_t kind,
                        const msgpack_object *message)
{
    struct gossip_claim claim;

    g->sender = (struct gossip_contact){0};
    if (kind == GOSSIP_KIND_SYNC &&
        gossip_read_claim(gossip_at(gossip_at(message, 7), 0), &claim) && claim.has_info &&
        shl_node_id_equal(&claim.id, from)) {
        gossip_contact_of(&g->sender, &claim.info);
        g->sender_instance = claim.instance;
    }
}

/* We know a newer run of that id than the one that spoke: it hears of it where it is. */
static void answer_older_run(struct gossip *g, const struct shl_node_id *from)
{
    const struct gossip_peer *peer = gossip_peer_find(g, from);

    if (!shl_node_id_is_none(&g->sender.id) && peer && peer->instance != 0 &&
        peer->instance != g->sender_instance) {
        gossip_tell(g, from, peer, GOSSIP_LANE_PING);
    }
}

static void receive_checked(struct gossip *g,
                            const struct shl_node_id *from,
                            uint64_t kind,
                            const msgpack_object *message)
{
    struct gossip_peer *peer;

    if (gossip_is_removed(g, from)) {
        tell_removed(g, from);
        return;
    }
    note_sender(g, from, kind, message);
    peer = gossip_peer_find(g, from);
    if (peer && peer == g->self) {
        receive_own(g, from, kind, message);
    } else {
        if (peer) {
            peer->pub.link_broken = false;
        }
        dispatch(g, from, kind, message);
        answer_stranger(g, from, kind);
        answer_older_run(g, from);
    }
    g->sender = (struct gossip_contact){0};
}

void gossip_receive(struct gossip *g, const struct shl_node_id *from, struct shl_bytes bytes)
{
    const msgpack_object *cluster;
    struct shl_mp_doc doc;
    uint64_t version, kind;

    g->counters.received++;
    g->counters.received_bytes += bytes.len;
    if (shl_node_id_is_none(from) || bytes.len > GOSSIP_MESSAGE_MAX ||
        shl_mp_parse(&doc, bytes) < 0) {
        g->counters.malformed++;
        return;
    }
    cluster = gossip_at(doc.root, 1);
    if (!gossip_read_uint(doc.root, 0, UINT64_MAX, &version) || !cluster ||
        cluster->type != MSGPACK_OBJECT_BIN || cluster->via.bin.size != GOSSIP_CLUSTER_BYTES ||
        !gossip_read_uint(doc.root, 2, UINT64_MAX, &kind)) {
        g->counters.malformed++;
    } else if (kind == GOSSIP_KIND_REFUSE) {
        on_refuse(g, from, doc.root);
    } else if (memcmp(cluster->via.bin.ptr, g->config.cluster, GOSSIP_CLUSTER_BYTES) != 0) {
        g->counters.refused_cluster++;
        reply_refusal(g, from, GOSSIP_REFUSAL_CLUSTER);
    } else if (version == 0 || version > GOSSIP_WIRE_VERSION + 1) {
        g->counters.refused_version++;
        reply_refusal(g, from, GOSSIP_REFUSAL_VERSION);
    } else {
        receive_checked(g, from, kind, doc.root);
    }
    shl_mp_release(&doc);
}
