/* What must hold across nodes: the properties of Raft (dissertation, figure 3.2), reads and
 * acknowledged entries. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft_net.h"

void net_fault(struct net *net, const char *fmt, ...)
{
    va_list args;

    if (net->fault) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(net->fault_text, sizeof(net->fault_text), fmt, args);
    va_end(args);
    net->fault = net->fault_text;
    if (!net->options.expect_fault) {
        (void)fprintf(stderr, "seed %" PRIu64 ", %u nodes, at %" PRIu64 " ms: %s\n",
                      net->options.seed, net->options.nodes, net->now_ms, net->fault_text);
        abort();
    }
}

/* FNV-1a over bytes, never zero. */
uint64_t net_hash(uint64_t h, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        h = (h ^ p[i]) * 0x100000001b3ull;
    }
    return h ? h : 1;
}

static uint64_t hash_entry(uint64_t term, uint8_t type, struct shl_bytes data)
{
    uint64_t h = net_hash(0xcbf29ce484222325ull, &term, sizeof(term));

    h = net_hash(h, &type, 1);
    return net_hash(h, data.base, data.len);
}

/* State machine safety: one entry per index, everywhere, in order. */
void net_check_apply(struct net *net, uint32_t node, const struct sched_raft_entry *entry)
{
    struct net_node *n = &net->nodes[node];
    uint64_t h = hash_entry(entry->term, entry->type, entry->data);

    if (entry->index >= NET_INDEX_MAX) {
        net_fault(net, "the run is too long for the checker");
        return;
    }
    if (entry->index != n->applied + 1) {
        net_fault(net, "node %u applies %" PRIu64 " after %" PRIu64, node, entry->index,
                  n->applied);
    }
    if (net->hash_at[entry->index] == 0) {
        net->hash_at[entry->index] = h;
        net->term_at[entry->index] = entry->term;
        net->chain_at[entry->index] = net_hash(net->chain_at[entry->index - 1], &h, sizeof(h));
    } else if (net->hash_at[entry->index] != h) {
        net_fault(net, "node %u applies another entry at %" PRIu64 " than was applied before", node,
                  entry->index);
    }
    n->applied = entry->index;
    n->chain = net_hash(n->chain, &h, sizeof(h));
    n->applies++;
    if (n->applied > net->applied_max) {
        net->applied_max = n->applied;
    }
}

void net_check_install(struct net *net, uint32_t node, uint64_t index, uint64_t chain)
{
    if (index <= net->nodes[node].applied) {
        net_fault(net, "node %u gets a snapshot that is older than its state", node);
    }
    if (index > net->applied_max || net->chain_at[index] != chain) {
        net_fault(net, "node %u gets a snapshot of a state that never was", node);
    }
}

/* Election safety and leader completeness. */
void net_check_role(struct net *net, uint32_t node)
{
    const struct sched_raft *raft = net->nodes[node].raft;
    uint64_t term = sched_raft_term(raft), index;

    if (sched_raft_role(raft) != SCHED_RAFT_LEADER || term >= NET_TERM_MAX) {
        return;
    }
    if (net->leader_of_term[term] != 0 && net->leader_of_term[term] != node + 1) {
        net_fault(net, "two leaders in term %" PRIu64 ": nodes %u and %u", term,
                  net->leader_of_term[term] - 1, node);
    }
    if (net->leader_of_term[term] != 0) {
        return;
    }
    net->leader_of_term[term] = node + 1;
    for (index = sched_raft_applied(raft) + 1; index <= net->applied_max; index++) {
        const struct sched_raft_entry *entry = sched_raft_entry_at(raft, index);

        if (!entry ? index > sched_raft_commit(raft)
                   : hash_entry(entry->term, entry->type, entry->data) != net->hash_at[index]) {
            net_fault(net, "leader %u of term %" PRIu64 " lacks the committed entry %" PRIu64, node,
                      term, index);
            return;
        }
    }
}

void net_check_step(struct net *net, uint32_t node)
{
    struct net_node *n = &net->nodes[node];
    const char *inner = sched_raft_check(n->raft);

    /* A mutation may break the core's own rules too; what counts is what others see. */
    if (inner && net->options.mutations == 0) {
        net_fault(net, "node %u: %s", node, inner);
    }
    if (sched_raft_commit(n->raft) < n->commit_seen) {
        net_fault(net, "the commit index of node %u goes back", node);
    }
    n->commit_seen = sched_raft_commit(n->raft);
}

static void check_pair(struct net *net, uint32_t a, uint32_t b)
{
    const struct sched_raft *ra = net->nodes[a].raft, *rb = net->nodes[b].raft;
    uint64_t index = sched_raft_last_index(ra);
    bool same = false;

    if (sched_raft_last_index(rb) < index) {
        index = sched_raft_last_index(rb);
    }
    for (; index > 0; index--) {
        const struct sched_raft_entry *ea = sched_raft_entry_at(ra, index);
        const struct sched_raft_entry *eb = sched_raft_entry_at(rb, index);

        if (!ea || !eb) {
            return;
        }
        if (same && ea->term != eb->term) {
            net_fault(net, "logs of %u and %u differ at %" PRIu64 " below an equal entry", a, b,
                      index);
        }
        same = same || ea->term == eb->term;
        if (ea->term == eb->term &&
            hash_entry(ea->term, ea->type, ea->data) != hash_entry(eb->term, eb->type, eb->data)) {
            net_fault(net, "logs of %u and %u have two entries %" PRIu64 " of one term", a, b,
                      index);
        }
    }
}

void net_check_logs(struct net *net)
{
    uint32_t a, b;

    for (a = 0; a < net->options.nodes; a++) {
        for (b = a + 1; b < net->options.nodes; b++) {
            if (net->nodes[a].raft && net->nodes[b].raft) {
                check_pair(net, a, b);
            }
        }
    }
}

void net_check_result(struct net *net, const struct net_result *result)
{
    if (result->reason != SCHED_RAFT_DONE) {
        return;
    }
    if (result->is_read) {
        if (result->tag < NET_RESULTS_MAX && net->read_floor[result->tag] > result->index) {
            net_fault(net,
                      "node %u reads at %" PRIu64 " although %" PRIu64
                      " was acknowledged before the read began",
                      result->node, result->index, net->read_floor[result->tag]);
        }
        if (net->nodes[result->node].applied < result->index) {
            net_fault(net, "a read of node %u is ready before its index is applied", result->node);
        }
    } else if (result->index > net->acknowledged_max) {
        net->acknowledged_max = result->index;
    }
}
