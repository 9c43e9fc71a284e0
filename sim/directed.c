#include "sim/directed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/directed_log.h"
#include "sim/directed_stage.h"
#include "sim/hold.h"
#include "sim/world.h"

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
    struct sim_stage s;

    stage_set_up(&s, 7, 0, 10, mutation, trace);
    s.world->tuning.msg_entries = 2;
    s.world->tuning.snapshot_entries = 1000;
    sim_directed_logs(s.world, logs, 7, 7);
    /* d is kept away: with its longer log it would win, and the figure has another leader. */
    s.world->nodes[4].present = false;
    stage_wait(&s, 0.2);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_CAMPAIGN, 0, 0);
    stage_wait(&s, 1.5);
    s.world->nodes[4].present = true;
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 4, 0);
    stage_finish(&s, ret);
}

static void run_figure8(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    static const uint8_t logs[5][13] = {{1, 2}, {1, 2}, {1}, {1}, {1, 3}};
    struct sim_stage s;
    struct sim_node *s1 = NULL;
    uint64_t entry = 0;

    stage_set_up(&s, 5, 0, 10, mutation, trace);
    s.world->tuning.msg_entries = 1;
    s.world->tuning.inflight = 1;
    s.world->tuning.snapshot_entries = 1000;
    entry = sim_directed_logs(s.world, logs, 5, 3) + 1; /* index 2 of the figure */
    s1 = &s.world->nodes[0];
    /* (c): S4 and S5 are away, S1 leads term 4 and copies its entry of term 2 to S3. */
    s.world->nodes[3].present = false;
    s.world->nodes[4].present = false;
    stage_wait(&s, 0.1);
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
    stage_must(&s, s1->leading, 5, "S1 was to lead in this schedule");
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
    stage_wait(&s, 2);
    sim_world_join(s.world, 1);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 0, 0);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 1, 0);
    stage_finish(&s, ret);
}

static void run_two_leaders(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    unsigned overlaps = 0;

    stage_set_up(&s, 3, 0, 30, mutation, trace);
    stage_wait(&s, 8);
    for (unsigned round = 0; round < 6 && !s.world->check.code; round++) {
        uint32_t old = stage_leader(&s);
        uint32_t other = (old + 1) % 3;

        (void)stage_call(&s, SIM_OP_KV_SET, other, 1, 100 + round);
        /* The scheduler is cut off; before it gives up, another one is elected and writes. */
        sim_world_split(s.world, UINT64_C(1) << old, false);
        for (unsigned k = 0; k < 8; k++) {
            sim_world_push(s.world, s.world->now_us + 200000 + 10000 * k, SIM_EV_CAMPAIGN, other,
                           0);
        }
        stage_wait(&s, 0.3);
        if (stage_leader(&s) == other && s.world->nodes[old].leading) {
            overlaps++;
            (void)stage_call(&s, SIM_OP_KV_SET, other, 1, 200 + round);
            (void)stage_call(&s, SIM_OP_KV_GET, old, 1, 0);
        }
        sim_world_join(s.world, UINT64_C(1) << old);
        stage_wait(&s, 2);
    }
    stage_must(&s, overlaps > 0, 5, "two leaders were to overlap in this schedule");
    stage_finish(&s, ret);
}

/*- Membership. */

static void run_mass_restart(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 5, 0, 40, mutation, trace);
    stage_wait(&s, 4);
    /* Restarts raise the incarnations; n0 remembers them. */
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 1; i < 5; i++) {
            stage_fault(&s, SIM_FAULT_KILL, i, 0);
        }
        stage_wait(&s, 3);
    }
    /* Then all others come back at once as if they had never lived. */
    for (uint32_t i = 1; i < 5; i++) {
        sim_node_crash(&s.world->nodes[i], SIM_DISK_CRASH_KEEP_ALL);
        sim_gossip_forget(&s.world->nodes[i]);
        s.world->check.views[i].incarnation = 0;
        s.world->check.views[i].forgot = true;
        sim_world_push(s.world, s.world->now_us + 12 * (uint64_t)SIM_SECOND, SIM_EV_BOOT, i, 0);
    }
    stage_wait(&s, 22);
    stage_must(&s, gossip_live_count(s.world->nodes[0].gossip) == 5, 21,
               "a node that restarts at incarnation 0 is not seen alive within 10 s");
    stage_finish(&s, ret);
}

static void run_partition(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 5, 0, 612, mutation, trace);
    stage_wait(&s, 4);
    sim_world_split(s.world, 3, false);
    (void)sim_world_run_until(s.world, SIM_SECOND * (uint64_t)604);
    for (uint32_t i = 0; i < 5 && !s.world->check.code; i++) {
        stage_must(&s, gossip_live_count(s.world->nodes[i].gossip) == (i < 2 ? 2 : 3), 19,
                   "a side of the partition does not see its own members only");
    }
    sim_world_join(s.world, 3);
    s.world->check.expect_quiet = true; /* what one side said of the other is no news */
    /* The liveness phase begins here; its end is 30 s away. */
    s.schedule.end_us = s.world->now_us - SIM_SETTLE_US + 30 * (uint64_t)SIM_SECOND;
    sim_world_push(s.world, s.world->now_us, SIM_EV_HEAL, 0, 0);
    stage_finish(&s, ret);
}

static void run_copied(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    struct sim_node *copy = NULL;

    stage_set_up(&s, 3, 1, 15, mutation, trace);
    stage_wait(&s, 4);
    copy = &s.world->nodes[3];
    copy->copy_of = 2;
    s.world->check.views[1].forgot = true; /* two processes raise its incarnation */
    copy->id = s.world->nodes[1].id;
    memcpy(copy->key, s.world->nodes[1].key, sizeof(copy->key));
    copy->present = true;
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, 3, 0);
    stage_wait(&s, 6);
    stage_must(&s, s.world->nodes[1].told_copied > 0 || copy->told_copied > 0, 24,
               "neither process with a copied identity is told of the other one");
    stage_must(&s, stage_call(&s, SIM_OP_KV_SET, 0, 1, 5).state == SIM_OP_DONE, 21,
               "a copied identity stops the cluster");
    sim_node_crash(copy, SIM_DISK_CRASH_KEEP_ALL);
    copy->gone = true;
    stage_finish(&s, ret);
}

static void wiped(uint32_t mutation, FILE *trace, struct sim_result *ret, bool same)
{
    struct sim_stage s;
    struct sim_node *node = NULL;

    stage_set_up(&s, 3, 1, 25, mutation, trace);
    stage_wait(&s, 8); /* until all vote */
    for (unsigned i = 0; i < 10; i++) {
        (void)stage_call(&s, SIM_OP_KV_SET, i % 3, 1, i + 1);
    }
    node = &s.world->nodes[stage_leader(&s) == 1 ? 2 : 1];
    if (same) {
        sim_node_crash(node, SIM_DISK_CRASH_LOSE_ALL);
        sim_disk_wipe(&node->disk);
        s.world->check.disk_changed = true;
        s.world->check.views[node->index].incarnation = 0;
        s.world->check.views[node->index].forgot = true;
        sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
    } else {
        stage_fault(&s, SIM_FAULT_WIPE, node->index, 0);
        stage_must(&s, node->gone, 21, "the disk was not taken away");
    }
    stage_wait(&s, 8);
    stage_must(&s, stage_call(&s, SIM_OP_KV_SET, stage_leader(&s), 2, 5).state == SIM_OP_DONE, 21,
               "a wiped disk stops the cluster");
    stage_finish(&s, ret);
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
    struct sim_stage s;
    struct sim_disk image;
    struct sim_node *node = NULL;

    stage_set_up(&s, 3, 0, 30, mutation, trace);
    s.world->tuning.snapshot_entries = 1000; /* the log still has all that it needs */
    sim_disk_init(&image);
    stage_wait(&s, 4);
    node = &s.world->nodes[stage_leader(&s) == 1 ? 2 : 1];
    for (unsigned i = 0; i < 10; i++) {
        (void)stage_call(&s, SIM_OP_KV_SET, stage_leader(&s), 1, i + 1);
        if (i == 4) {
            sim_node_crash(node, SIM_DISK_CRASH_KEEP_ALL);
            sim_disk_copy(&image, &node->disk);
            sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
            stage_wait(&s, 4);
        }
    }
    sim_node_crash(node, SIM_DISK_CRASH_KEEP_ALL);
    sim_disk_copy(&node->disk, &image);
    sim_disk_release(&image);
    s.world->check.disk_changed = true;
    s.world->check.views[node->index].incarnation = 0;
    s.world->check.views[node->index].forgot = true;
    sim_world_push(s.world, s.world->now_us + SIM_SECOND, SIM_EV_BOOT, node->index, 0);
    stage_wait(&s, 8);
    stage_must(&s,
               sched_raft_applied(node->raft) ==
                   sched_raft_applied(s.world->nodes[stage_leader(&s)].raft),
               21, "a node with an older disk does not catch up within 7 s");
    stage_finish(&s, ret);
}

static void run_clock_day(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    const uint64_t day_us = UINT64_C(86400) * SIM_SECOND;
    struct sim_stage s;

    stage_set_up(&s, 3, 1, 20, mutation, trace);
    s.world->no_clients = false;
    sim_clock_step_wall(&s.world->nodes[0].clock, (int64_t)day_us);
    sim_clock_step_wall(&s.world->nodes[1].clock, -(int64_t)day_us);
    stage_wait(&s, 6);
    /* From a leader a day ahead to one that is not, and back. */
    for (unsigned i = 0; i < 4; i++) {
        stage_fault(&s, SIM_FAULT_TRANSFER, 0, 0);
        stage_wait(&s, 1);
    }
    stage_fault(&s, SIM_FAULT_JOIN_STORM, 0, 0);
    stage_finish(&s, ret);
}

static void run_join_storm(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 1, 24, 5, mutation, trace);
    stage_wait(&s, 2);
    stage_fault(&s, SIM_FAULT_JOIN_STORM, 0, 0);
    stage_finish(&s, ret);
}

static void run_removed(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    uint32_t away = 0;

    stage_set_up(&s, 5, 0, 40, mutation, trace);
    stage_wait(&s, 8); /* until all vote */
    away = (stage_leader(&s) + 1) % 5;
    sim_world_split(s.world, UINT64_C(1) << away, false);
    stage_wait(&s, 1);
    stage_fault(&s, SIM_FAULT_REMOVE, away, 0);
    stage_wait(&s, 10);
    stage_must(&s, s.world->nodes[away].removed, 21, "a node that is away cannot be removed");
    sim_world_join(s.world, UINT64_C(1) << away);
    stage_wait(&s, 20);
    stage_must(&s, s.world->nodes[away].told_removed, 24,
               "a removed node is not told so when it comes back");
    stage_finish(&s, ret);
}

/* An owner is cut off while the answer to a renewal is under way; the answer reaches it when
 * its sandboxes belong to others. */
static void run_late_answer(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    uint64_t ids[4] = {0};

    stage_set_up(&s, 3, 0, 520, mutation, trace); /* the rounds below take some 410 s */
    s.world->tuning.slow_gossip = false;
    s.world->tuning.lease_ms = 800;
    s.world->tuning.msg_entries = 16;
    s.world->tuning.inflight = 8;
    s.world->tuning.snapshot_entries = 100000;
    s.world->net.delay_mean_us = 30000;
    stage_wait(&s, 6);
    for (unsigned round = 0; round < 40 && !s.world->check.code; round++) {
        uint32_t owner = (stage_leader(&s) + 1 + round % 2) % 3;

        s.world->tuning.autosave_ms = 150;
        for (unsigned i = 0; i < 4; i++) {
            ids[i] = stage_call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
        }
        stage_wait(&s, 1.5 + 0.037 * round);
        s.world->tuning.autosave_ms = 60000; /* the last ones get their copies */
        stage_wait(&s, 1.6);
        for (unsigned i = 0; i < 4; i++) { /* refused, but the copy is there from now on */
            for (uint32_t n = 0; n < 3; n++) {
                (void)stage_call(&s, SIM_OP_WAKE, n, 0, ids[i]);
            }
        }
        sim_world_split(s.world, UINT64_C(1) << owner, true);
        /* Longer than a lease, shorter than a node waits for an answer. */
        stage_wait(&s, 0.7 + 0.004 * (round % 20));
        for (unsigned k = 0; k < 11; k++) {
            for (unsigned i = 0; i < 4; i++) {
                (void)sim_client_call(s.world, SIM_OP_WAKE, (owner + 1 + k % 2) % 3, 0, ids[i]);
            }
            stage_wait(&s, 0.02);
        }
        sim_world_join(s.world, UINT64_C(1) << owner);
        stage_wait(&s, 2);
        for (unsigned i = 0; i < 4; i++) { /* their points would fill the log */
            (void)stage_call(&s, SIM_OP_KILL, i % 3, 0, ids[i]);
        }
    }
    stage_must(&s, s.world->check.claims > 0, 3, "sandboxes were to change their owner here");
    s.world->tuning.autosave_ms = 60000;
    s.world->net.delay_mean_us = 200; /* calls that must succeed belong to a network that works */
    stage_finish(&s, ret);
}

/*- Ownership. */

/* Its owner is away for a minute; it is claimed, and let go of by the one that returns. */
static void run_owner_away(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    uint64_t id = 0;
    int keeper = 0;
    uint32_t owner = 0;

    stage_set_up(&s, 3, 0, 100, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    stage_wait(&s, 5);
    owner = (stage_leader(&s) + 1) % 3;
    id = stage_call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
    stage_wait(&s, 4);
    keeper = stage_keeper(&s, id);
    stage_must(&s, keeper >= 0, 10, "a sandbox was to run");
    if (keeper >= 0 && !s.world->check.code) {
        owner = (uint32_t)keeper;
        sim_world_split(s.world, UINT64_C(1) << owner, false);
        stage_wait(&s, 60);
        stage_must(&s, !stage_runs(&s, owner, id), 2, "the owner runs it without a lease");
        stage_must(&s, stage_runs(&s, (owner + 1) % 3, id) || stage_runs(&s, (owner + 2) % 3, id),
                   10, "nobody goes on with it within a minute");
        sim_world_join(s.world, UINT64_C(1) << owner);
        stage_wait(&s, 8);
        stage_must(&s, stage_keeper(&s, id) != (int)owner, 1, "the old owner keeps it");
    }
    stage_finish(&s, ret);
}

/* Every daemon stands still while its VMs would run on: their own deadline ends them. */
static void run_stuck_daemon(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    uint64_t id = 0;
    int keeper = -1;

    stage_set_up(&s, 3, 0, 100, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    stage_wait(&s, 5);
    for (unsigned round = 0; round < 4 && !s.world->check.code; round++) {
        id = stage_call(&s, SIM_OP_CREATE, stage_leader(&s), 0, 1).sandbox;
        stage_wait(&s, 4);
        keeper = stage_keeper(&s, id);
        if (keeper < 0 || (uint32_t)keeper == stage_leader(&s)) {
            continue;
        }
        s.world->nodes[keeper].stalled_us = s.world->now_us + 12 * (uint64_t)SIM_SECOND;
        stage_wait(&s, 10);
        stage_must(&s, !stage_runs(&s, (uint32_t)keeper, id), 2,
                   "a VM runs on behind a daemon that stands still");
        stage_wait(&s, 6);
        stage_must(&s, stage_keeper(&s, id) != keeper, 1, "the old owner keeps it");
    }
    stage_must(&s, s.world->check.lapsed > 0, 3, "sandboxes were to change their owner here");
    stage_finish(&s, ret);
}

/* An owner wakes what it released, while that release is on its way: it must not reach what
 * runs by then. */
static void run_late_release(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    uint64_t id = 0;
    uint32_t owner = 0;
    const struct sim_sandbox *sandbox = NULL;

    stage_set_up(&s, 3, 0, 40, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    stage_wait(&s, 5);
    owner = (stage_leader(&s) + 1) % 3;
    (void)stage_call(&s, SIM_OP_CORDON, owner, stage_leader(&s), 1);
    (void)stage_call(&s, SIM_OP_CORDON, owner,
                     (owner + 1) % 3 == stage_leader(&s) ? (owner + 2) % 3 : (owner + 1) % 3, 1);
    id = stage_call(&s, SIM_OP_CREATE, owner, 0, 1).sandbox;
    stage_wait(&s, 3);
    (void)stage_call(&s, SIM_OP_HIBERNATE, owner, 0, id);
    stage_wait(&s, 2);
    stage_must(&s, stage_call(&s, SIM_OP_WAKE, owner, 0, id).state == SIM_OP_DONE, 10,
               "it does not wake");
    stage_wait(&s, 0.1);
    (void)stage_call(&s, SIM_OP_HIBERNATE, owner, 0, id);
    sandbox = sim_sandbox_find(&s.world->nodes[owner], id);
    stage_must(&s, sandbox != NULL, 10, "its owner was to keep it");
    while (sandbox && !sandbox->elsewhere && sim_world_step(s.world)) {
    }
    /* The release has left; nothing arrives for a while. */
    sim_world_split(s.world, UINT64_C(1) << owner, true);
    (void)sim_client_call(s.world, SIM_OP_WAKE, owner, 0, id);
    stage_wait(&s, 0.3);
    sim_world_join(s.world, UINT64_C(1) << owner);
    stage_wait(&s, 0.2);
    (void)stage_call(&s, SIM_OP_WAKE, (owner + 1) % 3, 0, id);
    stage_wait(&s, 3);
    stage_finish(&s, ret);
}

/* A rumour that passed while a node could not hear is made up for by comparing digests. */
static void run_missed_rumour(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 5, 0, 30, mutation, trace);
    stage_wait(&s, 5);
    for (unsigned round = 0; round < 3; round++) {
        sim_world_split(s.world, 16, false);
        s.world->nodes[1].committed_mb++;
        sim_gossip_publish(&s.world->nodes[1]);
        sim_node_arm(&s.world->nodes[1]);
        stage_wait(&s, 3);
        sim_world_join(s.world, 16);
        stage_wait(&s, 5);
        stage_must(&s,
                   gossip_record_digest(s.world->nodes[4].gossip) ==
                       gossip_record_digest(s.world->nodes[1].gossip),
                   18, "a record that was missed is not there 5 s later");
    }
    stage_finish(&s, ret);
}

/*- Failure detection, with the timings of production. */

static void run_quiet(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 10, 0, 64, mutation, trace);
    stage_wait(&s, 4);
    s.world->check.expect_quiet = true;
    stage_wait(&s, 60);
    stage_finish(&s, ret);
}

static void run_stall(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 10, 0, 44, mutation, trace);
    stage_wait(&s, 6);
    s.world->check.expect_quiet = true;
    for (unsigned i = 0; i < 4; i++) {
        s.world->nodes[3 + i].stalled_us = s.world->now_us + 5 * SIM_SECOND;
        stage_wait(&s, 9);
    }
    stage_finish(&s, ret);
}

static void run_crash_seen(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 10, 0, 30, mutation, trace);
    s.world->tuning.links_told = true;
    stage_wait(&s, 5);
    sim_node_crash(&s.world->nodes[7], SIM_DISK_CRASH_PREFIX);
    stage_wait(&s, 8);
    for (uint32_t i = 0; i < 10; i++) {
        const struct sim_node *node = &s.world->nodes[i];
        const struct gossip_member *member = NULL;

        if (i == 7) {
            continue;
        }
        member = gossip_member_find(node->gossip, &s.world->nodes[7].id);
        stage_must(&s, member && member->life == GOSSIP_DEAD, 19,
                   "a crashed node is not seen dead by all within 8 s");
    }
    stage_finish(&s, ret);
}

/* The last ones are in sim/directed_copy.c. */
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
    {"owner-away", "an owner that is cut off for a minute lets go when it returns", run_owner_away},
    {"late-release", "a release that is late does not reach what its owner woke meanwhile",
     run_late_release},
    {"stuck-daemon", "no VM runs on behind a daemon that stands still", run_stuck_daemon},
    {"missed-rumour", "a record that was missed arrives by comparing digests", run_missed_rumour},
    {"quiet-minute", "nobody is called dead in a minute without faults", run_quiet},
    {"stall-5-s", "a node that stands still for 5 s is not called dead", run_stall},
    {"crash-seen", "a crash is known to all within 8 s", run_crash_seen},
};

#define OWN (sizeof(table) / sizeof(table[0]))

size_t sim_directed_count(void)
{
    return OWN + sim_directed_copy_count;
}

const struct sim_directed *sim_directed_get(size_t i)
{
    return i < OWN ? &table[i] : &sim_directed_copy[i - OWN];
}

const struct sim_directed *sim_directed_find(const char *name)
{
    for (size_t i = 0; i < sim_directed_count(); i++) {
        if (strcmp(sim_directed_get(i)->name, name) == 0) {
            return sim_directed_get(i);
        }
    }
    return NULL;
}
