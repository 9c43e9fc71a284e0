#include "sim/node.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/hold.h"
#include "sim/replica.h"
#include "sim/route.h"
#include "sim/world.h"

static void make_identity(struct sim_node *node)
{
    sim_rng_fill(&node->rng, node->id.bytes, sizeof(node->id.bytes));
    sim_rng_fill(&node->rng, node->key, sizeof(node->key));
    /* The slot in the tail makes sim_world_find cheap; the order of ids stays random. */
    node->id.bytes[15] = (uint8_t)node->index;
}

void sim_node_init(struct sim_node *node, struct sim_world *world, uint32_t index)
{
    uint64_t seed = world->schedule->seed;

    *node = (struct sim_node){.world = world, .index = index, .wake_us = UINT64_MAX};
    sim_rng_split(&node->rng, seed, SIM_SUBJECT_NODE, index);
    sim_rng_split(&node->disk_rng, seed, SIM_SUBJECT_DISK, index);
    sim_rng_split(&node->clock_rng, seed, SIM_SUBJECT_CLOCK, index);
    snprintf(node->name, sizeof(node->name), "n%u", index);
    make_identity(node);
    sim_disk_init(&node->disk);
    sim_clock_init(&node->clock, 0, sim_rng_below(&node->clock_rng, 1000000) * 1000);
    sched_raft_actions_init(&node->raft_actions);
    gossip_actions_init(&node->gossip_actions);
    node->tasks = calloc(SIM_TASKS_MAX, sizeof(*node->tasks));
    assert(node->tasks);
    node->sync_us = world->tuning.sync_us;
}

/* What a process holds in memory. */
static void shut(struct sim_node *node)
{
    sim_raft_shut(node);
    sim_gossip_shut(node);
    sim_hold_shut(node);
    sim_replica_shut(node);
    if (node->up) {
        sched_place_release(&node->place);
    }
    for (unsigned i = 0; i < SIM_TASKS_MAX; i++) {
        if (node->tasks[i].used) {
            shl_buf_release(&node->tasks[i].command);
            node->tasks[i].used = false;
        }
    }
    node->task_count = 0;
    node->wait_count = 0;
    node->sync_count = 0;
    node->sandbox_count = 0;
    node->committed_mb = 0;
    memset(node->refused, 0, sizeof(node->refused));
    node->leading = false;
    node->ready = false;
    node->dying = false;
    node->joined = false;
    node->change_under_way = false;
    node->up = false;
    node->wake_us = UINT64_MAX;
}

void sim_node_release(struct sim_node *node)
{
    shut(node);
    sched_raft_actions_release(&node->raft_actions);
    gossip_actions_release(&node->gossip_actions);
    sim_disk_release(&node->disk);
    sim_hold_release(node);
    sim_store_release(node);
    free(node->tasks);
    free(node->sandboxes);
    free(node->calls);
}

uint64_t sim_node_now_ms(const struct sim_node *node)
{
    return sim_clock_mono_ms(&node->clock, node->world->now_us);
}

int sim_world_find(const struct sim_world *world, const struct shl_node_id *id)
{
    uint32_t slot = id->bytes[15];

    if (slot < world->node_count && shl_node_id_equal(&world->nodes[slot].id, id)) {
        return (int)slot;
    }
    return -1;
}

void sim_node_boot(struct sim_node *node)
{
    struct sched_raft_event tick = {.type = SCHED_RAFT_TICK};

    assert(!node->up && node->present);
    node->boot++;
    node->up = true;
    node->dying = false;
    node->next_req = node->boot << 32;
    node->next_tag = 1;
    node->raft_wake_ms = UINT64_MAX;
    node->gossip_wake_ms = UINT64_MAX;
    node->sched_wake_ms = 0;
    node->wake_us = UINT64_MAX;
    node->lease_boot = sim_rng_next(&node->rng) >> 1;
    SIM_TRACE(node->world, node->index, "starts, boot %llu", (unsigned long long)node->boot);
    node->told_removed = false;
    node->told_copied = 0;
    node->founded = false;
    sim_check_boot(node);
    sim_sandbox_load(node);
    sim_store_load(node);
    sim_replica_boot(node);
    sim_sched_boot(node);
    sim_hold_boot(node);
    if (!sim_raft_boot(node) || !sim_gossip_boot(node)) {
        sim_check_fail(node->world, 7, "n%u cannot start from its own disk", node->index);
        return;
    }
    /* Both have read the disk by now; the first step may write. */
    tick.now_ms = sim_node_now_ms(node);
    sim_raft_step(node, &tick);
    sim_hold_begin(node);
    sim_gossip_begin(node);
    sim_sched_installed(node);
}

void sim_node_crash(struct sim_node *node, enum sim_disk_crash how)
{
    struct sim_world *world = node->world;

    if (!node->up) {
        return;
    }
    SIM_TRACE(world, node->index, "ends (%s)",
              how == SIM_DISK_CRASH_KEEP_ALL ? "killed" : "power cut");
    shut(node);
    sim_net_ended(&world->net, node->index);
    sim_disk_crash(&node->disk, &node->disk_rng, how);
    sim_store_load(node);
    if (how != SIM_DISK_CRASH_KEEP_ALL) {
        /* The machine starts anew, so does its monotonic clock; its VMs are gone. */
        uint32_t rate = node->clock.rate_ppm;
        int64_t shift = node->clock.wall_shift_us;

        sim_clock_init(&node->clock, world->now_us,
                       sim_rng_below(&node->clock_rng, 1000000) * 1000);
        node->clock.rate_ppm = rate;
        sim_hold_power_cut(node);
        node->clock.wall_shift_us = shift;
    }
    sim_client_broken(world, node->index);
    for (uint32_t peer = 0; world->tuning.links_told && peer < world->node_count; peer++) {
        /* kill -9 resets connections, a power cut is noticed by unanswered bytes. */
        sim_world_push(world, world->now_us + (how == SIM_DISK_CRASH_KEEP_ALL ? 2000u : 1500000u),
                       SIM_EV_LINK, peer, node->index);
    }
}

bool sim_node_sync(struct sim_node *node, struct sim_sync sync)
{
    struct sim_world *world = node->world;
    uint64_t done = 0;

    if (node->dying || sim_disk_commit(&node->disk) < 0) {
        if (!node->dying) {
            SIM_TRACE(world, node->index, "write error: the process will end");
        }
        node->dying = true;
        return false;
    }
    done = sim_disk_sync(&node->disk, world->now_us,
                         50 + sim_rng_exp(&node->disk_rng, node->sync_us), &sync.batch);
    assert(node->sync_count < SIM_SYNCS_MAX);
    node->syncs[(node->sync_start + node->sync_count++) % SIM_SYNCS_MAX] = sync;
    sim_world_push(world, done, SIM_EV_SYNC, node->index, node->boot);
    if (node->crash_at_write_us > 0) {
        uint64_t at_us = world->now_us + (done - world->now_us) * 3 / 4;

        sim_world_push(world, at_us, SIM_EV_CUT, node->index, node->boot);
        node->down_until_us = at_us + node->crash_at_write_us;
        sim_world_push(world, node->down_until_us, SIM_EV_BOOT, node->index, 0);
        node->crash_at_write_us = 0;
    }
    return true;
}

static void answer_sync(struct sim_node *node, const struct sim_sync *sync)
{
    struct sim_sandbox *sandbox = NULL;
    uint64_t n[5] = {0};

    if (sync->kind == SIM_SYNC_RAFT) {
        struct sched_raft_event event = {.type = SCHED_RAFT_PERSISTED,
                                         .now_ms = sim_node_now_ms(node)};

        event.u.persisted.seq = sync->a;
        sim_raft_step(node, &event);
        return;
    }
    if (sync->kind == SIM_SYNC_OTHER) {
        return;
    }
    if (sync->kind == SIM_SYNC_SAVE || sync->kind == SIM_SYNC_POINT) {
        sim_hold_synced(node, sync);
        return;
    }
    if (sync->kind == SIM_SYNC_COPY) {
        const struct sim_point_id point = {sync->a, sync->req, sync->peer};

        sim_fetch_synced(node, &point);
        return;
    }
    sandbox = sim_sandbox_find(node, sync->a);
    if (!sandbox) {
        return;
    }
    sandbox->stored = true;
    sim_gossip_publish_sandbox(node, sandbox);
    if (sync->kind == SIM_SYNC_ADMIT) {
        sim_check_admitted(node);
        sim_hold_start(node, sandbox);
    }
    {
        const struct gossip_record *record = gossip_record_get(node->gossip, &node->id, "load");

        n[1] = record ? record->version : 0;
    }
    sim_route_reply(node, sync->peer, sync->req, 0, node->index + 1, n, (struct shl_bytes){0});
}

void sim_node_synced(struct sim_node *node)
{
    struct sim_sync sync;

    assert(node->sync_count > 0);
    sync = node->syncs[node->sync_start];
    node->sync_start = (node->sync_start + 1) % SIM_SYNCS_MAX;
    node->sync_count--;
    sim_disk_synced(&node->disk, sync.batch);
    answer_sync(node, &sync);
}

void sim_node_send(struct sim_node *node, uint32_t to, struct sim_msg *msg)
{
    msg->stamp = node->boot;
    if (node->dying || to == node->index || !node->world->nodes[to].present) {
        sim_msg_unref(msg);
        return;
    }
    sim_net_send(&node->world->net, node->world->now_us, node->index, to, msg);
}

/* What the transport would refuse: a peer that the log has removed. */
static bool admits(const struct sim_node *node, uint32_t from)
{
    const struct sim_node *peer = &node->world->nodes[from];

    return sched_state_count(node->state, SCHED_TABLE_REMOVED) == 0 ||
           !sched_state_removed(node->state, peer->key);
}

void sim_node_receive(struct sim_node *node, const struct sim_msg *msg)
{
    struct shl_bytes bytes = shl_bytes_of(msg->data, msg->len);
    const struct shl_node_id *from = &node->world->nodes[msg->from].id;

    /* A second process with a key that has a link already is let in nowhere; what it says by
     * gossip tells both of it. */
    if (msg->kind != SIM_MSG_GOSSIP && node->world->nodes[msg->from].copy_of) {
        return;
    }
    /* The join door is open to everybody, and gossip tells a removed node what it is. */
    if (msg->kind == SIM_MSG_RAFT && !admits(node, msg->from)) {
        return;
    }
    if (msg->kind == SIM_MSG_RAFT) {
        struct sched_raft_event event = {.type = SCHED_RAFT_RECV, .now_ms = sim_node_now_ms(node)};

        event.u.recv.from = *from;
        event.u.recv.bytes = bytes;
        sim_raft_step(node, &event);
    } else if (msg->kind == SIM_MSG_GOSSIP) {
        struct gossip_event event = {.type = GOSSIP_EV_RECV, .now_ms = sim_node_now_ms(node)};

        event.recv.from = *from;
        event.recv.bytes = bytes;
        node->via[from->bytes[15]] = (uint8_t)(msg->from + 1);
        sim_gossip_step(node, &event);
    } else {
        sim_route_receive(node, msg->from, (const struct sim_rpc *)(const void *)msg->data);
    }
}

void sim_node_wake(struct sim_node *node)
{
    uint64_t now_ms = sim_node_now_ms(node);

    if (now_ms >= node->raft_wake_ms) {
        struct sched_raft_event event = {.type = SCHED_RAFT_TICK, .now_ms = now_ms};

        sim_raft_step(node, &event);
    }
    if (now_ms >= node->gossip_wake_ms) {
        struct gossip_event event = {.type = GOSSIP_EV_TICK, .now_ms = now_ms};

        sim_gossip_step(node, &event);
    }
    if (now_ms >= node->sched_wake_ms) {
        uint64_t route = 0;

        sim_sched_tick(node);
        route = sim_route_tick(node);
        node->sched_wake_ms = SHL_MIN(node->sched_wake_ms, route);
    } else if (now_ms >= node->hold_wake_ms) {
        sim_hold_tick(node);
    }
    if (node->replica && now_ms >= node->copy_wake_ms && !node->dying) {
        sim_replica_tick(node);
    }
}

void sim_node_arm(struct sim_node *node)
{
    uint64_t wake_ms = SHL_MIN(node->raft_wake_ms, node->gossip_wake_ms);
    uint64_t at_us = 0;

    wake_ms = SHL_MIN(wake_ms, node->sched_wake_ms);
    wake_ms = SHL_MIN(wake_ms, node->hold_wake_ms);
    wake_ms = SHL_MIN(wake_ms, node->copy_wake_ms);
    if (wake_ms == UINT64_MAX) {
        return;
    }
    at_us = sim_clock_when(&node->clock, wake_ms);
    if (at_us <= node->world->now_us) {
        at_us = node->world->now_us + 1;
    }
    if (at_us < node->wake_us) {
        node->wake_us = at_us;
        sim_world_push(node->world, at_us, SIM_EV_WAKE, node->index, node->boot);
    }
}

void sim_node_link(struct sim_node *node, uint32_t peer)
{
    const struct sim_world *world = node->world;
    const struct sim_node *other = &world->nodes[peer];
    bool up = other->up && !sim_net_is_cut(&world->net, node->index, peer) &&
              !sim_net_is_cut(&world->net, peer, node->index);
    struct gossip_event event = {.type = GOSSIP_EV_LINK, .now_ms = sim_node_now_ms(node)};
    struct sched_raft_event raft = {.type = SCHED_RAFT_PEER_LINK, .now_ms = event.now_ms};

    if (peer == node->index) {
        return;
    }
    event.link.peer = other->id;
    event.link.up = up;
    sim_gossip_step(node, &event);
    raft.u.link.peer = other->id;
    raft.u.link.up = up;
    sim_raft_step(node, &raft);
}
