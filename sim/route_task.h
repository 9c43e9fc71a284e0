/* Inside the routing layer: tasks and what they do. See sim/route.h. */
#ifndef SHL_SIM_ROUTE_TASK_H
#define SHL_SIM_ROUTE_TASK_H

#include <stdint.h>

#include "sim/route.h"

#define ASK_MS     400
#define PROPOSE_MS 1000
#define TASK_MS    2500
#define ORG        "org"

/* sim_task.step of a create, and of a call for a sandbox */
enum create_step {
    CREATE_PLACE,
    CREATE_CLAIM,
    CREATE_ADMIT,
    CREATE_DONE
};
enum call_step {
    CALL_OWNER,
    CALL_SCHEDULER,
    CALL_EVERYBODY
};

/* NULL when there are too many. */
struct sim_task *sim_route_task_new(struct sim_node *node,
                                    enum sim_task_kind kind,
                                    uint32_t patience_ms);
void sim_route_task_free(struct sim_node *node, struct sim_task *task);
/* The answer may come before this returns: touch nothing of the task afterwards. */
void sim_route_ask(struct sim_node *node,
                   struct sim_task *task,
                   uint32_t to,
                   enum sim_rpc_kind kind,
                   const uint64_t n[5],
                   struct shl_bytes bytes,
                   uint32_t patience_ms);
/* Without an answer. */
void sim_route_tell(struct sim_node *node,
                    uint32_t to,
                    enum sim_rpc_kind kind,
                    const uint64_t n[5],
                    struct shl_bytes bytes);
/* The question of ask_everybody to one of them. */
void sim_route_who(struct sim_node *node, uint32_t to, uint64_t req, const uint64_t n[5]);
void sim_route_pause(struct sim_node *node, struct sim_task *task, uint32_t pause_ms);

/* sim/route_task.c. The client's record; what a call that it gave up writes goes nowhere. */
struct sim_op *sim_task_op(struct sim_node *node, const struct sim_task *task);
void sim_task_finish(struct sim_node *node, struct sim_task *task, int code);
/* The leader as known here or as hinted, else somebody who may know. */
uint32_t sim_task_whom(struct sim_node *node, const struct sim_task *task);
void sim_task_encode(struct sim_task *task, struct sched_command *command);
void sim_task_ask_leader(struct sim_node *node, struct sim_task *task);
/* Not the leader, or none: wait a moment and ask where the hint says. */
void sim_task_ask_again(struct sim_node *node, struct sim_task *task, uint32_t hint);
void sim_task_answer(struct sim_node *node,
                     struct sim_task *task,
                     uint32_t from,
                     const struct sim_rpc *rpc);
void sim_task_timeout(struct sim_node *node, struct sim_task *task, uint64_t now_ms);

/* sim/route_create.c. No scheduler: this node decides by what it sees itself. */
void sim_task_place_here(struct sim_node *node, struct sim_task *task);
void sim_task_create_answer(struct sim_node *node,
                            struct sim_task *task,
                            uint32_t from,
                            const struct sim_rpc *rpc);

/* sim/route_lookup.c */
void sim_task_call_begin(struct sim_node *node, struct sim_task *task);
void sim_task_call_answer(struct sim_node *node,
                          struct sim_task *task,
                          uint32_t from,
                          const struct sim_rpc *rpc);
void sim_task_ask_everybody(struct sim_node *node, struct sim_task *task);
void sim_task_end_search(struct sim_node *node, struct sim_task *task);
/* Owner by gossip record, the highest epoch; slot or -1. */
int sim_route_owner(const struct sim_node *node, uint64_t sandbox);

#endif /* SHL_SIM_ROUTE_TASK_H */
