/* System call lists, one per kind of thread (libseccomp). What is not on the list
 * raises SIGSYS; its handler writes the exit file with the number of the call and ends
 * the process. Builds with the address sanitizer, which needs many calls, run without. */
#ifndef SHL_VMM_SECCOMP_H
#define SHL_VMM_SECCOMP_H

#include <stddef.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"

/* What the handler writes: @body to @fd, after the digits "000" of it at @digits_at
 * became the number, then renames @from to @to. Copied; texts are borrowed. Installs
 * the handler. */
SHL_MUST_CHECK int vmm_seccomp_report(int fd,
                                      struct shl_bytes body,
                                      size_t digits_at,
                                      const char *from,
                                      const char *to);

/* Make the lists ahead of the threads that take them. Right after the process has its
 * final id. */
SHL_MUST_CHECK int vmm_seccomp_prepare(struct shl_err *err);

/* Restrict the calling thread. Once per thread, when everything is built. */
SHL_MUST_CHECK int vmm_seccomp_io(struct shl_err *err);
SHL_MUST_CHECK int vmm_seccomp_vcpu(void *unused);

#endif /* SHL_VMM_SECCOMP_H */
