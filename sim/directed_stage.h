/* What directed schedules are made of: a world without drawn faults, on a fast and steady network,
 * and calls that are made one after the other. */
#ifndef SHL_SIM_DIRECTED_STAGE_H
#define SHL_SIM_DIRECTED_STAGE_H

#include "sim/directed.h"
#include "sim/world.h"

struct sim_stage {
    struct sim_schedule schedule;
    struct sim_world *world;
};

void stage_set_up(struct sim_stage *s,
                  uint32_t nodes,
                  uint32_t spares,
                  uint32_t seconds,
                  uint32_t mutation,
                  FILE *trace);
/* To the end of the run: heal, converge, probe. */
void stage_finish(struct sim_stage *s, struct sim_result *ret);
void stage_wait(struct sim_stage *s, double seconds);
void stage_fault(struct sim_stage *s, enum sim_fault_class class, uint32_t a, uint64_t value);
/* One call, until it is answered or its client gives up. */
struct sim_op stage_call(struct sim_stage *s,
                         enum sim_op_kind kind,
                         uint32_t entry,
                         uint64_t key,
                         uint64_t value);
void stage_must(struct sim_stage *s, bool holds, int invariant, const char *text);
uint32_t stage_leader(struct sim_stage *s);
/* The node that keeps a sandbox (runs it, or has its image), or -1. */
int stage_keeper(struct sim_stage *s, uint64_t id);
bool stage_runs(const struct sim_stage *s, uint32_t slot, uint64_t id);

/* sim/directed_copy.c */
extern const struct sim_directed sim_directed_copy[];
extern const size_t sim_directed_copy_count;

#endif /* SHL_SIM_DIRECTED_STAGE_H */
