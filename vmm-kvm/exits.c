/* The vCPU thread: run the guest, handle what leaves it. */
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "vmm-kvm/machine.h"
#include "vmm-kvm/park.h"

#define I8042_RESET       0xfeu
#define SLEEP_ENABLE      0x20u /* SLP_EN of SLEEP_CONTROL_REG, ACPI 4.8.3.7 */
#define SLEEP_TYPE(value) ((value) >> 2 & 7u)

static void count(uint64_t *counter)
{
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* The guest reset or switched itself off: on purpose, or because its kernel died. The
 * console's last words tell which (panic=-1 makes a dead kernel reset at once). */
static void end_by_guest(struct vmm_machine *machine, const char *how)
{
    (void)pthread_mutex_lock(&machine->serial_lock);
    vmm_console_log_flush(&machine->log);
    if (machine->log.panic[0] != '\0') {
        vmm_outcome_set(machine->outcome, VMM_REASON_PANIC, "%s", machine->log.panic);
    } else {
        vmm_outcome_set(machine->outcome, VMM_REASON_SHUTDOWN, "%s", how);
    }
    (void)pthread_mutex_unlock(&machine->serial_lock);
}

static void write_port(struct vmm_machine *machine, uint16_t port, uint8_t value)
{
    if (port - VMM_PORT_SERIAL < VMM_PORT_SERIAL_COUNT) {
        (void)pthread_mutex_lock(&machine->serial_lock);
        vmm_serial_write(&machine->serial, port - VMM_PORT_SERIAL, value);
        (void)pthread_mutex_unlock(&machine->serial_lock);
    } else if (port == VMM_PORT_I8042_STATUS && value == I8042_RESET) {
        end_by_guest(machine, "the guest rebooted");
    } else if (port == VMM_PORT_SLEEP_CONTROL && (value & SLEEP_ENABLE) &&
               SLEEP_TYPE(value) == VMM_SLEEP_TYPE_S5) {
        end_by_guest(machine, "the guest switched itself off");
    }
}

static uint8_t read_port(struct vmm_machine *machine, uint16_t port)
{
    uint8_t value = 0xff; /* what an empty bus gives */

    if (port - VMM_PORT_SERIAL < VMM_PORT_SERIAL_COUNT) {
        (void)pthread_mutex_lock(&machine->serial_lock);
        value = vmm_serial_read(&machine->serial, port - VMM_PORT_SERIAL);
        (void)pthread_mutex_unlock(&machine->serial_lock);
    } else if (port == VMM_PORT_I8042_STATUS || port == VMM_PORT_SLEEP_STATUS) {
        value = 0; /* ready to take a command; not woken from sleep */
    }
    return value;
}

/* Wider accesses and string instructions come down to bytes. */
static void handle_io(struct vmm_machine *machine, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    uint32_t i, b;

    for (i = 0; i < run->io.count; i++) {
        for (b = 0; b < run->io.size; b++, data++) {
            uint16_t port = (uint16_t)(run->io.port + b);

            if (run->io.direction == KVM_EXIT_IO_OUT) {
                write_port(machine, port, *data);
            } else {
                *data = read_port(machine, port);
            }
        }
    }
}

/* The two registers of every interrupt need no lock, so that a vCPU does not wait for
 * disk work of the other thread. */
static bool handle_interrupt_register(struct vmm_virtio *dev, uint32_t offset, struct kvm_run *run)
{
    if (run->mmio.len != 4) {
        return false;
    }
    if (offset == VMM_MMIO_INTERRUPT_STATUS && !run->mmio.is_write) {
        shl_put_le32(run->mmio.data, vmm_mmio_interrupt_status(dev));
        return true;
    }
    if (offset == VMM_MMIO_INTERRUPT_ACK && run->mmio.is_write) {
        vmm_mmio_interrupt_ack(dev, shl_get_le32(run->mmio.data));
        return true;
    }
    return false;
}

static void handle_mmio(struct vmm_machine *machine, struct kvm_run *run)
{
    uint64_t addr = run->mmio.phys_addr;
    uint64_t number = (addr - VMM_MMIO_BASE) / VMM_MMIO_STRIDE;
    uint32_t offset = (uint32_t)(addr % VMM_MMIO_STRIDE);
    struct vmm_slot *slot;

    if (addr < VMM_MMIO_BASE || number >= machine->slot_count) {
        memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
        return;
    }
    slot = &machine->slots[number];
    if (handle_interrupt_register(slot->dev, offset, run)) {
        return;
    }
    (void)pthread_mutex_lock(&slot->lock);
    if (!run->mmio.is_write) {
        vmm_mmio_read(slot->dev, offset, run->mmio.data, run->mmio.len);
    } else if (vmm_mmio_write(slot->dev, offset, run->mmio.data, run->mmio.len) > 0) {
        vmm_slot_kick_all(slot); /* a doorbell before DRIVER_OK was ignored */
    }
    (void)pthread_mutex_unlock(&slot->lock);
}

static void handle_exit(struct vmm_machine *machine, struct vmm_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        count(&vcpu->stats.io);
        handle_io(machine, run);
        break;
    case KVM_EXIT_MMIO:
        count(&vcpu->stats.mmio);
        handle_mmio(machine, run);
        break;
    case KVM_EXIT_HLT:
        count(&vcpu->stats.hlt);
        break;
    case KVM_EXIT_SHUTDOWN:
        vmm_outcome_set(machine->outcome, VMM_REASON_PANIC,
                        "the guest CPU stopped with a triple fault");
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        end_by_guest(machine, "the guest switched itself off");
        break;
    case KVM_EXIT_FAIL_ENTRY:
        vmm_outcome_set(machine->outcome, VMM_REASON_HOST_ERROR,
                        "KVM could not enter the guest (hardware reason 0x%llx)",
                        (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        vmm_outcome_set(machine->outcome, VMM_REASON_GUEST_ERROR,
                        "the guest did what KVM cannot carry out (suberror %u)",
                        run->internal.suberror);
        break;
    default:
        count(&vcpu->stats.other);
        break;
    }
}

/* Into the guest once, and what it left for. False: called back by a signal. */
static bool run_once(struct vmm_machine *machine, struct vmm_vcpu *vcpu)
{
    /* Not vmm_ioctl: EINTR is how this thread is called back. */
    int r = vmm_kvm_run(vcpu->fd);

    if (r == 0) {
        handle_exit(machine, vcpu);
        return true;
    }
    if (r != -EINTR && r != -EAGAIN) {
        vmm_outcome_set(machine->outcome, VMM_REASON_HOST_ERROR, "KVM cannot run the guest: %s",
                        shl_err_text(r));
    }
    return false;
}

/* The instruction that left the guest is finished by the next KVM_RUN; until then the
 * registers are not what they seem. immediate_exit brings it back before the next one. An
 * access in several parts leaves once more for each. */
static void finish_exit(struct vmm_machine *machine, struct vmm_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    while (!vmm_outcome_ended(machine->outcome) && run_once(machine, vcpu)) {
    }
}

void vmm_vcpu_run(struct vmm_machine *machine, struct vmm_vcpu *vcpu)
{
    bool entered = false;

    while (!vmm_outcome_ended(machine->outcome)) {
        if (!__atomic_load_n(&machine->pausing, __ATOMIC_SEQ_CST)) {
            (void)run_once(machine, vcpu);
            entered = true;
            continue;
        }
        if (entered) {
            finish_exit(machine, vcpu);
        }
        if (!vmm_outcome_ended(machine->outcome)) {
            vmm_machine_park(machine);
        }
    }
}
