/* Cold boot to a ready agent: shoal-vmm against `qemu-system-x86_64 -M microvm`, with the
 * same kernel, initrd, disk and command line, on one machine, in interleaved rounds.
 *
 * Ready means: HELLO went in through the agent port and HELLO_ACK with its token came
 * out. Both VMMs are started, timed and killed the same way, from fork to the answer.
 * Absolute times mean little on an emulated machine; the ratio inside one run does.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/vm.h"

#define ROUNDS_MAX 200u
#define READY_MS   120000u
struct options {
    struct bench_guest guest;
    const char *work;
    const char *json; /* NULL: none */
    unsigned rounds;
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

static pid_t start_ours(const struct options *options,
                        const char *dir,
                        const char *overlay,
                        const char *log)
{
    const struct bench_guest *guest = &options->guest;
    char memory[16], cpus[16];
    /* clang-format off */
    const char *const args[] = {
        guest->vmm, "--dir", dir, "run",
        "--kernel", guest->kernel,
        "--initrd", guest->initrd,
        "--disk", guest->disk,
        "--overlay", overlay,
        "--memory-mb", memory,
        "--cpus", cpus,
        "--cmdline", BENCH_CMDLINE,
        NULL};
    /* clang-format on */

    (void)snprintf(memory, sizeof(memory), "%u", guest->memory_mb);
    (void)snprintf(cpus, sizeof(cpus), "%u", guest->cpus);
    return bench_spawn(args, log);
}

static bool greet(const char *path, pid_t pid, double deadline)
{
    struct client client;

    if (pid <= 0 || !bench_agent_open(&client, path, pid, deadline)) {
        return false;
    }
    bench_agent_close(&client);
    return true;
}

static double seconds(const struct timeval *tv)
{
    return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

/* Boot once; false when the agent did not answer. */
static bool boot_once(const struct options *options, bool ours, struct sample *ret)
{
    char dir[BENCH_PATH_SIZE], agent[BENCH_PATH_SIZE + 16], overlay[BENCH_PATH_SIZE + 16];
    char log[BENCH_PATH_SIZE + 16];
    const struct bench_qemu qemu = {
        .guest = &options->guest, .disk = options->guest.disk, .agent_socket = agent};
    struct rusage usage = {0};
    double begin;
    bool ready;
    pid_t pid;

    (void)snprintf(dir, sizeof(dir), "%s/vm", options->work);
    (void)snprintf(agent, sizeof(agent), "%s/agent.sock", dir);
    (void)snprintf(overlay, sizeof(overlay), "%s/overlay", options->work);
    (void)snprintf(log, sizeof(log), "%s/%s.log", options->work, ours ? "shoal-vmm" : "qemu");
    (void)unlink(overlay);
    if (!bench_fresh_dir(dir)) {
        return false;
    }
    begin = bench_now_ms();
    pid = ours ? start_ours(options, dir, overlay, log) : bench_spawn_qemu(&qemu, log);
    ready = greet(agent, pid, begin + READY_MS);
    ret->ready_ms = bench_now_ms() - begin;
    bench_end(pid, &usage);
    ret->cpu_ms = (seconds(&usage.ru_utime) + seconds(&usage.ru_stime)) * 1000;
    ret->faults = usage.ru_minflt;
    ret->rss_kib = usage.ru_maxrss;
    return ready;
}

/* ---- figures ---- */

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

    for (i = 0; i < side->count; i++) {
        values[i] = value_of(&side->samples[i], field);
    }
    return bench_median(values, side->count);
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
                  options->rounds, options->guest.cpus, options->guest.memory_mb);
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
        NULL,
        &options->guest.vmm,
        &options->guest.qemu,
        &options->guest.kernel,
        &options->guest.initrd,
        &options->guest.disk,
        &options->work,
        &options->json,
    };
    unsigned *numbers[] = {&options->rounds, &options->guest.memory_mb, &options->guest.cpus};
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
    return options->guest.vmm && options->guest.kernel && options->guest.initrd &&
                   options->guest.disk && options->work && options->rounds >= 1 &&
                   options->rounds <= ROUNDS_MAX
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    static struct side sides[2] = {{.name = "shoal-vmm"}, {.name = "qemu-microvm"}};
    struct options options = {.guest = {.qemu = "qemu-system-x86_64", .memory_mb = 512, .cpus = 1},
                              .rounds = 7};
    double ratio;
    bool met;

    if (parse(argc, argv, &options) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
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
