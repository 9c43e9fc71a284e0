/* The jail of the process (design, 10): what the VMM cannot do even if a guest takes
 * it over. Entered after sockets and /dev/kvm are open and before any request.
 *
 * As root: own mount, network, IPC and UTS namespaces, the sandbox's own folder as the
 * whole file system (read-only, no devices, no programs, but for the exit file's
 * folder itself), own user and group, no capabilities. For every user: no new
 * privileges, no descriptors but its own, limits, and per thread a list of system
 * calls (seccomp.h). No PID namespace: a process cannot move itself into one, and
 * without signals and ptrace in the list there is nothing to hide.
 */
#ifndef SHL_VMM_JAIL_H
#define SHL_VMM_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_jail_config {
    bool enabled;
    uid_t uid; /* 0: stay */
    gid_t gid;
    const char *cgroup; /* folder to join, NULL: none */
};

/* Join the cgroup (also without a jail) and enter. The working directory is the
 * sandbox's folder before and after. */
SHL_MUST_CHECK int vmm_jail_enter(const struct vmm_jail_config *config, struct shl_err *err);

#endif /* SHL_VMM_JAIL_H */
