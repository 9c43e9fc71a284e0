/* Ownership of the sandboxes of a simulated node: the real holding core, with what stands for
 * node/sandbox (VMs that outlive the daemon and know their deadline, records).
 *
 * A VM's memory is one number that it counts up. A point is that number, made durable: in the own
 * store first (sim/store.h), then in the catalogue of the log, then, by the planners of the other
 * nodes (sim/replica.h), on as many as are wanted; then it is acknowledged, provided that the log
 * still has this node as the owner.
 */
#ifndef SHL_SIM_HOLD_H
#define SHL_SIM_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/hold.h"
#include "sim/node.h"

#define SIM_VMS_MAX 4096

/* A process of its own: it lives on when the daemon dies, and ends with the machine. */
struct sim_vm {
    uint64_t id;
    bool alive;
    bool paused;
    uint64_t deadline_ms; /* of the node's clock: it stops its vCPUs then; 0 none */
    uint64_t count;
};

struct sim_point { /* of the catalogue */
    bool there;
    struct sim_point_id id;
    uint32_t holder_count;
    uint32_t holders[SCHED_HOLDERS_MAX]; /* slots */
};

void sim_hold_boot(struct sim_node *node);
void sim_hold_shut(struct sim_node *node);
void sim_hold_release(struct sim_node *node); /* VMs, too */
void sim_hold_power_cut(struct sim_node *node);
/* After the start, when the cores have read the disk: what it finds. */
void sim_hold_begin(struct sim_node *node);
/* Its timer, and what the node does by itself now and then. */
void sim_hold_tick(struct sim_node *node);

/* From the log: @sandbox NULL: all rows. */
void sim_hold_row(struct sim_node *node, const char *sandbox);
void sim_hold_lease(struct sim_node *node);
void sim_hold_outcome(struct sim_node *node,
                      uint64_t token,
                      int code,
                      const struct sim_outcome *outcome);
/* The disk has what was asked for. */
void sim_hold_synced(struct sim_node *node, const struct sim_sync *sync);

/* An admitted sandbox starts. */
void sim_hold_start(struct sim_node *node, struct sim_sandbox *sandbox);
/* Answers to (peer, req), at once or later. */
void sim_hold_wake(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req);
void sim_hold_hibernate(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req);
void sim_hold_delete(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req);

struct sim_vm *sim_vm_find(const struct sim_node *node, uint64_t id);
bool sim_vm_executes(const struct sim_node *node, const struct sim_vm *vm);
void sim_vm_kill(struct sim_node *node, uint64_t id);

/*- Points (sim/node_copy.c). */
struct sim_task;
struct sim_rpc;
void sim_copy_text(char dst[SCHED_ID_SIZE], const struct sim_point_id *point);
/* NULL: it is not in the catalogue. */
const struct sched_checkpoint *sim_copy_row(const struct sched_state *state,
                                            const struct sim_point_id *point);
void sim_copy_newest(const struct sched_state *state, uint64_t id, struct sim_point *ret);
/* What a sandbox would go on from on this node, and what is newest. @vain (may be NULL): what
 * nobody has whole; then something older, unless it was promised. */
void sim_copy_choose(const struct sim_node *node,
                     uint64_t id,
                     const struct sim_point_id *vain,
                     struct sim_point *ret,
                     struct sim_point *ret_newest);
/* A newer point than that which the sandbox was taken from, and that is not to be passed over. */
bool sim_copy_awaited(const struct sim_node *node,
                      const struct sim_sandbox *sandbox,
                      struct sim_point *ret);
/* The newest point of @sandbox, which is durable here, into the catalogue. */
void sim_copy_list(struct sim_node *node, const struct sim_sandbox *sandbox);
/* Get @point here; then sim_hold_fetched. False when there is nobody to ask. */
bool sim_copy_fetch(struct sim_node *node, const struct sim_point *point);
/* An order about a row is under way; to give one (SCHED_CHECKPOINT_HOLDER, _DELETE). @trims:
 * sim_replica_left follows. False: not now. */
bool sim_copy_is_ordered(const struct sim_node *node, const struct sim_point_id *point);
bool sim_copy_order(struct sim_node *node,
                    const struct sim_point_id *point,
                    uint32_t kind,
                    bool held,
                    bool trims);
void sim_copy_answer(struct sim_node *node, struct sim_task *task, const struct sim_rpc *rpc);
void sim_copy_give_up(struct sim_node *node, struct sim_task *task);
void sim_hold_fetched(struct sim_node *node, const struct sim_point_id *point, int code);

#endif /* SHL_SIM_HOLD_H */
