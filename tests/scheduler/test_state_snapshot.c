/* Snapshots: complete or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "scheduler/fields.h"
#include "scheduler/mutate.h"
#include "scheduler/table.h"
#include "tests/scheduler/kit.h"

static const struct sched_state_config plain;

static void fill(struct kit *kit, const struct sched_state_config *config, int commands)
{
    struct kit_stream stream = {.random = 5, .now_ms = KIT_START_MS};
    int i;

    kit_open_cluster(kit, config);
    for (i = 0; i < commands; i++) {
        struct sched_command c;

        kit_stream_next(&stream, &c);
        (void)kit_apply(kit, &c);
    }
}

static struct shl_buf save(const struct sched_state *state)
{
    struct sched_save saver;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, SCHED_SNAPSHOT_BYTES_MAX);
    sched_save_begin(&saver, state);
    while ((rc = sched_save_next(&saver, &buf)) > 0) {
    }
    assert_int_equal(rc, 0);
    return buf;
}

static int load(struct shl_bytes bytes, struct sched_state **ret, struct shl_err *err)
{
    struct sched_load *loader = sched_load_new(&plain);
    int rc;

    assert_non_null(loader);
    rc = sched_load_feed(loader, bytes, err);
    if (rc == 0) {
        rc = sched_load_end(loader, UINT64_MAX, UINT64_MAX, ret, err);
    }
    sched_load_free(loader);
    return rc;
}

/* However the stream is cut on its way. */
static void test_snapshot_any_cut_gives_the_same(void **state)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 64, 1000, 70000, 1u << 30};
    struct kit kit;
    size_t i;

    (void)state;
    fill(&kit, &plain, 1500);
    for (i = 0; i < SHL_ARRAY_SIZE(steps); i++) {
        struct sched_state *copy = kit_copy(kit.state, NULL, steps[i]);

        assert_non_null(copy);
        assert_int_equal(sched_state_digest(copy), sched_state_digest(kit.state));
        assert_int_equal(sched_state_digest_slow(copy), sched_state_digest(kit.state));
        sched_state_free(copy);
    }
    kit_close(&kit);
}

static void test_snapshot_pieces_are_bounded(void **state)
{
    static char value[SCHED_KV_VALUE_MAX + 1];
    struct sched_save saver;
    struct sched_state *copy;
    struct shl_buf buf;
    char key[16];
    unsigned i, pieces = 0;
    struct kit kit;

    (void)state;
    memset(value, 'v', SCHED_KV_VALUE_MAX);
    kit_open_cluster(&kit, NULL);
    for (i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(kit_kv(&kit, key, value), 0);
    }
    shl_buf_init(&buf, SCHED_PIECE_MAX);
    sched_save_begin(&saver, kit.state);
    while (sched_save_next(&saver, &buf) > 0) {
        assert_true(shl_buf_len(&buf) <= SCHED_PIECE_MAX);
        shl_buf_clear(&buf);
        pieces++;
    }
    assert_true(pieces > 100 * SCHED_KV_VALUE_MAX / SCHED_PIECE_MAX);
    assert_int_equal(sched_save_next(&saver, &buf), 0); /* the end stays the end */
    shl_buf_release(&buf);
    copy = kit_copy(kit.state, NULL, 4096);
    assert_non_null(copy);
    assert_int_equal(sched_state_digest(copy), sched_state_digest(kit.state));
    sched_state_free(copy);
    kit_close(&kit);
}

static void test_snapshot_of_nothing(void **state)
{
    struct sched_state *copy;
    struct kit kit;

    (void)state;
    kit_open(&kit, NULL);
    copy = kit_copy(kit.state, NULL, 10);
    assert_non_null(copy);
    assert_int_equal(sched_state_digest(copy), sched_state_digest(kit.state));
    sched_state_free(copy);
    kit_close(&kit);
}

static void test_snapshot_of_a_moving_state_is_refused(void **state)
{
    struct sched_save saver;
    struct shl_buf buf;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    shl_buf_init(&buf, SCHED_PIECE_MAX);
    sched_save_begin(&saver, kit.state);
    assert_int_equal(sched_save_next(&saver, &buf), 1);
    assert_int_equal(kit_kv(&kit, "a", "b"), 0);
    assert_int_equal(sched_save_next(&saver, &buf), SHL_EBADSTATE);
    shl_buf_release(&buf);
    kit_close(&kit);
}

static void test_snapshot_full_buffer_can_go_on(void **state)
{
    struct sched_save saver;
    struct shl_buf small_buf, buf, all;
    struct kit kit;

    (void)state;
    fill(&kit, &plain, 500);
    all = save(kit.state);
    shl_buf_init(&small_buf, 8);
    shl_buf_init(&buf, SCHED_SNAPSHOT_BYTES_MAX);
    sched_save_begin(&saver, kit.state);
    assert_int_equal(sched_save_next(&saver, &small_buf), SHL_ELIMIT);
    assert_int_equal(shl_buf_len(&small_buf), 0);
    while (sched_save_next(&saver, &buf) > 0) {
    }
    assert_int_equal(shl_buf_len(&buf), shl_buf_len(&all));
    assert_memory_equal(shl_buf_data(&buf), shl_buf_data(&all), shl_buf_len(&all));
    shl_buf_release(&small_buf);
    shl_buf_release(&buf);
    shl_buf_release(&all);
    kit_close(&kit);
}

/* Every prefix is incomplete, every flipped bit is noticed. */
static void test_snapshot_damage_is_noticed(void **state)
{
    struct sched_state *copy = NULL;
    struct shl_err err = {0};
    struct shl_buf buf;
    struct kit kit;
    size_t i;

    (void)state;
    fill(&kit, &plain, 25);
    buf = save(kit.state);
    for (i = 0; i < shl_buf_len(&buf); i += 3) {
        assert_int_equal(load(shl_bytes_of(shl_buf_data(&buf), i), &copy, &err), SHL_ECORRUPT);
    }
    for (i = 0; i < shl_buf_len(&buf); i++) {
        int rc;

        shl_buf_data(&buf)[i] ^= (uint8_t)(1u << i % 8);
        rc = load(shl_buf_bytes(&buf), &copy, &err);
        /* A byte of a field's name may hit an optional one or a length; never success with
         * other contents. */
        assert_true(rc < 0);
        shl_buf_data(&buf)[i] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(load(shl_buf_bytes(&buf), &copy, &err), 0);
    assert_int_equal(sched_state_digest(copy), sched_state_digest(kit.state));
    sched_state_free(copy);
    shl_buf_release(&buf);
    kit_close(&kit);
}

static void put_piece(struct shl_buf *buf,
                      void (*fill_piece)(struct shl_mp_writer *w, uint64_t n),
                      uint64_t n,
                      uint64_t version)
{
    struct shl_mp_writer w;
    struct shl_buf piece;
    uint8_t head[4];

    shl_buf_init(&piece, SCHED_PIECE_MAX);
    shl_mp_writer_init(&w, &piece);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", version);
    shl_mp_kv_uint(&w, "n", n);
    fill_piece(&w, n);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    shl_put_le32(head, (uint32_t)shl_buf_len(&piece));
    assert_int_equal(shl_buf_append(buf, head, 4), 0);
    assert_int_equal(shl_buf_append(buf, shl_buf_data(&piece), shl_buf_len(&piece)), 0);
    shl_buf_release(&piece);
}

static void piece_head(struct shl_mp_writer *w, uint64_t n)
{
    uint8_t cluster[SCHED_CLUSTER_ID_BYTES] = {1};

    (void)n;
    shl_mp_kv_uint(w, "index", 5);
    shl_mp_kv_uint(w, "term", 1);
    shl_mp_kv_uint(w, "time", 9);
    shl_mp_kv_bin(w, "cluster", cluster, sizeof(cluster));
    shl_mp_kv_uint(w, "feat", 0);
    shl_mp_kv_uint(w, "lease", 1000);
}

static void put_kv(struct shl_mp_writer *w, const char *key)
{
    shl_mp_map(w);
    shl_mp_kv_str(w, "key", key);
    shl_mp_kv_bin(w, "value", "v", 1);
    shl_mp_kv_uint(w, "revision", 1);
    shl_mp_end(w);
}

static void piece_disorder(struct shl_mp_writer *w, uint64_t n)
{
    (void)n;
    shl_mp_kv_uint(w, "table", SCHED_TABLE_KV);
    shl_mp_kv_array(w, "rows");
    put_kv(w, "b");
    put_kv(w, "a");
    shl_mp_end(w);
}

static void piece_twins(struct shl_mp_writer *w, uint64_t n)
{
    (void)n;
    shl_mp_kv_uint(w, "table", SCHED_TABLE_KV);
    shl_mp_kv_array(w, "rows");
    put_kv(w, "a");
    put_kv(w, "a");
    shl_mp_end(w);
}

static void piece_no_table(struct shl_mp_writer *w, uint64_t n)
{
    (void)n;
    shl_mp_kv_uint(w, "table", SCHED_TABLE_COUNT);
    shl_mp_kv_array(w, "rows");
    shl_mp_end(w);
}

static void piece_backwards(struct shl_mp_writer *w, uint64_t n)
{
    shl_mp_kv_uint(w, "table", n == 1 ? SCHED_TABLE_KV : SCHED_TABLE_NODES);
    shl_mp_kv_array(w, "rows");
    shl_mp_end(w);
}

static void piece_many_nodes(struct shl_mp_writer *w, uint64_t n)
{
    char key[16];
    unsigned i;

    shl_mp_kv_uint(w, "table", SCHED_TABLE_KV);
    shl_mp_kv_array(w, "rows");
    for (i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "%08u", (unsigned)n * 1000 + i);
        put_kv(w, key);
    }
    shl_mp_end(w);
}

static void piece_empty(struct shl_mp_writer *w, uint64_t n)
{
    (void)w;
    (void)n;
}

static void test_snapshot_hostile_pieces_are_refused(void **state)
{
    static const struct {
        void (*piece)(struct shl_mp_writer *w, uint64_t n);
        unsigned count;
        const char *text;
    } rows[] = {
        {piece_disorder, 1, "out of order"}, {piece_twins, 1, "out of order"},
        {piece_no_table, 1, "neither rows"}, {piece_backwards, 2, "neither rows"},
        {piece_empty, 1, "neither rows"},    {piece_many_nodes, 11, "more rows than are allowed"},
    };
    struct sched_state *copy;
    struct shl_err err = {0};
    struct shl_buf buf;
    size_t i;
    unsigned n;

    (void)state;
    shl_buf_init(&buf, SCHED_SNAPSHOT_BYTES_MAX);
    for (i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        shl_buf_clear(&buf);
        put_piece(&buf, piece_head, 0, SCHED_STATE_VERSION);
        for (n = 1; n <= rows[i].count; n++) {
            put_piece(&buf, rows[i].piece, n, SCHED_STATE_VERSION);
        }
        assert_int_equal(load(shl_buf_bytes(&buf), &copy, &err), SHL_ECORRUPT);
        if (!strstr(err.msg, rows[i].text)) {
            print_error("row %zu said: %s\n", i, err.msg);
        }
        assert_non_null(strstr(err.msg, rows[i].text));
    }
    shl_buf_clear(&buf);
    put_piece(&buf, piece_head, 0, SCHED_STATE_VERSION + 1);
    assert_int_equal(load(shl_buf_bytes(&buf), &copy, &err), SHL_EVERSION);
    assert_non_null(strstr(err.msg, "has format 2"));
    shl_buf_clear(&buf);
    put_piece(&buf, piece_head, 1, SCHED_STATE_VERSION);
    assert_int_equal(load(shl_buf_bytes(&buf), &copy, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "missing or there twice"));
    assert_int_equal(load(shl_bytes_of("\xff\xff\xff\xff", 4), &copy, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "impossible length"));
    shl_buf_release(&buf);
}

/* All tables at their limits stay below what the log can carry as a snapshot. */
static void test_snapshot_worst_case_fits(void **state)
{
    uint64_t total = 0;
    int t;

    (void)state;
    for (t = 0; t < SCHED_TABLE_COUNT; t++) {
        const struct sched_table_type *type = &sched_table_types[t];
        uint64_t row = 5; /* map header */
        size_t i;

        for (i = 0; i < type->fields.count; i++) {
            const struct sched_field *f = &type->fields.items[i];

            row += 1 + strlen(f->key);
            switch (f->type) {
            case SCHED_FIELD_BOOL:
                row += 1;
                break;
            case SCHED_FIELD_U32:
            case SCHED_FIELD_U64:
                row += 9;
                break;
            case SCHED_FIELD_TEXT:
            case SCHED_FIELD_FIXED:
                row += 3 + f->size;
                break;
            case SCHED_FIELD_BLOB:
                row += 5 + (t == SCHED_TABLE_KV ? 0 : f->max);
                break;
            case SCHED_FIELD_NODES:
                row += 5 + f->size * (2 + SHL_NODE_ID_BYTES);
                break;
            }
        }
        total += row * type->rows_max;
    }
    total += SCHED_KV_BYTES_MAX;
    total += total / 1000; /* heads of pieces */
    print_message("all tables full: %llu MiB\n", (unsigned long long)(total >> 20));
    assert_true(total < SCHED_SNAPSHOT_BYTES_MAX);
}

/* A peer cannot put a state behind the log it belongs to. */
static void test_snapshot_ahead_of_its_place_is_refused(void **state)
{
    struct sched_state *copy = NULL;
    struct shl_err err = {0};
    struct shl_buf buf;
    struct kit kit;
    unsigned late;

    (void)state;
    kit_open_cluster(&kit, NULL);
    sched_state_skip(kit.state, 7, 3);
    assert_int_equal(sched_state_index(kit.state), 7);
    buf = save(kit.state);
    for (late = 0; late < 3; late++) {
        struct sched_load *loader = sched_load_new(&plain);
        int rc;

        assert_non_null(loader);
        assert_int_equal(sched_load_feed(loader, shl_buf_bytes(&buf), &err), 0);
        rc = sched_load_end(loader, late == 1 ? 6 : 7, late == 2 ? 2 : 3, &copy, &err);
        assert_int_equal(rc, late ? SHL_ECORRUPT : 0);
        sched_load_free(loader);
    }
    assert_non_null(strstr(err.msg, "later place in the log"));
    assert_int_equal(sched_state_digest(copy), sched_state_digest(kit.state));
    sched_state_free(copy);
    shl_buf_release(&buf);
    kit_close(&kit);
}

/* A node of an earlier version has no "had_copies": what it has stored is read, and adds up. */
static void test_snapshot_of_before_had_copies(void **state)
{
    const struct sched_fields *now = &sched_table_types[SCHED_TABLE_CHECKPOINTS].fields;
    struct sched_field items[32];
    struct sched_fields before = {items, 0};
    struct sched_checkpoint row = {
        .id = "c1", .org = "org", .kind = SCHED_CHECKPOINT_FULL, .manifest = {1}, .wanted = 2};
    struct sched_checkpoint copy = {0};
    struct shl_mp_writer w;
    struct shl_mp_doc doc;
    struct shl_err err = {0};
    struct shl_buf buf;
    size_t i;

    (void)state;
    for (i = 0; i < now->count; i++) {
        if (strcmp(now->items[i].key, "had_copies") != 0) {
            items[before.count++] = now->items[i];
        }
    }
    assert_int_equal(before.count + 1, now->count);
    assert_true(sched_fields_hash(1, &before, &row) == sched_fields_hash(1, now, &row));
    shl_buf_init(&buf, 4096);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    sched_fields_write(&w, &before, &row);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    assert_int_equal(sched_fields_read(doc.root, now, &copy, &err), 0);
    assert_int_equal(copy.had_copies, 0);
    row.had_copies = 2;
    assert_true(sched_fields_hash(1, &before, &row) != sched_fields_hash(1, now, &row));
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

static void test_snapshot_lost_tombstone_mutation_shows(void **state)
{
    struct sched_state_config config = {.mutations = SCHED_MUT_TOMBSTONE_LOST};
    struct sched_state *copy;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_DELETE, "sb-1", 1, 1, 0, false), 0);
    copy = kit_copy(kit.state, &config, 100);
    assert_non_null(copy);
    assert_null(sched_state_tombstone(copy, SCHED_TOMBSTONE_SANDBOX, "sb-1"));
    assert_true(sched_state_digest(copy) != sched_state_digest(kit.state));
    sched_state_free(copy);
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_any_cut_gives_the_same),
        cmocka_unit_test(test_snapshot_pieces_are_bounded),
        cmocka_unit_test(test_snapshot_of_nothing),
        cmocka_unit_test(test_snapshot_of_before_had_copies),
        cmocka_unit_test(test_snapshot_of_a_moving_state_is_refused),
        cmocka_unit_test(test_snapshot_full_buffer_can_go_on),
        cmocka_unit_test(test_snapshot_damage_is_noticed),
        cmocka_unit_test(test_snapshot_hostile_pieces_are_refused),
        cmocka_unit_test(test_snapshot_worst_case_fits),
        cmocka_unit_test(test_snapshot_ahead_of_its_place_is_refused),
        cmocka_unit_test(test_snapshot_lost_tombstone_mutation_shows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
