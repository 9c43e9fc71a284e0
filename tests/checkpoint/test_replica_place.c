/* Placement of copies: where they go, how little moves, how even it is. */
#include <math.h>

#include "base/err.h"
#include "checkpoint/replica_place.h"
#include "tests/checkpoint/helper.h"

static const uint8_t key[CKPT_REPLICA_KEY_BYTES] = {1, 2, 3};

static struct ckpt_id manifest_of(uint32_t number)
{
    struct ckpt_id id;

    ckpt_id_of(&id, &number, sizeof(number));
    return id;
}

/* Ids are hashes in a cluster too; ascending here, because a map wants them so. */
static void make_nodes(struct ckpt_replica_node *nodes, uint32_t count)
{
    uint32_t i;

    memset(nodes, 0, count * sizeof(*nodes));
    for (i = 0; i < count; i++) {
        nodes[i].id.bytes[0] = (uint8_t)(i + 1);
        nodes[i].id.bytes[7] = (uint8_t)(i * 37);
        nodes[i].weight = 100;
    }
}

static void make_map(struct ckpt_replica_map *map,
                     const struct ckpt_replica_node *nodes,
                     uint32_t count)
{
    assert_int_equal(ckpt_replica_map_init(map, key, nodes, count), 0);
}

static struct ckpt_replica_places place(const struct ckpt_replica_map *map,
                                        uint32_t number,
                                        uint32_t owner,
                                        uint32_t copies,
                                        const bool *eligible)
{
    struct ckpt_id id = manifest_of(number);
    struct ckpt_replica_places places;

    assert_int_equal(ckpt_replica_place(map, &id, owner, copies, eligible, &places), 0);
    return places;
}

static void all_true(bool *eligible)
{
    memset(eligible, 1, CKPT_REPLICA_NODES_MAX * sizeof(*eligible));
}

static void test_place_log_is_right(void **state)
{
    uint64_t random = 7;
    int i;

    (void)state;
    assert_int_equal(ckpt_replica_minus_log2(UINT64_MAX), 0);
    assert_int_equal(ckpt_replica_minus_log2((1ull << 63) - 1), 1ull << 32);
    assert_int_equal(ckpt_replica_minus_log2((1ull << 62) - 1), 2ull << 32);
    assert_int_equal(ckpt_replica_minus_log2(0), 64ull << 32);
    for (i = 0; i < 1000; i++) {
        uint64_t hash = (uint64_t)next_random(&random) << 32 | next_random(&random);
        double wanted = 64 - log2((double)hash + 1);
        double got = (double)ckpt_replica_minus_log2(hash) / 4294967296.0;

        assert_true(fabs(wanted - got) < 1e-8);
    }
}

/* Nodes of different builds and versions have to agree: these places never change. (They were
 * computed a second time by a program of its own, in floating point.) */
static void test_place_is_the_same_everywhere(void **state)
{
    static const uint32_t golden[6][3] = {{3, 8, 9}, {9, 4, 3}, {3, 0, 8},
                                          {9, 1, 8}, {8, 1, 6}, {9, 3, 0}};
    struct ckpt_replica_node nodes[10];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t i, j;

    (void)state;
    make_nodes(nodes, 10);
    nodes[3].weight = 300;
    make_map(&map, nodes, 10);
    all_true(eligible);
    for (i = 0; i < 6; i++) {
        struct ckpt_replica_places p =
            place(&map, i, i % 2 ? 9 : CKPT_REPLICA_NOWHERE, 3, eligible);

        for (j = 0; j < 3; j++) {
            assert_int_equal(p.nodes[j], golden[i][j]);
        }
    }
}

static void test_place_keeps_the_owner_first(void **state)
{
    struct ckpt_replica_node nodes[5];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t i;

    (void)state;
    make_nodes(nodes, 5);
    make_map(&map, nodes, 5);
    all_true(eligible);
    eligible[2] = false; /* flapping, say: it has the data all the same */
    for (i = 0; i < 200; i++) {
        struct ckpt_replica_places p = place(&map, i, 2, 2, eligible);

        assert_int_equal(p.count, 2);
        assert_int_equal(p.nodes[0], 2);
        assert_int_not_equal(p.nodes[1], 2);
    }
}

static void test_place_leaves_out_who_is_not_eligible(void **state)
{
    struct ckpt_replica_node nodes[5];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t i;

    (void)state;
    make_nodes(nodes, 5);
    nodes[4].weight = 0; /* a witness */
    make_map(&map, nodes, 5);
    all_true(eligible);
    eligible[1] = false;
    for (i = 0; i < 200; i++) {
        struct ckpt_replica_places p = place(&map, i, CKPT_REPLICA_NOWHERE, 3, eligible);

        assert_int_equal(p.count, 3);
        assert_false(ckpt_replica_places_have(&p, 1));
        assert_false(ckpt_replica_places_have(&p, 4));
        p = place(&map, i, CKPT_REPLICA_NOWHERE, 4, eligible); /* too few, and it says so */
        assert_int_equal(p.count, 3);
        assert_int_equal(p.wanted, 4);
    }
}

static void test_place_uses_different_domains(void **state)
{
    static const char *const racks[6] = {"a", "a", "b", "b", "c", "c"};
    struct ckpt_replica_node nodes[6];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t i, j;

    (void)state;
    make_nodes(nodes, 6);
    for (i = 0; i < 6; i++) {
        nodes[i].domain = racks[i];
    }
    make_map(&map, nodes, 6);
    all_true(eligible);
    for (i = 0; i < 300; i++) {
        struct ckpt_replica_places p = place(&map, i, i % 6, 3, eligible);
        unsigned seen[3] = {0};

        assert_int_equal(p.domains, 3);
        p = place(&map, i, i % 6, 5, eligible); /* three domains for five copies: 2, 2, 1 */
        assert_int_equal(p.count, 5);
        assert_int_equal(p.domains, 3);
        for (j = 0; j < 5; j++) {
            seen[p.nodes[j] / 2]++;
        }
        for (j = 0; j < 3; j++) {
            assert_in_range(seen[j], 1, 2);
        }
    }
    for (i = 2; i < 6; i++) {
        eligible[i] = false;
    }
    assert_int_equal(place(&map, 1, 0, 2, eligible).domains, 1); /* degraded: one rack is left */
}

/* Lists of places as sets; how many of @before are not in @after. */
static uint32_t gone(const struct ckpt_replica_places *before,
                     const struct ckpt_replica_places *after)
{
    uint32_t i, count = 0;

    for (i = 0; i < before->count; i++) {
        count += !ckpt_replica_places_have(after, before->nodes[i]);
    }
    return count;
}

/* For every lost node: what it had moves, nothing else does; also over domains that are too
 * few, and when the lost one is the owner. */
static void test_place_moves_only_what_was_lost(void **state)
{
    static const char *const domains[4][12] = {
        {0},
        {"a", "b", "c", "a", "b", "c", "a", "b", "c", "a", "b", "c"},
        {"a", "a", "a", "a", "a", "a", "a", "b", "b", "c", "c", NULL},
        {"a", "a", "a", "a", "a", "a", "b", "b", "b", "b", "b", "b"},
    };
    struct ckpt_replica_node nodes[12];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t layout, number, lost, copies, i, moved = 0;

    (void)state;
    for (layout = 0; layout < 4; layout++) {
        make_nodes(nodes, 12);
        for (i = 0; i < 12; i++) {
            nodes[i].domain = domains[layout][i];
            nodes[i].weight = 50 + 10 * i;
        }
        make_map(&map, nodes, 12);
        for (number = 0; number < 300; number++) {
            copies = 1 + number % 4;
            for (lost = 0; lost < 12; lost++) {
                uint32_t owner = number % 12;
                struct ckpt_replica_places before, after;

                all_true(eligible);
                before = place(&map, number, owner, copies, eligible);
                eligible[lost] = false;
                after = place(&map, number, owner == lost ? CKPT_REPLICA_NOWHERE : owner, copies,
                              eligible);
                assert_int_equal(after.count, copies);
                assert_int_equal(gone(&before, &after), ckpt_replica_places_have(&before, lost));
                moved += gone(&before, &after);
            }
        }
    }
    assert_int_equal(moved, 4 * 300 * 10 / 4); /* 1 + 2 + 3 + 4 places per 4 manifests */
}

#define KEYS 8

/* Largest share of a node against the mean, R = 2; average over a few keys. No node is
 * further from the mean than chance would have it. */
static double imbalance(uint32_t count)
{
    double chance = sqrt(20000.0 * (2.0 / count) * (1 - 2.0 / count));
    struct ckpt_replica_node nodes[20];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t round, number, i;
    double sum = 0;

    make_nodes(nodes, count);
    all_true(eligible);
    for (round = 0; round < KEYS; round++) {
        uint32_t held[20] = {0}, most = 0;

        make_map(&map, nodes, count);
        map.key[0] = (uint8_t)round;
        for (number = 0; number < 20000; number++) {
            struct ckpt_replica_places p = place(&map, number, CKPT_REPLICA_NOWHERE, 2, eligible);

            held[p.nodes[0]]++;
            held[p.nodes[1]]++;
        }
        for (i = 0; i < count; i++) {
            most = SHL_MAX(most, held[i]);
            assert_true(fabs(held[i] - 40000.0 / count) < 4.5 * chance);
        }
        sum += most / (40000.0 / count);
    }
    return sum / KEYS;
}

/* Draws of a perfect hash give 1.004, 1.012, 1.024 and 1.042 on average. */
static void test_place_is_balanced(void **state)
{
    static const struct {
        uint32_t nodes;
        double most;
    } bars[] = {{3, 1.007}, {5, 1.015}, {10, 1.028}, {20, 1.047}};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bars); i++) {
        double got = imbalance(bars[i].nodes);

        print_message("%u nodes: max/mean %.4f\n", bars[i].nodes, got);
        assert_true(got <= bars[i].most);
    }
}

static void test_place_follows_the_weights(void **state)
{
    struct ckpt_replica_node nodes[4];
    struct ckpt_replica_map map;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    uint32_t held[4] = {0}, i;

    (void)state;
    make_nodes(nodes, 4);
    for (i = 0; i < 4; i++) {
        nodes[i].weight = 1000 * (i + 1);
    }
    make_map(&map, nodes, 4);
    all_true(eligible);
    for (i = 0; i < 20000; i++) {
        held[place(&map, i, CKPT_REPLICA_NOWHERE, 1, eligible).nodes[0]]++;
    }
    for (i = 0; i < 4; i++) {
        double share = held[i] / 20000.0, wanted = (i + 1) / 10.0;

        assert_true(fabs(share - wanted) < 0.02);
    }
}

static void test_place_refuses_what_is_not_valid(void **state)
{
    struct ckpt_replica_node nodes[CKPT_REPLICA_NODES_MAX + 1];
    struct ckpt_replica_map map;
    struct ckpt_replica_places places;
    bool eligible[CKPT_REPLICA_NODES_MAX];
    struct ckpt_id id = manifest_of(1);
    struct ckpt_replica_node swapped;
    uint32_t i;

    (void)state;
    all_true(eligible);
    make_nodes(nodes, 100);
    assert_int_equal(ckpt_replica_map_init(&map, key, nodes, CKPT_REPLICA_NODES_MAX + 1),
                     SHL_ELIMIT);
    nodes[1].weight = CKPT_REPLICA_WEIGHT_MAX + 1;
    assert_int_equal(ckpt_replica_map_init(&map, key, nodes, 3), SHL_EINVALIDARG);
    nodes[1].weight = CKPT_REPLICA_WEIGHT_MAX;
    make_map(&map, nodes, 3);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ckpt_replica_map_find(&map, &nodes[i].id), i);
    }
    assert_int_equal(ckpt_replica_map_find(&map, &nodes[3].id), CKPT_REPLICA_NOWHERE);
    assert_int_equal(ckpt_replica_place(&map, &id, 0, 0, eligible, &places), SHL_EINVALIDARG);
    assert_int_equal(ckpt_replica_place(&map, &id, 0, 9, eligible, &places), SHL_EINVALIDARG);
    assert_int_equal(ckpt_replica_place(&map, &id, 3, 2, eligible, &places), SHL_EINVALIDARG);
    swapped = nodes[0];
    nodes[0] = nodes[1];
    nodes[1] = swapped;
    assert_int_equal(ckpt_replica_map_init(&map, key, nodes, 3), SHL_EINVALIDARG);
    assert_int_equal(map.count, 0);
    assert_int_equal(ckpt_replica_place(&map, &id, CKPT_REPLICA_NOWHERE, 2, eligible, &places), 0);
    assert_int_equal(places.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_log_is_right),
        cmocka_unit_test(test_place_is_the_same_everywhere),
        cmocka_unit_test(test_place_keeps_the_owner_first),
        cmocka_unit_test(test_place_leaves_out_who_is_not_eligible),
        cmocka_unit_test(test_place_uses_different_domains),
        cmocka_unit_test(test_place_moves_only_what_was_lost),
        cmocka_unit_test(test_place_is_balanced),
        cmocka_unit_test(test_place_follows_the_weights),
        cmocka_unit_test(test_place_refuses_what_is_not_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
