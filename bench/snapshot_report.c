#include "bench/snapshot_report.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

#include "bench/svg.h"

#define MIB       (1024.0 * 1024.0)
#define TEXT_SIZE 96

/* ---- figures ---- */

double bench_times_median(const struct bench_times *times, enum bench_mark mark)
{
    double values[BENCH_ROUNDS_MAX];

    memcpy(values, times->marks[mark], sizeof(values));
    return bench_median(values, times->count);
}

double bench_checkpoint_ratio(const struct bench_checkpoint *checkpoint)
{
    return checkpoint->dirty_bytes > 0
               ? (double)checkpoint->file_bytes / (double)checkpoint->dirty_bytes
               : 0;
}

static double forks_median_mib(const struct bench_results *results, bool own)
{
    double values[BENCH_FORKS_MAX];
    unsigned i;

    for (i = 0; i < results->fork_count; i++) {
        const struct bench_smaps *fork = &results->forks[i];

        values[i] = (double)(own ? fork->own_private_bytes : fork->guest_private_bytes) / MIB;
    }
    return bench_median(values, results->fork_count);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

struct bench_verdict bench_judge(const struct bench_results *results)
{
    const struct bench_times *times = results->times;
    struct bench_verdict verdict = {0};
    bool complete = !results->failed;
    unsigned i;

    verdict.restore_ratio = ratio(bench_times_median(&times[BENCH_QEMU_RESTORE], BENCH_RUNNING),
                                  bench_times_median(&times[BENCH_RESTORE], BENCH_RUNNING));
    verdict.tti_ratio = ratio(bench_times_median(&times[BENCH_BOOT], BENCH_EXEC),
                              bench_times_median(&times[BENCH_RESTORE], BENCH_EXEC));
    for (i = 0; i < results->checkpoint_count; i++) {
        double one = bench_checkpoint_ratio(&results->checkpoints[i]);

        complete = complete && one > 0;
        verdict.checkpoint_ratio = one > verdict.checkpoint_ratio ? one : verdict.checkpoint_ratio;
    }
    for (i = 0; i < BENCH_CONTENDERS; i++) {
        complete = complete && times[i].count > 0;
    }
    verdict.fork_mib = forks_median_mib(results, false);
    verdict.vmm_mib = forks_median_mib(results, true);
    verdict.met = complete && times[BENCH_RESTORE].failed == 0 &&
                  verdict.restore_ratio >= BENCH_RESTORE_BAR &&
                  verdict.tti_ratio >= BENCH_TTI_BAR && results->checkpoint_count > 0 &&
                  verdict.checkpoint_ratio <= BENCH_CHECKPOINT_BAR && results->fork_count > 0 &&
                  verdict.fork_mib < BENCH_FORK_BAR_MIB && verdict.vmm_mib < BENCH_VMM_BAR_MIB;
    return verdict;
}

/* ---- text ---- */

static void print_checkpoints(const struct bench_results *results)
{
    unsigned i;

    (void)printf("\n%-10s %10s %12s %12s %8s %10s\n", "memory MiB", "written", "dirty pages",
                 "bytes", "ratio", "pause us");
    for (i = 0; i < results->checkpoint_count; i++) {
        const struct bench_checkpoint *one = &results->checkpoints[i];

        (void)printf("%-10u %6u MiB %12llu %12llu %8.3f %10llu\n", one->memory_mb, one->written_mb,
                     (unsigned long long)(one->dirty_bytes / 4096),
                     (unsigned long long)one->file_bytes, bench_checkpoint_ratio(one),
                     (unsigned long long)one->reply.pause_us);
    }
}

void bench_print(const struct bench_results *results, const struct bench_verdict *verdict)
{
    unsigned mark, i;

    (void)printf("\n%-16s", "median");
    for (i = 0; i < BENCH_CONTENDERS; i++) {
        (void)printf(" %14s", bench_contender_names[i]);
    }
    for (mark = 0; mark < BENCH_MARKS; mark++) {
        (void)printf("\n%-16s", bench_mark_names[mark]);
        for (i = 0; i < BENCH_CONTENDERS; i++) {
            (void)printf(" %14.1f", bench_times_median(&results->times[i], (enum bench_mark)mark));
        }
    }
    print_checkpoints(results);
    (void)printf("\nidle forks: %u, private memory of the guest %.2f MiB, of the VMM %.2f MiB\n",
                 results->fork_count, verdict->fork_mib, verdict->vmm_mib);
}

/* ---- JSON ---- */

static void json_times(FILE *file, const char *name, const struct bench_times *times)
{
    unsigned mark, i;

    (void)fprintf(file, "  \"%s\": {\"runs\": %u, \"failed\": %u", name, times->count,
                  times->failed);
    for (mark = 0; mark < BENCH_MARKS; mark++) {
        (void)fprintf(file, ", \"median_%s\": %.1f, \"%s\": [", bench_mark_names[mark],
                      bench_times_median(times, (enum bench_mark)mark), bench_mark_names[mark]);
        for (i = 0; i < times->count; i++) {
            (void)fprintf(file, "%s%.1f", i ? ", " : "", times->marks[mark][i]);
        }
        (void)fputs("]", file);
    }
    (void)fputs("},\n", file);
}

static void json_checkpoints(FILE *file, const struct bench_results *results)
{
    unsigned i;

    (void)fputs("  \"checkpoints\": [", file);
    for (i = 0; i < results->checkpoint_count; i++) {
        const struct bench_checkpoint *one = &results->checkpoints[i];

        (void)fprintf(file,
                      "%s\n    {\"memory_mb\": %u, \"written_mb\": %u, \"dirty_bytes\": %llu, "
                      "\"file_bytes\": %llu, \"ratio\": %.4f, \"pause_us\": %llu, "
                      "\"dirty_pages\": %llu, \"mem_bytes\": %llu, \"state_bytes\": %llu}",
                      i ? "," : "", one->memory_mb, one->written_mb,
                      (unsigned long long)one->dirty_bytes, (unsigned long long)one->file_bytes,
                      bench_checkpoint_ratio(one), (unsigned long long)one->reply.pause_us,
                      (unsigned long long)one->reply.dirty_pages,
                      (unsigned long long)one->reply.mem_bytes,
                      (unsigned long long)one->reply.state_bytes);
    }
    (void)fputs("\n  ],\n  \"forks\": [", file);
    for (i = 0; i < results->fork_count; i++) {
        (void)fprintf(file, "%s\n    {\"guest_private_bytes\": %llu, \"vmm_private_bytes\": %llu}",
                      i ? "," : "", (unsigned long long)results->forks[i].guest_private_bytes,
                      (unsigned long long)results->forks[i].own_private_bytes);
    }
    (void)fputs("\n  ],\n", file);
}

bool bench_write_json(const struct bench_results *results,
                      const struct bench_verdict *verdict,
                      const char *path)
{
    const struct bench_world *world = results->world;
    FILE *file = fopen(path, "w");
    unsigned i;

    if (!file) {
        perror(path);
        return false;
    }
    (void)fprintf(file,
                  "{\n  \"bench\": \"snapshot\",\n  \"rounds\": %u,\n  \"vcpus\": %u,\n"
                  "  \"cpus\": %u,\n  \"memory_mb\": %u,\n  \"hotplug_max_mb\": %u,\n",
                  results->rounds, world->vcpus, world->guest.cpus, world->guest.memory_mb,
                  world->hotplug_max_mb);
    for (i = 0; i < BENCH_CONTENDERS; i++) {
        json_times(file, bench_contender_names[i], &results->times[i]);
    }
    json_checkpoints(file, results);
    (void)fprintf(file,
                  "  \"restore_ratio\": %.3f,\n  \"restore_bar\": %.1f,\n"
                  "  \"tti_ratio\": %.3f,\n  \"tti_bar\": %.1f,\n"
                  "  \"checkpoint_ratio\": %.4f,\n  \"checkpoint_bar\": %.2f,\n"
                  "  \"fork_mib\": %.3f,\n  \"fork_bar_mib\": %.1f,\n"
                  "  \"vmm_mib\": %.3f,\n  \"vmm_bar_mib\": %.1f,\n  \"met\": %s\n}\n",
                  verdict->restore_ratio, BENCH_RESTORE_BAR, verdict->tti_ratio, BENCH_TTI_BAR,
                  verdict->checkpoint_ratio, BENCH_CHECKPOINT_BAR, verdict->fork_mib,
                  BENCH_FORK_BAR_MIB, verdict->vmm_mib, BENCH_VMM_BAR_MIB,
                  verdict->met ? "true" : "false");
    return fclose(file) == 0;
}

/* ---- picture ---- */

/* Texts of one panel's bars live here until the file is written. */
struct panel_text {
    char label[BENCH_CHECKPOINTS_MAX][TEXT_SIZE];
    char text[BENCH_CHECKPOINTS_MAX][TEXT_SIZE];
    char note[2 * TEXT_SIZE];
    struct bench_svg_bar bars[BENCH_CHECKPOINTS_MAX];
};

static void draw_times(const struct bench_results *results,
                       enum bench_mark mark,
                       struct panel_text *texts,
                       struct bench_svg_panel *panel)
{
    static const char *const labels[] = {"shoal-vmm, restore", "shoal-vmm, boot",
                                         "QEMU microvm, incoming", "QEMU microvm, boot"};
    static const enum bench_svg_role roles[] = {BENCH_SVG_OURS, BENCH_SVG_OURS_LIGHT,
                                                BENCH_SVG_OTHER, BENCH_SVG_OTHER_LIGHT};
    double best = bench_times_median(&results->times[BENCH_RESTORE], mark);
    unsigned i;

    for (i = 0; i < BENCH_CONTENDERS; i++) {
        double value = bench_times_median(&results->times[i], mark);

        (void)snprintf(texts->text[i], TEXT_SIZE, "%.1f x", ratio(value, best));
        texts->bars[i] = (struct bench_svg_bar){labels[i], texts->text[i], value, roles[i]};
    }
    panel->bars = texts->bars;
    panel->count = BENCH_CONTENDERS;
    panel->note = texts->note;
}

static void draw_checkpoints(const struct bench_results *results,
                             struct panel_text *texts,
                             struct bench_svg_panel *panel)
{
    unsigned i;

    for (i = 0; i < results->checkpoint_count; i++) {
        const struct bench_checkpoint *one = &results->checkpoints[i];

        (void)snprintf(texts->label[i], TEXT_SIZE, "%u of %u MiB written", one->written_mb,
                       one->memory_mb);
        (void)snprintf(texts->text[i], TEXT_SIZE, "%.1f MiB, %.3f", (double)one->file_bytes / MIB,
                       bench_checkpoint_ratio(one));
        texts->bars[i] = (struct bench_svg_bar){texts->label[i], texts->text[i],
                                                (double)one->file_bytes / MIB, BENCH_SVG_OURS};
    }
    panel->bars = texts->bars;
    panel->count = results->checkpoint_count;
    panel->note = "Size of the checkpoint, and bytes written per dirty byte (bar: 1.1).";
}

static void draw_memory(const struct bench_verdict *verdict,
                        struct panel_text *texts,
                        struct bench_svg_panel *panel)
{
    static const char *const labels[] = {"guest, bar 10 MiB", "VMM itself, bar 3 MiB"};
    const double values[] = {verdict->fork_mib, verdict->vmm_mib};
    unsigned i;

    for (i = 0; i < 2; i++) {
        (void)snprintf(texts->text[i], TEXT_SIZE, "%.2f MiB", values[i]);
        texts->bars[i] = (struct bench_svg_bar){labels[i], texts->text[i], values[i],
                                                i == 0 ? BENCH_SVG_OURS : BENCH_SVG_OURS_LIGHT};
    }
    panel->bars = texts->bars;
    panel->count = 2;
    panel->max = BENCH_FORK_BAR_MIB;
    panel->note = "Private memory after set-up: nobody else shares these pages.";
}

bool bench_write_svg(const struct bench_results *results,
                     const struct bench_verdict *verdict,
                     const char *path)
{
    static struct panel_text texts[4];
    struct bench_svg_panel panels[4] = {{.title = "Process start to running vCPUs"},
                                        {.title = "Process start to the first command's output"},
                                        {.title = "Checkpoints follow dirty memory, not RAM"},
                                        {.title = "An idle fork"}};
    char title[2 * TEXT_SIZE];
    int r;

    (void)snprintf(title, sizeof(title),
                   "Snapshots: one guest, %u MiB, %u CPU, median of %u rounds",
                   results->world->guest.memory_mb, results->world->guest.cpus, results->rounds);
    (void)snprintf(texts[0].note, sizeof(texts[0].note),
                   "Relative to shoal-vmm's restore; QEMU's incoming takes %.1f times as long.",
                   verdict->restore_ratio);
    (void)snprintf(texts[1].note, sizeof(texts[1].note),
                   "Relative to shoal-vmm's restore; its own boot takes %.1f times as long.",
                   verdict->tti_ratio);
    draw_times(results, BENCH_RUNNING, &texts[0], &panels[0]);
    draw_times(results, BENCH_EXEC, &texts[1], &panels[1]);
    draw_checkpoints(results, &texts[2], &panels[2]);
    draw_memory(verdict, &texts[3], &panels[3]);
    r = bench_svg_write(path, title,
                        "All figures from one run on one machine: ratios and counts, no absolute "
                        "times.",
                        panels, 4);
    if (r < 0) {
        (void)printf("%s: %s\n", path, shl_err_text(r));
    }
    return r == 0;
}
