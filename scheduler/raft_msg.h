/* Messages between Raft cores: a msgpack array [version, kind, term, fields...]. Fields may
 * be added at the end; unknown kinds are refused by the decoder and ignored by the core.
 *
 * Decoding checks form, ranges and what a message must fulfil by itself (terms that do not
 * fall, no entry of a later term than the message). What depends on the receiver's state
 * is checked where the message is handled.
 */
#ifndef SHL_SCHEDULER_RAFT_MSG_H
#define SHL_SCHEDULER_RAFT_MSG_H

#include "scheduler/raft.h"

/* Terms and indices beyond this are refused, so that adding to one never wraps. */
#define SCHED_RAFT_NUMBER_MAX (UINT64_MAX >> 2)

enum sched_raft_msg_kind {
    SCHED_RAFT_MSG_VOTE = 1,
    SCHED_RAFT_MSG_VOTE_ANSWER,
    SCHED_RAFT_MSG_APPEND, /* also the heartbeat */
    SCHED_RAFT_MSG_APPEND_ANSWER,
    SCHED_RAFT_MSG_SNAPSHOT, /* one piece */
    SCHED_RAFT_MSG_SNAPSHOT_ANSWER,
    SCHED_RAFT_MSG_TIMEOUT_NOW, /* leadership transfer: stand at once */
};

struct sched_raft_msg {
    enum sched_raft_msg_kind kind;
    uint64_t term; /* of the sender */
    union {
        struct {
            uint64_t for_term; /* pre-vote: term + 1, else term */
            uint64_t last_index;
            uint64_t last_term;
            bool pre;
            bool forced; /* the leader asked for this election: do not stick to it */
        } vote;
        struct {
            uint64_t for_term;
            bool pre;
            bool granted;
        } vote_answer;
        struct {
            uint64_t prev_index;
            uint64_t prev_term;
            uint64_t commit;
            uint64_t round; /* of the leader's reads; echoed */
            const struct sched_raft_entry *entries;
            uint32_t count;
        } append;
        struct {
            bool rejected;
            uint64_t index;      /* stored and checked up to here; rejected: prev_index */
            uint64_t hint_index; /* rejected: highest index that may match ... */
            uint64_t hint_term;  /* ... and its term */
            uint64_t round;
        } append_answer;
        struct {
            uint64_t index; /* identify the snapshot */
            uint64_t snapshot_term;
            uint64_t offset;
            uint64_t total;
            uint64_t round;
            uint64_t membership_index;
            const struct sched_raft_membership *membership; /* with offset 0, else NULL */
            struct shl_bytes data; /* empty: only asks how far the receiver is */
        } snapshot;
        struct {
            uint64_t index;
            uint64_t offset; /* wanted next */
            uint64_t match;  /* stored and checked up to here */
            uint64_t round;
        } snapshot_answer;
    } u;
};

/* Where decoding puts what does not fit into the message itself. */
struct sched_raft_msg_room {
    struct sched_raft_entry entries[SCHED_RAFT_MSG_ENTRIES_MAX];
    struct sched_raft_membership membership;
};

/* Append to @buf. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int sched_raft_msg_encode(const struct sched_raft_msg *msg, struct shl_buf *buf);

/* @ret_msg points into @bytes and @room. 0, SHL_EPROTO or SHL_ELIMIT. */
SHL_MUST_CHECK int sched_raft_msg_decode(struct shl_bytes bytes,
                                         struct sched_raft_msg_room *room,
                                         struct sched_raft_msg *ret_msg);

#endif /* SHL_SCHEDULER_RAFT_MSG_H */
