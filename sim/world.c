#include "sim/world.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "sim/digest.h"
#include "sim/route.h"

#define EVENTS_MAX UINT64_C(20000000) /* of one run: more is a storm that never ends */

/* From a stream of their own. Failure domains: one per node, or a few racks. */
static void draw_copies(struct sim_world *world)
{
    struct sim_rng rng;
    uint32_t racks = 0;

    sim_rng_split(&rng, world->schedule->seed, SIM_SUBJECT_SETUP, 1);
    world->tuning.copies = 2;
    if (world->schedule->nodes > 3 && sim_rng_below(&rng, 4) == 0) {
        world->tuning.copies = 3;
    }
    world->tuning.grace_ms = (uint32_t)sim_rng_range(&rng, 5, 30) * 100;
    racks = (uint32_t)sim_rng_below(&rng, 3) + 1;
    for (uint32_t i = 0; racks > 1 && i < world->node_count; i++) {
        snprintf(world->nodes[i].domain, sizeof(world->nodes[i].domain), "r%u",
                 i % SHL_MAX(racks, 2));
    }
}

static void draw_tuning(struct sim_world *world)
{
    struct sim_tuning *t = &world->tuning;
    struct sim_rng *rng = &world->setup_rng;

    t->lease_ms = (uint32_t)sim_rng_range(rng, 8, 30) * 100;
    t->sync_us = (uint32_t)sim_rng_range(rng, 100, 3000);
    t->slow_gossip = sim_rng_below(rng, 5) == 0;
    t->links_told = sim_rng_below(rng, 2) == 0;
    t->snapshot_entries = (uint32_t)sim_rng_range(rng, 5, 20);
    t->snapshot_entries <<= sim_rng_below(rng, 4); /* two draws, two statements: the order counts */
    t->chunk_bytes = (uint32_t)sim_rng_range(rng, 256, 4096);
    t->msg_entries = (uint32_t)sim_rng_range(rng, 1, 16);
    t->inflight = (uint32_t)sim_rng_range(rng, 1, 8);
    t->voters_stable_ms = (uint32_t)sim_rng_range(rng, 2, 20) * 100;
    t->voters_dead_ms = (uint32_t)sim_rng_range(rng, 10, 60) * 100;
    t->memory_mb = 4096u << sim_rng_below(rng, 3);
    t->autosave_ms = 1500;
    t->clients = (uint32_t)sim_rng_range(rng, 1, 5);
    t->think_us = 20000u << sim_rng_below(rng, 4);
    /* The mean delay between nodes; a LAN in most runs. */
    world->net.delay_mean_us = sim_rng_below(rng, 4) ? 300 : 3000;
    if (world->schedule->nodes > 8 && t->msg_entries * t->inflight < 4) {
        t->msg_entries = 4; /* or renewing the leases of so many is more than the log can take */
    }
}

void sim_world_init(struct sim_world *world, const struct sim_schedule *schedule, FILE *trace)
{
    memset(world, 0, sizeof(*world));
    world->schedule = schedule;
    world->trace = trace;
    world->digest = SIM_DIGEST_BEGIN;
    world->event_max = EVENTS_MAX;
    world->node_count = schedule->nodes + schedule->spares;
    world->next_spare = schedule->nodes;
    world->mutate = *sim_mutation_get(schedule->mutation);
    sim_heap_init(&world->heap);
    sim_net_init(&world->net, &world->heap, SIM_EV_NET, world->node_count, schedule->seed);
    sim_rng_split(&world->setup_rng, schedule->seed, SIM_SUBJECT_SETUP, 0);
    sim_rng_split(&world->fault_rng, schedule->seed, SIM_SUBJECT_FAULTS, 1000);
    draw_tuning(world);
    sim_check_init(&world->check);
    sim_clients_init(&world->clients, world);
    world->nodes = calloc(world->node_count, sizeof(*world->nodes));
    assert(world->nodes);
    for (uint32_t i = 0; i < world->node_count; i++) {
        sim_node_init(&world->nodes[i], world, i);
    }
    draw_copies(world);
    if (schedule->nodes == 3 && sim_rng_below(&world->setup_rng, 6) == 0) {
        world->nodes[2].role = SCHED_ROLE_WITNESS;
    }
    for (uint32_t i = 0; i < schedule->nodes; i++) {
        world->nodes[i].present = true;
        sim_world_push(world, 1000 + 20000 * i, SIM_EV_BOOT, i, 0);
    }
    for (size_t i = 0; i < schedule->count; i++) {
        sim_world_push(world, SIM_SETTLE_US + schedule->faults[i].at_us, SIM_EV_FAULT_BEGIN, 0, i);
    }
    sim_world_push(world, SIM_SECOND, SIM_EV_SECOND, 0, 1);
    sim_world_push(world, SIM_SETTLE_US + schedule->faults_us, SIM_EV_HEAL, 0, 0);
    sim_clients_start(world);
}

void sim_world_release(struct sim_world *world)
{
    struct sim_event event;

    while (sim_heap_pop(&world->heap, &event)) {
        if (event.kind == SIM_EV_NET) {
            sim_msg_unref(event.ptr);
        }
    }
    for (uint32_t i = 0; i < world->node_count; i++) {
        sim_node_release(&world->nodes[i]);
    }
    free(world->nodes);
    free(world->view_entries);
    free(world->view_holders);
    free(world->digest_at);
    sim_clients_release(&world->clients);
    sim_check_release(&world->check);
    sim_net_release(&world->net);
    sim_heap_release(&world->heap);
}

void sim_trace(struct sim_world *world, int node, const char *fmt, ...)
{
    va_list args;

    fprintf(world->trace, "%10.6f ", (double)world->now_us / SIM_SECOND);
    if (node >= 0) {
        fprintf(world->trace, "n%-3d ", node);
    } else {
        fprintf(world->trace, "---- ");
    }
    va_start(args, fmt);
    vfprintf(world->trace, fmt, args);
    va_end(args);
    fputc('\n', world->trace);
}

void sim_world_push(struct sim_world *world,
                    uint64_t at_us,
                    enum sim_event_kind kind,
                    uint32_t node,
                    uint64_t a)
{
    sim_heap_push(&world->heap,
                  (struct sim_event){.at_us = at_us, .kind = kind, .node = node, .a = a});
}

int sim_world_leader(const struct sim_world *world)
{
    int leader = -1;
    uint64_t term = 0;

    for (uint32_t i = 0; i < world->node_count; i++) {
        const struct sim_node *node = &world->nodes[i];

        if (node->up && node->leading && node->lead_term > term) {
            term = node->lead_term;
            leader = (int)i;
        }
    }
    return leader;
}

/*- Events. */

static void remember_digest(struct sim_world *world)
{
    if (world->digest_seconds == world->digest_cap) {
        world->digest_cap = world->digest_cap ? world->digest_cap * 2 : 64;
        world->digest_at = realloc(world->digest_at, world->digest_cap * sizeof(*world->digest_at));
        assert(world->digest_at);
    }
    world->digest_at[world->digest_seconds++] = world->digest;
}

static void on_second(struct sim_world *world, uint64_t number)
{
    remember_digest(world);
    sim_check_second(world);
    sim_world_push(world, (number + 1) * SIM_SECOND, SIM_EV_SECOND, 0, number + 1);
}

/* Events that a stalled process does not see until it goes on. */
static bool is_for_process(uint32_t kind)
{
    return kind == SIM_EV_NET || kind == SIM_EV_WAKE || kind == SIM_EV_SYNC ||
           kind == SIM_EV_CALL || kind == SIM_EV_LINK || kind == SIM_EV_CAMPAIGN;
}

/* True when the event was put off. */
static bool stall(struct sim_world *world, struct sim_event *event)
{
    struct sim_node *node = &world->nodes[event->node];

    if (node->stalled_us <= world->now_us) {
        if (node->lag_us == 0 || event->kind != SIM_EV_WAKE ||
            sim_rng_below(&node->clock_rng, 8) != 0) {
            return false;
        }
        node->stalled_us = world->now_us + 1 + sim_rng_below(&node->clock_rng, node->lag_us);
    }
    event->at_us = node->stalled_us;
    if (event->kind == SIM_EV_WAKE) {
        node->wake_us = event->at_us;
    }
    sim_heap_push_again(&world->heap, *event);
    return true;
}

static void on_call(struct sim_world *world, struct sim_node *node, uint64_t a)
{
    uint64_t number = a >> 16;

    if (!node->up) {
        sim_client_answer(world, number, (uint32_t)(a & 0xffff), SHL_EUNAVAILABLE);
        return;
    }
    sim_route_call(node, &world->clients.ops[number], (uint32_t)(a & 0xffff));
}

/* Events of a process that does not run any more. */
static bool is_stale(const struct sim_node *node, const struct sim_event *event)
{
    if (event->kind == SIM_EV_WAKE) {
        return !node->up || event->a != node->boot || event->at_us != node->wake_us;
    }
    if (event->kind == SIM_EV_SYNC) {
        return !node->up || event->a != node->boot;
    }
    return (event->kind == SIM_EV_LINK || event->kind == SIM_EV_CAMPAIGN) && !node->up;
}

static void after(struct sim_world *world, struct sim_node *node)
{
    if (node->dying) {
        sim_node_crash(node, SIM_DISK_CRASH_KEEP_ALL);
        if (!node->gone) {
            sim_world_push(world, world->now_us + 300000, SIM_EV_BOOT, node->index, 0);
        }
    } else if (node->up) {
        sim_node_arm(node);
    }
}

static void on_process_event(struct sim_world *world, struct sim_event *event)
{
    struct sim_node *node = &world->nodes[event->node];

    if (is_stale(node, event) || stall(world, event)) {
        return;
    }
    if (event->kind == SIM_EV_NET) {
        struct sim_msg *msg = sim_net_arrive(&world->net, world->now_us, event);

        if (!msg) {
            return;
        }
        world->digest = sim_digest_u64(world->digest, (uint64_t)msg->from << 40 |
                                                          (uint64_t)msg->kind << 32 | msg->len);
        if (node->up) {
            sim_node_receive(node, msg);
        }
        sim_msg_unref(msg);
    } else if (event->kind == SIM_EV_WAKE) {
        node->wake_us = UINT64_MAX;
        sim_node_wake(node);
    } else if (event->kind == SIM_EV_SYNC) {
        sim_node_synced(node);
    } else if (event->kind == SIM_EV_CALL) {
        on_call(world, node, event->a);
    } else if (event->kind == SIM_EV_CAMPAIGN) {
        struct sched_raft_event campaign = {.type = SCHED_RAFT_CAMPAIGN,
                                            .now_ms = sim_node_now_ms(node)};

        sim_raft_step(node, &campaign);
    } else {
        sim_node_link(node, (uint32_t)event->a);
    }
    after(world, node);
}

static void on_boot(struct sim_world *world, struct sim_node *node)
{
    if (node->up || node->gone || !node->present || world->now_us < node->down_until_us) {
        return;
    }
    node->disk.fail_writes = false;
    node->stalled_us = 0;
    sim_node_boot(node);
    after(world, node);
    for (uint32_t peer = 0; world->tuning.links_told && peer < world->node_count; peer++) {
        sim_world_push(world, world->now_us + 100000, SIM_EV_LINK, peer, node->index);
    }
}

static void heal(struct sim_world *world)
{
    SIM_TRACE(world, -1, "everything heals");
    sim_world_heal(world);
    world->phase = SIM_PHASE_CONVERGE;
    world->healed_us = world->now_us;
}

static bool clients_busy(const struct sim_world *world)
{
    for (uint32_t i = 0; i < SIM_CLIENTS_MAX; i++) {
        if (world->clients.clients[i].op) {
            return true;
        }
    }
    return false;
}

static void try_to_end(struct sim_world *world)
{
    if (world->phase != SIM_PHASE_CONVERGE ||
        world->now_us < world->check.last_converge_us + 200000) {
        return;
    }
    world->check.last_converge_us = world->now_us;
    if (!clients_busy(world) && sim_check_converged(world)) {
        SIM_TRACE(world, -1, "one cluster again after %.3f s",
                  (double)(world->now_us - world->healed_us) / SIM_SECOND);
        world->phase = SIM_PHASE_PROBE;
        world->converged_us = world->now_us;
        sim_clients_probe(world);
    }
}

static void dispatch(struct sim_world *world, struct sim_event *event)
{
    if (is_for_process(event->kind)) {
        on_process_event(world, event);
        return;
    }
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EV_BOOT:
        on_boot(world, &world->nodes[event->node]);
        break;
    case SIM_EV_CUT:
        if (world->nodes[event->node].up && world->nodes[event->node].boot == event->a) {
            sim_node_crash(&world->nodes[event->node], SIM_DISK_CRASH_LOSE_ALL);
        }
        break;
    case SIM_EV_CLIENT:
        sim_client_wake(world, event->node, event->a);
        break;
    case SIM_EV_FAULT_BEGIN:
        if (world->phase == SIM_PHASE_FAULTS) {
            sim_world_fault_begin(world, &world->schedule->faults[event->a]);
            if (world->schedule->faults[event->a].for_us > 0) {
                sim_world_push(world, world->now_us + world->schedule->faults[event->a].for_us,
                               SIM_EV_FAULT_END, 0, event->a);
            }
        }
        break;
    case SIM_EV_FAULT_END:
        if (world->phase == SIM_PHASE_FAULTS) {
            sim_world_fault_end(world, &world->schedule->faults[event->a]);
        }
        break;
    case SIM_EV_SECOND:
        on_second(world, event->a);
        break;
    case SIM_EV_HEAL:
        heal(world);
        break;
    case SIM_EV_NET:
    case SIM_EV_WAKE:
    case SIM_EV_SYNC:
    case SIM_EV_CALL:
    case SIM_EV_LINK:
    case SIM_EV_CAMPAIGN:
    case SIM_EV_KINDS:
        break;
    }
}

bool sim_world_step(struct sim_world *world)
{
    struct sim_event event;

    if (world->check.code || world->phase == SIM_PHASE_DONE ||
        !sim_heap_pop(&world->heap, &event)) {
        return false;
    }
    assert(event.at_us >= world->now_us);
    world->now_us = event.at_us;
    world->events++;
    world->digest = sim_digest_u64(world->digest, event.at_us);
    world->digest = sim_digest_u64(world->digest, (uint64_t)event.kind << 32 | event.node);
    world->digest = sim_digest_u64(world->digest, event.a);
    dispatch(world, &event);
    try_to_end(world);
    if (world->phase == SIM_PHASE_CONVERGE &&
        world->now_us > SIM_SETTLE_US + world->schedule->end_us) {
        sim_check_fail(world, 21, "not one cluster %.0f s after everything healed: %s",
                       (double)(world->now_us - world->healed_us) / SIM_SECOND,
                       world->check.waiting);
    }
    if (world->events > world->event_max) {
        sim_check_fail(world, 23, "more than %llu events: a storm",
                       (unsigned long long)world->event_max);
    }
    return !world->check.code && world->phase != SIM_PHASE_DONE;
}

bool sim_world_run_until(struct sim_world *world, uint64_t until_us)
{
    while (sim_heap_peek(&world->heap) && sim_heap_peek(&world->heap)->at_us <= until_us) {
        if (!sim_world_step(world)) {
            return false;
        }
    }
    world->now_us = SHL_MAX(world->now_us, until_us);
    return !world->check.code && world->phase != SIM_PHASE_DONE;
}
