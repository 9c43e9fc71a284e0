/* System call lists, one per kind of thread (libseccomp). What is not on the list
 * raises SIGSYS, whose handler writes which call it was and ends the process. */
#ifndef SHL_VMM_SECCOMP_H
#define SHL_VMM_SECCOMP_H

#include "base/attr.h"
#include "base/err.h"

/* Restrict the calling thread. Call once per thread, when all is built. */
SHL_MUST_CHECK int vmm_seccomp_io(struct shl_err *err);
SHL_MUST_CHECK int vmm_seccomp_vcpu(void *unused);

#endif /* SHL_VMM_SECCOMP_H */
