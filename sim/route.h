/* Routing layer of a simulated node: what node/cluster does with the API, in small.
 *
 * A task is one call of a client (or of the node itself: join, lease, registration) at its
 * entry node. It asks others by RPC, each with a deadline, and ends with one answer. Tasks
 * die with the process; the client then tries elsewhere.
 */
#ifndef SHL_SIM_ROUTE_H
#define SHL_SIM_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "scheduler/idempotency.h"
#include "sim/client.h"
#include "sim/node.h"

enum sim_rpc_kind {
    SIM_RPC_PROPOSE, /* bytes: command */
    SIM_RPC_READ,    /* n[0] table, n[1] key */
    SIM_RPC_PLACE,   /* n[0] memory, n[1] set of excluded slots */
    SIM_RPC_ADMIT,   /* n[0] sandbox, n[1] idempotency key, n[2] memory, n[3] claimable */
    SIM_RPC_PLACED,  /* n[0] reservation, n[1] accepted, n[2] version, n[3] slot; no answer */
    SIM_RPC_CALL,    /* n[0] sandbox, n[1] 1: kill, 2: hibernate */
    SIM_RPC_WHO,     /* n[0] sandbox: is it yours? */
    SIM_RPC_WAKE,    /* n[0] sandbox; by the entry node for itself */
    SIM_RPC_RESTORE, /* n[0] sandbox; from the scheduler, no answer */
    SIM_RPC_REPLY,
    /* From here on there is no SIM_RPC_REPLY; n[0..2] is a point where nothing else is said. */
    SIM_RPC_MANIFEST,    /* n[3] boot */
    SIM_RPC_MANIFEST_IS, /* n[3] boot, n[4] 0: it is not here; bits: 1, restore, memory */
    SIM_RPC_CHUNKS,      /* n[0] request, n[1] boot; bytes: keys */
    SIM_RPC_PIECES,      /* n[0] request, n[1] boot, n[2] first chunk, n[3] the last piece */
    SIM_RPC_MAY_DROP,    /* n[3] token */
    SIM_RPC_MAY_DROP_IS, /* n[3] token, n[4] yes */
};

struct sim_rpc {
    uint32_t kind;
    uint32_t hops; /* forwards so far */
    uint64_t req;  /* of the task that asks; comes back */
    int32_t code;  /* reply: 0 or SHL_E* */
    uint32_t hint; /* reply: slot of the leader or owner plus 1 */
    uint64_t n[5];
    uint32_t len;
    uint8_t bytes[]; /* reply to PROPOSE: struct sim_outcome */
};

/* Of an applied command. */
struct sim_outcome {
    uint64_t index;
    uint64_t number;
    bool existed;
    uint32_t value_len;
    uint8_t value[SCHED_VALUE_MAX];
};

enum sim_task_kind {
    SIM_TASK_CREATE,
    SIM_TASK_CALL,    /* get and kill */
    SIM_TASK_PROPOSE, /* names, keys, marks, removal */
    SIM_TASK_READ,
    SIM_TASK_JOIN,
    SIM_TASK_LEASE,
    SIM_TASK_WAKE,
    SIM_TASK_ORDER, /* of the holding core */
    SIM_TASK_ROW,   /* what the catalogue is to say of a point */
};

struct sim_task {
    bool used;
    enum sim_task_kind kind;
    uint8_t step;
    uint64_t req; /* of the question under way */
    uint64_t op;  /* client's call, with attempt */
    uint32_t attempt;
    uint64_t end_ms;  /* the whole task */
    uint64_t wait_ms; /* the question under way, or a pause before the next */
    bool pausing;
    uint32_t asked; /* slot asked */
    uint32_t hint;  /* slot to ask next, plus 1 */
    uint32_t tries;
    bool repeatable; /* a lost proposal may be made again */
    uint8_t table;
    uint64_t key;
    uint32_t memory_mb;
    bool claimable;
    uint8_t wish; /* n[1] of CALL */
    uint64_t sandbox;
    uint32_t target;
    uint64_t excluded; /* set of slots that refused */
    uint64_t reservation;
    uint32_t placer; /* slot that holds the reservation */
    bool degraded;
    uint32_t hops;
    uint64_t who_left; /* set of slots not heard yet */
    bool who_silent;   /* one did not answer */
    uint64_t lease_seq;
    uint64_t idem; /* create: idempotency key, 0 none */
    struct shl_buf command;
    uint8_t value[SCHED_VALUE_MAX]; /* idempotency: what is stored now */
    uint32_t value_len;
};

/* A client's call arrives. */
void sim_route_call(struct sim_node *node, struct sim_op *op, uint32_t attempt);
/* A message of another node, or of this one. */
void sim_route_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc);
/* Deadlines. Returns the next one. */
uint64_t sim_route_tick(struct sim_node *node);
/* Answer to (peer, req); @peer may be this node or SIM_NOBODY. */
void sim_route_reply(struct sim_node *node,
                     uint32_t peer,
                     uint64_t req,
                     int code,
                     uint32_t hint,
                     const uint64_t n[5],
                     struct shl_bytes bytes);

/* Row of the replicated state for a strong read: n[0] present, n[1] value, n[2] index of
 * its last change. */
void sim_read_row(const struct sched_state *state, uint8_t table, uint64_t key, uint64_t n[5]);

/* Another node asks this one to make a sandbox, or to end one that it has. */
void sim_sandbox_admit(struct sim_node *node, const struct sim_rpc *rpc, uint32_t peer);
void sim_sandbox_kill(struct sim_node *node, uint64_t id, uint32_t peer, uint64_t req);

void sim_route_join(struct sim_node *node);
void sim_route_renew(struct sim_node *node);

#endif /* SHL_SIM_ROUTE_H */
