/* node/store/raft_log: whatever sequence of requests was written, the same is read after a
 * reopen; what is damaged or newer is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <leveldb/c.h>

#include "base/io.h"
#include "node/store/raft_log.h"

#define MODEL_MAX 4096

struct fixture {
    char dir[64];
    struct node_raft_log *log;
    uint64_t random;
    uint64_t seq;
    /* What must be there. */
    uint64_t term;
    struct shl_node_id vote;
    struct sched_raft_snapshot_meta meta;
    uint8_t *snapshot;
    size_t snapshot_len;
    uint64_t first, last;          /* of the entries */
    uint64_t terms[MODEL_MAX + 1]; /* by index */
};

static uint64_t draw(struct fixture *fix, uint64_t below)
{
    fix->random = fix->random * 6364136223846793005ull + 1442695040888963407ull;
    return (fix->random >> 33) % below;
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)snprintf(fix->dir, sizeof(fix->dir), "%s", "/tmp/shoal-raft-log-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    assert_int_equal(node_raft_log_open(fix->dir, &fix->log, NULL), 0);
    fix->first = 1;
    fix->random = 7;
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    node_raft_log_close(fix->log);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    free(fix->snapshot);
    free(fix);
    return 0;
}

/* The data of an entry follow from index and term. */
static size_t data_of(uint64_t index, uint64_t term, uint8_t *dst)
{
    size_t len = (size_t)((index * 31 + term * 7) % 300);

    memset(dst, (int)(index + term), len);
    return len;
}

static void write_request(struct fixture *fix, struct sched_raft_persist *request)
{
    struct node_raft_batch *batch;

    request->seq = ++fix->seq;
    batch = node_raft_log_prepare(fix->log, request);
    assert_non_null(batch);
    assert_int_equal(node_raft_log_write(fix->log, batch, NULL), 0);
}

static void append(struct fixture *fix, uint64_t truncate_from, uint32_t count)
{
    struct sched_raft_persist request = {.has_hard_state = true, .term = ++fix->term};
    struct sched_raft_entry entries[8];
    uint8_t bytes[8][300];
    uint32_t i;

    assert_true(count <= SHL_ARRAY_SIZE(entries));
    if (truncate_from > 0) {
        request.truncate_from = truncate_from;
        fix->last = truncate_from - 1;
    }
    for (i = 0; i < count; i++) {
        uint64_t index = ++fix->last;

        assert_true(index <= MODEL_MAX);
        fix->terms[index] = fix->term;
        entries[i] = (struct sched_raft_entry){
            .index = index,
            .term = fix->term,
            .type = SCHED_RAFT_COMMAND,
            .data = shl_bytes_of(bytes[i], data_of(index, fix->term, bytes[i]))};
    }
    fix->vote.bytes[3] = (uint8_t)fix->term;
    request.vote = fix->vote;
    request.entries = entries;
    request.entry_count = count;
    write_request(fix, &request);
}

static void take_snapshot(struct fixture *fix, uint64_t index, bool is_install, size_t len)
{
    struct sched_raft_persist request = {.snapshot = is_install ? SCHED_RAFT_SNAPSHOT_INSTALL
                                                                : SCHED_RAFT_SNAPSHOT_SAVE};

    free(fix->snapshot);
    fix->snapshot = malloc(len);
    fix->snapshot_len = len;
    memset(fix->snapshot, (int)index, len);
    fix->meta.index = index;
    fix->meta.term = fix->term;
    fix->meta.membership_index = index / 2;
    fix->meta.membership.count = 1;
    fix->meta.membership.members[0] =
        (struct sched_raft_member){.id = {{1, 2, (uint8_t)(index | 1)}},
                                   .standing = SCHED_RAFT_VOTER};
    request.meta = &fix->meta;
    request.snapshot_data = shl_bytes_of(fix->snapshot, len);
    if (is_install) {
        fix->first = index + 1;
        fix->last = index;
    } else {
        request.log_first = index > 3 ? index - 3 : 1;
        if (request.log_first > fix->first) {
            fix->first = request.log_first;
        }
    }
    write_request(fix, &request);
}

static void check(struct fixture *fix)
{
    struct node_raft_stored stored;
    uint8_t bytes[300];
    uint64_t i;

    node_raft_log_close(fix->log);
    fix->log = NULL;
    assert_int_equal(node_raft_log_open(fix->dir, &fix->log, NULL), 0);
    assert_int_equal(node_raft_log_load(fix->log, &stored, NULL), fix->seq > 0 ? 1 : 0);
    assert_int_equal(stored.term, fix->term);
    assert_true(shl_node_id_equal(&stored.vote, &fix->vote));
    assert_int_equal(stored.snapshot.index, fix->meta.index);
    assert_int_equal(shl_buf_len(&stored.snapshot_data), fix->snapshot_len);
    if (fix->snapshot_len > 0) {
        assert_memory_equal(shl_buf_data(&stored.snapshot_data), fix->snapshot, fix->snapshot_len);
        assert_int_equal(stored.snapshot.membership.count, 1);
        assert_int_equal(stored.snapshot.membership_index, fix->meta.membership_index);
    }
    assert_int_equal(stored.entry_count, fix->last + 1 - fix->first);
    for (i = 0; i < stored.entry_count; i++) {
        const struct sched_raft_entry *entry = &stored.entries[i];

        assert_int_equal(entry->index, fix->first + i);
        assert_int_equal(entry->term, fix->terms[entry->index]);
        assert_int_equal(entry->type, SCHED_RAFT_COMMAND);
        assert_int_equal(entry->data.len, data_of(entry->index, entry->term, bytes));
        if (entry->data.len > 0) {
            assert_memory_equal(entry->data.base, bytes, entry->data.len);
        }
    }
    node_raft_stored_release(&stored);
}

static void test_raft_log_empty_is_empty(void **state)
{
    check(*state);
}

static void test_raft_log_random_requests_survive(void **state)
{
    struct fixture *fix = *state;
    int step;

    check(fix);
    for (step = 0; step < 300; step++) {
        uint64_t what = draw(fix, 10);

        if (what < 6 || fix->last < 4) {
            append(fix, 0, (uint32_t)draw(fix, 9));
        } else if (what < 8 && fix->last > fix->first) {
            append(fix, fix->first + draw(fix, fix->last - fix->first + 1), 3);
        } else if (what == 8 && fix->last > fix->meta.index) {
            take_snapshot(fix, fix->meta.index + 1 + draw(fix, fix->last - fix->meta.index), false,
                          1 + (size_t)draw(fix, 5000));
        } else if (what == 9 && step % 7 == 0) {
            take_snapshot(fix, fix->last + draw(fix, 5), true, 1 + (size_t)draw(fix, 5000));
        }
        if (step % 10 == 0) {
            check(fix);
        }
    }
    check(fix);
}

/* A snapshot of several pieces, then a smaller one: no piece of the old one stays. */
static void test_raft_log_snapshot_in_pieces(void **state)
{
    struct fixture *fix = *state;

    check(fix);
    append(fix, 0, 8);
    take_snapshot(fix, 5, false, 3 * 1024 * 1024 + 17);
    check(fix);
    take_snapshot(fix, 6, false, 100);
    check(fix);
    take_snapshot(fix, 9, true, 1024 * 1024);
    check(fix);
}

/* ---- damage ---------------------------------------------------------------------- */

static void edit(struct fixture *fix,
                 const char *key,
                 size_t key_len,
                 const char *value,
                 size_t len)
{
    leveldb_writeoptions_t *write = leveldb_writeoptions_create();
    leveldb_options_t *options = leveldb_options_create();
    char *message = NULL;
    leveldb_t *db;

    node_raft_log_close(fix->log);
    fix->log = NULL;
    db = leveldb_open(options, fix->dir, &message);
    assert_non_null(db);
    if (value) {
        leveldb_put(db, write, key, key_len, value, len, &message);
    } else {
        leveldb_delete(db, write, key, key_len, &message);
    }
    assert_null(message);
    leveldb_close(db);
    leveldb_options_destroy(options);
    leveldb_writeoptions_destroy(write);
    assert_int_equal(node_raft_log_open(fix->dir, &fix->log, NULL), 0);
}

static void refuse(struct fixture *fix, int code, const char *word)
{
    struct node_raft_stored stored;
    struct shl_err err = {0};

    assert_int_equal(node_raft_log_load(fix->log, &stored, &err), code);
    assert_non_null(strstr(err.msg, word));
}

static void test_raft_log_missing_entry_is_damage(void **state)
{
    static const char key[9] = {'e', 0, 0, 0, 0, 0, 0, 0, 3};
    struct fixture *fix = *state;

    append(fix, 0, 6);
    edit(fix, key, sizeof(key), NULL, 0);
    refuse(fix, SHL_ECORRUPT, "entry is missing");
}

static void test_raft_log_missing_vote_is_damage(void **state)
{
    struct fixture *fix = *state;

    append(fix, 0, 6);
    edit(fix, "h", 1, NULL, 0);
    refuse(fix, SHL_ECORRUPT, "term and vote");
}

static void test_raft_log_missing_piece_is_damage(void **state)
{
    static const char key[5] = {'s', 0, 0, 0, 0};
    struct fixture *fix = *state;

    append(fix, 0, 6);
    take_snapshot(fix, 4, false, 1000);
    edit(fix, key, sizeof(key), NULL, 0);
    refuse(fix, SHL_ECORRUPT, "piece of the snapshot");
}

static void test_raft_log_newer_format_is_named(void **state)
{
    static const char newer[] = "\x83\xa1v\x02\xa4term\x01\xa4vote\xc4\x00";
    struct fixture *fix = *state;

    append(fix, 0, 2);
    edit(fix, "h", 1, newer, sizeof(newer) - 1);
    refuse(fix, SHL_EVERSION, "newer");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_raft_log_empty_is_empty),         TEST(test_raft_log_random_requests_survive),
        TEST(test_raft_log_snapshot_in_pieces),     TEST(test_raft_log_missing_entry_is_damage),
        TEST(test_raft_log_missing_vote_is_damage), TEST(test_raft_log_missing_piece_is_damage),
        TEST(test_raft_log_newer_format_is_named),
    };

    return cmocka_run_group_tests_name("node/raft_log", tests, NULL, NULL);
}
