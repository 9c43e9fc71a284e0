/* Copies of checkpoints on several nodes, for the rest of node/cluster.
 *
 * What this node makes (node/sandbox/portable.h: artefacts) goes into the catalogue, a table of
 * the log: what there is, how many copies are wanted, which nodes hold one. Every node plans from
 * it what it has to fetch and what it may drop (checkpoint/replica_plan.h).
 *
 *   replicas.c         life, what the others tell it, the planner's steps
 *   catalogue.c        the rows by manifest and by sandbox; what became of them
 *   catalogue_order.c  what this node has to tell the log
 *   replica_view.c     what the planner sees
 *   replica_copies.c   manifests in the store of this node, dropping them
 *   replica_fetch.c    fetches, shared by all who want the same
 *   replica_heal.c     damaged copies get what they lost from another holder
 *   replica_bring.c    all that a sandbox needs to run here
 *   replica_trim.c     may this node, may another one drop a copy?
 *   replica_durable.c  how safe something is
 *   standby.c          what is made ready before it is asked for
 *
 * Rows and holders are as this node's state has them: perhaps late, never invented. Loop thread.
 */
#ifndef SHL_NODE_CLUSTER_REPLICAS_H
#define SHL_NODE_CLUSTER_REPLICAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/replica_plan.h"
#include "node/sandbox/portable.h"
#include "scheduler/command.h"
#include "scheduler/state.h"

struct cluster;

#define CLUSTER_ARTEFACT_ID_SIZE SCHED_ID_SIZE
#define CLUSTER_BASE_ORG         "-" /* in rows of bases, which belong to nobody */

/*- Bringing. */

/* @code 0: @ready is for node_checkpoint_import and node_sandbox_import, borrowed. */
typedef void (*cluster_bring_cb)(void *arg,
                                 int code,
                                 const char *msg,
                                 const struct node_import *ready);

/* Have the artefact and the bases it needs whole in the store of this node, before all other
 * transfers. Callers who want the same share one. @cb later, once. SHL_ENOTFOUND (no such row),
 * SHL_EUNAVAILABLE (no holder can be reached, a copy here is just being dropped, a witness),
 * SHL_ELIMIT, -ENOMEM: no @cb then. */
SHL_MUST_CHECK int cluster_bring(struct cluster *c,
                                 const char *artefact_id,
                                 cluster_bring_cb cb,
                                 void *arg,
                                 struct shl_err *err);

/*- How safe it is. */

enum cluster_durability {
    CLUSTER_DURABLE_LOCAL,       /* one copy is all that is wanted, or that there can be */
    CLUSTER_DURABLE_REPLICATING, /* fewer live holders than wanted, of it or of a base */
    CLUSTER_DURABLE_REPLICATED,
};

const char *cluster_durability_name(enum cluster_durability durability); /* "local" */

struct cluster_durable {
    enum cluster_durability durability;
    uint32_t alive;  /* live nodes that hold it whole; of a base if that has fewer */
    uint32_t wanted; /* 0: it is not in the catalogue (yet) */
    char id[CLUSTER_ARTEFACT_ID_SIZE];
    uint64_t created_at_ms; /* cluster time of its row */
};

/* False: there is no row, *ret is LOCAL. */
bool cluster_artefact_durable(const struct cluster *c,
                              const char *artefact_id,
                              struct cluster_durable *ret);
/* Of the newest hibernation of a sandbox. */
bool cluster_sandbox_durable(const struct cluster *c,
                             const char *sandbox_id,
                             struct cluster_durable *ret);
/* The newest state of a sandbox, hibernated or saved on the way, that at least @alive_min live
 * nodes have; 0: wherever it is. NULL: none. Valid until the next entry. */
const struct sched_checkpoint *cluster_sandbox_saved(const struct cluster *c,
                                                     const char *sandbox_id,
                                                     uint32_t alive_min);
/* The newest that a live node has, or that may have been promised: such a state is waited for while
 * its nodes are silent. @vain_id (may be NULL): what nobody has whole; then something older, unless
 * it was promised. NULL: none. */
const struct sched_checkpoint *cluster_sandbox_reachable(const struct cluster *c,
                                                         const char *sandbox_id,
                                                         const char *vain_id);
/* Would a claimed sandbox that goes on from @taken_id leave out a newer state that it must not?
 * @skipped_id: the newest one when it was taken, left out then. */
bool cluster_sandbox_misses(const struct cluster *c,
                            const char *sandbox_id,
                            const char *taken_id,
                            const char *skipped_id);
/* Has the newest state of its sandbox as many copies as are wanted, or is it on all nodes that
 * have this one? Until then @row stays: were a node lost in between, nothing would be left. Copies
 * on dead nodes count, so that what accumulates while one is away is one state for each set of
 * nodes. */
bool cluster_state_is_replaced(const struct cluster *c, const struct sched_checkpoint *row);
/* Is a state that this node has of a sandbox on its way into the log? */
bool cluster_sandbox_is_coming(const struct cluster *c, const char *sandbox_id);
/* The newest of whatever it could be recovered from: a hibernation, or a checkpoint that somebody
 * asked for; NULL. Valid until the next entry. */
const struct sched_checkpoint *cluster_sandbox_kept(const struct cluster *c,
                                                    const char *sandbox_id);
/* Rows of a sandbox, all kinds, by id; false stops. @row is valid until the next entry. */
void cluster_sandbox_artefacts(const struct cluster *c,
                               const char *sandbox_id,
                               bool (*each)(void *arg, const struct sched_checkpoint *row),
                               void *arg);

/*- Changes. */

/* A row came, its holders changed, or it went. @sandbox_id "" of a base. Both NULL: anything may
 * have changed. Never from inside a step of log or gossip. One listener; NULL ends it. */
typedef void (*cluster_replicas_changed)(void *arg,
                                         const char *artefact_id,
                                         const char *sandbox_id);
void cluster_replicas_on_change(struct cluster *c, cluster_replicas_changed changed, void *arg);

/*- For node/cluster itself. */

struct cluster_replicas_config {
    uint32_t wanted;
    uint32_t grace_ms;
};

/* After the mesh, before peers are set. 0 or a negative code. */
SHL_MUST_CHECK int cluster_replicas_open(struct cluster *c,
                                         const struct cluster_replicas_config *config,
                                         struct shl_err *err);
/* Three steps of closing; each takes part in c->handles. NULL-safe. */
void cluster_replicas_close(struct cluster *c, void (*closed)(void *arg)); /* before the mesh */
void cluster_replicas_close_server(struct cluster *c, void (*closed)(void *arg)); /* after it */
void cluster_replicas_free(struct cluster *c);

/* From inside steps; nothing is done but noting it. */
void cluster_replicas_applied(struct cluster *c, const struct sched_command *command);
void cluster_replicas_loaded(struct cluster *c); /* the state is another one */
void cluster_replicas_member(struct cluster *c, const struct shl_node_id *node, bool is_lost);

SHL_MUST_CHECK int cluster_replicas_metrics(const struct cluster *c, struct shl_buf *out);

#endif /* SHL_NODE_CLUSTER_REPLICAS_H */
