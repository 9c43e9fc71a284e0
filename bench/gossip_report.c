#include "bench/gossip_report.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/attr.h"
#include "base/err.h"

#include "bench/svg.h"

#define TEXT_SIZE 96

static const char *const names[BENCH_GOSSIP_CONTENDERS] = {"memberlist_rules", "rumours", "whole"};

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_gossip_quantile(struct bench_gossip_times *times, double share)
{
    uint32_t at;

    if (times->count == 0) {
        return 0;
    }
    qsort(times->ms, times->count, sizeof(times->ms[0]), compare);
    at = (uint32_t)(share * times->count);
    return times->ms[at < times->count ? at : times->count - 1];
}

static double reached(const struct bench_gossip_times *times)
{
    return times->runs ? 100.0 * times->count / times->runs : 0;
}

static struct bench_gossip_row *budget_row(struct bench_gossip_results *results)
{
    uint32_t i;

    for (i = 0; i < results->row_count; i++) {
        if (results->rows[i].nodes == 100 && results->rows[i].loss == 10) {
            return &results->rows[i];
        }
    }
    return NULL;
}

bool bench_gossip_met(struct bench_gossip_results *results)
{
    struct bench_gossip_row *row = budget_row(results);
    struct bench_gossip_times *whole = row ? &row->times[BENCH_GOSSIP_WHOLE] : NULL;

    return whole && whole->count == whole->runs && results->crash.count == results->crash.runs &&
           bench_gossip_quantile(whole, 0.99) < BENCH_GOSSIP_SPREAD_BAR_MS &&
           bench_gossip_quantile(&results->crash, 1) < BENCH_GOSSIP_CRASH_BAR_MS &&
           results->crash_extra_deaths == 0 && results->stall_deaths == 0;
}

/* ---- text ---- */

static void print_times(struct bench_gossip_times *times)
{
    if (times->runs == 0) {
        (void)printf(" | %22s", "-");
        return;
    }
    (void)printf(" | %6.2f %6.2f s %5.1f%%", bench_gossip_quantile(times, 0.5) / 1000,
                 bench_gossip_quantile(times, 0.99) / 1000, reached(times));
}

static void print_detection(const char *what, struct bench_gossip_times *times)
{
    (void)printf("%-44s median %.2f s, p99 %.2f s, max %.2f s (%u of %u)\n", what,
                 bench_gossip_quantile(times, 0.5) / 1000,
                 bench_gossip_quantile(times, 0.99) / 1000, bench_gossip_quantile(times, 1) / 1000,
                 times->count, times->runs);
}

void bench_gossip_print(struct bench_gossip_results *results)
{
    uint32_t i, k;

    (void)printf("time until everyone knows one update: median, p99, runs that reached everyone\n");
    (void)printf("%5s %5s | %-22s | %-22s | %-22s\n", "nodes", "loss", "memberlist's rules",
                 "rumours alone", "whole core");
    for (i = 0; i < results->row_count; i++) {
        (void)printf("%5u %4u%%", results->rows[i].nodes, results->rows[i].loss);
        for (k = 0; k < BENCH_GOSSIP_CONTENDERS; k++) {
            print_times(&results->rows[i].times[k]);
        }
        (void)printf("\n");
    }
    (void)printf("\n%u nodes:\n", results->detect_nodes);
    print_detection("process crashes, known to all after", &results->crash);
    print_detection("machine vanishes, known to all after", &results->silent);
    (void)printf("others declared dead meanwhile: %u\n", results->crash_extra_deaths);
    (void)printf("%u stalls of 5 s, a tenth of the nodes at a time: %u deaths, %llu suspicions\n",
                 results->stalls, results->stall_deaths,
                 (unsigned long long)results->stall_accusations);
    (void)printf("idle cluster: %.0f steps per second of real time\n", results->steps_per_second);
    (void)printf("bars (100 nodes, 10%% loss: p99 < 0.6 s; crash < 4 s; no false death): %s\n",
                 bench_gossip_met(results) ? "met" : "MISSED");
}

/* ---- JSON ---- */

static void json_times(FILE *file, const char *name, struct bench_gossip_times *times, bool more)
{
    (void)fprintf(file,
                  "\"%s\": {\"runs\": %u, \"reached\": %u, \"median_ms\": %.0f, \"p99_ms\": %.0f, "
                  "\"max_ms\": %.0f}%s",
                  name, times->runs, times->count, bench_gossip_quantile(times, 0.5),
                  bench_gossip_quantile(times, 0.99), bench_gossip_quantile(times, 1),
                  more ? ", " : "");
}

bool bench_gossip_write_json(struct bench_gossip_results *results, const char *path)
{
    FILE *file = fopen(path, "w");
    uint32_t i, k;

    if (!file) {
        perror(path);
        return false;
    }
    (void)fputs("{\n  \"bench\": \"gossip\",\n  \"spread\": [", file);
    for (i = 0; i < results->row_count; i++) {
        struct bench_gossip_row *row = &results->rows[i];

        (void)fprintf(file, "%s\n    {\"nodes\": %u, \"loss_percent\": %u, ", i ? "," : "",
                      row->nodes, row->loss);
        for (k = 0; k < BENCH_GOSSIP_CONTENDERS; k++) {
            json_times(file, names[k], &row->times[k], k + 1 < BENCH_GOSSIP_CONTENDERS);
        }
        (void)fputs("}", file);
    }
    (void)fprintf(file, "\n  ],\n  \"detection\": {\"nodes\": %u, ", results->detect_nodes);
    json_times(file, "process_crash", &results->crash, true);
    json_times(file, "machine_lost", &results->silent, true);
    (void)fprintf(
        file,
        "\"extra_deaths\": %u, \"stalls\": %u, \"stall_deaths\": %u, "
        "\"stall_accusations\": %llu},\n  \"steps_per_second\": %.0f,\n  \"met\": %s\n}\n",
        results->crash_extra_deaths, results->stalls, results->stall_deaths,
        (unsigned long long)results->stall_accusations, results->steps_per_second,
        bench_gossip_met(results) ? "true" : "false");
    return fclose(file) == 0;
}

/* ---- picture ---- */

#define BARS_MAX (BENCH_GOSSIP_ROWS_MAX * 2)

struct panel_text {
    char label[BARS_MAX][TEXT_SIZE];
    char text[BARS_MAX][TEXT_SIZE];
    struct bench_svg_bar bars[BARS_MAX];
};

static void add_bar(struct panel_text *texts,
                    struct bench_svg_panel *panel,
                    const char *who,
                    uint32_t nodes,
                    uint32_t loss,
                    struct bench_gossip_times *times,
                    enum bench_svg_role role)
{
    unsigned at = panel->count;

    if (times->runs == 0 || at == BARS_MAX) {
        return;
    }
    (void)snprintf(texts->label[at], TEXT_SIZE, "%u nodes, %u%% loss, %s", nodes, loss, who);
    (void)snprintf(texts->text[at], TEXT_SIZE, "%.2f s, p99 %.2f",
                   bench_gossip_quantile(times, 0.5) / 1000,
                   bench_gossip_quantile(times, 0.99) / 1000);
    texts->bars[at] = (struct bench_svg_bar){texts->label[at], texts->text[at],
                                             bench_gossip_quantile(times, 0.5) / 1000, role};
    panel->bars = texts->bars;
    panel->count++;
}

static void draw_detection(struct bench_gossip_results *results,
                           struct panel_text *texts,
                           struct bench_svg_panel *panel)
{
    static const char *const labels[] = {"process crashes", "machine vanishes"};
    struct bench_gossip_times *times[] = {&results->crash, &results->silent};
    unsigned i;

    for (i = 0; i < SHL_ARRAY_SIZE(times); i++) {
        (void)snprintf(texts->text[i], TEXT_SIZE, "%.2f s, max %.2f",
                       bench_gossip_quantile(times[i], 0.5) / 1000,
                       bench_gossip_quantile(times[i], 1) / 1000);
        texts->bars[i] =
            (struct bench_svg_bar){labels[i], texts->text[i],
                                   bench_gossip_quantile(times[i], 0.5) / 1000, BENCH_SVG_OURS};
    }
    panel->bars = texts->bars;
    panel->count = SHL_ARRAY_SIZE(times);
    panel->bar = BENCH_GOSSIP_CRASH_BAR_MS / 1000.0;
}

bool bench_gossip_write_svg(struct bench_gossip_results *results, const char *path)
{
    static struct panel_text texts[2];
    struct bench_svg_panel panels[2] = {
        {.title = "One update, until every node knows it",
         .note = "Simulated, median of all runs. Orange: memberlist's rules (200 ms, fanout 3)."},
        {.title = "One crash, until every node knows it",
         .note = "100 nodes; the bar is 4 s. Stalls of 5 s meanwhile kill nobody."},
    };
    uint32_t i;
    int rc;

    for (i = 0; i < results->row_count; i++) {
        struct bench_gossip_row *row = &results->rows[i];
        struct bench_gossip_times *whole = &row->times[BENCH_GOSSIP_WHOLE];

        add_bar(&texts[0], &panels[0], "memberlist", row->nodes, row->loss,
                &row->times[BENCH_GOSSIP_RULES], BENCH_SVG_OTHER);
        add_bar(&texts[0], &panels[0], "shoal", row->nodes, row->loss,
                whole->runs ? whole : &row->times[BENCH_GOSSIP_RUMOURS], BENCH_SVG_OURS);
    }
    draw_detection(results, &texts[1], &panels[1]);
    rc = bench_svg_write(path, "Gossip under virtual time",
                         "1 ms delay. Virtual time: the figures do not depend on the machine.",
                         panels, 2);
    if (rc < 0) {
        (void)printf("%s: %s\n", path, shl_err_text(rc));
    }
    return rc == 0;
}
