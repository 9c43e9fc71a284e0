#include "vmm-kvm/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/ops.h"
#include "vmm-kvm/seccomp.h"
#include "vmm-kvm/snapshot.h"

#define BACKLOG       8
#define EXIT_TEMP     VMM_EXIT_FILE ".tmp"
#define EXIT_FILE_MAX 4096u

static void on_kick(int number)
{
    (void)number; /* only there to interrupt KVM_RUN */
}

/* ---- status ---- */

struct vmm_status vmm_process_status(struct vmm_process *process)
{
    struct vmm_machine *machine = &process->machine;
    bool ended = vmm_outcome_ended(&process->outcome);

    return (struct vmm_status){
        .state = ended               ? VMM_STATE_ENDED
                 : !process->running ? VMM_STATE_CREATED
                 : machine->paused   ? VMM_STATE_PAUSED
                                     : VMM_STATE_RUNNING,
        .reason = ended ? process->outcome.reason : NULL,
        .detail = ended ? process->outcome.detail : NULL,
        .vcpus = machine->config.vcpus,
        .memory_bytes = machine->config.memory_bytes,
        .hotplug_max_bytes = machine->config.hotplug_max_bytes,
        .hotplug_bytes = machine->config.hotplug_bytes,
        .hotplug_plugged_bytes = machine->hotplug.plugged_bytes,
        .uptime_ms = process->running ? shl_monotonic_ms() - machine->started_at_ms : 0,
        .agent_connected = machine->console.guest_open,
        .deadline_ms = machine->deadline.at_ms,
        .deadline_struck = machine->deadline.struck,
    };
}

/* {event?, ...status} in a fresh buffer; empty when memory is out. */
static void encode_status(struct vmm_process *process, const char *event, struct shl_buf *out)
{
    const struct vmm_status status = vmm_process_status(process);
    struct shl_mp_writer w;

    shl_buf_init(out, EXIT_FILE_MAX);
    shl_mp_writer_init(&w, out);
    shl_mp_map(&w);
    if (event) {
        shl_mp_kv_str(&w, "event", event);
    }
    vmm_status_write(&w, &status);
    shl_mp_end(&w);
    if (shl_mp_done(&w) < 0) {
        shl_buf_clear(out);
    }
}

void vmm_process_announce(struct vmm_process *process)
{
    struct shl_buf body;

    encode_status(process, "state", &body);
    if (shl_buf_len(&body) > 0) {
        vmm_server_broadcast(&process->server, shl_buf_bytes(&body));
    }
    shl_buf_release(&body);
}

static void write_exit_file(struct vmm_process *process)
{
    struct shl_buf body;

    encode_status(process, NULL, &body);
    if (shl_pwrite_full(process->exit_fd, shl_buf_data(&body), shl_buf_len(&body), 0) == 0) {
        (void)rename(EXIT_TEMP, VMM_EXIT_FILE);
    }
    shl_buf_release(&body);
}

/* What the handler of a blocked system call leaves behind. */
static int prepare_report(struct vmm_process *process)
{
    static const char detail[] = "system call 000 of the VMM was blocked";
    const struct vmm_status status = {
        .state = VMM_STATE_ENDED,
        .reason = VMM_REASON_HOST_ERROR,
        .detail = detail,
        .vcpus = process->machine.config.vcpus,
        .memory_bytes = process->machine.config.memory_bytes,
    };
    struct shl_mp_writer w;
    struct shl_buf body;
    const uint8_t *at;
    int r;

    shl_buf_init(&body, EXIT_FILE_MAX);
    shl_mp_writer_init(&w, &body);
    shl_mp_map(&w);
    vmm_status_write(&w, &status);
    shl_mp_end(&w);
    r = shl_mp_done(&w);
    if (r == 0) {
        at = memmem(shl_buf_data(&body), shl_buf_len(&body), "000", 3);
        r = vmm_seccomp_report(process->exit_fd, shl_buf_bytes(&body),
                               (size_t)(at - shl_buf_data(&body)), EXIT_TEMP, VMM_EXIT_FILE);
    }
    shl_buf_release(&body);
    return r;
}

/* ---- the deadline ---- */

static void arm_deadline(struct vmm_process *process)
{
    uint64_t at_ms = process->machine.deadline.at_ms;
    const struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000},
    };

    (void)timerfd_settime(process->deadline_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void keep_deadline(struct vmm_process *process)
{
    if (process->running && vmm_machine_keep_deadline(&process->machine)) {
        process->told_paused = true;
        vmm_process_announce(process);
    }
}

void vmm_process_set_deadline(struct vmm_process *process, uint64_t at_ms)
{
    keep_deadline(process); /* the present one comes first */
    vmm_deadline_set(&process->machine.deadline, at_ms);
    arm_deadline(process);
    keep_deadline(process); /* it may have passed on its way here */
}

/* The timer only wakes the loop. It is looked at before each event, since the loop may come
 * back late from a slow disk, and then nothing that waited may be done first. */
static void on_before_event(struct vmm_loop *loop)
{
    keep_deadline(shl_container_of(loop, struct vmm_process, loop));
}

static void on_deadline(struct vmm_watch *watch, uint32_t events)
{
    uint64_t count;
    ssize_t n = read(watch->fd, &count, sizeof(count));

    (void)events;
    (void)n; /* there is nothing more to it */
}

/* ---- starting ---- */

int vmm_process_fail(struct vmm_process *process, int code, const struct shl_err *err)
{
    process->start_tried = true;
    vmm_outcome_set(&process->outcome, VMM_REASON_HOST_ERROR, "the VM could not be started: %s",
                    err->msg);
    return code;
}

int vmm_process_start(struct vmm_process *process, struct shl_err *err)
{
    struct vmm_machine *machine = &process->machine;
    int r;

    process->start_tried = true;
    if (process->kvm_code < 0) {
        *err = process->kvm_err;
        return vmm_process_fail(process, process->kvm_code, err);
    }
    r = machine->config.restoring
            ? vmm_machine_build_restored(machine, &process->loop, &process->outcome,
                                         process->agent_fd, err)
            : vmm_machine_build(machine, &process->loop, &process->outcome, process->agent_fd, err);
    vmm_config_close_sources(&machine->config);
    if (r == 0) {
        machine->thread_init = process->jail.enabled ? vmm_seccomp_vcpu : NULL;
        r = vmm_machine_start_threads(machine, err);
    }
    if (r == 0 && process->jail.enabled) {
        r = prepare_report(process);
    }
    if (r == 0 && process->jail.enabled) {
        r = vmm_seccomp_io(err);
    }
    if (r < 0) {
        return vmm_process_fail(process, r, err);
    }
    vmm_machine_run(machine);
    arm_deadline(process);
    process->running = true;
    return 0;
}

/* ---- events ---- */

static void on_outcome(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_process *process = shl_container_of(watch, struct vmm_process, outcome_watch);

    (void)events;
    process->loop.stopping = true;
}

static void on_signal(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_process *process = shl_container_of(watch, struct vmm_process, signal_watch);

    (void)events;
    vmm_outcome_set(&process->outcome, VMM_REASON_STOPPED, "stopped by a signal");
}

static void on_grace(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_process *process = shl_container_of(watch, struct vmm_process, grace_watch);

    (void)events;
    vmm_outcome_set(&process->outcome, VMM_REASON_STOPPED,
                    "stopped on request, after the time for an orderly shutdown");
}

/* ---- set-up ---- */

static int listen_on(const char *name, int *ret_fd, struct shl_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
    (void)unlink(name);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        chmod(name, 0600) < 0 || listen(fd, BACKLOG) < 0) {
        int errnum = errno;

        if (fd >= 0) {
            (void)close(fd);
        }
        return shl_err_sys(err, errnum, "cannot listen on %s", name);
    }
    *ret_fd = fd;
    return 0;
}

static int open_files(struct vmm_process *process, struct shl_err *err)
{
    int r;

    if (chdir(process->dir) < 0) {
        return shl_err_sys(err, errno, "cannot go to the sandbox's folder %s", process->dir);
    }
    (void)unlink(VMM_EXIT_FILE);
    process->exit_fd = open(EXIT_TEMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (process->exit_fd < 0) {
        return shl_err_sys(err, errno, "cannot write to the sandbox's folder %s", process->dir);
    }
    process->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    /* Without it there are no snapshots, and those say so. */
    process->machine.pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    r = listen_on(VMM_CONTROL_SOCKET, &process->control_fd, err);
    if (r == 0) {
        r = listen_on(VMM_AGENT_SOCKET, &process->agent_fd, err);
    }
    return r;
}

/* Signals come as events of the loop; every thread inherits the mask. */
static int open_signals(struct vmm_process *process)
{
    struct sigaction kick = {.sa_handler = on_kick};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || sigaction(VMM_KICK_SIGNAL, &kick, NULL) < 0 ||
        sigaction(SIGPIPE, &ignore, NULL) < 0) {
        return -errno;
    }
    process->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    process->grace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    process->deadline_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return process->signal_fd < 0 || process->grace_fd < 0 || process->deadline_fd < 0 ? -errno : 0;
}

static int watch_all(struct vmm_process *process)
{
    int r = vmm_loop_add(&process->loop, &process->outcome_watch, process->outcome.event_fd,
                         EPOLLIN, on_outcome);

    if (r == 0) {
        r = vmm_loop_add(&process->loop, &process->signal_watch, process->signal_fd, EPOLLIN,
                         on_signal);
    }
    if (r == 0) {
        r = vmm_loop_add(&process->loop, &process->grace_watch, process->grace_fd, EPOLLIN,
                         on_grace);
    }
    if (r == 0) {
        r = vmm_loop_add(&process->loop, &process->deadline_watch, process->deadline_fd, EPOLLIN,
                         on_deadline);
    }
    return r == 0 ? vmm_server_init(&process->server, &process->loop, process->control_fd) : r;
}

int vmm_process_open(struct vmm_process *process, struct shl_err *err)
{
    int r = open_files(process, err);

    if (r < 0) {
        return r;
    }
    process->kvm_code = vmm_kvm_open(&process->machine.kvm, &process->kvm_err);
    process->server.on_request = vmm_process_request;
    process->server.after_request = vmm_process_replied;
    process->server.ctx = process;
    r = vmm_loop_init(&process->loop);
    process->loop.before_event = on_before_event;
    if (r == 0) {
        r = vmm_outcome_init(&process->outcome);
    }
    if (r == 0) {
        r = open_signals(process);
    }
    if (r == 0) {
        r = watch_all(process);
    }
    if (r < 0) {
        return shl_err_sys(err, -r, "cannot set up the event loop");
    }
    r = vmm_jail_enter(&process->jail, err);
    if (r == 0 && process->jail.enabled) {
        r = vmm_seccomp_prepare(err);
    }
    /* In the cgroup by now, which then also has the kernel threads of the VM. The caller is
     * busy opening files meanwhile. */
    if (r == 0 && process->kvm_code == 0) {
        process->kvm_code = vmm_kvm_create_vm(&process->machine.kvm, &process->kvm_err);
    }
    return r;
}

int vmm_process_serve(struct vmm_process *process)
{
    int r = vmm_loop_run(&process->loop);

    if (r < 0) {
        vmm_outcome_set(&process->outcome, VMM_REASON_HOST_ERROR, "the event loop failed: %s",
                        shl_err_text(r));
    }
    if (process->running) {
        vmm_machine_join(&process->machine);
    }
    write_exit_file(process);
    vmm_process_announce(process);
    vmm_server_flush(&process->server);
    return strcmp(process->outcome.reason, VMM_REASON_HOST_ERROR) == 0 ? 1 : 0;
}

static void close_if_open(int fd)
{
    if (fd > 0) {
        (void)close(fd);
    }
}

void vmm_process_release(struct vmm_process *process)
{
    vmm_server_release(&process->server);
    vmm_machine_release(&process->machine);
    vmm_outcome_release(&process->outcome);
    vmm_loop_release(&process->loop);
    close_if_open(process->control_fd);
    close_if_open(process->agent_fd);
    close_if_open(process->signal_fd);
    close_if_open(process->grace_fd);
    close_if_open(process->deadline_fd);
    close_if_open(process->statm_fd);
    close_if_open(process->machine.pagemap_fd);
    close_if_open(process->exit_fd);
}
