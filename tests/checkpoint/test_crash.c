/* kill -9 at every step, and torn writes.
 *
 * A child runs a fixed script of checkpoints, deletions, collections, and dies at its
 * n-th step; it notes in shared memory what it was told is done. Then the last segment is
 * cut at an arbitrary byte behind what was synced, or the index is removed, or neither;
 * the store is opened again and must have everything acknowledged, nothing that was
 * deleted, and after a collection no more than twice the bytes in use. This for every n
 * until a child comes to its end.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/checkpoint/helper.h"

#define ACTIONS     (sizeof(script) / sizeof(script[0]))
#define STEPS_MAX   4000u
#define SEGMENTS_OF 64u

enum kind {
    ADD,
    REMOVE,
    ABORT,
    COLLECT,
};

/* Checkpoints share chunks (10 to 19), segments of 1 MiB fill up, some get empty. */
static const struct action {
    enum kind kind;
    uint32_t first, count;
} script[] = {
    {ADD, 0, 20},     {ADD, 10, 20},   {ABORT, 200, 40}, {ADD, 300, 30},    {REMOVE, 0, 20},
    {COLLECT, 0, 0},  {ADD, 200, 10},  {ADD, 0, 20},     {REMOVE, 300, 30}, {ADD, 1000, 3},
    {REMOVE, 10, 20}, {COLLECT, 0, 0}, {ADD, 300, 30},   {REMOVE, 0, 20},   {REMOVE, 300, 30},
    {COLLECT, 0, 0},  {ADD, 400, 5},   {ADD, 0, 20},
};

struct shared {
    uint32_t done;  /* actions that returned */
    uint32_t steps; /* steps seen */
    uint32_t die_at;
    char last_step[32];
    /* What was synced of each segment; by number. */
    uint64_t synced[SEGMENTS_OF];
};

static struct shared *shared;
static const char *dir;

/* The ids of the script's checkpoints, computed once. */
static struct ckpt_id script_ids[ACTIONS];

static void note_synced(void)
{
    char path[512];
    struct dirent *entry;
    struct stat st;
    DIR *list;

    snprintf(path, sizeof(path), "%s/segments", dir);
    list = opendir(path);
    while (list && (entry = readdir(list))) {
        unsigned long number = strtoul(entry->d_name, NULL, 16);

        snprintf(path, sizeof(path), "%s/segments/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.' && number < SEGMENTS_OF && stat(path, &st) == 0) {
            shared->synced[number] = (uint64_t)st.st_size;
        }
    }
    closedir(list);
}

static void on_step(void *ctx, const char *step)
{
    (void)ctx;
    snprintf(shared->last_step, sizeof(shared->last_step), "%s", step);
    if (strcmp(step, "chunks-synced") == 0 || strcmp(step, "synced") == 0 ||
        strcmp(step, "manifest-synced") == 0 || strcmp(step, "segment-created") == 0) {
        note_synced();
    }
    if (++shared->steps == shared->die_at) {
        raise(SIGKILL);
    }
}

static void put_and_abort(struct ckpt_store *store, uint32_t first, uint32_t count)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_session *session;
    struct ckpt_id id;
    uint32_t i;

    if (ckpt_session_begin(store, &session, NULL) < 0) {
        _exit(3);
    }
    for (i = 0; i < count; i++) {
        if (ckpt_session_put(session, chunk, make_chunk(chunk, first + i), &id, NULL) < 0) {
            _exit(3);
        }
    }
    ckpt_session_abort(session);
    free(chunk);
}

static void act(struct ckpt_store *store, const struct action *action)
{
    struct ckpt_collect_stats stats;
    struct ckpt_id id;
    int rc = 0;

    switch (action->kind) {
    case ADD:
        rc = try_checkpoint(store, action->first, action->count, &id);
        break;
    case REMOVE:
        id = script_ids[action - script];
        rc = ckpt_manifest_delete(store, &id, NULL);
        break;
    case ABORT:
        put_and_abort(store, action->first, action->count);
        break;
    case COLLECT:
        rc = ckpt_store_collect(store, &stats, NULL);
        break;
    }
    if (rc < 0) {
        fprintf(stderr, "action failed: %s\n", shl_err_name(rc));
        _exit(3);
    }
}

/* The child; does not return. */
static void run_script(void)
{
    struct ckpt_store_config config = {.dir = dir, .segment_bytes = SEGMENT, .step_hook = on_step};
    struct ckpt_store *store;
    size_t i;

    if (ckpt_store_open(&config, &store, NULL) < 0) {
        _exit(2);
    }
    for (i = 0; i < ACTIONS; i++) {
        act(store, &script[i]);
        shared->done = (uint32_t)i + 1;
    }
    ckpt_store_close(store);
    _exit(0);
}

/* Whether @script[k] is published after @done actions. */
static bool is_published(size_t k, uint32_t done)
{
    bool there = false;
    size_t i;

    for (i = 0; i < done; i++) {
        if (script[i].first == script[k].first && script[i].count == script[k].count) {
            there = script[i].kind == ADD || (there && script[i].kind != REMOVE);
        }
    }
    return there;
}

static bool was_checked(size_t k)
{
    size_t i;

    for (i = 0; i < k; i++) {
        if (script[i].kind == ADD && script[i].first == script[k].first &&
            script[i].count == script[k].count) {
            return true;
        }
    }
    return false;
}

struct seen {
    struct ckpt_id ids[32];
    unsigned count;
};

static bool see(void *arg, const struct ckpt_id *id)
{
    struct seen *seen = arg;

    assert_true(seen->count < 32);
    seen->ids[seen->count++] = *id;
    return true;
}

static bool has(const struct seen *seen, const struct ckpt_id *id)
{
    unsigned i;

    for (i = 0; i < seen->count; i++) {
        if (ckpt_id_equal(&seen->ids[i], id)) {
            return true;
        }
    }
    return false;
}

/* The action that was under way may have happened or not; all others have or have not. */
static void check_store(struct ckpt_store *store)
{
    uint32_t done = shared->done;
    struct seen seen = {.count = 0};
    unsigned expected = 0;
    size_t k;

    assert_int_equal(ckpt_manifest_each(store, see, &seen, NULL), 0);
    for (k = 0; k < ACTIONS; k++) {
        struct ckpt_id id;
        bool there;

        if (script[k].kind != ADD || was_checked(k)) {
            continue;
        }
        id = script_ids[k];
        there = has(&seen, &id);
        if (is_published(k, done) == is_published(k, SHL_MIN(done + 1, (uint32_t)ACTIONS)) &&
            there != is_published(k, done)) {
            fail_msg("died at step %u (%s, %u done): checkpoint %u is %s", shared->die_at,
                     shared->last_step, done, script[k].first, there ? "back" : "lost");
        }
        if (there && !is_readable(store, &id, script[k].first, script[k].count)) {
            fail_msg("died at step %u (%s, %u done): checkpoint %u is incomplete", shared->die_at,
                     shared->last_step, done, script[k].first);
        }
        expected += there;
    }
    assert_int_equal(seen.count, expected);
    assert_int_equal(stats_of(store).manifests, expected);
}

/* Bytes of records the index names, by the sweep of a second collection. */
static void check_garbage(struct ckpt_store *store)
{
    struct ckpt_collect_stats first = collect(store), second = collect(store);
    struct ckpt_store_stats stats = stats_of(store);

    assert_true(first.live_chunks <= stats.chunks);
    assert_int_equal(second.swept_chunks, 0);
    assert_int_equal(stats.chunks, second.live_chunks);
    /* At most two bytes on disk for one in use, and the header of a segment. */
    assert_true(stats.bytes <=
                2 * (second.live_chunks * (CKPT_CHUNK_BYTES + 64) + stats.manifests * 8192) + 64);
    if (second.live_chunks == 0 && stats.manifests == 0) {
        assert_true(stats.bytes <= 64);
    }
}

/* Cut the last segment somewhere behind what was synced: the tail was never written. */
static void tear(uint64_t *random)
{
    uint64_t keep, size;
    unsigned long number;
    struct stat st;
    char path[256];

    last_segment(dir, path, sizeof(path));
    number = strtoul(strrchr(path, '/') + 1, NULL, 16);
    assert_int_equal(stat(path, &st), 0);
    size = (uint64_t)st.st_size;
    assert_true(number < SEGMENTS_OF);
    keep = SHL_MIN(shared->synced[number], size);
    if (size > keep) {
        keep += next_random(random) % (size - keep + 1);
        assert_int_equal(truncate(path, (off_t)keep), 0);
    }
}

/* Zeros over a part of what was not synced: the file grew, the data did not come. */
static void blank(uint64_t *random)
{
    static const uint8_t zeros[8192];
    unsigned long number;
    uint64_t from, size;
    struct stat st;
    char path[256];
    int fd;

    last_segment(dir, path, sizeof(path));
    number = strtoul(strrchr(path, '/') + 1, NULL, 16);
    assert_int_equal(stat(path, &st), 0);
    size = (uint64_t)st.st_size;
    from = SHL_MIN(shared->synced[number], size);
    if (size > from) {
        from += next_random(random) % (size - from);
        fd = open(path, O_WRONLY);
        assert_true(fd >= 0);
        assert_int_equal(shl_pwrite_full(fd, zeros, SHL_MIN(sizeof(zeros), size - from), from), 0);
        close(fd);
    }
}

static bool segments_exist(void)
{
    char path[512];
    struct dirent *entry;
    bool any = false;
    DIR *list;

    snprintf(path, sizeof(path), "%s/segments", dir);
    list = opendir(path);
    while (list && (entry = readdir(list))) {
        any |= entry->d_name[0] != '.';
    }
    if (list) {
        closedir(list);
    }
    return any;
}

/* One child that dies at step @n; true when it came to its end before. */
static bool crash_at(uint32_t n, unsigned variant)
{
    uint64_t random = n * 31 + variant;
    struct ckpt_store *store;
    int status;
    pid_t pid;

    memset(shared, 0, sizeof(*shared));
    shared->die_at = n;
    dir = enter_dir();
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        run_script();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
    } else {
        assert_int_equal(WTERMSIG(status), SIGKILL);
    }
    if (variant == 1 && segments_exist()) {
        tear(&random);
    } else if (variant == 2 && segments_exist()) {
        blank(&random);
    } else if (variant == 3) {
        char path[256];

        snprintf(path, sizeof(path), "%s/index", dir);
        assert_int_equal(shl_remove_tree(path), 0);
    }
    store = open_store(dir);
    check_store(store);
    check_garbage(store);
    check_store(store);
    (void)add_checkpoint(store, 5000, 4); /* and it can be written to */
    ckpt_store_close(store);
    store = open_store(dir);
    assert_true(count_manifests(store) > 0);
    ckpt_store_close(store);
    leave_dir();
    return WIFEXITED(status);
}

/* Every step with CKPT_CRASH_ALL=1, else every @stride-th. */
static void run_variant(unsigned variant, unsigned stride)
{
    uint32_t n, count = 0;
    bool ended = false;

    if (getenv("CKPT_CRASH_ALL")) {
        stride = 1;
    }
    for (n = 1 + variant % stride; !ended && n < STEPS_MAX; n += stride) {
        ended = crash_at(n, variant);
        count += !ended;
    }
    assert_true(ended);
    assert_true(n > 100); /* the steps were there */
    print_message("died %u times, the last step was %u\n", count, shared->steps);
}

static void test_crash_at_any_step_loses_nothing(void **state)
{
    (void)state;
    run_variant(0, 6);
}

static void test_crash_with_a_torn_tail(void **state)
{
    (void)state;
    run_variant(1, 12);
}

static void test_crash_with_blocks_that_were_not_written(void **state)
{
    (void)state;
    run_variant(2, 12);
}

static void test_crash_and_loss_of_the_index(void **state)
{
    (void)state;
    run_variant(3, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_at_any_step_loses_nothing),
        cmocka_unit_test(test_crash_with_a_torn_tail),
        cmocka_unit_test(test_crash_with_blocks_that_were_not_written),
        cmocka_unit_test(test_crash_and_loss_of_the_index),
    };

    for (size_t k = 0; k < ACTIONS; k++) {
        script_ids[k] = id_of_checkpoint(script[k].first, script[k].count);
    }
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests_name("checkpoint/crash", tests, NULL, NULL);
}
