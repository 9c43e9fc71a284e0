/* One schedule per known bug. With the right code it breaks nothing; with the bug put back
 * the checker of raft_net finds what that bug breaks. So each rule of the core is shown to
 * be needed, and each check to be able to fail.
 *
 * Nodes are A B C D E = 0 1 2 3 4. Messages that a schedule injects are ones that the sender
 * could have sent and the network delayed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft_net.h"

enum {
    A,
    B,
    C,
    D,
    E
};

/*- What the network loses. */

struct rule {
    int from, to; /* -1: any */
    enum sched_raft_msg_kind kind;
    bool with_entries; /* APPEND: only those that carry any */
    uint64_t term;     /* APPEND: only with entries of this term; 0: any */
};

struct rules {
    struct rule list[4];
    uint32_t count;
};

static bool rule_matches(const struct rule *rule,
                         uint32_t from,
                         uint32_t to,
                         const struct sched_raft_msg *msg)
{
    if ((rule->from >= 0 && rule->from != (int)from) || (rule->to >= 0 && rule->to != (int)to) ||
        rule->kind != msg->kind) {
        return false;
    }
    if (msg->kind != SCHED_RAFT_MSG_APPEND || (!rule->with_entries && rule->term == 0)) {
        return true;
    }
    return msg->u.append.count > 0 &&
           (rule->term == 0 || msg->u.append.entries[0].term == rule->term);
}

static bool lose(struct net *net, uint32_t from, uint32_t to, const struct sched_raft_msg *msg)
{
    const struct rules *rules = net->filter_arg;
    uint32_t i;

    for (i = 0; i < rules->count; i++) {
        if (rule_matches(&rules->list[i], from, to, msg)) {
            return false;
        }
    }
    return true;
}

static void use_rules(struct net *net, struct rules *rules)
{
    net->filter = lose;
    net->filter_arg = rules;
}

/* Votes asked for by anybody but @node are lost, so that @node wins if it can at all. */
static struct rules only_candidate(const struct net *net, uint32_t node)
{
    struct rules rules = {0};
    uint32_t i;

    for (i = 0; i < net->options.nodes && rules.count < 4; i++) {
        if (i != node && net->nodes[i].raft) {
            rules.list[rules.count++] =
                (struct rule){.from = (int)i, .to = -1, .kind = SCHED_RAFT_MSG_VOTE};
        }
    }
    return rules;
}

/* Let @node stand, again and again, until it leads or half a second is over. */
static void elect(struct net *net, uint32_t node)
{
    struct rules rules = only_candidate(net, node);
    uint32_t tries;

    use_rules(net, &rules);
    for (tries = 0; tries < 50 && !net->fault; tries++) {
        if (sched_raft_role(net->nodes[node].raft) == SCHED_RAFT_LEADER) {
            break;
        }
        net_campaign(net, node);
        net_run(net, 10);
    }
    net->filter = NULL;
}

static void start_all(struct net *net)
{
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        net_start(net, i);
    }
}

/*- Schedules. */

/* Figure 8: A commits an entry of term 2 by counting in term 4, E overwrites it in term 5. */
static void figure_8(struct net *net)
{
    struct sched_raft_msg beat = {.kind = SCHED_RAFT_MSG_APPEND, .term = 4};
    struct rules rules = {.list = {{.from = A, .to = -1, .kind = SCHED_RAFT_MSG_APPEND, .term = 4}},
                          .count = 1};

    net_disk_write(net, A, 3, 5, "2");
    net_disk_write(net, B, 3, 5, "2");
    net_disk_write(net, C, 3, 5, "");
    net_disk_write(net, D, 3, 5, "");
    net_disk_write(net, E, 3, 5, "3");
    start_all(net);
    net_isolate(net, E, true);
    use_rules(net, &rules);
    net_campaign(net, A);
    net_run(net, 10); /* A leads in term 4 */
    beat.u.append.prev_index = 2;
    beat.u.append.prev_term = 2;
    net_inject(net, A, C, &beat);
    net_inject(net, A, D, &beat);
    net_run(net, 10); /* its entry of term 2 is on A, B, C and D, that of term 4 on A */
    net_crash(net, A, true);
    net_heal(net);
    elect(net, E);
    net_run(net, 100);
}

/* C's tail conflicts with A's entry; an answer to a heartbeat that checks only entry 1 must
 * not make A believe that C has it. */
static void match_last_index(struct net *net)
{
    struct sched_raft_msg beat = {.kind = SCHED_RAFT_MSG_APPEND, .term = 3};
    struct rules rules = {
        .list = {{.from = A, .to = -1, .kind = SCHED_RAFT_MSG_APPEND, .with_entries = true}},
        .count = 1};

    net_disk_write(net, A, 2, 3, "");
    net_disk_write(net, B, 2, 3, "");
    net_disk_write(net, C, 2, 3, "2 2");
    start_all(net);
    use_rules(net, &rules);
    net_campaign(net, A);
    net_run(net, 10); /* A leads with B's vote */
    beat.u.append.prev_index = 1;
    beat.u.append.prev_term = 1;
    net_inject(net, A, C, &beat);
    net_run(net, 10);
    net_crash(net, A, true);
    elect(net, C);
    net_run(net, 100);
}

/* The same tail: a heartbeat that checks only entry 1 says that 2 is committed. */
static void commit_unclamped(struct net *net)
{
    struct sched_raft_msg beat = {.kind = SCHED_RAFT_MSG_APPEND, .term = 3};
    struct rules rules = {.list = {{.from = A, .to = C, .kind = SCHED_RAFT_MSG_APPEND}},
                          .count = 1};

    net_disk_write(net, A, 2, 3, "");
    net_disk_write(net, B, 2, 3, "");
    net_disk_write(net, C, 2, 3, "2 2");
    start_all(net);
    use_rules(net, &rules);
    net_campaign(net, A);
    net_run(net, 20);
    beat.u.append.prev_index = 1;
    beat.u.append.prev_term = 1;
    beat.u.append.commit = 2;
    net_inject(net, A, C, &beat);
    net_run(net, 20);
}

/* C says that it took A's entry and keeps its own. */
static void keep_conflict(struct net *net)
{
    struct rules rules = {.list = {{.from = A, .to = B, .kind = SCHED_RAFT_MSG_APPEND}},
                          .count = 1};

    net_disk_write(net, A, 2, 3, "");
    net_disk_write(net, B, 2, 3, "");
    net_disk_write(net, C, 2, 3, "2 2");
    start_all(net);
    use_rules(net, &rules);
    net_campaign(net, A);
    net_run(net, 20);
    net_crash(net, A, true);
    elect(net, C);
    net_run(net, 100);
}

/* B votes for A, forgets it in a crash, and votes for C in the same term. */
static void vote_before_persist(struct net *net)
{
    struct rules rules = {.list = {{.from = A, .to = -1, .kind = SCHED_RAFT_MSG_APPEND}},
                          .count = 1};

    net_disk_write(net, A, 1, 3, "");
    net_disk_write(net, B, 1, 3, "");
    net_disk_write(net, C, 1, 3, "");
    start_all(net);
    use_rules(net, &rules);
    net_cut_both(net, A, C, true);
    net_disk_hold(net, B);
    net_campaign(net, A);
    net_run(net, 10);
    net_crash(net, B, false);
    net_start(net, B);
    net_campaign(net, C);
    net_run(net, 10);
}

/* A and C stand in the same term; B hears of A first. */
static void vote_twice(struct net *net)
{
    struct sched_raft_msg vote = {.kind = SCHED_RAFT_MSG_VOTE, .term = 2};
    struct rules rules = {.list = {{.from = C, .to = B, .kind = SCHED_RAFT_MSG_VOTE},
                                   {.from = A, .to = -1, .kind = SCHED_RAFT_MSG_APPEND}},
                          .count = 0};

    net_disk_write(net, A, 1, 3, "");
    net_disk_write(net, B, 1, 3, "");
    net_disk_write(net, C, 1, 3, "");
    start_all(net);
    net_cut_both(net, A, C, true);
    use_rules(net, &rules);
    net_campaign(net, C);
    net_run(net, 2); /* B would vote for C ... */
    rules.count = 2; /* ... but C's request for the vote is late */
    net_run(net, 3);
    net_campaign(net, A);
    net_run(net, 20);
    vote.u.vote.for_term = 2;
    vote.u.vote.last_index = 1;
    vote.u.vote.last_term = 1;
    net_inject(net, C, B, &vote);
    net_run(net, 10);
}

/* C missed what A and B committed. */
static void vote_any_log(struct net *net)
{
    elect(net, A);
    net_run(net, 20);
    net_isolate(net, C, true);
    net_propose(net, A, 1, "committed on A and B");
    net_run(net, 20);
    net_crash(net, A, true);
    net_heal(net);
    elect(net, C);
    net_run(net, 100);
}

/* A is cut off and does not know yet that B leads. */
static void read_without_quorum(struct net *net)
{
    elect(net, A);
    net_run(net, 20);
    net_isolate(net, A, true);
    net_run(net, 205);
    elect(net, B);
    net_propose(net, B, 1, "newer than what A knows");
    net_run(net, 10);
    net_read(net, A, 2);
    net_run(net, 600);
}

/* Two voters go in one breath: the leader alone would be a majority, the two others are one. */
static void membership_late(struct net *net)
{
    uint32_t ms;

    elect(net, A);
    net_run(net, 20);
    net_change(net, A, 1, SCHED_RAFT_REMOVE, B);
    net_change(net, A, 2, SCHED_RAFT_REMOVE, C);
    for (ms = 0; ms < 20 && sched_raft_commit(net->nodes[A].raft) < 4; ms++) {
        net_run(net, 1);
    }
    net_isolate(net, A, true);
    net_propose(net, A, 3, "alone");
    net_run(net, 250);
    elect(net, B);
    net_propose(net, B, 4, "the other two");
    net_run(net, 100);
}

/* A forgets that the removal of D was undone, and takes A and B for a majority while C, D
 * and E are one. */
static void truncate_keeps_membership(struct net *net)
{
    elect(net, A);
    net_run(net, 20);
    net_change(net, A, 1, SCHED_RAFT_ADD_LEARNER, E);
    net_run(net, 100);
    net_isolate(net, A, true);
    net_change(net, A, 2, SCHED_RAFT_REMOVE, D); /* on A only */
    net_run(net, 600);
    elect(net, C);
    net_run(net, 20);
    net_heal(net);
    net_run(net, 200); /* A's entry is replaced by C's */
    net_cut_both(net, A, C, true);
    net_cut_both(net, A, D, true);
    net_cut_both(net, A, E, true);
    net_cut_both(net, B, C, true);
    net_cut_both(net, B, D, true);
    net_cut_both(net, B, E, true);
    net_change(net, C, 3, SCHED_RAFT_PROMOTE, E);
    net_run(net, 20);
    net_propose(net, C, 4, "of C, D and E");
    net_run(net, 250);
    elect(net, A);
    net_run(net, 600);
}

/* C holds a long tail that never was committed when it gets a snapshot in front of it. */
static void install_keeps_log(struct net *net)
{
    uint64_t tag;

    net_disk_write(net, A, 2, 3, "");
    net_disk_write(net, B, 2, 3, "");
    net_disk_write(net, C, 2, 3, "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2");
    start_all(net);
    net_isolate(net, C, true);
    net_campaign(net, A);
    net_run(net, 10);
    for (tag = 1; tag <= 6; tag++) {
        net_propose(net, A, tag, "committed on A and B");
        net_run(net, 10);
    }
    net_heal(net);
    net_isolate(net, B, true);
    for (; tag <= 10; tag++) {
        net_propose(net, A, tag, "on A and C");
    }
    net_run(net, 300);
    net_crash(net, A, true);
    net_heal(net);
    elect(net, B);
}

/* B acknowledges what a crash then takes. */
static void ack_before_persist(struct net *net)
{
    elect(net, A);
    net_run(net, 20);
    net_isolate(net, C, true);
    net_disk_hold(net, B);
    net_propose(net, A, 1, "stored on A only");
    net_run(net, 20);
    net_crash(net, A, true);
    net_crash(net, B, false);
    net_heal(net);
    net_start(net, B);
    elect(net, B);
    net_run(net, 100);
}

/* In term 2 B stored two entries of A, which A lost in a crash; C replaced them in term 3. In
 * term 4 A leads again, and only now B's answer of term 2 arrives. */
static void old_term_answers(struct net *net)
{
    struct sched_raft_msg late = {.kind = SCHED_RAFT_MSG_APPEND_ANSWER, .term = 2};
    struct rules rules = {
        .list = {{.from = A, .to = -1, .kind = SCHED_RAFT_MSG_APPEND, .with_entries = true}},
        .count = 1};

    net_disk_write(net, A, 3, 3, "3");
    net_disk_write(net, B, 3, 3, "3");
    net_disk_write(net, C, 3, 3, "3");
    start_all(net);
    use_rules(net, &rules);
    net_campaign(net, A);
    net_run(net, 10);
    late.u.append_answer.index = 3;
    net_inject(net, B, A, &late);
    net_run(net, 10);
    net_crash(net, A, true);
    net_run(net, 200);
    elect(net, B);
    net_run(net, 100);
}

/*- Both ways. */

struct schedule {
    enum sched_raft_mutation mutation;
    void (*run)(struct net *net);
    uint32_t nodes;
    uint32_t voters; /* 0: disks are written by the schedule */
    uint32_t msg_entries;
    uint32_t snapshot_entries;
};

static void check_schedule(const struct schedule *schedule)
{
    struct net_options options = net_options_default(schedule->nodes);
    struct net *net;

    options.voters = schedule->voters;
    options.msg_entries = schedule->msg_entries;
    options.snapshot_entries = schedule->snapshot_entries;
    options.expect_fault = true;
    net = net_new(&options);
    schedule->run(net);
    if (net->fault) {
        fail_msg("without a bug: %s", net->fault);
    }
    net_free(net);

    options.trace = getenv("RAFT_TRACE") != NULL;
    options.mutations = (uint32_t)schedule->mutation;
    net = net_new(&options);
    schedule->run(net);
    assert_non_null(net->fault);
    print_message("found: %s\n", net->fault);
    net_free(net);
}

#define SCHEDULE(name, mutation_, ...)                                         \
    static void test_mutation_##name##_is_found(void **state)                  \
    {                                                                          \
        const struct schedule schedule = {                                     \
            .mutation = SCHED_RAFT_MUT_##mutation_, .run = name, __VA_ARGS__}; \
        (void)state;                                                           \
        check_schedule(&schedule);                                             \
    }

SCHEDULE(figure_8, COMMIT_OLD_TERM, .nodes = 5, .msg_entries = 1)
SCHEDULE(match_last_index, MATCH_LAST_INDEX, .nodes = 3)
SCHEDULE(commit_unclamped, COMMIT_UNCLAMPED, .nodes = 3)
SCHEDULE(vote_before_persist, VOTE_BEFORE_PERSIST, .nodes = 3)
SCHEDULE(vote_any_log, VOTE_ANY_LOG, .nodes = 3, .voters = 3)
SCHEDULE(read_without_quorum, READ_WITHOUT_QUORUM, .nodes = 3, .voters = 3)
SCHEDULE(membership_late, MEMBERSHIP_LATE, .nodes = 3, .voters = 3)
SCHEDULE(install_keeps_log, INSTALL_KEEPS_LOG, .nodes = 3, .snapshot_entries = 4)
SCHEDULE(truncate_keeps_membership, TRUNCATE_KEEPS_MEMBERSHIP, .nodes = 5, .voters = 4)
SCHEDULE(ack_before_persist, ACK_BEFORE_PERSIST, .nodes = 3, .voters = 3)
SCHEDULE(old_term_answers, OLD_TERM_ANSWERS, .nodes = 3)
SCHEDULE(vote_twice, VOTE_TWICE, .nodes = 3)
SCHEDULE(keep_conflict, KEEP_CONFLICT, .nodes = 3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutation_figure_8_is_found),
        cmocka_unit_test(test_mutation_match_last_index_is_found),
        cmocka_unit_test(test_mutation_commit_unclamped_is_found),
        cmocka_unit_test(test_mutation_vote_before_persist_is_found),
        cmocka_unit_test(test_mutation_vote_any_log_is_found),
        cmocka_unit_test(test_mutation_read_without_quorum_is_found),
        cmocka_unit_test(test_mutation_membership_late_is_found),
        cmocka_unit_test(test_mutation_install_keeps_log_is_found),
        cmocka_unit_test(test_mutation_truncate_keeps_membership_is_found),
        cmocka_unit_test(test_mutation_ack_before_persist_is_found),
        cmocka_unit_test(test_mutation_old_term_answers_is_found),
        cmocka_unit_test(test_mutation_vote_twice_is_found),
        cmocka_unit_test(test_mutation_keep_conflict_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
