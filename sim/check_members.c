/* Membership: who is seen alive, and whether the cluster is one again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim/check.h"
#include "sim/world.h"

void sim_check_gossip(struct sim_node *node, const struct gossip_actions *actions)
{
    struct sim_world *world = node->world;
    struct sim_node_view *view = &world->check.views[node->index];
    uint64_t own = gossip_self(node->gossip)->incarnation;

    if (own < view->incarnation) {
        sim_check_fail(world, 20, "n%u: incarnation %" PRIu64 " after %" PRIu64, node->index, own,
                       view->incarnation);
    }
    view->incarnation = own;
    for (uint32_t i = 0; i < actions->change_count; i++) {
        const struct gossip_change *change = &actions->changes[i];
        int slot = sim_world_find(world, &change->id);
        const struct gossip_member *member = gossip_member_find(node->gossip, &change->id);

        if (slot < 0) {
            continue;
        }
        if (member && member->incarnation > world->check.views[slot].incarnation &&
            !world->check.views[slot].forgot) {
            sim_check_fail(world, 20, "n%u gives n%d incarnation %" PRIu64 ", it has only %" PRIu64,
                           node->index, slot, member->incarnation,
                           world->check.views[slot].incarnation);
        }
        if (change->after == GOSSIP_DEAD && change->before != GOSSIP_DEAD &&
            world->nodes[slot].up && world->check.expect_quiet) {
            sim_check_fail(world, 19, "n%u calls n%d dead, which is alive and well", node->index,
                           slot);
        }
    }
    for (uint32_t i = 0; i < actions->notice_count; i++) {
        if (actions->notices[i].type == GOSSIP_NOTICE_WE_ARE_REMOVED) {
            node->told_removed = true;
        } else if (actions->notices[i].type == GOSSIP_NOTICE_COPIED_IDENTITY) {
            node->told_copied++;
        }
    }
}

/*- 18, 21: one cluster again. */

static bool belongs(const struct sim_node *node)
{
    return node->present && !node->gone;
}

static bool wait_for(struct sim_world *world, const char *what, uint32_t slot, uint64_t number)
{
    snprintf(world->check.waiting, sizeof(world->check.waiting), "n%u: %s (%llu)", slot, what,
             (unsigned long long)number);
    return false;
}

static bool sees_all(struct sim_world *world, struct sim_node *node, uint32_t members)
{
    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *other = &world->nodes[i];
        const struct gossip_member *member = gossip_member_find(node->gossip, &other->id);

        if (belongs(other) && (!member || member->life != GOSSIP_ALIVE)) {
            return wait_for(world, "does not see another node alive", node->index, i);
        }
        if (!belongs(other) && !other->copy_of && member &&
            (member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT)) {
            return wait_for(world, "sees a node that is gone", node->index, i);
        }
    }
    if (gossip_live_count(node->gossip) != members) {
        return wait_for(world, "counts another number of live nodes", node->index,
                        gossip_live_count(node->gossip));
    }
    return true;
}

static bool in_log(struct sim_world *world, struct sim_node *node, uint64_t commit)
{
    if (!node->joined || !sched_state_node(node->state, &node->id)) {
        return wait_for(world, "is not admitted by the log", node->index, 0);
    }
    if (sched_raft_applied(node->raft) < commit) {
        return wait_for(world, "lacks entries of the log", node->index,
                        commit - sched_raft_applied(node->raft));
    }
    if (!sched_lease_valid(&node->lease, sim_node_now_ms(node))) {
        return wait_for(world, "has no lease", node->index, 0);
    }
    return true;
}

bool sim_check_converged(struct sim_world *world)
{
    uint64_t commit = world->check.converge_commit;
    const struct sim_node *first = NULL;
    uint32_t members = 0;
    int leader = sim_world_leader(world);

    world->check.converge_commit = UINT64_MAX;
    if (leader < 0 || !world->nodes[leader].ready) {
        return wait_for(world, "nobody leads", 0, 0);
    }
    world->check.converge_commit = sched_raft_commit(world->nodes[leader].raft);
    for (uint32_t i = 0; i < world->node_count; i++) {
        members += belongs(&world->nodes[i]);
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        struct sim_node *node = &world->nodes[i];

        if (!belongs(node)) {
            continue;
        }
        if (!node->up) {
            return wait_for(world, "is down", i, 0);
        }
        if (!in_log(world, node, commit) || !sees_all(world, node, members)) {
            return false;
        }
        if (first && gossip_digest(first->gossip) != gossip_digest(node->gossip)) {
            return wait_for(world, "has another member digest", i, 0);
        }
        if (first && gossip_record_digest(first->gossip) != gossip_record_digest(node->gossip)) {
            return wait_for(world, "has another record digest", i, 0);
        }
        first = first ? first : node;
    }
    return true;
}
