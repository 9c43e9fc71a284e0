#include "bench/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/id.h"
#include "base/io.h"

#define RETRY_US      500
#define QEMU_ARGS_MAX 48
#define ENTROPY_BYTES 32

double bench_now_ms(void)
{
    return (double)shl_monotonic_us() / 1000.0;
}

/* ---- processes ---- */

static void run_program(const char *const *args, const char *log)
{
    if (!freopen("/dev/null", "r", stdin) || !freopen(log, "w", stdout) ||
        dup2(STDOUT_FILENO, STDERR_FILENO) < 0) {
        _exit(126);
    }
    (void)execvp(args[0], (char *const *)(uintptr_t)args);
    perror(args[0]);
    _exit(127);
}

pid_t bench_spawn(const char *const *args, const char *log)
{
    pid_t pid;

    (void)fflush(stdout); /* or the child would write it once more */
    pid = fork();
    if (pid == 0) {
        run_program(args, log);
    }
    return pid;
}

/* ACPI on, no option ROMs, clock chips or legacy interrupt controller; qboot, where QEMU has
 * it, comes by itself. snapshot=on is its copy-on-write overlay. */
pid_t bench_spawn_qemu(const struct bench_qemu *qemu, const char *log)
{
    char memory[16], cpus[16], drive[BENCH_PATH_SIZE + 64], chardev[BENCH_PATH_SIZE + 64];
    char qmp[BENCH_PATH_SIZE + 64];
    const char *args[QEMU_ARGS_MAX] = {qemu->guest->qemu,
                                       "-nodefaults",
                                       "-no-user-config",
                                       "-nographic",
                                       "-no-reboot",
                                       "-M",
                                       "microvm,x-option-roms=off,rtc=off,pit=off,pic=off,acpi=on",
                                       "-accel",
                                       "kvm",
                                       "-cpu",
                                       "host",
                                       "-m",
                                       memory,
                                       "-smp",
                                       cpus,
                                       "-serial",
                                       "null",
                                       "-kernel",
                                       qemu->guest->kernel,
                                       "-initrd",
                                       qemu->guest->initrd,
                                       "-append",
                                       BENCH_CMDLINE,
                                       "-drive",
                                       drive,
                                       "-device",
                                       "virtio-blk-device,drive=d",
                                       "-device",
                                       "virtio-rng-device",
                                       "-device",
                                       "virtio-serial-device",
                                       "-chardev",
                                       chardev,
                                       "-device",
                                       "virtserialport,chardev=a,name=" AGENT_PORT_NAME};
    unsigned n = 0;

    (void)snprintf(memory, sizeof(memory), "%u", qemu->guest->memory_mb);
    (void)snprintf(cpus, sizeof(cpus), "%u", qemu->guest->cpus);
    (void)snprintf(drive, sizeof(drive), "id=d,file=%s,format=raw,if=none%s", qemu->disk,
                   qemu->keep_writes ? "" : ",snapshot=on");
    (void)snprintf(chardev, sizeof(chardev), "socket,id=a,path=%s,server=on,wait=off",
                   qemu->agent_socket);
    while (args[n]) {
        n++;
    }
    if (qemu->qmp_socket) {
        (void)snprintf(qmp, sizeof(qmp), "unix:%s,server=on,wait=off", qemu->qmp_socket);
        args[n++] = "-qmp";
        args[n++] = qmp;
    }
    if (qemu->incoming) {
        args[n++] = "-incoming";
        args[n++] = qemu->incoming;
    }
    return bench_spawn(args, log);
}

bool bench_is_running(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void bench_end(pid_t pid, struct rusage *usage)
{
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)wait4(pid, NULL, 0, usage);
    }
}

bool bench_fresh_dir(const char *path)
{
    return shl_remove_tree(path) == 0 && shl_mkdir_all(path, 0700) == 0;
}

int bench_connect(const char *path, pid_t pid, double deadline_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    while (bench_now_ms() < deadline_ms && bench_is_running(pid)) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            return fd;
        }
        (void)close(fd);
        (void)usleep(RETRY_US);
    }
    return -1;
}

/* ---- the agent ---- */

bool bench_agent_open(struct client *client, const char *path, pid_t pid, double deadline_ms)
{
    int fd = bench_connect(path, pid, deadline_ms);
    double left_ms = deadline_ms - bench_now_ms();

    if (fd < 0) {
        return false;
    }
    client_init(client, fd);
    if (client_hello(client, left_ms > 1 ? (int)left_ms : 1) < 0) {
        client_release(client);
        return false;
    }
    return true;
}

void bench_agent_close(struct client *client)
{
    client_release(client);
}

/* Run, and say why when it failed. */
static bool finish(struct client_call *call, const char *op, int timeout_ms)
{
    char msg[SHL_ERR_TEXT_MAX];
    int r = client_run(call, timeout_ms);

    if (r < 0) {
        (void)printf("agent: %s: %s\n", op,
                     call->done ? client_msg(call, msg, sizeof(msg)) : shl_err_text(r));
    }
    return r == 0;
}

bool bench_agent_op(struct client *client, const char *op, int timeout_ms)
{
    struct client_call call;
    bool done;

    client_begin(client, &call, op);
    done = finish(&call, op, timeout_ms);
    client_call_release(&call);
    return done;
}

bool bench_agent_setup(struct client *client,
                       const char *hostname,
                       unsigned cpus,
                       uint64_t memory_bytes,
                       int timeout_ms)
{
    uint8_t entropy[ENTROPY_BYTES];
    struct client_call call;
    bool done;

    shl_random_bytes(entropy, sizeof(entropy));
    client_begin(client, &call, "setup");
    shl_mp_kv_str(&call.w, "hostname", hostname);
    shl_mp_kv_bin(&call.w, "entropy", entropy, sizeof(entropy));
    shl_mp_kv_uint(&call.w, "time_ms", (uint64_t)shl_realtime_ms());
    if (cpus > 0) {
        shl_mp_kv_uint(&call.w, "cpus", cpus);
    }
    if (memory_bytes > 0) {
        shl_mp_kv_uint(&call.w, "memory_bytes", memory_bytes);
    }
    done = finish(&call, "setup", timeout_ms);
    client_call_release(&call);
    return done;
}

static bool start_session(struct client *client,
                          const char *id,
                          const char *command,
                          int timeout_ms)
{
    struct client_call call;
    bool done;

    client_begin(client, &call, "exec.start");
    shl_mp_kv_str(&call.w, "session", id);
    shl_mp_kv_str(&call.w, "cmd", command);
    shl_mp_kv_str(&call.w, "user", "root");
    done = finish(&call, "exec.start", timeout_ms);
    client_call_release(&call);
    return done;
}

bool bench_agent_exec(struct client *client, const char *command, int timeout_ms)
{
    struct client_call call;
    char id[16];
    bool done;

    shl_id_make(id, sizeof(id), "", 8);
    if (!start_session(client, id, command, timeout_ms)) {
        return false;
    }
    client_begin(client, &call, "exec.result");
    shl_mp_kv_str(&call.w, "session", id);
    shl_mp_kv_uint(&call.w, "wait_ms", (uint64_t)timeout_ms);
    done = finish(&call, "exec.result", timeout_ms + 1000);
    if (done && (client_bool(&call.head, "running") || client_int(&call.head, "exit_code") != 0)) {
        (void)printf("guest: exit code %d of: %s\n", (int)client_int(&call.head, "exit_code"),
                     command);
        done = false;
    }
    client_call_release(&call);
    return done;
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, unsigned count)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof(values[0]), compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
