/* Where a request is served: the seam between the API and the cluster.
 *
 * The API (node/api/route.c) asks a router for every request that is not of this node
 * alone: who has the sandbox, who should make a new one. With the answer it serves the
 * request here or sends it through the mesh (node/http/forward.h). A request goes
 * through the mesh at most once: what came from another node is served here or refused.
 *
 * A router is given to node_server_open and outlives the server. Without one the server
 * uses its own for a single node (node/api/router_local.c), where everything is local.
 * node/cluster implements it with gossip and scheduler.
 *
 * Loop thread. Questions (where, where_checkpoint, place, claim, bring) and orders (set_mark,
 * evict, remove, join_token, move, drop, row_change, row_sync) return 1 with the answer in *ret, or
 * 0 and @cb comes later, exactly once, never from inside the call, also when the cluster closes
 * (-ECANCELED). What is asked is borrowed for the call; the answer is borrowed by @cb. Ops that may
 * be NULL say so; the API then answers 501.
 */
#ifndef SHL_NODE_API_ROUTER_H
#define SHL_NODE_API_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"
#include "node/sandbox/manager.h"
#include "node/secret/seal.h"

struct node_router;
struct node_stream_opener;

#define NODE_NAME_SIZE          64  /* of a node (worker id), with terminator */
#define NODE_TARGETS_MAX        8   /* nodes to try, one after the other */
#define NODE_REFUSALS_MAX       16  /* nodes that were left out, with the reason */
#define NODE_URL_TEXT_SIZE      256 /* origin of a node: "http://10.0.0.3:8080" */
#define NODE_VERSION_SIZE       32
#define NODE_JOIN_TOKEN_SIZE    1024
#define NODE_JOIN_TTL_DEFAULT_S 3600
#define NODE_JOIN_TTL_MAX_S     (7 * 24 * 3600)
#define NODE_CLAIM_KEEP_MS      (24ll * 3600 * 1000)
#define NODE_CLAIM_HASH_SIZE    65 /* hexadecimal text */

/* Answers */

struct node_target {
    bool is_local; /* this node; @id is its own, or none on a single node */
    struct shl_node_id id;
    char name[NODE_NAME_SIZE]; /* for messages */
};

struct node_reason {
    char name[NODE_NAME_SIZE]; /* the node */
    char reason[128];          /* "is draining", "2048 MB asked, 512 MB free" */
};

struct node_answer {
    int code;     /* 0: at least one target */
    bool is_new;  /* of claim: nobody had claimed the key before */
    bool is_lost; /* of where, with a code: its node is lost, and it does not come back by itself */
    char msg[SHL_ERR_TEXT_MAX];
    size_t target_count;
    struct node_target targets[NODE_TARGETS_MAX]; /* best first */
    size_t refusal_count;                         /* of place: shown to the client */
    struct node_reason refusals[NODE_REFUSALS_MAX];
};

typedef void (*node_answer_cb)(void *arg, const struct node_answer *answer);

/* Outcome of an order. The token and its end are of join_token alone. */
struct node_order {
    int code;
    char msg[SHL_ERR_TEXT_MAX];
    char token[NODE_JOIN_TOKEN_SIZE];
    int64_t expires_at_ms; /* wall clock */
    uint64_t revision;     /* of row_change: of the row now, 0 when there is none */
};

/* Outcome of op recover: it runs again, and this is what it came back from. */
struct node_recovery {
    int code;
    char msg[SHL_ERR_TEXT_MAX];
    char checkpoint[NODE_CHECKPOINT_ID_SIZE];
    bool is_named; /* a checkpoint that somebody asked for; else its last hibernation or autosave */
    int64_t age_s; /* since the cluster has it */
};

typedef void (*node_recovery_cb)(void *arg, const struct node_recovery *outcome);

typedef void (*node_order_cb)(void *arg, const struct node_order *outcome);

/* Questions */

/* Who has a sandbox or a checkpoint. */
struct node_where {
    const char *org; /* "": of whichever it is; what the client may do is told otherwise */
    const char *id;
    /* It came from another node, which took this one for the owner, or for the one that may
     * become it: is_local (as soon as it is here) or an error, never another node. */
    bool is_forwarded;
    /* A node of the last answer said that it is not there: look past what is cached. */
    bool is_again;
    struct shl_node_id not_there; /* that node */
    bool is_recovery;             /* for op recover: the node that can do it */
};

/* A new sandbox to be placed. */
struct node_place {
    const char *org;
    const char *template_name; /* aliases resolved */
    uint32_t cpus;
    uint32_t memory_mb;
    uint32_t disk_mb;
    /* Of an image, else NULL: the beginning of the keys of its rows (node/image/row.h). What is
     * built already, or is being built, needs no builder: then joined_mb counts in place of
     * memory_mb. */
    const char *build;
    uint32_t joined_mb; /* of the sandbox that is to start from it; 0: there is none */
};

/* A create or fork with an Idempotency-Key: the first claim of a key decides which node
 * makes the sandbox, for NODE_CLAIM_KEEP_MS. Which sandbox it is only that node knows
 * (node/api/once.h), so the claim is all that nodes have to agree on: whoever gets the
 * key again sends it to the same node, which answers with the same sandbox. */
struct node_claim {
    const char *org;
    const char *key;         /* hash of organisation and key, NODE_CLAIM_HASH_SIZE */
    const char *body;        /* hash of route and body; another one for the same key is refused */
    struct node_target node; /* who shall make it */
    /* The node that has the claim surely made nothing for it and will not (it said so, or the
     * claim was new and it cannot be reached): take the claim over, provided it is still that
     * node's. None: do not. */
    struct shl_node_id instead_of;
};

/* Rows: what all nodes agree on, small. Each change gives a row another revision. */

#define NODE_ROW_KEY_SIZE  193 /* with terminator */
#define NODE_ROW_VALUE_MAX (32 * 1024)

struct node_row {
    const char *key;
    struct shl_bytes value;
    uint64_t revision; /* above 0 */
};

struct node_row_change {
    const char *key;
    bool is_delete;
    struct shl_bytes value;
    bool has_expected;
    uint64_t expected; /* revision that it must have; 0: there must be none */
};

/* Nodes */

enum node_mark {
    NODE_MARK_NONE,
    NODE_MARK_CORDONED, /* no new sandboxes: creates and forks */
    NODE_MARK_DRAINING, /* no wakes either; what runs goes on (and is moved, in a cluster) */
};

enum node_peer_state {
    NODE_PEER_ALIVE,
    NODE_PEER_SUSPECT,
    NODE_PEER_DEAD,
    NODE_PEER_LEFT,
};

/* What is known of another node. */
struct node_peer {
    struct shl_node_id id;
    char name[NODE_NAME_SIZE];
    char region[NODE_NAME_SIZE];
    char url[NODE_URL_TEXT_SIZE]; /* its public API, "" not known */
    char version[NODE_VERSION_SIZE];
    enum node_peer_state state;
    enum node_mark mark;
    bool is_witness;    /* votes, runs no sandboxes */
    bool is_flapping;   /* too unstable for placements */
    uint32_t sandboxes; /* running and starting */
    uint32_t hibernated;
    uint32_t cpus_total;
    uint32_t memory_total_mb;
    uint32_t memory_committed_mb;
    double cpu_percent;
    double memory_percent;
    double disk_percent; /* negative: not known */
};

/* How safe a checkpoint, or what a hibernated sandbox comes back from, is. */
struct node_durability {
    bool is_whole;     /* there are as many copies as are wanted, and more than one */
    uint32_t replicas; /* live nodes that have all of it */
    uint32_t wanted;   /* 0: not known */
};

/* A sandbox of a node that could not be asked, as gossip has it. Strings are borrowed;
 * NULL where not known. */
struct node_record {
    const char *id;
    const char *status; /* node_sandbox_status */
    const char *reason;
    const char *template_name;
    const char *node_name;
    uint32_t cpus;
    uint32_t memory_mb;
    uint32_t disk_mb;
    uint32_t timeout_s;
    int64_t created_at_ms;
};

/* Scheduler and replicated state, as this node sees them. */
struct node_cluster {
    char id[NODE_CLAIM_HASH_SIZE]; /* of the cluster, "" for a single node */
    struct shl_node_id self;       /* none: a single node without an identity */
    bool is_witness;               /* this node */
    struct shl_node_id leader;     /* none: not known, or a single node */
    bool has_quorum;
    uint64_t term;
    uint64_t commit_index;
    uint64_t applied_index;
    char digest[NODE_CLAIM_HASH_SIZE]; /* of the replicated state at applied_index */
    size_t voter_count;
    struct shl_node_id voters[8];
};

/* Operations */

/* An order about one node: 1 when @ret has the outcome, else @cb gets it. */
typedef int (*node_order_fn)(struct node_router *router,
                             const struct node_target *node,
                             struct node_order *ret,
                             node_order_cb cb,
                             void *arg);

struct node_router_ops {
    /* 0 and the owner; SHL_ENOTFOUND when no node has it (scheduler and all live nodes were
     * asked); SHL_EUNAVAILABLE when that cannot be said now. A sandbox whose record is gone
     * counts as there where its checkpoints are. */
    int (*where)(struct node_router *router,
                 const struct node_where *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg);
    /* The same for a checkpoint: nodes that can fork it, best first. */
    int (*where_checkpoint)(struct node_router *router,
                            const struct node_where *what,
                            struct node_answer *ret,
                            node_answer_cb cb,
                            void *arg);
    /* 0 and nodes to try; SHL_ENOCAPACITY (503) and the like with refusals. A node may still
     * refuse when it is asked. */
    int (*place)(struct node_router *router,
                 const struct node_place *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg);
    /* 0 and one target, who has the claim now (perhaps another than asked for);
     * SHL_ECONFLICT when the key was used with another body. Without a scheduler: from what
     * this node knows, so that creating goes on in a partition. */
    int (*claim)(struct node_router *router,
                 const struct node_claim *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg);

    /* Have a checkpoint on this node (what->id), copied from others if need be: 0 when
     * node_checkpoint_find has it. SHL_ENOTFOUND; SHL_EUNAVAILABLE: no node that has it answers.
     * May be NULL. */
    int (*bring)(struct node_router *router,
                 const struct node_where *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg);
    /* A checkpoint was deleted on this node: done when no node is asked for it any more, as far as
     * this node knows; SHL_EUNAVAILABLE: that comes later, by itself. May be NULL. */
    int (*forget)(struct node_router *router,
                  const char *checkpoint,
                  struct node_order *ret,
                  node_order_cb cb,
                  void *arg);
    /* Of a checkpoint; of a sandbox: of what it comes back from when its node is lost. Zeros when
     * there is nothing. May be NULL. */
    void (*durability)(struct node_router *router,
                       bool is_checkpoint,
                       const char *id,
                       struct node_durability *ret);

    /* Of this node. Looked at by every create, fork and wake. */
    enum node_mark (*mark)(struct node_router *router);
    void (*cluster)(struct node_router *router, struct node_cluster *ret);
    /* All other nodes, by id, the dead ones for as long as they are remembered. NULL: none.
     * @each must not call the router; false stops. */
    void (*peers)(struct node_router *router,
                  bool (*each)(void *arg, const struct node_peer *peer),
                  void *arg);
    /* What gossip knows of the sandboxes of @node in @org. May be NULL. */
    void (*records)(struct node_router *router,
                    const struct shl_node_id *node,
                    const char *org,
                    bool (*each)(void *arg, const struct node_record *record),
                    void *arg);

    /* Orders. @node is this node when is_local, else one of peers. Durable when done. */
    int (*set_mark)(struct node_router *router,
                    const struct node_target *node,
                    enum node_mark mark,
                    struct node_order *ret,
                    node_order_cb cb,
                    void *arg);
    /* Move or hibernate what runs on @node; done when it has begun. May be NULL. */
    node_order_fn evict;
    /* A sandbox of this node, running or hibernated, goes on on @node, which is not this one.
     * Done when it runs there (a running one) or is hibernated there. What fails leaves it
     * here, at worst hibernated. May be NULL. */
    int (*move)(struct node_router *router,
                struct node_sandbox *sandbox,
                const struct node_target *node,
                struct node_order *ret,
                node_order_cb cb,
                void *arg);
    /* A sandbox of this node is about to be ended for good, which the cluster must know before
     * anybody is told. May be NULL. */
    int (*drop)(struct node_router *router,
                const struct node_sandbox *sandbox,
                struct node_order *ret,
                node_order_cb cb,
                void *arg);
    /* A sandbox whose node is lost, or that this node has lost, runs again on this node. As an
     * order, but for the outcome. SHL_EBADSTATE: there is nothing to recover, or it may still run
     * elsewhere. May be NULL. */
    int (*recover)(struct node_router *router,
                   const char *org,
                   const char *sandbox_id,
                   struct node_recovery *ret,
                   node_recovery_cb cb,
                   void *arg);
    /* What gossip knows of one sandbox, whichever node had it last. May be NULL. */
    void (*record)(struct node_router *router,
                   const char *org,
                   const char *sandbox_id,
                   bool (*each)(void *arg, const struct node_record *record),
                   void *arg);
    /* For good: its identity may never come back. May be NULL. */
    node_order_fn remove;
    /* A token for `shoald --join`, valid for @ttl_s. May be NULL. */
    int (*join_token)(struct node_router *router,
                      uint32_t ttl_s,
                      struct node_order *ret,
                      node_order_cb cb,
                      void *arg);

    /* As this node knows it now. False: there is none. @ret is borrowed until the loop goes on. */
    bool (*row)(struct node_router *router, const char *key, struct node_row *ret);
    /* Those whose keys begin with @prefix, by key. @each must not call the router; false stops. */
    void (*rows)(struct node_router *router,
                 const char *prefix,
                 bool (*each)(void *arg, const struct node_row *row),
                 void *arg);
    /* Done when it is durable and this node knows it. SHL_ECONFLICT: it has another revision. */
    int (*row_change)(struct node_router *router,
                      const struct node_row_change *change,
                      struct node_order *ret,
                      node_order_cb cb,
                      void *arg);
    /* Done when this node knows every change that was done before, on whatever node. */
    int (*row_sync)(struct node_router *router,
                    struct node_order *ret,
                    node_order_cb cb,
                    void *arg);
    /* Appends a backup of the replicated state (node/cluster/backup.h). SHL_EUNAVAILABLE: this
     * node's copy may be old. May be NULL. */
    int (*backup)(struct node_router *router, struct shl_buf *out, struct shl_err *err);

    /* The key that secret values are sealed with (node/secret/seal.h), of one generation or (0) the
     * present one; the caller wipes it. 0; SHL_EUNAVAILABLE: this node has none yet; SHL_ENOTFOUND:
     * none of that generation. */
    int (*seal_key)(struct node_router *router,
                    uint32_t generation,
                    struct node_seal_key *ret,
                    struct shl_err *err);
    /* @changed after a row of this node's view changed (@key), or perhaps all of them (NULL). One
     * watcher; NULL ends it. May be NULL. */
    void (*watch_rows)(struct node_router *router,
                       void (*changed)(void *arg, const char *key),
                       void *arg);

    /* Appends the cluster's lines of /metrics; 0 or a negative code. May be NULL. */
    int (*metrics)(struct node_router *router, struct shl_buf *out);
};

struct node_router {
    const struct node_router_ops *ops;
    struct node_stream_opener *opener; /* to the targets that are not local; NULL: there are none */
};

#endif /* SHL_NODE_API_ROUTER_H */
