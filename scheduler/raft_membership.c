/* The set of members as a value: lookup, insertion, bytes. What it means for the protocol
 * is in raft_change.c. */
#include "scheduler/raft_membership.h"

#include <string.h>

#include "base/err.h"
#include "base/mp.h"

#define FORMAT_VERSION 1
#define MEMBER_FIELDS  3

/* Position of @id, or where it belongs. */
static uint32_t position(const struct sched_raft_membership *m, const struct shl_node_id *id)
{
    uint32_t low = 0, high = m->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (shl_node_id_compare(&m->members[mid].id, id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

const struct sched_raft_member *sched_raft_membership_find(const struct sched_raft_membership *m,
                                                           const struct shl_node_id *id)
{
    uint32_t at = position(m, id);

    return at < m->count && shl_node_id_equal(&m->members[at].id, id) ? &m->members[at] : NULL;
}

int sched_raft_membership_set(struct sched_raft_membership *m,
                              const struct sched_raft_member *member)
{
    uint32_t at = position(m, &member->id);

    if (at == m->count || !shl_node_id_equal(&m->members[at].id, &member->id)) {
        if (m->count == SCHED_RAFT_MEMBERS_MAX) {
            return SHL_ELIMIT;
        }
        memmove(&m->members[at + 1], &m->members[at], (m->count - at) * sizeof(m->members[0]));
        m->count++;
    }
    m->members[at] = *member;
    return 0;
}

void sched_raft_membership_remove(struct sched_raft_membership *m, const struct shl_node_id *id)
{
    uint32_t at = position(m, id);

    if (at < m->count && shl_node_id_equal(&m->members[at].id, id)) {
        m->count--;
        memmove(&m->members[at], &m->members[at + 1], (m->count - at) * sizeof(m->members[0]));
    }
}

uint32_t sched_raft_membership_voters(const struct sched_raft_membership *m)
{
    uint32_t i, voters = 0;

    for (i = 0; i < m->count; i++) {
        voters += m->members[i].standing == SCHED_RAFT_VOTER;
    }
    return voters;
}

int sched_raft_membership_encode(const struct sched_raft_membership *m, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    uint32_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_array(&w);
    shl_mp_uint(&w, FORMAT_VERSION);
    for (i = 0; i < m->count; i++) {
        shl_mp_array(&w);
        shl_mp_bin(&w, m->members[i].id.bytes, SHL_NODE_ID_BYTES);
        shl_mp_uint(&w, m->members[i].standing);
        shl_mp_bool(&w, m->members[i].witness);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int decode_member(const msgpack_object *obj, struct sched_raft_member *ret)
{
    const msgpack_object *field;

    if (obj->type != MSGPACK_OBJECT_ARRAY || obj->via.array.size < MEMBER_FIELDS) {
        return SHL_EPROTO;
    }
    field = obj->via.array.ptr;
    if (field[0].type != MSGPACK_OBJECT_BIN || field[0].via.bin.size != SHL_NODE_ID_BYTES ||
        field[1].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        field[2].type != MSGPACK_OBJECT_BOOLEAN) {
        return SHL_EPROTO;
    }
    if (field[1].via.u64 != SCHED_RAFT_LEARNER && field[1].via.u64 != SCHED_RAFT_VOTER) {
        return SHL_EPROTO;
    }
    memcpy(ret->id.bytes, field[0].via.bin.ptr, SHL_NODE_ID_BYTES);
    ret->standing = (uint8_t)field[1].via.u64;
    ret->witness = field[2].via.boolean;
    return shl_node_id_is_none(&ret->id) ? SHL_EPROTO : 0;
}

static int membership_from_object(const msgpack_object *obj, struct sched_raft_membership *ret)
{
    uint32_t i;

    if (obj->type != MSGPACK_OBJECT_ARRAY || obj->via.array.size < 1 ||
        obj->via.array.size > 1 + SCHED_RAFT_MEMBERS_MAX ||
        obj->via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
        obj->via.array.ptr[0].via.u64 != FORMAT_VERSION) {
        return SHL_EPROTO;
    }
    ret->count = 0;
    for (i = 1; i < obj->via.array.size; i++) {
        struct sched_raft_member member;

        if (decode_member(&obj->via.array.ptr[i], &member) < 0) {
            return SHL_EPROTO;
        }
        /* Sorted and unique as written; anything else was not written by us. */
        if (ret->count > 0 &&
            shl_node_id_compare(&ret->members[ret->count - 1].id, &member.id) >= 0) {
            return SHL_EPROTO;
        }
        ret->members[ret->count++] = member;
    }
    return sched_raft_membership_voters(ret) <= SCHED_RAFT_VOTERS_MAX ? 0 : SHL_EPROTO;
}

int sched_raft_membership_decode(struct shl_bytes bytes, struct sched_raft_membership *ret)
{
    struct shl_mp_doc doc;
    int rc;

    if (shl_mp_parse(&doc, bytes) < 0) {
        return SHL_EPROTO;
    }
    rc = membership_from_object(doc.root, ret);
    shl_mp_release(&doc);
    return rc;
}
