#include "gossip/wire.h"

#include <string.h>

#define RUMOUR_MEMBER 0
#define RUMOUR_RECORD 1

/* ---- writing ---- */

void gossip_message_begin(struct gossip *g, struct gossip_message *m, enum gossip_kind kind)
{
    m->from = shl_buf_len(&g->out->bytes);
    shl_mp_writer_init(&m->w, &g->out->bytes);
    shl_mp_array(&m->w);
    shl_mp_uint(&m->w, GOSSIP_WIRE_VERSION);
    shl_mp_bin(&m->w, g->config.cluster, GOSSIP_CLUSTER_BYTES);
    shl_mp_uint(&m->w, kind);
}

size_t gossip_message_bytes(const struct gossip *g, const struct gossip_message *m)
{
    return shl_buf_len(&g->out->bytes) - m->from;
}

bool gossip_message_end(struct gossip *g, struct gossip_message *m)
{
    int rc;

    shl_mp_end(&m->w);
    rc = shl_mp_done(&m->w);
    if (rc < 0 && g->out->error == 0) {
        g->out->error = rc;
    }
    return rc == 0;
}

void gossip_message_send(struct gossip *g,
                         struct gossip_message *m,
                         const struct gossip_contact *to,
                         enum gossip_lane lane)
{
    if (gossip_message_end(g, m)) {
        gossip_emit_send(g, to, lane, m->from);
    }
}

void gossip_contact_for(const struct gossip *g,
                        const struct shl_node_id *id,
                        struct gossip_contact *ret)
{
    const struct gossip_peer *peer = gossip_peer_find(g, id);

    if (shl_node_id_equal(&g->sender.id, id)) {
        *ret = g->sender;
    } else if (peer && peer != g->self) {
        gossip_contact_of(ret, &peer->pub.info);
    } else {
        *ret = (struct gossip_contact){.id = *id};
    }
}

void gossip_message_reply(struct gossip *g,
                          struct gossip_message *m,
                          const struct shl_node_id *to,
                          enum gossip_lane lane)
{
    struct gossip_contact contact;

    gossip_contact_for(g, to, &contact);
    gossip_message_send(g, m, &contact, lane);
}

void gossip_write_id(struct shl_mp_writer *w, const struct shl_node_id *id)
{
    shl_mp_bin(w, id->bytes, SHL_NODE_ID_BYTES);
}

void gossip_write_info(struct shl_mp_writer *w,
                       const struct gossip_info *info,
                       uint64_t instance,
                       uint64_t over)
{
    shl_mp_array(w);
    shl_mp_uint(w, instance);
    shl_mp_uint(w, over);
    shl_mp_bin(w, info->key, GOSSIP_KEY_BYTES);
    shl_mp_str(w, info->name);
    shl_mp_str(w, info->control);
    shl_mp_str(w, info->bulk);
    shl_mp_str(w, info->api);
    shl_mp_str(w, info->domain);
    shl_mp_uint(w, info->flags);
    shl_mp_uint(w, info->proto_min);
    shl_mp_uint(w, info->proto_max);
    shl_mp_end(w);
}

static bool carries_info(const struct gossip_peer *peer, bool with_info)
{
    return with_info || peer->pub.life == GOSSIP_ALIVE;
}

void gossip_write_claim(struct shl_mp_writer *w, const struct gossip_peer *peer, bool with_info)
{
    uint32_t i;

    shl_mp_array(w);
    shl_mp_uint(w, RUMOUR_MEMBER);
    shl_mp_uint(w, peer->pub.life);
    gossip_write_id(w, &peer->pub.info.id);
    shl_mp_uint(w, peer->pub.incarnation);
    if (peer->pub.life == GOSSIP_SUSPECT) {
        shl_mp_array(w);
        for (i = 0; i < peer->accusers.count; i++) {
            gossip_write_id(w, &peer->accusers.ids[i]);
        }
        shl_mp_end(w);
        shl_mp_uint(w, peer->accusers.broken_mask);
    } else {
        shl_mp_nil(w);
        shl_mp_uint(w, 0);
    }
    if (carries_info(peer, with_info)) {
        gossip_write_info(w, &peer->pub.info, peer->instance, peer->over);
    } else {
        shl_mp_nil(w);
    }
    shl_mp_uint(w, peer->pub.gone_s);
    shl_mp_end(w);
}

size_t gossip_claim_bytes(const struct gossip_peer *peer, bool with_info)
{
    const struct gossip_info *info = &peer->pub.info;
    size_t bytes = 72;

    if (peer->pub.life == GOSSIP_SUSPECT) {
        bytes += 18 * (size_t)peer->accusers.count;
    }
    if (carries_info(peer, with_info)) {
        bytes += 96 + strlen(info->name) + strlen(info->control) + strlen(info->bulk) +
                 strlen(info->api) + strlen(info->domain);
    }
    return bytes;
}

static void write_value(struct shl_mp_writer *w, const struct gossip_entry *entry)
{
    if (entry->unset) {
        shl_mp_nil(w);
    } else {
        shl_mp_bin(w, entry->pub.value.base, entry->pub.value.len);
    }
}

void gossip_write_entry(struct shl_mp_writer *w, const struct gossip_entry *entry)
{
    shl_mp_array(w);
    shl_mp_uint(w, RUMOUR_RECORD);
    gossip_write_id(w, &entry->pub.node);
    shl_mp_uint(w, entry->owner->records.generation);
    shl_mp_str(w, entry->pub.key);
    shl_mp_uint(w, entry->pub.version);
    write_value(w, entry);
    shl_mp_end(w);
}

size_t gossip_entry_bytes(const struct gossip_entry *entry)
{
    return 56 + strlen(entry->pub.key) + entry->pub.value.len;
}

void gossip_write_row(struct shl_mp_writer *w, const struct gossip_peer *peer)
{
    const struct gossip_records *records = &peer->records;

    shl_mp_array(w);
    gossip_write_id(w, &peer->pub.info.id);
    shl_mp_uint(w, peer->pub.life);
    shl_mp_uint(w, peer->pub.incarnation);
    shl_mp_uint(w, peer->instance);
    shl_mp_uint(w, records->generation);
    shl_mp_uint(w, records->top);
    shl_mp_uint(w, records->complete);
    shl_mp_uint(w, records->hash);
    shl_mp_uint(w, peer->pub.gone_s);
    shl_mp_end(w);
}

/* ---- reading ---- */

const msgpack_object *gossip_at(const msgpack_object *array, uint32_t index)
{
    if (!array || array->type != MSGPACK_OBJECT_ARRAY || index >= array->via.array.size) {
        return NULL;
    }
    return &array->via.array.ptr[index];
}

bool gossip_read_uint(const msgpack_object *array, uint32_t index, uint64_t max, uint64_t *ret)
{
    const msgpack_object *object = gossip_at(array, index);

    if (!object || object->type != MSGPACK_OBJECT_POSITIVE_INTEGER || object->via.u64 > max) {
        return false;
    }
    *ret = object->via.u64;
    return true;
}

bool gossip_read_bool(const msgpack_object *array, uint32_t index, bool *ret)
{
    const msgpack_object *object = gossip_at(array, index);

    if (!object || object->type != MSGPACK_OBJECT_BOOLEAN) {
        return false;
    }
    *ret = object->via.boolean;
    return true;
}

bool gossip_read_id(const msgpack_object *object, struct shl_node_id *ret)
{
    if (!object || object->type != MSGPACK_OBJECT_BIN ||
        object->via.bin.size != SHL_NODE_ID_BYTES) {
        return false;
    }
    memcpy(ret->bytes, object->via.bin.ptr, SHL_NODE_ID_BYTES);
    return !shl_node_id_is_none(ret);
}

bool gossip_read_text(const msgpack_object *array, uint32_t index, char *dst, size_t size)
{
    const msgpack_object *object = gossip_at(array, index);
    size_t len;

    if (!object || object->type != MSGPACK_OBJECT_STR) {
        return false;
    }
    len = object->via.str.size;
    if (len >= size || (len > 0 && memchr(object->via.str.ptr, 0, len))) {
        return false;
    }
    if (len > 0) {
        memcpy(dst, object->via.str.ptr, len);
    }
    dst[len] = '\0';
    return true;
}

bool gossip_read_info(const msgpack_object *object,
                      struct gossip_info *ret,
                      uint64_t *ret_instance,
                      uint64_t *ret_over)
{
    const msgpack_object *key = gossip_at(object, 2);
    uint64_t flags, proto_min, proto_max;

    if (!gossip_read_uint(object, 0, UINT64_MAX, ret_instance) ||
        !gossip_read_uint(object, 1, UINT64_MAX, ret_over) || !key ||
        key->type != MSGPACK_OBJECT_BIN || key->via.bin.size != GOSSIP_KEY_BYTES ||
        !gossip_read_text(object, 3, ret->name, sizeof(ret->name)) ||
        !gossip_read_text(object, 4, ret->control, sizeof(ret->control)) ||
        !gossip_read_text(object, 5, ret->bulk, sizeof(ret->bulk)) ||
        !gossip_read_text(object, 6, ret->api, sizeof(ret->api)) ||
        !gossip_read_text(object, 7, ret->domain, sizeof(ret->domain)) ||
        !gossip_read_uint(object, 8, UINT32_MAX, &flags) ||
        !gossip_read_uint(object, 9, UINT16_MAX, &proto_min) ||
        !gossip_read_uint(object, 10, UINT16_MAX, &proto_max)) {
        return false;
    }
    memcpy(ret->key, key->via.bin.ptr, GOSSIP_KEY_BYTES);
    ret->flags = (uint32_t)flags;
    ret->proto_min = (uint16_t)proto_min;
    ret->proto_max = (uint16_t)proto_max;
    return true;
}

static bool read_accusers(const msgpack_object *object,
                          uint64_t broken_mask,
                          struct gossip_accusers *ret)
{
    uint32_t i;

    if (object && object->type == MSGPACK_OBJECT_NIL) {
        return true;
    }
    if (!object || object->type != MSGPACK_OBJECT_ARRAY ||
        object->via.array.size > GOSSIP_ACCUSERS_MAX) {
        return false;
    }
    for (i = 0; i < object->via.array.size; i++) {
        if (!gossip_read_id(&object->via.array.ptr[i], &ret->ids[i])) {
            return false;
        }
    }
    ret->count = i;
    ret->broken_mask = (uint32_t)broken_mask & ((1u << i) - 1);
    return true;
}

bool gossip_read_claim(const msgpack_object *object, struct gossip_claim *ret)
{
    const msgpack_object *info = gossip_at(object, 6);
    uint64_t life, broken_mask;

    *ret = (struct gossip_claim){0};
    if (!gossip_read_uint(object, 1, GOSSIP_LEFT, &life) || life == GOSSIP_UNHEARD ||
        !gossip_read_id(gossip_at(object, 2), &ret->id) ||
        !gossip_read_uint(object, 3, GOSSIP_INCARNATION_MAX, &ret->incarnation) ||
        !gossip_read_uint(object, 5, UINT32_MAX, &broken_mask) ||
        !read_accusers(gossip_at(object, 4), broken_mask, &ret->accusers) ||
        !gossip_read_uint(object, 7, UINT64_MAX, &ret->gone_s) || !info) {
        return false;
    }
    ret->life = (enum gossip_life)life;
    if (info->type != MSGPACK_OBJECT_NIL) {
        ret->info.id = ret->id;
        ret->has_info = gossip_read_info(info, &ret->info, &ret->instance, &ret->over);
        if (!ret->has_info) {
            return false;
        }
    }
    return ret->life != GOSSIP_ALIVE || ret->has_info;
}

bool gossip_read_row(const msgpack_object *object, struct gossip_row *ret)
{
    uint64_t life;

    if (!gossip_read_id(gossip_at(object, 0), &ret->id) ||
        !gossip_read_uint(object, 1, GOSSIP_LEFT, &life) ||
        !gossip_read_uint(object, 2, GOSSIP_INCARNATION_MAX, &ret->incarnation) ||
        !gossip_read_uint(object, 3, UINT64_MAX, &ret->instance) ||
        !gossip_read_uint(object, 4, GOSSIP_INCARNATION_MAX, &ret->generation) ||
        !gossip_read_uint(object, 5, UINT64_MAX - 1, &ret->top) ||
        !gossip_read_uint(object, 6, UINT64_MAX - 1, &ret->complete) ||
        !gossip_read_uint(object, 7, UINT64_MAX, &ret->hash) ||
        !gossip_read_uint(object, 8, UINT64_MAX, &ret->gone_s)) {
        return false;
    }
    ret->life = (enum gossip_life)life;
    return true;
}

bool gossip_read_value(const msgpack_object *object, struct shl_bytes *ret, bool *ret_unset)
{
    *ret = (struct shl_bytes){NULL, 0};
    *ret_unset = object && object->type == MSGPACK_OBJECT_NIL;
    if (*ret_unset) {
        return true;
    }
    if (!object || object->type != MSGPACK_OBJECT_BIN ||
        object->via.bin.size > GOSSIP_RECORD_VALUE_MAX) {
        return false;
    }
    *ret = shl_bytes_of(object->via.bin.ptr, object->via.bin.size);
    return true;
}
