/* The choice of voters: tables of situations, then random clusters that live and die. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/command.h"
#include "scheduler/mutate.h"
#include "scheduler/voters.h"
#include "tests/scheduler/kit.h"

#define LONG 1000000u

/* One letter per node: V voter, v dead voter (long), ? voter that died just now, L caught-up
 * learner, l learner behind, n new and stable, d dead non-voter, R removed voter alive,
 * r removed voter dead, x removed learner, W witness learner, S voter that wishes standby,
 * s standby learner, F flapping voter, y young learner. */
static struct sched_voters_node node_of(char c, unsigned n)
{
    struct sched_voters_node node = {
        .id = kit_id(n), .member = true, .alive = true, .alive_ms = LONG, .in_raft = true};

    node.voter = strchr("Vv?RrSF", c) != NULL;
    node.caught_up = strchr("LWsxy", c) != NULL;
    node.member = strchr("Rrx", c) == NULL;
    node.role = c == 'W' ? SCHED_ROLE_WITNESS : SCHED_ROLE_VOTER;
    if (c == 's' || c == 'S') {
        node.role = SCHED_ROLE_STANDBY;
    }
    node.flapping = c == 'F';
    if (c == 'n') {
        node.in_raft = false;
    }
    if (c == 'y') {
        node.alive_ms = 10000;
    }
    if (strchr("v?dr", c)) {
        node.alive = false;
        node.alive_ms = 0;
        node.dead_ms = c == '?' ? 1000 : LONG;
    }
    return node;
}

static struct sched_voters_change next_of(const char *text, const char *const *domains)
{
    struct sched_voters_node nodes[16];
    struct sched_voters_config config;
    struct sched_voters_input input = {.nodes = nodes,
                                       .count = (uint32_t)strlen(text),
                                       .leader = kit_id(1),
                                       .since_change_ms = UINT64_MAX};
    unsigned i;

    sched_voters_config_init(&config);
    for (i = 0; text[i]; i++) {
        nodes[i] = node_of(text[i], i + 1);
        nodes[i].domain = domains ? domains[i] : NULL;
    }
    return sched_voters_next(&config, &input);
}

static void test_voters_how_many(void **state)
{
    static const uint32_t wanted[] = {0, 1, 2, 3, 3, 5, 5, 5, 5};
    uint32_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(wanted); i++) {
        assert_int_equal(sched_voters_wanted(i, 5), wanted[i]);
    }
    assert_int_equal(sched_voters_wanted(9, 3), 3);
}

/* Node 1 leads. */
static void test_voters_situations(void **state)
{
    static const struct {
        const char *nodes;
        enum sched_voters_op op;
        unsigned node;
    } rows[] = {
        {"V", SCHED_VOTERS_NONE, 0},
        {"Vn", SCHED_VOTERS_ADD_LEARNER, 2},
        {"Vl", SCHED_VOTERS_NONE, 0},
        {"VL", SCHED_VOTERS_PROMOTE, 2}, /* two nodes: both disks */
        {"VV", SCHED_VOTERS_NONE, 0},
        {"Vy", SCHED_VOTERS_PROMOTE, 2}, /* few voters: it need not wait long */
        {"VVL", SCHED_VOTERS_PROMOTE, 3},
        {"VVV", SCHED_VOTERS_NONE, 0},
        {"VVVL", SCHED_VOTERS_NONE, 0}, /* three of four */
        {"VVVVLL", SCHED_VOTERS_PROMOTE, 5},
        {"VVVLL", SCHED_VOTERS_PROMOTE, 4},
        {"VVVLy", SCHED_VOTERS_NONE, 0}, /* four that are stable */
        {"VVVVV", SCHED_VOTERS_NONE, 0},
        {"VVVVVLL", SCHED_VOTERS_NONE, 0},
        {"VVVV", SCHED_VOTERS_DEMOTE, 4}, /* an even number bears no more than one less */
        /* Losses. */
        {"Vv", SCHED_VOTERS_NONE, 0},   /* no majority: nothing can be changed */
        {"VV?L", SCHED_VOTERS_NONE, 0}, /* not lost for long */
        {"VVv", SCHED_VOTERS_NONE, 0},  /* nobody to replace it, nothing won without it */
        {"VVvL", SCHED_VOTERS_PROMOTE, 4},
        {"VVvl", SCHED_VOTERS_NONE, 0},    /* its replacement is catching up */
        {"VVvVL", SCHED_VOTERS_DEMOTE, 3}, /* the replacement votes already */
        {"VVVVv", SCHED_VOTERS_NONE, 0},
        {"VVVvv", SCHED_VOTERS_DEMOTE, 4}, /* three of three bear one loss, three of five none */
        {"VVVvvL", SCHED_VOTERS_DEMOTE, 4},
        {"VvvVV", SCHED_VOTERS_DEMOTE, 2},
        {"VVvvL", SCHED_VOTERS_NONE, 0}, /* no majority */
        /* Removals and wishes. */
        {"VVR", SCHED_VOTERS_REMOVE, 3},
        {"VVr", SCHED_VOTERS_REMOVE, 3},
        {"VVRL", SCHED_VOTERS_PROMOTE, 4},
        {"VVVx", SCHED_VOTERS_REMOVE, 4},
        {"VR", SCHED_VOTERS_REMOVE, 2},
        {"RV", SCHED_VOTERS_TRANSFER, 2}, /* the leader goes: another leads first */
        {"R", SCHED_VOTERS_NONE, 0},
        {"VVS", SCHED_VOTERS_DEMOTE, 3},
        {"Vs", SCHED_VOTERS_NONE, 0},
        {"VVss", SCHED_VOTERS_NONE, 0},
        /* Quality. */
        {"VVLW", SCHED_VOTERS_PROMOTE, 4}, /* a witness before others ... */
        {"VVVW", SCHED_VOTERS_NONE, 0},    /* ... but not instead of a voter */
        {"VVFL", SCHED_VOTERS_PROMOTE, 4},
        {"VVF", SCHED_VOTERS_NONE, 0},
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct sched_voters_change change = next_of(rows[i].nodes, NULL);
        struct shl_node_id id = kit_id(rows[i].node);

        if (change.op != rows[i].op ||
            (change.op != SCHED_VOTERS_NONE && !shl_node_id_equal(&change.node, &id))) {
            print_error("\"%s\": op %d node %u (%s)\n", rows[i].nodes, change.op,
                        change.node.bytes[1], change.why);
        }
        assert_int_equal(change.op, rows[i].op);
        if (change.op != SCHED_VOTERS_NONE) {
            assert_true(shl_node_id_equal(&change.node, &id));
            assert_true(change.why[0] != '\0');
        }
    }
}

static void test_voters_domains_apart(void **state)
{
    static const char *const rooms[] = {"a", "a", "b", "a", "c"};
    static const char *const one[] = {"a", "a", "a", "a"};
    struct sched_voters_change change = next_of("VVLL", rooms);
    struct shl_node_id three = kit_id(3), two = kit_id(2), five = kit_id(5);

    (void)state;
    assert_int_equal(change.op, SCHED_VOTERS_PROMOTE);
    assert_true(shl_node_id_equal(&change.node, &three));
    change = next_of("VVVsL", rooms); /* c is a third room: one of the two in a gives way */
    assert_int_equal(change.op, SCHED_VOTERS_PROMOTE);
    assert_true(shl_node_id_equal(&change.node, &five));
    change = next_of("VVVsV", rooms);
    assert_int_equal(change.op, SCHED_VOTERS_DEMOTE);
    assert_true(shl_node_id_equal(&change.node, &two));
    change = next_of("VVVL", one);
    assert_int_equal(change.op, SCHED_VOTERS_NONE);
}

static void test_voters_wait_between_changes(void **state)
{
    struct sched_voters_node nodes[4] = {node_of('V', 1), node_of('V', 2), node_of('L', 3),
                                         node_of('n', 4)};
    struct sched_voters_config config;
    struct sched_voters_input input = {.nodes = nodes, .count = 3, .leader = kit_id(1)};

    (void)state;
    sched_voters_config_init(&config);
    input.since_change_ms = config.interval_ms - 1;
    assert_int_equal(sched_voters_next(&config, &input).op, SCHED_VOTERS_NONE);
    input.since_change_ms = config.interval_ms;
    assert_int_equal(sched_voters_next(&config, &input).op, SCHED_VOTERS_PROMOTE);
    input.change_under_way = true;
    assert_int_equal(sched_voters_next(&config, &input).op, SCHED_VOTERS_NONE);
    input.change_under_way = false;
    input.count = 4; /* learners do not wait */
    input.since_change_ms = 0;
    assert_int_equal(sched_voters_next(&config, &input).op, SCHED_VOTERS_ADD_LEARNER);
}

/* More nodes than Raft takes: the choice of voters goes on. */
static void test_voters_members_are_bounded(void **state)
{
    struct sched_voters_node nodes[4] = {node_of('V', 1), node_of('n', 2), node_of('L', 3),
                                         node_of('n', 4)};
    struct sched_voters_config config;
    struct sched_voters_input input = {
        .nodes = nodes, .count = 4, .leader = kit_id(1), .since_change_ms = UINT64_MAX};
    struct shl_node_id three = kit_id(3);
    struct sched_voters_change change;

    (void)state;
    sched_voters_config_init(&config);
    config.members_max = 2;
    change = sched_voters_next(&config, &input);
    assert_int_equal(change.op, SCHED_VOTERS_PROMOTE);
    assert_true(shl_node_id_equal(&change.node, &three));
}

/*- Random clusters. */

struct world {
    struct sched_voters_node nodes[12];
    unsigned count;
    unsigned leader;
    uint64_t random;
    uint64_t since_ms;
};

static const char *const rooms[] = {"", "a", "b", "c"};

static void count_voters(const struct world *w, unsigned *ret_voters, unsigned *ret_live)
{
    unsigned i;

    *ret_voters = 0;
    *ret_live = 0;
    for (i = 0; i < w->count; i++) {
        *ret_voters += w->nodes[i].voter;
        *ret_live += w->nodes[i].voter && w->nodes[i].alive;
    }
}

static struct sched_voters_node *find(struct world *w, const struct shl_node_id *id)
{
    unsigned i;

    for (i = 0; i < w->count; i++) {
        if (shl_node_id_equal(&w->nodes[i].id, id)) {
            return &w->nodes[i];
        }
    }
    return NULL;
}

/* Carry a change out as Raft would. */
static void carry_out(struct world *w, const struct sched_voters_change *change)
{
    struct sched_voters_node *node = find(w, &change->node);

    assert_non_null(node);
    switch (change->op) {
    case SCHED_VOTERS_ADD_LEARNER:
        assert_false(node->in_raft);
        node->in_raft = true;
        break;
    case SCHED_VOTERS_PROMOTE:
        assert_true(node->in_raft && !node->voter && node->caught_up && node->alive);
        assert_true(node->member && node->role != SCHED_ROLE_STANDBY);
        node->voter = true;
        w->since_ms = 0;
        break;
    case SCHED_VOTERS_DEMOTE:
        assert_true(node->voter && node != &w->nodes[w->leader]);
        node->voter = false;
        w->since_ms = 0;
        break;
    case SCHED_VOTERS_REMOVE:
        assert_true(node->in_raft && !node->member && node != &w->nodes[w->leader]);
        node->in_raft = false;
        w->since_ms = node->voter ? 0 : w->since_ms;
        node->voter = false;
        break;
    case SCHED_VOTERS_TRANSFER:
        assert_true(node->voter && node->alive);
        w->leader = (unsigned)(node - w->nodes);
        break;
    case SCHED_VOTERS_NONE:
        break;
    }
}

static void disturb(struct world *w)
{
    struct sched_voters_node *node = &w->nodes[kit_random(&w->random) % w->count];

    switch (kit_random(&w->random) % 8) {
    case 0:
    case 1:
        node->alive = !node->alive;
        node->alive_ms = 0;
        node->dead_ms = 0;
        break;
    case 2:
        node->flapping = !node->flapping;
        break;
    case 3:
        node->draining = !node->draining;
        break;
    case 4:
        node->role = (uint32_t)(kit_random(&w->random) % 3);
        break;
    case 5:
        if (kit_random(&w->random) % 4 == 0) {
            node->member = false;
        }
        break;
    case 6:
        if (w->count < 12) {
            w->nodes[w->count] = (struct sched_voters_node){.id = kit_id(w->count + 1),
                                                            .member = true,
                                                            .alive = true,
                                                            .domain = rooms[w->random % 4]};
            w->count++;
        }
        break;
    default:
        node->caught_up = !node->caught_up;
        break;
    }
}

/* Some second passes; a dead leader is replaced if there is a majority. */
static void let_pass(struct world *w, uint64_t ms)
{
    unsigned i;

    for (i = 0; i < w->count; i++) {
        if (w->nodes[i].alive) {
            w->nodes[i].alive_ms += ms;
        } else {
            w->nodes[i].dead_ms += ms;
        }
        if (!w->nodes[w->leader].alive && w->nodes[i].voter && w->nodes[i].alive) {
            w->leader = i;
        }
    }
    w->since_ms += ms;
}

static struct sched_voters_change ask(struct world *w)
{
    struct sched_voters_config config;
    struct sched_voters_input input = {.nodes = w->nodes,
                                       .count = w->count,
                                       .leader = w->nodes[w->leader].id,
                                       .since_change_ms = w->since_ms};

    sched_voters_config_init(&config);
    return sched_voters_next(&config, &input);
}

/* A change is made only with a majority alive, and leaves one. */
static bool step(struct world *w)
{
    unsigned voters, live, voters_after, live_after;
    struct sched_voters_change change = ask(w);

    count_voters(w, &voters, &live);
    if (change.op == SCHED_VOTERS_NONE) {
        return false;
    }
    assert_true(live >= voters / 2 + 1);
    carry_out(w, &change);
    count_voters(w, &voters_after, &live_after);
    assert_true(voters_after >= 1);
    assert_true(voters_after <= 6);
    assert_true(live_after >= voters_after / 2 + 1);
    return true;
}

/* Left alone with everybody well, it comes to rest at the right number. */
static void check_rest(struct world *w)
{
    unsigned i, voters, live, able = 0, changes = 0;

    for (i = 0; i < w->count; i++) {
        struct sched_voters_node *node = &w->nodes[i];

        node->alive = node->member || node->voter || node->alive;
        node->dead_ms = 0;
        node->flapping = false;
        node->draining = false;
        node->caught_up = true;
        if (node->role == SCHED_ROLE_STANDBY) {
            node->role = SCHED_ROLE_VOTER;
        }
        able += node->member;
    }
    for (i = 0; i < 60; i++) {
        let_pass(w, 10000);
        changes += step(w);
    }
    assert_true(changes < 40);
    for (i = 0; i < 20; i++) { /* and stays there */
        let_pass(w, 10000);
        assert_false(step(w));
    }
    count_voters(w, &voters, &live);
    if (able > 0) {
        assert_int_equal(voters, sched_voters_wanted(able, 5));
        assert_int_equal(live, voters);
    }
}

static void test_voters_random_clusters(void **state)
{
    unsigned long changes = 0;
    uint64_t seed;
    unsigned i;

    (void)state;
    for (seed = 1; seed <= 300; seed++) {
        struct world w = {.count = 1, .random = seed};

        w.nodes[0] = node_of('V', 1);
        w.nodes[0].domain = "a";
        for (i = 0; i < 400; i++) {
            if (kit_random(&w.random) % 3 == 0) {
                disturb(&w);
            }
            let_pass(&w, kit_random(&w.random) % 20000);
            changes += w.nodes[w.leader].alive && w.nodes[w.leader].voter && step(&w);
        }
        check_rest(&w);
    }
    print_message("300 clusters, %lu changes\n", changes);
    assert_true(changes > 1000);
}

static void test_voters_unsafe_mutation_shows(void **state)
{
    struct sched_voters_node nodes[3] = {node_of('V', 1), node_of('S', 2), node_of('v', 3)};
    struct sched_voters_config config;
    struct sched_voters_input input = {
        .nodes = nodes, .count = 3, .leader = kit_id(1), .since_change_ms = UINT64_MAX};
    struct shl_node_id two = kit_id(2), three = kit_id(3);
    struct sched_voters_change change;

    (void)state;
    sched_voters_config_init(&config);
    change = sched_voters_next(&config, &input); /* first the dead one, then the live one */
    assert_int_equal(change.op, SCHED_VOTERS_DEMOTE);
    assert_true(shl_node_id_equal(&change.node, &three));
    config.mutations = SCHED_MUT_VOTERS_UNSAFE;
    change = sched_voters_next(&config, &input);
    assert_int_equal(change.op, SCHED_VOTERS_DEMOTE);
    assert_true(shl_node_id_equal(&change.node, &two));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_voters_how_many),
        cmocka_unit_test(test_voters_situations),
        cmocka_unit_test(test_voters_domains_apart),
        cmocka_unit_test(test_voters_wait_between_changes),
        cmocka_unit_test(test_voters_members_are_bounded),
        cmocka_unit_test(test_voters_random_clusters),
        cmocka_unit_test(test_voters_unsafe_mutation_shows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
