/* Whether this machine can go on with a guest that was saved on another one: same vendor,
 * and every CPU feature the guest was told of is here. Pure: two CPUID tables in, a
 * sentence out. Family and model do not matter as long as the features are there. */
#ifndef SHL_VMM_CPU_MATCH_H
#define SHL_VMM_CPU_MATCH_H

#include "vmm-kvm/kvm.h"

/* @saved: what the guest sees. @ours: what this machine would give the same virtual CPU
 * (vmm_cpuid_shape). 0, SHL_EINCOMPATIBLE naming what is missing, or SHL_ECORRUPT when
 * @saved is no CPU at all. */
SHL_MUST_CHECK int vmm_cpu_match(const struct vmm_cpuid *saved,
                                 const struct vmm_cpuid *ours,
                                 struct shl_err *err);

#endif /* SHL_VMM_CPU_MATCH_H */
