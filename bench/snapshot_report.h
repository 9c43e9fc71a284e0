/* The figures of bench/snapshot: collected, judged and written as text, JSON and SVG. */
#ifndef SHL_BENCH_SNAPSHOT_REPORT_H
#define SHL_BENCH_SNAPSHOT_REPORT_H

#include "bench/checkpoints.h"
#include "bench/contenders.h"

#define BENCH_ROUNDS_MAX      64
#define BENCH_CHECKPOINTS_MAX 8

/* The bars. */
#define BENCH_RESTORE_BAR    3.0  /* times faster than QEMU to running vCPUs */
#define BENCH_TTI_BAR        10.0 /* times faster than a boot to the first output */
#define BENCH_CHECKPOINT_BAR 1.1  /* bytes written per dirty byte */
#define BENCH_FORK_BAR_MIB   10.0 /* private guest memory of an idle fork */
#define BENCH_VMM_BAR_MIB    3.0  /* everything else of its VMM */

struct bench_times {
    double marks[BENCH_MARKS][BENCH_ROUNDS_MAX];
    unsigned count;
    unsigned failed;
};

struct bench_results {
    const struct bench_world *world;
    unsigned rounds;
    struct bench_times times[BENCH_CONTENDERS];
    struct bench_checkpoint checkpoints[BENCH_CHECKPOINTS_MAX];
    unsigned checkpoint_count;
    struct bench_smaps forks[BENCH_FORKS_MAX];
    unsigned fork_count;
    bool failed; /* something did not run at all */
};

struct bench_verdict {
    double restore_ratio;    /* QEMU's time to running / ours */
    double tti_ratio;        /* boot to first output / restore to first output */
    double checkpoint_ratio; /* the worst */
    double fork_mib;         /* medians */
    double vmm_mib;
    bool met;
};

double bench_times_median(const struct bench_times *times, enum bench_mark mark);
double bench_checkpoint_ratio(const struct bench_checkpoint *checkpoint);
struct bench_verdict bench_judge(const struct bench_results *results);
void bench_print(const struct bench_results *results, const struct bench_verdict *verdict);
bool bench_write_json(const struct bench_results *results,
                      const struct bench_verdict *verdict,
                      const char *path);
bool bench_write_svg(const struct bench_results *results,
                     const struct bench_verdict *verdict,
                     const char *path);

#endif /* SHL_BENCH_SNAPSHOT_REPORT_H */
