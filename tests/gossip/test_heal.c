/* Coming back together, and staying out. One scenario per lesson of other systems' trackers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/gossip/net.h"

static bool all_agree(struct net *net, void *arg)
{
    return net_agrees(net, *(uint32_t *)arg);
}

static void begin(struct net *net, uint32_t count, uint64_t seed)
{
    net_init(net, count, seed);
    net_start_all(net);
    assert_true(net_run_until(net, 5000, 10, all_agree, &count));
    net_run(net, 10000);
}

static uint32_t deaths(const struct net *net)
{
    uint32_t i, sum = 0;

    for (i = 0; i < net->count; i++) {
        sum += net->nodes[i].deaths;
    }
    return sum;
}

/* memberlist #222, metallb #589, weaviate #10698, actor-ts #930: after an outage of two
 * minutes each side had forgotten the other for ever. */
static void test_heal_outage_of_two_minutes(void **state)
{
    struct net net;
    uint32_t everybody = 10, before;

    (void)state;
    begin(&net, everybody, 1);
    net_split(&net, 5, true);
    net_run(&net, 120000);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 5);
    assert_int_equal(net_life(&net, 0, 9), GOSSIP_DEAD);
    before = deaths(&net);
    net_split(&net, 5, false);
    assert_true(net_run_until(&net, 30000, 10, all_agree, &everybody));
    assert_int_equal(deaths(&net), before); /* old opinions of the other side kill nobody */
    net_release(&net);
}

/* serf #605: long partitions; uneven, so that only one side is urgent. */
static void test_heal_partition_of_ten_minutes(void **state)
{
    struct net net;
    uint32_t everybody = 20;

    (void)state;
    begin(&net, everybody, 2);
    net_split(&net, 17, true);
    net_run(&net, 600000);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 17);
    assert_int_equal(gossip_live_count(net.nodes[19].core), 3);
    net_split(&net, 17, false);
    assert_true(net_run_until(&net, 30000, 10, all_agree, &everybody));
    net_release(&net);
}

/* foca #15: one member loses everybody. Cut in one direction only, for a change. */
static void test_heal_member_that_lost_everybody(void **state)
{
    struct net net;
    uint32_t i, everybody = 5;

    (void)state;
    begin(&net, everybody, 3);
    for (i = 0; i < 4; i++) {
        net_cut(&net, 4, i, true);
    }
    net_run(&net, 300000);
    assert_int_equal(gossip_live_count(net.nodes[4].core), 1);
    for (i = 0; i < 4; i++) {
        net_cut(&net, 4, i, false);
    }
    assert_true(net_run_until(&net, 30000, 10, all_agree, &everybody));
    net_release(&net);
}

/* memberlist #345: restarted at incarnation 0 against dead(100). */
static void test_heal_mass_restart_at_incarnation_0(void **state)
{
    struct net net;
    uint32_t i, everybody = 6;

    (void)state;
    net_init(&net, everybody, 4);
    for (i = 0; i < everybody; i++) {
        net.nodes[i].disk_incarnation = 100;
    }
    net_start_all(&net);
    net_run(&net, 10000);
    for (i = 1; i < everybody; i++) {
        net_crash(&net, i, true);
        net.nodes[i].disk_incarnation = 0;
        shl_buf_clear(&net.nodes[i].disk_book);
    }
    net_run(&net, 20000);
    assert_int_equal(net_life(&net, 0, 5), GOSSIP_DEAD);
    for (i = 1; i < everybody; i++) {
        net_start(&net, i);
        net_join(&net, i, 0);
    }
    assert_true(net_run_until(&net, 5000, 10, all_agree, &everybody));
    assert_true(gossip_self(net.nodes[5].core)->incarnation > 101);
    assert_true(net.nodes[5].disk_incarnation > 101);
    net_release(&net);
}

/* Power back after an outage of all: only the books on disk know the others. */
static void test_heal_all_restart_from_their_books(void **state)
{
    struct net net;
    uint32_t i, everybody = 8;

    (void)state;
    begin(&net, everybody, 5);
    for (i = 0; i < everybody; i++) {
        assert_true(shl_buf_len(&net.nodes[i].disk_book) > 0);
        net_crash(&net, i, true);
    }
    net_run(&net, 60000);
    for (i = 0; i < everybody; i++) {
        net_start(&net, i);
    }
    assert_int_equal(net_life(&net, 0, 7), GOSSIP_UNHEARD);
    assert_true(net_run_until(&net, 10000, 10, all_agree, &everybody));
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
}

/* Cut off alone, a node knows it soon: nobody is left who could confirm anything. */
static void test_heal_isolated_node_knows_soon(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    begin(&net, 10, 16);
    for (i = 0; i < 9; i++) {
        net_cut(&net, 9, i, true);
        net_cut(&net, i, 9, true);
    }
    net_run(&net, 12000);
    assert_int_equal(gossip_live_count(net.nodes[9].core), 1);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 9);
    net_release(&net);
}

/* A seed that is not up yet is tried until it is. */
static void test_heal_seed_comes_up_later(void **state)
{
    struct net net;
    uint32_t both = 2;

    (void)state;
    net_init(&net, 2, 6);
    net_start(&net, 1);
    net_join(&net, 1, 0);
    net_run(&net, 60000);
    net_start(&net, 0);
    assert_true(net_run_until(&net, 11000, 10, all_agree, &both));
    net_release(&net);
}

/* consul #924: somebody who dies is gone after 7 days, and not dialled any more. */
static void test_heal_book_forgets_after_7_days(void **state)
{
    struct gossip_counters before, after;
    struct net net;

    (void)state;
    begin(&net, 3, 7);
    net_crash(&net, 2, true);
    net_run(&net, 60000);
    net.wall_s += 6 * 24 * 3600;
    net_run(&net, 60000);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 3);
    net.wall_s += 24 * 3600;
    net_run(&net, 60000);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 2);
    gossip_counters(net.nodes[1].core, &before);
    net_run(&net, 60000);
    gossip_counters(net.nodes[1].core, &after);
    assert_int_equal(before.heals, after.heals);
    net_release(&net);
}

/* A machine that was off for a month still looks for those who were alive when it stopped. */
static void test_heal_book_outlives_a_long_absence(void **state)
{
    struct net net;
    uint32_t three = 3;

    (void)state;
    begin(&net, three, 15);
    net_crash(&net, 2, true);
    net_run(&net, 20000);
    net.wall_s += 30 * 24 * 3600;
    net_run(&net, 60000);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 2);
    net_start(&net, 2);
    assert_true(net_run_until(&net, 10000, 10, all_agree, &three));
    net_release(&net);
}

static void test_heal_damaged_book_is_refused(void **state)
{
    struct gossip_config config;
    struct gossip *core;
    struct shl_err err;
    struct net net;
    size_t len;

    (void)state;
    begin(&net, 5, 8);
    config = net.nodes[0].config;
    len = shl_buf_len(&net.nodes[0].disk_book);
    assert_true(len > 0);
    for (config.book = shl_buf_bytes(&net.nodes[0].disk_book); config.book.len > 1;) {
        config.book.len--;
        assert_int_equal(gossip_new(&config, &core, &err), SHL_ECORRUPT);
    }
    config.book.len = len;
    assert_int_equal(gossip_new(&config, &core, &err), 0);
    assert_int_equal(gossip_member_count(core), 5);
    gossip_free(core);
    net_release(&net);
}

/* memberlist #217, #140: no rejoin after a leave in the same process. */
static void test_heal_leave_and_rejoin(void **state)
{
    struct net net;
    uint32_t i, four = 4, five = 5;

    (void)state;
    begin(&net, five, 9);
    net_simple(&net, 2, GOSSIP_EV_LEAVE);
    net_run(&net, 2500);
    assert_int_equal(net.nodes[2].notices[GOSSIP_NOTICE_LEAVE_DONE], 1);
    assert_true(net_agrees(&net, four));
    for (i = 0; i < five; i++) {
        assert_int_equal(net_life(&net, i, 2), GOSSIP_LEFT);
    }
    net_run(&net, 60000);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_LEFT);
    assert_int_equal(deaths(&net), 0);
    net_join(&net, 2, 0);
    assert_true(net_run_until(&net, 5000, 10, all_agree, &five));
    net_simple(&net, 2, GOSSIP_EV_LEAVE);
    net_run(&net, 2500);
    assert_int_equal(net.nodes[2].notices[GOSSIP_NOTICE_LEAVE_DONE], 2);
    net_crash(&net, 2, true);
    net_run(&net, 30000);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_LEFT);
    net_start(&net, 2); /* moby #24106: and as a new process, under the same id */
    assert_true(net_run_until(&net, 15000, 10, all_agree, &five));
    assert_int_equal(gossip_member_count(net.nodes[0].core), 5);
    net_release(&net);
}

static bool all_left(struct net *net, void *arg)
{
    uint32_t i;

    (void)arg;
    for (i = 1; i < net->count; i++) {
        if (net_life(net, i, 0) != GOSSIP_LEFT) {
            return false;
        }
    }
    return true;
}

/* A daemon that stops says good-bye and ends: everybody must know it from that one round, or
 * somebody takes the lost connection for a failure. */
static void test_heal_last_words_reach_everybody(void **state)
{
    static const uint32_t sizes[] = {2, 3, 4, 20};
    struct net net;
    uint32_t i;
    uint64_t seed;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        for (seed = 1; seed <= 20; seed++) {
            begin(&net, sizes[i], seed);
            net_simple(&net, 0, GOSSIP_EV_LEAVE);
            net_crash(&net, 0, false);
            net_run(&net, 100);
            assert_true(all_left(&net, NULL));
            net_release(&net);
        }
    }
}

static bool is_suspect(struct net *net, void *arg)
{
    (void)arg;
    return net_life(net, 1, 0) == GOSSIP_SUSPECT;
}

/* A good-bye that comes while the node is suspected wins; who is alone is done at once. */
static void test_heal_left_outranks_suspicion(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    begin(&net, 5, 10);
    for (i = 1; i < 5; i++) {
        net_cut(&net, 0, i, true);
    }
    assert_true(net_run_until(&net, 5000, 10, is_suspect, NULL));
    for (i = 1; i < 5; i++) {
        net_cut(&net, 0, i, false);
    }
    net_simple(&net, 0, GOSSIP_EV_LEAVE);
    net_run(&net, 2500);
    for (i = 1; i < 5; i++) {
        assert_int_equal(net_life(&net, i, 0), GOSSIP_LEFT);
    }
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
    net_init(&net, 1, 10);
    net_start(&net, 0);
    net_simple(&net, 0, GOSSIP_EV_LEAVE);
    net_run(&net, 2001);
    assert_int_equal(net.nodes[0].notices[GOSSIP_NOTICE_LEAVE_DONE], 1);
    net_release(&net);
}

/* serf #580, consul #21633, ringpop #123: erased nodes came back from a peer's list. */
static void test_heal_removed_node_stays_out(void **state)
{
    struct net net;
    uint32_t i, four = 4;

    (void)state;
    begin(&net, 5, 11);
    for (i = 0; i < 3; i++) { /* node 3 does not apply the log yet */
        net_remove(&net, i, 4);
        assert_int_equal(net_life(&net, i, 4), GOSSIP_REMOVED);
    }
    net_run(&net, 60000);
    for (i = 0; i < 3; i++) {
        assert_int_equal(net_life(&net, i, 4), GOSSIP_REMOVED);
    }
    assert_true(net.nodes[4].notices[GOSSIP_NOTICE_WE_ARE_REMOVED] > 0);
    net_crash(&net, 4, true); /* its new incarnation is news to node 3, who spreads it */
    net_run(&net, 1000);
    net_start(&net, 4);
    net_run(&net, 10000);
    assert_int_equal(net_life(&net, 3, 4), GOSSIP_ALIVE);
    for (i = 0; i < 3; i++) {
        assert_int_equal(net_life(&net, i, 4), GOSSIP_REMOVED);
    }
    net_remove(&net, 3, 4);
    net_run(&net, 60000);
    net_crash(&net, 4, true);
    assert_true(net_agrees(&net, four));
    net_start(&net, 4); /* its book still names everybody */
    net_run(&net, 30000);
    assert_true(net.nodes[4].notices[GOSSIP_NOTICE_WE_ARE_REMOVED] > 1);
    for (i = 0; i < 4; i++) {
        assert_int_equal(net_life(&net, i, 4), GOSSIP_REMOVED);
        assert_int_equal(gossip_member_count(net.nodes[i].core), 4);
    }
    net_release(&net);
}

static void test_heal_removal_is_remembered_7_days(void **state)
{
    struct shl_node_id id = net_id(2);
    struct net net;

    (void)state;
    begin(&net, 4, 12);
    net_crash(&net, 2, true);
    net_remove(&net, 0, 2);
    net_remove(&net, 1, 2);
    net_remove(&net, 3, 2);
    net_crash(&net, 3, true); /* somebody lost keeps the healing loop running */
    net_run(&net, 20000);
    net.wall_s += 6 * 24 * 3600;
    net_run(&net, 20000);
    assert_true(gossip_is_removed(net.nodes[0].core, &id));
    net.wall_s += 2 * 24 * 3600;
    net_run(&net, 20000);
    assert_false(gossip_is_removed(net.nodes[0].core, &id));
    net_release(&net);
}

/* A node that is admitted again (by the log) may return. */
static void test_heal_admission_ends_removal(void **state)
{
    struct gossip_event admit = {.type = GOSSIP_EV_ADMIT};
    struct net net;
    uint32_t i, three = 3;

    (void)state;
    begin(&net, 3, 13);
    net_remove(&net, 0, 2);
    net_remove(&net, 1, 2);
    net_run(&net, 5000);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 2);
    admit.admit.infos = &net.nodes[2].config.self;
    admit.admit.info_count = 1;
    for (i = 0; i < 2; i++) {
        net_step(&net, i, &admit, NULL);
        assert_int_equal(net_life(&net, i, 2), GOSSIP_UNHEARD);
    }
    assert_true(net_run_until(&net, 5000, 10, all_agree, &three));
    net_release(&net);
}

/* memberlist #189, consul #5485: the node came back with another address. */
static void test_heal_returns_with_another_address(void **state)
{
    struct net net;
    struct shl_node_id id = net_id(1);
    uint32_t three = 3;

    (void)state;
    begin(&net, three, 14);
    net_crash(&net, 1, true);
    net_run(&net, 1000);
    (void)snprintf(net.nodes[1].config.self.api, GOSSIP_ADDRESS_SIZE, "elsewhere:1");
    net_start(&net, 1);
    assert_true(net_run_until(&net, 5000, 10, all_agree, &three));
    assert_string_equal(gossip_member_find(net.nodes[2].core, &id)->info.api, "elsewhere:1");
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heal_outage_of_two_minutes),
        cmocka_unit_test(test_heal_partition_of_ten_minutes),
        cmocka_unit_test(test_heal_member_that_lost_everybody),
        cmocka_unit_test(test_heal_mass_restart_at_incarnation_0),
        cmocka_unit_test(test_heal_all_restart_from_their_books),
        cmocka_unit_test(test_heal_isolated_node_knows_soon),
        cmocka_unit_test(test_heal_seed_comes_up_later),
        cmocka_unit_test(test_heal_book_forgets_after_7_days),
        cmocka_unit_test(test_heal_book_outlives_a_long_absence),
        cmocka_unit_test(test_heal_damaged_book_is_refused),
        cmocka_unit_test(test_heal_leave_and_rejoin),
        cmocka_unit_test(test_heal_last_words_reach_everybody),
        cmocka_unit_test(test_heal_left_outranks_suspicion),
        cmocka_unit_test(test_heal_removed_node_stays_out),
        cmocka_unit_test(test_heal_removal_is_remembered_7_days),
        cmocka_unit_test(test_heal_admission_ends_removal),
        cmocka_unit_test(test_heal_returns_with_another_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
