#include "vmm-kvm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm-kvm/kvm.h"

int vmm_vcpu_create(struct vmm_vcpu *vcpu,
                    const struct vmm_kvm *kvm,
                    unsigned index,
                    const struct vmm_cpuid *cpuid,
                    struct shl_err *err)
{
    void *run;
    int r;

    memset(vcpu, 0, sizeof(*vcpu));
    vcpu->index = index;
    vcpu->fd = vmm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (vcpu->fd < 0) {
        return shl_err_sys(err, -vcpu->fd, "KVM cannot create virtual CPU %u", index);
    }
    run = mmap(NULL, (size_t)kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        return shl_err_sys(err, errno, "cannot map the run page of virtual CPU %u", index);
    }
    vcpu->run = run;
    vcpu->run_bytes = (size_t)kvm->run_bytes;
    r = vmm_ioctl(vcpu->fd, KVM_SET_CPUID2, (void *)(uintptr_t)cpuid);
    if (r < 0) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "KVM does not take the CPU features of the guest: %s", shl_err_text(r));
    }
    return 0;
}

void vmm_vcpu_release(struct vmm_vcpu *vcpu)
{
    if (vcpu->run) {
        (void)munmap(vcpu->run, vcpu->run_bytes);
    }
    if (vcpu->fd >= 0) {
        (void)close(vcpu->fd);
    }
    vcpu->run = NULL;
    vcpu->fd = -1;
}
