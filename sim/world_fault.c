/* Faults: what each class does when it begins and ends. */
#include <string.h>

#include "sim/route.h"
#include "sim/world.h"

#define DOWN_US    1500000u /* until a node notices that a silent link is dead */
#define PUT_OFF_US 250000u

static void tell_links(struct sim_world *world, uint32_t a, uint32_t b, uint64_t in_us)
{
    if (world->tuning.links_told && a != b) {
        sim_world_push(world, world->now_us + in_us, SIM_EV_LINK, a, b);
        sim_world_push(world, world->now_us + in_us, SIM_EV_LINK, b, a);
    }
}

static void cut(struct sim_world *world, uint32_t a, uint32_t b, bool hold)
{
    sim_net_cut(&world->net, a, b, hold);
    sim_net_cut(&world->net, b, a, hold);
    tell_links(world, a, b, DOWN_US);
}

static void mend(struct sim_world *world, uint32_t a, uint32_t b)
{
    sim_net_mend(&world->net, world->now_us, a, b);
    sim_net_mend(&world->net, world->now_us, b, a);
    tell_links(world, a, b, 100000);
}

static bool inside(uint64_t set, uint32_t slot)
{
    return set >> slot & 1;
}

void sim_world_split(struct sim_world *world, uint64_t set, bool hold)
{
    for (uint32_t a = 0; a < world->node_count; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (inside(set, a) != inside(set, b)) {
                cut(world, a, b, hold);
            }
        }
    }
}

void sim_world_join(struct sim_world *world, uint64_t set)
{
    for (uint32_t a = 0; a < world->node_count; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (inside(set, a) != inside(set, b)) {
                mend(world, a, b);
            }
        }
    }
}

static bool are_neighbours(const struct sim_world *world, uint32_t a, uint32_t b)
{
    uint32_t n = world->schedule->nodes;

    return (a + 1) % n == b || (b + 1) % n == a;
}

static void ring(struct sim_world *world, bool hold, bool begins)
{
    for (uint32_t a = 0; a < world->schedule->nodes; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if (are_neighbours(world, a, b)) {
                continue;
            }
            if (begins) {
                cut(world, a, b, hold);
            } else {
                mend(world, a, b);
            }
        }
    }
}

static void all_links(struct sim_world *world, enum sim_fault_class class, uint32_t value)
{
    struct sim_net *net = &world->net;

    for (size_t i = 0; i < (size_t)net->count * net->count; i++) {
        if (class == SIM_FAULT_LOSS) {
            net->links[i].loss_ppm = value;
        } else {
            net->links[i].dup_ppm = value;
        }
    }
}

/*- Nodes. */

static void crash(struct sim_world *world, uint32_t slot, uint64_t for_us, enum sim_disk_crash how)
{
    struct sim_node *node = &world->nodes[slot];

    if (!node->present || node->gone) {
        return;
    }
    sim_node_crash(node, how);
    node->stalled_us = 0;
    node->down_until_us = SHL_MAX(node->down_until_us, world->now_us + for_us);
    sim_world_push(world, node->down_until_us, SIM_EV_BOOT, slot, 0);
}

/* Voters of every configuration that some node still goes by. */
static bool may_lose(struct sim_world *world, uint32_t slot)
{
    int leader = sim_world_leader(world);
    const struct sched_raft_membership *m = NULL;
    uint32_t voters = 0;
    uint32_t kept = 0;

    if (leader < 0 || world->lost_voters) {
        return false;
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        struct sim_node *node = &world->nodes[i];

        if (!node->up) {
            if (node->present && !node->gone) {
                return false; /* what it goes by is not known */
            }
            continue;
        }
        m = sched_raft_membership(node->raft);
        voters = sched_raft_membership_voters(m);
        kept = voters;
        for (uint32_t k = 0; k < m->count; k++) {
            int voter = sim_world_find(world, &m->members[k].id);

            if (m->members[k].standing == SCHED_RAFT_VOTER) {
                kept -= voter < 0 || (uint32_t)voter == slot || world->nodes[voter].gone;
            } else if ((uint32_t)leader == i && voter >= 0 && (uint32_t)voter == slot) {
                voters++; /* its promotion may be on the way: then it is lost as a voter */
            }
        }
        if (voters > 0 && kept <= voters / 2) {
            return false;
        }
    }
    return true;
}

static void start_spare(struct sim_world *world)
{
    if (world->next_spare < world->node_count) {
        struct sim_node *node = &world->nodes[world->next_spare++];

        node->present = true;
        /* Some first try a token that another node has used. */
        node->stale_token =
            world->schedule->nodes > 1 && sim_rng_below(&world->fault_rng, 2) ? 2 : 0;
        sim_world_push(world, world->now_us + 1000, SIM_EV_BOOT, node->index, 0);
    }
}

static bool wipe(struct sim_world *world, uint32_t slot, uint64_t for_us)
{
    struct sim_node *node = &world->nodes[slot];

    (void)for_us;
    if (node->gone || !may_lose(world, slot) || !sim_check_may_lose(world, slot)) {
        return false;
    }
    sim_node_crash(node, SIM_DISK_CRASH_LOSE_ALL);
    sim_disk_wipe(&node->disk);
    node->gone = true;
    node->gone_us = world->now_us;
    world->lost_voters |= UINT64_C(1) << slot;
    start_spare(world);
    return true;
}

static bool remove_node(struct sim_world *world, uint32_t slot)
{
    struct sim_node *node = &world->nodes[slot];
    struct sim_node *leader = NULL;
    int at = sim_world_leader(world);

    if (node->gone || at < 0 || (uint32_t)at == slot || !may_lose(world, slot) ||
        !sim_check_may_lose(world, slot)) {
        return false;
    }
    /* The call of an operator, straight at the scheduler: `shoal node rm --force`. */
    leader = &world->nodes[at];
    {
        struct sched_command command = {.kind = SCHED_NODE_REMOVE, .at_ms = 1};
        struct shl_buf buf;

        command.u.node_remove.node = node->id;
        command.u.node_remove.force = true;
        memcpy(command.u.node_remove.by, "sim", 4);
        shl_buf_init(&buf, SCHED_COMMAND_MAX);
        if (sched_command_encode(&command, &buf, NULL) == 0) {
            sim_raft_propose(leader, shl_buf_bytes(&buf), SIM_NOBODY, 0);
        }
        shl_buf_release(&buf);
        sim_node_arm(leader);
    }
    /* From here on nothing is promised about it, whether the entry is committed or not. */
    world->lost_voters |= UINT64_C(1) << slot;
    return true;
}

static void transfer(struct sim_world *world)
{
    int at = sim_world_leader(world);
    struct sched_raft_event event = {.type = SCHED_RAFT_TRANSFER};

    if (at >= 0) {
        event.now_ms = sim_node_now_ms(&world->nodes[at]);
        event.u.transfer.tag = SIM_TAG_CHANGE;
        sim_raft_step(&world->nodes[at], &event);
        sim_node_arm(&world->nodes[at]);
    }
}

static bool rivals(struct sim_world *world, const struct sim_fault *f)
{
    int leader = sim_world_leader(world);

    if (leader < 0) {
        return false;
    }
    crash(world, (uint32_t)leader, f->for_us, SIM_DISK_CRASH_PREFIX);
    for (uint32_t i = 0; i < world->node_count; i++) {
        for (unsigned k = 0; world->nodes[i].up && k < 3; k++) {
            sim_world_push(world, world->now_us + f->value + 150000 * k, SIM_EV_CAMPAIGN, i, 0);
        }
    }
    return true;
}

/* A chunk of which every point has a good copy elsewhere: one loss, as one disk is. */
static bool rot(struct sim_world *world, const struct sim_fault *f)
{
    struct sim_node *node = &world->nodes[f->a];
    uint32_t count = node->store.chunk_count;

    for (uint32_t i = 0; i < count && !node->gone && node->up; i++) {
        struct sim_chunk *chunk = &node->store.chunks[(f->value / 2 + i) % count];

        if (sim_chunk_key(chunk->data) == chunk->key &&
            sim_check_may_rot(world, f->a, chunk->key)) {
            SIM_TRACE(world, f->a, "chunk %llx %s", (unsigned long long)chunk->key,
                      f->value % 2 ? "is lost" : "rots");
            sim_store_hurt(node, chunk, f->value % 2);
            return true;
        }
    }
    return false;
}

static bool node_fault(struct sim_world *world, const struct sim_fault *f)
{
    struct sim_node *node = &world->nodes[f->a];

    switch ((int)f->class) {
    case SIM_FAULT_CRASH:
        crash(world, f->a, f->for_us, SIM_DISK_CRASH_PREFIX);
        return true;
    case SIM_FAULT_KILL:
        crash(world, f->a, f->for_us, SIM_DISK_CRASH_KEEP_ALL);
        return true;
    case SIM_FAULT_CRASH_LEADER: {
        int leader = sim_world_leader(world);

        if (leader < 0) {
            return false;
        }
        crash(world, (uint32_t)leader, f->for_us, SIM_DISK_CRASH_PREFIX);
        return true;
    }
    case SIM_FAULT_CRASH_UNSYNCED:
        node->crash_at_write_us = f->for_us;
        return true;
    case SIM_FAULT_RIVALS:
        return rivals(world, f);
    case SIM_FAULT_PAUSE_LEADER: {
        int leader = sim_world_leader(world);

        if (leader < 0) {
            return false;
        }
        world->nodes[leader].stalled_us =
            SHL_MAX(world->nodes[leader].stalled_us, world->now_us + f->for_us);
        return true;
    }
    case SIM_FAULT_MASS_RESTART:
        for (uint32_t i = 0; i < world->schedule->nodes; i++) {
            if (inside(f->value, i)) {
                crash(world, i, f->for_us + sim_rng_below(&world->fault_rng, 300000),
                      SIM_DISK_CRASH_PREFIX);
            }
        }
        return true;
    case SIM_FAULT_PAUSE:
        node->stalled_us = SHL_MAX(node->stalled_us, world->now_us + f->for_us);
        return true;
    case SIM_FAULT_LAG:
        node->lag_us = (uint32_t)f->value;
        return true;
    case SIM_FAULT_SYNC_SLOW:
        node->sync_us = (uint32_t)f->value;
        return true;
    case SIM_FAULT_WRITE_ERROR:
        node->disk.fail_writes = true;
        node->down_until_us = SHL_MAX(node->down_until_us, world->now_us + f->for_us);
        sim_world_push(world, node->down_until_us, SIM_EV_BOOT, f->a, 0);
        return true;
    case SIM_FAULT_CLOCK_RATE:
        sim_clock_set_rate(&node->clock, world->now_us, (uint32_t)f->value);
        return true;
    case SIM_FAULT_CLOCK_STEP:
        sim_clock_step_wall(&node->clock, (int64_t)f->value);
        return true;
    case SIM_FAULT_WIPE:
        return wipe(world, f->a, f->for_us);
    case SIM_FAULT_JOIN_STORM:
        while (world->next_spare < world->node_count) {
            start_spare(world);
        }
        return true;
    case SIM_FAULT_REMOVE:
        return remove_node(world, f->a);
    case SIM_FAULT_TRANSFER:
        transfer(world);
        return true;
    case SIM_FAULT_ROT:
        return rot(world, f);
    case SIM_FAULT_GARBLE:
        node->garble_ppm = (uint32_t)f->value;
        return true;
    default:
        return false;
    }
}

static bool net_fault(struct sim_world *world, const struct sim_fault *f)
{
    struct sim_link *link = sim_net_link(&world->net, f->a, f->b);

    switch ((int)f->class) {
    case SIM_FAULT_LOSS:
    case SIM_FAULT_DUP:
        all_links(world, f->class, (uint32_t)f->value);
        return true;
    case SIM_FAULT_DELAY:
        world->net.delay_extra_us = (uint32_t)f->value;
        return true;
    case SIM_FAULT_SLOW_LINK:
        link->slow_us = (uint32_t)f->value;
        return true;
    case SIM_FAULT_CLOG:
        link->clog_us = world->now_us + f->for_us;
        return true;
    case SIM_FAULT_RESET:
        sim_net_reset(&world->net, f->a, f->b);
        sim_net_reset(&world->net, f->b, f->a);
        return true;
    case SIM_FAULT_ONE_WAY:
        sim_net_cut(&world->net, f->a, f->b, f->value != 0);
        tell_links(world, f->a, f->b, DOWN_US);
        return true;
    case SIM_FAULT_PARTITION:
        sim_world_split(world, f->value, f->b != 0);
        return true;
    case SIM_FAULT_RING:
        ring(world, f->b != 0, true);
        return true;
    case SIM_FAULT_ISOLATE:
        sim_world_split(world, UINT64_C(1) << f->a, f->b != 0);
        return true;
    case SIM_FAULT_ISOLATE_LEADER: {
        int leader = sim_world_leader(world);

        if (leader < 0) {
            return false;
        }
        world->isolated[f - world->schedule->faults] = (uint8_t)(leader + 1);
        sim_world_split(world, UINT64_C(1) << leader, f->b != 0);
        return true;
    }
    default:
        return false;
    }
}

static bool is_instance_of(const struct sim_world *world, const struct sim_fault *f)
{
    return f >= world->schedule->faults && f < world->schedule->faults + world->schedule->count;
}

/* What may not happen at this moment, since more would be lost than is promised, happens later. */
static void put_off(struct sim_world *world, const struct sim_fault *f)
{
    if ((f->class == SIM_FAULT_WIPE || f->class == SIM_FAULT_REMOVE) && is_instance_of(world, f) &&
        !world->nodes[f->a].gone) {
        sim_world_push(world, world->now_us + PUT_OFF_US, SIM_EV_FAULT_BEGIN, 0,
                       (uint64_t)(f - world->schedule->faults));
    }
}

void sim_world_fault_begin(struct sim_world *world, const struct sim_fault *f)
{
    bool done = false;

    if (f->a >= world->node_count || f->b >= world->node_count) {
        return;
    }
    SIM_TRACE(world, -1, "fault %s a %u b %u value %llu for %.3f s", sim_fault_name(f->class), f->a,
              f->b, (unsigned long long)f->value, (double)f->for_us / SIM_SECOND);
    done = f->class == SIM_FAULT_ISOLATE_LEADER && !is_instance_of(world, f)
               ? false
               : net_fault(world, f) || node_fault(world, f);
    if (!done) {
        put_off(world, f);
    }
    world->fault_count[f->class] += done;
}

void sim_world_fault_end(struct sim_world *world, const struct sim_fault *f)
{
    struct sim_node *node = &world->nodes[f->a];

    SIM_TRACE(world, -1, "end of %s a %u b %u", sim_fault_name(f->class), f->a, f->b);
    switch ((int)f->class) {
    case SIM_FAULT_LOSS:
    case SIM_FAULT_DUP:
        all_links(world, f->class, 0);
        break;
    case SIM_FAULT_DELAY:
        world->net.delay_extra_us = 0;
        break;
    case SIM_FAULT_SLOW_LINK:
        sim_net_link(&world->net, f->a, f->b)->slow_us = 0;
        break;
    case SIM_FAULT_ONE_WAY:
        sim_net_mend(&world->net, world->now_us, f->a, f->b);
        tell_links(world, f->a, f->b, 100000);
        break;
    case SIM_FAULT_PARTITION:
        sim_world_join(world, f->value);
        break;
    case SIM_FAULT_RING:
        ring(world, false, false);
        break;
    case SIM_FAULT_ISOLATE:
        sim_world_join(world, UINT64_C(1) << f->a);
        break;
    case SIM_FAULT_ISOLATE_LEADER:
        if (is_instance_of(world, f) && world->isolated[f - world->schedule->faults]) {
            sim_world_join(world, UINT64_C(1)
                                      << (world->isolated[f - world->schedule->faults] - 1));
        }
        break;
    case SIM_FAULT_LAG:
        node->lag_us = 0;
        break;
    case SIM_FAULT_SYNC_SLOW:
        node->sync_us = world->tuning.sync_us;
        break;
    case SIM_FAULT_WRITE_ERROR:
        node->disk.fail_writes = false;
        break;
    case SIM_FAULT_GARBLE:
        node->garble_ppm = 0;
        break;
    default:
        break;
    }
}

void sim_world_heal(struct sim_world *world)
{
    sim_net_heal(&world->net, world->now_us);
    world->net.delay_extra_us = 0;
    for (uint32_t i = 0; i < world->node_count; i++) {
        struct sim_node *node = &world->nodes[i];

        node->lag_us = 0;
        node->garble_ppm = 0;
        node->sync_us = world->tuning.sync_us;
        node->disk.fail_writes = false;
        if (node->stalled_us > world->now_us) {
            sim_heap_bring_forward(&world->heap, i, node->stalled_us, world->now_us);
            if (node->wake_us == node->stalled_us) {
                node->wake_us = world->now_us;
            }
            node->stalled_us = world->now_us;
        }
        if (node->present && !node->gone && !node->up) {
            node->down_until_us = 0;
            sim_world_push(world, world->now_us + 1000 + 5000 * i, SIM_EV_BOOT, i, 0);
        }
        for (uint32_t peer = 0; world->tuning.links_told && peer < world->node_count; peer++) {
            sim_world_push(world, world->now_us + 100000, SIM_EV_LINK, i, peer);
        }
    }
}
