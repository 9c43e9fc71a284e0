/* The insides of the gossip core, shared by the files of this folder only.
 *
 *     gossip.c   life cycle, dispatch of events, timers, queries
 *     member.c   the member list; the one function that changes a member's life
 *     rumour.c   what is believed of a rumour about a member
 *     probe.c    failure detector: pings and helpers
 *     suspect.c  accusers and deadlines
 *     spread.c   dissemination queue
 *     record.c   per-node records
 *     lookup.c   their order and the queries
 *     sync.c     anti-entropy: rows
 *     delta.c    anti-entropy: what was asked for
 *     heal.c     dead-peer book, seeds, removed nodes
 *     wire.c     message layouts
 *     actions.c  the list of actions
 */
#ifndef SHL_GOSSIP_CORE_H
#define SHL_GOSSIP_CORE_H

#include "base/list.h"
#include "gossip/gossip.h"
#include "gossip/maths.h"
#include "gossip/tree.h"

#define GOSSIP_ACCUSERS_MAX  8   /* remembered per suspicion */
#define GOSSIP_PROBES_MAX    32  /* under way */
#define GOSSIP_HELPERS_MAX   8   /* per probe */
#define GOSSIP_RELAYS_MAX    128 /* probes made for others */
#define GOSSIP_RECENT_MAX    64  /* answers to strangers whose rate is limited */
#define GOSSIP_CONFIRM_NODES 6   /* nodes that probe a suspect at once, on average */
#define GOSSIP_DIAL_MAX      8   /* contacts dialled in one step */
#define GOSSIP_WANT_MAX      16  /* record sets asked for in one message */
#define GOSSIP_TELL_MS       1000
#define GOSSIP_ARENA_MAX     (64u * 1024 * 1024) /* bytes of all sends of one step */

/* A place in the dissemination queue; embedded in what it tells. */
struct gossip_rumour {
    struct shl_list node;
    uint32_t sends;
    bool queued;
    bool is_record;
};

struct gossip_accusers {
    struct shl_node_id ids[GOSSIP_ACCUSERS_MAX];
    uint32_t count;
    uint32_t broken_mask; /* bit i: ids[i] also saw its connection break */
};

/* The records of one node as far as we know them. */
struct gossip_records {
    uint64_t generation;  /* incarnation with which the owner began this set; 0: nothing heard */
    uint64_t top;         /* highest version seen */
    uint64_t complete;    /* everything up to here is known */
    uint64_t unset_floor; /* marks of unset keys up to here may be missing; <= complete */
    uint64_t hash;        /* sum over keys with a value */
    uint64_t digest_part; /* our share of record_digest */
    struct gossip_tree by_key;
    struct shl_list by_version; /* ascending */
    uint32_t count;             /* with a value */
    uint32_t marks;             /* unset ones still remembered */
    uint64_t bytes;
    bool resetting; /* a transfer from the start is under way: doubtful entries exist */
};

struct gossip_peer {
    struct gossip_member pub;
    uint64_t instance; /* names the run of the process, 0: not known */
    uint64_t over;     /* the foreign run of its own id that it last overruled */
    uint64_t id_hash;
    uint64_t name_hash;
    struct gossip_rumour rumour;
    struct gossip_records records;
    bool heard; /* in this run */
    bool in_rings;
    /* while suspect */
    struct shl_list suspect_node;
    struct gossip_accusers accusers;
    uint64_t suspect_at_ms;
    uint64_t broken_at_ms; /* enough broken links were known; 0: not */
    uint64_t dead_at_ms;   /* the deadline that follows from these */
    /* flap score */
    double flap;
    uint64_t flap_at_ms;
    bool flapping;
};

struct gossip_entry {
    struct gossip_record pub; /* key points at the bytes behind this struct */
    struct gossip_peer *owner;
    struct gossip_tree_node by_key;      /* all nodes: key, node */
    struct gossip_tree_node by_node_key; /* owner's: key */
    struct shl_list by_version;
    struct shl_list mark_node; /* in marks while unset */
    struct gossip_rumour rumour;
    uint64_t hash;
    uint64_t unset_at_ms;
    bool unset;
    bool doubtful;
    uint8_t *value;
};

/* Peers in a random order, walked round robin. */
struct gossip_ring {
    struct gossip_peer **items;
    uint32_t count;
    uint32_t cursor;
};

struct gossip_probe {
    bool used;
    bool asked;   /* the helpers are asked */
    bool excused; /* we were late meanwhile: its failure means nothing */
    struct shl_node_id target;
    uint64_t seq;
    uint64_t ask_at_ms;
    uint64_t end_at_ms;
    struct shl_node_id helpers[GOSSIP_HELPERS_MAX];
    uint32_t helper_count;
    uint32_t nacked_mask;
    uint32_t broken_mask; /* helpers that say their connection is broken, too */
};

struct gossip_relay {
    bool used;
    bool nacked;
    struct shl_node_id origin;
    uint64_t origin_seq;
    struct shl_node_id target;
    uint64_t seq;
    uint64_t nack_at_ms;
    uint64_t end_at_ms;
};

struct gossip_tombstone {
    struct shl_node_id id;
    uint64_t until_s; /* 0: the wall clock was not known */
};

enum gossip_recent_what {
    GOSSIP_RECENT_REFUSE,
    GOSSIP_RECENT_REFUSED,
    GOSSIP_RECENT_REMOVED,
    GOSSIP_RECENT_GREET,
    GOSSIP_RECENT_COPIED,
    GOSSIP_RECENT_FULL,
};

struct gossip_recent {
    struct shl_node_id id;
    enum gossip_recent_what what;
    uint64_t until_ms;
};

struct gossip {
    struct gossip_config config;
    struct gossip_actions *out; /* of the step under way */
    uint64_t now_ms;
    uint64_t wall_s;
    uint64_t wake_at_ms; /* as last reported */
    uint64_t random;
    bool started;
    bool leaving;
    bool left_told;

    struct gossip_peer *self;
    struct gossip_peer **peers; /* in id order */
    uint32_t peer_count, peer_room;
    uint32_t live_count;
    uint32_t left_count;
    uint64_t digest;
    uint64_t record_digest;
    uint64_t digest_at_ms; /* last change of either */

    struct gossip_ring probe_ring, gossip_ring;
    struct shl_list suspects;
    uint32_t health;
    uint64_t seq;
    uint64_t lag_seen_ms; /* when a lag was last noticed */
    uint64_t probe_at_ms;
    struct gossip_probe probes[GOSSIP_PROBES_MAX];
    uint32_t probe_count;
    struct gossip_relay relays[GOSSIP_RELAYS_MAX];
    uint32_t relay_count;

    struct shl_list queue[GOSSIP_SENDS_MAX + 1]; /* by number of sends */
    uint64_t queue_mask;                         /* bit i: queue[i] is not empty */
    uint32_t queued;
    uint64_t gossip_at_ms;
    uint64_t gossiped_at_ms;

    struct gossip_tree by_key;
    struct shl_list marks; /* unset entries, oldest first */

    uint64_t sync_at_ms;
    uint64_t digest_sync_at_ms; /* last one */
    uint64_t heal_at_ms;
    uint32_t view; /* live nodes in the last stable view */
    uint64_t view_low_at_ms;
    bool book_dirty;
    uint64_t book_at_ms;
    uint64_t leave_end_ms;

    struct gossip_contact seeds[GOSSIP_SEEDS_MAX];
    uint32_t seed_count;
    struct gossip_tombstone removed[GOSSIP_REMOVED_MAX]; /* in id order */
    uint32_t removed_count;
    struct gossip_recent recent[GOSSIP_RECENT_MAX];
    uint32_t recent_next;

    /* Address that the sender of the message at hand gave for itself; its answers go there
     * even when we do not believe it (yet). id is none: not given. */
    struct gossip_contact sender;
    uint64_t sender_instance;

    uint64_t copied_at_ms; /* last refutation against a copy of ourselves */
    struct gossip_counters counters;
};

/* ---- gossip.c ---- */

uint64_t gossip_random(struct gossip *g);
uint32_t gossip_random_below(struct gossip *g, uint32_t limit); /* limit > 0 */
uint64_t gossip_mix(uint64_t a, uint64_t b);
/* True at most once per @ms for the same id and subject. */
bool gossip_once(struct gossip *g,
                 const struct shl_node_id *id,
                 enum gossip_recent_what what,
                 uint64_t ms);

static inline bool gossip_is_live(enum gossip_life life)
{
    return life == GOSSIP_ALIVE || life == GOSSIP_SUSPECT;
}

/* ---- actions.c ---- */

void gossip_actions_clear(struct gossip_actions *actions);
/* Bytes since @from in the arena go to @to; several sends may share them. */
void gossip_emit_send(struct gossip *g,
                      const struct gossip_contact *to,
                      enum gossip_lane lane,
                      size_t from);
void gossip_emit_change(struct gossip *g,
                        const struct gossip_peer *peer,
                        enum gossip_life before,
                        bool is_new);
void gossip_emit_gone(struct gossip *g, const struct shl_node_id *id, enum gossip_life before);
void gossip_emit_record(struct gossip *g, const struct shl_node_id *id, const char *key);
void gossip_emit_notice(struct gossip *g, const struct gossip_notice *notice);
void gossip_actions_finish(struct gossip *g);
void gossip_contact_of(struct gossip_contact *ret, const struct gossip_info *info);

/* ---- member.c ---- */

struct gossip_peer *gossip_peer_find(const struct gossip *g, const struct shl_node_id *id);
/* New, UNHEARD, in the list; NULL: no room (counted) or no memory (actions.error). */
struct gossip_peer *gossip_peer_add(struct gossip *g, const struct gossip_info *info);
/* Out of the list and freed, with its records. */
void gossip_peer_drop(struct gossip *g, struct gossip_peer *peer);
void gossip_peer_free(struct gossip *g, struct gossip_peer *peer);
/* The one function that changes a life. Queues the rumour, reports the change. */
void gossip_peer_set(struct gossip *g,
                     struct gossip_peer *peer,
                     enum gossip_life life,
                     uint64_t incarnation);
void gossip_digest_update(struct gossip *g, struct gossip_peer *peer, int sign);
/* Replaces what it says about itself. */
void gossip_peer_set_info(struct gossip_peer *peer, const struct gossip_info *info);
bool gossip_has_room(const struct gossip *g, const struct gossip_peer *peer);
int gossip_info_check(const struct gossip *g, const struct gossip_info *info, struct shl_err *err);
/* Next eligible one of a ring, NULL when there is none. */
struct gossip_peer *gossip_ring_next(struct gossip *g,
                                     struct gossip_ring *ring,
                                     bool (*eligible)(const struct gossip *,
                                                      const struct gossip_peer *));
/* Gone at @gone_s (0: unknown) is longer ago than the book remembers. */
bool gossip_is_outdated(const struct gossip *g, uint64_t gone_s);
void gossip_forget_old(struct gossip *g);

/* ---- rumour.c ---- */

/* A statement about a member, from the wire. */
struct gossip_claim {
    enum gossip_life life;
    struct shl_node_id id;
    uint64_t incarnation;
    uint64_t instance; /* of ALIVE, and of others when info is given */
    uint64_t over;
    struct gossip_accusers accusers;
    uint64_t gone_s;
    bool has_info;
    struct gossip_info info;
};

/* @merge: not news but the other side's old opinion, so its "dead" is only a suspicion. */
void gossip_believe(struct gossip *g,
                    const struct shl_node_id *from,
                    const struct gossip_claim *claim,
                    bool merge);
/* Raise our own incarnation above @incarnation and say so; @foreign: the run of our id that
 * claimed it, 0 for an accusation. */
void gossip_refute(struct gossip *g, uint64_t incarnation, uint64_t foreign);

/* ---- probe.c ---- */

void gossip_probe_tick(struct gossip *g);
uint64_t gossip_probe_wake(const struct gossip *g);
void gossip_probe_start(struct gossip *g, struct gossip_peer *peer);
void gossip_probe_lag(struct gossip *g, uint64_t lag_ms);
void gossip_probe_link(struct gossip *g, struct gossip_peer *peer, bool up);
void gossip_on_ping(struct gossip *g, const struct shl_node_id *from, uint64_t seq);
void gossip_on_ping_request(struct gossip *g,
                            const struct shl_node_id *from,
                            uint64_t seq,
                            const struct shl_node_id *target);
/* True when the ack ended a probe of ours of @from itself. */
bool gossip_on_ack(struct gossip *g, const struct shl_node_id *from, uint64_t seq);
void gossip_on_nack(struct gossip *g, const struct shl_node_id *from, uint64_t seq, bool broken);

/* ---- suspect.c ---- */

/* Takes part in the suspicion of @peer; true when an accuser or a broken link was new. */
bool gossip_suspect(struct gossip *g,
                    struct gossip_peer *peer,
                    uint64_t incarnation,
                    const struct shl_node_id *accuser,
                    bool broken);
void gossip_suspect_tick(struct gossip *g);
uint64_t gossip_suspect_wake(const struct gossip *g);
/* Suspects get the time again in which we were late. */
void gossip_suspect_lag(struct gossip *g, uint64_t lag_ms);

/* ---- spread.c ---- */

struct shl_mp_writer;

void gossip_queue(struct gossip *g, struct gossip_rumour *rumour);
void gossip_unqueue(struct gossip *g, struct gossip_rumour *rumour);
/* An array of rumours, as many as fit into @room bytes, counted as @sends sends. @first is
 * written before all others when not NULL (and not counted). */
void gossip_write_rumours(struct gossip *g,
                          struct shl_mp_writer *w,
                          const struct gossip_peer *first,
                          size_t room,
                          uint32_t sends);
void gossip_spread_tick(struct gossip *g);
uint64_t gossip_spread_wake(const struct gossip *g);

/* ---- record.c ---- */

struct gossip_entry *gossip_entry_find(const struct gossip *g,
                                       const struct gossip_peer *peer,
                                       const char *key);
/* Into and out of both indexes. */
void gossip_entry_link(struct gossip *g, struct gossip_entry *entry);
void gossip_entry_unlink(struct gossip *g, struct gossip_entry *entry);
int gossip_record_set_own(struct gossip *g, const char *key, struct shl_bytes value);
int gossip_record_unset_own(struct gossip *g, const char *key);
/* One entry from the wire; value.base NULL: unset. @key is terminated. True when it was new. */
bool gossip_record_apply(struct gossip *g,
                         struct gossip_peer *peer,
                         uint64_t generation,
                         const char *key,
                         uint64_t version,
                         struct shl_bytes value,
                         bool unset);
/* Everything up to @to is known. */
void gossip_record_complete(struct gossip *g, struct gossip_peer *peer, uint64_t to);
/* Somebody has the very same records and knows everything up to @complete: so does this node, and
 * none of them is doubtful any more. */
void gossip_record_equal(struct gossip_peer *peer, uint64_t complete);
/* A newer generation: what was known of the older one is dropped. */
void gossip_record_generation(struct gossip *g, struct gossip_peer *peer, uint64_t generation);
void gossip_record_reset_begin(struct gossip *g, struct gossip_peer *peer);
void gossip_record_reset_end(struct gossip *g, struct gossip_peer *peer);
void gossip_record_drop_all(struct gossip *g, struct gossip_peer *peer);
/* Somebody knows records of ours that we never wrote in this run (a lost disk, damage): ours
 * begin a new generation, which overrules those. True when it was so. */
bool gossip_record_reclaim(struct gossip *g, uint64_t generation, uint64_t top);
void gossip_record_digest_update(struct gossip *g, struct gossip_peer *peer);
void gossip_record_purge(struct gossip *g);
static inline struct gossip_entry *gossip_entry_of(const struct gossip_record *record)
{
    return shl_container_of(record, struct gossip_entry, pub);
}

/* ---- sync.c ---- */

/* How to reach @id: the sender of this message, a member, or only its id. */
void gossip_contact_for(const struct gossip *g,
                        const struct shl_node_id *id,
                        struct gossip_contact *ret);

/* A comparison of everything with @to, who may not know us yet. */
void gossip_sync_start(struct gossip *g, const struct gossip_contact *to);
void gossip_sync_tick(struct gossip *g);
uint64_t gossip_sync_wake(const struct gossip *g);
void gossip_sync_compare(struct gossip *g,
                         const struct shl_node_id *from,
                         uint64_t digest,
                         uint64_t record_digest);

/* ---- heal.c ---- */

void gossip_heal_tick(struct gossip *g);
uint64_t gossip_heal_wake(const struct gossip *g);
void gossip_heal_view(struct gossip *g);
void gossip_heal_link(struct gossip *g, const struct gossip_peer *peer); /* a link came up */
int gossip_join(struct gossip *g, const struct gossip_contact *contacts, uint32_t count);
int gossip_admit(struct gossip *g, const struct gossip_info *infos, uint32_t count);
int gossip_remove(struct gossip *g, const struct shl_node_id *id);
int gossip_book_load(struct gossip *g, struct shl_bytes book, struct shl_err *err);
void gossip_book_touch(struct gossip *g);
void gossip_leave(struct gossip *g);

#endif /* SHL_GOSSIP_CORE_H */
