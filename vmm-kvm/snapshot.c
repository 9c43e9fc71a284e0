#include "vmm-kvm/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "vmm-kvm/cpu_match.h"
#include "vmm-kvm/cpuid.h"
#include "vmm-kvm/devices.h"
#include "vmm-kvm/mem_save.h"
#include "vmm-kvm/vcpu_state.h"

/* ---- saving ---- */

/* Devices first: what they finish raises interrupts, which are KVM's state. */
static int capture(struct vmm_machine *machine, struct vmm_state *state, struct shl_err *err)
{
    const struct vmm_config *config = &machine->config;
    unsigned i;
    int r = vmm_devices_save(machine, state, err);

    state->shape = (struct vmm_shape){
        .vcpus = machine->vcpu_count,
        .memory_bytes = config->memory_bytes,
        .hotplug_max_bytes = config->hotplug_max_bytes,
        .hotplug_bytes = config->hotplug_bytes,
        .disk_bytes = config->disk_bytes,
    };
    for (i = 0; r == 0 && i < machine->vcpu_count; i++) {
        r = vmm_vcpu_save(&machine->vcpus[i], &machine->kvm, &state->vcpus[i], err);
    }
    if (r == 0) {
        int khz = vmm_vcpu_get_tsc_khz(&machine->vcpus[0]);

        state->shape.tsc_khz = khz > 0 ? (uint64_t)khz : 0; /* 0: KVM does not know */
        r = vmm_kvm_save_chips(&machine->kvm, &state->chips, err);
    }
    return r;
}

static int save_state(struct vmm_machine *machine, int fd, uint64_t *ret_bytes, struct shl_err *err)
{
    SHL_CLEANUP_FREE struct vmm_state *state = calloc(1, sizeof(*state));
    struct shl_buf buf;
    int r;

    if (!state) {
        return shl_err_set(err, -ENOMEM, "there is no memory for the state of the VM");
    }
    r = capture(machine, state, err);
    if (r < 0) {
        return r;
    }
    shl_buf_init(&buf, VMM_STATE_MAX_BYTES);
    r = vmm_state_encode(state, &buf);
    if (r == 0) {
        r = shl_pwrite_full(fd, shl_buf_data(&buf), shl_buf_len(&buf), 0);
    }
    *ret_bytes = shl_buf_len(&buf);
    shl_buf_release(&buf);
    return r < 0 ? shl_err_set(err, r, "cannot write the state of the VM: %s", shl_err_text(r)) : 0;
}

static int seal(struct vmm_machine *machine,
                struct vmm_snapshot_config *snapshot,
                struct shl_err *err)
{
    struct vmm_config *config = &machine->config;
    unsigned count = vmm_config_count_fds(config->layer_fds, VMM_DISK_LAYERS_MAX);
    int r;

    if (snapshot->overlay_fd < 0) {
        r = vmm_overlay_complete(&machine->overlay);
        return r < 0 ? shl_err_sys(err, -r, "cannot complete the overlay") : 0;
    }
    if (count == VMM_DISK_LAYERS_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "the disk has %u layers already: merge them first",
                           count);
    }
    r = vmm_overlay_seal(&machine->overlay, snapshot->overlay_fd, err);
    if (r == 0) {
        config->layer_fds[count] = config->overlay_fd;
        config->overlay_fd = shl_steal_fd(&snapshot->overlay_fd);
    }
    return r;
}

static int save_all(struct vmm_machine *machine,
                    struct vmm_snapshot_config *snapshot,
                    struct vmm_snapshot_result *ret,
                    struct shl_err *err)
{
    struct vmm_mem_save_stats stats = {0};
    int r = 0;

    if (!snapshot->disk_only) {
        r = save_state(machine, snapshot->state_fd, &ret->state_bytes, err);
        if (r == 0) {
            r = vmm_mem_save(&machine->mem, machine->pagemap_fd, snapshot->mem_fd, &stats, err);
        }
        ret->dirty_pages = stats.dirty_pages;
        ret->mem_bytes = stats.written_bytes;
    }
    return r == 0 ? seal(machine, snapshot, err) : r;
}

static int check_empty(int fd, struct shl_err *err)
{
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at a file of the snapshot");
    }
    return fd < 0 || st.st_size == 0
               ? 0
               : shl_err_set(err, SHL_EINVALIDARG, "the files of a snapshot must be empty");
}

int vmm_machine_snapshot(struct vmm_machine *machine,
                         struct vmm_snapshot_config *config,
                         struct vmm_snapshot_result *ret,
                         struct shl_err *err)
{
    bool was_paused = machine->paused;
    uint64_t begin;
    int r = check_empty(config->state_fd, err);

    memset(ret, 0, sizeof(*ret));
    if (r == 0) {
        r = check_empty(config->mem_fd, err);
    }
    if (r == 0) {
        /* While the guest runs: what the seal leaves to be synced is then little. */
        int flushed = vmm_overlay_flush(&machine->overlay);

        r = flushed < 0 ? shl_err_sys(err, -flushed, "cannot flush the disk") : 0;
    }
    begin = shl_monotonic_us();
    if (r == 0) {
        r = vmm_machine_pause(machine, err);
    }
    if (r < 0) {
        return r;
    }
    r = save_all(machine, config, ret, err);
    (void)vmm_machine_keep_deadline(machine); /* it may have come meanwhile */
    if (!was_paused && !machine->deadline.struck && (r < 0 || !config->keep_paused)) {
        vmm_machine_resume(machine);
    }
    ret->pause_us = shl_monotonic_us() - begin;
    return r;
}

int vmm_machine_set_layers(struct vmm_machine *machine,
                           const int *fds,
                           unsigned count,
                           struct shl_err *err)
{
    struct vmm_config *config = &machine->config;
    unsigned i;
    int r = vmm_overlay_set_layers(&machine->overlay, fds, count, err);

    if (r < 0) {
        return r;
    }
    for (i = 0; i < VMM_DISK_LAYERS_MAX; i++) {
        if (config->layer_fds[i] >= 0) {
            (void)close(config->layer_fds[i]);
        }
        config->layer_fds[i] = i < count ? fds[i] : -1;
    }
    return 0;
}

/* ---- restoring ---- */

static int read_state(int fd, struct vmm_state *state, struct shl_err *err)
{
    struct shl_buf buf;
    struct stat st;
    uint8_t *space;
    int r;

    if (fstat(fd, &st) < 0) {
        return shl_err_sys(err, errno, "cannot look at the VM state");
    }
    if (st.st_size <= 0 || st.st_size > (off_t)VMM_STATE_MAX_BYTES) {
        return shl_err_set(err, SHL_ECORRUPT, "the VM state file has an impossible size");
    }
    shl_buf_init(&buf, VMM_STATE_MAX_BYTES);
    r = shl_buf_reserve(&buf, (size_t)st.st_size, &space);
    if (r == 0) {
        r = shl_pread_full(fd, space, (size_t)st.st_size, 0);
    }
    if (r < 0) {
        (void)shl_err_set(err, r, "cannot read the VM state: %s", shl_err_text(r));
    } else {
        shl_buf_commit(&buf, (size_t)st.st_size);
        r = vmm_state_decode(shl_buf_bytes(&buf), state, err);
    }
    shl_buf_release(&buf);
    return r;
}

/* The machine is what was saved, but for what may have grown. */
static int adopt_shape(struct vmm_machine *machine,
                       const struct vmm_shape *shape,
                       struct shl_err *err)
{
    struct vmm_config *config = &machine->config;

    if (config->hotplug_bytes > shape->hotplug_max_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the saved VM can have at most %llu MiB plugged in",
                           (unsigned long long)(shape->hotplug_max_bytes / VMM_MIB));
    }
    if (config->disk_bytes < shape->disk_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the disk of the saved VM has %llu bytes and cannot become smaller",
                           (unsigned long long)shape->disk_bytes);
    }
    config->vcpus = (unsigned)shape->vcpus;
    config->memory_bytes = shape->memory_bytes;
    config->hotplug_max_bytes = shape->hotplug_max_bytes;
    config->hotplug_bytes = SHL_MAX(config->hotplug_bytes, shape->hotplug_bytes);
    machine->vcpu_count = config->vcpus;
    return 0;
}

static int check_cpus(const struct vmm_machine *machine,
                      const struct vmm_state *state,
                      struct shl_err *err)
{
    unsigned i;
    int r = 0;

    for (i = 0; r == 0 && i < machine->vcpu_count; i++) {
        struct vmm_cpuid ours = machine->kvm.supported;

        r = vmm_cpuid_shape(&ours, i, machine->vcpu_count);
        r = r < 0 ? shl_err_set(err, r, "this machine's CPU has too many features")
                  : vmm_cpu_match(&state->vcpus[i].cpuid, &ours, err);
    }
    return r;
}

/* All CPUs are created before any gets its state: interrupts of one may name another. */
static int restore_cpus(struct vmm_machine *machine, struct vmm_state *state, struct shl_err *err)
{
    struct vmm_kvm *kvm = &machine->kvm;
    unsigned i;
    int r = 0;

    for (i = 0; r == 0 && i < machine->vcpu_count; i++) {
        r = vmm_vcpu_create(&machine->vcpus[i], kvm, i, &state->vcpus[i].cpuid, err);
        machine->vcpus[i].owner = machine;
    }
    for (i = 0; r == 0 && i < machine->vcpu_count; i++) {
        r = vmm_vcpu_match_tsc(&machine->vcpus[i], kvm, state->shape.tsc_khz, err);
    }
    for (i = 0; r == 0 && i < machine->vcpu_count; i++) {
        r = vmm_vcpu_restore(&machine->vcpus[i], kvm, &state->vcpus[i], err);
    }
    return r == 0 ? vmm_kvm_restore_chips(kvm, &state->chips, err) : r;
}

static int restore_memory(struct vmm_machine *machine, struct shl_err *err)
{
    const struct vmm_config *config = &machine->config;
    int r = vmm_mem_init_restored(&machine->mem, config->memory_bytes, config->hotplug_max_bytes,
                                  config->hotplug_bytes, config->mem_base_fd, config->mem_fds,
                                  vmm_config_count_fds(config->mem_fds, VMM_MEM_LAYERS_MAX), err);

    return r == 0 && config->working_set_fd >= 0
               ? vmm_mem_populate(&machine->mem, config->working_set_fd, err)
               : r;
}

/* Memory before CPUs: restoring the clock registers touches it. Devices after the
 * interrupt controllers, whose restored state would hide an interrupt raised before. */
int vmm_machine_build_restored(struct vmm_machine *machine,
                               struct vmm_loop *loop,
                               struct vmm_outcome *outcome,
                               int agent_listen_fd,
                               struct shl_err *err)
{
    SHL_CLEANUP_FREE struct vmm_state *state = malloc(sizeof(*state));
    int r;

    vmm_machine_prepare(machine, loop, outcome);
    if (!state) {
        return shl_err_set(err, -ENOMEM, "there is no memory for the state of the VM");
    }
    r = read_state(machine->config.state_fd, state, err);
    if (r == 0) {
        r = adopt_shape(machine, &state->shape, err);
    }
    if (r == 0) {
        r = vmm_devices_check(machine, state, err);
    }
    if (r == 0) {
        r = check_cpus(machine, state, err);
    }
    if (r == 0) {
        r = restore_memory(machine, err);
    }
    if (r == 0) {
        r = vmm_kvm_add_memory(&machine->kvm, &machine->mem, err);
    }
    if (r == 0) {
        r = restore_cpus(machine, state, err);
    }
    if (r == 0) {
        r = vmm_devices_build(machine, agent_listen_fd, err);
    }
    if (r == 0) {
        r = vmm_devices_restore(machine, state, err);
    }
    machine->asleep = true;
    return r;
}
