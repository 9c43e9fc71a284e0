#include "vmm-kvm/seccomp.h"
int vmm_seccomp_io(struct shl_err *err)
{
    (void)err;
    return 0;
}
int vmm_seccomp_vcpu(void *unused)
{
    (void)unused;
    return 0;
}
