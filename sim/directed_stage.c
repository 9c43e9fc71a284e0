#include "sim/directed_stage.h"

#include <assert.h>
#include <stdlib.h>

#include "sim/hold.h"

void stage_set_up(struct sim_stage *s,
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
    s->world->tuning.copies = 2;
    s->world->tuning.grace_ms = 3000;
    s->world->nodes[nodes > 2 ? 2 : 0].role = SCHED_ROLE_VOTER;
    for (uint32_t i = 0; i < s->world->node_count; i++) {
        s->world->nodes[i].sync_us = 500;
    }
}

/* To the end of the run: heal, converge, probe. */
void stage_finish(struct sim_stage *s, struct sim_result *ret)
{
    while (sim_world_step(s->world)) {
    }
    sim_result_of(s->world, ret);
    sim_world_release(s->world);
    free(s->world);
}

void stage_wait(struct sim_stage *s, double seconds)
{
    (void)sim_world_run_until(s->world,
                              s->world->now_us + (uint64_t)(seconds * (double)SIM_SECOND));
}

void stage_fault(struct sim_stage *s, enum sim_fault_class class, uint32_t a, uint64_t value)
{
    struct sim_fault fault = {.class = class, .a = a, .value = value};

    sim_world_fault_begin(s->world, &fault);
}

/* One call, until it is answered or its client gives up. */
struct sim_op stage_call(struct sim_stage *s,
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

void stage_must(struct sim_stage *s, bool holds, int invariant, const char *text)
{
    if (!holds) {
        sim_check_fail(s->world, invariant, "%s", text);
    }
}

uint32_t stage_leader(struct sim_stage *s)
{
    int leader = sim_world_leader(s->world);

    stage_must(s, leader >= 0, 5, "nobody leads");
    return leader < 0 ? 0 : (uint32_t)leader;
}

/* The node that keeps a sandbox (runs it, or has its image), or -1. */
int stage_keeper(struct sim_stage *s, uint64_t id)
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

bool stage_runs(const struct sim_stage *s, uint32_t slot, uint64_t id)
{
    const struct sim_vm *vm = sim_vm_find(&s->world->nodes[slot], id);

    return vm && sim_vm_executes(&s->world->nodes[slot], vm);
}
