/* Figures of bench-gossip and the ways they are shown: text, JSON, picture. All times are
 * virtual milliseconds of simulated nodes, so they do not depend on the machine. */
#ifndef SHL_BENCH_GOSSIP_REPORT_H
#define SHL_BENCH_GOSSIP_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define BENCH_GOSSIP_RUNS_MAX 1000
#define BENCH_GOSSIP_ROWS_MAX 16

/* Bars: docs/architecture.md. */
#define BENCH_GOSSIP_SPREAD_BAR_MS 600
#define BENCH_GOSSIP_CRASH_BAR_MS  4000

/* Times until every node knew, of the runs in which all did. */
struct bench_gossip_times {
    double ms[BENCH_GOSSIP_RUNS_MAX];
    uint32_t count;
    uint32_t runs;
};

enum bench_gossip_contender {
    BENCH_GOSSIP_RULES,   /* memberlist's rules, gossip alone */
    BENCH_GOSSIP_RUMOURS, /* our core without detector and comparisons */
    BENCH_GOSSIP_WHOLE,   /* our core as it runs */
    BENCH_GOSSIP_CONTENDERS,
};

struct bench_gossip_row {
    uint32_t nodes;
    uint32_t loss; /* percent */
    struct bench_gossip_times times[BENCH_GOSSIP_CONTENDERS];
};

struct bench_gossip_results {
    struct bench_gossip_row rows[BENCH_GOSSIP_ROWS_MAX];
    uint32_t row_count;
    uint32_t detect_nodes;
    struct bench_gossip_times crash;  /* of the process: connections are reset */
    struct bench_gossip_times silent; /* of the machine: bytes are not acknowledged */
    uint32_t crash_extra_deaths;
    uint32_t stalls;
    uint32_t stall_deaths;
    uint64_t stall_accusations;
    double steps_per_second; /* of real time, one core, detector idling at detect_nodes */
};

/* Share 0..1 of the sorted times, 0 without any. Sorts. */
double bench_gossip_quantile(struct bench_gossip_times *times, double share);

bool bench_gossip_met(struct bench_gossip_results *results);
void bench_gossip_print(struct bench_gossip_results *results);
bool bench_gossip_write_json(struct bench_gossip_results *results, const char *path);
bool bench_gossip_write_svg(struct bench_gossip_results *results, const char *path);

#endif /* SHL_BENCH_GOSSIP_REPORT_H */
