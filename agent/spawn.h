/* Start one program as a user: new session, given descriptors, clean signals.
 *
 * The child shares the agent's memory until it has exec'd (vfork), so starting is
 * quick however much output the agent holds; the calling thread waits meanwhile, which
 * is why this runs as pool work: a working directory on a hung file system must stop
 * nothing else. Only async-signal-safe code and raw system calls run in the child.
 * (ThreadSanitizer takes the child for a fork and ignores locks of the calling thread
 * from then on: what it reports after the first command is not real.)
 *
 * The child is in its cgroup from its first instruction on. When that is frozen, it stops
 * there, and the calling thread waits until it is thawed.
 */
#ifndef SHL_AGENT_SPAWN_H
#define SHL_AGENT_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/user.h"
#include "base/attr.h"

enum agent_spawn_step {
    AGENT_SPAWN_FORK,
    AGENT_SPAWN_USER,
    AGENT_SPAWN_CWD,
    AGENT_SPAWN_EXEC, /* only with must_exec */
};

struct agent_spawn {
    char *const *argv; /* [0] is looked up in PATH of @envp unless it has a slash */
    char *const *envp;
    const struct agent_user *user;
    const char *cwd;
    const char *cwd_fallback; /* tried when @cwd is not there; NULL: that is an error */
    int fds[3];               /* stdin, stdout, stderr; all > 2 */
    bool is_tty;              /* fds[0] becomes its controlling terminal */
    /* The agent is not killed for memory and comes before programs: they are and do not. */
    bool reset_standing;
    bool must_exec; /* a program that cannot be executed is a failure */
    int group_fd;   /* folder of the cgroup v2 it begins in, or -1 */

    enum agent_spawn_step failed_step; /* set with a negative result */
};

/* The process id, or -errno with failed_step set. A program that cannot be executed is
 * no failure here without must_exec: the child says so on stderr and exits with 127 (not found)
 * or 126. */
SHL_MUST_CHECK int agent_spawn_run(struct agent_spawn *spawn);

#endif /* SHL_AGENT_SPAWN_H */
