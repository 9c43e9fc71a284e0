/* Linearizable reads without a log write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft_net.h"

static struct net *cluster(uint32_t nodes)
{
    struct net_options options = net_options_default(nodes);
    struct net *net = net_new(&options);

    net_run(net, 5);
    net_campaign(net, 0);
    net_run(net, 80);
    assert_int_equal(net_leader(net), 0);
    return net;
}

static void test_read_sees_what_was_acknowledged_before_it(void **state)
{
    struct net *net = cluster(3);

    (void)state;
    net_propose(net, 0, 1, "x");
    net_run(net, 10);
    net_read(net, 0, 2);
    assert_null(net_result(net, 2)); /* a quorum has to answer first */
    net_run(net, 5);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_DONE);
    assert_in_range(net_result(net, 2)->index, net_result(net, 1)->index, UINT32_MAX);
    net_free(net);
}

static void test_read_one_node_answers_at_once(void **state)
{
    struct net *net = cluster(1);

    (void)state;
    net_read(net, 0, 1);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    net_free(net);
}

/* Answers of before the read do not count, even if they arrive after it. */
static void test_read_needs_a_round_that_began_after_it(void **state)
{
    struct sched_raft_msg answer = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER};
    struct net *net = cluster(3);

    (void)state;
    answer.term = sched_raft_term(net->nodes[0].raft);
    net_isolate(net, 0, true);
    net_read(net, 0, 1);
    net_inject(net, 1, 0, &answer); /* round 0 */
    net_inject(net, 2, 0, &answer);
    assert_null(net_result(net, 1));
    answer.u.append_answer.round = 1;
    net_inject(net, 1, 0, &answer);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_DONE);
    net_read(net, 0, 2);
    answer.u.append_answer.round = 77; /* a round that was never asked */
    net_inject(net, 1, 0, &answer);
    assert_null(net_result(net, 2));
    net_run(net, 600);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_NOT_LEADER);
    net_free(net);
}

static void test_read_waits_for_the_first_entry_of_the_term(void **state)
{
    struct net *net = cluster(3);
    uint64_t before;
    uint32_t leader, other;

    (void)state;
    net_propose(net, 0, 1, "acknowledged by the old leader");
    net_run(net, 60);
    before = net_result(net, 1)->index;
    net_crash(net, 0, true);
    while (net_leader(net) < 0) {
        net_run(net, 1);
        assert_true(net->now_ms < 5000);
    }
    leader = (uint32_t)net_leader(net);
    other = 3 - leader;
    net_disk_hold(net, other); /* it voted, it answers, it does not store */
    net_read(net, leader, 2);
    net_run(net, 120);
    assert_int_equal(sched_raft_role(net->nodes[leader].raft), SCHED_RAFT_LEADER);
    assert_int_equal(sched_raft_commit(net->nodes[leader].raft), before);
    assert_null(net_result(net, 2));
    net_disk_release(net, other);
    net_run(net, 20);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_DONE);
    assert_int_equal(net_result(net, 2)->index, before + 1);
    net_free(net);
}

static bool count_appends(struct net *net,
                          uint32_t from,
                          uint32_t to,
                          const struct sched_raft_msg *msg)
{
    (void)from;
    (void)to;
    *(uint32_t *)net->filter_arg += msg->kind == SCHED_RAFT_MSG_APPEND;
    return true;
}

static void test_read_many_share_a_round(void **state)
{
    struct net *net = cluster(3);
    uint32_t appends = 0;
    uint64_t tag;

    (void)state;
    net->filter = count_appends;
    net->filter_arg = &appends;
    for (tag = 1; tag <= 1000; tag++) {
        net_read(net, 0, tag);
    }
    net_run(net, 20);
    for (tag = 1; tag <= 1000; tag++) {
        assert_int_equal(net_result(net, tag)->reason, SCHED_RAFT_DONE);
    }
    assert_in_range(appends, 4, 8); /* two rounds, two followers, perhaps a heartbeat */
    net_free(net);
}

static void test_read_more_than_the_limit_are_refused(void **state)
{
    struct net *net = cluster(3);
    struct sched_raft_event event = {.type = SCHED_RAFT_READ, .now_ms = net->now_ms};
    struct net_node *n = &net->nodes[0];
    uint32_t i;

    (void)state;
    for (i = 0; i < 4096; i++) {
        event.u.read.tag = i;
        assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), 0);
    }
    event.u.read.tag = 4242;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), 0);
    assert_int_equal(n->actions.items[0].type, SCHED_RAFT_ACT_READ_FAILED);
    assert_int_equal(n->actions.items[0].u.read.reason, SCHED_RAFT_BUSY);
    net_free(net);
}

/* A link that was made anew delivers a rejection of before after what the peer has said since, in
 * the same round even: it has not lost anything. When it says so again, in a later round, it has.
 */
static void test_read_late_rejection_is_not_believed(void **state)
{
    struct sched_raft_msg answer = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER};
    struct net *net = cluster(3);

    (void)state;
    net_propose(net, 0, 1, "stored everywhere");
    net_run(net, 20);
    net_read(net, 0, 2);
    net_run(net, 200); /* heartbeats, too: all is acknowledged in round 1 */
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_DONE);
    net_isolate(net, 0, true);
    answer.term = sched_raft_term(net->nodes[0].raft);
    answer.u.append_answer.rejected = true;
    answer.u.append_answer.index = sched_raft_last_index(net->nodes[0].raft) + 1;
    answer.u.append_answer.hint_index = 1;
    answer.u.append_answer.hint_term = 1;
    net_inject(net, 1, 0, &answer);
    answer.u.append_answer.round = 1;
    net_inject(net, 1, 0, &answer);
    assert_int_equal(net_status(net, 0).peers_forgot, 0);
    answer.u.append_answer.round = 2; /* which began because of that */
    net_inject(net, 1, 0, &answer);
    assert_int_equal(net_status(net, 0).peers_forgot, 1);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_sees_what_was_acknowledged_before_it),
        cmocka_unit_test(test_read_one_node_answers_at_once),
        cmocka_unit_test(test_read_late_rejection_is_not_believed),
        cmocka_unit_test(test_read_needs_a_round_that_began_after_it),
        cmocka_unit_test(test_read_waits_for_the_first_entry_of_the_term),
        cmocka_unit_test(test_read_many_share_a_round),
        cmocka_unit_test(test_read_more_than_the_limit_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
