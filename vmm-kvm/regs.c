/* Registers of a vCPU at boot (boot.rst, "64-bit Boot Protocol"; Intel SDM 3A 9.8.5). */
#include <string.h>

#include "vmm-kvm/boot.h"
#include "vmm-kvm/kvm.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/vcpu.h"

#define CR0_PE   (1ull << 0)
#define CR0_ET   (1ull << 4)
#define CR0_PG   (1ull << 31)
#define CR4_PAE  (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define MSR_MISC_ENABLE   0x1a0u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MISC_FAST_STRING  1u
#define MTRR_ENABLE_WB    0x806u

#define APIC_LVT0        0x350u
#define APIC_LVT1        0x360u
#define APIC_MODE_NMI    0x400u
#define APIC_MODE_EXTINT 0x700u

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code, bool system)
{
    return (struct kvm_segment){
        .base = 0,
        .limit = 0xffffffff,
        .selector = selector,
        .type = type,
        .present = 1,
        .db = !code && !system,
        .s = !system,
        .l = code,
        .g = 1,
    };
}

static int set_sregs(struct vmm_vcpu *vcpu)
{
    struct kvm_segment data = segment(VMM_BOOT_DS, 3, false, false);
    struct kvm_sregs sregs;
    int r = vmm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);

    if (r < 0) {
        return r;
    }
    sregs.cs = segment(VMM_BOOT_CS, 11, true, false);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.tr = segment(VMM_BOOT_TR, 11, false, true);
    sregs.gdt.base = VMM_ADDR_GDT;
    sregs.gdt.limit = VMM_BOOT_GDT_COUNT * 8 - 1;
    sregs.idt.base = VMM_ADDR_IDT;
    sregs.idt.limit = 7;
    sregs.cr3 = VMM_ADDR_PML4;
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.efer |= EFER_LME | EFER_LMA;
    return vmm_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
}

static int set_regs(struct vmm_vcpu *vcpu, uint64_t entry)
{
    struct kvm_regs regs = {
        .rflags = 2, /* bit 1 is always set */
        .rip = entry,
        .rsp = VMM_ADDR_STACK,
        .rbp = VMM_ADDR_STACK,
        .rsi = VMM_ADDR_ZERO_PAGE,
    };

    return vmm_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

static int set_msrs(struct vmm_vcpu *vcpu)
{
    struct { /* struct kvm_msrs with room */
        uint32_t nmsrs;
        uint32_t padding;
        struct kvm_msr_entry entries[2];
    } msrs = {
        .nmsrs = 2,
        .entries = {{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WB},
                    {.index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING}},
    };
    int r = vmm_ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);

    /* KVM stops at the first it does not take and says how many it took. */
    if (r >= 0 && r != 2) {
        return SHL_ENOKVM;
    }
    return SHL_MIN(r, 0);
}

/* LINT0 takes the 8259's interrupts, LINT1 is NMI, as firmware leaves them. */
static int set_lapic(struct vmm_vcpu *vcpu)
{
    struct kvm_lapic_state lapic;
    uint32_t lvt0 = APIC_MODE_EXTINT, lvt1 = APIC_MODE_NMI;
    int r = vmm_ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic);

    if (r < 0) {
        return r;
    }
    memcpy(lapic.regs + APIC_LVT0, &lvt0, sizeof(lvt0));
    memcpy(lapic.regs + APIC_LVT1, &lvt1, sizeof(lvt1));
    return vmm_ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic);
}

int vmm_vcpu_setup_boot(struct vmm_vcpu *vcpu, uint64_t entry, struct shl_err *err)
{
    int r = set_msrs(vcpu);

    if (r == 0) {
        r = set_lapic(vcpu);
    }
    if (r == 0 && entry != 0) {
        r = set_sregs(vcpu);
        if (r == 0) {
            r = set_regs(vcpu, entry);
        }
    }
    if (r < 0) {
        return shl_err_set(err, r, "KVM does not take the start state of virtual CPU %u: %s",
                           vcpu->index, shl_err_text(r));
    }
    return 0;
}
