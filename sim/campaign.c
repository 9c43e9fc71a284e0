#include "sim/campaign.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/run.h"

struct report { /* of one seed, through a pipe in one piece */
    uint64_t seed;
    bool ran_twice;
    uint32_t differs_at; /* virtual second plus 1; 0: the runs agree */
    struct sim_result result;
};

_Static_assert(sizeof(struct report) <= PIPE_BUF, "a report is written in one piece");

struct totals {
    uint64_t runs, twice, failed;
    uint64_t events, virtual_us;
    uint64_t faults[SIM_FAULT_CLASSES];
    uint64_t done, refused, unknown;
    uint64_t elections, claims, entries, sandboxes, messages, lost, doubled;
    uint64_t points, copies, repairs, trims, chunks, bad;
    uint64_t slowest_heal_us;
};

static void work(const struct sim_campaign *c, uint32_t job, uint32_t jobs, int fd)
{
    struct report *report = calloc(1, sizeof(*report));

    assert(report);
    for (uint64_t seed = c->first + job; seed <= c->last; seed += jobs) {
        struct sim_schedule schedule;

        sim_schedule_draw(&schedule, seed, c->nodes, c->seconds);
        schedule.mutation = c->mutation;
        report->seed = seed;
        report->ran_twice = c->twice > 0 && seed % c->twice == 0;
        report->differs_at = 0;
        if (report->ran_twice) {
            uint32_t second = 0;

            if (!sim_run_twice(&schedule, &report->result, &second)) {
                report->differs_at = second + 1;
            }
        } else {
            sim_run(&schedule, NULL, &report->result);
        }
        sim_schedule_release(&schedule);
        if (write(fd, report, sizeof(*report)) != (ssize_t)sizeof(*report)) {
            break; /* the parent has seen enough */
        }
    }
    free(report);
}

static void add(struct totals *t, const struct report *report)
{
    const struct sim_result *r = &report->result;

    t->runs++;
    t->twice += report->ran_twice;
    t->events += r->events * (report->ran_twice ? 2 : 1);
    t->virtual_us += r->at_us * (report->ran_twice ? 2 : 1);
    for (unsigned i = 0; i < SIM_FAULT_CLASSES; i++) {
        t->faults[i] += r->faults[i];
    }
    t->done += r->calls_done;
    t->refused += r->calls_refused;
    t->unknown += r->calls_unknown;
    t->elections += r->elections;
    t->claims += r->claims;
    t->points += r->points;
    t->copies += r->copies;
    t->repairs += r->repairs;
    t->trims += r->trims;
    t->chunks += r->chunks;
    t->bad += r->bad;
    t->entries += r->entries;
    t->sandboxes += r->sandboxes;
    t->messages += r->messages;
    t->lost += r->lost;
    t->doubled += r->doubled;
    if (r->heal_us > t->slowest_heal_us) {
        t->slowest_heal_us = r->heal_us;
    }
}

static bool failed(const struct report *report, FILE *out)
{
    if (report->differs_at) {
        fprintf(out,
                "seed %" PRIu64 ": two runs differ before virtual second %u: not deterministic\n",
                report->seed, report->differs_at);
        return true;
    }
    if (report->result.invariant) {
        fprintf(out,
                "seed %" PRIu64 ": VIOLATION of invariant %d at %.3f s: %s\n"
                "  replay: shoal-sim run --seeds %" PRIu64 " --trace; smaller: shoal-sim shrink "
                "%" PRIu64 "\n",
                report->seed, report->result.invariant, (double)report->result.at_us / SIM_SECOND,
                report->result.text, report->seed, report->seed);
        return true;
    }
    return false;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void print_totals(const struct sim_campaign *c,
                         const struct totals *t,
                         double wall_s,
                         uint32_t jobs,
                         FILE *out)
{
    struct rusage usage;
    double cpu_s = 0;

    getrusage(RUSAGE_CHILDREN, &usage);
    cpu_s = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    fprintf(out,
            "seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " runs (%" PRIu64 " of them twice), %" PRIu64
            " failed\n",
            c->first, c->last, t->runs, t->twice, t->failed);
    fprintf(out,
            "speed: %.2f M events in %.1f s on %u processes (%.1f s of CPU): %.2f M events/s, "
            "%.2f M per CPU second, %.0f times real time\n",
            (double)t->events / 1e6, wall_s, jobs, cpu_s, (double)t->events / 1e6 / wall_s,
            (double)t->events / 1e6 / cpu_s, (double)t->virtual_us / 1e6 / wall_s);
    fprintf(out,
            "calls: %" PRIu64 " done, %" PRIu64 " refused, %" PRIu64
            " unknown; log entries %" PRIu64 ", elections %" PRIu64 ", sandboxes %" PRIu64
            ", taken over %" PRIu64 "\n",
            t->done, t->refused, t->unknown, t->entries, t->elections, t->sandboxes, t->claims);
    fprintf(out,
            "copies: %" PRIu64 " points promised, %" PRIu64 " copies made (%" PRIu64
            " as repair), %" PRIu64 " trimmed; %" PRIu64 " chunks asked for, %" PRIu64 " bad\n",
            t->points, t->copies, t->repairs, t->trims, t->chunks, t->bad);
    fprintf(out,
            "messages: %" PRIu64 ", lost %" PRIu64 ", doubled %" PRIu64
            "; longest way back to one cluster %.1f s\n",
            t->messages, t->lost, t->doubled, (double)t->slowest_heal_us / SIM_SECOND);
    fprintf(out, "faults:");
    for (unsigned i = 0; i < SIM_FAULT_CLASSES; i++) {
        fprintf(out, " %s %" PRIu64, sim_fault_name((enum sim_fault_class)i), t->faults[i]);
    }
    fputc('\n', out);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static pid_t start(const struct sim_campaign *c, uint32_t job, uint32_t jobs, const int fds[2])
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)close(fds[0]);
        work(c, job, jobs, fds[1]);
        _exit(0);
    }
    return pid;
}

/* Takes what the workers report until the end or until enough is known. */
static void collect(const struct sim_campaign *c,
                    int fd,
                    struct totals *totals,
                    uint64_t *last,
                    uint32_t jobs,
                    FILE *out)
{
    struct report *report = calloc(1, sizeof(*report));

    assert(report);
    while (read(fd, report, sizeof(*report)) == (ssize_t)sizeof(*report)) {
        add(totals, report);
        last[(report->seed - c->first) % jobs] = report->seed;
        if (failed(report, out)) {
            totals->failed++;
            fflush(out);
            if (!c->keep_going) {
                break;
            }
        }
    }
    free(report);
}

uint64_t sim_campaign_run(const struct sim_campaign *campaign, FILE *out)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t jobs = campaign->jobs ? campaign->jobs : (uint32_t)(cpus > 0 ? cpus : 1);
    pid_t pids[SIM_JOBS_MAX] = {0};
    uint64_t last[SIM_JOBS_MAX] = {0}; /* seed that a worker reported last */
    struct totals totals = {0};
    double begin = now_s();
    uint64_t expected = campaign->last - campaign->first + 1;
    int fds[2];

    jobs = jobs > SIM_JOBS_MAX ? SIM_JOBS_MAX : jobs;
    if (pipe(fds) < 0) {
        fprintf(out, "no pipe: %s\n", strerror(errno));
        return 1;
    }
    fflush(out);
    for (uint32_t i = 0; i < jobs; i++) {
        pids[i] = start(campaign, i, jobs, fds);
    }
    (void)close(fds[1]);
    collect(campaign, fds[0], &totals, last, jobs, out);
    (void)close(fds[0]);
    for (uint32_t i = 0; i < jobs; i++) {
        int status = 0;

        if (pids[i] <= 0) {
            totals.failed++;
            continue;
        }
        if (totals.failed > 0 && !campaign->keep_going) {
            (void)kill(pids[i], SIGTERM);
        }
        (void)waitpid(pids[i], &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM && WTERMSIG(status) != SIGPIPE) {
            fprintf(out, "seed %" PRIu64 ": the process died of signal %d\n",
                    last[i] ? last[i] + jobs : campaign->first + i, WTERMSIG(status));
            totals.failed++;
        }
    }
    if (totals.failed == 0 && totals.runs != expected) {
        fprintf(out, "only %" PRIu64 " of %" PRIu64 " seeds were run\n", totals.runs, expected);
        totals.failed++;
    }
    print_totals(campaign, &totals, now_s() - begin, jobs, out);
    return totals.failed;
}
