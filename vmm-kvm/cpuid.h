/* What CPU the guest sees: KVM's supported CPUID with topology, APIC ids and without
 * nested virtualisation. Pure: a table in, a table out.
 *
 * Topology: one socket, @vcpus cores of one thread each; APIC id = vCPU index, as in
 * the MADT (Intel SDM 2A CPUID leaves 1, 4, 0xb; AMD APM 3 Fn8000_0008, 001d, 001e). */
#ifndef SHL_VMM_CPUID_H
#define SHL_VMM_CPUID_H

#include "vmm-kvm/kvm.h"

/* Shape @cpuid in place for vCPU @index of @vcpus. 0, or SHL_ELIMIT when a leaf that
 * has to be added does not fit. */
SHL_MUST_CHECK int vmm_cpuid_shape(struct vmm_cpuid *cpuid, unsigned index, unsigned vcpus);

#endif /* SHL_VMM_CPUID_H */
