/* Membership: each rule of single-member changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft_net.h"

/* @voters of @nodes found the cluster; node 0 leads. */
static struct net *cluster(uint32_t nodes, uint32_t voters)
{
    struct net_options options = net_options_default(nodes);
    struct net *net;

    options.voters = voters;
    net = net_new(&options);
    net_run(net, 5);
    net_campaign(net, 0);
    net_run(net, 60);
    assert_int_equal(net_leader(net), 0);
    return net;
}

static enum sched_raft_reason change(struct net *net, enum sched_raft_change_op op, uint32_t node)
{
    static uint64_t tag = 100;

    net_change(net, 0, ++tag, op, node);
    net_run(net, 100);
    return net_result(net, tag)->reason;
}

static uint32_t voters(const struct net *net, uint32_t node)
{
    return sched_raft_membership_voters(sched_raft_membership(net->nodes[node].raft));
}

static void test_change_one_node_grows_to_three_voters(void **state)
{
    struct net *net = cluster(3, 1);

    (void)state;
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 1), SCHED_RAFT_NO_MEMBER);
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 1), SCHED_RAFT_DONE);
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 1), SCHED_RAFT_EXISTS);
    assert_int_equal(voters(net, 1), 1);
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 1), SCHED_RAFT_DONE);
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 1), SCHED_RAFT_EXISTS);
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 2), SCHED_RAFT_DONE);
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 2), SCHED_RAFT_DONE);
    assert_int_equal(voters(net, 2), 3);
    net_crash(net, 0, false);
    assert_true(net_run_until_leader(net, 1500) > 0);
    net_free(net);
}

static void test_change_one_at_a_time_and_not_before_an_entry_of_the_term(void **state)
{
    struct net *net = cluster(4, 3);

    (void)state;
    net_change(net, 0, 1, SCHED_RAFT_ADD_LEARNER, 3);
    net_change(net, 0, 2, SCHED_RAFT_REMOVE, 2);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_BUSY);
    net_run(net, 50);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    net_free(net);

    net = cluster(3, 3);
    net_crash(net, 0, true);
    net_crash(net, 1, true);
    net_crash(net, 2, true);
    net_start(net, 0);
    net_start(net, 1);
    net_campaign(net, 0);
    while (sched_raft_role(net->nodes[0].raft) != SCHED_RAFT_LEADER) {
        net_run(net, 1);
        assert_true(net->now_ms < 5000);
    }
    net_change(net, 0, 3, SCHED_RAFT_REMOVE, 2);
    assert_int_equal(net_result(net, 3)->reason, SCHED_RAFT_BUSY);
    net_free(net);
}

static void test_change_promotion_waits_until_the_learner_has_caught_up(void **state)
{
    struct net *net = cluster(3, 2);
    uint64_t i;

    (void)state;
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 2), SCHED_RAFT_DONE);
    net_isolate(net, 2, true);
    for (i = 0; i < 70; i++) { /* promote_lag is 64 */
        net_propose(net, 0, 1000 + i, "x");
        net_run(net, 1);
    }
    net_change(net, 0, 1, SCHED_RAFT_PROMOTE, 2);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_NOT_CAUGHT_UP);
    net_run(net, 1000);
    net_heal(net);
    assert_true(net_run_until_applied(net, net->nodes[0].applied, 500));
    net_run(net, 20);
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 2), SCHED_RAFT_DONE);
    /* In step, but silent for longer than an election timeout. */
    assert_int_equal(change(net, SCHED_RAFT_DEMOTE, 2), SCHED_RAFT_DONE);
    net_isolate(net, 2, true);
    net_run(net, 600);
    net_change(net, 0, 2, SCHED_RAFT_PROMOTE, 2);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_NOT_CAUGHT_UP);
    net_free(net);
}

static void test_change_learners_neither_vote_nor_count(void **state)
{
    struct net *net = cluster(3, 1);

    (void)state;
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 1), SCHED_RAFT_DONE);
    assert_int_equal(change(net, SCHED_RAFT_ADD_LEARNER, 2), SCHED_RAFT_DONE);
    net_propose(net, 0, 1, "reaches learners");
    net_run(net, 50);
    assert_int_equal(net->nodes[2].applied, net_result(net, 1)->index);
    net_crash(net, 0, false);
    assert_int_equal(net_run_until_leader(net, 3000), -1);
    assert_int_equal(sched_raft_role(net->nodes[1].raft), SCHED_RAFT_FOLLOWER);
    net_start(net, 0);
    net_isolate(net, 0, true);
    net_run(net, 20);
    net_propose(net, 0, 2, "needs no learner");
    net_run(net, 20);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_DONE);
    net_free(net);
}

static void test_change_a_removed_leader_commits_that_and_names_its_successor(void **state)
{
    struct net *net = cluster(3, 3);

    (void)state;
    net_change(net, 0, 1, SCHED_RAFT_REMOVE, 0);
    net_run(net, 30); /* no election timeout is waited for */
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    assert_int_equal(sched_raft_role(net->nodes[0].raft), SCHED_RAFT_FOLLOWER);
    assert_true(net_leader(net) > 0);
    assert_int_equal(voters(net, (uint32_t)net_leader(net)), 2);
    net_run(net, 5000); /* and it stays away */
    assert_int_equal(sched_raft_role(net->nodes[0].raft), SCHED_RAFT_FOLLOWER);
    net_free(net);
}

/* It does not hear of its removal, goes on standing, and disturbs nobody. */
static void test_change_a_removed_member_does_not_disturb(void **state)
{
    struct net *net = cluster(3, 3);
    uint64_t term;

    (void)state;
    net_isolate(net, 2, true);
    assert_int_equal(change(net, SCHED_RAFT_REMOVE, 2), SCHED_RAFT_DONE);
    net_heal(net);
    term = sched_raft_term(net->nodes[0].raft);
    net_run(net, 5000);
    assert_int_equal(net_leader(net), 0);
    assert_int_equal(sched_raft_term(net->nodes[0].raft), term);
    assert_int_equal(sched_raft_term(net->nodes[2].raft), term);
    net_free(net);
}

static void test_change_the_last_full_voter_stays(void **state)
{
    struct net *net = cluster(2, 1);
    struct sched_raft_event witness = {.type = SCHED_RAFT_CHANGE};

    (void)state;
    assert_int_equal(change(net, SCHED_RAFT_REMOVE, 0), SCHED_RAFT_LAST_VOTER);
    assert_int_equal(change(net, SCHED_RAFT_DEMOTE, 0), SCHED_RAFT_LAST_VOTER);
    witness.u.change.tag = 1;
    witness.u.change.op = SCHED_RAFT_ADD_LEARNER;
    witness.u.change.id = net->nodes[1].id;
    witness.u.change.witness = true;
    net_step(net, 0, &witness);
    net_run(net, 100);
    assert_int_equal(change(net, SCHED_RAFT_PROMOTE, 1), SCHED_RAFT_DONE);
    assert_int_equal(change(net, SCHED_RAFT_REMOVE, 0), SCHED_RAFT_LAST_VOTER);
    assert_int_equal(change(net, SCHED_RAFT_REMOVE, 1), SCHED_RAFT_DONE);
    net_free(net);
}

/* A change that never was committed is undone with its entry, on the node that made it. */
static void test_change_an_overwritten_membership_is_taken_back(void **state)
{
    struct net *net = cluster(4, 3);

    (void)state;
    net_isolate(net, 0, true);
    net_change(net, 0, 1, SCHED_RAFT_REMOVE, 1);
    assert_int_equal(voters(net, 0), 2); /* in use at once */
    net_run(net, 1500);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_LOST);
    assert_true(net_leader(net) > 0);
    net_heal(net);
    net_run(net, 500);
    assert_int_equal(voters(net, 0), 3);
    assert_int_equal(net_status(net, 0).membership_index, 1);
    net_free(net);
}

/* Nodes 0 and 2 hold a membership of 0, the leader, and 1, whose log is behind. When 0 is
 * elected out of it and restarts, 1 cannot win without the log and 0 stands although the
 * membership in its log has no vote for it. */
static void test_change_a_voter_that_goes_still_stands_until_it_is_committed(void **state)
{
    struct net *net = cluster(2, 2);

    (void)state;
    net_isolate(net, 1, true);
    net_change(net, 0, 1, SCHED_RAFT_REMOVE, 0); /* stored on node 0 only */
    net_run(net, 5);
    assert_int_equal(voters(net, 0), 1);
    net_crash(net, 0, true);
    net_start(net, 0);
    net_heal(net);
    /* Node 0 is elected by node 1 alone, commits its removal and goes. */
    net_run(net, 3000);
    assert_int_equal(net_leader(net), 1);
    assert_int_equal(voters(net, 1), 1);
    assert_true(net->nodes[0].applied >= 3); /* its removal: it knows */
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change_one_node_grows_to_three_voters),
        cmocka_unit_test(test_change_one_at_a_time_and_not_before_an_entry_of_the_term),
        cmocka_unit_test(test_change_promotion_waits_until_the_learner_has_caught_up),
        cmocka_unit_test(test_change_learners_neither_vote_nor_count),
        cmocka_unit_test(test_change_a_removed_leader_commits_that_and_names_its_successor),
        cmocka_unit_test(test_change_a_removed_member_does_not_disturb),
        cmocka_unit_test(test_change_the_last_full_voter_stays),
        cmocka_unit_test(test_change_an_overwritten_membership_is_taken_back),
        cmocka_unit_test(test_change_a_voter_that_goes_still_stands_until_it_is_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
