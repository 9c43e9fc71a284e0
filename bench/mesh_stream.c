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
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uv.h>
#include <zmq.h>

#include "base/io.h"
#include "node/mesh/mesh.h"

#define BAR        0.9
#define ROUNDS_MAX 101u
#define KIB        1024u
#define SOURCE                                                                \
    (64u * 1024 * KIB) /* what is sent comes from here: chunks differ, and no \
                        * cache holds them all */

static const uint32_t sizes[] = {64 * KIB, 128 * KIB, 256 * KIB};

struct options {
    unsigned rounds;
    uint64_t bytes;
    const char *json;
    bool check;
};

struct series {
    double plain[ROUNDS_MAX], mesh[ROUNDS_MAX], ratio[ROUNDS_MAX]; /* MiB/s */
    double plain_cpu[ROUNDS_MAX], mesh_cpu[ROUNDS_MAX];            /* ms per GiB, both sides */
};

/* Two processes and a pipe in each direction. */
struct pair {
    int to_child[2], to_parent[2];
    struct node_mesh_keys keys[2]; /* of the receiver (parent) and the sender (child) */
    uint32_t size;
    uint64_t bytes;
};

static uint8_t source[SOURCE];
static const uint8_t cluster[NODE_CLUSTER_BYTES] = "bench-the-mesh!";

static void die(const char *what)
{
    (void)fprintf(stderr, "bench-mesh_stream: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void put(int fd, const void *data, size_t len)
{
    if (write(fd, data, len) != (ssize_t)len) {
        die("pipe");
    }
}

static void get(int fd, void *data, size_t len)
{
    if (read(fd, data, len) != (ssize_t)len) {
        die("the other process ended early");
    }
}

static double rate(uint64_t bytes, uint64_t from_us, uint64_t to_us)
{
    return (double)bytes / (1024.0 * 1024.0) / ((double)(to_us - from_us) / 1e6);
}

/* ---- plain CURVE ---- */

static void keep(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

static void plain_send(const struct pair *pair)
{
    void *ctx = zmq_ctx_new();
    void *dealer = zmq_socket(ctx, ZMQ_DEALER);
    char endpoint[64];
    uint64_t left;
    char done;

    get(pair->to_child[0], endpoint, sizeof(endpoint));
    if (zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, pair->keys[0].public_key, 32) != 0 ||
        zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, pair->keys[1].public_key, 32) != 0 ||
        zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, pair->keys[1].secret_key, 32) != 0 ||
        zmq_connect(dealer, endpoint) != 0) {
        die("plain connect");
    }
    if (zmq_send(dealer, "ready", 5, 0) != 5) {
        die("plain send");
    }
    for (left = pair->bytes; left > 0;) {
        size_t len = left < pair->size ? (size_t)left : pair->size;
        zmq_msg_t msg;

        (void)zmq_msg_init_data(&msg, source + (pair->bytes - left) % SOURCE, len, keep, NULL);
        if (zmq_msg_send(&msg, dealer, 0) < 0) {
            die("plain send");
        }
        left -= len;
    }
    get(pair->to_child[0], &done, 1);
    (void)zmq_close(dealer);
    (void)zmq_ctx_term(ctx);
}

/* One message behind its routing id; its size. */
static size_t plain_receive_one(void *router)
{
    zmq_msg_t part;
    size_t len;

    (void)zmq_msg_init(&part);
    if (zmq_msg_recv(&part, router, 0) < 0 || zmq_msg_recv(&part, router, 0) < 0) {
        die("plain receive");
    }
    len = zmq_msg_size(&part);
    (void)zmq_msg_close(&part);
    return len;
}

static double plain_receive(const struct pair *pair)
{
    void *ctx = zmq_ctx_new();
    void *router = zmq_socket(ctx, ZMQ_ROUTER);
    char endpoint[64] = "tcp://127.0.0.1:*";
    size_t size = sizeof(endpoint);
    uint64_t from, to, got;
    int on = 1;

    if (zmq_setsockopt(router, ZMQ_CURVE_SERVER, &on, sizeof(on)) != 0 ||
        zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, pair->keys[0].secret_key, 32) != 0 ||
        zmq_bind(router, endpoint) != 0 ||
        zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) {
        die("plain bind");
    }
    put(pair->to_child[1], endpoint, sizeof(endpoint));
    (void)plain_receive_one(router);
    from = shl_monotonic_us();
    for (got = 0; got < pair->bytes;) {
        got += plain_receive_one(router);
    }
    to = shl_monotonic_us();
    put(pair->to_child[1], "d", 1);
    (void)zmq_close(router);
    (void)zmq_ctx_term(ctx);
    return rate(pair->bytes, from, to);
}

/* ---- the mesh ---- */

struct side {
    const struct pair *pair;
    uv_loop_t loop;
    struct node_mesh *mesh;
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
        taken = node_stream_give(side->stream, shl_bytes_of(source + side->done % SOURCE, len),
                                 keep, NULL);
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

static void mesh_open(struct side *side, const struct pair *pair, int which)
{
    struct node_mesh_config config = {.keys = &pair->keys[which], .bind_host = "127.0.0.1"};
    struct node_mesh_addr ours = {.host = "127.0.0.1"}, theirs;
    const struct node_mesh_keys *other = &pair->keys[1 - which];
    struct shl_err err = {0};

    memset(side, 0, sizeof(*side));
    side->pair = pair;
    memcpy(config.cluster, cluster, sizeof(cluster));
    if (uv_loop_init(&side->loop) != 0 ||
        node_mesh_open(&side->loop, &config, &side->mesh, &err) < 0) {
        die(err.msg);
    }
    node_mesh_accept(side->mesh, "chunks", on_accept, side);
    ours.control_port = node_mesh_control_port(side->mesh);
    ours.bulk_port = node_mesh_bulk_port(side->mesh);
    put(which ? pair->to_parent[1] : pair->to_child[1], &ours, sizeof(ours));
    get(which ? pair->to_child[0] : pair->to_parent[0], &theirs, sizeof(theirs));
    if (node_mesh_set_peer(side->mesh, &other->id, other->public_key, &theirs, 1, &err) < 0) {
        die(err.msg);
    }
    while (!node_mesh_is_up(side->mesh, &other->id)) {
        (void)uv_run(&side->loop, UV_RUN_ONCE);
    }
}

static void mesh_close(struct side *side)
{
    node_mesh_close(side->mesh, 0, NULL, NULL);
    (void)uv_run(&side->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&side->loop);
}

static void mesh_send(const struct pair *pair)
{
    struct side side;
    struct node_stream_opener *opener;
    struct shl_err err = {0};

    mesh_open(&side, pair, 1);
    opener = node_mesh_opener(side.mesh);
    if (opener->open(opener, &pair->keys[0].id, "chunks", shl_bytes_of(NULL, 0), &user, &side,
                     &side.stream, &err) < 0) {
        die(err.msg);
    }
    on_writable(&side);
    while (!side.is_over) {
        (void)uv_run(&side.loop, UV_RUN_ONCE);
    }
    put(pair->to_parent[1], "d", 1);
    mesh_close(&side);
}

static double mesh_receive(const struct pair *pair)
{
    struct pollfd done = {.fd = pair->to_parent[0], .events = POLLIN};
    struct side side;

    mesh_open(&side, pair, 0);
    while (!side.is_over) {
        (void)uv_run(&side.loop, UV_RUN_ONCE);
    }
    /* Our end of the stream must leave before the link goes. */
    while (poll(&done, 1, 0) == 0) {
        (void)uv_run(&side.loop, UV_RUN_NOWAIT);
    }
    mesh_close(&side);
    return rate(pair->bytes, side.from_us, side.to_us);
}

/* ---- rounds ---- */

static double cpu_ms(void)
{
    struct rusage own, ended;

    (void)getrusage(RUSAGE_SELF, &own);
    (void)getrusage(RUSAGE_CHILDREN, &ended);
    return (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec + ended.ru_utime.tv_sec +
                    ended.ru_stime.tv_sec) *
               1e3 +
           (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec + ended.ru_utime.tv_usec +
                    ended.ru_stime.tv_usec) /
               1e3;
}

static double measure(const struct options *options,
                      double *ret_cpu,
                      uint32_t size,
                      void (*send)(const struct pair *),
                      double (*receive)(const struct pair *))
{
    struct pair pair = {.size = size, .bytes = options->bytes};
    double result, cpu = cpu_ms();
    int status;
    pid_t pid;

    node_mesh_keys_make(&pair.keys[0]);
    node_mesh_keys_make(&pair.keys[1]);
    if (pipe(pair.to_child) != 0 || pipe(pair.to_parent) != 0) {
        die("pipe");
    }
    pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        send(&pair);
        _exit(0);
    }
    result = receive(&pair);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        die("the sender failed");
    }
    *ret_cpu = (cpu_ms() - cpu) / ((double)options->bytes / (1024.0 * 1024 * 1024));
    (void)close(pair.to_child[0]);
    (void)close(pair.to_child[1]);
    (void)close(pair.to_parent[0]);
    (void)close(pair.to_parent[1]);
    return result;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(const double *values, unsigned count)
{
    double sorted[ROUNDS_MAX];

    memcpy(sorted, values, count * sizeof(*values));
    qsort(sorted, count, sizeof(*sorted), compare);
    return sorted[count / 2];
}

static void run(const struct options *options, struct series *series)
{
    unsigned round;
    size_t i;

    for (round = 0; round < options->rounds; round++) {
        for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
            struct series *s = &series[i];

            s->plain[round] =
                measure(options, &s->plain_cpu[round], sizes[i], plain_send, plain_receive);
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
        die(options->json);
    }
    if (json) {
        (void)fprintf(json,
                      "{\"bench\":\"mesh_stream\",\"bar\":%.2f,\"rounds\":%u,\"mib\":%llu,"
                      "\"window_bytes\":%u,\"sizes\":[",
                      BAR, options->rounds, (unsigned long long)(options->bytes >> 20),
                      NODE_STREAM_WINDOW);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        double plain = median(series[i].plain, options->rounds);
        double mesh = median(series[i].mesh, options->rounds);
        double ratio = median(series[i].ratio, options->rounds);
        double mesh_cpu = median(series[i].mesh_cpu, options->rounds);
        double plain_cpu = median(series[i].plain_cpu, options->rounds);

        worst = ratio < worst ? ratio : worst;
        (void)printf("chunks of %3u KiB: stream %6.0f MiB/s, plain CURVE %6.0f MiB/s, ratio %.2f "
                     "(CPU per GiB: %.0f and %.0f ms)\n",
                     sizes[i] / KIB, mesh, plain, ratio, mesh_cpu, plain_cpu);
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

static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*end || value == 0 || value > max) {
        (void)fprintf(stderr, "bench-mesh_stream: '%s' is not a number from 1 to %u\n", text, max);
        exit(2);
    }
    return (unsigned)value;
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
            options.rounds = number(optarg, ROUNDS_MAX);
        } else if (opt == 'm') {
            options.bytes = (uint64_t)number(optarg, 65536) << 20;
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
    memset(source, 0x5a, sizeof(source));
    run(&options, series);
    return report(&options, series) < BAR && options.check ? 1 : 0;
}
