/* Raft as a pure state machine: election, replicated log, reads, membership, snapshots.
 *
 * One event in, actions out. No clock, socket, file, thread or global; time arrives in
 * every event, randomness is a generator seeded by the config, so the same events give
 * the same actions, byte for byte. Not thread-safe; one owner, usually the loop thread.
 *
 * Who does what
 *   The core decides everything of the protocol. The adapter (node/ or sim/) carries out
 *   actions in the order in which they appear and reports back with events:
 *     SEND        hand the bytes to the peer; may be lost, doubled, delayed, reordered
 *     PERSIST     store, then PERSISTED with its sequence number; at most one request is
 *                 under way, the core gathers what comes meanwhile (group commit)
 *     APPLY       give the entry to the replicated state machine, strictly index by index
 *     ...         see enum sched_raft_action_type
 *   Answers that depend on stored data are held in the core until PERSISTED: nothing that
 *   was sent is ever taken back by a crash.
 *
 * Memory
 *   Events are borrowed for the call (two move a buffer in and say so). What actions point
 *   at belongs to the core or to the actions object and is valid until the next step of
 *   the same core or the release of either; an adapter that works later copies.
 *
 * Peers are hostile or buggy: a message is checked before it is used, the sender is the
 * authenticated one, and none can trip an assert. Raft itself does not survive voters that
 * lie about what they stored; what they cannot do is crash or grow this process.
 *
 * Units: times are milliseconds of a monotonic clock, any zero. Log indices start at 1.
 * Safety never depends on time; only liveness and the stickiness of a leader do.
 */
#ifndef SHL_SCHEDULER_RAFT_H
#define SHL_SCHEDULER_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/node_id.h"

/* Hard maxima; the limits of a config are at most these. */
#define SCHED_RAFT_MEMBERS_MAX        64                   /* voters and learners */
#define SCHED_RAFT_VOTERS_MAX         9                    /* design: up to 5 are chosen */
#define SCHED_RAFT_COMMAND_BYTES_MAX  (256u * 1024)        /* of one entry */
#define SCHED_RAFT_MESSAGE_BYTES_MAX  (512u * 1024)        /* of one SEND, encoded */
#define SCHED_RAFT_MSG_ENTRIES_MAX    1024                 /* of one message */
#define SCHED_RAFT_CHUNK_BYTES_MAX    (64u * 1024)         /* of a snapshot, per message */
#define SCHED_RAFT_SNAPSHOT_BYTES_MAX (256u * 1024 * 1024) /* of the state machine */
#define SCHED_RAFT_INFLIGHT_MAX       64                   /* messages per peer */
#define SCHED_RAFT_NEVER_MS           UINT64_MAX           /* wake_at_ms: no timer */

/*- Members. */

enum sched_raft_standing {
    SCHED_RAFT_LEARNER = 1, /* receives the log, does not vote: a standby */
    SCHED_RAFT_VOTER = 2,
};

/* A witness is a voter of a node without KVM. It stores the log and votes like any other,
 * and it can lead: with two machines and a witness the entry that L committed may be only
 * on L and the witness, and when L dies nobody else can be elected. Leading needs no KVM
 * either. It waits longer before it stands, so it leads only when it must. */
struct sched_raft_member {
    struct shl_node_id id;
    uint8_t standing; /* enum sched_raft_standing */
    bool witness;
};

/* Sorted by id, no id twice. count 0: nothing known yet (an empty node that waits for a
 * leader to bring it up). */
struct sched_raft_membership {
    uint32_t count;
    struct sched_raft_member members[SCHED_RAFT_MEMBERS_MAX];
};

/* The member with @id, or NULL. */
const struct sched_raft_member *sched_raft_membership_find(const struct sched_raft_membership *m,
                                                           const struct shl_node_id *id);
/* Insert or replace, keeping the order. Returns 0 or SHL_ELIMIT. */
SHL_MUST_CHECK int sched_raft_membership_set(struct sched_raft_membership *m,
                                             const struct sched_raft_member *member);
uint32_t sched_raft_membership_voters(const struct sched_raft_membership *m);

/*- What is stored. */

enum sched_raft_entry_type {
    SCHED_RAFT_COMMAND = 1,    /* bytes of a PROPOSE */
    SCHED_RAFT_NOOP = 2,       /* first entry of a leader; no bytes */
    SCHED_RAFT_MEMBERSHIP = 3, /* bytes of sched_raft_membership_encode */
};

/* Stored: index, term, type, data. */
struct sched_raft_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type; /* enum sched_raft_entry_type */
    bool has_tag; /* proposed here, and this node has led ever since */
    uint64_t tag; /* of the PROPOSE or CHANGE */
    struct shl_bytes data;
};

struct sched_raft_snapshot_meta {
    uint64_t index;                          /* last entry it contains; 0: there is no snapshot */
    uint64_t term;                           /* of that entry */
    uint64_t membership_index;               /* entry that set the membership below */
    struct sched_raft_membership membership; /* as of index */
};

/* One request to storage. Each is atomic (one write batch with a sync) and they are
 * applied in the order of seq; a crash loses a suffix of requests, never a middle one.
 * Within one request the order is: snapshot, truncate, entries, hard state. */
enum sched_raft_snapshot_write {
    SCHED_RAFT_SNAPSHOT_NONE = 0,
    SCHED_RAFT_SNAPSHOT_SAVE,    /* replaces the stored one; entries below log_first go */
    SCHED_RAFT_SNAPSHOT_INSTALL, /* replaces the stored one; ALL entries go */
};

struct sched_raft_persist {
    uint64_t seq;
    bool has_hard_state; /* term and vote changed (they are always filled in) */
    uint64_t term;
    struct shl_node_id vote; /* zero: none in this term */
    enum sched_raft_snapshot_write snapshot;
    const struct sched_raft_snapshot_meta *meta; /* with a snapshot */
    struct shl_bytes snapshot_data;              /* with a snapshot */
    uint64_t log_first;                          /* with SAVE: lowest index that is still needed */
    uint64_t truncate_from;                 /* 0: none; else entries at and above this index go */
    const struct sched_raft_entry *entries; /* contiguous */
    uint32_t entry_count;
};

/*- Config. */

/* Bugs that can be put back, for the simulator only: it must find each of them. */
enum sched_raft_mutation {
    /* Commits entries of older terms by counting copies (dissertation, figure 3.7). */
    SCHED_RAFT_MUT_COMMIT_OLD_TERM = 1u << 0,
    /* An accepted append reports the follower's whole log as matching, not what was checked. */
    SCHED_RAFT_MUT_MATCH_LAST_INDEX = 1u << 1,
    /* The leader's commit index is taken over without looking at what was verified. */
    SCHED_RAFT_MUT_COMMIT_UNCLAMPED = 1u << 2,
    /* Votes are answered before they are stored. */
    SCHED_RAFT_MUT_VOTE_BEFORE_PERSIST = 1u << 3,
    /* Votes are given to candidates whose log lacks entries. */
    SCHED_RAFT_MUT_VOTE_ANY_LOG = 1u << 4,
    /* A leader answers reads without asking a quorum whether it still leads. */
    SCHED_RAFT_MUT_READ_WITHOUT_QUORUM = 1u << 5,
    /* A membership is used only once it is committed, and a second change may start before. */
    SCHED_RAFT_MUT_MEMBERSHIP_LATE = 1u << 6,
    /* Installing a snapshot keeps the log behind it, and reports it as matching. */
    SCHED_RAFT_MUT_INSTALL_KEEPS_LOG = 1u << 7,
    /* Truncating the log keeps the membership of a removed entry. */
    SCHED_RAFT_MUT_TRUNCATE_KEEPS_MEMBERSHIP = 1u << 8,
    /* Appends are acknowledged before they are stored. */
    SCHED_RAFT_MUT_ACK_BEFORE_PERSIST = 1u << 9,
    /* Append answers of older terms are believed. */
    SCHED_RAFT_MUT_OLD_TERM_ANSWERS = 1u << 10,
    /* A second candidate of the same term gets a vote too. */
    SCHED_RAFT_MUT_VOTE_TWICE = 1u << 11,
    /* A follower keeps what it has where an append conflicts. */
    SCHED_RAFT_MUT_KEEP_CONFLICT = 1u << 12,
};

struct sched_raft_limits {
    uint32_t msg_entries;            /* entries per message */
    uint32_t msg_bytes;              /* command bytes per message (one entry always fits) */
    uint32_t inflight;               /* unanswered append messages per peer */
    uint32_t chunk_bytes;            /* snapshot bytes per message */
    uint64_t log_bytes;              /* of all entries in memory: beyond it proposals are refused */
    uint64_t uncommitted_bytes;      /* of entries not yet committed, same refusal */
    uint64_t snapshot_after_bytes;   /* applied since the last snapshot: SNAPSHOT_WANTED */
    uint64_t snapshot_after_entries; /* same, in entries */
    uint64_t trailing_entries;       /* kept in front of a snapshot for slow peers */
    uint64_t snapshot_bytes;         /* of the state machine's snapshot */
    uint32_t reads;                  /* waiting at once */
    uint64_t promote_lag;            /* entries a learner may lack when it is promoted */
};

struct sched_raft_config {
    struct shl_node_id self;
    uint64_t seed;   /* of the election timeouts; draw it anew at every start */
    uint64_t now_ms; /* time of the start */

    /* Timings. sched_raft_config_init sets values for a LAN. */
    uint32_t heartbeat_ms;
    uint32_t election_min_ms; /* a voter stands after a random time in [min, max) ... */
    uint32_t election_max_ms; /* ... without a leader; a leader steps down after max without
                                 hearing from a quorum */

    struct sched_raft_limits limits;
    uint32_t mutations; /* enum sched_raft_mutation, 0 outside the simulator */

    /* What storage holds; all empty on a first start. Copied, except the snapshot bytes. */
    uint64_t term;
    struct shl_node_id vote;
    struct sched_raft_snapshot_meta snapshot; /* index 0: none */
    struct shl_buf *snapshot_data;            /* moved into the core when sched_raft_new succeeds */
    const struct sched_raft_entry *entries;   /* all that are stored, contiguous; the
                                               first at most at snapshot.index + 1 */
    uint64_t entry_count;
};

/* All zero but timings (50 ms, 200..400 ms) and limits. */
void sched_raft_config_init(struct sched_raft_config *config);

/*- Events. */

enum sched_raft_event_type {
    SCHED_RAFT_TICK = 1,       /* wake_at_ms has come; early or late ticks do no harm */
    SCHED_RAFT_RECV,           /* a message of a peer */
    SCHED_RAFT_PERSISTED,      /* everything up to this sequence number is durable */
    SCHED_RAFT_PERSIST_FAILED, /* storage failed: the core stops for good (role FAILED) */
    SCHED_RAFT_BOOTSTRAP,      /* make a cluster; only on a node that stores nothing at all */
    SCHED_RAFT_PROPOSE,        /* add a command to the log -> RESULT */
    SCHED_RAFT_READ,           /* linearizable read -> READ_READY or READ_FAILED */
    SCHED_RAFT_CHANGE,         /* change one member -> RESULT when it is committed */
    SCHED_RAFT_TRANSFER,       /* hand leadership over -> RESULT */
    SCHED_RAFT_SNAPSHOT_TAKEN, /* answer to SNAPSHOT_WANTED, at any later time */
    SCHED_RAFT_PEER_LINK,      /* a link came up or went down; optional, saves retries */
    SCHED_RAFT_CAMPAIGN,       /* stand for election now (pre-vote first) */
};

enum sched_raft_change_op {
    SCHED_RAFT_ADD_LEARNER = 1, /* new member; already there: EXISTS */
    SCHED_RAFT_PROMOTE,         /* learner to voter; needs to have caught up */
    SCHED_RAFT_DEMOTE,          /* voter to learner */
    SCHED_RAFT_REMOVE,
};

struct sched_raft_event {
    enum sched_raft_event_type type;
    uint64_t now_ms; /* monotonic; a value below an earlier one counts as that one */
    union {
        struct {
            struct shl_node_id from; /* as authenticated by the transport */
            struct shl_bytes bytes;
        } recv;
        struct {
            uint64_t seq;
        } persisted;
        struct {
            /* The same on every founding node; usually one voter, this node. */
            const struct sched_raft_membership *membership;
        } bootstrap;
        struct {
            uint64_t tag;             /* the caller's, comes back */
            struct shl_bytes command; /* copied */
        } propose;
        struct {
            uint64_t tag;
        } read;
        struct {
            uint64_t tag;
            enum sched_raft_change_op op;
            struct shl_node_id id;
            bool witness; /* with ADD_LEARNER */
        } change;
        struct {
            uint64_t tag;
            struct shl_node_id target; /* zero: the voter that is furthest */
        } transfer;
        struct {
            uint64_t index;       /* state after this entry; at most what was applied */
            struct shl_buf *data; /* moved into the core, unless the step fails */
        } snapshot_taken;
        struct {
            struct shl_node_id peer;
            bool up;
        } link;
    } u;
};

/*- Actions. */

enum sched_raft_role {
    SCHED_RAFT_FOLLOWER = 1, /* also learners and nodes without a membership */
    SCHED_RAFT_PRE_CANDIDATE,
    SCHED_RAFT_CANDIDATE,
    SCHED_RAFT_LEADER,
    SCHED_RAFT_FAILED, /* storage or memory failed; takes no part any more */
};

enum sched_raft_reason {
    SCHED_RAFT_DONE = 0,
    SCHED_RAFT_NOT_LEADER,    /* ask the leader in the answer, if it is known */
    SCHED_RAFT_LOST,          /* leadership ended first: the entry MAY still be committed */
    SCHED_RAFT_TRANSFERRING,  /* leadership is being handed over; ask again soon */
    SCHED_RAFT_TOO_LARGE,     /* command over SCHED_RAFT_COMMAND_BYTES_MAX */
    SCHED_RAFT_LOG_FULL,      /* log_bytes or uncommitted_bytes reached; ask again */
    SCHED_RAFT_BUSY,          /* too many reads wait, or another change is under way, or no
                                 entry of this term is committed yet; ask again */
    SCHED_RAFT_EXISTS,        /* member is there already / is already what was asked */
    SCHED_RAFT_NO_MEMBER,     /* no such member, or of the wrong standing for this */
    SCHED_RAFT_NOT_CAUGHT_UP, /* learner lacks too much, or was not heard of lately */
    SCHED_RAFT_LAST_VOTER,    /* the last full voter cannot be demoted or removed */
    SCHED_RAFT_MEMBER_LIMIT,  /* SCHED_RAFT_MEMBERS_MAX or SCHED_RAFT_VOTERS_MAX */
    SCHED_RAFT_TIMED_OUT,     /* transfer: the target did not take over in time */
    SCHED_RAFT_STOPPED,       /* the core failed */
    SCHED_RAFT_REASON_COUNT,
};
const char *sched_raft_reason_text(enum sched_raft_reason reason);
const char *sched_raft_role_name(enum sched_raft_role role);

enum sched_raft_action_type {
    SCHED_RAFT_ACT_SEND = 1,
    SCHED_RAFT_ACT_PERSIST,
    SCHED_RAFT_ACT_APPLY,      /* every entry of every type, in order, without a gap */
    SCHED_RAFT_ACT_RESULT,     /* of PROPOSE, CHANGE or TRANSFER; exactly one for each */
    SCHED_RAFT_ACT_READ_READY, /* all entries up to index were applied before this */
    SCHED_RAFT_ACT_READ_FAILED,
    SCHED_RAFT_ACT_ROLE_CHANGED,       /* role, term or known leader changed */
    SCHED_RAFT_ACT_SNAPSHOT_WANTED,    /* take one of the state as applied now, or later */
    SCHED_RAFT_ACT_SNAPSHOT_INSTALL,   /* replace the state machine; APPLY goes on behind it */
    SCHED_RAFT_ACT_MEMBERSHIP_APPLIED, /* follows the APPLY or the INSTALL that brought it */
};

struct sched_raft_action {
    enum sched_raft_action_type type;
    union {
        struct {
            struct shl_node_id to;
            struct shl_bytes bytes;
        } send;
        struct sched_raft_persist persist;
        const struct sched_raft_entry *apply;
        struct {
            uint64_t tag;
            enum sched_raft_reason reason;
            uint64_t index;            /* with DONE of PROPOSE and CHANGE */
            struct shl_node_id leader; /* zero: unknown */
        } result;
        struct {
            uint64_t tag;
            uint64_t index;                /* with READ_READY */
            enum sched_raft_reason reason; /* with READ_FAILED */
            struct shl_node_id leader;
        } read;
        struct {
            enum sched_raft_role role;
            uint64_t term;
            struct shl_node_id leader; /* zero: unknown */
        } role;
        struct {
            uint64_t index; /* applied now; a snapshot of a higher index is as good */
        } wanted;
        struct {
            const struct sched_raft_snapshot_meta *meta;
            struct shl_bytes data;
        } install;
        struct {
            uint64_t index;
            const struct sched_raft_membership *membership;
        } membership;
    } u;
};

/* Caller-owned; every step clears it first and keeps its memory. */
struct sched_raft_actions {
    struct sched_raft_action *items;
    uint32_t count;
    uint32_t capacity;
    struct shl_buf bytes; /* of SENDs */
    uint64_t wake_at_ms;  /* send a TICK then; SCHED_RAFT_NEVER_MS for none */
};

void sched_raft_actions_init(struct sched_raft_actions *actions);
void sched_raft_actions_release(struct sched_raft_actions *actions);

/*- The core. */

struct sched_raft;

/* Returns 0, SHL_EINVALIDARG (config out of range), SHL_ECORRUPT (what storage holds does
 * not fit together) or -ENOMEM. The first step (a TICK) gives the first wake_at_ms and
 * APPLYs nothing: the adapter loads the snapshot into its state machine itself, entries
 * above it come again as APPLY once they are known to be committed. */
SHL_MUST_CHECK int sched_raft_new(const struct sched_raft_config *config,
                                  struct sched_raft **ret_raft);
void sched_raft_free(struct sched_raft *raft);

/* Apply one event. Returns 0; SHL_EPROTO for a RECV that does not decode or is from this
 * node itself; SHL_EINVALIDARG for an event that cannot be (PERSISTED of an unknown
 * sequence number, a snapshot above what was applied or over its limit); SHL_EBADSTATE for
 * BOOTSTRAP of a node that stores something. After these nothing has changed. -ENOMEM ends
 * the core (role FAILED). wake_at_ms is always set. */
SHL_MUST_CHECK int sched_raft_step(struct sched_raft *raft,
                                   const struct sched_raft_event *event,
                                   struct sched_raft_actions *actions);

/*- Looking at it: status pages, tests, the simulator. */

enum sched_raft_peer_state {
    SCHED_RAFT_PEER_PROBE = 1, /* finding where the logs part, one message at a time */
    SCHED_RAFT_PEER_REPLICATE, /* pipelining */
    SCHED_RAFT_PEER_SNAPSHOT,  /* receiving a snapshot */
};

struct sched_raft_peer_status {
    struct sched_raft_member member;
    enum sched_raft_peer_state state;
    uint64_t match; /* known to be stored there */
    uint64_t next;
    uint64_t heard_at_ms; /* last answer in this term; 0 never */
    uint64_t snapshot_sent_bytes;
    uint64_t snapshot_bytes; /* 0 when none is being sent */
};

struct sched_raft_status {
    enum sched_raft_role role;
    uint64_t term;
    struct shl_node_id vote;
    struct shl_node_id leader; /* zero: unknown */
    uint64_t commit;
    uint64_t applied;
    uint64_t last_index;
    uint64_t last_term;
    uint64_t stable_index; /* durable here up to this entry */
    uint64_t first_index;  /* lowest entry in memory */
    uint64_t snapshot_index;
    uint64_t log_bytes;
    uint64_t membership_index; /* entry of the membership in use */
    bool membership_committed;
    uint64_t refused_messages; /* valid bytes that no correct peer would have sent */
    uint64_t peers_forgot;     /* how often a peer denied what it had said to have stored */
    uint32_t peer_count;       /* as leader, else 0 */
    struct sched_raft_peer_status peers[SCHED_RAFT_MEMBERS_MAX];
};

void sched_raft_status(const struct sched_raft *raft, struct sched_raft_status *ret_status);

/* Cheap parts of the above; the membership is the one in use (latest in the log), valid
 * until the next step. */
enum sched_raft_role sched_raft_role(const struct sched_raft *raft);
uint64_t sched_raft_term(const struct sched_raft *raft);
uint64_t sched_raft_commit(const struct sched_raft *raft);
uint64_t sched_raft_applied(const struct sched_raft *raft);
uint64_t sched_raft_last_index(const struct sched_raft *raft);
struct shl_node_id sched_raft_leader(const struct sched_raft *raft);
const struct sched_raft_membership *sched_raft_membership(const struct sched_raft *raft);
/* Entry in memory (first_index..last_index) or NULL; valid until the next step. */
const struct sched_raft_entry *sched_raft_entry_at(const struct sched_raft *raft, uint64_t index);

/* Inner consistency: NULL when fine, else what is wrong (static text). For tests and the
 * simulator. _quick leaves out what needs a walk through the log. */
const char *sched_raft_check(const struct sched_raft *raft);
const char *sched_raft_check_quick(const struct sched_raft *raft);

/* Membership as bytes of an entry, and back. decode: 0 or SHL_EPROTO. */
SHL_MUST_CHECK int sched_raft_membership_encode(const struct sched_raft_membership *m,
                                                struct shl_buf *buf);
SHL_MUST_CHECK int sched_raft_membership_decode(struct shl_bytes bytes,
                                                struct sched_raft_membership *ret);

/* One line about an encoded message for traces: "append t=4 prev=7/3 n=2 commit=6". */
void sched_raft_msg_format(char *dst, size_t size, struct shl_bytes bytes);

#endif /* SHL_SCHEDULER_RAFT_H */
