/* Logs become one log: figure 7, pipelining, limits, what is refused, what a restart finds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#include "raft_net.h"

struct traffic {
    uint32_t appends, rejections, entries, in_a_row, in_a_row_max;
};

static bool count_traffic(struct net *net,
                          uint32_t from,
                          uint32_t to,
                          const struct sched_raft_msg *msg)
{
    struct traffic *t = net->filter_arg;

    (void)from;
    (void)to;
    if (msg->kind == SCHED_RAFT_MSG_APPEND) {
        t->appends++;
        t->entries += msg->u.append.count;
        t->in_a_row += msg->u.append.count > 0;
        t->in_a_row_max = SHL_MAX(t->in_a_row_max, t->in_a_row);
    } else if (msg->kind == SCHED_RAFT_MSG_APPEND_ANSWER) {
        t->rejections += msg->u.append_answer.rejected;
        t->in_a_row = 0;
    }
    return true;
}

/* Followers a to f of figure 7 and the leader of term 8; entry 1 is the membership here. */
static void test_log_figure_7_followers_become_like_the_leader(void **state)
{
    static const struct {
        uint64_t term;
        const char *terms;
        uint32_t rejections_max; /* one per term that differs, at most */
    } followers[] = {
        {6, "1 1 4 4 5 5 6 6", 1},       {4, "1 1 4", 1},       {6, "1 1 4 4 5 5 6 6 6 6", 1},
        {7, "1 1 4 4 5 5 6 6 6 7 7", 1}, {4, "1 1 4 4 4 4", 2}, {3, "1 1 2 2 2 3 3 3 3 3", 2},
    };
    struct net_options options = net_options_default(7);
    struct traffic traffic = {0};
    uint32_t i, rejections_max = 0;
    struct net *net;
    char terms[128];

    (void)state;
    options.voters = 0;
    net = net_new(&options);
    net_disk_write(net, 6, 7, 7, "1 1 4 4 5 5 6 6 6");
    for (i = 0; i < 6; i++) {
        net_disk_write(net, i, followers[i].term, 7, followers[i].terms);
        rejections_max += followers[i].rejections_max;
    }
    for (i = 0; i < 7; i++) {
        net_start(net, i);
    }
    net->filter = count_traffic;
    net->filter_arg = &traffic;
    net_campaign(net, 6);
    net_run(net, 30);
    assert_int_equal(net_leader(net), 6);
    assert_int_equal(sched_raft_term(net->nodes[6].raft), 8);
    for (i = 0; i < 7; i++) {
        net_log_terms(net, i, terms, sizeof(terms));
        assert_string_equal(terms, "1 1 4 4 5 5 6 6 6 8");
        assert_int_equal(net->nodes[i].applied, 11);
    }
    assert_in_range(traffic.rejections, 1, rejections_max);
    net_free(net);
}

/* 5,000 entries apart: the place is found in a handful of messages. */
static void test_log_backtracking_skips_whole_terms(void **state)
{
    struct net_options options = net_options_default(3);
    struct traffic traffic = {0};
    char *long_log = calloc(1, 40000), *short_log = calloc(1, 40000);
    struct net *net;
    uint32_t i;

    (void)state;
    assert_non_null(long_log);
    assert_non_null(short_log);
    for (i = 0; i < 5000; i++) {
        memcpy(long_log + 2 * i, "9 ", 2);
        memcpy(short_log + 2 * i, "3 ", 2);
    }
    options.voters = 0;
    net = net_new(&options);
    net_disk_write(net, 0, 9, 3, long_log);
    net_disk_write(net, 1, 9, 3, long_log);
    net_disk_write(net, 2, 8, 3, short_log);
    for (i = 0; i < 3; i++) {
        net_start(net, i);
    }
    net->filter = count_traffic;
    net->filter_arg = &traffic;
    net_campaign(net, 0);
    net_run(net, 100);
    assert_int_equal(net->nodes[2].applied, 5002);
    assert_in_range(traffic.rejections, 1, 3);
    net_free(net);
    free(long_log);
    free(short_log);
}

static struct net *cluster_with_leader(const struct net_options *options, uint32_t *ret_leader)
{
    struct net *net = net_new(options);
    int leader = net_run_until_leader(net, 2000);

    assert_true(leader >= 0);
    *ret_leader = (uint32_t)leader;
    net_run(net, 60);
    return net;
}

/* One proposal per millisecond, disks that take five: everything goes on being committed
 * while the stream lasts, in batches. */
static void test_log_a_steady_stream_does_not_starve(void **state)
{
    struct net_options options = net_options_default(3);
    uint64_t tag, committed;
    uint32_t leader;
    struct net *net;

    (void)state;
    options.disk_min_ms = 5;
    options.disk_max_ms = 5;
    net = cluster_with_leader(&options, &leader);
    for (tag = 1; tag <= 1000; tag++) {
        net_propose(net, leader, tag, "one of many");
        net_run(net, 1);
        if (tag > 50) {
            committed = sched_raft_commit(net->nodes[leader].raft);
            assert_in_range(sched_raft_last_index(net->nodes[leader].raft) - committed, 0, 20);
        }
    }
    net_run(net, 50);
    for (tag = 1; tag <= 1000; tag++) {
        assert_int_equal(net_result(net, tag)->reason, SCHED_RAFT_DONE);
    }
    net_free(net);
}

static void test_log_no_more_than_the_limit_is_under_way(void **state)
{
    struct net_options options = net_options_default(2);
    struct traffic traffic = {0};
    uint32_t leader, i;
    struct net *net;

    (void)state;
    options.snapshot_entries = 100000; /* small messages: 4 entries, 3 under way */
    net = cluster_with_leader(&options, &leader);
    net->filter = count_traffic;
    net->filter_arg = &traffic;
    for (i = 0; i < 40; i++) {
        net_propose(net, leader, 1 + i, "x");
    }
    assert_int_equal(traffic.in_a_row_max, 3);
    net_run(net, 100);
    assert_int_equal(net_result(net, 40)->reason, SCHED_RAFT_DONE);
    assert_in_range(traffic.in_a_row_max, 1, 3);
    assert_int_equal(traffic.entries, 40);
    net_free(net);
}

static void test_log_a_lost_message_is_noticed_by_the_next_heartbeat(void **state)
{
    struct net_options options = net_options_default(3);
    uint32_t leader, other;
    struct net *net;

    (void)state;
    net = cluster_with_leader(&options, &leader);
    other = (leader + 1) % 3;
    net_cut_both(net, leader, other, true);
    net_propose(net, leader, 1, "lost on the way to one");
    net_run(net, 5);
    net_cut_both(net, leader, other, false);
    assert_true(net_run_until_applied(net, net_result(net, 1)->index, 120));
    net_free(net);
}

static void test_log_refusals_say_why(void **state)
{
    struct net_options options = net_options_default(3);
    struct sched_raft_event event = {.type = SCHED_RAFT_PROPOSE};
    uint8_t *large = calloc(1, SCHED_RAFT_COMMAND_BYTES_MAX + 1);
    uint32_t leader, i;
    struct net *net;

    (void)state;
    assert_non_null(large);
    net = cluster_with_leader(&options, &leader);
    event.u.propose.tag = 1;
    event.u.propose.command = shl_bytes_of(large, SCHED_RAFT_COMMAND_BYTES_MAX + 1);
    net_step(net, leader, &event);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_TOO_LARGE);
    /* The largest one goes, and far. */
    event.u.propose.tag = 2;
    event.u.propose.command.len = SCHED_RAFT_COMMAND_BYTES_MAX;
    net_step(net, leader, &event);
    net_run(net, 20);
    assert_int_equal(net_result(net, 2)->reason, SCHED_RAFT_DONE);
    /* 16 MiB uncommitted are the limit. */
    net_isolate(net, leader, true);
    for (i = 0; i < 64; i++) {
        event.u.propose.tag = 10 + i;
        net_step(net, leader, &event);
    }
    assert_int_equal(net_result(net, 73)->reason, SCHED_RAFT_LOG_FULL);
    assert_null(net_result(net, 72));
    net_free(net);
    free(large);
}

/* An entry of a leader that lost its place is gone, and its proposer hears that it is open. */
static void test_log_what_a_lost_leader_took_is_answered_as_open(void **state)
{
    struct net_options options = net_options_default(3);
    uint32_t leader;
    struct net *net;

    (void)state;
    net = cluster_with_leader(&options, &leader);
    net_isolate(net, leader, true);
    net_propose(net, leader, 1, "overwritten later");
    net_run(net, 1500);
    net_heal(net);
    net_run(net, 500);
    assert_int_equal(net_result(net, 1)->reason, SCHED_RAFT_LOST);
    assert_int_equal(sched_raft_role(net->nodes[leader].raft), SCHED_RAFT_FOLLOWER);
    assert_true(net_run_until_applied(net, 3, 500));
    net_free(net);
}

/* Committed entries stay as they are, whatever an append says about them. */
static void test_log_committed_entries_are_never_replaced(void **state)
{
    struct net_options options = net_options_default(3);
    struct sched_raft_entry forged = {.index = 2, .term = 1, .type = SCHED_RAFT_NOOP};
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_APPEND};
    uint32_t leader, other;
    struct net *net;
    uint64_t refused;

    (void)state;
    net = cluster_with_leader(&options, &leader);
    other = (leader + 1) % 3;
    net_propose(net, leader, 1, "x");
    net_run(net, 100);
    refused = net_status(net, other).refused_messages;
    msg.term = sched_raft_term(net->nodes[leader].raft);
    forged.index = net->nodes[other].applied;
    msg.u.append.prev_index = forged.index - 1;
    msg.u.append.prev_term = 1;
    msg.u.append.entries = &forged;
    msg.u.append.count = 1;
    net_inject(net, leader, other, &msg);
    assert_int_equal(net_status(net, other).refused_messages, refused + 1);
    assert_int_equal(sched_raft_entry_at(net->nodes[other].raft, forged.index)->term, msg.term);
    /* Nor is there a second leader in a term. */
    net_inject(net, 3 - leader - other, other, &msg);
    assert_int_equal(net_status(net, other).refused_messages, refused + 2);
    net_free(net);
}

static void test_log_what_storage_holds_is_checked(void **state)
{
    struct sched_raft_entry entries[3] = {{.index = 1, .term = 1, .type = SCHED_RAFT_NOOP},
                                          {.index = 2, .term = 2, .type = SCHED_RAFT_NOOP},
                                          {.index = 3, .term = 2, .type = SCHED_RAFT_NOOP}};
    struct sched_raft_config config;
    struct sched_raft *raft;
    struct shl_buf snapshot;

    (void)state;
    sched_raft_config_init(&config);
    assert_int_equal(sched_raft_new(&config, &raft), SHL_EINVALIDARG); /* who? */
    config.self.bytes[0] = 1;
    config.entries = entries;
    config.entry_count = 3;
    config.term = 1;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* entries of a later term */
    config.term = 2;
    entries[1].index = 3;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* a hole */
    entries[1].index = 2;
    entries[2].term = 1;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* terms fall */
    entries[2].term = 2;
    entries[2].type = SCHED_RAFT_MEMBERSHIP;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* no membership in it */
    entries[2].type = SCHED_RAFT_NOOP;
    config.entries = entries + 1;
    config.entry_count = 2;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* the first is missing */
    shl_buf_init(&snapshot, 10);
    config.snapshot.index = 2;
    config.snapshot.term = 1;
    config.snapshot_data = &snapshot;
    assert_int_equal(sched_raft_new(&config, &raft), SHL_ECORRUPT); /* snapshot of another log */
    config.snapshot.term = 2;
    assert_int_equal(sched_raft_new(&config, &raft), 0);
    assert_null(sched_raft_check(raft));
    assert_int_equal(sched_raft_last_index(raft), 3);
    assert_int_equal(sched_raft_applied(raft), 2);
    sched_raft_free(raft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_figure_7_followers_become_like_the_leader),
        cmocka_unit_test(test_log_backtracking_skips_whole_terms),
        cmocka_unit_test(test_log_a_steady_stream_does_not_starve),
        cmocka_unit_test(test_log_no_more_than_the_limit_is_under_way),
        cmocka_unit_test(test_log_a_lost_message_is_noticed_by_the_next_heartbeat),
        cmocka_unit_test(test_log_refusals_say_why),
        cmocka_unit_test(test_log_what_a_lost_leader_took_is_answered_as_open),
        cmocka_unit_test(test_log_committed_entries_are_never_replaced),
        cmocka_unit_test(test_log_what_storage_holds_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
