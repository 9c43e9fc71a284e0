#include "scheduler/raft_msg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mp_flat.h"
#include "scheduler/raft_membership.h"

#define VERSION       1
#define HEAD_FIELDS   3 /* version, kind, term */
#define ENTRY_FIELDS  3 /* term, type, data */
#define FLAG_PRE      1u
#define FLAG_FORCED   2u
#define FLAG_GRANTED  2u
#define FLAG_REJECTED 1u

/*- Encoding. Room for everything is made first, then bytes are only stored. */

#define FIELDS_MAX 16 /* besides entries and byte strings */

static uint8_t *put_uints(uint8_t *p, const uint64_t *values, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        p = shl_mp_put_uint(p, values[i]);
    }
    return p;
}

static uint8_t *put_append(uint8_t *p, const struct sched_raft_msg *msg)
{
    const uint64_t head[] = {msg->u.append.prev_index, msg->u.append.prev_term,
                             msg->u.append.commit, msg->u.append.round, msg->u.append.count};
    uint32_t i;

    p = put_uints(p, head, SHL_ARRAY_SIZE(head));
    for (i = 0; i < msg->u.append.count; i++) {
        const struct sched_raft_entry *entry = &msg->u.append.entries[i];

        p = shl_mp_put_uint(p, entry->term);
        p = shl_mp_put_uint(p, entry->type);
        p = shl_mp_put_bin(p, entry->data.base, (uint32_t)entry->data.len);
    }
    return p;
}

static uint8_t *put_snapshot(uint8_t *p, const struct sched_raft_msg *msg, struct shl_bytes members)
{
    const uint64_t head[] = {msg->u.snapshot.index,  msg->u.snapshot.snapshot_term,
                             msg->u.snapshot.offset, msg->u.snapshot.total,
                             msg->u.snapshot.round,  msg->u.snapshot.membership_index};

    p = put_uints(p, head, SHL_ARRAY_SIZE(head));
    p = msg->u.snapshot.membership ? shl_mp_put_bin(p, members.base, (uint32_t)members.len)
                                   : shl_mp_put_nil(p);
    return shl_mp_put_bin(p, msg->u.snapshot.data.base, (uint32_t)msg->u.snapshot.data.len);
}

static uint8_t *put_body(uint8_t *p, const struct sched_raft_msg *msg, struct shl_bytes members)
{
    switch (msg->kind) {
    case SCHED_RAFT_MSG_VOTE:
        p = shl_mp_put_uint(p, (msg->u.vote.pre ? FLAG_PRE : 0) |
                                   (msg->u.vote.forced ? FLAG_FORCED : 0));
        p = shl_mp_put_uint(p, msg->u.vote.for_term);
        p = shl_mp_put_uint(p, msg->u.vote.last_index);
        return shl_mp_put_uint(p, msg->u.vote.last_term);
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        p = shl_mp_put_uint(p, (msg->u.vote_answer.pre ? FLAG_PRE : 0) |
                                   (msg->u.vote_answer.granted ? FLAG_GRANTED : 0));
        return shl_mp_put_uint(p, msg->u.vote_answer.for_term);
    case SCHED_RAFT_MSG_APPEND:
        return put_append(p, msg);
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        p = shl_mp_put_uint(p, msg->u.append_answer.rejected ? FLAG_REJECTED : 0);
        p = shl_mp_put_uint(p, msg->u.append_answer.index);
        p = shl_mp_put_uint(p, msg->u.append_answer.hint_index);
        p = shl_mp_put_uint(p, msg->u.append_answer.hint_term);
        return shl_mp_put_uint(p, msg->u.append_answer.round);
    case SCHED_RAFT_MSG_SNAPSHOT:
        return put_snapshot(p, msg, members);
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        p = shl_mp_put_uint(p, msg->u.snapshot_answer.index);
        p = shl_mp_put_uint(p, msg->u.snapshot_answer.offset);
        p = shl_mp_put_uint(p, msg->u.snapshot_answer.match);
        return shl_mp_put_uint(p, msg->u.snapshot_answer.round);
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        return p;
    }
    return p;
}

/* Values in the outer array. */
static uint32_t count_fields(const struct sched_raft_msg *msg)
{
    switch (msg->kind) {
    case SCHED_RAFT_MSG_VOTE:
    case SCHED_RAFT_MSG_SNAPSHOT_ANSWER:
        return HEAD_FIELDS + 4;
    case SCHED_RAFT_MSG_VOTE_ANSWER:
        return HEAD_FIELDS + 2;
    case SCHED_RAFT_MSG_APPEND:
        return HEAD_FIELDS + 5 + ENTRY_FIELDS * msg->u.append.count;
    case SCHED_RAFT_MSG_APPEND_ANSWER:
        return HEAD_FIELDS + 5;
    case SCHED_RAFT_MSG_SNAPSHOT:
        return HEAD_FIELDS + 8;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        return HEAD_FIELDS;
    }
    return HEAD_FIELDS;
}

static size_t room_needed(const struct sched_raft_msg *msg, struct shl_bytes members)
{
    size_t bytes = SHL_MP_HEAD_MAX + FIELDS_MAX * SHL_MP_UINT_MAX;
    uint32_t i;

    if (msg->kind == SCHED_RAFT_MSG_SNAPSHOT) {
        bytes += members.len + msg->u.snapshot.data.len + 2 * SHL_MP_HEAD_MAX;
    }
    if (msg->kind == SCHED_RAFT_MSG_APPEND) {
        for (i = 0; i < msg->u.append.count; i++) {
            bytes += 2 * SHL_MP_UINT_MAX + SHL_MP_HEAD_MAX + msg->u.append.entries[i].data.len;
        }
    }
    return bytes;
}

static int encode(const struct sched_raft_msg *msg, struct shl_bytes members, struct shl_buf *buf)
{
    const uint64_t head[HEAD_FIELDS] = {VERSION, msg->kind, msg->term};
    uint8_t *start, *p;
    int rc = shl_buf_reserve(buf, room_needed(msg, members), &start);

    if (rc < 0) {
        return rc;
    }
    p = shl_mp_put_array(start, count_fields(msg));
    p = put_uints(p, head, HEAD_FIELDS);
    p = put_body(p, msg, members);
    shl_buf_commit(buf, (size_t)(p - start));
    return 0;
}

int sched_raft_msg_encode(const struct sched_raft_msg *msg, struct shl_buf *buf)
{
    struct shl_buf members;
    int rc;

    if (msg->kind != SCHED_RAFT_MSG_SNAPSHOT || !msg->u.snapshot.membership) {
        return encode(msg, shl_bytes_of(NULL, 0), buf);
    }
    shl_buf_init(&members, SCHED_RAFT_CHUNK_BYTES_MAX);
    rc = sched_raft_membership_encode(msg->u.snapshot.membership, &members);
    if (rc == 0) {
        rc = encode(msg, shl_buf_bytes(&members), buf);
    }
    shl_buf_release(&members);
    return rc;
}

/*- Decoding. */

static uint64_t take_number(struct shl_mp_cursor *c)
{
    return shl_mp_take_uint(c, SCHED_RAFT_NUMBER_MAX);
}

static void refuse(struct shl_mp_cursor *c)
{
    c->error = c->error ? c->error : SHL_EPROTO;
}

static void take_append(struct shl_mp_cursor *c,
                        struct sched_raft_msg_room *room,
                        struct sched_raft_msg *msg)
{
    uint64_t floor;
    uint32_t i;

    msg->u.append.prev_index = take_number(c);
    msg->u.append.prev_term = take_number(c);
    msg->u.append.commit = take_number(c);
    msg->u.append.round = take_number(c);
    msg->u.append.count = (uint32_t)shl_mp_take_uint(c, SCHED_RAFT_MSG_ENTRIES_MAX);
    msg->u.append.entries = room->entries;
    floor = msg->u.append.prev_term;
    /* Index 0 is before the first entry and has term 0; every entry has a real term. */
    if ((msg->u.append.prev_index == 0) != (floor == 0) || floor > msg->term) {
        refuse(c);
    }
    for (i = 0; i < msg->u.append.count && c->error == 0; i++) {
        struct sched_raft_entry *entry = &room->entries[i];

        *entry = (struct sched_raft_entry){.index = msg->u.append.prev_index + 1 + i};
        entry->term = take_number(c);
        entry->type = (uint8_t)shl_mp_take_uint(c, SCHED_RAFT_MEMBERSHIP);
        entry->data = shl_mp_take_bin(c, SCHED_RAFT_COMMAND_BYTES_MAX);
        if (entry->term < SHL_MAX(floor, 1) || entry->term > msg->term || entry->type == 0) {
            refuse(c);
        }
        floor = entry->term;
    }
}

static void take_snapshot(struct shl_mp_cursor *c,
                          struct sched_raft_msg_room *room,
                          struct sched_raft_msg *msg)
{
    struct shl_bytes members;

    msg->u.snapshot.index = take_number(c);
    msg->u.snapshot.snapshot_term = take_number(c);
    msg->u.snapshot.offset = shl_mp_take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    msg->u.snapshot.total = shl_mp_take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    msg->u.snapshot.round = take_number(c);
    msg->u.snapshot.membership_index = take_number(c);
    msg->u.snapshot.membership = NULL;
    if (msg->u.snapshot.offset == 0) {
        members = shl_mp_take_bin(c, SCHED_RAFT_CHUNK_BYTES_MAX);
        if (c->error == 0 && sched_raft_membership_decode(members, &room->membership) < 0) {
            refuse(c);
        }
        msg->u.snapshot.membership = &room->membership;
    } else {
        shl_mp_take_nil(c);
    }
    msg->u.snapshot.data = shl_mp_take_bin(c, SCHED_RAFT_CHUNK_BYTES_MAX);
    if (msg->u.snapshot.index == 0 || msg->u.snapshot.snapshot_term == 0 ||
        msg->u.snapshot.snapshot_term > msg->term ||
        msg->u.snapshot.membership_index > msg->u.snapshot.index ||
        msg->u.snapshot.offset + msg->u.snapshot.data.len > msg->u.snapshot.total) {
        refuse(c);
    }
}

static void take_body(struct shl_mp_cursor *c,
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
            refuse(c);
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
        msg->u.snapshot_answer.offset = shl_mp_take_uint(c, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
        msg->u.snapshot_answer.match = take_number(c);
        msg->u.snapshot_answer.round = take_number(c);
        return;
    case SCHED_RAFT_MSG_TIMEOUT_NOW:
        return;
    }
    refuse(c);
}

int sched_raft_msg_decode(struct shl_bytes bytes,
                          struct sched_raft_msg_room *room,
                          struct sched_raft_msg *ret_msg)
{
    struct shl_mp_cursor c = shl_mp_cursor_of(bytes);
    uint32_t fields;

    if (bytes.len > SCHED_RAFT_MESSAGE_BYTES_MAX) {
        return SHL_ELIMIT;
    }
    fields = shl_mp_take_array(&c);
    /* A later version only adds at the end; what it cannot express is a new kind. */
    if (take_number(&c) < VERSION) {
        refuse(&c);
    }
    ret_msg->kind = (enum sched_raft_msg_kind)shl_mp_take_uint(&c, SCHED_RAFT_MSG_TIMEOUT_NOW);
    ret_msg->term = take_number(&c);
    if (ret_msg->term == 0 && ret_msg->kind != SCHED_RAFT_MSG_VOTE &&
        ret_msg->kind != SCHED_RAFT_MSG_VOTE_ANSWER) {
        refuse(&c); /* only asking for a pre-vote is possible before the first term */
    }
    if (c.error == 0) {
        take_body(&c, room, ret_msg);
    }
    if (c.error == 0 && fields < count_fields(ret_msg)) {
        refuse(&c);
    }
    if (c.error == 0) {
        shl_mp_take_skip(&c, fields - count_fields(ret_msg));
    }
    if (c.error == 0 && c.at != c.end) {
        refuse(&c);
    }
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
