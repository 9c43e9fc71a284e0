/* What chunks of checkpoints move between two stores over the mesh (node/replica), against plain
 * CURVE on the same loopback, in interleaved rounds:
 *
 *   plain   as many bytes as the chunks have unpacked, in messages of 256 KiB, thrown away
 *   stored  the chunks as the store has them (packed) over plain CURVE, from memory; whoever
 *           receives them unpacks, hashes and appends each to a store, on one thread
 *   fetch   node_replica_fetch from another process: from its begin until the last chunk is
 *           verified and appended; how long it then took until it was durable stands beside it
 *
 * The chunks pack to a half, with --random not at all. All count unpacked bytes. With two
 * processors both processes share them, so everything that verifying and storing takes shows. Only
 * ratios inside one run mean something.
 *
 * usage: bench-transfer [--rounds N] [--mib N] [--random] [--json FILE] [--check]
 */
#include "node/replica/transfer.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>
#include <zmq.h>

#include "base/io.h"
#include "checkpoint/manifest.h"
#include "node/replica/serve.h"

#include "bench/pair.h"

#define BAR        0.9
#define PLAIN_SIZE (256u * PAIR_KIB)

enum contender {
    PLAIN,
    STORED,
    FETCH,
    CONTENDERS
};

static const char *const names[] = {"plain CURVE", "CURVE and storing", "fetch"};

struct options {
    unsigned rounds;
    uint64_t bytes;
    const char *json;
    bool check, is_random;
};

struct series {
    double rate[PAIR_ROUNDS_MAX], ratio[PAIR_ROUNDS_MAX];
    double sender[PAIR_ROUNDS_MAX], receiver[PAIR_ROUNDS_MAX]; /* CPU */
};

/* The checkpoint that is moved, in the folder of the sender. */
struct source {
    char dir[128], from[160], to[160];
    struct ckpt_id manifest;
    struct ckpt_entry *entries;
    uint64_t count;
    double synced_ms; /* of the last fetch: after the last chunk, until it was published */
    double synced[PAIR_ROUNDS_MAX];
};

static struct ckpt_store *open_store(const char *dir)
{
    const struct ckpt_store_config config = {.dir = dir};
    struct shl_err err = {0};
    struct ckpt_store *store;

    if (ckpt_store_open(&config, &store, &err) < 0) {
        pair_die(err.msg);
    }
    return store;
}

static void check(int rc, const struct shl_err *err)
{
    if (rc < 0) {
        pair_die(err->msg);
    }
}

/* ---- the checkpoint ---- */

/* What fake-vmm writes (tests/node/sandbox), which packs to a half; or what does not pack. */
static void make_chunk(uint8_t chunk[CKPT_CHUNK_BYTES], uint64_t *state, bool is_random)
{
    size_t i;

    for (i = 0; i < CKPT_CHUNK_BYTES; i += sizeof(*state)) {
        uint64_t word = 0x6c616f6873203a20u;

        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        word = is_random || i / sizeof(*state) % 2 ? *state : word;
        memcpy(chunk + i, &word, sizeof(word));
    }
}

static void make_checkpoint(struct source *source, const struct options *options)
{
    struct ckpt_store *store = open_store(source->from);
    static uint8_t chunk[CKPT_CHUNK_BYTES];
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    struct shl_err err = {0};
    struct shl_buf buf;
    uint64_t i, state = 4711;

    source->count = options->bytes / CKPT_CHUNK_BYTES;
    source->entries = calloc(source->count, sizeof(*source->entries));
    if (!source->entries) {
        pair_die("memory");
    }
    check(ckpt_session_begin(store, &session, &err), &err);
    for (i = 0; i < source->count; i++) {
        make_chunk(chunk, &state, options->is_random);
        source->entries[i].index = i;
        check(ckpt_session_put(session, chunk, sizeof(chunk), &source->entries[i].id, &err), &err);
    }
    ckpt_manifest_init(&manifest);
    manifest.disk.bytes = options->bytes;
    manifest.disk.entries = source->entries;
    manifest.disk.count = source->count;
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    check(ckpt_manifest_encode(&manifest, &buf), &err);
    check(ckpt_session_commit(session, shl_buf_bytes(&buf), &source->manifest, &err), &err);
    shl_buf_release(&buf);
    ckpt_store_close(store);
}

/* ---- plain CURVE, and storing what comes ---- */

struct packed {
    struct ckpt_id id;
    uint32_t bytes;
    bool is_packed;
    uint8_t data[CKPT_CHUNK_BYTES];
};

static void stored_send(const struct pair *pair)
{
    const struct source *source = pair->arg;
    struct ckpt_store *store = open_store(source->from);
    struct packed *all = calloc(source->count, sizeof(*all));
    struct shl_err err = {0};
    struct ckpt_stored stored;
    void *ctx, *dealer;
    uint64_t i;
    char done;

    for (i = 0; all && i < source->count; i++) {
        all[i].id = source->entries[i].id;
        check(ckpt_chunk_read_stored(store, &all[i].id, all[i].data, &stored, &err), &err);
        all[i].bytes = stored.bytes;
        all[i].is_packed = stored.is_packed;
    }
    ctx = zmq_ctx_new();
    dealer = pair_curve_dealer(pair, ctx);
    for (i = 0; all && i < source->count; i++) {
        zmq_msg_t msg;

        (void)zmq_msg_init_data(&msg, &all[i], offsetof(struct packed, data) + all[i].bytes,
                                pair_keep, NULL);
        if (zmq_msg_send(&msg, dealer, 0) < 0) {
            pair_die("plain send");
        }
    }
    pair_get(pair->to_child[0], &done, 1);
    (void)zmq_close(dealer);
    (void)zmq_ctx_term(ctx);
    ckpt_store_close(store);
    free(all);
}

static void store_one(void *router, struct ckpt_checker *checker, struct ckpt_session *session)
{
    struct ckpt_arrival arrival = {0};
    struct packed *chunk;
    struct shl_err err = {0};
    zmq_msg_t part;

    (void)zmq_msg_init(&part);
    if (zmq_msg_recv(&part, router, 0) < 0 || zmq_msg_recv(&part, router, 0) < 0) {
        pair_die("plain receive");
    }
    chunk = zmq_msg_data(&part);
    arrival.id = chunk->id;
    arrival.bytes = chunk->data;
    arrival.stored_bytes = chunk->bytes;
    arrival.is_packed = chunk->is_packed;
    check(ckpt_chunk_check(checker, &arrival, &err), &err);
    check(ckpt_session_put_checked(session, &arrival, &err), &err);
    (void)zmq_msg_close(&part);
}

static double stored_receive(const struct pair *pair)
{
    const struct source *source = pair->arg;
    struct ckpt_store *store = open_store(source->to);
    struct ckpt_checker *checker = ckpt_checker_new(store);
    struct ckpt_session *session;
    struct shl_err err = {0};
    void *ctx = zmq_ctx_new(), *router = pair_curve_router(pair, ctx);
    uint64_t from = shl_monotonic_us(), to, i;

    check(ckpt_session_begin(store, &session, &err), &err);
    for (i = 0; checker && i < source->count; i++) {
        store_one(router, checker, session);
    }
    to = shl_monotonic_us();
    pair_put(pair->to_child[1], "d", 1);
    ckpt_session_abort(session);
    ckpt_checker_free(checker);
    (void)zmq_close(router);
    (void)zmq_ctx_term(ctx);
    ckpt_store_close(store);
    (void)!shl_remove_tree(source->to);
    return pair_rate(pair->bytes, from, to);
}

/* ---- a fetch ---- */

static void set_true(void *arg)
{
    *(bool *)arg = true;
}

static void on_byte(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    (void)uv_poll_stop(handle);
    *(bool *)handle->data = true;
}

static void run_until(uv_loop_t *loop, const bool *is_over)
{
    while (!*is_over) {
        (void)uv_run(loop, UV_RUN_ONCE);
    }
}

static void fetch_send(const struct pair *pair)
{
    const struct source *source = pair->arg;
    const struct node_replica_server_config config = {.store = open_store(source->from)};
    struct node_replica_server *server;
    struct pair_mesh side;
    struct shl_err err = {0};
    bool is_over = false, is_closed = false;
    uv_poll_t over;

    pair_mesh_open(&side, pair, 1, NULL, NULL, NULL);
    check(node_replica_server_open(&side.loop, side.mesh, &config, &server, &err), &err);
    (void)uv_poll_init(&side.loop, &over, pair->to_child[0]);
    over.data = &is_over;
    (void)uv_poll_start(&over, UV_READABLE, on_byte);
    pair_put(pair->to_parent[1], "r", 1);
    run_until(&side.loop, &is_over);
    uv_close((uv_handle_t *)&over, NULL);
    node_replica_server_close(server, set_true, &is_closed);
    run_until(&side.loop, &is_closed);
    pair_mesh_close(&side);
    ckpt_store_close(config.store);
}

struct fetching {
    const struct source *source;
    struct node_replica *replica;
    uint64_t put_us; /* when the last chunk was in the store */
    bool is_over;
};

static void on_fetched(void *arg, const struct node_replica_result *result)
{
    struct fetching *fetching = arg;

    if (result->code < 0 || result->chunks != fetching->source->count) {
        pair_die(result->msg ? result->msg : "not all chunks were fetched");
    }
    fetching->is_over = true;
}

static void on_check(uv_check_t *handle)
{
    struct fetching *fetching = handle->data;
    struct node_replica_stats stats;

    node_replica_stats(fetching->replica, &stats);
    if (fetching->put_us == 0 && stats.fetch.arrived == fetching->source->count) {
        fetching->put_us = shl_monotonic_us();
    }
}

static double fetch_receive(const struct pair *pair)
{
    struct source *source = pair->arg;
    struct node_replica_config config = {.store = open_store(source->to)};
    struct fetching fetching = {.source = source};
    struct pair_mesh side;
    struct shl_err err = {0};
    uint64_t from, to;
    uv_check_t look;
    bool is_closed = false;
    char ready;

    pair_mesh_open(&side, pair, 0, NULL, NULL, NULL);
    config.opener = node_mesh_opener(side.mesh);
    ckpt_fetch_config_defaults(&config.fetch);
    config.fetch.seed = 1;
    check(node_replica_open(&side.loop, &config, &fetching.replica, &err), &err);
    (void)uv_check_init(&side.loop, &look);
    look.data = &fetching;
    (void)uv_check_start(&look, on_check);
    pair_get(pair->to_parent[0], &ready, 1);
    from = shl_monotonic_us();
    check(node_replica_fetch(fetching.replica, &source->manifest, CKPT_FETCH_UNACKED,
                             &pair->keys[1].id, 1, on_fetched, &fetching, NULL, &err),
          &err);
    run_until(&side.loop, &fetching.is_over);
    to = shl_monotonic_us();
    source->synced_ms = (double)(to - fetching.put_us) / 1e3;
    pair_put(pair->to_child[1], "d", 1);
    uv_close((uv_handle_t *)&look, NULL);
    node_replica_close(fetching.replica, set_true, &is_closed);
    run_until(&side.loop, &is_closed);
    pair_mesh_close(&side);
    ckpt_store_close(config.store);
    (void)!shl_remove_tree(source->to);
    return pair_rate(pair->bytes, from, fetching.put_us);
}

/* ---- rounds ---- */

static void run(const struct options *options, struct source *source, struct series *series)
{
    static void (*const send[])(const struct pair *) = {pair_plain_send, stored_send, fetch_send};
    static double (*const receive[])(const struct pair *) = {pair_plain_receive, stored_receive,
                                                             fetch_receive};
    unsigned round, i;

    for (round = 0; round < options->rounds; round++) {
        for (i = 0; i < CONTENDERS; i++) {
            struct pair pair = {.size = PLAIN_SIZE, .bytes = options->bytes, .arg = source};
            struct pair_cpu cpu;

            series[i].rate[round] = pair_measure(&pair, send[i], receive[i], &cpu);
            series[i].ratio[round] = series[i].rate[round] / series[PLAIN].rate[round];
            series[i].sender[round] = cpu.sender;
            series[i].receiver[round] = cpu.receiver;
        }
        source->synced[round] = source->synced_ms;
    }
}

static double report(const struct options *options,
                     const struct source *source,
                     const struct series *series)
{
    FILE *json = options->json ? fopen(options->json, "w") : NULL;
    double ratio[CONTENDERS], rate[CONTENDERS], sender[CONTENDERS], receiver[CONTENDERS];
    double synced = pair_median(source->synced, options->rounds), stored;
    unsigned i;

    for (i = 0; i < CONTENDERS; i++) {
        rate[i] = pair_median(series[i].rate, options->rounds);
        sender[i] = pair_median(series[i].sender, options->rounds);
        receiver[i] = pair_median(series[i].receiver, options->rounds);
        ratio[i] = pair_median(series[i].ratio, options->rounds);
        (void)printf("%-18s %6.0f MiB/s, %.2f of plain CURVE (CPU per GiB: sender %.0f, receiver "
                     "%.0f ms)\n",
                     names[i], rate[i], ratio[i], sender[i], receiver[i]);
    }
    stored = rate[FETCH] / rate[STORED];
    if (options->json && !json) {
        pair_die(options->json);
    }
    if (json) {
        (void)fprintf(json,
                      "{\"bench\":\"transfer\",\"bar\":%.2f,\"rounds\":%u,\"mib\":%llu,"
                      "\"packs\":%s,\"contenders\":[",
                      BAR, options->rounds, (unsigned long long)(options->bytes >> 20),
                      options->is_random ? "false" : "true");
        for (i = 0; i < CONTENDERS; i++) {
            (void)fprintf(json,
                          "%s{\"name\":\"%s\",\"mib_s\":%.1f,\"ratio\":%.3f,"
                          "\"sender_cpu_ms_gib\":%.0f,\"receiver_cpu_ms_gib\":%.0f}",
                          i ? "," : "", names[i], rate[i], ratio[i], sender[i], receiver[i]);
        }
        (void)fprintf(json, "],\"ratio\":%.3f,\"ratio_stored\":%.3f,\"synced_ms\":%.0f}\n",
                      ratio[FETCH], stored, synced);
        (void)fclose(json);
    }
    (void)printf(
        "transfer: %.2f of plain CURVE (bar %.2f), %.2f of CURVE and storing, then %.0f ms "
        "until it was durable (%u rounds)\n",
        ratio[FETCH], BAR, stored, synced, options->rounds);
    return ratio[FETCH];
}

static void make_dir(struct source *source)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(source->dir, sizeof(source->dir), "%s/bench-transfer-XXXXXX",
                   tmp ? tmp : "/tmp");
    if (!mkdtemp(source->dir)) {
        pair_die(source->dir);
    }
    (void)snprintf(source->from, sizeof(source->from), "%s/from", source->dir);
    (void)snprintf(source->to, sizeof(source->to), "%s/to", source->dir);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"rounds", required_argument, NULL, 'r'}, {"mib", required_argument, NULL, 'm'},
        {"json", required_argument, NULL, 'j'},   {"random", no_argument, NULL, 'x'},
        {"check", no_argument, NULL, 'c'},        {0}};
    static struct series series[CONTENDERS];
    static struct source source;
    struct options options = {.rounds = 5, .bytes = 256ull << 20};
    double ratio;
    int opt;

    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (opt == 'r') {
            options.rounds = pair_number(argv[0], optarg, PAIR_ROUNDS_MAX);
        } else if (opt == 'm') {
            options.bytes = (uint64_t)pair_number(argv[0], optarg, 4096) << 20;
        } else if (opt == 'j') {
            options.json = optarg;
        } else if (opt == 'x') {
            options.is_random = true;
        } else if (opt == 'c') {
            options.check = true;
        } else {
            (void)fprintf(stderr, "usage: bench-transfer [--rounds N] [--mib N] [--json FILE] "
                                  "[--check]\n");
            return 2;
        }
    }
    (void)setenv("UV_THREADPOOL_SIZE", "12", 0); /* as shoald has it */
    memset(pair_source, 0x5a, sizeof(pair_source));
    make_dir(&source);
    make_checkpoint(&source, &options);
    run(&options, &source, series);
    ratio = report(&options, &source, series);
    (void)!shl_remove_tree(source.dir);
    return ratio < BAR && options.check ? 1 : 0;
}
