/* Seeded runs with everything that may go wrong at once: loss, doubles, reordering,
 * partitions, crashes that lose what was not synced, slow disks, snapshots, membership
 * changes, transfers. The checker in raft_net_check.c looks at every step; every run ends
 * healed and must then make progress; every tenth is run twice and must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft_net.h"

#define SEEDS      150
#define FAULTY_MS  6000
#define HEALING_MS 4000

static struct net_options draw_options(uint64_t seed, uint32_t nodes)
{
    struct net_options o = net_options_default(nodes);
    uint64_t dice = seed * 0x2545f4914f6cdd1dull >> 20;

    o.seed = seed;
    o.voters = nodes == 5 && dice % 3 == 0 ? 3 : nodes;
    o.delay_max_ms = 1 + (uint32_t)(dice / 3 % 4) * 15;
    o.loss_permille = dice / 12 % 2 ? 60 : 0;
    o.dup_permille = dice / 24 % 2 ? 60 : 0;
    o.disk_max_ms = dice / 48 % 2 ? 12 : 1;
    o.snapshot_entries = dice / 96 % 2 ? 24 : 0;
    return o;
}

static void partition(struct net *net)
{
    uint32_t a, b, side = (uint32_t)net_random(net, 1u << net->options.nodes);

    for (a = 0; a < net->options.nodes; a++) {
        for (b = 0; b < net->options.nodes; b++) {
            net->cut[a][b] = (side >> a & 1) != (side >> b & 1);
        }
    }
}

static void one_fault(struct net *net)
{
    uint32_t node = (uint32_t)net_random(net, net->options.nodes);
    uint32_t other = (uint32_t)net_random(net, net->options.nodes);

    switch (net_random(net, 8)) {
    case 0:
        partition(net);
        break;
    case 1:
    case 2:
        net_heal(net);
        break;
    case 3:
        net->cut[node][other] = true; /* one way */
        break;
    case 4:
        net_crash(net, node, net_random(net, 2) == 0);
        break;
    case 5:
    case 6:
        if (!net->nodes[node].raft) {
            net_start(net, node);
        }
        break;
    case 7:
        if (net->nodes[node].disk_held) {
            net_disk_release(net, node);
        } else if (net_random(net, 4) == 0) {
            net_disk_hold(net, node);
        }
        break;
    }
}

static void one_request(struct net *net, uint64_t tag)
{
    int leader = net_leader(net);
    uint32_t node = leader >= 0 && net_random(net, 4) > 0
                        ? (uint32_t)leader
                        : (uint32_t)net_random(net, net->options.nodes);
    uint32_t member = (uint32_t)net_random(net, net->options.nodes);
    char text[40];

    switch (net_random(net, 24)) {
    case 0:
        net_transfer(net, node, tag, net_random(net, 2) ? (int)member : -1);
        break;
    case 1:
    case 2:
        net_change(net, node, tag, 1 + (enum sched_raft_change_op)net_random(net, 4), member);
        break;
    case 3:
    case 4:
    case 5:
    case 6:
        net_read(net, node, tag);
        break;
    default:
        (void)snprintf(text, sizeof(text), "command %u", (unsigned)tag);
        net_propose(net, node, tag, text);
        break;
    }
}

/* All nodes up, all links fine: a leader, and what it is given is everywhere. */
static void heal_and_expect_progress(struct net *net, uint64_t tag)
{
    const struct net_result *result = NULL;
    uint32_t i, tries;

    net_heal(net);
    net->options.loss_permille = 0;
    for (i = 0; i < net->options.nodes; i++) {
        net_disk_release(net, i);
        if (!net->nodes[i].raft) {
            net_start(net, i);
        }
    }
    for (tries = 0; tries < HEALING_MS / 200; tries++) {
        int leader;

        net_run(net, 200);
        leader = net_leader(net);
        if (leader >= 0) {
            net_propose(net, (uint32_t)leader, ++tag, "at the end");
            net_run(net, 200);
            result = net_result(net, tag);
            if (result && result->reason == SCHED_RAFT_DONE) {
                break;
            }
        }
    }
    if (!result || result->reason != SCHED_RAFT_DONE) {
        net_fault(net, "no progress after everything was healed");
        return;
    }
    net_run(net, 1000);
    for (i = 0; i < net->options.nodes; i++) {
        const struct sched_raft_membership *m =
            sched_raft_membership(net->nodes[net_leader(net)].raft);

        if (sched_raft_membership_find(m, &net->nodes[i].id) &&
            net->nodes[i].applied < result->index) {
            net_fault(net, "node %u does not catch up after everything was healed", i);
        }
    }
    net_check_logs(net);
}

static uint64_t run(uint64_t seed, uint32_t nodes, bool trace, uint64_t *steps)
{
    struct net_options options = draw_options(seed, nodes);
    struct net *net;
    uint64_t tag = 1, end, digest;

    options.trace = trace;
    net = net_new(&options);
    end = net->now_ms + FAULTY_MS;

    while (net->now_ms < end && tag < NET_RESULTS_MAX / 2) {
        net_run(net, 1 + net_random(net, 20));
        one_request(net, tag++);
        if (net_random(net, 12) == 0) {
            one_fault(net);
        }
    }
    heal_and_expect_progress(net, tag);
    digest = net->digest;
    *steps += net->steps;
    net_free(net);
    return digest;
}

static void campaign(uint32_t nodes)
{
    uint64_t seed, steps = 0, ignored = 0;

    for (seed = 1; seed <= SEEDS; seed++) {
        uint64_t digest = run(seed, nodes, false, &steps);

        if (seed % 10 == 0) {
            assert_int_equal(digest, run(seed, nodes, false, &ignored));
        }
    }
    print_message("%u nodes: %u seeds, %llu steps\n", nodes, SEEDS, (unsigned long long)steps);
}

static void test_random_three_nodes_stay_safe_and_recover(void **state)
{
    (void)state;
    campaign(3);
}

static void test_random_five_nodes_stay_safe_and_recover(void **state)
{
    (void)state;
    campaign(5);
}

/* One seed by hand: test_scheduler_raft_random SEED NODES */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_three_nodes_stay_safe_and_recover),
        cmocka_unit_test(test_random_five_nodes_stay_safe_and_recover),
    };

    if (argc == 3) {
        uint64_t steps = 0;
        uint64_t digest = run(strtoull(argv[1], NULL, 10), (uint32_t)atoi(argv[2]), true, &steps);

        (void)printf("digest %016llx\n", (unsigned long long)digest);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
