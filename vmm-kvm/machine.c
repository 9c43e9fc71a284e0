#include "vmm-kvm/machine.h"

#include <string.h>

#include "base/io.h"
#include "vmm-kvm/acpi.h"
#include "vmm-kvm/boot.h"
#include "vmm-kvm/cpuid.h"
#include "vmm-kvm/devices.h"
#include "vmm-kvm/park.h"

#define VCPU_STACK_BYTES (256u * 1024) /* a queue walk takes a few KiB; pages come as used */

static int load_guest(struct vmm_machine *machine, uint64_t *ret_entry, struct shl_err *err)
{
    const struct vmm_config *config = &machine->config;
    const struct vmm_acpi_config acpi = {machine->vcpu_count, machine->slot_count};
    struct vmm_boot boot = {.cmdline = config->cmdline};
    struct vmm_image kernel, initrd;
    int r = vmm_image_of_fd(&kernel, &config->kernel_fd, "kernel", err);

    boot.kernel = &kernel;
    if (r == 0 && config->initrd_fd >= 0) {
        r = vmm_image_of_fd(&initrd, &config->initrd_fd, "initrd", err);
        boot.initrd = &initrd;
    }
    if (r == 0) {
        r = vmm_boot_load(&boot, &machine->mem, ret_entry, err);
    }
    if (r == 0) {
        r = vmm_acpi_write(&acpi, &machine->mem);
        if (r < 0) {
            (void)shl_err_set(err, r, "cannot write the ACPI tables: %s", shl_err_text(r));
        }
    }
    return r;
}

static int build_vcpus(struct vmm_machine *machine, uint64_t entry, struct shl_err *err)
{
    unsigned i;

    for (i = 0; i < machine->vcpu_count; i++) {
        struct vmm_vcpu *vcpu = &machine->vcpus[i];
        struct vmm_cpuid cpuid = machine->kvm.supported;
        int r = vmm_cpuid_shape(&cpuid, i, machine->vcpu_count);

        if (r < 0) {
            return shl_err_set(err, r, "the CPU of this machine has too many features");
        }
        r = vmm_vcpu_create(vcpu, &machine->kvm, i, &cpuid, err);
        if (r == 0) {
            r = vmm_vcpu_setup_boot(vcpu, i == 0 ? entry : 0, err);
        }
        if (r < 0) {
            return r;
        }
        vcpu->owner = machine;
    }
    return 0;
}

void vmm_machine_prepare(struct vmm_machine *machine,
                         struct vmm_loop *loop,
                         struct vmm_outcome *outcome)
{
    unsigned i;

    machine->loop = loop;
    machine->outcome = outcome;
    machine->vcpu_count = machine->config.vcpus;
    machine->pausing = true; /* until vmm_machine_run */
    machine->paused = true;
    (void)pthread_mutex_init(&machine->park_lock, NULL);
    (void)pthread_cond_init(&machine->park_changed, NULL);
    for (i = 0; i < VMM_VCPUS_MAX; i++) {
        machine->vcpus[i].fd = -1;
    }
}

int vmm_machine_build(struct vmm_machine *machine,
                      struct vmm_loop *loop,
                      struct vmm_outcome *outcome,
                      int agent_listen_fd,
                      struct shl_err *err)
{
    const struct vmm_config *config = &machine->config;
    uint64_t entry = 0;
    int r;

    vmm_machine_prepare(machine, loop, outcome);
    r = vmm_mem_init(&machine->mem, config->memory_bytes, config->hotplug_max_bytes,
                     config->hotplug_bytes, err);
    if (r == 0) {
        r = vmm_kvm_add_memory(&machine->kvm, &machine->mem, err);
    }
    if (r == 0) {
        r = vmm_devices_build(machine, agent_listen_fd, err);
    }
    if (r == 0) {
        r = load_guest(machine, &entry, err);
    }
    if (r == 0) {
        r = build_vcpus(machine, entry, err);
    }
    return r;
}

static void *vcpu_thread(void *arg)
{
    struct vmm_vcpu *vcpu = arg;
    struct vmm_machine *machine = vcpu->owner;

    if (machine->thread_init && machine->thread_init(machine) < 0) {
        vmm_outcome_set(machine->outcome, VMM_REASON_HOST_ERROR,
                        "cannot restrict the system calls of a virtual CPU");
    }
    vmm_vcpu_run(machine, vcpu);
    vmm_machine_leave(machine);
    return NULL;
}

int vmm_machine_start_threads(struct vmm_machine *machine, struct shl_err *err)
{
    pthread_attr_t attr;
    unsigned i;
    int r;

    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
    for (i = 0, r = 0; r == 0 && i < machine->vcpu_count; i++) {
        struct vmm_vcpu *vcpu = &machine->vcpus[i];

        r = pthread_create(&vcpu->thread, &attr, vcpu_thread, vcpu);
        vcpu->thread_started = r == 0;
        machine->thread_count += r == 0;
    }
    (void)pthread_attr_destroy(&attr);
    /* On failure those that run stay parked for ever: the process is to end. */
    return r == 0 ? 0 : shl_err_sys(err, r, "cannot start the thread of a virtual CPU");
}

void vmm_machine_run(struct vmm_machine *machine)
{
    machine->started_at_ms = shl_monotonic_ms();
    vmm_deadline_set(&machine->deadline, machine->config.deadline_ms);
    if (!vmm_machine_keep_deadline(machine) && !machine->config.start_paused) {
        vmm_machine_resume(machine);
    }
}

void vmm_machine_join(struct vmm_machine *machine)
{
    unsigned i;

    vmm_machine_interrupt(machine);
    vmm_machine_unpark(machine);
    for (i = 0; i < machine->vcpu_count; i++) {
        if (machine->vcpus[i].thread_started) {
            (void)pthread_join(machine->vcpus[i].thread, NULL);
            machine->vcpus[i].thread_started = false;
        }
    }
    vmm_console_log_flush(&machine->log);
}

void vmm_machine_release(struct vmm_machine *machine)
{
    unsigned i;

    vmm_devices_release(machine);
    for (i = 0; i < machine->vcpu_count; i++) {
        vmm_vcpu_release(&machine->vcpus[i]);
    }
    vmm_kvm_release(&machine->kvm);
    vmm_mem_release(&machine->mem);
    vmm_config_release(&machine->config);
}
