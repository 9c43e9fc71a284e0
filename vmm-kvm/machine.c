#include "vmm-kvm/machine.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "base/cleanup.h"
#include "base/id.h"
#include "base/io.h"
#include "vmm-kvm/acpi.h"
#include "vmm-kvm/boot.h"

static void raise_serial(void *ctx)
{
    const struct vmm_machine *machine = ctx;
    static const uint64_t one = 1;
    ssize_t n = write(machine->serial_irq_fd, &one, sizeof(one));

    (void)n; /* a full counter is a pending interrupt */
}

static int build_serial(struct vmm_machine *machine, struct shl_err *err)
{
    (void)pthread_mutex_init(&machine->serial_lock, NULL);
    machine->serial_irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (machine->serial_irq_fd < 0) {
        return shl_err_sys(err, errno, "cannot make an event");
    }
    vmm_console_log_init(&machine->log, machine->config.serial_fd,
                         machine->config.serial_max_bytes);
    vmm_serial_init(&machine->serial, (struct vmm_irq){raise_serial, machine}, vmm_console_log_put,
                    &machine->log);
    return vmm_kvm_irqfd(&machine->kvm, machine->serial_irq_fd, VMM_GSI_SERIAL, err);
}

/* The next free slot, ready for a device model; NULL and @err on failure. */
static struct vmm_slot *add_slot(struct vmm_machine *machine, struct shl_err *err)
{
    struct vmm_slot *slot = &machine->slots[machine->slot_count];

    machine->slot_count++;
    return vmm_slot_init(slot, machine->loop, machine->outcome, err) < 0 ? NULL : slot;
}

static int connect_slot(struct vmm_machine *machine,
                        struct vmm_slot *slot,
                        struct vmm_virtio *dev,
                        struct shl_err *err)
{
    unsigned number = (unsigned)(slot - machine->slots);

    return vmm_slot_connect(slot, dev, &machine->kvm, number, err);
}

static int add_disk(struct vmm_machine *machine, struct shl_err *err)
{
    const struct vmm_config *config = &machine->config;
    struct vmm_slot *slot = add_slot(machine, err);
    struct vmm_disk disk;
    int r;

    if (!slot) {
        return err->code;
    }
    r = vmm_overlay_open(&machine->overlay, config->overlay_fd, config->base_fd, config->disk_bytes,
                         err);
    if (r < 0) {
        return r;
    }
    disk = vmm_overlay_disk(&machine->overlay);
    vmm_blk_init(&machine->blk, &machine->mem, vmm_slot_irq(slot), &disk);
    return connect_slot(machine, slot, &machine->blk.dev, err);
}

static int add_network(struct vmm_machine *machine, struct shl_err *err)
{
    struct vmm_slot *slot;
    struct vmm_net_host host;
    int r;

    if (machine->config.tap_fd < 0) {
        return 0;
    }
    slot = add_slot(machine, err);
    if (!slot) {
        return err->code;
    }
    r = vmm_tap_init(&machine->tap, machine->config.tap_fd, &machine->net, slot, err);
    if (r < 0) {
        return r;
    }
    host = vmm_tap_host(&machine->tap);
    vmm_net_init(&machine->net, &machine->mem, vmm_slot_irq(slot), &host, machine->config.mac,
                 machine->tap.offloads);
    r = vmm_tap_watch(&machine->tap);
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot watch the TAP interface");
    }
    return connect_slot(machine, slot, &machine->net.dev, err);
}

static int add_console(struct vmm_machine *machine, int listen_fd, struct shl_err *err)
{
    struct vmm_slot *slot = add_slot(machine, err);
    struct vmm_port_host host;
    int r;

    if (!slot) {
        return err->code;
    }
    vmm_agent_socket_init(&machine->agent, listen_fd, &machine->console, slot);
    host = vmm_agent_socket_host(&machine->agent);
    vmm_console_init(&machine->console, &machine->mem, vmm_slot_irq(slot), &host, AGENT_PORT_NAME);
    r = connect_slot(machine, slot, &machine->console.dev, err);
    if (r == 0) {
        r = vmm_agent_socket_watch(&machine->agent);
    }
    return r;
}

static int add_rng(struct vmm_machine *machine, struct shl_err *err)
{
    struct vmm_slot *slot = add_slot(machine, err);

    if (!slot) {
        return err->code;
    }
    vmm_rng_init(&machine->rng, &machine->mem, vmm_slot_irq(slot), shl_random_bytes);
    return connect_slot(machine, slot, &machine->rng.dev, err);
}

static int add_balloon(struct vmm_machine *machine, struct shl_err *err)
{
    struct vmm_slot *slot = add_slot(machine, err);

    if (!slot) {
        return err->code;
    }
    vmm_balloon_init(&machine->balloon, &machine->mem, vmm_slot_irq(slot));
    return connect_slot(machine, slot, &machine->balloon.dev, err);
}

static int add_hotplug(struct vmm_machine *machine, struct shl_err *err)
{
    struct vmm_slot *slot;

    if (machine->mem.hotplug_max == 0) {
        return 0;
    }
    slot = add_slot(machine, err);
    if (!slot) {
        return err->code;
    }
    vmm_hotplug_init(&machine->hotplug, &machine->mem, vmm_slot_irq(slot),
                     machine->config.hotplug_bytes);
    return connect_slot(machine, slot, &machine->hotplug.dev, err);
}

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
        int r = vmm_vcpu_create(vcpu, &machine->kvm, i, machine->vcpu_count, err);

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

int vmm_machine_build(struct vmm_machine *machine,
                      struct vmm_loop *loop,
                      struct vmm_outcome *outcome,
                      int agent_listen_fd,
                      struct shl_err *err)
{
    uint64_t entry = 0;
    unsigned i;
    int r;

    machine->loop = loop;
    machine->outcome = outcome;
    machine->vcpu_count = machine->config.vcpus;
    for (i = 0; i < VMM_VCPUS_MAX; i++) {
        machine->vcpus[i].fd = -1;
    }
    r = vmm_mem_init(&machine->mem, machine->config.memory_bytes, machine->config.hotplug_max_bytes,
                     machine->config.hotplug_bytes, err);
    if (r == 0) {
        r = vmm_kvm_create_vm(&machine->kvm, &machine->mem, err);
    }
    if (r == 0) {
        r = build_serial(machine, err);
    }
    if (r == 0) {
        r = add_disk(machine, err);
    }
    if (r == 0) {
        r = add_network(machine, err);
    }
    if (r == 0) {
        r = add_console(machine, agent_listen_fd, err);
    }
    if (r == 0) {
        r = add_rng(machine, err);
    }
    if (r == 0) {
        r = add_balloon(machine, err);
    }
    if (r == 0) {
        r = add_hotplug(machine, err);
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
    (void)pthread_barrier_wait(&machine->start_line);
    vmm_vcpu_run(machine, vcpu);
    return NULL;
}

int vmm_machine_start_threads(struct vmm_machine *machine, struct shl_err *err)
{
    unsigned i;

    (void)pthread_barrier_init(&machine->start_line, NULL, machine->vcpu_count + 1);
    for (i = 0; i < machine->vcpu_count; i++) {
        struct vmm_vcpu *vcpu = &machine->vcpus[i];
        int r = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);

        if (r != 0) {
            /* Those that run wait at the start line for ever: the process is to end. */
            return shl_err_sys(err, r, "cannot start the thread of virtual CPU %u", i);
        }
        vcpu->thread_started = true;
    }
    return 0;
}

void vmm_machine_run(struct vmm_machine *machine)
{
    machine->started_at_ms = shl_monotonic_ms();
    (void)pthread_barrier_wait(&machine->start_line);
}

void vmm_machine_join(struct vmm_machine *machine)
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

    vmm_agent_socket_release(&machine->agent);
    vmm_tap_release(&machine->tap);
    for (i = 0; i < machine->slot_count; i++) {
        vmm_slot_release(&machine->slots[i]);
    }
    for (i = 0; i < machine->vcpu_count; i++) {
        vmm_vcpu_release(&machine->vcpus[i]);
    }
    vmm_overlay_release(&machine->overlay);
    if (machine->serial_irq_fd > 0) {
        (void)close(machine->serial_irq_fd);
    }
    vmm_kvm_release(&machine->kvm);
    vmm_mem_release(&machine->mem);
    vmm_config_release(&machine->config);
}
