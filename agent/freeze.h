/* Stopping and continuing every user process of the guest at once.
 *
 * User processes live in the cgroup v2 "sandbox" below the root of the hierarchy, and in
 * whatever other cgroups they made there (containers); process 1 is in the root itself,
 * which cannot be frozen, so it always goes on. What moves itself into the root as root of the
 * guest is not stopped. A cgroup that its user had frozen before is left as it was.
 *
 * Stopped means: no instruction in user mode any more. A process that waits inside the
 * kernel (state D, on a disk for instance) cannot get back to user mode before it has
 * stopped as well, so that waiting for it is a courtesy with a limit and not a condition.
 *
 * One thread at a time (the agent's system pool); group_fd never changes after opening.
 */
#ifndef SHL_AGENT_FREEZE_H
#define SHL_AGENT_FREEZE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

#define AGENT_CGROUP_ROOT     "/sys/fs/cgroup"
#define AGENT_CGROUP_NAME     "sandbox"
#define AGENT_FREEZE_WAIT_MS  2000 /* for processes on their way out of the kernel */
#define AGENT_FREEZE_MAX      1024 /* cgroups below the root */
#define AGENT_FREEZE_NAME_MAX 256

struct agent_freezer {
    int root_fd;  /* folder of the hierarchy's root, or -1: nothing can be frozen */
    int group_fd; /* folder of the cgroup new user processes begin in, or -1 */
    int disk_fd;  /* root folder of the file system to sync and freeze, or -1: none */
    char (*names)[AGENT_FREEZE_NAME_MAX]; /* cgroups this froze */
    size_t count;
    bool fs_frozen;
};

/* Nothing is open yet. */
void agent_freezer_init(struct agent_freezer *freezer);
/* Makes the cgroup of user processes below @root; @disk NULL: no file system. 0 or
 * -errno; without it programs run all the same, outside of any cgroup. */
SHL_MUST_CHECK int agent_freezer_open(struct agent_freezer *freezer,
                                      const char *root,
                                      const char *disk);
/* Thaws first. */
void agent_freezer_release(struct agent_freezer *freezer);

/* Stop user processes; @sync: then write dirty file data to the disk; @fs: then freeze the
 * file system (writers wait, the agent's own too). Again is fine. After an error nothing
 * is frozen. */
SHL_MUST_CHECK int agent_freezer_freeze(struct agent_freezer *freezer,
                                        bool sync,
                                        bool fs,
                                        struct shl_err *err);

/* Only the file system: for whoever has to write while user processes stay stopped. */
SHL_MUST_CHECK int agent_freezer_thaw_fs(struct agent_freezer *freezer, struct shl_err *err);

/* Undo it all. Fine when nothing is frozen. */
SHL_MUST_CHECK int agent_freezer_thaw(struct agent_freezer *freezer, struct shl_err *err);

#endif /* SHL_AGENT_FREEZE_H */
