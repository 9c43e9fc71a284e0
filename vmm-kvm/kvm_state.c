/* State of the VM as a whole: PIT, clock, interrupt controllers. */
#include <string.h>

#include "vmm-kvm/vcpu_state.h"

int vmm_kvm_save_chips(const struct vmm_kvm *kvm, struct vmm_chips_state *ret, struct shl_err *err)
{
    int r = vmm_ioctl(kvm->vm_fd, KVM_GET_PIT2, &ret->pit);
    uint32_t i;

    if (r >= 0) {
        r = vmm_ioctl(kvm->vm_fd, KVM_GET_CLOCK, &ret->clock);
    }
    for (i = 0; r >= 0 && i < SHL_ARRAY_SIZE(ret->irqchips); i++) {
        memset(&ret->irqchips[i], 0, sizeof(ret->irqchips[i]));
        ret->irqchips[i].chip_id = i; /* PIC master, PIC slave, IOAPIC */
        r = vmm_ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &ret->irqchips[i]);
    }
    return r < 0 ? shl_err_sys(err, -r, "KVM does not give the state of the interrupt controllers")
                 : 0;
}

int vmm_kvm_restore_chips(const struct vmm_kvm *kvm,
                          const struct vmm_chips_state *state,
                          struct shl_err *err)
{
    /* Without KVM_CLOCK_REALTIME: the guest's monotonic time goes on where it stopped, so
     * that no timer of it is late by hours; the agent sets the wall clock. */
    struct kvm_clock_data clock = {.clock = state->clock.clock};
    int r = vmm_ioctl(kvm->vm_fd, KVM_SET_PIT2, (void *)(uintptr_t)&state->pit);
    uint32_t i;

    if (r >= 0) {
        r = vmm_ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock);
    }
    for (i = 0; r >= 0 && i < SHL_ARRAY_SIZE(state->irqchips); i++) {
        r = vmm_ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, (void *)(uintptr_t)&state->irqchips[i]);
    }
    if (r < 0) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "KVM of this machine does not take the saved interrupt controllers: %s",
                           shl_err_text(r));
    }
    return 0;
}
