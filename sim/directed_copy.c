/* Directed schedules of copies: a node lost with its disk, one that returns with it, points that
 * must not be passed over. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim/directed_stage.h"
#include "sim/hold.h"
#include "sim/replica.h"

#define COUNT 20u /* sandboxes */
#define HALF  (COUNT / 2)

/*- Tables. */

struct table {
    char text[SIM_RESULT_TABLE];
    size_t len;
};

static SHL_PRINTF(2, 3) void add(struct table *table, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    table->len +=
        (size_t)vsnprintf(table->text + table->len, sizeof(table->text) - table->len, fmt, args);
    table->len = SHL_MIN(table->len, sizeof(table->text) - 1);
    va_end(args);
}

static void finish(struct sim_stage *s, const struct table *table, struct sim_result *ret)
{
    stage_finish(s, ret);
    memcpy(ret->table, table->text, sizeof(ret->table));
}

static double since(const struct sim_stage *s, uint64_t from_us)
{
    return (double)(s->world->now_us - from_us) / SIM_SECOND;
}

/*- 20 sandboxes, half of them hibernated, all on one node. */

static uint32_t crowd(struct sim_stage *s, uint64_t ids[COUNT])
{
    uint32_t nodes = s->schedule.nodes;
    uint32_t owner = (stage_leader(s) + 1) % nodes;

    for (uint32_t i = 0; i < nodes; i++) { /* there is no room anywhere else */
        if (i != owner) {
            (void)stage_call(s, SIM_OP_CORDON, stage_leader(s), i, 1);
        }
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        struct sim_op made = stage_call(s, SIM_OP_CREATE, owner, 0, 1);

        stage_must(s, made.state == SIM_OP_DONE && made.owner == owner, 16, "a create fails");
        ids[i] = made.sandbox;
    }
    stage_wait(s, 4);
    for (uint32_t i = 0; i < HALF; i++) {
        stage_must(s, stage_call(s, SIM_OP_HIBERNATE, owner, 0, ids[i]).state == SIM_OP_DONE, 10,
                   "a sandbox does not hibernate");
    }
    stage_wait(s, 3);
    for (uint32_t i = 0; i < nodes; i++) {
        (void)stage_call(s, SIM_OP_UNMARK, stage_leader(s), i, 1);
    }
    return owner;
}

struct back {
    bool there;
    double after_s;
    uint32_t node;
};

/* It answers under its id, asked through a node that is not the one that runs it. */
static bool answers(struct sim_stage *s, uint64_t id, uint32_t victim, struct back *ret)
{
    int keeper = stage_keeper(s, id);
    uint32_t nodes = s->schedule.nodes, entry = 0;

    if (keeper < 0 || !stage_runs(s, (uint32_t)keeper, id)) {
        return false;
    }
    entry = ((uint32_t)keeper + 1) % nodes;
    entry = entry == victim ? (entry + 1) % nodes : entry;
    ret->node = (uint32_t)keeper;
    return stage_call(s, SIM_OP_GET, entry, 0, id).state == SIM_OP_DONE;
}

/* Points whose copies are on live nodes: all that are wanted, and at least one. */
static bool is_repaired(const struct sim_stage *s)
{
    const struct sim_world *world = s->world;
    const struct sim_node *viewer = &world->nodes[sim_world_leader(world)];

    for (size_t i = 0; i < sched_state_count(viewer->state, SCHED_TABLE_CHECKPOINTS); i++) {
        const struct sched_checkpoint *row =
            sched_state_at(viewer->state, SCHED_TABLE_CHECKPOINTS, i);
        struct ckpt_id manifest;
        struct sim_point_id point;
        uint32_t copies = 0;

        memcpy(manifest.bytes, row->manifest, sizeof(manifest.bytes));
        sim_point_of_manifest(&manifest, &point);
        for (uint32_t k = 0; k < world->node_count; k++) {
            const struct sim_node *node = &world->nodes[k];
            const struct sim_manifest *m = sim_store_find(node, &point);

            copies += node->up && !node->gone && m && m->durable && !m->leaving &&
                      sim_store_is_whole(node, m, true);
        }
        if (copies > 0 && copies < row->wanted) { /* none: the lost node alone had begun with it */
            return false;
        }
    }
    return true;
}

static void tell_backs(struct table *table, const uint64_t ids[COUNT], const struct back *backs)
{
    add(table, "  sandbox            was         answers after  on\n");
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[SCHED_ID_SIZE];

        sim_sandbox_text(text, ids[i]);
        add(table, "  %-18s %-11s %10.2f s  n%u\n", text, i < HALF ? "hibernated" : "running",
            backs[i].after_s, backs[i].node);
    }
}

static void node_lost(uint32_t nodes, uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    struct table table = {.len = 0};
    struct back backs[COUNT] = {0};
    uint64_t ids[COUNT];
    uint64_t lost_us = 0;
    uint32_t victim = 0, back = 0;
    double all_s = 0;

    stage_set_up(&s, nodes, 0, 100, mutation, trace);
    s.world->tuning.lease_ms = 10000;
    s.world->tuning.grace_ms = 30000;
    stage_wait(&s, 13); /* a new leader waits for a lease */
    victim = crowd(&s, ids);
    stage_wait(&s, 2);
    stage_fault(&s, SIM_FAULT_WIPE, victim, 0);
    stage_must(&s, s.world->nodes[victim].gone, 10, "the node was not lost");
    s.world->tuning.autosave_ms = 100000; /* what is to be repaired is what there was */
    lost_us = s.world->now_us;
    for (uint32_t i = 0; i < HALF; i++) { /* the hibernated ones at once */
        uint32_t entry = (victim + 1 + i % (nodes - 1)) % nodes;

        stage_must(&s, stage_call(&s, SIM_OP_WAKE, entry, 0, ids[i]).state == SIM_OP_DONE, 10,
                   "a hibernated sandbox does not wake elsewhere at once");
    }
    stage_must(&s, s.world->now_us < lost_us + 2 * (uint64_t)SIM_SECOND, 10,
               "ten wakes take more than two seconds");
    /* The running ones when the lease of their node has ended. */
    while (back < COUNT && !s.world->check.code && since(&s, lost_us) < 15) {
        for (uint32_t i = 0; i < COUNT; i++) {
            if (!backs[i].there && answers(&s, ids[i], victim, &backs[i])) {
                backs[i].there = true;
                backs[i].after_s = all_s = since(&s, lost_us);
                back++;
            }
        }
        stage_wait(&s, 0.1);
    }
    stage_must(&s, back == COUNT, 10, "not all 20 sandboxes answer 15 s after their node was lost");
    while (!s.world->check.code && !is_repaired(&s) && since(&s, lost_us) < 60) {
        stage_wait(&s, 0.1);
    }
    stage_must(&s, is_repaired(&s), 10, "not everything has its copies again after a minute");
    tell_backs(&table, ids, backs);
    add(&table,
        "  all 20 answer after %.2f s; R = 2 again after %.2f s (silent nodes may return for %u s)\n",
        all_s, since(&s, lost_us), s.world->tuning.grace_ms / 1000);
    finish(&s, &table, ret);
}

static void run_node_lost(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    node_lost(5, mutation, trace, ret);
}

static void run_node_lost_of_3(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    node_lost(3, mutation, trace, ret);
}

/*- A node that returns with its data. */

static uint64_t copies_on(const struct sim_stage *s, uint32_t slot)
{
    return s->world->nodes[slot].store.manifest_count;
}

/* Who has copies of others' sandboxes, and does not lead. */
static uint32_t holder_besides(struct sim_stage *s, uint32_t owner)
{
    uint32_t best = (owner + 1) % s->schedule.nodes;

    for (uint32_t i = 0; i < s->schedule.nodes; i++) {
        if (i != owner && i != stage_leader(s) &&
            (best == stage_leader(s) || best == owner || copies_on(s, i) > copies_on(s, best))) {
            best = i;
        }
    }
    return best;
}

static void run_returns(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    struct table table = {.len = 0};
    uint64_t ids[COUNT];
    uint64_t asked = 0, repairs = 0, held = 0, trims = 0;
    uint32_t owner = 0, holder = 0;

    stage_set_up(&s, 5, 0, 120, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    s.world->tuning.grace_ms = 12000;
    stage_wait(&s, 6);
    owner = crowd(&s, ids);
    s.world->tuning.autosave_ms = 1000000;
    stage_wait(&s, 4);
    holder = holder_besides(&s, owner);
    held = copies_on(&s, holder);
    stage_must(&s, held > 0, 10, "a node was to have copies");
    /* Back within the grace time: nobody moves anything. */
    asked = s.world->check.asked;
    repairs = s.world->check.repairs;
    sim_node_crash(&s.world->nodes[holder], SIM_DISK_CRASH_PREFIX);
    stage_wait(&s, 9);
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, holder, 0);
    stage_wait(&s, 6);
    stage_must(&s, s.world->check.repairs == repairs && s.world->check.asked == asked, 10,
               "copies were made of what a node had that came back in time");
    add(&table, "  away for 9 of 12 s: %llu copies there, %llu chunks moved\n",
        (unsigned long long)held, (unsigned long long)(s.world->check.asked - asked));
    /* Away for longer: its copies are made elsewhere. When it is back it asks for none of them, and
     * what is too much goes. */
    sim_node_crash(&s.world->nodes[holder], SIM_DISK_CRASH_PREFIX);
    stage_wait(&s, 30);
    stage_must(&s, s.world->check.repairs > repairs && is_repaired(&s), 10,
               "what a lost node had was to be made again elsewhere");
    add(&table, "  away for 30 of 12 s: %llu copies made elsewhere, %llu chunks moved\n",
        (unsigned long long)(s.world->check.repairs - repairs),
        (unsigned long long)(s.world->check.asked - asked));
    asked = s.world->check.asked;
    trims = s.world->check.trims;
    sim_world_push(s.world, s.world->now_us + 1, SIM_EV_BOOT, holder, 0);
    stage_wait(&s, 20);
    stage_must(&s, s.world->check.asked == asked, 10,
               "chunks move again when the node is back that had them");
    stage_must(&s, s.world->check.trims > trims && is_repaired(&s), 10,
               "copies that are too many were to go");
    add(&table, "  back again: %llu copies that were too many dropped, %llu chunks moved\n",
        (unsigned long long)(s.world->check.trims - trims),
        (unsigned long long)(s.world->check.asked - asked));
    finish(&s, &table, ret);
}

/*- The newest point has copies, and both nodes that have it are silent: nobody goes on from an
 * older one, though it is at hand. */

static uint64_t holders_of(const struct sim_stage *s, uint64_t id, uint64_t count)
{
    uint64_t set = 0;

    for (uint32_t i = 0; i < s->world->node_count; i++) {
        const struct sim_store *store = &s->world->nodes[i].store;

        for (uint32_t k = 0; k < store->manifest_count; k++) {
            if (store->manifests[k].point.sandbox == id &&
                store->manifests[k].point.count == count) {
                set |= UINT64_C(1) << i;
            }
        }
    }
    return set;
}

static void until_durable(struct sim_stage *s, uint64_t id, uint64_t count)
{
    while (sim_check_known(&s->world->check, id)->durable < count && sim_world_step(s->world)) {
    }
}

static void run_newest_silent(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    unsigned tried = 0;

    stage_set_up(&s, 5, 0, 400, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    s.world->tuning.grace_ms = 60000;
    stage_wait(&s, 6);
    for (unsigned round = 0; round < 12 && !s.world->check.code; round++) {
        uint64_t id = stage_call(&s, SIM_OP_CREATE, stage_leader(&s), 0, 1).sandbox;
        struct sim_known *known = sim_check_known(&s.world->check, id);
        uint64_t old = 0, set = 0;

        while (known->durable < 2 && sim_world_step(s.world)) {
            known = sim_check_known(&s.world->check, id);
        }
        set = holders_of(&s, id, 2);
        old = holders_of(&s, id, 1);
        /* The older one is elsewhere, too, and a majority is left without those of the newer. */
        if ((old & ~set) && __builtin_popcountll(set) == 2) {
            tried++;
            sim_world_split(s.world, set, false);
            stage_wait(&s, 15);
            sim_world_join(s.world, set);
            stage_wait(&s, 8);
        }
        (void)stage_call(&s, SIM_OP_KILL, stage_leader(&s), 0, id);
        stage_wait(&s, 1);
    }
    stage_must(&s, tried > 0, 10, "the newest point was to be silent in this schedule");
    stage_finish(&s, ret);
}

/*- The same, and the owner is removed: the other one's copy was promised all the same. */

static void run_newest_removed(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;
    bool tried = false;

    stage_set_up(&s, 5, 0, 400, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    s.world->tuning.grace_ms = 60000;
    stage_wait(&s, 8); /* until all vote */
    for (unsigned round = 0; round < 12 && !tried && !s.world->check.code; round++) {
        uint64_t id = stage_call(&s, SIM_OP_CREATE, stage_leader(&s), 0, 1).sandbox;
        uint64_t old = 0, set = 0;
        int owner = -1;

        until_durable(&s, id, 2);
        owner = stage_keeper(&s, id);
        set = holders_of(&s, id, 2);
        old = holders_of(&s, id, 1);
        tried = owner >= 0 && (old & ~set) && __builtin_popcountll(set) == 2 &&
                !(set >> stage_leader(&s) & 1);
        if (tried) {
            sim_world_split(s.world, set, false);
            stage_fault(&s, SIM_FAULT_REMOVE, (uint32_t)owner, 0);
            stage_wait(&s, 15);
            stage_must(&s, s.world->nodes[owner].removed, 21, "a silent node cannot be removed");
            sim_world_join(s.world, set);
            stage_wait(&s, 8);
        } else {
            (void)stage_call(&s, SIM_OP_KILL, stage_leader(&s), 0, id);
            stage_wait(&s, 1);
        }
    }
    stage_must(&s, tried, 10, "the newest point was to be silent in this schedule");
    stage_finish(&s, ret);
}

/*- A node has an older point at hand when it becomes the owner: it goes on from the newest. */

static void run_old_copy(uint32_t mutation, FILE *trace, struct sim_result *ret)
{
    struct sim_stage s;

    stage_set_up(&s, 3, 0, 200, mutation, trace);
    s.world->tuning.lease_ms = 3000;
    s.world->tuning.grace_ms = 60000;
    stage_wait(&s, 6);
    (void)stage_call(&s, SIM_OP_CORDON, stage_leader(&s), stage_leader(&s), 1);
    for (unsigned round = 0; round < 6 && !s.world->check.code; round++) {
        uint64_t id = stage_call(&s, SIM_OP_CREATE, stage_leader(&s), 0, 1).sandbox;
        int owner = -1;

        until_durable(&s, id, 1);
        owner = stage_keeper(&s, id);
        for (unsigned k = 0; owner >= 0 && k < 8; k++) { /* refused, but they have a copy now */
            (void)stage_call(&s, SIM_OP_WAKE, ((uint32_t)owner + 1 + k % 2) % 3, 0, id);
        }
        until_durable(&s, id, 4);
        if (owner >= 0 && (uint32_t)owner != stage_leader(&s)) {
            sim_world_split(s.world, UINT64_C(1) << owner, false);
            stage_wait(&s, 12);
            stage_must(&s, stage_keeper(&s, id) != owner || s.world->check.lapsed > 0, 10,
                       "nobody goes on with a sandbox whose owner is cut off");
            sim_world_join(s.world, UINT64_C(1) << owner);
            stage_wait(&s, 6);
        }
        (void)stage_call(&s, SIM_OP_KILL, stage_leader(&s), 0, id);
        stage_wait(&s, 1);
    }
    stage_must(&s, s.world->check.lapsed > 0, 3, "sandboxes were to change their owner here");
    stage_finish(&s, ret);
}

const struct sim_directed sim_directed_copy[] = {
    {"node-lost",
     "20 sandboxes, half hibernated, run again after one of 5 nodes died with its disk",
     run_node_lost},
    {"node-lost-of-3", "the same with 3 nodes", run_node_lost_of_3},
    {"returns-with-data", "what a node still has when it returns is not copied again", run_returns},
    {"newest-silent", "a point that has copies is not passed over while their nodes are silent",
     run_newest_silent},
    {"newest-removed",
     "nobody goes on from an older point when of two nodes with the newest one is removed",
     run_newest_removed},
    {"old-copy",
     "a sandbox that is taken over goes on from the newest point, not from the one at hand",
     run_old_copy},
};

const size_t sim_directed_copy_count = sizeof(sim_directed_copy) / sizeof(sim_directed_copy[0]);
