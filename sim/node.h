/* One simulated node: the real gossip, Raft, replicated state, placement, voters and
 * leases, on a simulated disk and clock, with a small routing layer that stands for what
 * node/cluster does: creates through placement, look-up of a sandbox by gossip record,
 * then scheduler, then all members, forwarding, idempotency keys, leases.
 *
 * Everything below "volatile" is lost in a crash. A node reads only its own clock.
 */
#ifndef SHL_SIM_NODE_H
#define SHL_SIM_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/node_id.h"
#include "gossip/gossip.h"
#include "scheduler/cluster_time.h"
#include "scheduler/leases.h"
#include "scheduler/place.h"
#include "scheduler/raft.h"
#include "scheduler/state.h"
#include "scheduler/voters.h"
#include "sim/clock.h"
#include "sim/disk.h"
#include "sim/fault.h"
#include "sim/net.h"
#include "sim/rng.h"
#include "sim/store.h"

struct sim_world;

#define SIM_SANDBOXES_MAX 4096 /* records of one node, deleted ones included */
#define SIM_TASKS_MAX     256
#define SIM_WAITS_MAX     512
#define SIM_SYNCS_MAX     1024
#define SIM_HOPS_MAX      2 /* invariant 22 */

enum sim_msg_kind {
    SIM_MSG_GOSSIP,
    SIM_MSG_RAFT,
    SIM_MSG_RPC
};

enum sim_sandbox_status {
    SIM_SANDBOX_RUNNING = 1,
    SIM_SANDBOX_DELETED, /* tombstone */
    SIM_SANDBOX_MOVED,   /* another node owns it, or may */
    SIM_SANDBOX_HIBERNATED,
};

struct sim_waiter { /* who waits for an answer */
    bool there;
    uint32_t peer;
    uint64_t req;
};

/* A record on the owner's disk. */
struct sim_sandbox {
    uint64_t id;
    uint64_t key; /* idempotency key it was made with, 0 none */
    uint64_t epoch;
    uint32_t memory_mb;
    uint8_t status;
    bool restore;                    /* others may go on with it when this node is lost */
    bool claimable;                  /* as the holding core saved it */
    bool copy;                       /* fetched, not claimed so far */
    uint64_t skip_epoch, skip_count; /* the newest one when it was taken; passed over */
    uint64_t count_epoch;            /* its newest durable point here; 0 none */
    uint64_t count;
    /* Volatile from here. */
    bool stored;    /* the record is durable */
    bool published; /* gossiped by this process */
    bool starting;
    bool elsewhere; /* in the catalogue, on another node */
    bool saving;    /* the core waits for it */
    bool saving_claimable;
    uint64_t saving_epoch;
    uint64_t deadline_ms; /* to start it with */
    uint64_t autosave_ms, push_ms, fetch_ms;
    uint32_t fetch_tries;
    struct sim_point_id vain;        /* was to be fetched, and nobody has it whole */
    bool listing;                    /* a point is to get its copies */
    uint64_t told_epoch, told_count; /* the last one that has them */
    struct sim_waiter wake, kill;
};

#define SIM_REFUSED_MAX 64

/* What the disk completes, in order of the syncs. */
enum sim_sync_kind {
    SIM_SYNC_RAFT,
    SIM_SYNC_ADMIT,
    SIM_SYNC_KILL,
    SIM_SYNC_SAVE,  /* req: epoch, peer: claimable */
    SIM_SYNC_POINT, /* req: count */
    SIM_SYNC_COPY,  /* a copy that was fetched; req: epoch, peer: count */
    SIM_SYNC_OTHER
};
struct sim_sync {
    uint64_t batch;
    enum sim_sync_kind kind;
    uint64_t a;    /* Raft: sequence number; else sandbox */
    uint64_t req;  /* request to answer */
    uint32_t peer; /* who asked */
};

/* Something at a leader that waits for Raft. */
struct sim_wait {
    uint64_t tag;
    bool is_read;
    uint8_t table; /* read: what */
    uint64_t key;
    uint64_t req;  /* whom to answer */
    uint32_t peer; /* may be this node itself */
};

struct sim_task; /* sim/route.h */
struct sim_outcome;
struct sim_vm; /* sim/hold.h */
struct sched_hold;
struct sched_hold_actions;
struct sim_raft_call; /* sim/node_raft.c */

struct sim_node {
    struct sim_world *world;
    uint32_t index;
    struct shl_node_id id;
    uint8_t key[32];
    char name[16];
    bool present;  /* belongs to the run by now; a spare is not until it joins */
    bool up;       /* process runs */
    bool gone;     /* for good: disk lost, or removed from the cluster */
    bool removed;  /* by an operator, through the log */
    uint64_t boot; /* counts starts; 0 never */
    struct sim_disk disk;
    struct sim_clock clock;
    struct sim_rng rng;
    struct sim_rng disk_rng;
    struct sim_rng clock_rng;
    uint64_t stalled_us; /* paused until; UINT64_MAX: until resumed */
    uint32_t lag_us;
    uint32_t sync_us;
    uint8_t via[SIM_NODES_MAX]; /* directed: plus 1, slot that spoke last with this identity */
    uint32_t copy_of;           /* directed: plus 1, slot whose identity this one has */
    uint32_t role;              /* enum sched_role */
    struct sim_vm *vms;         /* run on without the daemon; sim/hold.h */
    uint32_t vm_count, vm_cap;
    uint64_t down_until_us;
    uint64_t crash_at_write_us; /* a fault: the next write is cut off, down for so long */
    uint32_t stale_token;       /* token of another node to try first, 0 none */
    uint64_t gone_us;           /* since when it is gone */
    uint32_t garble_ppm;        /* a fault: of the chunks that it sends */
    char domain[16];            /* failure domain, or "" */
    struct sim_store store;     /* what is on its disk, process or not */

    /* Volatile from here. */
    struct sched_raft *raft;
    struct sched_raft_actions raft_actions;
    struct sched_state *state;
    struct gossip *gossip;
    struct gossip_actions gossip_actions;
    struct sched_hold *hold;
    struct sched_hold_actions *hold_actions[16]; /* steps may nest */
    uint32_t hold_depth;
    struct sim_replica *replica; /* sim/replica.h; NULL of a witness */
    uint64_t poke_ms;            /* leader: when it asked for a restore last */
    uint64_t raft_wake_ms, gossip_wake_ms, sched_wake_ms, hold_wake_ms, copy_wake_ms;
    uint64_t wake_us; /* planned WAKE event; UINT64_MAX none */

    bool leading;
    uint64_t lead_term;
    bool ready; /* leads, and has applied all before its term */
    struct sched_cluster_time time;
    struct sched_leases leases;
    struct sched_lease lease;
    struct sched_place place;
    uint64_t voters_change_ms;
    bool had_voters_change;
    bool change_under_way;
    uint64_t next_tag;
    bool joined; /* this process knows that the log has admitted the node */
    uint64_t join_ms;
    uint64_t lease_boot;
    uint64_t granted_index; /* a renewal that counts once this entry is applied; 0 none */
    uint64_t granted_seq;
    uint64_t renew_sent;              /* number of the latest renewal */
    bool told_removed;                /* peers say that the log has removed this node */
    uint32_t told_copied;             /* times it heard of a second process with its identity */
    bool founded;                     /* this process proposed the first entries */
    uint64_t alive_ms[SIM_NODES_MAX]; /* leader: since when gossip says alive; 0: it does not */
    uint64_t dead_ms[SIM_NODES_MAX];  /* leader: since when gossip says otherwise */
    bool dying; /* a write failed: the process ends once this event is handled */
    bool raft_busy;
    struct sim_raft_call *calls; /* what came up while Raft was busy */
    uint32_t call_count, call_cap;
    uint64_t snapshot_wanted; /* index, 0 none */

    struct sim_sync syncs[SIM_SYNCS_MAX]; /* ring */
    uint32_t sync_start, sync_count;
    struct sim_wait waits[SIM_WAITS_MAX];
    uint32_t wait_count;
    struct sim_task *tasks; /* array of SIM_TASKS_MAX */
    uint32_t task_count;
    uint64_t next_req;
    struct sim_sandbox *sandboxes; /* by order of creation */
    uint32_t sandbox_count;
    uint32_t sandbox_cap;
    uint64_t committed_mb; /* of running ones */
    struct {               /* creates that this process refused, and so may be made elsewhere now */
        uint64_t sandbox;
        uint64_t until_ms;
    } refused[SIM_REFUSED_MAX];
    uint32_t refused_next;
};

void sim_node_init(struct sim_node *node, struct sim_world *world, uint32_t index);
void sim_node_release(struct sim_node *node);

/* Process start: reads the disk, makes the cores. */
void sim_node_boot(struct sim_node *node);
/* Process end. The disk keeps what @how says. */
void sim_node_crash(struct sim_node *node, enum sim_disk_crash how);

/* Events of the world; each takes over nothing. */
void sim_node_wake(struct sim_node *node);
void sim_node_receive(struct sim_node *node, const struct sim_msg *msg);
void sim_node_synced(struct sim_node *node);
void sim_node_link(struct sim_node *node, uint32_t peer);

/* After every event: one timer for all cores. */
void sim_node_arm(struct sim_node *node);

uint64_t sim_node_now_ms(const struct sim_node *node);
void sim_node_send(struct sim_node *node, uint32_t to, struct sim_msg *msg);
/* Slot of an id, or -1. */
int sim_world_find(const struct sim_world *world, const struct shl_node_id *id);

/* A batch is written and a sync issued; SYNC follows. Crashes the node on a write error
 * and returns false. */
bool sim_node_sync(struct sim_node *node, struct sim_sync sync);

/* Directed: what a node's disk holds before it starts. Entries are contiguous from 1. */
void sim_raft_store(struct sim_node *node,
                    uint64_t term,
                    const struct sched_raft_entry *entries,
                    uint32_t count);

/*- Raft adapter (sim/node_raft.c). */
bool sim_raft_boot(struct sim_node *node);
void sim_raft_shut(struct sim_node *node);
/* Events that come up inside a step wait for its end; bytes are copied then. */
void sim_raft_step(struct sim_node *node, const struct sched_raft_event *event);
void sim_raft_bootstrap(struct sim_node *node);
/* The leader stamps the encoded @command and proposes; the answer goes to (peer, req), to
 * nobody for SIM_NOBODY. */
#define SIM_NOBODY       UINT32_MAX
#define SIM_TAG_CHANGE   1    /* tag of membership changes and transfers */
#define SIM_CODE_UNKNOWN (-1) /* answer: may or may not have been done */
void sim_raft_propose(struct sim_node *node, struct shl_bytes command, uint32_t peer, uint64_t req);
/* Linearizable read of one row. */
void sim_raft_read(struct sim_node *node, uint8_t table, uint64_t key, uint32_t peer, uint64_t req);

/*- Gossip adapter (sim/node_gossip.c). */
bool sim_gossip_boot(struct sim_node *node);
/* First step: join, and what this node says about itself. */
void sim_gossip_begin(struct sim_node *node);
void sim_gossip_shut(struct sim_node *node);
/* Directed: incarnation and book vanish from the disk of a node that is down. */
void sim_gossip_forget(struct sim_node *node);
void sim_gossip_step(struct sim_node *node, struct gossip_event *event);
void sim_gossip_publish(struct sim_node *node);
void sim_gossip_publish_sandbox(struct sim_node *node, struct sim_sandbox *sandbox);

/*- Scheduler's duties (sim/node_sched.c). */
void sim_sched_boot(struct sim_node *node);
void sim_sched_tick(struct sim_node *node);
void sim_sched_role(struct sim_node *node);
/* A snapshot replaced the state. */
void sim_sched_installed(struct sim_node *node);
/* An entry of the log was applied here; without a command for the log's own entries. */
void sim_sched_applied(struct sim_node *node,
                       uint64_t index,
                       uint64_t term,
                       const struct sched_command *command,
                       const struct sched_result *result);

/* The leader says that renewal @seq is entry @index. */
void sim_sched_granted(struct sim_node *node, uint64_t seq, uint64_t index);
void sim_sched_spec(const struct sim_node *node, struct sched_node_spec *spec);
/* Chooses a node and reserves room there. 0 or SHL_ENOCAPACITY. */
int sim_sched_place(struct sim_node *node,
                    uint32_t memory_mb,
                    uint64_t excluded,
                    uint32_t *ret_target,
                    uint64_t *ret_reservation);
/* What became of a reservation. */
void sim_sched_placed(struct sim_node *node,
                      uint32_t target,
                      uint64_t reservation,
                      bool accepted,
                      uint64_t version);

/*- Sandboxes of this node (sim/node_sandbox.c). */
void sim_sandbox_load(struct sim_node *node);
struct sim_sandbox *sim_sandbox_find(const struct sim_node *node, uint64_t id);
/* NULL when there are too many. */
struct sim_sandbox *sim_sandbox_add(struct sim_node *node, const struct sim_sandbox *sandbox);
/* Into the open batch. */
void sim_sandbox_put(struct sim_node *node, const struct sim_sandbox *sandbox);
void sim_sandbox_text(char dst[SCHED_ID_SIZE], uint64_t id);
uint64_t sim_sandbox_parse(const char *text); /* 0: not one */

#endif /* SHL_SIM_NODE_H */
