/* What a node holds: which of its sandboxes may run here, and until when.
 *
 * A sandbox has no row in the log, and epoch 0, until something of it is durable on another
 * node; until then nobody else could start it, and nothing here is in its way. Then its owner
 * registers it with epoch 1. From there on
 *   - a hibernated one is released, and whoever wakes it claims it first, its former owner,
 *     too: every wake is an epoch of its own (scheduler/state_owners.c says why);
 *   - a running one that others may start when this node is lost ("claimable") runs under the
 *     lease of this node: it is paused some time before the end, and its VMM is told the end
 *     itself, for the case that this daemon stands still;
 *   - a running one that only its own node may start is never paused.
 * A sandbox that has gone on elsewhere, or was deleted, is let go of as soon as the log says so.
 *
 * What the record of a sandbox must know durably: its epoch and whether it is claimable in
 * it. It is saved before the log can know; a node that restarts with such a record runs it
 * only when its log has caught up, which its first lease shows.
 *
 * One function, settle() in hold.c, decides for a sandbox from all that is known of it;
 * events only change what is known. So events may be repeated, late, or merged.
 *
 * Pure: events in, actions out. No clock, socket, file, thread or global. Single owner.
 *
 * Who wires it (node/cluster with node/sandbox, the simulator):
 *   After the start: FACTS of every record; those that still run are RUNNING. Then FACTS with
 *     every change, GONE when a record has ended. The first FACTS of a new sandbox is due
 *     before its first artefact leaves the node.
 *   ROW: for every applied entry that names a sandbox (register, release, claim, delete), after
 *     the state has it; with sandbox NULL for all of them, after the start, after a snapshot was
 *     installed, and when a node was removed. In the order of the log.
 *     Also with NULL after the first LEASE, when FACTS of every record were given: a row of this
 *     node without FACTS is an orphan, left by a claim whose outcome came after the copy had
 *     been dropped, or after a crash. Nobody wakes what has such an owner, so it is released.
 *   LEASE: after sched_lease_granted, which is due once the state has applied the index of that
 *     renewal, and after the ROW events up to there: `until_ms` is lease.valid_until_ms.
 *   WAKE: the gate of node/sandbox/portable.h. The phase is STARTING from then on, until FACTS
 *     says otherwise. Exactly one ALLOW or REFUSE follows, within wait_ms.
 *     A node without a record first fetches and imports: FACTS with `copy` and the epoch of the
 *     row (sched_claim_judge), then WAKE. After a REFUSE of a copy the importer may let it go.
 *   DELETE: somebody deletes it. Exactly one DELETED follows, within wait_ms; after an error it
 *     may still be deleted later.
 *   ORDER: to the leader, as the command of that kind; there through sched_claim_stamp. OUTCOME
 *     with its token: the result when it was applied; SHL_EUNAVAILABLE, or nothing at all, when
 *     that is not known. It is sent again after retry_ms.
 *   Actions are carried out in their order; of one sandbox, DEADLINE is with the VMM before a
 *     later ORDER, ALLOW or GO_ON leaves.
 *   SAVE: epoch and claimable into the record, durably, `copy` no longer; then SAVED. Not at all
 *     when that fails: the sandbox stays as it is. Of a copy it means that the claim is in the
 *     log as applied here: by now nobody adds to what it can go on from, so before SAVED it is
 * fetched once more unless it is the newest artefact (scheduler/claim.h says which that is). PAUSE,
 * GO_ON: node_sandbox_set_paused. The VMM may have paused by itself: GO_ON ends that. DEADLINE:
 * at_ms of this node's monotonic clock, 0 none: the VMM stops the vCPUs then by itself. Comes with
 * each renewal. For one that is not running yet: it is started with it. LET_GO:
 * node_sandbox_let_go, then GONE. More than SCHED_HOLD_ACTIONS_MAX actions: `more` is set; step
 * with TICK at once.
 */
#ifndef SHL_SCHEDULER_HOLD_H
#define SHL_SCHEDULER_HOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/node_id.h"
#include "scheduler/state.h"

#define SCHED_HOLD_MAX         4096u /* sandboxes of one node */
#define SCHED_HOLD_ACTIONS_MAX 128u  /* of one step */

struct sched_hold_config {
    struct shl_node_id self;
    uint32_t margin_ms; /* 1000: from a pause to the end of the lease; below a third of the lease */
    uint32_t wait_ms;   /* 5000: how long a wake or a deletion waits */
    uint32_t retry_ms;  /* 1000: between two orders about one sandbox */
    uint32_t mutations; /* enum sched_mutation; 0 in production */
};

void sched_hold_config_defaults(struct sched_hold_config *config);

enum sched_hold_phase {
    SCHED_HOLD_HIBERNATED, /* or stopped in any other way: no VM */
    SCHED_HOLD_STARTING,   /* from WAKE on */
    SCHED_HOLD_RUNNING,
};

/* What is so on this node. */
struct sched_hold_facts {
    char sandbox[SCHED_ID_SIZE];
    char org[SCHED_ORG_SIZE];
    uint8_t phase;  /* enum sched_hold_phase */
    bool restore;   /* on_node_loss: others may go on with it when this node is lost */
    bool elsewhere; /* hibernated: this image is durable on another node, and in the catalogue.
                     * Running: something that it can be restored, or recovered, from is */
    bool copy;      /* durable: imported, never owned since (SAVE ends that) */
    uint64_t epoch; /* durable; 0: the log has never heard of it */
    bool claimable; /* durable: as last saved with the epoch */
    uint64_t
        deadline_ms; /* RUNNING, in the first FACTS after a restart of this daemon: until when its
                      * VMM lets it run; 0: not known, it is paused until there is a lease */
};

enum sched_hold_event_type {
    SCHED_HOLD_EV_TICK,
    SCHED_HOLD_EV_FACTS,
    SCHED_HOLD_EV_GONE,
    SCHED_HOLD_EV_SAVED,
    SCHED_HOLD_EV_ROW,
    SCHED_HOLD_EV_LEASE,
    SCHED_HOLD_EV_WAKE,
    SCHED_HOLD_EV_DELETE,
    SCHED_HOLD_EV_OUTCOME,
};

/* Everything pointed at is borrowed for the call. */
struct sched_hold_event {
    enum sched_hold_event_type type;
    uint64_t now_ms;     /* monotonic; the clock of the lease */
    const char *sandbox; /* GONE, SAVED, ROW (NULL: all), WAKE, DELETE */
    union {
        struct {
            const struct sched_hold_facts *facts;
            const struct sched_state *state; /* as applied so far: its row, its tombstone */
        } facts;
        struct {
            uint64_t epoch;
            bool claimable;
        } saved;
        const struct sched_state *row; /* the state as applied so far */
        uint64_t lease_until_ms;
        struct {
            uint64_t token;
            int code;                  /* 0, or what the state or the leader refused it with */
            uint64_t index;            /* of the entry; 0 when there is none */
            uint64_t number;           /* of the result: the epoch then */
            const struct shl_err *err; /* may be NULL */
        } outcome;
    } u;
};

enum sched_hold_action_type {
    SCHED_HOLD_ACT_ORDER = 1,
    SCHED_HOLD_ACT_SAVE,
    SCHED_HOLD_ACT_ALLOW,
    SCHED_HOLD_ACT_REFUSE,
    SCHED_HOLD_ACT_PAUSE,
    SCHED_HOLD_ACT_GO_ON,
    SCHED_HOLD_ACT_DEADLINE,
    SCHED_HOLD_ACT_LET_GO,
    SCHED_HOLD_ACT_DELETED, /* code 0: done, LET_GO follows; else why not */
};

struct sched_hold_action {
    enum sched_hold_action_type type;
    char sandbox[SCHED_ID_SIZE];
    union {
        struct {
            uint64_t token;
            uint32_t kind;  /* enum sched_command_kind */
            bool is_orphan; /* only when there is neither record nor VM nor import of it here */
            struct sched_cmd_owner owner; /* of the command */
        } order;
        struct {
            uint64_t epoch;
            bool claimable;
        } save;
        struct shl_err err; /* REFUSE, DELETED; LET_GO: the reason, for people */
        uint64_t at_ms;     /* DEADLINE */
    } u;
};

struct sched_hold_actions { /* about 60 KiB, no heap; cleared by every step */
    struct sched_hold_action items[SCHED_HOLD_ACTIONS_MAX];
    uint32_t count;
    bool more;
    uint64_t wake_at_ms; /* step with TICK then; UINT64_MAX: no need */
};

struct sched_hold; /* opaque, heap */

/* SHL_EINVALIDARG, -ENOMEM. */
SHL_MUST_CHECK int sched_hold_new(const struct sched_hold_config *config, struct sched_hold **ret);
void sched_hold_free(struct sched_hold *hold); /* NULL is fine */

/* Apply one event. 0; SHL_ELIMIT (FACTS of one sandbox too many), SHL_EINVALIDARG (a text
 * without end, WAKE of one that runs), SHL_ENOTFOUND (WAKE, DELETE without FACTS), -ENOMEM: then
 * nothing happened. What is not known any more is ignored. */
SHL_MUST_CHECK int sched_hold_step(struct sched_hold *hold,
                                   const struct sched_hold_event *event,
                                   struct sched_hold_actions *actions);

struct sched_hold_status {
    bool caught_up; /* the log, since the start */
    uint64_t lease_until_ms;
    uint32_t sandboxes, registered, paused, waiting, orphans;
};
void sched_hold_status(const struct sched_hold *hold, struct sched_hold_status *ret);

/* For people: "paused: this node has no lease" and so on; "" when nothing is in its way.
 * Static. */
const char *sched_hold_reason(const struct sched_hold *hold, const char *sandbox, uint64_t now_ms);

#endif /* SHL_SCHEDULER_HOLD_H */
