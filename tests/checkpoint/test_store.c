/* The store in one thread: what is put can be read, what is deleted goes away, what is
 * damaged is found and healed, and a second opening sees the same. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/checkpoint/helper.h"

static void test_store_returns_what_was_put(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 0, 30), b = add_checkpoint(store, 1000, 5);
    struct ckpt_id want = id_of_checkpoint(0, 30);

    (void)state;
    assert_true(ckpt_id_equal(&a, &want));
    assert_true(is_readable(store, &a, 0, 30));
    assert_true(is_readable(store, &b, 1000, 5));
    assert_int_equal(count_manifests(store), 2);
    ckpt_store_close(store);

    store = open_store(dir);
    assert_true(is_readable(store, &a, 0, 30));
    assert_true(is_readable(store, &b, 1000, 5));
    assert_int_equal(stats_of(store).manifests, 2);
    assert_int_equal(stats_of(store).chunks, 35);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_keeps_equal_chunks_once(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_session *session;
    struct ckpt_session_stats stats;
    uint8_t *chunk = calloc(1, CKPT_CHUNK_BYTES);
    struct ckpt_id id, zero = {{0}};

    (void)state;
    (void)add_checkpoint(store, 0, 10);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &id, NULL), 0);
    assert_true(ckpt_id_equal(&id, &zero));
    make_chunk(chunk, 3);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &id, NULL), 0);
    make_chunk(chunk, 77);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &id, NULL), 0);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &id, NULL), 0);
    assert_int_equal(ckpt_session_put(session, "x", 1, &id, NULL), 0);
    ckpt_session_stats(session, &stats);
    assert_int_equal(stats.chunks, 5);
    assert_int_equal(stats.new_chunks, 2);
    assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES + 1, &id, NULL),
                     SHL_EINVALIDARG);
    assert_int_equal(ckpt_session_put(session, chunk, 0, &id, NULL), SHL_EINVALIDARG);
    ckpt_session_abort(session);
    assert_int_equal(stats_of(store).sessions, 0);
    free(chunk);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_is_for_one_process(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir), *second = NULL;
    struct ckpt_store_config config = {.dir = dir};

    (void)state;
    assert_int_equal(ckpt_store_open(&config, &second, NULL), SHL_ECONFLICT);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_shows_nothing_of_an_aborted_session(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_session *session;
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_id id;
    uint32_t i;

    (void)state;
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    for (i = 0; i < 60; i++) {
        make_chunk(chunk, i);
        assert_int_equal(ckpt_session_put(session, chunk, CKPT_CHUNK_BYTES, &id, NULL), 0);
    }
    assert_int_equal(collect(store).swept_chunks, 0); /* pinned */
    assert_int_equal(ckpt_chunk_read(store, &id, chunk, CKPT_CHUNK_BYTES, NULL), CKPT_CHUNK_BYTES);
    ckpt_session_abort(session);
    assert_int_equal(count_manifests(store), 0);
    assert_int_equal(collect(store).swept_chunks, 60);
    assert_int_equal(ckpt_chunk_read(store, &id, chunk, CKPT_CHUNK_BYTES, NULL), SHL_ENOTFOUND);
    assert_int_equal(stats_of(store).bytes, 0);
    free(chunk);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_refuses_a_manifest_without_its_chunks(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_session *session;
    struct ckpt_manifest manifest;
    struct shl_buf buf;
    struct ckpt_id id;

    (void)state;
    ckpt_manifest_init(&manifest);
    manifest.disk.bytes = CKPT_CHUNK_BYTES;
    manifest.disk.entries = calloc(1, sizeof(struct ckpt_entry));
    manifest.disk.entries[0].id.bytes[5] = 1;
    manifest.disk.count = 1;
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_encode(&manifest, &buf), 0);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    assert_int_equal(ckpt_session_commit(session, shl_buf_bytes(&buf), &id, NULL), SHL_ENOTFOUND);
    ckpt_session_abort(session);
    assert_int_equal(ckpt_session_begin(store, &session, NULL), 0);
    assert_int_equal(ckpt_session_commit(session, shl_bytes_of("\xc0", 1), &id, NULL),
                     SHL_ECORRUPT);
    ckpt_session_abort(session);
    assert_int_equal(count_manifests(store), 0);
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_collects_what_was_deleted(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id kept = add_checkpoint(store, 0, 20), gone = add_checkpoint(store, 10, 100);
    uint64_t before = stats_of(store).bytes;

    (void)state;
    assert_int_equal(collect(store).swept_chunks, 0);
    assert_int_equal(ckpt_manifest_delete(store, &gone, NULL), 0);
    assert_int_equal(ckpt_manifest_delete(store, &gone, NULL), SHL_ENOTFOUND);
    assert_int_equal(collect(store).swept_chunks, 90);
    assert_true(stats_of(store).bytes < before / 2);
    assert_true(is_readable(store, &kept, 0, 20));
    ckpt_store_close(store);

    store = open_store(dir);
    assert_int_equal(stats_of(store).chunks, 20);
    assert_int_equal(stats_of(store).manifests, 1);
    assert_true(is_readable(store, &kept, 0, 20));
    gone = add_checkpoint(store, 10, 100); /* and again */
    assert_true(is_readable(store, &gone, 10, 100));
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_keeps_what_a_reader_holds(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_id id = add_checkpoint(store, 0, 40);
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin;
    struct shl_buf buf;
    uint64_t i;

    (void)state;
    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    assert_int_equal(ckpt_manifest_read(store, &id, &buf, &pin, NULL), 0);
    assert_int_equal(ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), NULL), 0);
    assert_int_equal(ckpt_manifest_delete(store, &id, NULL), 0);
    assert_int_equal(collect(store).swept_chunks, 0);
    for (i = 0; i < manifest.disk.count; i++) {
        assert_int_equal(ckpt_chunk_read(store, &manifest.disk.entries[i].id, chunk,
                                         CKPT_CHUNK_BYTES, NULL),
                         CKPT_CHUNK_BYTES);
    }
    ckpt_pin_release(pin);
    assert_int_equal(collect(store).swept_chunks, 40);
    assert_int_equal(stats_of(store).bytes, 0);
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    free(chunk);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_rewrites_segments_that_got_empty(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id small[12], large[12];
    unsigned i;

    (void)state;
    for (i = 0; i < 12; i++) { /* a little of what stays in every segment */
        small[i] = add_checkpoint(store, 10000 + i * 3, 3);
        large[i] = add_checkpoint(store, i * 40, 40);
    }
    for (i = 0; i < 12; i++) {
        assert_int_equal(ckpt_manifest_delete(store, &large[i], NULL), 0);
    }
    assert_int_equal(collect(store).swept_chunks, 12 * 40);
    /* 36 chunks of which a third does not compress. */
    assert_true(stats_of(store).bytes < 2 * 36 * (uint64_t)CKPT_CHUNK_BYTES);
    for (i = 0; i < 12; i++) {
        assert_true(is_readable(store, &small[i], 10000 + i * 3, 3));
    }
    ckpt_store_close(store);
    store = open_store(dir);
    for (i = 0; i < 12; i++) {
        assert_true(is_readable(store, &small[i], 10000 + i * 3, 3));
    }
    assert_int_equal(count_manifests(store), 12);
    ckpt_store_close(store);
    leave_dir();
}

static void remove_index(const char *dir)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/index", dir);
    assert_int_equal(shl_remove_tree(path), 0);
}

static void test_store_rebuilds_a_lost_index(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 0, 30), b = add_checkpoint(store, 20, 50), c;

    (void)state;
    c = add_checkpoint(store, 500, 2);
    assert_int_equal(ckpt_manifest_delete(store, &b, NULL), 0);
    assert_int_equal(ckpt_manifest_delete(store, &c, NULL), 0);
    c = add_checkpoint(store, 500, 2); /* deleted and published again */
    ckpt_store_close(store);
    remove_index(dir);
    store = open_store(dir);
    assert_int_equal(count_manifests(store), 2);
    assert_true(is_readable(store, &a, 0, 30));
    assert_true(is_readable(store, &c, 500, 2));
    assert_int_equal(collect(store).live_chunks, 32);
    ckpt_store_close(store);
    leave_dir();
}

static void damage_file(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void test_store_rebuilds_a_damaged_index(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 0, 30);
    char path[256];

    (void)state;
    ckpt_store_close(store);
    snprintf(path, sizeof(path), "%s/index/CURRENT", dir);
    damage_file(path, 3);
    store = open_store(dir);
    assert_true(is_readable(store, &a, 0, 30));
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_finds_damage_and_heals_it(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 0, 6); /* chunk 0 does not compress */
    struct ckpt_scrub_stats scrub;
    char path[256];

    (void)state;
    assert_int_equal(ckpt_store_scrub(store, UINT64_MAX, &scrub, NULL), 0);
    assert_int_equal(scrub.chunks, 6);
    assert_int_equal(scrub.damaged, 0);
    last_segment(dir, path, sizeof(path));
    damage_file(path, 64 + 64 + 30000);
    assert_int_equal(ckpt_store_scrub(store, UINT64_MAX, &scrub, NULL), 0);
    assert_int_equal(scrub.damaged, 1);
    assert_int_equal(stats_of(store).damaged, 1);
    assert_false(is_readable(store, &a, 0, 6));
    ckpt_store_close(store);

    store = open_store(dir); /* it is remembered */
    assert_int_equal(stats_of(store).damaged, 1);
    (void)add_checkpoint(store, 0, 6);
    assert_true(is_readable(store, &a, 0, 6));
    assert_int_equal(stats_of(store).damaged, 0);
    assert_int_equal(ckpt_store_scrub(store, UINT64_MAX, &scrub, NULL), 0);
    assert_int_equal(scrub.damaged, 0);
    ckpt_store_close(store);

    remove_index(dir); /* of two records of one chunk the sound one counts */
    store = open_store(dir);
    assert_true(is_readable(store, &a, 0, 6));
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_survives_a_damaged_record_header(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 0, 1), b = add_checkpoint(store, 50, 3);
    char path[256];

    (void)state;
    ckpt_store_close(store);
    last_segment(dir, path, sizeof(path));
    damage_file(path, 64 + 20);
    store = open_store(dir);
    assert_true(is_readable(store, &a, 0, 1)); /* the index knows where it is */
    ckpt_store_close(store);
    remove_index(dir);
    store = open_store(dir); /* without it, what follows must still be found */
    assert_true(is_readable(store, &b, 50, 3));
    assert_false(is_readable(store, &a, 0, 1));
    (void)add_checkpoint(store, 0, 1);
    assert_true(is_readable(store, &a, 0, 1));
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_does_not_sweep_under_a_damaged_manifest(void **state)
{
    const char *dir = enter_dir();
    struct ckpt_store *store = open_store(dir);
    struct ckpt_id a = add_checkpoint(store, 1, 1), gone = add_checkpoint(store, 4, 1);
    struct ckpt_collect_stats stats;
    struct stat st;
    char path[256];

    (void)state;
    assert_int_equal(ckpt_manifest_delete(store, &gone, NULL), 0);
    last_segment(dir, path, sizeof(path));
    assert_int_equal(stat(path, &st), 0);
    /* Records: chunk 1, manifest a, chunk 4, manifest of gone. Chunks of this kind
     * compress to about 100 bytes, so manifest a begins within the first 512. */
    damage_file(path, 64 + 64 + 128 + 64 + 40);
    if (is_readable(store, &a, 1, 1)) {
        damage_file(path, 64 + 64 + 128 + 64 + 40);
        damage_file(path, 64 + 64 + 192 + 64 + 40);
    }
    assert_false(is_readable(store, &a, 1, 1));
    assert_int_equal(ckpt_store_collect(store, &stats, NULL), SHL_ECORRUPT);
    assert_int_equal(stats.swept_chunks, 0);
    (void)add_checkpoint(store, 1, 1); /* written again: healed */
    assert_true(is_readable(store, &a, 1, 1));
    assert_int_equal(collect(store).swept_chunks, 1);
    ckpt_store_close(store);
    leave_dir();
}

static void test_store_scrubs_in_parts(void **state)
{
    struct ckpt_store *store = open_store(enter_dir());
    struct ckpt_scrub_stats scrub;
    uint64_t chunks = 0;
    unsigned rounds;

    (void)state;
    (void)add_checkpoint(store, 0, 30);
    for (rounds = 0; chunks < 30; rounds++) {
        assert_int_equal(ckpt_store_scrub(store, CKPT_CHUNK_BYTES, &scrub, NULL), 0);
        assert_true(scrub.chunks > 0);
        chunks += scrub.chunks;
    }
    assert_int_equal(chunks, 30); /* every one once */
    assert_true(rounds > 3);
    ckpt_store_close(store);
    leave_dir();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_returns_what_was_put),
        cmocka_unit_test(test_store_keeps_equal_chunks_once),
        cmocka_unit_test(test_store_is_for_one_process),
        cmocka_unit_test(test_store_shows_nothing_of_an_aborted_session),
        cmocka_unit_test(test_store_refuses_a_manifest_without_its_chunks),
        cmocka_unit_test(test_store_collects_what_was_deleted),
        cmocka_unit_test(test_store_keeps_what_a_reader_holds),
        cmocka_unit_test(test_store_rewrites_segments_that_got_empty),
        cmocka_unit_test(test_store_rebuilds_a_lost_index),
        cmocka_unit_test(test_store_rebuilds_a_damaged_index),
        cmocka_unit_test(test_store_finds_damage_and_heals_it),
        cmocka_unit_test(test_store_survives_a_damaged_record_header),
        cmocka_unit_test(test_store_does_not_sweep_under_a_damaged_manifest),
        cmocka_unit_test(test_store_scrubs_in_parts),
    };

    return cmocka_run_group_tests_name("checkpoint/store", tests, NULL, NULL);
}
