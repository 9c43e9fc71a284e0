/* What the files of replication share (replicas.h says which they are). */
#ifndef SHL_NODE_CLUSTER_REPLICAS_PRIVATE_H
#define SHL_NODE_CLUSTER_REPLICAS_PRIVATE_H

#include "node/cluster/cluster_private.h"
#include "node/cluster/replicas.h"
#include "node/cluster/sorted.h"
#include "node/replica/serve.h"
#include "node/replica/transfer.h"

#define REPLICA_SURVEY_MS       3000  /* between two looks at everything, */
#define REPLICA_SURVEY_SOON_MS  200   /* ... when something has changed, */
#define REPLICA_SURVEY_WITH_MS  20    /* this long after it, with what else has, */
#define REPLICA_SURVEY_SHARE    50    /* and so many times what the last one took */
#define REPLICA_HEAR_MS         30000 /* nodes nobody has heard of yet may still come */
#define REPLICA_TOLD_MAX        32768 /* artefacts on their way into the log */
#define REPLICA_ORDERS_MAX      32    /* of those and about holders, under way */
#define REPLICA_CHANGES_MAX     256   /* noted one by one */
#define REPLICA_FETCHES_MAX     8     /* of the planner, at the same time */
#define REPLICA_REBALANCES_MAX  2
#define REPLICA_BYTES_MAX       (8ull << 30)
#define REPLICA_DISK_FULL_SHARE 20   /* a node with less than this part free gets nothing new */
#define REPLICA_DISK_FULL_MB    1024 /* nor one with less than this */
#define REPLICA_GONE_KIND       "artefact-gone" /* records: deleted, and the log may not know */

/* A row of the catalogue, found again when the row is gone. */
struct catalogue_ref {
    char id[SCHED_ID_SIZE];
    char sandbox[SCHED_ID_SIZE];
    struct ckpt_id manifest;
};

/* A manifest in the store of this node. */
struct replica_copy {
    struct ckpt_id manifest;
    bool is_made;    /* by this node, which needs it */
    bool is_leaving; /* trimmed or dropped: it counts no more */
    bool is_damaged; /* it lacked chunks at the last look, and is being healed */
};

/* An artefact that the log has to hear of. */
struct catalogue_told {
    struct node_artefact artefact;
    bool is_gone;
    bool is_ordered;
    uint64_t again_at_ms;
    uint64_t
        settled_at; /* renewals of the lease: until then its row may be on its way, unseen here */
};

struct replica_drop {
    struct shl_list link;
    struct ckpt_id manifest;
    bool is_trim;
};

struct replica_scan;
struct replica_heal;

struct cluster_replicas {
    struct cluster *c;
    uint32_t wanted, grace_ms;
    uint64_t opened_at_ms;
    struct ckpt_store *store; /* NULL: a witness, which holds nothing */
    struct node_replica_server *server;
    struct node_replica *transfer;
    struct ckpt_plan *plan;
    struct ckpt_plan_actions actions;
    struct ckpt_plan_report report;
    bool is_stepping, is_surveying, is_closing;
    bool is_caught_up; /* an entry of this run was applied: what the state lacks does not exist */
    bool is_wanting;   /* hibernations become artefacts */
    void (*closed)(void *arg);

    uv_timer_t survey_timer;
    uint64_t survey_pause_ms, surveyed_at_ms;
    uv_timer_t soon_timer; /* for what must not be done inside a step */

    struct sorted by_id, by_manifest, by_sandbox; /* struct catalogue_ref */
    bool is_stale;                                /* no memory: to be made anew */
    struct sorted deleted;                        /* refs whose rows went, by id */
    char changes[REPLICA_CHANGES_MAX][2][SCHED_ID_SIZE];
    uint32_t change_count; /* more than there is room for: anything */
    cluster_replicas_changed changed;
    void *changed_arg;
    size_t tombstones_seen;
    bool is_swept; /* what was deleted while this node was away is forgotten */

    struct sorted told; /* struct catalogue_told, by id */
    bool told_lost;     /* some did not fit */
    uint64_t renewals;  /* of the lease, given by this run, that were applied */
    struct shl_list orders;
    uint32_t order_count;

    struct sorted copies; /* struct replica_copy */
    bool is_scanned;
    uint64_t scan_at_ms; /* UINT64_MAX: not again */
    struct replica_scan *scan;
    struct shl_list drops;
    bool is_dropping;

    struct standby *standby; /* NULL before its first look */

    struct replica_heal *heal; /* a look that is under way */
    uint32_t healing;          /* fetches that replace damaged chunks */
    uint64_t heal_at_ms, heal_seen;
    size_t heal_from;

    struct shl_list fetches, brings, asks, trims;
    struct node_mesh_call *asked; /* being answered in the running step */
    struct shl_node_id lost[SCHED_NODES_MAX];
    uint32_t lost_count;

    struct {
        uint64_t fetched, fetch_failed, fetched_bytes, missing_bytes, trimmed, dropped, healed;
    } totals;
};

/*- replicas.c */
void replicas_soon(struct cluster_replicas *r);   /* on_soon in the next turn */
void replicas_survey(struct cluster_replicas *r); /* a look at everything before long */
void replicas_step(struct cluster_replicas *r, const struct ckpt_plan_event *event);
bool replicas_manifest_parse(const char *hex, struct ckpt_id *ret);

/*- catalogue.c */
void catalogue_init(struct cluster_replicas *r);
void catalogue_release(struct cluster_replicas *r);
void catalogue_applied(struct cluster_replicas *r, const struct sched_command *command);
void catalogue_load(struct cluster_replicas *r);
void catalogue_settle(struct cluster_replicas *r); /* what follows, outside of the step */
/* Rows with @manifest: the first one, NULL if there is none. */
const struct catalogue_ref *catalogue_of_manifest(const struct cluster_replicas *r,
                                                  const struct ckpt_id *manifest);
const struct sched_checkpoint *catalogue_row(const struct cluster_replicas *r,
                                             const struct catalogue_ref *ref);
bool catalogue_names(const struct sched_checkpoint *row, const struct shl_node_id *node);

/*- catalogue_order.c */
void catalogue_watch(struct cluster_replicas *r, bool on);
void catalogue_pump(struct cluster_replicas *r);
/* This node holds a copy of @row, or does not; once at a time. @done may be NULL. */
SHL_MUST_CHECK int catalogue_order_holder(struct cluster_replicas *r,
                                          const char *id,
                                          bool held,
                                          void (*done)(void *arg, int code),
                                          void *arg);
bool catalogue_is_told(const struct cluster_replicas *r, const struct ckpt_id *manifest);

/*- replica_copies.c */
void replica_copies_init(struct cluster_replicas *r);
void replica_copies_release(struct cluster_replicas *r);
struct replica_copy *replica_copy_find(const struct cluster_replicas *r,
                                       const struct ckpt_id *manifest);
void replica_copy_add(struct cluster_replicas *r, const struct ckpt_id *manifest, bool is_made);
void replica_copy_gone(struct cluster_replicas *r, const struct ckpt_id *manifest);
void replica_copies_scan(struct cluster_replicas *r, uint64_t now_ms);
void replica_copies_continue(struct cluster_replicas *r); /* what had to wait */
/* Delete it in the store. @is_trim: the planner hears of it. */
void replica_copy_drop(struct cluster_replicas *r, const struct ckpt_id *manifest, bool is_trim);

/*- replica_fetch.c */
typedef void (*replica_fetched)(void *arg, int code, const char *msg);
/* @fetched may be NULL; later, once. @is_planned: the planner hears how it ends. */
SHL_MUST_CHECK int replica_fetch(struct cluster_replicas *r,
                                 const struct ckpt_id *manifest,
                                 enum ckpt_fetch_class class,
                                 bool is_planned,
                                 replica_fetched fetched,
                                 void *arg,
                                 struct shl_err *err);
void replica_fetch_cancel(struct cluster_replicas *r, const struct ckpt_id *manifest);
void replica_fetch_holders(struct cluster_replicas *r); /* tell fetches who has it now */
bool replica_is_fetching(const struct cluster_replicas *r, const struct ckpt_id *manifest);

/* A live node other than this one has a copy. */
bool replica_has_holder(const struct cluster_replicas *r, const struct ckpt_id *manifest);

/*- replica_heal.c */
/* Of a survey: look after copies with damaged chunks, if there are any. */
void replica_heal(struct cluster_replicas *r, uint64_t now_ms);

/*- replica_bring.c */
/* A copy has come: of a checkpoint whose sandbox is this node's, it is imported. */
void replica_import(struct cluster_replicas *r, const struct ckpt_id *manifest);

/* As cluster_bring, after everything that somebody waits for. */
SHL_MUST_CHECK int replica_bring_ahead(struct cluster_replicas *r,
                                       const char *artefact_id,
                                       cluster_bring_cb cb,
                                       void *arg,
                                       struct shl_err *err);

/*- standby.c */
void standby_look(struct cluster_replicas *r, uint64_t now_ms);
void standby_release(struct cluster_replicas *r);

/*- replica_view.c */
struct replica_view_source {
    const struct sched_state *state;
    const struct gossip *gossip;
    struct shl_node_id self;
    uint64_t now_ms, opened_at_ms;
    const struct sorted *by_manifest, *copies;
};
struct replica_view {
    struct ckpt_plan_node nodes[CKPT_REPLICA_NODES_MAX];
    uint32_t node_count;
    struct ckpt_plan_entry *entries; /* heap, with their holders */
    struct shl_node_id *holders;
    uint32_t entry_count;
    bool has_self;
    bool is_heard;    /* of all members, or long enough waited */
    bool is_measured; /* figures of all live ones are known */
    bool is_majority; /* of the members is live */
    uint32_t others;  /* members that can hold copies, but this one */
};
/* 0 or -ENOMEM. */
SHL_MUST_CHECK int replica_view_make(const struct replica_view_source *source,
                                     struct replica_view *ret);
void replica_view_release(struct replica_view *view);
bool replica_view_is_full(const struct cluster_figures *f);
uint32_t replica_view_weight(uint64_t disk_mb);

/*- replica_trim.c */
void replica_trim_init(struct cluster_replicas *r);
void replica_trim_close(struct cluster_replicas *r);
void replica_trim_ask(struct cluster_replicas *r, const struct ckpt_plan_action *act);
void replica_trim_answer(struct cluster_replicas *r, const struct ckpt_plan_action *act);
/* 0, or it is not done, and the planner is to hear so. */
SHL_MUST_CHECK int replica_trim(struct cluster_replicas *r, const struct ckpt_plan_action *act);

#endif /* SHL_NODE_CLUSTER_REPLICAS_PRIVATE_H */
