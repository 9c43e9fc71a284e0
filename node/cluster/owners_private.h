/* Shared by the files of owners.h. */
#ifndef SHL_NODE_CLUSTER_OWNERS_PRIVATE_H
#define SHL_NODE_CLUSTER_OWNERS_PRIVATE_H

#include "node/cluster/cluster_private.h"
#include "node/cluster/owners.h"
#include "scheduler/claim.h"
#include "scheduler/hold.h"

#define OWNERS_BUCKETS 1024

/* On disk, beside the sandbox's own record. */
struct owner_record {
    uint64_t epoch; /* 0: the log has never heard of it */
    bool claimable;
    bool is_copy;                           /* imported, never owned since */
    char artefact[NODE_CHECKPOINT_ID_SIZE]; /* that it was imported from; "" it was not */
    char newest[NODE_CHECKPOINT_ID_SIZE];   /* of then: maybe only nodes that are lost had it */
};

struct owner_deletion {
    struct shl_list link;
    node_order_cb cb;
    void *arg;
};

/* One sandbox of this node. */
struct owned {
    struct shl_list link;     /* of its bucket */
    struct shl_list due_link; /* of those to be looked at */
    struct cluster_owners *set;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct owner_record record;
    bool has_record;
    bool is_known;        /* the core has its facts */
    bool is_ended;        /* stopped, failed or gone */
    node_sandbox_cb gate; /* a wake that waits */
    void *gate_arg;
    bool gate_due;             /* the core has not been told of it yet */
    struct shl_list deletions; /* that wait */
    bool delete_due;           /* likewise */
    bool is_importing;         /* the record is there, the sandbox comes */
    bool is_moving;            /* its wakes wait until that is over */
    uint8_t evict_tries;       /* to move it, since the node is being emptied */
};

struct cluster_owners {
    struct cluster *cluster;
    struct sched_hold *hold;
    uv_timer_t timer;
    struct shl_list buckets[OWNERS_BUCKETS];
    struct shl_list due;
    int load_code;
};

struct owned *owned_find(const struct cluster_owners *set, const char *sandbox);
struct owned *owned_find_or_add(struct cluster_owners *set, const char *sandbox); /* or NULL */
/* Look at it soon. */
void owned_touch(struct owned *o);

/* owner_record.c */
SHL_MUST_CHECK int owner_records_load(struct cluster_owners *set, struct shl_err *err);
SHL_MUST_CHECK int owner_record_save(struct owned *o,
                                     const struct owner_record *record,
                                     struct shl_err *err);
void owner_record_drop(struct owned *o);

/* owners.c: it goes, and its outcome is logged, also when the cluster is closed meanwhile. */
void owners_let_go(struct cluster *c, struct node_sandbox *sandbox, const char *why);

/* recover.c: asked for, or ordered, a moment ago; so that others get their turn. */
bool recover_is_recent(const struct cluster *c, const char *sandbox, uint64_t now_ms);
void recover_note(struct cluster *c, const char *sandbox, uint64_t until_ms);

/* take.c: what the sandbox comes back from, "" nothing. */
void take_newest(struct cluster *c, const char *sandbox, char ret[NODE_CHECKPOINT_ID_SIZE]);
/* May one that was imported run now: is that still the newest? Then it is its own from here. */
SHL_MUST_CHECK int take_confirm(struct owned *o, struct shl_err *err);

#endif /* SHL_NODE_CLUSTER_OWNERS_PRIVATE_H */
