#include "scheduler/raft_msg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mp.h"
#include "scheduler/raft_membership.h"

#define VERSION       1
#define HEAD_FIELDS   3 /* version, kind, term */
#define ENTRY_FIELDS  3 /* term, type, data */
#define FLAG_PRE      1u
#define FLAG_FORCED   2u
#define FLAG_GRANTED  2u
#define FLAG_REJECTED 1u

/*- Encoding. */

static void put_uints(struct shl_mp_writer *w, const uint64_t *values, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        shl_mp_uint(w, values[i]);
    }
}

static void put_append(struct shl_mp_writer *w, const struct sched_raft_msg *msg)
{
    const uint64_t head[] = {msg->u.append.prev_index, msg->u.append.prev_term,
                             msg->u.append.commit, msg->u.append.round, msg->u.append.count};
    uint32_t i;

    put_uints(w, head, SHL_ARRAY_SIZE(head));
    for (i = 0; i < msg->u.append.count; i++) {
        const struct sched_raft_entry *entry = &msg->u.append.entries[i];

        shl_mp_uint(w, entry->term);
        shl_mp_uint(w, entry->type);
        shl_mp_bin(w, entry->data.base, entry->data.len);
    }
}

static int put_snapshot(struct shl_mp_writer *w, const struct sched_raft_msg *msg)
{
    const uint64_t head[] = {msg->u.snapshot.index,  msg->u.snapshot.snapshot_term,
                             msg->u.snapshot.offset, msg->u.snapshot.total,
                             msg->u.snapshot.round,  msg->u.snapshot.membership_index};
    struct shl_buf members;
    int rc = 0;

    put_uints(w, head, SHL_ARRAY_SIZE(head));
    if (msg->u.snapshot.membership) {
        shl_buf_init(&members, SCHED_RAFT_CHUNK_BYTES_MAX);
        rc = sched_raft_membership_encode(msg->u.snapshot.membership, &members);
        shl_mp_bin(w, shl_buf_data(&members), shl_buf_len(&members));
        shl_buf_release(&members);
    } else {
        shl_mp_nil(w);
    }
    shl_mp_bin(w, msg->u.snapshot.data.base, msg->u.snapshot.data.len);
    return rc;
}

static int put_body(struct shl_mp_writer *w, const struct sched_raft_msg *msg)
{
    switch (msg->kind) {
    case SCHED_RAFT_MSG_VOTE:
        shl_mp_uint(w, (msg->u.vote.pre ? FLAG_PRE : 0) | (msg->u.vote.forced ? FLAG_FORCED : 0));
        shl_mp_uint(w, msg->u.vote.for_term);
        shl_mp_uint(w, msg->u.vote.last_index);
        shl_mp_uint(w, msg->u.vote.last_term);
        return 0;
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        shl_mp_uint(w, (msg->u.vote_answer.pre ? FLAG_PRE : 0) |
                           (msg->u.vote_answer.granted ? FLAG_GRANTED : 0));
        shl_mp_uint(w, msg->u.vote_answer.for_term);
        return 0;
    case SCHED_RAFT_MSG_APPEND:
        put_append(w, msg);
        return 0;
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        shl_mp_uint(w, msg->u.append_answer.rejected ? FLAG_REJECTED : 0);
        shl_mp_uint(w, msg->u.append_answer.index);
        shl_mp_uint(w, msg->u.append_answer.hint_index);
        shl_mp_uint(w, msg->u.append_answer.hint_term);
        shl_mp_uint(w, msg->u.append_answer.round);
        return 0;
    case SCHED_RAFT_MSG_SNAPSHOT:
        return put_snapshot(w, msg);
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        shl_mp_uint(w, msg->u.snapshot_answer.index);
        shl_mp_uint(w, msg->u.snapshot_answer.offset);
        shl_mp_uint(w, msg->u.snapshot_answer.match);
        shl_mp_uint(w, msg->u.snapshot_answer.round);
        return 0;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        return 0;
    }
    return SHL_EPROTO;
}

int sched_raft_msg_encode(const struct sched_raft_msg *msg, struct shl_buf *buf)
{
    struct shl_mp_writer w;
    int rc, done;

    shl_mp_writer_init(&w, buf);
    shl_mp_array(&w);
    shl_mp_uint(&w, VERSION);
    shl_mp_uint(&w, msg->kind);
    shl_mp_uint(&w, msg->term);
    rc = put_body(&w, msg);
    shl_mp_end(&w);
    done = shl_mp_done(&w);
    return rc < 0 ? rc : done;
}

/*- Decoding. The cursor remembers the first failure, so that a body reads as a list. */

struct cursor {
    const msgpack_object *at;
    uint32_t left;
    int error;
};

static const msgpack_object *take(struct cursor *c, msgpack_object_type type)
{
    if (c->error == 0 && (c->left == 0 || c->at->type != type)) {
        c->error = SHL_EPROTO;
    }
    if (c->error < 0) {
        return NULL;
    }
    c->left--;
    return c->at++;
}

static uint64_t take_uint(struct cursor *c, uint64_t max)
{
    const msgpack_object *obj = take(c, MSGPACK_OBJECT_POSITIVE_INTEGER);

    if (!obj) {
        return 0;
    }
    if (obj->via.u64 > max) {
        c->error = SHL_EPROTO;
        return 0;
    }
    return obj->via.u64;
}

static uint64_t take_number(struct cursor *c)
{
    return take_uint(c, SCHED_RAFT_NUMBER_MAX);
}

static struct shl_bytes take_bin(struct cursor *c, size_t max)
{
    const msgpack_object *obj = take(c, MSGPACK_OBJECT_BIN);

    if (!obj) {
        return shl_bytes_of(NULL, 0);
    }
    if (obj->via.bin.size > max) {
        c->error = SHL_ELIMIT;
        return shl_bytes_of(NULL, 0);
    }
    return shl_bytes_of(obj->via.bin.ptr, obj->via.bin.size);
}

static void take_append(struct cursor *c,
                        struct sched_raft_msg_room *room,
                        struct sched_raft_msg *msg)
{
    uint64_t floor;
    uint32_t i;

    msg->u.append.prev_index = take_number(c);
    msg->u.append.prev_term = take_number(c);
    msg->u.append.commit = take_number(c);
    msg->u.append.round = take_number(c);
    msg->u.append.count = (uint32_t)take_uint(c, SCHED_RAFT_MSG_ENTRIES_MAX);
    msg->u.append.entries = room->entries;
    floor = msg->u.append.prev_term;
    /* Index 0 is before the first entry and has term 0; every entry has a real term. */
    if ((msg->u.append.prev_index == 0) != (floor == 0) || floor > msg->term) {
        c->error = SHL_EPROTO;
    }
    for (i = 0; i < msg->u.append.count && c->error == 0; i++) {
        struct sched_raft_entry *entry = &room->entries[i];

        *entry = (struct sched_raft_entry){.index = msg->u.append.prev_index + 1 + i};
        entry->term = take_number(c);
        entry->type = (uint8_t)take_uint(c, SCHED_RAFT_MEMBERSHIP);
        entry->data = take_bin(c, SCHED_RAFT_COMMAND_BYTES_MAX);
        if (entry->term < SHL_MAX(floor, 1) || entry->term > msg->term || entry->type == 0) {
            c->error = SHL_EPROTO;
        }
        floor = entry->term;
    }
}

static void take_snapshot(struct cursor *c,
                          struct sched_raft_msg_room *room,
                          struct sched_raft_msg *msg)
{
    struct shl_bytes members;

    msg->u.snapshot.index = take_number(c);
    msg->u.snapshot.snapshot_term = take_number(c);
    msg->u.snapshot.offset = take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    msg->u.snapshot.total = take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    msg->u.snapshot.round = take_number(c);
    msg->u.snapshot.membership_index = take_number(c);
    msg->u.snapshot.membership = NULL;
    if (msg->u.snapshot.offset == 0) {
        members = take_bin(c, SCHED_RAFT_CHUNK_BYTES_MAX);
        if (c->error == 0 && sched_raft_membership_decode(members, &room->membership) < 0) {
            c->error = SHL_EPROTO;
        }
        msg->u.snapshot.membership = &room->membership;
    } else {
        (void)take(c, MSGPACK_OBJECT_NIL);
    }
    msg->u.snapshot.data = take_bin(c, SCHED_RAFT_CHUNK_BYTES_MAX);
    if (msg->u.snapshot.index == 0 || msg->u.snapshot.snapshot_term == 0 ||
        msg->u.snapshot.snapshot_term > msg->term ||
        msg->u.snapshot.membership_index > msg->u.snapshot.index ||
        msg->u.snapshot.offset + msg->u.snapshot.data.len > msg->u.snapshot.total) {
        c->error = SHL_EPROTO;
    }
}

static void take_body(struct cursor *c,
                      struct sched_raft_msg_room *room,
                      struct sched_raft_msg *msg)
{
    uint64_t flags;

    switch (msg->kind) {
    case SCHED_RAFT_MSG_VOTE:
        flags = take_number(c);
        msg->u.vote.pre = (flags & FLAG_PRE) != 0;
        msg->u.vote.forced = (flags & FLAG_FORCED) != 0;
        msg->u.vote.for_term = take_number(c);
        msg->u.vote.last_index = take_number(c);
        msg->u.vote.last_term = take_number(c);
        if (msg->u.vote.for_term != msg->term + (msg->u.vote.pre ? 1 : 0)) {
            c->error = SHL_EPROTO;
        }
        return;
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        flags = take_number(c);
        msg->u.vote_answer.pre = (flags & FLAG_PRE) != 0;
        msg->u.vote_answer.granted = (flags & FLAG_GRANTED) != 0;
        msg->u.vote_answer.for_term = take_number(c);
        return;
    case SCHED_RAFT_MSG_APPEND:
        take_append(c, room, msg);
        return;
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        msg->u.append_answer.rejected = (take_number(c) & FLAG_REJECTED) != 0;
        msg->u.append_answer.index = take_number(c);
        msg->u.append_answer.hint_index = take_number(c);
        msg->u.append_answer.hint_term = take_number(c);
        msg->u.append_answer.round = take_number(c);
        return;
    case SCHED_RAFT_MSG_SNAPSHOT:
        take_snapshot(c, room, msg);
        return;
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        msg->u.snapshot_answer.index = take_number(c);
        msg->u.snapshot_answer.offset = take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
        msg->u.snapshot_answer.match = take_number(c);
        msg->u.snapshot_answer.round = take_number(c);
        return;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        return;
    }
    c->error = SHL_EPROTO;
}

int sched_raft_msg_decode(struct shl_bytes bytes,
                          struct sched_raft_msg_room *room,
                          struct sched_raft_msg *ret_msg)
{
    struct cursor c = {0};
    struct shl_mp_doc doc;
    int rc;

    if (bytes.len == 0 || bytes.len > SCHED_RAFT_MESSAGE_BYTES_MAX) {
        return bytes.len == 0 ? SHL_EPROTO : SHL_ELIMIT;
    }
    rc = shl_mp_parse(&doc, bytes);
    if (rc < 0) {
        return rc;
    }
    if (doc.root->type == MSGPACK_OBJECT_ARRAY) {
        c.at = doc.root->via.array.ptr;
        c.left = doc.root->via.array.size;
    }
    /* A later version only adds at the end; what it cannot express is a new kind. */
    if (take_number(&c) < VERSION) {
        c.error = SHL_EPROTO;
    }
    ret_msg->kind = (enum sched_raft_msg_kind)take_uint(&c, SCHED_RAFT_MSG_TIMEOUT_NOW);
    ret_msg->term = take_number(&c);
    if (c.error == 0 && ret_msg->term == 0 && ret_msg->kind != SCHED_RAFT_MSG_VOTE &&
        ret_msg->kind != SCHED_RAFT_MSG_VOTE_ANSWER) {
        c.error = SHL_EPROTO; /* only asking for a pre-vote is possible before the first term */
    }
    if (c.error == 0) {
        take_body(&c, room, ret_msg);
    }
    /* Byte strings are borrowed from @bytes, not from the document. */
    shl_mp_release(&doc);
    return c.error;
}

/*- Traces. */

static void format_body(char *dst, size_t size, const struct sched_raft_msg *m)
{
    switch (m->kind) {
    case SCHED_RAFT_MSG_VOTE:
        (void)snprintf(dst, size, "%svote%s t=%" PRIu64 " last=%" PRIu64 "/%" PRIu64,
                       m->u.vote.pre ? "pre-" : "", m->u.vote.forced ? "(forced)" : "",
                       m->u.vote.for_term, m->u.vote.last_index, m->u.vote.last_term);
        return;
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        (void)snprintf(dst, size, "%svote-answer t=%" PRIu64 " for=%" PRIu64 " %s",
                       m->u.vote_answer.pre ? "pre-" : "", m->term, m->u.vote_answer.for_term,
                       m->u.vote_answer.granted ? "yes" : "no");
        return;
    case SCHED_RAFT_MSG_APPEND:
        (void)snprintf(dst, size,
                       "append t=%" PRIu64 " prev=%" PRIu64 "/%" PRIu64 " n=%u commit=%" PRIu64
                       " round=%" PRIu64,
                       m->term, m->u.append.prev_index, m->u.append.prev_term, m->u.append.count,
                       m->u.append.commit, m->u.append.round);
        return;
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        (void)snprintf(dst, size,
                       "append-answer t=%" PRIu64 " %s=%" PRIu64 " hint=%" PRIu64 "/%" PRIu64
                       " round=%" PRIu64,
                       m->term, m->u.append_answer.rejected ? "rejected" : "match",
                       m->u.append_answer.index, m->u.append_answer.hint_index,
                       m->u.append_answer.hint_term, m->u.append_answer.round);
        return;
    case SCHED_RAFT_MSG_SNAPSHOT:
        (void)snprintf(dst, size,
                       "snapshot t=%" PRIu64 " last=%" PRIu64 "/%" PRIu64 " at=%" PRIu64
                       "+%zu of %" PRIu64,
                       m->term, m->u.snapshot.index, m->u.snapshot.snapshot_term,
                       m->u.snapshot.offset, m->u.snapshot.data.len, m->u.snapshot.total);
        return;
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        (void)snprintf(dst, size,
                       "snapshot-answer t=%" PRIu64 " last=%" PRIu64 " wants=%" PRIu64
                       " match=%" PRIu64,
                       m->term, m->u.snapshot_answer.index, m->u.snapshot_answer.offset,
                       m->u.snapshot_answer.match);
        return;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        (void)snprintf(dst, size, "timeout-now t=%" PRIu64, m->term);
        return;
    }
}

void sched_raft_msg_format(char *dst, size_t size, struct shl_bytes bytes)
{
    struct sched_raft_msg_room *room = calloc(1, sizeof(*room));
    struct sched_raft_msg msg;

    if (room && sched_raft_msg_decode(bytes, room, &msg) == 0) {
        format_body(dst, size, &msg);
    } else {
        (void)snprintf(dst, size, "not a message (%zu bytes)", bytes.len);
    }
    free(room);
}
