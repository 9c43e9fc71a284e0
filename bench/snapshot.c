/* Restore, checkpoint and memory of a fork: shoal-vmm against its own cold boot and against
 * `qemu-system-x86_64 -M microvm` with migration to a file, on one machine, in one run.
 *
 * The same kernel, initrd, disk, boot memory and visible CPUs for all; shoal-vmm boots and
 * restores the machine that a node boots and restores: --vcpus CPUs of which setup leaves
 * only --cpus online, and an empty region for pluggable memory. Each contender starts once
 * unmeasured, so that the page cache is warm for all; then rounds in which who is first alternates.
 * Absolute times mean little on an emulated machine; the ratios inside one run do.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/snapshot_report.h"

struct options {
    struct bench_world world;
    const char *json; /* NULL: none */
    const char *svg;
    unsigned rounds;
    unsigned forks;
    unsigned more_memory_mb; /* of the checkpoints with pluggable memory; 0: none */
    bool check;
    bool no_times; /* for work on the other parts */
};

static void run_one(const struct bench_world *world,
                    enum bench_contender contender,
                    const char *round,
                    struct bench_times *times)
{
    double marks[BENCH_MARKS];
    unsigned mark;

    if (!bench_contend(world, contender, marks)) {
        times->failed++;
        (void)printf("%s %s: failed\n", round, bench_contender_names[contender]);
    } else {
        for (mark = 0; mark < BENCH_MARKS; mark++) {
            times->marks[mark][times->count] = marks[mark];
        }
        times->count++;
        (void)printf("%s %s: running %.0f, agent %.0f, setup %.0f, first output %.0f ms\n", round,
                     bench_contender_names[contender], marks[BENCH_RUNNING], marks[BENCH_READY],
                     marks[BENCH_SETUP], marks[BENCH_EXEC]);
    }
    (void)fflush(stdout);
}

static void run_rounds(const struct bench_world *world, struct bench_results *results)
{
    struct bench_times unmeasured = {0};
    unsigned round, turn;
    char name[32];

    for (turn = 0; turn < BENCH_CONTENDERS; turn++) {
        run_one(world, (enum bench_contender)turn, "warm-up", &unmeasured);
    }
    for (round = 0; round < results->rounds; round++) {
        (void)snprintf(name, sizeof(name), "round %u", round + 1);
        for (turn = 0; turn < BENCH_CONTENDERS; turn++) {
            enum bench_contender who = (enum bench_contender)((round + turn) % BENCH_CONTENDERS);

            run_one(world, who, name, &results->times[who]);
        }
    }
}

static void run_checkpoints(const struct options *options, struct bench_results *results)
{
    const unsigned memory_mb = options->world.guest.memory_mb;
    const struct {
        unsigned memory_mb, written_mb;
    } cases[] = {{memory_mb, 0},
                 {memory_mb, 8},
                 {memory_mb, 32},
                 {memory_mb, 128},
                 {options->more_memory_mb, 0},
                 {options->more_memory_mb, 32},
                 {options->more_memory_mb, 128}};
    unsigned i;

    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        struct bench_checkpoint *one = &results->checkpoints[results->checkpoint_count];

        if (cases[i].memory_mb == 0) {
            continue;
        }
        if (bench_checkpoint(&options->world, cases[i].memory_mb, cases[i].written_mb, one)) {
            results->checkpoint_count++;
            (void)printf("checkpoint of %u MiB with %u MiB written: ratio %.3f\n",
                         cases[i].memory_mb, cases[i].written_mb, bench_checkpoint_ratio(one));
        } else {
            results->failed = true;
            (void)printf("checkpoint of %u MiB with %u MiB written: failed\n", cases[i].memory_mb,
                         cases[i].written_mb);
        }
        (void)fflush(stdout);
    }
}

static const char usage[] =
    "usage: bench-snapshot --vmm F --kernel F --initrd F --disk F --work DIR [--qemu F]\n"
    "                      [--rounds N] [--memory-mb N] [--cpus N] [--vcpus N]\n"
    "                      [--hotplug-max-mb N] [--more-memory-mb N] [--forks N]\n"
    "                      [--json F] [--svg F] [--check] [--no-times]\n"
    "--check: exit code 1 when a bar is missed or something failed\n";

static int parse_number(const char *text, unsigned max, unsigned *ret)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (end == text || *end != '\0' || value > max) {
        (void)fprintf(stderr, "bench-snapshot: '%s' is not a number up to %u\n", text, max);
        return -1;
    }
    *ret = (unsigned)value;
    return 0;
}

static int parse(int argc, char **argv, struct options *options)
{
    static const char *const texts[] = {"vmm",  "qemu", "kernel", "initrd",
                                        "disk", "work", "json",   "svg"};
    struct bench_guest *guest = &options->world.guest;
    const char **text_places[] = {&guest->vmm,    &guest->qemu, &guest->kernel,
                                  &guest->initrd, &guest->disk, &options->world.work,
                                  &options->json, &options->svg};
    const struct {
        const char *name;
        unsigned max;
        unsigned *place;
    } numbers[] = {{"rounds", BENCH_ROUNDS_MAX, &options->rounds},
                   {"memory-mb", 1 << 16, &guest->memory_mb},
                   {"cpus", VMM_VCPUS_MAX, &guest->cpus},
                   {"vcpus", VMM_VCPUS_MAX, &options->world.vcpus},
                   {"hotplug-max-mb", 1 << 16, &options->world.hotplug_max_mb},
                   {"more-memory-mb", 1 << 16, &options->more_memory_mb},
                   {"forks", BENCH_FORKS_MAX, &options->forks}};
    int at;

    for (at = 1; at < argc; at++) {
        const char *name = strncmp(argv[at], "--", 2) == 0 ? argv[at] + 2 : "";
        size_t i, j;

        if (strcmp(name, "check") == 0 || strcmp(name, "no-times") == 0) {
            *(name[0] == 'c' ? &options->check : &options->no_times) = true;
            continue;
        }
        for (i = 0; i < SHL_ARRAY_SIZE(texts) && strcmp(texts[i], name) != 0; i++) {
        }
        for (j = 0; j < SHL_ARRAY_SIZE(numbers) && strcmp(numbers[j].name, name) != 0; j++) {
        }
        if (++at == argc || (i == SHL_ARRAY_SIZE(texts) && j == SHL_ARRAY_SIZE(numbers))) {
            return -1;
        }
        if (i < SHL_ARRAY_SIZE(texts)) {
            *text_places[i] = argv[at];
        } else if (parse_number(argv[at], numbers[j].max, numbers[j].place) < 0) {
            return -1;
        }
    }
    return guest->vmm && guest->kernel && guest->initrd && guest->disk && options->world.work &&
                   options->rounds >= 1 && guest->cpus >= 1 &&
                   options->world.vcpus >= guest->cpus &&
                   (options->more_memory_mb == 0 ||
                    (options->more_memory_mb > guest->memory_mb &&
                     options->more_memory_mb - guest->memory_mb <= options->world.hotplug_max_mb))
               ? 0
               : -1;
}

static void measure(const struct options *options, struct bench_results *results)
{
    const struct bench_world *world = &options->world;

    if (!options->no_times) {
        if (!bench_qemu_warm_up(world)) {
            (void)printf("QEMU's guest could not be saved\n");
            results->failed = true;
        }
        /* As a node has its files: otherwise a restore waits for pages that are just being
         * written to the disk. */
        sync();
        run_rounds(world, results);
    }
    run_checkpoints(options, results);
    if (options->forks > 0) {
        if (bench_idle_forks(world, results->forks, options->forks)) {
            results->fork_count = options->forks;
        } else {
            results->failed = true;
        }
    }
}

int main(int argc, char **argv)
{
    static struct bench_results results;
    static struct options options = {
        .world = {.guest = {.qemu = "qemu-system-x86_64", .memory_mb = 512, .cpus = 1},
                  .vcpus = VMM_VCPUS_MAX,
                  .hotplug_max_mb = 15872},
        .rounds = 5,
        .forks = 4,
        .more_memory_mb = 4096};
    struct bench_verdict verdict;

    if (parse(argc, argv, &options) < 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    results.world = &options.world;
    results.rounds = options.rounds;
    if (!bench_warm_up(&options.world)) {
        (void)printf("snapshot: NOT met, there is no warm snapshot\n");
        return 2;
    }
    measure(&options, &results);
    verdict = bench_judge(&results);
    bench_print(&results, &verdict);
    if ((options.json && !bench_write_json(&results, &verdict, options.json)) ||
        (options.svg && !bench_write_svg(&results, &verdict, options.svg))) {
        return 2;
    }
    (void)printf("snapshot: %s, restore %.1f x faster than QEMU incoming (bar %.0f), first output "
                 "%.1f x faster than a boot (bar %.0f), %.3f bytes per dirty byte (bar %.1f), idle "
                 "fork %.2f MiB (bar %.0f), VMM %.2f MiB (bar %.0f)\n",
                 verdict.met ? "met" : "NOT met", verdict.restore_ratio, BENCH_RESTORE_BAR,
                 verdict.tti_ratio, BENCH_TTI_BAR, verdict.checkpoint_ratio, BENCH_CHECKPOINT_BAR,
                 verdict.fork_mib, BENCH_FORK_BAR_MIB, verdict.vmm_mib, BENCH_VMM_BAR_MIB);
    return options.check && !verdict.met ? 1 : 0;
}
