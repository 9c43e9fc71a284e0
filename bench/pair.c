#include "bench/pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zmq.h>

#include "base/io.h"

uint8_t pair_source[PAIR_SOURCE];

static const uint8_t cluster[NODE_CLUSTER_BYTES] = "bench-the-mesh!";

void pair_die(const char *what)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(2);
}

void pair_put(int fd, const void *data, size_t len)
{
    if (write(fd, data, len) != (ssize_t)len) {
        pair_die("pipe");
    }
}

void pair_get(int fd, void *data, size_t len)
{
    if (read(fd, data, len) != (ssize_t)len) {
        pair_die("the other process ended early");
    }
}

double pair_rate(uint64_t bytes, uint64_t from_us, uint64_t to_us)
{
    return (double)bytes / (1024.0 * 1024.0) / ((double)(to_us - from_us) / 1e6);
}

void pair_keep(void *data, void *hint)
{
    (void)data;
    (void)hint;
}

/* ---- plain CURVE ---- */

void *pair_curve_dealer(const struct pair *pair, void *ctx)
{
    void *dealer = zmq_socket(ctx, ZMQ_DEALER);
    char endpoint[64];

    pair_get(pair->to_child[0], endpoint, sizeof(endpoint));
    if (zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, pair->keys[0].public_key, 32) != 0 ||
        zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, pair->keys[1].public_key, 32) != 0 ||
        zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, pair->keys[1].secret_key, 32) != 0 ||
        zmq_connect(dealer, endpoint) != 0) {
        pair_die("plain connect");
    }
    if (zmq_send(dealer, "ready", 5, 0) != 5) {
        pair_die("plain send");
    }
    return dealer;
}

void pair_plain_send(const struct pair *pair)
{
    void *ctx = zmq_ctx_new();
    void *dealer = pair_curve_dealer(pair, ctx);
    uint64_t left;
    char done;

    for (left = pair->bytes; left > 0;) {
        size_t len = left < pair->size ? (size_t)left : pair->size;
        zmq_msg_t msg;

        (void)zmq_msg_init_data(&msg, pair_source + (pair->bytes - left) % PAIR_SOURCE, len,
                                pair_keep, NULL);
        if (zmq_msg_send(&msg, dealer, 0) < 0) {
            pair_die("plain send");
        }
        left -= len;
    }
    pair_get(pair->to_child[0], &done, 1);
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
        pair_die("plain receive");
    }
    len = zmq_msg_size(&part);
    (void)zmq_msg_close(&part);
    return len;
}

void *pair_curve_router(const struct pair *pair, void *ctx)
{
    void *router = zmq_socket(ctx, ZMQ_ROUTER);
    char endpoint[64] = "tcp://127.0.0.1:*";
    size_t size = sizeof(endpoint);
    int on = 1;

    if (zmq_setsockopt(router, ZMQ_CURVE_SERVER, &on, sizeof(on)) != 0 ||
        zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, pair->keys[0].secret_key, 32) != 0 ||
        zmq_bind(router, endpoint) != 0 ||
        zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) != 0) {
        pair_die("plain bind");
    }
    pair_put(pair->to_child[1], endpoint, sizeof(endpoint));
    (void)plain_receive_one(router);
    return router;
}

double pair_plain_receive(const struct pair *pair)
{
    void *ctx = zmq_ctx_new();
    void *router = pair_curve_router(pair, ctx);
    uint64_t from = shl_monotonic_us(), to, got;

    for (got = 0; got < pair->bytes;) {
        got += plain_receive_one(router);
    }
    to = shl_monotonic_us();
    pair_put(pair->to_child[1], "d", 1);
    (void)zmq_close(router);
    (void)zmq_ctx_term(ctx);
    return pair_rate(pair->bytes, from, to);
}

/* ---- a mesh ---- */

void pair_mesh_open(struct pair_mesh *side,
                    const struct pair *pair,
                    int which,
                    const char *kind,
                    node_stream_accept accept,
                    void *arg)
{
    struct node_mesh_config config = {.keys = &pair->keys[which], .bind_host = "127.0.0.1"};
    struct node_mesh_addr ours = {.host = "127.0.0.1"}, theirs;
    const struct node_mesh_keys *other = &pair->keys[1 - which];
    struct shl_err err = {0};

    memcpy(config.cluster, cluster, sizeof(cluster));
    if (uv_loop_init(&side->loop) != 0 ||
        node_mesh_open(&side->loop, &config, &side->mesh, &err) < 0) {
        pair_die(err.msg);
    }
    if (accept) {
        node_mesh_accept(side->mesh, kind, accept, arg);
    }
    ours.control_port = node_mesh_control_port(side->mesh);
    ours.bulk_port = node_mesh_bulk_port(side->mesh);
    pair_put(which ? pair->to_parent[1] : pair->to_child[1], &ours, sizeof(ours));
    pair_get(which ? pair->to_child[0] : pair->to_parent[0], &theirs, sizeof(theirs));
    if (node_mesh_set_peer(side->mesh, &other->id, other->public_key, &theirs, 1, &err) < 0) {
        pair_die(err.msg);
    }
    while (!node_mesh_is_up(side->mesh, &other->id)) {
        (void)uv_run(&side->loop, UV_RUN_ONCE);
    }
}

void pair_mesh_close(struct pair_mesh *side)
{
    node_mesh_close(side->mesh, 0, NULL, NULL);
    (void)uv_run(&side->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&side->loop);
}

/* ---- measuring ---- */

static double cpu_ms(int who)
{
    struct rusage used;

    (void)getrusage(who, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

double pair_measure(struct pair *pair,
                    void (*send)(const struct pair *),
                    double (*receive)(const struct pair *),
                    struct pair_cpu *ret_cpu)
{
    double own = cpu_ms(RUSAGE_SELF), ended = cpu_ms(RUSAGE_CHILDREN), result;
    double gib = (double)pair->bytes / (1024.0 * 1024 * 1024);
    int status;
    pid_t pid;

    node_mesh_keys_make(&pair->keys[0]);
    node_mesh_keys_make(&pair->keys[1]);
    if (pipe(pair->to_child) != 0 || pipe(pair->to_parent) != 0) {
        pair_die("pipe");
    }
    pid = fork();
    if (pid < 0) {
        pair_die("fork");
    }
    if (pid == 0) {
        send(pair);
        _exit(0);
    }
    result = receive(pair);
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        pair_die("the sender failed");
    }
    ret_cpu->sender = (cpu_ms(RUSAGE_CHILDREN) - ended) / gib;
    ret_cpu->receiver = (cpu_ms(RUSAGE_SELF) - own) / gib;
    (void)close(pair->to_child[0]);
    (void)close(pair->to_child[1]);
    (void)close(pair->to_parent[0]);
    (void)close(pair->to_parent[1]);
    return result;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double pair_median(const double *values, unsigned count)
{
    double sorted[PAIR_ROUNDS_MAX];

    if (count == 0 || count > PAIR_ROUNDS_MAX) {
        pair_die("a median of too many values");
    }
    memcpy(sorted, values, count * sizeof(*values));
    qsort(sorted, count, sizeof(*sorted), compare);
    return sorted[count / 2];
}

unsigned pair_number(const char *program, const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*end || value == 0 || value > max) {
        (void)fprintf(stderr, "%s: '%s' is not a number from 1 to %u\n", program, text, max);
        exit(2);
    }
    return (unsigned)value;
}
