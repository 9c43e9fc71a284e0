/* Saving and restoring the state KVM holds: one vCPU, and the VM's chips and clock.
 * The order of the calls matters and is explained in the .c files. Any thread, while
 * the vCPU threads are parked or not yet started. */
#ifndef SHL_VMM_VCPU_STATE_H
#define SHL_VMM_VCPU_STATE_H

#include "vmm-kvm/kvm.h"
#include "vmm-kvm/state.h"
#include "vmm-kvm/vcpu.h"

/* Read everything of @vcpu, whose last exit is completed. -errno or SHL_ELIMIT. */
SHL_MUST_CHECK int vmm_vcpu_save(struct vmm_vcpu *vcpu,
                                 const struct vmm_kvm *kvm,
                                 struct vmm_vcpu_state *ret,
                                 struct shl_err *err);

/* Write everything but CPUID into the fresh @vcpu. SHL_EINCOMPATIBLE when this KVM
 * does not take a part. @state's MSRs are reordered. */
SHL_MUST_CHECK int vmm_vcpu_restore(struct vmm_vcpu *vcpu,
                                    const struct vmm_kvm *kvm,
                                    struct vmm_vcpu_state *state,
                                    struct shl_err *err);

/* The frequency of the TSC as the guest sees it, kHz. -errno. */
SHL_MUST_CHECK int vmm_vcpu_get_tsc_khz(const struct vmm_vcpu *vcpu);

/* Make it @tsc_khz; what is within 250 ppm stays. SHL_EINCOMPATIBLE without hardware
 * for it. Before the TSC is restored. */
SHL_MUST_CHECK int vmm_vcpu_match_tsc(struct vmm_vcpu *vcpu,
                                      const struct vmm_kvm *kvm,
                                      uint64_t tsc_khz,
                                      struct shl_err *err);

/* The guest was stopped: its watchdogs must not blame it. Right before it runs. */
void vmm_vcpu_tell_stopped(struct vmm_vcpu *vcpu);

/* PIT, clock, interrupt controllers. After all vCPUs when restoring. */
SHL_MUST_CHECK int vmm_kvm_save_chips(const struct vmm_kvm *kvm,
                                      struct vmm_chips_state *ret,
                                      struct shl_err *err);
SHL_MUST_CHECK int vmm_kvm_restore_chips(const struct vmm_kvm *kvm,
                                         const struct vmm_chips_state *state,
                                         struct shl_err *err);

#endif /* SHL_VMM_VCPU_STATE_H */
