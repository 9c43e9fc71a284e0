/* What is done to the data folder of a node while its daemon is stopped, by somebody who has read
 * what it means and has typed the id of the cluster.
 *
 *   recover  the majority of the voters is lost for good: this node goes on as the only one, the
 *            lost ones are removed, so that they are refused should they come back
 *   restore  a backup becomes a new cluster of one node, in an empty folder
 *
 * Both print to stdout what they see and what would be lost, and change nothing before it was
 * confirmed. The caller holds the lock of the folder. Blocking, no loop. */
#ifndef SHL_NODE_CLUSTER_OFFLINE_H
#define SHL_NODE_CLUSTER_OFFLINE_H

#include <stdbool.h>

#include "base/err.h"

struct node_store;

struct cluster_offline {
    struct node_store *store; /* DATA/db */
    const char *data_dir;
    const char *name;    /* restore: of the node */
    const char *file;    /* restore */
    const char *with;    /* recover: names of other nodes that are still there, by commas; NULL */
    const char *confirm; /* id of the cluster; NULL: read from stdin */
};

/* 0, SHL_EFORBIDDEN (not confirmed), or what is wrong. */
SHL_MUST_CHECK int cluster_offline_recover(const struct cluster_offline *job, struct shl_err *err);
SHL_MUST_CHECK int cluster_offline_restore(const struct cluster_offline *job, struct shl_err *err);

/* Is there anything of a node in this folder? Looked at before its store is opened. */
bool cluster_offline_is_empty(const char *data_dir);

#endif /* SHL_NODE_CLUSTER_OFFLINE_H */
