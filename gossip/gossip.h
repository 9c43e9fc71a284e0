/* Membership and per-node records: who is in the cluster, who is alive, and what every node
 * says about itself. SWIM with Lifeguard; records spread with the same rumours.
 *
 * Pure: events in, actions out. No clock, socket, file, thread or global; time arrives in the
 * event, randomness comes from the seed in the configuration. Equal events give equal actions.
 * One owner, usually the loop thread. The object never calls back.
 *
 *     struct gossip_actions actions;
 *     gossip_actions_init(&actions);
 *     rc = gossip_step(g, &event, &actions);    for every event, and a TICK at wake_at_ms
 *     1. actions.persist                        durable first when it names an incarnation
 *     2. actions.sends                          hand to the transport; what it drops is repaired
 *     3. actions.changes, actions.records, actions.notices
 *     4. arm one timer for actions.wake_at_ms
 *
 * The caller guarantees that the sender of a RECV event is authenticated and that a send to
 * a contact reaches only the holder of that contact's key. Message bytes themselves are
 * hostile and checked here.
 *
 * Life of a node as its peers see it; order at equal incarnation: alive < suspect < dead < left.
 * Only the node itself raises its incarnation.
 *
 *     UNHEARD --> ALIVE <--> SUSPECT --> DEAD        UNHEARD: from the book on disk or from an
 *                   ^ |          |         |                  admission, nothing heard yet
 *                   | +----------+---------+--> LEFT  LEFT: said good-bye itself
 *                   +-- a higher incarnation, from DEAD or LEFT
 *     REMOVED: from every state, by a REMOVED event only; ends after removed_keep_s
 */
#ifndef SHL_GOSSIP_GOSSIP_H
#define SHL_GOSSIP_GOSSIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"

#define GOSSIP_WIRE_VERSION  1
#define GOSSIP_CLUSTER_BYTES 16
#define GOSSIP_KEY_BYTES     32 /* CURVE public key */

/* ---- limits ---- */

#define GOSSIP_MEMBERS_MAX      2048 /* largest gossip_config.members_max */
#define GOSSIP_MEMBERS_DEFAULT  256  /* live members (alive, suspect), self included */
#define GOSSIP_BOOK_MAX         1024 /* members that are not live: dead, left, unheard */
#define GOSSIP_REMOVED_MAX      1024 /* tombstones of removed nodes */
#define GOSSIP_SEEDS_MAX        64   /* addresses given by JOIN that are no member yet */
#define GOSSIP_NAME_SIZE        64   /* with terminator */
#define GOSSIP_ADDRESS_SIZE     128  /* with terminator; "host:port" */
#define GOSSIP_DOMAIN_SIZE      64   /* with terminator */
#define GOSSIP_RECORD_KEY_MAX   128  /* bytes, no zero byte */
#define GOSSIP_RECORD_VALUE_MAX 4096 /* bytes */
#define GOSSIP_RECORDS_MAX      8192 /* keys of one node that have a value */
#define GOSSIP_RECORD_BYTES_MAX (16u * 1024 * 1024) /* keys and values of one node */
#define GOSSIP_MESSAGE_MAX      16384 /* any message; larger ones are refused unread */
#define GOSSIP_PING_MAX         1400  /* ping, ping request, ack and nack with their rumours */
#define GOSSIP_INCARNATION_MAX  (UINT64_C(1) << 53)
#define GOSSIP_REFUSED_WAIT_MS  10000 /* one refusal per peer in this time */

struct gossip; /* opaque, heap */

/* ---- what a node says about itself ---- */

enum gossip_flags {
    GOSSIP_FLAG_WITNESS = 1u << 0, /* votes, runs no sandboxes */
};

/* Strings are terminated. A change needs a new incarnation (gossip_new after a restart). */
struct gossip_info {
    struct shl_node_id id;
    uint8_t key[GOSSIP_KEY_BYTES];
    char name[GOSSIP_NAME_SIZE];
    char control[GOSSIP_ADDRESS_SIZE]; /* mesh, small messages: where gossip is sent */
    char bulk[GOSSIP_ADDRESS_SIZE];    /* mesh, streams */
    char api[GOSSIP_ADDRESS_SIZE];     /* public HTTP API */
    char domain[GOSSIP_DOMAIN_SIZE];   /* failure domain, may be empty */
    uint32_t flags;
    uint16_t proto_min; /* mesh protocol versions it speaks, min <= max */
    uint16_t proto_max;
};

/* Where a message goes. Any part may be empty: an id alone means "over the link this peer has
 * with us"; key and address alone are a seed whose id is not known yet. With both, the address
 * is the one that counts: a node may have moved, and a copied identity has two. */
struct gossip_contact {
    struct shl_node_id id;
    uint8_t key[GOSSIP_KEY_BYTES];
    char address[GOSSIP_ADDRESS_SIZE]; /* control address */
};

enum gossip_life {
    GOSSIP_UNHEARD,
    GOSSIP_ALIVE,
    GOSSIP_SUSPECT,
    GOSSIP_DEAD,
    GOSSIP_LEFT,
    /* Only in changes: the node is no longer in the list, removed (gossip_is_removed) or
     * forgotten after its time in the book. */
    GOSSIP_REMOVED,
};

/* "alive" etc. Static storage. */
const char *gossip_life_name(enum gossip_life life);

/* ---- configuration ---- */

/* Defaults are for a LAN (gossip_timing_defaults). */
struct gossip_timing {
    uint32_t probe_ms;           /* 1000: round of the failure detector */
    uint32_t probe_targets;      /* 3: peers probed per round, spread evenly over it */
    uint32_t ping_timeout_ms;    /* 500: then ask helpers; the probe ends after probe_ms */
    uint32_t helpers;            /* 3: indirect pings */
    uint32_t gossip_ms;          /* 100: least time between two gossip sends */
    uint32_t gossip_hold_ms;     /* 2: a first rumour waits this long for company */
    uint32_t fanout;             /* 3: peers per gossip send */
    uint32_t sends_mult;         /* 4: a rumour is sent mult * ceil(log10(n + 1)) times ... */
    uint32_t sends_floor;        /* 12: ... but at least this often */
    uint32_t dead_gossip_ms;     /* 30000: the dead still get gossip, so that they can refute */
    uint32_t suspicion_mult;     /* 4: shortest suspicion is mult * log10(n) * probe_ms ... */
    uint32_t suspicion_min_ms;   /* 6000: ... but at least this; outlives a stall of 5 s */
    uint32_t suspicion_max_mult; /* 6: longest suspicion in shortest ones */
    uint32_t broken_ms; /* 1600: suspicion when two nodes (or all there are) saw the link break */
    uint32_t sync_ms;   /* 30000: full comparison with a random peer, longer above 32 nodes */
    uint32_t sync_settle_ms;    /* 300: an ack's digest is only compared after so much quiet */
    uint32_t sync_least_ms;     /* 1000: between two syncs started by a differing digest */
    uint32_t heal_ms;           /* 10000: between two attempts to reach somebody lost */
    uint32_t heal_urgent_ms;    /* 1000: same while at most half of the last stable view is alive */
    uint32_t view_settle_ms;    /* 600000: a smaller view counts as stable after this */
    uint32_t leave_ms;          /* 2000: longest wait of a leaving node */
    uint32_t book_save_ms;      /* 5000: least time between two saves of the book */
    uint32_t unset_keep_ms;     /* 600000: how long the mark of an unset key is kept */
    uint32_t flap_half_life_ms; /* 300000 */
    uint32_t flap_limit;        /* 3: deaths (decayed) above which a node is flapping */
    uint32_t flap_stable_ms;    /* 60000: alive this long ends flapping */
    uint32_t book_keep_s;       /* 7 days: dead peers are remembered and dialled this long */
    uint32_t removed_keep_s;    /* 7 days: removed nodes are recognised this long */
    uint32_t records_keep_ms;   /* 24 h: records of a node that is not live */
};

void gossip_timing_defaults(struct gossip_timing *timing);

/* Known bugs that the simulator can put back, to prove that it would find them. */
enum gossip_mutation {
    GOSSIP_MUT_NO_HEALING = 1u << 0,        /* the lost are never dialled */
    GOSSIP_MUT_MERGE_KILLS = 1u << 1,       /* "dead" in a comparison is believed at once */
    GOSSIP_MUT_NO_REFUTE = 1u << 2,         /* accusations against ourselves are ignored */
    GOSSIP_MUT_REMOVED_FORGOTTEN = 1u << 3, /* removed nodes are as welcome as others */
    GOSSIP_MUT_DIGEST_IGNORED = 1u << 4,    /* a differing digest starts no comparison */
};

struct gossip_config {
    struct gossip_info self;
    uint8_t cluster[GOSSIP_CLUSTER_BYTES]; /* in every message; others are refused */
    uint64_t incarnation;  /* last one persisted, 0 for a new node; this run starts above it */
    struct shl_bytes book; /* last book persisted (borrowed for gossip_new), or empty. A damaged
                            * one is an error of gossip_new: the caller drops it and says so */
    uint64_t seed;         /* must differ between runs of a node: it also names this run */
    uint32_t members_max;  /* 0: GOSSIP_MEMBERS_DEFAULT */
    uint32_t mutations;    /* enum gossip_mutation, 0 outside the simulator */
    struct gossip_timing timing;
    /* Pure check that @id is the hash of @key; NULL accepts all (tests, simulator). */
    bool (*key_matches)(const struct shl_node_id *id, const uint8_t key[GOSSIP_KEY_BYTES]);
};

/* Copies the configuration. Returns 0 and the object, SHL_EINVALIDARG (empty id, address or
 * name, a zero interval, protocol range, incarnation out of range, members_max),
 * SHL_ECORRUPT (book) or -ENOMEM. */
SHL_MUST_CHECK int gossip_new(const struct gossip_config *config,
                              struct gossip **ret,
                              struct shl_err *err);
void gossip_free(struct gossip *g); /* NULL is fine */

/* ---- events ---- */

enum gossip_event_type {
    GOSSIP_EV_TICK,     /* due at wake_at_ms; earlier is harmless and cheap */
    GOSSIP_EV_RECV,     /* a message: from (authenticated), bytes (borrowed) */
    GOSSIP_EV_LINK,     /* peer, up. Down: a connection that stood broke (reset, or bytes not
                         * acknowledged by the peer's kernel within about 1.5 s) or cannot be
                         * made. It speeds up the detection of crashes, because a peer that
                         * only stalls keeps its connections. Optional, never trusted alone. */
    GOSSIP_EV_LOOP_LAG, /* lag_ms: our loop was late; nobody is accused for it. A late TICK
                         * is noticed without this event. */
    GOSSIP_EV_JOIN,     /* contacts, contact_count: dial these now, and again until they are
                         * members. After LEAVE it rejoins. */
    GOSSIP_EV_LEAVE,    /* say good-bye; notice LEAVE_DONE follows */
    GOSSIP_EV_SET,      /* key, value: own record */
    GOSSIP_EV_UNSET,    /* key: own record */
    GOSSIP_EV_REMOVED,  /* peer: removed for good by the replicated log */
    GOSSIP_EV_ADMIT,    /* infos, info_count: members by the log or by a join answer; unknown
                         * ones become UNHEARD and are dialled. Ends a removal. */
};

struct gossip_event {
    enum gossip_event_type type;
    uint64_t now_ms; /* monotonic, never goes back (a smaller value counts as the last one) */
    uint64_t wall_s; /* wall clock, only for the ages in the book; 0: unknown */
    union {
        struct {
            struct shl_node_id from;
            struct shl_bytes bytes;
        } recv;
        struct {
            struct shl_node_id peer;
            bool up;
        } link;
        uint32_t lag_ms;
        struct {
            const struct gossip_contact *contacts;
            uint32_t contact_count; /* beyond GOSSIP_SEEDS_MAX: SHL_ELIMIT */
        } join;
        struct {
            const char *key;        /* terminated */
            struct shl_bytes value; /* SET only */
        } record;
        struct shl_node_id removed;
        struct {
            const struct gossip_info *infos;
            uint32_t info_count;
        } admit;
    };
};

/* ---- actions ---- */

/* Which of the peer's queues a message belongs to, most urgent first. */
enum gossip_lane {
    GOSSIP_LANE_PING,   /* never behind anything large */
    GOSSIP_LANE_GOSSIP, /* rumours */
    GOSSIP_LANE_SYNC,   /* up to GOSSIP_MESSAGE_MAX each, many in a row; may be dropped */
};

struct gossip_send {
    struct gossip_contact to;
    enum gossip_lane lane;
    struct shl_bytes bytes;
    size_t offset; /* private */
};

struct gossip_change {
    struct shl_node_id id;
    bool is_new; /* heard of for the first time in this run; @before is then UNHEARD */
    enum gossip_life before;
    enum gossip_life after; /* equal to before: info or incarnation changed */
};

struct gossip_record_change {
    struct shl_node_id id; /* owner */
    const char *key;       /* set or unset (look it up); NULL: all records of @id changed */
    size_t offset;         /* private */
};

enum gossip_notice_type {
    /* Two processes run with the same identity. id == self: we are one of them; the other one
     * is told the same by the same means. other: address of the one that is not in the list. */
    GOSSIP_NOTICE_COPIED_IDENTITY,
    GOSSIP_NOTICE_NAME_TAKEN,     /* live nodes id and other_id have the same name */
    GOSSIP_NOTICE_WE_REFUSED,     /* id spoke, reason says why it is not heard */
    GOSSIP_NOTICE_WAS_REFUSED,    /* id refused us, reason says why */
    GOSSIP_NOTICE_WE_ARE_REMOVED, /* id says that this node was removed from the cluster */
    GOSSIP_NOTICE_LEAVE_DONE,     /* good-byes are sent; stop now, after a linger */
    GOSSIP_NOTICE_FULL,           /* id does not fit into the member list */
};

enum gossip_refusal {
    GOSSIP_REFUSAL_NONE,
    GOSSIP_REFUSAL_CLUSTER = 1, /* another cluster id */
    GOSSIP_REFUSAL_VERSION = 2, /* wire version or protocol ranges do not meet */
    GOSSIP_REFUSAL_REMOVED = 3, /* removed from the cluster */
};

const char *gossip_refusal_text(enum gossip_refusal refusal);

struct gossip_notice {
    enum gossip_notice_type type;
    enum gossip_refusal reason;
    struct shl_node_id id;
    struct shl_node_id other_id;
    char other[GOSSIP_ADDRESS_SIZE];
};

struct gossip_persist {
    uint64_t incarnation; /* not 0: must be durable before the sends of this step leave */
    bool book;            /* gossip_book_encode and save when convenient */
};

/* Owned by the caller, reused between steps; everything inside is valid until the next step
 * with it or gossip_actions_release. Order of each list is the order of happening. */
struct gossip_actions {
    struct gossip_send *sends;
    uint32_t send_count;
    struct gossip_change *changes;
    uint32_t change_count;
    struct gossip_record_change *records;
    uint32_t record_count;
    struct gossip_notice *notices;
    uint32_t notice_count;
    struct gossip_persist persist;
    uint64_t wake_at_ms; /* UINT64_MAX: nothing to wait for */

    /* private */
    uint32_t send_room, change_room, record_room, notice_room;
    struct shl_buf bytes;
    int error;
};

void gossip_actions_init(struct gossip_actions *actions);
void gossip_actions_release(struct gossip_actions *actions);

/* Apply @event, report in @actions (cleared first).
 *
 * Returns 0. A message that is malformed, refused or unknown also gives 0 and is counted.
 * SHL_ELIMIT: record key, value or number of records, or too many contacts; nothing changed.
 * SHL_EINVALIDARG: empty key, own id removed, invalid info; nothing changed.
 * -ENOMEM: the object is no longer whole, only gossip_free may follow. */
SHL_MUST_CHECK int gossip_step(struct gossip *g,
                               const struct gossip_event *event,
                               struct gossip_actions *actions);

/* ---- queries; pointers are valid until the next step ---- */

struct gossip_member {
    struct gossip_info info;
    enum gossip_life life;
    uint64_t incarnation;
    uint64_t since_ms; /* monotonic, of this life */
    uint64_t gone_s;   /* wall clock of the end of its last life, 0 while live or unknown */
    bool link_broken;  /* as last told by GOSSIP_EV_LINK; a message from it clears it */
};

/* All members in id order, self included (alive, or left after LEAVE). */
uint32_t gossip_member_count(const struct gossip *g);
const struct gossip_member *gossip_member_at(const struct gossip *g, uint32_t index);
const struct gossip_member *gossip_member_find(const struct gossip *g,
                                               const struct shl_node_id *id);
const struct gossip_member *gossip_self(const struct gossip *g);
/* Alive and suspect ones, self included. */
uint32_t gossip_live_count(const struct gossip *g);
bool gossip_is_removed(const struct gossip *g, const struct shl_node_id *id);

/* Deaths of late, each halved every flap_half_life_ms. */
double gossip_flap_score(const struct gossip *g, const struct shl_node_id *id, uint64_t now_ms);
/* Alive and not flapping: may get new sandboxes and repairs. */
bool gossip_is_placeable(const struct gossip *g, const struct shl_node_id *id, uint64_t now_ms);

/* Equal on nodes that agree on who is live and with which incarnation. */
uint64_t gossip_digest(const struct gossip *g);
/* Equal on nodes that hold the same records of the live nodes. */
uint64_t gossip_record_digest(const struct gossip *g);

struct gossip_record {
    struct shl_node_id node; /* owner */
    const char *key;         /* terminated */
    struct shl_bytes value;
    uint64_t version; /* per owner, grows with every set and unset */
};

/* O(log records) each, NULL when there is none. Records of dead and left nodes are still
 * there (records_keep_ms): ask for the member's life where it matters. */
const struct gossip_record *gossip_record_get(const struct gossip *g,
                                              const struct shl_node_id *node,
                                              const char *key);
/* The same key over all nodes, in node order. */
const struct gossip_record *gossip_key_first(const struct gossip *g, const char *key);
const struct gossip_record *gossip_key_next(const struct gossip_record *record);
/* All keys that begin with @prefix ("" for all), in order of (key, node). */
const struct gossip_record *gossip_prefix_first(const struct gossip *g, const char *prefix);
const struct gossip_record *gossip_prefix_next(const struct gossip_record *record,
                                               const char *prefix);
/* Same for one node, in order of key. */
const struct gossip_record *gossip_node_first(const struct gossip *g,
                                              const struct shl_node_id *node,
                                              const char *prefix);
const struct gossip_record *gossip_node_next(const struct gossip_record *record,
                                             const char *prefix);
/* Number of records that have a value. */
uint32_t gossip_record_count(const struct gossip *g, const struct shl_node_id *node);

/* Peers to come back to after a restart: all members but self, with their age. Appends msgpack
 * to @buf (up to about 700 KiB). Returns 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int gossip_book_encode(const struct gossip *g, struct shl_buf *buf);

/* Counters since gossip_new, and a few gauges at the end. */
struct gossip_counters {
    uint64_t sent[3];       /* messages per lane */
    uint64_t sent_bytes[3]; /* per lane */
    uint64_t received;
    uint64_t received_bytes;
    uint64_t malformed;       /* not valid msgpack, wrong types or over a limit */
    uint64_t refused_cluster; /* another cluster id */
    uint64_t refused_version; /* wire or protocol version */
    uint64_t refused_removed; /* from or about removed nodes */
    uint64_t unknown_kind;    /* ignored for a newer version's sake */
    uint64_t over_limit;      /* members or records that did not fit */
    uint64_t probes;
    uint64_t probes_failed;
    uint64_t accusations; /* suspicions this node raised itself */
    uint64_t suspicions;  /* all that it took part in */
    uint64_t deaths;      /* live members that became dead here */
    uint64_t refutations; /* accusations against us that we answered */
    uint64_t lags;        /* rounds in which nobody was accused because we were late */
    uint64_t syncs;       /* comparisons started */
    uint64_t syncs_by_digest;
    uint64_t heals; /* attempts to reach somebody lost */
    uint64_t conflicts;
    uint32_t queued;       /* gauge: rumours that still spread */
    uint32_t health;       /* gauge: 0 good .. 7 bad (Lifeguard) */
    uint32_t suspects;     /* gauge */
    uint32_t records;      /* gauge: of all nodes */
    uint64_t record_bytes; /* gauge */
};

void gossip_counters(const struct gossip *g, struct gossip_counters *ret);

#endif /* SHL_GOSSIP_GOSSIP_H */
