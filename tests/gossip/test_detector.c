/* Who is alive: crashes are found, everything else is not taken for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/gossip/net.h"

struct about {
    uint32_t subject;
    enum gossip_life life;
};

static bool all_think(struct net *net, void *arg)
{
    const struct about *about = arg;
    uint32_t i;

    for (i = 0; i < net->count; i++) {
        if (net->nodes[i].core && i != about->subject &&
            net_life(net, i, about->subject) != about->life) {
            return false;
        }
    }
    return true;
}

static bool all_agree(struct net *net, void *arg)
{
    return net_agrees(net, *(uint32_t *)arg);
}

static uint32_t deaths(const struct net *net)
{
    uint32_t i, sum = 0;

    for (i = 0; i < net->count; i++) {
        sum += net->nodes[i].deaths;
    }
    return sum;
}

static struct gossip_counters counters(const struct net *net, uint32_t index)
{
    struct gossip_counters ret;

    gossip_counters(net->nodes[index].core, &ret);
    return ret;
}

static void begin(struct net *net, uint32_t count, uint64_t seed)
{
    net_init(net, count, seed);
    net_start_all(net);
    assert_true(net_run_until(net, 5000, 10, all_agree, &count));
    net_run(net, 5000);
    assert_int_equal(deaths(net), 0);
}

static void test_detector_process_crash_is_known_to_all_in_4_s(void **state)
{
    static const uint32_t sizes[] = {2, 3, 5, 30, 100};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        struct about dead = {sizes[i] - 1, GOSSIP_DEAD};
        struct net net;

        begin(&net, sizes[i], i);
        net_crash(&net, dead.subject, true);
        assert_true(net_run_until(&net, 4000, 10, all_think, &dead));
        assert_int_equal(deaths(&net), sizes[i] - 1);
        net_release(&net);
    }
}

/* Power lost: no reset, only bytes that nobody acknowledges. */
static void test_detector_silent_crash_is_found_by_unacknowledged_bytes(void **state)
{
    struct about dead = {7, GOSSIP_DEAD};
    struct net net;

    (void)state;
    begin(&net, 30, 3);
    net_crash(&net, dead.subject, false);
    assert_true(net_run_until(&net, 6000, 10, all_think, &dead));
    assert_int_equal(deaths(&net), 29);
    net_release(&net);
}

/* Without any word from the transport it takes the longer suspicion, but it is found. */
static void test_detector_crash_without_link_events(void **state)
{
    struct about dead = {7, GOSSIP_DEAD};
    struct net net;

    (void)state;
    net_init(&net, 10, 4);
    net.has_links = false;
    net_start_all(&net);
    net_run(&net, 5000);
    net_crash(&net, dead.subject, true);
    net_run(&net, 5900);
    assert_int_equal(deaths(&net), 0);
    assert_true(net_run_until(&net, 20000, 10, all_think, &dead));
    net_release(&net);
}

/* consul #1212, #1337: overloaded machines made healthy peers flap. */
static void test_detector_stalls_of_5_s_kill_nobody(void **state)
{
    struct net net;
    uint32_t round, i;

    (void)state;
    begin(&net, 30, 5);
    for (round = 0; round < 20; round++) {
        for (i = 0; i < 3; i++) {
            net_stall(&net, (uint32_t)(net_random(&net) % net.count), 5000);
        }
        net_run(&net, 5000 + net_random(&net) % 500);
    }
    net_run(&net, 10000);
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
}

/* A node that was late accuses nobody for the acks it did not read in time. */
static void test_detector_late_loop_accuses_nobody(void **state)
{
    struct net net;
    uint32_t round, everybody = 10;

    (void)state;
    begin(&net, everybody, 6);
    net.delay_ms = 200; /* acks are on their way when it stops */
    for (round = 0; round < 10; round++) {
        net_stall(&net, 4, 2500);
        net_run(&net, 4000);
    }
    assert_int_equal(counters(&net, 4).accusations, 0);
    assert_in_range(counters(&net, 4).lags, 8, 10);
    assert_true(net_run_until(&net, 20000, 10, all_agree, &everybody));
    assert_int_equal(counters(&net, 4).health, 0);
    net_release(&net);
}

/* Told of a lag, it does not hold the probes under way against anybody. */
static void test_detector_lag_event_excuses_probes_under_way(void **state)
{
    struct gossip_event lag = {.type = GOSSIP_EV_LOOP_LAG, .lag_ms = 800};
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 5, 7);
    net.has_links = false;
    net_start_all(&net);
    net_run(&net, 3000);
    for (i = 1; i < 5; i++) {
        net_cut(&net, 0, i, true);
    }
    net_run(&net, 900); /* pings and second pings are lost, no probe has ended */
    net_step(&net, 0, &lag, NULL);
    net_run(&net, 150);
    for (i = 1; i < 5; i++) {
        net_cut(&net, 0, i, false);
    }
    net_run(&net, 3000);
    assert_int_equal(counters(&net, 0).accusations, 0);
    assert_int_equal(counters(&net, 0).lags, 1);
    net_release(&net);
}

/* consul #5928, #5567: one half-detached node started a storm that flapped hundreds. */
static void test_detector_half_detached_node_kills_nobody(void **state)
{
    struct net net;
    uint32_t i, everybody = 30;

    (void)state;
    begin(&net, everybody, 8);
    for (i = 10; i < 25; i++) {
        net_cut(&net, 3, i, true);
        net_cut(&net, i, 3, true);
    }
    net_run(&net, 60000);
    assert_int_equal(deaths(&net), 0);
    for (i = 10; i < 25; i++) {
        net_cut(&net, 3, i, false);
        net_cut(&net, i, 3, false);
    }
    assert_true(net_run_until(&net, 30000, 10, all_agree, &everybody));
    net_release(&net);
}

/* One broken connection is no crash: its peer may be silent for another reason. */
static void test_detector_stall_behind_a_broken_link_kills_nobody(void **state)
{
    struct net net;

    (void)state;
    begin(&net, 10, 15);
    net_cut(&net, 1, 2, true);
    net_cut(&net, 2, 1, true);
    net_run(&net, 20000);
    net_stall(&net, 2, 5000);
    net_run(&net, 20000);
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
}

/* daos #10435: not suspect after the direct ping alone; helpers reach it. */
static void test_detector_one_broken_path_is_no_suspicion(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    begin(&net, 10, 9);
    net_cut(&net, 1, 2, true);
    net_cut(&net, 2, 1, true);
    net_run(&net, 30000);
    for (i = 0; i < net.count; i++) {
        assert_int_equal(counters(&net, i).accusations, 0);
    }
    assert_int_not_equal(counters(&net, 1).probes, 0);
    net_release(&net);
}

/* Loss of one message in ten, for two minutes. */
static void test_detector_loss_kills_nobody(void **state)
{
    struct net net;

    (void)state;
    begin(&net, 30, 10);
    net.loss = 0.1;
    net_run(&net, 120000);
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
}

/* A quick restart (a new daemon) is over before the suspicion is. */
static void test_detector_quick_restart_is_no_death(void **state)
{
    struct net net;
    uint32_t everybody = 10;

    (void)state;
    begin(&net, everybody, 11);
    net_crash(&net, 5, true);
    net_run(&net, 800);
    net_start(&net, 5);
    assert_true(net_run_until(&net, 5000, 10, all_agree, &everybody));
    net_run(&net, 10000);
    assert_int_equal(deaths(&net), 0);
    net_release(&net);
}

static void test_detector_flapping_node_is_not_placeable(void **state)
{
    struct shl_node_id id = net_id(2);
    struct about dead = {2, GOSSIP_DEAD}, alive = {2, GOSSIP_ALIVE};
    struct net net;
    uint32_t round;

    (void)state;
    begin(&net, 5, 12);
    for (round = 0; round < 4; round++) {
        assert_true(gossip_is_placeable(net.nodes[0].core, &id, net.now_ms));
        net_crash(&net, 2, true);
        assert_true(net_run_until(&net, 10000, 10, all_think, &dead));
        assert_false(gossip_is_placeable(net.nodes[0].core, &id, net.now_ms));
        net_start(&net, 2);
        assert_true(net_run_until(&net, 10000, 10, all_think, &alive));
    }
    assert_true(gossip_flap_score(net.nodes[0].core, &id, net.now_ms) > 3);
    assert_false(gossip_is_placeable(net.nodes[0].core, &id, net.now_ms));
    net_run(&net, 59000);
    assert_false(gossip_is_placeable(net.nodes[0].core, &id, net.now_ms));
    net_run(&net, 2000);
    assert_true(gossip_is_placeable(net.nodes[0].core, &id, net.now_ms));
    net_release(&net);
}

/* Idle cores sleep: between probes nothing wakes, alone not even those. */
static void test_detector_idle_is_cheap(void **state)
{
    struct net net;
    uint64_t steps;

    (void)state;
    begin(&net, 10, 13);
    net_run(&net, 10000);
    steps = net.steps;
    net_run(&net, 10000);
    /* Per second and node: three probes, each a timer, a ping and an ack, and little else. */
    assert_in_range(net.steps - steps, 600, 1200);
    net_release(&net);
    net_init(&net, 1, 13);
    net_start(&net, 0);
    net_run(&net, 10000);
    steps = net.steps;
    net_run(&net, 3600000);
    assert_int_equal(net.steps, steps);
    assert_true(net.nodes[0].actions.wake_at_ms == UINT64_MAX);
    net_release(&net);
}

static void test_detector_equal_seeds_give_equal_runs(void **state)
{
    uint64_t digests[2];
    int run;

    (void)state;
    for (run = 0; run < 2; run++) {
        struct net net;

        net_init(&net, 20, 14);
        net.loss = 0.1;
        net.jitter_ms = 20;
        net_start_all(&net);
        net_run(&net, 20000);
        net_crash(&net, 3, false);
        net_stall(&net, 4, 3000);
        net_run(&net, 20000);
        digests[run] = net.digest;
        net_release(&net);
    }
    assert_true(digests[0] == digests[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detector_process_crash_is_known_to_all_in_4_s),
        cmocka_unit_test(test_detector_silent_crash_is_found_by_unacknowledged_bytes),
        cmocka_unit_test(test_detector_crash_without_link_events),
        cmocka_unit_test(test_detector_stalls_of_5_s_kill_nobody),
        cmocka_unit_test(test_detector_late_loop_accuses_nobody),
        cmocka_unit_test(test_detector_lag_event_excuses_probes_under_way),
        cmocka_unit_test(test_detector_half_detached_node_kills_nobody),
        cmocka_unit_test(test_detector_stall_behind_a_broken_link_kills_nobody),
        cmocka_unit_test(test_detector_one_broken_path_is_no_suspicion),
        cmocka_unit_test(test_detector_loss_kills_nobody),
        cmocka_unit_test(test_detector_quick_restart_is_no_death),
        cmocka_unit_test(test_detector_flapping_node_is_not_placeable),
        cmocka_unit_test(test_detector_idle_is_cheap),
        cmocka_unit_test(test_detector_equal_seeds_give_equal_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
