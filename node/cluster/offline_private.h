/* What the offline commands share: a cluster without a loop, and its log written anew. */
#ifndef SHL_NODE_CLUSTER_OFFLINE_PRIVATE_H
#define SHL_NODE_CLUSTER_OFFLINE_PRIVATE_H

#include "node/cluster/cluster_private.h"
#include "node/cluster/offline.h"

#define OFFLINE_TERM_STEP 1000000u /* above all that the lost ones can have reached meanwhile */
#define OFFLINE_PATH_MAX  4096
#define OFFLINE_TEXT_MAX  64

/* All that is needed of a cluster without a loop. */
struct offline {
    const struct cluster_offline *job;
    const char *by;    /* who changes the state, for its rows */
    struct cluster *c; /* store, keys, identity, state */
    struct node_raft_log *log;
    uint64_t last;     /* entry */
    uint64_t new_term; /* of what is written */
};

/* Then offline_end in any case. */
SHL_MUST_CHECK int offline_begin(struct offline *o,
                                 const struct cluster_offline *job,
                                 const char *by,
                                 struct shl_err *err);
void offline_end(struct offline *o);

void offline_time_text(char text[OFFLINE_TEXT_MAX], uint64_t at_ms);
/* 0, or SHL_EFORBIDDEN: @id, of the cluster, was not typed. */
SHL_MUST_CHECK int offline_confirm(const struct offline *o, const char *id, struct shl_err *err);

/* An order more, after @last. */
SHL_MUST_CHECK int offline_apply(struct offline *o,
                                 struct sched_command *command,
                                 struct shl_err *err);
/* Removes all members but @kept and those among @names ("a,b", or NULL). */
SHL_MUST_CHECK int offline_remove_others(struct offline *o,
                                         const struct shl_node_id *kept,
                                         const char *names,
                                         struct shl_err *err);
bool offline_is_named(const char *names, const char *name);
/* The log is the state alone from now on, and this node its only voter. */
SHL_MUST_CHECK int offline_write_log(struct offline *o, struct shl_err *err);

#endif /* SHL_NODE_CLUSTER_OFFLINE_PRIVATE_H */
