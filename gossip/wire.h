/* Layout of the messages: msgpack arrays. Every message is
 *
 *     [wire version, cluster, kind, ...]
 *
 *     PING      seq, rumours
 *     PING_REQ  seq, target                 ask for a ping of target, answer ACK or NACK
 *     ACK       seq, digest, record digest, rumours       (a relayed one ends after seq)
 *     NACK      seq, broken                 no ack yet; broken: no connection either
 *     GOSSIP    merge, rumours              merge: old knowledge, not news
 *     SYNC      answer, after, last, rows, rumours   rows of all members in (after, last];
 *                                           nil: no bound. An answer has rows without a range
 *     WANT      ids, [[id, generation, from, continues]...]   answered by GOSSIP and DELTA
 *     DELTA     id, generation, from, to, top, reset, [[key, version, value|nil]...], floor
 *                                           floor: marks of unset keys up to it may be missing
 *     REMOVED                               the receiver was removed from the cluster
 *     REFUSE    reason, proto min, proto max        sent and heard across clusters
 *
 *     rumour    [0, life, id, incarnation, accusers|nil, broken mask, info|nil, gone]
 *               [1, id, generation, key, version, value|nil]
 *     info      [instance, over, key, name, control, bulk, api, domain, flags, proto min, max]
 *     row       [id, life, incarnation, instance, generation, top, complete, hash, gone]
 *
 * gone: wall clock (s) of the end of its life, 0 while live or unknown.
 *
 * Arrays may be longer than known here (a newer version's fields) and unknown kinds are
 * ignored. Writers append to the arena of the step's actions.
 */
#ifndef SHL_GOSSIP_WIRE_H
#define SHL_GOSSIP_WIRE_H

#include "base/mp.h"
#include "gossip/core.h"

enum gossip_kind {
    GOSSIP_KIND_PING = 1,
    GOSSIP_KIND_PING_REQ = 2,
    GOSSIP_KIND_ACK = 3,
    GOSSIP_KIND_NACK = 4,
    GOSSIP_KIND_GOSSIP = 5,
    GOSSIP_KIND_SYNC = 6,
    GOSSIP_KIND_WANT = 7,
    GOSSIP_KIND_DELTA = 8,
    GOSSIP_KIND_REMOVED = 9,
    GOSSIP_KIND_REFUSE = 10,
};

#define GOSSIP_ROW_BYTES   96  /* no row is longer */
#define GOSSIP_CLAIM_BYTES 320 /* no rumour about a member is longer, strings not counted */
#define GOSSIP_FRAME_BYTES 96  /* of a message around its rows or rumours */

struct gossip_row {
    struct shl_node_id id;
    enum gossip_life life;
    uint64_t incarnation;
    uint64_t instance;
    uint64_t generation;
    uint64_t top;
    uint64_t complete;
    uint64_t hash;
    uint64_t gone_s;
};

/* Records of one node that are asked for: all above @from. */
struct gossip_set_want {
    struct shl_node_id id;
    uint64_t generation;
    uint64_t from;
    bool continues; /* of a transfer that began at 0 */
};

/* A message under construction: begin, write values, then send once or more. */
struct gossip_message {
    struct shl_mp_writer w;
    size_t from; /* offset in the arena */
};

void gossip_message_begin(struct gossip *g, struct gossip_message *m, enum gossip_kind kind);
/* Closes it; false: a limit or no memory, nothing may be sent. */
bool gossip_message_end(struct gossip *g, struct gossip_message *m);
size_t gossip_message_bytes(const struct gossip *g, const struct gossip_message *m);
/* end, then one send. */
void gossip_message_send(struct gossip *g,
                         struct gossip_message *m,
                         const struct gossip_contact *to,
                         enum gossip_lane lane);
/* Same to somebody of whom only the id may be known. */
void gossip_message_reply(struct gossip *g,
                          struct gossip_message *m,
                          const struct shl_node_id *to,
                          enum gossip_lane lane);

void gossip_write_id(struct shl_mp_writer *w, const struct shl_node_id *id);
void gossip_write_info(struct shl_mp_writer *w,
                       const struct gossip_info *info,
                       uint64_t instance,
                       uint64_t over);
/* ALIVE always carries its info, others with @with_info. */
void gossip_write_claim(struct shl_mp_writer *w, const struct gossip_peer *peer, bool with_info);
size_t gossip_claim_bytes(const struct gossip_peer *peer, bool with_info);
void gossip_write_entry(struct shl_mp_writer *w, const struct gossip_entry *entry);
size_t gossip_entry_bytes(const struct gossip_entry *entry);
void gossip_write_row(struct shl_mp_writer *w, const struct gossip_peer *peer);

/* Element @index of an array; NULL when absent or @array is none. */
const msgpack_object *gossip_at(const msgpack_object *array, uint32_t index);
/* Readers return false on another type, length or range. */
bool gossip_read_uint(const msgpack_object *array, uint32_t index, uint64_t max, uint64_t *ret);
bool gossip_read_bool(const msgpack_object *array, uint32_t index, bool *ret);
bool gossip_read_id(const msgpack_object *object, struct shl_node_id *ret);
bool gossip_read_text(const msgpack_object *array, uint32_t index, char *dst, size_t size);
bool gossip_read_info(const msgpack_object *object,
                      struct gossip_info *ret, /* id is not touched */
                      uint64_t *ret_instance,
                      uint64_t *ret_over);
bool gossip_read_claim(const msgpack_object *object, struct gossip_claim *ret);
bool gossip_read_row(const msgpack_object *object, struct gossip_row *ret);
/* Value or nil (unset): a nil gives *ret_unset. */
bool gossip_read_value(const msgpack_object *object, struct shl_bytes *ret, bool *ret_unset);

/* ---- receive.c ---- */

void gossip_receive(struct gossip *g, const struct shl_node_id *from, struct shl_bytes bytes);

/* ---- sync.c, delta.c ---- */

/* Members that others are told of. */
static inline bool gossip_has_row(const struct gossip_peer *peer)
{
    return peer->pub.life != GOSSIP_UNHEARD;
}

void gossip_send_wants(struct gossip *g,
                       const struct shl_node_id *to,
                       const struct shl_node_id *ids,
                       uint32_t id_count,
                       const struct gossip_set_want *sets,
                       uint32_t set_count);

void gossip_on_sync(struct gossip *g,
                    const struct shl_node_id *from,
                    bool answer,
                    const struct shl_node_id *after, /* NULL: no bound */
                    const struct shl_node_id *last,
                    const msgpack_object *rows);
void gossip_on_want(struct gossip *g,
                    const struct shl_node_id *from,
                    const msgpack_object *ids,
                    const msgpack_object *sets);
void gossip_on_delta(struct gossip *g,
                     const struct shl_node_id *from,
                     const msgpack_object *message);

/* A rumour about one member alone, as old knowledge (merge). */
void gossip_tell(struct gossip *g,
                 const struct shl_node_id *to,
                 const struct gossip_peer *about,
                 enum gossip_lane lane);

#endif /* SHL_GOSSIP_WIRE_H */
