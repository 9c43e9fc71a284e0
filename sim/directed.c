#include "sim/directed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/directed_log.h"
#include "sim/hold.h"
#include "sim/world.h"

/* A world without drawn faults, on a fast and steady network. */
struct stage {
    struct sim_schedule schedule;
    struct sim_world *world;
};

static void set_up(struct stage *s,
                   uint32_t nodes,
                   uint32_t spares,
                   uint32_t seconds,
                   uint32_t mutation,
                   FILE *trace)
{
    s->schedule = (struct sim_schedule){.seed = 1, .nodes = nodes, .spares = spares};
    s->schedule.mutation = mutation;
    s->schedule.faults_us = (uint64_t)seconds * SIM_SECOND;
    s->schedule.end_us = s->schedule.faults_us + 30 * (uint64_t)SIM_SECOND;
    s->world = malloc(sizeof(*s->world));
    assert(s->world);
    sim_world_init(s->world, &s->schedule, trace);
    s->world->no_clients = true;
    s->world->net.delay_mean_us = 200;
    s->world->tuning.slow_gossip = true; /* the timings of production */
    s->world->tuning.voters_stable_ms = 200;
    s->world->tuning.voters_dead_ms = 5000;
    s->world->tuning.sync_us = 500;
    s->world->tuning.memory_mb = 65536;
    s->world->nodes[nodes > 2 ? 2 : 0].role = SCHED_ROLE_VOTER;
    for (uint32_t i = 0; i < s->world->node_count; i++) {
        s->world->nodes[i].sync_us = 500;
    }
}

/* To the end of the run: heal, converge, probe. */
static void finish(struct stage *s, struct sim_result *ret)
{
    while (sim_world_step(s->world)) {
    }
    sim_result_of(s->world, ret);
    sim_world_release(s->world);
    free(s->world);
}

static void wait_s(struct stage *s, double seconds)
{
    (void)sim_world_run_until(s->world,
                              s->world->now_us + (uint64_t)(seconds * (double)SIM_SECOND));
}

static void begin(struct stage *s, enum sim_fault_class class, uint32_t a, uint64_t value)
{
    struct sim_fault fault = {.class = class, .a = a, .value = value};

    sim_world_fault_begin(s->world, &fault);
}

/* One call, until it is answered or its client gives up. */
static struct sim_op call(struct stage *s,
                          enum sim_op_kind kind,
                          uint32_t entry,
                          uint64_t key,
                          uint64_t value)
{
    uint64_t number = sim_client_call(s->world, kind, entry, key, value);

    while (s->world->clients.ops[number].state == SIM_OP_OPEN && sim_world_step(s->world)) {
    }
    /* The next one begins later than this one ended. */
    (void)sim_world_run_until(s->world, s->world->now_us + 2);
    return s->world->clients.ops[number];
}

static void must(struct stage *s, bool holds, int invariant, const char *text)
{
    if (!holds) {
        sim_check_fail(s->world, invariant, "%s", text);
    }
}

static uint32_t leader_of(struct stage *s)
{
    int leader = sim_world_leader(s->world);

    must(s, leader >= 0, 5, "nobody leads");
    return leader < 0 ? 0 : (uint32_t)leader;
}

/*- Raft. */

static void run_figure7(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    static const uint8_t logs[7][13] = {
        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6},       /* the leader of the figure */
        {1, 1, 1, 4, 4, 5, 5, 6, 6},          /* a */
        {1, 1, 1, 4},                         /* b */
        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},    /* c */
        {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, /* d */
        {1, 1, 1, 4, 4, 4, 4},                /* e */
        {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3},    /* f */
    };
    struct stage s;

    set_up(&s, 7, 0, 10, mutation, trace);
    s.world->tuning.msg_entries = 2;
    s.world->tuning.snapshot_entries = 1000;
    sim_directed_logs(s.world, logs, 7, 7);
    /* d is kept away: with its longer log it would win, and the figure has another leader. */
    s.world->nodes[4].present = false;
    wait_s(&s, 0.2);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_CAMPAIGN, 0, 0);
    wait_s(&s, 1.5);
    s.world->nodes[4].present = true;
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 4, 0);
    finish(&s, ret);
}

static void run_figure8(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    static const uint8_t logs[5][13] = {{1, 2}, {1, 2}, {1}, {1}, {1, 3}};
    struct stage s;
    struct sim_node *s1 = NULL;
    uint64_t entry = 0;

    set_up(&s, 5, 0, 10, mutation, trace);
    s.world->tuning.msg_entries = 1;
    s.world->tuning.inflight = 1;
    s.world->tuning.snapshot_entries = 1000;
    entry = sim_directed_logs(s.world, logs, 5, 3) + 1; /* index 2 of the figure */
    s1 = &s.world->nodes[0];
    /* (c): S4 and S5 are away, S1 leads term 4 and copies its entry of term 2 to S3. */
    s.world->nodes[3].present = false;
    s.world->nodes[4].present = false;
    wait_s(&s, 0.1);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_CAMPAIGN, 0, 0);
    while (s.world->now_us < 5 * SIM_SECOND && sim_world_step(s.world)) {
        struct sched_raft_status status;
        const struct sched_raft_peer_status *third = NULL;

        if (!s1->up || !s1->leading) {
            continue;
        }
        sched_raft_status(s1->raft, &status);
        for (uint32_t i = 0; i < status.peer_count; i++) {
            if (shl_node_id_equal(&status.peers[i].member.id, &s.world->nodes[2].id)) {
                third = &status.peers[i];
            }
        }
        if (third && third->match >= entry) {
            break;
        }
    }
    must(&s, s1->leading, 5, "S1 was to lead in this schedule");
    /* (d): S1 is cut off and dies before its own entry of term 4 is out; S2 is away too, so
     * only S5 can lead. */
    sim_world_split(s.world, 1, false);
    sim_node_crash(s1, SIM_DISK_CRASH_KEEP_ALL);
    sim_node_crash(&s.world->nodes[1], SIM_DISK_CRASH_KEEP_ALL);
    for (uint32_t i = 3; i < 5; i++) {
        s.world->nodes[i].present = true;
        sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, i, 0);
    }
    for (unsigned k = 1; k < 20; k++) {
        sim_world_push(s.world, s.world->now_us + 50000 * k, SIM_EV_CAMPAIGN, 4, 0);
    }
    wait_s(&s, 2);
    sim_world_join(s.world, 1);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 0, 0);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 1, 0);
    finish(&s, ret);
}

static void run_two_leaders(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    unsigned overlaps = 0;

    set_up(&s, 3, 0, 30, mutation, trace);
    wait_s(&s, 8);
    for (unsigned round = 0; round < 6 && !s.world->check.code; round++) {
        uint32_t old = leader_of(&s);
        uint32_t other = (old + 1) % 3;

        (void)call(&s, SIM_OP_KV_SET, other, 1, 100 + round);
        /* The scheduler is cut off; before it gives up, another one is elected and writes. */
        sim_world_split(s.world, UINT64_C(1) << old, false);
        for (unsigned k = 0; k < 8; k++) {
            sim_world_push(s.world, s.world->now_us + 200000 + 10000 * k, SIM_EV_CAMPAIGN, other,
                           0);
        }
        wait_s(&s, 0.3);
        if (leader_of(&s) == other && s.world->nodes[old].leading) {
            overlaps++;
            (void)call(&s, SIM_OP_KV_SET, other, 1, 200 + round);
            (void)call(&s, SIM_OP_KV_GET, old, 1, 0);
        }
        sim_world_join(s.world, UINT64_C(1) << old);
        wait_s(&s, 2);
    }
    must(&s, overlaps > 0, 5, "two leaders were to overlap in this schedule");
    finish(&s, ret);
}

/*- Membership. */

static void run_mass_restart(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 5, 0, 40, mutation, trace);
    wait_s(&s, 4);
    /* Restarts raise the incarnations; n0 remembers them. */
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 1; i < 5; i++) {
            begin(&s, SIM_FAULT_KILL, i, 0);
        }
        wait_s(&s, 3);
    }
    /* Then all others come back at once as if they had never lived. */
    for (uint32_t i = 1; i < 5; i++) {
        sim_node_crash(&s.world->nodes[i], SIM_DISK_CRASH_KEEP_ALL);
        sim_gossip_forget(&s.world->nodes[i]);
        s.world->check.views[i].incarnation = 0;
        s.world->check.views[i].forgot = true;
        sim_world_push(s.world, s.world->now_us + 12 * (uint64_t)SIM_SECOND, SIM_EV_BOOT, i, 0);
    }
    wait_s(&s, 22);
    must(&s, gossip_live_count(s.world->nodes[0].gossip) == 5, 21,
         "a node that restarts at incarnation 0 is not seen alive within 10 s");
    finish(&s, ret);
}

static void run_partition(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 5, 0, 612, mutation, trace);
    wait_s(&s, 4);
    sim_world_split(s.world, 3, false);
    (void)sim_world_run_until(s.world, SIM_SECOND * (uint64_t)604);
    for (uint32_t i = 0; i < 5 && !s.world->check.code; i++) {
        must(&s, gossip_live_count(s.world->nodes[i].gossip) == (i < 2 ? 2 : 3), 19,
             "a side of the partition does not see its own members only");
    }
    sim_world_join(s.world, 3);
    s.world->check.expect_quiet = true; /* what one side said of the other is no news */
    /* The liveness phase begins here; its end is 30 s away. */
    s.schedule.end_us = s.world->now_us - SIM_SETTLE_US + 30 * (uint64_t)SIM_SECOND;
    sim_world_push(s.world, s.world->now_us, SIM_EV_HEAL, 0, 0);
    finish(&s, ret);
}

static void run_copied(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    struct sim_node *copy = NULL;

    set_up(&s, 3, 1, 15, mutation, trace);
    wait_s(&s, 4);
    copy = &s.world->nodes[3];
    copy->copy_of = 2;
    s.world->check.views[1].forgot = true; /* two processes raise its incarnation */
    copy->id = s.world->nodes[1].id;
    memcpy(copy->key, s.world->nodes[1].key, sizeof(copy->key));
    copy->present = true;
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 3, 0);
    wait_s(&s, 6);
    must(&s, s.world->nodes[1].told_copied > 0 || copy->told_copied > 0, 24,
         "neither process with a copied identity is told of the other one");
    must(&s, call(&s, SIM_OP_KV_SET, 0, 1, 5).state == SIM_OP_DONE, 21,
         "a copied identity stops the cluster");
    sim_node_crash(copy, SIM_DISK_CRASH_KEEP_ALL);
    copy->gone = true;
    finish(&s, ret);
}

static void wiped(uint32_t mutation, FILE *trace, struct sim_result *ret, bool same)
{
    struct stage s;
    struct sim_node *node = NULL;

    set_up(&s, 3, 1, 25, mutation, trace);
    wait_s(&s, 4);
    for (unsigned i = 0; i < 10; i++) {
        (void)call(&s, SIM_OP_KV_SET, i % 3, 1, i + 1);
    }
    node = &s.world->nodes[leader_of(&s) == 1 ? 2 : 1];
    if (same) {
        sim_node_crash(node, SIM_DISK_CRASH_LOSE_ALL);
        sim_disk_wipe(&node->disk);
        s.world->check.disk_changed = true;
        s.world->check.views[node->index].incarnation = 0;
        s.world->check.views[node->index].forgot = true;
        sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
    } else {
        begin(&s, SIM_FAULT_WIPE, node->index, 0);
        must(&s, node->gone, 21, "the disk was not taken away");
    }
    wait_s(&s, 8);
    must(&s, call(&s, SIM_OP_KV_SET, leader_of(&s), 2, 5).state == SIM_OP_DONE, 21,
         "a wiped disk stops the cluster");
    finish(&s, ret);
}

static void run_wiped_same(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    wiped(mutation, trace, ret, true);
}

static void run_wiped_new(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    wiped(mutation, trace, ret, false);
}

/* A backup of the data folder is put back: the leader knows of entries there which are no more. */
static void run_old_disk(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    struct sim_disk image;
    struct sim_node *node = NULL;

    set_up(&s, 3, 0, 30, mutation, trace);
    s.world->tuning.snapshot_entries = 1000; /* the log still has all that it needs */
    sim_disk_init(&image);
    wait_s(&s, 4);
    node = &s.world->nodes[leader_of(&s) == 1 ? 2 : 1];
    for (unsigned i = 0; i < 10; i++) {
        (void)call(&s, SIM_OP_KV_SET, leader_of(&s), 1, i + 1);
        if (i == 4) {
            sim_node_crash(node, SIM_DISK_CRASH_KEEP_ALL);
            sim_disk_copy(&image, &node->disk);
            sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
            wait_s(&s, 4);
        }
    }
    sim_node_crash(node, SIM_DISK_CRASH_KEEP_ALL);
    sim_disk_copy(&node->disk, &image);
    sim_disk_release(&image);
    s.world->check.disk_changed = true;
    s.world->check.views[node->index].incarnation = 0;
    s.world->check.views[node->index].forgot = true;
    sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
    wait_s(&s, 8);
    must(&s,
         sched_raft_applied(node->raft) == sched_raft_applied(s.world->nodes[leader_of(&s)].raft),
         21, "a node with an older disk does not catch up within 7 s");
    finish(&s, ret);
}

static void run_clock_day(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    const uint64_t day_us = UINT64_C(86400) * SIM_SECOND;
    struct stage s;

    set_up(&s, 3, 1, 20, mutation, trace);
    s.world->no_clients = false;
    sim_clock_step_wall(&s.world->nodes[0].clock, (int64_t)day_us);
    sim_clock_step_wall(&s.world->nodes[1].clock, -(int64_t)day_us);
    wait_s(&s, 6);
    /* From a leader a day ahead to one that is not, and back. */
    for (unsigned i = 0; i < 4; i++) {
        begin(&s, SIM_FAULT_TRANSFER, 0, 0);
        wait_s(&s, 1);
    }
    begin(&s, SIM_FAULT_JOIN_STORM, 0, 0);
    finish(&s, ret);
}

static void run_join_storm(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 1, 24, 5, mutation, trace);
    wait_s(&s, 2);
    begin(&s, SIM_FAULT_JOIN_STORM, 0, 0);
    finish(&s, ret);
}

static void run_removed(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint32_t away = 0;

    set_up(&s, 5, 0, 40, mutation, trace);
    wait_s(&s, 4);
    away = (leader_of(&s) + 1) % 5;
    sim_world_split(s.world, UINT64_C(1) << away, false);
    wait_s(&s, 1);
    begin(&s, SIM_FAULT_REMOVE, away, 0);
    wait_s(&s, 10);
    must(&s, s.world->nodes[away].removed, 21, "a node that is away cannot be removed");
    sim_world_join(s.world, UINT64_C(1) << away);
    wait_s(&s, 20);
    must(&s, s.world->nodes[away].told_removed, 24,
         "a removed node is not told so when it comes back");
    finish(&s, ret);
}

/* An owner is cut off while the answer to a renewal is under way; the answer reaches it when
 * its sandboxes belong to others. */
static void run_late_answer(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint64_t ids[4] = {0};

    set_up(&s, 3, 0, 420, mutation, trace); /* the rounds below take some 330 s */
    s.world->tuning.slow_gossip = false;
    s.world->tuning.lease_ms = 800;
    s.world->tuning.autosave_ms = 150;
    s.world->tuning.msg_entries = 16;
    s.world->tuning.inflight = 8;
    s.world->tuning.snapshot_entries = 100000;
    s.world->net.delay_mean_us = 30000;
    wait_s(&s, 6);
    for (unsigned round = 0; round < 40 && !s.world->check.code; round++) {
        uint32_t owner = (leader_of(&s) + 1 + round % 2) % 3;

        for (unsigned i = 0; i < 4; i++) {
            ids[i] = call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
        }
        wait_s(&s, 1.5 + 0.037 * round);
        for (unsigned i = 0; i < 4; i++) { /* refused, but the copy is there from now on */
            for (uint32_t n = 0; n < 3; n++) {
                (void)call(&s, SIM_OP_WAKE, n, 0, ids[i]);
            }
        }
        sim_world_split(s.world, UINT64_C(1) << owner, true);
        /* Longer than a lease, shorter than a node waits for an answer. */
        wait_s(&s, 0.7 + 0.004 * (round % 20));
        for (unsigned k = 0; k < 11; k++) {
            for (unsigned i = 0; i < 4; i++) {
                (void)sim_client_call(s.world, SIM_OP_WAKE, (owner + 1 + k % 2) % 3, 0, ids[i]);
            }
            wait_s(&s, 0.02);
        }
        sim_world_join(s.world, UINT64_C(1) << owner);
        wait_s(&s, 2);
        for (unsigned i = 0; i < 4; i++) { /* their points would fill the log */
            (void)call(&s, SIM_OP_KILL, i % 3, 0, ids[i]);
        }
    }
    must(&s, s.world->check.claims > 0, 3, "sandboxes were to change their owner here");
    s.world->tuning.autosave_ms = 60000;
    s.world->net.delay_mean_us = 200; /* calls that must succeed belong to a network that works */
    finish(&s, ret);
}

/*- Ownership. */

/* The node that keeps a sandbox (runs it, or has its image), or -1. */
static int keeper_of(struct stage *s, uint64_t id)
{
    for (uint32_t i = 0; i < s->world->node_count; i++) {
        const struct sim_node *node = &s->world->nodes[i];
        const struct sim_sandbox *sandbox = node->up ? sim_sandbox_find(node, id) : NULL;

        if (sandbox && !sandbox->copy &&
            (sandbox->status == SIM_SANDBOX_RUNNING || sandbox->status == SIM_SANDBOX_HIBERNATED)) {
            return (int)i;
        }
    }
    return -1;
}

static bool runs(const struct stage *s, uint32_t slot, uint64_t id)
{
    const struct sim_vm *vm = sim_vm_find(&s->world->nodes[slot], id);

    return vm && sim_vm_executes(&s->world->nodes[slot], vm);
}

/* 20 sandboxes, half of them hibernated; their node dies and its disk with it. */
static void run_node_lost(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint64_t ids[20];
    uint32_t victim = 0;
    uint64_t lost_us = 0;
    uint32_t back = 0;

    set_up(&s, 5, 0, 60, mutation, trace);
    s.world->tuning.lease_ms = 10000;
    s.world->tuning.slow_gossip = true;
    wait_s(&s, 13); /* a new leader waits for a lease */
    victim = (leader_of(&s) + 1) % 5;
    /* All on one node: there is no room anywhere else. */
    for (uint32_t i = 0; i < 5; i++) {
        if (i != victim) {
            (void)call(&s, SIM_OP_CORDON, leader_of(&s), i, 1);
        }
    }
    for (unsigned i = 0; i < 20; i++) {
        struct sim_op made = call(&s, SIM_OP_CREATE, victim, 0, 1);

        must(&s, made.state == SIM_OP_DONE && made.owner == victim, 16, "a create fails");
        ids[i] = made.sandbox;
    }
    wait_s(&s, 4);
    for (unsigned i = 0; i < 10; i++) {
        must(&s, call(&s, SIM_OP_HIBERNATE, victim, 0, ids[i]).state == SIM_OP_DONE, 10,
             "a sandbox does not hibernate");
    }
    wait_s(&s, 3);
    for (uint32_t i = 0; i < 5; i++) {
        (void)call(&s, SIM_OP_UNMARK, leader_of(&s), i, 1);
    }
    begin(&s, SIM_FAULT_WIPE, victim, 0);
    must(&s, s.world->nodes[victim].gone, 10, "the node was not lost");
    lost_us = s.world->now_us;
    /* The hibernated ones at once. */
    for (unsigned i = 0; i < 10; i++) {
        must(&s, call(&s, SIM_OP_WAKE, (victim + 1 + i % 4) % 5, 0, ids[i]).state == SIM_OP_DONE,
             10, "a hibernated sandbox does not wake elsewhere at once");
    }
    must(&s, s.world->now_us < lost_us + SIM_SECOND, 10, "ten wakes take more than a second");
    /* The running ones when the lease of their node has ended. */
    while (back < 20 && !s.world->check.code &&
           s.world->now_us < lost_us + 15 * (uint64_t)SIM_SECOND) {
        wait_s(&s, 0.25);
        back = 0;
        for (unsigned i = 0; i < 20; i++) {
            int keeper = keeper_of(&s, ids[i]);

            back += keeper >= 0 && runs(&s, (uint32_t)keeper, ids[i]);
        }
    }
    must(&s, back == 20, 10, "not all 20 sandboxes run again 15 s after the loss of their node");
    SIM_TRACE(s.world, -1, "all run again %.2f s after the loss",
              (double)(s.world->now_us - lost_us) / SIM_SECOND);
    finish(&s, ret);
}

/* Its owner is away for a minute; it is claimed, and let go of by the one that returns. */
static void run_owner_away(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint64_t id = 0;
    int keeper = 0;
    uint32_t owner = 0;

    set_up(&s, 3, 0, 100, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    wait_s(&s, 5);
    owner = (leader_of(&s) + 1) % 3;
    id = call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
    wait_s(&s, 4);
    keeper = keeper_of(&s, id);
    must(&s, keeper >= 0, 10, "a sandbox was to run");
    if (keeper >= 0 && !s.world->check.code) {
        owner = (uint32_t)keeper;
        sim_world_split(s.world, UINT64_C(1) << owner, false);
        wait_s(&s, 60);
        must(&s, !runs(&s, owner, id), 2, "the owner runs it without a lease");
        must(&s, runs(&s, (owner + 1) % 3, id) || runs(&s, (owner + 2) % 3, id), 10,
             "nobody goes on with it within a minute");
        sim_world_join(s.world, UINT64_C(1) << owner);
        wait_s(&s, 8);
        must(&s, keeper_of(&s, id) != (int)owner, 1, "the old owner keeps it");
    }
    finish(&s, ret);
}

/* Every daemon stands still while its VMs would run on: their own deadline ends them. */
static void run_stuck_daemon(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint64_t id = 0;
    int keeper = -1;

    set_up(&s, 3, 0, 100, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    wait_s(&s, 5);
    for (unsigned round = 0; round < 4 && !s.world->check.code; round++) {
        id = call(&s, SIM_OP_CREATE, leader_of(&s), 0, 1).sandbox;
        wait_s(&s, 4);
        keeper = keeper_of(&s, id);
        if (keeper < 0 || (uint32_t)keeper == leader_of(&s)) {
            continue;
        }
        s.world->nodes[keeper].stalled_us = s.world->now_us + 12 * (uint64_t)SIM_SECOND;
        wait_s(&s, 10);
        must(&s, !runs(&s, (uint32_t)keeper, id), 2,
             "a VM runs on behind a daemon that stands still");
        wait_s(&s, 6);
        must(&s, keeper_of(&s, id) != keeper, 1, "the old owner keeps it");
    }
    must(&s, s.world->check.lapsed > 0, 3, "sandboxes were to change their owner here");
    finish(&s, ret);
}

/* An owner wakes what it released, while that release is on its way: it must not reach what
 * runs by then. */
static void run_late_release(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;
    uint64_t id = 0;
    uint32_t owner = 0;
    const struct sim_sandbox *sandbox = NULL;

    set_up(&s, 3, 0, 40, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    wait_s(&s, 5);
    owner = (leader_of(&s) + 1) % 3;
    (void)call(&s, SIM_OP_CORDON, owner, leader_of(&s), 1);
    (void)call(&s, SIM_OP_CORDON, owner,
               (owner + 1) % 3 == leader_of(&s) ? (owner + 2) % 3 : (owner + 1) % 3, 1);
    id = call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
    wait_s(&s, 3);
    (void)call(&s, SIM_OP_HIBERNATE, owner, 0, id);
    wait_s(&s, 2);
    must(&s, call(&s, SIM_OP_WAKE, owner, 0, id).state == SIM_OP_DONE, 10, "it does not wake");
    wait_s(&s, 0.1);
    (void)call(&s, SIM_OP_HIBERNATE, owner, 0, id);
    sandbox = sim_sandbox_find(&s.world->nodes[owner], id);
    must(&s, sandbox != NULL, 10, "its owner was to keep it");
    while (sandbox && !sandbox->elsewhere && sim_world_step(s.world)) {
    }
    /* The release has left; nothing arrives for a while. */
    sim_world_split(s.world, UINT64_C(1) << owner, true);
    (void)sim_client_call(s.world, SIM_OP_WAKE, owner, 0, id);
    wait_s(&s, 0.3);
    sim_world_join(s.world, UINT64_C(1) << owner);
    wait_s(&s, 0.2);
    (void)call(&s, SIM_OP_WAKE, (owner + 1) % 3, 0, id);
    wait_s(&s, 3);
    finish(&s, ret);
}

/* A rumour that passed while a node could not hear is made up for by comparing digests. */
static void run_missed_rumour(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 5, 0, 30, mutation, trace);
    wait_s(&s, 5);
    for (unsigned round = 0; round < 3; round++) {
        sim_world_split(s.world, 16, false);
        s.world->nodes[1].committed_mb++;
        sim_gossip_publish(&s.world->nodes[1]);
        sim_node_arm(&s.world->nodes[1]);
        wait_s(&s, 3);
        sim_world_join(s.world, 16);
        wait_s(&s, 5);
        must(&s,
             gossip_record_digest(s.world->nodes[4].gossip) ==
                 gossip_record_digest(s.world->nodes[1].gossip),
             18, "a record that was missed is not there 5 s later");
    }
    finish(&s, ret);
}

/*- Failure detection, with the timings of production. */

static void run_quiet(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 10, 0, 64, mutation, trace);
    wait_s(&s, 4);
    s.world->check.expect_quiet = true;
    wait_s(&s, 60);
    finish(&s, ret);
}

static void run_stall(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 10, 0, 44, mutation, trace);
    wait_s(&s, 6);
    s.world->check.expect_quiet = true;
    for (unsigned i = 0; i < 4; i++) {
        s.world->nodes[3 + i].stalled_us = s.world->now_us + 5 * SIM_SECOND;
        wait_s(&s, 9);
    }
    finish(&s, ret);
}

static void run_crash_seen(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct stage s;

    set_up(&s, 10, 0, 30, mutation, trace);
    s.world->tuning.links_told = true;
    wait_s(&s, 5);
    sim_node_crash(&s.world->nodes[7], SIM_DISK_CRASH_PREFIX);
    wait_s(&s, 8);
    for (uint32_t i = 0; i < 10; i++) {
        const struct sim_node *node = &s.world->nodes[i];
        const struct gossip_member *member = NULL;

        if (i == 7) {
            continue;
        }
        member = gossip_member_find(node->gossip, &s.world->nodes[7].id);
        must(&s, member && member->life == GOSSIP_DEAD, 19,
             "a crashed node is not seen dead by all within 8 s");
    }
    finish(&s, ret);
}

static const struct sim_directed table[] = {
    {"raft-figure-7", "logs as in figure 7 of the Raft paper become one", run_figure7},
    {"raft-figure-8", "an entry of an older term is not committed by its copies", run_figure8},
    {"two-leaders", "a scheduler that was replaced serves no old value", run_two_leaders},
    {"mass-restart", "nodes that come back at incarnation 0 are believed", run_mass_restart},
    {"partition-10-minutes", "two halves are one again within 30 s", run_partition},
    {"copied-identity", "two processes with one key: noticed, and the cluster goes on", run_copied},
    {"wiped-same-identity", "a node with its key but an empty disk", run_wiped_same},
    {"wiped-new-identity", "a node returns with an empty disk and a new key", run_wiped_new},
    {"old-disk", "a node returns with its disk as it was some time ago", run_old_disk},
    {"clock-day-off", "wall clocks a day ahead and a day behind", run_clock_day},
    {"join-storm", "24 nodes join one at the same moment", run_join_storm},
    {"removed-while-away", "a node is removed while partitioned, and returns", run_removed},
    {"late-answer", "a renewal that is answered late gives no lease on what is lost",
     run_late_answer},
    {"node-lost", "20 sandboxes, half hibernated, run again after their node died with its disk",
     run_node_lost},
    {"owner-away", "an owner that is cut off for a minute lets go when it returns", run_owner_away},
    {"late-release", "a release that is late does not reach what its owner woke meanwhile",
     run_late_release},
    {"stuck-daemon", "no VM runs on behind a daemon that stands still", run_stuck_daemon},
    {"missed-rumour", "a record that was missed arrives by comparing digests", run_missed_rumour},
    {"quiet-minute", "nobody is called dead in a minute without faults", run_quiet},
    {"stall-5-s", "a node that stands still for 5 s is not called dead", run_stall},
    {"crash-seen", "a crash is known to all within 8 s", run_crash_seen},
};

size_t sim_directed_count(void)
{
    return sizeof(table) / sizeof(table[0]);
}

const struct sim_directed *sim_directed_get(size_t i)
{
    return &table[i];
}

const struct sim_directed *sim_directed_find(const char *name)
{
    for (size_t i = 0; i < sim_directed_count(); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}
