/* Repair: what this node has to fetch so that every checkpoint has its copies, and which of
 * its own copies are too many.
 *
 * Every node plans for itself, from its own view; placement (checkpoint/replica_place.h)
 * decides who acts, so that not all do. Nothing depends on the views being equal:
 *   - Fetching is harmless: at worst there is a copy too many.
 *   - Before it drops its copy a node asks all R placed holders, and drops it when all said
 *     yes. From asking until it is done (or given up) it says no to everybody else's question
 *     about this checkpoint, as does a node that has no copy. So of all nodes that ever
 *     dropped a copy the one that began last had a yes of R nodes that had theirs, and that
 *     have begun nothing since: R copies stay, whatever the views were and however long a
 *     message took.
 *
 * A copy counts until its node is lost: dead for grace_ms (planned_ms when it announced a
 * restart), left, or removed. Suspicion moves nothing. A dead node is no place for anything new,
 * also before it is lost: what is made meanwhile is copied to those that are there. Copies on
 * draining nodes are good as sources, but do not count. When a node returns its copies count again,
 * and repairs that nobody needs any more are cancelled.
 *
 * Pure: events in, actions out. No clock, socket, file, thread or global; equal events give
 * equal actions. One owner at a time. A pass costs about entries * nodes * 0.2 us: above some
 * thousand entries run the VIEW step on the thread pool, with no other step beside it.
 *
 * Who wires it (node/cluster, the simulator):
 *   VIEW: every few seconds, and after changes. Nodes from gossip and the drain marks; entries
 *     from the catalogue in the log; holders as each node says itself (gossip), for a dead
 *     node what it said last; for this node what its store really has. `settled` is false
 *     before gossip and log have caught up after a start, and while no majority of
 *     the cluster is heard of: nothing new is begun then.
 *   FETCH: read the manifest from a holder, then ADD to checkpoint/fetch.h with this class; again
 *     for a job that runs: the class rose. ENDED when it is published, or failed.
 *   CANCEL: DROP there. No ENDED is expected.
 *   ASK, ANSWER: one message each way, request and answer by token; they may get lost. The peer
 *     feeds ASKED with `held`: whether its store has the whole checkpoint now.
 *   TRIM: unless this node has become the owner, or a sandbox here uses it, or until_ms has
 *     passed: take this node from the holders in the log, then ckpt_manifest_delete, then
 *     TRIMMED. When it is not done after all: TRIMMED as well. What a crash left between the
 *     two is not deleted at the next start but announced again: the next question and
 *     answer are then about a copy that stays.
 */
#ifndef SHL_CHECKPOINT_REPLICA_PLAN_H
#define SHL_CHECKPOINT_REPLICA_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/fetch.h"
#include "checkpoint/replica_place.h"

#define CKPT_PLAN_FETCHES_MAX 64u  /* under way */
#define CKPT_PLAN_TRIMS_MAX   32u  /* asked for, or being done */
#define CKPT_PLAN_RESTING_MAX 256u /* tried in vain a moment ago; the oldest goes */

struct ckpt_plan_config {
    struct shl_node_id self;
    uint64_t seed; /* random per run: an answer to an earlier life must not fit a question of now */
    uint8_t key[CKPT_REPLICA_KEY_BYTES]; /* the same on all nodes */
    uint32_t grace_ms;                   /* 60000 */
    uint32_t planned_ms;                 /* 600000 */
    uint32_t settle_ms;  /* 30000: places must be alive for so long before a copy is trimmed */
    uint32_t confirm_ms; /* 10000: answers to ASK that come later do not count */
    uint32_t rest_ms;    /* 30000: before what failed is tried again */
    uint32_t mutations;  /* enum ckpt_mutation; 0 in production */
};

void ckpt_plan_config_defaults(struct ckpt_plan_config *config);

struct ckpt_plan; /* opaque, heap, about 20 KiB */

/* SHL_EINVALIDARG (self none, a zero, planned_ms below grace_ms), -ENOMEM. */
SHL_MUST_CHECK int ckpt_plan_new(const struct ckpt_plan_config *config, struct ckpt_plan **ret);
void ckpt_plan_free(struct ckpt_plan *plan); /* NULL is fine */

/* ---- what is seen ---- */

enum ckpt_plan_life {
    CKPT_PLAN_ALIVE,
    CKPT_PLAN_SUSPECT, /* or not heard of yet since this node started */
    CKPT_PLAN_DEAD,
    CKPT_PLAN_LEFT, /* said good-bye for good */
};

struct ckpt_plan_node {
    struct shl_node_id id;
    const char *domain; /* as in struct ckpt_replica_node */
    uint32_t weight;
    enum ckpt_plan_life life;
    uint64_t since_ms; /* in that state, by this node's clock */
    bool draining;
    bool flapping; /* these two get nothing new, but keep what they hold */
    bool full;
    bool planned; /* announced a restart before it went */
};

struct ckpt_plan_entry {
    struct ckpt_id manifest;
    uint64_t bytes;
    uint32_t copies;          /* R, 1..CKPT_REPLICA_COPIES_MAX */
    struct shl_node_id owner; /* of its sandbox; none: no copy is pinned */
    const struct shl_node_id *holders;
    uint32_t holder_count;
};

struct ckpt_plan_budget { /* under way at once */
    uint32_t fetches;     /* up to CKPT_PLAN_FETCHES_MAX */
    uint32_t rebalances;  /* of these, for copies that are only in the wrong place */
    uint64_t bytes;       /* one fetch may always run */
};

enum ckpt_plan_event_type {
    CKPT_PLAN_EV_VIEW,
    CKPT_PLAN_EV_ENDED, /* a fetch, well or not */
    CKPT_PLAN_EV_ASKED, /* by a peer: may it drop its copy? */
    CKPT_PLAN_EV_ANSWERED,
    CKPT_PLAN_EV_TRIMMED, /* a TRIM was carried out, or given up */
};

/* Everything pointed at is borrowed for the call. */
struct ckpt_plan_event {
    enum ckpt_plan_event_type type;
    uint64_t now_ms; /* monotonic, any zero */
    union {
        struct {
            const struct ckpt_plan_node *nodes; /* ascending; with this node */
            uint32_t node_count;
            const struct ckpt_plan_entry *entries; /* ascending by manifest; all there are */
            uint32_t entry_count;
            bool settled;
            struct ckpt_plan_budget budget;
        } view;
        struct {
            struct ckpt_id manifest;
            bool ok;
        } ended;
        struct {
            struct shl_node_id from;
            uint64_t token;
            struct ckpt_id manifest;
            bool held;
        } asked;
        struct {
            struct shl_node_id from; /* authenticated */
            uint64_t token;
            struct ckpt_id manifest;
            bool yes;
        } answered;
        struct {
            struct ckpt_id manifest;
        } trimmed;
    } u;
};

/* ---- what is to be done ---- */

enum ckpt_plan_action_type {
    CKPT_PLAN_ACT_FETCH = 1,
    CKPT_PLAN_ACT_CANCEL,
    CKPT_PLAN_ACT_ASK,
    CKPT_PLAN_ACT_ANSWER,
    CKPT_PLAN_ACT_TRIM,
};

struct ckpt_plan_action {
    enum ckpt_plan_action_type type;
    struct ckpt_id manifest;
    union {
        struct {
            enum ckpt_fetch_class class; /* REPAIR or REBALANCE */
            uint32_t remaining;          /* copies that count */
        } fetch;
        struct {
            struct shl_node_id peer;
            uint64_t token;
            bool yes; /* of ANSWER */
        } message;
        uint64_t until_ms; /* of TRIM */
    } u;
};

#define CKPT_PLAN_ACTIONS_MAX \
    (3 * CKPT_PLAN_FETCHES_MAX + CKPT_PLAN_TRIMS_MAX * CKPT_REPLICA_COPIES_MAX)

/* Counts of the last VIEW, for metrics and `durability`. */
struct ckpt_plan_report {
    uint32_t entries;
    uint32_t full;     /* enough copies that count */
    uint32_t short_of; /* fewer than wanted */
    uint32_t graced;   /* full only because a dead node may come back */
    uint32_t lost;     /* no copy on any node that is not lost */
    uint32_t extra;    /* copies here that placement does not want */
    uint32_t cramped;  /* too few nodes, or too few failure domains, for what is wanted */
};

/* Owned by the caller, about 30 KiB, no heap; cleared by every step. */
struct ckpt_plan_actions {
    struct ckpt_plan_action items[CKPT_PLAN_ACTIONS_MAX];
    uint32_t count;
    struct ckpt_plan_report report; /* of a VIEW */
};

/* Apply one event. 0, or SHL_EINVALIDARG for a view that does not ascend, lacks this node, or is
 * out of range, SHL_ELIMIT for too many nodes; then nothing happened. */
SHL_MUST_CHECK int ckpt_plan_step(struct ckpt_plan *plan,
                                  const struct ckpt_plan_event *event,
                                  struct ckpt_plan_actions *actions);

struct ckpt_plan_status {
    uint32_t fetches, trims, resting;
};
void ckpt_plan_status(const struct ckpt_plan *plan, struct ckpt_plan_status *ret);

#endif /* SHL_CHECKPOINT_REPLICA_PLAN_H */
