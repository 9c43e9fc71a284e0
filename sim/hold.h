/* Ownership of the sandboxes of a simulated node: the real holding core, with what stands for
 * node/sandbox (VMs that outlive the daemon and know their deadline, records) and for
 * checkpoint/ (durable points of sandboxes, and which node has a copy).
 *
 * A VM's memory is one number that it counts up. A point is that number, made durable: here
 * first, then on one other node, then in the catalogue of the log; then it is acknowledged,
 * provided that the log still has this node as the owner at that entry.
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

struct sim_copy { /* a durable point of a sandbox, on this node's disk */
    uint64_t id;
    uint64_t epoch;
    uint64_t count;
    uint32_t memory_mb;
    bool restore;
};

struct sim_point { /* newest in the catalogue */
    bool there;
    uint64_t epoch;
    uint64_t count;
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
void sim_copy_load(struct sim_node *node);
struct sim_copy *sim_copy_find(const struct sim_node *node, uint64_t id);
/* Keep it unless there is a newer one; the caller commits. */
bool sim_copy_put(struct sim_node *node, const struct sim_copy *copy);
void sim_copy_newest(const struct sched_state *state, uint64_t id, struct sim_point *ret);
/* The point of @sandbox onto another node and into the catalogue. */
void sim_copy_push(struct sim_node *node, struct sim_sandbox *sandbox, uint64_t count);
/* Get at least @point here, from another holder each @turn; then sim_hold_fetched. False when
 * there is nobody to ask. */
bool sim_copy_fetch(struct sim_node *node,
                    uint64_t id,
                    const struct sim_point *point,
                    uint32_t turn);
void sim_copy_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc);
void sim_copy_answer(struct sim_node *node,
                     struct sim_task *task,
                     uint32_t from,
                     const struct sim_rpc *rpc);
void sim_hold_fetched(struct sim_node *node, uint64_t id, int code);
/* The catalogue has a point of it since entry @index. */
void sim_hold_catalogued(struct sim_node *node,
                         uint64_t id,
                         uint64_t epoch,
                         uint64_t count,
                         uint64_t index);

#endif /* SHL_SIM_HOLD_H */
