/* Everything at the same time: sessions that publish, delete and publish again the same
 * few chunks, collections, scrubs, readers with pins, a finger that damages chunks. A
 * fixed number of rounds per thread. Whoever was told that a checkpoint is published must
 * be able to read all of it at any time until it deletes it. (reference: chunks found by a
 * session and swept before its commit; chunks put again while they are swept; damage.)
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/checkpoint/helper.h"

#define WRITERS 4u
#define ROUNDS  30u
#define WINDOW  24u /* chunks all writers share */
#define LENGTH  8u

#ifdef __SANITIZE_THREAD__
/* LevelDB comes without instrumentation: the sanitizer does not see the atomics of its
 * skip list and takes what it reads for races. */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libleveldb.so\nrace:libleveldb.so\n";
}
#endif

struct shared {
    struct ckpt_store *store;
    uint32_t running; /* writers */
    unsigned failures;
};

struct writer {
    struct shared *shared;
    uint32_t number;
};

static void fault(struct shared *shared, const char *what, uint32_t number)
{
    print_message("%s (%u)\n", what, number);
    __atomic_add_fetch(&shared->failures, 1, __ATOMIC_SEQ_CST);
}

/* The base names the writer, so no two writers publish the same manifest. */
static int publish(struct shared *shared,
                   uint32_t number,
                   uint32_t first,
                   bool slow,
                   struct ckpt_id *ret)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_entry *entries = calloc(LENGTH, sizeof(*entries));
    struct ckpt_session *session;
    struct ckpt_manifest manifest;
    struct shl_buf buf;
    uint32_t i;
    int rc = ckpt_session_begin(shared->store, &session, NULL);

    ckpt_manifest_init(&manifest);
    snprintf(manifest.disk.base, sizeof(manifest.disk.base), "writer-%u", number);
    manifest.disk.bytes = LENGTH * CKPT_CHUNK_BYTES;
    manifest.disk.entries = entries;
    manifest.disk.count = LENGTH;
    for (i = 0; rc == 0 && i < LENGTH; i++) {
        make_chunk(chunk, (first + i) % WINDOW);
        entries[i].index = i;
        rc = ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &entries[i].id, NULL);
        if (slow) {
            sched_yield();
        }
    }
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    if (rc == 0) {
        rc = ckpt_manifest_encode(&manifest, &buf);
    }
    if (rc == 0) {
        rc = ckpt_session_commit(session, shl_buf_bytes(&buf), ret, NULL);
    }
    if (rc < 0) {
        ckpt_session_abort(session);
    }
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    free(chunk);
    return rc;
}

static bool chunks_are_there(struct ckpt_store *store,
                             const struct ckpt_manifest *manifest,
                             uint32_t first)
{
    uint8_t *got = malloc(CKPT_CHUNK_BYTES), *want = malloc(CKPT_CHUNK_BYTES);
    bool ok = true;
    uint32_t i;

    for (i = 0; ok && i < manifest->disk.count; i++) {
        make_chunk(want, (first + i) % WINDOW);
        ok = ckpt_chunk_read(store, &manifest->disk.entries[i].id, got, CKPT_CHUNK_BYTES, NULL) ==
                 (int)CKPT_CHUNK_BYTES &&
             memcmp(got, want, CKPT_CHUNK_BYTES) == 0;
    }
    free(got);
    free(want);
    return ok;
}

/* Read the manifest; with @remove delete it while it is pinned, then read its chunks. */
static bool verify(struct shared *shared, const struct ckpt_id *id, uint32_t first, bool remove)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin = NULL;
    struct shl_buf buf;
    bool ok = false;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    if (ckpt_manifest_read(shared->store, id, &buf, &pin, NULL) == 0 &&
        ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), NULL) == 0) {
        ok = !remove || ckpt_manifest_delete(shared->store, id, NULL) == 0;
        ok = ok && chunks_are_there(shared->store, &manifest, first);
        ckpt_manifest_release(&manifest);
    }
    ckpt_pin_release(pin);
    shl_buf_release(&buf);
    return ok;
}

static void *write_thread(void *arg)
{
    struct writer *writer = arg;
    struct shared *shared = writer->shared;
    uint64_t random = writer->number;
    struct ckpt_id kept, id;
    uint32_t round, kept_first = 0;
    bool has_kept = false;

    for (round = 0; round < ROUNDS; round++) {
        uint32_t first = next_random(&random) % WINDOW;

        if (has_kept && first == kept_first) {
            continue; /* the same manifest would be deleted below */
        }
        if (publish(shared, writer->number, first, round % 2, &id) < 0) {
            fault(shared, "cannot publish", writer->number);
            break;
        }
        if (!verify(shared, &id, first, false)) {
            fault(shared, "what was published cannot be read", writer->number);
        }
        if (has_kept && !verify(shared, &kept, kept_first, false)) {
            fault(shared, "what was kept cannot be read", writer->number);
        }
        if (round % 3 == 0) {
            if (has_kept && ckpt_manifest_delete(shared->store, &kept, NULL) < 0) {
                fault(shared, "cannot delete", writer->number);
            }
            kept = id;
            kept_first = first;
            has_kept = true;
        } else if (!verify(shared, &id, first, true)) {
            fault(shared, "what a reader holds cannot be read", writer->number);
        }
    }
    if (!verify(shared, &kept, kept_first, false)) {
        fault(shared, "what was kept cannot be read in the end", writer->number);
    }
    __atomic_sub_fetch(&shared->running, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *collect_thread(void *arg)
{
    struct shared *shared = arg;

    while (__atomic_load_n(&shared->running, __ATOMIC_SEQ_CST) > 0) {
        struct ckpt_collect_stats stats;

        if (ckpt_store_collect(shared->store, &stats, NULL) < 0) {
            fault(shared, "cannot collect", 0);
        }
    }
    return NULL;
}

static void *scrub_thread(void *arg)
{
    struct shared *shared = arg;

    while (__atomic_load_n(&shared->running, __ATOMIC_SEQ_CST) > 0) {
        struct ckpt_scrub_stats stats;

        if (ckpt_store_scrub(shared->store, 300000, &stats, NULL) < 0 || stats.damaged) {
            fault(shared, "scrub finds damage", (uint32_t)stats.damaged);
        }
        (void)stats_of(shared->store);
        (void)count_manifests(shared->store);
    }
    return NULL;
}

static void run_threads(struct shared *shared)
{
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS + 3];
    unsigned i;

    shared->running = WRITERS;
    for (i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){shared, i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, write_thread, &writers[i]), 0);
    }
    assert_int_equal(pthread_create(&threads[WRITERS], NULL, collect_thread, shared), 0);
    assert_int_equal(pthread_create(&threads[WRITERS + 1], NULL, collect_thread, shared), 0);
    assert_int_equal(pthread_create(&threads[WRITERS + 2], NULL, scrub_thread, shared), 0);
    for (i = 0; i < WRITERS + 3; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void test_races_lose_nothing_published(void **state)
{
    const char *dir = enter_dir();
    struct shared shared = {.store = open_store(dir)};
    struct ckpt_store_stats stats;

    (void)state;
    run_threads(&shared);
    assert_int_equal(shared.failures, 0);
    (void)collect(shared.store);
    stats = stats_of(shared.store);
    assert_int_equal(stats.manifests, WRITERS);
    assert_int_equal(stats.sessions + stats.pins, 0);
    assert_int_equal(stats.damaged, 0);
    assert_true(stats.chunks <= WRITERS * LENGTH);
    assert_int_equal(collect(shared.store).swept_chunks, 0);
    ckpt_store_close(shared.store);
    shared.store = open_store(dir);
    assert_int_equal(stats_of(shared.store).chunks, stats.chunks);
    assert_int_equal(count_manifests(shared.store), WRITERS);
    ckpt_store_close(shared.store);
    leave_dir();
}

/* Chunk 0 (it does not compress) is the first record of a new store. */
static void damage_first_chunk(const char *dir)
{
    char path[256];
    uint8_t byte;
    int fd;

    last_segment(dir, path, sizeof(path));
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 20000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 20000), 1);
    close(fd);
}

/* A session holds a chunk that turns out damaged: its commit says so; writing again heals. */
static void test_races_damage_between_put_and_commit(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id id, chunk_id, first = add_checkpoint(store, 0, 1);
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    struct shl_buf buf;

    (void)state;
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    make_chunk(chunk, 0);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &chunk_id, NULL), 0);
    damage_first_chunk(dir);
    assert_int_equal(ckpt_chunk_read(store, &chunk_id, chunk, CKPT_CHUNK_BYTES, NULL),
                     SHL_ECORRUPT);
    ckpt_manifest_init(&manifest);
    manifest.disk.bytes = CKPT_CHUNK_BYTES;
    manifest.disk.entries = calloc(1, sizeof(struct ckpt_entry));
    manifest.disk.entries[0].id = chunk_id;
    manifest.disk.count = 1;
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_encode(&manifest, &buf), 0);
    assert_true(ckpt_session_commit(session, shl_buf_bytes(&buf), &id, NULL) < 0);
    ckpt_session_abort(session);

    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    make_chunk(chunk, 0);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &chunk_id, NULL), 0);
    assert_int_equal(ckpt_session_commit(session, shl_buf_bytes(&buf), &id, NULL), 0);
    assert_true(is_readable(store, &id, 0, 1));
    assert_true(is_readable(store, &first, 0, 1)); /* the old one is whole again, too */
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    free(chunk);
    ckpt_store_close(store);
    leave_dir();
}

/* In the middle of a collection, after it has looked at what is published: a session
 * finds chunks that nothing names any more and publishes them. */
static struct ckpt_store *window_store;
static struct ckpt_id window_id;

static void publish_in_window(void *ctx, const char *step)
{
    if (strcmp(step, ctx) == 0 && window_store) {
        struct ckpt_store *store = window_store;

        window_store = NULL;
        window_id = add_checkpoint(store, 0, 12);
    }
}

static void test_races_chunks_found_while_they_are_collected(void **state)
{
    static char marking[] = "marking";
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store_with(dir, publish_in_window, marking);
    struct ckpt_id old = add_checkpoint(store, 2, 20);

    (void)state;
    assert_int_equal(ckpt_manifest_delete(store, &old, NULL), 0);
    window_store = store;
    assert_int_equal(collect(store).swept_chunks, 10); /* 12 to 21 */
    assert_null(window_store);
    assert_true(is_readable(store, &window_id, 0, 12));
    assert_int_equal(collect(store).swept_chunks, 0);
    ckpt_store_close(store);
    leave_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_races_lose_nothing_published),
        cmocka_unit_test(test_races_damage_between_put_and_commit),
        cmocka_unit_test(test_races_chunks_found_while_they_are_collected),
    };

    return cmocka_run_group_tests_name("checkpoint/races", tests, NULL, NULL);
}
