/* What the public API leaves of the link to a guest's agent: throughput of a command's stdout and
 * of a file, time of a key's echo on a terminal, in one run, in interleaved rounds.
 *
 * The raw side speaks the agent's protocol itself, as the node does: in a machine of its own
 * (--vmm), with the sandbox of the API in another one beside it, or with a process on this machine
 * (--agent), when the sandbox is one of fake-vmm: then nothing is measured but the node. Both sides
 * have the same program at the other end and read as fast as they can. Only ratios mean something.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

#include "bench/stream_side.h"
#include "bench/vm.h"

#define READY_MS   120000
#define ROUNDS_MAX 101u
#define SIDES_MAX  3u
#define MIB        (1024.0 * 1024.0)

struct options {
    struct bench_guest guest;
    const char *work;
    const char *agent;
    const char *url;
    const char *other;
    const char *key;
    const char *sandbox;
    const char *json;
    unsigned rounds;
    unsigned mib;
    unsigned keys;
};

/* Of one side. */
struct figures {
    double exec[ROUNDS_MAX]; /* MiB/s */
    double file[ROUNDS_MAX];
    double exec_piece; /* bytes per piece, of the last round */
    double file_piece;
    double *keys; /* microseconds, of all rounds, sorted in the end */
    unsigned key_count;
};

/* ---- the raw side ---------------------------------------------------------------- */

static void open_machine(const struct options *options, struct client *agent, pid_t *ret_pid)
{
    char dir[BENCH_PATH_SIZE], socket_path[BENCH_PATH_SIZE + 16], overlay[BENCH_PATH_SIZE + 16];
    char log[BENCH_PATH_SIZE + 16], memory[16], cpus[16];
    const struct bench_guest *guest = &options->guest;
    /* clang-format off */
    const char *const args[] = {
        guest->vmm, "--dir", dir, "run", "--kernel", guest->kernel, "--initrd", guest->initrd,
        "--disk", guest->disk, "--overlay", overlay, "--memory-mb", memory, "--cpus", cpus,
        "--cmdline", BENCH_CMDLINE, NULL};
    /* clang-format on */

    (void)snprintf(dir, sizeof(dir), "%s/vm", options->work);
    (void)snprintf(socket_path, sizeof(socket_path), "%s/agent.sock", dir);
    (void)snprintf(overlay, sizeof(overlay), "%s/overlay", options->work);
    (void)snprintf(log, sizeof(log), "%s/shoal-vmm.log", options->work);
    (void)snprintf(memory, sizeof(memory), "%u", guest->memory_mb);
    (void)snprintf(cpus, sizeof(cpus), "%u", guest->cpus);
    (void)unlink(overlay);
    if (!bench_fresh_dir(dir)) {
        stream_die("%s cannot be made", dir);
    }
    *ret_pid = bench_spawn(args, log);
    if (!bench_agent_open(agent, socket_path, *ret_pid, bench_now_ms() + READY_MS) ||
        !bench_agent_setup(agent, "bench", 0, 0, READY_MS)) {
        bench_end(*ret_pid, NULL);
        stream_die("the machine of the raw side does not answer: see %s", log);
    }
}

static void open_process(const struct options *options, struct client *agent, pid_t *ret_pid)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) {
        stream_die("no socket");
    }
    *ret_pid = fork();
    if (*ret_pid == 0) {
        if (dup2(pair[1], 3) == 3) {
            (void)execl(options->agent, options->agent, "--serve", "3", "--home", options->work,
                        (char *)NULL);
        }
        _exit(127);
    }
    (void)close(pair[1]);
    client_init(agent, pair[0]);
    if (*ret_pid < 0 || client_hello(agent, READY_MS) < 0) {
        stream_die("%s does not answer", options->agent);
    }
}

/* ---- the API --------------------------------------------------------------------- */

static struct shoal_client *open_client(const char *url, const char *key)
{
    struct shoal_settings *settings = shoal_settings_new();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_client *client = NULL;

    if (!settings || shoal_settings_set_url(settings, url, &err) < 0 ||
        shoal_settings_set_key(settings, key, &err) < 0 ||
        shoal_client_new(settings, &client, &err) < 0) {
        stream_die("%s: %s", url, err.message);
    }
    shoal_settings_free(settings);
    return client;
}

/* ---- rounds ---------------------------------------------------------------------- */

static double rate(const struct stream_run *run)
{
    return run->ms > 0 ? (double)run->bytes / MIB / (run->ms / 1e3) : 0;
}

static void run_round(struct stream_side *side,
                      struct figures *figures,
                      const struct options *options,
                      unsigned round)
{
    char path[64];
    struct stream_run exec = stream_exec(side, (uint64_t)options->mib << 20);
    struct stream_run file;

    (void)snprintf(path, sizeof(path), "/tmp/bench-stream-%s", side->name);
    file = stream_file(side, path);
    figures->exec[round] = rate(&exec);
    figures->file[round] = rate(&file);
    figures->exec_piece = (double)exec.bytes / (double)exec.pieces;
    figures->file_piece = (double)file.bytes / (double)file.pieces;
    stream_keys(side, figures->keys + figures->key_count, options->keys);
    figures->key_count += options->keys;
}

/* A file of its own for each side: those of fake-vmm share a disk. */
static void prepare(struct stream_side *side, const struct options *options)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "head -c %uM /dev/zero >/tmp/bench-stream-%s",
                   options->mib, side->name);
    stream_command(side, command);
}

static void clean(struct stream_side *side)
{
    char command[64];

    (void)snprintf(command, sizeof(command), "rm -f /tmp/bench-stream-%s", side->name);
    stream_command(side, command);
}

/* ---- report ---------------------------------------------------------------------- */

static double percentile(const double *sorted, unsigned count, unsigned percent)
{
    unsigned at = (count * percent + 99) / 100;

    return count == 0 ? 0 : sorted[at > 0 ? at - 1 : 0];
}

static double ratio(const double *ours, const double *raw, unsigned rounds)
{
    double values[ROUNDS_MAX];

    for (unsigned i = 0; i < rounds; i++) {
        values[i] = raw[i] > 0 ? ours[i] / raw[i] : 0;
    }
    return bench_median(values, rounds);
}

static void report(const struct stream_side *sides,
                   struct figures *figures,
                   unsigned count,
                   const struct options *options)
{
    FILE *json = options->json ? fopen(options->json, "w") : NULL;
    FILE *outs[] = {stdout, json};
    double exec[SIDES_MAX], file[SIDES_MAX], key_p50[SIDES_MAX], key_p99[SIDES_MAX];

    (void)printf("%-12s %12s %10s %12s %10s %10s %10s\n", "side", "stdout MiB/s", "per piece",
                 "file MiB/s", "per piece", "key p50 us", "p99 us");
    for (unsigned i = 0; i < count; i++) {
        struct figures *f = &figures[i];

        exec[i] = ratio(f->exec, figures[0].exec, options->rounds);
        file[i] = ratio(f->file, figures[0].file, options->rounds);
        (void)bench_median(f->keys, f->key_count); /* sorts */
        key_p50[i] = percentile(f->keys, f->key_count, 50);
        key_p99[i] = percentile(f->keys, f->key_count, 99);
    }
    for (unsigned i = 0; i < count; i++) {
        struct figures *f = &figures[i];

        (void)printf("%-12s %12.1f %10.0f %12.1f %10.0f %10.0f %10.0f\n", sides[i].name,
                     bench_median(f->exec, options->rounds), f->exec_piece,
                     bench_median(f->file, options->rounds), f->file_piece, key_p50[i], key_p99[i]);
    }
    for (unsigned i = 1; i < count; i++) {
        (void)printf("%s against %s, medians of %u rounds: stdout %.2f, file %.2f, key echo %.2f "
                     "times as long\n",
                     sides[i].name, sides[0].name, options->rounds, exec[i], file[i],
                     key_p50[i] / key_p50[0]);
    }
    for (size_t out = 0; out < SHL_ARRAY_SIZE(outs); out++) {
        if (!outs[out]) {
            continue;
        }
        (void)fprintf(outs[out], "{\"bench\":\"stream\",\"rounds\":%u,\"mib\":%u,\"sides\":[",
                      options->rounds, options->mib);
        for (unsigned i = 0; i < count; i++) {
            (void)fprintf(outs[out],
                          "%s{\"name\":\"%s\",\"stdout_ratio\":%.3f,\"file_ratio\":%.3f,"
                          "\"key_ratio\":%.3f,\"key_p50_us\":%.0f,\"key_p99_us\":%.0f,\"keys\":%u,"
                          "\"stdout_piece_bytes\":%.0f,\"file_piece_bytes\":%.0f}",
                          i ? "," : "", sides[i].name, exec[i], file[i], key_p50[i] / key_p50[0],
                          key_p50[i], key_p99[i], figures[i].key_count, figures[i].exec_piece,
                          figures[i].file_piece);
        }
        (void)fprintf(outs[out], "]}\n");
    }
    if (json && fclose(json) != 0) {
        stream_die("%s cannot be written", options->json);
    }
}

/* ---- main ------------------------------------------------------------------------ */

static const char usage[] =
    "usage: bench-stream --url URL --key KEY --sandbox ID --work DIR\n"
    "                    --agent F | --vmm F --kernel F --initrd F --disk F\n"
    "                    [--other URL] [--rounds N] [--mib N] [--keys N] [--json F]\n"
    "--other: another node, which does not have the sandbox\n";

static int parse(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {
        {"vmm", 1, NULL, 1},      {"kernel", 1, NULL, 2}, {"initrd", 1, NULL, 3},
        {"disk", 1, NULL, 4},     {"work", 1, NULL, 5},   {"agent", 1, NULL, 6},
        {"url", 1, NULL, 7},      {"other", 1, NULL, 8},  {"key", 1, NULL, 9},
        {"sandbox", 1, NULL, 10}, {"json", 1, NULL, 11},  {"rounds", 1, NULL, 12},
        {"mib", 1, NULL, 13},     {"keys", 1, NULL, 14},  {NULL, 0, NULL, 0},
    };
    const char **texts[] = {NULL,
                            &options->guest.vmm,
                            &options->guest.kernel,
                            &options->guest.initrd,
                            &options->guest.disk,
                            &options->work,
                            &options->agent,
                            &options->url,
                            &options->other,
                            &options->key,
                            &options->sandbox,
                            &options->json};
    unsigned *numbers[] = {&options->rounds, &options->mib, &options->keys};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option >= 1 && option <= 11) {
            *texts[option] = optarg;
        } else if (option >= 12 && option <= 14) {
            *numbers[option - 12] = (unsigned)strtoul(optarg, NULL, 10);
        } else {
            return -1;
        }
    }
    return options->url && options->key && options->sandbox && options->work &&
                   (options->agent || (options->guest.vmm && options->guest.kernel &&
                                       options->guest.initrd && options->guest.disk)) &&
                   options->rounds >= 1 && options->rounds <= ROUNDS_MAX && options->mib >= 1 &&
                   options->mib <= 1024 && options->keys >= 1 && options->keys <= STREAM_KEYS_MAX
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    static struct figures figures[SIDES_MAX];
    struct options options = {
        .guest = {.memory_mb = 512, .cpus = 1}, .rounds = 5, .mib = 64, .keys = 200};
    struct stream_side sides[SIDES_MAX] = {{.name = "raw-link"}, {.name = "api"}};
    struct client agent;
    unsigned count = 2;
    pid_t pid = -1;

    if (parse(argc, argv, &options) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (options.agent) {
        open_process(&options, &agent, &pid);
    } else {
        open_machine(&options, &agent, &pid);
    }
    sides[0].agent = &agent;
    sides[1].client = open_client(options.url, options.key);
    if (options.other) {
        sides[count++] = (struct stream_side){.name = "other-node",
                                              .client = open_client(options.other, options.key)};
    }
    for (unsigned i = 0; i < count; i++) {
        sides[i].sandbox = options.sandbox;
        figures[i].keys = calloc((size_t)options.rounds * options.keys, sizeof(double));
        if (!figures[i].keys) {
            stream_die("no memory");
        }
        prepare(&sides[i], &options);
    }
    for (unsigned round = 0; round < options.rounds; round++) {
        for (unsigned turn = 0; turn < count; turn++) {
            unsigned which = (round + turn) % count; /* who is first alternates */

            run_round(&sides[which], &figures[which], &options, round);
        }
    }
    report(sides, figures, count, &options);
    for (unsigned i = 0; i < count; i++) {
        clean(&sides[i]);
        shoal_client_free(sides[i].client);
        free(figures[i].keys);
    }
    client_release(&agent);
    bench_end(pid, NULL);
    return 0;
}
