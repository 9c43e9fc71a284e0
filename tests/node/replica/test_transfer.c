/* node/replica: checkpoints go from node to node, over real meshes and stores. */
#include "tests/node/replica/kit.h"

#define CHUNKS 64u

static const int from_1[] = {1, 0}, from_2_1[] = {2, 1, 0}, from_both[] = {1, 2, 0};

static int setup(void **state)
{
    struct kit *kit = malloc(sizeof(*kit));

    kit_setup(kit);
    *state = kit;
    return 0;
}

static int teardown(void **state)
{
    kit_teardown(*state);
    free(*state);
    return 0;
}

static void test_transfer_brings_a_whole_checkpoint(void **state)
{
    struct kit *kit = *state;
    struct ckpt_store *store;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit_open(kit, LIE_NONE, LIE_NONE);
    store = kit->nodes[0].store;
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_false(f->result.was_here);
    assert_int_equal(f->result.chunks, CHUNKS);
    assert_int_equal(f->result.raw_bytes, CHUNKS * CKPT_CHUNK_BYTES);
    /* A third of the chunks does not compress. */
    assert_in_range(f->result.bytes, CHUNKS / 3 * CKPT_CHUNK_BYTES, CHUNKS / 2 * CKPT_CHUNK_BYTES);
    assert_true(f->result.manifest_bytes > CHUNKS * CKPT_ID_BYTES);
    assert_true(is_readable(store, &id, 0, CHUNKS));
    /* It is published: a collection keeps it. */
    (void)collect(store);
    assert_true(is_readable(store, &id, 0, CHUNKS));
    assert_int_equal(kit_served(&kit->nodes[1]).chunks, CHUNKS);
    assert_int_equal(kit_stats(kit).held_bytes, 0);

    /* Again: nothing is asked for. */
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_true(f->result.was_here);
    assert_int_equal(f->result.manifest_bytes, 0);
    assert_int_equal(kit_served(&kit->nodes[1]).chunks, CHUNKS);
    assert_int_equal(kit_stats(kit).done, 2);
}

static void test_transfer_moves_only_what_is_missing(void **state)
{
    struct kit *kit = *state;
    struct node_replica_stats stats;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;
    uint64_t missing = 44ull * CKPT_CHUNK_BYTES;

    kit_open(kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(kit->nodes[0].store, 0, 40);
    id = add_checkpoint(kit->nodes[1].store, 20, CHUNKS); /* 20 of them are there */
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_int_equal(f->result.chunks, 44);
    assert_true(is_readable(kit->nodes[0].store, &id, 20, CHUNKS));
    stats = kit_stats(kit);
    print_message("missing %llu, moved %llu bytes\n", (unsigned long long)missing,
                  (unsigned long long)stats.wire_bytes);
    assert_int_equal(f->result.raw_bytes, missing);
    assert_true(stats.wire_bytes < missing / 2); /* two thirds of it were sent packed */
}

static void test_transfer_shares_the_work_among_holders(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;
    uint64_t one, two;

    kit->fetch.request_chunks = 8;
    kit_open(kit, LIE_NONE, LIE_NONE);
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    (void)add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_both), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    one = kit_served(&kit->nodes[1]).chunks;
    two = kit_served(&kit->nodes[2]).chunks;
    print_message("%llu and %llu chunks\n", (unsigned long long)one, (unsigned long long)two);
    assert_true(one > 0 && two > 0 && one + two >= CHUNKS);
}

static void test_transfer_fetches_several_at_once(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id ids[KIT_FETCHES];
    uint32_t i;

    kit->serve.manifests_max = 2; /* so that the others have to ask again */
    kit_open(kit, LIE_NONE, LIE_NONE);
    for (i = 0; i < KIT_FETCHES; i++) {
        ids[i] = add_checkpoint(kit->nodes[1].store, i * 4, 12); /* each shares 8 with the next */
    }
    for (i = 0; i < KIT_FETCHES; i++) {
        kit_begin(kit, &f[i], &ids[i], from_1);
    }
    assert_int_equal(node_replica_fetch(kit->nodes[0].replica, &ids[0], CKPT_FETCH_RESUME, NULL, 0,
                                        NULL, NULL, NULL, NULL),
                     SHL_ECONFLICT);
    for (i = 0; i < KIT_FETCHES; i++) {
        RUN_UNTIL(&kit->loop, f[i].done);
        assert_int_equal(f[i].result.code, 0);
        assert_true(is_readable(kit->nodes[0].store, &ids[i], i * 4, 12));
    }
    assert_true(kit_served(&kit->nodes[1]).refused > 0);
    assert_true(kit_stats(kit).fetch.arrived >= (KIT_FETCHES - 1) * 4 + 12);
}

static void test_transfer_goes_on_when_a_holder_dies(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit_open(kit, LIE_HALF, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    kit_begin(kit, f, &id, from_2_1);
    RUN_UNTIL(&kit->loop, kit->nodes[1].lies > 0); /* it was asked, and answers half */
    kit_close_node(&kit->nodes[1]);
    RUN_UNTIL(&kit->loop, f->done);
    assert_int_equal(f->result.code, 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    assert_true(kit_stats(kit).fetch.failures + kit_stats(kit).fetch.timeouts > 0);
}

static void test_transfer_gives_up_when_all_holders_die(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->fetch.retry_ms = 10;
    kit->fetch.demote_ms = 20;
    kit->fetch.strikes_max = 2;
    kit->fetch.deadline_first_ms = 300;
    kit->fetch.request_chunks = 4;
    kit->fetch.total_requests = 1;
    kit_open(kit, LIE_NONE, LIE_NONE);
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    kit_begin(kit, f, &id, from_1);
    RUN_UNTIL(&kit->loop, kit_served(&kit->nodes[1]).chunks > 8);
    kit_close_node(&kit->nodes[1]);
    RUN_UNTIL(&kit->loop, f->done);
    print_message("%s: %s\n", shl_err_name(f->result.code), f->msg);
    assert_true(f->result.code == SHL_EUNAVAILABLE || f->result.code == SHL_ENOTFOUND);
    assert_int_equal(count_manifests(kit->nodes[0].store), 0);
}

/* Flip bytes all over the first @count segments of @dir. */
static void damage(const char *dir, unsigned count)
{
    unsigned number;

    for (number = 1; number <= count; number++) {
        char path[256];
        FILE *file;
        long at;

        snprintf(path, sizeof(path), "%s/segments/%08x", dir, number);
        file = fopen(path, "r+b");
        for (at = 20000; file; at += 20000) {
            int byte;

            if (fseek(file, at, SEEK_SET) != 0 || (byte = fgetc(file)) == EOF) {
                break;
            }
            assert_int_equal(fseek(file, at, SEEK_SET), 0);
            assert_int_equal(fputc(byte ^ 0x10, file), byte ^ 0x10);
        }
        if (file) {
            assert_int_equal(fclose(file), 0);
        }
    }
}

static void test_transfer_takes_damaged_chunks_from_another_holder(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->fetch.request_chunks = 8;
    kit_open(kit, LIE_NONE, LIE_NONE);
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    (void)add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    damage(kit->nodes[1].dir, 64);
    assert_int_equal(kit_fetch(kit, f, &id, from_2_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    /* Its owner noticed, and said that it has them not. */
    assert_true(kit_served(&kit->nodes[1]).damaged > 0);
    assert_true(kit_stats(kit).fetch.lacks > 0);
    assert_int_equal(kit_stats(kit).quarantined, 0);
}

/* Chunks that were here when the fetch began turn out damaged before it ends. */
static void test_transfer_fetches_again_what_was_damaged_meanwhile(void **state)
{
    uint64_t slow[CKPT_FETCH_CLASS_COUNT] = {1, 1, 1, 1, 1};
    const uint64_t fast[CKPT_FETCH_CLASS_COUNT] = {0};
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_scrub_stats scrubbed;
    struct ckpt_id id;

    kit->fetch.request_chunks = 4;
    kit_open(kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(kit->nodes[0].store, 40, 80); /* more than one segment */
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    /* One request, and then none for a long time. */
    assert_int_equal(node_replica_set_rates(kit->nodes[0].replica, slow), 0);
    kit_begin(kit, f, &id, from_1);
    RUN_UNTIL(&kit->loop, kit_stats(kit).fetch.arrived == 4);
    damage(kit->nodes[0].dir, 1); /* what arrives is in a later one, and not scrubbed yet */
    assert_int_equal(ckpt_store_scrub(kit->nodes[0].store, UINT64_MAX, &scrubbed, NULL), 0);
    assert_true(scrubbed.damaged > 0);
    assert_int_equal(f->done, 0);
    assert_int_equal(node_replica_set_rates(kit->nodes[0].replica, fast), 0);
    RUN_UNTIL(&kit->loop, f->done);
    assert_int_equal(f->result.code, 0);
    assert_true(f->result.raw_bytes > 40 * CKPT_CHUNK_BYTES);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
}

static void test_transfer_heals_a_checkpoint_that_is_here(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_scrub_stats scrubbed;
    struct ckpt_id id;

    kit_open(kit, LIE_NONE, LIE_NONE);
    id = add_checkpoint(kit->nodes[0].store, 0, CHUNKS);
    (void)add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    damage(kit->nodes[0].dir, 1);
    assert_int_equal(ckpt_store_scrub(kit->nodes[0].store, UINT64_MAX, &scrubbed, NULL), 0);
    assert_true(scrubbed.damaged > 0 && scrubbed.damaged < CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_false(f->result.was_here);
    assert_int_equal(f->result.manifest_bytes, 0);
    assert_int_equal(f->result.chunks, scrubbed.damaged);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    assert_int_equal(count_manifests(kit->nodes[0].store), 1);
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_true(f->result.was_here);
}

static void test_transfer_quarantines_wrong_bytes(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->fetch.request_chunks = 8;
    kit_open(kit, LIE_WRONG_BYTES, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_2_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    assert_true(kit_stats(kit).quarantined > 0);
    assert_true(kit_stats(kit).fetch.bad > 0);
    /* None of it came into the store. */
    assert_int_equal(stats_of(kit->nodes[0].store).chunks, CHUNKS);
}

static void quarantine_packed(struct kit *kit, enum lie lie)
{
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->fetch.request_chunks = 8;
    kit_open(kit, lie, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_2_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    assert_true(kit->nodes[1].lies > 0);
    assert_true(kit_stats(kit).quarantined > 0);
    assert_int_equal(kit_stats(kit).bad_answers, 0);
    assert_int_equal(stats_of(kit->nodes[0].store).chunks, CHUNKS);
}

static void test_transfer_quarantines_packed_chunks_that_are_others(void **state)
{
    quarantine_packed(*state, LIE_PACKED);
}

static void test_transfer_quarantines_packed_chunks_that_would_not_fit(void **state)
{
    quarantine_packed(*state, LIE_BOMB);
}

/* Upgrading one node after the other: the older one does not know of packed chunks. */
static void test_transfer_works_with_the_version_before(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->is_old = true;
    kit_open(kit, LIE_NONE, LIE_NONE);
    id = add_checkpoint(kit->nodes[1].store, 0, CHUNKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
    assert_int_equal(f->result.bytes, CHUNKS * CKPT_CHUNK_BYTES);
    assert_int_equal(f->result.raw_bytes, f->result.bytes);
}

static void test_transfer_refuses_a_wrong_manifest(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit_open(kit, LIE_WRONG_BYTES, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, 8);
    assert_int_equal(kit_fetch(kit, f, &id, from_1), SHL_EUNAVAILABLE);
    assert_int_equal(kit_stats(kit).bad_manifests, 1);
    assert_int_equal(kit_fetch(kit, f, &id, from_both), 0);
    assert_int_equal(kit_stats(kit).bad_manifests, 2);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, 8));
}

static void test_transfer_says_that_nobody_has_it(void **state)
{
    static const int from_none[] = {0};
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id = id_of_checkpoint(0, 8);

    kit_open(kit, LIE_NONE, LIE_LACKS);
    assert_int_equal(kit_fetch(kit, f, &id, from_both), SHL_ENOTFOUND);
    assert_true(f->msg[0]);
    assert_int_equal(kit_served(&kit->nodes[1]).lacks, 1);
    assert_int_equal(kit->nodes[2].lies, 1);
    assert_int_equal(kit_fetch(kit, f, &id, from_none), SHL_ENOTFOUND);
    kit_close_node(&kit->nodes[1]);
    RUN_UNTIL(&kit->loop, !test_mesh_is_up(&kit->nodes[0].mesh, &kit->nodes[1].mesh));
    assert_int_equal(kit_fetch(kit, f, &id, from_1), SHL_EUNAVAILABLE);
}

static void test_transfer_asks_the_next_holder_when_one_is_silent(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;

    kit->manifest_ms = 50;
    kit->fetch.deadline_first_ms = 100;
    kit->fetch.deadline_min_ms = 50;
    kit->fetch.deadline_max_ms = 30000;
    kit_open(kit, LIE_SILENT, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, 8);
    assert_int_equal(kit_fetch(kit, f, &id, from_both), 0);
    assert_true(kit->nodes[1].lies >= 1);
    assert_true(is_readable(kit->nodes[0].store, &id, 0, 8));
}

static void test_transfer_survives_garbage(void **state)
{
    static const enum lie lies[] = {LIE_GARBAGE, LIE_CUT};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(lies); i++) {
        struct kit *kit = *state;
        struct kit_fetch *f = kit->fetches;
        struct ckpt_id id;

        if (i > 0) {
            kit_teardown(kit);
            kit_setup(kit);
        }
        kit->fetch.request_chunks = 8;
        kit_open(kit, lies[i], LIE_NONE);
        id = add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
        /* Manifest and chunks. */
        assert_int_equal(kit_fetch(kit, f, &id, from_both), 0);
        assert_true(is_readable(kit->nodes[0].store, &id, 0, CHUNKS));
        assert_true(kit_stats(kit).bad_answers >= 2);
        assert_int_equal(kit_stats(kit).quarantined, 0);
    }
}

static void test_transfer_closes_in_the_middle(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id, other, absent = id_of_checkpoint(500, 3);

    kit_open(kit, LIE_SILENT, LIE_NONE);
    id = add_checkpoint(kit->nodes[2].store, 0, CHUNKS);
    other = add_checkpoint(kit->nodes[2].store, 100, CHUNKS);
    kit_begin(kit, &f[0], &id, from_2_1);
    kit_begin(kit, &f[1], &absent, from_1); /* waits for the manifest */
    RUN_UNTIL(&kit->loop, kit->nodes[1].lies > 1);
    assert_int_equal(f[0].done, 0); /* some of its chunks never come */
    kit_begin(kit, &f[2], &other, from_2_1);
    kit_close_replica(&kit->nodes[0]);
    assert_int_equal(f[0].done, 1);
    assert_int_equal(f[0].result.code, SHL_EUNAVAILABLE);
    assert_int_equal(f[1].done, 1);
    assert_int_equal(f[1].result.code, SHL_EUNAVAILABLE);
    assert_int_equal(f[2].done, 1);
    assert_int_equal(f[2].result.code, SHL_EUNAVAILABLE);
    assert_int_equal(count_manifests(kit->nodes[0].store), 0);
}

static void test_transfer_can_be_cancelled_at_any_time(void **state)
{
    struct kit *kit = *state;
    struct kit_fetch *f = kit->fetches;
    struct ckpt_id id;
    int turns, cancelled = 0;

    kit->fetch.request_chunks = 4;
    kit_open(kit, LIE_NONE, LIE_NONE);
    for (turns = 0; turns < 40; turns++) {
        uint32_t first = (uint32_t)turns * 200;
        int i;

        id = add_checkpoint(kit->nodes[1].store, first, 16);
        kit_begin(kit, f, &id, from_1);
        for (i = 0; i < turns; i++) {
            (void)uv_run(&kit->loop, UV_RUN_ONCE);
            if (f->done) {
                break;
            }
        }
        if (!f->done) {
            cancelled++;
            node_replica_cancel(f->fetch);
            RUN_UNTIL(&kit->loop, kit_stats(kit).fetches == 0 && kit_stats(kit).streams == 0);
            assert_int_equal(f->done, 0);
        }
        assert_int_equal(kit_stats(kit).held_bytes, 0);
        assert_int_equal(kit_stats(kit).fetch.jobs, 0);
        assert_int_equal(stats_of(kit->nodes[0].store).sessions, 0);
    }
    print_message("%d of 40 were cancelled\n", cancelled);
    assert_true(cancelled > 5);
    /* What came before is not fetched again. */
    assert_int_equal(kit_fetch(kit, f, &id, from_1), 0);
    assert_true(is_readable(kit->nodes[0].store, &id, 39 * 200, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_transfer_brings_a_whole_checkpoint),
        TEST(test_transfer_moves_only_what_is_missing),
        TEST(test_transfer_shares_the_work_among_holders),
        TEST(test_transfer_fetches_several_at_once),
        TEST(test_transfer_goes_on_when_a_holder_dies),
        TEST(test_transfer_gives_up_when_all_holders_die),
        TEST(test_transfer_takes_damaged_chunks_from_another_holder),
        TEST(test_transfer_fetches_again_what_was_damaged_meanwhile),
        TEST(test_transfer_heals_a_checkpoint_that_is_here),
        TEST(test_transfer_quarantines_wrong_bytes),
        TEST(test_transfer_quarantines_packed_chunks_that_are_others),
        TEST(test_transfer_quarantines_packed_chunks_that_would_not_fit),
        TEST(test_transfer_works_with_the_version_before),
        TEST(test_transfer_refuses_a_wrong_manifest),
        TEST(test_transfer_says_that_nobody_has_it),
        TEST(test_transfer_asks_the_next_holder_when_one_is_silent),
        TEST(test_transfer_survives_garbage),
        TEST(test_transfer_closes_in_the_middle),
        TEST(test_transfer_can_be_cancelled_at_any_time),
#undef TEST
    };

    return cmocka_run_group_tests_name("node/replica_transfer", tests, NULL, NULL);
}
