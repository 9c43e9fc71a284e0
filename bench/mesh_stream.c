/* What a stream of the mesh moves between two processes, against plain CURVE
 * (DEALER -> ROUTER, messages of the same size, not copied) on the same loopback, in
 * interleaved rounds.
 *
 * Both start with a connection that is up and count whole bytes at the receiver, from the
 * first to the last. With two processors both processes share them with ZeroMQ's threads, so
 * everything the mesh adds shows. Only the ratio inside one run means something.
 *
 * usage: bench-mesh_stream [--rounds N] [--mib N] [--json FILE] [--check]
 */
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#include "bench/pair.h"

#define BAR 0.9

static const uint32_t sizes[] = {64 * PAIR_KIB, 128 * PAIR_KIB, 256 * PAIR_KIB};

struct options {
    unsigned rounds;
    uint64_t bytes;
    const char *json;
    bool check;
};

struct series {
    double plain[PAIR_ROUNDS_MAX], mesh[PAIR_ROUNDS_MAX], ratio[PAIR_ROUNDS_MAX]; /* MiB/s */
    double plain_cpu[PAIR_ROUNDS_MAX], mesh_cpu[PAIR_ROUNDS_MAX]; /* ms per GiB, both sides */
};

/* ---- the mesh ---- */

struct side {
    const struct pair *pair;
    struct pair_mesh at;
    struct node_stream *stream;
    uint64_t done; /* bytes sent, or received */
    uint64_t from_us, to_us;
    bool is_receiver, is_over;
};

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct side *side = arg;

    if (side->done == 0) {
        side->from_us = shl_monotonic_us();
    }
    side->done += data.len;
    return data.len;
}

static void on_end(void *arg)
{
    struct side *side = arg;

    if (side->is_receiver && side->done == side->pair->bytes) {
        side->to_us = shl_monotonic_us();
        node_stream_finish(side->stream);
    }
}

static void on_writable(void *arg)
{
    struct side *side = arg;

    while (side->done < side->pair->bytes) {
        uint64_t left = side->pair->bytes - side->done;
        size_t len = side->pair->size - side->done % side->pair->size; /* of this chunk */
        size_t taken;

        if (len > left) {
            len = (size_t)left;
        }
        taken = node_stream_give(side->stream,
                                 shl_bytes_of(pair_source + side->done % PAIR_SOURCE, len),
                                 pair_keep, NULL);
        side->done += taken;
        if (taken < len) {
            return;
        }
    }
    node_stream_finish(side->stream);
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct side *side = arg;

    if (code < 0) {
        (void)fprintf(stderr, "bench-mesh_stream: the stream was cut: %s\n", msg);
        exit(2);
    }
    side->is_over = true;
}

static const struct node_stream_user user = {on_data, on_end, on_writable, on_closed};

static int on_accept(void *arg,
                     struct node_stream *stream,
                     struct shl_bytes head,
                     struct shl_err *err)
{
    struct side *side = arg;

    (void)head;
    (void)err;
    side->stream = stream;
    side->is_receiver = true;
    node_stream_set_user(stream, &user, side);
    return 0;
}

static void mesh_send(const struct pair *pair)
{
    struct side side = {.pair = pair};
    struct node_stream_opener *opener;
    struct shl_err err = {0};

    pair_mesh_open(&side.at, pair, 1, "chunks", on_accept, &side);
    opener = node_mesh_opener(side.at.mesh);
    if (opener->open(opener, &pair->keys[0].id, "chunks", shl_bytes_of(NULL, 0), &user, &side,
                     &side.stream, &err) < 0) {
        pair_die(err.msg);
    }
    on_writable(&side);
    while (!side.is_over) {
        (void)uv_run(&side.at.loop, UV_RUN_ONCE);
    }
    pair_put(pair->to_parent[1], "d", 1);
    pair_mesh_close(&side.at);
}

static double mesh_receive(const struct pair *pair)
{
    struct pollfd done = {.fd = pair->to_parent[0], .events = POLLIN};
    struct side side = {.pair = pair};

    pair_mesh_open(&side.at, pair, 0, "chunks", on_accept, &side);
    while (!side.is_over) {
        (void)uv_run(&side.at.loop, UV_RUN_ONCE);
    }
    /* Our end of the stream must leave before the link goes. */
    while (poll(&done, 1, 0) == 0) {
        (void)uv_run(&side.at.loop, UV_RUN_NOWAIT);
    }
    pair_mesh_close(&side.at);
    return pair_rate(pair->bytes, side.from_us, side.to_us);
}

/* ---- rounds ---- */

static double measure(const struct options *options,
                      double *ret_cpu,
                      uint32_t size,
                      void (*send)(const struct pair *),
                      double (*receive)(const struct pair *))
{
    struct pair pair = {.size = size, .bytes = options->bytes};
    struct pair_cpu cpu;
    double rate = pair_measure(&pair, send, receive, &cpu);

    *ret_cpu = cpu.sender + cpu.receiver;
    return rate;
}

static void run(const struct options *options, struct series *series)
{
    unsigned round;
    size_t i;

    for (round = 0; round < options->rounds; round++) {
        for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
            struct series *s = &series[i];

            s->plain[round] = measure(options, &s->plain_cpu[round], sizes[i], pair_plain_send,
                                      pair_plain_receive);
            s->mesh[round] =
                measure(options, &s->mesh_cpu[round], sizes[i], mesh_send, mesh_receive);
            s->ratio[round] = s->mesh[round] / s->plain[round];
        }
    }
}

/* Prints, writes the JSON, and returns the worst of the median ratios. */
static double report(const struct options *options, const struct series *series)
{
    FILE *json = options->json ? fopen(options->json, "w") : NULL;
    double worst = 1e9;
    size_t i;

    if (options->json && !json) {
        pair_die(options->json);
    }
    if (json) {
        (void)fprintf(json,
                      "{\"bench\":\"mesh_stream\",\"bar\":%.2f,\"rounds\":%u,\"mib\":%llu,"
                      "\"window_bytes\":%u,\"sizes\":[",
                      BAR, options->rounds, (unsigned long long)(options->bytes >> 20),
                      NODE_STREAM_WINDOW);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        double plain = pair_median(series[i].plain, options->rounds);
        double mesh = pair_median(series[i].mesh, options->rounds);
        double ratio = pair_median(series[i].ratio, options->rounds);
        double mesh_cpu = pair_median(series[i].mesh_cpu, options->rounds);
        double plain_cpu = pair_median(series[i].plain_cpu, options->rounds);

        worst = ratio < worst ? ratio : worst;
        (void)printf("chunks of %3u KiB: stream %6.0f MiB/s, plain CURVE %6.0f MiB/s, ratio %.2f "
                     "(CPU per GiB: %.0f and %.0f ms)\n",
                     sizes[i] / PAIR_KIB, mesh, plain, ratio, mesh_cpu, plain_cpu);
        if (json) {
            (void)fprintf(json,
                          "%s{\"bytes\":%u,\"stream_mib_s\":%.1f,\"plain_mib_s\":%.1f,"
                          "\"ratio\":%.3f,\"stream_cpu_ms_gib\":%.0f,\"plain_cpu_ms_gib\":%.0f}",
                          i ? "," : "", sizes[i], mesh, plain, ratio, mesh_cpu, plain_cpu);
        }
    }
    if (json) {
        (void)fprintf(json, "],\"worst_ratio\":%.3f}\n", worst);
        (void)fclose(json);
    }
    (void)printf("mesh_stream: worst median ratio %.2f of plain CURVE (bar %.2f, %u rounds)\n",
                 worst, BAR, options->rounds);
    return worst;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"rounds", required_argument, NULL, 'r'},
                                          {"mib", required_argument, NULL, 'm'},
                                          {"json", required_argument, NULL, 'j'},
                                          {"check", no_argument, NULL, 'c'},
                                          {0}};
    static struct series series[SHL_ARRAY_SIZE(sizes)];
    struct options options = {.rounds = 7, .bytes = 512ull << 20};
    int opt;

    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (opt == 'r') {
            options.rounds = pair_number(argv[0], optarg, PAIR_ROUNDS_MAX);
        } else if (opt == 'm') {
            options.bytes = (uint64_t)pair_number(argv[0], optarg, 65536) << 20;
        } else if (opt == 'j') {
            options.json = optarg;
        } else if (opt == 'c') {
            options.check = true;
        } else {
            (void)fprintf(stderr, "usage: bench-mesh_stream [--rounds N] [--mib N] [--json FILE] "
                                  "[--check]\n");
            return 2;
        }
    }
    memset(pair_source, 0x5a, sizeof(pair_source));
    run(&options, series);
    return report(&options, series) < BAR && options.check ? 1 : 0;
}
