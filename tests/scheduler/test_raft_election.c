/* Who leads, and who does not: elections, pre-vote, check-quorum, transfer, failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#include "raft_net.h"

static struct net *cluster(uint32_t nodes)
{
    struct net_options options = net_options_default(nodes);

    return net_new(&options);
}

static struct net *cluster_with_leader(uint32_t nodes, uint32_t *ret_leader)
{
    struct net *net = cluster(nodes);
    int leader = net_run_until_leader(net, 2000);

    assert_true(leader >= 0);
    *ret_leader = (uint32_t)leader;
    net_run(net, 60);
    return net;
}

static void test_election_one_node_leads_at_once_and_commits_when_stored(void **state)
{
    struct net *net = cluster(1);

    (void)state;
    net_run(net, 5);
    assert_int_equal(sched_raft_role(net->nodes[0].raft), SCHED_RAFT_LEADER);
    assert_int_equal(sched_raft_term(net->nodes[0].raft), 2);
    net_disk_hold(net, 0);
    net_propose(net, 0, 1, "x");
    net_run(net, 50);
    assert_null(net_result(net, 1));
    net_disk_release(net, 0);
    net_run(net, 5);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    assert_int_equal(net_result(net, 1)->index, 3); /* membership, first entry of the term, this */
    net_free(net);
}

static void test_election_an_empty_node_waits_for_a_leader(void **state)
{
    struct net_options options = net_options_default(2);
    struct net *net;

    (void)state;
    options.voters = 1;
    net = net_new(&options);
    net_run(net, 3000);
    assert_int_equal(sched_raft_term(net->nodes[1].raft), 0);
    assert_int_equal(net->nodes[1].wake_at_ms, SCHED_RAFT_NEVER_MS);
    net_change(net, 0, 1, SCHED_RAFT_ADD_LEARNER, 1);
    assert_true(net_run_until_applied(net, 3, 500));
    assert_int_equal(net_status(net, 1).leader.bytes[0], net->nodes[0].id.bytes[0]);
    net_free(net);
}

/* With 200 to 400 ms: the next leader is there within a second, in 200 of 200 runs. */
static void test_election_a_killed_leader_is_replaced_within_a_second(void **state)
{
    uint64_t seed;

    (void)state;
    for (seed = 1; seed <= 200; seed++) {
        struct net_options options = net_options_default(3);
        struct net *net;
        int leader;

        options.seed = seed;
        options.disk_max_ms = 5;
        net = net_new(&options);
        leader = net_run_until_leader(net, 2000);
        assert_true(leader >= 0);
        net_run(net, 100 + seed);
        net_crash(net, (uint32_t)leader, false);
        assert_true(net_run_until_leader(net, 1000) >= 0);
        net_free(net);
    }
}

static void test_election_pre_vote_keeps_the_term_of_a_node_that_was_cut_off(void **state)
{
    uint32_t leader, away;
    struct net *net = cluster_with_leader(3, &leader);
    uint64_t term = sched_raft_term(net->nodes[leader].raft);

    (void)state;
    away = (leader + 1) % 3;
    net_isolate(net, away, true);
    net_run(net, 5000);
    assert_int_equal(sched_raft_role(net->nodes[away].raft), SCHED_RAFT_PRE_CANDIDATE);
    assert_int_equal(sched_raft_term(net->nodes[away].raft), term);
    net_heal(net);
    net_run(net, 500);
    assert_int_equal(net_leader(net), leader);
    assert_int_equal(sched_raft_term(net->nodes[leader].raft), term);
    assert_int_equal(sched_raft_role(net->nodes[away].raft), SCHED_RAFT_FOLLOWER);
    net_free(net);
}

static void test_election_a_leader_without_a_quorum_steps_down(void **state)
{
    uint32_t leader;
    struct net *net = cluster_with_leader(3, &leader);

    (void)state;
    net_isolate(net, leader, true);
    net_propose(net, leader, 1, "never committed");
    net_read(net, leader, 2);
    net_run(net, 330);
    assert_int_equal(sched_raft_role(net->nodes[leader].raft), SCHED_RAFT_LEADER);
    net_run(net, 400 + 50 - 330 + 5); /* election_max and one heartbeat */
    assert_int_not_equal(sched_raft_role(net->nodes[leader].raft), SCHED_RAFT_LEADER);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_LOST);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_NOT_LEADER);
    net_free(net);
}

/* Also what keeps a removed member from disturbing. */
static void test_election_voters_stick_to_a_leader_they_hear(void **state)
{
    struct sched_raft_msg vote = {.kind = SCHED_RAFT_MSG_VOTE, .term = 50};
    uint32_t leader, a, b;
    struct net *net = cluster_with_leader(3, &leader);
    uint64_t term = sched_raft_term(net->nodes[leader].raft);

    (void)state;
    a = (leader + 1) % 3;
    b = (leader + 2) % 3;
    vote.u.vote.for_term = 50;
    vote.u.vote.last_index = 1000;
    vote.u.vote.last_term = 49;
    net_inject(net, a, b, &vote);
    net_inject(net, a, leader, &vote);
    assert_int_equal(sched_raft_term(net->nodes[b].raft), term);
    assert_int_equal(sched_raft_term(net->nodes[leader].raft), term);
    vote.u.vote.forced = true; /* the leader asked for it */
    net_inject(net, a, b, &vote);
    assert_int_equal(sched_raft_term(net->nodes[b].raft), 50);
    net_free(net);
}

static bool count_granted(struct net *net,
                          uint32_t from,
                          uint32_t to,
                          const struct sched_raft_msg *msg)
{
    (void)from;
    (void)to;
    if (msg->kind == SCHED_RAFT_MSG_VOTE_ANSWER && !msg->u.vote_answer.pre &&
        msg->u.vote_answer.granted) {
        ++*(uint32_t *)net->filter_arg;
    }
    return true;
}

static void test_election_a_vote_is_answered_only_when_stored(void **state)
{
    struct sched_raft_msg vote = {.kind = SCHED_RAFT_MSG_VOTE, .term = 7};
    struct net *net = cluster(3);
    uint32_t granted = 0;

    (void)state;
    net_run(net, 5);
    net->filter = count_granted;
    net->filter_arg = &granted;
    net_disk_hold(net, 1);
    vote.u.vote.for_term = 7;
    vote.u.vote.last_index = 1;
    vote.u.vote.last_term = 1;
    net_inject(net, 0, 1, &vote);
    net_run(net, 50);
    assert_int_equal(granted, 0);
    net_disk_release(net, 1);
    net_run(net, 5);
    assert_int_equal(granted, 1);
    assert_int_equal(net->nodes[1].disk.term, 7);
    assert_memory_equal(&net->nodes[1].disk.vote, &net->nodes[0].id, sizeof(struct shl_node_id));
    /* Asked again, and restarted and asked again: the same answer; another candidate: none. */
    net_inject(net, 0, 1, &vote);
    net_crash(net, 1, false);
    net_start(net, 1);
    net_inject(net, 2, 1, &vote);
    assert_int_equal(granted, 2);
    net_inject(net, 0, 1, &vote);
    assert_int_equal(granted, 3);
    net_free(net);
}

static void test_election_no_vote_for_a_log_that_lacks_entries(void **state)
{
    static const struct {
        uint64_t last_index, last_term;
        bool granted;
    } cases[] = {{3, 2, true},  {4, 2, true},  {2, 3, true}, {2, 2, false},
                 {9, 1, false}, {1, 1, false}, {3, 3, true}};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        struct net_options options = net_options_default(3);
        struct sched_raft_msg vote = {.kind = SCHED_RAFT_MSG_VOTE, .term = 5};
        uint32_t granted = 0;
        struct net *net;

        options.voters = 0;
        net = net_new(&options);
        net_disk_write(net, 0, 4, 3, "2 2");
        net_start(net, 0);
        net->filter = count_granted;
        net->filter_arg = &granted;
        vote.u.vote.for_term = 5;
        vote.u.vote.last_index = cases[i].last_index;
        vote.u.vote.last_term = cases[i].last_term;
        net_inject(net, 1, 0, &vote);
        net_run(net, 5);
        assert_int_equal(granted, cases[i].granted);
        net_free(net);
    }
}

static void test_election_leadership_moves_on_request(void **state)
{
    uint32_t leader, target, i;
    struct net *net = cluster_with_leader(3, &leader);

    (void)state;
    target = (leader + 2) % 3;
    for (i = 0; i < 50; i++) {
        net_propose(net, leader, 100 + i, "to be caught up with first");
    }
    net_transfer(net, leader, 1, (int)target);
    net_propose(net, leader, 2, "too late");
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_TRANSFERRING);
    net_run(net, 30); /* no election timeout is waited for */
    assert_int_equal(net_leader(net), target);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    net_free(net);
}

static void test_election_a_transfer_to_a_dead_node_ends_and_the_leader_goes_on(void **state)
{
    uint32_t leader, target;
    struct net *net = cluster_with_leader(3, &leader);

    (void)state;
    target = (leader + 1) % 3;
    net_crash(net, target, true);
    net_propose(net, leader, 1, "the target lacks this");
    net_transfer(net, leader, 2, (int)target);
    net_transfer(net, leader, 3, -1);
    assert_int_equal(net_result(net, 3)->reason, SCHED_RAFT_BUSY);
    net_run(net, 450);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_TIMED_OUT);
    assert_int_equal(net_leader(net), leader);
    net_propose(net, leader, 4, "as before");
    net_run(net, 20);
    assert_int_equal(net_result(net, 4)->reason, SCHED_RAFT_DONE);
    net_transfer(net, leader, 5, (int)leader);
    assert_int_equal(net_result(net, 5)->reason, SCHED_RAFT_EXISTS);
    net_free(net);
}

static void test_election_followers_refuse_and_name_the_leader(void **state)
{
    uint32_t leader, other;
    struct net *net = cluster_with_leader(3, &leader);
    struct shl_node_id known;

    (void)state;
    other = (leader + 1) % 3;
    net_propose(net, other, 1, "x");
    net_read(net, other, 2);
    net_change(net, other, 3, SCHED_RAFT_REMOVE, leader);
    net_transfer(net, other, 4, -1);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_NOT_LEADER);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_NOT_LEADER);
    assert_int_equal(net_result(net, 3)->reason, SCHED_RAFT_NOT_LEADER);
    assert_int_equal(net_result(net, 4)->reason, SCHED_RAFT_NOT_LEADER);
    known = sched_raft_leader(net->nodes[other].raft);
    assert_memory_equal(&known, &net->nodes[leader].id, sizeof(known));
    net_free(net);
}

static void test_election_a_failed_disk_ends_the_node_and_the_others_go_on(void **state)
{
    struct sched_raft_event failed = {.type = SCHED_RAFT_PERSIST_FAILED};
    uint32_t leader;
    struct net *net = cluster_with_leader(3, &leader);

    (void)state;
    net_propose(net, leader, 1, "under way");
    net_step(net, leader, &failed);
    assert_int_equal(sched_raft_role(net->nodes[leader].raft), SCHED_RAFT_FAILED);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_LOST);
    net_propose(net, leader, 2, "x");
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_STOPPED);
    net_read(net, leader, 3);
    assert_int_equal(net_result(net, 3)->reason, SCHED_RAFT_STOPPED);
    assert_int_equal(net->nodes[leader].wake_at_ms, SCHED_RAFT_NEVER_MS);
    net_crash(net, leader, false);
    assert_true(net_run_until_leader(net, 1500) >= 0);
    net_free(net);
}

/* A witness leads only when nobody else stands. */
static void test_election_a_witness_lets_full_voters_go_first(void **state)
{
    uint64_t seed, by_witness = 0;

    (void)state;
    for (seed = 1; seed <= 50; seed++) {
        struct net_options options = net_options_default(3);
        struct sched_raft_event bootstrap = {.type = SCHED_RAFT_BOOTSTRAP};
        struct sched_raft_membership m = {0};
        struct net *net;
        uint32_t i;

        options.seed = seed;
        options.voters = 0;
        net = net_new(&options);
        for (i = 0; i < 3; i++) {
            struct sched_raft_member member = {
                .id = net->nodes[i].id, .standing = SCHED_RAFT_VOTER, .witness = i == 0};

            assert_int_equal(sched_raft_membership_set(&m, &member), 0);
        }
        bootstrap.u.bootstrap.membership = &m;
        for (i = 0; i < 3; i++) {
            net_start(net, i);
            net_step(net, i, &bootstrap);
        }
        by_witness += net_run_until_leader(net, 3000) == 0;
        /* The only one that has what is committed still leads when it must. */
        if (seed == 1) {
            uint32_t leader = (uint32_t)net_leader(net), other = 3 - leader;

            net_run(net, 100);
            net_isolate(net, other, true);
            net_propose(net, leader, 1, "on the leader and the witness");
            net_run(net, 20);
            net_crash(net, leader, true);
            net_heal(net);
            assert_int_equal(net_run_until_leader(net, 3000), 0);
        }
        net_free(net);
    }
    assert_int_equal(by_witness, 0);
}

static void test_election_bytes_that_are_no_message_change_nothing(void **state)
{
    uint32_t leader, round, i;
    struct net *net = cluster_with_leader(3, &leader);
    struct sched_raft_event event = {.type = SCHED_RAFT_RECV, .now_ms = net->now_ms};
    struct net_node *n = &net->nodes[leader];
    uint8_t bytes[64];

    (void)state;
    for (round = 0; round < 20000; round++) {
        for (i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)net_random(net, 256);
        }
        event.u.recv.from = net->nodes[(leader + 1) % 3].id;
        event.u.recv.bytes = shl_bytes_of(bytes, net_random(net, sizeof(bytes) + 1));
        assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EPROTO);
        assert_int_equal(n->actions.count, 0);
    }
    event.u.recv.from = n->id; /* a node does not write to itself */
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EPROTO);
    event.type = SCHED_RAFT_PERSISTED;
    event.u.persisted.seq = 12345;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EINVALIDARG);
    event.type = SCHED_RAFT_BOOTSTRAP;
    event.u.bootstrap.membership = sched_raft_membership(n->raft);
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EBADSTATE);
    assert_null(sched_raft_check(n->raft));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_election_one_node_leads_at_once_and_commits_when_stored),
        cmocka_unit_test(test_election_an_empty_node_waits_for_a_leader),
        cmocka_unit_test(test_election_a_killed_leader_is_replaced_within_a_second),
        cmocka_unit_test(test_election_pre_vote_keeps_the_term_of_a_node_that_was_cut_off),
        cmocka_unit_test(test_election_a_leader_without_a_quorum_steps_down),
        cmocka_unit_test(test_election_voters_stick_to_a_leader_they_hear),
        cmocka_unit_test(test_election_a_vote_is_answered_only_when_stored),
        cmocka_unit_test(test_election_no_vote_for_a_log_that_lacks_entries),
        cmocka_unit_test(test_election_leadership_moves_on_request),
        cmocka_unit_test(test_election_a_transfer_to_a_dead_node_ends_and_the_leader_goes_on),
        cmocka_unit_test(test_election_followers_refuse_and_name_the_leader),
        cmocka_unit_test(test_election_a_failed_disk_ends_the_node_and_the_others_go_on),
        cmocka_unit_test(test_election_a_witness_lets_full_voters_go_first),
        cmocka_unit_test(test_election_bytes_that_are_no_message_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
