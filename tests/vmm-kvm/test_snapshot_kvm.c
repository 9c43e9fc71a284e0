/* KVM's state: set, save, restore into a new VM, save again, compare, class by class.
 * Nothing runs, so any /dev/kvm will do. */
#include <stdio.h>
#include <stdlib.h>

#include "vmm-kvm/cpu_match.h"
#include "vmm-kvm/cpuid.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/vcpu_state.h"

#include "test.h"

#define SKIP  77
#define VCPUS 2

#define MSR_TSC            0x10u
#define MSR_TSC_DEADLINE   0x6e0u
#define MSR_LSTAR          0xc0000082u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define XSAVE_XMM0         160 /* in the legacy area: SDM 1, 13.4.1 */
#define XSAVE_FEATURES     512 /* XSTATE_BV */
#define APIC_TPR           0x80
#define APIC_LVT_ERROR     0x370

struct box {
    struct vmm_mem mem;
    struct vmm_kvm kvm;
    struct vmm_vcpu vcpus[VCPUS];
    struct vmm_cpuid cpuid[VCPUS];
};

static void box_open(struct box *box)
{
    struct shl_err err = {0};
    unsigned i;

    memset(box, 0, sizeof(*box));
    assert_int_equal(vmm_mem_init(&box->mem, 128 * VMM_MIB, 0, 0, &err), 0);
    assert_int_equal(vmm_kvm_open(&box->kvm, &err), 0);
    assert_int_equal(vmm_kvm_create_vm(&box->kvm, &err), 0);
    assert_int_equal(vmm_kvm_add_memory(&box->kvm, &box->mem, &err), 0);
    for (i = 0; i < VCPUS; i++) {
        box->cpuid[i] = box->kvm.supported;
        assert_int_equal(vmm_cpuid_shape(&box->cpuid[i], i, VCPUS), 0);
        assert_int_equal(vmm_vcpu_create(&box->vcpus[i], &box->kvm, i, &box->cpuid[i], &err), 0);
    }
}

static void box_close(struct box *box)
{
    unsigned i;

    for (i = 0; i < VCPUS; i++) {
        vmm_vcpu_release(&box->vcpus[i]);
    }
    vmm_kvm_release(&box->kvm);
    vmm_mem_release(&box->mem);
}

static struct vmm_vcpu_state *new_state(void)
{
    struct vmm_vcpu_state *state = calloc(1, sizeof(*state));

    assert_non_null(state);
    return state;
}

static struct vmm_vcpu_state *save(struct box *box, unsigned index)
{
    struct vmm_vcpu_state *state = new_state();
    struct shl_err err = {0};

    assert_int_equal(vmm_vcpu_save(&box->vcpus[index], &box->kvm, state, &err), 0);
    return state;
}

static int restore(struct box *box,
                   unsigned index,
                   const struct vmm_vcpu_state *from,
                   struct shl_err *err)
{
    struct vmm_vcpu_state *copy = new_state(); /* restore reorders it */
    int r;

    *copy = *from;
    r = vmm_vcpu_restore(&box->vcpus[index], &box->kvm, copy, err);
    if (r < 0) {
        print_message("%s\n", err->msg);
    }
    free(copy);
    return r;
}

static struct kvm_msr_entry *msr(struct vmm_vcpu_state *state, uint32_t index)
{
    uint32_t i;

    for (i = 0; i < state->msrs.nmsrs; i++) {
        if (state->msrs.entries[i].index == index) {
            return &state->msrs.entries[i];
        }
    }
    return NULL;
}

/* Something of our own in each class. */
static void change(struct vmm_vcpu_state *state, unsigned index)
{
    state->regs.rax = 0x1122334455667788 + index;
    state->regs.r15 = 0xfeedface + index;
    state->regs.rip = 0x1000 + index;
    state->regs.rflags = 0x202;
    state->sregs.cr2 = 0xdead000 + index;
    state->sregs.gdt.base = 0x500;
    state->sregs.gdt.limit = 31;
    memset(state->xsave + XSAVE_XMM0, 0xa0 + (int)index, 16);
    state->xsave[XSAVE_FEATURES] |= 3; /* x87 and SSE are not in their initial state */
    state->debugregs.db[0] = 0x4000 + index;
    state->debugregs.db[3] = 0x5000 + index;
    state->lapic.regs[APIC_TPR] = 0x20;
    state->lapic.regs[APIC_LVT_ERROR] = (char)0xfe;
    msr(state, MSR_LSTAR)->data = 0xffffffff81000000 + index;
    msr(state, MSR_KERNEL_GS_BASE)->data = 0xffff888000000000 + index;
    msr(state, MSR_TSC)->data = 1000000000000;
    state->events.nmi.masked = 1;
    state->mp_state.mp_state = index == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_HALTED;
}

/* Counts on by itself. */
static bool is_clock(uint32_t index)
{
    return index == MSR_TSC || index == 0x4b564d00 || index == 0x4b564d03;
}

static void compare(struct vmm_vcpu_state *a, struct vmm_vcpu_state *b)
{
    uint32_t i;

    assert_memory_equal(&a->mp_state, &b->mp_state, sizeof(a->mp_state));
    assert_memory_equal(&a->regs, &b->regs, sizeof(a->regs));
    assert_memory_equal(&a->sregs, &b->sregs, sizeof(a->sregs));
    assert_memory_equal(&a->xcrs, &b->xcrs, sizeof(a->xcrs));
    assert_memory_equal(&a->debugregs, &b->debugregs, sizeof(a->debugregs));
    assert_memory_equal(&a->lapic, &b->lapic, sizeof(a->lapic));
    assert_memory_equal(&a->events, &b->events, sizeof(a->events));
    assert_int_equal(a->xsave_bytes, b->xsave_bytes);
    assert_memory_equal(a->xsave, b->xsave, a->xsave_bytes);
    assert_int_equal(a->cpuid.nent, b->cpuid.nent);
    assert_memory_equal(a->cpuid.entries, b->cpuid.entries,
                        a->cpuid.nent * sizeof(a->cpuid.entries[0]));
    assert_int_equal(a->msrs.nmsrs, b->msrs.nmsrs);
    for (i = 0; i < a->msrs.nmsrs; i++) {
        assert_int_equal(a->msrs.entries[i].index, b->msrs.entries[i].index);
        if (!is_clock(a->msrs.entries[i].index)) {
            assert_int_equal(a->msrs.entries[i].data, b->msrs.entries[i].data);
        }
    }
}

static void test_snapshot_vcpu_state_moves_to_another_vm(void **unused)
{
    struct box first, second;
    struct vmm_vcpu_state *saved[VCPUS], *again;
    struct shl_err err = {0};
    unsigned i;

    (void)unused;
    box_open(&first);
    for (i = 0; i < VCPUS; i++) {
        struct vmm_vcpu_state *state = save(&first, i);

        change(state, i);
        assert_int_equal(restore(&first, i, state, &err), 0);
        free(state);
        saved[i] = save(&first, i);
        /* It took what was set: otherwise two empty states would be compared. */
        assert_int_equal(saved[i]->regs.rax, 0x1122334455667788 + i);
        assert_int_equal(saved[i]->sregs.cr2, 0xdead000 + i);
        assert_int_equal(saved[i]->xsave[XSAVE_XMM0 + 15], 0xa0 + i);
        assert_int_equal(saved[i]->debugregs.db[3], 0x5000 + i);
        assert_int_equal(saved[i]->lapic.regs[APIC_TPR], 0x20);
        assert_int_equal((uint8_t)saved[i]->lapic.regs[APIC_LVT_ERROR], 0xfe);
        assert_int_equal(msr(saved[i], MSR_LSTAR)->data, 0xffffffff81000000 + i);
        assert_int_equal(saved[i]->events.nmi.masked, 1);
    }
    box_close(&first);
    box_open(&second);
    for (i = 0; i < VCPUS; i++) {
        again = save(&second, i);
        if (vmm_cpu_match(&saved[i]->cpuid, &again->cpuid, &err) < 0) {
            fail_msg("%s", err.msg);
        }
        free(again);
        assert_int_equal(restore(&second, i, saved[i], &err), 0);
        again = save(&second, i);
        compare(saved[i], again);
        /* The TSC goes on from where it was, it does not start anew. */
        assert_true(msr(again, MSR_TSC)->data >= msr(saved[i], MSR_TSC)->data);
        assert_true(msr(again, MSR_TSC)->data >= 1000000000000);
        free(again);
        free(saved[i]);
    }
    box_close(&second);
}

static void test_snapshot_chips_move_to_another_vm(void **unused)
{
    struct vmm_chips_state saved = {0}, again = {0};
    struct shl_err err = {0};
    struct box first, second;
    unsigned i;

    (void)unused;
    box_open(&first);
    assert_int_equal(vmm_kvm_save_chips(&first.kvm, &saved, &err), 0);
    saved.irqchips[0].chip.pic.imr = 0x5a;
    saved.irqchips[1].chip.pic.imr = 0xa5;
    saved.irqchips[2].chip.ioapic.redirtbl[7].fields.vector = 0x41;
    saved.irqchips[2].chip.ioapic.redirtbl[7].fields.mask = 0;
    saved.pit.channels[0].count = 0x1234;
    saved.pit.channels[0].mode = 2;
    saved.clock.clock = 3600ull * 1000000000;
    assert_int_equal(vmm_kvm_restore_chips(&first.kvm, &saved, &err), 0);
    assert_int_equal(vmm_kvm_save_chips(&first.kvm, &saved, &err), 0);
    assert_int_equal(saved.irqchips[0].chip.pic.imr, 0x5a);
    assert_int_equal(saved.irqchips[2].chip.ioapic.redirtbl[7].fields.vector, 0x41);
    box_close(&first);
    box_open(&second);
    assert_int_equal(vmm_kvm_restore_chips(&second.kvm, &saved, &err), 0);
    assert_int_equal(vmm_kvm_save_chips(&second.kvm, &again, &err), 0);
    for (i = 0; i < 3; i++) {
        assert_memory_equal(&saved.irqchips[i], &again.irqchips[i], sizeof(saved.irqchips[i]));
    }
    assert_int_equal(again.pit.channels[0].count, 0x1234);
    assert_int_equal(again.pit.channels[0].mode, 2);
    assert_true(again.clock.clock >= 3600ull * 1000000000);
    box_close(&second);
}

/* A register value this KVM does not take ends the restore with its number. */
static void test_snapshot_refused_register_is_named(void **unused)
{
    struct vmm_vcpu_state *state;
    struct shl_err err = {0};
    struct box box;

    (void)unused;
    box_open(&box);
    state = save(&box, 0);
    state->msrs.entries[state->msrs.nmsrs++] =
        (struct kvm_msr_entry){.index = 0x2ff, .data = UINT64_MAX}; /* reserved bits */
    assert_int_equal(restore(&box, 0, state, &err), SHL_EINCOMPATIBLE);
    assert_non_null(strstr(err.msg, "0x2ff"));
    free(state);
    box_close(&box);
}

/* A timer whose deadline has passed unseen must fire, not stay off (trap 14). */
static void test_snapshot_missed_deadline_is_the_time_stamp(void **unused)
{
    struct vmm_vcpu_state *state;
    struct shl_err err = {0};
    uint32_t last;
    struct box box;

    (void)unused;
    box_open(&box);
    state = save(&box, 0);
    if (!msr(state, MSR_TSC_DEADLINE)) {
        free(state);
        box_close(&box);
        skip();
    }
    msr(state, MSR_TSC)->data = 777000;
    msr(state, MSR_TSC_DEADLINE)->data = 0;
    assert_int_equal(vmm_vcpu_restore(&box.vcpus[0], &box.kvm, state, &err), 0);
    last = state->msrs.nmsrs - 1; /* in the order in which they were set */
    assert_int_equal(state->msrs.entries[0].index, MSR_TSC);
    assert_int_equal(state->msrs.entries[last].index, MSR_TSC_DEADLINE);
    assert_int_equal(state->msrs.entries[last].data, 777000);
    free(state);
    box_close(&box);
}

static void test_snapshot_tsc_frequency(void **unused)
{
    struct shl_err err = {0};
    struct box box;
    int khz;

    (void)unused;
    box_open(&box);
    khz = vmm_vcpu_get_tsc_khz(&box.vcpus[0]);
    if (khz <= 0) {
        box_close(&box);
        skip();
    }
    assert_int_equal(vmm_vcpu_match_tsc(&box.vcpus[0], &box.kvm, (uint64_t)khz, &err), 0);
    assert_int_equal(
        vmm_vcpu_match_tsc(&box.vcpus[0], &box.kvm, (uint64_t)khz + (uint64_t)khz / 5000, &err), 0);
    assert_int_equal(vmm_vcpu_get_tsc_khz(&box.vcpus[0]), khz);
    if (box.kvm.has_tsc_control) {
        assert_int_equal(vmm_vcpu_match_tsc(&box.vcpus[0], &box.kvm, (uint64_t)khz / 2, &err), 0);
        assert_int_equal(vmm_vcpu_get_tsc_khz(&box.vcpus[0]), khz / 2);
    } else {
        assert_int_equal(vmm_vcpu_match_tsc(&box.vcpus[0], &box.kvm, (uint64_t)khz / 2, &err),
                         SHL_EINCOMPATIBLE);
        assert_true(err.msg[0] != '\0');
    }
    box_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_vcpu_state_moves_to_another_vm),
        cmocka_unit_test(test_snapshot_chips_move_to_another_vm),
        cmocka_unit_test(test_snapshot_refused_register_is_named),
        cmocka_unit_test(test_snapshot_missed_deadline_is_the_time_stamp),
        cmocka_unit_test(test_snapshot_tsc_frequency),
    };
    struct shl_err err = {0};
    struct vmm_kvm kvm;

    if (vmm_kvm_open(&kvm, &err) < 0) {
        (void)printf("%s\n", err.msg);
        return SKIP;
    }
    vmm_kvm_release(&kvm);
    return cmocka_run_group_tests_name("vmm-kvm/snapshot_kvm", tests, NULL, NULL);
}
