/* The parts of the Raft core among themselves. Nobody else includes this.
 *
 * A step has two halves. The first handles the event (recv_*, timers, proposals) and
 * changes state; it may emit results, but nothing that points into the log. The second,
 * finish in raft.c, emits what follows from the new state: answers that storage has made
 * possible, appends to peers, one storage request, entries to apply, reads. So pointers
 * inside actions stay valid until the next step.
 */
#ifndef SHL_SCHEDULER_RAFT_INTERNAL_H
#define SHL_SCHEDULER_RAFT_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "scheduler/raft_log.h"
#include "scheduler/raft_membership.h"
#include "scheduler/raft_msg.h"

/* A snapshot that is stored, or being sent to somebody while a newer one is stored. */
struct sched_raft_snapshot {
    unsigned refs;
    struct sched_raft_snapshot_meta meta;
    struct shl_buf data;
};

/* A membership and the entry that set it. The last one is in use as soon as it is in the
 * log (dissertation 4.1), so truncation takes it back. */
struct sched_raft_era {
    uint64_t index;
    struct sched_raft_membership membership;
};

/* A member as the leader sees it. */
struct sched_raft_peer {
    struct sched_raft_member member;
    enum sched_raft_peer_state state;
    uint64_t match;       /* stored there and checked against our log */
    uint64_t next;        /* first entry to send; > match, <= last + 1 */
    uint64_t commit_sent; /* highest commit index told */
    uint64_t round;       /* highest read round answered */
    uint64_t round_sent;
    uint64_t match_round; /* the newest in which it said to have stored `match` */
    uint64_t link_round;  /* what it was asked before its link came up has a lower one */
    uint64_t heard_at_ms;
    bool probe_sent; /* PROBE: wait for the answer or the heartbeat */
    /* REPLICATE: last index of each message under way, oldest first. */
    uint64_t inflight[SCHED_RAFT_INFLIGHT_MAX];
    uint32_t inflight_head;
    uint32_t inflight_count;
    /* SNAPSHOT */
    struct sched_raft_snapshot *snapshot; /* reference */
    uint64_t snapshot_offset;             /* acknowledged */
    uint64_t snapshot_sent_at_ms;
};

struct sched_raft_read {
    uint64_t tag;
    uint64_t index; /* ready when this is applied ... */
    uint64_t round; /* ... and a quorum answered this round */
};

/* A snapshot that is arriving. */
struct sched_raft_incoming {
    bool active;
    struct shl_node_id from;
    uint64_t term; /* of the sender */
    struct sched_raft_snapshot_meta meta;
    uint64_t total;
    struct shl_buf data;
};

/* What storage has, is given, and lacks. */
struct sched_raft_store {
    uint64_t last_seq; /* last request handed out */
    bool in_flight;    /* last_seq is under way */
    bool in_flight_hard;
    uint64_t in_flight_last; /* highest entry in it that is still in the log */
    uint64_t in_flight_term;
    struct shl_node_id in_flight_vote;
    bool in_flight_install;

    uint64_t durable_term;
    struct shl_node_id durable_vote;
    bool hard_dirty;                         /* term or vote not handed out yet */
    uint64_t written;                        /* highest entry handed out */
    uint64_t stable;                         /* highest entry that is durable */
    uint64_t truncate_from;                  /* to be handed out; 0: nothing */
    enum sched_raft_snapshot_write snapshot; /* to be handed out */
    bool install_waits; /* a snapshot is to replace the state machine once durable */
};

struct sched_raft {
    /* From the config. */
    struct shl_node_id self;
    uint32_t heartbeat_ms;
    uint32_t election_min_ms;
    uint32_t election_max_ms;
    struct sched_raft_limits limits;
    uint32_t mutations;

    /* Raft's state. */
    enum sched_raft_role role;
    uint64_t term;
    struct shl_node_id vote;
    struct shl_node_id leader;
    struct sched_raft_log log;
    uint64_t commit;
    uint64_t applied;
    struct sched_raft_snapshot *snapshot; /* NULL: none */
    struct sched_raft_era *eras;          /* ascending, at least one */
    uint32_t era_count;
    uint32_t era_capacity;
    struct sched_raft_store store;

    /* Time. */
    uint64_t now_ms;
    uint64_t random;
    uint64_t leader_heard_at_ms;
    uint64_t election_at_ms;  /* not as leader */
    uint64_t heartbeat_at_ms; /* as leader */

    /* Candidates. */
    uint64_t votes;          /* bit per position in the membership in use */
    bool forced;             /* by the leader, skipping pre-vote */
    bool stand_owed;         /* the timer fired before the term was durable */
    bool vote_requests_owed; /* once the own vote is durable */

    /* Voters and followers: answers that wait for storage. */
    bool vote_answer_owed;   /* to r->vote */
    bool append_answer_owed; /* an append of this step, or its term was not durable */
    uint64_t verified;       /* matches the leader of this term up to here */
    uint64_t acknowledged;   /* told that leader as stored */
    uint64_t round_seen;
    struct sched_raft_incoming incoming;

    /* Leader. */
    struct sched_raft_peer *peers; /* in order of id, without this node */
    uint32_t peer_count;
    uint64_t term_start; /* index of the first entry of this term */
    uint64_t uncommitted_bytes;
    uint64_t round;       /* of reads; in every message to a peer */
    uint64_t round_acked; /* answered by a quorum */
    bool removed;         /* the committed membership has no vote for this leader */
    struct {
        bool active;
        uint64_t tag;
        struct shl_node_id target;
        uint64_t deadline_ms;
        bool sent;
    } transfer;
    struct sched_raft_read *reads; /* ascending by round */
    uint32_t read_count;
    uint32_t read_capacity;

    uint64_t applied_bytes; /* since the last snapshot or wish for one */
    uint64_t wanted_at;     /* applied index of the last wish */
    uint64_t refused_messages;
    uint64_t peers_forgot;

    /* The step under way. */
    int error; /* -ENOMEM: the core ends */
    struct sched_raft_actions *out;
    bool send_owed; /* leader: look at every peer in finish */
    enum sched_raft_role told_role;
    uint64_t told_term;
    struct shl_node_id told_leader;
    struct sched_raft_msg_room room;
};

static inline bool sched_raft_mutated(const struct sched_raft *r, enum sched_raft_mutation m)
{
    return (r->mutations & (uint32_t)m) != 0;
}

static inline uint64_t sched_raft_last(const struct sched_raft *r)
{
    return sched_raft_log_last(&r->log);
}

/* raft_actions.c: one action each; a failure sticks in r->error. */
struct sched_raft_action *sched_raft_emit(struct sched_raft *r, enum sched_raft_action_type type);
void sched_raft_send(struct sched_raft *r,
                     const struct shl_node_id *to,
                     const struct sched_raft_msg *msg);
void sched_raft_emit_result(struct sched_raft *r,
                            uint64_t tag,
                            enum sched_raft_reason reason,
                            uint64_t index);
void sched_raft_emit_read_failed(struct sched_raft *r, uint64_t tag, enum sched_raft_reason reason);
void sched_raft_actions_clear(struct sched_raft_actions *actions);
void sched_raft_actions_point(struct sched_raft_actions *actions); /* offsets to pointers */

/* raft_role.c: the only functions that change role, term, vote and leader. */
void sched_raft_become_follower(struct sched_raft *r,
                                uint64_t term,
                                const struct shl_node_id *leader); /* NULL: unknown */
void sched_raft_become_pre_candidate(struct sched_raft *r);
void sched_raft_become_candidate(struct sched_raft *r);
void sched_raft_become_leader(struct sched_raft *r);
void sched_raft_become_failed(struct sched_raft *r);
void sched_raft_give_vote(struct sched_raft *r, const struct shl_node_id *candidate);
void sched_raft_forget_leader(struct sched_raft *r);
void sched_raft_restart_election_timer(struct sched_raft *r);
void sched_raft_tell_role(struct sched_raft *r);

/* raft_election.c */
void sched_raft_campaign(struct sched_raft *r);        /* pre-vote first */
void sched_raft_campaign_forced(struct sched_raft *r); /* leadership transfer */
void sched_raft_election_timeout(struct sched_raft *r);
void sched_raft_recv_vote(struct sched_raft *r,
                          const struct shl_node_id *from,
                          const struct sched_raft_msg *msg);
void sched_raft_recv_vote_answer(struct sched_raft *r,
                                 const struct shl_node_id *from,
                                 const struct sched_raft_msg *msg);
void sched_raft_finish_votes(struct sched_raft *r); /* what waited for storage */

/* raft_append.c: the follower's side of the log. */
void sched_raft_recv_append(struct sched_raft *r,
                            const struct shl_node_id *from,
                            const struct sched_raft_msg *msg);
void sched_raft_finish_append_answer(struct sched_raft *r);
/* Common to everything a leader sends: false when the message is to be ignored. */
bool sched_raft_accept_leader(struct sched_raft *r,
                              const struct shl_node_id *from,
                              const struct sched_raft_msg *msg);
bool sched_raft_term_durable(const struct sched_raft *r);

/* raft_replicate.c: the leader's side. */
void sched_raft_recv_append_answer(struct sched_raft *r,
                                   const struct shl_node_id *from,
                                   const struct sched_raft_msg *msg);
struct sched_raft_peer *sched_raft_peer_find(struct sched_raft *r, const struct shl_node_id *id);
int sched_raft_peers_rebuild(struct sched_raft *r); /* after the membership changed */
void sched_raft_peers_clear(struct sched_raft *r);
void sched_raft_peer_matched(struct sched_raft *r, struct sched_raft_peer *peer, uint64_t match);
void sched_raft_peer_round(struct sched_raft *r, struct sched_raft_peer *peer, uint64_t round);
void sched_raft_peer_probe(struct sched_raft_peer *peer, uint64_t next);
void sched_raft_peer_link(struct sched_raft *r, const struct shl_node_id *id);
void sched_raft_heartbeat(struct sched_raft *r);
void sched_raft_finish_sends(struct sched_raft *r);
void sched_raft_finish_commit(struct sched_raft *r);
bool sched_raft_quorum_heard(const struct sched_raft *r);
uint64_t sched_raft_quorum_round(const struct sched_raft *r);

/* raft_propose.c */
void sched_raft_propose(struct sched_raft *r, uint64_t tag, struct shl_bytes command);
void sched_raft_drop_tags(struct sched_raft *r, uint64_t above); /* leadership ended */
void sched_raft_finish_apply(struct sched_raft *r);
bool sched_raft_can_apply(const struct sched_raft *r);

/* raft_read.c */
void sched_raft_read(struct sched_raft *r, uint64_t tag);
void sched_raft_reads_fail(struct sched_raft *r, enum sched_raft_reason reason);
void sched_raft_round_answered(struct sched_raft *r);
void sched_raft_finish_reads(struct sched_raft *r);

/* raft_transfer.c */
void sched_raft_transfer(struct sched_raft *r, uint64_t tag, const struct shl_node_id *target);
void sched_raft_transfer_progress(struct sched_raft *r);
void sched_raft_transfer_end(struct sched_raft *r, enum sched_raft_reason reason);
void sched_raft_recv_timeout_now(struct sched_raft *r,
                                 const struct shl_node_id *from,
                                 const struct sched_raft_msg *msg);
void sched_raft_nominate(struct sched_raft *r); /* a leader that goes names its successor */

/* raft_change.c: eras and changes of membership. */
const struct sched_raft_era *sched_raft_era(const struct sched_raft *r); /* in use */
const struct sched_raft_era *sched_raft_era_at(const struct sched_raft *r, uint64_t index);
int sched_raft_era_push(struct sched_raft *r,
                        uint64_t index,
                        const struct sched_raft_membership *membership);
void sched_raft_era_truncate(struct sched_raft *r, uint64_t from);
void sched_raft_era_compact(struct sched_raft *r, uint64_t base);
const struct sched_raft_member *sched_raft_self(const struct sched_raft *r); /* or NULL */
bool sched_raft_is_voter(const struct sched_raft *r);
bool sched_raft_may_stand(const struct sched_raft *r);
uint32_t sched_raft_quorum(const struct sched_raft *r);
void sched_raft_change(struct sched_raft *r, const struct sched_raft_event *event);
void sched_raft_bootstrap(struct sched_raft *r, const struct sched_raft_membership *membership);
void sched_raft_era_committed(struct sched_raft *r);

/* raft_store.c */
void sched_raft_append(struct sched_raft *r, const struct sched_raft_entry *entry);
void sched_raft_append_own(struct sched_raft *r,
                           enum sched_raft_entry_type type,
                           struct shl_bytes data,
                           const uint64_t *tag); /* NULL: nobody waits */
void sched_raft_truncate(struct sched_raft *r, uint64_t from);
void sched_raft_hard_changed(struct sched_raft *r);
void sched_raft_persisted(struct sched_raft *r);
void sched_raft_finish_persist(struct sched_raft *r);

/* raft_snapshot.c */
struct sched_raft_snapshot *sched_raft_snapshot_new(const struct sched_raft_snapshot_meta *meta,
                                                    struct shl_buf *data); /* moved */
struct sched_raft_snapshot *sched_raft_snapshot_ref(struct sched_raft_snapshot *snapshot);
void sched_raft_snapshot_unref(struct sched_raft_snapshot *snapshot);
int sched_raft_snapshot_taken(struct sched_raft *r, uint64_t index, struct shl_buf *data);
void sched_raft_snapshot_start(struct sched_raft *r, struct sched_raft_peer *peer);
void sched_raft_snapshot_heartbeat(struct sched_raft *r, struct sched_raft_peer *peer);
void sched_raft_snapshot_send(struct sched_raft *r, struct sched_raft_peer *peer, bool ask);
void sched_raft_recv_snapshot(struct sched_raft *r,
                              const struct shl_node_id *from,
                              const struct sched_raft_msg *msg);
void sched_raft_recv_snapshot_answer(struct sched_raft *r,
                                     const struct shl_node_id *from,
                                     const struct sched_raft_msg *msg);
void sched_raft_incoming_clear(struct sched_raft *r);
void sched_raft_snapshot_installed(struct sched_raft *r);
void sched_raft_want_snapshot(struct sched_raft *r);

#endif /* SHL_SCHEDULER_RAFT_INTERNAL_H */
