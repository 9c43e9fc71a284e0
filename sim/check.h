/* The checker: what must hold, looked at from outside with the knowledge of all nodes.
 * Numbers are those of the invariants in docs/simulator.md. The first violation ends the
 * run.
 */
#ifndef SHL_SIM_CHECK_H
#define SHL_SIM_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "gossip/gossip.h"
#include "scheduler/command.h"
#include "scheduler/place.h"
#include "scheduler/raft.h"
#include "scheduler/result.h"
#include "scheduler/voters.h"

struct sim_node;
struct sim_manifest;
struct sim_op;
struct sim_point_id;
struct sim_world;

struct sim_log_entry { /* what the cluster agreed on at an index */
    uint64_t digest;   /* of term, type and bytes; 0: nobody has applied it yet */
    uint64_t term;
    uint64_t commit_term;  /* term in which a node first saw it committed */
    uint64_t state_digest; /* of the replicated state after it */
    uint64_t at_us;        /* first applied anywhere */
    uint32_t kind;         /* enum sched_command_kind, 0 none */
    bool ok;               /* the command was not refused */
    uint64_t key;          /* of names and the small store */
    uint64_t value;
};

struct sim_term_leader {
    uint64_t term;
    uint32_t slot;
    uint64_t boot;
};

struct sim_node_view { /* what the checker remembers of a slot */
    uint64_t boot;
    uint64_t commit;
    uint64_t applied;
    uint64_t incarnation; /* highest of its own that it spoke of */
    uint64_t led_term;
    bool admitted;
    bool forgot; /* directed: its incarnation was taken from its disk */
};

struct sim_seen { /* what was acknowledged of one name or key, in order of time */
    uint64_t at_us;
    uint64_t index; /* highest until then */
};

struct sim_register {
    struct sim_seen *seen;
    size_t count, cap;
    uint64_t released; /* names: index of the latest release that freed it */
    uint64_t holder;   /* names: who has it by the log, 0 nobody */
};

struct sim_known { /* a sandbox that clients know of */
    uint64_t id;
    uint64_t key;
    uint32_t owner;
    uint64_t made_us;   /* acknowledged */
    uint64_t kill_us;   /* first kill begun; 0 none */
    uint64_t killed_us; /* first kill acknowledged; 0 none */
    uint64_t epoch;     /* highest by the log, 0: not registered */
    uint32_t epoch_owner;
    uint64_t durable;                /* highest count that was told to be durable */
    uint64_t from_epoch, from_count; /* its latest start as a new owner's */
};

#define SIM_REGISTERS 8 /* SIM_KEYS keys, then SIM_KEYS names */

struct sim_check {
    struct sim_log_entry *log; /* by index */
    size_t log_cap;
    uint64_t last_index; /* highest applied anywhere */
    struct sim_term_leader *leaders;
    size_t leader_count, leader_cap;
    struct sim_node_view views[64];
    uint64_t tokens[256]; /* slot + 1 that a token admitted */
    struct sim_register registers[SIM_REGISTERS];
    struct sim_known *known;
    size_t known_count, known_cap;
    uint64_t elections, claims, stale_reads;
    uint64_t lapsed, pauses, starts, points, wakes; /* claims of lapsed ones; VMs; durable points */
    uint32_t going; /* promised copies, by the log, of the row that an entry deletes */
    uint64_t copies, repairs, trims, asked, quarantines; /* of points and chunks */
    int code; /* number of the broken invariant, 0 none */
    char text[256];
    bool expect_quiet; /* directed: no live node may be called dead */
    bool disk_changed; /* directed: somebody's disk is not what it wrote */
    uint64_t last_converge_us;
    uint64_t converge_commit;
    char waiting[160]; /* why it has not converged yet */
};

void sim_check_init(struct sim_check *check);
void sim_check_release(struct sim_check *check);

/* Records the first violation. */
void sim_check_fail(struct sim_world *world, int invariant, const char *fmt, ...) SHL_PRINTF(3, 4);

/* After every step of a Raft core: 5, 7, 8. */
void sim_check_raft(struct sim_node *node);
/* An entry reached the state machine of a node: 4, 6. */
void sim_check_applied(struct sim_node *node,
                       const struct sched_raft_entry *entry,
                       const struct sched_command *command,
                       const struct sched_result *result);
/* ... and is about to. */
void sim_check_applying(struct sim_node *node, const struct sched_command *command);
void sim_check_installed(struct sim_node *node, uint64_t index);
/* After every step of a gossip core: 19, 20. */
void sim_check_gossip(struct sim_node *node, const struct gossip_actions *actions);
void sim_check_boot(struct sim_node *node);
/* A leader changes the voters: 8. */
void sim_check_voters(struct sim_node *node,
                      const struct sched_voters_input *input,
                      const struct sched_voters_change *change);
/* A scheduler or entry node chose @target: 16, 17. */
void sim_check_placed(struct sim_node *placer, uint32_t target, const struct sched_view *view);
/* A VM was started, let go on or given time: 2. */
struct sim_vm;
void sim_check_vm(struct sim_node *node, const struct sim_vm *vm);
/* A VM starts from this count: 10. */
void sim_check_vm_from(struct sim_node *node, uint64_t id, uint64_t count);
/* It was told that this count is durable elsewhere. */
void sim_check_durable(struct sim_node *node, uint64_t id, uint64_t count);
struct sim_known *sim_check_known(struct sim_check *check, uint64_t id);
/* It runs nowhere, and could. */
bool sim_check_is_asleep(struct sim_world *world, uint64_t id);
/* A wake was answered: 10. */
void sim_check_wake(struct sim_world *world, const struct sim_op *op);
/*- Copies (sim/check_copy.c). */
/* Bytes that were received go into the store: 12. A holder is asked for a chunk: 23. */
void sim_check_chunk_put(struct sim_node *node, uint64_t key, uint64_t data);
void sim_check_asked(struct sim_node *node, uint64_t key);
/* A manifest is written: 11. Chunks were swept: 11, 13. */
void sim_check_published(struct sim_node *node, const struct sim_manifest *m);
void sim_check_store(struct sim_node *node);
/* A copy too many goes; a point is told to be durable; a row is deleted; a copy is to be made: 10.
 */
void sim_check_trimmed(struct sim_node *node, const struct sim_manifest *m);
void sim_check_acked(struct sim_node *node, const struct sim_point_id *point, uint32_t wanted);
void sim_check_deleted(struct sim_node *node, const char *id);
void sim_check_planned(struct sim_node *node, const struct sim_point_id *point, bool is_repair);
/* A node other than @slot has the point whole on its disk; @epoch 0: it, or a later one. */
bool sim_check_has_other(const struct sim_world *world,
                         uint32_t slot,
                         uint64_t sandbox,
                         uint64_t epoch,
                         uint64_t count);
/* May a fault take this disk, this chunk? */
bool sim_check_may_lose(const struct sim_world *world, uint32_t slot);
bool sim_check_may_rot(const struct sim_world *world, uint32_t slot, uint64_t key);
/* In the end: every point has its copies again (10), whole (11, 12), nothing is left over (14, 15,
 * 26). */
bool sim_check_settled(struct sim_world *world);
/* At the end: 1, 2, 15. */
void sim_check_vms_end(struct sim_world *world);
/* A node admitted a sandbox: 16, 22. */
void sim_check_admitted(struct sim_node *node);
/* The log names an owner: 1, 3. */
void sim_check_owner(struct sim_node *node,
                     const struct sched_command *command,
                     const struct sched_result *result);
/* A client begins a call. */
void sim_check_begun(struct sim_world *world, const struct sim_op *op);
/* A client got its answer: 7, 9, 15, 22. */
void sim_check_answer(struct sim_world *world, const struct sim_op *op);
/* Every virtual second: 6, 19 and what is too dear for every event. */
void sim_check_second(struct sim_world *world);
/* In the liveness phase: true when the cluster is one again (18, 21). */
bool sim_check_converged(struct sim_world *world);
void sim_check_end(struct sim_world *world);

#endif /* SHL_SIM_CHECK_H */
