/* One virtual CPU: descriptor, shared run page, thread, register setup for boot. */
#ifndef SHL_VMM_VCPU_H
#define SHL_VMM_VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct kvm_run;
struct vmm_cpuid;
struct vmm_kvm;

struct vmm_vcpu_stats { /* written by the vCPU's thread, read by others: atomic */
    uint64_t io;
    uint64_t mmio;
    uint64_t hlt;
    uint64_t other;
};

struct vmm_vcpu {
    int fd; /* -1: not created */
    unsigned index;
    struct kvm_run *run;
    size_t run_bytes;
    pthread_t thread;
    bool thread_started;
    struct vmm_vcpu_stats stats;
    void *owner; /* for the thread function */
};

/* @cpuid: what CPU the guest sees. */
SHL_MUST_CHECK int vmm_vcpu_create(struct vmm_vcpu *vcpu,
                                   const struct vmm_kvm *kvm,
                                   unsigned index,
                                   const struct vmm_cpuid *cpuid,
                                   struct shl_err *err);
void vmm_vcpu_release(struct vmm_vcpu *vcpu);

/* Registers: vCPU 0 starts at @entry in long mode with RSI at the zero page; the others
 * (entry 0) wait for INIT and SIPI as the in-kernel APIC has them. */
SHL_MUST_CHECK int vmm_vcpu_setup_boot(struct vmm_vcpu *vcpu, uint64_t entry, struct shl_err *err);

#endif /* SHL_VMM_VCPU_H */
