/* KVM: the system and VM descriptors and every ioctl on them (Linux
 * Documentation/virt/kvm/api.rst). The only files that call KVM are kvm.c, kvm_state.c,
 * regs.c, vcpu.c and vcpu_state.c. */
#ifndef SHL_VMM_KVM_H
#define SHL_VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

struct vmm_mem;

#define VMM_CPUID_ENTRIES_MAX 128u
#define VMM_MSRS_MAX          256u

/* struct kvm_cpuid2 with room. */
struct vmm_cpuid {
    uint32_t nent;
    uint32_t padding;
    struct kvm_cpuid_entry2 entries[VMM_CPUID_ENTRIES_MAX];
};
_Static_assert(offsetof(struct vmm_cpuid, entries) == offsetof(struct kvm_cpuid2, entries),
               "KVM reads and writes this structure");

struct vmm_kvm {
    int fd;    /* /dev/kvm */
    int vm_fd; /* -1 before vmm_kvm_create_vm */
    int run_bytes;
    bool has_tsc_control; /* can give the guest another TSC frequency */
    struct vmm_cpuid supported;
    uint32_t msr_count; /* registers that a snapshot saves, as far as KVM has them */
    uint32_t msrs[VMM_MSRS_MAX];
};

/* An ioctl that is repeated after EINTR. Returns its result or -errno. */
int vmm_ioctl(int fd, unsigned long request, void *arg);

/* KVM_RUN once: 0 after an exit, -EINTR after a signal, or -errno. */
int vmm_kvm_run(int vcpu_fd);

/* Open /dev/kvm and check version and capabilities. SHL_ENOKVM with one sentence
 * that says what to do. */
SHL_MUST_CHECK int vmm_kvm_open(struct vmm_kvm *kvm, struct shl_err *err);

/* VM with in-kernel interrupt controllers, without memory. Takes the kernel several times
 * as long as all of the rest, so it is done before anybody asks for it. */
SHL_MUST_CHECK int vmm_kvm_create_vm(struct vmm_kvm *kvm, struct shl_err *err);

/* The regions of @mem become the VM's memory. Before vCPU state is restored. */
SHL_MUST_CHECK int vmm_kvm_add_memory(struct vmm_kvm *kvm,
                                      const struct vmm_mem *mem,
                                      struct shl_err *err);

/* Event @fd raises interrupt line @gsi as an edge. */
SHL_MUST_CHECK int vmm_kvm_irqfd(struct vmm_kvm *kvm, int fd, uint32_t gsi, struct shl_err *err);

/* A 32-bit write of @value to @addr signals event @fd instead of leaving the guest. */
SHL_MUST_CHECK int vmm_kvm_ioeventfd(struct vmm_kvm *kvm,
                                     int fd,
                                     uint64_t addr,
                                     uint32_t value,
                                     struct shl_err *err);

void vmm_kvm_release(struct vmm_kvm *kvm);

#endif /* SHL_VMM_KVM_H */
