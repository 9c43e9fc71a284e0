#include "vmm-kvm/devices.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "base/id.h"
#include "vmm-kvm/device_state.h"
#include "vmm-kvm/machine.h"

/* ---- building ---- */

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
    unsigned layers = vmm_config_count_fds(config->layer_fds, VMM_DISK_LAYERS_MAX);
    struct vmm_slot *slot = add_slot(machine, err);
    struct vmm_disk disk;
    int r;

    if (!slot) {
        return err->code;
    }
    r = vmm_overlay_open(&machine->overlay, config->overlay_fd, config->base_fd, config->disk_bytes,
                         err);
    if (r == 0 && layers > 0) {
        r = vmm_overlay_set_layers(&machine->overlay, config->layer_fds, layers, err);
    }
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

int vmm_devices_build(struct vmm_machine *machine, int agent_listen_fd, struct shl_err *err)
{
    int r = build_serial(machine, err);

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
    return r;
}

void vmm_devices_release(struct vmm_machine *machine)
{
    unsigned i;

    vmm_agent_socket_release(&machine->agent);
    vmm_tap_release(&machine->tap);
    for (i = 0; i < machine->slot_count; i++) {
        vmm_slot_release(&machine->slots[i]);
    }
    vmm_overlay_release(&machine->overlay);
    if (machine->serial_irq_fd > 0) {
        (void)close(machine->serial_irq_fd);
    }
}

/* ---- saving ---- */

static int save_model(struct vmm_machine *machine, uint32_t device_id, struct shl_buf *buf)
{
    switch (device_id) {
    case VMM_VIRTIO_ID_BLOCK:
        return vmm_blk_save(&machine->blk, buf);
    case VMM_VIRTIO_ID_CONSOLE:
        return vmm_console_save(&machine->console, buf);
    case VMM_VIRTIO_ID_BALLOON:
        return vmm_balloon_save(&machine->balloon, buf);
    case VMM_VIRTIO_ID_MEM:
        return vmm_hotplug_save(&machine->hotplug, buf);
    default: /* network and rng have nothing but the transport: a frame that waits for
              * buffers was not given to the guest and belongs to this process */
        return 0;
    }
}

static int save_device(struct vmm_machine *machine,
                       struct vmm_virtio *dev,
                       struct vmm_device_state *ret,
                       struct shl_buf *buf)
{
    int r;

    ret->device_id = dev->ops->device_id;
    shl_buf_clear(buf);
    r = vmm_transport_save(dev, buf);
    if (r < 0 || shl_buf_len(buf) > sizeof(ret->transport)) {
        return r < 0 ? r : SHL_ELIMIT;
    }
    ret->transport_bytes = (uint32_t)shl_buf_len(buf);
    memcpy(ret->transport, shl_buf_data(buf), shl_buf_len(buf));
    shl_buf_clear(buf);
    r = save_model(machine, ret->device_id, buf);
    if (r < 0 || shl_buf_len(buf) > sizeof(ret->model)) {
        return r < 0 ? r : SHL_ELIMIT;
    }
    ret->model_bytes = (uint32_t)shl_buf_len(buf);
    if (ret->model_bytes > 0) {
        memcpy(ret->model, shl_buf_data(buf), ret->model_bytes);
    }
    return 0;
}

int vmm_devices_save(struct vmm_machine *machine, struct vmm_state *state, struct shl_err *err)
{
    struct shl_buf buf;
    unsigned i;
    int r = 0;

    shl_buf_init(&buf, VMM_STATE_MAX_BYTES);
    vmm_serial_save(&machine->serial, state->serial);
    state->device_count = machine->slot_count;
    for (i = 0; r == 0 && i < machine->slot_count; i++) {
        r = save_device(machine, machine->slots[i].dev, &state->devices[i], &buf);
    }
    shl_buf_release(&buf);
    return r < 0 ? shl_err_set(err, r, "cannot save the devices: %s", shl_err_text(r)) : 0;
}

/* ---- restoring ---- */

int vmm_devices_check(const struct vmm_machine *machine,
                      const struct vmm_state *state,
                      struct shl_err *err)
{
    static const uint32_t order[] = {VMM_VIRTIO_ID_BLOCK,   VMM_VIRTIO_ID_NET,
                                     VMM_VIRTIO_ID_CONSOLE, VMM_VIRTIO_ID_RNG,
                                     VMM_VIRTIO_ID_BALLOON, VMM_VIRTIO_ID_MEM};
    bool has_net = state->device_count > 1 && state->devices[1].device_id == VMM_VIRTIO_ID_NET;
    bool has_mem = state->shape.hotplug_max_bytes > 0;
    uint32_t at = 0;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(order); i++) {
        if ((order[i] == VMM_VIRTIO_ID_NET && !has_net) ||
            (order[i] == VMM_VIRTIO_ID_MEM && !has_mem)) {
            continue;
        }
        if (at >= state->device_count || state->devices[at].device_id != order[i]) {
            break;
        }
        at++;
    }
    if (i < SHL_ARRAY_SIZE(order) || at != state->device_count) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the VM state file is damaged: there is no machine with such devices");
    }
    if (has_net != (machine->config.tap_fd >= 0)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           has_net ? "the saved VM has a network device: give tap and mac"
                                   : "the saved VM has no network device: give no tap");
    }
    return 0;
}

static int restore_model(struct vmm_machine *machine,
                         const struct vmm_device_state *state,
                         struct shl_err *err)
{
    struct shl_bytes bytes = shl_bytes_of(state->model, state->model_bytes);
    int r;

    switch (state->device_id) {
    case VMM_VIRTIO_ID_BLOCK:
        return vmm_blk_restore(&machine->blk, bytes, err);
    case VMM_VIRTIO_ID_MEM:
        return vmm_hotplug_restore(&machine->hotplug, bytes, err);
    case VMM_VIRTIO_ID_CONSOLE:
        r = vmm_console_restore(&machine->console, bytes);
        break;
    case VMM_VIRTIO_ID_BALLOON:
        r = vmm_balloon_restore(&machine->balloon, bytes);
        break;
    default:
        r = bytes.len == 0 ? 0 : SHL_ECORRUPT;
        break;
    }
    return r < 0 ? shl_err_set(err, r, "the saved state of device %u is damaged", state->device_id)
                 : 0;
}

int vmm_devices_restore(struct vmm_machine *machine,
                        const struct vmm_state *state,
                        struct shl_err *err)
{
    unsigned i;
    int r = vmm_serial_restore(&machine->serial, state->serial);

    if (r < 0) {
        return shl_err_set(err, r, "the saved state of the serial port is damaged");
    }
    for (i = 0; r == 0 && i < machine->slot_count; i++) {
        const struct vmm_device_state *saved = &state->devices[i];

        r = vmm_transport_restore(machine->slots[i].dev,
                                  shl_bytes_of(saved->transport, saved->transport_bytes), err);
        if (r == 0) {
            r = restore_model(machine, saved, err);
        }
    }
    return r;
}

void vmm_devices_wake(struct vmm_machine *machine)
{
    unsigned i;

    (void)pthread_mutex_lock(&machine->serial_lock);
    vmm_serial_resume(&machine->serial);
    (void)pthread_mutex_unlock(&machine->serial_lock);
    for (i = 0; i < machine->slot_count; i++) {
        struct vmm_slot *slot = &machine->slots[i];

        (void)pthread_mutex_lock(&slot->lock);
        if (slot->dev == &machine->blk.dev) {
            vmm_blk_grow(&machine->blk, machine->config.disk_bytes);
        } else if (slot->dev == &machine->hotplug.dev) {
            vmm_hotplug_grow(&machine->hotplug, machine->config.hotplug_bytes);
        } else if (slot->dev == &machine->console.dev) {
            vmm_slot_check(slot, vmm_console_wake(&machine->console));
        }
        /* An interrupt between the device and the APIC is in no state: raise it again. One
         * too many is one look at a register for the driver. */
        if (vmm_mmio_interrupt_status(slot->dev) != 0) {
            slot->dev->irq.raise(slot->dev->irq.ctx);
        }
        vmm_slot_kick_all(slot);
        (void)pthread_mutex_unlock(&slot->lock);
    }
}
