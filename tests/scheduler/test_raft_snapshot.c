/* Snapshots: taken, sent in pieces, installed, at the worst moments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

#include "raft_net.h"

/* Snapshots every 16 entries, 4 trailing, pieces of 40 bytes of a state of 100. */
static struct net *cluster(uint32_t nodes, uint32_t voters, uint32_t *ret_leader)
{
    struct net_options options = net_options_default(nodes);
    struct net *net;
    int leader;

    options.voters = voters;
    options.snapshot_entries = 16;
    net = net_new(&options);
    leader = net_run_until_leader(net, 2000);
    assert_true(leader >= 0);
    *ret_leader = (uint32_t)leader;
    net_run(net, 60);
    return net;
}

static void propose_many(struct net *net, uint32_t count)
{
    static uint64_t tag;

    tag = net->result_count + 1;
    while (count-- > 0) {
        int leader = net_leader(net);

        assert_true(leader >= 0);
        net_propose(net, (uint32_t)leader, tag++, "something to remember");
        net_run(net, 8);
    }
}

static bool all_equal(const struct net *net)
{
    uint32_t i;

    for (i = 1; i < net->options.nodes; i++) {
        if (net->nodes[i].applied != net->nodes[0].applied ||
            net->nodes[i].chain != net->nodes[0].chain) {
            return false;
        }
    }
    return true;
}

static void test_snapshot_shortens_the_log_and_a_restart_finds_it(void **state)
{
    uint32_t leader, other;
    struct net *net = cluster(3, 3, &leader);
    struct sched_raft_status status;

    (void)state;
    other = (leader + 1) % 3;
    propose_many(net, 60);
    net_run(net, 100);
    status = net_status(net, other);
    assert_in_range(status.snapshot_index, 40, 62);
    assert_int_equal(status.first_index, status.snapshot_index - 4 + 1);
    assert_in_range(net->nodes[other].disk.count, 4, 30);
    net_crash(net, other, true);
    net_start(net, other);
    assert_int_equal(net->nodes[other].applied, status.snapshot_index);
    net_run(net, 200);
    assert_true(all_equal(net));
    assert_int_equal(net->nodes[other].installs, 0);
    net_free(net);
}

static void test_snapshot_brings_up_a_member_that_is_far_behind(void **state)
{
    uint32_t leader, other;
    struct net *net = cluster(3, 3, &leader);

    (void)state;
    other = (leader + 1) % 3;
    net_isolate(net, other, true);
    propose_many(net, 60);
    net_heal(net);
    net_run(net, 400);
    assert_int_equal(net->nodes[other].installs, 1);
    assert_true(all_equal(net));
    propose_many(net, 5);
    net_run(net, 100);
    assert_true(all_equal(net));
    net_free(net);
}

/* A learner that joins late has no log at all, and learns the membership from the snapshot. */
static void test_snapshot_brings_up_a_new_member(void **state)
{
    uint32_t leader;
    struct net *net = cluster(4, 3, &leader);

    (void)state;
    propose_many(net, 60);
    net_change(net, leader, 3000, SCHED_RAFT_ADD_LEARNER, 3);
    net_run(net, 400);
    assert_int_equal(net->nodes[3].installs, 1);
    assert_int_equal(sched_raft_membership(net->nodes[3].raft)->count, 4);
    assert_true(all_equal(net));
    net_free(net);
}

struct pieces {
    uint32_t sent, at_zero, lose_every;
    uint64_t cut_at_offset; /* crash point of the test; 0: none */
    bool reached;
};

static bool count_pieces(struct net *net,
                         uint32_t from,
                         uint32_t to,
                         const struct sched_raft_msg *msg)
{
    struct pieces *p = net->filter_arg;

    (void)from;
    (void)to;
    if (msg->kind != SCHED_RAFT_MSG_SNAPSHOT || msg->u.snapshot.data.len == 0) {
        return true;
    }
    assert_in_range(msg->u.snapshot.data.len, 1, 40);
    p->sent++;
    p->at_zero += msg->u.snapshot.offset == 0;
    if (p->cut_at_offset > 0 && msg->u.snapshot.offset >= p->cut_at_offset) {
        p->reached = true;
        return false;
    }
    return p->lose_every == 0 || p->sent % p->lose_every != 0;
}

static void test_snapshot_goes_on_where_a_piece_was_lost(void **state)
{
    struct pieces pieces = {.lose_every = 2};
    uint32_t leader, other;
    struct net *net = cluster(3, 3, &leader);

    (void)state;
    other = (leader + 1) % 3;
    net_isolate(net, other, true);
    propose_many(net, 60);
    net->filter = count_pieces;
    net->filter_arg = &pieces;
    net_heal(net);
    net_run(net, 800);
    assert_int_equal(net->nodes[other].installs, 1);
    assert_int_equal(pieces.at_zero, 1); /* never from the start again */
    assert_in_range(pieces.sent, 4, 6);  /* 3 pieces, each second one lost */
    net_free(net);
}

static bool pass_each_fourth_piece(struct net *net,
                                   uint32_t from,
                                   uint32_t to,
                                   const struct sched_raft_msg *msg)
{
    uint32_t *sent = net->filter_arg;

    (void)from;
    (void)to;
    return msg->kind != SCHED_RAFT_MSG_SNAPSHOT || msg->u.snapshot.data.len == 0 ||
           ++*sent % 4 == 0;
}

/* Many entries come while the pieces crawl: those behind the snapshot must still be there when it
 * has arrived, or the next one has to be sent, and so on for ever. */
static void test_snapshot_that_takes_long_is_not_in_vain(void **state)
{
    uint32_t leader, other, sent = 0;
    struct net *net = cluster(3, 3, &leader);
    int i;

    (void)state;
    other = (leader + 1) % 3;
    net_isolate(net, other, true);
    propose_many(net, 60);
    net->filter = pass_each_fourth_piece;
    net->filter_arg = &sent;
    net_heal(net);
    for (i = 0; i < 20 && net->nodes[other].installs == 0; i++) {
        propose_many(net, 20);
    }
    assert_true(i > 1); /* more than a snapshot's worth of entries came meanwhile */
    net_run(net, 400);
    assert_int_equal(net->nodes[other].installs, 1);
    assert_true(all_equal(net));
    net_free(net);
}

static void test_snapshot_of_a_leader_that_dies_half_way_is_taken_from_the_next(void **state)
{
    struct pieces pieces = {.cut_at_offset = 80};
    uint32_t leader, other, ms;
    struct net *net = cluster(3, 3, &leader);

    (void)state;
    other = (leader + 1) % 3;
    net_isolate(net, other, true);
    propose_many(net, 60);
    net->filter = count_pieces;
    net->filter_arg = &pieces;
    net_heal(net);
    for (ms = 0; ms < 500 && !pieces.reached; ms++) {
        net_run(net, 1);
    }
    assert_true(pieces.reached);
    net->filter = NULL;
    net_crash(net, leader, true);
    net_run(net, 2000);
    assert_int_equal(net->nodes[other].installs, 1);
    net_start(net, leader);
    net_run(net, 500);
    assert_true(all_equal(net));
    net_free(net);
}

/* Crash with the install on its way to disk: either it is there afterwards or it comes
 * again; nothing is applied before it is durable. */
static void test_snapshot_install_survives_a_crash_either_way(void **state)
{
    uint32_t kept;

    (void)state;
    for (kept = 0; kept < 2; kept++) {
        uint32_t leader, other, ms;
        struct net *net = cluster(3, 3, &leader);

        other = (leader + 1) % 3;
        net_isolate(net, other, true);
        propose_many(net, 60);
        net_run(net, 20);
        net_disk_hold(net, other);
        net_heal(net);
        for (ms = 0;
             ms < 500 && net->nodes[other].request.head.snapshot != SCHED_RAFT_SNAPSHOT_INSTALL;
             ms++) {
            net_run(net, 1);
        }
        net_run(net, 120); /* appends arrive behind it meanwhile */
        assert_int_equal(net->nodes[other].request.head.snapshot, SCHED_RAFT_SNAPSHOT_INSTALL);
        assert_int_equal(net->nodes[other].installs, 0);
        assert_true(net->nodes[other].applied < 20);
        net_crash(net, other, kept == 1);
        net_start(net, other);
        assert_int_equal(net->nodes[other].applied > 20, kept == 1);
        net_run(net, 500);
        assert_int_equal(net->nodes[other].installs, kept == 1 ? 0 : 1);
        assert_true(all_equal(net));
        net_free(net);
    }
}

/* Entries of an older term behind the snapshot's index conflict and go; those that are the
 * same stay, and then nothing is replaced at all. */
static void test_snapshot_replaces_only_a_log_that_lacks_its_last_entry(void **state)
{
    struct sched_raft_membership members = {0};
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_SNAPSHOT, .term = 5};
    struct net_options options = net_options_default(3);
    uint8_t bytes[100] = {0};
    uint32_t i, same;

    (void)state;
    for (same = 0; same < 2; same++) {
        struct net *net;
        char terms[64];

        options.voters = 0;
        net = net_new(&options);
        for (i = 0; i < 3; i++) {
            struct sched_raft_member member = {.id = net->nodes[i].id,
                                               .standing = SCHED_RAFT_VOTER};

            assert_int_equal(sched_raft_membership_set(&members, &member), 0);
        }
        net_disk_write(net, 0, 4, 3, "2 2 3 3 3");
        net_start(net, 0);
        shl_put_le64(bytes, 4);
        net->applied_max = 4; /* let the checker believe in this state */
        msg.u.snapshot.index = 4;
        msg.u.snapshot.snapshot_term = same ? 3 : 2;
        msg.u.snapshot.total = sizeof(bytes);
        msg.u.snapshot.membership_index = 1;
        msg.u.snapshot.membership = &members;
        msg.u.snapshot.data = shl_bytes_of(bytes, sizeof(bytes));
        net->options.expect_fault = true;
        net_inject(net, 1, 0, &msg);
        net_run(net, 5);
        assert_int_equal(net->nodes[0].installs, same ? 0 : 1);
        assert_int_equal(sched_raft_commit(net->nodes[0].raft), 4);
        assert_int_equal(sched_raft_last_index(net->nodes[0].raft), same ? 6 : 4);
        if (same) {
            net_log_terms(net, 0, terms, sizeof(terms));
            assert_string_equal(terms, "2 2 3 3 3");
        }
        /* Once more, and an older one: nothing happens. */
        net_inject(net, 1, 0, &msg);
        msg.u.snapshot.index = 3;
        msg.u.snapshot.snapshot_term = 2;
        net_inject(net, 1, 0, &msg);
        net_run(net, 5);
        assert_int_equal(net->nodes[0].installs, same ? 0 : 1);
        assert_null(sched_raft_check(net->nodes[0].raft));
        net_free(net);
    }
}

static void test_snapshot_pieces_out_of_order_ask_for_the_right_one(void **state)
{
    struct net_options options = net_options_default(2);
    struct sched_raft_membership members = {0};
    struct sched_raft_msg msg = {.kind = SCHED_RAFT_MSG_SNAPSHOT, .term = 5};
    uint8_t bytes[100] = {0};
    struct net *net;

    (void)state;
    options.voters = 0;
    net = net_new(&options);
    net_start(net, 0);
    net->applied_max = 9;
    shl_put_le64(bytes, 9);
    msg.u.snapshot.index = 9;
    msg.u.snapshot.snapshot_term = 5;
    msg.u.snapshot.total = sizeof(bytes);
    msg.u.snapshot.offset = 50;
    msg.u.snapshot.data = shl_bytes_of(bytes + 50, 50);
    net->options.expect_fault = true;
    net_inject(net, 1, 0, &msg); /* the second half first */
    net_run(net, 3);
    msg.u.snapshot.offset = 0;
    msg.u.snapshot.membership = &members;
    msg.u.snapshot.data = shl_bytes_of(bytes, 50);
    net_inject(net, 1, 0, &msg);
    net_inject(net, 1, 0, &msg); /* twice */
    msg.u.snapshot.offset = 60;
    msg.u.snapshot.membership = NULL;
    msg.u.snapshot.data = shl_bytes_of(bytes + 60, 40);
    net_inject(net, 1, 0, &msg); /* a gap */
    net_run(net, 3);
    assert_int_equal(net->nodes[0].installs, 0);
    msg.u.snapshot.offset = 50;
    msg.u.snapshot.data = shl_bytes_of(bytes + 50, 50);
    net_inject(net, 1, 0, &msg);
    net_run(net, 3);
    assert_int_equal(net->nodes[0].installs, 1);
    assert_int_equal(net->nodes[0].applied, 9);
    net_free(net);
}

static void test_snapshot_taken_is_checked_and_an_old_one_is_dropped(void **state)
{
    uint32_t leader;
    struct net *net = cluster(1, 1, &leader);
    struct net_node *n = &net->nodes[0];
    struct sched_raft_event event = {.type = SCHED_RAFT_SNAPSHOT_TAKEN, .now_ms = net->now_ms};
    struct shl_buf data;

    (void)state;
    propose_many(net, 5);
    shl_buf_init(&data, 1000);
    assert_int_equal(shl_buf_append(&data, "state", 5), 0);
    event.u.snapshot_taken.data = &data;
    event.u.snapshot_taken.index = n->applied + 1;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EINVALIDARG);
    assert_int_equal(shl_buf_len(&data), 5); /* still the caller's */
    event.u.snapshot_taken.index = 0;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), SHL_EINVALIDARG);
    event.u.snapshot_taken.index = n->applied;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), 0);
    assert_int_equal(shl_buf_len(&data), 0);
    assert_int_equal(n->actions.count, 1);
    assert_int_equal(n->actions.items[0].u.persist.snapshot, SCHED_RAFT_SNAPSHOT_SAVE);
    assert_int_equal(shl_buf_append(&data, "older", 5), 0);
    event.u.snapshot_taken.index = n->applied - 1;
    assert_int_equal(sched_raft_step(n->raft, &event, &n->actions), 0);
    assert_int_equal(net_status(net, 0).snapshot_index, n->applied);
    shl_buf_release(&data);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_shortens_the_log_and_a_restart_finds_it),
        cmocka_unit_test(test_snapshot_brings_up_a_member_that_is_far_behind),
        cmocka_unit_test(test_snapshot_brings_up_a_new_member),
        cmocka_unit_test(test_snapshot_goes_on_where_a_piece_was_lost),
        cmocka_unit_test(test_snapshot_that_takes_long_is_not_in_vain),
        cmocka_unit_test(test_snapshot_of_a_leader_that_dies_half_way_is_taken_from_the_next),
        cmocka_unit_test(test_snapshot_install_survives_a_crash_either_way),
        cmocka_unit_test(test_snapshot_replaces_only_a_log_that_lacks_its_last_entry),
        cmocka_unit_test(test_snapshot_pieces_out_of_order_ask_for_the_right_one),
        cmocka_unit_test(test_snapshot_taken_is_checked_and_an_old_one_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
