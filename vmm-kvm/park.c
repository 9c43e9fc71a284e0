#include "vmm-kvm/park.h"

#include <signal.h>

#include "base/io.h"
#include "vmm-kvm/devices.h"
#include "vmm-kvm/machine.h"
#include "vmm-kvm/vcpu_state.h"

/* ---- vCPU threads ---- */

void vmm_machine_park(struct vmm_machine *machine)
{
    (void)pthread_mutex_lock(&machine->park_lock);
    machine->parked_count++;
    (void)pthread_cond_broadcast(&machine->park_changed);
    while (__atomic_load_n(&machine->pausing, __ATOMIC_SEQ_CST)) {
        (void)pthread_cond_wait(&machine->park_changed, &machine->park_lock);
    }
    machine->parked_count--;
    (void)pthread_mutex_unlock(&machine->park_lock);
}

void vmm_machine_leave(struct vmm_machine *machine)
{
    (void)pthread_mutex_lock(&machine->park_lock);
    machine->left_count++;
    (void)pthread_cond_broadcast(&machine->park_changed);
    (void)pthread_mutex_unlock(&machine->park_lock);
}

/* ---- loop thread ---- */

void vmm_machine_interrupt(struct vmm_machine *machine)
{
    unsigned i;

    /* immediate_exit first: a signal that arrives before KVM_RUN is then not lost. */
    for (i = 0; i < machine->vcpu_count; i++) {
        struct vmm_vcpu *vcpu = &machine->vcpus[i];

        if (vcpu->thread_started) {
            __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
            (void)pthread_kill(vcpu->thread, VMM_KICK_SIGNAL);
        }
    }
}

void vmm_machine_unpark(struct vmm_machine *machine)
{
    (void)pthread_mutex_lock(&machine->park_lock);
    __atomic_store_n(&machine->pausing, false, __ATOMIC_SEQ_CST);
    (void)pthread_cond_broadcast(&machine->park_changed);
    (void)pthread_mutex_unlock(&machine->park_lock);
}

/* True when all threads are parked, false when one of them has ended. */
static bool wait_parked(struct vmm_machine *machine)
{
    bool all;

    (void)pthread_mutex_lock(&machine->park_lock);
    while (machine->parked_count + machine->left_count < machine->thread_count) {
        (void)pthread_cond_wait(&machine->park_changed, &machine->park_lock);
    }
    all = machine->left_count == 0;
    (void)pthread_mutex_unlock(&machine->park_lock);
    return all;
}

int vmm_machine_pause(struct vmm_machine *machine, struct shl_err *err)
{
    if (!machine->paused) {
        __atomic_store_n(&machine->pausing, true, __ATOMIC_SEQ_CST);
        vmm_machine_interrupt(machine);
    }
    /* Also when it is paused: the threads of a machine that starts paused may be on their
     * way. */
    if (!wait_parked(machine)) {
        vmm_machine_unpark(machine); /* the others see that it has ended */
        return shl_err_set(err, SHL_EGONE, "the VM has ended");
    }
    machine->paused = true;
    return 0;
}

void vmm_machine_resume(struct vmm_machine *machine)
{
    unsigned i;

    if (!machine->paused || !wait_parked(machine)) {
        return;
    }
    for (i = 0; i < machine->vcpu_count; i++) {
        vmm_vcpu_tell_stopped(&machine->vcpus[i]);
        __atomic_store_n(&machine->vcpus[i].run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    }
    if (machine->asleep) {
        vmm_devices_wake(machine);
        machine->asleep = false;
    }
    machine->paused = false;
    vmm_machine_unpark(machine);
}

static void hold_devices(struct vmm_machine *machine, bool held)
{
    unsigned i;

    for (i = 0; i < machine->slot_count; i++) {
        vmm_slot_hold(&machine->slots[i], held);
    }
}

bool vmm_machine_keep_deadline(struct vmm_machine *machine)
{
    if (!vmm_deadline_strikes(&machine->deadline, shl_monotonic_ms())) {
        return false;
    }
    hold_devices(machine, true);
    (void)!vmm_machine_pause(machine, NULL); /* or it has ended */
    return true;
}

int vmm_machine_go_on(struct vmm_machine *machine, struct shl_err *err)
{
    int r = vmm_deadline_resume(&machine->deadline, shl_monotonic_ms(), err);

    if (r == 0) {
        hold_devices(machine, false);
        vmm_machine_resume(machine);
    }
    return r;
}
