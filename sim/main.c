/* shoal-sim: runs seeds, schedules and directed schedules of the simulated mesh. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/campaign.h"
#include "sim/directed.h"
#include "sim/mutate.h"
#include "sim/shrink.h"

#define EXIT_VIOLATION 1
#define EXIT_USAGE     2
#define SHRINK_RUNS    2000

static const char usage[] =
    "shoal-sim: the mesh of Shoal under virtual time and injected faults\n"
    "\n"
    "usage:\n"
    "  shoal-sim run [OPTION]...       run seeds and check every invariant\n"
    "  shoal-sim shrink SEED [OPTION]...  the smallest schedule that still fails, on stdout\n"
    "  shoal-sim directed [NAME] [--mutate NAME] [--trace]  directed schedules, all or one\n"
    "  shoal-sim list                  mutations, directed schedules, fault classes\n"
    "\n"
    "options:\n"
    "  --seeds A..B     these seeds (default 1..100); one number: only this one\n"
    "  --nodes N        so many nodes (default: drawn from the seed, 3 to 5 mostly)\n"
    "  --seconds S      virtual seconds with faults (default: drawn, 6 to 14)\n"
    "  --mutate NAME    with this known bug switched on; ends at the first violation\n"
    "  --schedule FILE  run this schedule instead of seeds\n"
    "  --trace          print what happens (one seed or a schedule)\n"
    "  --print          print the schedule of one seed instead of running it\n"
    "  --jobs J         processes (default: one per CPU)\n"
    "  --twice N        run each N-th seed twice and compare (default 50, 0: none)\n"
    "  --keep-going     do not end at the first violation\n"
    "\n"
    "exit code: 0 all held, 1 a violation or a run that does not repeat, 2 usage\n";

struct options {
    struct sim_campaign campaign;
    const char *schedule_file;
    bool trace;
    bool print;
    uint64_t shrink_seed;
    const char *name;
};

static int complain(const char *what, const char *value)
{
    fprintf(stderr, "shoal-sim: %s \"%s\" (see shoal-sim --help)\n", what, value);
    return -EINVAL;
}

static int parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end = NULL;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != 0 || errno != 0 || *ret > max) {
        return complain("not a number in range:", text);
    }
    return 0;
}

static int parse_seeds(const char *text, struct sim_campaign *campaign)
{
    char first[32];
    const char *dots = strstr(text, "..");
    size_t len = dots ? (size_t)(dots - text) : strlen(text);

    if (len >= sizeof(first)) {
        return complain("not a range of seeds:", text);
    }
    memcpy(first, text, len);
    first[len] = 0;
    if (parse_number(first, UINT64_MAX - 1, &campaign->first) < 0) {
        return -EINVAL;
    }
    campaign->last = campaign->first;
    if (dots && (parse_number(dots + 2, UINT64_MAX - 1, &campaign->last) < 0 ||
                 campaign->last < campaign->first)) {
        return complain("not a range of seeds:", text);
    }
    return 0;
}

static int parse_mutation(const char *text, struct sim_campaign *campaign)
{
    int number = sim_mutation_parse(text);

    if (number <= 0) {
        return complain("no such mutation, shoal-sim list shows them:", text);
    }
    campaign->mutation = (uint32_t)number;
    return 0;
}

/* An option with a value. 1 when it is none of them. */
static int parse_valued(struct options *options, const char *name, const char *value)
{
    struct sim_campaign *c = &options->campaign;
    uint64_t number = 0;
    int rc = 0;

    if (strcmp(name, "--seeds") == 0) {
        return parse_seeds(value, c);
    }
    if (strcmp(name, "--mutate") == 0) {
        return parse_mutation(value, c);
    }
    if (strcmp(name, "--schedule") == 0) {
        options->schedule_file = value;
        return 0;
    }
    if (strcmp(name, "--nodes") == 0) {
        rc = parse_number(value, SIM_NODES_MAX - 4, &number);
        c->nodes = (uint32_t)number;
    } else if (strcmp(name, "--seconds") == 0) {
        rc = parse_number(value, 100000, &number);
        c->seconds = (uint32_t)number;
    } else if (strcmp(name, "--jobs") == 0) {
        rc = parse_number(value, SIM_JOBS_MAX, &number);
        c->jobs = (uint32_t)number;
    } else if (strcmp(name, "--twice") == 0) {
        rc = parse_number(value, UINT32_MAX, &number);
        c->twice = (uint32_t)number;
    } else {
        return 1;
    }
    return rc;
}

static int parse_options(struct options *options, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        int rc = 1;

        if (strcmp(argv[i], "--trace") == 0) {
            options->trace = true;
            continue;
        }
        if (strcmp(argv[i], "--print") == 0) {
            options->print = true;
            continue;
        }
        if (strcmp(argv[i], "--keep-going") == 0) {
            options->campaign.keep_going = true;
            continue;
        }
        if (argv[i][0] != '-' && !options->name) {
            options->name = argv[i];
            continue;
        }
        if (value) {
            rc = parse_valued(options, argv[i], value);
            i++;
        }
        if (rc > 0) {
            return complain("unknown option or one without its value:", argv[i - (value != NULL)]);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static void show(const struct sim_result *r)
{
    if (r->invariant) {
        printf("VIOLATION of invariant %d at %.6f s: %s\n", r->invariant,
               (double)r->at_us / SIM_SECOND, r->text);
    } else {
        printf("held: %" PRIu64 " events, %.1f virtual s, one cluster %.1f s after the heal, "
               "digest %016" PRIx64 "\n",
               r->events, (double)r->at_us / SIM_SECOND, (double)r->heal_us / SIM_SECOND,
               r->digest);
    }
}

static int run_one(const struct sim_schedule *schedule, bool trace)
{
    struct sim_result *result = calloc(1, sizeof(*result));
    int rc = 0;

    if (!result) {
        return EXIT_USAGE;
    }
    sim_run(schedule, trace ? stdout : NULL, result);
    show(result);
    rc = result->invariant ? EXIT_VIOLATION : 0;
    free(result);
    return rc;
}

static int run_file(const struct options *options)
{
    struct sim_schedule schedule;
    struct shl_err err = {0};
    FILE *file = fopen(options->schedule_file, "r");
    int rc = 0;

    if (!file) {
        fprintf(stderr, "shoal-sim: %s: %s\n", options->schedule_file, strerror(errno));
        return EXIT_USAGE;
    }
    rc = sim_schedule_read(&schedule, file, &err);
    fclose(file);
    if (rc < 0) {
        fprintf(stderr, "shoal-sim: %s: %s\n", options->schedule_file, err.msg);
        return EXIT_USAGE;
    }
    if (options->campaign.mutation) {
        schedule.mutation = options->campaign.mutation;
    }
    rc = run_one(&schedule, options->trace);
    sim_schedule_release(&schedule);
    return rc;
}

static int cmd_run(struct options *options)
{
    struct sim_campaign *c = &options->campaign;
    struct sim_schedule schedule;
    int rc = 0;

    if (options->schedule_file) {
        return run_file(options);
    }
    if ((options->trace || options->print) && c->first != c->last) {
        return complain("needs one seed:", options->trace ? "--trace" : "--print") ? EXIT_USAGE : 0;
    }
    if (!options->trace && !options->print) {
        return sim_campaign_run(c, stdout) ? EXIT_VIOLATION : 0;
    }
    sim_schedule_draw(&schedule, c->first, c->nodes, c->seconds);
    schedule.mutation = c->mutation;
    if (options->print) {
        sim_schedule_print(&schedule, stdout);
    } else {
        rc = run_one(&schedule, true);
    }
    sim_schedule_release(&schedule);
    return rc;
}

/*- Shrink. */

struct failure {
    int invariant;
    struct sim_result result;
};

static bool fails_alike(const struct sim_schedule *schedule, void *arg)
{
    struct failure *failure = arg;

    sim_run(schedule, NULL, &failure->result);
    return failure->result.invariant == failure->invariant;
}

static int cmd_shrink(struct options *options)
{
    struct sim_campaign *c = &options->campaign;
    struct sim_shrink_stats stats = {.runs_max = SHRINK_RUNS};
    struct failure *failure = calloc(1, sizeof(*failure));
    struct sim_schedule schedule;
    size_t before = 0;

    if (!failure || !options->name || parse_number(options->name, UINT64_MAX, &c->first) < 0) {
        free(failure);
        return complain("needs the seed that fails", "") ? EXIT_USAGE : 0;
    }
    sim_schedule_draw(&schedule, c->first, c->nodes, c->seconds);
    schedule.mutation = c->mutation;
    before = schedule.count;
    sim_run(&schedule, NULL, &failure->result);
    failure->invariant = failure->result.invariant;
    if (!failure->invariant) {
        fprintf(stderr, "shoal-sim: seed %" PRIu64 " does not fail\n", c->first);
        sim_schedule_release(&schedule);
        free(failure);
        return EXIT_USAGE;
    }
    sim_shrink(&schedule, fails_alike, failure, &stats);
    sim_run(&schedule, NULL, &failure->result);
    printf("# invariant %d: %s\n", failure->result.invariant, failure->result.text);
    printf("# from %zu faults to %zu in %u runs; replay: shoal-sim run --schedule FILE --trace\n",
           before, schedule.count, stats.runs);
    sim_schedule_print(&schedule, stdout);
    sim_schedule_release(&schedule);
    free(failure);
    return 0;
}

/*- Directed, list. */

static int run_directed(const struct sim_directed *directed, const struct options *options)
{
    struct sim_result *result = calloc(1, sizeof(*result));
    int rc = 0;

    if (!result) {
        return EXIT_USAGE;
    }
    directed->run(options->campaign.mutation, options->trace ? stdout : NULL, result);
    printf("%-24s ", directed->name);
    show(result);
    fputs(result->table, stdout);
    rc = result->invariant ? EXIT_VIOLATION : 0;
    free(result);
    return rc;
}

static int cmd_directed(struct options *options)
{
    int rc = 0;

    if (options->name) {
        const struct sim_directed *directed = sim_directed_find(options->name);

        if (!directed) {
            complain("no such directed schedule, shoal-sim list shows them:", options->name);
            return EXIT_USAGE;
        }
        return run_directed(directed, options);
    }
    for (size_t i = 0; i < sim_directed_count(); i++) {
        rc |= run_directed(sim_directed_get(i), options);
    }
    return rc ? EXIT_VIOLATION : 0;
}

static int cmd_list(void)
{
    printf("mutations (--mutate NAME):\n");
    for (size_t i = 1; i <= sim_mutation_count(); i++) {
        const struct sim_mutation *m = sim_mutation_get(i);

        printf("  %-32s %s (%s)\n", m->name, m->text,
               m->directed ? m->directed
               : m->seeds  ? "seeds"
                           : "not demanded");
    }
    printf("\ndirected schedules (shoal-sim directed NAME):\n");
    for (size_t i = 0; i < sim_directed_count(); i++) {
        printf("  %-32s %s\n", sim_directed_get(i)->name, sim_directed_get(i)->text);
    }
    printf("\nfault classes (each on in half of the runs):\n");
    for (int i = 0; i < SIM_FAULT_CLASSES; i++) {
        printf("  %-32s %s\n", sim_fault_name((enum sim_fault_class)i),
               sim_fault_text((enum sim_fault_class)i));
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.campaign = {.first = 1, .last = 100, .twice = 50}};

    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : 0;
    }
    if (parse_options(&options, argc - 2, argv + 2) < 0) {
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "run") == 0) {
        return cmd_run(&options);
    }
    if (strcmp(argv[1], "shrink") == 0) {
        return cmd_shrink(&options);
    }
    if (strcmp(argv[1], "directed") == 0) {
        return cmd_directed(&options);
    }
    if (strcmp(argv[1], "list") == 0) {
        return cmd_list();
    }
    complain("unknown command", argv[1]);
    return EXIT_USAGE;
}
