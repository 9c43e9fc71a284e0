#include "vmm-kvm/vcpu_state.h"

#include <errno.h>
#include <string.h>

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define XSAVE_BYTES_MIN  4096u
#define TSC_TOLERANCE    250u /* ppm: what two measurements of one clock may differ by */

/* How much KVM_GET_XSAVE2 writes and KVM_SET_XSAVE reads; 4096 without the former. */
static uint32_t xsave_bytes(const struct vmm_kvm *kvm)
{
    int r = vmm_ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, (void *)(long)KVM_CAP_XSAVE2);

    return r > (int)XSAVE_BYTES_MIN ? (uint32_t)r : XSAVE_BYTES_MIN;
}

/* ---- saving ---- */

static int save_xsave(struct vmm_vcpu *vcpu, const struct vmm_kvm *kvm, struct vmm_vcpu_state *ret)
{
    ret->xsave_bytes = xsave_bytes(kvm);
    if (ret->xsave_bytes > sizeof(ret->xsave)) {
        return SHL_ELIMIT;
    }
    return vmm_ioctl(vcpu->fd, ret->xsave_bytes > XSAVE_BYTES_MIN ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
                     ret->xsave);
}

/* KVM stops at the first register that this guest's CPU does not have: leave that one
 * out and go on behind it. */
static int save_msrs(struct vmm_vcpu *vcpu, const struct vmm_kvm *kvm, struct vmm_msrs *ret)
{
    struct vmm_msrs part;
    uint32_t from = 0, i;

    ret->nmsrs = 0;
    while (from < kvm->msr_count) {
        int r;

        memset(&part, 0, sizeof(part));
        part.nmsrs = kvm->msr_count - from;
        for (i = 0; i < part.nmsrs; i++) {
            part.entries[i].index = kvm->msrs[from + i];
        }
        r = vmm_ioctl(vcpu->fd, KVM_GET_MSRS, &part);
        if (r < 0) {
            return r;
        }
        memcpy(ret->entries + ret->nmsrs, part.entries, (size_t)r * sizeof(part.entries[0]));
        ret->nmsrs += (uint32_t)r;
        from += (uint32_t)r + 1;
    }
    return 0;
}

/* MP_STATE first: getting it lets pending INIT and SIPI take effect, which changes the
 * registers. Events last: reading other state may queue an exception. CPUID before MSRs,
 * since kernels from 6.13 on look there for what may be read. */
int vmm_vcpu_save(struct vmm_vcpu *vcpu,
                  const struct vmm_kvm *kvm,
                  struct vmm_vcpu_state *ret,
                  struct shl_err *err)
{
    int fd = vcpu->fd;
    int r = vmm_ioctl(fd, KVM_GET_MP_STATE, &ret->mp_state);

    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_REGS, &ret->regs);
    }
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_SREGS, &ret->sregs);
    }
    if (r >= 0) {
        r = save_xsave(vcpu, kvm, ret);
    }
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_XCRS, &ret->xcrs);
    }
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_DEBUGREGS, &ret->debugregs);
    }
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_LAPIC, &ret->lapic);
    }
    if (r >= 0) {
        ret->cpuid.nent = VMM_CPUID_ENTRIES_MAX;
        r = vmm_ioctl(fd, KVM_GET_CPUID2, &ret->cpuid);
    }
    if (r >= 0) {
        r = save_msrs(vcpu, kvm, &ret->msrs);
    }
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_GET_VCPU_EVENTS, &ret->events);
    }
    if (r < 0) {
        return shl_err_set(err, r, "KVM does not give the state of virtual CPU %u: %s", vcpu->index,
                           shl_err_text(r));
    }
    return 0;
}

int vmm_vcpu_get_tsc_khz(const struct vmm_vcpu *vcpu)
{
    return vmm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
}

/* ---- restoring ---- */

int vmm_vcpu_match_tsc(struct vmm_vcpu *vcpu,
                       const struct vmm_kvm *kvm,
                       uint64_t tsc_khz,
                       struct shl_err *err)
{
    int r = vmm_vcpu_get_tsc_khz(vcpu);
    uint64_t ours = (uint64_t)SHL_MAX(r, 0);
    uint64_t off = ours > tsc_khz ? ours - tsc_khz : tsc_khz - ours;

    if (r < 0) {
        return shl_err_sys(err, -r, "KVM does not say how fast the TSC is");
    }
    /* 0: KVM did not know it on the machine that saved. */
    if (tsc_khz == 0 ||
        off <= tsc_khz / 1000000 * TSC_TOLERANCE + tsc_khz % 1000000 * TSC_TOLERANCE / 1000000) {
        return 0;
    }
    r = tsc_khz <= UINT32_MAX && kvm->has_tsc_control
            ? vmm_ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)tsc_khz)
            : -ENOTSUP;
    if (r < 0) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "the saved VM's time stamp counter runs at %llu kHz, this machine's at "
                           "%llu kHz, and it cannot be scaled",
                           (unsigned long long)tsc_khz, (unsigned long long)ours);
    }
    return 0;
}

/* The TSC first, since deadlines are compared with it; the deadline last. A deadline that
 * passed without being delivered reads as 0, and 0 switches the timer off: with the TSC
 * instead it fires at once. Otherwise the guest waits for ever. */
static void order_msrs(struct vmm_msrs *msrs)
{
    struct kvm_msr_entry moved;
    uint64_t tsc = 0;
    uint32_t i;

    for (i = 0; i < msrs->nmsrs; i++) {
        if (msrs->entries[i].index == MSR_TSC) {
            tsc = msrs->entries[i].data;
            moved = msrs->entries[0];
            msrs->entries[0] = msrs->entries[i];
            msrs->entries[i] = moved;
            break;
        }
    }
    for (i = 0; i < msrs->nmsrs; i++) {
        if (msrs->entries[i].index == MSR_TSC_DEADLINE) {
            moved = msrs->entries[i];
            moved.data = moved.data ? moved.data : tsc;
            msrs->entries[i] = msrs->entries[msrs->nmsrs - 1];
            msrs->entries[msrs->nmsrs - 1] = moved;
            break;
        }
    }
}

static int refuse(const struct vmm_vcpu *vcpu, const char *what, int r, struct shl_err *err)
{
    return shl_err_set(err, SHL_EINCOMPATIBLE,
                       "KVM of this machine does not take the saved %s of virtual CPU %u: %s", what,
                       vcpu->index, shl_err_text(r));
}

static int restore_msrs(struct vmm_vcpu *vcpu, struct vmm_msrs *msrs, struct shl_err *err)
{
    int r;

    order_msrs(msrs);
    r = vmm_ioctl(vcpu->fd, KVM_SET_MSRS, msrs);
    if (r < 0) {
        return refuse(vcpu, "registers (MSRs)", r, err);
    }
    /* It stops without an error at the first one it does not take. */
    if ((uint32_t)r != msrs->nmsrs) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "KVM of this machine does not take the saved register 0x%x (value "
                           "0x%llx) of virtual CPU %u",
                           msrs->entries[r].index, (unsigned long long)msrs->entries[r].data,
                           vcpu->index);
    }
    return 0;
}

static int restore_xsave(struct vmm_vcpu *vcpu,
                         const struct vmm_kvm *kvm,
                         struct vmm_vcpu_state *state,
                         struct shl_err *err)
{
    int r;

    /* KVM reads as much as it would write; what was not saved is zero here. */
    if (xsave_bytes(kvm) > sizeof(state->xsave)) {
        return refuse(vcpu, "vector registers", SHL_ELIMIT, err);
    }
    r = vmm_ioctl(vcpu->fd, KVM_SET_XSAVE, state->xsave);
    if (r >= 0) {
        r = vmm_ioctl(vcpu->fd, KVM_SET_XCRS, &state->xcrs);
    }
    return r < 0 ? refuse(vcpu, "vector registers", r, err) : 0;
}

/* CPUID is set already: it decides which MSRs, XSAVE and XCR bits are legal. Then
 *   MP_STATE   a fresh application processor must take the state before registers count
 *   REGS       clears pending exceptions, so before the events
 *   SREGS      the APIC base, before the APIC
 *   XSAVE, XCRS, DEBUGREGS
 *   LAPIC      before MSRs: TSC_DEADLINE only counts when the timer is in that mode
 *   MSRs       KVM's clock registers touch guest memory, which is there
 *   EVENTS     after everything that clears or queues events */
int vmm_vcpu_restore(struct vmm_vcpu *vcpu,
                     const struct vmm_kvm *kvm,
                     struct vmm_vcpu_state *state,
                     struct shl_err *err)
{
    int fd = vcpu->fd;
    int r = vmm_ioctl(fd, KVM_SET_MP_STATE, &state->mp_state);

    if (r < 0) {
        return refuse(vcpu, "run state", r, err);
    }
    r = vmm_ioctl(fd, KVM_SET_REGS, &state->regs);
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_SET_SREGS, &state->sregs);
    }
    if (r < 0) {
        return refuse(vcpu, "registers", r, err);
    }
    r = restore_xsave(vcpu, kvm, state, err);
    if (r < 0) {
        return r;
    }
    r = vmm_ioctl(fd, KVM_SET_DEBUGREGS, &state->debugregs);
    if (r >= 0) {
        r = vmm_ioctl(fd, KVM_SET_LAPIC, &state->lapic);
    }
    if (r < 0) {
        return refuse(vcpu, "debug registers or APIC", r, err);
    }
    r = restore_msrs(vcpu, &state->msrs, err);
    if (r < 0) {
        return r;
    }
    r = vmm_ioctl(fd, KVM_SET_VCPU_EVENTS, &state->events);
    return r < 0 ? refuse(vcpu, "pending events", r, err) : 0;
}

void vmm_vcpu_tell_stopped(struct vmm_vcpu *vcpu)
{
    /* EINVAL: the guest does not use the KVM clock (yet). Nothing to tell then. */
    (void)vmm_ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, NULL);
}
