/* How many placements per second the scheduler decides, and how fast the replicated state
 * takes commands: the pure parts alone, no disk and no network, per second of CPU. A placement is
 * counted with everything around it: ordering all nodes, the reservation, its commit, and the
 * node's own figures coming in and ending it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "scheduler/command.h"
#include "scheduler/place.h"
#include "scheduler/state.h"

#define TEMPLATES   20u
#define CHECKPOINTS 1000u
#define BAR_PER_S   5000.0 /* at 50 nodes: docs/benchmarks.md */

struct world {
    struct sched_place place;
    struct sched_view views[SCHED_NODES_MAX];
    struct sched_amount truth[SCHED_NODES_MAX]; /* what the nodes run; views get it late */
    uint64_t versions[SCHED_NODES_MAX];
    const char *templates[TEMPLATES];
    const char *checkpoints[SCHED_NODES_MAX][CHECKPOINTS];
    char names[TEMPLATES + CHECKPOINTS][16];
    unsigned nodes;
    uint64_t random;
};

struct counts {
    unsigned long placed;
    unsigned long full; /* no node had room: also a decision */
    double seconds;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15ull;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* CPU time of this one thread: the parts are pure code, and machines of tests are shared. */
static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct world *make_world(unsigned nodes)
{
    struct world *w = calloc(1, sizeof(*w));
    unsigned i, j;

    if (!w || sched_place_init(&w->place, 1, 0) < 0) {
        exit(2);
    }
    w->nodes = nodes;
    for (i = 0; i < TEMPLATES + CHECKPOINTS; i++) {
        snprintf(w->names[i], sizeof(w->names[i]), "item-%06u", i);
    }
    for (i = 0; i < TEMPLATES; i++) {
        w->templates[i] = w->names[i];
    }
    for (i = 0; i < nodes; i++) {
        struct sched_view *v = &w->views[i];

        v->id.bytes[0] = (uint8_t)(i >> 8);
        v->id.bytes[1] = (uint8_t)i;
        v->id.bytes[15] = 1;
        v->alive = true;
        v->capacity = (struct sched_amount){64, 256 * 1024, 8 << 20, 256};
        v->templates = w->templates;
        v->template_count = TEMPLATES;
        v->checkpoints = w->checkpoints[i];
        for (j = 0; j < CHECKPOINTS; j++) { /* two holders each */
            if (j % nodes == i || (j + 1) % nodes == i) {
                w->checkpoints[i][v->checkpoint_count++] = w->names[TEMPLATES + j];
            }
        }
    }
    return w;
}

static struct sched_place_request make_request(struct world *w)
{
    uint64_t dice = next_random(&w->random);
    struct sched_place_request r = {.cpus = 1 + (uint32_t)(dice % 2),
                                    .memory_mb = 512u << (dice >> 8) % 4,
                                    .disk_mb = 20480,
                                    .template_name = w->names[(dice >> 16) % TEMPLATES],
                                    .ratios = {400, 100, 100}};

    if ((dice >> 24) % 2 == 0) {
        r.checkpoint = w->names[TEMPLATES + (dice >> 32) % CHECKPOINTS];
    }
    return r;
}

static bool place_one(struct world *w, uint64_t now_ms, struct sched_placement *out)
{
    struct sched_place_request r = make_request(w);
    uint64_t id;
    uint32_t at;

    if (sched_place_decide(&w->place, w->views, w->nodes, &r, now_ms, out) < 0) {
        return false;
    }
    at = out->candidates[0].view;
    if (sched_place_take(&w->place, &w->views[at], &r, now_ms + 2000, &id) < 0) {
        return false;
    }
    w->truth[at].cpus += r.cpus;
    w->truth[at].memory_mb += r.memory_mb;
    w->truth[at].disk_mb += r.disk_mb;
    w->truth[at].sandboxes++;
    w->versions[at]++;
    return sched_reserve_commit(&w->place.reserves, id, w->versions[at], now_ms + 30000) == 0;
}

/* One node's gossip comes in; a nearly full one is emptied, as if its sandboxes ended. */
static void refresh(struct world *w, unsigned at)
{
    if (w->truth[at].memory_mb > w->views[at].capacity.memory_mb * 9 / 10) {
        w->truth[at] = (struct sched_amount){0};
        w->versions[at]++;
    }
    w->views[at].committed = w->truth[at];
    w->views[at].version = w->versions[at];
}

static struct counts run_place(unsigned nodes, double seconds)
{
    struct world *w = make_world(nodes);
    struct sched_placement *out = malloc(sizeof(*out));
    struct counts c = {0};
    double start = now_s();
    unsigned long i;

    if (!out) {
        exit(2);
    }
    for (i = 0; i % 1024 != 0 || now_s() - start < seconds; i++) {
        if (place_one(w, i / 5, out)) { /* virtual time: 5,000 creates per second */
            c.placed++;
        } else {
            c.full++;
        }
        if (i % 10 == 0) {
            refresh(w, (unsigned)(i / 10 % nodes));
        }
    }
    c.seconds = now_s() - start;
    free(out);
    sched_place_release(&w->place);
    free(w);
    return c;
}

/*- Commands: names claimed, which is what idempotent creates write. */

static void encode(struct shl_buf *buf, const struct sched_command *c)
{
    struct shl_err err = {0};

    shl_buf_clear(buf);
    if (sched_command_encode(c, buf, &err) < 0) {
        fprintf(stderr, "placement: %s\n", err.msg);
        exit(2);
    }
}

static void start_cluster(struct sched_state *state, struct shl_buf *buf)
{
    struct sched_command *c = calloc(1, sizeof(*c));
    struct sched_result result;

    if (!c) {
        exit(2);
    }
    c->kind = SCHED_CLUSTER_INIT;
    c->u.cluster_init.cluster[0] = 1;
    c->u.cluster_init.lease_ms = SCHED_LEASE_MS;
    c->u.cluster_init.node.id.bytes[0] = 1;
    c->u.cluster_init.node.key[0] = 1;
    snprintf(c->u.cluster_init.node.name, sizeof(c->u.cluster_init.node.name), "a");
    encode(buf, c);
    if (sched_state_apply(state, 1, 1, shl_buf_bytes(buf), &result) < 0 || result.err.code < 0) {
        exit(2);
    }
    free(c);
}

static struct counts run_apply(double seconds)
{
    static const struct sched_state_config config;
    struct sched_state *state = sched_state_new(&config);
    struct sched_command c = {.kind = SCHED_NAME_CLAIM};
    struct sched_result result;
    struct counts counts = {0};
    double start = now_s();
    struct shl_buf buf;
    uint64_t index = 1;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    if (!state) {
        exit(2);
    }
    start_cluster(state, &buf);
    c.u.name.kind = SCHED_NAME_IDEMPOTENCY;
    c.u.name.ttl_ms = 1000; /* at 5,000 per second of virtual time: some 5,000 are open */
    c.u.name.value = shl_bytes_of("node and sandbox", 16);
    for (;;) {
        index++;
        c.at_ms = index / 5;
        snprintf(c.u.name.org, sizeof(c.u.name.org), "org%llu", (unsigned long long)index % 16);
        snprintf(c.u.name.name, sizeof(c.u.name.name), "%016llx", (unsigned long long)index * 7919);
        encode(&buf, &c);
        if (sched_state_apply(state, index, 1, shl_buf_bytes(&buf), &result) < 0) {
            exit(2);
        }
        counts.placed += result.err.code == 0;
        counts.full += result.err.code < 0;
        if (index % 1024 == 0 && now_s() - start >= seconds) {
            break;
        }
    }
    counts.seconds = now_s() - start;
    shl_buf_release(&buf);
    sched_state_free(state);
    return counts;
}

static double rate(const struct counts *c)
{
    return (double)(c->placed + c->full) / c->seconds;
}

int main(int argc, char **argv)
{
    static const unsigned sizes[] = {3, 10, 50, 200};
    static const struct option options[] = {{"check", no_argument, NULL, 'c'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    double seconds = 2, at_50 = 0;
    bool check = false;
    struct counts c;
    int option;
    size_t i;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'c') {
            check = true;
        } else if (option == 's' && strtod(optarg, NULL) > 0) {
            seconds = strtod(optarg, NULL);
        } else {
            fprintf(stderr, "usage: bench-placement [--check] [--seconds N]\n");
            return 2;
        }
    }
    printf("%-28s %12s %12s %14s %10s\n", "", "placed", "no room", "decided/s", "us each");
    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        c = run_place(sizes[i], seconds);
        printf("placement, %3u nodes         %12lu %12lu %14.0f %10.2f\n", sizes[i], c.placed,
               c.full, rate(&c), 1e6 / rate(&c));
        at_50 = sizes[i] == 50 ? rate(&c) : at_50;
    }
    c = run_apply(seconds);
    printf("commands, encoded, applied   %12lu %12lu %14.0f %10.2f\n", c.placed, c.full, rate(&c),
           1e6 / rate(&c));
    printf("{\"placements_per_s_50_nodes\":%.0f,\"bar\":%.0f,\"commands_per_s\":%.0f}\n", at_50,
           BAR_PER_S, rate(&c));
    return check && at_50 < BAR_PER_S ? 1 : 0;
}
