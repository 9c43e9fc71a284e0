/* Replicas under random streams of commands: whatever comes, all of them agree, also one
 * that was restored in the middle, and the rules hold after every entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scheduler/kit.h"

#define SEEDS    12
#define COMMANDS 1500

/* Small tables, so that the limits are met; but no tombstone is pushed out, which would let
 * an id come back. */
static const struct sched_state_config small = {
    .rows_max = {[SCHED_TABLE_NODES] = 6,
                 [SCHED_TABLE_TOKENS] = 10,
                 [SCHED_TABLE_NAMES] = 30,
                 [SCHED_TABLE_KEYS] = 20,
                 [SCHED_TABLE_OWNERS] = 20,
                 [SCHED_TABLE_TOMBSTONES] = 200,
                 [SCHED_TABLE_CHECKPOINTS] = 20,
                 [SCHED_TABLE_KV] = 15},
};

/* What was seen of each sandbox, to compare with. */
struct seen {
    uint64_t epoch;
    struct shl_node_id owner;
};

/* Mesh invariants 1 and 15 in terms of the table: an epoch never falls, an owner only
 * changes with it, and nothing is both deleted and there. */
static void check_owners(const struct sched_state *state, struct seen seen[40])
{
    size_t i;

    for (i = 0; i < sched_state_count(state, SCHED_TABLE_OWNERS); i++) {
        const struct sched_owner *row = sched_state_at(state, SCHED_TABLE_OWNERS, i);
        unsigned n;

        assert_int_equal(sscanf(row->sandbox, "sb-%u", &n), 1);
        assert_true(row->epoch >= seen[n].epoch);
        if (row->epoch == seen[n].epoch) {
            assert_true(shl_node_id_equal(&row->owner, &seen[n].owner));
        }
        seen[n].epoch = row->epoch;
        seen[n].owner = row->owner;
        assert_null(sched_state_tombstone(state, SCHED_TOMBSTONE_SANDBOX, row->sandbox));
    }
}

static void check_nodes(const struct sched_state *state)
{
    size_t i, j;

    for (i = 0; i < sched_state_count(state, SCHED_TABLE_NODES); i++) {
        const struct sched_node *row = sched_state_at(state, SCHED_TABLE_NODES, i);

        assert_null(sched_state_removed(state, row->spec.key));
        assert_ptr_equal(sched_state_node_by_name(state, row->spec.name), row);
        assert_ptr_equal(sched_state_node_by_key(state, row->spec.key), row);
    }
    for (i = 0; i < sched_state_count(state, SCHED_TABLE_CHECKPOINTS); i++) {
        const struct sched_checkpoint *row = sched_state_at(state, SCHED_TABLE_CHECKPOINTS, i);

        assert_null(sched_state_tombstone(state, SCHED_TOMBSTONE_CHECKPOINT, row->id));
        for (j = 0; j < row->holder_count; j++) {
            assert_non_null(sched_state_node(state, &row->holders[j]));
            assert_true(j == 0 || shl_node_id_compare(&row->holders[j - 1], &row->holders[j]) < 0);
        }
    }
}

/* Everything but the place in the log and the time: what a refusal must not touch. The
 * digest covers those too, so they are compared through a second replica. */
static uint64_t rows_digest(struct sched_state *state)
{
    uint64_t sum = 0;
    int table;
    size_t i;

    for (table = 0; table < SCHED_TABLE_COUNT; table++) {
        for (i = 0; i < sched_state_count(state, (enum sched_table_id)table); i++) {
            const struct sched_row *row = sched_state_at(state, (enum sched_table_id)table, i);

            sum += row->hash;
        }
    }
    return sum;
}

static void apply_both(struct kit *a, struct kit *b, const struct sched_command *c)
{
    int rc = kit_apply(a, c);

    assert_int_equal(kit_apply(b, c), rc);
    assert_memory_equal(&a->result, &b->result, sizeof(a->result));
    assert_int_equal(sched_state_digest(a->state), sched_state_digest(b->state));
}

static void run_seed(uint64_t seed, unsigned refused[2])
{
    struct kit_stream stream = {.random = seed, .now_ms = KIT_START_MS};
    struct seen seen[40] = {{0}};
    struct kit a, b;
    int i;

    kit_open_cluster(&a, &small);
    kit_open_cluster(&b, &small);
    for (i = 0; i < COMMANDS; i++) {
        struct sched_command c;
        uint64_t before = rows_digest(a.state);

        kit_stream_next(&stream, &c);
        apply_both(&a, &b, &c);
        if (a.result.err.code < 0) {
            assert_true(strlen(a.result.err.msg) > 10);
            assert_true(a.result.err.code == SHL_ELIMIT || rows_digest(a.state) == before);
        }
        refused[a.result.err.code < 0]++;
        check_owners(a.state, seen);
        if (i % 50 == 0) {
            check_nodes(a.state);
            assert_int_equal(sched_state_digest(a.state), sched_state_digest_slow(a.state));
        }
        if (i % 700 == 350) { /* one of the two goes on from its snapshot */
            struct sched_state *copy = kit_copy(b.state, &small, 1 + seed % 5000);

            assert_non_null(copy);
            assert_int_equal(sched_state_digest(copy), sched_state_digest(b.state));
            sched_state_free(b.state);
            b.state = copy;
        }
    }
    kit_close(&a);
    kit_close(&b);
}

static void test_random_replicas_agree(void **state)
{
    unsigned refused[2] = {0, 0};
    uint64_t seed;

    (void)state;
    for (seed = 1; seed <= SEEDS; seed++) {
        run_seed(seed, refused);
    }
    print_message("%u seeds, %u commands done, %u refused\n", SEEDS, refused[0], refused[1]);
    assert_true(refused[0] > SEEDS * COMMANDS / 10); /* the stream is not all noise */
    assert_true(refused[1] > SEEDS * COMMANDS / 10);
}

/* The same seed twice is the same to the bit. */
static void test_random_runs_repeat(void **state)
{
    uint64_t digests[2];
    int run, i;

    (void)state;
    for (run = 0; run < 2; run++) {
        struct kit_stream stream = {.random = 99, .now_ms = KIT_START_MS};
        struct kit kit;

        kit_open_cluster(&kit, NULL);
        for (i = 0; i < COMMANDS; i++) {
            struct sched_command c;

            kit_stream_next(&stream, &c);
            (void)kit_apply(&kit, &c);
        }
        digests[run] = sched_state_digest(kit.state);
        kit_close(&kit);
    }
    assert_int_equal(digests[0], digests[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_replicas_agree),
        cmocka_unit_test(test_random_runs_repeat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
