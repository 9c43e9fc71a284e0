/* How fast one update and one crash become known to all, under virtual time: the real core in
 * many copies on the network of tests/gossip, beside a plain simulation of memberlist's rules.
 *
 * usage: bench-gossip [--quick] [--check] [--json FILE] [--svg FILE] */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/gossip/net.h"

#include "bench/gossip_report.h"

#define FOREVER_MS 4000000000u
#define LIMIT_MS   60000
#define DETECT     100

/* ---- memberlist's rules ---- */

#define RULES_MS     200
#define RULES_FANOUT 3

/* One rumour; nodes tick at random phases; a node that has it sends it to three random others
 * per tick until its limit of packets. Returns ms, or -1 when somebody never got it. */
static double run_rules(struct net *net, uint32_t nodes, uint32_t loss)
{
    uint32_t limit = 0, reach = 1, known = 1, busy = 1, i, k, ms;
    uint32_t *sent = calloc(nodes, sizeof(*sent));
    uint32_t *heard_ms = calloc(nodes, sizeof(*heard_ms));
    uint32_t *phase = calloc(nodes, sizeof(*phase));

    assert(sent);
    assert(heard_ms);
    assert(phase);
    for (; reach < nodes + 1; reach *= 10) {
        limit += 4;
    }
    for (i = 0; i < nodes; i++) {
        phase[i] = (uint32_t)(net_random(net) % RULES_MS);
        heard_ms[i] = UINT32_MAX;
    }
    heard_ms[0] = 0;
    for (ms = 1; known < nodes && busy > 0; ms++) {
        for (i = 0; i < nodes; i++) {
            if (heard_ms[i] >= ms || sent[i] >= limit || ms % RULES_MS != phase[i]) {
                continue;
            }
            for (k = 0; k < RULES_FANOUT && sent[i] < limit; k++) {
                uint32_t to = (uint32_t)(net_random(net) % (nodes - 1));

                to += to >= i;
                sent[i]++;
                if (net_random(net) % 100 >= loss && heard_ms[to] == UINT32_MAX) {
                    heard_ms[to] = ms + 1;
                    known++;
                    busy++;
                }
            }
            busy -= sent[i] >= limit;
        }
    }
    free(sent);
    free(heard_ms);
    free(phase);
    return known == nodes ? (double)ms : -1;
}

/* ---- our core ---- */

struct watch {
    uint32_t wanted;
    uint32_t count;
    const char *key;
};

static void on_record(void *arg, struct net_node *node, const struct gossip_record_change *change)
{
    struct watch *watch = arg;

    (void)node;
    if (change->key && strcmp(change->key, watch->key) == 0) {
        watch->count++;
    }
}

static bool is_known(struct net *net, void *arg)
{
    (void)net;
    return ((struct watch *)arg)->count == ((struct watch *)arg)->wanted;
}

static bool agrees(struct net *net, void *arg)
{
    return net_agrees(net, *(uint32_t *)arg);
}

/* A cluster at rest. Without the rest of the core its rumours are alone. */
static void settle(struct net *net, uint32_t nodes, bool whole)
{
    uint32_t i;

    net_init(net, nodes, nodes);
    net->keeps_no_books = nodes > 100;
    for (i = 0; !whole && i < nodes; i++) {
        net->nodes[i].config.timing.probe_ms = FOREVER_MS;
        net->nodes[i].config.timing.sync_ms = FOREVER_MS;
    }
    net_start_all(net);
    if (!net_run_until(net, 2 * LIMIT_MS, 100, agrees, &nodes)) {
        (void)fprintf(stderr, "%u nodes did not find each other\n", nodes);
        exit(1);
    }
    net_run(net, nodes > 100 ? 30000 : 10000);
}

static void run_update(struct net *net, uint32_t run, struct bench_gossip_times *times)
{
    char key[32];
    struct watch watch = {.wanted = net->count, .key = key};
    uint32_t from = (uint32_t)(net_random(net) % net->count);
    uint64_t start_ms = net->now_ms;

    (void)snprintf(key, sizeof(key), "update-%u", run);
    net->on_record = on_record;
    net->arg = &watch;
    net_set(net, from, key, "a value as long as a load report tends to be, a hundred bytes or so");
    times->runs++;
    if (net_run_until(net, LIMIT_MS, 1, is_known, &watch)) {
        times->ms[times->count++] = (double)(net->now_ms - start_ms);
    }
    net->on_record = NULL;
    net_run(net, 3000 + net_random(net) % 1000);
}

static void measure_spread(struct bench_gossip_results *results,
                           uint32_t nodes,
                           uint32_t runs,
                           bool whole)
{
    enum bench_gossip_contender who = whole ? BENCH_GOSSIP_WHOLE : BENCH_GOSSIP_RUMOURS;
    struct net net;
    uint32_t i, run;

    settle(&net, nodes, whole);
    for (i = 0; i < results->row_count; i++) {
        struct bench_gossip_row *row = &results->rows[i];

        if (row->nodes != nodes || (whole && nodes > 100 && row->loss > 10)) {
            continue; /* a third of all pings lost is no cluster, and slow to simulate */
        }
        net.loss = row->loss / 100.0;
        net_run(&net, 2000);
        for (run = 0; run < runs; run++) {
            run_update(&net, row->loss * 10000 + run, &row->times[who]);
        }
    }
    net_release(&net);
}

static void measure_rules(struct bench_gossip_row *row, uint32_t runs)
{
    struct bench_gossip_times *times = &row->times[BENCH_GOSSIP_RULES];
    struct net net = {.random = row->nodes * 7 + row->loss};

    for (times->runs = 0; times->runs < runs; times->runs++) {
        double ms = run_rules(&net, row->nodes, row->loss);

        if (ms >= 0) {
            times->ms[times->count++] = ms;
        }
    }
}

/* ---- detection ---- */

static uint32_t deaths(const struct net *net)
{
    uint32_t i, sum = 0;

    for (i = 0; i < net->count; i++) {
        sum += net->nodes[i].deaths;
    }
    return sum;
}

static bool is_dead(struct net *net, void *arg)
{
    uint32_t subject = *(uint32_t *)arg, i;

    for (i = 0; i < net->count; i++) {
        if (net->nodes[i].core && net_life(net, i, subject) != GOSSIP_DEAD) {
            return false;
        }
    }
    return true;
}

static void measure_crashes(struct bench_gossip_results *results, uint32_t runs, bool visible)
{
    struct bench_gossip_times *times = visible ? &results->crash : &results->silent;
    struct net net;

    settle(&net, DETECT, true);
    for (times->runs = 0; times->runs < runs; times->runs++) {
        uint32_t subject = (uint32_t)(net_random(&net) % DETECT), before = deaths(&net);
        uint64_t start_ms;

        net_run(&net, net_random(&net) % 1000);
        start_ms = net.now_ms;
        net_crash(&net, subject, visible);
        if (net_run_until(&net, LIMIT_MS, 1, is_dead, &subject)) {
            times->ms[times->count++] = (double)(net.now_ms - start_ms);
        }
        results->crash_extra_deaths += deaths(&net) - before - (DETECT - 1);
        net_start(&net, subject);
        net_run(&net, 10000);
    }
    net_release(&net);
}

static void measure_stalls(struct bench_gossip_results *results, uint32_t rounds)
{
    struct net net;
    uint32_t round, i, before;

    settle(&net, DETECT, true);
    before = deaths(&net);
    for (round = 0; round < rounds; round++) {
        for (i = 0; i < DETECT / 10; i++) {
            net_stall(&net, (uint32_t)(net_random(&net) % DETECT), 5000);
            results->stalls++;
        }
        net_run(&net, 5000 + net_random(&net) % 1000);
    }
    net_run(&net, LIMIT_MS);
    results->stall_deaths = deaths(&net) - before;
    for (i = 0; i < DETECT; i++) {
        struct gossip_counters counters;

        gossip_counters(net.nodes[i].core, &counters);
        results->stall_accusations += counters.accusations;
    }
    net_release(&net);
}

static void measure_speed(struct bench_gossip_results *results)
{
    struct net net;
    uint64_t steps;
    clock_t start;

    settle(&net, DETECT, true);
    steps = net.steps;
    start = clock();
    net_run(&net, LIMIT_MS);
    results->steps_per_second =
        (double)(net.steps - steps) * CLOCKS_PER_SEC / (double)SHL_MAX(clock() - start, 1);
    net_release(&net);
}

/* ---- program ---- */

static void measure(struct bench_gossip_results *results, bool quick)
{
    static const uint32_t sizes[] = {10, 30, 100, 1000}, losses[] = {0, 10, 30};
    uint32_t i, k;

    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        uint32_t runs = sizes[i] > 100 ? (quick ? 5 : 50) : (quick ? 20 : 300);

        for (k = 0; k < SHL_ARRAY_SIZE(losses); k++) {
            struct bench_gossip_row *row = &results->rows[results->row_count++];

            *row = (struct bench_gossip_row){.nodes = sizes[i], .loss = losses[k]};
            measure_rules(row, quick ? 50 : BENCH_GOSSIP_RUNS_MAX);
        }
        measure_spread(results, sizes[i], runs, false);
        measure_spread(results, sizes[i], sizes[i] > 100 ? runs / 5 : runs, true);
        (void)fprintf(stderr, "%u nodes done\n", sizes[i]);
    }
    results->detect_nodes = DETECT;
    measure_crashes(results, quick ? 5 : 100, true);
    measure_crashes(results, quick ? 5 : 100, false);
    measure_stalls(results, quick ? 5 : 100);
    measure_speed(results);
}

int main(int argc, char **argv)
{
    static struct bench_gossip_results results;
    const char *json = NULL, *svg = NULL;
    bool quick = false, check = false, ok = true;
    int i;

    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            quick = true;
        } else if (strcmp(argv[i], "--check") == 0) {
            check = true;
        } else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
        } else if (strcmp(argv[i], "--svg") == 0 && i + 1 < argc) {
            svg = argv[++i];
        } else {
            (void)fprintf(stderr, "bench-gossip: unknown argument '%s'\n", argv[i]);
            return 2;
        }
    }
    measure(&results, quick);
    bench_gossip_print(&results);
    ok = (!json || bench_gossip_write_json(&results, json)) && ok;
    ok = (!svg || bench_gossip_write_svg(&results, svg)) && ok;
    return ok && (!check || bench_gossip_met(&results)) ? 0 : 1;
}
