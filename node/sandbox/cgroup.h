/* Limits of one VMM by cgroup: version 2 when the machine has it, else version 1.
 *
 * Groups live below "shoal/<sandbox><suffix>". Every function blocks for milliseconds (the
 * kernel waits for grace periods), so they run on the thread pool; a struct node_cgroups
 * is read-only after init. Without usable cgroups the node works, and says so once.
 */
#ifndef SHL_NODE_SANDBOX_CGROUP_H
#define SHL_NODE_SANDBOX_CGROUP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define NODE_CGROUP_ROOT_MAX 200

struct node_cgroups {
    enum {
        NODE_CGROUPS_NONE,
        NODE_CGROUPS_V1,
        NODE_CGROUPS_V2
    } version;
    char root[NODE_CGROUP_ROOT_MAX]; /* where cgroups are mounted */
    /* After the name of each group, "" at first: a sandbox may be on two nodes of one machine for
     * a moment, and one of them ends its own. */
    char suffix[16];
};

struct node_cgroup_limits {
    uint64_t cpu_percent; /* 100: one CPU */
    uint64_t memory_bytes;
    uint32_t pids;
};

/* @root NULL: /sys/fs/cgroup; "": do without. A failure leaves version NONE and a sentence. */
int node_cgroups_init(struct node_cgroups *groups, const char *root, struct shl_err *err);

SHL_MUST_CHECK int node_cgroup_create(const struct node_cgroups *groups,
                                      const char *name,
                                      const struct node_cgroup_limits *limits,
                                      struct shl_err *err);
SHL_MUST_CHECK int node_cgroup_join(const struct node_cgroups *groups,
                                    const char *name,
                                    pid_t pid,
                                    struct shl_err *err);

/* Kill what is still inside and remove the group. 0 also when there is none. */
SHL_MUST_CHECK int node_cgroup_remove(const struct node_cgroups *groups,
                                      const char *name,
                                      struct shl_err *err);

#endif /* SHL_NODE_SANDBOX_CGROUP_H */
