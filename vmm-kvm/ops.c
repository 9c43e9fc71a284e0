#include "vmm-kvm/ops.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/process.h"
#include "vmm-kvm/snapshot.h"

static int start(struct vmm_process *process,
                 const struct vmm_request *request,
                 const msgpack_object *map,
                 int *fds,
                 unsigned fd_count,
                 struct shl_mp_writer *reply,
                 struct shl_err *err)
{
    struct vmm_config *config = &process->machine.config;
    uint64_t begin = shl_monotonic_us();
    int r;

    if (process->start_tried) {
        return shl_err_set(err, SHL_EBADSTATE, "this process has started its VM already");
    }
    r = request->op == VMM_OP_START ? vmm_request_decode_start(map, fds, fd_count, config, err)
                                    : vmm_request_decode_restore(map, fds, fd_count, config, err);
    r = r < 0 ? vmm_process_fail(process, r, err) : vmm_process_start(process, err);
    if (r == 0 && request->op == VMM_OP_RESTORE) {
        shl_mp_kv_uint(reply, "vcpus", config->vcpus);
        shl_mp_kv_uint(reply, "memory_bytes", config->memory_bytes);
        shl_mp_kv_uint(reply, "hotplug_bytes", config->hotplug_bytes);
        shl_mp_kv_uint(reply, "load_us", shl_monotonic_us() - begin);
    }
    return r;
}

static int check_running(const struct vmm_process *process, struct shl_err *err)
{
    return process->running ? 0 : shl_err_set(err, SHL_EBADSTATE, "there is no VM yet");
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

static int snapshot(struct vmm_process *process,
                    const msgpack_object *map,
                    int *fds,
                    unsigned fd_count,
                    struct shl_mp_writer *reply,
                    struct shl_err *err)
{
    struct vmm_snapshot_result result;
    struct vmm_snapshot_config config;
    int r = vmm_request_decode_snapshot(map, fds, fd_count, &config, err);

    if (r == 0) {
        r = vmm_machine_snapshot(&process->machine, &config, &result, err);
    }
    close_fd(config.state_fd);
    close_fd(config.mem_fd);
    close_fd(config.overlay_fd);
    if (r == 0) {
        shl_mp_kv_uint(reply, "pause_us", result.pause_us);
        shl_mp_kv_uint(reply, "dirty_pages", result.dirty_pages);
        shl_mp_kv_uint(reply, "mem_bytes", result.mem_bytes);
        shl_mp_kv_uint(reply, "state_bytes", result.state_bytes);
    }
    return r;
}

static int layers(struct vmm_process *process,
                  const msgpack_object *map,
                  int *fds,
                  unsigned fd_count,
                  struct shl_err *err)
{
    unsigned i;
    int r = vmm_request_decode_layers(map, fd_count, err);

    if (r == 0) {
        r = vmm_machine_set_layers(&process->machine, fds, fd_count, err);
    }
    for (i = 0; r == 0 && i < fd_count; i++) {
        fds[i] = -1; /* the machine's now */
    }
    return r;
}

/* What needs a VM. */
static int on_machine(struct vmm_process *process,
                      const struct vmm_request *request,
                      const msgpack_object *map,
                      int *fds,
                      unsigned fd_count,
                      struct shl_mp_writer *reply,
                      struct shl_err *err)
{
    int r = check_running(process, err);

    if (r < 0) {
        return r;
    }
    switch (request->op) {
    case VMM_OP_PAUSE:
        return vmm_machine_pause(&process->machine, err);
    case VMM_OP_RESUME:
        return vmm_machine_go_on(&process->machine, err);
    case VMM_OP_DEADLINE:
        vmm_process_set_deadline(process, request->at_ms);
        shl_mp_kv_bool(reply, "struck", process->machine.deadline.struck);
        return 0;
    case VMM_OP_SNAPSHOT:
        return snapshot(process, map, fds, fd_count, reply, err);
    case VMM_OP_LAYERS:
        return layers(process, map, fds, fd_count, err);
    case VMM_OP_START:
    case VMM_OP_RESTORE:
    case VMM_OP_STOP:
    case VMM_OP_STATUS:
    case VMM_OP_STATS:
        break;
    }
    return SHL_EINVALIDARG;
}

int vmm_process_request(void *ctx,
                        const struct vmm_request *request,
                        const msgpack_object *map,
                        int *fds,
                        unsigned fd_count,
                        struct shl_mp_writer *reply,
                        struct shl_err *err)
{
    struct vmm_process *process = ctx;
    struct vmm_status status;

    switch (request->op) {
    case VMM_OP_START:
    case VMM_OP_RESTORE:
        return start(process, request, map, fds, fd_count, reply, err);
    case VMM_OP_STOP:
        return 0;
    case VMM_OP_STATUS:
        status = vmm_process_status(process);
        vmm_status_write(reply, &status);
        return 0;
    case VMM_OP_STATS:
        vmm_stats_write(reply, &process->machine, process->statm_fd);
        return 0;
    case VMM_OP_PAUSE:
    case VMM_OP_RESUME:
    case VMM_OP_SNAPSHOT:
    case VMM_OP_LAYERS:
    case VMM_OP_DEADLINE:
        return on_machine(process, request, map, fds, fd_count, reply, err);
    }
    return SHL_EINVALIDARG;
}

static void arm_grace(struct vmm_process *process, uint64_t grace_ms)
{
    const struct itimerspec after = {
        .it_value = {.tv_sec = (time_t)(grace_ms / 1000),
                     .tv_nsec = (long)(grace_ms % 1000) * 1000000},
    };

    (void)timerfd_settime(process->grace_fd, 0, &after, NULL);
}

/* Ending and events come after the reply, so that the client sees them in that order. */
void vmm_process_replied(void *ctx, const struct vmm_request *request, int code)
{
    struct vmm_process *process = ctx;
    bool paused = process->machine.paused;

    if (request->op == VMM_OP_STOP && request->grace_ms == 0) {
        vmm_outcome_set(&process->outcome, VMM_REASON_STOPPED, "stopped on request");
    } else if (request->op == VMM_OP_STOP) {
        arm_grace(process, request->grace_ms);
    } else if (process->running && paused != process->told_paused) {
        process->told_paused = paused;
        vmm_process_announce(process);
    } else if ((request->op == VMM_OP_START || request->op == VMM_OP_RESTORE) && code == 0) {
        process->told_paused = paused;
        vmm_process_announce(process);
    }
}
