/* Cold boot to a ready agent: shoal-vmm against `qemu-system-x86_64 -M microvm`, with the
 * same kernel, initrd, disk and command line, on one machine, in interleaved rounds.
 *
 * Ready means: HELLO went in through the agent port and HELLO_ACK with its token came
 * out. Both VMMs are started, timed and killed the same way, from fork to the answer.
 * Absolute times mean little on an emulated machine; the ratio inside one run does.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/frame.h"
#include "base/id.h"
#include "base/io.h"
#include "base/mp.h"

#define ROUNDS_MAX 200u
#define READY_MS   120000u
#define RETRY_US   2000
#define ARGS_MAX   64
#define PATH_SIZE  512
#define CMDLINE                                                                              \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on"

struct options {
    const char *vmm;
    const char *qemu;
    const char *kernel;
    const char *initrd;
    const char *disk;
    const char *work;
    const char *json; /* NULL: none */
    unsigned rounds;
    unsigned memory_mb;
    unsigned cpus;
    bool check;
};

struct sample {
    double ready_ms;
    double cpu_ms; /* user and system, of the VMM process with its guest */
    long faults;   /* minor page faults */
    long rss_kib;
};

struct side {
    const char *name;
    struct sample samples[ROUNDS_MAX];
    unsigned count;
    unsigned failed;
};

/* ---- one start ---- */

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

static void start_ours(const struct options *options, const char *const paths[3], const char *log)
{
    char memory[16], cpus[16];
    /* clang-format off */
    const char *const args[] = {
        options->vmm, "--dir", paths[0], "run",
        "--kernel", options->kernel,
        "--initrd", options->initrd,
        "--disk", options->disk,
        "--overlay", paths[2],
        "--memory-mb", memory,
        "--cpus", cpus,
        "--cmdline", CMDLINE,
        NULL};
    /* clang-format on */

    (void)snprintf(memory, sizeof(memory), "%u", options->memory_mb);
    (void)snprintf(cpus, sizeof(cpus), "%u", options->cpus);
    run_program(args, log);
}

/* The leanest microvm that finds its virtio-mmio devices with a stock kernel: ACPI on,
 * no option ROMs, clock chips or legacy interrupt controller; qboot, where QEMU has it,
 * comes by itself. snapshot=on is its copy-on-write overlay. */
static void start_qemu(const struct options *options, const char *const paths[3], const char *log)
{
    char memory[16], cpus[16], drive[PATH_SIZE + 64], chardev[PATH_SIZE + 64];
    /* clang-format off */
    const char *const args[] = {
        options->qemu, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
        "-M", "microvm,x-option-roms=off,rtc=off,pit=off,pic=off,acpi=on",
        "-accel", "kvm",
        "-cpu", "host",
        "-m", memory,
        "-smp", cpus,
        "-serial", "null",
        "-kernel", options->kernel,
        "-initrd", options->initrd,
        "-append", CMDLINE,
        "-drive", drive,
        "-device", "virtio-blk-device,drive=d",
        "-device", "virtio-rng-device",
        "-device", "virtio-serial-device",
        "-chardev", chardev,
        "-device", "virtserialport,chardev=a,name=" AGENT_PORT_NAME,
        NULL};
    /* clang-format on */

    (void)snprintf(memory, sizeof(memory), "%u", options->memory_mb);
    (void)snprintf(cpus, sizeof(cpus), "%u", options->cpus);
    (void)snprintf(drive, sizeof(drive), "id=d,file=%s,format=raw,if=none,snapshot=on",
                   options->disk);
    (void)snprintf(chardev, sizeof(chardev), "socket,id=a,path=%s,server=on,wait=off", paths[1]);
    run_program(args, log);
}

static double now_ms(void)
{
    return (double)shl_monotonic_us() / 1000.0;
}

static bool is_running(pid_t pid)
{
    siginfo_t info = {0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

static int connect_agent(const char *path, pid_t pid, double deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    while (now_ms() < deadline && is_running(pid)) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
            return fd;
        }
        (void)close(fd);
        (void)usleep(RETRY_US);
    }
    return -1;
}

static int write_hello(struct shl_buf *out, const uint8_t token[AGENT_TOKEN_BYTES])
{
    static const uint8_t zeros[AGENT_SYNC_BYTES];
    struct shl_buf payload;
    struct shl_mp_writer w;
    int r;

    shl_buf_init(&payload, AGENT_PAYLOAD_MAX);
    shl_mp_writer_init(&w, &payload);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", AGENT_PROTOCOL_VERSION);
    shl_mp_kv_bin(&w, "token", token, AGENT_TOKEN_BYTES);
    shl_mp_end(&w);
    r = shl_mp_done(&w);
    if (r == 0) {
        r = shl_buf_append(out, zeros, sizeof(zeros));
    }
    if (r == 0) {
        r = agent_frame_write(out, AGENT_FRAME_HELLO, 0, 0, shl_buf_bytes(&payload));
    }
    shl_buf_release(&payload);
    return r;
}

static bool is_answer(const struct agent_frame *frame, const uint8_t token[AGENT_TOKEN_BYTES])
{
    struct shl_mp_doc doc;
    struct shl_bytes got;
    bool match;

    if (frame->type != AGENT_FRAME_HELLO_ACK || shl_mp_parse(&doc, frame->payload) < 0) {
        return false;
    }
    match = shl_mp_get_bin(doc.root, "token", &got) == 0 && got.len == AGENT_TOKEN_BYTES &&
            memcmp(got.base, token, AGENT_TOKEN_BYTES) == 0;
    shl_mp_release(&doc);
    return match;
}

/* Moves bytes until the answer is there. */
static bool await_answer(int fd, const uint8_t *token, struct shl_buf *out, double deadline)
{
    struct agent_parser parser;
    struct agent_frame frame;
    bool done = false, broken = false;

    agent_parser_init(&parser, AGENT_FRAME_HELLO_ACK);
    while (!done && !broken && now_ms() < deadline) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        uint8_t *space;
        size_t len;
        ssize_t n;

        poll_fd.events = (short)(POLLIN | (shl_buf_len(out) > 0 ? POLLOUT : 0));
        if (poll(&poll_fd, 1, 100) <= 0) {
            continue;
        }
        if (poll_fd.revents & POLLOUT) {
            n = send(fd, shl_buf_data(out), shl_buf_len(out), MSG_DONTWAIT | MSG_NOSIGNAL);
            broken = n < 0 && errno != EAGAIN;
            shl_buf_consume(out, n > 0 ? (size_t)n : 0);
        }
        if (poll_fd.revents & (POLLIN | POLLHUP)) {
            if (agent_parser_space(&parser, &space, &len) < 0) {
                break;
            }
            n = recv(fd, space, len, MSG_DONTWAIT);
            broken = n == 0 || (n < 0 && errno != EAGAIN);
            agent_parser_filled(&parser, n > 0 ? (size_t)n : 0);
            while (!done && agent_parser_next(&parser, &frame)) {
                done = is_answer(&frame, token);
            }
        }
    }
    agent_parser_release(&parser);
    return done;
}

static bool greet(const char *path, pid_t pid, double deadline)
{
    uint8_t token[AGENT_TOKEN_BYTES];
    struct shl_buf out;
    bool done = false;
    int fd = connect_agent(path, pid, deadline);

    if (fd < 0) {
        return false;
    }
    shl_random_bytes(token, sizeof(token));
    shl_buf_init(&out, 2 * AGENT_SYNC_BYTES);
    if (write_hello(&out, token) == 0) {
        done = await_answer(fd, token, &out, deadline);
    }
    shl_buf_release(&out);
    (void)close(fd);
    return done;
}

static double seconds(const struct timeval *tv)
{
    return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* Boot once; false when the agent did not answer. */
static bool boot_once(const struct options *options, bool ours, struct sample *ret)
{
    char dir[PATH_SIZE], agent[PATH_SIZE + 16], overlay[PATH_SIZE + 16], log[PATH_SIZE + 16];
    const char *const paths[3] = {dir, agent, overlay};
    struct rusage usage;
    double begin;
    bool ready;
    pid_t pid;

    (void)snprintf(dir, sizeof(dir), "%s/vm", options->work);
    (void)snprintf(agent, sizeof(agent), "%s/agent.sock", dir);
    (void)snprintf(overlay, sizeof(overlay), "%s/overlay", options->work);
    (void)snprintf(log, sizeof(log), "%s/%s.log", options->work, ours ? "shoal-vmm" : "qemu");
    (void)unlink(overlay);
    if (shl_remove_tree(dir) < 0 || shl_mkdir_all(dir, 0700) < 0) {
        return false;
    }
    begin = now_ms();
    pid = fork();
    if (pid == 0) {
        (ours ? start_ours : start_qemu)(options, paths, log);
    }
    ready = pid > 0 && greet(agent, pid, begin + READY_MS);
    ret->ready_ms = now_ms() - begin;
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)wait4(pid, NULL, 0, &usage);
        ret->cpu_ms = (seconds(&usage.ru_utime) + seconds(&usage.ru_stime)) * 1000;
        ret->faults = usage.ru_minflt;
        ret->rss_kib = usage.ru_maxrss;
    }
    return ready;
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double value_of(const struct sample *sample, int field)
{
    switch (field) {
    case 0:
        return sample->ready_ms;
    case 1:
        return sample->cpu_ms;
    case 2:
        return (double)sample->faults;
    default:
        return (double)sample->rss_kib;
    }
}

static double median(const struct side *side, int field)
{
    double values[ROUNDS_MAX];
    unsigned i;

    if (side->count == 0) {
        return 0;
    }
    for (i = 0; i < side->count; i++) {
        values[i] = value_of(&side->samples[i], field);
    }
    qsort(values, side->count, sizeof(values[0]), compare);
    return side->count % 2 ? values[side->count / 2]
                           : (values[side->count / 2 - 1] + values[side->count / 2]) / 2;
}

static double minimum(const struct side *side)
{
    double best = side->count ? side->samples[0].ready_ms : 0;
    unsigned i;

    for (i = 1; i < side->count; i++) {
        best = side->samples[i].ready_ms < best ? side->samples[i].ready_ms : best;
    }
    return best;
}

static const char *const fields[] = {"ready_ms", "cpu_ms", "page_faults", "max_rss_kib"};

static void write_side(FILE *file, const struct side *side)
{
    unsigned i;

    (void)fprintf(file, "  \"%s\": {\"boots\": %u, \"failed\": %u, \"min_ready_ms\": %.1f",
                  side->name, side->count, side->failed, minimum(side));
    for (i = 0; i < SHL_ARRAY_SIZE(fields); i++) {
        (void)fprintf(file, ", \"median_%s\": %.1f", fields[i], median(side, (int)i));
    }
    (void)fprintf(file, ", \"ready_ms\": [");
    for (i = 0; i < side->count; i++) {
        (void)fprintf(file, "%s%.1f", i ? ", " : "", side->samples[i].ready_ms);
    }
    (void)fprintf(file, "]},\n");
}

static int write_json(const struct options *options, const struct side sides[2], double ratio)
{
    FILE *file = fopen(options->json, "w");

    if (!file) {
        perror(options->json);
        return -1;
    }
    (void)fprintf(file,
                  "{\n  \"bench\": \"boot\",\n  \"rounds\": %u,\n  \"vcpus\": %u,\n"
                  "  \"memory_mb\": %u,\n",
                  options->rounds, options->cpus, options->memory_mb);
    write_side(file, &sides[0]);
    write_side(file, &sides[1]);
    (void)fprintf(file, "  \"ratio_ready\": %.3f,\n  \"bar\": 1.0\n}\n", ratio);
    return fclose(file);
}

static double report(const struct side sides[2])
{
    double qemu = median(&sides[1], 0);
    unsigned i;

    (void)printf("%-12s %12s %12s %8s\n", "median", sides[0].name, sides[1].name, "ratio");
    for (i = 0; i < SHL_ARRAY_SIZE(fields); i++) {
        double ours = median(&sides[0], (int)i), theirs = median(&sides[1], (int)i);

        (void)printf("%-12s %12.1f %12.1f %8.3f\n", fields[i], ours, theirs,
                     theirs > 0 ? ours / theirs : 0);
    }
    (void)printf("%-12s %12.1f %12.1f\n", "min_ready_ms", minimum(&sides[0]), minimum(&sides[1]));
    return qemu > 0 ? median(&sides[0], 0) / qemu : 0;
}

static void run_rounds(const struct options *options, struct side sides[2])
{
    unsigned round, turn;

    for (round = 0; round < options->rounds; round++) {
        for (turn = 0; turn < 2; turn++) {
            unsigned which = (round + turn) % 2; /* who is first alternates */
            struct side *side = &sides[which];
            struct sample sample = {0};

            if (boot_once(options, which == 0, &sample)) {
                side->samples[side->count++] = sample;
            } else {
                side->failed++;
            }
            (void)printf("round %u %s: %s %.0f ms\n", round + 1, side->name,
                         sample.ready_ms < READY_MS ? "ready after" : "gave up after",
                         sample.ready_ms);
            (void)fflush(stdout);
        }
    }
}

static const char usage[] =
    "usage: bench-boot --vmm F --kernel F --initrd F --disk F --work DIR [--qemu F]\n"
    "                  [--rounds N] [--memory-mb N] [--cpus N] [--json F] [--check]\n"
    "--check: exit code 1 when the median of shoal-vmm is above that of QEMU, or a boot failed\n";

enum {
    OPT_VMM = 1,
    OPT_QEMU,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_DISK,
    OPT_WORK,
    OPT_JSON,
    OPT_ROUNDS,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_CHECK,
};

static int parse(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {
        {"vmm", 1, NULL, OPT_VMM},          {"qemu", 1, NULL, OPT_QEMU},
        {"kernel", 1, NULL, OPT_KERNEL},    {"initrd", 1, NULL, OPT_INITRD},
        {"disk", 1, NULL, OPT_DISK},        {"work", 1, NULL, OPT_WORK},
        {"json", 1, NULL, OPT_JSON},        {"rounds", 1, NULL, OPT_ROUNDS},
        {"memory-mb", 1, NULL, OPT_MEMORY}, {"cpus", 1, NULL, OPT_CPUS},
        {"check", 0, NULL, OPT_CHECK},      {NULL, 0, NULL, 0},
    };
    const char **texts[] = {
        NULL,           &options->vmm,  &options->qemu, &options->kernel, &options->initrd,
        &options->disk, &options->work, &options->json};
    unsigned *numbers[] = {&options->rounds, &options->memory_mb, &options->cpus};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option >= OPT_VMM && option <= OPT_JSON) {
            *texts[option] = optarg;
        } else if (option >= OPT_ROUNDS && option <= OPT_CPUS) {
            *numbers[option - OPT_ROUNDS] = (unsigned)strtoul(optarg, NULL, 10);
        } else if (option == OPT_CHECK) {
            options->check = true;
        } else {
            return -1;
        }
    }
    return options->vmm && options->kernel && options->initrd && options->disk && options->work &&
                   options->rounds >= 1 && options->rounds <= ROUNDS_MAX
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    static struct side sides[2] = {{.name = "shoal-vmm"}, {.name = "qemu-microvm"}};
    struct options options = {
        .qemu = "qemu-system-x86_64", .rounds = 7, .memory_mb = 512, .cpus = 1};
    double ratio;
    bool met;

    if (parse(argc, argv, &options) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    run_rounds(&options, sides);
    ratio = report(sides);
    if (options.json && write_json(&options, sides, ratio) != 0) {
        return 2;
    }
    met = ratio > 0 && ratio <= 1.0 && sides[0].failed == 0;
    (void)printf(
        "boot: %s, ratio %.3f (bar 1.0), shoal-vmm %.0f ms, qemu microvm %.0f ms, %u and %u "
        "boots, %u and %u failed\n",
        met ? "met" : "NOT met", ratio, median(&sides[0], 0), median(&sides[1], 0), sides[0].count,
        sides[1].count, sides[0].failed, sides[1].failed);
    return options.check && !met ? 1 : 0;
}
