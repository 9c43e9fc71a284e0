#include "tests/checkpoint/helper.h"

#include <dirent.h>
#include <unistd.h>

#include "base/io.h"

static char dir_path[64];

/* In memory where possible: the tests wait for thousands of fsyncs. */
const char *enter_dir(void)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(dir_path, sizeof(dir_path), "%s/shl-ckpt-XXXXXX", parent);
    assert_non_null(mkdtemp(dir_path));
    return dir_path;
}

void leave_dir(void)
{
    assert_int_equal(shl_remove_tree(dir_path), 0);
}

struct ckpt_store *open_store_with(const char *dir,
                                   void (*hook)(void *ctx, const char *step),
                                   void *ctx)
{
    struct ckpt_store_config config = {
        .dir = dir, .segment_bytes = SEGMENT, .step_hook = hook, .step_ctx = ctx};
    struct ckpt_store *store = NULL;
    struct shl_err err = {0};
    int rc = ckpt_store_open(&config, &store, &err);

    if (rc < 0) {
        print_error("open: %s: %s\n", shl_err_name(rc), err.msg);
    }
    assert_int_equal(rc, 0);
    return store;
}

struct ckpt_store *open_store(const char *dir)
{
    return open_store_with(dir, NULL, NULL);
}

uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

size_t make_chunk(uint8_t *dst, uint32_t seed)
{
    uint64_t state = 0x9e3779b97f4a7c15ull * (seed + 1);
    size_t i, random = seed % 3 == 0 ? CKPT_CHUNK_BYTES : 64;

    memset(dst, (int)seed, CKPT_CHUNK_BYTES);
    for (i = 0; i < random; i += 4) {
        uint32_t word = next_random(&state);

        memcpy(dst + i, &word, sizeof(word));
    }
    return CKPT_CHUNK_BYTES;
}

static void fill_manifest(struct ckpt_manifest *manifest, uint32_t count, uint32_t first)
{
    ckpt_manifest_init(manifest);
    snprintf(manifest->disk.base, sizeof(manifest->disk.base), "test-%u", first);
    manifest->disk.bytes = (uint64_t)(count + 1) * CKPT_CHUNK_BYTES;
    manifest->disk.entries = calloc(count + 1, sizeof(struct ckpt_entry));
    assert_non_null(manifest->disk.entries);
    manifest->disk.count = count;
}

static void encode(struct ckpt_manifest *manifest, struct shl_buf *buf)
{
    shl_buf_init(buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_encode(manifest, buf), 0);
    ckpt_manifest_release(manifest);
}

int try_checkpoint(struct ckpt_store *store, uint32_t first, uint32_t count, struct ckpt_id *ret)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_session *session;
    struct ckpt_manifest manifest;
    struct shl_buf buf;
    uint32_t i;
    int rc;

    assert_non_null(chunk);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    fill_manifest(&manifest, count, first);
    for (i = 0, rc = 0; rc == 0 && i < count; i++) {
        size_t len = make_chunk(chunk, first + i);

        manifest.disk.entries[i].index = i;
        rc = ckpt_session_put(session, chunk, len, &manifest.disk.entries[i].id, NULL);
    }
    encode(&manifest, &buf);
    if (rc == 0) {
        rc = ckpt_session_commit(session, shl_buf_bytes(&buf), ret, NULL);
    }
    if (rc < 0) {
        ckpt_session_abort(session);
    }
    shl_buf_release(&buf);
    free(chunk);
    return rc;
}

struct ckpt_id add_checkpoint(struct ckpt_store *store, uint32_t first, uint32_t count)
{
    struct ckpt_id id;

    assert_int_equal(try_checkpoint(store, first, count, &id), 0);
    return id;
}

struct ckpt_id id_of_checkpoint(uint32_t first, uint32_t count)
{
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_manifest manifest;
    struct shl_buf buf;
    struct ckpt_id id;
    uint32_t i;

    assert_non_null(chunk);
    fill_manifest(&manifest, count, first);
    for (i = 0; i < count; i++) {
        manifest.disk.entries[i].index = i;
        ckpt_id_of(&manifest.disk.entries[i].id, chunk, make_chunk(chunk, first + i));
    }
    encode(&manifest, &buf);
    ckpt_id_of(&id, shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
    free(chunk);
    return id;
}

static bool chunks_match(struct ckpt_store *store,
                         const struct ckpt_manifest *manifest,
                         uint32_t first)
{
    uint8_t *got = malloc(CKPT_CHUNK_BYTES), *want = malloc(CKPT_CHUNK_BYTES);
    struct shl_err err = {0};
    bool match = true;
    uint32_t i;

    assert_true(got && want);
    for (i = 0; match && i < manifest->disk.count; i++) {
        size_t len = make_chunk(want, first + i);
        int rc = ckpt_chunk_read(store, &manifest->disk.entries[i].id, got, CKPT_CHUNK_BYTES, &err);

        match = rc == (int)len && memcmp(got, want, len) == 0;
        if (!match) {
            print_message("chunk %u of %u: %d %s\n", i, first, rc, err.msg);
        }
    }
    free(got);
    free(want);
    return match;
}

bool is_readable(struct ckpt_store *store, const struct ckpt_id *id, uint32_t first, uint32_t count)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin = NULL;
    struct shl_err err = {0};
    struct shl_buf buf;
    bool ok = false;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_read(store, id, &buf, &pin, &err);
    if (rc == 0 && ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), &err) == 0) {
        ok = manifest.disk.count == count && chunks_match(store, &manifest, first);
        ckpt_manifest_release(&manifest);
    } else {
        print_message("manifest of %u: %d %s\n", first, rc, err.msg);
    }
    ckpt_pin_release(pin);
    shl_buf_release(&buf);
    return ok;
}

static bool count_one(void *arg, const struct ckpt_id *id)
{
    (void)id;
    ++*(unsigned *)arg;
    return true;
}

unsigned count_manifests(struct ckpt_store *store)
{
    unsigned count = 0;

    assert_int_equal(ckpt_manifest_each(store, count_one, &count, NULL), 0);
    return count;
}

struct ckpt_store_stats stats_of(struct ckpt_store *store)
{
    struct ckpt_store_stats stats;

    ckpt_store_stats(store, &stats);
    return stats;
}

struct ckpt_collect_stats collect(struct ckpt_store *store)
{
    struct ckpt_collect_stats stats;
    struct shl_err err = {0};
    int rc = ckpt_store_collect(store, &stats, &err);

    if (rc < 0) {
        print_error("collect: %s: %s\n", shl_err_name(rc), err.msg);
    }
    assert_int_equal(rc, 0);
    return stats;
}

void last_segment(const char *dir, char *path, size_t size)
{
    char folder[256], best[64] = "";
    struct dirent *entry;
    DIR *list;

    snprintf(folder, sizeof(folder), "%s/segments", dir);
    list = opendir(folder);
    assert_non_null(list);
    while ((entry = readdir(list))) {
        if (strlen(entry->d_name) == 8 && strcmp(entry->d_name, best) > 0) {
            strcpy(best, entry->d_name);
        }
    }
    closedir(list);
    assert_true(best[0]);
    snprintf(path, size, "%s/%s", folder, best);
}
