/* The jail of the process (design, 10): what the VMM cannot do even if a guest takes
 * it over. Entered after sockets and /dev/kvm are open and before any request.
 *
 * As root: own mount, network, IPC and UTS namespaces, the sandbox's own folder as the
 * whole file system (no devices, no programs), own user and group, no capabilities.
 * For every user: no new privileges, no inherited descriptors, limits, and per thread
 * a list of system calls (seccomp.h). No PID namespace: a process cannot move itself
 * into one without a second process to wait, and a list without signals and ptrace
 * leaves nothing to hide from.
 */
#ifndef SHL_VMM_JAIL_H
#define SHL_VMM_JAIL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_jail_config {
    bool enabled;
    uid_t uid; /* 0: stay what it is */
    gid_t gid;
    const char *cgroup; /* folder to join, NULL: none */
};

/* Close what the parent left open, but for the standard descriptors. First of all. */
void vmm_jail_close_inherited(void);

/* Join the cgroup (also without a jail), then enter. The working directory is the
 * sandbox's folder before and after; it is given to the user of the jail. */
SHL_MUST_CHECK int vmm_jail_enter(const struct vmm_jail_config *config, struct shl_err *err);

#endif /* SHL_VMM_JAIL_H */
